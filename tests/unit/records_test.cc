#include "coordinator/records.h"

#include <doctest/doctest.h>

#include <string>

namespace catena::coordinator {
namespace {

chain::Configuration TwoMembers() {
  chain::Configuration configuration;
  configuration.chain = "sessions";
  configuration.epoch = Epoch(7);
  configuration.members = {
      {"a", Incarnation(1700000000001), "h:1", "h:2", "run-a"},
      {"b", Incarnation(INT64_MAX), "h:3", "h:4", "run-b"},
  };
  return configuration;
}

NodeReport FullReport() {
  NodeReport report;
  report.cluster = "shop";
  report.chain = "sessions";
  report.node = "a";
  report.incarnation = Incarnation(5);
  report.number = 12;
  report.clients = "c:1";
  report.peers = "p:1";
  report.phase = ReportPhase::kJoining;
  report.problem = "a \"quoted\" problem\n";
  report.epoch = Epoch(3);
  report.synced = true;
  report.keeps_log = true;
  report.head_ready = true;
  report.predecessor_linked = false;
  report.successor_linked = false;
  report.overwrite = true;
  report.received = Position(400);
  report.committed = Position(300);
  report.applied = Position(200);
  report.log_start = Position(100);
  report.replid = "ca7e4a";
  report.backend = {"redis", true,     "none", "run",    "7.0.15",     42,
                    true,    "h:6379", true,   "ca7e4b", Position(77), 16};
  report.joiner_ready = JoinerReady{"b", Incarnation(9), Epoch(3)};
  report.snapshot_done = 10;
  report.snapshot_total = 20;
  report.clients_connected = 30;
  report.commands_answered = 40;
  report.lease_left = std::chrono::milliseconds(-5);
  return report;
}

TEST_CASE("a heartbeat keeps every field") {
  const auto decoded = DecodeReport(EncodeReport(FullReport()));
  REQUIRE(decoded.has_value());
  CHECK(decoded->cluster == "shop");
  CHECK(decoded->chain == "sessions");
  CHECK(decoded->node == "a");
  CHECK(decoded->incarnation == Incarnation(5));
  CHECK(decoded->number == 12);
  CHECK(decoded->clients == "c:1");
  CHECK(decoded->peers == "p:1");
  CHECK(decoded->phase == ReportPhase::kJoining);
  CHECK(decoded->problem == "a \"quoted\" problem\n");
  CHECK(decoded->epoch == Epoch(3));
  CHECK(decoded->synced);
  CHECK(decoded->keeps_log);
  CHECK(decoded->head_ready);
  CHECK_FALSE(decoded->predecessor_linked);
  CHECK_FALSE(decoded->successor_linked);
  CHECK(decoded->overwrite);
  CHECK(decoded->received == Position(400));
  CHECK(decoded->committed == Position(300));
  CHECK(decoded->applied == Position(200));
  CHECK(decoded->log_start == Position(100));
  CHECK(decoded->replid == "ca7e4a");
  CHECK(decoded->backend.kind == "redis");
  CHECK(decoded->backend.healthy);
  CHECK(decoded->backend.problem == "none");
  CHECK(decoded->backend.run_id == "run");
  CHECK(decoded->backend.version == "7.0.15");
  CHECK(decoded->backend.keys == 42);
  CHECK(decoded->backend.from_chain);
  CHECK(decoded->backend.committed_only);
  CHECK(decoded->backend.replid == "ca7e4b");
  CHECK(decoded->backend.position == Position(77));
  CHECK(decoded->backend.address == "h:6379");
  CHECK(decoded->backend.databases == 16);
  REQUIRE(decoded->joiner_ready.has_value());
  CHECK(decoded->joiner_ready->node == "b");
  CHECK(decoded->joiner_ready->incarnation == Incarnation(9));
  CHECK(decoded->joiner_ready->epoch == Epoch(3));
  CHECK(decoded->snapshot_done == 10);
  CHECK(decoded->snapshot_total == 20);
  CHECK(decoded->clients_connected == 30);
  CHECK(decoded->commands_answered == 40);
  CHECK(decoded->lease_left == std::chrono::milliseconds(-5));
}

TEST_CASE("every phase has a word of its own") {
  for (auto phase : {ReportPhase::kStarting, ReportPhase::kCandidate, ReportPhase::kMember,
                     ReportPhase::kJoining, ReportPhase::kResigning, ReportPhase::kRefused}) {
    NodeReport report = FullReport();
    report.phase = phase;
    const auto decoded = DecodeReport(EncodeReport(report));
    REQUIRE(decoded.has_value());
    CHECK(decoded->phase == phase);
  }
}

TEST_CASE("an answer keeps every field, present and absent") {
  HeartbeatAnswer answer;
  answer.number = 3;
  auto bare = DecodeAnswer(EncodeAnswer(answer));
  REQUIRE(bare.has_value());
  CHECK(bare->number == 3);
  CHECK(bare->lease == Duration(0));
  CHECK_FALSE(bare->configuration.has_value());
  CHECK_FALSE(bare->join.has_value());
  CHECK_FALSE(bare->incarnation_void);

  answer.lease = std::chrono::seconds(1);
  answer.configuration = TwoMembers();
  answer.join = JoinOrder{"c", Incarnation(8), "p:9"};
  answer.incarnation_void = true;
  answer.incarnation_above = Incarnation(77);
  answer.notice = "why";
  answer.resign = "cut off";
  auto full = DecodeAnswer(EncodeAnswer(answer));
  REQUIRE(full.has_value());
  CHECK(full->lease == std::chrono::seconds(1));
  REQUIRE(full->configuration.has_value());
  CHECK(*full->configuration == TwoMembers());
  REQUIRE(full->join.has_value());
  CHECK(full->join->node == "c");
  CHECK(full->join->incarnation == Incarnation(8));
  CHECK(full->join->peers == "p:9");
  CHECK(full->incarnation_void);
  CHECK(full->incarnation_above == Incarnation(77));
  CHECK(full->notice == "why");
  CHECK(full->resign == "cut off");
}

TEST_CASE("a record and a configuration keep every field") {
  auto record = DecodeRecord(EncodeRecord({TwoMembers(),
                                           "b joined",
                                           std::chrono::seconds(4),
                                           true,
                                           {{"a", "h:1", Incarnation(6)}, {"b", "h:2"}},
                                           {}}));
  REQUIRE(record.has_value());
  CHECK(record->configuration == TwoMembers());
  CHECK(record->reason == "b joined");
  CHECK(record->lease == std::chrono::seconds(4));
  CHECK(record->head_complete);
  CHECK(record->known == std::vector<KnownNode>{{"a", "h:1", Incarnation(6)}, {"b", "h:2"}});
  auto configuration = DecodeConfiguration(EncodeConfiguration(TwoMembers()));
  REQUIRE(configuration.has_value());
  CHECK(*configuration == TwoMembers());
}

TEST_CASE("a status keeps every field") {
  ClusterStatus status;
  status.cluster = "shop";
  status.leader = "l:1";
  status.answered_by = "l:2";
  status.etcd_healthy = true;
  ChainStatus chain;
  chain.chain = "sessions";
  chain.record = ChainRecord{TwoMembers(), "why", Duration(5), false, {}, {}};
  chain.nodes = {{FullReport(), true, Duration(6), Duration(7), "note"}};
  chain.join = JoinOrder{"c", Incarnation(8), "p:9"};
  chain.waiting_for = "an operator";
  status.chains = {chain, ChainStatus{"other", {}, {}, {}, ""}};
  auto decoded = DecodeStatus(EncodeStatus(status));
  REQUIRE(decoded.has_value());
  CHECK(decoded->cluster == "shop");
  CHECK(decoded->leader == "l:1");
  CHECK(decoded->answered_by == "l:2");
  CHECK(decoded->etcd_healthy);
  REQUIRE(decoded->chains.size() == 2);
  const ChainStatus& first = decoded->chains[0];
  REQUIRE(first.record.has_value());
  CHECK(first.record->reason == "why");
  CHECK(first.join.has_value());
  CHECK(first.waiting_for == "an operator");
  REQUIRE(first.nodes.size() == 1);
  CHECK(EncodeReport(first.nodes[0].report) == EncodeReport(FullReport()));
  CHECK(first.nodes[0].member);
  CHECK(first.nodes[0].heard_ago == Duration(6));
  CHECK(first.nodes[0].lease_out == Duration(7));
  CHECK(first.nodes[0].notice == "note");
  CHECK_FALSE(decoded->chains[1].record.has_value());
}

TEST_CASE("wishes and histories round-trip; a record without wishes is one of an older version") {
  const DrainRequest request{{"a", true, "b"}, true, true};
  const auto decoded = DecodeDrainRequest(EncodeDrainRequest(request));
  REQUIRE(decoded.has_value());
  CHECK(decoded->drain == request.drain);
  CHECK((decoded->end && decoded->force));
  EventHistory history;
  history.Add({1'700'000'000'000, Epoch(7), {"b", "a"}, "'a' joined"});
  const auto events = DecodeEvents(EncodeEvents(history));
  REQUIRE(events.has_value());
  CHECK(events->events == history.events);
  const char* old =
      R"({"configuration":{"chain":"x","epoch":1,"members":[{"id":"a","incarnation":1}]}})";
  auto record = DecodeRecord(old);
  REQUIRE(record.has_value());
  CHECK(record->drains.empty());
  record->drains = {{"a", false, "c"}, {"b", true, ""}};
  const auto again = DecodeRecord(EncodeRecord(*record));
  REQUIRE(again.has_value());
  CHECK(again->drains == record->drains);
}

TEST_CASE("texts that are not UTF-8 travel without harm") {
  NodeReport report = FullReport();
  report.problem = "\xff\xfe bad";
  const auto decoded = DecodeReport(EncodeReport(report));
  REQUIRE(decoded.has_value());
  CHECK(decoded->problem.find(" bad") != std::string::npos);
}

TEST_CASE("every strict prefix of a message is an error, none a crash") {
  const std::string text = EncodeReport(FullReport());
  for (size_t length = 0; length < text.size(); ++length) {
    CHECK_FALSE(DecodeReport(text.substr(0, length)).has_value());
  }
}

TEST_CASE("what is wrong is named") {
  auto message = [](std::string_view json) {
    const auto decoded = DecodeReport(json);
    return decoded ? std::string("decoded") : decoded.error().message;
  };
  CHECK(message("[]") == "heartbeat is not an object");
  CHECK(message("{}") == "heartbeat.cluster is missing");
  CHECK(message("nonsense") == "heartbeat: not JSON");
  const std::string start = R"({"cluster":"c","chain":"x","node":"a","incarnation":)";
  CHECK(message(start + R"(-1,"phase":"member"})") ==
        "heartbeat.incarnation is not a whole number >= 0");
  CHECK(message(start + R"(1,"phase":"king"})") == "heartbeat.phase is no phase");
  CHECK(message(start + R"(1,"phase":"member","backend":{"keys":"3"}})") ==
        "heartbeat.backend.keys is not a whole number >= 0");
  CHECK(message(start + R"(1,"phase":"member","unknown":[1,2]})") == "decoded");
  CHECK(message(std::string(100000, '[')) == "heartbeat: nested too deep");
}

TEST_CASE("a configuration without members or with epoch 0 is refused") {
  CHECK_FALSE(DecodeConfiguration(R"({"chain":"x","epoch":1,"members":[]})").has_value());
  CHECK_FALSE(
      DecodeConfiguration(R"({"chain":"x","epoch":0,"members":[{"id":"a","incarnation":1}]})")
          .has_value());
  CHECK(DecodeConfiguration(R"({"chain":"x","epoch":1,"members":[{"id":"a","incarnation":1}]})")
            .has_value());
}

TEST_CASE("numbers to which something may be added leave room for it") {
  auto message = [](const std::string& fields) {
    const auto decoded =
        DecodeReport(R"({"cluster":"c","chain":"x","node":"a","phase":"member",)" + fields + "}");
    return decoded ? std::string("decoded") : decoded.error().message;
  };
  CHECK(message(R"("incarnation":9223372036854775807)") == "decoded");
  CHECK(message(R"("incarnation":9223372036854775808)") == "heartbeat.incarnation is too large");
  CHECK(message(R"("incarnation":1,"received":18446744073709551615)") ==
        "heartbeat.received is too large");
  // The epoch behind it, which a choice may have to write, can be read again.
  CHECK(message(R"("incarnation":1,"epoch":9223372036854775807)") ==
        "heartbeat.epoch is too large");
  for (const char* duration : {"9223372036854775807", "-9223372036854775808"}) {
    CHECK(message(std::string(R"("incarnation":1,"lease_left":)") + duration) ==
          "heartbeat.lease_left is too large");
  }
}

}  // namespace
}  // namespace catena::coordinator
