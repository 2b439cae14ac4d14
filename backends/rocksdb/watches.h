// Who watches which keys (WATCH), as Redis 7.0 does: any change fails the transaction, except that
// a key which had expired already when it was watched is deleted.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "backends/rocksdb/engine_lane.h"

namespace catena::rocks {

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

class Watches {
 public:
  bool empty() const { return keys_.empty(); }
  // `expired`: the key is still in the data, but its time has passed.
  void Watch(EngineLane& lane, std::string_view key, bool expired);
  void Unwatch(EngineLane& lane);
  // The key was changed; `deleted`: it is gone now.
  void Touch(std::string_view key, bool deleted);
  // Keys of which `there` says that they are (expired or not) are changed.
  void TouchAll(const std::function<bool(std::string_view key)>& there);
  // A key of the lane has expired since it was watched.
  bool AnyExpired(const EngineLane& lane,
                  const std::function<bool(std::string_view key)>& expired) const;

 private:
  struct Watcher {
    EngineLane* lane;
    bool expired;
  };
  using Keys = std::unordered_map<std::string, std::vector<Watcher>, StringHash, std::equal_to<>>;

  Keys keys_;
};

}  // namespace catena::rocks
