#include "backends/redis/redis_info.h"

#include <array>

#include "proxy/base/mutant.h"
#include "proxy/base/text.h"
#include "proxy/resp/encoder.h"

namespace catena::redis {
namespace {

// Takes the first line off `text`, without its end.
std::string_view TakeLine(std::string_view& text) {
  const size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

bool IsChainReplid(std::string_view replid) {
  return replid.starts_with(backend::kChainReplidPrefix);
}

// CLIENT SETNAME takes no blanks and nothing unprintable.
std::string Printable(std::string_view node) {
  std::string name(node);
  for (char& c : name) {
    if (c <= ' ' || c > '~') c = '_';
  }
  return name;
}

}  // namespace

std::string_view InfoField(std::string_view text, std::string_view field) {
  while (!text.empty()) {
    const std::string_view line = TakeLine(text);
    if (line.size() > field.size() && line[field.size()] == ':' && line.starts_with(field)) {
      return line.substr(field.size() + 1);
    }
  }
  return {};
}

ServerInfo ParseInfo(std::string_view text) {
  ServerInfo info;
  info.run_id = InfoField(text, "run_id");
  info.version = InfoField(text, "redis_version");
  info.mode = InfoField(text, "redis_mode");
  if (info.mode.empty()) info.mode = InfoField(text, "server_mode");  // Valkey
  info.loading = InfoField(text, "loading") == "1";
  info.is_master = InfoField(text, "role") != "slave";
  info.replid = InfoField(text, "master_replid");
  info.replid2 = InfoField(text, "master_replid2");
  info.master_offset = ParseNumber<uint64_t>(InfoField(text, "master_repl_offset")).value_or(0);
  info.second_offset = ParseNumber<int64_t>(InfoField(text, "second_repl_offset")).value_or(-1);
  info.backlog_active = InfoField(text, "repl_backlog_active") == "1";
  info.master_host = InfoField(text, "master_host");
  info.master_port = ParseNumber<int>(InfoField(text, "master_port")).value_or(0);
  info.link_up = InfoField(text, "master_link_status") == "up";
  info.replica_offset = ParseNumber<uint64_t>(InfoField(text, "slave_repl_offset"));
  info.read_only = InfoField(text, "slave_read_only") != "0";
  info.keys = CountKeys(text);
  return info;
}

namespace {

// "normal 0 0 0 slave 268435456 67108864 60 pubsub ...": the hard limit of replicas; 0: none.
std::optional<size_t> ReplicaOutputLimit(std::string_view classes) {
  for (std::string_view name : {"slave ", "replica "}) {
    size_t at = classes.find(name);
    if (at == std::string_view::npos) continue;
    std::string_view rest = classes.substr(at + name.size());
    return ParseNumber<size_t>(rest.substr(0, rest.find(' ')));
  }
  return std::nullopt;
}

}  // namespace

void TakeSetting(std::string_view name, std::string_view value, backend::Limits& limits) {
  if (name == "client-output-buffer-limit") {
    const std::optional<size_t> hard = ReplicaOutputLimit(value);
    if (!hard) return;
    // A quarter is left for what others cause meanwhile, and because some versions count the memory
    // that the allocator gave, up to a fifth more than was asked for.
    limits.effect_bytes_max = *hard == 0 ? backend::Limits::kNone : *hard / 4 * 3;
    limits.effect_setting = "client-output-buffer-limit replica " + std::to_string(*hard);
    return;
  }
  const std::optional<size_t> number = ParseNumber<size_t>(value);
  if (!number) return;
  if (name == "proto-max-bulk-len") limits.argument_bytes_max = *number;
  if (name == "client-query-buffer-limit") limits.command_bytes_max = *number;
  if (name == "maxclients") limits.connections_max = *number;
}

uint64_t CountKeys(std::string_view info_text) {
  constexpr std::string_view kKeys = ":keys=";
  uint64_t keys = 0;
  while (!info_text.empty()) {
    const std::string_view line = TakeLine(info_text);
    const size_t at = line.find(kKeys);
    if (!line.starts_with("db") || at == std::string_view::npos) continue;
    const std::string_view number = line.substr(at + kKeys.size());
    keys += ParseNumber<uint64_t>(number.substr(0, number.find(','))).value_or(0);
  }
  return keys;
}

std::optional<Role> ParseRole(std::string_view reply) {
  Role role;
  if (reply.starts_with("*3\r\n$6\r\nmaster\r\n:")) {
    reply.remove_prefix(17);
    const auto offset = ParseNumber<uint64_t>(TakeLine(reply));
    if (!offset) return std::nullopt;
    role.offset = offset;
    return role;
  }
  // ["slave", host, port, state, offset]; only the last matters.
  if (!reply.starts_with("*5\r\n$5\r\nslave\r\n")) return std::nullopt;
  const size_t last = reply.rfind(':');
  if (last == std::string_view::npos) return std::nullopt;
  reply.remove_prefix(last + 1);
  const auto offset = ParseNumber<int64_t>(TakeLine(reply));
  if (!offset) return std::nullopt;
  role.is_master = false;
  if (*offset >= 0) role.offset = static_cast<uint64_t>(*offset);
  return role;
}

std::vector<ClientEntry> ParseClientList(std::string_view text) {
  std::vector<ClientEntry> clients;
  while (!text.empty()) {
    std::string_view line = TakeLine(text);
    ClientEntry entry;
    while (!line.empty()) {
      const size_t space = line.find(' ');
      const std::string_view word = line.substr(0, space);
      line.remove_prefix(space == std::string_view::npos ? line.size() : space + 1);
      if (word.starts_with("id=")) entry.id = word.substr(3);
      if (word.starts_with("name=")) entry.name = word.substr(5);
    }
    if (!entry.id.empty()) clients.push_back(std::move(entry));
  }
  return clients;
}

std::string ConnectionName(std::string_view node, Incarnation incarnation) {
  return "catena:" + Printable(node) + ":" + resp::Decimal(incarnation.value());
}

bool IsPredecessorsName(std::string_view name, std::string_view node, Incarnation incarnation) {
  const std::string prefix = "catena:" + Printable(node) + ":";
  if (!name.starts_with(prefix)) return false;
  const auto other = ParseNumber<uint64_t>(name.substr(prefix.size()));
  return other && Incarnation(*other) != incarnation;
}

std::optional<backend::ResumePoint> ResumePointOf(const ServerInfo& info) {
  if (!info.is_master) {
    // Writable replicas may hold anything. A Redis that lost its place (a snapshot failed to load)
    // says 1, which is no end of a command; it would ask for a snapshot itself.
    if (!IsChainReplid(info.replid) || !info.read_only) return std::nullopt;
    if (!info.replica_offset || *info.replica_offset == 1) return std::nullopt;
    return backend::ResumePoint{info.replid, Position(*info.replica_offset)};
  }
  // Restarted from an RDB of a replica (7.0+): a master whose former history ended just where it
  // stands. The same holds for one promoted a moment ago that nothing has been written to.
  if (!IsChainReplid(info.replid2) || info.second_offset < 1) return std::nullopt;
  const bool untouched = info.master_offset + 1 == static_cast<uint64_t>(info.second_offset);
  if (!untouched && !CATENA_MUTANT("former-head-kept")) return std::nullopt;
  return backend::ResumePoint{info.replid2, Position(info.master_offset)};
}

bool IsFromChain(const ServerInfo& info) {
  return IsChainReplid(info.replid) || IsChainReplid(info.replid2);
}

std::optional<int> RdbVersionOfDump(std::string_view payload) {
  constexpr size_t kFooterBytes = 10;
  if (payload.size() < kFooterBytes) return std::nullopt;
  const size_t at = payload.size() - kFooterBytes;
  return static_cast<unsigned char>(payload[at]) +
         256 * static_cast<unsigned char>(payload[at + 1]);
}

int RdbVersionOfRelease(std::string_view version) {
  struct Release {
    int major, minor, rdb_version;
  };
  constexpr std::array<Release, 8> kReleases = {
      {{7, 4, 12}, {7, 2, 11}, {7, 0, 10}, {5, 0, 9}, {4, 0, 8}, {3, 2, 7}, {2, 6, 6}, {0, 0, 5}}};
  const size_t dot = version.find('.');
  const std::string_view rest = dot == std::string_view::npos ? "" : version.substr(dot + 1);
  const int major = ParseNumber<int>(version.substr(0, dot)).value_or(0);
  const int minor = ParseNumber<int>(rest.substr(0, rest.find('.'))).value_or(0);
  for (const Release& release : kReleases) {
    if (std::pair(major, minor) >= std::pair(release.major, release.minor))
      return release.rdb_version;
  }
  return 5;
}

}  // namespace catena::redis
