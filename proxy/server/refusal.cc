#include "proxy/server/refusal.h"

#include "proxy/base/text.h"

namespace catena::server {
namespace {

// Settings with which a database stops being what the chain relies on, or the proxy can no longer
// reach it.
constexpr std::string_view kChainSettings[] = {
    "replica-read-only",
    "slave-read-only",
    "replica-ignore-maxmemory",
    "slave-ignore-maxmemory",
    "replica-serve-stale-data",
    "slave-serve-stale-data",
    "masterauth",
    "masteruser",
    "requirepass",
    "port",
    "bind",
    "tls-port",
    "tls-replication",
    "unixsocket",
    "repl-backlog-ttl",
    "cluster-enabled",
    "replicaof",
    "slaveof",
    "aclfile",
};

}  // namespace

std::string RefusalOf(const Request& request) {
  if (request.info == nullptr) return {};
  if (request.info->route == command::Route::kRefused) return request.info->refusal;
  if (request.info->name != "config|set") return {};
  const auto& arguments = request.command->arguments;
  for (size_t i = 2; i < arguments.size(); i += 2) {
    for (std::string_view setting : kChainSettings) {
      if (!EqualsIgnoringCase(arguments[i], setting)) continue;
      return "ERR CONFIG SET " + std::string(setting) +
             " is not allowed through Catena: the chain relies on it";
    }
  }
  return {};
}

std::string UserRefusal(const Session& session, const Request& request) {
  if (session.rights == nullptr) return {};
  return session.rights->Refusal(request.info, request.command->arguments, request.key_positions,
                                 request.keys_known);
}

std::string TooLarge(const backend::Limits& limits, const Request& request) {
  const size_t bytes = request.command->raw.size();
  if (bytes > limits.command_bytes_max) {
    return "-ERR a command of " + std::to_string(bytes) +
           " bytes is more than client-query-buffer-limit of this node's database, " +
           std::to_string(limits.command_bytes_max) + "\r\n";
  }
  if (bytes <= limits.argument_bytes_max) return {};
  for (std::string_view argument : request.command->arguments) {
    if (argument.size() <= limits.argument_bytes_max) continue;
    return "-ERR an argument of " + std::to_string(argument.size()) +
           " bytes is more than proto-max-bulk-len of this node's database, " +
           std::to_string(limits.argument_bytes_max) + "\r\n";
  }
  return {};
}

}  // namespace catena::server
