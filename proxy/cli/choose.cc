#include "proxy/cli/choose.h"

#include <algorithm>
#include <istream>
#include <ostream>

#include "proxy/cli/status.h"

namespace catena::cli {
namespace {

using coordinator::ChainStatus;
using coordinator::NodeStatus;

std::string Describe(const NodeStatus& node, bool chosen) {
  const coordinator::NodeReport& report = node.report;
  std::string text = std::string(chosen ? "  * " : "    ") + report.node + ": ";
  if (report.incarnation.value() == 0) return text + "has not been heard\n";
  text += std::string(PhaseName(report.phase)) + ", " + std::to_string(report.backend.keys) +
          " keys, applied up to " + std::to_string(report.applied.value()) + ", ";
  text += report.backend.healthy ? "database healthy" : "database: " + report.backend.problem;
  return text + "\n";
}

}  // namespace

Result<std::string> ExplainChoice(const coordinator::ClusterStatus& status,
                                  const std::string& chain, const std::string& node) {
  const auto found = std::ranges::find(status.chains, chain, &ChainStatus::chain);
  if (found == status.chains.end()) return Fail("the coordinators know no chain " + chain);
  // The coordinators would do it all the same: they take the operator's word.
  if (found->waiting_for.empty()) {
    return Fail("chain " + chain + " works and is not waiting for a decision; nothing was done");
  }
  std::string nodes;
  bool is_there = false;
  for (const NodeStatus& each : found->nodes) {
    const bool chosen = each.report.node == node;
    if (chosen) is_there = each.report.incarnation.value() != 0;
    nodes += Describe(each, chosen);
  }
  if (!is_there) {
    return Fail("node " + node + " of chain " + chain +
                " has not been heard by the coordinators; start its proxy and database first");
  }
  std::string text =
      "Chain " + chain + " will go on with the data of " + node + " alone, as a new history:\n" +
      nodes + "Every answered write that is missing in the database of " + node +
      " is lost. The data of all other nodes of the chain is replaced by it when they "
      "join again.\nPositions do not tell which node has more: a database that was "
      "restarted counts anew.\n";
  text +=
      "Members that are only cut off from the coordinators serve their clients on among themselves "
      "until they\nhear of it, and what they answer meanwhile is lost: stop their proxies first.\n";
  text += "The chain is waiting: " + found->waiting_for + "\n";
  return text;
}

bool Confirm(std::istream& in, std::ostream& out, const std::string& node) {
  std::string answer;
  out << "Type the id of the node whose data is to be kept: " << std::flush;
  if (!std::getline(in, answer) || answer != node) return false;
  out << "Really go on with the data of " << node << " alone? Type yes: " << std::flush;
  return std::getline(in, answer) && answer == "yes";
}

Carried Choose(const config::Config& config, const std::string& chain, const std::string& node) {
  return CarryToLeader(config, {"CATENA.CHOOSE", chain, node});
}

}  // namespace catena::cli
