// A connection by which catenactl verify looks at this node's own database, past the chain, and
// learns which keys the effect stream has touched meanwhile. Opened on the peers port, so only by
// those who know the cluster's secret:
//
//   CATENA.INSPECT <chain>  ->  +OK, then
//   SELECT <database>       +OK   for what follows; not while answers are owed
//   POSITION                :n    as Lane::SubmitPosition, in its place among the answers
//   DIGEST <key>...         for each key "" (there is none), "big <deadline>" or "<sha1> <deadline>";
//                           deadline in ms since 1970, -1: none. All of one moment; large values are
//                           left out so that the database never stalls
//   WATCH <key>...          :n    from here on touches of these keys (at most kWatchedMax) are noted;
//                           forgets the earlier ones. Not while answers are owed
//   TOUCHED                 n and for each watched key the position of the last entry that touched it
//                           since, or 0; all up to received position n. Not while answers are owed
//   anything of kReads      as the database answers it
//
// Loop thread. Bounded: what it sends waits while the reader does not read.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "backends/backend.h"
#include "proxy/command/effect_parser.h"
#include "proxy/io/reactor.h"
#include "proxy/resp/decoder.h"

namespace catena::server {

class Inspection final : public io::StreamHandler, public backend::LaneHandler {
 public:
  static constexpr size_t kWatchedMax = 1000;

  // `backend` outlives it. `received`: the node's received position. `on_closed` is called once,
  // from inside a callback: destroy it later.
  Inspection(std::unique_ptr<io::Stream> stream, backend::Backend& backend,
             std::function<Position()> received, std::function<void()> on_closed);

  // For bytes that were read before.
  void Received(std::string_view bytes) { OnRead(bytes); }
  void OnEntry(const command::EffectEntry& entry);
  void Close(std::string_view why);

  void OnRead(std::string_view bytes) override;
  void OnClosed(std::string_view reason) override;
  void OnDrained() override;
  void OnReply(std::string_view reply) override;
  void OnPosition(Position position) override;
  void OnPositionUntold() override;
  void OnLaneClosed(const std::string& reason, bool nothing_sent) override;

 private:
  void Take(const resp::Command& command);
  void Digest(const resp::Command& command);
  void Watch(const resp::Command& command);
  void Select(std::string_view database);
  std::string Touched() const;
  void Write(std::string_view bytes);

  std::unique_ptr<io::Stream> stream_;
  backend::Backend& backend_;
  std::function<Position()> received_;
  std::function<void()> on_closed_;
  std::unique_ptr<backend::Lane> lane_;
  resp::CommandDecoder decoder_;
  std::string input_;
  size_t owed_ = 0;  // answers of the database
  bool paused_ = false;
  std::vector<uint64_t> watched_;
  std::unordered_map<uint64_t, Position> touched_;
};

}  // namespace catena::server
