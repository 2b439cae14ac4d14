// How much longer than the write timeout an answer may take because so many bytes have to travel
// first. A value of half a gigabyte is no sign of a chain that stands still.
#pragma once

#include <chrono>
#include <cstddef>

#include "proxy/base/clock.h"

namespace catena::server {

// The slowest that a chain is expected to relay, store and forward, with all its hops.
inline constexpr size_t kSlowestBytesPerSecond = 16u << 20;

inline Duration TransferTime(size_t bytes) {
  return std::chrono::milliseconds(bytes / (kSlowestBytesPerSecond / 1000));
}

}  // namespace catena::server
