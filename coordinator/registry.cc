#include "coordinator/registry.h"

#include <algorithm>
#include <utility>

#include "proxy/base/mutant.h"

namespace catena::coordinator {

Registry::Registry(Options options, const std::optional<ChainRecord>& record, TimePoint now)
    : options_(std::move(options)), record_(record), leader_since_(now) {
  // S17: a lease that an earlier leader granted under a longer setting may still be out.
  const Duration longest = record ? std::max(options_.lease, record->lease) : options_.lease;
  removals_from_ = CATENA_MUTANT("new-leader-removes-at-once") ? now : now + longest;
  if (!record) return;
  LearnOver();
  for (const chain::Member& member : record->configuration.members) {
    AddListed(member, now, removals_from_);
  }
}

// What was removed under another leader is over, too.
void Registry::LearnOver() {
  if (CATENA_MUTANT("removed-listed-again")) return;
  for (const KnownNode& former : record_->known) {
    if (!IsKnownNode(former.node) || IsListed(former.node, former.incarnation)) continue;
    Known& known = known_[former.node];
    known.over = std::max(known.over, former.incarnation);
  }
}

void Registry::Change(Options options, TimePoint now) {
  if (options.lease < options_.lease) {
    removals_from_ = std::max(removals_from_, now + options_.lease);
  }
  options_ = std::move(options);
  std::erase_if(known_, [this](const auto& item) { return !IsKnownNode(item.first); });
  if (record_) LearnOver();  // of nodes that are back in the TOML
}

Registry::Verdict Registry::OnHeartbeat(const NodeReport& report, uint64_t connection, bool leading,
                                        TimePoint now) {
  Verdict verdict;
  if (!IsKnownNode(report.node)) {
    verdict.unknown_node = true;
    return verdict;
  }
  if (report.epoch > newest_.epoch) newest_ = {report.node, report.epoch};
  Known& known = known_[report.node];
  const bool over = IsOver(known, report) && !CATENA_MUTANT("removed-listed-again");
  if (over && !IsListed(report.node, report.incarnation)) {
    known.over = std::max(known.over, report.incarnation);
  }
  const Incarnation newest = known.lives.empty() ? Incarnation() : known.lives.rbegin()->first;
  const bool keep = !over || known.lives.contains(report.incarnation);
  if (keep) {
    Life& life = known.lives[report.incarnation];
    known.connections[report.incarnation] = connection;
    Keep(life, report, now);
    if (over) life.is_void = true;
    Supersede(known, report.incarnation, now);
    if (leading && !over && MayHoldLease(life)) {
      verdict.lease = LeaseToGrant();
      life.lease_out = std::max(life.lease_out, now + verdict.lease);
    }
    verdict.incarnation_void = life.is_void && !CATENA_MUTANT("removed-listed-again");
  }
  if (over) verdict.incarnation_void = true;
  if (verdict.incarnation_void) {
    verdict.incarnation_above = std::max({newest, known.over, report.incarnation});
  }
  Prune(report.node, known);
  return verdict;
}

// A report of an incarnation that can never act again: a newer one of the node exists, or it is
// known to have been removed, or it believes to be a member and the configuration does not list it
// (what a new leader did not see removed).
bool Registry::IsOver(const Known& known, const NodeReport& report) const {
  if (!known.lives.empty() && report.incarnation < known.lives.rbegin()->first) return true;
  if (report.incarnation <= known.over) return true;
  return record_ && report.phase == ReportPhase::kMember &&
         !IsListed(report.node, report.incarnation) && report.epoch.value() > 0 &&
         report.epoch <= record_->configuration.epoch;
}

namespace {

// A link that is missing in a new epoch has been missing since that began.
void FollowLinks(Life& life, const NodeReport& report, TimePoint now) {
  const bool same_epoch = life.report && life.report->epoch == report.epoch;
  auto follow = [&](std::optional<TimePoint>& lost, bool linked) {
    if (linked) {
      lost.reset();
    } else if (!lost || !same_epoch) {
      lost = now;
    }
  };
  follow(life.predecessor_lost, report.predecessor_linked);
  follow(life.successor_lost, report.successor_linked);
}

void FollowReadiness(Life& life, const NodeReport& report, TimePoint now) {
  const bool joins =
      report.phase == ReportPhase::kCandidate || report.phase == ReportPhase::kJoining;
  if (report.phase == ReportPhase::kMember || (joins && report.backend.healthy)) {
    life.unready_since.reset();
  } else if (!life.unready_since) {
    life.unready_since = now;
  }
}

}  // namespace

void Registry::Keep(Life& life, const NodeReport& report, TimePoint now) {
  FollowLinks(life, report, now);
  FollowReadiness(life, report, now);
  const bool superseded_or_resigned = life.resigned || life.is_void;
  life.node = report.node;
  life.incarnation = report.incarnation;
  life.report = report;
  life.heard = now;
  life.connected = true;
  if (report.phase == ReportPhase::kResigning && !life.resigned) {
    life.resigned = true;
    // The moment after which others prove that they are alive: this one, not an earlier broken
    // connection's.
    life.failed_since = now;
  } else if (!superseded_or_resigned) {
    life.failed_since.reset();
  }
}

// S14: a newer incarnation shows that the older ones fail; it says nothing about their leases.
void Registry::Supersede(Known& known, Incarnation by, TimePoint now) {
  for (auto& [incarnation, life] : known.lives) {
    if (incarnation >= known.lives.rbegin()->first || incarnation > by) continue;
    if (!life.failed_since) life.failed_since = now;
    life.is_void = true;
  }
}

bool Registry::MayHoldLease(const Life& life) const {
  if (!record_ || life.resigned || life.is_void) return false;
  const chain::Configuration& current = record_->configuration;
  const auto index = current.IndexOf(life.node, life.incarnation);
  if (!index) return false;
  if (std::find(withheld_.begin(), withheld_.end(), LifeName(life.node, life.incarnation)) !=
      withheld_.end()) {
    return false;
  }
  const NodeReport& report = *life.report;
  // Etcd has lost what was seen there: the chain may have gone on without this member.
  if (newest_.epoch > current.epoch) return false;
  // An unsynced member serves nothing and needs none; a lease would only delay its replacement.
  const bool acts = report.phase == ReportPhase::kMember && report.epoch == current.epoch;
  if (acts && !report.synced) return false;
  const std::string& listed_run = current.members[*index].backend_run_id;
  return report.backend.run_id.empty() || listed_run.empty() || report.backend.run_id == listed_run;
}

// No more than a later leader waits for, whichever of two records that finds.
Duration Registry::LeaseToGrant() const {
  Duration lease = options_.lease;
  if (record_->lease != Duration(0)) lease = std::min(lease, record_->lease);
  return lease_max_ ? std::min(lease, *lease_max_) : lease;
}

void Registry::OnDisconnected(const NodeId& node, Incarnation incarnation, uint64_t connection,
                              TimePoint now) {
  const auto known = known_.find(node);
  if (known == known_.end()) return;
  const auto life = known->second.lives.find(incarnation);
  if (life == known->second.lives.end()) return;
  if (known->second.connections[incarnation] != connection) return;
  life->second.connected = false;
  if (!life->second.failed_since) life->second.failed_since = now;
}

bool Registry::WasDeaf(const NodeReport& report, Duration silence, TimePoint now) const {
  if (!IsListed(report.node, report.incarnation)) return false;
  bool heard_ever = false;
  for (const auto& [node, known] : known_) {
    for (const auto& [incarnation, life] : known.lives) {
      if (!life.report || !IsListed(node, incarnation)) continue;
      if (now - life.heard <= silence) return false;
      heard_ever = true;
    }
  }
  return heard_ever;
}

// Members are as a new leader finds them. Leases that were granted stay as they are, and so does
// what is final: resigned, or over.
void Registry::ForgetWhoWasHeard(TimePoint now) {
  for (auto& [node, known] : known_) {
    known.connections.clear();
    for (auto& [incarnation, life] : known.lives) {
      life.connected = false;
      if (life.resigned || life.is_void) continue;
      life.heard = now;
      if (!IsListed(node, incarnation)) continue;
      life.report.reset();
      life.failed_since.reset();
    }
  }
}

void Registry::SetRecord(const ChainRecord& record, TimePoint now) {
  for (const LifeName& removed : RemovedBy(record.configuration)) {
    Known& known = known_[removed.first];
    known.over = std::max(known.over, removed.second);
    const auto life = known.lives.find(removed.second);
    if (life != known.lives.end()) life->second.is_void = true;
  }
  const Duration longest = std::max(options_.lease, record.lease);
  record_ = record;
  LearnOver();
  for (const chain::Member& member : record.configuration.members) {
    if (!Find(member.id, member.incarnation)) AddListed(member, now, now + longest);
  }
  for (auto& [node, known] : known_) Prune(node, known);
}

void Registry::Withhold(std::vector<LifeName> lives, std::optional<Duration> lease_max) {
  withheld_ = std::move(lives);
  lease_max_ = lease_max;
}

std::vector<Registry::LifeName> Registry::RemovedBy(const chain::Configuration& next) const {
  std::vector<LifeName> removed;
  if (!record_) return removed;
  for (const chain::Member& member : record_->configuration.members) {
    if (!next.IndexOf(member.id, member.incarnation)) {
      removed.emplace_back(member.id, member.incarnation);
    }
  }
  return removed;
}

void Registry::MarkVoid(const LifeName& name) {
  const auto known = known_.find(name.first);
  if (known == known_.end()) return;
  const auto life = known->second.lives.find(name.second);
  if (life == known->second.lives.end()) return;
  life->second.is_void = true;
}

std::vector<Life> Registry::Lives() const {
  std::vector<Life> lives;
  for (const auto& [node, known] : known_) {
    for (const auto& [incarnation, life] : known.lives) lives.push_back(life);
  }
  return lives;
}

const Life* Registry::Find(const NodeId& node, Incarnation incarnation) const {
  const auto known = known_.find(node);
  if (known == known_.end()) return nullptr;
  const auto life = known->second.lives.find(incarnation);
  return life == known->second.lives.end() ? nullptr : &life->second;
}

const Life* Registry::Latest(const NodeId& node) const {
  const auto known = known_.find(node);
  if (known == known_.end() || known->second.lives.empty()) return nullptr;
  return &known->second.lives.rbegin()->second;
}

bool Registry::IsListed(const NodeId& node, Incarnation incarnation) const {
  return record_ && record_->configuration.IndexOf(node, incarnation).has_value();
}

bool Registry::IsKnownNode(const NodeId& node) const {
  if (std::find(options_.nodes.begin(), options_.nodes.end(), node) != options_.nodes.end()) {
    return true;
  }
  return record_ &&
         std::any_of(record_->configuration.members.begin(), record_->configuration.members.end(),
                     [&](const chain::Member& member) { return member.id == node; });
}

void Registry::AddListed(const chain::Member& member, TimePoint heard, TimePoint lease_out) {
  Life life;
  life.node = member.id;
  life.incarnation = member.incarnation;
  life.heard = heard;
  life.lease_out = lease_out;
  known_[member.id].lives[member.incarnation] = std::move(life);
}

// Keeps memory bounded: a node that starts again and again leaves nothing behind.
void Registry::Prune(const NodeId& node, Known& known) {
  for (auto life = known.lives.begin(); life != known.lives.end();) {
    const bool newest = life->first == known.lives.rbegin()->first;
    if (newest || IsListed(node, life->first)) {
      ++life;
      continue;
    }
    known.over = std::max(known.over, life->first);
    known.connections.erase(life->first);
    life = known.lives.erase(life);
  }
}

}  // namespace catena::coordinator
