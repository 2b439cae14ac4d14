#include "coordinator/policy.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "proxy/base/mutant.h"

namespace catena::coordinator {
namespace {

using chain::Configuration;
using chain::Member;

std::string Quote(std::string_view id) { return "'" + std::string(id) + "'"; }

// One decision in the making. The methods read like the rules of design.md 6; each says which
// schedule it closes.
class Deciding {
 public:
  explicit Deciding(const PolicyInput& input) : in_(input) { awaited_ = Awaited(); }

  Decision Run() {
    if (in_.choice) {
      FollowChoice(*in_.choice);
    } else if (!in_.record) {
      ConsiderFirst();
    } else if (!EtcdIsBehind()) {
      KeepStandingOrder();
      if (!Remove() && !Recover()) {
        Part();
        if (!Leave()) Join();
      }
    }
    if (!out_.next && in_.wish) FollowWish(*in_.wish);
    if (!out_.next) KeepRecordTrue();
    NoteOutsiders();
    return std::move(out_);
  }

 private:
  // --- what is known of nodes -------------------------------------------------------------------

  const Configuration& current() const { return in_.record->configuration; }

  const Life* Find(std::string_view node, Incarnation incarnation) const {
    for (const Life& life : in_.lives) {
      if (life.node == node && life.incarnation == incarnation) return &life;
    }
    return nullptr;
  }
  // The newest incarnation of a node, if this leader heard of any.
  const Life* Latest(std::string_view node) const {
    const Life* latest = nullptr;
    for (const Life& life : in_.lives) {
      if (life.node == node && (!latest || life.incarnation > latest->incarnation)) latest = &life;
    }
    return latest;
  }
  bool IsListed(std::string_view node) const {
    return in_.record && std::any_of(current().members.begin(), current().members.end(),
                                     [&](const Member& member) { return member.id == node; });
  }

  // Notes that a rule changes at `when`, and says whether it has.
  bool Passed(TimePoint when) {
    if (when <= in_.now) return true;
    if (!out_.look_again || when < *out_.look_again) out_.look_again = when;
    return false;
  }

  // When a life began to look failed; nullopt: it does not. The database of a member that became
  // another process is another history (I7), even if its proxy has not noticed yet.
  std::optional<TimePoint> FailingSince(const Life& life, const Member* listed = nullptr) {
    std::optional<TimePoint> since = life.failed_since;
    if (life.resigned && !since) since = life.heard;
    auto earliest = [&since](TimePoint when) { since = since ? std::min(*since, when) : when; };
    const TimePoint silent = life.heard + (life.report ? in_.silence : in_.introduction);
    if (Passed(silent)) earliest(silent);
    if (listed != nullptr && RunsOtherDatabase(life, *listed)) earliest(life.heard);
    return since;
  }
  static bool RunsOtherDatabase(const Life& life, const Member& listed) {
    return life.report && !life.report->backend.run_id.empty() && !listed.backend_run_id.empty() &&
           life.report->backend.run_id != listed.backend_run_id;
  }
  bool IsAlive(const Life& life, const Member* listed = nullptr) {
    return life.report.has_value() && life.connected && !FailingSince(life, listed);
  }
  // No lease of this life can be valid any more (S14: whatever else was heard of its node).
  bool LeaseIsOver(const Life& life) {
    if (life.resigned || CATENA_MUTANT("removed-in-lease")) return true;
    if (CATENA_MUTANT("restart-ends-lease") && Latest(life.node)->incarnation > life.incarnation)
      return true;
    const bool earlier_leaders = Passed(in_.removals_from);
    return Passed(life.lease_out) && earlier_leaders;
  }

  bool ActsNow(const Life& life) const {
    return life.report && life.report->phase == ReportPhase::kMember &&
           life.report->epoch == current().epoch;
  }
  // A member in good standing: what S1 and S13 ask of the one that stays.
  bool IsSyncedMember(const Member& member) {
    const Life* life = Find(member.id, member.incarnation);
    return life != nullptr && IsAlive(*life, &member) && ActsNow(*life) &&
           (life->report->synced || CATENA_MUTANT("unsynced-stays"));
  }
  bool IsUnsyncedMember(const Life& life) const { return ActsNow(life) && !life.report->synced; }

  static bool IsCandidatePhase(ReportPhase phase) {
    return phase == ReportPhase::kCandidate || phase == ReportPhase::kJoining;
  }
  // Could be listed as a new incarnation with the database that it has.
  bool IsCandidate(const Life& life) {
    const bool ended = life.is_void && !CATENA_MUTANT("removed-listed-again");
    return IsAlive(life) && !ended && !life.resigned && IsCandidatePhase(life.report->phase) &&
           life.report->backend.healthy;
  }

  // --- making records ---------------------------------------------------------------------------

  static Member AsMember(const NodeReport& report) {
    return {report.node, report.incarnation, report.clients, report.peers, report.backend.run_id};
  }

  void Propose(Epoch epoch, std::vector<Member> members, bool head_complete, std::string reason) {
    ChainRecord next;
    next.configuration.chain = in_.facts.chain;
    next.configuration.epoch = epoch;
    next.known = KnownWith(members);
    next.configuration.members = std::move(members);
    out_.event = reason;
    next.reason = std::move(reason);
    next.lease = LeaseToRecord();
    next.head_complete = head_complete;
    if (in_.record) next.drains = in_.record->drains;
    out_.next = std::move(next);
  }

  // The record's, and those that these members have now.
  std::vector<KnownNode> KnownWith(const std::vector<Member>& members) const {
    std::vector<KnownNode> known;
    if (in_.record) known = in_.record->known;
    for (const Member& member : members) {
      auto place = std::find_if(known.begin(), known.end(),
                                [&](const KnownNode& node) { return node.node >= member.id; });
      if (place == known.end() || place->node != member.id)
        place = known.insert(place, {member.id, ""});
      place->incarnation = std::max(place->incarnation, member.incarnation);
      const Life* life = Find(member.id, member.incarnation);
      if (life == nullptr || !life->report || life->report->backend.address.empty()) continue;
      place->address = life->report->backend.address;
    }
    return known;
  }
  bool IsKnown(const NodeReport& report) const {
    const auto& known = in_.record->known;
    return !report.backend.address.empty() &&
           std::any_of(known.begin(), known.end(), [&](const KnownNode& node) {
             return node.node == report.node && node.address == report.backend.address;
           });
  }

  // S17: while leases of an earlier, longer setting may be out, the record says so.
  Duration LeaseToRecord() {
    if (!in_.record || Passed(in_.removals_from)) return in_.lease;
    return std::max(in_.lease, in_.record->lease);
  }

  // The highest epoch that any node has seen: etcd may have lost it.
  EpochSeen NewestSeen() const {
    EpochSeen newest = in_.newest;
    for (const Life& life : in_.lives) {
      if (life.report && life.report->epoch > newest.epoch)
        newest = {life.node, life.report->epoch};
    }
    return newest;
  }
  Epoch NewestEpoch() const {
    return std::max(in_.record ? current().epoch : Epoch(0), NewestSeen().epoch);
  }

  // --- the rules --------------------------------------------------------------------------------

  // A restored backup of etcd must not lead the chain back into its past (I5).
  bool EtcdIsBehind() {
    const EpochSeen newest = NewestSeen();
    if (newest.epoch <= current().epoch) return false;
    out_.needs_operator = true;
    out_.waiting_for = "etcd has epoch " + std::to_string(current().epoch.value()) +
                       " of the chain, but node " + Quote(newest.node) + " has seen epoch " +
                       std::to_string(newest.epoch.value()) +
                       ": etcd was restored from an older state? use catenactl choose " +
                       in_.facts.chain + " NODE";
    return true;
  }

  // What shows that there was a chain already; "" nothing does.
  std::string SignOfChain() const {
    const EpochSeen newest = NewestSeen();
    if (newest.epoch > Epoch(0)) {
      return "node " + Quote(newest.node) + " has seen epoch " +
             std::to_string(newest.epoch.value());
    }
    for (const Life& life : in_.lives) {
      if (life.report && (life.report->backend.from_chain || life.report->keeps_log)) {
        return "node " + Quote(life.node) + " holds a chain's data";
      }
    }
    return "";
  }

  void ConsiderFirst() {
    if (const std::string sign = SignOfChain(); !sign.empty()) {
      out_.needs_operator = true;
      out_.waiting_for = "etcd has no configuration, but " + sign +
                         ": etcd was lost? use catenactl choose " + in_.facts.chain + " NODE";
      return;
    }
    // Whoever has not reported may hold a chain's data: all, or a while.
    bool all_reported = true;
    for (const ChainFacts::Node& node : in_.facts.nodes) {
      const Life* life = Latest(node.id);
      all_reported =
          all_reported && life && IsAlive(*life) && life->report->phase != ReportPhase::kStarting;
    }
    if (!all_reported && !Passed(in_.leader_since + in_.settling)) {
      out_.waiting_for = "the first reports of the chain's nodes";
      return;
    }
    for (const ChainFacts::Node& node : in_.facts.nodes) {
      const Life* life = Latest(node.id);
      if (life == nullptr) continue;
      if (!IsAlive(*life)) {
        if (Passed(life->heard + in_.introduction)) continue;
        // A connection that broke, or a leader that nobody could reach for a while, does not decide
        // whose data the chain begins with.
        out_.waiting_for = "node " + Quote(node.id) + " to report again";
        return;
      }
      if (!IsCandidate(*life)) {
        // The first one that is there decides whose data the chain begins with; it may still be
        // loading it.
        out_.waiting_for = "node " + Quote(node.id) +
                           ", the first in the TOML that runs, to be ready" +
                           Because(life->report->backend.problem);
        return;
      }
      Propose(Epoch(1), {AsMember(*life->report)}, /*head_complete=*/true,
              "first configuration, with the data of " + Quote(node.id));
      return;
    }
    out_.waiting_for = "any node of the chain to report";
  }

  static std::string Because(const std::string& problem) {
    return problem.empty() ? "" : " (" + problem + ")";
  }

  // Members that failed go, if a synced one that was heard after the failure stays (S1, S13).
  bool Remove() {
    std::vector<const Member*> leavable;
    std::vector<const Member*> witnesses;
    for (const Member& member : current().members) {
      if (IsRemovable(member)) {
        leavable.push_back(&member);
      } else if (IsSyncedMember(member)) {
        witnesses.push_back(&member);
      }
    }
    std::vector<Member> staying;
    std::string gone;
    for (const Member& member : current().members) {
      const bool leaves = std::find(leavable.begin(), leavable.end(), &member) != leavable.end() &&
                          HasWitness(member, witnesses);
      if (!leaves) {
        staying.push_back(member);
        continue;
      }
      gone += (gone.empty() ? "" : ", ") + Quote(member.id) + " " + WhyGone(member);
    }
    if (staying.size() == current().members.size()) return false;
    const bool complete = staying.front() == current().members.front() &&
                          in_.record->head_complete && ExecutesFirst(staying.front());
    Propose(current().epoch.Next(), std::move(staying), complete, "removed " + gone);
    return true;
  }
  // Whether a head's database is complete whatever happens to the others. A new head may still have
  // to commit and apply its log; so has one that holds only what is committed, when those go that
  // may have applied, and shown, more.
  bool ExecutesFirst(const Member& head) {
    const Life* life = Find(head.id, head.incarnation);
    return life != nullptr && life->report && !life->report->backend.committed_only;
  }

  bool IsRemovable(const Member& member) {
    const Life* life = Find(member.id, member.incarnation);
    if (life == nullptr || !FailingSince(*life, &member)) return false;
    return LeaseIsOver(*life);
  }
  bool HasWitness(const Member& gone, const std::vector<const Member*>& witnesses) {
    const TimePoint since = *FailingSince(*Find(gone.id, gone.incarnation), &gone);
    return std::any_of(witnesses.begin(), witnesses.end(), [&](const Member* witness) {
      return Find(witness->id, witness->incarnation)->heard > since || CATENA_MUTANT("old-witness");
    });
  }
  std::string WhyGone(const Member& member) const {
    const Life* life = Find(member.id, member.incarnation);
    if (life->resigned)
      return "(resigned" + (life->report ? Colon(life->report->problem) : "") + ")";
    const Life* latest = Latest(member.id);
    return latest->incarnation > member.incarnation ? "(restarted)" : "(its lease ran out)";
  }
  static std::string Colon(const std::string& text) { return text.empty() ? "" : ": " + text; }

  // Nobody who could go on is left: only a database that certainly has everything is taken without
  // asking (S12: offsets do not tell; S13). True: no join may be considered.
  bool Recover() {
    bool leases_over = true;
    for (const Member& member : current().members) {
      const Life* life = Find(member.id, member.incarnation);
      if (life == nullptr) return true;
      const bool is_head = &member == &current().members.front();
      if (IsAlive(*life, &member) && (is_head || !IsUnsyncedMember(*life))) return false;
      const bool unheard = !life->report && !FailingSince(*life, &member);
      leases_over = LeaseIsOver(*life) && !unheard && leases_over;
    }
    AskForNewIncarnations();
    const Member& head = current().members.front();
    const bool head_back = IsBack(head);
    const Life* complete = FindComplete();
    if (complete || (in_.facts.recovery == Recovery::kAutomatic && head_back && AllAreBack())) {
      if (!leases_over) {
        out_.waiting_for = "leases of the last configuration to run out";
        return true;
      }
      if (!AllCouldReport()) {
        out_.waiting_for = "the chain's other nodes to report: etcd may have lost what they know";
        return true;
      }
      const Life& heir = complete ? *complete : *Latest(head.id);
      Propose(current().epoch.Next(), {AsMember(*heir.report)}, /*head_complete=*/true,
              complete ? WhyComplete(heir)
                       : "automatic recovery: the last head " + Quote(head.id) +
                             " goes on with what its database has; writes may be lost");
      return true;
    }
    if (!leases_over && !head_back) {
      out_.waiting_for =
          "members of epoch " + std::to_string(current().epoch.value()) + " to report";
    } else {
      ExplainLoss(head, head_back);
    }
    return true;
  }

  // Under a new leader, one that went on in a later epoch may still be looking for it.
  bool AllCouldReport() {
    const bool all = std::ranges::all_of(in_.facts.nodes, [&](const ChainFacts::Node& node) {
      const Life* life = Latest(node.id);
      return life != nullptr && life->report;
    });
    return all || Passed(in_.leader_since + in_.introduction);
  }

  bool IsBack(const Member& member) {
    const Life* life = Latest(member.id);
    return life && life->incarnation > member.incarnation && IsCandidate(*life);
  }
  bool IsBackUnchanged(const Member& member) {
    return IsBack(member) && !member.backend_run_id.empty() &&
           (Latest(member.id)->report->backend.run_id == member.backend_run_id ||
            CATENA_MUTANT("any-head-recovers"));
  }

  // One whose database certainly has all that was answered; nullptr: there is none. A head that
  // executes before it commits has everything. Where nothing uncommitted is held, the head has what
  // was acknowledged, and whoever is furthest also what was only read, by then not yet in the
  // head's: each is a prefix of one history.
  const Life* FindComplete() {
    const std::vector<Member>& members = current().members;
    if (!in_.record->head_complete || !IsBackUnchanged(members.front())) return nullptr;
    const Life* furthest = Latest(members.front().id);
    if (!furthest->report->backend.committed_only) return furthest;
    const std::string& replid = furthest->report->backend.replid;
    for (const Member& member : members) {
      const Life* listed = Find(member.id, member.incarnation);
      // It has shown nothing, and does not come back as another while it lives.
      if (IsAlive(*listed, &member) && IsUnsyncedMember(*listed)) continue;
      if (!IsBackUnchanged(member)) return nullptr;
      const Life* life = Latest(member.id);
      const BackendReport& backend = life->report->backend;
      if (!backend.committed_only || backend.replid != replid) return nullptr;
      if (backend.position > furthest->report->backend.position) furthest = life;
    }
    return furthest;
  }
  std::string WhyComplete(const Life& heir) const {
    if (heir.node == current().members.front().id)
      return "the last head " + Quote(heir.node) + " is back, its database unchanged";
    return "all are back, their databases unchanged; that of " + Quote(heir.node) +
           " is the furthest";
  }

  // A member that resigned and whose database is fit again cannot return as what it was; nobody
  // can remove it either when no other member is left.
  void AskForNewIncarnations() {
    for (const Member& member : current().members) {
      const Life* life = Find(member.id, member.incarnation);
      const bool over = life->resigned || (RunsOtherDatabase(*life, member) && LeaseIsOver(*life));
      if (over && life->report && life->connected && life->report->backend.healthy) {
        out_.voids.emplace_back(life->node, life->incarnation);
      }
    }
  }

  bool AllAreBack() {
    return std::all_of(current().members.begin(), current().members.end(), [&](const Member& m) {
      const Life* life = Latest(m.id);
      if (!life) return false;
      if (life->incarnation > m.incarnation) return IsCandidate(*life);
      return IsAlive(*life, &m) && IsUnsyncedMember(*life);  // has nothing to wait for
    });
  }

  void ExplainLoss(const Member& head, bool head_back) {
    const std::string epoch = std::to_string(current().epoch.value());
    out_.needs_operator = true;
    if (!head_back) {
      out_.waiting_for = "no member of epoch " + epoch + " goes on; waiting for its head " +
                         Quote(head.id) + ", or use catenactl choose " + in_.facts.chain + " NODE";
      return;
    }
    if (in_.record->head_complete && IsBackUnchanged(head)) {
      out_.waiting_for = "the head of epoch " + epoch + ", " + Quote(head.id) +
                         ", is back with all that was acknowledged; waiting for the other members "
                         "and their unchanged databases, where newer data may have been read, or "
                         "use catenactl choose " +
                         in_.facts.chain + " " + head.id;
      return;
    }
    const bool automatic = in_.facts.recovery == Recovery::kAutomatic;
    out_.waiting_for = "no member of epoch " + epoch + " is left that certainly has everything (" +
                       Quote(head.id) + " is back, but " +
                       (in_.record->head_complete ? "its database was restarted"
                                                  : "it had not taken over as head yet") +
                       "); " +
                       (automatic ? "waiting for all its nodes to be back, or use"
                                  : "an operator must decide with") +
                       " catenactl choose " + in_.facts.chain + " NODE";
  }

  // Two neighbours that both live and cannot reach each other stop all commits, and no lease will
  // run out over it. The one at the cut whose side is the smaller goes: it is the more likely one
  // to be cut off from everybody, and what is left can go on.
  void Part() {
    const std::vector<Member>& members = current().members;
    size_t synced = 0;
    for (const Member& member : members) {
      const Life* life = Find(member.id, member.incarnation);
      if (!life || !IsAlive(*life, &member) || !ActsNow(*life))
        return;  // first let that be settled
      if (life->report->synced) ++synced;
    }
    std::optional<size_t> leaver;
    for (size_t i = 0; i + 1 < members.size(); ++i) {
      if (!IsCut(members[i], members[i + 1])) continue;
      // A member between two cuts is the one that is cut off. The cuts are not noticed at the same
      // time: of the other one it is enough that it has been noticed.
      const bool next_too = i + 2 < members.size() && IsLinkLost(members[i + 1], members[i + 2]);
      const bool previous_too = i > 0 && IsLinkLost(members[i - 1], members[i]);
      const bool left_is_smaller = i + 1 < members.size() - (i + 1);
      leaver = (left_is_smaller || previous_too) && !next_too ? i : i + 1;
      break;
    }
    if (!leaver) return;
    const Member& member = members[*leaver];
    const bool counts = Find(member.id, member.incarnation)->report->synced;
    if (synced - (counts ? 1 : 0) == 0) return;  // S1
    out_.resign = Decision::Request{member.id, member.incarnation,
                                    "its neighbours in the chain and it cannot reach each other"};
  }

  bool IsLinkLost(const Member& predecessor, const Member& successor) const {
    return Find(predecessor.id, predecessor.incarnation)->successor_lost.has_value() ||
           Find(successor.id, successor.incarnation)->predecessor_lost.has_value();
  }

  bool IsCut(const Member& predecessor, const Member& successor) {
    const Life* above = Find(predecessor.id, predecessor.incarnation);
    const Life* below = Find(successor.id, successor.incarnation);
    bool cut = false;
    for (const auto& lost : {above->successor_lost, below->predecessor_lost}) {
      cut = (lost && Passed(*lost + in_.link_grace)) || cut;
    }
    return cut;
  }

  // --- what an operator wishes ------------------------------------------------------------------

  const Drain* DrainOf(std::string_view node) const {
    if (!in_.record) return nullptr;
    for (const Drain& drain : in_.record->drains) {
      if (drain.node == node) return &drain;
    }
    return nullptr;
  }
  // Stays out until the operator says otherwise.
  bool IsKeptOut(std::string_view node) const {
    const Drain* drain = DrainOf(node);
    return drain != nullptr && !drain->returns;
  }

  // The node that a wish brings in next: one that takes another's place, or comes back.
  std::optional<NodeId> Awaited() const {
    if (!in_.record) return std::nullopt;
    for (const Drain& drain : in_.record->drains) {
      if (drain.returns && !IsListed(drain.node)) return drain.node;
      const bool replaced = !drain.after.empty() && IsListed(drain.node);
      if (replaced && !IsListed(drain.after) && !IsKeptOut(drain.after)) return drain.after;
    }
    return std::nullopt;
  }
  // A replacement comes before that which it replaces leaves.
  size_t MembersMax() const {
    const bool replaces = awaited_ && DrainOf(*awaited_) == nullptr;
    return in_.facts.replicas + (replaces ? 1 : 0);
  }
  // The place that it is to have is kept for it while it is there to come, or about to be.
  bool IsKeptForAnother(const NodeId& node) {
    if (!awaited_ || *awaited_ == node) return false;
    if (current().members.size() >= in_.facts.replicas) return true;
    const Life* life = Latest(*awaited_);
    if (life == nullptr || !IsAlive(*life)) return false;
    if (life->unready_since) return !Passed(*life->unready_since + in_.settling);
    return !IsCandidate(*life) || Objection(*life).empty();
  }

  size_t SyncedBeside(std::string_view node) {
    size_t count = 0;
    for (const Member& member : current().members) {
      const bool stays = member.id != node && DrainOf(member.id) == nullptr;
      if (stays && IsSyncedMember(member)) ++count;
    }
    return count;
  }

  // One at a time, and only while all others are synced: whatever fails then, one that has
  // everything stays (S1). It is a resignation like any other once the member has made it.
  bool Leave() {
    if (out_.resign) return false;
    for (const Drain& drain : in_.record->drains) {
      if (MayLeave(drain)) return true;
    }
    for (const Member& member : current().members) {
      if (FactsOf(member.id) == nullptr && MayLeave(Drain{member.id, false, ""})) return true;
    }
    return false;
  }
  bool MayLeave(const Drain& drain) {
    const Member* leaver = nullptr;
    size_t synced = 0;
    bool replaced = drain.after.empty();
    for (const Member& member : current().members) {
      if (member.id == drain.node) {
        leaver = &member;
        continue;
      }
      if (!IsSyncedMember(member)) return false;
      ++synced;
      replaced = replaced || member.id == drain.after;
    }
    if (leaver == nullptr || synced == 0 || !replaced) return false;
    if (!IsSyncedMember(*leaver)) return false;
    out_.drain = Decision::Request{leaver->id, leaver->incarnation, WhyLeaving(drain)};
    return true;
  }
  std::string WhyLeaving(const Drain& drain) const {
    if (FactsOf(drain.node) == nullptr) return "the coordinator's TOML has it no longer";
    if (drain.returns) return "an operator moves it to the tail";
    if (!drain.after.empty()) return "an operator replaces it by " + Quote(drain.after);
    return "an operator drains it";
  }

  void FollowWish(const DrainRequest& wish) {
    if (!in_.record) {
      out_.wish_refused = "the chain has no configuration yet";
      return;
    }
    ChainRecord next = *in_.record;
    std::erase_if(next.drains, [&](const Drain& drain) { return drain.node == wish.drain.node; });
    if (!wish.end) {
      if (const Drain* before = DrainOf(wish.drain.node); before && *before == wish.drain) {
        out_.wish_done = true;
        return;
      }
      out_.wish_refused = RefusalOf(wish);
      if (!out_.wish_refused.empty()) return;
      next.drains.push_back(wish.drain);
    }
    if (next.drains == in_.record->drains) {
      out_.wish_done = true;
      return;
    }
    out_.event = wish.end ? "an operator lets " + Quote(wish.drain.node) + " be a member again"
                          : Quote(wish.drain.node) + " is to leave: " + WhyLeaving(wish.drain);
    out_.next = std::move(next);
  }

  std::string RefusalOf(const DrainRequest& wish) {
    const Drain& drain = wish.drain;
    const bool listed = IsListed(drain.node);
    if (!listed && FactsOf(drain.node) == nullptr)
      return "chain " + Quote(in_.facts.chain) + " has no node " + Quote(drain.node);
    const bool planned = drain.returns || !drain.after.empty();
    if (!listed) return planned ? Quote(drain.node) + " is no member of the chain" : "";
    if (planned) {
      if (std::string refusal = RefusalOfPlan(drain); !refusal.empty()) return refusal;
    }
    const size_t staying = SyncedBeside(drain.node);
    if (staying == 0) return "no synced member would stay beside " + Quote(drain.node);
    if (staying == 1 && !planned && !wish.force) {
      return "only one synced member would stay beside " + Quote(drain.node) +
             ", and its loss would be the chain's; --force drains it all the same";
    }
    return "";
  }
  std::string RefusalOfPlan(const Drain& drain) {
    for (const Drain& other : in_.record->drains) {
      const bool under_way = other.returns || (!other.after.empty() && IsListed(other.node));
      if (other.node != drain.node && under_way) {
        return "another change is under way: " + Quote(other.node) + ": " + WhyLeaving(other) +
               "; wait for it, or end it with catenactl undrain " + other.node;
      }
    }
    if (drain.after.empty()) return "";
    if (IsListed(drain.after)) return Quote(drain.after) + " is a member already";
    if (FactsOf(drain.after) == nullptr)
      return "chain " + Quote(in_.facts.chain) + " has no node " + Quote(drain.after);
    if (IsKeptOut(drain.after))
      return Quote(drain.after) + " is drained; catenactl undrain " + drain.after + " ends that";
    const Life* life = Latest(drain.after);
    if (life == nullptr || !IsAlive(*life)) return Quote(drain.after) + " does not run";
    const std::string objection = Objection(*life);
    return objection.empty() ? "" : Quote(drain.after) + " cannot join: " + objection;
  }

  // A wish is over when its node is gone from the TOML, or its place went to another.
  std::vector<Drain> DrainsStillWished() const {
    std::vector<Drain> drains = in_.record->drains;
    std::erase_if(drains, [&](const Drain& drain) {
      if (IsListed(drain.node)) return false;
      const bool complete = current().members.size() >= in_.facts.replicas;
      return FactsOf(drain.node) == nullptr || (drain.returns && complete);
    });
    return drains;
  }

  // One join at a time, behind a chain that is synced to its tail (S2).
  void Join() {
    if (current().members.size() >= MembersMax()) return;
    bool all_synced = true;
    for (const Member& member : current().members) {
      all_synced = IsSyncedMember(member) && all_synced;
    }
    const Life* joiner = OfferedJoiner();
    const bool offered = joiner != nullptr;
    if (!joiner && !out_.join && all_synced) joiner = NextJoiner();
    if (!joiner) return;
    if (offered && all_synced) {
      out_.join.reset();
      std::vector<Member> members = current().members;
      members.push_back(AsMember(*joiner->report));
      Propose(current().epoch.Next(), std::move(members), in_.record->head_complete,
              Quote(joiner->node) + " joined");
      std::erase_if(out_.next->drains, [&](const Drain& drain) {
        return drain.node == joiner->node && drain.returns;
      });
      return;
    }
    out_.join = JoinOrder{joiner->node, joiner->incarnation, joiner->report->peers};
  }

  // The tail's offer: void unless it is the tail of this very epoch.
  const Life* OfferedJoiner() {
    const Member& tail = current().members.back();
    const Life* reporter = Find(tail.id, tail.incarnation);
    if (!IsSyncedMember(tail) || !reporter->report->joiner_ready) return nullptr;
    const JoinerReady& ready = *reporter->report->joiner_ready;
    if (ready.epoch != current().epoch) return nullptr;
    const Life* joiner = Find(ready.node, ready.incarnation);
    return joiner && MayJoin(*joiner) && IsAlive(*joiner) ? joiner : nullptr;
  }

  // An order stands until its joiner is gone: what that has been sent is worth keeping while a
  // connection is being made again or a member is being replaced.
  void KeepStandingOrder() {
    if (!in_.join || current().members.size() >= MembersMax()) return;
    const Life* joiner = Find(in_.join->node, in_.join->incarnation);
    if (!joiner || !MayJoin(*joiner)) return;
    // One that the tail cannot reach must not keep out another that it can.
    if (!IsFed(*joiner) && Passed(in_.join_since + in_.link_grace)) {
      const Life* other = NextJoiner();
      if (other != nullptr && other != joiner) return;
    }
    if (!Passed(joiner->heard + std::max(in_.lease, in_.silence))) {
      out_.join = JoinOrder{joiner->node, joiner->incarnation, joiner->report->peers};
    }
  }

  // A join that was begun is under way while the tail reaches its joiner, and for a while longer.
  bool IsFed(const Life& joiner) {
    if (joiner.report->phase != ReportPhase::kJoining) return false;
    const Member& tail = current().members.back();
    const Life* source = Find(tail.id, tail.incarnation);
    const bool lost = source != nullptr && source->successor_lost.has_value();
    return !lost || !Passed(*source->successor_lost + in_.link_grace);
  }

  // A join that an earlier leader ordered goes first, then the TOML's order. After an order that
  // led nowhere those behind its joiner come first.
  const Life* NextJoiner() {
    const auto& nodes = in_.facts.nodes;
    size_t first = 0;
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (in_.join && nodes[i].id == in_.join->node) first = i + 1;
    }
    const Life* next = nullptr;
    for (size_t i = 0; i < nodes.size(); ++i) {
      const Life* life = Latest(nodes[(first + i) % nodes.size()].id);
      if (!life || !IsAlive(*life) || !MayJoin(*life)) continue;
      const bool ordered = in_.join && life->node == in_.join->node;
      if (life->report->phase == ReportPhase::kJoining && !ordered) return life;
      if (!next) next = life;
    }
    return next;
  }

  bool MayJoin(const Life& life) {
    return Latest(life.node) == &life && !life.is_void && !life.resigned && life.report &&
           IsCandidatePhase(life.report->phase) && !IsListed(life.node) &&
           Objection(life).empty() && !IsKeptForAnother(life.node);
  }

  const ChainFacts::Node* FactsOf(std::string_view node) const {
    for (const ChainFacts::Node& facts : in_.facts.nodes) {
      if (facts.id == node) return &facts;
    }
    return nullptr;
  }

  // Why a node that reports may not join; "" nothing.
  std::string Objection(const Life& life) const {
    const ChainFacts::Node* facts = FactsOf(life.node);
    if (facts == nullptr) return "not in the coordinator's TOML";
    if (IsKeptOut(life.node)) return "drained by an operator; catenactl undrain lets it join again";
    const BackendReport& backend = life.report->backend;
    if (!backend.healthy) return "its database is not ready" + Because(backend.problem);
    const bool replaceable =
        backend.from_chain || IsKnown(*life.report) || facts->overwrite || life.report->overwrite;
    if (backend.keys > 0 && !replaceable) {
      return "refused: its database holds " + std::to_string(backend.keys) +
             " keys and was never part of this chain; empty it or set overwrite = true";
    }
    const Member& head = current().members.front();
    const Life* leading = Find(head.id, head.incarnation);
    if (!leading || !leading->report) return "";
    const BackendReport& model = leading->report->backend;
    if (!model.kind.empty() && !backend.kind.empty() && model.kind != backend.kind) {
      return "refused: its database is of kind " + backend.kind + ", the head's is " + model.kind;
    }
    // Each of those before it may become the head whose stream it executes.
    for (const Member& member : current().members) {
      const Life* before = Find(member.id, member.incarnation);
      if (!before || !before->report) continue;
      std::string lack = LackBehind(before->report->backend, member.id, backend);
      if (!lack.empty()) return lack;
    }
    return "";
  }

  // Why `backend` cannot execute the stream of `model`, the database of `leader`; "" it can. What
  // it does not understand it skips, and nobody is told.
  static std::string LackBehind(const BackendReport& model, const NodeId& leader,
                                const BackendReport& backend) {
    if (!model.version.empty() && !backend.version.empty() &&
        CompareVersions(backend.version, model.version) < 0) {
      return "refused: its database is version " + backend.version + ", older than " + leader +
             "'s " + model.version;
    }
    if (model.databases > 0 && backend.databases > 0 && backend.databases < model.databases) {
      return "refused: its database has " + std::to_string(backend.databases) + " databases, " +
             leader + "'s has " + std::to_string(model.databases) +
             "; give it as many (databases in its redis.conf)";
    }
    return "";
  }

  // The operator's word replaces the proof of completeness, not the wait for the leases: two nodes
  // must never serve at once.
  void FollowChoice(const NodeId& choice) {
    const Life* chosen = Latest(choice);
    if (chosen == nullptr || !IsAlive(*chosen)) {
      out_.waiting_for = "node " + Quote(choice) + ", chosen by an operator, to report";
      return;
    }
    const std::optional<size_t> index =
        in_.record ? current().IndexOf(choice, chosen->incarnation) : std::nullopt;
    if (index && current().members.size() == 1 && IsSyncedMember(current().members[0])) {
      out_.choice_done = true;
      return;
    }
    if (!CanLead(*chosen, index)) return;
    out_.waiting_for.clear();
    if (!OthersAreSilent(*chosen)) {
      out_.waiting_for = "leases of the other members to run out";
      return;
    }
    Propose(NewestEpoch().Next(), {AsMember(*chosen->report)}, /*head_complete=*/true,
            "an operator chose " + Quote(choice));
    std::erase_if(out_.next->drains, [&](const Drain& drain) { return drain.node == choice; });
  }

  bool CanLead(const Life& chosen, const std::optional<size_t>& index) {
    const NodeReport& report = *chosen.report;
    out_.waiting_for = "node " + Quote(chosen.node) + ", chosen by an operator, to be ready" +
                       Because(report.backend.problem);
    if (!report.backend.healthy || chosen.is_void || chosen.resigned) {
      if (chosen.resigned) out_.voids.emplace_back(chosen.node, chosen.incarnation);
      return false;
    }
    const bool unlisted_member = in_.record && !index && report.phase == ReportPhase::kMember &&
                                 report.epoch <= current().epoch;
    if (unlisted_member) return false;  // removed: it is told to take a new incarnation
    if (report.phase == ReportPhase::kMember) {
      if (index && report.epoch < current().epoch) return false;  // about to install it
      if (!report.synced) out_.voids.emplace_back(chosen.node, chosen.incarnation);
      return report.synced;
    }
    return IsCandidatePhase(report.phase) && !index;
  }

  bool OthersAreSilent(const Life& chosen) {
    // Members of configurations that etcd has lost have leases of earlier leaders, too.
    const bool all_listed = in_.record && NewestEpoch() == current().epoch;
    if (!all_listed && !Passed(in_.removals_from)) return false;
    if (!in_.record) return true;
    bool silent = true;
    for (const Member& member : current().members) {
      if (member.id == chosen.node && member.incarnation == chosen.incarnation) continue;
      const Life* life = Find(member.id, member.incarnation);
      silent = life && LeaseIsOver(*life) && silent;
    }
    return silent;
  }

  // The same configuration, but the record must say more before a longer lease is granted (S17),
  // or may say that the head's database is complete.
  void KeepRecordTrue() {
    if (!in_.record) return;
    ChainRecord next = *in_.record;
    next.lease = std::max(next.lease, in_.lease);
    next.known = KnownWith(current().members);
    next.drains = DrainsStillWished();
    const Member& head = current().members.front();
    const Life* life = Find(head.id, head.incarnation);
    if (!next.head_complete && IsSyncedMember(head) && !RunsOtherDatabase(*life, head)) {
      // As head of this epoch it receives nothing more from anybody: once all that it received is
      // in its database, its database has everything.
      const NodeReport& report = *life->report;
      next.head_complete = report.head_ready || report.applied >= report.received;
    }
    if (next.lease != in_.record->lease || next.head_complete != in_.record->head_complete ||
        next.known != in_.record->known || next.drains != in_.record->drains) {
      out_.next = std::move(next);
    }
  }

  void NoteOutsiders() {
    for (const ChainFacts::Node& node : in_.facts.nodes) {
      const Life* life = Latest(node.id);
      if (!life || !life->report || !in_.record) continue;
      if (current().IndexOf(node.id, life->incarnation)) continue;
      std::string text = NoticeFor(*life);
      if (!text.empty()) out_.notices.push_back({node.id, std::move(text)});
    }
  }

  std::string NoticeFor(const Life& life) const {
    if (life.is_void) return "";
    if (life.report->phase == ReportPhase::kRefused) return life.report->problem;
    if (!IsCandidatePhase(life.report->phase)) return "";
    const std::string objection = Objection(life);
    if (!objection.empty()) return objection;
    if (IsListed(life.node)) return "its earlier incarnation is still a member" + Waiting();
    if (current().members.size() >= in_.facts.replicas) return "stands by: the chain is complete";
    if (out_.join && out_.join->node == life.node) return "joining";
    return "waits for its turn to join" + Waiting();
  }
  std::string Waiting() const {
    return out_.waiting_for.empty() ? "" : "; waiting for " + out_.waiting_for;
  }

  const PolicyInput& in_;
  Decision out_;
  std::optional<NodeId> awaited_;  // see Awaited
};

}  // namespace

Decision Decide(const PolicyInput& input) { return Deciding(input).Run(); }

int CompareVersions(std::string_view a, std::string_view b) {
  auto next_part = [](std::string_view& text) {
    uint64_t value = 0;
    const size_t dot = std::min(text.find('.'), text.size());
    std::from_chars(text.data(), text.data() + dot, value);
    text.remove_prefix(std::min(dot + 1, text.size()));
    return value;
  };
  while (!a.empty() || !b.empty()) {
    const uint64_t x = next_part(a);
    const uint64_t y = next_part(b);
    if (x != y) return x < y ? -1 : 1;
  }
  return 0;
}

}  // namespace catena::coordinator
