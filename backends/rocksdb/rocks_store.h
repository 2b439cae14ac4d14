// The Store on a RocksDB: see store.h. Its own records are in column families of their own
// (rocks_store_open.h): what it is (rocks_store_state.h), deadlines, and an index of them by time.
// Each write changes values, deadlines, index and state in one atomic batch.
#pragma once

#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backends/rocksdb/rocks_store_copy.h"
#include "backends/rocksdb/rocks_store_internal.h"
#include "backends/rocksdb/rocks_store_open.h"
#include "backends/rocksdb/rocks_store_state.h"
#include "backends/rocksdb/store.h"

namespace catena::rocks {

// Values go into RocksDB's own batch as they come; deadlines wait aside until Apply knows which
// ones the keys had before.
class RocksBatch : public Batch {
 public:
  void Add(const Change& change) override;
  void Clear() override;
  Result<void> AddSerialized(std::string_view serialized) override;
  void Reset() override;

  bool cleared() const { return cleared_; }
  rocksdb::WriteBatch& values() { return values_; }
  // Of the changes that have one, with their numbers in `values`, ascending.
  const std::vector<std::pair<uint32_t, int64_t>>& deadlines() const { return deadlines_; }

 private:
  bool cleared_ = false;
  rocksdb::WriteBatch values_;
  std::vector<std::pair<uint32_t, int64_t>> deadlines_;
};

// One of these for a directory in this process: what it holds of the LOCK file would be given up
// by looking at that file a second time.
class DirectoryClaim {
 public:
  static Result<std::unique_ptr<DirectoryClaim>> Make(const std::string& directory);
  ~DirectoryClaim();
  DirectoryClaim(const DirectoryClaim&) = delete;
  DirectoryClaim& operator=(const DirectoryClaim&) = delete;

 private:
  explicit DirectoryClaim(std::string directory) : directory_(std::move(directory)) {}
  std::string directory_;
};

class RocksStore : public Store {
 public:
  RocksStore(Surroundings surroundings, StoreOptions options,
             std::unique_ptr<DirectoryClaim> claim);
  // Everything is on the disk then, and marked so, unless something has failed before.
  ~RocksStore() override;

  Result<void> Open();

  const Place& place() const override { return state_.place; }
  bool from_chain() const override { return state_.from_chain; }
  const std::string& run_id() const override { return state_.run_id; }
  uint64_t EstimateKeys() const override;
  int Compare(std::string_view a, std::string_view b) const override;
  std::string Statistics() const override;
  std::string Version() const override;

  Result<bool> Get(std::string_view key, Item& item) override;
  Result<void> MultiGet(std::span<const std::string_view> keys, std::span<Item> items,
                        std::span<bool> found) override;
  std::unique_ptr<Cursor> Walk() override;
  Result<void> Walked() const override { return walked_; }
  Result<void> Expired(int64_t deadline_ms, size_t max, std::vector<std::string>& keys) override;

  std::unique_ptr<Batch> NewBatch() override { return std::make_unique<RocksBatch>(); }
  Result<void> Apply(Batch& batch, const Place& after) override;
  Result<void> SetPlace(const Place& place) override;
  Result<void> SyncNow() override;

  Result<std::unique_ptr<Checkpoint>> MakeCheckpoint() override;
  Result<std::unique_ptr<Incoming>> BeginIncoming(const std::string& name, uint64_t bytes) override;
  void DropIncoming() override;
  Result<void> Replace(std::unique_ptr<Incoming> incoming, const Place& place) override;

 private:
  struct DeadlineMove;

  Result<void> OpenFiles();
  Result<void> TakeState();
  Result<void> Close();

  Result<void> Write(rocksdb::WriteBatch& batch, StoreState state, bool sync);
  Result<void> Complete(RocksBatch& changes, rocksdb::WriteBatch& batch, StoreState& state);
  Result<void> FindMoves(RocksBatch& changes, bool any_before, std::vector<DeadlineMove>& moves);
  rocksdb::Status AddMove(const DeadlineMove& move, rocksdb::WriteBatch& batch, StoreState& state);
  Result<void> AddClearing(rocksdb::WriteBatch& batch);
  Result<void> FitDeadlines();
  Result<void> FitKeys(StoreState& state);
  Result<void> FitIndex(const StoreState& state);
  Result<void> WriteSome(rocksdb::WriteBatch& batch, const StoreState& state, uint32_t least);
  void LowerExpiryFloor();
  // Ends the Store's use: what it knows may not be what is there.
  // Reading ends it, too.
  Result<void> Check(const rocksdb::Status& status, const char* what);
  friend class RocksCursor;

  // True: what was read without looking for deadlines is right, too.
  bool StillWithoutDeadlines(uint64_t changes) const { return deadline_changes_ == changes; }
  Result<bool> GetWithDeadline(std::string_view key, Item& item);
  Result<void> Fetch(std::span<const std::string_view> keys, bool with_deadlines);
  // What is pinned keeps blocks in the cache.
  void Unpin();

  Surroundings surroundings_;
  StoreOptions options_;
  std::unique_ptr<DirectoryClaim> claim_;
  std::unique_ptr<Database> database_;
  const rocksdb::Comparator* comparator_ = nullptr;

  // --- of the thread that changes the data ---
  StoreState state_;
  bool unsynced_ = false;
  int64_t earliest_new_ms_ = INT64_MAX;  // deadline in the batch that is made up now
  uint64_t checkpoints_made_ = 0;
  std::shared_ptr<IncomingFiles> incoming_;

  // --- of the thread that reads: room for what it reads, kept from call to call ---
  rocksdb::PinnableSlice pinned_;
  std::vector<rocksdb::Slice> keys_;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;
  std::vector<rocksdb::PinnableSlice> values_;
  std::vector<rocksdb::Status> statuses_;
  Result<void> walked_;

  // --- of both ---
  // Keys with deadlines; while there are none, reading does not look for any. It is raised, and
  // the count of changes with it, before a deadline is written.
  std::atomic<uint64_t> deadline_count_{0};
  std::atomic<uint64_t> deadline_changes_{0};
  std::atomic<bool> failed_{false};
  // No deadline is before it, so that looking for expired keys does not pass over those that have
  // been deleted. Its version tells whether an earlier one has come meanwhile.
  mutable std::mutex expiry_mutex_;
  int64_t expiry_floor_ = 0;
  uint64_t expiry_version_ = 0;
};

}  // namespace catena::rocks
