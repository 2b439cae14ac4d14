// The cluster's status as text for people. Pure.
#pragma once

#include <string>

#include "config/config.h"
#include "coordinator/records.h"

namespace catena::cli {

struct StatusOptions {
  bool colour = false;  // ANSI colours, for a terminal
  std::string chain;    // only this one; "" all
};

// `config` tells how many members each chain should have.
std::string RenderStatus(const coordinator::ClusterStatus& status, const config::Config& config,
                         const StatusOptions& options);

// The word of the TOML and of the JSON for a phase.
std::string_view PhaseName(coordinator::ReportPhase phase);

}  // namespace catena::cli
