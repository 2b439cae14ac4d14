#include "backends/rocksdb/overlay.h"

#include <algorithm>
#include <utility>

#include "proxy/base/free_memory.h"

namespace catena::rocks {
namespace {

// Nodes that are kept for the next keys, and how much their values may hold.
constexpr size_t kSpareNodesMax = 1u << 16;
constexpr size_t kSpareBytesMax = 16u << 20;
constexpr size_t kKeptValueBytes = 16u << 10;

size_t BytesOf(const Overlay::Versions& versions) {
  size_t bytes = versions.list.capacity() * sizeof(Overlay::Version);
  for (const Overlay::Version& version : versions.list) bytes += version.value.capacity();
  return bytes;
}

}  // namespace

Overlay::Found Overlay::Find(std::string_view key) const {
  if (!keys_.empty()) {
    const auto found = keys_.find(key);
    if (found != keys_.end()) return {true, Visible(found->second)};
  }
  return {hides_store(), nullptr};
}

Overlay::Keys::iterator Overlay::Insert(std::string_view key) {
  const auto at = keys_.lower_bound(key);
  if (at != keys_.end() && !keys_.key_comp()(key, at->first)) return at;
  if (spare_.empty()) return keys_.emplace_hint(at, std::string(key), Versions{});
  Keys::node_type node = std::move(spare_.back());
  spare_.pop_back();
  spare_bytes_ -= BytesOf(node.mapped());
  node.key().assign(key);
  return keys_.insert(at, std::move(node));
}

void Overlay::Remove(Keys::iterator key) {
  Keys::node_type node = keys_.extract(key);
  node.mapped().collected = Position();
  const size_t bytes = BytesOf(node.mapped());
  if (bytes > kKeptValueBytes || spare_bytes_ + bytes > kSpareBytesMax ||
      spare_.size() >= kSpareNodesMax) {
    return;
  }
  spare_bytes_ += bytes;
  spare_.push_back(std::move(node));
}

Overlay::Version& Overlay::UnderWay(std::string_view key) {
  const Keys::iterator at = Insert(key);
  Versions& versions = at->second;
  if (versions.count == 0 || versions.newest().end != kUnderWay) {
    if (versions.count == versions.list.size()) versions.list.emplace_back();
    ++versions.count;
    touched_.push_back(at);
  }
  Version& version = versions.list[versions.count - 1];
  version.end = kUnderWay;
  return version;
}

void Overlay::Put(std::string_view key, std::string_view value, int64_t deadline_ms) {
  Version& version = UnderWay(key);
  version.deleted = false;
  version.deadline_ms = deadline_ms;
  version.value.assign(value);
}

void Overlay::Delete(std::string_view key) {
  Version& version = UnderWay(key);
  version.deleted = true;
  version.deadline_ms = Item::kNoDeadline;
  version.value.clear();
}

void Overlay::Clear() {
  Drop();
  flush_under_way_ = true;
  visible_from_ = kUnderWay;
}

void Overlay::Changes(std::vector<Change>& changes) const {
  changes.clear();
  for (const Keys::iterator& key : touched_) {
    const Version& version = key->second.newest();
    Change& change = changes.emplace_back();
    change.key = key->first;
    if (!version.deleted) change.value = version.value;
    change.deadline_ms = version.deadline_ms;
  }
}

void Overlay::Seal(Position end) {
  for (const Keys::iterator& key : touched_) {
    key->second.list[key->second.count - 1].end = end;
    touches_.push_back({end, key});
  }
  touched_.clear();
  if (!std::exchange(flush_under_way_, false)) return;
  flushes_.push_back(end);
  visible_from_ = end;
}

void Overlay::Drop() {
  for (const Keys::iterator& key : touched_) {
    if (--key->second.count == 0) Remove(key);
  }
  touched_.clear();
  if (!std::exchange(flush_under_way_, false)) return;
  visible_from_ = flushes_.empty() ? Position() : flushes_.back();
}

void Overlay::Collect(Position committed, Batch& batch) {
  Position flushed;
  for (size_t i = 0; i < flushes_.size() && flushes_[i] <= committed; ++i) flushed = flushes_[i];
  if (flushed > Position()) batch.Clear();
  for (size_t i = 0; i < touches_.size() && touches_[i].end <= committed; ++i) {
    Versions& versions = touches_[i].key->second;
    // Once for each key, however many entries touched it.
    if (versions.collected == committed) continue;
    versions.collected = committed;
    size_t last = versions.count;
    while (versions.list[last - 1].end > committed) --last;
    const Version& version = versions.list[last - 1];
    if (version.end < flushed) continue;
    Change change;
    change.key = touches_[i].key->first;
    if (!version.deleted) change.value = version.value;
    change.deadline_ms = version.deadline_ms;
    batch.Add(change);
  }
}

void Overlay::Forget(Position committed) {
  while (!flushes_.empty() && flushes_.front() <= committed) flushes_.pop_front();
  while (!touches_.empty() && touches_.front().end <= committed) {
    const Keys::iterator key = touches_.front().key;
    touches_.pop_front();
    // An entry touches a key once: its version is the oldest.
    Versions& versions = key->second;
    std::rotate(versions.list.begin(), versions.list.begin() + 1,
                versions.list.begin() + static_cast<ptrdiff_t>(versions.count));
    if (--versions.count == 0) Remove(key);
  }
}

void Overlay::Reset() {
  keys_.clear();
  FreeMemory(spare_);
  spare_bytes_ = 0;
  touched_.clear();
  touches_.clear();
  flushes_.clear();
  flush_under_way_ = false;
  visible_from_ = Position();
}

}  // namespace catena::rocks
