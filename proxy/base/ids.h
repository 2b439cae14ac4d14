// The identities and counters of the protocol as types of their own, so that an epoch can never be
// passed where a position is meant.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>

namespace catena {

// A 64-bit counter that only compares with its own kind. No implicit conversions.
template <typename Tag>
class Counter {
 public:
  constexpr Counter() = default;
  constexpr explicit Counter(uint64_t value) : value_(value) {}
  constexpr uint64_t value() const { return value_; }
  constexpr auto operator<=>(const Counter&) const = default;
  constexpr Counter Next() const { return Counter(value_ + 1); }

 private:
  uint64_t value_ = 0;
};

// Number of a configuration of one chain; 0: none yet. One more with each change.
using Epoch = Counter<struct EpochTag>;
// New each time a proxy process starts or is removed from its chain; larger is later. 0: none.
using Incarnation = Counter<struct IncarnationTag>;
// A count of bytes of the effect stream (a Redis replication offset). Names the end of the byte
// range [0, position).
using Position = Counter<struct PositionTag>;

constexpr Position operator+(Position position, uint64_t bytes) {
  return Position(position.value() + bytes);
}
// Distance in bytes; `later` must not be before `earlier`.
constexpr uint64_t operator-(Position later, Position earlier) {
  return later.value() - earlier.value();
}

// The `id` of a node in the TOML: unique within its chain.
using NodeId = std::string;

}  // namespace catena
