// What BITFIELD shares with the other commands on bits.
#pragma once

#include "backends/rocksdb/command_call.h"

namespace catena::rocks::handlers {

// The offset of a bit in argument `at`; "#n", if `width` > 0, is that of the n-th field of so many
// bits. nullopt: none within the largest string, and the error is replied.
std::optional<int64_t> TakeBitOffset(const Call& call, size_t at, int64_t width);

}  // namespace catena::rocks::handlers
