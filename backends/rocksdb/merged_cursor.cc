#include "backends/rocksdb/merged_cursor.h"

#include <algorithm>

namespace catena::rocks {

bool MergedCursor::Expired(std::string_view key) const {
  return std::binary_search(
      expired_.begin(), expired_.end(), key,
      [this](std::string_view a, std::string_view b) { return order_.Compare(a, b) < 0; });
}

bool MergedCursor::OverlayShows() const {
  const Overlay::Version* version = overlay_.Visible(at_->second);
  if (version == nullptr || version->deleted) return false;
  return version->deadline_ms == Item::kNoDeadline || version->deadline_ms > now_ms_;
}

void MergedCursor::OverlayPrev() {
  at_ = at_ == overlay_.keys().begin() ? overlay_.keys().end() : std::prev(at_);
}

void MergedCursor::Pass(bool in_store, bool in_overlay) {
  if (direction_ == Direction::kForward) {
    if (in_store) store_->Next();
    if (in_overlay) ++at_;
  } else {
    if (in_store) store_->Prev();
    if (in_overlay) OverlayPrev();
  }
}

void MergedCursor::Settle() {
  for (;;) {
    where_ = Where::kNowhere;
    if (!StoreValid() && !OverlayValid()) return;
    int order = StoreValid() ? -1 : 1;  // < 0: the Store's key comes first
    if (StoreValid() && OverlayValid()) {
      order = order_.Compare(store_->key(), at_->first);
      if (direction_ == Direction::kBackward) order = -order;
    }
    both_ = order == 0;
    if (order >= 0 && OverlayShows()) {
      where_ = Where::kOverlay;
      return;
    }
    if (order < 0 && !Expired(store_->key())) {
      where_ = Where::kStore;
      return;
    }
    Pass(order <= 0, order >= 0);
  }
}

void MergedCursor::SeekToFirst() {
  direction_ = Direction::kForward;
  if (store_) store_->SeekToFirst();
  at_ = overlay_.keys().begin();
  Settle();
}

void MergedCursor::SeekToLast() {
  direction_ = Direction::kBackward;
  if (store_) store_->SeekToLast();
  at_ = overlay_.keys().end();
  OverlayPrev();
  Settle();
}

void MergedCursor::Seek(std::string_view key) {
  direction_ = Direction::kForward;
  if (store_) store_->Seek(key);
  at_ = overlay_.keys().lower_bound(key);
  Settle();
}

void MergedCursor::SeekForPrev(std::string_view key) {
  direction_ = Direction::kBackward;
  if (store_) store_->SeekForPrev(key);
  at_ = overlay_.keys().upper_bound(key);
  OverlayPrev();
  Settle();
}

// Both cursors then stand at the current key or behind it in that direction.
void MergedCursor::Turn(Direction direction) {
  if (direction_ == direction) return;
  const std::string here(key());
  if (direction == Direction::kForward) {
    Seek(here);
  } else {
    SeekForPrev(here);
  }
}

void MergedCursor::Next() {
  Turn(Direction::kForward);
  Pass(where_ == Where::kStore || both_, where_ == Where::kOverlay);
  Settle();
}

void MergedCursor::Prev() {
  Turn(Direction::kBackward);
  Pass(where_ == Where::kStore || both_, where_ == Where::kOverlay);
  Settle();
}

std::string_view MergedCursor::key() const {
  return where_ == Where::kStore ? store_->key() : std::string_view(at_->first);
}

void MergedCursor::Read(Item& item) {
  if (where_ == Where::kStore) return store_->Read(item);
  const Overlay::Version& version = *overlay_.Visible(at_->second);
  item.value.assign(version.value);
  item.deadline_ms = version.deadline_ms;
}

}  // namespace catena::rocks
