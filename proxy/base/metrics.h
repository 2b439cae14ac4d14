// Measured values and their text for Prometheus. Plain integers that belong to the loop thread:
// counting costs an addition, neither allocates nor locks. Pure.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "proxy/base/clock.h"

namespace catena {

// How often something took how long, in buckets whose bounds double: 16.384 us, 32.768 us ... 17.18 s.
class Histogram {
 public:
  static constexpr int kBounds = 21;
  static constexpr int kFirstBound = 14;  // log2 of its nanoseconds

  // Less than nothing counts as nothing: the two readings may belong to different clocks.
  void Observe(Duration duration, uint64_t times = 1) {
    const auto count = duration.count() > 0 ? static_cast<uint64_t>(duration.count()) : 0;
    buckets_[IndexOf(count)] += times;
    count_ += times;
    sum_ += count * times;
  }

  // Longest duration that bucket `index` holds; of the last one there is none.
  static Duration Bound(int index) { return Duration(int64_t{1} << (kFirstBound + index)); }
  uint64_t in_bucket(int index) const { return buckets_[static_cast<size_t>(index)]; }
  uint64_t count() const { return count_; }
  Duration sum() const { return Duration(static_cast<int64_t>(sum_)); }

 private:
  static size_t IndexOf(uint64_t nanoseconds) {
    if (nanoseconds <= uint64_t{1} << kFirstBound) return 0;
    const int index = std::bit_width(nanoseconds - 1) - kFirstBound;
    return static_cast<size_t>(index < kBounds ? index : kBounds);
  }

  std::array<uint64_t, kBounds + 1> buckets_{};
  uint64_t count_ = 0;
  uint64_t sum_ = 0;  // nanoseconds
};

// A state that comes and goes: how often, and for how long in all.
class Spells {
 public:
  // Nothing changes while one goes on.
  void Begin(TimePoint now) {
    if (since_ != TimePoint()) return;
    since_ = now;
    ++count_;
  }
  void End(TimePoint now) {
    if (since_ == TimePoint()) return;
    total_ += now - since_;
    since_ = TimePoint();
  }
  // One that somebody else kept the time of.
  void Add(Duration duration) {
    ++count_;
    total_ += duration;
  }
  bool going_on() const { return since_ != TimePoint(); }
  uint64_t count() const { return count_; }
  // The one that goes on included.
  Duration total(TimePoint now) const {
    return going_on() && now > since_ ? total_ + (now - since_) : total_;
  }

 private:
  TimePoint since_{};
  uint64_t count_ = 0;
  Duration total_{0};
};

// Bytes of one kind of connection, without what TCP adds.
struct Traffic {
  uint64_t in = 0, out = 0;
};

// Prometheus' text format, version 0.0.4: families one after the other, each with its samples.
//
//   Exposition out;
//   out.AddCommonLabel("node", "a");
//   out.Counter("catena_requests_total", "Commands answered.", 17, {{"class", "read"}});
//   out.Counter("catena_requests_total", "", 4, {{"class", "write"}});  // the same family goes on
class Exposition {
 public:
  struct Label {
    std::string_view name, value;
  };
  using Labels = std::initializer_list<Label>;

  static constexpr std::string_view kContentType = "text/plain; version=0.0.4; charset=utf-8";

  // Of every sample from now on.
  void AddCommonLabel(std::string_view name, std::string_view value);

  // `help` is of the family's first sample.
  void Counter(std::string_view name, std::string_view help, uint64_t value, Labels labels = {});
  void Counter(std::string_view name, std::string_view help, Duration value,
               Labels labels = {});  // in seconds
  void Gauge(std::string_view name, std::string_view help, uint64_t value, Labels labels = {});
  void Gauge(std::string_view name, std::string_view help, Duration value,
             Labels labels = {});  // in seconds
  void Times(std::string_view name, std::string_view help, const Histogram& values,
             Labels labels = {});  // in seconds

  const std::string& text() const { return text_; }

 private:
  void Begin(std::string_view name, std::string_view type, std::string_view help);
  // A family's sample without a suffix.
  void Single(std::string_view name, std::string_view type, std::string_view help,
              std::string_view value, Labels labels);
  void Sample(std::string_view name, std::string_view suffix, Labels labels, std::string_view bound,
              std::string_view value);

  std::string common_;  // a="b",c="d"
  std::string family_;  // the one that goes on
  std::string text_;
};

}  // namespace catena
