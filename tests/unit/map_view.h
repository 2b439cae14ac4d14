// A View whose data is a map, with a clock and random numbers that the test sets, and a comparator
// that is the order of bytes or its reverse. What was written is noted.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backends/rocksdb/view.h"

namespace catena::rocks::test {

class MapView final : public View {
 public:
  struct Order {
    using is_transparent = void;
    bool operator()(std::string_view a, std::string_view b) const {
      return reversed ? b < a : a < b;
    }
    bool reversed = false;
  };

  explicit MapView(bool reversed = false) : items(Order{reversed}) {}

  std::map<std::string, Item, Order> items;
  std::vector<std::string> effects;  // "put a", "delete a", "clear"
  int64_t now_ms = 1'700'000'000'000;
  uint64_t random = 1;

  bool Get(std::string_view key, Item& item) override {
    const Item* found = Find(key);
    if (found != nullptr) item = *found;
    return found != nullptr;
  }
  bool Has(std::string_view key) override { return Find(key) != nullptr; }
  void Put(std::string_view key, std::string_view value, int64_t deadline_ms) override {
    effects.push_back("put " + std::string(key));
    // `value` may be a view into the item that it replaces.
    items[std::string(key)] = Item{std::string(value), deadline_ms};
  }
  void Delete(std::string_view key) override {
    effects.push_back("delete " + std::string(key));
    items.erase(std::string(key));
  }
  void Clear() override {
    effects.push_back("clear");
    items.clear();
  }
  std::unique_ptr<Cursor> Walk() override { return std::make_unique<Walker>(*this); }
  int Compare(std::string_view a, std::string_view b) const override {
    return items.key_comp().reversed ? b.compare(a) : a.compare(b);
  }
  uint64_t CountKeys() override {
    uint64_t count = 0;
    for (const auto& [key, item] : items) count += IsThere(item);
    return count;
  }
  int64_t NowMs() const override { return now_ms; }
  // The generator of Knuth's MMIX.
  uint64_t Random() override {
    random = random * 6364136223846793005u + 1442695040888963407u;
    return random >> 11;
  }

 private:
  class Walker final : public Cursor {
   public:
    explicit Walker(MapView& view) : view_(view), at_(view.items.end()) {}
    void SeekToFirst() override { Forward(view_.items.begin()); }
    void SeekToLast() override { Backward(view_.items.end()); }
    void Seek(std::string_view key) override { Forward(view_.items.lower_bound(key)); }
    void SeekForPrev(std::string_view key) override { Backward(view_.items.upper_bound(key)); }
    bool Valid() const override { return at_ != view_.items.end(); }
    void Next() override { Forward(std::next(at_)); }
    void Prev() override { Backward(at_); }
    std::string_view key() const override { return at_->first; }
    void Read(Item& item) override { item = at_->second; }

   private:
    using Place = std::map<std::string, Item, Order>::iterator;

    void Forward(Place place) {
      while (place != view_.items.end() && !view_.IsThere(place->second)) ++place;
      at_ = place;
    }
    // To the last one before `place` that is there.
    void Backward(Place place) {
      while (place != view_.items.begin()) {
        if (view_.IsThere((--place)->second)) return void(at_ = place);
      }
      at_ = view_.items.end();
    }

    MapView& view_;
    Place at_;
  };

  bool IsThere(const Item& item) const {
    return item.deadline_ms == Item::kNoDeadline || item.deadline_ms > now_ms;
  }
  const Item* Find(std::string_view key) const {
    const auto found = items.find(key);
    return found != items.end() && IsThere(found->second) ? &found->second : nullptr;
  }
};

}  // namespace catena::rocks::test
