// Where in the effect streams each command of a history is. The streams tell in which order a
// cluster that works has executed everything; whether that order explains the answers is for
// history.h to find out, which also looks for others.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/history.h"

namespace catena::sim {

// What everybody agrees to have been committed in one history of the chain, as RESP.
struct Stream {
  uint64_t start = 0;  // position of the first byte
  std::string bytes;
  // Behind that it was given up when a chain of which nobody was left went on.
  uint64_t kept = UINT64_MAX;
  size_t checked = 0;           // bytes that are known to be whole commands
  bool in_transaction = false;  // behind them
  // When so many bytes were first known to be committed; ascending.
  std::vector<std::pair<size_t, TimePoint>> committed_at;
};

// Each command of it, in order: what it is, how many bytes it ends after, and when those were first
// known to be committed.
void ForEachCommand(const Stream& stream,
                    const std::function<void(const Arguments&, size_t, TimePoint)>& use);

// Sets Operation::hint where the effect is found, by values, tags and sums that come once,
// or by when it was. One of unknown outcome that is not found keeps 0. The result is what is wrong
// already: an effect that was answered and given up; "": nothing.
std::string FindEffects(const std::map<std::string, Stream>& streams, History& history);

}  // namespace catena::sim
