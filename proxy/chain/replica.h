// One member of a chain as a state machine: values in, values out. No I/O, no clock, no randomness,
// no logger; `now` is passed in where a lease counts. The driver (proxy/server/node) feeds events,
// and at the end of each loop turn performs what TakeOutput() and NextAppend() say. See README.md
// for the protocol and the invariants.
//
// Thread: the owner's loop thread. Lifetime: one per node; a new *life* (BeginLife) after each
// removal.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "proxy/base/clock.h"
#include "proxy/base/ids.h"
#include "proxy/chain/configuration.h"
#include "proxy/chain/lease.h"
#include "proxy/chain/log.h"
#include "proxy/chain/message.h"

namespace catena::chain {

// A connection to a neighbour, numbered by the driver; never reused.
using LinkId = uint64_t;
inline constexpr LinkId kNoLink = 0;

enum class Role {
  kOutside,  // in no configuration
  kSole,     // head and tail of a chain of one
  kHead,
  kMiddle,
  kTail,
};
// "outside", "sole", "head", "middle" or "tail", for people.
const char* RoleName(Role role);

// Log bytes to send on.
struct AppendSlice {
  Position from;
  Position committed;
  Log::Slice slice;
};

struct ReplicaOptions {
  std::string chain;
  NodeId id;
  int drift_per_mille = 20;
  size_t backlog_bytes = 64u << 20;  // committed and applied entries kept for partial resyncs
};

// What the driver has to do, in this order.
struct Output {
  // Links that belong to a configuration that passed, or whose peer broke the protocol.
  std::vector<LinkId> close;
  // To send, in order, before log bytes.
  std::vector<std::pair<LinkId, Message>> messages;
  // The head must ask its database for a bound that covers everything executed so far, and tell
  // OnTargetBound (schedule S9). Asked once for each link.
  bool ask_target_bound = false;
  // All is committed and applied here: promote the database at exactly this position, then call
  // OnHeadAttached. Only when no local read is in flight any more (schedule S6): the driver may
  // delay it.
  std::optional<Position> promote_at;
  // This member cannot go on: stop answering, tell the coordinator.
  std::optional<std::string> resign;
};

class Replica {
 public:
  explicit Replica(ReplicaOptions options);

  // From now on so much is kept behind what is committed and applied.
  void SetBacklogBytes(size_t bytes) { options_.backlog_bytes = bytes; }

  // --- life -------------------------------------------------------------------------------------
  // A new incarnation, outside any configuration, with an empty log. Epochs seen stay seen (I5).
  void BeginLife(Incarnation incarnation);
  // Whose data the log holds, which begins at `position`. The sole head names a new history; a
  // joiner takes over the chain's. The database's own position is not known yet: OnApplied or
  // OnHeadAttached tells it (it may have to load a snapshot).
  void SetHistory(std::string replid, Position position);

  enum class Installed { kIgnored, kMember, kRemoved };
  // From the coordinator or a neighbour. kIgnored: not newer. kRemoved: this incarnation was a
  // member and is no longer: whatever is owed has an unknown outcome, and the node begins a new
  // life. An incarnation that was never listed ignores it but remembers the epoch.
  Installed Install(const Configuration& configuration);
  // Stops answering for good in this life: no authority, no acks, no commits, no later grant
  // (design.md 6, Lease).
  void Resign();

  // --- links ------------------------------------------------------------------------------------
  // The member that the driver must keep a connection to, or nullptr.
  const Member* Successor() const;
  void OnSuccessorConnected(LinkId link);
  // The tail, when this is the head of three or more: the driver keeps a connection to it, on which
  // it acknowledges the short way. Acks travel the chain when there is none (and once a heartbeat
  // anyway), so this link may break or be missing without harm. nullptr: none is wanted.
  const Member* AcknowledgingTail() const;
  void OnTailConnected(LinkId link);
  void OnLinkClosed(LinkId link);
  // Hello on an accepted connection, for the chain or for acks. True: the link is the
  // predecessor's, or the head's for acks, now (an earlier one is closed). False: a Refuse is in
  // the output and the connection is to be closed after it.
  bool OnHello(LinkId link, const Hello& hello);
  // Everything else but Append, snapshots and Refuse (a newer configuration in a Refuse goes to
  // Install). A message of an unknown link is dropped: it is of the past (I5).
  void Step(LinkId link, const Message& message, TimePoint now);

  // --- data -------------------------------------------------------------------------------------
  // True when an Append on `link` continues the log exactly; its bytes then go to AppendBytes.
  // Otherwise the link is closed.
  bool AcceptsAppend(LinkId link, Position from);
  // Next bytes of the stream: captured at the head, received elsewhere; then its complete entries.
  void AppendBytes(std::string_view bytes) { log_.Append(bytes); }
  void AppendEntry(const Entry& entry) { log_.Seal(entry); }
  // The link that brought a cut entry is gone.
  void DropStaged() { log_.DropStaged(); }
  // After a batch of AppendEntry: commits what this node may commit, learns that it is synced.
  // `committed`: what the Append said of it; nothing where the bytes were captured.
  void OnReceived(Position committed = Position());
  // Says something on each link, so that the other side knows a silent one to be broken.
  void KeepAlive();
  // The local database has executed everything up to `applied` (never at an attached head: see
  // OnHeadAttached).
  void OnApplied(Position applied);
  // The database executes commands and its stream is captured from `position` on.
  void OnHeadAttached(Position position);
  void OnTargetBound(Position bound);
  // Log bytes for the successor, at most `max`; advances. No bytes: only the commit is news to it.
  // Empty optional: nothing to send now.
  std::optional<AppendSlice> NextAppend(size_t max);

  // --- authority --------------------------------------------------------------------------------
  void GrantLease(TimePoint sent_at, Duration duration) { lease_.Grant(sent_at, duration); }
  // May this member answer from its own state, now? (I6) A chain of one needs no lease.
  bool HasAuthority(TimePoint now) const;
  // Version query / verify: a ticket; it is settled when settled_*() >= ticket, by a question that
  // was sent after this call. One question of each kind is in flight; later callers share the next
  // one (design.md 4). A query in flight is given up when its epoch ends and asked again in the
  // next.
  uint64_t RequestQuery();
  uint64_t RequestVerify();
  // The tail answers what it was asked, version queries under its lease. Step does it too; the
  // driver calls it at the end of each turn in which OwesAnswers(), for a grant or a synced log may
  // have made questions answerable.
  void AnswerAsks(TimePoint now);
  bool OwesAnswers() const {
    return is_tail() && serves() && !(queries_passing_.empty() && verifies_passing_.empty());
  }
  uint64_t settled_query() const { return query_.settled; }
  uint64_t settled_verify() const { return verify_.settled; }

  // --- state ------------------------------------------------------------------------------------
  Output TakeOutput();
  const Configuration& configuration() const {
    return configuration_;
  }  // newest seen; epoch 0: none
  Epoch epoch() const { return configuration_.epoch; }
  Incarnation incarnation() const { return incarnation_; }
  Role role() const { return role_; }
  bool is_head() const { return role_ == Role::kSole || role_ == Role::kHead; }
  bool is_tail() const { return role_ == Role::kSole || role_ == Role::kTail; }
  bool is_member() const { return role_ != Role::kOutside; }
  bool resigned() const { return resigned_; }
  bool synced() const { return synced_; }
  // The head's database is attached: commands may be executed here.
  bool head_ready() const { return is_head() && attached_ && !resigned_; }
  // Answers reads at all (a joiner that is not synced does not).
  bool serves() const { return is_member() && synced_ && !resigned_; }
  const std::string& replid() const { return replid_; }
  const Log& log() const { return log_; }
  Position received() const { return log_.end(); }
  Position committed() const { return committed_; }
  Position applied() const { return applied_; }
  // Committed and in the database: what a snapshot of it contains at least.
  Position settled() const { return attached_ ? committed_ : std::min(committed_, applied_); }
  // Committed bytes that the database has still to execute; none where it executes by itself.
  uint64_t unapplied_bytes() const { return committed_ - std::max(settled(), log_.start()); }
  const Lease& lease() const { return lease_; }
  bool successor_linked() const { return successor_.started; }
  bool predecessor_linked() const { return predecessor_link_ != kNoLink; }
  // Keeps the log from `position` on for a joiner, or lets go.
  void PinLog(std::optional<Position> position) { pin_ = position; }

  struct Stats {
    uint64_t queries_sent = 0, verifies_sent = 0, queries_answered = 0;
  };
  const Stats& stats() const { return stats_; }

 private:
  struct SuccessorLink {
    LinkId link = kNoLink;
    bool started = false;  // Welcome came, Start was sent
    Position sent;
    bool target_told = false;
  };
  // One question in flight, the next one shared by all who ask meanwhile.
  struct Question {
    uint64_t settled = 0;
    uint64_t asked = 0;   // in flight when > settled
    uint64_t wanted = 0;  // highest ticket given out
  };

  void LeaveEpoch();
  void DropIntentions();
  void TakeRole(size_t index);
  // Who told that something is committed: the tail's own log, the successor, or the predecessor (at
  // the head: the tail, the short way). The first two are acknowledged to the predecessor, of the
  // last the successor is told.
  enum class From : uint8_t { kSelf, kBelow, kAbove };
  void AdvanceCommitted(Position position, From from);
  void CommitLocally();
  void LearnSynced();
  void MaybePromote();
  void TrimLog();
  void TellTarget();
  void AckUp();
  void SendUp(Message message);
  void SendDown(Message message);
  void AskIfWanted(Question& question, bool verify);
  void PassAsk(const Ask& ask);
  void PassVerifyRequest(const VerifyRequest& request);
  void PassAllDown();
  void Settle(const Answer& answer);
  void CloseLink(LinkId link);
  void CloseLinks();

  bool AskedByMember(const Message& message) const;
  void StepFromSuccessor(const Message& message);
  void StepFromPredecessor(const Message& message);
  void OnWelcome(const Welcome& welcome);
  std::optional<std::string> WhyRefused(const Hello& hello) const;
  void RefuseHello(LinkId link, std::string reason);
  void StepFromTail(const Message& message);

  ReplicaOptions options_;
  Incarnation incarnation_;
  Configuration configuration_;
  Role role_ = Role::kOutside;
  size_t index_ = 0;  // in configuration_.members when is_member()
  bool resigned_ = false;
  bool synced_ = false;
  bool attached_ = false;
  bool promoting_ = false;  // promote_at was given out
  bool predecessor_started_ = false;
  std::optional<Position> target_;        // synced once received >= target
  std::optional<Position> target_bound_;  // the head's answer to ask_target_bound, for this epoch
  std::string replid_;
  Log log_;
  Position committed_;
  Position applied_;
  std::optional<Position> pin_;
  bool ack_owed_ = false;
  bool ack_up_owed_ = false;  // ... by way of the predecessor, whatever else there is
  bool commit_owed_ = false;  // the successor does not know committed_
  LinkId predecessor_link_ = kNoLink;
  LinkId ack_link_ = kNoLink;  // for acks: at the head to the tail, at the tail to the head
  SuccessorLink successor_;
  Lease lease_;
  Question query_, verify_;
  // Questions (own ones too) under way through this node, newest of each asker; sent again on a new
  // link (schedule S19). Bounded by the number of members. Ordered maps, so that a run repeats
  // exactly.
  struct Passing {
    uint64_t number = 0;
    std::optional<uint64_t>
        verify_ticket;  // at the tail without a lease: the verify that covers it
  };
  std::map<NodeId, Passing> queries_passing_, verifies_passing_, verify_requests_passing_;
  Output output_;
  Stats stats_;
};

}  // namespace catena::chain
