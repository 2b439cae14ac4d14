// The effect stream of the RocksDB backend: RESP commands, so that the log, the version table and
// the links treat it as they treat a Redis's replication stream.
//
//   CATENA.WRITE <batch> <key>... <seal>   what one command changed: a serialized batch (store.h)
//   FLUSHALL <seal>                        every key is gone
//   PUBLISH <channel> <message> <seal>
//   MULTI ... EXEC <seal>                  one or more of these that take effect together
//
// <seal>: 16 bytes, the position just behind the command that carries it, and XXH3 over all bytes of
// that command before the hash itself; both little endian. MULTI alone has none: it is always the
// same bytes, and its EXEC is missed without it. So every byte is covered, and damage, a gap, another
// order and a wrong place are all found before an entry is passed on or applied. Pure.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "proxy/base/ids.h"
#include "proxy/base/result.h"

namespace catena::rocks {

inline constexpr size_t kSealBytes = 16;

// Each appends one command; `start`: the position at which it (not its entry) will stand.
void AppendWrite(std::string_view batch, std::span<const std::string_view> keys, Position start,
                 std::string& out);
void AppendFlush(Position start, std::string& out);
void AppendPublish(std::string_view channel, std::string_view message, Position start,
                   std::string& out);
void AppendMulti(std::string& out);
void AppendExec(Position start, std::string& out);

class EffectHandler {
 public:
  virtual ~EffectHandler() = default;
  // Valid during the call.
  virtual void OnWrite(std::string_view batch) = 0;
  virtual void OnFlush() = 0;
  virtual void OnPublish(std::string_view channel, std::string_view message) = 0;
};

// Reads one whole entry that begins at `start` and, when all of it is right, tells what is in it; a
// handler may be null, to check only. An Error says what is wrong and where. Whether <batch> is one,
// Batch::AddSerialized tells: a seal that is right over a wrong batch is a mistake of the writer.
Result<void> ReadEntry(std::string_view entry, Position start, EffectHandler* handler);

}  // namespace catena::rocks
