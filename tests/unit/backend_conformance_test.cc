// What every backend does, whatever database is behind it: the same cases on a real redis-server, on
// RocksDB, and on the RocksDB backend's store in memory.
#include <doctest/doctest.h>
#include <signal.h>

#include <atomic>
#include <filesystem>

#include "tests/unit/redis_fixture.h"
#include "tests/unit/rocks_backend_fixture.h"

namespace catena::test {
namespace {

using std::chrono::milliseconds;

// --- machines: what stays when a backend goes ----------------------------------------------------

struct RedisMachine {
  std::unique_ptr<backend::Backend> Make(io::Reactor& reactor) {
    redis::RedisOptions options;
    options.address = server.address();
    options.node = "n";
    options.incarnation = Incarnation(1);
    return redis::MakeRedisBackend(reactor, options);
  }
  // The database ends as by a power cut; Return starts it again, without its data.
  void Lose() { server.Signal(SIGKILL); }
  void Return() { server.Restart(); }

  static constexpr std::string_view kKind = "redis";
  static constexpr bool kSealed = false;
  RedisServer server;
};

struct MemoryMachine {
  std::unique_ptr<backend::Backend> Make(io::Reactor& reactor) {
    return rocks::MakeRocksDbBackend(reactor, QuickOptions(), disk.InMemory());
  }
  void Lose() { disk.Fail(true); }
  void Return() { disk.Fail(false); }

  static constexpr std::string_view kKind = "rocksdb";
  static constexpr bool kSealed = true;
  Disk disk;
};

// A directory.
struct RocksMachine {
  RocksMachine() {
    std::string pattern = (std::filesystem::temp_directory_path() / "catena-rocks-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    directory = pattern;
  }
  ~RocksMachine() {
    std::error_code ignored;
    std::filesystem::remove_all(directory, ignored);
  }
  std::unique_ptr<backend::Backend> Make(io::Reactor& reactor) {
    return rocks::MakeRocksDbBackend(reactor, QuickOptions(),
                                     disk.With([directory = directory, wiped = wiped] {
                                       if (wiped->exchange(false))
                                         std::filesystem::remove_all(directory + "/db");
                                       rocks::StoreOptions options;
                                       options.directory = directory + "/db";
                                       options.block_cache_bytes = 8u << 20;
                                       return rocks::OpenStore(options);
                                     }));
  }
  void Lose() { disk.Fail(true); }
  void Return() {
    *wiped = true;
    disk.Fail(false);
  }

  static constexpr std::string_view kKind = "rocksdb";
  static constexpr bool kSealed = true;
  std::string directory;
  std::shared_ptr<std::atomic<bool>> wiped = std::make_shared<std::atomic<bool>>(false);
  Disk disk;
};

// --- a node on a machine -------------------------------------------------------------------------

template <typename Machine>
struct Member : EventLog {
  explicit Member(Loop& on) : loop(on), backend(machine.Make(on.reactor())) {
    backend->Start(this);
    REQUIRE(loop.Until([this] { return !examined.empty(); }));
  }
  void Attach() {
    backend->AttachCapture();
    REQUIRE(loop.Until([this] { return attached.has_value(); }));
    backend->NameHistory(kChain);
  }
  // Everything that is captured is committed at once, and `follower` is told.
  void CommitTo(Member& follower) {
    on_effects = [this, &follower] {
      backend->SetCommitted(log.End());
      if (follower.backend) follower.backend->FeedAvailable(log.End());
    };
  }
  std::string Run(std::initializer_list<std::string_view> arguments) {
    if (!client || client->closed) client.emplace(loop, *backend);
    return client->Run(arguments);
  }
  // Waits until it has applied everything that `head` has executed.
  bool CatchUp(Member& head) {
    const auto end = head.client->AskPosition();
    REQUIRE(end);
    REQUIRE(loop.Until([&] { return head.log.End() >= *end; }));
    head.backend->SetCommitted(head.log.End());
    backend->FeedAvailable(head.log.End());
    backend->ApplyAwaited(head.log.End());
    return loop.Until([&] { return applied && *applied >= head.log.End(); });
  }

  Loop& loop;
  Machine machine;
  std::unique_ptr<backend::Backend> backend;
  std::optional<Client> client;
};

// A head, and a follower with a snapshot of it.
template <typename Machine>
struct Chain {
  Chain() : head(loop), follower(loop) { head.Attach(); }
  void Join() {
    head.CommitTo(follower);
    const Snapshot snapshot = Take(loop, *head.backend);
    REQUIRE(snapshot.failed == "");
    REQUIRE(Load(loop, *follower.backend, follower, snapshot, &head.log));
  }

  Loop loop;
  Member<Machine> head, follower;
};

#define ON_EVERY_BACKEND(name) \
  TEST_CASE_TEMPLATE(name, M, RedisMachine, MemoryMachine, RocksMachine)

#define ON_ROCKSDB(name) TEST_CASE_TEMPLATE(name, M, MemoryMachine, RocksMachine)

// --- examination ---------------------------------------------------------------------------------

ON_EVERY_BACKEND("an examination tells what the database is") {
  Loop loop;
  Member<M> member(loop);
  const backend::Info& info = member.examined[0];
  CHECK(info.kind == M::kKind);
  CHECK(info.run_id.size() == 40);
  CHECK(!info.version.empty());
  CHECK(info.keys == 0);
  CHECK(info.databases == (info.kind == "rocksdb" ? 1 : 16));
  CHECK(!info.resume);
  CHECK(!info.from_chain);
  CHECK(info.commands.elements.size() > 50);
  CHECK(member.backend->Problem().empty());
  CHECK(member.backend->Reachable());
  CHECK(member.backend->SealsEntries() == M::kSealed);
}

// --- execution -----------------------------------------------------------------------------------

ON_EVERY_BACKEND(
    "replies and positions come in order, and a position bounds the effects before it") {
  Loop loop;
  Member<M> head(loop);
  head.Attach();
  Client client(loop, *head.backend);
  client.lane->SubmitPosition();
  client.lane->Submit("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n");
  client.lane->Submit("GET a\r\n");
  client.lane->SubmitPosition();
  client.lane->Submit("NOSUCH\r\n");
  client.lane->Submit("MGET a b\r\n");
  client.lane->SubmitPosition();
  REQUIRE(loop.Until([&] { return client.positions.size() == 3; }));
  REQUIRE(client.replies.size() == 4);
  CHECK(client.ready);
  CHECK(client.replies[0] == "OK");
  CHECK(client.replies[1] == "1");
  CHECK(client.replies[2].starts_with("ERR unknown command"));
  CHECK(client.replies[3] == "[1 (nil)]");
  CHECK(client.replies_before == std::vector<size_t>{0, 2, 4});
  CHECK(client.positions[0] >= *head.attached);
  CHECK(client.positions[1] > client.positions[0]);
  CHECK(client.positions[2] >= client.positions[1]);
  CHECK(loop.Until([&] { return head.log.End() >= client.positions[2]; }));
  CHECK(head.log.bytes.find("a") != std::string::npos);
}

ON_EVERY_BACKEND("nothing comes from inside the call that caused it") {
  Loop loop;
  Member<M> head(loop);
  head.backend->AttachCapture();
  CHECK(!head.attached);
  Client client(loop, *head.backend);
  client.lane->Submit("PING\r\n");
  CHECK(client.replies.empty());
  bool answered = false;
  head.backend->AskPosition(
      [&](std::optional<Position> position) { answered = position.has_value(); });
  CHECK(!answered);
  CHECK(loop.Until([&] { return answered && !client.replies.empty() && head.attached; }));
}

ON_EVERY_BACKEND("a position that is asked beside the lanes bounds every reply so far") {
  Loop loop;
  Member<M> head(loop);
  head.Attach();
  for (int i = 0; i < 20; ++i) {
    CHECK(head.Run({"INCR", "n"}) == std::to_string(i + 1));
    const Position before = head.log.End();
    std::optional<Position> bound;
    head.backend->AskPosition([&](std::optional<Position> position) { bound = position; });
    REQUIRE(loop.Until([&] { return bound.has_value(); }));
    CHECK(*bound >= before);
    REQUIRE(loop.Until([&] { return head.log.End() >= *bound; }));
  }
}

ON_EVERY_BACKEND("large commands and replies go through whole, and may be kept") {
  Loop loop;
  Member<M> head(loop);
  head.Attach();
  const std::string large(3u << 20, 'x');
  CHECK(head.Run({"SET", "k", large}) == "OK");
  CHECK(head.Run({"GET", "k"}) == large);
  CHECK(head.Run({"STRLEN", "k"}) == std::to_string(large.size()));
}

ON_EVERY_BACKEND("a paused lane gets nothing until it reads again, and all in order then") {
  Loop loop;
  Member<M> member(loop);
  Client client(loop, *member.backend);
  CHECK(client.Run({"PING"}) == "PONG");
  client.lane->PauseReading();
  client.lane->Submit("ECHO 1\r\n");
  client.lane->Submit("ECHO 2\r\n");
  CHECK(member.Run({"PING"}) == "PONG");
  CHECK(client.replies.size() == 1);
  client.lane->ResumeReading();
  CHECK(client.Run({"ECHO", "3"}) == "1");
  REQUIRE(loop.Until([&] { return client.replies.size() == 4; }));
  CHECK(client.replies[3] == "3");
}

// --- following -----------------------------------------------------------------------------------

ON_EVERY_BACKEND("a follower holds what the head committed, and nothing else") {
  Chain<M> chain;
  chain.head.Run({"SET", "before", "1"});
  chain.Join();
  CHECK(chain.follower.Run({"GET", "before"}) == "1");
  chain.head.on_effects = nullptr;
  chain.head.log.committed = chain.head.log.End();
  chain.head.Run({"SET", "dirty", "1"});
  const Position dirty = *chain.head.client->AskPosition();
  REQUIRE(chain.loop.Until([&] { return chain.head.log.End() >= dirty; }));
  while (*chain.head.log.committed < chain.head.log.End()) {
    CHECK(chain.follower.Run({"GET", "dirty"}) == "(nil)");
    chain.head.log.committed = *chain.head.log.committed + 1;
    chain.follower.backend->FeedAvailable(*chain.head.log.committed);
  }
  REQUIRE(chain.follower.CatchUp(chain.head));
  CHECK(chain.follower.Run({"GET", "dirty"}) == "1");
  CHECK(!chain.follower.fell);
}

ON_EVERY_BACKEND("a follower applies all that a head does, in order") {
  Chain<M> chain;
  chain.Join();
  for (int i = 0; i < 300; ++i) {
    chain.head.Run({"APPEND", "k" + std::to_string(i % 7), std::to_string(i)});
    if (i % 50 == 0) chain.head.Run({"DEL", "k3"});
  }
  chain.head.Run({"MULTI"});
  chain.head.Run({"SET", "due", "1", "EX", "1000"});
  chain.head.Run({"INCR", "n"});
  chain.head.Run({"EXEC"});
  REQUIRE(chain.follower.CatchUp(chain.head));
  for (const std::string key : {"k0", "k1", "k2", "k3", "k4", "k5", "k6", "n", "due"}) {
    CHECK(chain.follower.Run({"GET", key}) == chain.head.Run({"GET", key}));
    CHECK(chain.follower.Run({"PEXPIRETIME", key}) == chain.head.Run({"PEXPIRETIME", key}));
  }
  CHECK(chain.follower.Run({"DBSIZE"}) == "9");
  CHECK(chain.follower.client->AskPosition() >= chain.head.log.End());
}

ON_EVERY_BACKEND("a follower refuses writes") {
  Chain<M> chain;
  chain.Join();
  CHECK(chain.follower.Run({"SET", "a", "1"}) ==
        "READONLY You can't write against a read only replica.");
  CHECK(chain.follower.Run({"GET", "a"}) == "(nil)");
}

ON_EVERY_BACKEND("a message that is published at the head reaches a follower's subscribers") {
  Chain<M> chain;
  chain.Join();
  Client subscriber(chain.loop, *chain.follower.backend);
  CHECK(subscriber.Run({"SUBSCRIBE", "news"}) == "[subscribe news 1]");
  CHECK(chain.head.Run({"PUBLISH", "news", "hello"}) == "0");
  REQUIRE(chain.loop.Until([&] { return !subscriber.pushes.empty(); }));
  CHECK(subscriber.pushes[0] == "[message news hello]");
}

// A Redis takes ten seconds to say so: redis_backend_test.cc.
ON_ROCKSDB("a follower that is asked to go on from elsewhere says that it cannot") {
  Chain<M> chain;
  chain.Join();
  StreamLog other;
  other.start = chain.head.log.End() + 1000;
  chain.follower.backend->Follow(kChain, other.start, &other);
  CHECK(chain.loop.Until([&] { return !chain.follower.gaps.empty(); }));
}

ON_EVERY_BACKEND("a head deletes what expires, and its followers with it") {
  Chain<M> chain;
  chain.Join();
  CHECK(chain.head.Run({"SET", "k", "v", "PX", "30"}) == "OK");
  REQUIRE(chain.follower.CatchUp(chain.head));
  const Position end = chain.head.log.End();
  REQUIRE(chain.loop.Until([&] { return chain.head.log.End() > end; }));
  REQUIRE(chain.follower.CatchUp(chain.head));
  CHECK(chain.follower.Run({"GET", "k"}) == "(nil)");
  CHECK(chain.follower.Run({"DBSIZE"}) == "0");
}

// --- snapshots -----------------------------------------------------------------------------------

ON_EVERY_BACKEND("a snapshot replaces everything, and tells its length and position") {
  Chain<M> chain;
  for (int i = 0; i < 500; ++i)
    chain.head.Run({"SET", "k" + std::to_string(i), std::string(300, 'v')});
  chain.head.Run({"PEXPIREAT", "k1", "9000000000000"});
  REQUIRE(chain.follower.Run({"SET", "stale", "must go"}) != "");
  chain.head.CommitTo(chain.follower);
  chain.head.backend->SetCommitted(chain.head.log.End());
  // A database of committed data takes some time to apply them.
  const Position end = *chain.head.client->AskPosition();
  Snapshot snapshot;
  REQUIRE(chain.loop.Until([&] { return chain.head.log.End() >= end; }));
  do {
    snapshot = Take(chain.loop, *chain.head.backend);
    REQUIRE(snapshot.failed == "");
  } while (snapshot.position < end);
  CHECK(snapshot.bytes.size() == snapshot.length);
  REQUIRE(
      Load(chain.loop, *chain.follower.backend, chain.follower, snapshot, &chain.head.log, 1000));
  CHECK(chain.follower.Run({"DBSIZE"}) == "500");
  CHECK(chain.follower.Run({"GET", "k77"}) == std::string(300, 'v'));
  CHECK(chain.follower.Run({"PEXPIRETIME", "k1"}) == "9000000000000");
  CHECK(chain.follower.Run({"GET", "stale"}) == "(nil)");
  // It follows from there.
  chain.head.Run({"SET", "after", "1"});
  REQUIRE(chain.follower.CatchUp(chain.head));
  CHECK(chain.follower.Run({"GET", "after"}) == "1");
  // And a third one is filled from it.
  Member<M> third(chain.loop);
  const Snapshot second = Take(chain.loop, *chain.follower.backend);
  REQUIRE(second.failed == "");
  CHECK(second.position == *chain.follower.applied);
  REQUIRE(Load(chain.loop, *third.backend, third, second, &chain.head.log, 77777));
  CHECK(third.Run({"DBSIZE"}) == "501");
}

ON_EVERY_BACKEND("a damaged snapshot is refused, and the data is as it was") {
  Loop loop;
  Member<M> source(loop), member(loop);
  source.Attach();
  source.Run({"SET", "new", "data"});
  source.backend->SetCommitted(source.log.End());
  Snapshot snapshot = Take(loop, *source.backend);
  REQUIRE(snapshot.failed == "");
  SUBCASE("a flipped bit") { snapshot.bytes[snapshot.bytes.size() / 2] ^= 1; }
  SUBCASE("too long") { snapshot.bytes.insert(snapshot.bytes.size() / 2, "x"); }
  StreamLog log;
  log.start = snapshot.position;
  CHECK(!Load(loop, *member.backend, member, snapshot, &log));
  CHECK(member.refused.size() == 1);
  CHECK(member.Run({"GET", "new"}) == "(nil)");
  CHECK(member.lost.empty());
}

// --- promotion -----------------------------------------------------------------------------------

ON_EVERY_BACKEND("a promoted follower goes on at exactly its position") {
  Chain<M> chain;
  chain.head.Run({"SET", "k", "1"});
  chain.Join();
  chain.head.Run({"APPEND", "k", "2"});
  REQUIRE(chain.follower.CatchUp(chain.head));
  const Position end = chain.head.log.End();
  const Snapshot snapshot = Take(chain.loop, *chain.follower.backend);
  chain.follower.backend->Promote(kChain, end);
  REQUIRE(chain.loop.Until([&] { return chain.follower.attached.has_value(); }));
  CHECK(*chain.follower.attached == end);
  CHECK(chain.follower.Run({"APPEND", "k", "3"}) == "3");
  // What it sends from there fits behind the former head's.
  Member<M> third(chain.loop);
  REQUIRE(Load(chain.loop, *third.backend, third, snapshot, &chain.follower.log));
  REQUIRE(third.CatchUp(chain.follower));
  CHECK(third.Run({"GET", "k"}) == "123");
}

ON_EVERY_BACKEND("a database is promoted only where it is") {
  Chain<M> chain;
  chain.Join();
  chain.head.Run({"SET", "k", "1"});
  REQUIRE(chain.follower.CatchUp(chain.head));
  chain.follower.backend->Promote(kChain, chain.head.log.End() + 5);
  REQUIRE(chain.loop.Until(
      [&] { return !chain.follower.capture_lost.empty() || chain.follower.attached; }));
  CHECK(!chain.follower.attached);
}

// --- release and loss ----------------------------------------------------------------------------

ON_EVERY_BACKEND("a released follower is examined, and may resume where it was") {
  Chain<M> chain;
  chain.Join();
  chain.head.Run({"SET", "k", "1"});
  REQUIRE(chain.follower.CatchUp(chain.head));
  chain.follower.backend->Release();
  REQUIRE(chain.loop.Until([&] { return chain.follower.examined.size() == 2; }));
  const backend::Info& info = chain.follower.examined[1];
  CHECK(info.run_id == chain.follower.examined[0].run_id);
  CHECK(info.from_chain);
  REQUIRE(info.resume);
  CHECK(info.resume->replid == kChain);
  CHECK(info.resume->position == chain.head.log.End());
  chain.head.Run({"SET", "k", "2"});
  chain.follower.backend->Follow(kChain, info.resume->position, &chain.head.log);
  REQUIRE(chain.follower.CatchUp(chain.head));
  CHECK(chain.follower.Run({"GET", "k"}) == "2");
}

ON_EVERY_BACKEND(
    "a database that ends is lost with everything on it, and examined when it is back") {
  Loop loop;
  Member<M> member(loop);
  member.Attach();
  CHECK(member.Run({"SET", "k", "v"}) == "OK");
  member.machine.Lose();
  // Whoever needs it notices.
  member.client->lane->Submit("GET other\r\n");
  member.backend->SetCommitted(member.log.End());
  REQUIRE(loop.Until([&] { return !member.lost.empty() && member.client->closed; }));
  CHECK(member.lost.size() == 1);
  CHECK(!member.backend->Reachable());
  std::optional<std::optional<Position>> asked;
  member.backend->AskPosition([&](std::optional<Position> position) { asked = position; });
  CHECK(loop.Until([&] { return asked.has_value(); }));
  CHECK(!asked.value_or(Position()).has_value());
  Client late(loop, *member.backend);
  late.lane->Submit("PING\r\n");
  CHECK(loop.Until([&] { return late.closed; }));
  CHECK(!member.backend->Problem().empty());
  member.machine.Return();
  REQUIRE(loop.Until([&] { return member.examined.size() == 2; }));
  CHECK(member.examined[1].run_id != member.examined[0].run_id);
  CHECK(!member.examined[1].resume);
  CHECK(member.Run({"GET", "k"}) == "(nil)");
}

// A Redis that keeps its data over a restart: redis_backend_test.cc.
TEST_CASE("a RocksDB that was closed goes on where it was") {
  Chain<RocksMachine> chain;
  chain.head.Run({"MSET", "a", "1", "due", "2"});
  chain.head.Run({"PEXPIREAT", "due", "9000000000000"});
  chain.Join();
  chain.head.Run({"SET", "b", "2"});
  REQUIRE(chain.follower.CatchUp(chain.head));
  for (int life = 1; life <= 3; ++life) {
    chain.follower.client.reset();
    chain.follower.backend.reset();
    chain.head.Run({"INCR", "missed"});
    chain.follower.applied.reset();
    chain.follower.examined.clear();
    chain.follower.backend = chain.follower.machine.Make(chain.loop.reactor());
    chain.follower.backend->Start(&chain.follower);
    REQUIRE(chain.loop.Until([&] { return !chain.follower.examined.empty(); }));
    const backend::Info& info = chain.follower.examined[0];
    REQUIRE(info.resume);
    CHECK(info.resume->replid == kChain);
    CHECK(info.from_chain);
    chain.follower.backend->Follow(kChain, info.resume->position, &chain.head.log);
    REQUIRE(chain.follower.CatchUp(chain.head));
    CHECK(chain.follower.Run({"MGET", "a", "b", "due", "missed"}) ==
          "[1 2 2 " + std::to_string(life) + "]");
    CHECK(chain.follower.Run({"PEXPIRETIME", "due"}) == "9000000000000");
  }
}

ON_EVERY_BACKEND("a backend that goes while it works leaves nothing behind") {
  Loop loop;
  Member<M> member(loop);
  member.Attach();
  Client client(loop, *member.backend);
  for (int i = 0; i < 100; ++i) client.lane->Submit("INCR n\r\n");
  Snapshot snapshot;
  const auto reader = member.backend->TakeSnapshot(&snapshot, {});
  loop.Until([turns = 0]() mutable { return ++turns > 1; });
  member.client.reset();
  client.lane.reset();
  member.backend.reset();
  loop.For(milliseconds(20));
  CHECK(!client.closed);
}

}  // namespace
}  // namespace catena::test
