// catena-proxy: one node of a chain. Reads the cluster's TOML, wires the parts together and runs
// until it is told to stop.
#include <malloc.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <utility>

#include "backends/redis/redis_backend.h"
#include "backends/rocksdb/rocksdb_backend.h"
#include "config/config.h"
#include "config/reload.h"
#include "proxy/admin/http_server.h"
#include "proxy/admin/process_metrics.h"
#include "proxy/base/log.h"
#include "proxy/base/notify.h"
#include "proxy/base/version.h"
#include "proxy/io/uv_reactor.h"
#include "proxy/server/node.h"
#include "proxy/tls_setup.h"

namespace {

using namespace catena;

server::Consistency ToConsistency(config::Consistency consistency) {
  switch (consistency) {
    case config::Consistency::kLinearizable:
      return server::Consistency::kLinearizable;
    case config::Consistency::kSequential:
      return server::Consistency::kSequential;
    case config::Consistency::kEventual:
      return server::Consistency::kEventual;
    case config::Consistency::kTail:
      return server::Consistency::kTail;
  }
  return server::Consistency::kLinearizable;
}

server::User NodeUser(const config::User& user) {
  const bool reads = user.access == config::Access::kReadOnly;
  return {user.name, user.password,
          command::UserRights(reads ? command::Access::kReadOnly : command::Access::kAll, user.keys,
                              user.channels)};
}

// As many as the system allows this process; returns their number.
size_t RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return SIZE_MAX;
  // A limit of "infinity" could not be set: the kernel has one of its own, about this.
  rlimit raised{std::min<rlim_t>(limit.rlim_max, 1u << 20), limit.rlim_max};
  if (raised.rlim_cur > limit.rlim_cur && setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  return limit.rlim_cur;
}

constexpr int kRocksDbFiles = 1024;  // unless the TOML says otherwise

// Of those, what a node may use for connections: an embedded database has files of its own, which
// get no more than half.
size_t DescriptorsForNode(const config::Chain& chain, const config::Node& node) {
  const size_t all = RaiseDescriptorLimit();
  if (node.backend.kind != config::BackendKind::kRocksDb) return all;
  const int files = chain.rocksdb.open_files.value_or(kRocksDbFiles);
  return all - std::min(all / 2, static_cast<size_t>(files));
}

server::Options NodeOptions(const config::Config& config, const config::Chain& chain,
                            const config::Node& node) {
  server::Options options;
  options.chain = chain.name;
  options.node = node.id;
  options.clients_address = node.clients;
  options.peers_address = node.peers;
  options.backend_address = node.backend.address;
  options.overwrite = node.overwrite;
  options.measures_times = !node.admin.empty();
  options.consistency = ToConsistency(chain.consistency);
  options.write_timeout = chain.write_timeout;
  options.max_staleness = chain.max_staleness;
  for (const config::User& user : chain.users) options.users.push_back(NodeUser(user));
  options.credentials = {config.cluster.name, config.cluster.secret};
  options.coordinators = config.coordinator.listen;
  options.heartbeat = config.coordinator.heartbeat;
  options.lease = config.coordinator.lease;
  options.drift_per_mille = config.coordinator.drift_per_mille;
  options.backlog_bytes = chain.limits.backlog_bytes;
  options.log_bytes_max = chain.limits.log_bytes_max;
  options.client_output_bytes_max = chain.limits.client_output_bytes_max;
  options.client_pipeline_max = chain.limits.client_pipeline_max;
  options.pending_bytes_max = chain.limits.pending_bytes_max;
  options.bulk_bytes_max = chain.limits.bulk_bytes_max;
  options.command_bytes_max = chain.limits.command_bytes_max;
  options.descriptors_max = DescriptorsForNode(chain, node);
  options.clients_max = chain.limits.clients_max;
  options.join_bytes_max = chain.limits.join_bytes_max;
  return options;
}

server::Node::MakeBackend RedisMaker(io::Reactor& reactor, const config::Node& node) {
  return [&reactor, node](Incarnation incarnation) {
    redis::RedisOptions options;
    options.address = node.backend.address;
    options.tls = node.backend.tls;
    options.user = node.backend.user;
    options.password = node.backend.password;
    options.replication_address = node.replication;
    options.node = node.id;
    options.incarnation = incarnation;
    return redis::MakeRedisBackend(reactor, options);
  };
}

// As BackendOptions::configuration has them.
std::string Settings(std::initializer_list<std::pair<std::string, std::string>> settings) {
  std::string text;
  for (const auto& [name, value] : settings) text += name + '\0' + value + '\0';
  return text;
}

rocks::Sync ToSync(config::Sync sync) {
  switch (sync) {
    case config::Sync::kAlways:
      return rocks::Sync::kAlways;
    case config::Sync::kInterval:
      return rocks::Sync::kInterval;
    case config::Sync::kNever:
      return rocks::Sync::kNever;
  }
  return rocks::Sync::kAlways;
}

server::Node::MakeBackend RocksDbMaker(io::Reactor& reactor, const config::RocksDb& written,
                                       const config::Node& node) {
  rocks::StoreOptions store;
  store.directory = node.backend.address;
  store.block_cache_bytes = written.block_cache;
  store.write_buffer_bytes = written.write_buffer;
  store.open_files_max = written.open_files;
  store.background_jobs = written.background_jobs;
  store.sync = ToSync(written.sync);
  rocks::BackendOptions options;
  options.sync = store.sync;
  options.sync_interval = written.sync_interval;
  options.configuration = Settings(
      {{"dir", store.directory}, {"rocksdb-block-cache", std::to_string(written.block_cache)}});
  return [&reactor, options, store](Incarnation) {
    return rocks::MakeRocksDbBackend(reactor, options, [store] { return rocks::OpenStore(store); });
  };
}

server::Node::MakeBackend BackendMaker(io::Reactor& reactor, const config::Chain& chain,
                                       const config::Node& node) {
  if (node.backend.kind == config::BackendKind::kRocksDb) {
    return RocksDbMaker(reactor, chain.rocksdb, node);
  }
  return RedisMaker(reactor, node);
}

// GET /metrics, /healthz and /readyz at the admin port.
class AdminPort {
 public:
  AdminPort(io::Reactor& reactor, server::Node& node)
      : node_(node), turns_(io::MeasureTurns(reactor)) {}

  admin::Response Answer(std::string_view path) {
    if (path == "/metrics") return Metrics();
    if (path == "/healthz") return {200, {}, "ok\n"};
    if (path == "/readyz") return Readiness();
    return admin::NotFound("/metrics, /healthz, /readyz");
  }

 private:
  admin::Response Metrics() {
    Exposition out;
    out.AddCommonLabel("chain", node_.options().chain);
    out.AddCommonLabel("node", node_.options().node);
    node_.AppendMetrics(out);
    admin::AppendProcessMetrics(out, turns_);
    return {200, std::string(Exposition::kContentType), out.text()};
  }
  admin::Response Readiness() {
    const std::string why = node_.WhyNotReady();
    if (why.empty()) return {200, {}, "ready\n"};
    return {503, {}, node_.options().node + " is not ready: " + why + "\n"};
  }

  server::Node& node_;
  const Histogram& turns_;
};

int ExitWith(const std::string& text) {
  std::fprintf(stderr, "catena-proxy: %s\n", text.c_str());
  return 1;
}

int Run(config::Config config, const std::string& id, const std::string& log_level,
        const std::shared_ptr<io::TlsContext>& tls) {
  log::Init(id, log::Level::kInfo, log::Form::kText);
  config::ApplyLogging(config, log_level);
  const config::Config::NodeRef self = *config.FindNode(id);
  std::unique_ptr<io::Reactor> reactor = io::MakeUvReactor();
  TlsReactors secured(*reactor, tls);
  const server::Reactors reactors(secured.Clients(config.tls.clients),
                                  secured.Mutual(config.tls.peers),
                                  secured.Mutual(config.tls.coordinators));
  server::Node driver(reactors, NodeOptions(config, *self.chain, *self.node),
                      BackendMaker(secured.Mutual(self.node->backend.tls), *self.chain, *self.node),
                      [&reactor] { reactor->Stop(); });
  std::optional<AdminPort> port;
  std::unique_ptr<admin::HttpServer> http;
  if (!self.node->admin.empty()) {
    port.emplace(*reactor, driver);
    auto served = admin::HttpServer::Start(
        *reactor, self.node->admin, [&port](std::string_view path) { return port->Answer(path); });
    if (!served) return ExitWith(served.error().message);
    http = std::move(*served);
  }
  if (auto started = driver.Start(); !started) return ExitWith(started.error().message);
  io::OnTermination(*reactor, [&driver](int) {
    NotifyManager("STOPPING=1");
    driver.Stop();
  });
  io::OnHangup(*reactor, [&] {
    std::optional<config::Config> changed = config::LoadAgain(config, id);
    if (!changed) return;
    config = *std::move(changed);
    config::ApplyLogging(config, log_level);
    ReloadTls(tls, config.tls);
    const config::Config::NodeRef now = *config.FindNode(id);
    driver.Reconfigure(NodeOptions(config, *now.chain, *now.node));
  });
  NotifyManager("READY=1");
  reactor->Run();
  return 0;
}

// What --check says of a file that can be used.
int TellGood(const config::Config& config) {
  for (const std::string& warning : config::Warnings(config)) {
    std::fprintf(stderr, "catena-proxy: warning: %s\n", warning.c_str());
  }
  std::printf("%s: ok\n", config.path.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Catena proxy: puts chain replication in front of one database as it is."};
  std::string path, id, log_level;
  bool check = false;
  app.add_option("--config", path, "the cluster's TOML file")->required();
  app.add_option("--node", id, "id of the node in the file that this process is");
  app.add_option("--log-level", log_level, "debug, info, warn or error; default: cluster.log_level")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  app.add_flag("--check", check, "validate the file and exit");
  app.set_version_flag("--version", "catena-proxy " + std::string(ProgramVersion()));
  CLI11_PARSE(app, argc, argv);
  // Blocks of the log and large values go back to the system when they are freed. Left alone, the
  // threshold grows with them, and a burst's memory stays with the process, in pieces.
  mallopt(M_MMAP_THRESHOLD, 256 << 10);

  auto config = config::Load(path);
  if (!config) return ExitWith("\n" + config.error().message);
  auto tls = LoadTls(config->tls);
  if (!tls) return ExitWith(tls.error().message);
  if (check && id.empty()) return TellGood(*config);
  if (id.empty()) return ExitWith("--node is required: which node of " + path + " is this?");
  auto ref = config->FindNode(id);
  if (!ref) return ExitWith(ref.error().message);
  if (check) return TellGood(*config);
  return Run(*std::move(config), id, log_level, *tls);
}
