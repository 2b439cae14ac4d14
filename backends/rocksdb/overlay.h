// The versions of keys that are executed and not yet applied to the Store (CRAQ's version lists),
// and the changes of the entry that is being executed. Bounded by what is not applied: the owner's
// log bounds that. Pure; one thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "backends/rocksdb/store.h"
#include "proxy/base/ids.h"
#include "proxy/base/ring.h"

namespace catena::rocks {

class Overlay {
 public:
  struct Version {
    Position end;  // of the entry that made it; kUnderWay: of none yet
    bool deleted = false;
    int64_t deadline_ms = Item::kNoDeadline;
    std::string value;
  };
  // Of one key, the oldest first. What is behind `count` is room that is used again.
  struct Versions {
    std::vector<Version> list;
    size_t count = 0;
    Position collected;  // the newest that Collect has given out

    const Version& newest() const { return list[count - 1]; }
  };
  struct Less {
    using is_transparent = void;
    const Store* store;
    bool operator()(std::string_view a, std::string_view b) const {
      return store->Compare(a, b) < 0;
    }
  };
  using Keys = std::map<std::string, Versions, Less>;

  static constexpr Position kUnderWay{UINT64_MAX};

  // `store` gives the order of keys only; it outlives the overlay.
  explicit Overlay(const Store& store) : keys_(Less{&store}) {}

  // --- reading ---
  // What the overlay knows of a key: `decided` false: what the Store says counts; no version, or
  // a deleted one: the key is not there. Valid until something changes.
  struct Found {
    bool decided = false;
    const Version* version = nullptr;
  };
  Found Find(std::string_view key) const;
  // The same for a key of keys().
  const Version* Visible(const Versions& versions) const {
    return versions.newest().end >= visible_from_ ? &versions.newest() : nullptr;
  }
  const Keys& keys() const { return keys_; }
  // Everything that the Store has is flushed.
  bool hides_store() const { return flush_under_way_ || !flushes_.empty(); }

  // --- the entry under way ---
  void Put(std::string_view key, std::string_view value, int64_t deadline_ms);
  void Delete(std::string_view key);
  void Clear();
  bool changed() const { return flush_under_way_ || !touched_.empty(); }
  bool flushes() const { return flush_under_way_; }
  // Its changes, one for each key; of those before Clear, none. Valid until something changes.
  void Changes(std::vector<Change>& changes) const;
  // It is executed and ends at `end`.
  void Seal(Position end);
  // It is forgotten.
  void Drop();

  // --- what is committed ---
  // Adds what the entries up to `committed` have left of each key.
  void Collect(Position committed, Batch& batch);
  // The Store has that now.
  void Forget(Position committed);
  void Reset();

 private:
  struct Touch {
    Position end;
    Keys::iterator key;
  };

  // The key's version of the entry under way.
  Version& UnderWay(std::string_view key);
  Keys::iterator Insert(std::string_view key);
  void Remove(Keys::iterator key);

  Keys keys_;
  std::vector<Keys::node_type> spare_;
  size_t spare_bytes_ = 0;
  std::vector<Keys::iterator> touched_;  // by the entry under way, each once
  Ring<Touch> touches_;                  // by executed entries
  Ring<Position> flushes_;               // ends of executed entries that flush
  bool flush_under_way_ = false;
  Position visible_from_;  // versions before it were flushed
};

}  // namespace catena::rocks
