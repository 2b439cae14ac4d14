// catenactl check: is everything that the TOML names there, and is it what it should be?
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace catena::cli {

struct Finding {
  std::string what;  // "coordinator 10.0.0.1:7400"
  enum class Verdict { kGood, kBad, kUnknown, kWarning } verdict = Verdict::kGood;
  std::string
      detail;  // what was found, or what is wrong; kUnknown: why it cannot be told from here;
               // kWarning: what is allowed and perhaps not meant
};

// Tries every coordinator, etcd endpoint, proxy and database, one after the other; each takes a few
// seconds at most. A database at a loopback address of another machine is kUnknown.
std::vector<Finding> CheckCluster(const config::Config& config);

std::string RenderFindings(const std::vector<Finding>& findings, bool colour);
bool AllGood(const std::vector<Finding>& findings);

}  // namespace catena::cli
