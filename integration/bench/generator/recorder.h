// What a run found out: latencies of reads and writes, errors by their code, and the same for each
// interval of a timeline. Pure; times are nanoseconds of one monotonic clock.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "integration/bench/generator/histogram.h"
#include "integration/bench/generator/workload.h"

namespace catena::bench {

class Recorder {
 public:
  // Counts what is answered from `start` on. interval 0: no timeline.
  void Begin(uint64_t start, uint64_t interval);

  // An operation that was due (open loop; else sent) at `due`, sent at `sent`, answered at `now`.
  void Answered(Kind kind, uint64_t due, uint64_t sent, uint64_t now);
  // Or answered with an error: the whole text, without the leading "-".
  void Refused(std::string_view text, uint64_t now);
  // Or lost with its connection.
  void Lost(uint64_t now);
  // A GET that found nothing counts as answered, and here.
  void Missed(uint64_t now) { misses_ += now >= start_; }
  // WAIT returned fewer replicas than asked for.
  void ShortWait(uint64_t now) { short_waits_ += now >= start_; }

  // As JSON; latencies in microseconds. Closes the timeline at `end`.
  nlohmann::json Report(uint64_t end);
  uint64_t operations() const { return reads_.count() + writes_.count(); }

 private:
  struct Interval {
    Histogram latency;
    uint64_t reads = 0, writes = 0, errors = 0;
  };

  void MoveTo(uint64_t now);  // closes the intervals that ended before
  void CountError(std::string_view code, uint64_t now);
  void CloseInterval();

  uint64_t start_ = 0, interval_ = 0;
  Histogram reads_, writes_;  // from due to answer
  Histogram service_;         // from sending to answer: what a careless client would report
  std::map<std::string, uint64_t, std::less<>> errors_;
  std::string first_error_;
  uint64_t misses_ = 0, short_waits_ = 0;
  Interval current_;
  nlohmann::json timeline_ = nlohmann::json::array();
};

}  // namespace catena::bench
