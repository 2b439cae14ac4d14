// What the server tells of itself.
#include <algorithm>
#include <map>

#include "backends/rocksdb/command_handlers.h"
#include "proxy/base/text.h"
#include "proxy/command/glob.h"

namespace catena::rocks::handlers {
namespace {

// ---- INFO ----

// Appends the lines of a section, "name:value\r\n".
using SectionWriter = void (*)(const Call& call, std::string& out);

struct Section {
  std::string_view title;
  SectionWriter write;
};

void AddLine(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(":").append(value).append("\r\n");
}

void AddLine(std::string& out, std::string_view name, int64_t value) {
  AddLine(out, name, std::to_string(value));
}

void ServerSection(const Call& call, std::string& out) {
  const ServerFacts& facts = call.context.facts;
  const int64_t seconds = (call.now_ms() - facts.started_ms) / 1000;
  AddLine(out, "redis_version", kRedisVersion);
  AddLine(out, "redis_mode", "standalone");
  AddLine(out, "rocksdb_version", facts.version);
  AddLine(out, "arch_bits", 64);
  AddLine(out, "run_id", facts.run_id);
  AddLine(out, "server_time_usec", call.now_ms() * 1000);
  AddLine(out, "uptime_in_seconds", seconds);
  AddLine(out, "uptime_in_days", seconds / 86400);
}

void ClientsSection(const Call& call, std::string& out) {
  AddLine(out, "connected_clients", static_cast<int64_t>(call.context.facts.connections));
  AddLine(out, "blocked_clients", 0);
}

void MemorySection(const Call&, std::string& out) {
  AddLine(out, "maxmemory", 0);
  AddLine(out, "maxmemory_policy", "noeviction");
}

void PersistenceSection(const Call&, std::string& out) {
  AddLine(out, "loading", 0);
  AddLine(out, "rdb_bgsave_in_progress", 0);
  AddLine(out, "aof_enabled", 0);
}

void StatsSection(const Call& call, std::string& out) {
  AddLine(out, "total_commands_processed",
          static_cast<int64_t>(call.context.workspace.commands_run));
  AddLine(out, "evicted_keys", 0);
}

void ReplicationSection(const Call& call, std::string& out) {
  const auto& lines = call.context.facts.replication;
  if (lines) return void(out += lines());
  AddLine(out, "role", "master");
}

void ClusterSection(const Call&, std::string& out) { AddLine(out, "cluster_enabled", 0); }

// RocksDB's own estimate: counting them would take a walk over all.
void KeyspaceSection(const Call& call, std::string& out) {
  const auto& estimate = call.context.facts.estimated_keys;
  const uint64_t keys = estimate ? estimate() : 0;
  if (keys == 0) return;
  AddLine(out, "db0", "keys=" + std::to_string(keys) + ",expires=0,avg_ttl=0");
}

void RocksDbSection(const Call& call, std::string& out) {
  if (call.context.facts.statistics) out += call.context.facts.statistics();
}

constexpr Section kSections[] = {
    {"Server", ServerSection},   {"Clients", ClientsSection},
    {"Memory", MemorySection},   {"Persistence", PersistenceSection},
    {"Stats", StatsSection},     {"Replication", ReplicationSection},
    {"Cluster", ClusterSection}, {"Keyspace", KeyspaceSection},
    {"RocksDB", RocksDbSection},
};

bool Wants(const Call& call, std::string_view title) {
  if (call.count() == 1) return true;
  for (size_t at = 1; at < call.count(); ++at) {
    for (std::string_view word : {title, std::string_view("default"), std::string_view("all"),
                                  std::string_view("everything")}) {
      if (call.Is(at, word)) return true;
    }
  }
  return false;
}

void ReplyText(const Call& call, std::string_view text) {
  if (call.protocol() < 3) return call.Bulk(text);
  constexpr std::string_view kFormat = "txt:";
  call.reply.append("=").append(std::to_string(text.size() + kFormat.size())).append("\r\n");
  call.reply.append(kFormat).append(text).append("\r\n");
}

// ---- CONFIG ----

using Settings = std::map<std::string, std::string, std::less<>>;

// Those of Redis that clients ask for, and the backend's own.
Settings AllSettings(const Call& call) {
  Settings settings = {{"appendonly", "no"},
                       {"databases", "1"},
                       {"maxclients", "10000"},
                       {"maxmemory", "0"},
                       {"maxmemory-policy", "noeviction"},
                       {"proto-max-bulk-len", std::to_string(kStringBytesMax)},
                       {"save", ""},
                       {"timeout", "0"}};
  if (!call.context.facts.configuration) return settings;
  const std::string own = call.context.facts.configuration();
  for (size_t at = 0; at < own.size();) {
    const std::string name = own.c_str() + at;
    at += name.size() + 1;
    if (at >= own.size()) break;
    const std::string value = own.c_str() + at;
    at += value.size() + 1;
    settings[name] = value;
  }
  return settings;
}

bool IsAsked(const Call& call, std::string_view name) {
  for (size_t at = 2; at < call.count(); ++at) {
    std::string pattern(call[at]);
    for (char& c : pattern) c = LowerCase(c);
    if (command::MatchesGlob(pattern, name)) return true;
  }
  return false;
}

}  // namespace

void Info(Call& call) {
  std::string& text = call.bytes();
  text.clear();
  for (const Section& section : kSections) {
    if (!Wants(call, section.title)) continue;
    if (!text.empty()) text += "\r\n";
    text.append("# ").append(section.title).append("\r\n");
    section.write(call, text);
  }
  ReplyText(call, text);
}

void ConfigGet(Call& call) {
  Settings settings = AllSettings(call);
  std::erase_if(settings, [&](const auto& setting) { return !IsAsked(call, setting.first); });
  call.Map(settings.size());
  for (const auto& [name, value] : settings) {
    call.Bulk(name);
    call.Bulk(value);
  }
}

void ConfigSet(Call& call) {
  call.Error(
      "ERR CONFIG SET is not supported by the rocksdb backend: its settings are in the proxy's "
      "configuration file");
}

void ConfigRewrite(Call& call) { call.Error("ERR The server is running without a config file"); }

// RocksDB's statistics are since it was opened; nothing else is counted.
void ConfigResetStat(Call& call) { call.Ok(); }

void ConfigHelp(Call& call) {
  call.Help("CONFIG", {"GET <pattern>",
                       "    Return parameters matching the glob-like <pattern> and their values."});
}

void Time(Call& call) {
  const int64_t now = call.now_ms();
  call.Array(2);
  call.Bulk(std::to_string(now / 1000));
  call.Bulk(std::to_string(now % 1000 * 1000));
}

void EmptyList(Call& call) { call.Array(0); }
void Zero(Call& call) { call.Integer(0); }

void SlowLogReset(Call& call) { call.Ok(); }

void SlowLogHelp(Call& call) {
  call.Help("SLOWLOG", {"GET [<count>]", "    Return nothing: no log is kept."});
}

void PubSubHelp(Call& call) {
  call.Help("PUBSUB",
            {"CHANNELS [<pattern>]",
             "    Return the currently active channels matching a <pattern> (default: '*').",
             "NUMPAT", "    Return number of subscriptions to patterns.", "NUMSUB [<channel> ...]",
             "    Return the number of subscribers for the specified channels, excluding",
             "    pattern subscriptions(default: no channels)."});
}

void LatencyHelp(Call& call) {
  call.Help("LATENCY", {"LATEST", "    Return nothing: latencies are not recorded."});
}

}  // namespace catena::rocks::handlers
