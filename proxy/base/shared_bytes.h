// Payload that is passed on without being copied: a view, and what keeps it alive. Worth it for
// large ones, of which a copy would cost a loop turn noticeable time and the process as much memory
// again.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace catena {

using BytesOwner = std::shared_ptr<const std::string>;

inline constexpr size_t kSharedPayloadBytesMin = 256u << 10;

}  // namespace catena
