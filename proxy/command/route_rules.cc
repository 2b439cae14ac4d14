#include "proxy/command/route_rules.h"

#include <string>

namespace catena::command {
namespace {

constexpr std::string_view kUsersReason = "users and their rights are in the configuration file";
constexpr std::string_view kClusterReason = "a chain is not a Redis Cluster; use catenactl";
constexpr std::string_view kModuleReason =
    "followers would not have the module; configure it at every server of the chain";
constexpr std::string_view kSyncReason = "replicas attach to the servers, or join the chain";

constexpr RouteRule kRules[] = {
    // To the head although not flagged write: COMMAND of 7.x does not show may_replicate.
    {"pfcount", Route::kWrite, "stores the cardinality that it computed in the value"},
    {"publish", Route::kWrite, "travels in the stream to the subscribers of every node"},
    {"spublish", Route::kWrite, "travels in the stream to the subscribers of every node"},
    {"eval", Route::kWrite, "scripts may write"},
    {"evalsha", Route::kWrite, "scripts may write"},
    {"fcall", Route::kWrite, "functions may write"},
    {"script", Route::kWrite, "the head's script cache is the one that EVALSHA uses"},
    {"script|kill", Route::kInterrupt, "ends the script that runs at the head"},
    {"function|kill", Route::kInterrupt, "ends the function that runs at the head"},
    {"function|stats", Route::kWrite, "functions run at the head"},
    {"object", Route::kWrite, "encodings and access times are only exact at the head"},
    {"xinfo", Route::kWrite, "entries-read and idle are only exact at the head"},

    // Reads without the readonly flag.
    {"function|list", Route::kRead, "functions are data: FUNCTION LOAD is in the stream"},
    {"function|dump", Route::kRead, "functions are data"},

    // About the server of this node.
    {"acl|cat", Route::kLocal, "a constant list"},
    {"acl|genpass", Route::kLocal, "a random number"},
    {"acl|whoami", Route::kProxy, "the session knows its user"},
    {"bgrewriteaof", Route::kLocal, "files of this server"},
    {"bgsave", Route::kLocal, "files of this server"},
    {"save", Route::kLocal, "files of this server"},
    {"lastsave", Route::kLocal, "files of this server"},
    {"command", Route::kLocal, "the server knows its commands"},
    {"commandlog", Route::kLocal, "log of this server (Valkey)"},
    {"config", Route::kLocal, "settings of this server"},
    {"latency", Route::kLocal, "measured at this server"},
    {"lolwut", Route::kLocal, "flagged readonly, but reads nothing"},
    {"memory", Route::kLocal, "memory of this server"},
    {"memory|usage", Route::kRead, "of a key"},
    {"module|list", Route::kLocal, "modules of this server"},
    {"pfselftest", Route::kLocal, "tests the code of this server"},
    {"pubsub", Route::kLocal, "subscribers of this server"},
    {"slowlog", Route::kLocal, "log of this server"},
    {"time", Route::kLocal, "clock of this server"},
    {"cluster|count-failure-reports", Route::kLocal, "answers as a server without Cluster does"},
    {"cluster|countkeysinslot", Route::kLocal, "answers as a server without Cluster does"},
    {"cluster|getkeysinslot", Route::kLocal, "answers as a server without Cluster does"},
    {"cluster|info", Route::kLocal, "answers as a server without Cluster does"},
    {"cluster|keyslot", Route::kLocal, "answers as a server without Cluster does"},
    {"cluster|links", Route::kLocal, "answers as a server without Cluster does"},
    {"cluster|myid", Route::kLocal, "answers as a server without Cluster does"},
    {"cluster|myshardid", Route::kLocal, "answers as a server without Cluster does"},
    {"cluster|nodes", Route::kLocal, "answers as a server without Cluster does"},
    {"cluster|replicas", Route::kLocal, "answers as a server without Cluster does"},
    {"cluster|shards", Route::kLocal, "answers as a server without Cluster does"},
    {"cluster|slaves", Route::kLocal, "answers as a server without Cluster does"},
    {"cluster|slot-stats", Route::kLocal, "answers as a server without Cluster does"},
    {"cluster|slots", Route::kLocal, "answers as a server without Cluster does"},

    // State of a client's connection, which the session keeps; or the chain's own answers.
    {"asking", Route::kProxy, "state of the connection"},
    {"auth", Route::kProxy, "state of the connection"},
    {"catena", Route::kProxy, "the proxy's own command"},
    {"client", Route::kProxy, "clients are connected to the proxy"},
    {"discard", Route::kProxy, "state of the connection"},
    {"echo", Route::kProxy, "needs no backend"},
    {"exec", Route::kProxy, "state of the connection"},
    {"hello", Route::kProxy, "state of the connection"},
    {"info", Route::kProxy, "has a section of Catena"},
    {"monitor", Route::kProxy, "needs a connection of its own"},
    {"multi", Route::kProxy, "state of the connection"},
    {"ping", Route::kProxy, "needs no backend"},
    {"psubscribe", Route::kProxy, "needs a connection of its own"},
    {"punsubscribe", Route::kProxy, "needs a connection of its own"},
    {"quit", Route::kProxy, "state of the connection"},
    {"readonly", Route::kProxy, "chooses the consistency"},
    {"readwrite", Route::kProxy, "chooses the consistency"},
    {"reset", Route::kProxy, "state of the connection"},
    {"role", Route::kProxy, "the node's place in the chain"},
    {"select", Route::kProxy, "state of the connection"},
    {"ssubscribe", Route::kProxy, "needs a connection of its own"},
    {"subscribe", Route::kProxy, "needs a connection of its own"},
    {"sunsubscribe", Route::kProxy, "needs a connection of its own"},
    {"unsubscribe", Route::kProxy, "needs a connection of its own"},
    {"unwatch", Route::kProxy, "state of the connection"},
    {"wait", Route::kProxy, "counts the members of the chain"},
    {"waitaof", Route::kProxy, "counts the members of the chain"},
    {"watch", Route::kProxy, "state of the connection"},

    // Refused.
    {"acl", Route::kRefused, kUsersReason},
    {"cluster", Route::kRefused, kClusterReason},
    {"debug", Route::kRefused, "it changes data that no other node learns of"},
    {"failover", Route::kRefused, "it would break the chain; use catenactl"},
    {"host:", Route::kRefused, "this is not an HTTP server"},
    {"module", Route::kRefused, kModuleReason},
    {"pfdebug", Route::kRefused, "it changes data that no other node learns of"},
    {"post", Route::kRefused, "this is not an HTTP server"},
    {"psync", Route::kRefused, kSyncReason},
    {"replconf", Route::kRefused, kSyncReason},
    {"replicaof", Route::kRefused, "it would break the chain; use catenactl"},
    {"script|debug", Route::kRefused, "it would take over a connection that clients share"},
    {"shutdown", Route::kRefused, "it would break the chain; use catenactl"},
    {"slaveof", Route::kRefused, "it would break the chain; use catenactl"},
    {"sync", Route::kRefused, kSyncReason},
};

const RouteRule* FindRule(std::string_view name) {
  for (const RouteRule& rule : kRules) {
    if (rule.name == name) return &rule;
  }
  return nullptr;
}

// The more specific rule wins.
const RouteRule* RuleFor(const CommandInfo& info, const CommandInfo* container) {
  if (const RouteRule* rule = FindRule(info.name)) return rule;
  return container != nullptr ? FindRule(container->name) : nullptr;
}

// A command without rule that is flagged neither readonly nor write may still change data (7.x
// hides may_replicate), so only administration stays here.
Route RouteByFlags(const CommandInfo& info) {
  if (info.write || info.may_replicate) return Route::kWrite;
  if (info.readonly) return Route::kRead;
  return info.admin ? Route::kLocal : Route::kWrite;
}

std::string RefusalText(const CommandInfo& info, std::string_view reason) {
  std::string text = "ERR ";
  for (char c : info.name) {
    if (c == '|') c = ' ';
    text += c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  }
  text += " is not allowed through Catena: ";
  return text.append(reason);
}

}  // namespace

std::span<const RouteRule> RouteRules() { return kRules; }

void AssignRoute(CommandInfo& info, const CommandInfo* container) {
  if (info.module) {
    info.route = RouteByFlags(info);
    return;
  }
  if (container != nullptr && info.name.ends_with("|help")) {
    info.route = Route::kLocal;
    return;
  }
  const RouteRule* rule = RuleFor(info, container);
  info.route = rule != nullptr ? rule->route : RouteByFlags(info);
  if (info.route == Route::kRefused) info.refusal = RefusalText(info, rule->reason);
}

}  // namespace catena::command
