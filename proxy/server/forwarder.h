// Sends clients' commands on to the head's proxy (writes, and what follows them), or to the tail's
// (consistency `tail`), over pipelined connections that all clients share: one for each target,
// database and protocol version.
//
//   CATENA.FORWARD <chain> <head|tail> <node> <incarnation> <number> <database> <protocol> <lane>
//   -> +OK or an error
//
// <lane> is empty for the shared connections, "scripts" for those of scripts; a client in a state
// of its own (MULTI, a blocking command) has a tunnel.
//
// Then plain RESP in both directions. Connections of one lane are numbered: a later one makes the
// target drop what is unread on the earlier (schedule S18). A command that was sent and whose
// answer is lost has an unknown outcome and is never sent again. Loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "proxy/chain/configuration.h"
#include "proxy/chain/replica.h"
#include "proxy/io/reactor.h"
#include "proxy/server/meter.h"
#include "proxy/server/options.h"
#include "proxy/server/private_channel.h"
#include "proxy/server/session.h"

namespace catena::server {

class Forwarder {
 public:
  Forwarder(io::Reactor& reactor, chain::Replica& replica, const Options& options, Meter& meter);
  ~Forwarder();

  // Where head and tail are now (nullopt: nowhere but here, or unknown). A channel to another one
  // is closed; what it owes has an unknown outcome.
  void SetTargets(const std::optional<chain::Member>& head,
                  const std::optional<chain::Member>& tail);

  // kWait: no channel is ready (it is being opened) or it is full.
  Dispatch Submit(Session& session, uint64_t number, const Request& request, Target target,
                  bool may_have_effect);
  // For a command that counts as outstanding already; false: not now.
  bool SubmitAgain(Session& session, uint64_t number, std::string_view raw, bool script);
  // A script of this session would wait behind one that runs long.
  bool ScriptsHeldUp(const Session& session) const;
  // nullptr: no head is known, or the last attempt failed just now.
  std::unique_ptr<PrivateChannel> OpenTunnel(Session& session, PrivateChannel::Handler* handler);
  // What the head has not read of a broken channel it may still execute, until a newer connection of
  // that lane makes it drop that. Nothing may leave by another way before (S18): a client that was
  // told "unknown" would see its next command happen first.
  bool MayOvertakeLost() { return MayOvertake(nullptr); }
  void EndTurn();
  // Breaks channels whose oldest command waits longer than the write timeout; not those of scripts,
  // which may run for long. A head that hangs leaves the configuration.
  void Expire(TimePoint now);
  size_t owed() const { return owed_; }
  // As much waits for the head or the tail as may.
  bool AnyChannelFull() const;
  void FailAll(std::string_view why);

 private:
  class Connection;
  class Channel;
  class Tunnel;
  using Key = std::tuple<Target, int, int, bool>;  // target, database, protocol, for scripts

  Channel* ReadyChannel(const Key& key);
  bool MayOvertake(const Key* way);
  const std::optional<chain::Member>& TargetOf(Target target) const {
    return target == Target::kHead ? head_ : tail_;
  }

  io::Reactor& reactor_;
  chain::Replica& replica_;
  const Options& options_;
  Meter& meter_;
  std::optional<chain::Member> head_, tail_;
  std::map<Key, std::unique_ptr<Channel>> channels_;
  std::vector<std::unique_ptr<Channel>> closed_;  // destroyed at the end of the turn
  // Channels that broke with effects under way, until newer ones have taken their places.
  std::set<Key> lost_;
  // Owned by their clients' states; by number, so that they break in the order they were opened.
  std::map<uint64_t, Tunnel*> tunnels_;
  uint64_t last_tunnel_ = 0;
  TimePoint tunnel_retry_at_{};
  size_t opening_tunnels_ = 0;
  uint64_t last_number_ = 0;
  size_t owed_ = 0;
};

}  // namespace catena::server
