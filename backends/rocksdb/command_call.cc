#include "backends/rocksdb/command_call.h"

#include <cctype>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "proxy/base/text.h"

namespace catena::rocks {
namespace {

// Redis reads no longer text as a float, and writes none.
constexpr size_t kFloatCharsMax = 5 * 1024;

}  // namespace

void Call::WrongArity() const {
  Error("ERR wrong number of arguments for '" + std::string(name) + "' command");
}

void Call::InvalidExpireTime() const {
  Error("ERR invalid expire time in '" + std::string(name) + "' command");
}

void Call::Help(std::string_view command, std::initializer_list<std::string_view> lines) const {
  constexpr size_t kOtherLines = 3;
  Array(lines.size() + kOtherLines);
  Simple(std::string(command) + " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
  for (std::string_view line : lines) Simple(line);
  Simple("HELP");
  Simple("    Prints this help.");
}

bool Call::Is(size_t at, std::string_view word) const {
  const std::string_view argument = arguments[at];
  return EqualsIgnoringCase(argument.substr(0, argument.find('\0')), word);
}

std::optional<int64_t> Call::TakeInteger(size_t at, std::string_view error) const {
  const auto number = ParseInteger(arguments[at]);
  if (!number) Error(error);
  return number;
}

std::optional<int64_t> ParseInteger(std::string_view text) {
  if (text == "0") return 0;
  const size_t first_digit = text.starts_with('-') ? 1 : 0;
  if (text.size() <= first_digit || text[first_digit] < '1' || text[first_digit] > '9')
    return std::nullopt;
  return ParseNumber<int64_t>(text);
}

std::optional<long double> ParseFloat(std::string_view text) {
  if (text.empty() || text.size() >= kFloatCharsMax) return std::nullopt;
  if (std::isspace(static_cast<unsigned char>(text[0]))) return std::nullopt;
  const std::string terminated(text);
  char* end = nullptr;
  errno = 0;
  const long double value = std::strtold(terminated.c_str(), &end);
  if (end != terminated.c_str() + terminated.size()) return std::nullopt;
  if (errno == ERANGE && (std::isinf(value) || value == 0)) return std::nullopt;
  if (std::isnan(value)) return std::nullopt;
  return value;
}

void FormatFloat(long double value, std::string& out) {
  char text[kFloatCharsMax];
  const int length = std::snprintf(text, sizeof text, "%.17Lf", value);
  std::string_view digits(text, static_cast<size_t>(length));
  digits = digits.substr(0, digits.find_last_not_of('0') + 1);
  if (digits.ends_with('.')) digits.remove_suffix(1);
  out = digits == "-0" ? "0" : digits;
}

void PutUntil(const Call& call, std::string_view key, std::string_view value, int64_t deadline_ms) {
  if (deadline_ms == Item::kNoDeadline || !IsPast(call, deadline_ms))
    return call.view().Put(key, value, deadline_ms);
  if (call.view().Has(key)) call.view().Delete(key);
}

std::optional<int64_t> TakeDeadline(const Call& call, size_t at, TimeUnit unit) {
  const auto number = call.TakeInteger(at);
  if (!number) return std::nullopt;
  int64_t when = *number;
  const bool fits = when > 0 && !(unit.seconds && __builtin_mul_overflow(when, 1000, &when)) &&
                    !(unit.relative && __builtin_add_overflow(when, call.now_ms(), &when));
  if (fits) return when;
  call.InvalidExpireTime();
  return std::nullopt;
}

}  // namespace catena::rocks
