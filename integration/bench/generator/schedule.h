// When commands are due in an open loop: at a fixed rate, whether or not earlier ones have been
// answered. Latency then counts from the moment a command was due, not from when a slow server at
// last let it be sent; measuring from the latter hides every command that a stall held back
// ("coordinated omission"). Pure; times are nanoseconds of one monotonic clock.
#pragma once

#include <cstdint>

namespace catena::bench {

// The arrivals of one connection: number i is due at first + i * interval.
class Schedule {
 public:
  // `count` connections share `rate` commands a second (> 0); theirs are spread evenly between each
  // other's.
  Schedule(uint64_t start, double rate, uint64_t index, uint64_t count)
      : interval_(1e9 * static_cast<double>(count) / rate),
        first_(static_cast<double>(start) + 1e9 * static_cast<double>(index) / rate) {}

  bool IsDue(uint64_t now) const { return NextDue() <= now; }
  uint64_t NextDue() const {
    return static_cast<uint64_t>(first_ + static_cast<double>(taken_) * interval_);
  }
  // Takes the oldest command that has not been taken, and says when it was due.
  uint64_t Take() {
    const uint64_t due = NextDue();
    ++taken_;
    return due;
  }

 private:
  double interval_, first_;
  uint64_t taken_ = 0;
};

}  // namespace catena::bench
