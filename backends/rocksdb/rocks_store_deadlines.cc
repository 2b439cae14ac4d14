// How the families of deadlines follow the values.
#include <algorithm>

#include "backends/rocksdb/batch.h"
#include "backends/rocksdb/rocks_store.h"
#include "proxy/base/check.h"

namespace catena::rocks {
namespace {

// A pass over all deadlines is written in batches of about so many changes.
constexpr uint32_t kFitBatchChanges = 1000;

rocksdb::Slice SliceOf(std::string_view bytes) { return {bytes.data(), bytes.size()}; }
std::string_view ViewOf(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

std::string IndexKey(int64_t deadline_ms, std::string_view key) {
  std::string bytes;
  AppendDeadline(deadline_ms, bytes);
  return bytes.append(key);
}

// What a batch leaves of one key.
struct KeyChange {
  std::string_view key;
  int64_t deadline_ms;
  uint32_t number;  // in its batch
};

// Tells the keys of a batch of values, and their deadlines. They lie in the batch.
class KeyCollector : public rocksdb::WriteBatch::Handler {
 public:
  explicit KeyCollector(const std::vector<std::pair<uint32_t, int64_t>>& deadlines)
      : next_(deadlines.begin()), end_(deadlines.end()) {}

  rocksdb::Status PutCF(uint32_t, const rocksdb::Slice& key, const rocksdb::Slice&) override {
    return Take(key);
  }
  rocksdb::Status DeleteCF(uint32_t, const rocksdb::Slice& key) override { return Take(key); }

  // The last change of each key, in the order of the deadlines' family.
  std::vector<KeyChange> TakeLast() {
    std::sort(changes_.begin(), changes_.end(), [](const KeyChange& a, const KeyChange& b) {
      return std::pair(a.key, b.number) < std::pair(b.key, a.number);
    });
    const auto same = [](const KeyChange& a, const KeyChange& b) { return a.key == b.key; };
    changes_.erase(std::unique(changes_.begin(), changes_.end(), same), changes_.end());
    return std::move(changes_);
  }

 private:
  rocksdb::Status Take(const rocksdb::Slice& key) {
    int64_t deadline_ms = Item::kNoDeadline;
    if (next_ != end_ && next_->first == number_) deadline_ms = (next_++)->second;
    changes_.push_back({ViewOf(key), deadline_ms, number_++});
    return rocksdb::Status::OK();
  }

  std::vector<std::pair<uint32_t, int64_t>>::const_iterator next_, end_;
  uint32_t number_ = 0;
  std::vector<KeyChange> changes_;
};

// Copies one batch of values behind another.
class Appender : public rocksdb::WriteBatch::Handler {
 public:
  explicit Appender(rocksdb::WriteBatch& to) : to_(to) {}
  rocksdb::Status PutCF(uint32_t, const rocksdb::Slice& key, const rocksdb::Slice& value) override {
    return to_.Put(key, value);
  }
  rocksdb::Status DeleteCF(uint32_t, const rocksdb::Slice& key) override { return to_.Delete(key); }

 private:
  rocksdb::WriteBatch& to_;
};

rocksdb::ReadOptions WholeOrder() {
  rocksdb::ReadOptions options;
  options.total_order_seek = true;
  return options;
}

rocksdb::Status AddClearingOf(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family,
                              rocksdb::WriteBatch& batch) {
  const std::unique_ptr<rocksdb::Iterator> walk(db.NewIterator(WholeOrder(), family));
  walk->SeekToFirst();
  if (!walk->Valid()) return walk->status();
  const std::string first = walk->key().ToString();
  walk->SeekToLast();
  if (!walk->Valid()) return walk->status();
  // A range ends before its end. An empty one would take a number when it is written, and none when
  // it is recovered from the log.
  rocksdb::Status status;
  if (walk->key() != first) status = batch.DeleteRange(family, first, walk->key());
  if (status.ok()) status = batch.Delete(family, walk->key());
  return status;
}

}  // namespace

// ---- RocksBatch ----

void RocksBatch::Add(const Change& change) {
  rocksdb::Status status;
  if (!change.value) {
    status = values_.Delete(SliceOf(change.key));
  } else {
    if (change.deadline_ms != Item::kNoDeadline) {
      deadlines_.emplace_back(values_.Count(), change.deadline_ms);
    }
    status = values_.Put(SliceOf(change.key), SliceOf(*change.value));
  }
  // Only a key or value of 4 GB is refused, and no command brings one.
  CATENA_CHECK(status.ok(), status.ToString());
}

void RocksBatch::Clear() {
  Reset();
  cleared_ = true;
}

Result<void> RocksBatch::AddSerialized(std::string_view serialized) {
  return ReadSerialized(serialized, [this](const Change& change) { Add(change); });
}

void RocksBatch::Reset() {
  values_.Clear();
  deadlines_.clear();
  cleared_ = false;
}

// ---- Following the values ----

// Keys whose deadline changes with a batch, from what it is now.
struct RocksStore::DeadlineMove {
  std::string key;
  int64_t old_ms, new_ms;
};

Result<void> RocksStore::FindMoves(RocksBatch& changes, bool any_before,
                                   std::vector<DeadlineMove>& moves) {
  if (!any_before && changes.deadlines().empty()) return {};
  KeyCollector collector(changes.deadlines());
  const auto collected = Check(changes.values().Iterate(&collector), "read a batch");
  if (!collected) return collected;
  const std::vector<KeyChange> last = collector.TakeLast();
  std::vector<rocksdb::PinnableSlice> found(last.size());
  std::vector<rocksdb::Status> statuses(last.size(), rocksdb::Status::NotFound());
  if (any_before && !last.empty()) {
    std::vector<rocksdb::Slice> keys;
    for (const KeyChange& change : last) keys.push_back(SliceOf(change.key));
    database_->db->MultiGet(rocksdb::ReadOptions(), database_->deadlines, keys.size(), keys.data(),
                            found.data(), statuses.data(), true);
  }
  for (size_t i = 0; i < last.size(); ++i) {
    int64_t old_ms = Item::kNoDeadline;
    if (statuses[i].ok()) {
      old_ms = ReadDeadline(ViewOf(found[i])).value_or(Item::kNoDeadline);
    } else if (!statuses[i].IsNotFound()) {
      return Check(statuses[i], "read a deadline");
    }
    if (old_ms != last[i].deadline_ms) {
      moves.push_back({std::string(last[i].key), old_ms, last[i].deadline_ms});
    }
  }
  return {};
}

rocksdb::Status RocksStore::AddMove(const DeadlineMove& move, rocksdb::WriteBatch& batch,
                                    StoreState& state) {
  rocksdb::Status status;
  if (move.old_ms != Item::kNoDeadline) {
    --state.deadlines;
    status = batch.Delete(database_->expiry, IndexKey(move.old_ms, move.key));
  }
  if (!status.ok()) return status;
  if (move.new_ms == Item::kNoDeadline) return batch.Delete(database_->deadlines, move.key);
  ++state.deadlines;
  earliest_new_ms_ = std::min(earliest_new_ms_, move.new_ms);
  const std::string index_key = IndexKey(move.new_ms, move.key);
  status = batch.Put(database_->expiry, index_key, "");
  if (!status.ok()) return status;
  return batch.Put(database_->deadlines, move.key,
                   SliceOf(std::string_view(index_key).substr(0, kDeadlineBytes)));
}

// Makes `batch`, which may be that of `changes`, hold all of them and what follows from them.
Result<void> RocksStore::Complete(RocksBatch& changes, rocksdb::WriteBatch& batch,
                                  StoreState& state) {
  std::vector<DeadlineMove> moves;
  if (auto found = FindMoves(changes, state.deadlines > 0, moves); !found) return found;
  rocksdb::Status status;
  if (&batch != &changes.values()) {
    Appender appender(batch);
    status = changes.values().Iterate(&appender);
  }
  for (size_t i = 0; status.ok() && i < moves.size(); ++i) {
    status = AddMove(moves[i], batch, state);
  }
  return Check(status, "add to a batch");
}

Result<void> RocksStore::AddClearing(rocksdb::WriteBatch& batch) {
  for (auto* family : {database_->values, database_->deadlines, database_->expiry}) {
    const auto status = AddClearingOf(*database_->db, family, batch);
    if (auto added = Check(status, "find what to delete"); !added) return added;
  }
  return {};
}

// Only when it is written: whoever looks for expired keys meanwhile either finds it, or raises the
// floor before this lowers it again.
void RocksStore::LowerExpiryFloor() {
  if (earliest_new_ms_ == INT64_MAX) return;
  std::lock_guard lock(expiry_mutex_);
  expiry_floor_ = std::min(expiry_floor_, earliest_new_ms_);
  ++expiry_version_;
  earliest_new_ms_ = INT64_MAX;
}

// ---- After somebody else has written ----

// Writes what has gathered in `batch` if it is at least `least` changes.
Result<void> RocksStore::WriteSome(rocksdb::WriteBatch& batch, const StoreState& state,
                                   uint32_t least) {
  if (batch.Count() < least) return {};
  auto written = Write(batch, state, false);
  batch.Clear();
  return written;
}

// Deadlines of keys that are gone go, and all others are in the index and counted.
Result<void> RocksStore::FitKeys(StoreState& state) {
  rocksdb::DB& db = *database_->db;
  rocksdb::WriteBatch batch;
  std::string value;
  const std::unique_ptr<rocksdb::Iterator> keys(db.NewIterator(WholeOrder(), database_->deadlines));
  for (keys->SeekToFirst(); keys->Valid(); keys->Next()) {
    const auto deadline_ms = ReadDeadline(ViewOf(keys->value()));
    rocksdb::Status status = db.Get(rocksdb::ReadOptions(), database_->values, keys->key(), &value);
    if (status.IsNotFound() || (status.ok() && !deadline_ms)) {
      status = batch.Delete(database_->deadlines, keys->key());
    } else if (status.ok()) {
      ++state.deadlines;
      status = batch.Put(database_->expiry, IndexKey(*deadline_ms, ViewOf(keys->key())), "");
    }
    if (auto fit = Check(status, "fit the deadlines"); !fit) return fit;
    if (auto written = WriteSome(batch, state, kFitBatchChanges); !written) return written;
  }
  if (auto walked = Check(keys->status(), "walk the deadlines"); !walked) return walked;
  return WriteSome(batch, state, 1);
}

// What the index has too much goes.
Result<void> RocksStore::FitIndex(const StoreState& state) {
  rocksdb::DB& db = *database_->db;
  rocksdb::WriteBatch batch;
  std::string deadline_now;
  const std::unique_ptr<rocksdb::Iterator> index(db.NewIterator(WholeOrder(), database_->expiry));
  for (index->SeekToFirst(); index->Valid(); index->Next()) {
    rocksdb::Slice key = index->key();
    const rocksdb::Slice deadline(key.data(), std::min(key.size(), kDeadlineBytes));
    key.remove_prefix(deadline.size());
    rocksdb::Status status =
        db.Get(rocksdb::ReadOptions(), database_->deadlines, key, &deadline_now);
    if (status.IsNotFound() || (status.ok() && deadline != rocksdb::Slice(deadline_now))) {
      status = batch.Delete(database_->expiry, index->key());
    }
    if (auto fit = Check(status, "fit the index of deadlines"); !fit) return fit;
    if (auto written = WriteSome(batch, state, kFitBatchChanges); !written) return written;
  }
  if (auto walked = Check(index->status(), "walk the index of deadlines"); !walked) return walked;
  return WriteSome(batch, state, 1);
}

Result<void> RocksStore::FitDeadlines() {
  StoreState state = state_;
  state.deadlines = 0;
  if (auto fit = FitKeys(state); !fit) return fit;
  if (auto fit = FitIndex(state); !fit) return fit;
  state.deadlines_fit = true;
  rocksdb::WriteBatch batch;
  return Write(batch, state, true);
}

}  // namespace catena::rocks
