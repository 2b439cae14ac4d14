// Virtual time and the one source of chance of a simulation. Everything that happens is an event of
// this queue; two runs of the same seed are the same run.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/clock.h"

namespace catena::sim {

constexpr Duration Micros(int64_t count) { return std::chrono::microseconds(count); }
constexpr Duration Millis(int64_t count) { return std::chrono::milliseconds(count); }
constexpr Duration Seconds(int64_t count) { return std::chrono::seconds(count); }

// splitmix64: the same numbers on every platform.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next();
  // [0, bound); bound > 0.
  uint64_t Below(uint64_t bound) { return Next() % bound; }
  // [low, high]
  int64_t Between(int64_t low, int64_t high);
  Duration Between(Duration low, Duration high) {
    return Duration(Between(low.count(), high.count()));
  }
  // True `per_mille` times in a thousand.
  bool Chance(uint64_t per_mille) { return Below(1000) < per_mille; }
  template <typename T>
  const T& Of(const std::vector<T>& items) {
    return items[Below(items.size())];
  }

 private:
  uint64_t state_;
};

class Scheduler {
 public:
  explicit Scheduler(uint64_t seed) : random_(seed) {}
  ~Scheduler();

  TimePoint now() const { return now_; }
  Random& random() { return random_; }
  void At(TimePoint when, std::function<void()> event);
  void After(Duration delay, std::function<void()> event) { At(now_ + delay, std::move(event)); }
  // The next event; false: there is none.
  bool Step();
  uint64_t events() const { return count_; }

  // One line of the readable trace; costs nothing unless it is wanted.
  bool tracing() const { return static_cast<bool>(trace_); }
  void Trace(std::string_view line);
  void TraceTo(std::function<void(std::string_view)> trace);
  // A line of whoever runs at this moment, in the trace of the simulation that runs.
  static void TraceNow(std::string_view line);
  // Whose turn it is, for the trace. Not copied.
  void SetActor(const std::string* name) { actor_ = name; }

 private:
  // In the queue are places of events, which are cheap to move.
  struct Event {
    TimePoint when;
    uint64_t number;
    size_t place;
    bool operator<(const Event& other) const {
      return when != other.when ? when > other.when : number > other.number;
    }
  };

  TimePoint now_{Seconds(1000)};
  Random random_;
  std::priority_queue<Event> events_;
  std::vector<std::function<void()>> runs_;
  std::vector<size_t> free_;  // places in runs_
  uint64_t count_ = 0;
  std::function<void(std::string_view)> trace_;
  const std::string* actor_ = nullptr;
};

}  // namespace catena::sim
