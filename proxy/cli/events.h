// catenactl events: why a chain is what it is.
#pragma once

#include <string>

#include "config/config.h"
#include "coordinator/records.h"

namespace catena::cli {

struct EventsOptions {
  bool json = false;    // one JSON object a line
  bool follow = false;  // goes on with what happens next, until it is interrupted
};

// Of `chain`; "" every chain of the file. Returns an Exit (exit.h).
int ShowEvents(const config::Config& config, const std::string& chain,
               const EventsOptions& options);

// One line: when, epoch, members, why. With the chain if `chain` is not "". Pure.
std::string RenderEvent(const coordinator::Event& event, const std::string& chain);

}  // namespace catena::cli
