// Reading, which runs beside writing. While no key has a deadline, none is looked for; a write that
// brings one raises deadline_changes_ first, so whoever began before it looks again.
#include <rocksdb/statistics.h>
#include <rocksdb/version.h>

#include <algorithm>

#include "backends/rocksdb/batch.h"
#include "backends/rocksdb/rocks_store.h"

namespace catena::rocks {
namespace {

// Room that one huge MGET has taken is given back above this.
constexpr size_t kWarmValues = 4096;

rocksdb::Slice ToSlice(std::string_view bytes) { return {bytes.data(), bytes.size()}; }
std::string_view ToView(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

int64_t DeadlineIn(const rocksdb::Slice& bytes) {
  return ReadDeadline(ToView(bytes)).value_or(Item::kNoDeadline);
}

void AppendLine(const char* name, uint64_t value, std::string& out) {
  out.append("rocksdb_").append(name) += ':';
  out.append(std::to_string(value)) += "\r\n";
}

}  // namespace

// Over a snapshot. What the disk fails to deliver looks like the end here, which Walked tells, and
// ends the Store's use.
class RocksCursor : public Cursor {
 public:
  explicit RocksCursor(RocksStore& store) : store_(store) {
    rocksdb::DB& db = Db();
    snapshot_ = db.GetSnapshot();
    options_.snapshot = snapshot_;
    options_.total_order_seek = true;
    walk_.reset(db.NewIterator(options_, store_.database_->values));
    std::string state;
    const rocksdb::Status status = db.Get(options_, store_.database_->meta, kStateKey, &state);
    const auto decoded = DecodeState(state);
    has_deadlines_ = !decoded || decoded->deadlines > 0;
    Judge(status);
  }
  ~RocksCursor() override {
    walk_.reset();
    Db().ReleaseSnapshot(snapshot_);
  }
  RocksCursor(const RocksCursor&) = delete;
  RocksCursor& operator=(const RocksCursor&) = delete;

  void SeekToFirst() override { walk_->SeekToFirst(), Judge(walk_->status()); }
  void SeekToLast() override { walk_->SeekToLast(), Judge(walk_->status()); }
  void Seek(std::string_view key) override { walk_->Seek(ToSlice(key)), Judge(walk_->status()); }
  void SeekForPrev(std::string_view key) override {
    walk_->SeekForPrev(ToSlice(key)), Judge(walk_->status());
  }
  bool Valid() const override { return walk_->Valid(); }
  void Next() override { walk_->Next(), Judge(walk_->status()); }
  void Prev() override { walk_->Prev(), Judge(walk_->status()); }
  std::string_view key() const override { return ToView(walk_->key()); }
  void Read(Item& item) override {
    item.value.assign(walk_->value().data(), walk_->value().size());
    item.deadline_ms = Item::kNoDeadline;
    if (!has_deadlines_) return;
    const rocksdb::Status status =
        Db().Get(options_, store_.database_->deadlines, walk_->key(), &deadline_);
    if (status.ok()) item.deadline_ms = DeadlineIn(deadline_);
    if (!status.IsNotFound()) Judge(status);
  }

 private:
  rocksdb::DB& Db() const { return *store_.database_->db; }
  void Judge(const rocksdb::Status& status) {
    if (auto read = store_.Check(status, "walk the keys"); !read) store_.walked_ = read;
  }

  RocksStore& store_;
  const rocksdb::Snapshot* snapshot_ = nullptr;
  rocksdb::ReadOptions options_;
  std::unique_ptr<rocksdb::Iterator> walk_;
  bool has_deadlines_ = true;
  std::string deadline_;
};

std::unique_ptr<Cursor> RocksStore::Walk() { return std::make_unique<RocksCursor>(*this); }

int RocksStore::Compare(std::string_view a, std::string_view b) const {
  return comparator_->Compare(ToSlice(a), ToSlice(b));
}

// ---- Keys ----

Result<bool> RocksStore::Get(std::string_view key, Item& item) {
  const uint64_t changes = deadline_changes_;
  if (deadline_count_ > 0) return GetWithDeadline(key, item);
  pinned_.Reset();
  const rocksdb::Status status =
      database_->db->Get(rocksdb::ReadOptions(), database_->values, ToSlice(key), &pinned_);
  if (!StillWithoutDeadlines(changes)) return GetWithDeadline(key, item);
  if (status.IsNotFound()) return false;
  if (auto read = Check(status, "read"); !read) return tl::unexpected(read.error());
  item.value.assign(pinned_.data(), pinned_.size());
  item.deadline_ms = Item::kNoDeadline;
  pinned_.Reset();
  return true;
}

Result<bool> RocksStore::GetWithDeadline(std::string_view key, Item& item) {
  if (auto fetched = Fetch(std::span(&key, 1), true); !fetched) {
    return tl::unexpected(fetched.error());
  }
  const bool found = statuses_[0].ok();
  if (found) {
    item.value.assign(values_[0].data(), values_[0].size());
    item.deadline_ms = statuses_[1].ok() ? DeadlineIn(values_[1]) : Item::kNoDeadline;
  }
  Unpin();
  return found;
}

void RocksStore::Unpin() {
  for (rocksdb::PinnableSlice& value : values_) value.Reset();
}

// Fills the first of values_, and statuses_, all of one moment: values first, then deadlines. Each status is then
// either good or that there is none.
Result<void> RocksStore::Fetch(std::span<const std::string_view> keys, bool with_deadlines) {
  const size_t count = keys.size(), total = with_deadlines ? 2 * count : count;
  keys_.clear();
  for (std::string_view key : keys) keys_.push_back(ToSlice(key));
  Unpin();
  if (values_.size() < total) values_.resize(total);
  statuses_.assign(total, rocksdb::Status());
  if (!with_deadlines) {
    database_->db->MultiGet(rocksdb::ReadOptions(), database_->values, count, keys_.data(),
                            values_.data(), statuses_.data());
  } else {
    families_.assign(count, database_->values);
    families_.resize(total, database_->deadlines);
    for (size_t i = 0; i < count; ++i) keys_.push_back(keys_[i]);
    database_->db->MultiGet(rocksdb::ReadOptions(), total, families_.data(), keys_.data(),
                            values_.data(), statuses_.data());
  }
  for (const rocksdb::Status& status : statuses_) {
    if (status.IsNotFound()) continue;
    if (auto read = Check(status, "read"); !read) {
      Unpin();
      return read;
    }
  }
  return {};
}

Result<void> RocksStore::MultiGet(std::span<const std::string_view> keys, std::span<Item> items,
                                  std::span<bool> found) {
  if (keys.empty()) return {};
  const uint64_t changes = deadline_changes_;
  bool with_deadlines = deadline_count_ > 0;
  auto fetched = Fetch(keys, with_deadlines);
  if (fetched && !with_deadlines && !StillWithoutDeadlines(changes)) {
    with_deadlines = true;
    fetched = Fetch(keys, true);
  }
  if (!fetched) return fetched;
  for (size_t i = 0; i < keys.size(); ++i) {
    found[i] = statuses_[i].ok();
    if (!found[i]) continue;
    items[i].value.assign(values_[i].data(), values_[i].size());
    const size_t deadline = keys.size() + i;
    items[i].deadline_ms = with_deadlines && statuses_[deadline].ok()
                               ? DeadlineIn(values_[deadline])
                               : Item::kNoDeadline;
  }
  Unpin();
  if (values_.size() > kWarmValues) values_.resize(kWarmValues);
  return {};
}

Result<void> RocksStore::Expired(int64_t deadline_ms, size_t max, std::vector<std::string>& keys) {
  keys.clear();
  int64_t floor = 0;
  uint64_t version = 0;
  {
    std::lock_guard lock(expiry_mutex_);
    floor = expiry_floor_;
    version = expiry_version_;
  }
  if (deadline_count_ == 0 || floor > deadline_ms) return {};
  std::string from;
  AppendDeadline(floor, from);
  rocksdb::ReadOptions options;
  options.total_order_seek = true;
  const std::unique_ptr<rocksdb::Iterator> walk(
      database_->db->NewIterator(options, database_->expiry));
  walk->Seek(from);
  int64_t first = INT64_MAX;  // where the next look begins
  for (; walk->Valid() && keys.size() < max; walk->Next()) {
    const std::string_view entry = ToView(walk->key());
    const int64_t at = DeadlineIn(ToSlice(entry.substr(0, kDeadlineBytes)));
    first = std::min(first, at);
    if (at > deadline_ms) break;
    keys.emplace_back(entry.substr(kDeadlineBytes));
  }
  if (auto walked = Check(walk->status(), "walk the deadlines"); !walked) return walked;
  std::lock_guard lock(expiry_mutex_);
  if (version == expiry_version_ && max > 0) expiry_floor_ = first;
  return {};
}

// ---- About the database ----

uint64_t RocksStore::EstimateKeys() const {
  uint64_t keys = 0;
  database_->db->GetIntProperty(database_->values, rocksdb::DB::Properties::kEstimateNumKeys,
                                &keys);
  return keys;
}

std::string RocksStore::Version() const { return rocksdb::GetRocksVersionAsString(); }

std::string RocksStore::Statistics() const {
  using Properties = rocksdb::DB::Properties;
  rocksdb::DB& db = *database_->db;
  std::string out;
  const auto add = [&](const char* name, const std::string& property, bool of_all) {
    uint64_t value = 0;
    if (of_all ? db.GetAggregatedIntProperty(property, &value)
               : db.GetIntProperty(database_->values, property, &value)) {
      AppendLine(name, value, out);
    }
  };
  add("estimated_keys", Properties::kEstimateNumKeys, false);
  AppendLine("keys_with_deadline", deadline_count_, out);
  add("memtable_bytes", Properties::kCurSizeAllMemTables, true);
  add("table_reader_bytes", Properties::kEstimateTableReadersMem, true);
  AppendLine("block_cache_bytes", database_->cache->GetUsage(), out);
  AppendLine("block_cache_pinned_bytes", database_->cache->GetPinnedUsage(), out);
  AppendLine("block_cache_capacity_bytes", database_->cache->GetCapacity(), out);
  add("sst_bytes", Properties::kTotalSstFilesSize, true);
  add("live_data_bytes", Properties::kEstimateLiveDataSize, true);
  add("pending_compaction_bytes", Properties::kEstimatePendingCompactionBytes, true);
  add("running_compactions", Properties::kNumRunningCompactions, false);
  add("running_flushes", Properties::kNumRunningFlushes, false);
  add("background_errors", Properties::kBackgroundErrors, false);
  add("write_stopped", Properties::kIsWriteStopped, false);
  add("delayed_write_bytes_per_second", Properties::kActualDelayedWriteRate, false);
  const auto statistics = db.GetDBOptions().statistics;
  if (statistics) {
    const auto ticker = [&](const char* name, rocksdb::Tickers which) {
      AppendLine(name, statistics->getTickerCount(which), out);
    };
    ticker("block_cache_hits", rocksdb::BLOCK_CACHE_HIT);
    ticker("block_cache_misses", rocksdb::BLOCK_CACHE_MISS);
    ticker("bloom_useful", rocksdb::BLOOM_FILTER_USEFUL);
    ticker("stall_microseconds", rocksdb::STALL_MICROS);
    ticker("wal_syncs", rocksdb::WAL_FILE_SYNCED);
    ticker("wal_bytes", rocksdb::WAL_FILE_BYTES);
    ticker("compaction_read_bytes", rocksdb::COMPACT_READ_BYTES);
    ticker("compaction_write_bytes", rocksdb::COMPACT_WRITE_BYTES);
  }
  std::string files;
  for (int level = 0; level < db.NumberLevels(database_->values); ++level) {
    const std::string number = std::to_string(level);
    if (!db.GetProperty(database_->values, Properties::kNumFilesAtLevelPrefix + number, &files)) {
      continue;
    }
    out.append("rocksdb_files_at_level").append(number).append(":").append(files) += "\r\n";
  }
  return out;
}

}  // namespace catena::rocks
