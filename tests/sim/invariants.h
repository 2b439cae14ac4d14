// What must hold after every loop turn of a proxy and after every record in etcd (design.md 5),
// with what it was before.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>

#include "tests/sim/cluster.h"
#include "tests/sim/effects.h"

namespace catena::sim {

class Invariants {
 public:
  explicit Invariants(Cluster& cluster) : cluster_(cluster) {}

  // After a turn of this node's proxy.
  void AfterTurn(const NodeId& id);
  // After anything: what etcd holds may be new.
  void AfterEvent();
  const std::string& violation() const { return violation_; }
  // How much the newest history has committed, as far as anybody knows.
  uint64_t committed() const { return committed_; }
  // How often a chain of which nobody was left went on.
  uint64_t recoveries() const { return recoveries_; }
  // What everybody agrees to have been committed, by replid.
  const std::map<std::string, Stream>& streams() const { return truths_; }

 private:
  // What a node was after its previous turn.
  struct Before {
    Incarnation incarnation;
    std::string replid;
    Epoch epoch;
    Position received, committed, applied;
  };
  void CheckDeltas(const NodeId& id, const chain::Replica& replica, const Before& before);
  void CheckConfiguration(const chain::Configuration& configuration);
  void CheckCommitted(const NodeId& id, const chain::Replica& replica, Position from);
  void CheckBorder(const NodeId& id, Stream& stream);
  void CheckMembersHold(const NodeId& id, const chain::Replica& replica);
  void CheckDatabase(const NodeId& id, const chain::Replica& replica);
  void CheckDisk(const NodeId& id, const chain::Replica& replica);
  void NoteRecovery(const NodeId& heir);
  void CheckRemoved(const chain::Configuration& next);
  void CheckLeaseIsOver(const chain::Member& member, server::Node* node, Process* process);
  void Fail(const std::string& what);

  Cluster& cluster_;
  std::string violation_;
  std::map<NodeId, Before> before_;
  std::map<std::string, Stream> truths_;  // by replid
  uint64_t committed_ = 0, recoveries_ = 0;
  std::map<uint64_t, chain::Configuration> configurations_;  // by epoch
  std::optional<chain::Configuration> newest_;
  int64_t revision_ = 0;
  std::set<std::pair<NodeId, Incarnation>> removed_;
};

}  // namespace catena::sim
