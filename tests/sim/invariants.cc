#include "tests/sim/invariants.h"

#include <algorithm>

#include "proxy/resp/decoder.h"

namespace catena::sim {
namespace {

std::string Text(Position position) { return std::to_string(position.value()); }

}  // namespace

void Invariants::Fail(const std::string& what) {
  if (violation_.empty()) violation_ = what;
}

void Invariants::AfterTurn(const NodeId& id) {
  server::Node* node = cluster_.node(id);
  if (node == nullptr) return;
  const chain::Replica& replica = node->replica();
  Before& before = before_[id];
  const bool same_life =
      before.incarnation == replica.incarnation() && before.replid == replica.replid();
  // Outside of the chain a database is replaced as often as joins are tried.
  if (same_life && replica.is_member()) CheckDeltas(id, replica, before);
  const Position from = same_life ? before.committed : replica.log().start();
  if (replica.committed() > from) {
    CheckCommitted(id, replica, from);
    // A joiner takes the tail's word, who may be in an epoch that it has not heard of.
    if (replica.is_member()) CheckMembersHold(id, replica);
  }
  if (replica.epoch() != before.epoch) CheckConfiguration(replica.configuration());
  CheckDatabase(id, replica);
  before = {replica.incarnation(), replica.replid(),    replica.epoch(),
            replica.received(),    replica.committed(), replica.applied()};
}

// I2 and I5, as they are written: nothing falls.
void Invariants::CheckDeltas(const NodeId& id, const chain::Replica& replica,
                             const Before& before) {
  if (replica.epoch() < before.epoch) Fail("I5: the epoch of " + id + " falls");
  if (replica.received() < before.received && !replica.resigned())
    Fail("I2: what " + id + " has received falls from " + Text(before.received) + " to " +
         Text(replica.received()));
  if (replica.committed() < before.committed)
    Fail("I2: what " + id + " takes for committed falls from " + Text(before.committed) + " to " +
         Text(replica.committed()));
  if (replica.applied() < before.applied && !replica.head_ready())
    Fail("I2: what " + id + " has applied falls from " + Text(before.applied) + " to " +
         Text(replica.applied()));
  if (replica.committed() > replica.received() && !replica.resigned())
    Fail("I2: " + id + " takes more for committed than it has received");
}

void Invariants::CheckConfiguration(const chain::Configuration& configuration) {
  auto [found, added] = configurations_.try_emplace(configuration.epoch.value(), configuration);
  if (!added && found->second != configuration)
    Fail("I5: two configurations of epoch " + std::to_string(configuration.epoch.value()));
}

// I1 and what follows from it: whatever anybody takes for committed is the same for everybody.
void Invariants::CheckCommitted(const NodeId& id, const chain::Replica& replica, Position from) {
  auto [found, added] = truths_.try_emplace(replica.replid());
  Stream& truth = found->second;
  const chain::Log& log = replica.log();
  Position at = std::max(from, log.start());
  if (added) truth.start = at.value();
  at = std::max(at, Position(truth.start));
  committed_ = replica.committed().value();
  while (at < replica.committed()) {
    const auto slice = log.Read(at, replica.committed(), SIZE_MAX);
    if (!slice || slice->bytes.empty())
      return Fail(id + " has committed what its log does not hold, at " + Text(at));
    const uint64_t known = truth.start + truth.bytes.size();
    if (at.value() > known)
      return Fail(id + " has committed up to " + Text(replica.committed()) +
                  " while nobody had committed more than " + std::to_string(known));
    const uint64_t offset = at.value() - truth.start;
    const size_t same = std::min<size_t>(slice->bytes.size(), known - at.value());
    if (truth.bytes.compare(offset, same, slice->bytes.substr(0, same)) != 0)
      return Fail(id + " has committed other bytes than others at " + Text(at));
    truth.bytes += slice->bytes.substr(same);
    at = at + slice->bytes.size();
  }
  if (truth.committed_at.empty() || truth.committed_at.back().first < truth.bytes.size())
    truth.committed_at.emplace_back(truth.bytes.size(), cluster_.scheduler().now());
  CheckBorder(id, truth);
}

// Committed: every member of the epoch has received it, also one that has not heard of the epoch
// yet.
void Invariants::CheckMembersHold(const NodeId& id, const chain::Replica& replica) {
  for (const chain::Member& member : replica.configuration().members) {
    server::Node* node = cluster_.node(member.id);
    if (node == nullptr) continue;
    const chain::Replica& other = node->replica();
    if (other.incarnation() != member.incarnation || other.epoch() > replica.epoch()) continue;
    if (!other.serves() || other.replid() != replica.replid()) continue;
    if (other.received() < replica.committed())
      Fail("I2: " + id + " takes " + Text(replica.committed()) + " for committed, " + member.id +
           " has received " + Text(other.received()));
  }
}

// What is committed ends with an entry: no transaction is cut.
void Invariants::CheckBorder(const NodeId& id, Stream& stream) {
  while (stream.checked < stream.bytes.size()) {
    resp::CommandDecoder decoder;
    resp::Command command;
    size_t consumed = 0;
    const std::string_view rest = std::string_view(stream.bytes).substr(stream.checked);
    if (decoder.Decode(rest, command, consumed) != resp::Progress::kComplete)
      return Fail(id + " has committed a part of a command");
    stream.checked += consumed;
    if (command.arguments[0] == "MULTI") stream.in_transaction = true;
    if (command.arguments[0] == "EXEC") stream.in_transaction = false;
  }
  if (stream.in_transaction) Fail(id + " has committed a part of a transaction");
}

// I3: the database of a follower holds committed entries only.
void Invariants::CheckDatabase(const NodeId& id, const chain::Replica& replica) {
  if (cluster_.plan().database == Database::kRocksDb) return CheckDisk(id, replica);
  RedisModel* redis = cluster_.redis(id);
  if (redis == nullptr || redis->is_master() || redis->replid() != replica.replid()) return;
  if (!replica.is_member() || replica.resigned()) return;
  if (redis->offset() > replica.committed().value())
    Fail("I3: the database of " + id + " is at " + std::to_string(redis->offset()) +
         ", committed is " + Text(replica.committed()));
}

// The same of whoever's RocksDB, the head's included.
void Invariants::CheckDisk(const NodeId& id, const chain::Replica& replica) {
  const rocks::Place& place = cluster_.disk(id)->place;
  if (place.replid.empty() || place.replid != replica.replid()) return;
  if (!replica.is_member() || replica.resigned()) return;
  if (place.position > replica.committed())
    Fail("I3: the disk of " + id + " is at " + Text(place.position) + ", committed is " +
         Text(replica.committed()));
}

void Invariants::AfterEvent() {
  const int64_t revision = cluster_.etcd().revision();
  if (revision == revision_) return;
  revision_ = revision;
  const auto next = cluster_.Newest();
  if (!next || (newest_ && newest_->epoch == next->epoch && *newest_ == *next)) return;
  if (newest_) {
    if (next->epoch.value() != newest_->epoch.value() + 1)
      Fail("I5: epoch " + std::to_string(next->epoch.value()) + " follows " +
           std::to_string(newest_->epoch.value()));
    CheckRemoved(*next);
    const auto& before = newest_->members;
    if (std::none_of(before.begin(), before.end(), [&](const chain::Member& member) {
          return next->IndexOf(member.id, member.incarnation).has_value();
        }))
      NoteRecovery(next->members.front().id);
  }
  CheckConfiguration(*next);
  for (const chain::Member& member : next->members) {
    if (removed_.contains({member.id, member.incarnation}))
      Fail("S3: " + member.id + " is listed again in an incarnation that was removed");
  }
  newest_ = next;
}

// The chain goes on with what this one has.
void Invariants::NoteRecovery(const NodeId& heir) {
  ++recoveries_;
  const rocks::MemoryDisk* const disk = cluster_.disk(heir);
  if (disk == nullptr) return;
  const auto truth = truths_.find(disk->place.replid);
  if (truth != truths_.end()) truth->second.kept = disk->place.position.value();
}

// Whoever is removed must not think that it still may answer.
void Invariants::CheckRemoved(const chain::Configuration& next) {
  for (const chain::Member& member : newest_->members) {
    if (next.IndexOf(member.id, member.incarnation)) continue;
    removed_.insert({member.id, member.incarnation});
    CheckLeaseIsOver(member, cluster_.node(member.id), cluster_.proxy_process(member.id));
    for (const auto& [id, twin] : cluster_.twins()) {
      if (id == member.id) CheckLeaseIsOver(member, twin.node.get(), twin.process.get());
    }
  }
}

void Invariants::CheckLeaseIsOver(const chain::Member& member, server::Node* node,
                                  Process* process) {
  if (node == nullptr) return;
  const chain::Replica& replica = node->replica();
  if (replica.incarnation() == member.incarnation && replica.serves() &&
      replica.lease().ValidAt(process->Now()))
    Fail("I6: " + member.id + " is removed while its lease is valid");
}

}  // namespace catena::sim
