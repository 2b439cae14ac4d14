// Stores in directories of their own, and their contents as text.
#pragma once

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "backends/rocksdb/rocks_store_internal.h"
#include "backends/rocksdb/store.h"

namespace catena::rocks::test {

// In memory where the machine has that: no test needs what only a disk has, and an fsync takes time.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    namespace fs = std::filesystem;
    const fs::path memory = "/dev/shm";
    const fs::path parent = fs::is_directory(memory) ? memory : fs::temp_directory_path();
    std::string name = (parent / "catena_rocks_XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Every file below, with what is in it.
inline std::map<std::string, std::string> Contents(const std::string& directory) {
  std::map<std::string, std::string> contents;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    std::string& content = contents[entry.path().string()];
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    content.assign(std::istreambuf_iterator<char>(file), {});
  }
  return contents;
}

inline StoreOptions OptionsOf(const std::string& directory, Sync sync = Sync::kNever) {
  StoreOptions options;
  options.directory = directory;
  options.block_cache_bytes = 8u << 20;
  options.write_buffer_bytes = 1u << 20;
  options.sync = sync;
  return options;
}

inline std::unique_ptr<Store> Opened(const StoreOptions& options,
                                     const Surroundings& surroundings = {}) {
  auto store = OpenStoreIn(surroundings, options);
  if (!store) FAIL(store.error().message);
  return *std::move(store);
}

inline std::unique_ptr<Store> Opened(const std::string& directory, Sync sync = Sync::kNever) {
  return Opened(OptionsOf(directory, sync));
}

inline std::string OpenError(const std::string& directory) {
  const auto store = OpenStore(OptionsOf(directory));
  if (store) FAIL("it was opened");
  return store.error().message;
}

// One entry of the history: a change, and the place behind it.
inline void Put(Store& store, std::string_view key, std::string_view value,
                int64_t deadline_ms = Item::kNoDeadline) {
  const auto batch = store.NewBatch();
  batch->Add({.key = key, .value = value, .deadline_ms = deadline_ms});
  const auto applied = store.Apply(*batch, {"history", store.place().position + 1});
  if (!applied) FAIL(applied.error().message);
}

inline void Delete(Store& store, std::string_view key) {
  const auto batch = store.NewBatch();
  batch->Add({.key = key, .value = std::nullopt});
  REQUIRE(store.Apply(*batch, {"history", store.place().position + 1}));
}

inline std::string TextOf(const Item& item) {
  if (item.deadline_ms == Item::kNoDeadline) return item.value;
  return item.value + "@" + std::to_string(item.deadline_ms);
}

inline std::string Read(Store& store, std::string_view key) {
  Item item;
  const auto found = store.Get(key, item);
  if (!found) FAIL(found.error().message);
  return *found ? TextOf(item) : "none";
}

// "key=value key=value@deadline "
inline std::string Walked(Cursor& cursor) {
  std::string text;
  Item item;
  for (cursor.SeekToFirst(); cursor.Valid(); cursor.Next()) {
    cursor.Read(item);
    text.append(cursor.key()).append("=").append(TextOf(item)) += ' ';
  }
  return text;
}

inline std::string Walked(Store& store) { return Walked(*store.Walk()); }

inline std::vector<std::string> Expired(Store& store, int64_t deadline_ms, size_t max = 100) {
  std::vector<std::string> keys;
  REQUIRE(store.Expired(deadline_ms, max, keys));
  return keys;
}

using Strings = std::vector<std::string>;

}  // namespace catena::rocks::test
