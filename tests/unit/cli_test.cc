// What catenactl shows and asks. Its connections are tested with real processes, but for what a
// coordinator does that is slow, or gone before it has answered.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <iostream>
#include <sstream>
#include <thread>

#include "proxy/auth/proof.h"
#include "proxy/cli/check.h"
#include "proxy/cli/choose.h"
#include "proxy/cli/client.h"
#include "proxy/cli/operate.h"
#include "proxy/cli/status.h"
#include "proxy/cli/top.h"
#include "proxy/cli/verify.h"
#include "proxy/resp/encoder.h"
#include "tests/support/listener.h"

namespace catena::cli {
namespace {

using coordinator::ChainStatus;
using coordinator::ClusterStatus;
using coordinator::NodeStatus;
using coordinator::ReportPhase;

NodeStatus Member(const std::string& id, uint64_t incarnation, uint64_t received,
                  uint64_t applied) {
  NodeStatus node;
  node.member = true;
  node.lease_out = std::chrono::milliseconds(777);
  node.report.node = id;
  node.report.incarnation = Incarnation(incarnation);
  node.report.phase = ReportPhase::kMember;
  node.report.epoch = Epoch(7);
  node.report.synced = true;
  node.report.received = Position(received);
  node.report.committed = Position(applied);
  node.report.applied = Position(applied);
  node.report.clients_connected = 3;
  node.report.backend = {"redis", true, "", "run", "7.0.15", 42, true, "h:6379"};
  return node;
}

// [a, b, c] in epoch 7 and a joining d.
ClusterStatus Sample() {
  ChainStatus chain;
  chain.chain = "main";
  chain.record.emplace();
  chain.record->reason = "d lost";
  chain.record->configuration.chain = "main";
  chain.record->configuration.epoch = Epoch(7);
  for (const char* id : {"a", "b", "c"}) {
    chain.record->configuration.members.push_back({id, Incarnation(11), "h:1", "h:2", "run"});
    chain.nodes.push_back(Member(id, 11, 1000, id[0] == 'a' ? 1000 : 900));
  }
  NodeStatus joiner = Member("d", 12, 0, 0);
  joiner.member = false;
  joiner.report.phase = ReportPhase::kJoining;
  joiner.report.snapshot_done = 41;
  joiner.report.snapshot_total = 100;
  chain.nodes.push_back(joiner);
  return {"shop", "10.0.0.1:7400", "10.0.0.1:7400", true, {chain}};
}

config::Config SampleConfig() {
  config::Config config;
  config.chains.push_back({});
  config.chains[0].name = "main";
  config.chains[0].replicas = 4;
  return config;
}

// The line that holds `part`, with runs of blanks as one.
std::string LineWith(const std::string& text, const std::string& part) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.find(part) == std::string::npos) continue;
    std::istringstream words(line);
    std::string out, word;
    while (words >> word) out += (out.empty() ? "" : " ") + word;
    return out;
  }
  return "";
}

TEST_CASE("the table shows the chain in order, then the others") {
  const std::string text = RenderStatus(Sample(), SampleConfig(), {});
  CHECK(LineWith(text, "cluster") == "cluster shop leader 10.0.0.1:7400 etcd healthy");
  CHECK(LineWith(text, "chain main") == "chain main epoch 7 (d lost) 3 of 4 members");
  CHECK(LineWith(text, "head") == "head a 11 7 1000 1000 1000 0 777ms 42 3 redis 7.0.15, healthy");
  CHECK(LineWith(text, "middle") ==
        "middle b 11 7 1000 900 900 100 777ms 42 3 redis 7.0.15, healthy");
  CHECK(LineWith(text, "tail").starts_with("tail c 11 7"));
  CHECK(LineWith(text, "joining").find("41 % of the snapshot") != std::string::npos);
  CHECK(text.find("head") < text.find("tail"));
  CHECK(text.find("tail") < text.find("joining"));
  CHECK(text.find('\033') == std::string::npos);
}

TEST_CASE("colours only where wanted, and columns stay aligned with them") {
  const std::string plain = RenderStatus(Sample(), SampleConfig(), {});
  std::string coloured = RenderStatus(Sample(), SampleConfig(), {true, ""});
  CHECK(coloured.find("\033[32m") != std::string::npos);
  for (size_t at; (at = coloured.find('\033')) != std::string::npos;) {
    coloured.erase(at, coloured.find('m', at) - at + 1);
  }
  CHECK(coloured == plain);
}

TEST_CASE("what is wrong with a member is seen") {
  ClusterStatus status = Sample();
  std::vector<NodeStatus>& nodes = status.chains[0].nodes;
  nodes[0].lease_out = Duration(0);
  nodes[0].heard_ago = std::chrono::milliseconds(1500);
  nodes[1].report.synced = false;
  nodes[2].report.incarnation = Incarnation(99);  // not the one that is a member
  nodes[0].report.backend.healthy = false;
  nodes[0].report.backend.problem = "connection refused";
  status.chains[0].waiting_for = "operator must choose";
  const std::string text = RenderStatus(status, SampleConfig(), {});
  CHECK(LineWith(text, "head").find("none, heard 1500ms ago") != std::string::npos);
  CHECK(LineWith(text, "head").find("redis 7.0.15, connection refused") != std::string::npos);
  CHECK(LineWith(text, "middle").find("7 (not synced)") != std::string::npos);
  CHECK(LineWith(text, "tail") == "tail c 11 this incarnation has not been heard");
  CHECK(LineWith(text, "waiting") == "waiting: operator must choose");
}

TEST_CASE("a chain without a configuration, and one chain of several") {
  ClusterStatus status = Sample();
  ChainStatus empty;
  empty.chain = "other";
  empty.waiting_for = "no node is a candidate";
  NodeStatus silent;
  silent.report.node = "z";
  empty.nodes.push_back(silent);
  status.chains.push_back(empty);
  const std::string all = RenderStatus(status, SampleConfig(), {});
  CHECK(LineWith(all, "chain other") == "chain other no configuration yet");
  CHECK(LineWith(all, "not heard") == "z not heard");
  CHECK(RenderStatus(status, SampleConfig(), {false, "other"}).find("chain main") ==
        std::string::npos);
}

TEST_CASE("a choice is explained before it is made") {
  ClusterStatus status = Sample();
  status.chains[0].waiting_for = "all members were lost";
  const auto text = ExplainChoice(status, "main", "b");
  REQUIRE(text);
  CHECK(text->find("* b: member, 42 keys, applied up to 900") != std::string::npos);
  CHECK(text->find("Every answered write that is missing in the database of b is lost") !=
        std::string::npos);
  CHECK(text->find("waiting: all members were lost") != std::string::npos);
  CHECK(text->find("cut off from the coordinators serve their clients on") != std::string::npos);
  CHECK_FALSE(ExplainChoice(status, "main", "nobody"));
  CHECK_FALSE(ExplainChoice(status, "nothing", "b"));
  SUBCASE("a node that is not there") {
    status.chains[0].nodes[1].report.incarnation = Incarnation();
    CHECK_FALSE(ExplainChoice(status, "main", "b"));
  }
  SUBCASE("a chain that works") {
    status.chains[0].waiting_for = "";
    CHECK_FALSE(ExplainChoice(status, "main", "b"));
  }
}

TEST_CASE("a choice is confirmed twice") {
  const auto confirm = [](const std::string& typed) {
    std::istringstream in(typed);
    std::ostringstream out;
    return Confirm(in, out, "b");
  };
  CHECK(confirm("b\nyes\n"));
  CHECK_FALSE(confirm("b\ny\n"));
  CHECK_FALSE(confirm("a\nyes\n"));
  CHECK_FALSE(confirm("yes\nyes\n"));
  CHECK_FALSE(confirm("b\n"));
  CHECK_FALSE(confirm(""));
}

// Proves itself to a dialler, reads what that asks, waits, answers and is gone; or has another answer
// for the next one.
class OneAnswer {
 public:
  OneAnswer(std::string answer, Duration after, const std::string& next = "") {
    thread_ = std::thread([this, answer = std::move(answer), after, next] {
      Serve(answer, after);
      if (!next.empty()) Serve(next, Duration(0));
    });
  }
  ~OneAnswer() { End(); }

  bool WasAsked() {
    End();
    return asked_;
  }
  const std::string& address() const { return listener_.address; }

 private:
  void End() {
    shutdown(listener_.socket, SHUT_RDWR);  // ends an accept that nobody came for
    if (thread_.joinable()) thread_.join();
  }
  void Serve(const std::string& answer, Duration after) {
    const int connection = accept(listener_.socket, nullptr, nullptr);
    if (connection < 0) return;
    auth::Acceptor acceptor({"shop", "a secret of ours"}, std::string(16, 'n'));
    std::string input;
    bool proven = false;
    char bytes[4096];
    while (!proven || input.empty()) {
      const ssize_t count = read(connection, bytes, sizeof bytes);
      if (count <= 0) break;
      input.append(bytes, static_cast<size_t>(count));
      std::string out;
      if (!proven) proven = acceptor.Feed(input, out).value_or(false);
      (void)!write(connection, out.data(), out.size());
    }
    asked_ = !input.empty();
    std::this_thread::sleep_for(after);
    (void)!write(connection, answer.data(), answer.size());
    close(connection);
  }

  test::Listener listener_;
  bool asked_ = false;
  std::thread thread_;
};

config::Config ClusterAt(std::vector<std::string> coordinators) {
  config::Config config = SampleConfig();
  config.cluster.name = "shop";
  config.cluster.secret = "a secret of ours";
  config.coordinator.listen = std::move(coordinators);
  return config;
}

TEST_CASE("a decision is waited for as long as the coordinators need for it") {
  OneAnswer leader("+OK\r\n", kPatience + std::chrono::milliseconds(300));
  CHECK(Choose(ClusterAt({leader.address()}), "main", "a").exit == kDone);
}

TEST_CASE("a decision whose answer is lost is not told to be not done, and is not made again") {
  OneAnswer leader("", Duration(0)), other("+OK\r\n", Duration(0));
  const Carried carried = Choose(ClusterAt({leader.address(), other.address()}), "main", "a");
  CHECK(carried.exit == kNotFinished);
  CHECK(carried.why.starts_with("not known yet: " + leader.address()));
  CHECK_FALSE(other.WasAsked());
}

TEST_CASE("how a decision ends is what the coordinator says") {
  const auto carry = [](const std::string& answer) {
    OneAnswer leader(answer, Duration(0));
    return Choose(ClusterAt({leader.address()}), "main", "a");
  };
  const Carried refused = carry("-ERR not done: etcd does not answer\r\n");
  CHECK(refused.exit == kNotDone);
  CHECK(refused.why == "not done: etcd does not answer");
  CHECK(carry("-ERR not known yet: etcd does not answer\r\n").exit == kNotFinished);
  const Carried nobody = carry("*2\r\n$9\r\nNOTLEADER\r\n$0\r\n\r\n");
  CHECK(nobody.exit == kNotDone);
  CHECK(nobody.why.starts_with("no coordinator answers as the leader"));
}

TEST_CASE("whose wish is taken back meanwhile is told so, and does not wait on") {
  std::string status;
  resp::AppendBulk(status, EncodeStatus(Sample()));  // nothing is wished
  OneAnswer leader("+OK\r\n", Duration(0), status);
  config::Config config = ClusterAt({leader.address()});
  config.chains[0].nodes.push_back({});
  config.chains[0].nodes[0].id = "a";
  std::ostringstream told;
  auto* const before = std::cerr.rdbuf(told.rdbuf());
  const int code = Drain(config, "a", false, {true, std::chrono::seconds(1)});
  std::cerr.rdbuf(before);
  CHECK(code == kNotDone);
  CHECK(LineWith(told.str(), "taken back") ==
        "catenactl: not done: the wish was taken back meanwhile");
}

TEST_CASE("verify: every chain is looked at, and data that differs is told before all else") {
  CHECK(Worse(kDifferent, kNotDone) == kDifferent);
  CHECK(Worse(kNotFinished, kDifferent) == kDifferent);
  CHECK(Worse(kNotFinished, kNotDone) == kNotDone);
  CHECK(Worse(kDone, kNotFinished) == kNotFinished);
  CHECK(Worse(kDone, kDone) == kDone);
  config::Config config = ClusterAt({"127.0.0.1:1"});
  config.chains.push_back(config.chains[0]);
  config.chains[1].name = "other";
  std::ostringstream told;
  auto* const before = std::cerr.rdbuf(told.rdbuf());
  const int code = Verify(config, {});
  std::cerr.rdbuf(before);
  CHECK(code == kNotDone);
  CHECK(!LineWith(told.str(), "chain main is not verified").empty());
  CHECK(!LineWith(told.str(), "chain other is not verified").empty());
}

TEST_CASE("one wrong finding makes the check fail, an unknown one does not") {
  using Verdict = Finding::Verdict;
  std::vector<Finding> findings{{"etcd x", Verdict::kGood, "healthy"},
                                {"backend of a", Verdict::kUnknown, "elsewhere"}};
  CHECK(AllGood(findings));
  findings.push_back({"proxy a", Verdict::kBad, "refused"});
  CHECK_FALSE(AllGood(findings));
  const std::string text = RenderFindings(findings, false);
  CHECK(LineWith(text, "proxy a") == "WRONG proxy a refused");
  CHECK(LineWith(text, "backend of a") == "unknown backend of a elsewhere");
}

TEST_CASE("top: a frame has what fits") {
  ClusterStatus status = Sample();
  status.chains[0].replicas = 4;
  status.chains[0].nodes[1].notice = "its connection is broken";
  Rates rates;
  rates.Add(status, 10);
  status.chains[0].nodes[0].report.number = 1;
  status.chains[0].nodes[0].report.commands_answered = 5000;
  rates.Add(status, 12);
  coordinator::EventHistory history;
  history.events.push_back({1000, Epoch(7), {"a", "b", "c"}, "d lost"});
  const std::string wide = RenderTop(status, {{"main", history}}, rates, {.width = 120});
  CHECK(LineWith(wide, "members") == "main 3 of 4 members epoch 7");
  CHECK(LineWith(wide, "head ") == "head a 2.5k 3 0B 0B 777ms 42 serving");
  CHECK(LineWith(wide, "middle ") == "middle b - 3 100B 100B 777ms 42 its connection is broken");
  CHECK(LineWith(wide, "joins ") == "joins d [########............] 41 % of 100B");
  CHECK(LineWith(wide, "epoch 7  d lost").ends_with("d lost a > b > c"));
  const std::string narrow = RenderTop(status, {}, rates, {.width = 50, .height = 5});
  CHECK(LineWith(narrow, "head ") == "head a 2.5k 0B 777ms serving");
  std::istringstream lines(narrow);
  size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) CHECK(line.size() <= 50);
  CHECK(count == 5);
}

}  // namespace
}  // namespace catena::cli
