// Whole copies of a database: out of one store as a stream, checked, and into another one.
#include "backends/rocksdb/rocks_store_copy.h"

#include <rocksdb/comparator.h>
#include <rocksdb/db.h>

#include <algorithm>
#include <random>

#include "rocks_store_fixture.h"

namespace catena::rocks {
namespace {

using namespace test;
namespace files = std::filesystem;

std::string Streamed(Checkpoint& checkpoint, size_t piece) {
  std::string bytes, chunk;
  while (bytes.size() < checkpoint.bytes()) {
    REQUIRE(checkpoint.Read(bytes.size(), piece, chunk));
    REQUIRE(chunk.size() <= piece);
    REQUIRE_FALSE(chunk.empty());
    bytes += chunk;
  }
  return bytes;
}

std::unique_ptr<Incoming> Begin(Store& store, const Checkpoint& checkpoint) {
  auto incoming = store.BeginIncoming(checkpoint.name(), checkpoint.bytes());
  if (!incoming) FAIL(incoming.error().message);
  return *std::move(incoming);
}

std::unique_ptr<Checkpoint> Copied(Store& store) {
  auto checkpoint = store.MakeCheckpoint();
  if (!checkpoint) FAIL(checkpoint.error().message);
  return *std::move(checkpoint);
}

// Three megabytes that no compression makes less, so that files have several blocks.
void Fill(Store& store, const std::string& word) {
  std::mt19937 random(1);
  for (int i = 0; i < 30; ++i) {
    std::string value(100000, '\0');
    for (char& byte : value) byte = static_cast<char>(random());
    Put(store, word + std::to_string(i), value, i);
  }
}

TEST_CASE("rocks copy: it is of one moment, replaces everything, and lasts") {
  TemporaryDirectory directory;
  const auto source = Opened(directory / "a");
  Fill(*source, "k");
  const auto checkpoint = Copied(*source);
  const std::string expected = Walked(*source);
  Put(*source, "later", "1");
  CHECK(checkpoint->place().position == Position(31));

  auto target = Opened(directory / "b");
  Put(*target, "theirs", "1", 5);
  const std::string run_id = target->run_id();
  std::ofstream(directory / "b/notes.txt") << "the owner's";
  auto incoming = Begin(*target, *checkpoint);
  REQUIRE(incoming->Write(Streamed(*checkpoint, 100001)));
  REQUIRE(incoming->Check());
  REQUIRE(target->Replace(std::move(incoming), {"renamed", Position(31)}));
  const auto check = [&] {
    CHECK(Walked(*target) == expected);
    CHECK(target->place().replid == "renamed");
    CHECK(target->place().position == Position(31));
    CHECK(target->from_chain());
    CHECK(target->run_id() == run_id);
    CHECK(Expired(*target, 2) == Strings{"k0", "k1", "k2"});
  };
  check();
  target.reset();
  target = Opened(directory / "b");
  check();
  Put(*target, "k0", "new");
  CHECK(Read(*target, "k0") == "new");
  CHECK(files::exists(directory / "b/notes.txt"));
  CHECK_FALSE(files::exists(directory / "b/catena.incoming"));
}

int CopiesIn(const std::string& directory) {
  int copies = 0;
  for (const auto& entry : files::directory_iterator(directory)) {
    if (entry.path().filename().string().starts_with("catena.checkpoint.")) ++copies;
  }
  return copies;
}

TEST_CASE("rocks copy: its place on disk is given back") {
  TemporaryDirectory directory;
  const auto store = Opened(directory / "a");
  Fill(*store, "k");
  auto first = Copied(*store), second = Copied(*store);
  CHECK(first->name() != second->name());
  CHECK(CopiesIn(directory / "a") == 2);
  first.reset();
  CHECK(CopiesIn(directory / "a") == 1);
  CHECK(Streamed(*second, 1 << 20).size() == second->bytes());
  second.reset();
  CHECK(CopiesIn(directory / "a") == 0);
}

TEST_CASE("rocks copy: one that outlives its store does not harm those of the next") {
  TemporaryDirectory directory;
  auto store = Opened(directory / "a");
  Fill(*store, "k");
  auto old = Copied(*store);
  store.reset();
  store = Opened(directory / "a");
  const auto checkpoint = Copied(*store);
  old.reset();
  CHECK(Streamed(*checkpoint, 1 << 20).size() == checkpoint->bytes());
}

TEST_CASE("rocks copy: any piece can be read, in any order") {
  TemporaryDirectory directory;
  const auto store = Opened(directory / "a");
  Fill(*store, "k");
  const auto checkpoint = Copied(*store);
  const std::string whole = Streamed(*checkpoint, 1 << 22);
  CHECK(whole == Streamed(*checkpoint, 4093));
  std::string piece;
  for (uint64_t at = 0; at < whole.size(); at += 77777) {
    const uint64_t offset = whole.size() - at;
    REQUIRE(checkpoint->Read(offset, 100, piece));
    CHECK(piece == whole.substr(offset, 100));
  }
  CHECK_FALSE(checkpoint->Read(whole.size() + 1, 1, piece));
}

TEST_CASE("rocks copy: a broken transfer goes on, from before the damage if there is any") {
  TemporaryDirectory directory;
  const auto source = Opened(directory / "a"), target = Opened(directory / "b");
  Fill(*source, "k");
  const auto checkpoint = Copied(*source);
  const std::string whole = Streamed(*checkpoint, 1 << 20);
  auto incoming = Begin(*target, *checkpoint);
  const size_t half = whole.size() / 2;
  REQUIRE(incoming->Write(std::string_view(whole).substr(0, half)));
  CHECK(incoming->received() == half);
  CHECK_FALSE(incoming->Check());
  incoming = Begin(*target, *checkpoint);
  REQUIRE(incoming->received() == half);
  std::string damaged = whole.substr(half);
  damaged[0] = static_cast<char>(damaged[0] ^ 1);
  const auto written = incoming->Write(damaged);
  REQUIRE_FALSE(written);
  CHECK(written.error().message.find("checksum") != std::string::npos);
  CHECK(incoming->received() < half);
  CHECK(incoming->received() > half - kCopyBlockBytes - 8);
  incoming = Begin(*target, *checkpoint);
  REQUIRE(incoming->Write(std::string_view(whole).substr(incoming->received())));
  REQUIRE(incoming->Check());
  REQUIRE(target->Replace(std::move(incoming), checkpoint->place()));
  CHECK(Walked(*target) == Walked(*source));
}

TEST_CASE("rocks copy: another name begins anew, and pieces of two copies do not mix") {
  TemporaryDirectory directory;
  const auto source = Opened(directory / "a"), target = Opened(directory / "b");
  Fill(*source, "k");
  const auto first = Copied(*source), second = Copied(*source);
  REQUIRE(first->bytes() == second->bytes());
  const std::string one = Streamed(*first, 1 << 20), other = Streamed(*second, 1 << 20);
  auto incoming = Begin(*target, *first);
  REQUIRE(incoming->Write(std::string_view(one).substr(0, one.size() / 2)));
  CHECK_FALSE(incoming->Write(std::string_view(other).substr(one.size() / 2)));
  CHECK(Begin(*target, *first)->received() > 0);
  CHECK(Begin(*target, *second)->received() == 0);
  target->DropIncoming();
  CHECK_FALSE(files::exists(directory / "b/catena.incoming"));
}

TEST_CASE("rocks copy: damage anywhere is noticed, and nothing of it stays") {
  TemporaryDirectory directory;
  const auto source = Opened(directory / "a"), target = Opened(directory / "b");
  Put(*target, "mine", "1");
  Fill(*source, "k");
  const auto checkpoint = Copied(*source);
  const std::string whole = Streamed(*checkpoint, 1 << 20);
  size_t step = 1;
  for (size_t at = 0; at < whole.size(); at += step) {
    if (at > 300) step = 90001;
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    target->DropIncoming();
    auto incoming = Begin(*target, *checkpoint);
    const bool taken = incoming->Write(damaged).has_value() && incoming->Check().has_value();
    CAPTURE(at);
    CHECK_FALSE(taken);
    CHECK_FALSE(target->Replace(std::move(incoming), checkpoint->place()));
  }
  target->DropIncoming();
  auto incoming = Begin(*target, *checkpoint);
  REQUIRE(incoming->Write(whole));
  CHECK_FALSE(incoming->Write("x"));
  CHECK(Read(*target, "mine") == "1");
}

// A stream of one empty file besides CURRENT, with a right checksum.
bool IsTaken(Store& store, const std::vector<CopiedFile>& list) {
  const CopyHead head{.number = 7, .files = list};
  store.DropIncoming();
  auto incoming = store.BeginIncoming("hostile", CopyBytes(head));
  REQUIRE(incoming);
  return (*incoming)->Write(EncodeCopyHead(head)).has_value();
}

TEST_CASE("rocks copy: only names of RocksDB's files are taken") {
  TemporaryDirectory directory;
  const auto store = Opened(directory / "a");
  CHECK(IsTaken(*store, {{"CURRENT", 0}, {"000012.sst", 0}, {"MANIFEST-000004", 0}}));
  for (const char* name : {"../CURRENT", "/tmp/x.sst", "a/1.sst", "", ".", "..", "LOCK", "LOG",
                           "COMPLETE", "MOVING", "x.sst", ".sst", "1.sst.x", "MANIFEST-",
                           "OPTIONS-1.dbtmp", "1.SST", "-1.sst", "1.log/..", "catena.incoming"}) {
    CAPTURE(name);
    CHECK_FALSE(IsTaken(*store, {{"CURRENT", 0}, {name, 0}}));
  }
  CHECK_FALSE(IsTaken(*store, {{"CURRENT", 0}, {"CURRENT", 0}}));
  CHECK_FALSE(IsTaken(*store, {{"000012.sst", 0}}));
  CHECK_FALSE(IsTaken(*store, {}));
  CHECK_FALSE(IsTaken(*store, {{"CURRENT", uint64_t{1} << 62}}));
  CHECK_FALSE(IsTaken(*store, {{"CURRENT", UINT64_MAX}}));
}

TEST_CASE("rocks copy: bytes without sense are refused early") {
  TemporaryDirectory directory;
  const auto store = Opened(directory / "a");
  for (const std::string& bytes :
       {std::string(100, '\0'), std::string(100, '\xff'), "CATENADB" + std::string(100, '\xff'),
        "CATENADB" + std::string(100, '\0'), std::string(100, 'x')}) {
    store->DropIncoming();
    auto incoming = store->BeginIncoming("hostile", uint64_t{1} << 40);
    REQUIRE(incoming);
    CHECK_FALSE((*incoming)->Write(bytes));
    CHECK((*incoming)->received() == 0);
  }
}

TEST_CASE("rocks copy: an owner's families and comparator travel with it") {
  TemporaryDirectory directory;
  {
    rocksdb::Options options;
    options.create_if_missing = true;
    options.comparator = rocksdb::ReverseBytewiseComparator();
    rocksdb::DB* db = nullptr;
    REQUIRE(rocksdb::DB::Open(options, directory / "a", &db).ok());
    rocksdb::ColumnFamilyHandle* orders = nullptr;
    REQUIRE(db->CreateColumnFamily(options, "orders", &orders).ok());
    REQUIRE(db->Put({}, orders, "o", "1").ok());
    REQUIRE(db->Put({}, "a", "1").ok());
    REQUIRE(db->Put({}, "b", "2").ok());
    db->DestroyColumnFamilyHandle(orders);
    delete db;
  }
  const auto source = Opened(directory / "a");
  auto target = Opened(directory / "b");
  const auto checkpoint = Copied(*source);
  auto incoming = Begin(*target, *checkpoint);
  REQUIRE(incoming->Write(Streamed(*checkpoint, 1 << 20)));
  REQUIRE(incoming->Check());
  REQUIRE(target->Replace(std::move(incoming), {"h", Position(1)}));
  CHECK(Walked(*target) == "b=2 a=1 ");
  CHECK(target->Compare("a", "b") > 0);
  target.reset();
  Strings families;
  REQUIRE(rocksdb::DB::ListColumnFamilies({}, directory / "b", &families).ok());
  CHECK(std::count(families.begin(), families.end(), "orders") == 1);
}

TEST_CASE("rocks copy: one of another position, or not checked, replaces nothing") {
  TemporaryDirectory directory;
  const auto source = Opened(directory / "a"), target = Opened(directory / "b");
  Put(*source, "k", "v");
  Put(*target, "mine", "1");
  const auto checkpoint = Copied(*source);
  auto incoming = Begin(*target, *checkpoint);
  REQUIRE(incoming->Write(Streamed(*checkpoint, 1 << 20)));
  CHECK_FALSE(target->Replace(std::move(incoming), checkpoint->place()));
  incoming = Begin(*target, *checkpoint);
  REQUIRE(incoming->Check());
  CHECK_FALSE(target->Replace(std::move(incoming), {"history", Position(99)}));
  CHECK(Read(*target, "mine") == "1");
  Put(*target, "mine", "2");
  CHECK(Read(*target, "mine") == "2");
}

}  // namespace
}  // namespace catena::rocks
