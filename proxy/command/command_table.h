// What the backend's own COMMAND says about each command: arity, flags, where its keys are. Nothing
// about commands is hard-wired but the short lists that COMMAND cannot tell (design.md 7: may_replicate;
// commands that a proxy must answer or refuse itself). Pure.
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
  kRead,        // readonly, fine at a read-only replica: at the local node by its consistency mode
  kWrite,       // changes data or may: at the head (also may_replicate commands, scripts, GETEX, SORT,
                // GEORADIUS, BITFIELD, XINFO, PFCOUNT, PUBLISH, OBJECT? no: that is kRead ...)
  kLocal,       // of this node's server, no data: CONFIG, SLOWLOG, LATENCY, MEMORY DOCTOR, LASTSAVE, TIME ...:
                // to the local backend as it is
  kProxy,       // the session answers it (PING, ECHO, SELECT, HELLO, AUTH, QUIT, RESET, CLIENT, COMMAND, INFO,
                // WAIT, ROLE, CATENA, READONLY, READWRITE, MULTI ...)
  kRefused,     // would break the chain; `refusal` says why
  kUnknown      // the backend does not know it: it goes to the local backend, whose error is the answer
};

struct CommandInfo {
  std::string name;          // lower case; "config|get" for a subcommand
  int arity = 0;             // negative: at least -arity arguments
  bool write = false, readonly = false, denyoom = false, admin = false, pubsub = false;
  bool noscript = false, blocking = false, movablekeys = false, no_auth = false, may_replicate = false;
  int first_key = 0, last_key = 0, key_step = 0;
  // 7.0+ key specifications, in order; used when movablekeys.
  struct KeySpec {
    enum class Begin : uint8_t { kIndex, kKeyword, kUnknown } begin = Begin::kUnknown;
    int index = 0;              // kIndex; kKeyword: where to start looking (negative: from the end, backwards)
    std::string keyword;
    enum class Find : uint8_t { kRange, kKeynum, kUnknown } find = Find::kUnknown;
    int last_key = 0, step = 1, limit = 0;          // kRange
    int keynum_index = 0, first_key = 0, key_step = 1;  // kKeynum
    bool incomplete = false;    // its flags say that not all keys are told
  };
  std::vector<KeySpec> specs;
  std::vector<CommandInfo> subcommands;
  Route route = Route::kUnknown;
  std::string refusal;       // error text without '-' for kRefused
};

class CommandTable {
 public:
  // From the reply to COMMAND (6.2, 7.x; Valkey).
  static Result<CommandTable> FromReply(const resp::Value& reply);
  // The container and, where it has one, the subcommand entry: {"CONFIG","GET",..} -> config|get.
  // Case-insensitive; nullptr: unknown. No allocation.
  const CommandInfo* Find(std::span<const std::string_view> arguments) const;
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
  kExact,     // `keys` holds all keys (possibly none for a command without keys)
  kUnknown    // cannot be told: as if it touched or read every key
};

// Appends the positions (indexes into `arguments`) of the keys of one command. Uses first/last/step, and the key
// specifications when movablekeys (STORE, NUMKEYS, STREAMS ...). Never allocates when `keys` has room.
KeyKnowledge FindKeys(const CommandInfo& info, std::span<const std::string_view> arguments,
                      std::vector<uint32_t>& keys);

// Hash of a key's name for the version tables. Equal names have equal hashes in every process.
uint64_t HashKey(std::string_view key);

}  // namespace catena::command
