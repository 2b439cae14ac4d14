// The simulator's own parts: chance that can be repeated, and a judge that sees what is wrong.
#include "tests/sim/simulation.h"

#include <doctest/doctest.h>

#include "proxy/base/log.h"
#include "tests/sim/history.h"
#include "tests/sim/sessions.h"

using namespace catena;
using namespace catena::sim;

namespace {

TimePoint At(int milliseconds) { return TimePoint(Seconds(1000) + Millis(milliseconds)); }

Operation Done(size_t connection, int sent, int answered, Arguments command, std::string reply) {
  Operation operation;
  operation.commands = {std::move(command)};
  operation.replies = {std::move(reply)};
  operation.connection = connection;
  operation.sent = At(sent);
  operation.answered = At(answered);
  operation.outcome = Operation::Outcome::kDone;
  return operation;
}

Operation Lost(size_t connection, int sent, Arguments command) {
  Operation operation = Done(connection, sent, sent, std::move(command), "");
  operation.outcome = Operation::Outcome::kUnknown;
  return operation;
}

bool Fits(const History& history) {
  const Judgement judgement = CheckLinearizable(history);
  CHECK(judgement.undecided == 0);
  return judgement.violation.empty();
}

// What was committed at these times.
std::map<std::string, Stream> Streams(const std::vector<std::pair<int, Arguments>>& commands) {
  Stream stream;
  for (const auto& [at, command] : commands) {
    stream.bytes += Encode(command);
    stream.committed_at.emplace_back(stream.bytes.size(), At(at));
  }
  return {{"one", stream}};
}

Operation In(server::Consistency consistency, Operation operation) {
  operation.consistency = consistency;
  return operation;
}

const Operation kSet = Done(1, 0, 10, {"SET", "x", "v1"}, "+OK\r\n");

}  // namespace

TEST_CASE("the same seed is the same run, trace and all") {
  log::SetLevel(log::Level::kOff);
  std::string first, second;
  const Plan plan(7);
  Simulate(plan, [&](std::string_view line) { first.append(line).append("\n"); });
  Simulate(plan, [&](std::string_view line) { second.append(line).append("\n"); });
  CHECK(first.size() > 1000);
  CHECK(first == second);
}

TEST_CASE("a read after an answered write shows it") {
  CHECK(Fits({kSet, Done(2, 11, 20, {"GET", "x"}, "$2\r\nv1\r\n")}));
  CHECK_FALSE(Fits({kSet, Done(2, 11, 20, {"GET", "x"}, "$-1\r\n")}));
}

TEST_CASE("a read beside a write may show either, but not the old after the new") {
  CHECK(Fits({kSet, Done(2, 1, 9, {"GET", "x"}, "$-1\r\n")}));
  CHECK_FALSE(Fits(
      {kSet, Done(2, 1, 3, {"GET", "x"}, "$2\r\nv1\r\n"), Done(3, 4, 5, {"GET", "x"}, "$-1\r\n")}));
}

TEST_CASE("an unknown outcome happened or not, but not both") {
  const Operation lost = Lost(1, 0, {"SET", "x", "v1"});
  CHECK(Fits(
      {lost, Done(2, 5, 6, {"GET", "x"}, "$-1\r\n"), Done(2, 7, 8, {"GET", "x"}, "$2\r\nv1\r\n")}));
  CHECK_FALSE(Fits(
      {lost, Done(2, 5, 6, {"GET", "x"}, "$2\r\nv1\r\n"), Done(2, 7, 8, {"GET", "x"}, "$-1\r\n")}));
}

TEST_CASE("a write of unknown outcome happens once") {
  CHECK_FALSE(
      Fits({Lost(1, 0, {"APPEND", "x", "v1"}), Done(2, 5, 6, {"GET", "x"}, "$4\r\nv1v1\r\n")}));
}

TEST_CASE("a refused command never happens") {
  Operation refused = Lost(1, 0, {"SET", "x", "v1"});
  refused.outcome = Operation::Outcome::kRefused;
  CHECK_FALSE(Fits({refused, Done(2, 5, 6, {"GET", "x"}, "$2\r\nv1\r\n")}));
}

TEST_CASE("commands of one connection take effect in their order (I8)") {
  CHECK_FALSE(Fits({Done(1, 0, 20, {"SET", "x", "v1"}, "+OK\r\n"),
                    Done(1, 0, 20, {"SET", "x", "v2"}, "+OK\r\n"),
                    Done(2, 21, 22, {"GET", "x"}, "$2\r\nv1\r\n")}));
}

TEST_CASE("a lost command does not follow a later one of its connection (S18)") {
  CHECK_FALSE(Fits({Lost(1, 0, {"SET", "x", "v1"}), Done(1, 5, 6, {"SET", "x", "v2"}, "+OK\r\n"),
                    Done(2, 7, 8, {"GET", "x"}, "$2\r\nv2\r\n"),
                    Done(2, 9, 10, {"GET", "x"}, "$2\r\nv1\r\n")}));
}

TEST_CASE("a read may miss a lost command of its connection that takes effect later") {
  CHECK(Fits({Lost(1, 0, {"SET", "x", "v1"}), Done(1, 5, 6, {"GET", "x"}, "$-1\r\n"),
              Done(2, 9, 10, {"GET", "x"}, "$2\r\nv1\r\n")}));
}

TEST_CASE("commands on several keys are judged together") {
  CHECK_FALSE(Fits({Done(1, 0, 5, {"MSET", "x", "v1", "y", "v1"}, "+OK\r\n"),
                    Done(2, 6, 7, {"MGET", "x", "y"}, "*2\r\n$2\r\nv1\r\n$-1\r\n")}));
  CHECK_FALSE(Fits(
      {kSet, Done(1, 11, 12, {"FLUSHALL"}, "+OK\r\n"), Done(2, 13, 14, {"DBSIZE"}, ":1\r\n")}));
}

TEST_CASE("a transaction is not cut") {
  Operation transaction = Done(1, 0, 10, {"SET", "x", "v1"}, "+OK\r\n");
  transaction.commands.push_back({"SET", "y", "v1"});
  transaction.replies.push_back("+OK\r\n");
  CHECK_FALSE(Fits({transaction, Done(2, 1, 2, {"GET", "x"}, "$2\r\nv1\r\n"),
                    Done(2, 3, 4, {"GET", "y"}, "$-1\r\n")}));
}

TEST_CASE("sequential reads of a connection do not go back") {
  const auto streams = Streams({{1, {"SET", "x", "v1"}}, {2, {"SET", "x", "v2"}}});
  const auto read = [](size_t connection, std::string value) {
    return In(server::Consistency::kSequential,
              Done(connection, 5, 6, {"GET", "x"}, "$2\r\n" + value + "\r\n"));
  };
  CHECK(CheckSessions(streams, {read(1, "v1"), read(1, "v2")}, Duration(0)).empty());
  CHECK(CheckSessions(streams, {read(1, "v2"), read(2, "v1")}, Duration(0)).empty());
  CHECK_FALSE(CheckSessions(streams, {read(1, "v2"), read(1, "v1")}, Duration(0)).empty());
  CHECK_FALSE(CheckSessions(streams, {read(1, "v3")}, Duration(0)).empty());
}

TEST_CASE("sequential reads see what their connection wrote, also what a transaction hides") {
  const auto streams =
      Streams({{1, {"MULTI"}}, {1, {"SET", "x", "v1"}}, {1, {"DEL", "x"}}, {1, {"EXEC"}}});
  const auto mode = server::Consistency::kSequential;
  const Operation write = In(mode, Done(1, 0, 3, {"SET", "x", "v1"}, "+OK\r\n"));
  const Operation nothing = In(mode, Done(1, 4, 5, {"GET", "x"}, "$-1\r\n"));
  CHECK(CheckSessions(streams, {write, nothing}, Duration(0)).empty());
  CHECK_FALSE(
      CheckSessions(streams, {In(mode, Done(2, 4, 5, {"GET", "x"}, "$2\r\nv1\r\n"))}, Duration(0))
          .empty());
  const auto kept = Streams({{1, {"SET", "x", "v1"}}});
  CHECK_FALSE(CheckSessions(kept, {write, nothing}, Duration(0)).empty());
}

TEST_CASE("eventual reads show nothing that was replaced longer ago than is allowed") {
  const auto streams = Streams({{1, {"SET", "x", "v1"}}, {100, {"SET", "x", "v2"}}});
  const Operation old =
      In(server::Consistency::kEventual, Done(1, 300, 301, {"GET", "x"}, "$2\r\nv1\r\n"));
  CHECK(CheckSessions(streams, {old}, Duration(0)).empty());
  CHECK(CheckSessions(streams, {old}, Millis(200)).empty());
  CHECK_FALSE(CheckSessions(streams, {old}, Millis(199)).empty());
}
