// A whole cluster in one simulation: on each machine a proxy (the real server::Node with the real
// backend) and a Redis, or the disk of a RocksDB; coordinators (the real controller and server) on
// machines of their own; etcd.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backends/rocksdb/memory_store.h"
#include "coordinator/controller.h"
#include "coordinator/server.h"
#include "proxy/server/node.h"
#include "tests/sim/etcd_model.h"
#include "tests/sim/network.h"
#include "tests/sim/plan.h"
#include "tests/sim/redis_model.h"

namespace catena::sim {

struct Proxy {
  std::string machine;  // where it runs, or ran last
  std::unique_ptr<Process> process;
  std::unique_ptr<server::Node> node;
  bool stopping = false;
};

struct Redis {
  std::unique_ptr<Process> process;
  std::unique_ptr<RedisModel> model;
  RedisImage disk;  // what the next process finds
};

// Of a RocksDB, which lives in the proxy.
struct Disk {
  std::shared_ptr<rocks::MemoryDisk> now;
  std::optional<rocks::MemoryDisk> before;  // as it was some time ago
};

struct Coordinator {
  std::unique_ptr<Process> process;
  std::unique_ptr<coordinator::etcd::Client> etcd;
  std::unique_ptr<coordinator::Controller> controller;
  std::unique_ptr<coordinator::Server> server;
};

class Cluster {
 public:
  Cluster(Scheduler& scheduler, const Plan& plan);
  ~Cluster();

  const Plan& plan() const { return plan_; }
  Scheduler& scheduler() { return scheduler_; }
  Network& network() { return network_; }
  EtcdModel& etcd() { return etcd_; }
  const std::vector<NodeId>& nodes() const { return node_ids_; }
  const std::vector<std::string>& coordinators() const { return coordinator_ids_; }
  // nullptr: not running.
  server::Node* node(const NodeId& id) { return proxies_[id].node.get(); }
  RedisModel* redis(const NodeId& id) { return redises_[id].model.get(); }
  // nullptr: there is a Redis.
  rocks::MemoryDisk* disk(const NodeId& id) { return disks_[id].now.get(); }
  // It runs, and answers.
  bool HasDatabase(const NodeId& id);
  // Where it is in the chain's history, and what it holds. It is there.
  uint64_t DatabasePosition(const NodeId& id);
  Data DatabaseKeys(const NodeId& id);
  Process* proxy_process(const NodeId& id) { return proxies_[id].process.get(); }
  Process* redis_process(const NodeId& id) { return redises_[id].process.get(); }
  Process* coordinator_process(const std::string& id) { return coordinators_[id].process.get(); }
  bool stopping(const NodeId& id) const { return proxies_.at(id).stopping; }
  io::Address ClientsAddress(const NodeId& id) const { return proxies_.at(id).machine + ":6000"; }

  // `after` runs at the end of every loop turn of every proxy.
  void OnTurn(std::function<void(const NodeId&)> after) { after_turn_ = std::move(after); }

  void StartProxy(const NodeId& id);
  void KillProxy(const NodeId& id, bool silent);
  // The process that runs stays as it is and another one of the same node is started on a machine of
  // its own, before the same Redis (S14).
  void StartTwin(const NodeId& id);
  // Those that StartTwin left behind.
  std::vector<std::pair<NodeId, Proxy>>& twins() { return twins_; }
  void KillTwins();
  // Graceful; the process ends by itself.
  void StopProxy(const NodeId& id);
  void StartRedis(const NodeId& id);
  enum class Keeps { kEverything, kStale, kNoPlace, kNothing };
  void KillRedis(const NodeId& id, Keeps keeps);
  // While its proxy does not run: what the next one finds.
  void LoseDisk(const NodeId& id, Keeps keeps);
  // Whatever is asked of it fails, or that is over.
  void FailDisk(const NodeId& id, bool fails);
  void StartCoordinator(const std::string& id);
  void KillCoordinator(const std::string& id);

  // The chain's record in etcd; nullopt: none yet.
  const std::optional<coordinator::ChainRecord>& Record();
  // Its configuration.
  std::optional<chain::Configuration> Newest();
  // The one that leads; "": none.
  std::string Leader();
  // What `catenactl drain` asks of the leader; nothing where there is none.
  void Wish(const coordinator::DrainRequest& request);
  // The leading coordinator says that an operator must choose.
  bool WaitsForOperator();
  // Member of the newest configuration, in the incarnation that it lists, synced.
  bool Complete(const NodeId& id);
  std::string Describe();

 private:
  server::Node::MakeBackend BackendMaker(const NodeId& id, const std::string& machine,
                                         Process& process);
  std::string NewRunId();
  void RememberDisks();
  server::Options NodeOptions(const NodeId& id, const std::string& machine) const;
  void Trace(const std::string& line);

  Scheduler& scheduler_;
  Plan plan_;
  Network network_;
  EtcdModel etcd_;
  std::vector<NodeId> node_ids_;
  std::vector<std::string> coordinator_ids_;
  std::map<std::string, Coordinator> coordinators_;
  std::map<NodeId, Redis> redises_;
  std::map<NodeId, Disk> disks_;
  uint64_t run_ids_ = 0;
  std::map<NodeId, Proxy> proxies_;
  std::vector<std::pair<NodeId, Proxy>> twins_;
  std::function<void(const NodeId&)> after_turn_;
  std::optional<coordinator::ChainRecord> record_;
  int64_t record_revision_ = 0;  // etcd's when it was read
};

}  // namespace catena::sim
