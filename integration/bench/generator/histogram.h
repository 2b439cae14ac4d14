// Latencies of a run, in nanoseconds, at about 1 % precision in a fixed 35 KB: what HdrHistogram
// does. Recording is a shift and an increment.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace catena::bench {

class Histogram {
 public:
  static constexpr uint64_t kValueMax = (uint64_t{1} << 40) - 1;  // 18 minutes; more counts as that

  void Record(uint64_t nanoseconds);
  void Add(const Histogram& other);
  void Clear() { *this = Histogram(); }

  uint64_t count() const { return count_; }
  uint64_t max() const { return max_; }  // exact
  double Mean() const;                   // exact; 0 when empty
  // The smallest recorded value that at least this share (0 to 1) does not exceed, rounded up by
  // less than 1 %; 0 when empty.
  uint64_t Quantile(double share) const;

 private:
  // Values below 2 * kPerOctave have a bucket each; every later octave has kPerOctave.
  static constexpr int kOctaveBits = 7;
  static constexpr size_t kPerOctave = size_t{1} << kOctaveBits;
  static constexpr size_t kBuckets = (40 - kOctaveBits + 1) * kPerOctave;

  static size_t BucketOf(uint64_t value);
  static uint64_t UpperEdge(size_t bucket);

  std::array<uint64_t, kBuckets> buckets_{};
  uint64_t count_ = 0;
  uint64_t sum_ = 0;
  uint64_t max_ = 0;
};

}  // namespace catena::bench
