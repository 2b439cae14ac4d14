// The log of one node: the bytes of the effect stream that it holds, and the versions of the keys
// that its newest entries touch (CRAQ section 2.3: the dirty versions of an object).
//
// Bytes are kept in blocks that are shared with the links that send them, so a payload is copied
// once, from the socket into the log. Entries are never cut: bytes behind the last complete entry
// are *staged*, invisible to everybody but the parser, until Seal() makes them part of the log
// (design.md 7: one EVAL can be one 9 MB MULTI).
#pragma once

#include <tsl/robin_map.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "proxy/base/ids.h"

namespace catena::chain {

// What the log needs to know of one complete entry.
struct Entry {
  Position end;                            // just behind its last byte
  bool touches_every_key = false;          // FLUSHALL, or keys that cannot be told
  std::span<const uint64_t> key_hashes{};  // one hash for each key it touches
};

class Log {
 public:
  struct Slice {
    std::shared_ptr<const std::string> owner;  // keeps `bytes` alive
    std::string_view bytes;
  };

  // Empties the log; it continues at `start`, an entry border.
  void Reset(Position start);

  Position start() const { return start_; }  // first byte still held
  Position end() const { return end_; }      // end of the last complete entry ("received")
  Position staged_end() const { return staged_end_; }
  size_t bytes() const { return static_cast<size_t>(staged_end_ - start_); }

  // Copies `bytes` behind staged_end().
  void Append(std::string_view bytes);
  // The staged bytes up to entry.end are one complete entry; ends come in increasing order.
  void Seal(const Entry& entry);
  // The bytes from end() to `upto` (<= staged_end()), in one piece: in the log, or, when they lie in
  // several blocks, copied to `scratch`. Valid until either changes.
  std::string_view Staged(Position upto, std::string& scratch) const;
  // Forgets the bytes of a cut entry: its link broke, it will be sent again or never.
  void DropStaged();

  // Up to `max` contiguous bytes from `from`, none behind `limit` (<= end()). Empty bytes: from ==
  // limit. nullopt: `from` is before start() or behind `limit`.
  std::optional<Slice> Read(Position from, Position limit, size_t max) const;

  // Version of a key: the position of the last entry that touched it, or `forgotten()` when no
  // entry behind that did (design.md 4: a key that the table does not know counts as at the highest
  // forgotten position).
  Position VersionOf(std::span<const uint64_t> key_hashes) const;
  Position forgotten() const { return forgotten_; }
  // Forgets the versions of entries that end at or before `upto`.
  void Forget(Position upto);
  size_t versions() const { return versions_.size(); }

  // Drops blocks that end at or before `upto`.
  void Trim(Position upto);

 private:
  struct Block {
    Position start;
    std::shared_ptr<std::string> data;  // reserved once, so views stay valid while it grows
  };
  struct Touch {
    Position end;
    uint64_t key_hash;
  };

  // The block that holds the byte at `position`, which is in the log.
  const Block& BlockOf(Position position) const;

  Position start_, end_, staged_end_;
  std::deque<Block> blocks_;
  tsl::robin_map<uint64_t, Position> versions_;
  std::deque<Touch> touches_;   // in order of `end`, for Forget
  Position every_key_version_;  // last entry that touched every key
  Position forgotten_;
};

}  // namespace catena::chain
