// What a node counts and measures of its work. Its parts count into it as things happen;
// node_metrics.cc publishes it, and INFO's `# Catena` section tells the same numbers. Loop thread.
//
// Counting is an addition. Times are measured only if somebody can ask for them (an admin port), and
// the clock is read for them at most once a turn.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <numeric>
#include <string_view>

#include "proxy/base/metrics.h"
#include "proxy/command/command_table.h"

namespace catena::server {

enum class RequestClass : uint8_t {
  kRead,           // answered by the database behind this node
  kDirtyRead,      // the same after a version query: an entry for its keys was under way
  kForwardedRead,  // sent on to the head (behind a write) or to the tail (mode `tail`)
  kWrite,
  kScript,
  kPrivate,  // of clients in a state of their own: MULTI, a blocking command, subscribed ...
  kOther     // about the connection or the server; unknown commands
};
inline constexpr size_t kRequestClasses = 7;

enum class Outcome : uint8_t { kOk, kError, kChainDown, kUnknown };
inline constexpr size_t kOutcomes = 4;

// Why something was not read on, so that whoever sends it had to wait.
enum class StallCause : uint8_t {
  kClientReplies,   // a client does not read its replies, or is owed as many as it may be
  kClientCommands,  // a client's command waits: for the chain, a head, a commit
  kLogFull,         // as much is uncommitted as may be: no further effects at the head
  kPendingFull,     // as much as may be waits for the database or the head
  kSuccessorSlow,   // the successor takes no more of the log now
  kDatabaseSlow,    // the database is too far behind the log: the predecessor waits
  kSnapshotSlow     // the database takes no more of the snapshot that it is being given
};
inline constexpr size_t kStallCauses = 7;

enum class TrafficOf : uint8_t {
  kClients,    // this node's own
  kForwarded,  // other nodes' clients' commands, from their proxies
  kHead,       // this node's clients' commands, to the head's proxy
  kTail,       // the same to the tail's
  kPredecessor,
  kSuccessor,
  kAcks,   // between head and tail
  kJoin,   // of a node that is brought up to date, at both ends
  kOthers  // before it is known what a link is for
};
inline constexpr size_t kTrafficKinds = 9;

// Where a write is, from when it was sent to the head's database.
enum class WriteStage : uint8_t {
  kExecuted,   // by the head's database
  kCommitted,  // received by the tail, and so held by every member
  kReplied     // its reply has left
};
inline constexpr size_t kWriteStages = 3;

RequestClass ClassOf(const command::CommandInfo* info);

class Meter {
 public:
  Meter(std::function<TimePoint()> now, bool measures_times)
      : now_(std::move(now)), measures_times_(measures_times) {}

  bool measures_times() const { return measures_times_; }
  // The time of this turn's first call: for measuring, never for a lease (S17).
  TimePoint Now() {
    if (turn_ == TimePoint()) turn_ = now_();
    return turn_;
  }
  void EndTurn() { turn_ = TimePoint(); }

  // A command that came at `since` gets this reply. `forwarded`: from another node's proxy.
  void Answered(RequestClass of, std::string_view reply, TimePoint since, bool forwarded) {
    ++requests_[forwarded][static_cast<size_t>(of)][static_cast<size_t>(OutcomeOf(reply))];
    if (measures_times_ && !forwarded) latencies_[static_cast<size_t>(of)].Observe(Now() - since);
  }
  void Reached(WriteStage stage, TimePoint since, uint64_t writes) {
    if (measures_times_ && writes > 0) {
      stages_[static_cast<size_t>(stage)].Observe(Now() - since, writes);
    }
  }
  // The database answered what was sent to it at `since`.
  void BackendAnswered(TimePoint since) {
    if (measures_times_) backend_.Observe(Now() - since);
  }
  // What was known to be committed at `since` is in this follower's database.
  void Applied(TimePoint since) {
    if (measures_times_) applied_.Observe(Now() - since);
  }

  void BeginStall(StallCause cause) {
    if (!stall(cause).going_on()) stall(cause).Begin(Now());
  }
  void EndStall(StallCause cause) {
    if (stall(cause).going_on()) stall(cause).End(Now());
  }
  void SetStall(StallCause cause, bool stalled) { stalled ? BeginStall(cause) : EndStall(cause); }
  Spells& stall(StallCause cause) { return stalls_[static_cast<size_t>(cause)]; }
  Traffic& traffic(TrafficOf kind) { return traffic_[static_cast<size_t>(kind)]; }

  uint64_t requests(RequestClass of, Outcome outcome, bool forwarded) const {
    return requests_[forwarded][static_cast<size_t>(of)][static_cast<size_t>(outcome)];
  }
  uint64_t answered() const {
    uint64_t sum = 0;
    for (const auto& from : requests_) {
      for (const auto& of : from) sum = std::accumulate(of.begin(), of.end(), sum);
    }
    return sum;
  }
  const Histogram& latency(RequestClass of) const { return latencies_[static_cast<size_t>(of)]; }
  const Histogram& stage(WriteStage stage) const { return stages_[static_cast<size_t>(stage)]; }
  const Histogram& backend() const { return backend_; }
  const Histogram& applied() const { return applied_; }

  uint64_t full_resyncs = 0;     // snapshots that this node's database was given
  uint64_t partial_resyncs = 0;  // times that it went on from the log
  uint64_t resyncs_given = 0;    // snapshots that this node gave to others
  uint64_t epochs = 0;           // configurations installed as a member
  uint64_t promotions = 0;
  uint64_t resignations = 0;

 private:
  static Outcome OutcomeOf(std::string_view reply) {
    if (reply.empty() || reply[0] != '-') return Outcome::kOk;
    if (reply.starts_with("-CHAINDOWN")) return Outcome::kChainDown;
    return reply.starts_with("-UNKNOWNOUTCOME") ? Outcome::kUnknown : Outcome::kError;
  }

  std::function<TimePoint()> now_;
  const bool measures_times_;
  TimePoint turn_{};  // none yet: the clock's beginning
  std::array<std::array<std::array<uint64_t, kOutcomes>, kRequestClasses>, 2> requests_{};
  std::array<Histogram, kRequestClasses> latencies_;
  std::array<Histogram, kWriteStages> stages_;
  Histogram backend_, applied_;
  std::array<Spells, kStallCauses> stalls_;
  std::array<Traffic, kTrafficKinds> traffic_;
};

}  // namespace catena::server
