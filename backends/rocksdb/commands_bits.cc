// Strings as arrays of bits, the most significant of each byte first.
#include "backends/rocksdb/commands_bits.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "backends/rocksdb/command_handlers.h"

namespace catena::rocks::handlers {
namespace {

constexpr std::string_view kNoBitOffset = "ERR bit offset is not an integer or out of range";
constexpr std::string_view kNoBit = "ERR bit is not an integer or out of range";

// A range of bits, both ends included; first > last: none.
struct BitRange {
  int64_t first = 0, last = -1;
};

bool BitAt(std::string_view bytes, int64_t at) {
  return (static_cast<uint8_t>(bytes[static_cast<size_t>(at >> 3)]) >> (7 - (at & 7)) & 1) != 0;
}

// Ends counted in bytes or bits, negative ones from the end of `size`.
BitRange Clamp(int64_t first, int64_t last, int64_t size, bool in_bits) {
  if (in_bits) size *= 8;
  if (first < 0) first = std::max<int64_t>(first + size, 0);
  if (last < 0) last = std::max<int64_t>(last + size, 0);
  last = std::min(last, size - 1);
  if (first > last) return {};
  return in_bits ? BitRange{first, last} : BitRange{first * 8, last * 8 + 7};
}

// BYTE or BIT at `at`; nullopt: neither, and the error is replied.
std::optional<bool> TakeUnit(const Call& call, size_t at) {
  if (call.Is(at, "bit")) return true;
  if (call.Is(at, "byte")) return false;
  call.Error(kSyntaxError);
  return std::nullopt;
}

uint64_t BigEndianWord(const char* bytes) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, sizeof word);
  return __builtin_bswap64(word);
}

int64_t CountOnes(std::string_view bytes, BitRange range) {
  int64_t ones = 0, at = range.first;
  for (; at <= range.last && at % 8 != 0; ++at) ones += BitAt(bytes, at);
  for (; at + 63 <= range.last; at += 64)
    ones += std::popcount(BigEndianWord(bytes.data() + at / 8));
  for (; at <= range.last; ++at) ones += BitAt(bytes, at);
  return ones;
}

// The first bit that is `wanted`; -1: none in the range.
int64_t FindBit(std::string_view bytes, BitRange range, bool wanted) {
  int64_t at = range.first;
  for (; at <= range.last && at % 8 != 0; ++at) {
    if (BitAt(bytes, at) == wanted) return at;
  }
  const uint64_t without = wanted ? 0 : ~uint64_t{0};
  while (at + 63 <= range.last && BigEndianWord(bytes.data() + at / 8) == without) at += 64;
  for (; at <= range.last; ++at) {
    if (BitAt(bytes, at) == wanted) return at;
  }
  return -1;
}

enum class BitOperation : uint8_t { kAnd, kOr, kXor, kNot };

std::optional<BitOperation> TakeOperation(const Call& call) {
  if (call.Is(1, "and")) return BitOperation::kAnd;
  if (call.Is(1, "or")) return BitOperation::kOr;
  if (call.Is(1, "xor")) return BitOperation::kXor;
  if (call.Is(1, "not")) return BitOperation::kNot;
  call.Error(kSyntaxError);
  return std::nullopt;
}

// `into` op= `source`, the shorter one as if zeros followed.
void Combine(BitOperation operation, std::string_view source, std::string& into) {
  into.resize(std::max(into.size(), source.size()));
  const auto with = [&](auto combine) {
    for (size_t i = 0; i < source.size(); ++i)
      into[i] = static_cast<char>(combine(into[i], source[i]));
  };
  switch (operation) {
    case BitOperation::kOr:
      return with([](char a, char b) { return a | b; });
    case BitOperation::kXor:
      return with([](char a, char b) { return a ^ b; });
    case BitOperation::kAnd:
      with([](char a, char b) { return a & b; });
      std::fill(into.begin() + static_cast<ptrdiff_t>(source.size()), into.end(), '\0');
      return;
    case BitOperation::kNot:
      return;
  }
}

}  // namespace

std::optional<int64_t> TakeBitOffset(const Call& call, size_t at, int64_t width) {
  std::string_view text = call[at];
  const bool counts_fields = width > 0 && text.starts_with('#');
  if (counts_fields) text.remove_prefix(1);
  auto offset = ParseInteger(text);
  if (offset && counts_fields && __builtin_mul_overflow(*offset, width, &*offset)) offset.reset();
  if (offset && *offset >= 0 && *offset >> 3 < kStringBytesMax) return offset;
  call.Error(kNoBitOffset);
  return std::nullopt;
}

void SetBit(Call& call) {
  const auto offset = TakeBitOffset(call, 2, 0);
  if (!offset) return;
  const auto bit = call.TakeInteger(3, kNoBit);
  if (!bit) return;
  if (*bit != 0 && *bit != 1) return call.Error(kNoBit);
  Item& item = call.item();
  if (!call.Get(call[1], item)) {
    item.value.clear();
    item.deadline_ms = Item::kNoDeadline;
  }
  const auto byte = static_cast<size_t>(*offset >> 3);
  const bool grows = byte >= item.value.size();
  if (grows) item.value.resize(byte + 1);
  const bool before = BitAt(item.value, *offset);
  if (grows || before != (*bit == 1)) {
    const auto mask = static_cast<char>(1 << (7 - (*offset & 7)));
    if (before != (*bit == 1)) item.value[byte] = static_cast<char>(item.value[byte] ^ mask);
    call.view().Put(call[1], item.value, item.deadline_ms);
  }
  call.Integer(before);
}

void GetBit(Call& call) {
  const auto offset = TakeBitOffset(call, 2, 0);
  if (!offset) return;
  const bool there = call.Get(call[1], call.item()) &&
                     *offset < static_cast<int64_t>(call.item().value.size()) * 8;
  call.Integer(there && BitAt(call.item().value, *offset));
}

void BitCount(Call& call) {
  if (!call.Get(call[1], call.item())) return call.Integer(0);
  const std::string_view bytes = call.item().value;
  const auto size = static_cast<int64_t>(bytes.size());
  if (call.count() == 2) return call.Integer(CountOnes(bytes, Clamp(0, -1, size, false)));
  if (call.count() != 4 && call.count() != 5) return call.Error(kSyntaxError);
  const auto first = call.TakeInteger(2);
  if (!first) return;
  const auto last = call.TakeInteger(3);
  if (!last) return;
  if (*first < 0 && *last < 0 && *first > *last) return call.Integer(0);
  const auto in_bits = call.count() == 5 ? TakeUnit(call, 4) : false;
  if (!in_bits) return;
  call.Integer(CountOnes(bytes, Clamp(*first, *last, size, *in_bits)));
}

void BitPos(Call& call) {
  const auto bit = call.TakeInteger(2);
  if (!bit) return;
  if (*bit != 0 && *bit != 1) return call.Error("ERR The bit argument must be 1 or 0.");
  // A key that is not there is zeros without end.
  if (!call.Get(call[1], call.item())) return call.Integer(*bit == 1 ? -1 : 0);
  if (call.count() > 6) return call.Error(kSyntaxError);
  std::optional<int64_t> first = 0, last = -1;
  std::optional<bool> in_bits = false;
  if (call.count() > 3 && !(first = call.TakeInteger(3))) return;
  if (call.count() > 5 && !(in_bits = TakeUnit(call, 5))) return;
  if (call.count() > 4 && !(last = call.TakeInteger(4))) return;
  const std::string_view bytes = call.item().value;
  const auto size = static_cast<int64_t>(bytes.size());
  const BitRange range = Clamp(*first, *last, size, *in_bits);
  if (range.first > range.last) return call.Integer(-1);
  const int64_t at = FindBit(bytes, range, *bit == 1);
  // Zeros follow a string, unless its range was told with an end.
  const bool behind = at < 0 && *bit == 0 && call.count() < 5;
  call.Integer(behind ? size * 8 : at);
}

void BitOp(Call& call) {
  const auto operation = TakeOperation(call);
  if (!operation) return;
  if (*operation == BitOperation::kNot && call.count() != 4)
    return call.Error("ERR BITOP NOT must be called with a single source key.");
  std::string& result = call.bytes();
  Item& item = call.item();
  for (size_t i = 3; i < call.count(); ++i) {
    if (!call.Get(call[i], item)) item.value.clear();
    if (i == 3) {
      result = item.value;
    } else {
      Combine(*operation, item.value, result);
    }
  }
  if (*operation == BitOperation::kNot) {
    for (char& byte : result) byte = static_cast<char>(~byte);
  }
  if (!result.empty()) {
    call.view().Put(call[2], result, Item::kNoDeadline);
  } else if (call.view().Has(call[2])) {
    call.view().Delete(call[2]);
  }
  call.Integer(static_cast<int64_t>(result.size()));
}

}  // namespace catena::rocks::handlers
