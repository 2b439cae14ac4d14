// The RocksDB backend's inside; see rocksdb_backend.h. rocksdb_backend.cc: the database and the
// workers; rocksdb_roles.cc: what the node wants of it. Loop thread.
#pragma once

#include <tsl/robin_map.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backends/rocksdb/effects.h"
#include "backends/rocksdb/rocks_lane.h"
#include "backends/rocksdb/rocks_snapshot.h"
#include "backends/rocksdb/rocksdb_backend.h"
#include "backends/rocksdb/worker_core.h"
#include "proxy/base/liveness.h"

namespace catena::rocks {

// Two workers at a time, at most: one runs batches of commands on the engine, one changes the
// database (Store's own contract). An fsync so holds up the commits behind it, which it gathers, and
// no command. A job that is exclusive waits for both and runs alone.
class RocksDbBackend final : public backend::Backend, public RocksLane::Host {
 public:
  RocksDbBackend(io::Reactor& reactor, BackendOptions options, OpenFunction open);
  ~RocksDbBackend() override;

  void Start(backend::BackendEvents* events) override;
  void AttachCapture() override;
  void Promote(const std::string& chain_replid, Position position) override;
  void SetCommitted(Position position) override;
  void NameHistory(const std::string& chain_replid) override;
  bool HasUnapplied() const override { return open_ && committed_ > applied_; }
  bool AnswersWaitForApplied() const override { return options_.sync == Sync::kAlways; }
  void Follow(const std::string& chain_replid, Position position,
              backend::FeedSource* source) override;
  void FeedAvailable(Position) override { feed_wanted_ = true; }
  void BeginSnapshot(const std::string& chain_replid, Position position, uint64_t length,
                     backend::FeedSource* source) override;
  bool SnapshotChunk(std::string_view bytes) override;
  bool SealsEntries() const override { return true; }
  Result<void> CheckEntry(std::string_view entry, Position start) const override {
    return ReadEntry(entry, start, nullptr);
  }
  std::string DigestRequest(std::span<const std::string_view> keys) const override;
  void Release() override;
  std::unique_ptr<backend::Lane> OpenLane(const backend::LaneOptions& options,
                                          backend::LaneHandler* handler) override;
  void AskPosition(std::function<void(std::optional<Position>)> done) override;
  void Interrupt(std::string_view command,
                 std::function<void(std::optional<std::string_view>)> done) override;
  std::unique_ptr<backend::SnapshotReader> TakeSnapshot(backend::SnapshotSink* sink,
                                                        const backend::SnapshotPart& held) override;
  std::string Problem() const override { return problem_; }
  bool Reachable() const override { return open_; }
  const backend::Limits& CurrentLimits() const override { return limits_; }
  uint64_t LastKeyCount() const override { return keys_; }

 private:
  // A change of the database.
  struct Job {
    // On a worker. An Error means that the database is lost.
    std::function<Result<void>(WorkerCore&)> work;
    // On the loop; not called when the role is another one by then, unless any_role.
    std::function<void()> done;
    bool exclusive = false;  // no command is executed meanwhile
    bool any_role = false;
    uint64_t role = 0;
  };
  // A snapshot that comes in. Of `writing` and `refusal` a worker has the use while `busy`.
  struct Loading {
    Place place;
    uint64_t length = 0;
    uint64_t taken = 0;    // bytes that the caller gave
    uint64_t written = 0;  // of them, given to workers
    std::string waiting;
    std::string writing;
    std::string refusal;
    bool busy = false;
    bool room_wanted = false;
  };

  // --- RocksLane::Host ---
  WorkBatch& NextBatch() override { return *next_; }
  uint64_t NextBatchNumber() const override { return next_number_; }
  size_t OverdueBytes() const override;
  void Later(std::function<void()> fn) override;
  void OnLaneDestroyed(RocksLane* lane) override;

  // --- the database comes and goes ---
  void Open();
  void OnOpened(const std::shared_ptr<Result<backend::Info>>& info);
  void Examined(const backend::Info& info);
  void Lose(const std::string& reason);
  void BreakEverything(const std::string& reason);

  // --- workers ---
  void EndTurn();
  void StartJob();
  void StartBatch();
  void FillBatch();
  void AddFeed();
  void OnBatchDone(const std::shared_ptr<WorkBatch>& batch);
  std::shared_ptr<WorkBatch> SpareBatch();
  void Deliver(WorkBatch& batch, bool current, const Liveness::Watch& watch);
  void DeliverReplies(WorkBatch& batch, const Liveness::Watch& watch);
  void OnJobDone(const std::shared_ptr<Job>& job, const Result<void>& result);
  void AddJob(Job job) {
    job.role = role_;
    jobs_.push_back(std::move(job));
  }
  void ApplyReady(const Engine::Ready& ready);
  void NoteApplied(Position position);

  // --- roles ---
  enum class Role : uint8_t { kNone, kHead, kFollower, kLoading };
  void NewRole(Role role);
  void BecomeHead(const std::string& replid, std::optional<Position> position);
  void ContinueLoading();
  void WriteWaiting();
  void FinishLoading();
  void MakeCheckpoint(RocksSnapshot* reader);
  void Keep(std::shared_ptr<ReadCheckpoint> reading);
  RocksLane* FindLane(LaneId id);

  io::Reactor& reactor_;
  const BackendOptions options_;
  const OpenFunction open_function_;
  backend::BackendEvents* events_ = nullptr;
  backend::Limits limits_;

  std::shared_ptr<WorkerCore> core_;
  bool open_ = false;  // examined, and not lost
  bool opening_ = false;
  bool reopen_due_ = true;
  std::string problem_ = "it has not been opened yet";
  std::unique_ptr<io::Timer> reopen_, expiry_, sync_, forget_;

  std::shared_ptr<WorkBatch> next_ = std::make_shared<WorkBatch>();
  std::vector<std::shared_ptr<WorkBatch>> spare_;  // three are in use at most
  uint64_t next_number_ = 1;
  bool batch_running_ = false;
  bool batch_feeds_ = false;  // it changes the database
  bool job_running_ = false, exclusive_running_ = false;
  std::deque<Job> jobs_;
  bool apply_running_ = false;  // of a commit, or queued
  bool end_commit_ = false;     // it is done, and the engine has not been told

  uint64_t role_ = 0;  // one more with each change
  Role role_kind_ = Role::kNone;
  bool role_ready_ = false;  // the engine has taken it
  Position executed_, applied_;
  Position committed_;              // as head
  std::optional<Position> commit_;  // wanted
  backend::FeedSource* source_ = nullptr;
  Position fed_;
  bool feed_wanted_ = false;
  bool feed_last_ = false;  // the last batch held a piece of the feed
  bool expire_due_ = false;
  bool more_expired_ = false;  // than the last look for them has deleted
  bool unsynced_ = false;      // kInterval: applied since the last SyncNow
  std::shared_ptr<Loading> loading_;

  uint64_t keys_ = 0;
  TimePoint keys_at_{};
  LaneId last_lane_id_ = 0;
  tsl::robin_map<LaneId, RocksLane*> lanes_;  // owned by those who opened them
  RocksLane* last_lane_ = nullptr;
  std::shared_ptr<ReadCheckpoint> kept_;   // the last that was read, for those who ask again
  std::vector<RocksSnapshot*> snapshots_;  // owned by those who take them
  Liveness liveness_;
};

}  // namespace catena::rocks
