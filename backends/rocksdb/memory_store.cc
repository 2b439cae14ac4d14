// A Store whose data is a map: what the RocksDB one does, without threads, files and randomness of
// its own. A copy of it is one serialized batch behind a checksum.
#include "backends/rocksdb/memory_store.h"

#include <xxhash.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "backends/rocksdb/batch.h"

namespace catena::rocks {
namespace {

using Table = MemoryDisk::Table;

class MemoryBatch : public Batch {
 public:
  void Add(const Change& change) override {
    auto& slot = changes_[std::string(change.key)];
    slot.reset();
    if (change.value) slot = Item{std::string(*change.value), change.deadline_ms};
  }
  void Clear() override {
    changes_.clear();
    cleared_ = true;
  }
  Result<void> AddSerialized(std::string_view serialized) override {
    return ReadSerialized(serialized, [this](const Change& change) { Add(change); });
  }
  void Reset() override {
    changes_.clear();
    cleared_ = false;
  }

  void ApplyTo(Table& keys) const {
    if (cleared_) keys.clear();
    for (const auto& [key, item] : changes_) {
      if (item) {
        keys[key] = *item;
      } else {
        keys.erase(key);
      }
    }
  }

 private:
  std::map<std::string, std::optional<Item>> changes_;
  bool cleared_ = false;
};

// Holds the data as it was when it was made.
class MemoryCursor : public Cursor {
 public:
  explicit MemoryCursor(std::shared_ptr<const Table> keys)
      : keys_(std::move(keys)), at_(keys_->end()) {}

  void SeekToFirst() override { at_ = keys_->begin(); }
  void SeekToLast() override { at_ = Before(keys_->end()); }
  void Seek(std::string_view key) override { at_ = keys_->lower_bound(key); }
  void SeekForPrev(std::string_view key) override { at_ = Before(keys_->upper_bound(key)); }
  bool Valid() const override { return at_ != keys_->end(); }
  void Next() override { ++at_; }
  void Prev() override { at_ = Before(at_); }
  std::string_view key() const override { return at_->first; }
  void Read(Item& item) override { item = at_->second; }

 private:
  Table::const_iterator Before(Table::const_iterator at) const {
    return at == keys_->begin() ? keys_->end() : std::prev(at);
  }

  std::shared_ptr<const Table> keys_;
  Table::const_iterator at_;
};

std::string ChecksumOf(std::string_view bytes) {
  XXH64_canonical_t canonical;
  XXH64_canonicalFromHash(&canonical, XXH3_64bits(bytes.data(), bytes.size()));
  return {reinterpret_cast<const char*>(canonical.digest), sizeof(canonical.digest)};
}

class MemoryCheckpoint : public Checkpoint {
 public:
  MemoryCheckpoint(const Table& keys, Place place, std::string name)
      : place_(std::move(place)), name_(std::move(name)) {
    std::vector<Change> changes;
    for (const auto& [key, item] : keys) {
      changes.push_back({.key = key, .value = item.value, .deadline_ms = item.deadline_ms});
    }
    std::string batch;
    Serialize(changes, batch);
    bytes_ = ChecksumOf(batch) + batch;
  }

  const Place& place() const override { return place_; }
  const std::string& name() const override { return name_; }
  uint64_t bytes() const override { return bytes_.size(); }
  Result<void> Read(uint64_t offset, size_t max, std::string& out) override {
    if (offset > bytes_.size()) {
      return Fail("offset " + std::to_string(offset) + " is behind the copy's end at " +
                  std::to_string(bytes_.size()));
    }
    out = bytes_.substr(offset, max);
    return {};
  }

 private:
  Place place_;
  std::string name_;
  std::string bytes_;
};

// A copy that comes in; the Store keeps it when its transfer breaks.
struct IncomingCopy {
  std::string name;
  uint64_t bytes = 0;  // of the whole
  std::string received;
  bool checked = false;
};

class MemoryIncoming : public Incoming {
 public:
  explicit MemoryIncoming(std::shared_ptr<IncomingCopy> copy) : copy_(std::move(copy)) {}

  uint64_t received() const override { return copy_->received.size(); }
  Result<void> Write(std::string_view bytes) override {
    if (bytes.size() > copy_->bytes - copy_->received.size()) {
      return Fail("the copy has more than the " + std::to_string(copy_->bytes) +
                  " bytes that it was said to have");
    }
    copy_->received += bytes;
    return {};
  }
  Result<void> Check() override {
    if (copy_->received.size() < copy_->bytes) {
      return Fail("of the copy " + std::to_string(copy_->received.size()) + " bytes of " +
                  std::to_string(copy_->bytes) + " have come");
    }
    const std::string checksum = ChecksumOf(Serialized());
    if (copy_->received.compare(0, checksum.size(), checksum) != 0) {
      return Fail("the copy is damaged: its checksum is wrong");
    }
    copy_->checked = true;
    return {};
  }

  bool checked() const { return copy_->checked; }
  std::string_view Serialized() const {
    return std::string_view(copy_->received)
        .substr(std::min(copy_->received.size(), sizeof(XXH64_canonical_t)));
  }

 private:
  std::shared_ptr<IncomingCopy> copy_;
};

class MemoryStore : public Store {
 public:
  explicit MemoryStore(std::shared_ptr<MemoryDisk> disk) : disk_(std::move(disk)) {}

  const Place& place() const override { return disk_->place; }
  bool from_chain() const override { return disk_->from_chain; }
  const std::string& run_id() const override { return disk_->run_id; }
  uint64_t EstimateKeys() const override { return Current()->size(); }
  int Compare(std::string_view a, std::string_view b) const override { return a.compare(b); }
  std::string Statistics() const override { return {}; }
  std::string Version() const override { return "memory"; }

  Result<bool> Get(std::string_view key, Item& item) override {
    if (disk_->fails) return Failed();
    std::lock_guard lock(mutex_);
    const auto found = disk_->keys->find(key);
    if (found == disk_->keys->end()) return false;
    item = found->second;
    return true;
  }
  Result<void> MultiGet(std::span<const std::string_view> keys, std::span<Item> items,
                        std::span<bool> found) override;
  std::unique_ptr<Cursor> Walk() override { return std::make_unique<MemoryCursor>(Current()); }
  Result<void> Walked() const override { return {}; }
  Result<void> Expired(int64_t deadline_ms, size_t max, std::vector<std::string>& keys) override;

  std::unique_ptr<Batch> NewBatch() override { return std::make_unique<MemoryBatch>(); }
  Result<void> Apply(Batch& batch, const Place& after) override;
  Result<void> SetPlace(const Place& place) override {
    if (disk_->fails) return Failed();
    disk_->place = place;
    disk_->from_chain |= !place.replid.empty();
    return {};
  }
  Result<void> SyncNow() override { return disk_->fails ? Result<void>(Failed()) : Result<void>(); }

  Result<std::unique_ptr<Checkpoint>> MakeCheckpoint() override {
    if (disk_->fails) return Failed();
    return std::make_unique<MemoryCheckpoint>(
        *Current(), disk_->place, disk_->run_id + "-" + std::to_string(++disk_->checkpoints_made));
  }
  Result<std::unique_ptr<Incoming>> BeginIncoming(const std::string& name,
                                                  uint64_t bytes) override {
    if (disk_->fails) return Failed();
    if (!incoming_ || incoming_->name != name || incoming_->bytes != bytes) {
      incoming_ = std::make_shared<IncomingCopy>();
      incoming_->name = name;
      incoming_->bytes = bytes;
    }
    return std::make_unique<MemoryIncoming>(incoming_);
  }
  void DropIncoming() override { incoming_.reset(); }
  Result<void> Replace(std::unique_ptr<Incoming> incoming, const Place& place) override;

 private:
  static tl::unexpected<Error> Failed() { return Fail("the disk fails"); }
  // The data as it is now. Given back under the lock: the count of references alone would not tell
  // the thread that changes the data next that everything has been read.
  std::shared_ptr<const Table> Current() const {
    std::lock_guard lock(mutex_);
    return {disk_->keys.get(), [this, held = disk_->keys](const Table*) mutable {
              std::lock_guard lock_again(mutex_);
              held.reset();
            }};
  }

  const std::shared_ptr<MemoryDisk> disk_;
  std::shared_ptr<IncomingCopy> incoming_;
  // One thread reads while another one changes disk_->keys; whoever reads it for longer holds a
  // reference and then keeps it as it is.
  mutable std::mutex mutex_;
};

Result<void> MemoryStore::MultiGet(std::span<const std::string_view> keys, std::span<Item> items,
                                   std::span<bool> found) {
  if (disk_->fails) return Failed();
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto at = disk_->keys->find(keys[i]);
    found[i] = at != disk_->keys->end();
    if (found[i]) items[i] = at->second;
  }
  return {};
}

Result<void> MemoryStore::Expired(int64_t deadline_ms, size_t max, std::vector<std::string>& keys) {
  if (disk_->fails) return Failed();
  std::lock_guard lock(mutex_);
  std::vector<std::pair<int64_t, std::string_view>> found;
  for (const auto& [key, item] : *disk_->keys) {
    if (item.deadline_ms != Item::kNoDeadline && item.deadline_ms <= deadline_ms) {
      found.emplace_back(item.deadline_ms, key);
    }
  }
  std::sort(found.begin(), found.end());
  if (found.size() > max) found.resize(max);
  keys.clear();
  for (const auto& [deadline, key] : found) keys.emplace_back(key);
  return {};
}

Result<void> MemoryStore::Apply(Batch& batch, const Place& after) {
  if (disk_->fails) return Failed();
  std::lock_guard lock(mutex_);
  std::shared_ptr<Table>& keys = disk_->keys;
  if (keys.use_count() > 1) keys = std::make_shared<Table>(*keys);
  static_cast<MemoryBatch&>(batch).ApplyTo(*keys);
  disk_->place = after;
  disk_->from_chain |= !after.replid.empty();
  return {};
}

Result<void> MemoryStore::Replace(std::unique_ptr<Incoming> incoming, const Place& place) {
  if (disk_->fails) return Failed();
  const auto& copy = static_cast<const MemoryIncoming&>(*incoming);
  if (!copy.checked()) return Fail("the copy has not been checked");
  auto keys = std::make_shared<Table>();
  MemoryBatch batch;
  if (auto added = batch.AddSerialized(copy.Serialized()); !added) return added;
  batch.ApplyTo(*keys);
  std::lock_guard lock(mutex_);
  disk_->keys = std::move(keys);
  disk_->place = place;
  disk_->from_chain = true;
  incoming_.reset();
  return {};
}

}  // namespace

Result<std::unique_ptr<Store>> OpenMemoryStore(std::shared_ptr<MemoryDisk> disk) {
  if (disk->fails) return Fail("the disk fails");
  return std::make_unique<MemoryStore>(std::move(disk));
}

std::unique_ptr<Store> MakeMemoryStore(std::string run_id) {
  return std::make_unique<MemoryStore>(std::make_shared<MemoryDisk>(std::move(run_id)));
}

}  // namespace catena::rocks
