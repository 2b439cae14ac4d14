#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "integration/bench/generator/histogram.h"
#include "integration/bench/generator/keys.h"
#include "integration/bench/generator/recorder.h"
#include "integration/bench/generator/schedule.h"
#include "integration/bench/generator/workload.h"
#include "proxy/resp/decoder.h"

namespace catena::bench {
namespace {

constexpr uint64_t kMillisecond = 1'000'000, kSecond = 1000 * kMillisecond;

TEST_CASE("histogram: an empty one answers 0") {
  const Histogram histogram;
  CHECK(histogram.Quantile(0.5) == 0);
  CHECK(histogram.Mean() == 0);
}

TEST_CASE("histogram: quantiles are those of the sorted values, rounded up by less than 1 %") {
  Random random(7);
  Histogram histogram;
  std::vector<uint64_t> values;
  for (int i = 0; i < 20'000; ++i) {
    values.push_back(random.Next() >> (24 + random.Below(40)));  // up to 2^40, all sizes
    histogram.Record(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double share : {0.0001, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
    const uint64_t exact = values[rank - 1];
    CAPTURE(share);
    CHECK(histogram.Quantile(share) >= exact);
    CHECK(static_cast<double>(histogram.Quantile(share)) <= static_cast<double>(exact) * 1.01);
  }
  CHECK(histogram.max() == values.back());
}

TEST_CASE("histogram: values out of range count as the largest, and sums add up") {
  Histogram one, other;
  one.Record(UINT64_MAX);
  other.Record(0);
  one.Add(other);
  CHECK(one.count() == 2);
  CHECK(one.Quantile(1) == Histogram::kValueMax);
  CHECK(one.Quantile(0.5) == 0);
  CHECK(one.Mean() == doctest::Approx(static_cast<double>(Histogram::kValueMax) / 2));
}

TEST_CASE("zipf: ranks come as often as 1 / rank^exponent says") {
  constexpr uint64_t kKeys = 1000;
  constexpr int kDraws = 400'000;
  for (const double exponent : {0.5, 0.99, 1.0, 1.5}) {
    Random random(11);
    const Zipf zipf(kKeys, exponent);
    std::vector<int> seen(kKeys);
    for (int i = 0; i < kDraws; ++i) ++seen[zipf.Draw(random)];
    double total = 0;
    for (uint64_t rank = 1; rank <= kKeys; ++rank) {
      total += std::pow(static_cast<double>(rank), -exponent);
    }
    for (const uint64_t rank : {1, 2, 10, 100, 1000}) {
      const double expected = kDraws * std::pow(static_cast<double>(rank), -exponent) / total;
      CAPTURE(exponent);
      CAPTURE(rank);
      CHECK(std::abs(seen[rank - 1] - expected) < 5 * std::sqrt(expected) + 1);
    }
  }
}

TEST_CASE("keys: sequential ones come in turn, uniform ones all alike") {
  Random random(3);
  auto sequential = KeyChooser::Parse("sequential", 3);
  REQUIRE(sequential);
  for (const uint64_t expected : {0, 1, 2, 0, 1}) CHECK(sequential->Choose(random) == expected);
  auto uniform = KeyChooser::Parse("uniform", 4);
  REQUIRE(uniform);
  std::vector<int> seen(4);
  for (int i = 0; i < 40'000; ++i) ++seen[uniform->Choose(random)];
  for (const int times : seen) CHECK(std::abs(times - 10'000) < 500);
}

TEST_CASE("keys: a wrong distribution is named with what is allowed") {
  for (const char* text : {"zipf", "zipf:", "zipf:0", "zipf:1x", "hot"}) {
    const auto chooser = KeyChooser::Parse(text, 10);
    REQUIRE_FALSE(chooser);
    CHECK(chooser.error().message.find("allowed: uniform") != std::string::npos);
  }
  CHECK_FALSE(KeyChooser::Parse("uniform", 0));
}

TEST_CASE("schedule: connections share a rate and take turns") {
  Schedule first(0, 1000, 0, 2), second(0, 1000, 1, 2);
  CHECK(first.Take() == 0);
  CHECK(second.Take() == kMillisecond);
  CHECK(first.Take() == 2 * kMillisecond);
  CHECK_FALSE(second.IsDue(3 * kMillisecond - 1));
  CHECK(second.IsDue(3 * kMillisecond));
}

// A server that answers in 1 ms, but stands still for one second. A client that waits for each
// answer sees one slow reply of 1,000; whoever wanted to ask every 10 ms waited in 100 cases.
TEST_CASE("a stall counts for every command that was due in it (coordinated omission)") {
  Schedule schedule(0, 100, 0, 1);
  Recorder recorder;
  recorder.Begin(0, 0);
  uint64_t now = 0;
  for (int i = 0; i < 1000; ++i) {
    now = std::max(now, schedule.NextDue());
    const uint64_t due = schedule.Take(), sent = now;
    const bool stalled = i == 500;
    now = sent + (stalled ? kSecond : kMillisecond);
    recorder.Answered(Kind::kRead, due, sent, now);
  }
  const nlohmann::json report = recorder.Report(now);
  // While it catches up, at 1 ms each, another eleven come due and wait.
  const double waiting = report["latency_us"]["p90"].get<double>();
  CHECK(waiting > 50'000);
  CHECK(report["latency_us"]["p99"].get<double>() > 900'000);
  CHECK(report["service_us"]["p99"].get<double>() < 1'100);
  CHECK(report["latency_us"]["p50"].get<double>() < 1'100);
}

TEST_CASE("recorder: the warm-up is not counted, and the timeline has a row for every interval") {
  Recorder recorder;
  recorder.Begin(kSecond, kSecond);
  recorder.Answered(Kind::kRead, 0, 0, kSecond - 1);
  recorder.Refused("ERR early", kSecond - 1);
  recorder.Answered(Kind::kWrite, kSecond, kSecond, kSecond + 5);
  recorder.Answered(Kind::kRead, kSecond, kSecond, 3 * kSecond + 5);
  recorder.Refused("CHAINDOWN no head", 3 * kSecond + 6);
  recorder.Lost(3 * kSecond + 7);
  const nlohmann::json report = recorder.Report(4 * kSecond);
  CHECK(report["operations"] == 2);
  CHECK(report["rate"].get<double>() == doctest::Approx(2.0 / 3));
  CHECK(report["errors"] == nlohmann::json({{"CHAINDOWN", 1}, {"connection lost", 1}}));
  CHECK(report["first_error"] == "CHAINDOWN no head");
  REQUIRE(report["timeline"].size() == 3);
  CHECK(report["timeline"][0]["writes"] == 1);
  CHECK(report["timeline"][1]["reads"] == 0);
  CHECK(report["timeline"][2]["reads"] == 1);
  CHECK(report["timeline"][2]["errors"] == 2);
  CHECK(report["timeline"][2]["at"] == 2.0);
}

TEST_CASE("workload: commands are well-formed and come in the shares of the mix") {
  WorkloadOptions options;
  options.mix = "get=90,set=10";
  options.value_bytes = 10;
  auto workload = Workload::Make(options);
  REQUIRE(workload);
  int writes = 0;
  for (int i = 0; i < 10'000; ++i) {
    std::string bytes;
    const Workload::Appended appended = workload->AppendNext(bytes);
    resp::CommandDecoder decoder;
    resp::Command command;
    size_t consumed = 0;
    REQUIRE(decoder.Decode(bytes, command, consumed) == resp::Progress::kComplete);
    CHECK(consumed == bytes.size());
    CHECK(appended.replies == 1);
    CHECK(command.arguments[1].size() == std::string("key:000000000000").size());
    const bool is_set = command.arguments[0] == "SET";
    CHECK(is_set == (appended.kind == Kind::kWrite));
    if (is_set) CHECK(command.arguments[2].size() == 10);
    writes += is_set;
  }
  CHECK(std::abs(writes - 1000) < 150);
}

TEST_CASE("workload: WAIT travels behind each write, and its short answers are noticed") {
  WorkloadOptions options;
  options.mix = "set=1";
  options.wait_replicas = 2;
  auto workload = Workload::Make(options);
  REQUIRE(workload);
  std::string bytes;
  CHECK(workload->AppendNext(bytes).replies == 2);
  CHECK(bytes.ends_with("*3\r\n$4\r\nWAIT\r\n$1\r\n2\r\n$1\r\n0\r\n"));
  CHECK(workload->IsShortWait(Kind::kWrite, ":1\r\n"));
  CHECK_FALSE(workload->IsShortWait(Kind::kWrite, ":2\r\n"));
  CHECK_FALSE(workload->IsShortWait(Kind::kRead, ":1\r\n"));
}

TEST_CASE("workload: MGET names ten keys") {
  WorkloadOptions options;
  options.mix = "mget=1";
  options.keys = "sequential";
  options.key_prefix = "k";
  auto workload = Workload::Make(options);
  REQUIRE(workload);
  std::string out;
  CHECK(workload->AppendNext(out).kind == Kind::kRead);
  CHECK(out.starts_with("*11\r\n$4\r\nMGET\r\n$13\r\nk000000000000\r\n$13\r\nk000000000001\r\n"));
  CHECK(out.ends_with("$13\r\nk000000000009\r\n"));
  CHECK(out.size() == 15 + 10 * 20);
}

TEST_CASE("workload: a wrong mix is refused") {
  for (const char* mix : {"", "get", "get=", "get=0", "delete=1", "get=1,,set=1"}) {
    WorkloadOptions options;
    options.mix = mix;
    CAPTURE(mix);
    CHECK_FALSE(Workload::Make(options));
  }
}

}  // namespace
}  // namespace catena::bench
