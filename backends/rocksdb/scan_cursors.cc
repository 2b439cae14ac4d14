#include "backends/rocksdb/scan_cursors.h"

#include <algorithm>

namespace catena::rocks {
namespace {

constexpr int kStepBits = 16, kNameBits = 37;
constexpr uint64_t kStepMask = (uint64_t{1} << kStepBits) - 1;
constexpr uint64_t kNameMask = (uint64_t{1} << kNameBits) - 1;

}  // namespace

size_t ScanCursors::IndexOf(uint64_t cursor) const {
  const auto found = std::find_if(scans_.begin(), scans_.end(), [&](const Scan& scan) {
    return scan.name == cursor >> kStepBits;
  });
  return static_cast<size_t>(found - scans_.begin());
}

std::optional<std::string_view> ScanCursors::Find(uint64_t cursor) const {
  const size_t index = IndexOf(cursor);
  if (index == scans_.size()) return std::nullopt;
  const Scan& scan = scans_[index];
  const uint64_t step = cursor & kStepMask;
  if (step == scan.step) return scan.newest;
  if (step > 0 && step + 1 == scan.step) return scan.former;
  return std::nullopt;
}

uint64_t ScanCursors::Advance(uint64_t cursor, std::string_view key, uint64_t random) {
  const size_t index = IndexOf(cursor);
  // A step that is asked again may end elsewhere than the first time, and the cursor answered then
  // may still be used: it begins a scan of its own.
  const bool goes_on = index < scans_.size() && (cursor & kStepMask) == scans_[index].step &&
                       scans_[index].step < kStepMask;
  Scan& scan = goes_on ? scans_[index] : Begin(random);
  bytes_ -= scan.former.size();
  scan.former.swap(scan.newest);
  scan.newest.assign(key);
  bytes_ += key.size();
  ++scan.step;
  scan.used = ++uses_;
  const uint64_t next = scan.name << kStepBits | scan.step;
  while (scans_.size() > 1 && (scans_.size() > kScansMax || bytes_ > kBytesMax)) Forget();
  return next;
}

ScanCursors::Scan& ScanCursors::Begin(uint64_t random) {
  Scan scan;
  // 0 is the cursor of every beginning.
  for (scan.name = random & kNameMask;
       scan.name == 0 || IndexOf(scan.name << kStepBits) < scans_.size();
       scan.name = (scan.name + 1) & kNameMask) {
  }
  return scans_.emplace_back(std::move(scan));
}

void ScanCursors::Forget() {
  const auto oldest = std::min_element(
      scans_.begin(), scans_.end(), [](const Scan& a, const Scan& b) { return a.used < b.used; });
  bytes_ -= oldest->newest.size() + oldest->former.size();
  *oldest = std::move(scans_.back());
  scans_.pop_back();
}

}  // namespace catena::rocks
