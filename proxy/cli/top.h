// catenactl top: the chains in a terminal, drawn again and again.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "config/config.h"
#include "coordinator/records.h"

namespace catena::cli {

// Commands a second, from one report of a node to its next.
class Rates {
 public:
  // `now` in seconds, of any clock that only goes forward.
  void Add(const coordinator::ClusterStatus& status, double now);
  // Negative: not known yet.
  double Of(const coordinator::NodeReport& report) const;

 private:
  struct Seen {
    uint64_t number = 0, answered = 0;  // of the newest report
    double at = 0;
    double rate = -1;
  };
  std::map<std::pair<NodeId, Incarnation>, Seen> seen_;
};

struct Screen {
  size_t width = 80;
  size_t height = 0;  // lines; 0: as many as there are
  bool colour = false;
};

// One frame; each line ends with '\n' and is no wider than the screen. `events`: of each chain, newest
// last. Pure.
std::string RenderTop(const coordinator::ClusterStatus& status,
                      const std::map<std::string, coordinator::EventHistory>& events,
                      const Rates& rates, const Screen& screen);

// Asks the leader once a second and draws until it is interrupted; once: one frame of two looks, half
// a second apart. Returns the exit code: 1 if `once` and nobody answers.
int RunTop(const config::Config& config, bool once);

}  // namespace catena::cli
