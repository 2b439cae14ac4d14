// What a simulated Redis answers to COMMAND: that of a real 7.0.15 (tests/unit/data), cut down to
// the commands that exist here.
#pragma once

#include <string>

namespace catena::sim {

const std::string& CommandReplyBytes();

}  // namespace catena::sim
