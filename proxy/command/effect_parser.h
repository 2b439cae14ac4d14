// Cuts the effect stream of a Redis (its replication stream) into entries: one command, or one whole
// MULTI ... EXEC. Tells for each entry where it ends and which keys it touches. Pure, incremental: bytes may
// arrive cut anywhere. The bytes themselves stay with the caller.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/ids.h"
#include "proxy/base/result.h"
#include "proxy/command/command_table.h"

namespace catena::command {

struct EffectEntry {
  Position end;                       // just behind its last byte
  bool touches_every_key = false;     // FLUSHALL, FLUSHDB, SWAPDB, FUNCTION ..., or keys that cannot be told
  std::vector<uint64_t> key_hashes;   // HashKey of each key it touches; empty for ping, SELECT, PUBLISH ...
  bool asks_for_ack = false;          // REPLCONF GETACK *
};

class EffectParser {
 public:
  // `table` is not owned and must outlive the parser. A command that the table does not know touches every key.
  // The stream starts at `start`, an entry border.
  EffectParser(const CommandTable& table, Position start);

  // Consumes all of `bytes` (the next ones of the stream; payload of a cut command is kept inside) and calls
  // `on_entry` for each entry that is complete now. The EffectEntry is reused between calls. An Error means
  // that this is no replication stream (protocol error): the link must be given up.
  Result<void> Feed(std::string_view bytes, const std::function<void(const EffectEntry&)>& on_entry);

  // Border: end of the last complete entry. Position: border plus the bytes of a cut entry seen so far.
  Position border() const;
  Position position() const;
  // Forgets a cut entry and continues at `start` (an entry border).
  void Reset(Position start);

  ~EffectParser();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace catena::command
