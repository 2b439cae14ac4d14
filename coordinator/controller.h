// A coordinator process: the election, and while it leads one ChainKeeper for each chain of the
// TOML. Knows no sockets (server.h does) and no etcd protocol (etcd_client.h does). Loop thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/chain_keeper.h"
#include "coordinator/election.h"
#include "coordinator/etcd_client.h"
#include "coordinator/metrics.h"
#include "coordinator/policy.h"
#include "coordinator/records.h"
#include "proxy/io/reactor.h"

namespace catena::coordinator {

struct ControllerOptions {
  std::string cluster;
  std::string address;  // of this coordinator, as proxies know it
  std::vector<ChainFacts> chains;
  Duration heartbeat{0};
  Duration lease{0};
  Duration leader_ttl = std::chrono::seconds(2);
  Duration settling = std::chrono::seconds(3);  // see PolicyInput
};

class Controller : private Election::Events, private ChainKeeper::Leadership {
 public:
  // `reactor` and `etcd` outlive the controller.
  Controller(io::Reactor& reactor, etcd::Client& etcd, ControllerOptions options);

  void Start() { election_.Start(); }
  // Chains, their nodes, heartbeat and lease as told; all else stays as it is. A chain that is no
  // longer told is left alone: its record stays in etcd, its nodes are answered that it is unknown.
  void Reconfigure(ControllerOptions options);
  // Gives the leadership up, so that another takes over at once; then `done`.
  void Stop(std::function<void()> done) { election_.Stop(std::move(done)); }

  // A heartbeat whose bytes have been read. Answered by `subscriber` during the call.
  void OnHeartbeat(Subscriber& subscriber, const NodeReport& report);
  // The connection is gone; the last heartbeat that it brought was of this life.
  void OnGone(Subscriber& subscriber, const std::string& chain, const NodeId& node,
              Incarnation incarnation);

  // nullopt: not the leader.
  std::optional<ClusterStatus> Status();
  // Only while Leads().
  void Choose(const std::string& chain, const NodeId& node, ChainKeeper::ChoiceDone done);
  // The same.
  void Wish(const std::string& chain, const DrainRequest& request, ChainKeeper::ChoiceDone done);
  // Error: no such chain, or its record is not known yet. Only while Leads().
  Result<EventHistory> Events(const std::string& chain) const;
  const Counters& counters() const { return counters_; }
  bool etcd_healthy() const { return election_.etcd_healthy(); }
  bool Leads() { return Trusted(reactor_.Now()); }
  std::string LeaderAddress() { return election_.LeaderAddress(reactor_.Now()); }

 private:
  // Election::Events
  void OnElected() override;
  void OnDeposed(const std::string& reason) override;
  void OnTrustedAgain() override;
  // ChainKeeper::Leadership
  bool Trusted(TimePoint now) const override { return election_.Trusted(now); }
  const std::string& leader_key() const override { return election_.key(); }
  int64_t owner_revision() const override { return election_.owner_revision(); }
  void Over(const std::string& reason) override;
  void OnConfiguration(const std::optional<chain::Configuration>& before,
                       const chain::Configuration& now) override;

  ChainKeeper::Options KeeperOptions(const ChainFacts& facts) const;
  // Makes the keepers that are missing, with what etcd holds.
  void Load();
  bool Complete() const { return keepers_.size() == options_.chains.size(); }
  void OnLoaded(const etcd::RangeAnswer& answer);
  bool HasChain(const std::string& chain) const;
  bool HasNode(const std::string& chain, const NodeId& node) const;
  std::string ChainKey(const std::string& chain) const;
  std::string EventsKey(const std::string& chain) const;
  Result<ChainKeeper*> KeeperOf(const std::string& chain) const;

  io::Reactor& reactor_;
  etcd::Client& etcd_;
  ControllerOptions options_;
  Election election_;
  std::unique_ptr<io::Timer> load_timer_;
  Counters counters_;
  uint64_t load_ = 0;  // counts what etcd is asked: only the answer to the last one counts
  std::map<std::string, std::unique_ptr<ChainKeeper>> keepers_;
};

}  // namespace catena::coordinator
