// catenactl config and catenactl completions: what the file comes to, and what a shell may complete.
#pragma once

#include <string>

#include "config/config.h"

namespace catena::cli {

// Every key with its value and where that is from. An Exit (operate.h).
int ShowConfig(const config::Config& config, bool json);

// A script for bash that completes commands, options, and the chains and nodes of the file that
// --config names. `commands`: "name option option ...", one a line.
std::string BashCompletions(const std::string& commands);

// The names that a completion may offer: "chains" or "nodes", one a line.
std::string NamesOf(const config::Config& config, const std::string& what);

}  // namespace catena::cli
