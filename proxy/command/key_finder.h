// How the keys of a command are found: chosen once for each command when its table is made.
#pragma once

#include "proxy/command/command_table.h"

namespace catena::command {

// Sets info.key_rule. For commands of Redis 6.2, whose COMMAND has no key specifications, also
// fills in info.specs. Call when the flags, positions and specifications that the reply told are in
// `info`.
void AssignKeyRule(CommandInfo& info);

}  // namespace catena::command
