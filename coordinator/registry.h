// What a leading coordinator remembers of the nodes of one chain: the lives it has heard of, the
// leases it has granted, the incarnations that are over. Pure bookkeeping: the caller passes the
// time, read after the heartbeat's bytes were read (S17).
//
// The lease timing argument is in README.md; in short: a lease is granted only to a listed
// incarnation that is not being removed, and is taken to be out for the whole of its length from
// the moment of the answer, which is later than the heartbeat's sending, from which the proxy
// counts.
#pragma once

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "coordinator/policy.h"
#include "coordinator/records.h"
#include "proxy/base/clock.h"
#include "proxy/base/ids.h"

namespace catena::coordinator {

class Registry {
 public:
  // (id, incarnation)
  using LifeName = std::pair<NodeId, Incarnation>;

  struct Options {
    Duration lease{0};
    std::vector<NodeId> nodes;  // of the TOML; others are heard only while they are listed
  };

  // Leadership begins now; `record` is the chain's newest, nullopt: none.
  Registry(Options options, const std::optional<ChainRecord>& record, TimePoint now);

  // Other options from now on. Leases that were granted under a longer setting stay out, here and in
  // the record, until they have run out (S17).
  void Change(Options options, TimePoint now);

  struct Verdict {
    Duration lease{0};  // granted
    bool incarnation_void = false;
    Incarnation incarnation_above;
    bool unknown_node = false;  // neither in the TOML nor listed; nothing was kept of the report
  };
  // `leading`: the coordinator trusts its leadership at `now`. `connection`: a number for the
  // connection it came by, never reused; the newest connection of a life is the one whose end
  // counts.
  Verdict OnHeartbeat(const NodeReport& report, uint64_t connection, bool leading, TimePoint now);
  void OnDisconnected(const NodeId& node, Incarnation incarnation, uint64_t connection,
                      TimePoint now);

  // `report` is of a member, and for longer than `silence` none was heard of those that ever were:
  // this coordinator stood still, or was cut off from all of them.
  bool WasDeaf(const NodeReport& report, Duration silence, TimePoint now) const;
  // Nobody could be heard until now; as under a new leader, that says nothing against anybody.
  void ForgetWhoWasHeard(TimePoint now);

  // `record` is in force (written, or found in etcd). Incarnations that it no longer lists are
  // over.
  void SetRecord(const ChainRecord& record, TimePoint now);
  // From now until the next call these are granted nothing: they are being removed (S16). And
  // nobody is granted more than `lease_max`: what the record is about to say (S17).
  void Withhold(std::vector<LifeName> lives, std::optional<Duration> lease_max = std::nullopt);
  // Members that the configuration `next` no longer lists.
  std::vector<LifeName> RemovedBy(const chain::Configuration& next) const;
  // The policy wants this life to take a new incarnation (repeated with each of its heartbeats).
  void MarkVoid(const LifeName& life);

  // All lives that matter: the listed ones and the newest of each node, in order of id.
  std::vector<Life> Lives() const;
  const Life* Find(const NodeId& node, Incarnation incarnation) const;
  const Life* Latest(const NodeId& node) const;
  // The newest configuration that any node has told of. Etcd may have lost it, and who told may have
  // begun anew since.
  const EpochSeen& newest() const { return newest_; }
  TimePoint leader_since() const { return leader_since_; }
  // A full lease of every earlier leader has run out then.
  TimePoint removals_from() const { return removals_from_; }

 private:
  struct Known {
    std::map<Incarnation, Life> lives;  // the listed one and the newest
    std::map<Incarnation, uint64_t> connections;
    Incarnation over;  // this one and all below are over for good
  };

  bool IsListed(const NodeId& node, Incarnation incarnation) const;
  bool IsKnownNode(const NodeId& node) const;
  bool IsOver(const Known& known, const NodeReport& report) const;
  bool MayHoldLease(const Life& life) const;
  Duration LeaseToGrant() const;
  void LearnOver();
  void Keep(Life& life, const NodeReport& report, TimePoint now);
  void Supersede(Known& known, Incarnation by, TimePoint now);
  void AddListed(const chain::Member& member, TimePoint heard, TimePoint lease_out);
  void Prune(const NodeId& node, Known& known);

  Options options_;
  std::optional<ChainRecord> record_;
  TimePoint leader_since_;
  TimePoint removals_from_;
  EpochSeen newest_;
  std::map<NodeId, Known> known_;
  std::vector<LifeName> withheld_;
  std::optional<Duration> lease_max_;
};

}  // namespace catena::coordinator
