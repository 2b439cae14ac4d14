#include <doctest/doctest.h>

#include <array>
#include <vector>

#include "backends/rocksdb/memory_store.h"

namespace catena::rocks {
namespace {

void Put(Store& store, std::string_view key, std::string_view value,
         int64_t deadline_ms = Item::kNoDeadline) {
  const auto batch = store.NewBatch();
  batch->Add({.key = key, .value = value, .deadline_ms = deadline_ms});
  REQUIRE(store.Apply(*batch, {"history", store.place().position + 1}));
}

std::string Read(Store& store, std::string_view key) {
  Item item;
  const auto found = store.Get(key, item);
  REQUIRE(found);
  if (!*found) return "none";
  return item.value + (item.deadline_ms == Item::kNoDeadline
                           ? std::string()
                           : "@" + std::to_string(item.deadline_ms));
}

std::string Walked(Cursor& cursor) {
  std::string keys;
  for (cursor.SeekToFirst(); cursor.Valid(); cursor.Next()) keys.append(cursor.key()) += ' ';
  return keys;
}

TEST_CASE("memory store: begins empty, and keeps what is applied") {
  const auto store = MakeMemoryStore();
  CHECK(store->place().replid.empty());
  CHECK(store->place().position == Position(1));
  CHECK_FALSE(store->from_chain());
  Put(*store, "k", "v");
  Put(*store, "d", "w", 50);
  CHECK(Read(*store, "k") == "v");
  CHECK(Read(*store, "d") == "w@50");
  CHECK(Read(*store, "x") == "none");
  CHECK(store->EstimateKeys() == 2);
  CHECK(store->place().position == Position(3));
  CHECK(store->from_chain());
}

TEST_CASE("memory store: a batch applies in order, and clearing drops what was before") {
  const auto store = MakeMemoryStore();
  Put(*store, "old", "1");
  const auto batch = store->NewBatch();
  batch->Add({.key = "early", .value = "1"});
  batch->Clear();
  batch->Add({.key = "late", .value = "1", .deadline_ms = 9});
  batch->Add({.key = "late", .value = "2"});
  batch->Add({.key = "gone", .value = "1"});
  batch->Add({.key = "gone", .value = std::nullopt});
  REQUIRE(store->Apply(*batch, {"history", Position(9)}));
  CHECK(Walked(*store->Walk()) == "late ");
  CHECK(Read(*store, "late") == "2");
  batch->Reset();
  REQUIRE(store->Apply(*batch, {"history", Position(10)}));
  CHECK(Read(*store, "late") == "2");
}

TEST_CASE("memory store: a cursor goes both ways over the data as it was") {
  const auto store = MakeMemoryStore();
  for (const char* key : {"b", "d", "f"}) Put(*store, key, key);
  const auto cursor = store->Walk();
  Put(*store, "c", "new");
  cursor->Seek("c");
  CHECK(cursor->key() == "d");
  cursor->Prev();
  CHECK(cursor->key() == "b");
  cursor->Prev();
  CHECK_FALSE(cursor->Valid());
  cursor->SeekForPrev("e");
  CHECK(cursor->key() == "d");
  cursor->SeekForPrev("a");
  CHECK_FALSE(cursor->Valid());
  cursor->SeekToLast();
  CHECK(cursor->key() == "f");
  CHECK(Walked(*cursor) == "b d f ");
  CHECK(Walked(*store->Walk()) == "b c d f ");
}

TEST_CASE("memory store: expired keys come by their deadlines") {
  const auto store = MakeMemoryStore();
  Put(*store, "late", "", 30);
  Put(*store, "early", "", 10);
  Put(*store, "middle", "", 20);
  Put(*store, "never", "");
  std::vector<std::string> keys;
  REQUIRE(store->Expired(20, 10, keys));
  CHECK(keys == std::vector<std::string>{"early", "middle"});
  REQUIRE(store->Expired(99, 1, keys));
  CHECK(keys == std::vector<std::string>{"early"});
}

// A copy of `from`, in pieces of `piece` bytes, up to `bytes` of them.
std::unique_ptr<Incoming> Transfer(Checkpoint& from, Store& to, size_t piece, uint64_t bytes) {
  auto incoming = to.BeginIncoming(from.name(), from.bytes());
  REQUIRE(incoming);
  std::string chunk;
  while ((*incoming)->received() < bytes) {
    REQUIRE(from.Read((*incoming)->received(), piece, chunk));
    REQUIRE((*incoming)->Write(chunk));
  }
  return std::move(*incoming);
}

TEST_CASE("memory store: a copy goes on after a break, and replaces all that was there") {
  const auto source = MakeMemoryStore(), target = MakeMemoryStore(std::string(40, '1'));
  Put(*source, "k", "v", 77);
  Put(*target, "other", "v");
  const auto checkpoint = source->MakeCheckpoint();
  REQUIRE(checkpoint);
  Put(*source, "later", "v");
  Transfer(**checkpoint, *target, 3, 20).reset();
  CHECK((*target->BeginIncoming((*checkpoint)->name(), (*checkpoint)->bytes()))->received() >= 20);
  auto incoming = Transfer(**checkpoint, *target, 5, (*checkpoint)->bytes());
  REQUIRE(incoming->Check());
  REQUIRE(target->Replace(std::move(incoming), (*checkpoint)->place()));
  CHECK(Walked(*target->Walk()) == "k ");
  CHECK(Read(*target, "k") == "v@77");
  CHECK(target->place().position == Position(2));
  CHECK(target->from_chain());
  CHECK(target->run_id() == std::string(40, '1'));
}

TEST_CASE("memory store: an incomplete or damaged copy is refused") {
  const auto source = MakeMemoryStore(), target = MakeMemoryStore();
  Put(*source, "k", "v");
  const auto checkpoint = source->MakeCheckpoint();
  REQUIRE(checkpoint);
  CHECK_FALSE(Transfer(**checkpoint, *target, 4, 4)->Check());
  CHECK_FALSE(target->Replace(Transfer(**checkpoint, *target, 4, 4), (*checkpoint)->place()));
  for (uint64_t damaged = 0; damaged < (*checkpoint)->bytes(); ++damaged) {
    target->DropIncoming();
    auto incoming = target->BeginIncoming("damaged", (*checkpoint)->bytes());
    REQUIRE(incoming);
    std::string bytes;
    REQUIRE((*checkpoint)->Read(0, SIZE_MAX, bytes));
    bytes[damaged] = static_cast<char>(bytes[damaged] ^ 1);
    REQUIRE((*incoming)->Write(bytes));
    CHECK_FALSE((*incoming)->Check());
  }
}

TEST_CASE(
    "memory store: another one on its disk finds what was applied, and is the same database") {
  const auto disk = std::make_shared<MemoryDisk>(std::string(40, '7'));
  {
    const auto store = OpenMemoryStore(disk);
    REQUIRE(store);
    Put(**store, "k", "v");
  }
  const MemoryDisk older = *disk;
  {
    const auto store = OpenMemoryStore(disk);
    REQUIRE(store);
    CHECK(Read(**store, "k") == "v");
    CHECK((*store)->place().position == older.place.position);
    CHECK((*store)->run_id() == older.run_id);
    Put(**store, "k", "w");
  }
  CHECK(disk->keys->at("k").value == "w");
  CHECK(older.keys->at("k").value == "v");
}

TEST_CASE("memory store: on a disk that fails nothing is applied") {
  const auto disk = std::make_shared<MemoryDisk>(std::string(40, '7'));
  const auto store = OpenMemoryStore(disk);
  REQUIRE(store);
  const auto batch = (*store)->NewBatch();
  batch->Add({.key = "k", .value = "v"});
  disk->fails = true;
  Item item;
  CHECK_FALSE((*store)->Apply(*batch, {"history", Position(9)}));
  CHECK_FALSE((*store)->Get("k", item));
  CHECK_FALSE(OpenMemoryStore(disk));
  CHECK(disk->keys->empty());
  CHECK(disk->place.position == Position(1));
}

}  // namespace
}  // namespace catena::rocks
