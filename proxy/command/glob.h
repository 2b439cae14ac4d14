// Redis' patterns for names of keys and channels. Pure.
#pragma once

#include <string_view>

namespace catena::command {

// '*' any bytes, '?' one byte, [abc] [a-z] [^a] one of a set (or not), '\' takes the next byte as
// it is. Bytes compare exactly. Time is bounded by the product of the lengths.
bool MatchesGlob(std::string_view pattern, std::string_view text);

}  // namespace catena::command
