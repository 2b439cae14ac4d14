// What the RocksDB backend runs off the loop: the database and its engine, and the batches of work
// that go to them and come back. A batch belongs to one thread at a time: the loop's until it is
// handed over, then the worker's until that is done.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backends/backend.h"
#include "backends/rocksdb/engine.h"
#include "backends/rocksdb/store.h"
#include "proxy/base/result.h"
#include "proxy/base/shared_bytes.h"

namespace catena::rocks {

using OpenFunction = std::function<Result<std::unique_ptr<Store>>()>;

// Owned by the backend and by everything of it that runs on a worker.
struct WorkerCore {
  std::unique_ptr<Store> store;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Incoming> incoming;
  // Set when the backend goes: what is committed up to there may have been answered, and nobody
  // brings it into the database any more.
  Position owed;

  ~WorkerCore();
  void Close();
  // Closes, opens, and examines.
  Result<backend::Info> Open(const OpenFunction& open, uint64_t seed, int64_t now_ms,
                             const std::string& configuration);
  Result<backend::Info> Examine();
};

// One batch for the engine, and what came out of it. Used again, so that a warm backend allocates
// nothing per command.
struct WorkBatch {
  struct Item {
    enum class Kind : uint8_t { kCommand, kPosition, kOpen, kClose } kind = Kind::kCommand;
    LaneId lane = 0;
    size_t begin = 0, size = 0;  // kCommand: in `bytes`, or in *owner
    BytesOwner owner;
    int protocol = 2;  // kOpen
  };

  // --- in, in this order ---
  bool end_commit = false;
  std::string bytes;
  std::vector<Item> items;
  bool expire = false;
  std::string feed;
  std::optional<Position> commit;
  bool count_keys = false;
  int64_t now_ms = 0;
  uint64_t role = 0;  // of the backend's roles, the one that this was for

  // --- out ---
  Output out;
  std::optional<Engine::Ready> ready;  // to be applied
  std::optional<uint64_t> keys;
  bool more_expired = false;
  std::string gap;      // not empty: the feed does not fit
  std::string failure;  // not empty: the Store failed

  bool empty() const {
    return items.empty() && !end_commit && !expire && feed.empty() && !commit && !count_keys;
  }
  void Clear();
  void Run(WorkerCore& core);

 private:
  Result<void> RunItems(Engine& engine);
  std::string_view CommandOf(const Item& item) const;

  std::vector<std::string_view> commands_;
};

}  // namespace catena::rocks
