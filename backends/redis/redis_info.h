// What Redis says about itself, from its texts into structs, and what follows from it: may its data
// go on in a chain's history? Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backends/backend.h"
#include "proxy/resp/value.h"

namespace catena::redis {

// The value of `field` in an INFO text ("" when absent). A view into `text`.
std::string_view InfoField(std::string_view text, std::string_view field);

// The fields of INFO that matter here. Sections that were not asked for leave the defaults.
struct ServerInfo {
  std::string run_id;
  std::string version;  // redis_version
  std::string mode;     // standalone, cluster, sentinel
  bool loading = false;
  bool is_master = true;
  std::string replid, replid2;
  uint64_t master_offset = 0;  // master_repl_offset
  int64_t second_offset = -1;  // second_repl_offset
  bool backlog_active = false;
  std::string master_host;  // replica only, as all below
  int master_port = 0;
  bool link_up = false;
  std::optional<uint64_t> replica_offset;  // slave_repl_offset: what it has executed
  bool read_only = true;
  // A replica's own maxmemory counts: it may have skipped what it was fed. INFO does not tell.
  bool obeys_maxmemory = false;
  uint64_t keys = 0;
};

ServerInfo ParseInfo(std::string_view text);
// The sum over all databases of "dbN:keys=...".
uint64_t CountKeys(std::string_view info_text);

// The answer to ROLE.
struct Role {
  bool is_master = true;
  // Master: its replication offset. Replica: what it has executed; nullopt while its link is down.
  std::optional<uint64_t> offset;
};

// From the raw reply, without allocating (it ends every batch). nullopt: an error or something
// else.
std::optional<Role> ParseRole(std::string_view reply);

struct ClientEntry {
  std::string id;
  std::string name;
};
std::vector<ClientEntry> ParseClientList(std::string_view text);

// Takes one setting, as CONFIG GET tells it, into `limits`; others than those are ignored.
void TakeSetting(std::string_view name, std::string_view value, backend::Limits& limits);
// The settings that TakeSetting knows.
inline constexpr std::string_view kLimitSettings[] = {
    "proto-max-bulk-len", "client-query-buffer-limit", "client-output-buffer-limit", "maxclients"};

// The name of our connections: "catena:<node>:<incarnation>".
std::string ConnectionName(std::string_view node, Incarnation incarnation);
// Whether `name` is a connection of another incarnation of `node`: of a process that we replace.
bool IsPredecessorsName(std::string_view name, std::string_view node, Incarnation incarnation);

// backend::Info.resume: set when the data is an untouched prefix of a chain's history.
std::optional<backend::ResumePoint> ResumePointOf(const ServerInfo& info);
// backend::Info.from_chain.
bool IsFromChain(const ServerInfo& info);

// The newest RDB version that a Redis reads, from the last bytes of what DUMP or FUNCTION DUMP
// returns (two bytes of version, eight of checksum); nullopt: not such a payload.
std::optional<int> RdbVersionOfDump(std::string_view payload);
// The same from the version text, for servers that cannot be asked; for releases that are not known
// here the newest that is.
int RdbVersionOfRelease(std::string_view version);

}  // namespace catena::redis
