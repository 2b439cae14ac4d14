// A member's lease as the member itself counts it (design.md 6). It runs from the moment at which
// the heartbeat was *sent*, less a margin for clock drift, so it always ends before the
// coordinator's count, which runs from the moment of the answer (schedule S17 names the clock).
#pragma once

#include <algorithm>

#include "proxy/base/clock.h"
#include "proxy/base/mutant.h"

namespace catena::chain {

class Lease {
 public:
  // Parts per thousand of each lease given up against clock drift between machines.
  explicit Lease(int drift_per_mille) : drift_per_mille_(drift_per_mille) {}

  // A grant of `duration` for a heartbeat sent at `sent_at`. Never shortens what is held.
  void Grant(TimePoint sent_at, Duration duration) {
    if (closed_) return;
    const int margin = CATENA_MUTANT("lease-without-margin") ? 0 : drift_per_mille_;
    expires_ = std::max(expires_, sent_at + duration - duration / 1000 * margin);
  }
  bool ValidAt(TimePoint now) const { return !closed_ && now < expires_; }
  // Ends it for good: a member that resigned ignores later grants.
  void Close() { closed_ = true; }
  TimePoint expires() const { return expires_; }

 private:
  int drift_per_mille_;
  TimePoint expires_{};
  bool closed_ = false;
};

}  // namespace catena::chain
