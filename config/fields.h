// Every key of the TOML, once: its name, the field it fills, whether it must be there, its bounds,
// whether a running process takes a new value (Live) or needs a restart for it. Visitors walk this
// list to read a file, to tell the allowed keys, to find what a file read again changes and to compare
// the documentation with the program; nothing else knows a key's name.
#pragma once

#include <array>
#include <limits>
#include <string_view>
#include <utility>

#include "config/config.h"

namespace catena::config {

enum class Need { kRequired, kOptional };

// A key's name, and whether its value may change while a process runs (reload.h).
struct Key {
  constexpr Key(const char* written, bool takes_changes = false)
      : name(written), live(takes_changes) {}
  constexpr operator std::string_view() const { return name; }
  std::string_view name;
  bool live;
};
constexpr Key Live(const char* name) { return {name, true}; }

template <typename E>
using Choices = std::initializer_list<std::pair<std::string_view, E>>;

template <typename Visitor>
void VisitFields(Visitor& v, Cluster& cluster) {
  v.Name("name", cluster.name, Need::kRequired);
  v.Text("secret_file", cluster.secret_file, Need::kRequired);
  v.Choice(Live("log_level"), cluster.log_level,
           Choices<std::string>{
               {"debug", "debug"}, {"info", "info"}, {"warn", "warn"}, {"error", "error"}});
  v.Choice(Live("log_format"), cluster.log_format,
           Choices<std::string>{{"text", "text"}, {"json", "json"}});
}

template <typename Visitor>
void VisitFields(Visitor& v, Coordinator& coordinator) {
  using std::chrono::milliseconds;
  v.Addresses(Live("listen"), coordinator.listen, Need::kRequired);
  v.Addresses("admin", coordinator.admin, Need::kOptional);
  v.EtcdUrls("etcd", coordinator.etcd);
  v.Time(Live("heartbeat"), coordinator.heartbeat, milliseconds(10));
  v.Time(Live("lease"), coordinator.lease, milliseconds(100));
  v.Integer("drift_per_mille", coordinator.drift_per_mille, 0, 500);
  v.Time("leader_ttl", coordinator.leader_ttl, std::chrono::seconds(2));
}

template <typename Visitor>
void VisitFields(Visitor& v, Tls& tls) {
  v.Text(Live("ca_file"), tls.ca_file, Need::kOptional);
  v.Text(Live("certificate_file"), tls.certificate_file, Need::kOptional);
  v.Text(Live("key_file"), tls.key_file, Need::kOptional);
  v.Choice("clients", tls.clients,
           Choices<ClientTls>{
               {"off", ClientTls::kOff}, {"on", ClientTls::kOn}, {"mutual", ClientTls::kMutual}});
  v.Boolean("peers", tls.peers);
  v.Boolean("coordinators", tls.coordinators);
}

template <typename Visitor>
void VisitFields(Visitor& v, Limits& limits) {
  constexpr size_t kKb = 1u << 10;
  v.Bytes(Live("backlog_bytes"), limits.backlog_bytes, 16 * kKb);
  v.Bytes(Live("log_bytes_max"), limits.log_bytes_max, 64 * kKb);
  v.Bytes(Live("client_output_bytes_max"), limits.client_output_bytes_max, 64 * kKb);
  v.Count(Live("client_pipeline_max"), limits.client_pipeline_max, 1);
  v.Bytes(Live("pending_bytes_max"), limits.pending_bytes_max, 64 * kKb);
  v.Bytes(Live("bulk_bytes_max"), limits.bulk_bytes_max, kKb);
  v.Bytes(Live("command_bytes_max"), limits.command_bytes_max, kKb);
  v.Count(Live("clients_max"), limits.clients_max, 1);
  v.Bytes(Live("join_bytes_max"), limits.join_bytes_max, 64 * kKb);
}

template <typename Visitor>
void VisitFields(Visitor& v, RocksDb& rocksdb) {
  constexpr size_t kMb = 1u << 20;
  v.Choice("sync", rocksdb.sync,
           Choices<Sync>{
               {"always", Sync::kAlways}, {"interval", Sync::kInterval}, {"never", Sync::kNever}});
  v.Time("sync_interval", rocksdb.sync_interval, std::chrono::milliseconds(10));
  v.Bytes("block_cache", rocksdb.block_cache, kMb);
  v.OptionalBytes("write_buffer", rocksdb.write_buffer, kMb);
  v.OptionalInteger("open_files", rocksdb.open_files, 64, 1 << 20);
  v.OptionalInteger("background_jobs", rocksdb.background_jobs, 1, 64);
}

template <typename Visitor>
void VisitFields(Visitor& v, User& user) {
  v.Text("name", user.name, Need::kRequired);
  v.Password(Live("password"), user.password);
  v.Text(Live("password_file"), user.password_file, Need::kOptional);
  v.Choice(Live("access"), user.access,
           Choices<Access>{{"all", Access::kAll}, {"read-only", Access::kReadOnly}});
  v.Patterns(Live("keys"), user.keys);
  v.Patterns(Live("channels"), user.channels);
}

template <typename Visitor>
void VisitFields(Visitor& v, Node& node) {
  v.Name("id", node.id, Need::kRequired);
  v.Address("clients", node.clients, Need::kRequired);
  v.Address("peers", node.peers, Need::kRequired);
  v.Address("replication", node.replication, Need::kOptional);
  v.OptionalAddress("admin", node.admin);
  v.Backend("backend", node.backend);
  v.Text("backend_password_file", node.backend_password_file, Need::kOptional);
  v.Boolean(Live("overwrite"), node.overwrite);
}

template <typename Visitor>
void VisitFields(Visitor& v, Chain& chain) {
  v.Name("name", chain.name, Need::kRequired);
  // 0 stands for "not written": the number of nodes.
  v.Integer(Live("replicas"), chain.replicas, 1, std::numeric_limits<int>::max());
  v.Choice(Live("consistency"), chain.consistency,
           Choices<Consistency>{{"linearizable", Consistency::kLinearizable},
                                {"sequential", Consistency::kSequential},
                                {"eventual", Consistency::kEventual},
                                {"tail", Consistency::kTail}});
  v.Time(Live("write_timeout"), chain.write_timeout, std::chrono::milliseconds(10));
  v.Time(Live("max_staleness"), chain.max_staleness, Duration(0));
  v.Choice(
      Live("recovery"), chain.recovery,
      Choices<Recovery>{{"operator", Recovery::kOperator}, {"automatic", Recovery::kAutomatic}});
  v.Table("limits");
  v.Table("rocksdb");
  v.Tables("user", Need::kOptional);
  v.Tables("node", Need::kRequired);
}

template <typename Visitor>
void VisitFields(Visitor& v, Config&) {
  v.Table("cluster");
  v.Table("coordinator");
  v.Table("tls");
  v.Tables("chain", Need::kRequired);
}

}  // namespace catena::config
