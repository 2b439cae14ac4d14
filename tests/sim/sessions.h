// What the reads of the weaker modes promise, judged by the effect stream: every such read shows the
// data as they were at one place of the stream; `sequential` ones never go back to an earlier place
// and see what their connection wrote; `eventual` ones, where `max_staleness` is set, show a place
// that was the newest no longer ago than that.
#pragma once

#include <map>
#include <string>

#include "tests/sim/effects.h"
#include "tests/sim/history.h"

namespace catena::sim {

// The first read that breaks its promise; "": none. Runs in which the chain went on under another
// name tell nothing: what it lost between the two is in no stream. max_staleness 0: there is no
// bound.
std::string CheckSessions(const std::map<std::string, Stream>& streams, const History& history,
                          Duration max_staleness);

}  // namespace catena::sim
