// How old what this node's database shows may be, for max_staleness: since when everything is in it
// that anybody had been shown or told by then. Messages of neighbours are no proof of that: they
// may be cut off from the chain together with this node.
//
// It is known of a moment T
//   with a lease   valid at T: nothing is committed anywhere that was not received here by T (I6);
//   without        if a verify that began at T was answered: nothing was committed by T that is not
//                  committed here now. So a whole chain needs no coordinator.
// Once the database has that, too, the node is as fresh as of T. A database that does not keep up
// makes it stale like a network that is cut.
//
// One moment is followed at a time, the next one is begun at a heartbeat. A healthy node is hence
// known to be fresh as of one heartbeat ago, and what a commit, an application or a verify takes.
//
// Loop thread.
#pragma once

#include <optional>

#include "proxy/base/clock.h"
#include "proxy/chain/replica.h"

namespace catena::server {

class Freshness {
 public:
  // `replica` is not owned and outlives this.
  explicit Freshness(chain::Replica& replica) : replica_(replica) {}

  // Nothing is known of another life's database.
  void BeginLife();
  // Follows what is so `now`, unless an earlier moment is still being followed. Asks for a verify
  // where there is no lease.
  void Begin(TimePoint now);
  // Draws conclusions; after whatever a turn brought.
  void Follow();
  // Nothing: not known yet in this life.
  std::optional<TimePoint> known() const { return known_; }

 private:
  struct Moment {
    TimePoint at;
    std::optional<Position> holds;  // all that was committed then; nothing: the verify will tell
    uint64_t verify_ticket = 0;
  };

  chain::Replica& replica_;
  std::optional<Moment> moment_;
  std::optional<TimePoint> known_;
};

}  // namespace catena::server
