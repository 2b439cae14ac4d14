// The RocksDB backend apart from what every backend does (backend_conformance_test.cc): slow and
// failing disks, its two workers, snapshots that go on, histories' names.
#include <doctest/doctest.h>

#include "tests/unit/rocks_backend_fixture.h"

namespace catena::test {
namespace {

using std::chrono::milliseconds;

struct Rocks : EventLog {
  explicit Rocks(Loop& on, rocks::BackendOptions options = QuickOptions(), bool broken = false)
      : loop(on), backend(rocks::MakeRocksDbBackend(on.reactor(), options, disk.InMemory())) {
    disk.Fail(broken);
    backend->Start(this);
  }
  ~Rocks() override { disk.Hang(false); }
  bool Examined(size_t times = 1) {
    return loop.Until([&] { return examined.size() >= times; });
  }
  // Examined, the head of kChain.
  Rocks& Head() {
    REQUIRE(Examined());
    backend->AttachCapture();
    REQUIRE(loop.Until([this] { return attached.has_value(); }));
    backend->NameHistory(kChain);
    client.emplace(loop, *backend);
    return *this;
  }
  bool Applies(Position position) {
    backend->SetCommitted(position);
    return loop.Until([&] { return applied >= position; });
  }
  uint64_t KeysAfterRelease() {
    const size_t before = examined.size();
    backend->Release();
    REQUIRE(Examined(before + 1));
    return examined.back().keys;
  }

  Loop& loop;
  Disk disk;
  std::unique_ptr<backend::Backend> backend;
  std::optional<Client> client;
};

// --- the disk ------------------------------------------------------------------------------------

TEST_CASE("a disk that hangs stops neither the loop nor what the head executes") {
  Loop loop;
  Rocks rocks(loop);
  rocks.Head();
  CHECK(rocks.client->Run({"SET", "a", "1"}) == "OK");
  const Position first = rocks.log.End();
  rocks.disk.Hang(true);
  rocks.backend->SetCommitted(first);
  REQUIRE(loop.Until([&] { return rocks.disk.applies() == 1; }));
  for (int i = 0; i < 50; ++i) {
    CHECK(rocks.client->Run({"INCR", "n"}) == std::to_string(i + 1));
    CHECK(rocks.client->Run({"GET", "a"}) == "1");
  }
  rocks.backend->SetCommitted(rocks.log.End());
  loop.For(milliseconds(10));
  CHECK(!rocks.applied);
  CHECK(rocks.disk.applies() == 1);
  rocks.disk.Hang(false);
  CHECK(loop.Until([&] { return rocks.applied == rocks.log.End(); }));
  CHECK(rocks.disk.applies() == 2);  // all that was committed meanwhile, at once
  CHECK(rocks.client->Run({"GET", "n"}) == "50");
  CHECK(!rocks.fell);
}

TEST_CASE("what was committed is in the database, however the disk hangs when the process ends") {
  Loop loop;
  rocks::BackendOptions options = QuickOptions();
  options.sync = rocks::Sync::kInterval;
  Rocks rocks(loop, options);
  rocks.Head();
  CHECK(rocks.client->Run({"SET", "a", "1"}) == "OK");
  rocks.disk.Hang(true);
  rocks.backend->SetCommitted(rocks.log.End());
  REQUIRE(loop.Until([&] { return rocks.disk.applies() == 1; }));
  CHECK(rocks.client->Run({"SET", "b", "2"}) == "OK");
  rocks.backend->SetCommitted(rocks.log.End());
  CHECK(rocks.backend->HasUnapplied());
  rocks.client.reset();
  rocks.backend.reset();
  rocks.disk.Hang(false);
  CHECK(loop.Until([&] { return rocks.disk.applies() == 2; }, std::chrono::seconds(5)));
}

TEST_CASE("what is executed and not applied fills the lanes") {
  Loop loop;
  Rocks rocks(loop);
  rocks.Head();
  rocks.disk.Hang(true);
  const std::string large(1u << 20, 'x');
  for (int i = 0; i < 34; ++i) CHECK(rocks.client->Run({"SET", "k", large}) == "OK");
  rocks.backend->SetCommitted(rocks.log.End());
  REQUIRE(loop.Until([&] { return rocks.disk.applies() == 1; }));
  CHECK(rocks.client->lane->UnsentBytes() > 32u << 20);
  rocks.disk.Hang(false);
  REQUIRE(loop.Until([&] { return rocks.applied == rocks.log.End(); }));
  CHECK(rocks.client->lane->UnsentBytes() == 0);
}

TEST_CASE("the head tells what is applied only where answers wait for it") {
  Loop loop;
  rocks::BackendOptions options = QuickOptions();
  SUBCASE("always") { options.sync = rocks::Sync::kAlways; }
  SUBCASE("interval") { options.sync = rocks::Sync::kInterval; }
  SUBCASE("never") { options.sync = rocks::Sync::kNever; }
  options.sync_interval = milliseconds(1);
  Rocks rocks(loop, options);
  rocks.Head();
  CHECK(rocks.backend->AnswersWaitForApplied() == (options.sync == rocks::Sync::kAlways));
  loop.For(milliseconds(10));
  CHECK(rocks.disk.syncs() == 0);
  rocks.client->Run({"SET", "a", "1"});
  rocks.backend->SetCommitted(rocks.log.End());
  REQUIRE(loop.Until([&] { return rocks.disk.applies() == 1; }));
  if (options.sync == rocks::Sync::kInterval) {
    CHECK(loop.Until([&] { return rocks.disk.syncs() == 1; }));
  }
  loop.For(milliseconds(10));
  CHECK(rocks.disk.syncs() == (options.sync == rocks::Sync::kInterval ? 1 : 0));
  CHECK(rocks.applied.has_value() == (options.sync == rocks::Sync::kAlways));
}

TEST_CASE("expired keys go as fast as they are committed") {
  Loop loop;
  rocks::BackendOptions options = QuickOptions();
  options.expiry_interval = milliseconds(500);
  Rocks rocks(loop, options);
  rocks.Head();
  rocks.on_effects = [&] { rocks.backend->SetCommitted(rocks.log.End()); };
  for (int i = 0; i < 4000; ++i) {
    CHECK(rocks.client->Run({"SET", std::to_string(i), "v", "PX", "3000"}) == "OK");
  }
  REQUIRE(loop.Until([&] { return rocks.backend->LastKeyCount() > 1000; }));
  CHECK(loop.Until([&] { return rocks.backend->LastKeyCount() == 0; }, std::chrono::seconds(8)));
}

TEST_CASE("a database that cannot be opened is a problem that is told, and opened when it can be") {
  Loop loop;
  Rocks rocks(loop, QuickOptions(), /*broken=*/true);
  REQUIRE(loop.Until([&] { return rocks.backend->Problem() == "no disk"; }));
  CHECK(!rocks.backend->Reachable());
  CHECK(rocks.examined.empty());
  rocks.disk.Fail(false);
  CHECK(rocks.Examined());
  CHECK(rocks.backend->Problem() == "");
}

TEST_CASE("a write that fails loses the database, whatever waits for it") {
  Loop loop;
  Rocks rocks(loop);
  rocks.Head();
  rocks.client->Run({"SET", "a", "1"});
  rocks.disk.Hang(true);
  rocks.backend->SetCommitted(rocks.log.End());
  REQUIRE(loop.Until([&] { return rocks.disk.applies() == 1; }));
  rocks.disk.Fail(true);
  rocks.disk.Hang(false);
  REQUIRE(loop.Until([&] { return rocks.client->closed; }));
  CHECK(rocks.lost == std::vector<std::string>{"the disk is gone"});
  CHECK(!rocks.applied);
  rocks.disk.Fail(false);
  CHECK(rocks.Examined(2));
  rocks.Head();
  CHECK(rocks.client->Run({"GET", "a"}) == "(nil)");
}

TEST_CASE("a walk that the disk cuts short loses the database, and answers nothing") {
  Loop loop;
  Rocks rocks(loop);
  rocks.Head();
  rocks.client->Run({"SET", "a", "1"});
  REQUIRE(rocks.Applies(rocks.log.End()));
  rocks.disk.FailWalks(true);
  SUBCASE("KEYS") { CHECK(rocks.client->Run({"KEYS", "*"}) == "closed"); }
  SUBCASE("SCAN") { CHECK(rocks.client->Run({"SCAN", "0"}) == "closed"); }
  SUBCASE("DBSIZE") { CHECK(rocks.client->Run({"DBSIZE"}) == "closed"); }
  CHECK(rocks.lost == std::vector<std::string>{"the disk is gone"});
}

TEST_CASE("a backend may go while its disk hangs") {
  Loop loop;
  {
    Rocks rocks(loop);
    rocks.Head();
    rocks.client->Run({"SET", "a", "1"});
    rocks.disk.Hang(true);
    rocks.backend->SetCommitted(rocks.log.End());
    REQUIRE(loop.Until([&] { return rocks.disk.applies() == 1; }));
    rocks.client.reset();
    rocks.backend.reset();
  }
  loop.For(milliseconds(5));
}

// --- histories -----------------------------------------------------------------------------------

TEST_CASE("a former head holds what was committed, and may resume there") {
  Loop loop;
  Rocks rocks(loop);
  rocks.Head();
  rocks.client->Run({"SET", "a", "1"});
  const Position committed = rocks.log.End();
  REQUIRE(rocks.Applies(committed));
  rocks.client->Run({"SET", "a", "2"});
  rocks.client->Run({"SET", "b", "2"});
  CHECK(rocks.KeysAfterRelease() == 1);
  const backend::Info& info = rocks.examined.back();
  CHECK(info.committed_only);
  CHECK(info.from_chain);
  REQUIRE(info.resume);
  CHECK(info.resume->replid == kChain);
  CHECK(info.resume->position == committed);
  CHECK(rocks.client->Run({"MGET", "a", "b"}) == "[1 (nil)]");
}

// Guards: backends/rocksdb/rocksdb_roles.cc Release.
TEST_CASE("what was committed and not applied yet is not lost with the role") {
  Loop loop;
  Rocks rocks(loop);
  rocks.Head();
  rocks.client->Run({"SET", "a", "1"});
  CHECK(!rocks.backend->HasUnapplied());
  int applies = 1;
  SUBCASE("while it is being applied") {
    rocks.disk.Hang(true);
    rocks.backend->SetCommitted(rocks.log.End());
    REQUIRE(loop.Until([&] { return rocks.disk.applies() == 1; }));
    applies = 2;
  }
  SUBCASE("before") {}
  SUBCASE("all of it") { applies = 0; }
  rocks.client->Run({"SET", "b", "1"});
  const Position committed = rocks.log.End();
  if (applies == 0) {
    REQUIRE(rocks.Applies(committed));
  } else {
    rocks.backend->SetCommitted(committed);
    CHECK(rocks.backend->HasUnapplied());
  }
  rocks.backend->Release();
  CHECK(rocks.backend->HasUnapplied() == (applies > 0));
  rocks.disk.Hang(false);
  REQUIRE(rocks.Examined(2));
  CHECK(!rocks.backend->HasUnapplied());
  REQUIRE(rocks.examined.back().resume);
  CHECK(rocks.examined.back().resume->replid == kChain);
  CHECK(rocks.examined.back().resume->position == committed);
  CHECK(rocks.client->Run({"MGET", "a", "b"}) == "[1 1]");
}

TEST_CASE("an entry is checked without the database") {
  Loop loop;
  Rocks rocks(loop);
  rocks.Head();
  rocks.client->Run({"SET", "a", "1"});
  CHECK(rocks.backend->CheckEntry(rocks.log.bytes, rocks.log.start));
  CHECK(!rocks.backend->CheckEntry(rocks.log.bytes, rocks.log.start + 1));
  std::string damaged = rocks.log.bytes;
  damaged[damaged.size() / 2] ^= 4;
  CHECK(!rocks.backend->CheckEntry(damaged, rocks.log.start));
}

TEST_CASE("a feed that is damaged is refused, and nothing of it applied") {
  Loop loop;
  Rocks head(loop), follower(loop);
  head.Head();
  REQUIRE(follower.Examined());
  const Snapshot snapshot = Take(loop, *head.backend);
  REQUIRE(Load(loop, *follower.backend, follower, snapshot, &head.log));
  head.client->Run({"SET", "a", "1"});
  head.log.bytes[head.log.bytes.size() / 2] ^= 1;
  follower.backend->FeedAvailable(head.log.End());
  REQUIRE(loop.Until([&] { return !follower.gaps.empty(); }));
  CHECK(!follower.applied);
  CHECK(follower.lost.empty());
  CHECK(follower.KeysAfterRelease() == 0);
}

// --- snapshots -----------------------------------------------------------------------------------

// Notes where a snapshot began, and stops after some bytes.
struct Part : Snapshot {
  void OnSnapshotStart(Position at, uint64_t size, const backend::SnapshotPart& part) override {
    Snapshot::OnSnapshotStart(at, size, part);
    from = part;
  }
  void OnSnapshotBytes(std::string_view piece) override {
    Snapshot::OnSnapshotBytes(piece);
    if (reader && bytes.size() > pause_at) reader->Pause();
  }
  backend::SnapshotPart from;
  size_t pause_at = SIZE_MAX;
  std::unique_ptr<backend::SnapshotReader> reader;
};

TEST_CASE("a snapshot whose reader is gone goes on where it was") {
  Loop loop;
  Rocks rocks(loop);
  rocks.Head();
  for (int i = 0; i < 30; ++i) {
    rocks.client->Run({"SET", "k" + std::to_string(i), std::string(100'000, 'v')});
  }
  REQUIRE(rocks.Applies(rocks.log.End()));
  Part first;
  first.pause_at = 600'000;
  first.reader = rocks.backend->TakeSnapshot(&first, {});
  REQUIRE(loop.Until([&] { return first.bytes.size() > first.pause_at; }));
  loop.For(milliseconds(5));
  CHECK(first.bytes.size() < 2'000'000);  // paused
  CHECK(!first.from.name.empty());
  first.reader.reset();
  rocks.client->Run({"SET", "later", "1"});
  REQUIRE(rocks.Applies(rocks.log.End()));

  Part second;
  SUBCASE("what it had is known") {
    second.reader =
        rocks.backend->TakeSnapshot(&second, {first.from.name, first.bytes.size() - 10});
    REQUIRE(loop.Until([&] { return second.ended; }));
    CHECK(second.from.name == first.from.name);
    CHECK(second.from.bytes == first.bytes.size() - 10);
    Snapshot whole = first;
    whole.bytes.resize(second.from.bytes);
    whole.bytes += second.bytes;
    Rocks follower(loop);
    REQUIRE(follower.Examined());
    rocks.log.committed = whole.position;
    CHECK(Load(loop, *follower.backend, follower, whole, &rocks.log));
    CHECK(follower.KeysAfterRelease() == 30);
  }
  SUBCASE("another one was meant") {
    second.reader = rocks.backend->TakeSnapshot(&second, {"another", 10});
    REQUIRE(loop.Until([&] { return second.ended; }));
    CHECK(second.from.name != first.from.name);
    CHECK(second.from.bytes == 0);
    CHECK(second.position > first.position);
  }
}

// Of `rocks`, 3 MB of values; paused behind the first pieces.
void TakeSome(Rocks& rocks, Part& part) {
  for (int i = 0; i < 30; ++i) {
    rocks.client->Run({"SET", "k" + std::to_string(i), std::string(100'000, 'v')});
  }
  REQUIRE(rocks.Applies(rocks.log.End()));
  part.pause_at = 600'000;
  part.reader = rocks.backend->TakeSnapshot(&part, {});
  REQUIRE(rocks.loop.Until([&] { return part.bytes.size() > part.pause_at; }));
  rocks.loop.For(milliseconds(5));
}

TEST_CASE("a copy is not forgotten while it is read") {
  Loop loop;
  Rocks rocks(loop);
  rocks.Head();
  Part first;
  TakeSome(rocks, first);
  rocks.disk.Hang(true);
  const int reads = rocks.disk.reads();
  first.reader->Resume();
  REQUIRE(loop.Until([&] { return rocks.disk.reads() > reads; }));
  first.reader.reset();
  Part second;
  second.reader = rocks.backend->TakeSnapshot(&second, {"another", 10});
  loop.For(milliseconds(5));
  CHECK(rocks.disk.copies() == 1);
  rocks.disk.Hang(false);
  REQUIRE(loop.Until([&] { return second.ended; }));
  CHECK(second.from.name != first.from.name);
  CHECK(loop.Until([&] { return rocks.disk.copies() == 1; }));
}

TEST_CASE("a copy that cannot be read any more is not gone on with") {
  Loop loop;
  Rocks rocks(loop);
  rocks.Head();
  Part first;
  TakeSome(rocks, first);
  SUBCASE("its database was lost") {
    rocks.disk.Fail(true);
    REQUIRE(loop.Until([&] { return !rocks.lost.empty() && !first.failed.empty(); }));
    first.reader.reset();
    rocks.disk.Fail(false);
    REQUIRE(rocks.Examined(2));
    rocks.client.reset();
    rocks.attached.reset();
    rocks.backend->AttachCapture();
    REQUIRE(loop.Until([&] { return rocks.attached.has_value(); }));
  }
  SUBCASE("reading it failed") {
    rocks.disk.FailReads(true);
    first.reader->Resume();
    REQUIRE(loop.Until([&] { return !first.failed.empty(); }));
    first.reader.reset();
    rocks.disk.FailReads(false);
  }
  Part second;
  second.reader = rocks.backend->TakeSnapshot(&second, {first.from.name, first.bytes.size()});
  REQUIRE(loop.Until([&] { return second.ended; }));
  CHECK(second.from.name != first.from.name);
  CHECK(second.from.bytes == 0);
}

TEST_CASE("a snapshot of a follower that is fed meanwhile is of one position") {
  Loop loop;
  Rocks head(loop), follower(loop), third(loop);
  head.Head();
  REQUIRE(follower.Examined());
  REQUIRE(third.Examined());
  REQUIRE(Load(loop, *follower.backend, follower, Take(loop, *head.backend), &head.log));
  head.on_effects = [&] { follower.backend->FeedAvailable(head.log.End()); };
  CHECK(head.client->Run({"INCR", "n"}) == "1");
  REQUIRE(loop.Until([&] { return follower.applied == head.log.End(); }));
  const Position before = head.log.End();
  follower.disk.Hang(true);
  Snapshot snapshot;
  const auto reader = follower.backend->TakeSnapshot(&snapshot, {});
  REQUIRE(loop.Until([&] { return follower.disk.checkpoints() == 1; }));
  CHECK(head.client->Run({"INCR", "n"}) == "2");
  loop.For(milliseconds(5));
  CHECK(follower.applied == before);
  follower.disk.Hang(false);
  REQUIRE(loop.Until([&] { return snapshot.ended && follower.applied == head.log.End(); }));
  CHECK(snapshot.position == before);
  REQUIRE(Load(loop, *third.backend, third, snapshot, &head.log));
  third.backend->FeedAvailable(head.log.End());
  REQUIRE(loop.Until([&] { return third.applied == head.log.End(); }));
  Client client(loop, *third.backend);
  CHECK(client.Run({"GET", "n"}) == "2");
}

TEST_CASE("a sync that waited while the role changed is not forgotten") {
  Loop loop;
  rocks::BackendOptions options = QuickOptions();
  options.sync = rocks::Sync::kInterval;
  options.sync_interval = milliseconds(200);
  Rocks head(loop), follower(loop, options);
  head.Head();
  REQUIRE(follower.Examined());
  REQUIRE(Load(loop, *follower.backend, follower, Take(loop, *head.backend), &head.log));
  head.on_effects = [&] { follower.backend->FeedAvailable(head.log.End()); };
  CHECK(head.client->Run({"INCR", "n"}) == "1");
  REQUIRE(loop.Until([&] { return follower.applied == head.log.End(); }));
  follower.disk.Hang(true);
  const int before = follower.disk.syncs();
  Snapshot snapshot;
  const auto reader = follower.backend->TakeSnapshot(&snapshot, {});
  REQUIRE(loop.Until([&] { return follower.disk.checkpoints() == 1; }));
  loop.For(milliseconds(250));
  follower.backend->Promote(kChain, head.log.End());
  follower.disk.Hang(false);
  REQUIRE(loop.Until([&] { return follower.attached.has_value(); }));
  CHECK(loop.Until([&] { return follower.disk.syncs() > before; }));
}

TEST_CASE("a snapshot that cannot be put in place loses the database") {
  Loop loop;
  Rocks head(loop), follower(loop);
  head.Head();
  REQUIRE(follower.Examined());
  const Snapshot snapshot = Take(loop, *head.backend);
  follower.disk.Fail(true);
  follower.backend->BeginSnapshot(kChain, snapshot.position, snapshot.length, &head.log);
  follower.backend->SnapshotChunk(snapshot.bytes);
  CHECK(loop.Until([&] { return !follower.lost.empty(); }));
  CHECK(!follower.loaded);
}

// --- lanes ---------------------------------------------------------------------------------------

// Guards: backends/rocksdb/rocks_lane.cc (refused).
TEST_CASE("there is one database, and no script to interrupt") {
  Loop loop;
  Rocks rocks(loop);
  rocks.Head();
  Client other(loop, *rocks.backend, {.database = 1, .protocol = 2});
  // Its owner is told that nothing was sent.
  CHECK(other.Run({"SET", "a", "of another database"}) == "closed");
  CHECK(rocks.client->Run({"GET", "a"}) == "(nil)");
  std::string answer;
  rocks.backend->Interrupt("*2\r\n$6\r\nSCRIPT\r\n$4\r\nKILL\r\n",
                           [&](std::optional<std::string_view> reply) { answer = *reply; });
  CHECK(loop.Until([&] { return !answer.empty(); }));
  CHECK(answer.starts_with("-NOTBUSY"));
}

TEST_CASE("lanes of both protocols keep their order under thousands of commands") {
  Loop loop;
  Rocks rocks(loop);
  rocks.Head();
  Client two(loop, *rocks.backend), three(loop, *rocks.backend, {.database = 0, .protocol = 3});
  constexpr size_t kCommands = 5000;
  size_t sent = 0;
  REQUIRE(loop.Until([&] {
    for (int i = 0; i < 100 && sent < kCommands; ++i, ++sent) {
      two.lane->Submit("ECHO " + std::to_string(sent) + "\r\n");
      three.lane->Submit("HELLO\r\n");
      three.lane->Submit("INCR n\r\n");
      rocks.backend->SetCommitted(rocks.log.End());
    }
    return two.replies.size() == kCommands && three.replies.size() == 2 * kCommands;
  }));
  for (size_t i = 0; i < kCommands; ++i) {
    REQUIRE(two.replies[i] == std::to_string(i));
    REQUIRE(three.replies[2 * i + 1] == std::to_string(i + 1));
  }
  CHECK(rocks.Applies(rocks.log.End()));
}

}  // namespace
}  // namespace catena::test
