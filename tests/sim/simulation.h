// One seed: a cluster forms, a storm of faults while clients work, calm; then everything must come
// back and agree within a bound of virtual time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "tests/sim/plan.h"

namespace catena::sim {

struct Outcome {
  std::string violation;  // "": none
  uint64_t events = 0;
  uint64_t commands = 0;   // answered
  uint64_t undecided = 0;  // searches for an order that were given up
  // No member certainly had everything, so the chain waits for an operator's choice (design.md 6).
  bool needs_operator = false;
  Duration simulated{0};
  Duration converged{0};  // after the storm
  uint64_t epochs = 0;
  uint64_t recoveries = 0;  // of a chain of which nobody was left
  std::map<Fault, int> faults;
};

// `trace` gets readable lines; nullptr: none are made.
Outcome Simulate(const Plan& plan, std::function<void(std::string_view)> trace);

}  // namespace catena::sim
