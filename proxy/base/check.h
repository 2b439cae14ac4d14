// CATENA_CHECK(condition, "why"): a broken invariant ends the process, in release builds too. Going
// on with broken replication state would lose data; a crash only costs a failover.
#pragma once

#include <string_view>

namespace catena {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition,
                              std::string_view why);
}  // namespace catena

#define CATENA_CHECK(condition, why)                                \
  do {                                                              \
    if (!(condition)) [[unlikely]] {                                \
      ::catena::CheckFailed(__FILE__, __LINE__, #condition, (why)); \
    }                                                               \
  } while (false)
