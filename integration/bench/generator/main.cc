// catena-load: a load generator. Prints one JSON object; see integration/README.md.
#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <iostream>

#include "integration/bench/generator/engine.h"

namespace {

std::atomic<bool> stop{false};

void OnSignal(int) { stop = true; }

}  // namespace

int main(int argc, char** argv) {
  catena::bench::EngineOptions engine;
  catena::bench::WorkloadOptions workload;
  CLI::App app("Loads Redis servers and Catena proxies; prints one JSON object.", "catena-load");
  app.add_option("--to", engine.targets, "host:port; repeatable, connections take them in turn")
      ->required();
  app.add_option("--connections", engine.connections, "in all")
      ->capture_default_str()
      ->check(CLI::Range(1, 20000));
  app.add_option("--pipeline", engine.pipeline, "operations under way on a connection")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000));
  app.add_option("--rate", engine.rate,
                 "operations a second in all, whether answered or not; 0: as fast as answers come")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--warmup", engine.warmup, "seconds that are not counted")->capture_default_str();
  app.add_option("--seconds", engine.seconds, "that are counted")->capture_default_str();
  app.add_option("--operations", engine.operations, "end after so many instead");
  app.add_option("--interval", engine.interval, "seconds; adds a timeline of such steps");
  app.add_option("--first", engine.first, "command that each connection sends first");
  app.add_option("--tls-ca", engine.tls_ca, "PEM file of the targets' CA: speak TLS");
  app.add_flag("--reconnect", engine.reconnect, "go on at the next target when a connection ends");
  app.add_option("--mix", workload.mix,
                 "NAME=SHARE,... of get, mget (10 keys), set, setex, incr, lpush, ping")
      ->capture_default_str();
  app.add_option("--keys", workload.keys, "uniform, sequential, or zipf:EXPONENT")
      ->capture_default_str();
  app.add_option("--key-count", workload.key_count)->capture_default_str();
  app.add_option("--key-prefix", workload.key_prefix)->capture_default_str();
  app.add_option("--bytes", workload.value_bytes, "of a value")->capture_default_str();
  app.add_option("--wait", workload.wait_replicas, "follow each write by WAIT this-many 0");
  app.add_option("--seed", workload.seed)->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  std::signal(SIGTERM, OnSignal);
  std::signal(SIGINT, OnSignal);
  engine.stop = &stop;
  auto made = catena::bench::Workload::Make(workload);
  if (!made) {
    std::cerr << "catena-load: " << made.error().message << "\n";
    return 1;
  }
  const auto report = catena::bench::Engine(engine, std::move(*made)).Run();
  if (!report) {
    std::cerr << "catena-load: " << report.error().message << "\n";
    return 1;
  }
  std::cout << report->dump() << "\n";
  return 0;
}
