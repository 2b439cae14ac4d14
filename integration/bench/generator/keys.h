// Which key a command touches: pure, repeatable by seed.
#pragma once

#include <cstdint>
#include <string>

#include "proxy/base/result.h"

namespace catena::bench {

// splitmix64: tiny, fast, and good enough to draw keys.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next();
  double Unit();                   // in [0, 1)
  uint64_t Below(uint64_t bound);  // bound > 0

 private:
  uint64_t state_;
};

// Ranks 0 .. count - 1, rank r with a probability proportional to 1 / (r + 1)^exponent, without a
// table (Hormann & Derflinger, "Rejection-inversion to generate variates from monotone discrete
// distributions", 1996).
class Zipf {
 public:
  Zipf(uint64_t count, double exponent);  // count >= 1, exponent > 0
  uint64_t Draw(Random& random) const;

 private:
  double Integral(double x) const;
  double InverseIntegral(double y) const;

  double count_, exponent_;
  double integral_first_, integral_last_, shortcut_;
};

// "uniform", "zipf:EXPONENT", "sequential" (each key in turn, for filling).
class KeyChooser {
 public:
  static Result<KeyChooser> Parse(const std::string& text, uint64_t count);
  uint64_t Choose(Random& random);

 private:
  enum class Kind { kUniform, kZipf, kSequential };
  KeyChooser(Kind kind, uint64_t count, double exponent)
      : kind_(kind), count_(count), zipf_(count, exponent) {}

  Kind kind_;
  uint64_t count_;
  Zipf zipf_;
  uint64_t next_ = 0;
};

}  // namespace catena::bench
