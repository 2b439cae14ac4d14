// Lanes against real redis-servers: order, positions, pushes, big replies, losses.
#include <doctest/doctest.h>
#include <signal.h>

#include <thread>

#include "proxy/resp/encoder.h"
#include "tests/unit/redis_fixture.h"

namespace catena::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Writes everything down in one list: "=<reply>", "@" for a position, "?" for one that is not told,
// ">push".
struct Recorder : backend::LaneHandler {
  void OnLaneReady() override { ready = true; }
  void OnReply(std::string_view reply) override { events.push_back("=" + std::string(reply)); }
  void OnPosition(Position position) override {
    events.push_back("@");
    positions.push_back(position);
  }
  void OnPositionUntold() override { events.push_back("?"); }
  void OnPush(std::string_view push) override { events.push_back(std::string(push)); }
  void OnLaneClosed(const std::string& reason, bool unsent) override {
    closed.push_back(reason);
    nothing_sent = unsent;
  }

  bool ready = false, nothing_sent = false;
  std::vector<std::string> events, closed;
  std::vector<Position> positions;
};

std::string Command(std::initializer_list<std::string_view> arguments) {
  std::string bytes;
  resp::AppendCommand(bytes, arguments);
  return bytes;
}

// The network between a node and its Redis.
class Relay {
 public:
  Relay(io::Reactor& reactor, const std::string& address) {
    listener_ = *reactor.Listen("127.0.0.1:0", [this, &reactor, address](auto stream) {
      Path& path = *paths_.emplace_back(std::make_unique<Path>());
      path.ends[0].stream = std::move(stream);
      path.ends[0].stream->SetHandler(&path.ends[0]);
      path.ends[1].stream = reactor.Connect(address, &path.ends[1]);
    });
  }
  const std::string& address() const { return listener_->BoundAddress(); }
  // What is sent on the connections that there are, their ends too, is on its way until Heal.
  void Cut() {
    for (const auto& path : paths_) path->cut = true;
  }
  void Heal() {
    for (const auto& path : paths_) {
      path->cut = false;
      for (End& end : path->ends) end.Deliver();
    }
  }

 private:
  struct Path;
  struct End : io::StreamHandler {
    void OnRead(std::string_view bytes) override {
      sent.append(bytes);
      Deliver();
    }
    void OnClosed(std::string_view) override {
      stream.reset();
      Deliver();
    }
    void Deliver();

    Path* path = nullptr;
    End* other = nullptr;
    std::string sent;
    std::unique_ptr<io::Stream> stream;
  };
  struct Path {
    Path() {
      for (size_t i : {0, 1}) {
        ends[i].path = this;
        ends[i].other = &ends[1 - i];
      }
    }
    End ends[2];
    bool cut = false;
  };

  std::vector<std::unique_ptr<Path>> paths_;
  std::unique_ptr<io::Listener> listener_;
};

void Relay::End::Deliver() {
  if (path->cut || !other->stream) return;
  other->stream->Write(std::exchange(sent, {}));
  if (!stream) other->stream->CloseAfterFlush();
}

TEST_CASE(
    "replies and positions come in the order of their commands; submitting before ready is fine") {
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  Recorder recorder;
  const auto lane = node.redis->OpenLane({}, &recorder);
  lane->SubmitPosition();
  lane->Submit(Command({"SET", "a", "1"}));
  lane->Submit("GET a\r\n");
  lane->SubmitPosition();
  lane->SubmitPosition();
  lane->Submit(Command({"NOSUCH"}));
  lane->Submit(Command({"MGET", "a", "b"}));
  CHECK(!recorder.ready);
  REQUIRE(loop.Until([&] { return recorder.events.size() == 7; }));
  CHECK(recorder.ready);
  CHECK(recorder.events[0] == "@");
  CHECK(recorder.events[1] == "=+OK\r\n");
  CHECK(recorder.events[2] == "=$1\r\n1\r\n");
  CHECK(recorder.events[3] == "@");
  CHECK(recorder.events[4] == "@");
  CHECK(recorder.events[5].substr(0, 5) == "=-ERR");
  CHECK(recorder.events[6] == "=*2\r\n$1\r\n1\r\n$-1\r\n");
  CHECK(lane->UnsentBytes() == 0);
}

// Guards: backends/redis/redis_backend.cc OnLaneDestroyed (S18). A Redis goes on reading what came
// on a connection that is closed.
TEST_CASE("what a lane left behind is over before the backend says so") {
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  Recorder idle, left, next;
  auto without_debt = node.redis->OpenLane({}, &idle);
  auto lane = node.redis->OpenLane({}, &left);
  auto other = node.redis->OpenLane({}, &next);
  REQUIRE(loop.Until([&] { return idle.ready && left.ready && next.ready; }));
  without_debt.reset();
  CHECK_FALSE(node.redis->HasAbandoned());
  server.Signal(SIGSTOP);
  lane->Submit(Command({"SET", "k", "left behind"}));
  REQUIRE(loop.Until([&] { return lane->UnsentBytes() == 0; }));
  lane.reset();
  CHECK(node.redis->HasAbandoned());
  server.Signal(SIGCONT);
  REQUIRE(loop.Until([&] { return !node.redis->HasAbandoned(); }));
  other->Submit(Command({"SET", "k", "next"}));
  REQUIRE(loop.Until([&] { return next.events.size() == 1; }));
  CHECK(server.Client().Text({"GET", "k"}) == "next");
}

// Guards: backends/redis/redis_control.cc MustBeCut (S18). A connection that is closed while the
// network is broken still delivers, when that is whole again, what was on its way.
TEST_CASE("what lanes left behind in a Redis that was lost is over before it is examined") {
  Loop loop;
  RedisServer server;
  Relay relay(loop.reactor(), server.address());
  redis::RedisOptions options;
  options.hang_timeout = milliseconds(300);
  options.check_interval = milliseconds(100);
  Node node(loop, relay.address(), options);
  REQUIRE(node.AwaitExamined());
  Recorder left, next;
  const auto lane = node.redis->OpenLane({}, &left);
  REQUIRE(loop.Until([&] { return left.ready; }));
  relay.Cut();
  lane->Submit(Command({"SET", "k", "left behind"}));
  REQUIRE(loop.Until([&] { return node.lost.size() == 1; }));
  CHECK(left.closed.size() == 1);
  REQUIRE(loop.Until([&] { return node.examined.size() == 2; }));
  const auto other = node.redis->OpenLane({}, &next);
  other->Submit(Command({"SET", "k", "next"}));
  REQUIRE(loop.Until([&] { return next.events.size() == 1; }));
  relay.Heal();
  loop.For(milliseconds(200));
  CHECK(server.Client().Text({"GET", "k"}) == "next");
  CHECK(node.lost.size() == 1);
}

TEST_CASE("a position on a head's lane bounds the effects of the commands before it") {
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  REQUIRE(node.Attach());
  Recorder recorder;
  const auto lane = node.redis->OpenLane({}, &recorder);
  for (int i = 0; i < 200; ++i) {
    const std::string key = "key" + std::to_string(i);
    lane->Submit(Command({"SET", key, "v"}));
    lane->SubmitPosition();
    const size_t wanted = static_cast<size_t>(i) + 1;
    REQUIRE(loop.Until([&] { return recorder.positions.size() == wanted; }));
    const Position bound = recorder.positions.back();
    REQUIRE(loop.Until([&] { return node.log.End() >= bound; }));
    // The effect is among the bytes up to the bound, not behind it.
    const std::string upto = node.log.bytes.substr(0, bound - node.log.start);
    CHECK(upto.find(key + "\r\n") != std::string::npos);
  }
}

TEST_CASE("a position on a follower's lane is applied") {
  Loop loop;
  RedisServer head_server, server;
  Node head(loop, head_server.address()), follower(loop, server.address());
  REQUIRE(head.AwaitExamined());
  REQUIRE(follower.AwaitExamined());
  REQUIRE(head.Attach());
  REQUIRE(Load(loop, follower, Take(loop, head), &head.log));
  Recorder recorder;
  const auto lane = follower.redis->OpenLane({}, &recorder);
  DirectClient writer = head_server.Client();
  for (int i = 0; i < 100; ++i) {
    const std::string value = std::to_string(i);
    writer.Run({"SET", "k", value});
    const Position version(std::stoull(head_server.Info("master_repl_offset")));
    REQUIRE(loop.Until([&] { return head.log.End() >= version; }));
    follower.redis->FeedAvailable(head.log.End());
    // The rule of a read whose key is committed and not yet applied (design.md 4).
    while (true) {
      recorder.events.clear();
      lane->SubmitPosition();
      lane->Submit(Command({"GET", "k"}));
      REQUIRE(loop.Until([&] { return recorder.events.size() == 2; }));
      if (recorder.positions.back() >= version) break;
    }
    CHECK(recorder.events[1] == "=$" + std::to_string(value.size()) + "\r\n" + value + "\r\n");
  }
  CHECK(follower.applied >= recorder.positions.back());
}

TEST_CASE("a lane speaks for the database and protocol that it was opened for") {
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  Recorder two, three;
  const auto lane2 = node.redis->OpenLane({.database = 4, .protocol = 2}, &two);
  const auto lane3 = node.redis->OpenLane({.database = 0, .protocol = 3}, &three);
  lane2->Submit(Command({"HSET", "h", "f", "v"}));
  lane2->Submit(Command({"HGETALL", "h"}));
  lane3->Submit(Command({"HGETALL", "h"}));
  lane3->SubmitPosition();
  REQUIRE(loop.Until([&] { return two.events.size() == 2 && three.events.size() == 2; }));
  CHECK(two.events[1] == "=*2\r\n$1\r\nf\r\n$1\r\nv\r\n");
  CHECK(three.events[0] == "=%0\r\n");
  CHECK(three.events[1] == "@");
  CHECK(server.Client().Text({"CLIENT", "LIST"}).find("name=catena:n:1") != std::string::npos);
}

TEST_CASE("pushes are no replies") {
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  Recorder resp3, resp2;
  const auto lane3 = node.redis->OpenLane({.database = 0, .protocol = 3}, &resp3);
  lane3->Submit(Command({"CLIENT", "TRACKING", "ON", "BCAST"}));
  const auto lane2 = node.redis->OpenLane({}, &resp2);
  lane2->Submit(Command({"SUBSCRIBE", "news"}));
  REQUIRE(loop.Until([&] { return resp3.events.size() == 1 && resp2.events.size() == 1; }));
  DirectClient client = server.Client();
  client.Run({"SET", "k", "v"});
  client.Run({"PUBLISH", "news", "today"});
  REQUIRE(loop.Until([&] { return resp3.events.size() == 2 && resp2.events.size() == 2; }));
  CHECK(resp3.events[1].substr(0, 18) == ">2\r\n$10\r\ninvalidat");
  CHECK(resp2.events[1] == "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\ntoday\r\n");
  lane3->Submit(Command({"PING"}));
  REQUIRE(loop.Until([&] { return resp3.events.size() == 3; }));
  CHECK(resp3.events[2] == "=+PONG\r\n");
}

TEST_CASE("big values pass in both directions") {
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  Recorder recorder;
  const auto lane = node.redis->OpenLane({}, &recorder);
  const std::string value(20u << 20, 'v');
  lane->Submit(Command({"SET", "big", value}));
  CHECK(lane->UnsentBytes() > value.size());
  for (int i = 0; i < 3; ++i) {
    lane->Submit(Command({"GET", "big"}));
    lane->SubmitPosition();
  }
  REQUIRE(loop.Until([&] { return recorder.events.size() == 7; }));
  for (const size_t at : {1, 3, 5}) {
    CHECK(recorder.events[at] == "=$" + std::to_string(value.size()) + "\r\n" + value + "\r\n");
  }
}

TEST_CASE("pausing holds replies back") {
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  Recorder recorder;
  const auto lane = node.redis->OpenLane({}, &recorder);
  lane->Submit(Command({"PING"}));
  REQUIRE(loop.Until([&] { return recorder.events.size() == 1; }));
  lane->PauseReading();
  lane->Submit(Command({"SET", "k", "v"}));
  REQUIRE(loop.Until([&] { return server.Client().Text({"GET", "k"}) == "v"; }));
  CHECK(recorder.events.size() == 1);
  lane->ResumeReading();
  CHECK(loop.Until([&] { return recorder.events.size() == 2; }));
}

TEST_CASE("a position that is answered BUSY is not told, and holds nothing up") {
  Loop loop;
  RedisServer server({"--busy-reply-threshold", "50"});
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  Recorder recorder;
  const auto lane = node.redis->OpenLane({}, &recorder);
  REQUIRE(loop.Until([&] { return recorder.ready; }));
  std::thread script([&] { server.Client().Run({"EVAL", "while true do end", "0"}); });
  DirectClient client = server.Client();
  while (client.Text({"PING"}).find("BUSY") == std::string::npos) {
  }
  lane->Submit(Command({"GET", "k"}));
  lane->SubmitPosition();
  lane->Submit(Command({"GET", "k"}));
  lane->SubmitPosition();
  REQUIRE(loop.Until([&] { return recorder.events.size() == 4; }));
  CHECK(recorder.events[0].substr(0, 6) == "=-BUSY");
  CHECK(recorder.events[1] == "?");
  CHECK(recorder.events[2].substr(0, 6) == "=-BUSY");
  CHECK(recorder.events[3] == "?");
  std::optional<Position> asked;
  node.redis->AskPosition([&](std::optional<Position> position) { asked = position; });
  loop.For(std::chrono::milliseconds(100));
  CHECK_FALSE(asked);
  client.Run({"SCRIPT", "KILL"});
  script.join();
  REQUIRE(loop.Until([&] { return asked.has_value(); }));
  lane->SubmitPosition();
  REQUIRE(loop.Until([&] { return recorder.events.size() == 5; }));
  CHECK(recorder.events[4] == "@");
}

TEST_CASE("a lane that is opened to a busy Redis answers as that does, and connects afterwards") {
  Loop loop;
  RedisServer server({"--busy-reply-threshold", "50"});
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  std::thread script([&] { server.Client().Run({"EVAL", "while true do end", "0"}); });
  DirectClient client = server.Client();
  while (client.Text({"PING"}).find("BUSY") == std::string::npos) {
  }
  Recorder recorder;
  const auto lane = node.redis->OpenLane({3, 3}, &recorder);
  lane->Submit(Command({"SET", "k", "busy"}));
  lane->SubmitPosition();
  lane->Submit(Command({"SET", "k", "busy"}));
  REQUIRE(loop.Until([&] { return recorder.events.size() == 3; }));
  CHECK(recorder.events[0].substr(0, 6) == "=-BUSY");
  CHECK(recorder.events[1] == "?");
  CHECK(recorder.events[2].substr(0, 6) == "=-BUSY");
  // Each new command tries once more.
  lane->Submit(Command({"SET", "k", "busy"}));
  REQUIRE(loop.Until([&] { return recorder.events.size() == 4; }));
  CHECK(recorder.events[3].substr(0, 6) == "=-BUSY");
  CHECK_FALSE(recorder.ready);
  client.Run({"SCRIPT", "KILL"});
  script.join();
  lane->Submit(Command({"SET", "k", "free"}));
  lane->SubmitPosition();
  REQUIRE(loop.Until([&] { return recorder.events.size() == 6; }));
  CHECK(recorder.ready);
  CHECK(recorder.events[4] == "=+OK\r\n");
  CHECK(recorder.events[5] == "@");
  client.Run({"SELECT", "3"});
  CHECK(client.Text({"GET", "k"}) == "free");
}

TEST_CASE("a lane that breaks says so once; with the Redis lost all do") {
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  Recorder one, other;
  const auto lane = node.redis->OpenLane({}, &one);
  const auto second = node.redis->OpenLane({}, &other);
  REQUIRE(loop.Until([&] { return one.ready && other.ready; }));
  lane->Submit(Command({"QUIT"}));
  REQUIRE(loop.Until([&] { return one.closed.size() == 1; }));
  lane->Submit(Command({"PING"}));
  CHECK(other.closed.empty());
  server.Signal(SIGSTOP);  // no connection breaks
  server.Client();
  redis::RedisOptions options;
  server.Signal(SIGKILL);
  REQUIRE(loop.Until([&] { return node.lost.size() == 1; }));
  CHECK(other.closed.size() == 1);
  CHECK(one.closed.size() == 1);
}

// Guards: backends/redis/redis_backend.cc LookForClosedLanes. The child that saves has all
// connections of the Redis, so that one that the Redis closes meanwhile does not end.
TEST_CASE("a lane that the Redis closes while it saves breaks, and one that blocks does not") {
  Loop loop;
  RedisServer server({"--rdb-key-save-delay", "100000"});
  redis::RedisOptions options;
  options.check_interval = milliseconds(100);
  options.hang_timeout = milliseconds(300);
  Node node(loop, server.address(), options);
  REQUIRE(node.AwaitExamined());
  Recorder shared, blocked;
  const auto lane = node.redis->OpenLane({}, &shared);
  const auto blocking = node.redis->OpenLane({}, &blocked);
  blocking->Submit(Command({"BLPOP", "list", "0"}));
  lane->Submit(Command({"CLIENT", "ID"}));
  REQUIRE(loop.Until([&] { return shared.events.size() == 1 && blocked.ready; }));
  const std::string id = shared.events[0].substr(2, shared.events[0].size() - 4);
  DirectClient client = server.Client();
  for (int i = 0; i < 100; ++i) client.Run({"SET", "k" + std::to_string(i), "v"});
  client.Run({"BGSAVE"});
  client.Run({"CLIENT", "KILL", "ID", id});
  lane->Submit(Command({"SET", "k", "v"}));
  CHECK(loop.Until([&] { return !shared.closed.empty(); }, seconds(5)));
  CHECK_FALSE(shared.nothing_sent);
  CHECK(server.Info("rdb_bgsave_in_progress") == "1");
  client.Run({"RPUSH", "list", "v"});
  CHECK(loop.Until([&] { return blocked.events.size() == 1; }));
  CHECK(blocked.closed.empty());
  CHECK(node.lost.empty());
}

TEST_CASE("a lane to another process than the examined one is refused") {
  Loop loop;
  RedisServer server;
  redis::RedisOptions options;
  options.reconnect_grace = seconds(30);  // so that the lane finds out, not the control connection
  Node node(loop, server.address(), options);
  REQUIRE(node.AwaitExamined());
  const std::string run_id = node.examined[0].run_id;
  server.Signal(SIGKILL);
  server.Restart();
  Recorder recorder;
  const auto lane = node.redis->OpenLane({}, &recorder);
  lane->Submit(Command({"SET", "must", "not arrive"}));
  REQUIRE(loop.Until([&] { return recorder.closed.size() == 1 && node.lost.size() == 1; }));
  CHECK(recorder.events.empty());
  CHECK(server.Client().Text({"EXISTS", "must"}) == "0");
}

TEST_CASE("a Redis that takes no more connections is told apart from one that broke") {
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  DirectClient client(server.port());
  client.Run({"CONFIG", "SET", "maxclients", "2"});
  REQUIRE(loop.Until([&] { return node.redis->CurrentLimits().connections_max == 2; }));
  Recorder recorder;
  const auto lane = node.redis->OpenLane({}, &recorder);
  lane->Submit(Command({"SET", "must", "not arrive"}));
  REQUIRE(loop.Until([&] { return recorder.closed.size() == 1; }));
  CHECK(recorder.nothing_sent);
  CHECK(recorder.closed[0].find("max number of clients reached") != std::string::npos);
  client.Run({"CONFIG", "SET", "maxclients", "100"});
  const auto second = node.redis->OpenLane({}, &recorder);
  second->Submit(Command({"PING"}));
  REQUIRE(loop.Until([&] { return recorder.events.size() == 1; }));
  client.Run({"CLIENT", "KILL", "TYPE", "normal"});
  REQUIRE(loop.Until([&] { return recorder.closed.size() == 2; }));
  CHECK(!recorder.nothing_sent);
}

TEST_CASE("large commands and replies are shared, not copied, in the same order as others") {
  struct Keeper : Recorder {
    std::vector<std::pair<BytesOwner, std::string_view>> large;
    void OnLargeReply(const BytesOwner& owner, std::string_view reply) override {
      large.emplace_back(owner, reply);
      events.push_back("large");
    }
  };
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  Keeper keeper;
  const auto lane = node.redis->OpenLane({}, &keeper);
  const std::string value(3u << 20, 'v');
  const auto owner =
      std::make_shared<const std::string>("--" + Command({"SET", "large", value}) + "--");
  const std::string_view command = std::string_view(*owner).substr(2, owner->size() - 4);
  lane->SubmitShared(owner, command);  // before it is ready
  lane->Submit(Command({"GET", "large"}));
  lane->Submit(Command({"PING"}));
  REQUIRE(loop.Until([&] { return keeper.events.size() == 3; }));
  lane->Submit(Command({"GET", "large"}));
  lane->SubmitShared(owner, command);
  lane->Submit(Command({"GET", "large"}));
  REQUIRE(loop.Until([&] { return keeper.events.size() == 6; }));
  CHECK((keeper.events == std::vector<std::string>{"=+OK\r\n", "large", "=+PONG\r\n", "large",
                                                   "=+OK\r\n", "large"}));
  for (const auto& [kept, reply] : keeper.large) {
    CHECK(reply == "$3145728\r\n" + value + "\r\n");
  }
}

TEST_CASE("lanes and backends may be destroyed from every callback") {
  struct Fragile : Recorder {
    std::function<void()> strike;
    int reply_number = 0;
    void OnReply(std::string_view reply) override {
      Recorder::OnReply(reply);
      if (strike) strike();
    }
    void OnPosition(Position position) override {
      Recorder::OnPosition(position);
      if (strike) strike();
    }
    void OnLaneClosed(const std::string& reason, bool unsent) override {
      Recorder::OnLaneClosed(reason, unsent);
      if (strike) strike();
    }
  };
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  Fragile handler;
  std::unique_ptr<backend::Lane> lane = node.redis->OpenLane({}, &handler);
  handler.strike = [&] { lane.reset(); };
  SUBCASE("in a reply") { lane->Submit(Command({"PING"})); }
  SUBCASE("in a position") { lane->SubmitPosition(); }
  SUBCASE("closed") { lane->Submit(Command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"})); }
  SUBCASE("the backend, in a reply") {
    handler.strike = [&] {
      node.redis.reset();
      lane.reset();
    };
    lane->Submit(Command({"PING"}));
  }
  SUBCASE("the backend, in a position; the lane later") {
    handler.strike = [&] { node.redis.reset(); };
    lane->SubmitPosition();
    lane->Submit(Command({"PING"}));
    REQUIRE(loop.Until([&] { return !node.redis; }));
    lane->Submit(Command({"PING"}));
    lane.reset();
  }
  for (int i = 0; lane && i < 3; ++i) lane->Submit(Command({"PING"}));
  CHECK(loop.Until([&] { return !lane; }));
  CHECK(handler.events.size() + handler.closed.size() <= 2);
}

}  // namespace
}  // namespace catena::test
