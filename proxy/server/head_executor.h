// Executes commands at the head's database and holds each reply back until it may be seen
// (design.md 3).
//
// What a loop turn brings for one lane (database, protocol) is a batch; it ends with a position
// question, whose answer is an upper bound of everything executed so far by anybody. A reply is
// released when
//   data:      the capture has reached the bound, and the bound (a read: the versions of its
//              keys, looked up then) is committed (I4);
//   authority: an entry went down the whole chain after the command arrived, or the lease is
//              valid now, or a verify that began later was answered (I6).
// Loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "backends/backend.h"
#include "proxy/base/ring.h"
#include "proxy/chain/replica.h"
#include "proxy/server/effect_budget.h"
#include "proxy/server/meter.h"
#include "proxy/server/options.h"
#include "proxy/server/private_channel.h"
#include "proxy/server/session.h"

namespace catena::server {

// What a reply may reveal, and so how long it waits.
enum class ReplyKind : uint8_t {
  kEffect,  // writes, scripts, everything whose keys are unknown: the whole bound
  kKeys,    // reads of known keys: their versions
  kNoData,  // nothing of the data: CONFIG, SLOWLOG ...
  kInfo,    // INFO: as kNoData, with the chain's section added
};
// Whether a command of which the reply is lost may have changed something: data, or the server.
inline bool MayChange(ReplyKind kind) {
  return kind == ReplyKind::kEffect || kind == ReplyKind::kNoData;
}

class HeadExecutor {
 public:
  HeadExecutor(chain::Replica& replica, backend::Backend& backend, const Options& options,
               Meter& meter, std::function<TimePoint()> now,
               std::function<std::string(std::string_view)> add_info);
  ~HeadExecutor();

  Dispatch Submit(Session& session, uint64_t number, const Request& request, ReplyKind kind);
  // S18: what a broken connection gave to the database may still come behind what is submitted now.
  bool MayOvertakeLost();
  // A script of this session would wait behind one that runs long.
  bool ScriptsHeldUp(const Session& session) const;
  // A connection to the local database for one client's own state. While this node is the head, its
  // messages are held back like replies, behind one position question for all that came in a turn;
  // at a follower they are committed already.
  // An Error is the reply to give: the database would take no more connections.
  Result<std::unique_ptr<PrivateChannel>> OpenPrivate(int database, int protocol,
                                                      PrivateChannel::Handler* handler);
  // Of the local database, for transactions, which count as a whole.
  EffectBudget& effects() { return effects_; }
  size_t private_channels() const { return private_channels_.size(); }
  // The database is the head's, at `position`; and has applied so much (see
  // Backend::AnswersWaitForApplied).
  void OnAttached(Position position) { applied_ = position; }
  Position applied() const { return applied_; }
  void OnApplied(Position position) { applied_ = std::max(applied_, position); }
  // Ends the turn's batches.
  void EndBatches();
  // Releases what may be released; after everything that this turn committed or captured.
  void Release();
  // Unknown outcome for what waited longer than the write timeout.
  void Expire(TimePoint now);
  // Answers everything that is owed with an error and closes the lanes.
  void FailAll(std::string_view why);
  bool idle() const { return owed_ == 0 && private_waiting_.empty(); }
  size_t owed() const { return owed_; }
  // As much is uncommitted, or waits for the database, as may be.
  bool LogFull() const;
  bool AnyLaneFull() const;

 private:
  struct Held {
    Session* session = nullptr;
    uint64_t number = 0;
    ReplyKind kind = ReplyKind::kEffect;
    bool needs_authority = true;
    bool released = false;
    bool version_known = false;
    uint32_t hash_begin = 0, hash_count = 0;
    size_t reply_begin = 0, reply_size = 0;  // in Batch::replies, or of a large one in *owner
    BytesOwner owner;
    Position version;
  };
  // One turn's commands on one lane. Recycled, so that a warm executor allocates nothing.
  struct Batch {
    std::vector<Held> held;
    std::vector<uint64_t> hashes;
    std::string replies;
    size_t answered = 0;
    size_t released = 0;
    uint64_t writes = 0;
    bool known_committed = false;
    size_t effect_bytes = 0;  // taken from the budget, until captured
    Position captured_at_send;
    Position bound;
    // The database was busy when it was asked for the bound, and will tell it here.
    std::shared_ptr<std::optional<Position>> bound_to_come;
    Epoch epoch;
    TimePoint sent_at, expires_at;
    std::optional<uint64_t> verify_ticket;
  };
  using BatchPtr = std::unique_ptr<Batch>;
  class HeadLane;
  using LaneKey = std::tuple<int, int, bool>;  // database, protocol, for scripts
  class Private;
  // What private channels brought in one turn, in order.
  struct PrivateBatch {
    struct Item {
      std::shared_ptr<Private*> channel;  // nullptr inside: the client is gone
      std::string message;
    };
    std::vector<Item> items;
    Position captured_at_ask;
    std::optional<Position> bound;
    Epoch epoch;
    TimePoint expires_at;
    std::optional<uint64_t> verify_ticket;
  };

  HeadLane& LaneFor(const LaneKey& key);
  // Up to where what replies reveal is certain to stay: every member has received it, and, if the
  // database promises so much, it outlives a crash of all of them.
  Position Settled() const {
    const Position committed = replica_.committed();
    return backend_.AnswersWaitForApplied() ? std::min(committed, applied_) : committed;
  }
  BatchPtr NewBatch();
  void Recycle(BatchPtr batch);
  void ReleaseBatch(Batch& batch, TimePoint now);
  bool DataSettled(Batch& batch, Held& held, bool bound_committed);
  // S8: only an entry that went down the whole chain after the commands arrived proves anything by
  // itself.
  bool AuthorityProved(bool entry_committed, Epoch epoch, std::optional<uint64_t>& verify_ticket,
                       TimePoint now);
  void Answer(Batch& batch, Held& held);
  void FailBatch(Batch& batch, std::string_view why, bool nothing_sent = false);
  bool Full(HeadLane& lane);
  // When what is sent or asked now is given up.
  TimePoint ExpiryOf(size_t unsent_bytes);
  void GiveEffects(Batch& batch) { effects_.Give(std::exchange(batch.effect_bytes, 0)); }
  void AskPrivateBound();
  void ReleasePrivate(TimePoint now);
  void FailPrivate(const std::string& why);

  chain::Replica& replica_;
  backend::Backend& backend_;
  const Options& options_;
  Meter& meter_;
  std::function<TimePoint()> now_;
  std::function<std::string(std::string_view)> add_info_;
  std::map<LaneKey, std::unique_ptr<HeadLane>> lanes_;
  std::vector<std::unique_ptr<HeadLane>> closed_lanes_;        // destroyed at the end of the turn
  std::vector<std::unique_ptr<backend::Lane>> lost_privates_;  // as well
  Ring<BatchPtr> waiting_;                                     // their bounds are known
  std::vector<BatchPtr> recycled_;
  std::unique_ptr<PrivateBatch> private_open_;           // of this turn
  Ring<std::shared_ptr<PrivateBatch>> private_waiting_;  // oldest first; released in this order
  std::map<uint64_t, Private*> private_channels_;        // by number, in the order they were opened
  uint64_t last_private_ = 0;
  EffectBudget effects_;
  size_t owed_ = 0;
  bool lost_lane_ = false;  // one broke, and what it held may not be over yet
  Position applied_;
};

}  // namespace catena::server
