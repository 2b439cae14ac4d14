// What a TOML file comes to: every key with its value and where that is from.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"
#include "proxy/base/result.h"

namespace catena::config {

struct Setting {
  std::string table;  // "cluster", "chain main", "chain main node a"
  std::string key;
  std::string value;  // as it would be written, without quotes; passwords are ***
  uint32_t line = 0;  // of the file; 0: not written there, the default
};

// `config` was loaded from config.path, which is read again for the lines. Secrets are masked.
Result<std::vector<Setting>> Effective(const Config& config);

}  // namespace catena::config
