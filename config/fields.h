// Every key of the TOML, once: its name, the field it fills, whether it must be there, its bounds.
// Visitors walk this list to read a file, to tell the allowed keys and to compare the documentation
// with the compiled defaults; nothing else knows a key's name.
#pragma once

#include <array>
#include <limits>
#include <string_view>
#include <utility>

#include "config/config.h"

namespace catena::config {

enum class Need { kRequired, kOptional };

template <typename E>
using Choices = std::initializer_list<std::pair<std::string_view, E>>;

template <typename Visitor>
void VisitFields(Visitor& v, Cluster& cluster) {
  v.Name("name", cluster.name, Need::kRequired);
  v.Text("secret_file", cluster.secret_file, Need::kRequired);
  v.Choice("log_level", cluster.log_level,
           Choices<std::string>{
               {"debug", "debug"}, {"info", "info"}, {"warn", "warn"}, {"error", "error"}});
  v.Choice("log_format", cluster.log_format,
           Choices<std::string>{{"text", "text"}, {"json", "json"}});
}

template <typename Visitor>
void VisitFields(Visitor& v, Coordinator& coordinator) {
  using std::chrono::milliseconds;
  v.Addresses("listen", coordinator.listen);
  v.EtcdUrls("etcd", coordinator.etcd);
  v.Time("heartbeat", coordinator.heartbeat, milliseconds(10));
  v.Time("lease", coordinator.lease, milliseconds(100));
  v.Integer("drift_per_mille", coordinator.drift_per_mille, 0, 500);
  v.Time("leader_ttl", coordinator.leader_ttl, std::chrono::seconds(2));
}

template <typename Visitor>
void VisitFields(Visitor& v, Limits& limits) {
  constexpr size_t kKb = 1u << 10;
  v.Bytes("backlog_bytes", limits.backlog_bytes, 16 * kKb);
  v.Bytes("log_bytes_max", limits.log_bytes_max, 64 * kKb);
  v.Bytes("client_output_bytes_max", limits.client_output_bytes_max, 64 * kKb);
  v.Count("client_pipeline_max", limits.client_pipeline_max, 1);
  v.Bytes("pending_bytes_max", limits.pending_bytes_max, 64 * kKb);
  v.Bytes("bulk_bytes_max", limits.bulk_bytes_max, kKb);
  v.Bytes("command_bytes_max", limits.command_bytes_max, kKb);
  v.Count("clients_max", limits.clients_max, 1);
  v.Bytes("join_bytes_max", limits.join_bytes_max, 64 * kKb);
}

template <typename Visitor>
void VisitFields(Visitor& v, User& user) {
  v.Text("name", user.name, Need::kRequired);
  v.Password("password", user.password);
  v.Choice("access", user.access,
           Choices<Access>{{"all", Access::kAll}, {"read-only", Access::kReadOnly}});
  v.Patterns("keys", user.keys);
  v.Patterns("channels", user.channels);
}

template <typename Visitor>
void VisitFields(Visitor& v, Node& node) {
  v.Name("id", node.id, Need::kRequired);
  v.Address("clients", node.clients, Need::kRequired);
  v.Address("peers", node.peers, Need::kRequired);
  v.Address("replication", node.replication, Need::kOptional);
  v.Backend("backend", node.backend);
  v.Boolean("overwrite", node.overwrite);
}

template <typename Visitor>
void VisitFields(Visitor& v, Chain& chain) {
  v.Name("name", chain.name, Need::kRequired);
  // 0 stands for "not written": the number of nodes.
  v.Integer("replicas", chain.replicas, 1, std::numeric_limits<int>::max());
  v.Choice("consistency", chain.consistency,
           Choices<Consistency>{{"linearizable", Consistency::kLinearizable},
                                {"sequential", Consistency::kSequential},
                                {"eventual", Consistency::kEventual},
                                {"tail", Consistency::kTail}});
  v.Time("write_timeout", chain.write_timeout, std::chrono::milliseconds(10));
  v.Time("max_staleness", chain.max_staleness, Duration(0));
  v.Choice(
      "recovery", chain.recovery,
      Choices<Recovery>{{"operator", Recovery::kOperator}, {"automatic", Recovery::kAutomatic}});
  v.Table("limits");
  v.Tables("user", Need::kOptional);
  v.Tables("node", Need::kRequired);
}

template <typename Visitor>
void VisitFields(Visitor& v, Config&) {
  v.Table("cluster");
  v.Table("coordinator");
  v.Tables("chain", Need::kRequired);
}

}  // namespace catena::config
