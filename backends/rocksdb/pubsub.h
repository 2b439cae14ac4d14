// Subscriptions of the engine's lanes to channels and patterns.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "backends/rocksdb/engine_lane.h"
#include "backends/rocksdb/watches.h"

namespace catena::rocks {

class PubSub {
 public:
  // Each appends the confirmation to `out`; with no lane's subscription to `name`, too, as Redis.
  void Subscribe(EngineLane& lane, std::string_view channel, std::string& out);
  void SubscribePattern(EngineLane& lane, std::string_view pattern, std::string& out);
  void Unsubscribe(EngineLane& lane, std::string_view channel, std::string& out);
  void UnsubscribePattern(EngineLane& lane, std::string_view pattern, std::string& out);
  // Silently, from everything.
  void Leave(EngineLane& lane);
  // "Unsubscribed" of a lane that has no subscription of that kind.
  static void ConfirmNone(const EngineLane& lane, std::string_view kind, std::string& out);

  // Calls `deliver` with each receiver and its message; returns their number.
  uint64_t Publish(std::string_view channel, std::string_view message,
                   const std::function<void(EngineLane&, std::string_view)>& deliver);
  // A subcommand of PUBSUB that Tell answers, with its arguments.
  static bool Tells(std::string_view subcommand);
  void Tell(Arguments arguments, std::string& out) const;

 private:
  using Channels =
      std::unordered_map<std::string, std::vector<EngineLane*>, StringHash, std::equal_to<>>;

  static void Add(Channels& to, std::vector<std::string>& names, EngineLane& lane,
                  std::string_view name);
  static void Remove(Channels& from, std::vector<std::string>& names, EngineLane& lane,
                     std::string_view name);

  Channels channels_, patterns_;
  std::string message_;
};

}  // namespace catena::rocks
