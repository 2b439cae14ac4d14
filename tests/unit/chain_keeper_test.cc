// One chain's keeper on a clock that the test turns and an etcd that answers when the test says so.
#include "coordinator/chain_keeper.h"

#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <string>

#include "tests/unit/held_etcd.h"

namespace catena::coordinator {
namespace {

using std::chrono::milliseconds;

constexpr Duration kLease = milliseconds(1000);

class Leading final : public ChainKeeper::Leadership {
 public:
  bool Trusted(TimePoint) const override { return trusted; }
  const std::string& leader_key() const override { return key_; }
  int64_t owner_revision() const override { return 1; }
  void Over(const std::string& why) override { over = why; }
  void OnConfiguration(const std::optional<chain::Configuration>& before,
                       const chain::Configuration& now) override {
    CHECK((!before || before->epoch < now.epoch));
  }

  bool trusted = true;
  std::string over;

 private:
  std::string key_ = "leader";
};

class Proxy final : public Subscriber {
 public:
  explicit Proxy(uint64_t number) : number_(number) {}
  uint64_t number() const override { return number_; }
  void SendAnswer(const HeartbeatAnswer& answer) override { last = answer; }
  void SendConfiguration(const HeartbeatAnswer& news) override {
    CHECK(news.lease == Duration(0));
    pushed = news;
  }
  void SendNotLeader(const std::string&) override {}
  void Drop(const std::string& reason) override { dropped = reason; }

  HeartbeatAnswer last;
  std::optional<HeartbeatAnswer> pushed;
  std::string dropped;

 private:
  uint64_t number_;
};

// The chain [a, b, c] in epoch 3; a leader that began long enough ago.
struct Fixture {
  Fixture() {
    etcd.Put("leader", "me");
    ChainRecord record;
    record.configuration = {"x", Epoch(3), {}};
    for (const char* id : {"a", "b", "c"}) {
      record.configuration.members.push_back({id, Incarnation(10), "c", "p", "run"});
      record.known.push_back({id, "", Incarnation(10)});
    }
    record.lease = kLease;
    record.head_complete = true;
    etcd.Put("chain", EncodeRecord(record));
    Lead();
    for (int i = 0; i < 10; ++i) {
      for (const char* id : {"a", "b", "c"}) Beat(id);
      reactor.Advance(kLease / 10);
    }
    for (const char* id : {"a", "b", "c"}) Beat(id);
  }

  static ChainKeeper::Options OptionsWith(Duration lease) {
    ChainKeeper::Options options;
    options.facts.chain = "x";
    options.facts.nodes = {{"a", false}, {"b", false}, {"c", false}};
    options.facts.replicas = 3;
    options.key = "chain";
    options.events_key = "events";
    options.lease = lease;
    options.silence = kLease / 2;
    options.link_grace = 2 * kLease;
    options.introduction = kLease;
    options.settling = milliseconds(3000);
    return options;
  }

  void Lead() {
    ChainKeeper::Found found{etcd.store.at("chain"), std::nullopt};
    if (etcd.store.contains("events")) found.events = etcd.store.at("events");
    keeper = std::make_unique<ChainKeeper>(reactor, etcd, leading, OptionsWith(kLease), found);
  }

  HeartbeatAnswer Beat(const std::string& id, ReportPhase phase = ReportPhase::kMember) {
    Proxy& proxy = proxies.try_emplace(id, 1 + proxies.size()).first->second;
    NodeReport report;
    report.cluster = "k";
    report.chain = "x";
    report.node = id;
    report.incarnation = Incarnation(10);
    report.phase = phase;
    report.epoch = Epoch(Recorded().configuration.epoch.value() > 3 && id != "a" ? 4 : 3);
    report.synced = true;
    report.backend = {"redis", true, "", "run", "7.0.15", 1, true, ""};
    report.number = ++number;
    keeper->OnHeartbeat(proxy, report, reactor.Now());
    CHECK(proxy.last.number == number);
    return proxy.last;
  }
  // The others go on while a is silent; ends at the moment at which a's lease has run out.
  void LetLeaseOfARunOut() {
    for (int i = 0; i < 10; ++i) {
      CHECK(etcd.held.empty());
      reactor.Advance(kLease / 10);
      if (i < 9) Beat("b"), Beat("c");
    }
  }
  // a is back at once, and etcd tells nothing for long; ends when it has been asked again.
  HeldEtcd::Held LetItsRemovalHang(const std::function<void()>& meanwhile = [] {}) {
    auto removal = etcd.Take();
    for (int i = 0; i < 50; ++i) {
      for (const char* id : {"a", "b", "c"}) CHECK((Beat(id).lease == kLease) == (*id != 'a'));
      reactor.Advance(milliseconds(100));
    }
    meanwhile();
    Beat("a");
    removal.done(tl::unexpected(etcd::Failure{true, "timed out"}));
    reactor.Advance(milliseconds(100));
    return removal;
  }
  ChainRecord Recorded() {
    const auto record = DecodeRecord(etcd.store.at("chain").value);
    return record ? *record : ChainRecord{};
  }

  TurnedReactor reactor;
  HeldEtcd etcd;
  Leading leading;
  std::map<std::string, Proxy> proxies;
  std::unique_ptr<ChainKeeper> keeper;
  uint64_t number = 0;
};

TEST_CASE_FIXTURE(Fixture, "a removal is proposed at the very end of the lease, and told to all") {
  LetLeaseOfARunOut();
  REQUIRE(etcd.held.size() == 1);
  etcd.Answer();
  CHECK(Recorded().configuration.epoch == Epoch(4));
  CHECK(Recorded().configuration.members.size() == 2);
  for (const char* id : {"a", "b", "c"}) {
    REQUIRE(proxies.at(id).pushed.has_value());
    CHECK(proxies.at(id).pushed->configuration->epoch == Epoch(4));
    CHECK(proxies.at(id).pushed->incarnation_void == (*id == 'a'));
  }
}

TEST_CASE_FIXTURE(Fixture, "S16 from proposal to certain failure: no lease for the removed") {
  LetLeaseOfARunOut();
  REQUIRE(etcd.held.size() == 1);
  CHECK(Beat("a").lease == Duration(0));
  CHECK(Beat("b").lease == kLease);

  auto unknown = etcd.Take();
  unknown.done(tl::unexpected(etcd::Failure{true, "timed out"}));
  CHECK(Beat("a").lease == Duration(0));
  reactor.Advance(milliseconds(100));
  REQUIRE(etcd.held.size() == 1);  // sent again, unchanged
  CHECK(etcd.held.front().txn.puts[0].value == unknown.txn.puts[0].value);
  CHECK(Beat("a").lease == Duration(0));

  auto unsent = etcd.Take();
  unsent.done(tl::unexpected(etcd::Failure{true, "timed out"}));
  reactor.Advance(milliseconds(100));
  // Both earlier ones happen late, one after the other; the third is refused and shows it.
  CHECK(etcd.Execute(unknown.txn).succeeded);
  CHECK_FALSE(etcd.Execute(unsent.txn).succeeded);
  etcd.Answer();
  CHECK(leading.over.empty());
  const HeartbeatAnswer answer = Beat("a");
  CHECK(answer.lease == Duration(0));
  CHECK(answer.incarnation_void);
  REQUIRE(answer.configuration.has_value());
  CHECK(answer.configuration->epoch == Epoch(4));
}

TEST_CASE_FIXTURE(
    Fixture, "S16 a sending that certainly failed says nothing about an earlier one that may not") {
  LetLeaseOfARunOut();
  const auto unknown = etcd.Take();
  unknown.done(tl::unexpected(etcd::Failure{true, "the connection broke"}));
  reactor.Advance(milliseconds(100));
  etcd.Take().done(tl::unexpected(etcd::Failure{false, "cannot connect"}));
  CHECK(Beat("a").lease == Duration(0));
  CHECK(etcd.Execute(unknown.txn).succeeded);
  CHECK(Beat("a").lease == Duration(0));
  reactor.Advance(milliseconds(100));
  REQUIRE(etcd.held.size() == 1);
  CHECK(etcd.held.front().txn.puts[0].value == unknown.txn.puts[0].value);
  etcd.Answer();
  CHECK(leading.over.empty());
  CHECK(Beat("a").incarnation_void);
}

TEST_CASE_FIXTURE(Fixture, "S16 a removal of unknown fate is withdrawn when its member lives") {
  const std::string before = etcd.store.at("chain").value;
  LetLeaseOfARunOut();
  const auto removal = LetItsRemovalHang();
  const auto withdrawal = etcd.Take();
  CHECK(withdrawal.txn.puts.size() == 1);
  CHECK(withdrawal.txn.puts[0].value == EncodeRecord(Recorded()));
  CHECK(Beat("a").lease == Duration(0));
  SUBCASE("in time") {
    withdrawal.done(etcd.Execute(withdrawal.txn));
    CHECK_FALSE(etcd.Execute(removal.txn).succeeded);
    CHECK(Beat("a").lease == kLease);
  }
  SUBCASE("in time, as a later sending shows") {
    withdrawal.done(tl::unexpected(etcd::Failure{true, "timed out"}));
    CHECK(Beat("a").lease == Duration(0));
    reactor.Advance(milliseconds(100));
    CHECK(etcd.Execute(withdrawal.txn).succeeded);
    CHECK_FALSE(etcd.Execute(removal.txn).succeeded);
    etcd.Answer();
    CHECK(Beat("a").lease == kLease);
  }
  SUBCASE("too late") {
    CHECK(etcd.Execute(removal.txn).succeeded);
    withdrawal.done(etcd.Execute(withdrawal.txn));
    CHECK(Beat("a").incarnation_void);
    CHECK(keeper->events().events.size() == 1);
    CHECK(leading.over.empty());
    return;
  }
  CHECK(leading.over.empty());
  CHECK(etcd.store.at("chain").value == before);
  CHECK(keeper->events().events.empty());
  // It may go all the same, later.
  Beat("c"), Beat("a", ReportPhase::kResigning);
  reactor.Advance(milliseconds(1));
  Beat("b");
  etcd.Answer();
  CHECK(Recorded().configuration.members.size() == 2);
}

TEST_CASE_FIXTURE(Fixture,
                  "S13 a removal of unknown fate needs one who stays when it is sent again") {
  LetLeaseOfARunOut();
  // a is back; then those who were to stay lose their databases.
  LetItsRemovalHang([this] {
    for (const char* id : {"b", "c"}) Beat(id, ReportPhase::kResigning);
  });
  etcd.Answer();
  Beat("a");
  etcd.Answer();
  REQUIRE(Recorded().configuration.members.size() == 1);
  CHECK(Recorded().configuration.members[0].id == "a");
}

TEST_CASE_FIXTURE(
    Fixture, "S16 once a proposal has certainly failed, a node that is back is granted again") {
  LetLeaseOfARunOut();
  etcd.Take().done(tl::unexpected(etcd::Failure{false, "not sent"}));
  CHECK(Beat("a").lease == kLease);
  reactor.Advance(milliseconds(100));
  CHECK(etcd.held.empty());  // it lives: nobody removes it any more
  CHECK(Recorded().configuration.epoch == Epoch(3));
}

TEST_CASE_FIXTURE(Fixture, "a proposal after a certain failure is sent once") {
  LetLeaseOfARunOut();
  etcd.Take().done(tl::unexpected(etcd::Failure{false, "not sent"}));
  Beat("c", ReportPhase::kResigning);  // news: it is not only the retry that decides anew
  reactor.Advance(milliseconds(1));
  REQUIRE(etcd.held.size() == 1);
  reactor.Advance(milliseconds(100));
  REQUIRE(etcd.held.size() == 1);
  etcd.Answer();
  CHECK(leading.over.empty());
  CHECK(Recorded().configuration.epoch == Epoch(4));
}

TEST_CASE_FIXTURE(
    Fixture,
    "S17 a lease that is raised again is not granted while a record says less, in flight") {
  constexpr Duration kLong = 5 * kLease;
  const auto beat_all = [this] {
    for (const char* id : {"a", "b", "c"}) Beat(id);
  };
  keeper->Reconfigure(OptionsWith(kLong));
  etcd.Answer();
  CHECK(Recorded().lease == kLong);
  keeper->Reconfigure(OptionsWith(kLease));
  for (int i = 0; i < 60; ++i) reactor.Advance(kLease / 10), beat_all();
  CHECK(etcd.held.empty());
  // The next record says less again, and its fate is unknown when more is wished.
  Beat("c", ReportPhase::kResigning);
  reactor.Advance(milliseconds(1));
  Beat("b");
  const auto unknown = etcd.Take();
  unknown.done(tl::unexpected(etcd::Failure{true, "timed out"}));
  keeper->Reconfigure(OptionsWith(kLong));
  CHECK(Beat("a").lease == kLease);
  CHECK(etcd.Execute(unknown.txn).succeeded);
  CHECK(Recorded().lease == kLease);
  CHECK(Beat("a").lease == kLease);  // as long as a leader that finds this record waits
  reactor.Advance(milliseconds(100));
  etcd.Answer();
  CHECK(Beat("a").lease == kLease);
  etcd.Answer();
  CHECK(Recorded().lease == kLong);
  CHECK(Beat("a").lease == kLong);
}

TEST_CASE_FIXTURE(Fixture, "a transaction that finds another leader ends the leadership") {
  LetLeaseOfARunOut();
  etcd.store.at("leader").create_revision = 99;
  etcd.Answer();
  CHECK_FALSE(leading.over.empty());
  CHECK(Recorded().configuration.epoch == Epoch(3));
  CHECK(Beat("b").configuration->epoch == Epoch(3));
}

TEST_CASE_FIXTURE(Fixture,
                  "a record from before the one in force ends the leadership, not a member") {
  ChainRecord restored = Recorded();
  restored.configuration.epoch = Epoch(2);
  restored.configuration.members.pop_back();  // c joined later
  LetLeaseOfARunOut();
  etcd.Put("chain", EncodeRecord(restored));
  etcd.Answer();
  CHECK_FALSE(leading.over.empty());
  CHECK_FALSE(Beat("c").incarnation_void);
  CHECK(Beat("c").configuration->epoch == Epoch(3));
}

TEST_CASE_FIXTURE(Fixture,
                  "what etcd has lost is not forgotten when its last witness begins anew") {
  Proxy proxy(90);
  NodeReport report;
  report.cluster = "k";
  report.chain = "x";
  report.node = "b";
  report.incarnation = Incarnation(20);
  report.phase = ReportPhase::kMember;
  report.epoch = Epoch(5);
  keeper->OnHeartbeat(proxy, report, reactor.Now());
  CHECK(Beat("a").lease == Duration(0));
  report.incarnation = Incarnation(30);
  report.phase = ReportPhase::kCandidate;
  report.epoch = Epoch(0);
  keeper->OnHeartbeat(proxy, report, reactor.Now());
  CHECK(Beat("a").lease == Duration(0));
  for (int i = 0; i < 30; ++i) {
    reactor.Advance(kLease / 10);
    Beat("a"), Beat("c");
  }
  CHECK(etcd.held.empty());  // else b would be removed
  CHECK(keeper->Status(reactor.Now()).needs_operator);
}

TEST_CASE_FIXTURE(Fixture, "a leader that does not trust itself grants nothing") {
  leading.trusted = false;
  CHECK(Beat("b").lease == Duration(0));
  leading.trusted = true;
  CHECK(Beat("b").lease == kLease);
}

TEST_CASE_FIXTURE(Fixture, "a leader that trusts itself again lets the members find it again") {
  // As a leader without trust it told all of them to look elsewhere.
  leading.trusted = false;
  for (const char* id : {"a", "b", "c"}) {
    keeper->OnGone(proxies.at(id), id, Incarnation(10));
  }
  reactor.Advance(3 * kLease);
  leading.trusted = true;
  keeper->OnTrustedAgain();
  for (int i = 0; i < 10; ++i) {
    CHECK(Beat("b").lease == kLease);
    if (i > 4) Beat("c");
    reactor.Advance(kLease / 10);
    CHECK(etcd.held.empty());
  }
  reactor.Advance(milliseconds(1));
  Beat("b");
  REQUIRE(etcd.held.size() == 1);
  etcd.Answer();
  CHECK(Recorded().configuration.members.size() == 2);  // a did not come
}

TEST_CASE_FIXTURE(
    Fixture, "a leader that heard nobody for a while takes nobody for failed because of that") {
  // It stood still, or the network kept all of them from it. b is the first that it hears.
  reactor.Advance(2 * kLease);
  CHECK(Beat("b").lease == kLease);
  CHECK(etcd.held.empty());
  Beat("c");
  for (int i = 0; i < 10; ++i) {
    reactor.Advance(kLease / 10);
    CHECK(etcd.held.empty());
    Beat("b"), Beat("c");
  }
  reactor.Advance(milliseconds(1));
  Beat("b");
  REQUIRE(etcd.held.size() == 1);
  etcd.Answer();
  CHECK(Recorded().configuration.members.size() == 2);  // a was silent on
}

TEST_CASE_FIXTURE(Fixture, "a new leader grants at once and removes nobody for a whole lease") {
  Lead();
  proxies.clear();
  CHECK(Beat("b").lease == kLease);
  for (int i = 0; i < 9; ++i) {
    reactor.Advance(kLease / 10);
    Beat("b"), Beat("c");
    CHECK(etcd.held.empty());
  }
  reactor.Advance(kLease / 10);
  CHECK(etcd.held.empty());
  reactor.Advance(milliseconds(1));
  Beat("b");  // heard after the failure is certain
  REQUIRE(etcd.held.size() == 1);
  etcd.Answer();
  CHECK(Recorded().configuration.members[0].id == "b");
}

TEST_CASE_FIXTURE(Fixture,
                  "a choice is answered when it is in force, others get no lease meanwhile") {
  std::string outcome = "pending";
  keeper->Choose("b",
                 [&](Result<bool> result) { outcome = result ? "done" : result.error().message; });
  for (int i = 0; i < 9; ++i) {
    reactor.Advance(kLease / 10);
    CHECK(Beat("a").lease == Duration(0));
    CHECK(Beat("b").lease == kLease);
    CHECK(Beat("c").lease == Duration(0));
    CHECK(etcd.held.empty());
    CHECK(outcome == "pending");
  }
  reactor.Advance(kLease / 10);
  etcd.Answer();
  CHECK(outcome == "done");
  CHECK(Recorded().configuration.members.size() == 1);
  CHECK(Recorded().configuration.members[0].incarnation == Incarnation(10));
}

TEST_CASE_FIXTURE(Fixture,
                  "a choice that cannot be followed ends with the reason, and is forgotten") {
  std::string outcome = "pending";
  auto done = [&](Result<bool> result) { outcome = result ? "done" : result.error().message; };
  keeper->Choose("x", done);
  CHECK(outcome == "chain 'x' has no node 'x'");
  keeper->OnGone(proxies.at("c"), "c", Incarnation(10));
  keeper->Choose("c", done);
  for (int i = 0; i < 101; ++i) {
    reactor.Advance(milliseconds(100));
    Beat("a"), Beat("b");
  }
  CHECK(outcome == "not done: node 'c', chosen by an operator, to report");
  CHECK(Beat("a").lease == kLease);
  keeper->Choose("c", done);
  keeper.reset();
  CHECK(outcome == "not done: this coordinator leads no longer");
}

TEST_CASE_FIXTURE(Fixture, "what may be done after all is not told to be not done") {
  std::string outcome = "pending";
  auto done = [&](const Result<bool>& result) {
    outcome = result ? "done" : result.error().message;
  };
  const auto wait = [this] {
    for (int i = 0; i < 101; ++i) {
      reactor.Advance(milliseconds(100));
      for (const char* id : {"a", "b", "c"}) Beat(id);
    }
  };
  keeper->Wish({{"c", false, ""}, /*end=*/false, /*force=*/true}, done);
  REQUIRE(etcd.held.size() == 1);
  wait();
  CHECK(outcome.starts_with("not known"));
  etcd.Answer();
  CHECK(Recorded().drains.size() == 1);

  outcome = "pending";
  keeper->Choose("b", done);
  wait();
  CHECK(outcome.starts_with("not known"));
  etcd.Answer();
  CHECK(Recorded().configuration.members.size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "a choice in whose place another is made may be done after all") {
  std::string first = "pending";
  keeper->Choose(
      "b", [&](const Result<bool>& result) { first = result ? "done" : result.error().message; });
  for (int i = 0; i < 11; ++i) {
    reactor.Advance(milliseconds(100));
    Beat("b");
  }
  REQUIRE(etcd.held.size() == 1);
  keeper->Choose("c", [](const Result<bool>&) {});
  CHECK(first.starts_with("not known yet: another choice was made"));
  etcd.Answer();
  CHECK(Recorded().configuration.members.size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "a wish that etcd could not be told is not told to have met changes") {
  std::string choice = "pending", wish = "pending";
  const auto answered = [](std::string& outcome) {
    return [&outcome](const Result<bool>& result) {
      outcome = result ? "done" : result.error().message;
    };
  };
  keeper->Wish({{"c", false, ""}, /*end=*/false, /*force=*/true}, answered(wish));
  for (int i = 0; i < 250; ++i) {
    while (!etcd.held.empty()) {
      etcd.Take().done(tl::unexpected(etcd::Failure{false, "connection refused"}));
    }
    reactor.Advance(milliseconds(50));
    for (const char* id : {"a", "b", "c"}) Beat(id);
    if (i == 210) keeper->Choose("b", answered(choice));
  }
  CHECK(wish == "not done: etcd does not take it (connection refused)");
  for (int i = 0; i < 200; ++i) {
    while (!etcd.held.empty()) {
      etcd.Take().done(tl::unexpected(etcd::Failure{false, "connection refused"}));
    }
    reactor.Advance(milliseconds(50));
    Beat("b");
  }
  CHECK(choice == "not done: etcd does not take it (connection refused)");
}

TEST_CASE_FIXTURE(Fixture, "a chain whose record etcd does not take is told to wait for that") {
  CHECK(keeper->Status(reactor.Now()).waiting_for.empty());
  LetLeaseOfARunOut();
  CHECK(keeper->Status(reactor.Now()).waiting_for.empty());
  etcd.Take().done(tl::unexpected(etcd::Failure{true, "HTTP 429: database space exceeded"}));
  const std::string told = "etcd to take the chain's record: HTTP 429: database space exceeded";
  CHECK(keeper->Status(reactor.Now()).waiting_for == told);
  reactor.Advance(milliseconds(100));
  CHECK(keeper->Status(reactor.Now()).waiting_for == told);
  etcd.Answer();
  CHECK(keeper->Status(reactor.Now()).waiting_for.empty());
}

TEST_CASE_FIXTURE(Fixture, "what certainly was not written is told to be not done") {
  LetLeaseOfARunOut();
  REQUIRE(etcd.held.size() == 1);  // the removal of a
  std::string choice = "pending", wish = "pending";
  const auto answered = [](std::string& outcome) {
    return [&outcome](const Result<bool>& result) {
      outcome = result ? "done" : result.error().message;
    };
  };
  keeper->Choose("b", answered(choice));
  keeper->Wish({{"c", false, ""}, /*end=*/false, /*force=*/true}, answered(wish));
  for (int i = 0; i < 101; ++i) {
    reactor.Advance(milliseconds(100));
    for (const char* id : {"b", "c"}) Beat(id);
  }
  CHECK(choice == "not done: etcd does not answer");
  CHECK(wish == "not done: etcd does not answer");
  etcd.Answer();
  CHECK(etcd.held.empty());
  CHECK(Recorded().configuration.members.size() == 2);
  CHECK(Recorded().drains.empty());
}

TEST_CASE_FIXTURE(Fixture, "a wish is answered when it stands in the record, and then followed") {
  std::string outcome = "pending";
  auto done = [&](const Result<bool>& result) {
    outcome = result ? "done" : result.error().message;
  };
  keeper->Wish({{"z", false, ""}, false, false}, done);
  CHECK(outcome == "chain 'x' has no node 'z'");
  outcome = "pending";
  keeper->Wish({{"a", false, ""}, false, false}, done);
  CHECK(outcome == "pending");
  CHECK(Beat("a").drain.empty());
  etcd.Answer();
  CHECK(outcome == "done");
  REQUIRE(Recorded().drains.size() == 1);
  CHECK(Recorded().configuration.epoch == Epoch(3));
  CHECK(proxies.at("a").pushed->drain == "an operator drains it");
  CHECK(Beat("b").drain.empty());
  Beat("a", ReportPhase::kResigning);
  reactor.Advance(milliseconds(1));
  Beat("b");
  etcd.Answer();
  CHECK(Recorded().configuration.members.size() == 2);
  CHECK(Recorded().drains.size() == 1);
  keeper->Wish({{"a", false, ""}, /*end=*/true, false}, done);
  keeper.reset();
  CHECK(outcome.starts_with("not known yet: this coordinator leads no longer"));
}

TEST_CASE_FIXTURE(Fixture,
                  "S1 a drain is not gone on with beside those who fail while etcd is slow") {
  keeper->Wish({{"c", false, ""}, false, false}, [](const Result<bool>&) {});
  etcd.Answer();
  CHECK_FALSE(Beat("c").drain.empty());
  keeper->Reconfigure(OptionsWith(2 * kLease));
  REQUIRE(etcd.held.size() == 1);  // the record is to say so
  CHECK_FALSE(Beat("c").drain.empty());
  for (const char* id : {"a", "b"}) Beat(id, ReportPhase::kResigning);
  CHECK(Beat("c").drain.empty());
}

TEST_CASE_FIXTURE(Fixture, "the history comes with the record, survives leaders, and is bounded") {
  LetLeaseOfARunOut();
  REQUIRE(etcd.held.size() == 1);
  CHECK(etcd.held.front().txn.puts.size() == 2);
  CHECK(keeper->events().events.empty());
  etcd.Answer();
  REQUIRE(keeper->events().events.size() == 1);
  const Event event = keeper->events().events[0];
  CHECK(event.epoch == Epoch(4));
  CHECK(event.members == std::vector<NodeId>{"b", "c"});
  CHECK(event.reason == Recorded().reason);
  Lead();
  REQUIRE(keeper->events().events.size() == 1);
  CHECK(keeper->events().events[0] == event);
  etcd.Put("events", "nonsense");
  Lead();
  CHECK(keeper->events().events.empty());
  EventHistory history;
  for (uint64_t i = 1; i <= 250; ++i) history.Add({0, Epoch(i), {}, ""});
  CHECK(history.events.size() == EventHistory::kMax);
  CHECK(history.events.front().epoch == Epoch(151));
}

TEST_CASE_FIXTURE(Fixture, "the newest connection of a node replaces its older one") {
  Proxy again(77);
  NodeReport report;
  report.chain = "x";
  report.node = "a";
  report.incarnation = Incarnation(10);
  report.phase = ReportPhase::kMember;
  report.epoch = Epoch(3);
  report.synced = true;
  keeper->OnHeartbeat(again, report, reactor.Now());
  CHECK_FALSE(proxies.at("a").dropped.empty());
  keeper->OnGone(proxies.at("a"), "a", Incarnation(10));
  CHECK(keeper->Status(reactor.Now()).nodes[0].notice.empty());
  keeper->OnGone(again, "a", Incarnation(10));
  CHECK(keeper->Status(reactor.Now()).nodes[0].notice == "its connection is broken");
}

TEST_CASE_FIXTURE(Fixture, "a record that cannot be read is never overwritten") {
  etcd.Put("chain", "{\"from\": \"the future\"}");
  Lead();
  proxies.clear();
  const HeartbeatAnswer answer = Beat("b", ReportPhase::kCandidate);
  CHECK(answer.lease == Duration(0));
  CHECK(answer.notice.find("cannot be read") != std::string::npos);
  reactor.Advance(milliseconds(60'000));
  CHECK(etcd.held.empty());
}

}  // namespace
}  // namespace catena::coordinator
