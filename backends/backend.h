// What a node needs of the database behind it. One implementation relays to a stock Redis
// (backends/redis), one embeds RocksDB (backends/rocksdb). Backends know nothing of chains, peers
// or clients.
//
// Everything happens on the loop thread; no call blocks; results come as BackendEvents, never from
// inside the call that caused them.
//
// Life: Start -> OnExamined -> one of
//   head      AttachCapture / Promote -> OnAttached, OnEffects...   (the database executes)
//   follower  Follow or BeginSnapshot..EndSnapshot -> OnApplied...  (the database is fed by us)
// Release() ends either role and stops feeding or capturing; the backend then examines again.
// OnLost ends everything: the database died, restarted (another run_id), was reconfigured by
// somebody, or cannot be reached; the node must resign (I7). The backend goes on trying by itself
// and calls OnExamined when the database is usable again.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "proxy/base/ids.h"
#include "proxy/base/result.h"
#include "proxy/base/shared_bytes.h"
#include "proxy/resp/value.h"

namespace catena::backend {

// A position in a named history, from which the database could go on without a snapshot.
struct ResumePoint {
  std::string replid;
  Position position;
};

struct Info {
  std::string kind;        // "redis"
  std::string run_id;      // of the database process
  std::string version;     // "7.0.15"
  std::string answers_as;  // the version of Redis that it behaves as; "": it is one
  uint64_t keys = 0;       // all databases
  int databases = 0;       // how many numbers SELECT takes; 0 not known
  // Set when the data is an untouched prefix of a chain's history: a Redis in replica role with a
  // chain's replid (see kChainReplidPrefix), or one restarted from such an RDB and not written to
  // since. Not set for a former head or a stranger: these take a snapshot.
  std::optional<ResumePoint> resume;
  // In every role it holds only what was committed, so that `resume` is set for a former head, too.
  bool committed_only = false;
  // The data came from a chain (any of the database's replids is a chain's), even if it cannot
  // resume.
  bool from_chain = false;
  resp::Value commands;  // reply to COMMAND
};

// What the database takes, by its own settings, which may change while it runs. What exceeds it
// never reaches a connection that clients share: the database would close it.
struct Limits {
  static constexpr size_t kNone = SIZE_MAX;

  size_t argument_bytes_max = kNone;  // Redis: proto-max-bulk-len
  size_t command_bytes_max = kNone;   // Redis: client-query-buffer-limit
  // Effects that may be executed and not captured yet; with more the database might cut the capture
  // off.
  size_t effect_bytes_max = kNone;
  std::string effect_setting;      // where that comes from, for people
  size_t connections_max = kNone;  // Redis: maxclients
};

// A chain's replid begins so; the rest are random hex digits, 40 in all. No Redis makes such a
// replid as a master by itself except by chance of 2^-24, so a database tells whether its data came
// from a chain.
inline constexpr std::string_view kChainReplidPrefix = "ca7e4a";

class BackendEvents {
 public:
  virtual ~BackendEvents() = default;
  virtual void OnExamined(const Info& info) = 0;
  virtual void OnLost(const std::string& reason) = 0;
  // The capture is in place: OnEffects brings every byte of the effect stream from `position` on.
  virtual void OnAttached(Position position) = 0;
  // Attach or promotion failed, or the capture broke and could not continue where it was: a gap.
  // The database is still there, but nothing is captured any more.
  virtual void OnCaptureLost(const std::string& reason) = 0;
  // The next bytes of the effect stream, cut anywhere. Valid during the call.
  virtual void OnEffects(std::string_view bytes) = 0;
  // Follower: the database has executed everything up to `position` (never falls while one Follow
  // stands). Head, if AnswersWaitForApplied: it cannot lose anything up to there.
  virtual void OnApplied(Position position) = 0;
  // Follower: the database wants bytes that FeedSource no longer has, or refused the stream; it
  // needs a snapshot.
  virtual void OnFeedGap(const std::string& reason) = 0;
  // BeginSnapshot: room for more (see SnapshotChunk).
  virtual void OnSnapshotRoom() = 0;
  // The database has loaded the snapshot and continues as a follower at `position`; or not.
  virtual void OnSnapshotLoaded(Position position) = 0;
  virtual void OnSnapshotRefused(const std::string& reason) = 0;
};

// Where a follower's feed comes from: the node's log, committed part only (I3).
class FeedSource {
 public:
  virtual ~FeedSource() = default;
  // Bytes from `from` on, contiguous, at most `max`, none of them behind the committed position.
  // Empty: nothing committed there yet. nullopt: no longer (or not) in the log. Valid until the log
  // changes.
  virtual std::optional<std::string_view> CommittedBytes(Position from, size_t max) = 0;
  // The database number that the stream has selected at `from`; nullopt: not known. Asked only when
  // the database behind has forgotten it (a Redis restarted as a master); unknown or not 0 costs it
  // a snapshot.
  virtual std::optional<int> DatabaseAt(Position from) {
    (void)from;
    return std::nullopt;
  }
};

class LaneHandler {
 public:
  virtual ~LaneHandler() = default;
  // Connected, authenticated and checked; Submit was allowed before that already.
  virtual void OnLaneReady() {}
  // The reply of the oldest command that is not answered yet, as raw RESP. Valid during the call.
  virtual void OnReply(std::string_view reply) = 0;
  // The same of a large one, which may be kept: it lies in `*owner`.
  virtual void OnLargeReply(const BytesOwner& owner, std::string_view reply) {
    (void)owner;
    OnReply(reply);
  }
  // Answer of SubmitPosition, in its place among the replies. Head: an upper bound of every effect
  // executed so far by anybody. Follower: an applied position that the replies after it (and maybe
  // earlier ones) include.
  virtual void OnPosition(Position position) = 0;
  // In its place instead: the database did not tell (it is busy with a script, or its role
  // changes). Backend::AskPosition asks again and bounds as well.
  virtual void OnPositionUntold() {}
  // A RESP3 push (">...") or anything that arrives while no reply is owed. In RESP2 subscribe mode
  // and in MONITOR a message that overtakes an owed reply cannot be told from it: both come in the
  // order of the connection, as OnReply or OnPush, so an owner in such a mode relays both alike.
  virtual void OnPush(std::string_view push) { (void)push; }
  // Broken; commands without a reply have an unknown outcome, unless `nothing_sent`: it never got
  // ready, and none of them has reached the database. Not called after the owner destroyed the
  // lane.
  virtual void OnLaneClosed(const std::string& reason, bool nothing_sent) = 0;
};

// An ordered, pipelined connection to the database, for one selected database and protocol version.
// Commands submitted in one loop turn leave in one write at its end. Destroying it closes the
// connection.
class Lane {
 public:
  virtual ~Lane() = default;
  // One command, complete RESP or an inline command with its line end; the bytes are copied.
  virtual void Submit(std::string_view command) = 0;
  // The same without a copy: `command` lies in `*owner`.
  virtual void SubmitShared(const BytesOwner& owner, std::string_view command) {
    (void)owner;
    Submit(command);
  }
  // Asks for the position at this place of the pipeline.
  virtual void SubmitPosition() = 0;
  // Bytes submitted and not taken by the kernel yet, for back pressure.
  virtual size_t UnsentBytes() const = 0;
  virtual void PauseReading() = 0;
  virtual void ResumeReading() = 0;
};

struct LaneOptions {
  int database = 0;
  int protocol = 2;  // RESP version
};

// A part of a snapshot that somebody has, from its beginning on.
struct SnapshotPart {
  std::string name;  // "": nothing
  uint64_t bytes = 0;
};

class SnapshotSink {
 public:
  virtual ~SnapshotSink() = default;
  // `length`: of the whole. Its bytes come from `from.bytes` on; "" as a name: it cannot be asked
  // for again.
  virtual void OnSnapshotStart(Position position, uint64_t length, const SnapshotPart& from) = 0;
  virtual void OnSnapshotBytes(std::string_view bytes) = 0;
  virtual void OnSnapshotEnd() = 0;
  virtual void OnSnapshotFailed(const std::string& reason) = 0;
};

// A snapshot being read from the database. Destroying it stops it.
class SnapshotReader {
 public:
  virtual ~SnapshotReader() = default;
  virtual void Pause() = 0;  // back pressure: the database keeps the rest on disk
  virtual void Resume() = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // `events` is not owned and outlives the backend.
  virtual void Start(BackendEvents* events) = 0;

  // --- head ---
  // Attaches to the stream of a database that is its own master, wherever it is now.
  virtual void AttachCapture() = 0;
  // Turns a follower that has applied exactly up to `position` into the head's database and
  // captures from `position` on, without a gap. Ends Follow.
  virtual void Promote(const std::string& chain_replid, Position position) = 0;
  // The position up to which the chain has committed: acknowledged to the database each second and
  // when it asks.
  virtual void SetCommitted(Position position) = 0;
  // The history that goes on from where the capture was attached has got this name.
  virtual void NameHistory(const std::string& chain_replid) { (void)chain_replid; }
  // The head answers nothing that reveals an entry before OnApplied has passed it: the database
  // promises that what it has applied outlives a crash, of all nodes at once, too.
  virtual bool AnswersWaitForApplied() const { return false; }
  // Something that was committed would be lost if this process ended now.
  virtual bool HasUnapplied() const { return false; }
  // The effect stream carried REPLCONF GETACK (somebody's WAIT): acknowledge at the next
  // SetCommitted at once, without waiting for the second to end.
  virtual void AckWanted() {}

  // --- follower ---
  // Feeds the database from `source` (not owned; outlives the role), which stands at `position` of
  // the history `chain_replid`.
  virtual void Follow(const std::string& chain_replid, Position position, FeedSource* source) = 0;
  // Tells that `source` has committed bytes up to `committed`.
  virtual void FeedAvailable(Position committed) = 0;
  // Somebody waits until the database has executed everything up to `position`: OnApplied follows
  // as soon as it has. Without this it may come some milliseconds later.
  virtual void ApplyAwaited(Position position) { (void)position; }
  // Replaces all data by a snapshot of `length` bytes, of which the position is `position`; then
  // follows from there as Follow does. Chunks are taken in order; SnapshotChunk returns false when
  // the caller should wait for OnSnapshotRoom before the next one. The last byte is handed to the
  // database only after the whole has been checked.
  virtual void BeginSnapshot(const std::string& chain_replid, Position position, uint64_t length,
                             FeedSource* source) = 0;
  virtual bool SnapshotChunk(std::string_view bytes) = 0;

  // --- any role ---
  // Whether CheckEntry tells anything.
  virtual bool SealsEntries() const { return false; }
  // An entry that came from another node, and where it stands in the stream: an Error says how it
  // was damaged, or that it belongs elsewhere. It is then neither passed on nor applied.
  virtual Result<void> CheckEntry(std::string_view entry, Position start) const {
    (void)entry, (void)start;
    return {};
  }
  // A command whose reply is, of all keys at one moment, an array of "" (there is none), "big
  // <deadline>" or "<sha1> <deadline>" (see proxy/server/inspection.h).
  virtual std::string DigestRequest(std::span<const std::string_view> keys) const = 0;
  virtual void Release() = 0;
  virtual std::unique_ptr<Lane> OpenLane(const LaneOptions& options, LaneHandler* handler) = 0;
  // Something that was submitted on a lane which is destroyed by now may still be executed.
  virtual bool HasAbandoned() const { return false; }
  // Asks on a control connection for a bound that covers every effect of replies received so far;
  // several calls may share one question that is sent after them. Calls `done` with nullopt when
  // the database is lost.
  virtual void AskPosition(std::function<void(std::optional<Position>)> done) = 0;
  // One command, complete RESP, on a connection of its own kind, past all that waits in lanes: for
  // what a database answers while it is busy with a script. `done` gets the raw reply, or nullopt
  // when the database is lost.
  virtual void Interrupt(std::string_view command,
                         std::function<void(std::optional<std::string_view> reply)> done) {
    (void)command;
    done(std::nullopt);
  }
  // `held`: what the receiver has of one that was taken before, whose reader was destroyed. The
  // database goes on with that if it still has it, which is worth some memory or disk for a minute,
  // else it takes another.
  virtual std::unique_ptr<SnapshotReader> TakeSnapshot(SnapshotSink* sink,
                                                       const SnapshotPart& held) = 0;
  // Why the database is not usable (yet), for people: "cannot connect to 127.0.0.1:6379: connection
  // refused", "WRONGPASS ...". Empty while it is examined and well.
  virtual std::string Problem() const { return {}; }
  // False while it is not known whether the database still lives: what is submitted now may fail,
  // so commands had better wait until it is reachable again or OnLost.
  virtual bool Reachable() const { return true; }
  // Not older than about a second.
  virtual const Limits& CurrentLimits() const {
    static const Limits kUnlimited;
    return kUnlimited;
  }
  // Keys in all databases, not older than about a second (for reports).
  virtual uint64_t LastKeyCount() const = 0;
};

}  // namespace catena::backend
