#include "proxy/chain/lease.h"

#include <doctest/doctest.h>

namespace catena::chain {
namespace {

using std::chrono::milliseconds;

constexpr int kDrift = 20;  // per mille

TimePoint At(int64_t ms) { return TimePoint(milliseconds(ms)); }

TEST_CASE("a lease runs from the sending of the heartbeat, not from its answer") {
  Lease lease(kDrift);
  CHECK_FALSE(lease.ValidAt(At(0)));
  // Sent at 1000; whenever the answer came, at 1980 it is over.
  lease.Grant(At(1000), milliseconds(1000));
  CHECK(lease.ValidAt(At(1979)));
  CHECK_FALSE(lease.ValidAt(At(1980)));
  CHECK(lease.expires() == At(1980));
}

// The coordinator counts the whole length from its answer, which is later than the sending: even on
// a clock that is slower by the whole margin the member's count ends first.
TEST_CASE("a lease ends at the member before it ends at the coordinator") {
  Lease lease(kDrift);
  lease.Grant(At(0), milliseconds(1000));
  // 1000 ms of the coordinator are 981 of a clock that is 1.9 % slow.
  CHECK_FALSE(lease.ValidAt(At(981)));
}

TEST_CASE("an answer that overtakes or is late never shortens a lease") {
  Lease lease(kDrift);
  lease.Grant(At(2000), milliseconds(1000));
  lease.Grant(At(1000), milliseconds(1000));
  CHECK(lease.expires() == At(2980));
  lease.Grant(At(2100), milliseconds(10));
  CHECK(lease.expires() == At(2980));
}

TEST_CASE("a member that resigned ignores later grants") {
  Lease lease(kDrift);
  lease.Grant(At(1000), milliseconds(1000));
  lease.Close();
  CHECK_FALSE(lease.ValidAt(At(1001)));
  lease.Grant(At(1100), milliseconds(1000));
  CHECK_FALSE(lease.ValidAt(At(1101)));
}

// S17: the clock also runs while the machine sleeps, so a grant that is read after waking is
// already over.
TEST_CASE("S17 clocks: a grant that was read late is judged by the time of its heartbeat") {
  Lease lease(kDrift);
  lease.Grant(At(1000), milliseconds(1000));
  TimePoint awake = At(1000) + std::chrono::hours(8);
  CHECK_FALSE(lease.ValidAt(awake));
  lease.Grant(At(1500), milliseconds(1000));  // its answer waited in the socket meanwhile
  CHECK_FALSE(lease.ValidAt(awake));
}

}  // namespace
}  // namespace catena::chain
