// A file read again while a process runs: which of its changes the process takes, and which wait for
// its restart. fields.h says of each key which of the two it is. Pure, but for LoadAgain and
// ApplyLogging.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace catena::config {

struct Change {
  std::string key;       // "chain.main.write_timeout", "node.b", "user.main.app.password"
  std::string from, to;  // "" for what was not there; secrets are masked
  bool taken = true;     // false: the running value stays until a restart
};

struct Reloaded {
  Config config;  // the file's, with the running values of keys that need a restart
  std::vector<Change> changes;
};

// `self`: the id of the node that this process is; "" for a coordinator. What other nodes need a
// restart for is theirs to say.
Reloaded Merge(const Config& running, const Config& file, std::string_view self);

// Reads running.path again and tells the log what comes of it (events reloaded, restart_needed,
// reload_refused). nullopt: the file has an error, or no longer the node `self`: nothing changes.
std::optional<Config> LoadAgain(const Config& running, std::string_view self);

// Makes the log of this process as the file says; `level`, a flag's, goes before the file's unless it
// is empty.
void ApplyLogging(const Config& config, const std::string& level);

}  // namespace catena::config
