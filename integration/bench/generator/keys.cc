#include "integration/bench/generator/keys.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace catena::bench {

uint64_t Random::Next() {
  state_ += 0x9E3779B97F4A7C15ull;
  uint64_t mixed = state_;
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9ull;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBull;
  return mixed ^ (mixed >> 31);
}

double Random::Unit() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }

uint64_t Random::Below(uint64_t bound) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(Next()) * bound) >> 64);
}

// The paper's H and its inverse, with the limit for exponents near 1.
double Zipf::Integral(double x) const {
  const double log_x = std::log(x);
  const double power = (1 - exponent_) * log_x;
  return std::abs(power) < 1e-12 ? log_x : log_x * std::expm1(power) / power;
}

double Zipf::InverseIntegral(double y) const {
  const double power = std::max(-1.0, y * (1 - exponent_));
  return std::abs(power) < 1e-12 ? std::exp(y) : std::exp(y * std::log1p(power) / power);
}

Zipf::Zipf(uint64_t count, double exponent)
    : count_(static_cast<double>(count)),
      exponent_(exponent),
      integral_first_(Integral(1.5) - 1),
      integral_last_(Integral(count_ + 0.5)),
      shortcut_(2 - InverseIntegral(Integral(2.5) - std::pow(2, -exponent))) {}

uint64_t Zipf::Draw(Random& random) const {
  while (true) {
    const double area = integral_last_ + random.Unit() * (integral_first_ - integral_last_);
    const double x = InverseIntegral(area);
    const double rank = std::clamp(std::floor(x + 0.5), 1.0, count_);
    if (rank - x <= shortcut_ || area >= Integral(rank + 0.5) - std::pow(rank, -exponent_)) {
      return static_cast<uint64_t>(rank) - 1;
    }
  }
}

Result<KeyChooser> KeyChooser::Parse(const std::string& text, uint64_t count) {
  if (count == 0) return Fail("keys: at least 1");
  if (text == "uniform") return KeyChooser(Kind::kUniform, count, 1);
  if (text == "sequential") return KeyChooser(Kind::kSequential, count, 1);
  double exponent = 0;
  const std::string prefix = "zipf:";
  if (text.starts_with(prefix)) {
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + prefix.size(), end, exponent);
    if (parsed.ec == std::errc() && parsed.ptr == end && exponent > 0) {
      return KeyChooser(Kind::kZipf, count, exponent);
    }
  }
  return Fail("distribution \"" + text +
              "\"; allowed: uniform, sequential, zipf:EXPONENT with an exponent above 0");
}

uint64_t KeyChooser::Choose(Random& random) {
  switch (kind_) {
    case Kind::kUniform:
      return random.Below(count_);
    case Kind::kZipf:
      return zipf_.Draw(random);
    case Kind::kSequential:
      break;
  }
  const uint64_t chosen = next_;
  next_ = next_ + 1 == count_ ? 0 : next_ + 1;
  return chosen;
}

}  // namespace catena::bench
