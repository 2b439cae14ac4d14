#include "tests/sim/scheduler.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace catena::sim {
namespace {

// Only the trace's: log lines come without saying from which simulation.
Scheduler* traced = nullptr;

}  // namespace

uint64_t Random::Next() {
  state_ += 0x9E3779B97F4A7C15;
  uint64_t value = state_;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
  return value ^ (value >> 31);
}

int64_t Random::Between(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(Below(static_cast<uint64_t>(high - low) + 1));
}

void Scheduler::At(TimePoint when, std::function<void()> event) {
  size_t place = runs_.size();
  if (free_.empty()) {
    runs_.push_back(std::move(event));
  } else {
    place = free_.back();
    free_.pop_back();
    runs_[place] = std::move(event);
  }
  events_.push({std::max(when, now_), count_++, place});
}

bool Scheduler::Step() {
  if (events_.empty()) return false;
  const Event event = events_.top();
  events_.pop();
  now_ = event.when;
  const auto run = std::exchange(runs_[event.place], nullptr);
  free_.push_back(event.place);
  run();
  return true;
}

Scheduler::~Scheduler() {
  if (traced == this) traced = nullptr;
}

void Scheduler::TraceTo(std::function<void(std::string_view)> trace) {
  trace_ = std::move(trace);
  traced = this;
}

void Scheduler::Trace(std::string_view line) {
  if (!trace_) return;
  const double elapsed = static_cast<double>((now_ - TimePoint(Seconds(1000))).count()) / 1e6;
  char time[32];
  std::snprintf(time, sizeof time, "%11.3f ", elapsed);
  trace_(time + (actor_ ? "[" + *actor_ + "] " : std::string()) + std::string(line));
}

void Scheduler::TraceNow(std::string_view line) {
  if (traced != nullptr) traced->Trace(line);
}

}  // namespace catena::sim
