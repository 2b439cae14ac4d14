// Time as leases need it: nanoseconds of CLOCK_BOOTTIME, which also counts while the machine is
// suspended (schedule S17). Pure code receives TimePoints; only io::Reactor::Now reads the clock.
#pragma once

#include <chrono>

namespace catena {

using Duration = std::chrono::nanoseconds;

struct BootClock {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<BootClock, duration>;
  static constexpr bool is_steady = true;
};

using TimePoint = BootClock::time_point;

}  // namespace catena
