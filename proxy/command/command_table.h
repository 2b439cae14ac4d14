// What the backend's own COMMAND says about each command: arity, flags, where its keys are. Nothing
// about commands is hard-wired but what COMMAND cannot tell: where a command must run in a chain
// (route_rules.cc) and the few key positions that no specification describes (key_finder.cc). Pure.
//
//   auto table = CommandTable::FromReply(reply_to_COMMAND);
//   const CommandInfo* info = table->Find(arguments);           // nullptr: let the backend answer
//   if (FindKeys(*info, arguments, keys) == KeyKnowledge::kExact) ...
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/result.h"
#include "proxy/resp/value.h"

namespace catena::command {

// Where a command is executed.
enum class Route : uint8_t {
  // Reads data, fine at a read-only replica: at the local node by its consistency mode. One without
  // keys (SCAN, DBSIZE, FUNCTION LIST) reads the whole data set.
  kRead,
  // Changes data or may (PFCOUNT, PUBLISH, scripts, GETEX, SORT, XINFO ...): at the head.
  kWrite,
  // To the head's server past all that waits there (SCRIPT KILL): it is busy, and this is to end
  // that.
  kInterrupt,
  // About this node's server, no data (CONFIG, SLOWLOG, LATENCY ...): to the local backend.
  kLocal,
  // The session answers it (PING, SELECT, HELLO, AUTH, CLIENT, INFO, WAIT, MULTI, CATENA ...).
  kProxy,
  // Would break the chain or a shared connection; `refusal` says why.
  kRefused,
  // A subcommand that the backend does not know: to the local backend, whose error is the answer.
  kUnknown
};

struct CommandInfo {
  std::string name;  // lower case; "config|get" for a subcommand
  int arity = 0;     // negative: at least -arity arguments
  bool write = false, readonly = false, denyoom = false, admin = false, pubsub = false;
  bool noscript = false, blocking = false, movablekeys = false, no_auth = false;
  bool may_replicate = false;  // 6.2 only: 7.x does not show it
  bool module = false;         // of a loaded module
  // ACL categories, which flags do not tell exactly.
  bool acl_write = false, acl_admin = false, acl_scripting = false;
  int first_key = 0, last_key = 0, key_step = 0;
  // 7.0+ key specifications, in order; used when movablekeys. Those of channel names are left out.
  // For 6.2, which tells none, those of its own commands are filled in.
  struct KeySpec {
    enum class Begin : uint8_t { kIndex, kKeyword, kUnknown } begin = Begin::kUnknown;
    int index = 0;  // kIndex; kKeyword: where to start looking (negative: from the end, backwards)
    std::string keyword;
    enum class Find : uint8_t { kRange, kKeynum, kUnknown } find = Find::kUnknown;
    int last_key = 0, step = 1, limit = 0;              // kRange
    int keynum_index = 0, first_key = 0, key_step = 1;  // kKeynum
    bool incomplete = false;                            // its flags say that not all keys are told
  };
  std::vector<KeySpec> specs;
  // How FindKeys works on this command; set by CommandTable.
  enum class KeyRule : uint8_t {
    kNone,    // has no keys
    kRange,   // first_key, last_key, key_step tell all
    kSpecs,   // the specifications tell all
    kScript,  // the specifications tell the declared keys; a script may use others
    kSort,    // these three have options that no specification describes
    kGeoStore,
    kMigrate,
    kUntold  // cannot be told (a module's own key finder, a movable command without specifications)
  } key_rule = KeyRule::kNone;
  std::vector<CommandInfo> subcommands;
  Route route = Route::kUnknown;
  std::string refusal;  // error text without '-' for kRefused

  // Whether so many words, the command's own included, are what it takes.
  bool TakesArguments(size_t count) const {
    return arity >= 0 ? count == static_cast<size_t>(arity) : count >= static_cast<size_t>(-arity);
  }
  // Whether it reads and changes nothing but the keys that FindKeys tells. A module's may do more:
  // search in an index of many keys, add to a series that is made from the one it names.
  bool UsesNamedKeysOnly() const { return !module; }
};

// Immutable once made; a moved-from table may only be assigned to or destroyed.
class CommandTable {
 public:
  // From the reply to COMMAND (Redis 6.2, 7.x and later, Valkey; RESP2 or RESP3). Error: it is not
  // such a reply. Names that Catena must handle although COMMAND does not list them are added
  // (CATENA, and POST and HOST:, at which Redis closes the connection).
  static Result<CommandTable> FromReply(const resp::Value& reply);
  // The container and, where it has one, the subcommand entry: {"CONFIG","GET",..} -> config|get.
  // Case-insensitive; nullptr: unknown. No allocation. The entry lives as long as the table, also
  // when the table is moved.
  const CommandInfo* Find(std::span<const std::string_view> arguments) const;
  // Number of top-level commands.
  size_t size() const;

  CommandTable();
  ~CommandTable();
  CommandTable(CommandTable&&) noexcept;
  CommandTable& operator=(CommandTable&&) noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

enum class KeyKnowledge : uint8_t {
  kExact,   // `keys` holds all keys (possibly none for a command without keys)
  kUnknown  // cannot be told: as if it touched or read every key
};

// Appends the positions (indexes into `arguments`) of the keys of one command. kUnknown also for
// arguments that make no sense (a numkeys that is no number or too large), and for scripts, whose
// declared keys are appended although they may use others. Never allocates when `keys` has room.
KeyKnowledge FindKeys(const CommandInfo& info, std::span<const std::string_view> arguments,
                      std::vector<uint32_t>& keys);

// Whether this call can block its connection: XREAD and XREADGROUP only with BLOCK, the other
// blocking commands always.
bool MayBlock(const CommandInfo& info, std::span<const std::string_view> arguments);

// Hash of a key's name for the version tables. Equal names have equal hashes in every process.
uint64_t HashKey(std::string_view key);

}  // namespace catena::command
