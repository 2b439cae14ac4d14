// The Redis backend against real redis-servers: capture, feed, snapshots, promotion, loss.
#include <doctest/doctest.h>
#include <signal.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "tests/unit/redis_fixture.h"

namespace catena::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Clients that talk to the Redis directly, as fast as they can, in several databases and with all
// that makes streams hard: expiry, scripts, transactions, random removals.
class Writers {
 public:
  Writers(int port, int count) {
    for (int i = 0; i < count; ++i) threads_.emplace_back([this, port, i] { Write(port, i); });
  }
  ~Writers() { Stop(); }
  void Stop() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  int written() const { return written_; }

 private:
  void Write(int port, int self) {
    DirectClient client(port);
    client.Run({"SELECT", std::to_string(self % 3)});
    const std::string me = std::to_string(self);
    for (int i = 0; !stop_; ++i) {
      const std::string n = std::to_string(i % 500);
      client.Run({"INCR", "counter:" + me});
      client.Run(
          {"SET", "key:" + n, std::string(static_cast<size_t>(i % 300), 'x'), "PX", "5000000"});
      client.Run({"SADD", "set:" + me, n});
      client.Run({"SPOP", "set:" + me});
      client.Run({"EVAL",
                  "redis.call('rpush', KEYS[1], ARGV[1]) redis.call('ltrim', KEYS[1], -50, -1)",
                  "1", "list:" + me, n});
      client.Run({"MULTI"});
      client.Run({"INCR", "multi:" + me});
      client.Run({"XADD", "stream:" + me, "MAXLEN", "20", "*", "f", n});
      client.Run({"EXEC"});
      client.Run({"SET", "short:" + n, "v", "PX", "20"});
      ++written_;
    }
  }

  std::atomic<bool> stop_ = false;
  std::atomic<int> written_ = 0;
  std::vector<std::thread> threads_;
};

uint64_t OffsetOf(const RedisServer& server) {
  return std::stoull(server.Info("master_repl_offset"));
}
uint64_t ReplicaOffsetOf(const RedisServer& server) {
  return std::stoull(server.Info("slave_repl_offset"));
}

// Stops the chain of effects at one moment: no write, no expiry after it.
void Freeze(const RedisServer& server) { server.Client().Run({"DEBUG", "SET-ACTIVE-EXPIRE", "0"}); }

// Waits until `follower` has executed all that `head` has; then both must hold the same.
void CheckEqual(Loop& loop, const RedisServer& head, Node& captured, const RedisServer& follower,
                Node& fed) {
  const Position end(OffsetOf(head));
  REQUIRE(loop.Until([&] { return captured.log.End() >= end; }));
  REQUIRE(loop.Until([&] { return fed.applied >= captured.log.End(); }));
  CHECK(ReplicaOffsetOf(follower) == OffsetOf(head));
  CHECK(Digest(follower) == Digest(head));
  CHECK(!fed.fell);
}

// A head with its capture relayed to a follower that holds a snapshot of it.
struct Pair {
  explicit Pair(std::vector<std::string> head_options = {}, std::vector<std::string> options = {})
      : head_server(std::move(head_options)),
        server(std::move(options)),
        head(loop, head_server.address()),
        follower(loop, server.address()) {}

  void Join() {
    REQUIRE(head.AwaitExamined());
    REQUIRE(follower.AwaitExamined());
    REQUIRE(head.Attach());
    head.on_effects = [this] {
      head.redis->SetCommitted(head.log.End());
      if (follower.redis) follower.redis->FeedAvailable(head.log.End());
    };
    const Snapshot snapshot = Take(loop, head);
    REQUIRE(snapshot.ended);
    REQUIRE(Load(loop, follower, snapshot, &head.log));
  }

  Loop loop;
  RedisServer head_server, server;
  Node head, follower;
};

TEST_CASE("examination tells version, run_id, keys and commands") {
  Loop loop;
  RedisServer server;
  server.Client().Run({"SET", "a", "1"});
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  const backend::Info& info = node.examined[0];
  CHECK(info.kind == "redis");
  CHECK(info.run_id == server.Info("run_id"));
  CHECK(info.version == server.Info("redis_version"));
  CHECK(info.keys == 1);
  CHECK(info.databases == 16);
  CHECK(!info.resume);
  CHECK(!info.from_chain);
  CHECK(info.commands.elements.size() > 100);
  CHECK(node.redis->Problem().empty());
  server.Client().Run({"SET", "b", "1"});
  CHECK(loop.Until([&] { return node.redis->LastKeyCount() == 2; }));
}

TEST_CASE("a Redis that has other names for what changes data, or lacks it, is refused") {
  Loop loop;
  // It streams MYSET, and DEL when a key expires: no other server knows the one, itself not the
  // other.
  RedisServer renamed({"--rename-command", "SET", "MYSET"});
  RedisServer lacking({"--rename-command", "DEL", ""});
  RedisServer sound({"--rename-command", "FLUSHALL", "", "--rename-command", "KEYS", "MYKEYS"});
  Node a(loop, renamed.address());
  Node b(loop, lacking.address());
  Node c(loop, sound.address());
  CHECK(c.AwaitExamined());
  const auto names = [](Node& node, const std::string& name) {
    return node.redis->Problem().find(" not as " + name + ":") != std::string::npos;
  };
  CHECK(loop.Until([&] { return names(a, "set") && names(b, "del"); }));
  CHECK(a.examined.empty());
  CHECK(b.examined.empty());
}

TEST_CASE("so is one with other names for what it streams without being said to write") {
  const char* name = "function";  // its subcommands write
  SUBCASE("a container") {}
  SUBCASE("a message") { name = "publish"; }
  SUBCASE("a message of a shard") { name = "spublish"; }
  SUBCASE("a count that is kept") { name = "pfcount"; }
  Loop loop;
  RedisServer server({"--rename-command", name, "other"});
  Node node(loop, server.address());
  const std::string told = std::string(" not as ") + name + ":";
  CHECK(loop.Until([&] {
    return !node.examined.empty() || node.redis->Problem().find(told) != std::string::npos;
  }));
  CHECK(node.examined.empty());
}

TEST_CASE("a Redis that comes up late is examined as soon as it answers") {
  Loop loop;
  RedisServer server;
  server.Signal(SIGKILL);
  Node node(loop, server.address());
  CHECK(loop.Until(
      [&] { return node.redis->Problem().find("cannot connect") != std::string::npos; }));
  CHECK(node.examined.empty());
  server.Restart();
  CHECK(node.AwaitExamined());
}

TEST_CASE("a wrong password is a problem that is told, and goes away when it is put right") {
  Loop loop;
  RedisServer server({"--requirepass", "right"});
  redis::RedisOptions options;
  options.password = "wrong";
  Node wrong(loop, server.address(), options);
  CHECK(loop.Until([&] { return wrong.redis->Problem().find("WRONGPASS") != std::string::npos; }));
  CHECK(wrong.examined.empty());
  DirectClient client = server.Client();
  client.Run({"AUTH", "right"});
  client.Run({"CONFIG", "SET", "requirepass", "wrong"});
  CHECK(wrong.AwaitExamined());
}

TEST_CASE("the capture of an idle master begins at its offset and brings each effect") {
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  REQUIRE(node.Attach());
  CHECK(node.attached->value() == OffsetOf(server));
  CHECK(server.Info("rdb_last_bgsave_time_sec") == "-1");  // no snapshot was made for it
  server.Client().Run({"SET", "k", "v"});
  REQUIRE(loop.Until([&] { return node.log.End().value() == OffsetOf(server); }));
  CHECK(node.log.bytes.find("SET\r\n$1\r\nk\r\n$1\r\nv\r\n") != std::string::npos);
}

TEST_CASE("a follower that loads a snapshot of an idle head and is fed byte by byte is its equal") {
  Pair pair;
  pair.head_server.Client().Run({"SET", "before", "1"});
  pair.server.Client().Run({"SET", "stale", "must go"});
  pair.Join();
  CHECK(pair.server.Client().Text({"GET", "before"}) == "1");
  CHECK(pair.server.Client().Text({"GET", "stale"}) == "");
  pair.head.log.committed = pair.head.log.End();
  DirectClient client = pair.head_server.Client();
  for (int i = 0; i < 30; ++i) client.Run({"SET", "key" + std::to_string(i), "value"});
  client.Run({"MULTI"});
  client.Run({"SELECT", "3"});
  client.Run({"SET", "three", "3"});
  client.Run({"EXEC"});
  const Position end(OffsetOf(pair.head_server));
  REQUIRE(pair.loop.Until([&] { return pair.head.log.End() >= end; }));
  while (*pair.head.log.committed < end) {
    // Nothing is applied that is not committed (I3).
    pair.head.log.committed = *pair.head.log.committed + 1;
    pair.follower.redis->FeedAvailable(*pair.head.log.committed);
    pair.loop.Until([turns = 0]() mutable { return ++turns > 1; });
    REQUIRE(ReplicaOffsetOf(pair.server) <= pair.head.log.committed->value());
  }
  CheckEqual(pair.loop, pair.head_server, pair.head, pair.server, pair.follower);
}

TEST_CASE("attach, snapshot and feed under direct writers lose nothing") {
  Pair pair;
  Writers writers(pair.head_server.port(), 3);
  REQUIRE(pair.loop.Until([&] { return writers.written() > 50; }));
  pair.Join();
  const int joined = writers.written();
  REQUIRE(pair.loop.Until([&] { return writers.written() > joined + 300; }));
  writers.Stop();
  Freeze(pair.head_server);
  CheckEqual(pair.loop, pair.head_server, pair.head, pair.server, pair.follower);
}

TEST_CASE("a snapshot can be taken from a follower, and is at the position it has applied") {
  Pair pair;
  pair.head_server.Client().Run({"SET", "k", "v"});
  pair.Join();
  const Snapshot snapshot = Take(pair.loop, pair.follower);
  REQUIRE(snapshot.failed == "");
  CHECK(snapshot.bytes.size() == snapshot.length);
  CHECK(snapshot.position == *pair.follower.loaded);
  RedisServer third_server;
  Node third(pair.loop, third_server.address());
  REQUIRE(third.AwaitExamined());
  REQUIRE(Load(pair.loop, third, snapshot, &pair.head.log, 7));
  CHECK(Digest(third_server) == Digest(pair.head_server));
}

TEST_CASE("a big snapshot flows with bounded buffers") {
  Pair pair({"--rdbcompression", "no"});
  pair.head_server.Client().Run({"DEBUG", "POPULATE", "40000", "key", "600"});
  pair.Join();
  CHECK(pair.follower.rooms > 0);
  CHECK(Digest(pair.server) == Digest(pair.head_server));
}

TEST_CASE("a corrupt snapshot is refused and the old data kept") {
  Loop loop;
  RedisServer source_server, server;
  source_server.Client().Run({"SET", "new", "data"});
  server.Client().Run({"SET", "old", "data"});
  Node source(loop, source_server.address()), node(loop, server.address());
  REQUIRE(source.AwaitExamined());
  REQUIRE(node.AwaitExamined());
  Snapshot snapshot = Take(loop, source);
  REQUIRE(snapshot.ended);
  StreamLog log;
  log.start = snapshot.position;
  SUBCASE("a flipped bit") { snapshot.bytes[snapshot.bytes.size() / 2] ^= 1; }
  SUBCASE("a version that it does not know") { snapshot.bytes.replace(5, 4, "0099"); }
  SUBCASE("too long") { snapshot.bytes.insert(40, "x"); }
  CHECK(!Load(loop, node, snapshot, &log));
  CHECK(node.refused.size() == 1);
  CHECK(server.Client().Text({"GET", "old"}) == "data");
  CHECK(server.Client().Text({"GET", "new"}) == "");
  CHECK(node.lost.empty());
}

TEST_CASE("a follower's Redis resumes with a new proxy without a full resync") {
  Pair pair;
  pair.Join();
  DirectClient client = pair.head_server.Client();
  client.Run({"SELECT", "5"});
  client.Run({"SET", "a", "1"});
  CheckEqual(pair.loop, pair.head_server, pair.head, pair.server, pair.follower);
  pair.follower.redis.reset();
  client.Run({"SET", "b", "2"});
  redis::RedisOptions options;
  options.incarnation = Incarnation(2);
  Node again(pair.loop, pair.server.address(), options);
  REQUIRE(again.AwaitExamined());
  const auto resume = again.examined[0].resume;
  REQUIRE(resume);
  CHECK(resume->replid == kChain);
  CHECK(resume->position == *pair.follower.applied);
  CHECK(again.examined[0].from_chain);
  again.redis->Follow(kChain, resume->position, &pair.head.log);
  CheckEqual(pair.loop, pair.head_server, pair.head, pair.server, again);
  CHECK(again.gaps.empty());
  DirectClient reader = pair.server.Client();
  reader.Run({"SELECT", "5"});
  CHECK(reader.Text({"GET", "b"}) == "2");
  CHECK(pair.server.LogLines("Full resync from master") == 1);  // the snapshot of Join
  CHECK(pair.server.LogLines("Successful partial resynchronization with master") == 1);
}

TEST_CASE("Release ends the role and examines again") {
  Pair pair;
  pair.Join();
  pair.head_server.Client().Run({"SET", "a", "1"});
  CheckEqual(pair.loop, pair.head_server, pair.head, pair.server, pair.follower);
  pair.follower.redis->Release();
  pair.head.redis->Release();
  REQUIRE(pair.loop.Until(
      [&] { return pair.follower.examined.size() == 2 && pair.head.examined.size() == 2; }));
  REQUIRE(pair.follower.examined[1].resume);
  CHECK(pair.follower.examined[1].resume->position == *pair.follower.applied);
  CHECK(!pair.head.examined[1].resume);
  // As the sole head it becomes a master again.
  REQUIRE(pair.follower.Attach());
  CHECK(pair.server.Info("role") == "master");
  CHECK(*pair.follower.attached == *pair.follower.applied);
}

TEST_CASE("a former follower restarted from its RDB resumes if it was not touched") {
  Pair pair;
  pair.Join();
  pair.head_server.Client().Run({"SET", "a", "1"});
  CheckEqual(pair.loop, pair.head_server, pair.head, pair.server, pair.follower);
  const Position position = *pair.follower.applied;
  pair.server.Client().Run({"SAVE"});
  pair.server.Signal(SIGKILL);
  REQUIRE(pair.loop.Until([&] { return pair.follower.lost.size() == 1; }));
  pair.server.Restart();
  REQUIRE(pair.loop.Until([&] { return pair.follower.examined.size() == 2; }));
  const auto resume = pair.follower.examined[1].resume;
  REQUIRE(resume);
  CHECK(resume->position == position);
  pair.head_server.Client().Run({"SET", "b", "2"});
  REQUIRE(
      pair.loop.Until([&] { return pair.head.log.End().value() == OffsetOf(pair.head_server); }));
  SUBCASE("untouched, the selected database known to be 0") {
    pair.head.log.database = 0;
    pair.follower.redis->Follow(kChain, position, &pair.head.log);
    CheckEqual(pair.loop, pair.head_server, pair.head, pair.server, pair.follower);
    CHECK(pair.follower.gaps.empty());
  }
  SUBCASE("the stream has another database selected there, which it forgot") {
    pair.head.log.database = 2;
    pair.follower.redis->Follow(kChain, position, &pair.head.log);
    CHECK(pair.loop.Until([&] { return pair.follower.gaps.size() == 1; }));
  }
  SUBCASE("written to after it was examined") {
    pair.head.log.database = 0;
    pair.server.Client().Run({"SET", "stray", "x"});
    pair.follower.redis->Follow(kChain, position, &pair.head.log);
    CHECK(pair.loop.Until([&] { return pair.follower.gaps.size() == 1; }));
  }
}

TEST_CASE("a Redis whose place is not in the log needs a snapshot") {
  Loop loop;
  RedisServer server;
  server.Client().Run({"SET", "stranger", "1"});
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  StreamLog log;
  log.start = Position(1000);
  node.redis->Follow(kChain, log.start, &log);
  CHECK(loop.Until([&] { return node.gaps.size() == 1; }));
  CHECK(!node.applied);
  CHECK(server.Client().Text({"GET", "stranger"}) == "1");
}

TEST_CASE("promotion under direct writers loses nothing") {
  Pair pair;
  pair.Join();
  pair.head_server.Client().Run({"SET", "from", "the old head"});
  CheckEqual(pair.loop, pair.head_server, pair.head, pair.server, pair.follower);
  const Position position = *pair.follower.applied;
  RedisServer third_server;
  Node third(pair.loop, third_server.address());
  REQUIRE(third.AwaitExamined());
  const Snapshot snapshot = Take(pair.loop, pair.follower);
  REQUIRE(snapshot.position == position);
  // They write as soon as the Redis is no read-only replica any more.
  Writers writers(pair.server.port(), 4);
  pair.head.on_effects = nullptr;
  pair.follower.redis->Promote(kChain, position);
  REQUIRE(pair.loop.Until([&] { return pair.follower.attached.has_value(); }));
  CHECK(*pair.follower.attached == position);
  const int promoted = writers.written();
  REQUIRE(pair.loop.Until([&] { return writers.written() > promoted + 200; }));
  writers.Stop();
  Freeze(pair.server);
  REQUIRE(
      pair.loop.Until([&] { return pair.follower.log.End().value() == OffsetOf(pair.server); }));
  // The whole of what it captured, behind the snapshot of the moment before: its equal.
  REQUIRE(Load(pair.loop, third, snapshot, &pair.follower.log));
  REQUIRE(pair.loop.Until([&] { return third.applied >= pair.follower.log.End(); }));
  CHECK(Digest(third_server) == Digest(pair.server));
  CHECK(pair.follower.capture_lost.empty());
  CHECK(pair.follower.lost.empty());
}

// Stands between the backend and a Redis, and answers PSYNC ... FAILOVER as a Redis before 6.2
// does.
class OldRedis {
 public:
  OldRedis(Loop& loop, const RedisServer& server) : loop_(loop), server_(server.address()) {
    listener_ =
        std::move(*loop.reactor().Listen("127.0.0.1:0", [this](std::unique_ptr<io::Stream> client) {
          links_.push_back(std::make_unique<Link>(*this, std::move(client)));
        }));
  }
  std::string address() const { return listener_->BoundAddress(); }
  int refused = 0;

 private:
  struct End : io::StreamHandler {
    void OnRead(std::string_view bytes) override { on_read(bytes); }
    void OnClosed(std::string_view) override { other->stream->CloseAfterFlush(); }
    std::unique_ptr<io::Stream> stream;
    End* other = nullptr;
    std::function<void(std::string_view)> on_read;
  };
  struct Link {
    Link(OldRedis& owner, std::unique_ptr<io::Stream> stream) {
      client.stream = std::move(stream);
      client.stream->SetHandler(&client);
      server.stream = owner.loop_.reactor().Connect(owner.server_, &server);
      client.other = &server;
      server.other = &client;
      server.on_read = [this](std::string_view bytes) { client.stream->Write(bytes); };
      client.on_read = [this, &owner](std::string_view bytes) {
        if (bytes.find("FAILOVER") == std::string_view::npos) return server.stream->Write(bytes);
        ++owner.refused;
        client.stream->Write("-ERR wrong number of arguments for 'psync' command\r\n");
      };
    }
    End client, server;
  };

  Loop& loop_;
  std::string server_;
  std::unique_ptr<io::Listener> listener_;
  std::vector<std::unique_ptr<Link>> links_;
};

TEST_CASE("promotion without PSYNC FAILOVER, under direct writers, loses nothing") {
  Loop loop;
  RedisServer head_server, server, third_server;
  OldRedis old(loop, server);
  Node head(loop, head_server.address()), follower(loop, old.address()),
      third(loop, third_server.address());
  REQUIRE(head.AwaitExamined());
  REQUIRE(follower.AwaitExamined());
  REQUIRE(third.AwaitExamined());
  REQUIRE(head.Attach());
  head_server.Client().Run({"SET", "k", "v"});
  const Snapshot snapshot = Take(loop, head);
  REQUIRE(Load(loop, follower, snapshot, &head.log));
  Writers writers(server.port(), 4);
  follower.redis->Promote(kChain, snapshot.position);
  REQUIRE(loop.Until([&] { return follower.attached.has_value(); }));
  CHECK(old.refused == 1);
  CHECK(*follower.attached == snapshot.position);
  const int promoted = writers.written();
  REQUIRE(loop.Until([&] { return writers.written() > promoted + 100; }));
  writers.Stop();
  Freeze(server);
  REQUIRE(loop.Until([&] { return follower.log.End().value() == OffsetOf(server); }));
  REQUIRE(Load(loop, third, snapshot, &follower.log));
  REQUIRE(loop.Until([&] { return third.applied >= follower.log.End(); }));
  CHECK(Digest(third_server) == Digest(server));
}

// Guards: backends/redis/psync_replica.cc HelloReply.
TEST_CASE("a Redis that is busy with a script is promoted when that is over") {
  Pair pair({}, {"--busy-reply-threshold", "100"});
  pair.Join();
  pair.head_server.Client().Run({"SET", "k", "v"});
  CheckEqual(pair.loop, pair.head_server, pair.head, pair.server, pair.follower);
  pair.head.on_effects = nullptr;
  std::thread script([&] { pair.server.Client().Run({"EVAL", "while true do end", "0"}); });
  DirectClient client = pair.server.Client();
  while (client.Text({"PING"}).find("BUSY") == std::string::npos) {
  }
  pair.follower.redis->Promote(kChain, *pair.follower.applied);
  pair.loop.For(milliseconds(500));
  client.Run({"SCRIPT", "KILL"});
  script.join();
  CHECK(pair.loop.Until([&] { return pair.follower.attached.has_value(); }, seconds(5)));
  CHECK(pair.follower.capture_lost.empty());
}

TEST_CASE("a Redis that is loading is examined when it is done") {
  Loop loop;
  RedisServer server(
      {"--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024"});
  server.Client().Run({"DEBUG", "POPULATE", "300"});
  server.Client().Run({"SAVE"});
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  server.Signal(SIGKILL);
  server.Restart();
  REQUIRE(loop.Until([&] { return node.redis->Problem().find("loading") != std::string::npos; }));
  CHECK(node.examined.size() == 1);
  REQUIRE(loop.Until([&] { return node.examined.size() == 2; }));
  CHECK(server.Info("loading") == "0");
  CHECK(node.examined[1].keys == 300);
}

TEST_CASE("a user that may not do what is needed is a problem that names the command") {
  Loop loop;
  RedisServer server;
  server.Client().Run({"ACL", "SETUSER", "proxy", "on", ">secret", "~*", "&*", "+@all", "-role"});
  redis::RedisOptions options;
  options.user = "proxy";
  options.password = "secret";
  options.problem_interval = milliseconds(100);
  Node node(loop, server.address(), options);
  CHECK(
      loop.Until([&] { return node.redis->Problem().find("ROLE refused") != std::string::npos; }));
  server.Client().Run({"ACL", "SETUSER", "proxy", "+role"});
  REQUIRE(node.AwaitExamined());
  REQUIRE(node.Attach());
  CHECK(Take(loop, node).ended);
}

TEST_CASE("over a unix socket") {
  Loop loop;
  RedisServer server({"--unixsocket", "redis.sock"});
  RedisServer head_server;
  Node head(loop, head_server.address());
  Node node(loop, "unix://" + server.directory() + "/redis.sock");
  REQUIRE(head.AwaitExamined());
  REQUIRE(node.AwaitExamined());
  REQUIRE(head.Attach());
  head_server.Client().Run({"SET", "k", "v"});
  REQUIRE(Load(loop, node, Take(loop, head), &head.log));
  CHECK(server.Client().Text({"GET", "k"}) == "v");
}

TEST_CASE("a fixed replication address is taken up again at once") {
  Loop loop;
  RedisServer head_server, server;
  redis::RedisOptions options;
  options.replication_address = "127.0.0.1:" + std::to_string(FreePort());
  Node head(loop, head_server.address()), node(loop, server.address(), options);
  REQUIRE(head.AwaitExamined());
  REQUIRE(node.AwaitExamined());
  REQUIRE(head.Attach());
  REQUIRE(Load(loop, node, Take(loop, head), &head.log));
  node.redis->Release();
  REQUIRE(loop.Until([&] { return node.examined.size() == 2; }));
  REQUIRE(node.examined[1].resume);
  node.applied.reset();
  node.redis->Follow(kChain, node.examined[1].resume->position, &head.log);
  CHECK(loop.Until([&] { return node.applied.has_value(); }, milliseconds(500)));
  CHECK(node.gaps.empty());
}

TEST_CASE("promotion at another position than it has is refused") {
  Pair pair;
  pair.Join();
  pair.follower.redis->Promote(kChain, *pair.follower.loaded + 5);
  CHECK(pair.loop.Until([&] { return pair.follower.capture_lost.size() == 1; }));
  CHECK(!pair.follower.attached);
  CHECK(pair.server.Info("role") == "slave");
}

TEST_CASE("a capture connection that breaks continues without a gap or an event") {
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  REQUIRE(node.Attach());
  DirectClient client = server.Client();
  for (int i = 0; i < 20; ++i) {
    client.Run({"SET", "k" + std::to_string(i), "v"});
    if (i % 5 == 4) client.Run({"CLIENT", "KILL", "TYPE", "replica"});
  }
  REQUIRE(loop.Until([&] { return node.log.End().value() == OffsetOf(server); }));
  CHECK(node.capture_lost.empty());
  CHECK(node.lost.empty());
  for (int i = 0; i < 20; ++i) {
    CHECK(node.log.bytes.find("k" + std::to_string(i) + "\r\n") != std::string::npos);
  }
}

// Guards: backends/redis/psync_replica.cc HelloReply, PsyncReply.
TEST_CASE("a capture connection is remade whose Redis takes none for a while") {
  Loop loop;
  RedisServer server({"--busy-reply-threshold", "100"});
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  REQUIRE(node.Attach());
  DirectClient client = server.Client();
  client.Run({"CLIENT", "KILL", "TYPE", "replica"});
  SUBCASE("a script overruns") {
    std::thread script([&] { server.Client().Run({"EVAL", "while true do end", "0"}); });
    while (client.Text({"PING"}).find("BUSY") == std::string::npos) {
    }
    loop.For(milliseconds(500));
    client.Run({"SCRIPT", "KILL"});
    script.join();
  }
  SUBCASE("it has as many clients as it may") {
    client.Run({"CONFIG", "SET", "maxclients", "1"});
    loop.For(milliseconds(500));
    client.Run({"CONFIG", "SET", "maxclients", "1000"});
  }
  client.Run({"SET", "k", "v"});
  CHECK(loop.Until([&] { return node.log.End().value() == OffsetOf(server); }, seconds(5)));
  CHECK(node.capture_lost.empty());
  CHECK(node.lost.empty());
}

// Guards: backends/redis/psync_replica.cc HelloReply. A Redis that could not save answers even PING
// with an error, and reads.
TEST_CASE("a Redis that could not save is captured, and saves again for a snapshot") {
  Loop loop;
  RedisServer server({"--save", "3600 1000000"});
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  DirectClient client = server.Client();
  client.Run({"SET", "k", "v"});
  const std::string obstacle = server.directory() + "/dump.rdb";
  std::filesystem::create_directory(obstacle);
  client.Run({"BGSAVE"});
  while (client.Text({"PING"}).find("MISCONF") == std::string::npos) {
  }
  CHECK(node.Attach());
  std::filesystem::remove(obstacle);
  CHECK(Take(loop, node).ended);
  CHECK(client.Text({"PING"}) == "PONG");
}

// Guards: backends/redis/redis_capture.cc Advance. A Redis that cannot continue where it was asked
// to prepares a snapshot, and says nothing before it has made an end of another one.
TEST_CASE("a gap in the capture is told, whatever the Redis does for a snapshot meanwhile") {
  Loop loop;
  RedisServer server({"--repl-backlog-size", "16384", "--rdb-key-save-delay", "100000"});
  redis::RedisOptions options;
  options.attach_timeout = milliseconds(500);
  Node node(loop, server.address(), options);
  REQUIRE(node.AwaitExamined());
  REQUIRE(node.Attach());
  DirectClient client = server.Client();
  for (int i = 0; i < 100; ++i) client.Run({"SET", "k" + std::to_string(i), "v"});
  client.Run({"CLIENT", "KILL", "TYPE", "replica"});
  client.Run({"BGSAVE"});
  for (int i = 0; i < 10; ++i) client.Run({"SET", "big", std::string(100000, 'x')});
  CHECK(loop.Until([&] { return node.capture_lost.size() == 1; }, seconds(5)));
  CHECK(server.Info("rdb_bgsave_in_progress") == "1");
}

// Guards: backends/redis/redis_capture.cc Observe. The child that saves has all connections of the
// Redis, so that one that the Redis closes meanwhile does not end.
TEST_CASE("a capture connection that is silent is remade") {
  Loop loop;
  RedisServer server({"--rdb-key-save-delay", "100000"});
  redis::RedisOptions options;
  options.check_interval = milliseconds(100);
  options.hang_timeout = milliseconds(300);
  Node node(loop, server.address(), options);
  REQUIRE(node.AwaitExamined());
  REQUIRE(node.Attach());
  DirectClient client = server.Client();
  for (int i = 0; i < 100; ++i) client.Run({"SET", "k" + std::to_string(i), "v"});
  client.Run({"BGSAVE"});
  client.Run({"CLIENT", "KILL", "TYPE", "replica"});
  client.Run({"SET", "k", "v"});
  CHECK(loop.Until([&] { return node.log.End().value() == OffsetOf(server); }, seconds(5)));
  CHECK(server.Info("rdb_bgsave_in_progress") == "1");
  CHECK(node.capture_lost.empty());
  CHECK(node.lost.empty());
}

TEST_CASE("a control connection that breaks is remade, and questions under way are answered") {
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  int answered = 0;
  for (int i = 0; i < 10; ++i) {
    node.redis->AskPosition(
        [&](std::optional<Position> position) { answered += position.has_value(); });
    server.Client().Run({"CLIENT", "KILL", "TYPE", "normal"});
    node.redis->AskPosition(
        [&](std::optional<Position> position) { answered += position.has_value(); });
    CHECK(loop.Until([&] { return answered == 2 * i + 2; }));
  }
  CHECK(node.lost.empty());
}

// Stands between the backend and a Redis; what it holds arrives late.
class SlowNetwork {
 public:
  SlowNetwork(Loop& loop, const RedisServer& server) {
    listener_ = std::move(*loop.reactor().Listen(
        "127.0.0.1:0", [this, &loop, &server](std::unique_ptr<io::Stream> client) {
          Link& link = *links_.emplace_back(std::make_unique<Link>());
          link.client.stream = std::move(client);
          link.client.stream->SetHandler(&link.client);
          link.server.stream = loop.reactor().Connect(server.address(), &link.server);
          link.client.other = &link.server;
          link.server.other = &link.client;
        }));
  }
  std::string address() const { return listener_->BoundAddress(); }
  // What comes on the connections that there are now.
  void Hold() {
    for (auto& link : links_) link->client.holds = true;
  }
  // They break, which only the backend learns.
  void Break() {
    for (auto& link : links_) link->client.stream.reset();
  }
  void Release() {
    for (auto& link : links_) {
      link->client.holds = false;
      if (link->server.stream) link->server.stream->Write(link->client.held);
    }
  }

 private:
  struct End : io::StreamHandler {
    void OnRead(std::string_view bytes) override {
      if (holds) {
        held += bytes;
      } else if (other->stream) {
        other->stream->Write(bytes);
      }
    }
    void OnClosed(std::string_view) override {
      stream.reset();
      other->stream.reset();
    }
    std::unique_ptr<io::Stream> stream;
    End* other = nullptr;
    bool holds = false;
    std::string held;
  };
  struct Link {
    End client, server;
  };

  std::unique_ptr<io::Listener> listener_;
  std::vector<std::unique_ptr<Link>> links_;
};

// Guards: backends/redis/redis_control.cc EndFormer (S18). Who asked was told that the outcome is not
// known, and goes on.
TEST_CASE("what a lost control connection carried does not happen when another one is used") {
  Loop loop;
  RedisServer server;
  SlowNetwork network(loop, server);
  Node node(loop, network.address());
  REQUIRE(node.AwaitExamined());
  network.Hold();
  std::string lost = "?";
  node.redis->Interrupt("*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$10\r\nmaxclients\r\n$3\r\n111\r\n",
                        [&](std::optional<std::string_view> reply) { lost = reply.value_or(""); });
  loop.For(milliseconds(20));
  network.Break();
  REQUIRE(loop.Until([&] { return lost != "?"; }));
  CHECK(lost.empty());
  std::string later = "?";
  node.redis->Interrupt("*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$10\r\nmaxclients\r\n$3\r\n222\r\n",
                        [&](std::optional<std::string_view> reply) { later = reply.value_or(""); });
  REQUIRE(loop.Until([&] { return later != "?"; }));
  CHECK(later == "+OK\r\n");
  network.Release();
  loop.For(milliseconds(200));
  const auto now = server.Client().Run({"CONFIG", "GET", "maxclients"});
  REQUIRE(now->elements == 2);
  CHECK(std::string(now->element[1]->str) == "222");
  CHECK(node.lost.empty());
}

TEST_CASE("kill -9 is told within a second, and the new process is examined anew") {
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  REQUIRE(node.Attach());
  server.Signal(SIGKILL);
  CHECK(loop.Until([&] { return node.lost.size() == 1; }, seconds(1)));
  bool refused = false;
  node.redis->AskPosition([&](std::optional<Position> position) { refused = !position; });
  CHECK(loop.Until([&] { return refused; }));
  server.Restart();
  REQUIRE(loop.Until([&] { return node.examined.size() == 2; }));
  CHECK(node.examined[1].run_id != node.examined[0].run_id);
  CHECK(node.lost.size() == 1);
}

TEST_CASE("a quick restart is a loss too: another run_id") {
  Loop loop;
  RedisServer server;
  redis::RedisOptions options;
  options.reconnect_grace = seconds(10);
  Node node(loop, server.address(), options);
  REQUIRE(node.AwaitExamined());
  server.Signal(SIGKILL);
  server.Restart();
  REQUIRE(loop.Until([&] { return node.lost.size() == 1; }, seconds(5)));
  CHECK(node.lost[0].find("another Redis process") != std::string::npos);
  CHECK(loop.Until([&] { return node.examined.size() == 2; }));
}

TEST_CASE("a Redis that hangs is lost after the hang timeout") {
  Loop loop;
  RedisServer server;
  redis::RedisOptions options;
  options.hang_timeout = milliseconds(500);
  options.check_interval = milliseconds(100);
  Node node(loop, server.address(), options);
  REQUIRE(node.AwaitExamined());
  server.Signal(SIGSTOP);
  CHECK(loop.Until([&] { return node.lost.size() == 1; }, seconds(5)));
  server.Signal(SIGCONT);
  CHECK(loop.Until([&] { return node.examined.size() == 2; }));
}

TEST_CASE("a Redis that is busy with a script lives") {
  Loop loop;
  RedisServer server({"--busy-reply-threshold", "100"});
  redis::RedisOptions options;
  options.hang_timeout = milliseconds(600);
  options.check_interval = milliseconds(100);
  Node node(loop, server.address(), options);
  REQUIRE(node.AwaitExamined());
  std::thread script([&] { server.Client().Run({"EVAL", "while true do end", "0"}); });
  DirectClient client = server.Client();
  while (client.Text({"PING"}).find("BUSY") == std::string::npos) {
  }
  bool answered = false;
  node.redis->AskPosition(
      [&](std::optional<Position> position) { answered = position.has_value(); });
  loop.For(seconds(2));
  CHECK(!answered);
  CHECK(node.lost.empty());
  client.Run({"SCRIPT", "KILL"});
  script.join();
  CHECK(loop.Until([&] { return answered; }));
}

TEST_CASE("somebody else's REPLICAOF is a loss") {
  Pair pair;
  pair.Join();
  SUBCASE("the head") {
    pair.head_server.Client().Run({"REPLICAOF", "127.0.0.1", "1"});
    CHECK(pair.loop.Until([&] { return pair.head.lost.size() == 1; }));
  }
  SUBCASE("the follower") {
    pair.server.Client().Run({"REPLICAOF", "NO", "ONE"});
    CHECK(pair.loop.Until([&] { return pair.follower.lost.size() == 1; }));
  }
}

// Its offset says nothing of what it holds then, and nothing that is asked of it later does.
TEST_CASE("a follower that wrote or evicted by itself does not resume") {
  const char* setting = "replica-read-only";
  SUBCASE("it took writes") {}
  SUBCASE("it obeyed its own maxmemory") { setting = "replica-ignore-maxmemory"; }
  Pair pair;
  pair.Join();
  pair.server.Client().Run({"CONFIG", "SET", setting, "no"});
  pair.server.Client().Run({"SET", "stray", "x"});
  REQUIRE(pair.loop.Until([&] { return pair.follower.lost.size() == 1; }));
  REQUIRE(pair.loop.Until([&] { return pair.follower.examined.size() == 2; }));
  CHECK(!pair.follower.examined[1].resume);
  CHECK(pair.follower.examined[1].from_chain);
  const auto now = pair.server.Client().Run({"CONFIG", "GET", setting});
  REQUIRE(now->elements == 2);
  CHECK(std::string(now->element[1]->str) == "yes");
  // Nor with the proxy that comes after this one.
  pair.follower.redis.reset();
  redis::RedisOptions options;
  options.incarnation = Incarnation(2);
  Node again(pair.loop, pair.server.address(), options);
  REQUIRE(again.AwaitExamined());
  CHECK(!again.examined[0].resume);
  CHECK(again.examined[0].from_chain);
  const Snapshot snapshot = Take(pair.loop, pair.head);
  REQUIRE(snapshot.ended);
  CHECK(Load(pair.loop, again, snapshot, &pair.head.log));
  CHECK(pair.server.Client().Text({"EXISTS", "stray"}) == "0");
}

TEST_CASE("nor does one whose setting is right again when it is examined, or that only waits") {
  const char* setting = "replica-read-only";
  bool waits = false;
  SUBCASE("a follower that took writes") {}
  SUBCASE("a follower that obeyed its own maxmemory") { setting = "replica-ignore-maxmemory"; }
  SUBCASE("a candidate that took writes") { waits = true; }
  SUBCASE("a candidate that obeyed its own maxmemory") {
    setting = "replica-ignore-maxmemory";
    waits = true;
  }
  Pair pair;
  pair.Join();
  Node& node = pair.follower;
  if (waits) {
    node.redis->Release();
    REQUIRE(pair.loop.Until([&] { return node.examined.size() == 2; }));
    REQUIRE(node.examined[1].resume);
  }
  const size_t examined = node.examined.size();
  pair.server.Client().Run({"CONFIG", "SET", setting, "no"});
  pair.server.Client().Run({"SET", "stray", "x"});
  REQUIRE(pair.loop.Until([&] { return node.lost.size() == 1; }));
  pair.server.Client().Run({"CONFIG", "SET", setting, "yes"});
  REQUIRE(pair.loop.Until([&] { return node.examined.size() > examined; }));
  CHECK(!node.examined[examined].resume);
  CHECK(node.examined[examined].from_chain);
  // What it loads then has a place again.
  const Snapshot snapshot = Take(pair.loop, pair.head);
  REQUIRE(snapshot.ended);
  node.loaded.reset();
  REQUIRE(Load(pair.loop, node, snapshot, &pair.head.log));
  CHECK(pair.server.Client().Text({"EXISTS", "stray"}) == "0");
  node.redis->Release();
  REQUIRE(pair.loop.Until([&] { return node.examined.size() > examined + 1; }));
  CHECK(node.examined[examined + 1].resume);
}

TEST_CASE("the feed's connection may break: the Redis comes back and goes on") {
  Pair pair;
  pair.Join();
  pair.server.Client().Run({"CLIENT", "KILL", "TYPE", "master"});
  pair.head_server.Client().Run({"SET", "after", "the break"});
  CheckEqual(pair.loop, pair.head_server, pair.head, pair.server, pair.follower);
  CHECK(pair.follower.gaps.empty());
  CHECK(pair.follower.lost.empty());
}

TEST_CASE("a starting proxy cuts its predecessor's connections at the Redis") {
  Loop loop;
  RedisServer server;
  DirectClient predecessor = server.Client(), stranger = server.Client(), other = server.Client();
  predecessor.Run({"CLIENT", "SETNAME", "catena:a:7"});
  stranger.Run({"CLIENT", "SETNAME", "catena:ab:7"});
  other.Run({"CLIENT", "SETNAME", "shop"});
  redis::RedisOptions options;
  options.node = "a";
  options.incarnation = Incarnation(8);
  Node node(loop, server.address(), options);
  REQUIRE(node.AwaitExamined());
  CHECK(!predecessor.Run({"PING"}));
  CHECK(stranger.Text({"PING"}) == "PONG");
  CHECK(other.Text({"PING"}) == "PONG");
}

TEST_CASE("WAIT of a direct client ends when the chain has committed") {
  Loop loop;
  RedisServer server;
  Node node(loop, server.address());
  REQUIRE(node.AwaitExamined());
  REQUIRE(node.Attach());
  bool asked = false;
  node.on_effects = [&] {
    if (node.log.bytes.find("GETACK") == std::string::npos || asked) return;
    asked = true;
    node.redis->AckWanted();
  };
  std::atomic<int> replicas = -1;
  std::thread waiter([&] {
    DirectClient client = server.Client();
    client.Run({"SET", "k", "v"});
    replicas = std::stoi(client.Text({"WAIT", "1", "20000"}));
  });
  CHECK(loop.Until([&] { return asked; }));
  CHECK(replicas == -1);
  node.redis->SetCommitted(node.log.End());
  CHECK(loop.Until([&] { return replicas >= 0; }, milliseconds(900)));
  waiter.join();
  CHECK(replicas == 1);
}

TEST_CASE("a backend may be destroyed by each of its events") {
  struct Fragile : Node {
    using Node::Node;
    void OnExamined(const backend::Info&) override { redis.reset(); }
  };
  struct FragileLost : Node {
    using Node::Node;
    void OnLost(const std::string& reason) override {
      Node::OnLost(reason);
      redis.reset();
    }
  };
  struct FragileEffects : Node {
    using Node::Node;
    void OnEffects(std::string_view) override { redis.reset(); }
  };
  Loop loop;
  RedisServer server;
  Fragile first(loop, server.address());
  CHECK(loop.Until([&] { return !first.redis; }));
  FragileEffects second(loop, server.address());
  REQUIRE(second.AwaitExamined());
  REQUIRE(second.Attach());
  server.Client().Run({"SET", "a", "b"});
  CHECK(loop.Until([&] { return !second.redis; }));
  FragileLost third(loop, server.address());
  REQUIRE(third.AwaitExamined());
  bool told = false;
  server.Signal(SIGSTOP);
  third.redis->AskPosition([&](std::optional<Position>) { told = true; });
  server.Signal(SIGKILL);
  CHECK(loop.Until([&] { return !third.redis; }));
}

}  // namespace
}  // namespace catena::test
