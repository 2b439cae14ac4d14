// A controller whose chains change while etcd has yet to tell what happened to a record.
#include "coordinator/controller.h"

#include <doctest/doctest.h>

#include <map>
#include <string>

#include "tests/unit/held_etcd.h"

namespace catena::coordinator {
namespace {

using std::chrono::milliseconds;

constexpr Duration kLease = milliseconds(1000);

// All but transactions are answered in a later turn.
class ElectingEtcd final : public HeldEtcd {
 public:
  explicit ElectingEtcd(TurnedReactor& reactor) : reactor_(reactor) {}

  void Range(etcd::Class kind, std::string_view key, etcd::Done<etcd::RangeAnswer> done) override {
    RangePrefix(kind, key, std::move(done));
  }
  void RangePrefix(etcd::Class, std::string_view prefix,
                   etcd::Done<etcd::RangeAnswer> done) override {
    etcd::RangeAnswer answer;
    answer.revision = revision;
    for (const auto& [key, pair] : store) {
      if (key.starts_with(prefix)) answer.pairs.push_back(pair);
    }
    reactor_.Defer([done = std::move(done), answer] { done(answer); });
  }
  void GrantLease(int64_t ttl_seconds, etcd::Done<etcd::LeaseAnswer> done) override {
    reactor_.Defer([done = std::move(done), ttl_seconds] {
      done(etcd::LeaseAnswer{1, ttl_seconds});
    });
  }
  void KeepAlive(int64_t lease, etcd::Done<etcd::LeaseAnswer> done) override {
    reactor_.Defer([done = std::move(done), lease] { done(etcd::LeaseAnswer{lease, 2}); });
  }
  void Revoke(int64_t, etcd::Done<bool>) override { store.erase("/catena/k/leader"); }

 private:
  TurnedReactor& reactor_;
};

class Proxy final : public Subscriber {
 public:
  explicit Proxy(uint64_t number) : number_(number) {}
  uint64_t number() const override { return number_; }
  void SendAnswer(const HeartbeatAnswer& answer) override { lease = answer.lease; }
  void SendConfiguration(const HeartbeatAnswer&) override {}
  void SendNotLeader(const std::string&) override { lease = Duration(0); }
  void Drop(const std::string&) override {}

  Duration lease{0};

 private:
  uint64_t number_;
};

ControllerOptions OptionsOf(const std::vector<std::string>& chains) {
  ControllerOptions options;
  options.cluster = "k";
  options.address = "me";
  options.heartbeat = kLease / 10;
  options.lease = kLease;
  for (const std::string& chain : chains) {
    options.chains.push_back({chain, {{"a", false}, {"b", false}}, 2, Recovery::kOperator});
  }
  return options;
}

TEST_CASE("S16 a chain that leaves the TOML and returns finds no record of its own in flight") {
  TurnedReactor reactor;
  ElectingEtcd etcd(reactor);
  ChainRecord record;
  record.configuration = {"x", Epoch(3), {}};
  for (const char* id : {"a", "b"})
    record.configuration.members.push_back({id, Incarnation(10), "c", "p", "run"});
  record.lease = kLease;
  record.head_complete = true;
  record.known = {{"a", "", Incarnation(10)}, {"b", "", Incarnation(10)}};
  etcd.Put("/catena/k/chains/x", EncodeRecord(record));
  Controller controller(reactor, etcd, OptionsOf({"x"}));
  controller.Start();
  reactor.RunDeferred();
  etcd.Answer();  // the leader's key
  reactor.RunDeferred();

  std::map<std::string, Proxy> proxies;
  const auto beat = [&](const std::string& id) {
    NodeReport report;
    report.cluster = "k";
    report.chain = "x";
    report.node = id;
    report.incarnation = Incarnation(10);
    report.phase = ReportPhase::kMember;
    report.epoch = Epoch(3);
    report.synced = true;
    report.backend.run_id = "run";
    Proxy& proxy = proxies.try_emplace(id, 1 + proxies.size()).first->second;
    controller.OnHeartbeat(proxy, report);
    return proxy.lease;
  };
  CHECK(beat("a") == kLease);
  for (int i = 0; i < 11; ++i) {
    CHECK(beat("b") == kLease);
    reactor.Advance(kLease / 10);
  }
  beat("b");
  const auto removal = etcd.Take();  // of a
  CHECK(beat("a") == Duration(0));
  controller.Reconfigure(OptionsOf({"other"}));
  reactor.RunDeferred();
  controller.Reconfigure(OptionsOf({"x"}));
  reactor.RunDeferred();
  const Duration granted = beat("a");
  const bool happens = etcd.Execute(removal.txn).succeeded;
  CHECK_FALSE((happens && granted > Duration(0)));
  // Another leadership follows, in which it can happen no longer.
  reactor.Advance(kLease);
  etcd.Answer();
  reactor.RunDeferred();
  CHECK(beat("b") == kLease);
  CHECK_FALSE(etcd.Execute(removal.txn).succeeded);
}

// [a, b] of some chains under an elected leader; a is silent until its lease is over.
struct Elected {
  explicit Elected(const std::vector<std::string>& chains)
      : etcd(reactor), controller(reactor, etcd, OptionsOf(chains)) {
    for (const std::string& chain : chains) {
      ChainRecord record;
      record.configuration = {chain, Epoch(3), {}};
      for (const char* id : {"a", "b"})
        record.configuration.members.push_back({id, Incarnation(10), "c", "p", "run"});
      record.lease = kLease;
      record.head_complete = true;
      record.known = {{"a", "", Incarnation(10)}, {"b", "", Incarnation(10)}};
      etcd.Put("/catena/k/chains/" + chain, EncodeRecord(record));
    }
    controller.Start();
    reactor.RunDeferred();
    etcd.Answer();  // the leader's key
    reactor.RunDeferred();
    for (int i = 0; i < 12; ++i) {
      for (const std::string& chain : chains) Beat(chain, "b");
      if (i < 11) reactor.Advance(kLease / 10);
    }
  }
  Duration Beat(const std::string& chain, const std::string& id) {
    NodeReport report;
    report.cluster = "k";
    report.chain = chain;
    report.node = id;
    report.incarnation = Incarnation(10);
    report.phase = ReportPhase::kMember;
    report.epoch = Epoch(3);
    report.synced = true;
    report.backend.run_id = "run";
    Proxy& proxy = proxies.try_emplace(chain + id, 1 + proxies.size()).first->second;
    controller.OnHeartbeat(proxy, report);
    return proxy.lease;
  }

  TurnedReactor reactor;
  ElectingEtcd etcd;
  Controller controller;
  std::map<std::string, Proxy> proxies;
};

TEST_CASE("S16 a chain that leaves the TOML and returns begins with what etcd holds then") {
  Elected world({"x"});
  // What etcd tells about x while y is new is on its way; x changes meanwhile, leaves and returns.
  world.controller.Reconfigure(OptionsOf({"x", "y"}));
  world.etcd.Answer();  // the removal of a
  world.controller.Reconfigure(OptionsOf({"y"}));
  world.controller.Reconfigure(OptionsOf({"x", "y"}));
  world.reactor.RunDeferred();
  CHECK(world.Beat("x", "a") == Duration(0));
}

TEST_CASE("what a leadership that is over was about to write is not written") {
  Elected world({"x", "y"});
  REQUIRE(world.etcd.held.size() == 2);
  auto first = std::move(world.etcd.held[0]);
  auto second = std::move(world.etcd.held[1]);
  world.etcd.held.clear();
  ControllerOptions more = OptionsOf({"x", "y"});
  more.lease = 2 * kLease;  // which their next records would say
  world.controller.Reconfigure(more);
  const etcd::TxnAnswer done = world.etcd.Execute(second.txn);
  CHECK(done.succeeded);
  world.etcd.store.erase("/catena/k/leader");
  // Both are answered in one turn.
  first.done(world.etcd.Execute(first.txn));
  second.done(done);
  CHECK(world.etcd.held.empty());
}

}  // namespace
}  // namespace catena::coordinator
