// DUMP and RESTORE: values as in an RDB file, with the version and a checksum behind them.
#include <lzf.h>

#include <algorithm>
#include <array>

#include "backends/rocksdb/command_handlers.h"

namespace catena::rocks::handlers {
namespace {

constexpr uint16_t kRdbVersion = 10;  // of Redis 7.0
constexpr char kStringType = 0, kLastType = 19;
constexpr size_t kFooterBytes = 2 + 8;
// How lengths and encodings begin, in the two highest bits of the first byte.
constexpr uint8_t kLength14Bits = 0x40, kLength32Bits = 0x80, kLength64Bits = 0x81;
constexpr uint8_t kInt8 = 0xc0, kInt16 = 0xc1, kInt32 = 0xc2, kCompressed = 0xc3;
// Shorter texts may be numbers; longer ones are worth compressing.
constexpr size_t kIntegerCharsMax = 11, kCompressedFrom = 21;

// ---- CRC-64, Jones' polynomial, reflected ----

constexpr std::array<uint64_t, 256> kCrcTable = [] {
  std::array<uint64_t, 256> table{};
  for (uint64_t byte = 0; byte < 256; ++byte) {
    uint64_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x95ac9329ac4bc9b5u : 0);
    table[byte] = crc;
  }
  return table;
}();

uint64_t Crc64(std::string_view bytes) {
  uint64_t crc = 0;
  for (char byte : bytes) crc = kCrcTable[(crc ^ static_cast<uint8_t>(byte)) & 0xff] ^ crc >> 8;
  return crc;
}

// ---- Writing ----

void AppendBigEndian(std::string& out, uint64_t number, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(number >> (8 * i));
}

void AppendLittleEndian(std::string& out, uint64_t number, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(number >> (8 * i));
}

void AppendLength(std::string& out, uint64_t length) {
  if (length < 1u << 6) return AppendBigEndian(out, length, 1);
  if (length < 1u << 14) return AppendBigEndian(out, length | kLength14Bits << 8, 2);
  const bool wide = length > UINT32_MAX;
  out += static_cast<char>(wide ? kLength64Bits : kLength32Bits);
  AppendBigEndian(out, length, wide ? 8 : 4);
}

// Whether `value` is a number of at most 32 bits, which was appended.
bool AppendAsInteger(std::string& out, std::string_view value) {
  if (value.size() > kIntegerCharsMax) return false;
  const auto number = ParseInteger(value);
  if (!number || *number != static_cast<int32_t>(*number)) return false;
  const bool one = *number == static_cast<int8_t>(*number);
  const bool two = *number == static_cast<int16_t>(*number);
  out += static_cast<char>(one ? kInt8 : two ? kInt16 : kInt32);
  AppendLittleEndian(out, static_cast<uint64_t>(*number), one ? 1 : two ? 2 : 4);
  return true;
}

bool AppendCompressed(std::string& out, std::string_view value) {
  if (value.size() < kCompressedFrom) return false;
  std::string compressed(value.size() - 4, '\0');
  const unsigned length = lzf_compress(value.data(), static_cast<unsigned>(value.size()),
                                       compressed.data(), static_cast<unsigned>(compressed.size()));
  if (length == 0) return false;
  out += static_cast<char>(kCompressed);
  AppendLength(out, length);
  AppendLength(out, value.size());
  out.append(compressed, 0, length);
  return true;
}

void AppendValue(std::string& out, std::string_view value) {
  if (AppendAsInteger(out, value) || AppendCompressed(out, value)) return;
  AppendLength(out, value.size());
  out.append(value);
}

// ---- Reading; false: the payload is none ----

bool TakeBytes(std::string_view& in, size_t count, std::string_view& bytes) {
  if (in.size() < count) return false;
  bytes = in.substr(0, count);
  in.remove_prefix(count);
  return true;
}

bool TakeBigEndian(std::string_view& in, size_t count, uint64_t& number) {
  std::string_view bytes;
  if (!TakeBytes(in, count, bytes)) return false;
  number = 0;
  for (char byte : bytes) number = number << 8 | static_cast<uint8_t>(byte);
  return true;
}

uint64_t LittleEndian(std::string_view bytes) {
  uint64_t number = 0;
  for (auto byte = bytes.rbegin(); byte != bytes.rend(); ++byte)
    number = number << 8 | static_cast<uint8_t>(*byte);
  return number;
}

// The length whose first byte is `first`.
bool TakeLength(std::string_view& in, uint8_t first, uint64_t& length) {
  if (first < kLength14Bits) {
    length = first;
    return true;
  }
  if (first < kLength32Bits) {
    if (!TakeBigEndian(in, 1, length)) return false;
    length |= static_cast<uint64_t>(first & 0x3f) << 8;
    return true;
  }
  if (first == kLength32Bits) return TakeBigEndian(in, 4, length);
  return first == kLength64Bits && TakeBigEndian(in, 8, length);
}

bool TakeLength(std::string_view& in, uint64_t& length) {
  uint64_t first = 0;
  return TakeBigEndian(in, 1, first) && TakeLength(in, static_cast<uint8_t>(first), length);
}

bool TakeIntegerText(std::string_view& in, size_t width, std::string& value) {
  std::string_view bytes;
  if (!TakeBytes(in, width, bytes)) return false;
  const auto shift = static_cast<int>(64 - 8 * width);
  value = std::to_string(static_cast<int64_t>(LittleEndian(bytes) << shift) >> shift);
  return true;
}

bool TakeCompressed(std::string_view& in, std::string& value) {
  uint64_t compressed = 0, length = 0;
  std::string_view bytes;
  if (!TakeLength(in, compressed) || !TakeLength(in, length) || !TakeBytes(in, compressed, bytes))
    return false;
  // No byte stands for more than this many.
  constexpr uint64_t kExpansionMax = 264;
  if (compressed == 0 || length > compressed * kExpansionMax || length > kStringBytesMax)
    return false;
  value.resize(length);
  return lzf_decompress(bytes.data(), static_cast<unsigned>(compressed), value.data(),
                        static_cast<unsigned>(length)) == length;
}

bool TakeValue(std::string_view in, std::string& value) {
  uint64_t first = 0, length = 0;
  std::string_view bytes;
  if (!TakeBigEndian(in, 1, first)) return false;
  if (first == kInt8) return TakeIntegerText(in, 1, value);
  if (first == kInt16) return TakeIntegerText(in, 2, value);
  if (first == kInt32) return TakeIntegerText(in, 4, value);
  if (first == kCompressed) return TakeCompressed(in, value);
  if (!TakeLength(in, static_cast<uint8_t>(first), length) || !TakeBytes(in, length, bytes))
    return false;
  value.assign(bytes);
  return true;
}

// Version and checksum; an RDB without checksums has 0.
bool IsIntact(std::string_view payload) {
  if (payload.size() < kFooterBytes) return false;
  const std::string_view footer = payload.substr(payload.size() - kFooterBytes);
  return LittleEndian(footer.substr(0, 2)) <= kRdbVersion &&
         LittleEndian(footer.substr(2)) == Crc64(payload.substr(0, payload.size() - 8));
}

// ---- RESTORE's options ----

struct RestoreOptions {
  bool replaces = false, absolute = false;
  int64_t idle = -1, frequency = -1;  // checked, without effect
};

bool TakeIdle(const Call& call, size_t at, int64_t& idle) {
  const auto number = call.TakeInteger(at);
  if (!number) return false;
  idle = *number;
  return idle >= 0 || call.Refuse("ERR Invalid IDLETIME value, must be >= 0");
}

bool TakeFrequency(const Call& call, size_t at, int64_t& frequency) {
  const auto number = call.TakeInteger(at);
  if (!number) return false;
  frequency = *number;
  return (frequency >= 0 && frequency <= 255) ||
         call.Refuse("ERR Invalid FREQ value, must be >= 0 and <= 255");
}

bool ParseOptions(const Call& call, RestoreOptions& options) {
  for (size_t at = 4; at < call.count(); ++at) {
    const bool more = at + 1 < call.count();
    if (call.Is(at, "replace")) {
      options.replaces = true;
    } else if (call.Is(at, "absttl")) {
      options.absolute = true;
    } else if (more && call.Is(at, "idletime") && options.frequency == -1) {
      if (!TakeIdle(call, ++at, options.idle)) return false;
    } else if (more && call.Is(at, "freq") && options.idle == -1) {
      if (!TakeFrequency(call, ++at, options.frequency)) return false;
    } else {
      return call.Refuse(kSyntaxError);
    }
  }
  return true;
}

}  // namespace

void Dump(Call& call) {
  if (!call.Get(call[1], call.item())) return call.Null();
  std::string& payload = call.bytes();
  payload.assign(1, kStringType);
  AppendValue(payload, call.item().value);
  AppendLittleEndian(payload, kRdbVersion, 2);
  AppendLittleEndian(payload, Crc64(payload), 8);
  call.Bulk(payload);
}

void Restore(Call& call) {
  RestoreOptions options;
  if (!ParseOptions(call, options)) return;
  if (!options.replaces && call.view().Has(call[1]))
    return call.Error("BUSYKEY Target key name already exists.");
  const auto lifetime = call.TakeInteger(2);
  if (!lifetime) return;
  if (*lifetime < 0) return call.Error("ERR Invalid TTL value, must be >= 0");
  const std::string_view payload = call[3];
  if (!IsIntact(payload)) return call.Error("ERR DUMP payload version or checksum are wrong");
  const std::string_view body = payload.substr(0, payload.size() - kFooterBytes);
  if (!body.empty() && body[0] > kStringType && body[0] <= kLastType)
    return call.Error("ERR the rocksdb backend restores strings only");
  // Redis lets a value reach into what stands behind it.
  if (body.empty() || !TakeValue(payload.substr(1), call.bytes()))
    return call.Error("ERR Bad data format");
  int64_t deadline = *lifetime > 0 ? *lifetime : Item::kNoDeadline;
  if (*lifetime > 0 && !options.absolute &&
      __builtin_add_overflow(deadline, call.now_ms(), &deadline))
    return call.Error("ERR Invalid TTL value, it is too large");
  PutUntil(call, call[1], call.bytes(), deadline);
  call.Ok();
}

}  // namespace catena::rocks::handlers
