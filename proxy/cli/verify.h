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
#include "proxy/cli/exit.h"

namespace catena::cli {

struct VerifyOptions {
  std::string chain;  // "": every chain of the file
  int effort = 5;     // percent of the time that it may keep the nodes busy
  bool json = false;
};

// Prints what differs, where. An Exit: kDone equal, kDifferent, kNotDone when it could not look or the
// chain changed meanwhile, kNotFinished when keys changed too fast to be compared. Of several chains
// each is looked at, and the worst is told.
int Verify(const config::Config& config, const VerifyOptions& options);

// What is to be told of two chains that ended so: that data differs before all else.
Exit Worse(Exit a, Exit b);

}  // namespace catena::cli
