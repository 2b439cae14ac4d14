// Strings that are numbers.
#include <charconv>
#include <cmath>

#include "backends/rocksdb/command_handlers.h"

namespace catena::rocks::handlers {
namespace {

constexpr std::string_view kNotFloat = "ERR value is not a valid float";

void Add(const Call& call, int64_t increment) {
  Item& item = call.item();
  int64_t value = 0;
  if (!call.Get(call[1], item)) {
    item.deadline_ms = Item::kNoDeadline;
  } else if (const auto number = ParseInteger(item.value)) {
    value = *number;
  } else {
    return call.Error(kNotInteger);
  }
  if (__builtin_add_overflow(value, increment, &value))
    return call.Error("ERR increment or decrement would overflow");
  char digits[20];
  char* end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  call.view().Put(call[1], {digits, static_cast<size_t>(end - digits)}, item.deadline_ms);
  call.Integer(value);
}

}  // namespace

void Incr(Call& call) { Add(call, 1); }
void Decr(Call& call) { Add(call, -1); }

void IncrBy(Call& call) {
  if (const auto increment = call.TakeInteger(2)) Add(call, *increment);
}

void DecrBy(Call& call) {
  const auto decrement = call.TakeInteger(2);
  if (!decrement) return;
  if (*decrement == INT64_MIN) return call.Error("ERR decrement would overflow");
  Add(call, -*decrement);
}

void IncrByFloat(Call& call) {
  Item& item = call.item();
  std::optional<long double> value = 0;
  if (call.Get(call[1], item)) {
    value = ParseFloat(item.value);
  } else {
    item.deadline_ms = Item::kNoDeadline;
  }
  const auto increment = ParseFloat(call[2]);
  if (!value || !increment) return call.Error(kNotFloat);
  const long double sum = *value + *increment;
  if (std::isnan(sum) || std::isinf(sum))
    return call.Error("ERR increment would produce NaN or Infinity");
  FormatFloat(sum, call.bytes());
  call.view().Put(call[1], call.bytes(), item.deadline_ms);
  call.Bulk(call.bytes());
}

}  // namespace catena::rocks::handlers
