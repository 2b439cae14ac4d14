#include "proxy/server/meter.h"

#include <doctest/doctest.h>

namespace catena::server {
namespace {

using std::chrono::milliseconds;

struct Fixture {
  TimePoint now{std::chrono::seconds(5)};
  int readings = 0;
  std::function<TimePoint()> clock = [this] {
    ++readings;
    return now;
  };
};

TEST_CASE_FIXTURE(Fixture, "replies count by class, result and sender") {
  Meter meter(clock, true);
  meter.Answered(RequestClass::kWrite, "+OK\r\n", now, false);
  meter.Answered(RequestClass::kWrite, "-UNKNOWNOUTCOME lost\r\n", now, false);
  meter.Answered(RequestClass::kWrite, "-CHAINDOWN no head\r\n", now, true);
  meter.Answered(RequestClass::kRead, "-WRONGTYPE no list\r\n", now, false);
  meter.Answered(RequestClass::kRead, "", now, false);
  CHECK(meter.requests(RequestClass::kWrite, Outcome::kOk, false) == 1);
  CHECK(meter.requests(RequestClass::kWrite, Outcome::kUnknown, false) == 1);
  CHECK(meter.requests(RequestClass::kWrite, Outcome::kChainDown, true) == 1);
  CHECK(meter.requests(RequestClass::kRead, Outcome::kError, false) == 1);
  CHECK(meter.requests(RequestClass::kRead, Outcome::kOk, false) == 1);
  CHECK(meter.answered() == 5);
  // Forwarded ones are timed where their clients are.
  CHECK(meter.latency(RequestClass::kWrite).count() == 2);
}

TEST_CASE_FIXTURE(Fixture,
                  "the clock is read once a turn, and not at all without somebody to ask") {
  Meter meter(clock, true);
  const TimePoint arrived = now - milliseconds(3);
  for (int i = 0; i < 10; ++i) meter.Answered(RequestClass::kRead, "$-1\r\n", arrived, false);
  CHECK(readings == 1);
  CHECK(meter.latency(RequestClass::kRead).sum() == milliseconds(30));
  meter.EndTurn();
  now += milliseconds(1);
  meter.Answered(RequestClass::kRead, "$-1\r\n", arrived, false);
  CHECK(meter.latency(RequestClass::kRead).sum() == milliseconds(34));

  Meter silent(clock, false);
  silent.Answered(RequestClass::kRead, "$-1\r\n", arrived, false);
  silent.BackendAnswered(arrived);
  silent.Reached(WriteStage::kReplied, arrived, 3);
  CHECK(readings == 2);
  CHECK(silent.answered() == 1);
  CHECK(silent.latency(RequestClass::kRead).count() == 0);
}

TEST_CASE_FIXTURE(Fixture, "a stall that goes on is one") {
  Meter meter(clock, true);
  meter.EndStall(StallCause::kLogFull);
  meter.SetStall(StallCause::kLogFull, true);
  meter.SetStall(StallCause::kLogFull, true);
  meter.EndTurn();
  now += milliseconds(7);
  meter.SetStall(StallCause::kLogFull, false);
  CHECK(meter.stall(StallCause::kLogFull).count() == 1);
  CHECK(meter.stall(StallCause::kLogFull).total(now) == milliseconds(7));
  CHECK(meter.stall(StallCause::kSuccessorSlow).count() == 0);
}

}  // namespace
}  // namespace catena::server
