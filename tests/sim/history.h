// What clients asked and were told, and whether a single database that executes one command after
// the other could have told them that.
//
// The check is Wing and Gong's search with Lowe's memory of visited states, over the part of the
// database that a command can touch: keys that no command of the run joins are checked apart. The
// sequential database is the one that the simulated Redis executes with (redis_store.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proxy/base/clock.h"
#include "proxy/server/options.h"
#include "tests/sim/redis_store.h"

namespace catena::sim {

struct Operation {
  enum class Outcome {
    kUnknown,  // it may take effect once, at any time after it was sent, or never
    kDone,     // with `replies`
    kRefused,  // certainly never
  };
  // Commands that take effect together: one, or a whole transaction.
  std::vector<Arguments> commands;
  std::vector<std::string> replies;
  size_t connection = 0;  // commands of one take effect in the order in which they were sent
  TimePoint sent{}, answered{};
  Outcome outcome = Outcome::kUnknown;
  std::string node;  // where it was sent
  // Where in the effect stream it may have happened: guides the search, proves nothing.
  uint64_t hint = 0;
  server::Consistency consistency = server::Consistency::kLinearizable;  // of its connection

  // Reads of the weaker modes are judged by rules of their own (sessions.h).
  bool Linearizable() const {
    return Writes() || consistency == server::Consistency::kLinearizable ||
           consistency == server::Consistency::kTail;
  }
  bool WholeDatabase() const;
  bool Writes() const;
  std::string Text() const;
};

using History = std::vector<Operation>;

struct Judgement {
  std::string violation;   // "": none
  uint64_t undecided = 0;  // parts whose search was given up
};
Judgement CheckLinearizable(const History& history, uint64_t states_max = 400'000);

}  // namespace catena::sim
