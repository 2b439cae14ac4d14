#include "proxy/base/metrics.h"

#include <doctest/doctest.h>

namespace catena {
namespace {

using std::chrono::microseconds;
using std::chrono::seconds;

TEST_CASE("a histogram counts each duration in the first bucket that can hold it") {
  Histogram times;
  times.Observe(Duration(0));
  times.Observe(Duration(-5));
  times.Observe(Histogram::Bound(0));
  times.Observe(Histogram::Bound(0) + Duration(1));
  times.Observe(Histogram::Bound(20), 3);
  times.Observe(Histogram::Bound(20) + Duration(1));
  CHECK(times.in_bucket(0) == 3);
  CHECK(times.in_bucket(1) == 1);
  CHECK(times.in_bucket(20) == 3);
  CHECK(times.in_bucket(21) == 1);
  CHECK(times.count() == 8);
  CHECK(times.sum() == 2 * Histogram::Bound(0) + 4 * Histogram::Bound(20) + Duration(2));
}

TEST_CASE("spells are counted when they begin, and their time goes on while they do") {
  const TimePoint start = TimePoint(seconds(100));
  Spells spells;
  spells.End(start);
  spells.Begin(start);
  spells.Begin(start + seconds(1));
  CHECK(spells.count() == 1);
  CHECK(spells.total(start + seconds(3)) == seconds(3));
  spells.End(start + seconds(4));
  CHECK(spells.total(start + seconds(9)) == seconds(4));
  spells.Add(seconds(2));
  CHECK(spells.count() == 2);
  CHECK(spells.total(start + seconds(9)) == seconds(6));
}

TEST_CASE("a family is introduced once, and labels are escaped") {
  Exposition out;
  out.AddCommonLabel("node", "a");
  out.Counter("x_total", "Things.", 17, {{"why", "a \"b\\\n"}});
  out.Counter("x_total", "", 4);
  out.Gauge("y_seconds", "How long.", microseconds(1500));
  CHECK(out.text() ==
        "# HELP x_total Things.\n# TYPE x_total counter\n"
        "x_total{node=\"a\",why=\"a \\\"b\\\\\\n\"} 17\n"
        "x_total{node=\"a\"} 4\n"
        "# HELP y_seconds How long.\n# TYPE y_seconds gauge\n"
        "y_seconds{node=\"a\"} 0.0015\n");
}

TEST_CASE("a histogram's buckets are cumulative, in seconds, and end with everything") {
  Histogram times;
  times.Observe(microseconds(10));
  times.Observe(microseconds(20));
  times.Observe(seconds(100));
  Exposition out;
  out.Times("t_seconds", "Times.", times, {{"stage", "sent"}});
  const std::string& text = out.text();
  CHECK(text.find("t_seconds_bucket{stage=\"sent\",le=\"0.000016384\"} 1\n") != std::string::npos);
  CHECK(text.find("t_seconds_bucket{stage=\"sent\",le=\"0.000032768\"} 2\n") != std::string::npos);
  CHECK(text.find("t_seconds_bucket{stage=\"sent\",le=\"17.179869184\"} 2\n") != std::string::npos);
  CHECK(text.find("t_seconds_bucket{stage=\"sent\",le=\"+Inf\"} 3\n") != std::string::npos);
  CHECK(text.find("t_seconds_sum{stage=\"sent\"} 100.00003\n") != std::string::npos);
  CHECK(text.find("t_seconds_count{stage=\"sent\"} 3\n") != std::string::npos);
}

}  // namespace
}  // namespace catena
