// BITFIELD: strings as arrays of integers of any width.
#include <algorithm>
#include <vector>

#include "backends/rocksdb/command_handlers.h"
#include "backends/rocksdb/commands_bits.h"

namespace catena::rocks::handlers {
namespace {

enum class Overflow : uint8_t { kWrap, kSaturate, kFail };

struct FieldOperation {
  enum class Kind : uint8_t { kGet, kSet, kAdd } kind = Kind::kGet;
  bool is_signed = false;
  int64_t width = 0;   // 1..64, unsigned ..63
  int64_t offset = 0;  // in bits
  int64_t operand = 0;
  Overflow overflow = Overflow::kWrap;
};

// Bits behind the end of `bytes` are zeros.
uint64_t ReadBits(std::string_view bytes, int64_t offset, int64_t width) {
  uint64_t value = 0;
  for (int64_t at = offset; at < offset + width; ++at) {
    const auto byte = static_cast<size_t>(at >> 3);
    const int bit = byte < bytes.size() ? static_cast<uint8_t>(bytes[byte]) >> (7 - (at & 7)) : 0;
    value = value << 1 | static_cast<uint64_t>(bit & 1);
  }
  return value;
}

void WriteBits(std::string& bytes, int64_t offset, int64_t width, uint64_t value) {
  for (int64_t i = 0; i < width; ++i) {
    const int64_t at = offset + i;
    const int mask = 1 << (7 - (at & 7));
    char& byte = bytes[static_cast<size_t>(at >> 3)];
    const bool one = (value >> (width - 1 - i) & 1) != 0;
    byte = static_cast<char>(one ? byte | mask : byte & ~mask);
  }
}

int64_t Extend(const FieldOperation& operation, uint64_t bits) {
  if (!operation.is_signed || operation.width == 64) return static_cast<int64_t>(bits);
  const auto shift = static_cast<int>(64 - operation.width);
  return static_cast<int64_t>(bits << shift) >> shift;
}

int64_t ReadField(std::string_view bytes, const FieldOperation& operation) {
  return Extend(operation, ReadBits(bytes, operation.offset, operation.width));
}

// What SET asks for: a negative number for an unsigned field is a very large one.
__int128 Wanted(const FieldOperation& operation) {
  if (operation.is_signed) return operation.operand;
  return static_cast<uint64_t>(operation.operand);
}

// What a field becomes that is to be `value`; nullopt: it would not fit and may not change.
std::optional<int64_t> Fit(const FieldOperation& operation, __int128 value) {
  const __int128 range = static_cast<__int128>(1)
                         << (operation.is_signed ? operation.width - 1 : operation.width);
  const __int128 highest = range - 1, lowest = operation.is_signed ? -range : 0;
  if (value >= lowest && value <= highest) return static_cast<int64_t>(value);
  // Redis computes how far SET's number is from the highest one in 64 bits, and takes one that is
  // too far below for one above.
  const bool wraps = operation.kind == FieldOperation::Kind::kSet && operation.is_signed &&
                     operation.width < 64 && highest - value > INT64_MAX;
  switch (operation.overflow) {
    case Overflow::kSaturate:
      return static_cast<int64_t>(value > highest || wraps ? highest : lowest);
    case Overflow::kFail:
      return std::nullopt;
    case Overflow::kWrap:
      break;
  }
  const auto bits = static_cast<uint64_t>(value);
  const uint64_t mask = operation.width == 64 ? ~uint64_t{0} : (uint64_t{1} << operation.width) - 1;
  return Extend(operation, bits & mask);
}

bool TakeType(const Call& call, size_t at, FieldOperation& operation) {
  std::string_view text = call[at];
  text = text.substr(0, text.find('\0'));
  operation.is_signed = text.starts_with('i');
  const bool has_sign = operation.is_signed || text.starts_with('u');
  const auto width = has_sign ? ParseInteger(text.substr(1)) : std::nullopt;
  if (width && *width >= 1 && *width <= (operation.is_signed ? 64 : 63)) {
    operation.width = *width;
    return true;
  }
  call.Error(
      "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but "
      "i64 is.");
  return false;
}

std::optional<Overflow> TakeOverflow(const Call& call, size_t at) {
  if (call.Is(at, "wrap")) return Overflow::kWrap;
  if (call.Is(at, "sat")) return Overflow::kSaturate;
  if (call.Is(at, "fail")) return Overflow::kFail;
  call.Error("ERR Invalid OVERFLOW type specified");
  return std::nullopt;
}

std::optional<FieldOperation::Kind> KindAt(const Call& call, size_t at) {
  const size_t more = call.count() - at - 1;
  if (call.Is(at, "get") && more >= 2) return FieldOperation::Kind::kGet;
  if (call.Is(at, "set") && more >= 3) return FieldOperation::Kind::kSet;
  if (call.Is(at, "incrby") && more >= 3) return FieldOperation::Kind::kAdd;
  return std::nullopt;
}

bool TakeOperand(const Call& call, size_t at, FieldOperation& operation) {
  const auto operand = call.TakeInteger(at);
  operation.operand = operand.value_or(0);
  return operand.has_value();
}

// Nothing: an error is replied.
std::optional<std::vector<FieldOperation>> ParseOperations(const Call& call) {
  std::vector<FieldOperation> operations;
  Overflow overflow = Overflow::kWrap;
  for (size_t at = 2; at < call.count();) {
    if (call.Is(at, "overflow") && at + 1 < call.count()) {
      const auto taken = TakeOverflow(call, at + 1);
      if (!taken) return std::nullopt;
      overflow = *taken;
      at += 2;
      continue;
    }
    const auto kind = KindAt(call, at);
    if (!kind) {
      call.Error(kSyntaxError);
      return std::nullopt;
    }
    FieldOperation operation{.kind = *kind, .overflow = overflow};
    if (!TakeType(call, at + 1, operation)) return std::nullopt;
    const auto offset = TakeBitOffset(call, at + 2, operation.width);
    if (!offset) return std::nullopt;
    operation.offset = *offset;
    const bool reads = *kind == FieldOperation::Kind::kGet;
    if (!reads && !TakeOperand(call, at + 3, operation)) return std::nullopt;
    operations.push_back(operation);
    at += reads ? 3 : 4;
  }
  return operations;
}

// Runs one operation and replies; whether it changed `bytes`.
bool Run(const Call& call, const FieldOperation& operation, std::string& bytes) {
  const int64_t before = ReadField(bytes, operation);
  if (operation.kind == FieldOperation::Kind::kGet) {
    call.Integer(before);
    return false;
  }
  const bool sets = operation.kind == FieldOperation::Kind::kSet;
  const auto after =
      Fit(operation, sets ? Wanted(operation) : static_cast<__int128>(before) + operation.operand);
  if (!after) {
    call.Null();
    return false;
  }
  WriteBits(bytes, operation.offset, operation.width, static_cast<uint64_t>(*after));
  call.Integer(sets ? before : *after);
  return *after != before;
}

void RunOperations(const Call& call, bool read_only) {
  const auto operations = ParseOperations(call);
  if (!operations) return;
  int64_t bits_needed = 0;
  for (const FieldOperation& operation : *operations) {
    if (operation.kind != FieldOperation::Kind::kGet)
      bits_needed = std::max(bits_needed, operation.offset + operation.width);
  }
  if (read_only && bits_needed > 0)
    return call.Error("ERR BITFIELD_RO only supports the GET subcommand");
  Item& item = call.item();
  if (!call.Get(call[1], item)) {
    item.value.clear();
    item.deadline_ms = Item::kNoDeadline;
  }
  const auto bytes_needed = static_cast<size_t>((bits_needed + 7) / 8);
  // The string grows even if no operation then fits.
  bool changed = bytes_needed > item.value.size();
  if (changed) item.value.resize(bytes_needed);
  call.Array(operations->size());
  for (const FieldOperation& operation : *operations) changed |= Run(call, operation, item.value);
  if (changed) call.view().Put(call[1], item.value, item.deadline_ms);
}

}  // namespace

void BitField(Call& call) { RunOperations(call, false); }
void BitFieldRo(Call& call) { RunOperations(call, true); }

}  // namespace catena::rocks::handlers
