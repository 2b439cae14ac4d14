// Walks what a command sees: the Store's keys under the overlay's, expired ones left out.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backends/rocksdb/overlay.h"
#include "backends/rocksdb/view.h"

namespace catena::rocks {

class MergedCursor final : public Cursor {
 public:
  // `store`: nullptr when the overlay hides all of it. `expired`: keys of the Store that are not
  // there any more, in order. The overlay outlives it and does not change meanwhile.
  MergedCursor(const Store& order, const Overlay& overlay, std::unique_ptr<Cursor> store,
               std::vector<std::string> expired, int64_t now_ms)
      : order_(order),
        overlay_(overlay),
        store_(std::move(store)),
        expired_(std::move(expired)),
        now_ms_(now_ms),
        at_(overlay.keys().end()) {}

  void SeekToFirst() override;
  void SeekToLast() override;
  void Seek(std::string_view key) override;
  void SeekForPrev(std::string_view key) override;
  bool Valid() const override { return where_ != Where::kNowhere; }
  void Next() override;
  void Prev() override;
  std::string_view key() const override;
  void Read(Item& item) override;

 private:
  enum class Where { kNowhere, kStore, kOverlay };
  enum class Direction { kForward, kBackward };

  // Comes to rest at the nearest key in the direction that is there; both cursors stand at it or
  // behind it.
  void Settle();
  // Passes the key at which one or both cursors stand.
  void Pass(bool in_store, bool in_overlay);
  void Turn(Direction direction);
  bool StoreValid() const { return store_ && store_->Valid(); }
  bool OverlayValid() const { return at_ != overlay_.keys().end(); }
  bool OverlayShows() const;
  bool Expired(std::string_view key) const;
  void OverlayPrev();

  const Store& order_;
  const Overlay& overlay_;
  std::unique_ptr<Cursor> store_;
  std::vector<std::string> expired_;
  const int64_t now_ms_;
  Direction direction_ = Direction::kForward;
  Where where_ = Where::kNowhere;
  bool both_ = false;  // the Store has the overlay's key, too
  Overlay::Keys::const_iterator at_;
};

}  // namespace catena::rocks
