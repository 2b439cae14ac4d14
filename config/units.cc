// Durations and byte counts as people write them in the TOML.
#include <array>
#include <charconv>
#include <limits>

#include "config/config.h"

namespace catena::config {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

// From small to large; in nanoseconds and in bytes.
constexpr std::array<Unit, 5> kTimeUnits{{{"us", 1'000},
                                          {"ms", 1'000'000},
                                          {"s", 1'000'000'000},
                                          {"m", 60'000'000'000},
                                          {"h", 3'600'000'000'000}}};
constexpr std::array<Unit, 4> kByteUnits{
    {{"b", 1}, {"kb", 1u << 10}, {"mb", 1u << 20}, {"gb", 1u << 30}}};

struct Quantity {
  uint64_t number;
  std::string_view unit;
};

// The leading digits and what follows them; nothing if there are no digits or too many.
bool Split(std::string_view text, Quantity& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out.number);
  if (error != std::errc()) return false;
  out.unit = text.substr(static_cast<size_t>(end - text.data()));
  return true;
}

template <size_t N>
const Unit* FindUnit(const std::array<Unit, N>& units, std::string_view name) {
  for (const Unit& unit : units) {
    if (unit.name == name) return &unit;
  }
  return nullptr;
}

template <size_t N>
std::string Format(const std::array<Unit, N>& units, uint64_t value) {
  const Unit* best = &units[0];
  for (const Unit& unit : units) {
    if (value != 0 && value % unit.factor == 0) best = &unit;
  }
  return std::to_string(value / best->factor) + std::string(best->name);
}

}  // namespace

Result<Duration> ParseDuration(std::string_view text) {
  Quantity quantity{};
  const Unit* unit = Split(text, quantity) ? FindUnit(kTimeUnits, quantity.unit) : nullptr;
  if (unit == nullptr) {
    return Fail(
        "not a duration; allowed: an integer and one of us, ms, s, m, h, such as \"200ms\"");
  }
  // A hundred years also keep every later sum of two durations far from overflow.
  constexpr uint64_t kMax = 100ull * 365 * 24 * 3'600'000'000'000ull;
  if (quantity.number > kMax / unit->factor) {
    return Fail("duration too long; allowed: at most 876000h");
  }
  return Duration(static_cast<int64_t>(quantity.number * unit->factor));
}

Result<size_t> ParseBytes(std::string_view text) {
  Quantity quantity{};
  const Unit* unit = nullptr;
  if (Split(text, quantity))
    unit = FindUnit(kByteUnits, quantity.unit.empty() ? "b" : quantity.unit);
  if (unit == nullptr) {
    return Fail(
        "not a number of bytes; allowed: an integer, or an integer and one of b, kb, mb, gb "
        "(kb = 1024), such as \"64mb\"");
  }
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
  if (quantity.number > kMax / unit->factor) return Fail("too many bytes; allowed: below 2^63");
  return static_cast<size_t>(quantity.number * unit->factor);
}

std::string FormatDuration(Duration duration) {
  if (duration.count() == 0) return "0s";
  return Format(kTimeUnits, static_cast<uint64_t>(duration.count()));
}

std::string FormatBytes(size_t bytes) { return bytes == 0 ? "0b" : Format(kByteUnits, bytes); }

}  // namespace catena::config
