#include "proxy/cli/operate.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <iostream>
#include <optional>
#include <thread>

#include "proxy/cli/client.h"
#include "proxy/cli/exit.h"
#include "proxy/cli/progress.h"

namespace catena::cli {
namespace {

using coordinator::ChainStatus;
using coordinator::NodeStatus;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kLook{20};
// Coordinators may be changing places.
constexpr Duration kUnansweredMax = std::chrono::seconds(15);

std::vector<NodeId> MembersOf(const ChainStatus& chain) {
  std::vector<NodeId> members;
  if (!chain.record) return members;
  for (const chain::Member& member : chain.record->configuration.members) {
    members.push_back(member.id);
  }
  return members;
}

bool Holds(const std::vector<NodeId>& members, const NodeId& node) {
  return std::find(members.begin(), members.end(), node) != members.end();
}

std::string Join(const std::vector<NodeId>& members) {
  std::string text;
  for (const NodeId& member : members) text += (text.empty() ? "" : ", ") + member;
  return text;
}

const NodeStatus* Find(const ChainStatus& chain, const NodeId& node) {
  for (const NodeStatus& each : chain.nodes) {
    if (each.report.node == node) return &each;
  }
  return nullptr;
}

// Something is still to be done with it.
bool IsWished(const ChainStatus& chain, const NodeId& node) {
  if (!chain.record) return true;
  const auto& drains = chain.record->drains;
  return std::any_of(drains.begin(), drains.end(),
                     [&](const coordinator::Drain& drain) { return drain.node == node; });
}

// Every member acts in the newest epoch with all its data, and the head serves.
bool IsWhole(const ChainStatus& chain) {
  if (!chain.record) return false;
  const chain::Configuration& configuration = chain.record->configuration;
  for (const chain::Member& member : configuration.members) {
    const NodeStatus* node = Find(chain, member.id);
    const bool acts = node != nullptr && node->report.incarnation == member.incarnation &&
                      node->report.epoch == configuration.epoch && node->report.synced;
    if (!acts) return false;
  }
  return Find(chain, configuration.members.front().id)->report.head_ready ||
         configuration.members.size() == 1;
}

Result<ChainStatus> FetchChain(const config::Config& config, const std::string& chain) {
  Result<coordinator::ClusterStatus> status = FetchStatus(config);
  if (!status) return Fail(status.error().message);
  for (ChainStatus& each : status->chains) {
    if (each.chain == chain) return std::move(each);
  }
  return Fail("the coordinators know no chain " + chain);
}

// `refused`: what is said where the wish certainly does not stand.
int SendWish(const config::Config& config, const std::string& chain,
             const coordinator::DrainRequest& request, const std::string& refused) {
  const std::string json = EncodeDrainRequest(request);
  const Carried sent = CarryToLeader(config, {"CATENA.DRAIN", chain, json});
  if (sent.exit == kDone) return kDone;
  return Complain((sent.exit == kNotDone ? refused : "") + sent.why, sent.exit);
}

// How long writes waited, as the coordinator saw it: from a member's word that it takes nothing new
// until the chain was ready again.
class PauseMeter {
 public:
  void Look(const ChainStatus& chain) {
    const auto leaving = [](const NodeStatus& node) {
      return node.report.leaving || node.report.phase == coordinator::ReportPhase::kResigning;
    };
    const bool any = std::any_of(chain.nodes.begin(), chain.nodes.end(),
                                 [&](const auto& node) { return node.member && leaving(node); });
    if (any && !since_) since_ = Clock::now();
    if (any || !since_ || !IsWhole(chain)) return;
    const auto pause = std::chrono::duration_cast<milliseconds>(Clock::now() - *since_);
    since_.reset();
    longest_ = std::max(longest_, pause);
  }
  std::string Text() const {
    return longest_ > milliseconds(0)
               ? "; writes paused for about " + std::to_string(longest_.count()) + " ms"
               : "";
  }

 private:
  std::optional<Clock::time_point> since_;
  milliseconds longest_{0};
};

// Looks at the chain until `done`, and shows what `tell` says of it.
class Watcher {
 public:
  Watcher(const config::Config& config, std::string chain, const Watching& watch)
      : config_(config), chain_(std::move(chain)), until_(Clock::now() + watch.timeout) {}

  using Tell = std::function<std::string(const ChainStatus&)>;
  using IsDone = std::function<bool(const ChainStatus&)>;
  // kDone; or what else it came to, which was said. `stands`: the wish is in force or fulfilled.
  Exit Until(const IsDone& done, const IsDone& stands, const Tell& tell) {
    auto answered = Clock::now();
    while (true) {
      const Result<ChainStatus> chain = FetchChain(config_, chain_);
      const auto now = Clock::now();
      if (chain) {
        answered = now;
        pause_.Look(*chain);
        if (done(*chain)) return kDone;
        if (!stands(*chain)) {
          progress_.End();
          return static_cast<Exit>(Complain("not done: the wish was taken back meanwhile"));
        }
        progress_.Show(tell(*chain));
      } else if (now - answered > kUnansweredMax) {
        progress_.End();
        Complain(chain.error().message);
        return kNotFinished;
      }
      if (now >= until_) {
        progress_.End();
        Complain("not finished in time; it goes on, see catenactl status");
        return kNotFinished;
      }
      std::this_thread::sleep_for(kLook);
    }
  }
  std::string Summary() {
    progress_.End();
    return pause_.Text();
  }

 private:
  const config::Config& config_;
  const std::string chain_;
  const Clock::time_point until_;
  Progress progress_;
  PauseMeter pause_;
};

// `node` has left, or an operator still wishes that it does.
bool MayStillLeave(const ChainStatus& chain, const NodeId& node) {
  return IsWished(chain, node) || !Holds(MembersOf(chain), node);
}

std::string LeavingText(const ChainStatus& chain, const NodeId& node) {
  const NodeStatus* status = Find(chain, node);
  const bool hands_over = status != nullptr && status->report.leaving;
  if (!IsWhole(chain) && !hands_over) return node + " waits until all members are synced";
  return node + (hands_over ? " hands its clients over" : " ends what it has begun");
}

std::string JoiningText(const ChainStatus& chain, const NodeId& node) {
  const NodeStatus* status = Find(chain, node);
  if (status == nullptr || status->report.snapshot_total == 0) return node + " joins";
  const double share = static_cast<double>(status->report.snapshot_done) /
                       static_cast<double>(status->report.snapshot_total);
  // In steps, so that lines that are not updated in place stay few.
  return node + " joins: " + std::to_string(static_cast<int>(share * 10) * 10) +
         " % of the snapshot";
}

}  // namespace

Result<std::vector<NodeId>> MovesTo(const std::vector<NodeId>& current,
                                    const std::vector<std::string>& order) {
  if (!std::is_permutation(current.begin(), current.end(), order.begin(), order.end())) {
    return Fail("the members are " + Join(current) + "; allowed: these, each once, in any order");
  }
  // Those at the front of `order` that stand in that order already stay.
  size_t staying = 0;
  for (const NodeId& member : current) {
    if (staying < order.size() && member == order[staying]) ++staying;
  }
  return std::vector<NodeId>(order.begin() + static_cast<ptrdiff_t>(staying), order.end());
}

int Drain(const config::Config& config, const std::string& node, bool force,
          const Watching& watch) {
  const auto found = config.FindNode(node);
  if (!found) return Complain(found.error().message, kWrongUse);
  const std::string& name = found->chain->name;
  const int sent =
      SendWish(config, name, {{node, false, ""}, false, force}, node + " is not drained: ");
  if (sent != kDone) return sent;
  if (!watch.wait) return kDone;
  Watcher watcher(config, name, watch);
  std::vector<NodeId> left;
  const Exit ended = watcher.Until(
      [&](const ChainStatus& chain) {
        left = MembersOf(chain);
        return !Holds(left, node) && IsWhole(chain);
      },
      [&](const ChainStatus& chain) { return MayStillLeave(chain, node); },
      [&](const ChainStatus& chain) { return LeavingText(chain, node); });
  if (ended != kDone) return ended;
  const std::string pause = watcher.Summary();
  std::cout << node << " is out of chain " << name << " (" << Join(left)
            << ") until catenactl undrain " << node << pause << ".\n";
  return kDone;
}

int Undrain(const config::Config& config, const std::string& node) {
  const auto found = config.FindNode(node);
  if (!found) return Complain(found.error().message, kWrongUse);
  const std::string& name = found->chain->name;
  const int sent = SendWish(config, name, {{node, false, ""}, true, false}, "");
  if (sent != kDone) return sent;
  std::cout << node << " may be a member of chain " << name << " again.\n";
  return kDone;
}

int Replace(const config::Config& config, const std::string& old_node, const std::string& new_node,
            const Watching& watch) {
  const auto found = config.FindNode(old_node);
  if (!found) return Complain(found.error().message, kWrongUse);
  const std::string& name = found->chain->name;
  const int sent = SendWish(config, name, {{old_node, false, new_node}, false, false},
                            old_node + " is not replaced: ");
  if (sent != kDone) return sent;
  if (!watch.wait) return kDone;
  Watcher watcher(config, name, watch);
  std::vector<NodeId> members;
  const Exit ended = watcher.Until(
      [&](const ChainStatus& chain) {
        members = MembersOf(chain);
        return Holds(members, new_node) && !Holds(members, old_node) && IsWhole(chain);
      },
      [&](const ChainStatus& chain) { return MayStillLeave(chain, old_node); },
      [&](const ChainStatus& chain) {
        return Holds(members, new_node) ? LeavingText(chain, old_node)
                                        : JoiningText(chain, new_node);
      });
  if (ended != kDone) return ended;
  const std::string pause = watcher.Summary();
  std::cout << new_node << " has taken the place of " << old_node << " in chain " << name << " ("
            << Join(members) << ")" << pause << ".\n";
  return kDone;
}

int Reorder(const config::Config& config, const std::string& chain,
            const std::vector<std::string>& order, const Watching& watch) {
  const Result<ChainStatus> before = FetchChain(config, chain);
  if (!before) return Complain(before.error().message);
  const auto moves = MovesTo(MembersOf(*before), order);
  if (!moves) return Complain(moves.error().message, kWrongUse);
  Watcher watcher(config, chain, watch);
  for (size_t i = 0; i < moves->size(); ++i) {
    const NodeId& node = (*moves)[i];
    const int sent =
        SendWish(config, chain, {{node, true, ""}, false, false}, node + " is not moved: ");
    if (sent != kDone) return sent;
    const std::string step =
        "step " + std::to_string(i + 1) + " of " + std::to_string(moves->size()) + ": ";
    const Exit ended = watcher.Until(
        [&](const ChainStatus& now) {
          return !IsWished(now, node) && MembersOf(now).back() == node && IsWhole(now);
        },
        [](const ChainStatus&) { return true; },
        [&](const ChainStatus& now) {
          const bool leaves = Holds(MembersOf(now), node) && IsWished(now, node);
          return step + (leaves ? LeavingText(now, node) : JoiningText(now, node));
        });
    if (ended != kDone) return ended;
  }
  const std::string pause = watcher.Summary();
  std::cout << "Chain " << chain << " is now " << Join({order.begin(), order.end()}) << pause
            << ".\n";
  return kDone;
}

}  // namespace catena::cli
