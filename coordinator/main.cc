// catena-coordinator: watches the nodes of a cluster and keeps its chains' configurations in etcd.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "config/config.h"
#include "config/reload.h"
#include "coordinator/admin_port.h"
#include "coordinator/controller.h"
#include "coordinator/etcd_client.h"
#include "coordinator/server.h"
#include "proxy/base/log.h"
#include "proxy/base/notify.h"
#include "proxy/base/version.h"
#include "proxy/io/uv_reactor.h"
#include "proxy/tls_setup.h"

namespace catena::coordinator {
namespace {

struct Flags {
  std::string config;
  std::string listen;
  std::string log_level;
  bool check = false;
};

ChainFacts FactsOf(const config::Chain& chain) {
  ChainFacts facts;
  facts.chain = chain.name;
  facts.replicas = static_cast<size_t>(chain.replicas);
  facts.recovery =
      chain.recovery == config::Recovery::kAutomatic ? Recovery::kAutomatic : Recovery::kOperator;
  for (const config::Node& node : chain.nodes) facts.nodes.push_back({node.id, node.overwrite});
  return facts;
}

ControllerOptions ControllerOptionsOf(const config::Config& config, const std::string& listen) {
  ControllerOptions options;
  options.cluster = config.cluster.name;
  options.address = listen;
  options.heartbeat = config.coordinator.heartbeat;
  options.lease = config.coordinator.lease;
  options.leader_ttl = config.coordinator.leader_ttl;
  for (const config::Chain& chain : config.chains) options.chains.push_back(FactsOf(chain));
  return options;
}

// Which of the TOML's addresses this process is; the only one needs no flag.
Result<std::string> ListenAddress(const config::Config& config, const std::string& flag) {
  const auto& known = config.coordinator.listen;
  if (flag.empty() && known.size() == 1) return known.front();
  if (std::find(known.begin(), known.end(), flag) != known.end()) return flag;
  std::string list;
  for (const std::string& address : known) list += (list.empty() ? "" : ", ") + address;
  return Fail((flag.empty() ? "--listen is needed" : "--listen " + flag) +
              ": must be one of [coordinator] listen: " + list);
}

// None where the TOML names none for `listen`.
Result<std::unique_ptr<admin::HttpServer>> ServeAdmin(io::Reactor& reactor,
                                                      const config::Coordinator& config,
                                                      const std::string& listen, AdminPort& port) {
  if (config.admin.empty()) return nullptr;
  const auto self = std::ranges::find(config.listen, listen) - config.listen.begin();
  return admin::HttpServer::Start(reactor, config.admin[static_cast<size_t>(self)],
                                  [&port](std::string_view path) { return port.Answer(path); });
}

AdminPort::Options AdminOptionsOf(const config::Config& config, const std::string& listen) {
  AdminPort::Options options{config.cluster.name, listen, {}};
  for (size_t i = 0; i < config.coordinator.admin.size(); ++i) {
    options.pages[config.coordinator.listen[i]] = config.coordinator.admin[i];
  }
  return options;
}

int Serve(config::Config config, const std::string& listen, const Flags& flags,
          const std::shared_ptr<io::TlsContext>& tls) {
  const auto reactor = io::MakeUvReactor();
  TlsReactors secured(*reactor, tls);
  etcd::CurlOptions curl;
  curl.endpoints = config.coordinator.etcd;
  curl.tls = tls;
  // Two endpoints can be tried before the next keep-alive is due.
  curl.leadership_timeout = config.coordinator.leader_ttl / 4;
  EtcdUse etcd_use;
  curl.use = &etcd_use;
  const auto etcd = etcd::MakeCurlClient(*reactor, std::move(curl));
  Controller controller(*reactor, *etcd, ControllerOptionsOf(config, listen));
  Server::Options options;
  options.listen = listen;
  options.credentials = {config.cluster.name, config.cluster.secret};
  Server server(secured.Mutual(config.tls.coordinators), controller, std::move(options));
  if (const auto started = server.Start(); !started) {
    log::Error("cannot_listen", {{"address", listen}, {"why", started.error().message}});
    return 1;
  }
  log::Info("listening", {{"address", server.address()}});
  AdminPort port(AdminOptionsOf(config, listen), controller, etcd_use, io::MeasureTurns(*reactor));
  const auto http = ServeAdmin(*reactor, config.coordinator, listen, port);
  if (!http) {
    log::Error("cannot_listen", {{"why", http.error().message}});
    return 1;
  }
  bool stopping = false;
  io::OnTermination(*reactor, [&](int signal) {
    log::Info("signal", {{"number", signal}});
    if (stopping) return reactor->Stop();
    stopping = true;
    NotifyManager("STOPPING=1");
    server.Stop();
    controller.Stop([&] { reactor->Stop(); });
  });
  io::OnHangup(*reactor, [&] {
    std::optional<config::Config> changed = config::LoadAgain(config, "");
    if (!changed) return;
    config = *std::move(changed);
    config::ApplyLogging(config, flags.log_level);
    ReloadTls(tls, config.tls);
    controller.Reconfigure(ControllerOptionsOf(config, listen));
  });
  controller.Start();
  NotifyManager("READY=1");
  reactor->Run();
  return 0;
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Catena's coordinator: keeps the configuration of every chain in etcd.");
  app.add_option("--config", flags.config, "the cluster's TOML file")->required();
  app.add_option("--listen", flags.listen,
                 "which address of [coordinator] listen this process is (default: the only one)");
  app.add_flag("--check", flags.check, "check the file and the flags, then end");
  app.add_option("--log-level", flags.log_level, "debug | info | warn | error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  app.set_version_flag("--version", "catena-coordinator " + std::string(ProgramVersion()));
  CLI11_PARSE(app, argc, argv);
  Result<config::Config> config = config::Load(flags.config);
  if (!config) {
    std::fprintf(stderr, "%s\n", config.error().message.c_str());
    return 2;
  }
  const Result<std::string> listen = ListenAddress(*config, flags.listen);
  if (!listen) {
    std::fprintf(stderr, "%s\n", listen.error().message.c_str());
    return 2;
  }
  const Result<std::shared_ptr<io::TlsContext>> tls = LoadTls(config->tls);
  if (!tls) {
    std::fprintf(stderr, "%s\n", tls.error().message.c_str());
    return 2;
  }
  if (flags.check) {
    for (const std::string& warning : config::Warnings(*config)) {
      std::fprintf(stderr, "warning: %s\n", warning.c_str());
    }
    std::printf("%s: ok\n", flags.config.c_str());
    return 0;
  }
  log::Init("coordinator@" + *listen, log::Level::kInfo, log::Form::kText);
  config::ApplyLogging(*config, flags.log_level);
  return Serve(*std::move(config), *listen, flags, *tls);
}

}  // namespace
}  // namespace catena::coordinator

int main(int argc, char** argv) { return catena::coordinator::Main(argc, argv); }
