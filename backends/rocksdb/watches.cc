#include "backends/rocksdb/watches.h"

#include <algorithm>

namespace catena::rocks {

void Watches::Watch(EngineLane& lane, std::string_view key, bool expired) {
  if (std::find(lane.watched.begin(), lane.watched.end(), key) != lane.watched.end()) return;
  lane.watched.emplace_back(key);
  keys_[std::string(key)].push_back({&lane, expired});
}

void Watches::Unwatch(EngineLane& lane) {
  for (const std::string& key : lane.watched) {
    const auto found = keys_.find(key);
    std::erase_if(found->second, [&](const Watcher& watcher) { return watcher.lane == &lane; });
    if (found->second.empty()) keys_.erase(found);
  }
  lane.watched.clear();
}

void Watches::Touch(std::string_view key, bool deleted) {
  const auto found = keys_.find(key);
  if (found == keys_.end()) return;
  for (Watcher& watcher : found->second) {
    if (watcher.expired && deleted) {
      watcher.expired = false;
    } else {
      watcher.lane->watch_failed = true;
    }
  }
}

void Watches::TouchAll(const std::function<bool(std::string_view)>& there) {
  for (auto& [key, watchers] : keys_) {
    if (!there(key)) continue;
    for (Watcher& watcher : watchers) {
      if (!watcher.expired) watcher.lane->watch_failed = true;
      watcher.expired = false;
    }
  }
}

bool Watches::AnyExpired(const EngineLane& lane,
                         const std::function<bool(std::string_view)>& expired) const {
  for (const std::string& key : lane.watched) {
    for (const Watcher& watcher : keys_.find(key)->second) {
      if (watcher.lane == &lane && !watcher.expired && expired(key)) return true;
    }
  }
  return false;
}

}  // namespace catena::rocks
