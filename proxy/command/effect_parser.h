// Cuts the effect stream of a Redis (its replication stream) into entries: one command, or one
// whole MULTI ... EXEC. Tells for each entry where it ends and which keys it touches. Pure,
// incremental: bytes may arrive cut anywhere. The bytes themselves stay with the caller.
//
// A command that lies complete in what Feed gets is read in place. Of a command that is cut, only
// the arguments that can be keys are kept, so a large value costs no memory and no second look.
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
  Position end;  // just behind its last byte
  // FLUSHALL, FLUSHDB, SWAPDB, FUNCTION ..., or keys that cannot be told.
  bool touches_every_key = false;
  // HashKey of each key it touches, in order, perhaps with repetitions; empty for ping, SELECT,
  // PUBLISH ... When touches_every_key, it may hold some or none.
  std::vector<uint64_t> key_hashes;
  bool asks_for_ack = false;  // REPLCONF GETACK *
};

class EffectParser {
 public:
  // `table` is not owned and must outlive the parser. A command that the table does not know
  // touches every key. The stream starts at `start`, an entry border.
  EffectParser(const CommandTable& table, Position start);

  // Consumes all of `bytes` (the next ones of the stream) and calls `on_entry` for each entry that
  // is complete now; it must not call back into the parser. The EffectEntry is reused between
  // calls. No allocation once warm. An Error ("not a replication stream: ...") means that the link
  // must be given up; entries reported before it stand. Then only Reset is allowed.
  Result<void> Feed(std::string_view bytes,
                    const std::function<void(const EffectEntry&)>& on_entry);

  // Border: end of the last complete entry. Position: border plus the bytes of a cut entry seen so
  // far.
  Position border() const;
  Position position() const;
  // Forgets a cut entry and continues at `start` (an entry border).
  void Reset(Position start);

  ~EffectParser();
  EffectParser(EffectParser&&) noexcept;
  EffectParser& operator=(EffectParser&&) noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace catena::command
