// catenactl choose: the operator's decision which node's data the chain goes on with (design: when
// no member is left that certainly has everything).
#pragma once

#include <iosfwd>
#include <string>

#include "config/config.h"
#include "coordinator/records.h"
#include "proxy/base/result.h"
#include "proxy/cli/client.h"

namespace catena::cli {

// What choosing `node` means, what is known of each node, and what may be lost. Fails if the
// cluster has no such chain or node, the node is not there to be chosen, or there is nothing to
// decide. Pure.
Result<std::string> ExplainChoice(const coordinator::ClusterStatus& status,
                                  const std::string& chain, const std::string& node);

// Asks twice; true only if both answers are what was asked for.
bool Confirm(std::istream& in, std::ostream& out, const std::string& node);

// Tells the leader.
Carried Choose(const config::Config& config, const std::string& chain, const std::string& node);

}  // namespace catena::cli
