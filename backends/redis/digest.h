// What a Redis is asked for to compare keys' values between nodes: Backend::DigestRequest.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace catena::redis {

std::string DigestRequest(std::span<const std::string_view> keys);

}  // namespace catena::redis
