// Checks an RDB file while it streams by. A Redis that is fed a complete but corrupt RDB exits, and
// one that is fed a newer version ends up empty; cut short, it keeps its old data. So the first
// bytes are handed on only once the version is known to be readable, and the last ones only once
// the checksum over everything before them is right. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace catena::redis {

// CRC-64 as Redis computes it (Jones polynomial, reflected, no inversion), continued from `crc`; 0
// to begin.
uint64_t Crc64(uint64_t crc, std::string_view bytes);

class RdbCheck {
 public:
  enum class Verdict { kMore, kGood, kBad };

  // `length`: size of the whole file. `version_max`: the newest RDB version that the reader
  // understands.
  RdbCheck(uint64_t length, int version_max);

  // Takes the next bytes and appends to `out` those that may be handed on now. kGood: this was the
  // end, and all is handed on. kBad: see error(); whatever was not handed on never will be.
  Verdict Feed(std::string_view bytes, std::string& out);

  const std::string& error() const { return error_; }
  uint64_t bytes_seen() const { return seen_; }

 private:
  Verdict Refuse(std::string why);
  bool HeaderIsGood();
  bool TrailerIsGood();

  uint64_t length_;
  int version_max_;
  uint64_t seen_ = 0;
  uint64_t crc_ = 0;
  std::string held_;  // the header, later the trailer, while incomplete
  std::string error_;
};

}  // namespace catena::redis
