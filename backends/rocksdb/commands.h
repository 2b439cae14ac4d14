// The commands of the RocksDB backend on a View, answered as Redis 7.0 does, byte for byte. Pure.
// Connections' states (MULTI, WATCH, SUBSCRIBE) are the engine's (engine.h).
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "backends/rocksdb/scan_cursors.h"
#include "backends/rocksdb/view.h"

namespace catena::rocks {

using Arguments = std::span<const std::string_view>;

// Facts of the server for INFO, CONFIG GET and the like, as text; asked when such a command comes.
struct ServerFacts {
  std::string version;                       // of RocksDB, "7.8.3"
  std::string run_id;                        // 40 hex digits
  int64_t started_ms = 0;                    // wall clock
  uint64_t connections = 0;                  // lanes
  std::function<uint64_t()> estimated_keys;  // for INFO, which must not walk them
  std::function<std::string()>
      statistics;  // RocksDB's own, "name:value\r\n" lines; engine's thread
  std::function<std::string()> replication;    // "role:master\r\n...": the section's lines
  std::function<std::string()> configuration;  // "name\0value\0..." of settings for CONFIG GET
};

// What a command needs to know of, and may change on, its connection.
struct Client {
  int64_t id = 0;    // of its own among all of the server's
  int protocol = 2;  // RESP version; HELLO changes it
  std::string name;
};

// What commands keep from one to the next. One for all connections.
struct Workspace {
  // Room for what they read and make, so that frequent ones allocate nothing once it is warm. What
  // is larger than this is given back after the command.
  static constexpr size_t kKeptBytes = 1u << 20;
  Item item, other;
  std::string bytes;
  ScanCursors scans;
  uint64_t commands_run = 0;  // for INFO
};

struct CommandContext {
  View& view;
  Client& client;
  const ServerFacts& facts;
  Workspace& workspace;
};

// How a command behaves, for the engine.
struct CommandTraits {
  bool writes = false;  // may change the data
  // Positions of its keys in the arguments, as COMMAND tells; first 0: none.
  int first_key = 0, last_key = 0, key_step = 0;
  bool reads_only_values = false;  // GET, MGET, STRLEN ...: worth fetching its keys ahead
};

// nullptr: Execute answers it with an error, or it is one that the engine does itself (MULTI,
// SUBSCRIBE, PUBLISH ...).
const CommandTraits* FindTraits(Arguments arguments);

// True: these arguments can be queued in a transaction, as far as their number and the command tell;
// the engine's own commands included. Otherwise the error reply is appended (unknown command, wrong
// number of arguments), as Redis answers already to the queueing.
bool CheckArguments(Arguments arguments, std::string& reply);

// Runs one command, `arguments[0]` its name in any case, and appends its reply. Unknown commands
// and those of other types are answered with an error; nothing has then changed. A command that
// answers with an error has changed nothing.
void Execute(Arguments arguments, CommandContext& context, std::string& reply);

// The reply to COMMAND, RESP2: as Redis 7.0 describes these commands (flags, keys, categories,
// specifications), plus CATENA.RANGE, and CATENA.WRITE as it stands in the effect stream.
std::string_view CommandReply();

}  // namespace catena::rocks
