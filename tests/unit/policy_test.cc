// The policy as stories named after the schedules that they close, and its rules over all small
// states.
#include "coordinator/policy.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

namespace catena::coordinator {
namespace {

using chain::Configuration;
using chain::Member;
using std::chrono::milliseconds;

constexpr Incarnation kOld(10);
constexpr Incarnation kNew(20);
constexpr Duration kLease = milliseconds(1000);
constexpr Duration kSilence = milliseconds(500);

TimePoint At(int64_t ms) { return TimePoint(milliseconds(ms)); }

// A cluster of nodes a, b, c as the leader sees it at t = 100 s, in the words of the stories.
class World {
 public:
  World() {
    input_.facts.chain = "x";
    input_.facts.replicas = 3;
    for (const char* id : {"a", "b", "c"}) input_.facts.nodes.push_back({id, false});
    input_.now = now_;
    input_.leader_since = At(0);
    input_.removals_from = At(1000);
    input_.lease = kLease;
    input_.silence = kSilence;
    input_.settling = milliseconds(3000);
    input_.link_grace = milliseconds(2000);
    input_.introduction = milliseconds(1600);
  }

  PolicyInput& input() { return input_; }
  TimePoint now() const { return now_; }

  // A configuration of old incarnations, all of them alive, synced and heard just now.
  World& Chain(const std::string& ids, uint64_t epoch = 5) {
    ChainRecord record;
    record.configuration.chain = "x";
    record.configuration.epoch = Epoch(epoch);
    record.lease = kLease;
    record.head_complete = true;
    for (char id : ids) {
      record.configuration.members.push_back(
          {std::string(1, id), kOld, "clients", "peers", RunOf(id)});
      record.known.push_back({std::string(1, id), AddressOf(id), kOld});
    }
    std::sort(record.known.begin(), record.known.end(),
              [](const auto& a, const auto& b) { return a.node < b.node; });
    input_.record = record;
    for (char id : ids) AddMember(id);
    return *this;
  }

  Life& AddMember(char id) {
    NodeReport report = Report(id, kOld);
    report.phase = ReportPhase::kMember;
    report.epoch = input_.record ? input_.record->configuration.epoch : Epoch(5);
    report.synced = true;
    report.keeps_log = true;
    report.backend.from_chain = true;
    report.backend.keys = 9;
    Life& life = Add(report);
    life.lease_out = now_ + kLease;
    return life;
  }
  // A proxy that is no member: a new incarnation with an empty database.
  Life& AddCandidate(char id, Incarnation incarnation = kNew) {
    NodeReport report = Report(id, incarnation);
    report.phase = ReportPhase::kCandidate;
    return Add(report);
  }

  Life& Of(char id, Incarnation incarnation = kOld) {
    for (Life& life : input_.lives) {
      if (life.node[0] == id && life.incarnation == incarnation) return life;
    }
    REQUIRE(false);
    return input_.lives[0];
  }
  NodeReport& ReportOf(char id, Incarnation incarnation = kOld) {
    return *Of(id, incarnation).report;
  }

  // Cut off for so long that its lease is over.
  World& Dead(char id) {
    Life& life = Of(id);
    life.connected = false;
    life.heard = now_ - milliseconds(1500);
    life.failed_since = now_ - milliseconds(1400);
    life.lease_out = now_ - milliseconds(1);
    return *this;
  }
  // Its proxy was started again: the old life is over as far as that can be known.
  Life& Restarted(char id) {
    Dead(id);
    Life& life = AddCandidate(id);
    life.report->backend.from_chain = true;
    life.report->backend.keys = 9;
    return life;
  }
  World& Resigned(char id) {
    Life& life = Of(id);
    life.resigned = true;
    life.failed_since = now_ - milliseconds(50);
    life.report->phase = ReportPhase::kResigning;
    return *this;
  }
  World& Offer(char tail, char joiner, Incarnation incarnation = kNew) {
    ReportOf(tail).joiner_ready =
        JoinerReady{std::string(1, joiner), incarnation, input_.record->configuration.epoch};
    return *this;
  }

  // An operator's wish that stands in the record.
  World& Drained(char id, bool returns = false, const std::string& after = "") {
    input_.record->drains.push_back({std::string(1, id), returns, after});
    return *this;
  }
  // What an operator is told who wishes that.
  std::string Wish(const DrainRequest& request) {
    input_.wish = request;
    const Decision decision = Decide();
    if (!decision.wish_refused.empty()) return decision.wish_refused;
    if (decision.wish_done) return "stands";
    return decision.next && decision.next->drains != input_.record->drains ? "written" : "pending";
  }
  // Whom the leader asks to leave; "" nobody.
  std::string Leaving() const {
    const Decision decision = Decide();
    return decision.drain ? decision.drain->node : "";
  }

  Decision Decide() const { return coordinator::Decide(input_); }
  // The members of the next configuration as "ab", new incarnations as capitals; "-" no change.
  std::string Next() const {
    const Decision decision = Decide();
    if (!decision.next) return "-";
    if (input_.record && decision.next->configuration == input_.record->configuration) return "-";
    std::string text;
    for (const Member& member : decision.next->configuration.members) {
      text += member.incarnation == kOld ? member.id[0] : static_cast<char>(member.id[0] - 32);
    }
    return text;
  }
  std::string NoticeOf(const std::string& id) const {
    for (const auto& notice : Decide().notices) {
      if (notice.node == id) return notice.text;
    }
    return "";
  }

  static std::string RunOf(char id) { return std::string("run-") + id; }
  static std::string AddressOf(char id) { return std::string(1, id) + ":6379"; }

 private:
  NodeReport Report(char id, Incarnation incarnation) {
    NodeReport report;
    report.chain = "x";
    report.node = std::string(1, id);
    report.incarnation = incarnation;
    report.clients = "clients";
    report.peers = "peers";
    report.backend = {"redis", true, "", RunOf(id), "7.0.15", 0, false, AddressOf(id)};
    return report;
  }
  Life& Add(const NodeReport& report) {
    Life life;
    life.node = report.node;
    life.incarnation = report.incarnation;
    life.report = report;
    life.heard = now_;
    life.connected = true;
    life.lease_out = At(0);
    input_.lives.push_back(life);
    std::sort(input_.lives.begin(), input_.lives.end(), [](const Life& a, const Life& b) {
      return std::pair(a.node, a.incarnation) < std::pair(b.node, b.incarnation);
    });
    return Of(report.node[0], report.incarnation);
  }

  PolicyInput input_;
  TimePoint now_ = At(100'000);
};

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// --- the first configuration ---------------------------------------------------------------------

TEST_CASE("first configuration: the TOML's first node alone, once all have reported") {
  World world;
  world.input().now = At(10);
  for (char id : {'c', 'b', 'a'}) world.AddCandidate(id).heard = At(5);
  const Decision decision = world.Decide();
  REQUIRE(decision.next.has_value());
  CHECK(world.Next() == "A");
  CHECK(decision.next->configuration.epoch == Epoch(1));
  CHECK(decision.next->lease == kLease);
  CHECK(decision.next->head_complete);
  CHECK(decision.next->configuration.members[0].backend_run_id == "run-a");
}

TEST_CASE("first configuration: silent nodes are waited for, but not for ever") {
  World world;
  world.AddCandidate('b');
  world.input().now = At(2999);
  world.Of('b', kNew).heard = At(2990);
  CHECK(world.Next() == "-");
  CHECK(world.Decide().look_again == At(3000));
  CHECK(Contains(world.Decide().waiting_for, "first reports"));
  world.input().now = At(3000);
  CHECK(world.Next() == "B");
}

TEST_CASE("first configuration: a first node that is still loading its data is waited for") {
  World world;
  world.AddCandidate('a').report->phase = ReportPhase::kStarting;
  world.AddCandidate('b');
  CHECK(world.Next() == "-");
  CHECK(Contains(world.Decide().waiting_for, "node 'a'"));
  world.ReportOf('a', kNew).phase = ReportPhase::kCandidate;
  world.ReportOf('a', kNew).backend.healthy = false;
  world.ReportOf('a', kNew).backend.problem = "LOADING";
  CHECK(world.Next() == "-");
  CHECK(Contains(world.Decide().waiting_for, "LOADING"));
  world.ReportOf('a', kNew).backend.healthy = true;
  CHECK(world.Next() == "A");
}

TEST_CASE(
    "first configuration: a first node that reported a moment ago is waited for, not for ever") {
  World world;
  world.AddCandidate('a').report->phase = ReportPhase::kStarting;
  world.AddCandidate('b');
  world.Of('a', kNew).connected = false;
  world.Of('a', kNew).heard = world.now() - milliseconds(1599);
  CHECK(world.Next() == "-");
  CHECK(Contains(world.Decide().waiting_for, "node 'a'"));
  CHECK(world.Decide().look_again == world.now() + milliseconds(1));
  world.Of('a', kNew).heard = world.now() - milliseconds(1600);
  CHECK(world.Next() == "B");
}

TEST_CASE(
    "first configuration: the TOML decides whose data it begins with, the key count does not") {
  World world;
  world.AddCandidate('a');
  world.AddCandidate('b').report->backend.keys = 1000;
  world.AddCandidate('c');
  CHECK(world.Next() == "A");
}

TEST_CASE("etcd was lost: no first configuration while any node holds a chain's data") {
  for (int trace = 0; trace < 3; ++trace) {
    World world;
    for (char id : {'a', 'b', 'c'}) world.AddCandidate(id);
    NodeReport& report = world.ReportOf('c', kNew);
    if (trace == 0) report.epoch = Epoch(3);
    if (trace == 1) report.backend.from_chain = true;
    if (trace == 2) report.keeps_log = true;
    CHECK(world.Next() == "-");
    const std::string sign = trace == 0 ? "has seen epoch 3" : "holds a chain's data";
    CHECK(Contains(world.Decide().waiting_for, "node 'c' " + sign));
    CHECK(Contains(world.Decide().waiting_for, "catenactl choose x"));
    world.input().choice = "b";
    CHECK(world.Next() == "B");
    CHECK(world.Decide().next->configuration.epoch == Epoch(trace == 0 ? 4 : 1));
  }
}

TEST_CASE("etcd came back older than the nodes: nothing happens without an operator") {
  World world;
  world.Chain("abc", 5);
  world.ReportOf('a').epoch = Epoch(7);
  world.Dead('b');
  CHECK(world.Next() == "-");
  CHECK(Contains(world.Decide().waiting_for, "epoch 7"));
  for (char id : {'b', 'c'}) world.Dead(id);
  world.input().choice = "a";
  CHECK(world.Next() == "a");
  CHECK(world.Decide().next->configuration.epoch == Epoch(8));
}

// --- removal -------------------------------------------------------------------------------------

TEST_CASE("a dead member goes, the order of the others stays, the epoch grows by one") {
  for (const auto& [dead, next] :
       std::vector<std::pair<char, std::string>>{{'a', "bc"}, {'b', "ac"}, {'c', "ab"}}) {
    World world;
    world.Chain("abc").Dead(dead);
    CHECK(world.Next() == next);
    CHECK(world.Decide().next->configuration.epoch == Epoch(6));
    CHECK(world.Decide().next->head_complete == (dead != 'a'));
  }
}

TEST_CASE("several dead members go in one change") {
  World world;
  world.Chain("abc").Dead('a').Dead('c');
  CHECK(world.Next() == "b");
}

TEST_CASE("S1 a removal leaves a synced member") {
  World world;
  world.Chain("ab").Dead('a');
  world.ReportOf('b').synced = false;
  CHECK(world.Next() == "-");
  world.ReportOf('b').synced = true;
  CHECK(world.Next() == "b");
  // Synced in another epoch says nothing about this one.
  world.ReportOf('b').epoch = Epoch(4);
  CHECK(world.Next() == "-");
}

TEST_CASE("S2 one join at a time, and none behind a member that is not synced") {
  World world;
  world.Chain("ab");
  world.AddCandidate('c');
  world.ReportOf('b').synced = false;
  CHECK_FALSE(world.Decide().join.has_value());
  world.Offer('b', 'c');
  CHECK(world.Next() == "-");
  world.ReportOf('b').synced = true;
  CHECK(world.Next() == "abC");
}

TEST_CASE("S3 a removed incarnation is never listed again") {
  World world;
  world.Chain("ab");
  world.AddCandidate('c', kOld).is_void = true;
  CHECK_FALSE(world.Decide().join.has_value());
  world.Offer('b', 'c', kOld);
  CHECK(world.Next() == "-");
  world.AddCandidate('c', kNew);
  REQUIRE(world.Decide().join.has_value());
  CHECK(world.Decide().join->incarnation == kNew);
  world.Offer('b', 'c', kOld);
  CHECK(world.Next() == "-");
  world.Offer('b', 'c', kNew);
  CHECK(world.Next() == "abC");
}

TEST_CASE("S12, S13 all proxies restart: only the last head's unchanged database is complete") {
  World world;
  world.Chain("abc");
  world.Restarted('b');
  for (char id : {'a', 'c'}) world.Dead(id);
  CHECK(world.Next() == "-");  // B' is no proof that c is there
  world.Restarted('c');
  CHECK(world.Next() == "-");
  CHECK(Contains(world.Decide().waiting_for, "waiting for its head 'a'"));
  world.Restarted('a');
  CHECK(world.Next() == "A");
}

TEST_CASE("S13 the one that stays must have been heard after the failure") {
  World world;
  world.Chain("abc").Dead('a');
  for (char id : {'b', 'c'}) world.Of(id).heard = *world.Of('a').failed_since;
  for (char id : {'b', 'c'}) world.Of(id).heard -= milliseconds(1);
  CHECK(world.Next() == "-");
  world.input().silence = milliseconds(5000);  // even if nobody finds them silent
  CHECK(world.Next() == "-");
  world.Of('c').heard = *world.Of('a').failed_since + milliseconds(1);
  CHECK(world.Next() == "bc");
}

TEST_CASE("S13 a new head that dies before it took over is not complete") {
  World world;
  world.Chain("bc");
  world.input().record->head_complete = false;
  world.Restarted('b');
  world.Restarted('c');
  CHECK(world.Next() == "-");
  CHECK(Contains(world.Decide().waiting_for, "had not taken over as head yet"));
}

TEST_CASE("a head becomes complete when it says so, in an epoch of its own") {
  World world;
  world.Chain("bc");
  world.input().record->head_complete = false;
  NodeReport& head = world.ReportOf('b');
  head.received = Position(100);
  head.applied = Position(90);
  CHECK_FALSE(world.Decide().next.has_value());
  head.head_ready = true;
  REQUIRE(world.Decide().next.has_value());
  CHECK(world.Decide().next->head_complete);
  CHECK(world.Next() == "-");
  head.epoch = Epoch(4);
  CHECK_FALSE(world.Decide().next.has_value());
  head.epoch = Epoch(5);
  head.head_ready = false;
  head.applied = Position(100);  // nothing more can arrive: its database has all of its log
  REQUIRE(world.Decide().next.has_value());
  CHECK(world.Decide().next->head_complete);
}

TEST_CASE("S14 a newer incarnation does not shorten the wait for the old one's lease") {
  World world;
  world.Chain("abc");
  world.AddCandidate('a');
  Life& old = world.Of('a');
  old.failed_since = world.now() - milliseconds(10);
  old.is_void = true;
  old.lease_out = world.now() + milliseconds(700);
  CHECK(world.Next() == "-");
  REQUIRE(world.Decide().look_again.has_value());
  old.lease_out = world.now();
  CHECK(world.Next() == "bc");
}

TEST_CASE("the moment of a lease's end is known in advance") {
  World world;
  world.Chain("ab");
  Life& dead = world.Of('b');
  dead.connected = false;
  dead.failed_since = world.now() - milliseconds(10);
  dead.lease_out = world.now() + milliseconds(123);
  world.Of('a').heard = world.now();
  CHECK(world.Next() == "-");
  CHECK(world.Decide().look_again == dead.lease_out);
}

TEST_CASE(
    "S17 a new leader removes nobody before the longest lease is over, but believes a "
    "resignation") {
  World world;
  world.Chain("abc").Dead('a');
  world.input().removals_from = world.now() + milliseconds(1);
  CHECK(world.Next() == "-");
  world.Resigned('a');
  CHECK(world.Next() == "bc");
  world.input().record->lease = milliseconds(9000);
  CHECK(world.Decide().next->lease == milliseconds(9000));  // such leases may still be out
  world.input().removals_from = world.now();
  CHECK(world.Decide().next->lease == kLease);
}

TEST_CASE("members that have not found a new leader yet are given the time to") {
  World world;
  world.Chain("abc");
  world.input().leader_since = world.now() - milliseconds(1500);
  world.input().removals_from = world.now() - milliseconds(500);
  for (char id : {'a', 'b'}) {
    Life& unheard = world.Of(id);
    unheard.report.reset();
    unheard.connected = false;
    unheard.heard = world.input().leader_since;
    unheard.lease_out = world.input().removals_from;
  }
  CHECK(world.Next() == "-");
  World later = world;
  later.input().now += milliseconds(101);
  later.Of('c').heard = later.input().now;
  CHECK(later.Next() == "c");
  // Nor does a last head's new incarnation take over from members that may be well.
  World restarted = world;
  Life& c = restarted.Of('c');
  c.report.reset();
  c.connected = false;
  c.heard = restarted.input().leader_since;
  c.lease_out = restarted.input().removals_from;
  restarted.AddCandidate('a');
  restarted.Of('a').failed_since = restarted.now() - milliseconds(10);
  CHECK(restarted.Next() == "-");
  restarted.input().now += milliseconds(101);
  CHECK(restarted.Next() == "A");
}

TEST_CASE("S17 a longer lease is in the record before it is granted") {
  World world;
  world.Chain("abc");
  world.input().record->lease = milliseconds(100);
  REQUIRE(world.Decide().next.has_value());
  CHECK(world.Next() == "-");
  CHECK(world.Decide().next->lease == kLease);
  CHECK(world.Decide().next->head_complete);
}

TEST_CASE("a resigning member goes at once") {
  World world;
  world.Chain("abc").Resigned('b');
  CHECK(world.Next() == "ac");
  world.Of('a').heard = world.Of('c').heard = world.now() - milliseconds(60);
  CHECK(world.Next() == "-");  // nobody was heard after it
}

TEST_CASE("a member whose database became another process is failing") {
  World world;
  world.Chain("abc");
  world.ReportOf('b').backend.run_id = "other";
  world.Of('b').heard = world.now() - milliseconds(100);
  world.Of('b').lease_out = world.now() + milliseconds(1);
  CHECK(world.Next() == "-");
  world.Of('b').lease_out = world.now();
  CHECK(world.Next() == "ac");
}

TEST_CASE("a living member without a lease is not removed") {
  World world;
  world.Chain("abc");
  world.Of('b').lease_out = At(0);
  CHECK(world.Next() == "-");
}

TEST_CASE("the last member is never removed, whatever it says") {
  World world;
  world.Chain("a").Dead('a');
  CHECK(world.Next() == "-");
  world.Resigned('a');
  CHECK(world.Next() == "-");
}

// --- neighbours that cannot reach each other -----------------------------------------------------

// Who is asked to resign when these links ("ab": between a and b) have been missing for `missing`.
std::string AskedToResign(const std::string& members, const std::vector<std::string>& links,
                          Duration missing = milliseconds(2000), bool told_by_both = true) {
  World world;
  world.Chain(members);
  for (const std::string& link : links) {
    world.Of(link[0]).successor_lost = world.now() - missing;
    if (told_by_both) world.Of(link[1]).predecessor_lost = world.now() - missing;
  }
  const Decision decision = world.Decide();
  CHECK_FALSE(decision.next.has_value());
  return decision.resign ? decision.resign->node : "";
}

TEST_CASE("neighbours that cannot reach each other: one resigns, from the smaller side") {
  CHECK(AskedToResign("ab", {"ab"}) == "b");
  CHECK(AskedToResign("abc", {"ab"}) == "a");
  CHECK(AskedToResign("abc", {"bc"}) == "c");
  CHECK(AskedToResign("abc", {"ab", "bc"}) == "b");
  CHECK(AskedToResign("abc", {"ab"}, milliseconds(2000), /*told_by_both=*/false) == "a");
  CHECK(AskedToResign("abc", {}) == "");
  CHECK(AskedToResign("abc", {"ab"}, milliseconds(1999)) == "");
}

TEST_CASE(
    "neighbours that cannot reach each other: the one between two cuts, whichever was noticed "
    "first") {
  for (const char* first : {"ab", "bc"}) {
    World world;
    world.Chain("abc");
    world.Of('a').successor_lost = world.Of('b').predecessor_lost =
        world.now() - milliseconds(1600);
    world.Of('b').successor_lost = world.Of('c').predecessor_lost =
        world.now() - milliseconds(1600);
    world.Of(first[0]).successor_lost = world.now() - milliseconds(2000);
    REQUIRE(world.Decide().resign.has_value());
    CHECK(world.Decide().resign->node == "b");
  }
}

TEST_CASE("a missing link to a failing or an only synced member is no reason to resign") {
  World world;
  world.Chain("abc");
  world.Of('a').successor_lost = world.now() - milliseconds(5000);
  world.Of('b').connected = false;
  CHECK_FALSE(world.Decide().resign.has_value());
  World lone;
  lone.Chain("ab");
  lone.Of('a').successor_lost = lone.now() - milliseconds(5000);
  lone.ReportOf('b').synced = false;
  REQUIRE(lone.Decide().resign.has_value());
  CHECK(lone.Decide().resign->node == "b");
  lone.ReportOf('b').synced = true;
  lone.ReportOf('a').synced = false;
  CHECK_FALSE(lone.Decide().resign.has_value());
}

// --- nobody is left ------------------------------------------------------------------------------

TEST_CASE("a chain of one goes on when its proxy restarts and its database did not") {
  World world;
  world.Chain("a");
  world.Restarted('a');
  CHECK(world.Next() == "A");
  CHECK(world.Decide().next->head_complete);
  world.ReportOf('a', kNew).backend.run_id = "other";
  CHECK(world.Next() == "-");
  CHECK(Contains(world.Decide().waiting_for, "its database was restarted"));
  CHECK(Contains(world.NoticeOf("a"), "operator"));
}

TEST_CASE("the old incarnation's lease is waited for before the new one leads") {
  World world;
  world.Chain("a");
  world.Restarted('a');
  world.Of('a').lease_out = world.now() + milliseconds(5);
  CHECK(world.Next() == "-");
  CHECK(Contains(world.Decide().waiting_for, "leases"));
}

TEST_CASE("automatic recovery waits until all are back") {
  World world;
  world.input().facts.recovery = Recovery::kAutomatic;
  world.Chain("abc");
  world.Restarted('a').report->backend.run_id = "other";
  world.Restarted('b');
  world.Dead('c');
  CHECK(world.Next() == "-");
  world.Restarted('c').report->backend.healthy = false;
  CHECK(world.Next() == "-");
  world.ReportOf('c', kNew).backend.healthy = true;
  CHECK(world.Next() == "A");
  CHECK(Contains(world.Decide().next->reason, "may be lost"));
}

// All lose their proxies, and each database is at `position` of the chain's history.
void RestartCommittedOnly(World& world, char id, uint64_t position) {
  BackendReport& backend = world.Restarted(id).report->backend;
  backend.committed_only = true;
  backend.replid = "ca7e4a";
  backend.position = Position(position);
}

TEST_CASE("of databases that hold only what is committed, the furthest has all that was read") {
  World world;
  world.Chain("abc");
  RestartCommittedOnly(world, 'a', 100);
  RestartCommittedOnly(world, 'b', 120);
  world.Dead('c');
  CHECK(world.Next() == "-");
  CHECK(Contains(world.Decide().waiting_for, "where newer data may have been read"));
  RestartCommittedOnly(world, 'c', 110);
  CHECK(world.Next() == "B");
  SUBCASE("the head, where it is as far") {
    world.ReportOf('a', kNew).backend.position = Position(120);
    CHECK(world.Next() == "A");
  }
  SUBCASE("not where one was changed") {
    world.ReportOf('c', kNew).backend.run_id = "other";
    CHECK(world.Next() == "-");
  }
  SUBCASE("not where one is of another history") {
    world.ReportOf('c', kNew).backend.replid = "ca7e4b";
    CHECK(world.Next() == "-");
  }
  SUBCASE("not where the head had not taken over yet") {
    world.input().record->head_complete = false;
    CHECK(world.Next() == "-");
  }
}

TEST_CASE("an unsynced member, which has shown nothing, is not waited for where others are back") {
  World world;
  world.Chain("abc");
  RestartCommittedOnly(world, 'a', 100);
  RestartCommittedOnly(world, 'b', 120);
  world.ReportOf('c').synced = false;
  world.Of('c').lease_out = At(0);
  CHECK(world.Next() == "B");
  world.Dead('c');
  CHECK(world.Next() == "-");
}

TEST_CASE("a head that holds only what is committed may lack what those who go have shown") {
  World world;
  world.Chain("abc").Dead('b').Dead('c');
  world.Of('a').heard = world.now();
  NodeReport& head = world.ReportOf('a');
  CHECK(world.Decide().next->head_complete);
  head.backend.committed_only = true;
  const Decision removal = world.Decide();
  REQUIRE(removal.next.has_value());
  CHECK(removal.next->configuration.members.size() == 1);
  CHECK_FALSE(removal.next->head_complete);
  // It says so when it has applied what it had received by then.
  world.input().record = removal.next;
  head.epoch = removal.next->configuration.epoch;
  head.received = Position(200);
  head.applied = Position(100);
  CHECK_FALSE(world.Decide().next.has_value());
  head.head_ready = true;
  REQUIRE(world.Decide().next.has_value());
  CHECK(world.Decide().next->head_complete);
}

TEST_CASE("a lone unsynced member does not keep the last head from returning") {
  World world;
  world.Chain("ab");
  world.ReportOf('b').synced = false;
  world.Of('b').lease_out = At(0);
  world.Restarted('a');
  CHECK(world.Next() == "A");
}

TEST_CASE("a resigned last member with a fit database is asked for a new incarnation") {
  World world;
  world.Chain("a").Resigned('a');
  const Decision decision = world.Decide();
  REQUIRE(decision.voids.size() == 1);
  CHECK(decision.voids[0].second == kOld);
  world.ReportOf('a').backend.healthy = false;
  CHECK(world.Decide().voids.empty());
  // While others can remove it (a node that is being drained), nothing is asked of it.
  World drained;
  drained.Chain("ab").Resigned('b');
  drained.Of('a').heard = drained.now() - milliseconds(60);
  CHECK(drained.Decide().voids.empty());
}

// --- the operator --------------------------------------------------------------------------------

TEST_CASE("a choice is followed once the others cannot serve any more") {
  World world;
  world.Chain("abc");
  world.input().choice = "b";
  CHECK(world.Next() == "-");
  world.Of('a').lease_out = world.Of('c').lease_out = world.now();
  CHECK(world.Next() == "b");
  world.ReportOf('b').synced = false;
  CHECK(world.Next() == "-");
  CHECK(world.Decide().voids.size() == 1);
}

TEST_CASE("a choice waits for leases of members that etcd has lost, too") {
  World world;
  world.Chain("a");
  world.ReportOf('a').epoch = Epoch(7);  // with b, perhaps
  world.input().choice = "a";
  world.input().removals_from = world.now() + milliseconds(300);
  CHECK(world.Next() == "-");
  CHECK(world.Decide().waiting_for == "leases of the other members to run out");
  CHECK(world.Decide().look_again == world.now() + milliseconds(300));
  world.input().removals_from = world.now();
  CHECK(world.Next() == "a");
  CHECK(world.Decide().next->configuration.epoch == Epoch(8));
}

TEST_CASE("a first configuration is not made once a node has told that there was another") {
  World world;
  for (char id : {'a', 'b', 'c'}) world.AddCandidate(id);
  CHECK(world.Next() == "A");
  // b, whose database was restarted since, and shows nothing any more.
  world.input().newest = {"b", Epoch(7)};
  CHECK(world.Next() == "-");
  CHECK(world.Decide().needs_operator);
  CHECK(world.Decide().waiting_for.starts_with(
      "etcd has no configuration, but node 'b' has seen epoch 7"));
  world.input().choice = "b";
  REQUIRE(world.Next() == "B");
  CHECK(world.Decide().next->configuration.epoch == Epoch(8));
}

TEST_CASE("a last head that is back waits for those who may know what etcd has lost") {
  World world;
  world.Chain("a");
  world.Restarted('a');
  world.AddCandidate('b');
  world.input().leader_since = world.now() - milliseconds(1200);
  CHECK(world.Next() == "-");
  CHECK(world.Decide().waiting_for.starts_with("the chain's other nodes to report"));
  CHECK(world.Decide().look_again == world.now() + milliseconds(400));
  SUBCASE("it does not run") {
    world.input().leader_since = world.now() - milliseconds(1600);
    CHECK(world.Next() == "A");
  }
  SUBCASE("it knows nothing else") {
    world.AddCandidate('c');
    CHECK(world.Next() == "A");
  }
  SUBCASE("the chain is its own since then") {
    world.AddMember('c').report->epoch = Epoch(7);
    CHECK(world.Next() == "-");
    CHECK(world.Decide().needs_operator);
  }
}

TEST_CASE("what a node has seen counts when it has begun anew") {
  World world;
  world.Chain("ab");
  world.Restarted('a');
  world.Restarted('b');
  CHECK(world.Next() == "A");
  world.input().newest = {"b", Epoch(7)};
  CHECK(world.Next() == "-");
  CHECK(world.Decide().needs_operator);
  CHECK(world.Decide().waiting_for.starts_with(
      "etcd has epoch 5 of the chain, but node 'b' has seen epoch 7"));
  world.input().choice = "b";
  REQUIRE(world.Next() == "B");
  CHECK(world.Decide().next->configuration.epoch == Epoch(8));
}

TEST_CASE("a choice of a node that came back lists its new incarnation") {
  World world;
  world.Chain("abc");
  for (char id : {'a', 'b', 'c'}) world.Restarted(id).report->backend.run_id = "other";
  world.input().choice = "c";
  CHECK(world.Next() == "C");
  CHECK(world.Decide().next->head_complete);
  world.ReportOf('c', kNew).backend.healthy = false;
  CHECK(world.Next() == "-");
}

TEST_CASE("a choice that is in force already is done") {
  World world;
  world.Chain("b");
  world.input().choice = "b";
  CHECK(world.Decide().choice_done);
  CHECK(world.Next() == "-");
}

// --- joining -------------------------------------------------------------------------------------

TEST_CASE("joiners come in the TOML's order, a join under way first") {
  World world;
  world.Chain("b");
  world.AddCandidate('a');
  world.AddCandidate('c');
  CHECK(world.Decide().join->node == "a");
  world.ReportOf('c', kNew).phase = ReportPhase::kJoining;
  CHECK(world.Decide().join->node == "c");
  world.input().join = JoinOrder{"a", kNew, "peers"};
  world.input().join_since = world.now();
  CHECK(world.Decide().join->node == "a");
  world.Of('a', kNew).heard = world.now() - milliseconds(1000);
  CHECK(world.Decide().join->node == "c");
}

TEST_CASE("a joiner that the tail cannot reach does not keep out the next one") {
  World world;
  world.Chain("b");
  world.AddCandidate('a');
  world.input().join = JoinOrder{"a", kNew, "peers"};
  world.input().join_since = world.now() - milliseconds(2000);
  CHECK(world.Decide().join->node == "a");  // there is no other
  world.AddCandidate('c');
  CHECK(world.Decide().join->node == "c");
  world.input().join_since = world.now() - milliseconds(1999);
  CHECK(world.Decide().join->node == "a");
  world.input().join_since = world.now() - milliseconds(9000);
  world.ReportOf('a', kNew).phase = ReportPhase::kJoining;  // under way: that may take its time
  CHECK(world.Decide().join->node == "a");
  // It was, until the tail could not reach it any more.
  world.Of('b').successor_lost = world.now() - milliseconds(1999);
  CHECK(world.Decide().join->node == "a");
  world.Of('b').successor_lost = world.now() - milliseconds(2000);
  CHECK(world.Decide().join->node == "c");
  world.Of('c', kNew).connected = false;
  CHECK(world.Decide().join->node == "a");
}

TEST_CASE("an order survives a short break, and the failure of a member") {
  World world;
  world.Chain("ab");
  world.AddCandidate('c');
  world.input().join = world.Decide().join;
  REQUIRE(world.input().join.has_value());
  world.Of('c', kNew).connected = false;
  world.Of('c', kNew).heard = world.now() - milliseconds(900);
  CHECK(world.Decide().join.has_value());
  world.Of('a').connected = false;
  world.Of('a').failed_since = world.now() - milliseconds(10);
  CHECK(world.Decide().join.has_value());
}

TEST_CASE("an offer counts only from the tail of this epoch and for a node that is there") {
  World world;
  world.Chain("ab");
  world.AddCandidate('c');
  world.Offer('a', 'c');
  CHECK(world.Next() == "-");
  world.ReportOf('a').joiner_ready.reset();
  world.Offer('b', 'c');
  world.ReportOf('b').joiner_ready->epoch = Epoch(4);
  CHECK(world.Next() == "-");
  world.Offer('b', 'c');
  CHECK(world.Next() == "abC");
  CHECK(world.Decide().next->configuration.members[2].backend_run_id == "run-c");
  world.Of('c', kNew).connected = false;
  CHECK(world.Next() == "-");
}

TEST_CASE("replicas bounds the chain; the others stand by") {
  World world;
  world.Chain("ab");
  world.input().facts.replicas = 2;
  world.AddCandidate('c');
  world.Offer('b', 'c');
  CHECK(world.Next() == "-");
  CHECK_FALSE(world.Decide().join.has_value());
  CHECK(Contains(world.NoticeOf("c"), "stands by"));
}

TEST_CASE("nothing of the user's is wiped by surprise") {
  World world;
  world.Chain("ab");
  world.AddCandidate('c').report->backend.keys = 17;
  CHECK_FALSE(world.Decide().join.has_value());
  CHECK(Contains(world.NoticeOf("c"), "holds 17 keys"));
  world.ReportOf('c', kNew).overwrite = true;
  CHECK(world.Decide().join.has_value());
  world.ReportOf('c', kNew).overwrite = false;
  world.input().facts.nodes[2].overwrite = true;
  CHECK(world.Decide().join.has_value());
  world.input().facts.nodes[2].overwrite = false;
  world.ReportOf('c', kNew).backend.from_chain = true;
  CHECK(world.Decide().join.has_value());
}

TEST_CASE("a database that a member had may be replaced, whatever it says of itself") {
  World world;
  world.Chain("abc").Dead('a');
  world.AddCandidate('d');
  world.input().facts.nodes.push_back({"d", false});
  const Decision removal = world.Decide();
  REQUIRE(removal.next.has_value());
  CHECK(removal.next->known.size() == 3);  // the removed one's too

  // The first head kept a history of its own, and so does a database that came back from its AOF.
  World after;
  after.Chain("bc");
  after.input().record->known = removal.next->known;
  NodeReport& back = *after.AddCandidate('a').report;
  back.backend.keys = 17;
  REQUIRE(after.Decide().join.has_value());
  CHECK(after.Decide().join->node == "a");
  after.Offer('c', 'a');
  CHECK(after.Next() == "bcA");
  // Another database behind the same node is a stranger.
  back.backend.address = "elsewhere:6379";
  CHECK(after.Next() == "-");
  CHECK_FALSE(after.Decide().join.has_value());
  CHECK(Contains(after.NoticeOf("a"), "holds 17 keys"));
}

TEST_CASE("a record tells which databases its members have, as soon as they say so") {
  World world;
  world.Chain("ab");
  world.input().record->known.clear();
  const Decision decision = world.Decide();
  REQUIRE(decision.next.has_value());
  CHECK(decision.next->configuration == world.input().record->configuration);
  CHECK(decision.next->known == std::vector<KnownNode>{{"a", World::AddressOf('a'), kOld},
                                                       {"b", World::AddressOf('b'), kOld}});
  world.input().record = decision.next;
  CHECK_FALSE(world.Decide().next.has_value());
}

TEST_CASE("a joiner's database is not older than the head's, and of its kind") {
  World world;
  world.Chain("ab");
  world.AddCandidate('c').report->backend.version = "6.2.14";
  CHECK_FALSE(world.Decide().join.has_value());
  CHECK(Contains(world.NoticeOf("c"), "older than a's"));
  world.ReportOf('c', kNew).backend.version = "7.2.0";
  CHECK(world.Decide().join.has_value());
  world.ReportOf('c', kNew).backend.kind = "rocksdb";
  CHECK_FALSE(world.Decide().join.has_value());
}

TEST_CASE("a joiner's database knows every database number that is selected in the stream") {
  World world;
  world.Chain("ab");
  world.ReportOf('a', kOld).backend.databases = 32;
  world.AddCandidate('c').report->backend.databases = 16;
  CHECK_FALSE(world.Decide().join.has_value());
  CHECK(Contains(world.NoticeOf("c"), "has 16 databases, a's has 32"));
  world.ReportOf('c', kNew).backend.databases = 32;
  CHECK(world.Decide().join.has_value());
  world.ReportOf('c', kNew).backend.databases = 64;
  CHECK(world.Decide().join.has_value());
  // A proxy of an earlier version does not tell.
  world.ReportOf('c', kNew).backend.databases = 0;
  CHECK(world.Decide().join.has_value());
  world.ReportOf('c', kNew).backend.databases = 1;
  world.ReportOf('a', kOld).backend.databases = 0;
  CHECK(world.Decide().join.has_value());
}

TEST_CASE("a joiner's database can follow each of those before it, should it become the head") {
  World world;
  world.Chain("ab");
  world.ReportOf('b', kOld).backend.version = "7.2.0";
  world.AddCandidate('c');
  CHECK_FALSE(world.Decide().join.has_value());
  CHECK(Contains(world.NoticeOf("c"), "older than b's 7.2.0"));
  world.ReportOf('c', kNew).backend.version = "7.2.0";
  world.ReportOf('b', kOld).backend.databases = 32;
  world.ReportOf('c', kNew).backend.databases = 16;
  CHECK_FALSE(world.Decide().join.has_value());
  world.ReportOf('c', kNew).backend.databases = 32;
  CHECK(world.Decide().join.has_value());
}

TEST_CASE("a restarted member joins again only after its old life was removed") {
  World world;
  world.Chain("abc");
  world.Restarted('b');
  CHECK(world.Next() == "ac");
  World after;
  after.Chain("ac");
  after.AddCandidate('b');
  CHECK(after.Decide().join->node == "b");
}

// --- an operator moves nodes -----------------------------------------------------------------------

TEST_CASE("a drained member is asked to leave while all others are synced, one at a time") {
  World world;
  world.Chain("abc").Drained('b').Drained('c');
  CHECK(world.Leaving() == "b");
  CHECK(world.Next() == "-");
  world.ReportOf('a').synced = false;
  CHECK(world.Leaving() == "");
  world.ReportOf('a').synced = true;
  world.Resigned('b');
  CHECK(world.Next() == "ac");
  CHECK(world.Decide().next->drains == world.input().record->drains);
  CHECK(World().Chain("a").Drained('a').Leaving() == "");
}

TEST_CASE("a member that the TOML no longer has is asked to leave as a drained one") {
  World world;
  world.Chain("abc");
  std::erase_if(world.input().facts.nodes, [](const auto& node) { return node.id == "a"; });
  world.input().facts.replicas = 2;
  CHECK(world.Leaving() == "a");
  CHECK(Contains(world.Decide().drain->reason, "TOML has it no longer"));
  world.ReportOf('b').synced = false;
  CHECK(world.Leaving() == "");
  world.ReportOf('b').synced = true;
  world.Resigned('a');
  CHECK(world.Next() == "bc");
  world.Restarted('a');
  CHECK_FALSE(world.Decide().join.has_value());
}

TEST_CASE("a drained node stays out until its drain ends") {
  World world;
  world.Chain("ab").Drained('c');
  world.AddCandidate('c');
  CHECK_FALSE(world.Decide().join.has_value());
  CHECK(Contains(world.NoticeOf("c"), "drained by an operator"));
  world.Offer('b', 'c');
  CHECK(world.Next() == "-");
  CHECK(world.Wish({{"c", false, ""}, /*end=*/true, false}) == "written");
  world.input().wish.reset();
  world.input().record->drains.clear();
  CHECK(world.Next() == "abC");
}

TEST_CASE("a node that comes back keeps its place before a spare, and its wish ends with that") {
  World world;
  world.input().facts.nodes.insert(world.input().facts.nodes.begin(), {"A", false});
  world.Chain("bc").Drained('a', /*returns=*/true);
  NodeReport spare = *world.AddCandidate('a').report;
  REQUIRE(world.Decide().join.has_value());
  CHECK(world.Decide().join->node == "a");
  world.Offer('c', 'a');
  CHECK(world.Next() == "bcA");
  CHECK(world.Decide().next->drains.empty());
  // While it starts, nobody else is taken; when it is gone, somebody is.
  world.ReportOf('c').joiner_ready.reset();
  world.ReportOf('a', kNew).phase = ReportPhase::kStarting;
  Life other = world.Of('a', kNew);
  other.node = other.report->node = "A";
  other.report->phase = ReportPhase::kCandidate;
  world.input().lives.insert(world.input().lives.begin(), other);
  CHECK_FALSE(world.Decide().join.has_value());
  // Nor for ever, if its database does not start; or if it has become one that cannot join.
  world.Of('a', kNew).unready_since = world.now() - milliseconds(2999);
  CHECK_FALSE(world.Decide().join.has_value());
  CHECK(world.Decide().look_again == world.now() + milliseconds(1));
  world.Of('a', kNew).unready_since = world.now() - milliseconds(3000);
  REQUIRE(world.Decide().join.has_value());
  CHECK(world.Decide().join->node == "A");
  world.Of('a', kNew).unready_since.reset();
  world.ReportOf('a', kNew).phase = ReportPhase::kCandidate;
  CHECK(world.Decide().join->node == "a");
  world.ReportOf('a', kNew).backend.version = "6.2.0";
  REQUIRE(world.Decide().join.has_value());
  CHECK(world.Decide().join->node == "A");
  world.ReportOf('a', kNew).backend.version = "7.0.15";
  world.Of('a', kNew).connected = false;
  world.Of('a', kNew).failed_since = world.now();
  REQUIRE(world.Decide().join.has_value());
  CHECK(world.Decide().join->node == "A");
}

TEST_CASE("a replacement joins beyond replicas; then the other one leaves") {
  World world;
  world.input().facts.replicas = 2;
  world.Chain("ab").Drained('a', false, "c");
  world.AddCandidate('c');
  CHECK(world.Leaving() == "");
  REQUIRE(world.Decide().join.has_value());
  world.Offer('b', 'c');
  CHECK(world.Next() == "abC");
  World after;
  after.input().facts.replicas = 2;
  after.Chain("abc").Drained('a', false, "c");
  CHECK(after.Leaving() == "a");
  after.ReportOf('c').synced = false;
  CHECK(after.Leaving() == "");
}

TEST_CASE("a drain that would leave too few is refused") {
  World world;
  CHECK(world.Chain("abc").Wish({{"a", false, ""}, false, false}) == "written");
  CHECK(world.Wish({{"z", false, ""}, false, false}) == "chain 'x' has no node 'z'");
  CHECK(Contains(world.Drained('b').Wish({{"a", false, ""}, false, false}), "only one synced"));
  CHECK(world.Wish({{"b", false, ""}, false, false}) == "stands");
  CHECK(world.Wish({{"b", false, ""}, /*end=*/true, false}) == "written");
  World two;
  CHECK(Contains(two.Chain("ab").Wish({{"a", false, ""}, false, false}), "only one synced"));
  CHECK(two.Wish({{"a", false, ""}, false, /*force=*/true}) == "written");
  CHECK(two.Wish({{"a", /*returns=*/true, ""}, false, false}) == "written");
  two.ReportOf('b').synced = false;
  CHECK(Contains(two.Wish({{"a", false, ""}, false, true}), "no synced member would stay"));
  World one;
  CHECK(Contains(one.Chain("a").Wish({{"a", false, ""}, false, true}), "no synced member"));
}

TEST_CASE("a replacement that cannot join is refused") {
  World world;
  auto wish = [&](const std::string& node) {
    return world.Wish({{"a", false, node}, false, false});
  };
  world.Chain("ab");
  CHECK(wish("c") == "'c' does not run");
  CHECK(wish("b") == "'b' is a member already");
  world.AddCandidate('c').report->backend.keys = 3;
  CHECK(Contains(wish("c"), "cannot join: refused: its database holds 3 keys"));
  world.ReportOf('c', kNew).backend.keys = 0;
  CHECK(wish("c") == "written");
  CHECK(Contains(world.Drained('c').Wish({{"a", false, "c"}, false, false}), "'c' is drained"));
  CHECK(Contains(world.Drained('b', true).Wish({{"a", true, ""}, false, false}),
                 "another change is under way"));
}

TEST_CASE("a drained last head still recovers its chain, and a choice ends a drain") {
  World world;
  world.Chain("a").Drained('a');
  world.Restarted('a');
  CHECK(world.Next() == "A");
  World choice;
  choice.Chain("ab").Drained('b').Dead('a');
  choice.input().choice = "b";
  CHECK(choice.Next() == "b");
  CHECK(choice.Decide().next->drains.empty());
}

TEST_CASE("versions compare by their numbers") {
  CHECK(CompareVersions("7.0.15", "7.0.15") == 0);
  CHECK(CompareVersions("7.0.9", "7.0.15") == -1);
  CHECK(CompareVersions("7.2", "7.0.15") == 1);
  CHECK(CompareVersions("7", "7.0.0") == 0);
  CHECK(CompareVersions("10.1", "9.9") == 1);
  CHECK(CompareVersions("", "1") == -1);
}

// --- all small states ----------------------------------------------------------------------------

// What may be known of a listed life.
enum class Old {
  kSynced,
  kHeardEarly,
  kUnsynced,
  kBehind,
  kCutOff,
  kDead,
  kResigned,
  kUnheard,
  kCount
};
// What may be known of a newer life of the same node, or of any life of a node that is not listed.
enum class New {
  kNone,
  kStarting,
  kSameDatabase,
  kOtherDatabase,
  kStranger,
  kJoining,
  kVoid,
  kCount
};

void SetOld(World& world, char id, Old state) {
  Life& life = world.Of(id);
  const TimePoint now = world.now();
  switch (state) {
    case Old::kSynced:
      break;
    case Old::kHeardEarly:
      life.heard = now - milliseconds(300);
      break;
    case Old::kUnsynced:
      life.report->synced = false;
      life.lease_out = At(0);
      break;
    case Old::kBehind:
      life.report->epoch = Epoch(4);
      break;
    case Old::kCutOff:
      life.connected = false;
      life.failed_since = now - milliseconds(100);
      life.lease_out = now + milliseconds(100);
      break;
    case Old::kDead:
      world.Dead(id);
      break;
    case Old::kResigned:
      world.Resigned(id);
      break;
    case Old::kUnheard:
      life.report.reset();
      life.connected = false;
      life.heard = world.input().leader_since;
      life.lease_out = world.input().removals_from;
      break;
    case Old::kCount:
      break;
  }
}

void SetNew(World& world, char id, New state) {
  if (state == New::kNone) return;
  Life& life = world.AddCandidate(id);
  BackendReport& backend = life.report->backend;
  backend.from_chain = state != New::kStranger;
  backend.keys = 3;
  if (state == New::kStarting) life.report->phase = ReportPhase::kStarting;
  if (state == New::kOtherDatabase) backend.run_id = "other";
  if (state == New::kJoining) life.report->phase = ReportPhase::kJoining;
  if (state == New::kVoid) life.is_void = true;
  for (Life& other : world.input().lives) {
    if (other.node != life.node || other.incarnation != kOld) continue;
    if (!other.failed_since) other.failed_since = world.now() - milliseconds(200);
    other.is_void = true;
  }
}

// Independent restatements of the rules; they share no code with the policy.
class Rules {
 public:
  Rules(World& world, const Decision& decision)
      : in_(world.input()), out_(decision), current_(in_.record->configuration) {}

  std::string Broken() const {
    if (out_.look_again && *out_.look_again <= in_.now) return "asks again in the past";
    if (out_.join && IsListed(out_.join->node)) return "orders a member to join";
    if (out_.join && !in_.join && !AllSynced() && !OfferedByTail(*out_.join)) {
      return "orders a join behind an unsynced member";
    }
    if (out_.join && KeptOut(out_.join->node)) return "orders a drained node to join";
    if (const std::string broken = BrokenDrain(); !broken.empty()) return broken;
    if (!out_.next) return BrokenByDoingNothing();
    const ChainRecord& next = *out_.next;
    if (const std::string broken = BrokenWishes(next); !broken.empty()) return broken;
    if (next.lease < in_.lease) return "records less than it grants";
    if (in_.now < in_.removals_from && next.lease < in_.record->lease) return "forgets old leases";
    const Configuration& to = next.configuration;
    if (to.chain != current_.chain) return "another chain";
    if (to == current_) return BrokenUpkeep(next);
    if (to.epoch != current_.epoch.Next()) return "epoch not one more";
    if (to.members.empty()) return "nobody is left";
    for (const Member& member : to.members) {
      if (const std::string broken = BrokenMember(member); !broken.empty()) return broken;
    }
    if (IsSubsequence(to)) return in_.choice ? BrokenChoice(to) : BrokenRemoval(next);
    if (IsAppend(to)) return BrokenAppend(to);
    if (to.members.size() != 1) return "neither removal, nor append, nor a new beginning";
    return BrokenBeginning(next);
  }

 private:
  const Life* Find(const std::string& id, Incarnation incarnation) const {
    for (const Life& life : in_.lives) {
      if (life.node == id && life.incarnation == incarnation) return &life;
    }
    return nullptr;
  }
  const Life* Of(const Member& member) const { return Find(member.id, member.incarnation); }
  bool IsListed(const std::string& id) const {
    return std::any_of(current_.members.begin(), current_.members.end(),
                       [&](const Member& member) { return member.id == id; });
  }
  bool Alive(const Life& life) const {
    return life.report && life.connected && !life.failed_since && !life.resigned &&
           in_.now - life.heard < in_.silence;
  }
  bool Synced(const Member& member) const {
    const Life& life = *Of(member);
    return Alive(life) && life.report->phase == ReportPhase::kMember && life.report->synced &&
           life.report->epoch == current_.epoch;
  }
  bool AllSynced() const {
    return std::all_of(current_.members.begin(), current_.members.end(),
                       [&](const Member& member) { return Synced(member); });
  }
  // Such a join is nearly done: an earlier leader ordered it.
  bool OfferedByTail(const JoinOrder& join) const {
    const Member& tail = current_.members.back();
    if (!Synced(tail)) return false;
    const auto& ready = Of(tail)->report->joiner_ready;
    return ready && ready->node == join.node && ready->incarnation == join.incarnation &&
           ready->epoch == current_.epoch;
  }
  bool LeaseOver(const Life& life) const {
    return life.resigned || (life.lease_out <= in_.now && in_.removals_from <= in_.now);
  }
  bool Stays(const Member& member, const Configuration& to) const {
    return to.IndexOf(member.id, member.incarnation).has_value();
  }
  TimePoint FailedAt(const Life& life) const {
    const TimePoint silent = life.heard + (life.report ? in_.silence : in_.introduction);
    return life.failed_since ? std::min(*life.failed_since, silent) : silent;
  }

  bool IsSubsequence(const Configuration& to) const {
    size_t next = 0;
    for (const Member& member : current_.members) {
      if (next < to.members.size() && to.members[next] == member) ++next;
    }
    return next == to.members.size();
  }
  bool IsAppend(const Configuration& to) const {
    return to.members.size() == current_.members.size() + 1 &&
           std::equal(current_.members.begin(), current_.members.end(), to.members.begin());
  }

  bool KeptOut(const std::string& id) const {
    return std::any_of(in_.record->drains.begin(), in_.record->drains.end(),
                       [&](const Drain& drain) { return drain.node == id && !drain.returns; });
  }
  bool Replaces(const std::string& id) const {
    return std::any_of(
        in_.record->drains.begin(), in_.record->drains.end(),
        [&](const Drain& drain) { return drain.after == id && IsListed(drain.node); });
  }
  // S1: whoever is asked to leave can be spared whatever happens next.
  std::string BrokenDrain() const {
    if (!out_.drain) return "";
    if (in_.choice) return "asks to leave during a choice";
    if (out_.resign) return "asks two to leave";
    const auto wish =
        std::find_if(in_.record->drains.begin(), in_.record->drains.end(),
                     [&](const Drain& each) { return each.node == out_.drain->node; });
    if (wish == in_.record->drains.end()) return "asks to leave whom nobody drains";
    if (!wish->after.empty() && !IsListed(wish->after)) return "leaves before its replacement came";
    if (!current_.IndexOf(out_.drain->node, out_.drain->incarnation)) return "drains no member";
    if (current_.members.size() < 2) return "drains the last member";
    for (const Member& member : current_.members) {
      if (member.id != out_.drain->node && !Synced(member)) return "drains beside an unsynced one";
    }
    return "";
  }
  // A wish stands until it is fulfilled or its node is chosen.
  std::string BrokenWishes(const ChainRecord& next) const {
    for (const Drain& drain : in_.record->drains) {
      if (std::find(next.drains.begin(), next.drains.end(), drain) != next.drains.end()) continue;
      const bool chosen = in_.choice == drain.node;
      const auto& members = next.configuration.members;
      const bool back = drain.returns && members.back().id == drain.node && !IsListed(drain.node);
      const bool no_place = drain.returns && members.size() >= in_.facts.replicas;
      if (!chosen && !back && !no_place) return "forgets a wish";
    }
    return next.drains.size() > in_.record->drains.size() ? "makes a wish up" : "";
  }

  std::string BrokenMember(const Member& member) const {
    const Life* life = Of(member);
    if (life == nullptr) return "lists a life nobody heard of";
    if (current_.IndexOf(member.id, member.incarnation)) return "";
    if (life->is_void || life->resigned) return "lists a life that is over";
    if (!Alive(*life) || !life->report->backend.healthy) return "lists a node that is not there";
    if (member.backend_run_id != life->report->backend.run_id)
      return "another database than reported";
    return "";
  }

  std::string BrokenRemoval(const ChainRecord& next) const {
    const Configuration& to = next.configuration;
    for (const Member& member : current_.members) {
      if (Stays(member, to)) continue;
      const Life& gone = *Of(member);
      if (Alive(gone)) return "removes a living member";
      if (!LeaseOver(gone)) return "removes a member whose lease may be valid";
      const bool witnessed =
          std::any_of(to.members.begin(), to.members.end(), [&](const Member& staying) {
            return Synced(staying) && Of(staying)->heard > FailedAt(gone);
          });
      if (!witnessed) return "no synced member was heard after the failure";
    }
    const bool same_head = to.members[0] == current_.members[0];
    if (next.head_complete && !(same_head && in_.record->head_complete))
      return "head made complete";
    const Life& head = *Of(to.members[0]);
    const bool unsynced = head.report && head.report->epoch == current_.epoch &&
                          head.report->phase == ReportPhase::kMember && !head.report->synced;
    if (!same_head && unsynced && to.members.size() == 1) return "an unsynced member leads";
    return "";
  }

  std::string BrokenAppend(const Configuration& to) const {
    if (current_.members.size() >= in_.facts.replicas && !Replaces(to.members.back().id))
      return "more than replicas";
    if (current_.members.size() > in_.facts.replicas) return "more than replicas and one";
    if (KeptOut(to.members.back().id)) return "appends a drained node";
    if (!AllSynced()) return "appends behind an unsynced member";
    const Member& joiner = to.members.back();
    if (IsListed(joiner.id)) return "a node twice";
    const auto& ready = Of(current_.members.back())->report->joiner_ready;
    if (!ready || ready->node != joiner.id || ready->incarnation != joiner.incarnation ||
        ready->epoch != current_.epoch) {
      return "appends what the tail did not offer";
    }
    const BackendReport& backend = Of(joiner)->report->backend;
    if (backend.keys > 0 && !backend.from_chain) return "wipes a stranger";
    if (in_.choice) return "a join during a choice";
    return "";
  }

  std::string BrokenBeginning(const ChainRecord& next) const {
    const Member& chosen = next.configuration.members[0];
    for (const Member& member : current_.members) {
      const Life& life = *Of(member);
      if (!LeaseOver(life)) return "begins anew while a lease may be valid";
      const bool unsynced = life.report && !life.report->synced;
      if (!in_.choice && Alive(life) && !unsynced) return "begins anew beside a living member";
    }
    if (in_.choice) return chosen.id == *in_.choice ? "" : "not the operator's choice";
    const Member& head = current_.members[0];
    if (chosen.id != head.id) return "begins with another than the last head";
    const bool complete = chosen.backend_run_id == head.backend_run_id && in_.record->head_complete;
    if (!complete && in_.facts.recovery != Recovery::kAutomatic)
      return "guesses who has everything";
    return "";
  }

  std::string BrokenChoice(const Configuration& to) const {
    if (to.members.size() != 1 || to.members[0].id != *in_.choice)
      return "not the operator's choice";
    if (!Synced(to.members[0])) return "keeps an unsynced life";
    for (const Member& member : current_.members) {
      if (!(member == to.members[0]) && !LeaseOver(*Of(member))) return "two may serve";
    }
    return "";
  }

  std::string BrokenUpkeep(const ChainRecord& next) const {
    if (next.head_complete == in_.record->head_complete) return "";
    if (!next.head_complete) return "forgets that the head is complete";
    const NodeReport& head = *Of(current_.members[0])->report;
    if (!Synced(current_.members[0])) return "believes a head that is not there";
    return head.head_ready || head.applied >= head.received ? "" : "believes an incomplete head";
  }

  // What must happen: a failed member goes when nothing speaks against it, an offer is taken.
  std::string BrokenByDoingNothing() const {
    if (in_.choice) return "";
    for (const Member& member : current_.members) {
      const Life& life = *Of(member);
      if (Alive(life) || FailedAt(life) > in_.now || !LeaseOver(life)) continue;
      for (const Member& other : current_.members) {
        if (Synced(other) && Of(other)->heard > FailedAt(life)) return "keeps a dead member";
      }
    }
    return "";
  }

  const PolicyInput& in_;
  const Decision& out_;
  const Configuration& current_;
};

struct Tally {
  uint64_t states = 0, changes = 0;
};

void CheckState(World& world, Tally& tally, const std::function<std::string()>& describe) {
  const Decision decision = world.Decide();
  const std::string broken = Rules(world, decision).Broken();
  ++tally.states;
  if (decision.next) ++tally.changes;
  if (!broken.empty()) FAIL_CHECK(describe() << ": " << broken);
}

// Wishes of an operator that meet every state of the nodes.
constexpr int kWishes = 5;
void SetWishes(World& world, int wishes) {
  if (wishes == 1) world.Drained('a');
  if (wishes == 2) world.Drained('a', /*returns=*/true);
  if (wishes == 3) world.Drained('a', false, "c");
  if (wishes == 4) world.Drained('c').Drained('b');
}

void ForAllWishes(const World& nodes, int bits, int offer, Tally& tally,
                  const std::string& description) {
  if ((bits & 4) != 0) return;
  for (int wishes = 1; wishes < kWishes; ++wishes) {
    World world = nodes;
    SetWishes(world, wishes);
    world.input().facts.replicas = offer == 2 ? 2 : 3;
    CheckState(world, tally, [&] { return description + " wishes " + std::to_string(wishes); });
  }
}

// A sanitizer makes all states take minutes; then 0, 3 and 6 stand for the rest.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CATENA_FEWER_STATES
#endif
#endif
#ifdef CATENA_FEWER_STATES
constexpr int kCircumstanceStep = 3;
#else
constexpr int kCircumstanceStep = 1;
#endif

// Everything that is not about single nodes.
void ForAllCircumstances(const World& nodes, size_t members, Tally& tally,
                         const std::string& description) {
  for (int bits = 0; bits < 8; bits += kCircumstanceStep) {
    for (int choice = 0; choice < 3; ++choice) {
      for (int offer = 0; offer < (members < 3 ? 3 : 1); ++offer) {
        World world = nodes;
        PolicyInput& input = world.input();
        if ((bits & 1) != 0) input.removals_from = input.now + milliseconds(1);
        if ((bits & 2) != 0) input.record->head_complete = false;
        if ((bits & 4) != 0) input.facts.recovery = Recovery::kAutomatic;
        if (choice > 0) input.choice = choice == 1 ? "a" : "c";
        Life& tail = world.Of("abc"[members - 1]);
        if (offer > 0 && tail.report) {
          world.Offer(tail.node[0], 'c');
          if (offer == 2) {
            tail.report->joiner_ready->epoch = Epoch(4);
            input.join = JoinOrder{"c", kNew, "peers"};
          }
        }
        const std::string circumstances = description + " bits " + std::to_string(bits) +
                                          " choice " + std::to_string(choice) + " offer " +
                                          std::to_string(offer);
        CheckState(world, tally, [&] { return circumstances; });
        if (choice == 0) ForAllWishes(world, bits, offer, tally, circumstances);
      }
    }
  }
}

void ForAllNodes(World& world, const std::string& ids, size_t index, const std::string& description,
                 Tally& tally) {
  if (index == 3) return ForAllCircumstances(world, ids.size(), tally, ids + description);
  const char id = "abc"[index];
  const bool listed = index < ids.size();
  for (int old = 0; old < (listed ? static_cast<int>(Old::kCount) : 1); ++old) {
    for (int fresh = 0; fresh < static_cast<int>(New::kCount); ++fresh) {
      // The middle of three needs no newer lives of its own: the ends have them all.
      if (index == 1 && ids.size() == 3 && fresh > 2) continue;
      World next = world;
      if (listed) SetOld(next, id, static_cast<Old>(old));
      SetNew(next, id, static_cast<New>(fresh));
      ForAllNodes(next, ids, index + 1,
                  description + " " + id + std::to_string(old) + std::to_string(fresh), tally);
    }
  }
}

TEST_CASE("rules hold in all small states") {
  for (const char* ids : {"a", "ab", "abc"}) {
    World world;
    world.Chain(ids);
    Tally tally;
    ForAllNodes(world, ids, 0, "", tally);
    MESSAGE(std::string(ids) << ": " << tally.states << " states, " << tally.changes << " changes");
    CHECK(tally.states > 5000);
    CHECK(tally.changes > tally.states / 100);
  }
}

TEST_CASE("the same input gives the same decision") {
  World world;
  world.Chain("ab").Dead('a');
  world.AddCandidate('c');
  const Decision one = world.Decide();
  const Decision two = world.Decide();
  REQUIRE(one.next.has_value());
  CHECK(EncodeRecord(*one.next) == EncodeRecord(*two.next));
}

}  // namespace
}  // namespace catena::coordinator
