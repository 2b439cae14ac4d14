#include "backends/redis/rdb_check.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace catena::redis {
namespace {

// "REDIS" and four digits.
constexpr size_t kHeaderBytes = 9;
// The end-of-file opcode and the checksum, little endian.
constexpr size_t kTrailerBytes = 9;
constexpr unsigned char kOpcodeEof = 0xFF;
// Files before version 5 end without a checksum (Redis 2.4): nothing could be checked.
constexpr int kVersionMin = 5;
constexpr uint64_t kReflectedPolynomial = 0x95AC9329AC4BC9B5;  // 0xAD93D23594C935A9 reversed

using Tables = std::array<std::array<uint64_t, 256>, 8>;

// tables[k][b]: the effect of byte b followed by k zero bytes, so that eight bytes cost eight
// look-ups.
constexpr Tables MakeTables() {
  Tables tables{};
  for (uint64_t byte = 0; byte < 256; ++byte) {
    uint64_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? kReflectedPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint64_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

uint64_t LoadLittleEndian(const char* bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = (value << 8) | static_cast<unsigned char>(bytes[i]);
  return value;
}

}  // namespace

uint64_t Crc64(uint64_t crc, std::string_view bytes) {
  const char* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= 8; at += 8, left -= 8) {
    crc ^= LoadLittleEndian(at);
    crc = kTables[7][crc & 0xFF] ^ kTables[6][(crc >> 8) & 0xFF] ^ kTables[5][(crc >> 16) & 0xFF] ^
          kTables[4][(crc >> 24) & 0xFF] ^ kTables[3][(crc >> 32) & 0xFF] ^
          kTables[2][(crc >> 40) & 0xFF] ^ kTables[1][(crc >> 48) & 0xFF] ^ kTables[0][crc >> 56];
  }
  for (; left > 0; ++at, --left) {
    crc = kTables[0][(crc ^ static_cast<unsigned char>(*at)) & 0xFF] ^ (crc >> 8);
  }
  return crc;
}

RdbCheck::RdbCheck(uint64_t length, int version_max) : length_(length), version_max_(version_max) {}

RdbCheck::Verdict RdbCheck::Refuse(std::string why) {
  error_ = std::move(why);
  return Verdict::kBad;
}

RdbCheck::Verdict RdbCheck::Feed(std::string_view bytes, std::string& out) {
  if (!error_.empty()) return Verdict::kBad;
  if (length_ < kHeaderBytes + kTrailerBytes) return Refuse("too short for an RDB");
  if (bytes.size() > length_ - seen_) return Refuse("longer than announced");
  while (!bytes.empty()) {
    const uint64_t body_end = length_ - kTrailerBytes;
    if (seen_ >= kHeaderBytes && seen_ < body_end) {
      const size_t size = std::min<uint64_t>(bytes.size(), body_end - seen_);
      crc_ = Crc64(crc_, bytes.substr(0, size));
      out.append(bytes.substr(0, size));
      seen_ += size;
      bytes.remove_prefix(size);
      continue;
    }
    const uint64_t part_end = seen_ < kHeaderBytes ? kHeaderBytes : length_;
    const size_t size = std::min<uint64_t>(bytes.size(), part_end - seen_);
    held_.append(bytes.substr(0, size));
    seen_ += size;
    bytes.remove_prefix(size);
    if (seen_ == kHeaderBytes) {
      if (!HeaderIsGood()) return Verdict::kBad;
      out.append(held_);
      held_.clear();
    }
  }
  if (seen_ < length_) return Verdict::kMore;
  if (!TrailerIsGood()) return Verdict::kBad;
  out.append(held_);
  return Verdict::kGood;
}

bool RdbCheck::HeaderIsGood() {
  if (held_.compare(0, 5, "REDIS") != 0) {
    Refuse("not an RDB: it does not begin with REDIS");
    return false;
  }
  int version = 0;
  for (size_t i = 5; i < kHeaderBytes; ++i) {
    if (held_[i] < '0' || held_[i] > '9') {
      Refuse("not an RDB: its version is not a number");
      return false;
    }
    version = version * 10 + (held_[i] - '0');
  }
  if (version < kVersionMin || version > version_max_) {
    Refuse("RDB version " + std::to_string(version) +
           " is not among those that this Redis reads (" + std::to_string(kVersionMin) + " to " +
           std::to_string(version_max_) + ")");
    return false;
  }
  crc_ = Crc64(0, held_);
  return true;
}

bool RdbCheck::TrailerIsGood() {
  if (static_cast<unsigned char>(held_[0]) != kOpcodeEof) {
    Refuse("corrupt RDB: no end mark before its checksum");
    return false;
  }
  crc_ = Crc64(crc_, std::string_view(held_).substr(0, 1));
  const uint64_t stored = LoadLittleEndian(held_.data() + 1);
  // Zero: written with `rdbchecksum no`. Redis accepts such a file, so it is one that it can load.
  if (stored != 0 && stored != crc_) {
    Refuse("corrupt RDB: its checksum does not match");
    return false;
  }
  return true;
}

}  // namespace catena::redis
