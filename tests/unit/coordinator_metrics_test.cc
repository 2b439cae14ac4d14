#include <doctest/doctest.h>

#include "coordinator/metrics.h"

namespace catena::coordinator {
namespace {

chain::Configuration Of(uint64_t epoch, const std::vector<NodeId>& ids) {
  chain::Configuration configuration;
  configuration.chain = "main";
  configuration.epoch = Epoch(epoch);
  for (const NodeId& id : ids) {
    chain::Member member;
    member.id = id;
    member.incarnation = Incarnation(1);
    configuration.members.push_back(member);
  }
  return configuration;
}

bool Has(const Exposition& out, const std::string& line) {
  return out.text().find("\n" + line + "\n") != std::string::npos;
}

TEST_CASE("what an epoch changed") {
  CHECK(ChangeOf(std::nullopt, Of(1, {"a"})) == EpochChange::kFirst);
  CHECK(ChangeOf(Of(1, {"a"}), Of(2, {"a", "b"})) == EpochChange::kJoin);
  CHECK(ChangeOf(Of(2, {"a", "b"}), Of(3, {"b"})) == EpochChange::kHeadRemoved);
  CHECK(ChangeOf(Of(2, {"a", "b"}), Of(3, {"b", "a"})) == EpochChange::kHeadRemoved);
  CHECK(ChangeOf(Of(2, {"a", "b"}), Of(3, {"a"})) == EpochChange::kMemberRemoved);
  CHECK(ChangeOf(Of(2, {"a", "b"}), Of(3, {"a", "c"})) == EpochChange::kMemberRemoved);
  CHECK(ChangeOf(Of(2, {"a"}), Of(3, {"a"})) == EpochChange::kOther);
}

TEST_CASE("the leader tells of the chains, others of themselves only") {
  ClusterStatus status;
  ChainStatus& chain = status.chains.emplace_back();
  chain.chain = "main";
  chain.replicas = 3;
  chain.record.emplace().configuration = Of(7, {"a", "b"});
  chain.needs_operator = true;
  chain.waiting_for = "somebody";
  for (const char* id : {"a", "b"}) {
    NodeStatus& node = chain.nodes.emplace_back();
    node.report.node = id;
    node.report.synced = true;
    node.report.epoch = Epoch(7);
    node.member = true;
    node.heard_ago = std::chrono::milliseconds(1500);
  }
  chain.nodes[1].notice = "its connection is broken";
  Counters counters;
  counters.chains["main"].epochs[static_cast<size_t>(EpochChange::kJoin)] = 2;
  counters.chains["main"].heartbeats["a"] = 5;
  EtcdUse etcd;
  etcd.data_failures = 4;

  Exposition leader;
  AppendMetrics(leader, counters, etcd, true, status);
  CHECK(Has(leader, "catena_coordinator_leading 1"));
  CHECK(Has(leader, "catena_chain_epoch{chain=\"main\"} 7"));
  CHECK(Has(leader, "catena_chain_members{chain=\"main\"} 2"));
  CHECK(Has(leader, "catena_chain_synced_members{chain=\"main\"} 1"));
  CHECK(Has(leader, "catena_chain_under_replicated{chain=\"main\"} 1"));
  CHECK(Has(leader, "catena_chain_needs_operator{chain=\"main\"} 1"));
  CHECK(Has(leader, "catena_node_heard_ago_seconds{chain=\"main\",node=\"b\"} 1.5"));
  CHECK(Has(leader, "catena_chain_epoch_changes_total{chain=\"main\",change=\"join\"} 2"));
  CHECK(Has(leader, "catena_heartbeats_total{chain=\"main\",node=\"a\"} 5"));
  CHECK(Has(leader, "catena_etcd_failures_total{class=\"data\"} 4"));

  Exposition other;
  AppendMetrics(other, Counters(), etcd, false, std::nullopt);
  CHECK(Has(other, "catena_coordinator_leading 0"));
  CHECK(Has(other, "catena_etcd_up 0"));
  CHECK(other.text().find("catena_chain_") == std::string::npos);
}

}  // namespace
}  // namespace catena::coordinator
