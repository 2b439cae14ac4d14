#include "tests/sim/cluster.h"

#include <algorithm>
#include <utility>

#include "backends/redis/redis_backend.h"
#include "backends/rocksdb/rocksdb_backend.h"
#include "proxy/base/check.h"

namespace catena::sim {
namespace {

constexpr char kChain[] = "sim";
const auth::Credentials kCredentials{"sim", "secret"};

constexpr Duration kDiskRemembered = Seconds(2);
constexpr const char* kKeepsNames[] = {"everything", "an old snapshot", "no place in the history",
                                       "nothing"};

io::Address RedisAddress(const NodeId& id) { return id + ":6379"; }
io::Address CoordinatorAddress(const std::string& id) { return id + ":7000"; }

}  // namespace

Cluster::Cluster(Scheduler& scheduler, const Plan& plan)
    : scheduler_(scheduler), plan_(plan), network_(scheduler, plan.network), etcd_(network_) {
  for (size_t i = 0; i < plan_.nodes; ++i) node_ids_.push_back(std::string(1, char('A' + i)));
  for (size_t i = 0; i < plan_.coordinators; ++i)
    coordinator_ids_.push_back("k" + std::to_string(i + 1));
  for (const auto* ids : {&node_ids_, &coordinator_ids_}) {
    for (const std::string& id : *ids) {
      network_.machine(id).drift_ppm =
          scheduler_.random().Between(-plan_.drift_ppm_max, plan_.drift_ppm_max);
    }
  }
  for (const NodeId& id : node_ids_) proxies_[id].machine = id;
  for (const std::string& id : coordinator_ids_) StartCoordinator(id);
  for (const NodeId& id : node_ids_) {
    if (plan_.database == Database::kRedis) {
      StartRedis(id);
    } else {
      disks_[id].now = std::make_shared<rocks::MemoryDisk>(NewRunId());
    }
  }
  if (plan_.database == Database::kRocksDb) RememberDisks();
  for (const NodeId& id : node_ids_) StartProxy(id);
}

Cluster::~Cluster() {
  KillTwins();
  for (const NodeId& id : node_ids_) KillProxy(id, false);
  for (const std::string& id : coordinator_ids_) KillCoordinator(id);
  for (const NodeId& id : node_ids_) KillRedis(id, Keeps::kEverything);
}

void Cluster::Trace(const std::string& line) {
  if (scheduler_.tracing()) scheduler_.Trace(line);
}

server::Options Cluster::NodeOptions(const NodeId& id, const std::string& machine) const {
  server::Options options;
  options.chain = kChain;
  options.node = id;
  options.clients_address = machine + ":6000";
  options.peers_address = machine + ":6001";
  const bool is_redis = plan_.database == Database::kRedis;
  options.backend_address = is_redis ? RedisAddress(id) : "rocksdb:///" + id;
  options.overwrite = true;
  options.credentials = kCredentials;
  for (const std::string& coordinator : coordinator_ids_)
    options.coordinators.push_back(CoordinatorAddress(coordinator));
  options.heartbeat = plan_.heartbeat;
  options.lease = plan_.lease;
  options.max_staleness = plan_.max_staleness;
  options.backlog_bytes = plan_.redis.backlog_bytes;
  return options;
}

// --- proxies -------------------------------------------------------------------------------------

void Cluster::StartProxy(const NodeId& id) {
  Proxy& proxy = proxies_[id];
  if (proxy.node) return;
  Trace("start proxy " + id);
  const std::string machine = proxy.machine;
  proxy.process = std::make_unique<Process>(network_, "proxy " + id, machine);
  proxy.stopping = false;
  Process& process = *proxy.process;
  process.SetWorkDelay(plan_.disk_max);
  const auto make_backend = BackendMaker(id, machine, process);
  auto on_stopped = [this, id, process = &process] {
    scheduler_.After(Duration(0), [this, id, process] {
      if (proxies_[id].process.get() == process) KillProxy(id, false);
    });
  };
  proxy.node =
      std::make_unique<server::Node>(process, NodeOptions(id, machine), make_backend, on_stopped);
  process.Post([this, id, node = proxy.node.get(), &process] {
    CATENA_CHECK(node->Start().has_value(), "the addresses of a node are its own");
    process.AddTurnEndHook([this, id] {
      if (after_turn_) after_turn_(id);
    });
  });
}

server::Node::MakeBackend Cluster::BackendMaker(const NodeId& id, const std::string& machine,
                                                Process& process) {
  if (plan_.database == Database::kRocksDb) {
    return [&process, disk = disks_[id].now](Incarnation) {
      return rocks::MakeRocksDbBackend(process, {},
                                       [disk] { return rocks::OpenMemoryStore(disk); });
    };
  }
  return [&process, id, machine](Incarnation incarnation) {
    redis::RedisOptions options;
    options.address = RedisAddress(id);
    options.replication_address = machine + ":0";
    options.node = id;
    options.incarnation = incarnation;
    return redis::MakeRedisBackend(process, options);
  };
}

void Cluster::KillProxy(const NodeId& id, bool silent) {
  Proxy& proxy = proxies_[id];
  if (!proxy.node) return;
  Trace("proxy " + id + (silent ? " is gone without a word" : " ends"));
  proxy.process->Kill(silent);
  proxy.node.reset();
  proxy.process.reset();
}

void Cluster::StartTwin(const NodeId& id) {
  Proxy& proxy = proxies_[id];
  const std::string machine = proxy.machine + "'";
  twins_.emplace_back(id, std::move(proxy));
  proxy = Proxy{machine, nullptr, nullptr, false};
  StartProxy(id);
}

void Cluster::KillTwins() {
  for (auto& [id, twin] : twins_) {
    if (twin.process) twin.process->Kill(false);
    twin.node.reset();
  }
  twins_.clear();
}

void Cluster::StopProxy(const NodeId& id) {
  Proxy& proxy = proxies_[id];
  if (!proxy.node || proxy.stopping) return;
  Trace("stop proxy " + id);
  proxy.stopping = true;
  proxy.process->Post([node = proxy.node.get()] { node->Stop(); });
}

// --- Redis ---------------------------------------------------------------------------------------

void Cluster::StartRedis(const NodeId& id) {
  Redis& redis = redises_[id];
  if (redis.model || plan_.database != Database::kRedis) return;
  Trace("start redis " + id);
  redis.process = std::make_unique<Process>(network_, "redis " + id, id);
  redis.model =
      std::make_unique<RedisModel>(*redis.process, RedisAddress(id), redis.disk, plan_.redis);
}

void Cluster::KillRedis(const NodeId& id, Keeps keeps) {
  Redis& redis = redises_[id];
  if (!redis.model) return;
  Trace("redis " + id + " ends, keeps " + kKeepsNames[static_cast<int>(keeps)]);
  switch (keeps) {
    case Keeps::kEverything:
      redis.disk = redis.model->Save(false);
      break;
    case Keeps::kStale:
      redis.disk = redis.model->stale_image();
      break;
    case Keeps::kNoPlace:
      redis.disk = redis.model->Save(true);
      break;
    case Keeps::kNothing:
      redis.disk = RedisImage();
      break;
  }
  redis.process->Kill(false);
  redis.model.reset();
  redis.process.reset();
}

// --- disks ---------------------------------------------------------------------------------------

std::string Cluster::NewRunId() {
  std::string id = std::to_string(++run_ids_);
  return id.insert(0, 40 - id.size(), '0');
}

void Cluster::RememberDisks() {
  for (auto& [id, disk] : disks_) {
    if (!disk.now->fails) disk.before = *disk.now;
  }
  scheduler_.After(kDiskRemembered, [this] { RememberDisks(); });
}

// What may miss something is another database: it has another run_id (store.h).
void Cluster::LoseDisk(const NodeId& id, Keeps keeps) {
  CATENA_CHECK(!proxies_[id].node, "a store is open on the disk");
  Trace("disk " + id + " keeps " + kKeepsNames[static_cast<int>(keeps)]);
  Disk& disk = disks_[id];
  rocks::MemoryDisk found = *disk.now;
  switch (keeps) {
    case Keeps::kEverything:
      return;
    case Keeps::kStale:
      found = *disk.before;
      break;
    case Keeps::kNoPlace:
      found.place.replid.clear();
      break;
    case Keeps::kNothing:
      found = rocks::MemoryDisk("");
      break;
  }
  found.run_id = NewRunId();
  disk.now = std::make_shared<rocks::MemoryDisk>(std::move(found));
}

void Cluster::FailDisk(const NodeId& id, bool fails) {
  if (std::exchange(disks_[id].now->fails, fails) != fails)
    Trace("disk " + id + (fails ? " fails" : " works again"));
}

bool Cluster::HasDatabase(const NodeId& id) {
  if (plan_.database == Database::kRedis) return redis(id) != nullptr;
  const Process* const proxy = proxy_process(id);
  return !disk(id)->fails && (proxy == nullptr || !proxy->holds_work());
}

uint64_t Cluster::DatabasePosition(const NodeId& id) {
  return plan_.database == Database::kRedis ? redis(id)->offset()
                                            : disk(id)->place.position.value();
}

Data Cluster::DatabaseKeys(const NodeId& id) {
  if (plan_.database == Database::kRedis) return redis(id)->data();
  Data data;
  for (const auto& [key, item] : *disk(id)->keys) data[key] = item.value;
  return data;
}

// --- coordinators --------------------------------------------------------------------------------

void Cluster::StartCoordinator(const std::string& id) {
  Coordinator& started = coordinators_[id];
  if (started.controller) return;
  Trace("start coordinator " + id);
  started.process = std::make_unique<Process>(network_, "coordinator " + id, id);
  started.etcd = etcd_.MakeClient(*started.process);
  coordinator::ControllerOptions options;
  options.cluster = kCredentials.cluster;
  options.address = CoordinatorAddress(id);
  options.heartbeat = plan_.heartbeat;
  options.lease = plan_.lease;
  coordinator::ChainFacts facts;
  facts.chain = kChain;
  facts.replicas = plan_.replicas;
  for (const NodeId& node : node_ids_) facts.nodes.push_back({node, true});
  options.chains.push_back(facts);
  started.controller = std::make_unique<coordinator::Controller>(*started.process, *started.etcd,
                                                                 std::move(options));
  coordinator::Server::Options server;
  server.listen = CoordinatorAddress(id);
  server.credentials = kCredentials;
  started.server = std::make_unique<coordinator::Server>(*started.process, *started.controller,
                                                         std::move(server));
  started.process->Post([&started] {
    CATENA_CHECK(started.server->Start().has_value(), "a coordinator's address is its own");
    started.controller->Start();
  });
}

void Cluster::KillCoordinator(const std::string& id) {
  Coordinator& killed = coordinators_[id];
  if (!killed.controller) return;
  Trace("coordinator " + id + " ends");
  killed.process->Kill(false);
  killed.server.reset();
  killed.controller.reset();
  killed.etcd.reset();
  killed.process.reset();
}

// --- state ---------------------------------------------------------------------------------------

std::optional<chain::Configuration> Cluster::Newest() {
  const auto& record = Record();
  if (!record) return std::nullopt;
  return record->configuration;
}

const std::optional<coordinator::ChainRecord>& Cluster::Record() {
  if (etcd_.revision() == record_revision_) return record_;
  record_revision_ = etcd_.revision();
  auto record = coordinator::DecodeRecord(etcd_.Value("/catena/sim/chains/sim"));
  record_ = record ? std::optional(std::move(*record)) : std::nullopt;
  return record_;
}

std::string Cluster::Leader() {
  for (auto& [id, coordinator] : coordinators_) {
    if (coordinator.controller && coordinator.controller->Leads()) return id;
  }
  return "";
}

void Cluster::Wish(const coordinator::DrainRequest& request) {
  const std::string leader = Leader();
  if (leader.empty()) return;
  Trace(std::string("an operator ") + (request.end ? "ends the drain of " : "drains ") +
        request.drain.node);
  coordinator_process(leader)->Post([this, leader, request] {
    coordinator::Controller& controller = *coordinators_[leader].controller;
    if (controller.Leads()) controller.Wish(kChain, request, [](const Result<bool>&) {});
  });
}

bool Cluster::WaitsForOperator() {
  for (auto& [id, coordinator] : coordinators_) {
    if (!coordinator.controller) continue;
    const auto status = coordinator.controller->Status();
    if (!status) continue;
    for (const coordinator::ChainStatus& chain : status->chains) {
      if (chain.waiting_for.find("catenactl choose") != std::string::npos) return true;
    }
  }
  return false;
}

bool Cluster::Complete(const NodeId& id) {
  const auto newest = Newest();
  server::Node* node = this->node(id);
  if (!newest || node == nullptr) return false;
  const chain::Replica& replica = node->replica();
  return newest->IndexOf(id, replica.incarnation()).has_value() && replica.serves();
}

std::string Cluster::Describe() {
  std::string text;
  if (const auto newest = Newest()) {
    text += "etcd: epoch " + std::to_string(newest->epoch.value()) + " [";
    for (const chain::Member& member : newest->members) text += member.id + " ";
    text += "]\n";
  }
  for (const NodeId& id : node_ids_) {
    text += "  " + id + ": ";
    if (server::Node* node = this->node(id)) {
      const chain::Replica& r = node->replica();
      text +=
          std::string(chain::RoleName(r.role())) + " epoch " + std::to_string(r.epoch().value()) +
          (r.synced() ? "" : " unsynced") + (r.resigned() ? " resigned" : "") + " log [" +
          std::to_string(r.log().start().value()) + ", " + std::to_string(r.received().value()) +
          "] committed " + std::to_string(r.committed().value()) + " applied " +
          std::to_string(r.applied().value()) + (r.head_ready() ? " ready" : "");
    } else {
      text += "down";
    }
    if (RedisModel* redis = this->redis(id)) {
      text += "; redis " + std::string(redis->is_master() ? "master " : "replica ") +
              redis->replid().substr(0, 8) + " " + std::to_string(redis->offset());
    }
    if (const rocks::MemoryDisk* disk = this->disk(id)) {
      text += "; disk " + disk->place.replid.substr(0, 10) + " " +
              std::to_string(disk->place.position.value()) + (disk->fails ? " fails" : "");
    }
    text += "\n";
  }
  return text;
}

}  // namespace catena::sim
