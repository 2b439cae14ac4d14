// Who is in a chain: a pure function from what the coordinator's leader knows to the next record of
// the chain (design.md 6 and 10; the state table is in README.md). It reads no clock, draws no
// random number and keeps nothing: the same input gives the same decision.
//
//   PolicyInput input = ...;  // everything the leader knows, and the time
//   Decision decision = Decide(input);
//   if (decision.next) ...    // write it to etcd; until that is known to have failed, grant no
//                             // lease to those whom it removes (S16)
//   ask again on news, and at decision.look_again
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coordinator/records.h"
#include "proxy/base/clock.h"
#include "proxy/base/ids.h"
#include "proxy/chain/configuration.h"

namespace catena::coordinator {

// What happens when no member is left that certainly has everything.
enum class Recovery {
  kOperator,   // wait for `catenactl choose`
  kAutomatic,  // take the last head again when all nodes of the last configuration are back
};

// What the TOML says about one chain.
struct ChainFacts {
  struct Node {
    NodeId id;
    bool overwrite = false;  // a non-empty database that the chain never had may be replaced
  };
  std::string chain;
  std::vector<Node> nodes;  // head-to-tail order for a new chain
  size_t replicas = 0;
  Recovery recovery = Recovery::kOperator;
};

// One incarnation of one node, as the leader has seen it since its leadership began. Kept by
// Registry.
struct Life {
  NodeId node;
  Incarnation incarnation;
  std::optional<NodeReport> report;  // newest; nullopt: never heard by this leader
  TimePoint heard;                   // when `report` was read; the leadership's beginning if never
  bool connected = false;
  TimePoint lease_out;    // until then a lease of this life may be valid
  bool resigned = false;  // has said so once: answers nothing, ignores grants
  // Since when it is known to be failing: it resigned, its connection broke, or a newer incarnation
  // of its node appeared. A new connection of the same incarnation ends the second.
  std::optional<TimePoint> failed_since;
  bool is_void = false;  // removed or superseded: never listed (again)
  // Since when it has been reporting, in the epoch of `report`, that a link to a neighbour is
  // missing.
  std::optional<TimePoint> predecessor_lost, successor_lost;
  // Since when it has been reporting that it is neither a member nor ready to join.
  std::optional<TimePoint> unready_since;
};

// The newest configuration that a node has told of; epoch 0: none.
struct EpochSeen {
  NodeId node;
  Epoch epoch;
};

struct PolicyInput {
  ChainFacts facts;
  std::optional<ChainRecord> record;  // nullopt: etcd has none
  std::vector<Life> lives;            // at least one for each listed (id, incarnation)
  EpochSeen newest;                   // under this leader, also by lives that are forgotten
  TimePoint now;
  TimePoint leader_since;
  // No unresigned member is removed earlier: a full lease of any earlier leader has passed then.
  TimePoint removals_from;
  Duration lease{0};    // that this leader grants
  Duration silence{0};  // without a heartbeat for so long a node counts as failing
  // How long two living neighbours, or the tail and its joiner, may fail to reach each other.
  Duration link_grace{0};
  // How long after a leadership's beginning a member may need to find the new leader.
  Duration introduction{0};
  // How long a first configuration waits for nodes that are silent, and a place for the node that
  // is to have it and is not ready.
  Duration settling{0};
  std::optional<JoinOrder> join;     // the order that stands
  TimePoint join_since;              // when it was given
  std::optional<NodeId> choice;      // the operator's, pending
  std::optional<DrainRequest> wish;  // an operator's, not in the record yet
};

struct Decision {
  // To be written. Its epoch is one more than the record's when the configuration changes (an
  // operator's choice may skip epochs that nodes have seen and etcd has lost); the same when only
  // `lease`, `head_complete`, `known` or `drains` change.
  std::optional<ChainRecord> next;
  std::string event;              // why, for the chain's history; "": not worth remembering
  std::optional<JoinOrder> join;  // that stands from now on
  // Why nodes are not members, for them and the status.
  struct Notice {
    NodeId node;
    std::string text;
  };
  std::vector<Notice> notices;
  // Lives that must take a new incarnation before anything can be done with their nodes.
  std::vector<std::pair<NodeId, Incarnation>> voids;
  // A member that others cannot reach, so that nothing commits: it is asked to resign.
  struct Request {
    NodeId node;
    Incarnation incarnation;
    std::string reason;
  };
  std::optional<Request> resign;
  // A member that is to leave in an orderly way, as an operator wishes. Level: while it is told, the
  // chain can do without that member.
  std::optional<Request> drain;
  bool wish_done = false;    // the record says what was wished
  std::string wish_refused;  // why it never will; "" not refused
  std::string waiting_for;   // what keeps the chain from being whole, for people; "" nothing
  // It may wait for ever: unless nodes come back as they were, an operator has to choose.
  bool needs_operator = false;
  bool choice_done = false;  // the choice is in force already
  // The next moment at which time alone may change the decision.
  std::optional<TimePoint> look_again;
};

Decision Decide(const PolicyInput& input);

// -1, 0, 1 as dotted version `a` is older than, as old as, newer than `b`. Parts that are not
// numbers count as 0.
int CompareVersions(std::string_view a, std::string_view b);

}  // namespace catena::coordinator
