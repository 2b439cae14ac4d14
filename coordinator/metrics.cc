#include "coordinator/metrics.h"

#include <algorithm>

namespace catena::coordinator {
namespace {

constexpr std::array<const char*, kEpochChanges> kChangeNames = {"first", "join", "head_removed",
                                                                 "member_removed", "other"};

bool Lists(const chain::Configuration& configuration, const NodeId& node) {
  return std::ranges::any_of(configuration.members,
                             [&](const chain::Member& member) { return member.id == node; });
}

bool IsBehind(const ChainStatus& chain) {
  return !chain.record || chain.record->configuration.members.size() < chain.replicas;
}

// A gauge for each chain.
template <typename Value>
void EachChain(Exposition& out, const ClusterStatus& status, std::string_view name,
               std::string_view help, Value value) {
  for (const ChainStatus& chain : status.chains) {
    out.Gauge(name, help, value(chain), {{"chain", chain.chain}});
  }
}

template <typename Value>
void EachNode(Exposition& out, const ClusterStatus& status, std::string_view name,
              std::string_view help, Value value) {
  for (const ChainStatus& chain : status.chains) {
    for (const NodeStatus& node : chain.nodes) {
      out.Gauge(name, help, value(chain, node),
                {{"chain", chain.chain}, {"node", node.report.node}});
    }
  }
}

void AppendChains(Exposition& out, const ClusterStatus& status) {
  EachChain(out, status, "catena_chain_epoch", "Newest configuration.",
            [](const ChainStatus& chain) {
              return chain.record ? chain.record->configuration.epoch.value() : 0;
            });
  EachChain(out, status, "catena_chain_replicas", "Members that the chain should have.",
            [](const ChainStatus& chain) { return uint64_t{chain.replicas}; });
  EachChain(out, status, "catena_chain_members", "Members that it has.",
            [](const ChainStatus& chain) {
              return uint64_t{chain.record ? chain.record->configuration.members.size() : 0};
            });
  EachChain(out, status, "catena_chain_synced_members",
            "Members that are connected, in the newest epoch and hold everything.",
            [](const ChainStatus& chain) {
              return static_cast<uint64_t>(
                  std::ranges::count_if(chain.nodes, [&](const NodeStatus& node) {
                    return node.member && node.notice.empty() && node.report.synced &&
                           node.report.epoch == chain.record->configuration.epoch;
                  }));
            });
  EachChain(out, status, "catena_chain_under_replicated", "1: it has fewer members than it should.",
            [](const ChainStatus& chain) { return uint64_t{IsBehind(chain)}; });
  EachChain(out, status, "catena_chain_waiting", "1: nothing can be done for it right now.",
            [](const ChainStatus& chain) { return uint64_t{!chain.waiting_for.empty()}; });
  EachChain(out, status, "catena_chain_needs_operator",
            "1: it does not go on unless nodes come back or somebody decides (catenactl choose).",
            [](const ChainStatus& chain) { return uint64_t{chain.needs_operator}; });
  EachChain(out, status, "catena_chain_joining", "1: a node is being brought up to date.",
            [](const ChainStatus& chain) { return uint64_t{chain.join.has_value()}; });
}

void AppendNodes(Exposition& out, const ClusterStatus& status) {
  EachNode(out, status, "catena_node_member", "1: in the newest configuration.",
           [](const ChainStatus&, const NodeStatus& node) { return uint64_t{node.member}; });
  EachNode(out, status, "catena_node_heard_ago_seconds", "Since its last heartbeat.",
           [](const ChainStatus&, const NodeStatus& node) { return node.heard_ago; });
  EachNode(out, status, "catena_node_lease_left_seconds",
           "Of its lease, as the coordinator counts.",
           [](const ChainStatus&, const NodeStatus& node) { return node.lease_out; });
}

void AppendCounters(Exposition& out, const Counters& counters) {
  for (const auto& [chain, of] : counters.chains) {
    for (size_t i = 0; i < kEpochChanges; ++i) {
      out.Counter("catena_chain_epoch_changes_total",
                  "Configurations written by this coordinator, by what they changed.", of.epochs[i],
                  {{"chain", chain}, {"change", kChangeNames[i]}});
    }
  }
  for (const auto& [chain, of] : counters.chains) {
    for (const auto& [node, count] : of.heartbeats) {
      out.Counter("catena_heartbeats_total", "Heartbeats received while leading.", count,
                  {{"chain", chain}, {"node", node}});
    }
  }
}

}  // namespace

EpochChange ChangeOf(const std::optional<chain::Configuration>& before,
                     const chain::Configuration& now) {
  if (!before) return EpochChange::kFirst;
  // Also when the former head comes back elsewhere in the same epoch.
  if (before->members.front().id != now.members.front().id) return EpochChange::kHeadRemoved;
  const bool left = std::ranges::any_of(
      before->members, [&](const chain::Member& member) { return !Lists(now, member.id); });
  if (left) return EpochChange::kMemberRemoved;
  const bool came = std::ranges::any_of(
      now.members, [&](const chain::Member& member) { return !Lists(*before, member.id); });
  return came ? EpochChange::kJoin : EpochChange::kOther;
}

void AppendMetrics(Exposition& out, const Counters& counters, const EtcdUse& etcd,
                   bool etcd_healthy, const std::optional<ClusterStatus>& status) {
  out.Gauge("catena_coordinator_leading",
            "1: this coordinator leads, and exports what is known of the chains.",
            uint64_t{status.has_value()});
  out.Counter("catena_coordinator_elections_total", "Elections won.", counters.elections);
  out.Counter("catena_coordinator_depositions_total", "Leaderships that ended.",
              counters.depositions);
  out.Gauge("catena_etcd_up", "1: etcd answered when it was last asked.", uint64_t{etcd_healthy});
  constexpr std::string_view kTimes = "catena_etcd_request_seconds";
  out.Times(kTimes, "Requests to etcd, waiting included.", etcd.leadership,
            {{"class", "leadership"}});
  out.Times(kTimes, "", etcd.data, {{"class", "data"}});
  constexpr std::string_view kFailures = "catena_etcd_failures_total";
  out.Counter(kFailures, "Requests to etcd that failed, or of which nobody knows.",
              etcd.leadership_failures, {{"class", "leadership"}});
  out.Counter(kFailures, "", etcd.data_failures, {{"class", "data"}});
  AppendCounters(out, counters);
  if (!status) return;
  AppendChains(out, *status);
  AppendNodes(out, *status);
}

}  // namespace catena::coordinator
