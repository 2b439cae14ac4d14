#include "integration/bench/generator/recorder.h"

namespace catena::bench {
namespace {

constexpr size_t kErrorCodesMax = 32;  // further ones are counted together

double Microseconds(uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e3; }

nlohmann::json Distribution(const Histogram& histogram) {
  return {{"count", histogram.count()},
          {"mean", histogram.Mean() / 1e3},
          {"p50", Microseconds(histogram.Quantile(0.5))},
          {"p90", Microseconds(histogram.Quantile(0.9))},
          {"p99", Microseconds(histogram.Quantile(0.99))},
          {"p99.9", Microseconds(histogram.Quantile(0.999))},
          {"p99.99", Microseconds(histogram.Quantile(0.9999))},
          {"max", Microseconds(histogram.max())}};
}

}  // namespace

void Recorder::Begin(uint64_t start, uint64_t interval) {
  *this = Recorder();
  start_ = start;
  interval_ = interval;
}

void Recorder::MoveTo(uint64_t now) {
  if (interval_ == 0) return;
  while (now >= start_ + (timeline_.size() + 1) * interval_) CloseInterval();
}

void Recorder::CloseInterval() {
  timeline_.push_back({{"at", static_cast<double>(timeline_.size() * interval_) / 1e9},
                       {"reads", current_.reads},
                       {"writes", current_.writes},
                       {"errors", current_.errors},
                       {"p50", Microseconds(current_.latency.Quantile(0.5))},
                       {"p99", Microseconds(current_.latency.Quantile(0.99))},
                       {"max", Microseconds(current_.latency.max())}});
  current_ = Interval();
}

void Recorder::Answered(Kind kind, uint64_t due, uint64_t sent, uint64_t now) {
  if (now < start_) return;
  (kind == Kind::kRead ? reads_ : writes_).Record(now - due);
  service_.Record(now - sent);
  if (interval_ == 0) return;
  MoveTo(now);
  current_.latency.Record(now - due);
  ++(kind == Kind::kRead ? current_.reads : current_.writes);
}

void Recorder::Refused(std::string_view text, uint64_t now) {
  if (now >= start_ && first_error_.empty()) first_error_ = text;
  CountError(text.substr(0, text.find(' ')), now);
}

void Recorder::Lost(uint64_t now) { CountError("connection lost", now); }

void Recorder::CountError(std::string_view code, uint64_t now) {
  if (now < start_) return;
  MoveTo(now);
  ++current_.errors;
  auto found = errors_.find(code);
  if (found == errors_.end()) {
    const bool full = errors_.size() >= kErrorCodesMax;
    found = errors_.emplace(full ? std::string("others") : std::string(code), 0).first;
  }
  ++found->second;
}

nlohmann::json Recorder::Report(uint64_t end) {
  MoveTo(end);
  Histogram all = reads_;
  all.Add(writes_);
  const double seconds = static_cast<double>(end - start_) / 1e9;
  nlohmann::json report = {{"operations", all.count()},
                           {"seconds", seconds},
                           {"rate", static_cast<double>(all.count()) / seconds},
                           {"start_ns", start_},
                           {"latency_us", Distribution(all)},
                           {"read_us", Distribution(reads_)},
                           {"write_us", Distribution(writes_)},
                           {"service_us", Distribution(service_)},
                           {"misses", misses_},
                           {"short_waits", short_waits_},
                           {"errors", errors_},
                           {"first_error", first_error_}};
  if (interval_ > 0) report["timeline"] = timeline_;
  return report;
}

}  // namespace catena::bench
