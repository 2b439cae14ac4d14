// catenactl drain, undrain, replace, reorder: an operator's wishes, which the coordinators keep in
// the chain's record, and what becomes of them. Whoever interrupts one of these commands stops
// watching only; the wish stands until it is fulfilled or taken back.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"
#include "proxy/base/clock.h"
#include "proxy/base/ids.h"
#include "proxy/base/result.h"

namespace catena::cli {

struct Watching {
  bool wait = true;  // until what is wished has come true
  Duration timeout = std::chrono::minutes(10);
};

// Each prints what happens, and returns an Exit.
int Drain(const config::Config& config, const std::string& node, bool force, const Watching& watch);
int Undrain(const config::Config& config, const std::string& node);
int Replace(const config::Config& config, const std::string& old_node, const std::string& new_node,
            const Watching& watch);
int Reorder(const config::Config& config, const std::string& chain,
            const std::vector<std::string>& order, const Watching& watch);

// Which members leave and come back as the tail, one after the other, to make `order` of `current`;
// as few as possible: the others keep their places. Error: it is no order of these members.
Result<std::vector<NodeId>> MovesTo(const std::vector<NodeId>& current,
                                    const std::vector<std::string>& order);

}  // namespace catena::cli
