#include "coordinator/registry.h"

#include <doctest/doctest.h>

#include <string>

namespace catena::coordinator {
namespace {

using std::chrono::milliseconds;

constexpr Duration kLease = milliseconds(1000);

TimePoint At(int64_t ms) { return TimePoint(milliseconds(ms)); }

ChainRecord RecordOf(const std::string& ids, uint64_t epoch, Duration lease = kLease,
                     Incarnation incarnation = Incarnation(10)) {
  ChainRecord record;
  record.configuration.chain = "x";
  record.configuration.epoch = Epoch(epoch);
  record.lease = lease;
  for (char id : ids) {
    record.configuration.members.push_back({std::string(1, id), incarnation, "c", "p", "run"});
  }
  return record;
}

NodeReport ReportOf(char id, uint64_t incarnation, uint64_t epoch = 3) {
  NodeReport report;
  report.chain = "x";
  report.node = std::string(1, id);
  report.incarnation = Incarnation(incarnation);
  report.phase = epoch == 0 ? ReportPhase::kCandidate : ReportPhase::kMember;
  report.epoch = Epoch(epoch);
  report.synced = epoch != 0;
  report.backend.run_id = "run";
  return report;
}

Registry Three(TimePoint began = At(0), Duration lease = kLease, Duration recorded = kLease) {
  return Registry({lease, {"a", "b", "c"}}, RecordOf("abc", 3, recorded), began);
}

TEST_CASE("a listed member gets a lease that is out for its whole length from the answer") {
  Registry registry = Three();
  const auto verdict = registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(5000));
  CHECK(verdict.lease == kLease);
  CHECK_FALSE(verdict.incarnation_void);
  CHECK(registry.Find("a", Incarnation(10))->lease_out == At(6000));
  CHECK(registry.Find("a", Incarnation(10))->connected);
}

TEST_CASE("a lease that is lowered while others are out: nobody is removed before they are over") {
  Registry registry = Three(At(0), milliseconds(3000), milliseconds(3000));
  registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(5000));
  registry.Change({kLease, {"a", "b", "c"}}, At(5100));
  CHECK(registry.removals_from() == At(8100));
  CHECK(registry.Find("a", Incarnation(10))->lease_out == At(8000));
  CHECK(registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(5200)).lease == kLease);
  CHECK(registry.Find("a", Incarnation(10))->lease_out == At(8000));
}

TEST_CASE("a lease that is raised is granted once the record says so") {
  Registry registry = Three();
  registry.Change({3 * kLease, {"a", "b", "c"}}, At(5000));
  CHECK(registry.removals_from() == At(1000));
  CHECK(registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(5001)).lease == kLease);
  registry.SetRecord(RecordOf("abc", 3, 3 * kLease), At(5002));
  CHECK(registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(5003)).lease == 3 * kLease);
}

TEST_CASE("a node that is taken out is heard while it is listed, and forgotten then") {
  Registry registry = Three();
  registry.OnHeartbeat(ReportOf('c', 10), 1, true, At(1));
  registry.Change({kLease, {"a", "b"}}, At(2));
  CHECK(registry.OnHeartbeat(ReportOf('c', 10), 1, true, At(3)).lease == kLease);
  registry.SetRecord(RecordOf("ab", 4), At(4));
  CHECK(registry.OnHeartbeat(ReportOf('c', 11, 0), 1, true, At(5)).unknown_node);
  registry.Change({kLease, {"a", "b", "d"}}, At(6));
  CHECK_FALSE(registry.OnHeartbeat(ReportOf('d', 10, 0), 2, true, At(7)).unknown_node);
}

TEST_CASE("no trust in the leadership, no lease") {
  Registry registry = Three();
  CHECK(registry.OnHeartbeat(ReportOf('a', 10), 1, false, At(5000)).lease == Duration(0));
  CHECK(registry.Find("a", Incarnation(10))->lease_out == At(1000));
}

TEST_CASE("nodes that are not listed get no lease, unknown ones leave no trace") {
  Registry registry({kLease, {"a", "b", "c"}}, RecordOf("ab", 3), At(0));
  CHECK(registry.OnHeartbeat(ReportOf('c', 10, 0), 1, true, At(1)).lease == Duration(0));
  const auto stranger = registry.OnHeartbeat(ReportOf('x', 10, 0), 2, true, At(1));
  CHECK(stranger.unknown_node);
  CHECK(registry.Latest("x") == nullptr);
  CHECK(registry.Lives().size() == 3);
}

TEST_CASE("a member that is listed but no longer in the TOML is still heard") {
  Registry registry({kLease, {"a"}}, RecordOf("ab", 3), At(0));
  CHECK(registry.OnHeartbeat(ReportOf('b', 10), 1, true, At(1)).lease == kLease);
}

TEST_CASE("a just listed member gets a lease before it has installed the configuration") {
  Registry registry = Three();
  CHECK(registry.OnHeartbeat(ReportOf('a', 10, 0), 1, true, At(1)).lease == kLease);
}

TEST_CASE("members that must not serve get none") {
  Registry registry = Three();
  NodeReport unsynced = ReportOf('a', 10);
  unsynced.synced = false;
  CHECK(registry.OnHeartbeat(unsynced, 1, true, At(1)).lease == Duration(0));
  NodeReport other_database = ReportOf('b', 10);
  other_database.backend.run_id = "other";
  CHECK(registry.OnHeartbeat(other_database, 2, true, At(1)).lease == Duration(0));
  NodeReport ahead = ReportOf('c', 10, 4);
  const auto verdict = registry.OnHeartbeat(ahead, 3, true, At(1));
  CHECK(verdict.lease == Duration(0));
  CHECK_FALSE(verdict.incarnation_void);
}

TEST_CASE("a member of a configuration that others have outlived gets no lease") {
  Registry registry = Three();
  CHECK(registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(5000)).lease == kLease);
  // Etcd was restored from before a was removed, and b was made anew since then.
  registry.OnHeartbeat(ReportOf('b', 20, 5), 2, true, At(5000));
  CHECK(registry.newest().node == "b");
  CHECK(registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(5100)).lease == Duration(0));
  // It has begun anew and knows nothing of it any more.
  registry.OnHeartbeat(ReportOf('b', 30, 0), 3, true, At(5200));
  CHECK(registry.newest().epoch == Epoch(5));
  CHECK(registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(5300)).lease == Duration(0));
  registry.SetRecord(RecordOf("a", 6), At(5400));
  CHECK(registry.OnHeartbeat(ReportOf('a', 10, 6), 1, true, At(5500)).lease == kLease);
}

TEST_CASE("a resignation holds for good, even against a later report of the same life") {
  Registry registry = Three();
  registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(100));
  NodeReport resigning = ReportOf('a', 10);
  resigning.phase = ReportPhase::kResigning;
  CHECK(registry.OnHeartbeat(resigning, 1, true, At(200)).lease == Duration(0));
  CHECK(registry.Find("a", Incarnation(10))->failed_since == At(200));
  CHECK(registry.OnHeartbeat(ReportOf('a', 10), 2, true, At(300)).lease == Duration(0));
  const Life* life = registry.Find("a", Incarnation(10));
  CHECK(life->resigned);
  CHECK(life->failed_since == At(200));
}

TEST_CASE("S14 a newer incarnation ends the old one's grants and leaves its lease out") {
  Registry registry = Three();
  registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(100));
  registry.OnHeartbeat(ReportOf('a', 20, 0), 2, true, At(200));
  const Life* old = registry.Find("a", Incarnation(10));
  REQUIRE(old != nullptr);
  CHECK(old->is_void);
  CHECK(old->failed_since == At(200));
  CHECK(old->lease_out == At(1100));
  const auto verdict = registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(300));
  CHECK(verdict.lease == Duration(0));
  CHECK(verdict.incarnation_void);
  CHECK(verdict.incarnation_above == Incarnation(20));
  CHECK(registry.Find("a", Incarnation(10))->lease_out == At(1100));
  CHECK(registry.Find("a", Incarnation(10))->failed_since == At(200));
  CHECK_FALSE(registry.Latest("a")->is_void);
}

TEST_CASE("S14 an old life that resigns after all is believed") {
  Registry registry = Three();
  registry.OnHeartbeat(ReportOf('a', 20, 0), 2, true, At(200));
  NodeReport resigning = ReportOf('a', 10);
  resigning.phase = ReportPhase::kResigning;
  registry.OnHeartbeat(resigning, 1, true, At(300));
  CHECK(registry.Find("a", Incarnation(10))->resigned);
}

TEST_CASE("S16 from the proposal of its removal a member is granted nothing") {
  Registry registry = Three();
  const auto removed = registry.RemovedBy(RecordOf("bc", 4).configuration);
  REQUIRE(removed.size() == 1);
  CHECK(removed[0] == Registry::LifeName("a", Incarnation(10)));
  registry.Withhold(removed);
  CHECK(registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(1)).lease == Duration(0));
  CHECK(registry.OnHeartbeat(ReportOf('b', 10), 2, true, At(1)).lease == kLease);
  registry.Withhold({});  // the transaction is known to have failed
  CHECK(registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(2)).lease == kLease);
}

TEST_CASE(
    "S17 a new leader waits for the longest lease that may be out, and grants no longer one "
    "than is recorded") {
  CHECK(Three(At(0), milliseconds(500), milliseconds(3000)).removals_from() == At(3000));
  CHECK(Three(At(0), milliseconds(3000), milliseconds(500)).removals_from() == At(3000));
  Registry lowered = Three(At(0), milliseconds(500), milliseconds(3000));
  CHECK(lowered.Find("a", Incarnation(10))->lease_out == At(3000));
  CHECK(lowered.OnHeartbeat(ReportOf('a', 10), 1, true, At(10)).lease == milliseconds(500));
  CHECK(lowered.Find("a", Incarnation(10))->lease_out == At(3000));
  Registry raised = Three(At(0), milliseconds(3000), milliseconds(500));
  CHECK(raised.OnHeartbeat(ReportOf('a', 10), 1, true, At(10)).lease == milliseconds(500));
  raised.SetRecord(RecordOf("abc", 3, milliseconds(3000)), At(20));
  CHECK(raised.OnHeartbeat(ReportOf('a', 10), 1, true, At(30)).lease == milliseconds(3000));
}

TEST_CASE("S3 a removed incarnation is void for good, a larger one is not") {
  Registry registry = Three();
  registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(1));
  registry.SetRecord(RecordOf("bc", 4), At(2));
  for (uint64_t epoch : {3, 4, 0}) {
    const auto verdict = registry.OnHeartbeat(ReportOf('a', 10, epoch), 1, true, At(3));
    CHECK(verdict.incarnation_void);
    CHECK(verdict.incarnation_above == Incarnation(10));
    CHECK(verdict.lease == Duration(0));
  }
  CHECK(registry.OnHeartbeat(ReportOf('a', 9, 0), 1, true, At(4)).incarnation_void);
  CHECK_FALSE(registry.OnHeartbeat(ReportOf('a', 11, 0), 1, true, At(5)).incarnation_void);
  CHECK(registry.OnHeartbeat(ReportOf('a', 10, 0), 1, true, At(6)).incarnation_void);
}

TEST_CASE("S3 a new leader voids a life that believes to be a member and is not listed") {
  Registry registry({kLease, {"a", "b", "c"}}, RecordOf("bc", 4), At(0));
  const auto verdict = registry.OnHeartbeat(ReportOf('a', 10, 3), 1, true, At(1));
  CHECK(verdict.incarnation_void);
  CHECK(verdict.incarnation_above == Incarnation(10));
  // The same life as a candidate is still over.
  CHECK(registry.OnHeartbeat(ReportOf('a', 10, 0), 1, true, At(2)).incarnation_void);
  // A candidate that has merely heard of epochs is fine.
  NodeReport candidate = ReportOf('a', 11, 3);
  candidate.phase = ReportPhase::kCandidate;
  CHECK_FALSE(registry.OnHeartbeat(candidate, 1, true, At(3)).incarnation_void);
}

TEST_CASE("without a record nobody is void for being a member: etcd may have been lost") {
  Registry registry({kLease, {"a", "b", "c"}}, std::nullopt, At(0));
  const auto verdict = registry.OnHeartbeat(ReportOf('a', 10, 3), 1, true, At(1));
  CHECK_FALSE(verdict.incarnation_void);
  CHECK(verdict.lease == Duration(0));
}

TEST_CASE("a broken connection is noticed, its successor forgives it") {
  Registry registry = Three();
  registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(100));
  registry.OnDisconnected("a", Incarnation(10), 1, At(200));
  const Life* life = registry.Find("a", Incarnation(10));
  CHECK_FALSE(life->connected);
  CHECK(life->failed_since == At(200));
  registry.OnHeartbeat(ReportOf('a', 10), 2, true, At(300));
  CHECK(life->connected);
  CHECK_FALSE(life->failed_since.has_value());
  registry.OnDisconnected("a", Incarnation(10), 1, At(400));  // the old connection's end comes late
  CHECK(life->connected);
}

TEST_CASE("after a time in which nobody could be heard, members are as under a new leader") {
  Registry registry = Three();
  registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(5000));
  NodeReport resigning = ReportOf('b', 10);
  resigning.phase = ReportPhase::kResigning;
  registry.OnHeartbeat(resigning, 2, true, At(5000));
  registry.OnDisconnected("a", Incarnation(10), 1, At(5100));
  registry.OnHeartbeat(ReportOf('c', 11, 0), 3, true, At(5100));
  registry.ForgetWhoWasHeard(At(9000));
  const Life& a = *registry.Find("a", Incarnation(10));
  CHECK_FALSE(a.report.has_value());
  CHECK_FALSE(a.failed_since.has_value());
  CHECK(a.heard == At(9000));
  CHECK(a.lease_out == At(6000));
  CHECK(registry.Find("b", Incarnation(10))->resigned);
  // What others reported stands, but they have yet to find the leader again, too.
  CHECK(registry.Find("c", Incarnation(11))->report.has_value());
  CHECK(registry.Find("c", Incarnation(11))->heard == At(9000));
  // The end of a connection from before says nothing.
  registry.OnDisconnected("a", Incarnation(10), 1, At(9100));
  CHECK_FALSE(registry.Find("a", Incarnation(10))->failed_since.has_value());
  CHECK(registry.OnHeartbeat(ReportOf('a', 10), 3, true, At(9200)).lease == kLease);
}

TEST_CASE("a link that is missing has been so since it was first reported in that epoch") {
  Registry registry = Three();
  NodeReport report = ReportOf('a', 10);
  registry.OnHeartbeat(report, 1, true, At(1));
  const Life* life = registry.Find("a", Incarnation(10));
  CHECK_FALSE(life->successor_lost.has_value());
  report.successor_linked = false;
  for (int64_t ms : {10, 20, 30}) registry.OnHeartbeat(report, 1, true, At(ms));
  CHECK(life->successor_lost == At(10));
  CHECK_FALSE(life->predecessor_lost.has_value());
  report.epoch = Epoch(4);
  registry.OnHeartbeat(report, 1, true, At(40));
  CHECK(life->successor_lost == At(40));
  report.successor_linked = true;
  registry.OnHeartbeat(report, 1, true, At(50));
  CHECK_FALSE(life->successor_lost.has_value());
}

TEST_CASE("a node that is not ready to join has been so since it first said so") {
  Registry registry = Three();
  NodeReport report = ReportOf('c', 11, 0);
  report.phase = ReportPhase::kStarting;
  for (int64_t ms : {10, 20}) registry.OnHeartbeat(report, 1, true, At(ms));
  const Life* life = registry.Find("c", Incarnation(11));
  REQUIRE(life != nullptr);
  CHECK(life->unready_since == At(10));
  report.phase = ReportPhase::kCandidate;
  report.backend.healthy = true;
  registry.OnHeartbeat(report, 1, true, At(30));
  CHECK_FALSE(life->unready_since.has_value());
  report.backend.healthy = false;
  registry.OnHeartbeat(report, 1, true, At(40));
  CHECK(life->unready_since == At(40));
}

TEST_CASE("leases never shrink") {
  Registry registry = Three(At(0), kLease, milliseconds(5000));
  registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(10));
  CHECK(registry.Find("a", Incarnation(10))->lease_out == At(5000));
  registry.OnHeartbeat(ReportOf('a', 10), 1, true, At(4500));
  CHECK(registry.Find("a", Incarnation(10))->lease_out == At(5500));
  registry.OnHeartbeat(ReportOf('a', 10), 1, false, At(5000));
  CHECK(registry.Find("a", Incarnation(10))->lease_out == At(5500));
}

TEST_CASE("a node that starts again and again leaves two lives at most") {
  Registry registry = Three();
  for (uint64_t incarnation = 11; incarnation < 1000; ++incarnation) {
    registry.OnHeartbeat(ReportOf('a', incarnation, 0), incarnation, true, At(1));
  }
  CHECK(registry.Lives().size() == 4);
  CHECK(registry.Latest("a")->incarnation == Incarnation(999));
  CHECK(registry.Find("a", Incarnation(10)) != nullptr);
  CHECK(registry.OnHeartbeat(ReportOf('a', 500, 0), 5, true, At(2)).incarnation_void);
}

TEST_CASE("S3: what another leader removed is over, although it does not know that it was listed") {
  ChainRecord record = RecordOf("ab", 3, kLease);
  record.known = {{"a", "", Incarnation(10)}, {"c", "", Incarnation(10)}};
  std::optional<ChainRecord> found_at_first;
  SUBCASE("found when it began to lead") { found_at_first = record; }
  SUBCASE("found later") {}
  Registry registry({kLease, {"a", "b", "c"}}, found_at_first, At(0));
  registry.SetRecord(record, At(100));
  CHECK(registry.OnHeartbeat(ReportOf('c', 10, 0), 1, true, At(101)).incarnation_void);
  CHECK_FALSE(registry.OnHeartbeat(ReportOf('c', 11, 0), 1, true, At(102)).incarnation_void);
  CHECK_FALSE(registry.OnHeartbeat(ReportOf('a', 10, 3), 2, true, At(103)).incarnation_void);
}

TEST_CASE("S3: a removed incarnation is over, also when its node was out of the TOML meanwhile") {
  Registry registry = Three();
  ChainRecord record = RecordOf("bc", 4);
  record.known = {{"a", "", Incarnation(10)}};
  registry.SetRecord(record, At(1));
  registry.Change({kLease, {"b", "c"}}, At(2));
  CHECK(registry.OnHeartbeat(ReportOf('a', 10, 0), 1, true, At(3)).unknown_node);
  registry.Change({kLease, {"a", "b", "c"}}, At(4));
  CHECK(registry.OnHeartbeat(ReportOf('a', 10, 0), 1, true, At(5)).incarnation_void);
  CHECK_FALSE(registry.OnHeartbeat(ReportOf('a', 11, 0), 1, true, At(6)).incarnation_void);
}

TEST_CASE("a member of a record that was found is known, with a lease that may be out") {
  Registry registry({kLease, {"a", "b", "c"}}, std::nullopt, At(0));
  registry.SetRecord(RecordOf("ab", 3, milliseconds(2000)), At(100));
  REQUIRE(registry.Find("b", Incarnation(10)) != nullptr);
  CHECK(registry.Find("b", Incarnation(10))->lease_out == At(2100));
  CHECK_FALSE(registry.Find("b", Incarnation(10))->report.has_value());
}

}  // namespace
}  // namespace catena::coordinator
