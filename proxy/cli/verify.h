// catenactl verify: do the members of a chain hold the same data?
//
// Keys are compared in batches: each node digests the same keys of its own database, and whatever is
// equal is done with. A difference may only mean that a write was on its way: those keys are looked
// at again until they are equal, or until every node has shown its value at a position behind which
// the effect stream has not touched the key: the values were those of one position then, and differ.
// Keys that one node alone has are found because every node's keys are walked.
#pragma once

#include <cstdint>
#include <string>

#include "config/config.h"

namespace catena::cli {

struct VerifyOptions {
  std::string chain;  // "": every chain of the file
  int effort = 5;     // percent of the time that it may keep the nodes busy
  bool json = false;
};

// Prints what differs, where. An Exit (operate.h): kDone equal, kDifferent, kNotDone when it could
// not look or the chain changed meanwhile, kNotFinished when keys changed too fast to be compared.
int Verify(const config::Config& config, const VerifyOptions& options);

}  // namespace catena::cli
