#include "backends/rocksdb/rocksdb_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "backends/rocksdb/rocksdb_backend_impl.h"

namespace catena::rocks {
namespace {

constexpr size_t kFeedBytes = 1u << 20;           // of the log, for one batch
constexpr size_t kArgumentBytesMax = 512u << 20;  // as Redis's proto-max-bulk-len
constexpr Duration kKeyCountAge = std::chrono::seconds(1);

}  // namespace

RocksDbBackend::RocksDbBackend(io::Reactor& reactor, BackendOptions options, OpenFunction open)
    : reactor_(reactor),
      options_(std::move(options)),
      open_function_(std::move(open)),
      core_(std::make_shared<WorkerCore>()) {
  limits_.argument_bytes_max = kArgumentBytesMax;
}

RocksDbBackend::~RocksDbBackend() {
  if (HasUnapplied()) core_->owed = committed_;
  for (const auto& [id, lane] : lanes_) lane->Detach();
  for (RocksSnapshot* snapshot : snapshots_) snapshot->Detach();
}

// --- the database comes and goes -----------------------------------------------------------------

void RocksDbBackend::Start(backend::BackendEvents* events) {
  events_ = events;
  const auto when_alive = [this](void (RocksDbBackend::*what)()) {
    return [this, what, watch = Liveness::Watch(liveness_)] {
      if (!watch.Gone()) (this->*what)();
    };
  };
  reactor_.AddTurnEndHook(when_alive(&RocksDbBackend::EndTurn));
  reopen_ = reactor_.MakeTimer([this] { reopen_due_ = true; });
  forget_ = reactor_.MakeTimer([this] { Keep(nullptr); });
  expiry_ = reactor_.MakeTimer([this] {
    expire_due_ = role_kind_ == Role::kHead && role_ready_;
    expiry_->Start(options_.expiry_interval);
  });
  expiry_->Start(options_.expiry_interval);
  sync_ = reactor_.MakeTimer([this] {
    if (open_ && std::exchange(unsynced_, false)) {
      Job job;
      job.any_role = true;
      job.work = [](WorkerCore& core) { return core.store->SyncNow(); };
      job.done = [] {};
      AddJob(std::move(job));
    }
    sync_->Start(options_.sync_interval);
  });
  if (options_.sync == Sync::kInterval) sync_->Start(options_.sync_interval);
  Open();
}

void RocksDbBackend::Open() {
  opening_ = true;
  reopen_due_ = false;
  auto info = std::make_shared<Result<backend::Info>>();
  uint64_t seed = 0;
  std::memcpy(&seed, reactor_.RandomBytes(sizeof(seed)).data(), sizeof(seed));
  reactor_.RunOnWorker(
      [core = core_, open = open_function_, info, seed, now_ms = reactor_.WallMilliseconds(),
       configuration = options_.configuration] {
        *info = core->Open(open, seed, now_ms, configuration);
      },
      [this, info, watch = Liveness::Watch(liveness_)] {
        if (!watch.Gone()) OnOpened(info);
      });
}

void RocksDbBackend::OnOpened(const std::shared_ptr<Result<backend::Info>>& info) {
  opening_ = false;
  if (!*info) {
    problem_ = info->error().message;
    return reopen_->Start(options_.reopen_interval);
  }
  problem_.clear();
  open_ = true;
  next_->Clear();
  ++next_number_;
  Examined(**info);
}

void RocksDbBackend::Examined(const backend::Info& info) {
  keys_ = info.keys;
  executed_ = applied_ = info.resume ? info.resume->position : Position();
  keys_at_ = reactor_.Now();
  events_->OnExamined(info);
}

void RocksDbBackend::Lose(const std::string& reason) {
  if (!std::exchange(open_, false)) return;
  NewRole(Role::kNone);
  problem_ = reason;
  jobs_.clear();
  Keep(nullptr);
  next_->Clear();
  ++next_number_;
  apply_running_ = end_commit_ = unsynced_ = false;
  reopen_->Start(options_.reopen_interval);
  const Liveness::Watch watch(liveness_);
  events_->OnLost(reason);
  if (!watch.Gone()) BreakEverything(reason);
}

void RocksDbBackend::BreakEverything(const std::string& reason) {
  const Liveness::Watch watch(liveness_);
  std::vector<LaneId> ids;
  for (const auto& [id, lane] : lanes_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const LaneId id : ids) {
    // Each call may destroy any of them, and open others.
    if (RocksLane* lane = FindLane(id)) lane->Break(reason, false);
    if (watch.Gone()) return;
  }
  for (RocksSnapshot* snapshot : std::vector<RocksSnapshot*>(snapshots_)) {
    if (std::find(snapshots_.begin(), snapshots_.end(), snapshot) == snapshots_.end()) continue;
    snapshot->Fail(reason);
    if (watch.Gone()) return;
  }
}

// --- workers -------------------------------------------------------------------------------------

void RocksDbBackend::EndTurn() {
  if (!open_) {
    const bool idle = !opening_ && !batch_running_ && !job_running_;
    if (reopen_due_ && idle) Open();
    return;
  }
  StartJob();
  StartBatch();
}

void RocksDbBackend::StartJob() {
  while (!jobs_.empty() && !jobs_.front().any_role && jobs_.front().role != role_)
    jobs_.pop_front();
  if (job_running_ || jobs_.empty()) return;
  if (batch_running_ && (jobs_.front().exclusive || batch_feeds_)) return;
  const auto job = std::make_shared<Job>(std::move(jobs_.front()));
  jobs_.pop_front();
  job_running_ = true;
  exclusive_running_ = job->exclusive;
  const auto result = std::make_shared<Result<void>>();
  reactor_.RunOnWorker([core = core_, job, result] { *result = job->work(*core); },
                       [this, job, result, watch = Liveness::Watch(liveness_)] {
                         if (!watch.Gone()) OnJobDone(job, *result);
                       });
}

void RocksDbBackend::OnJobDone(const std::shared_ptr<Job>& job, const Result<void>& result) {
  job_running_ = exclusive_running_ = false;
  if (!open_) return;
  if (!result) return Lose(result.error().message);
  if (job->any_role || job->role == role_) job->done();
}

// What the engine is to do next, apart from what lanes want of it.
void RocksDbBackend::FillBatch() {
  next_->end_commit = std::exchange(end_commit_, false);
  next_->expire = std::exchange(expire_due_, false);
  if (commit_ && !apply_running_ && role_ready_) {
    next_->commit = std::exchange(commit_, std::nullopt);
  }
  // Commands and applying take turns, so that neither waits long for the other.
  if (next_->items.empty() || !feed_last_) AddFeed();
  feed_last_ = !next_->feed.empty();
  const TimePoint now = reactor_.Now();
  if (!next_->empty() && now - keys_at_ >= kKeyCountAge) {
    next_->count_keys = true;
    keys_at_ = now;
  }
}

void RocksDbBackend::AddFeed() {
  if (role_kind_ != Role::kFollower || !role_ready_ || !feed_wanted_) return;
  // One worker at a time changes the database: a checkpoint, too, is of one position.
  if (job_running_ || !jobs_.empty()) return;
  while (next_->feed.size() < kFeedBytes) {
    const auto piece = source_->CommittedBytes(fed_, kFeedBytes - next_->feed.size());
    if (!piece) {
      feed_wanted_ = role_ready_ = false;
      const std::string reason = "the log no longer has position " + std::to_string(fed_.value());
      return Later([this, reason, role = role_] {
        if (role == role_) events_->OnFeedGap(reason);
      });
    }
    if (piece->empty()) {
      feed_wanted_ = false;
      return;
    }
    next_->feed.append(*piece);
    fed_ = fed_ + piece->size();
  }
}

void RocksDbBackend::StartBatch() {
  const bool waits = !jobs_.empty() && jobs_.front().exclusive;
  if (batch_running_ || exclusive_running_ || waits) return;
  FillBatch();
  if (next_->empty()) return;
  batch_running_ = true;
  batch_feeds_ = !next_->feed.empty();
  ++next_number_;
  const std::shared_ptr<WorkBatch> batch = std::exchange(next_, SpareBatch());
  batch->now_ms = reactor_.WallMilliseconds();
  batch->role = role_;
  reactor_.RunOnWorker([core = core_, batch] { batch->Run(*core); },
                       [this, batch, watch = Liveness::Watch(liveness_)] {
                         if (!watch.Gone()) OnBatchDone(batch);
                       });
}

std::shared_ptr<WorkBatch> RocksDbBackend::SpareBatch() {
  if (spare_.empty()) return std::make_shared<WorkBatch>();
  std::shared_ptr<WorkBatch> batch = std::move(spare_.back());
  spare_.pop_back();
  return batch;
}

// What came meanwhile goes to the worker first: it works on that while the loop hands out what this
// one brought.
void RocksDbBackend::OnBatchDone(const std::shared_ptr<WorkBatch>& batch) {
  batch_running_ = false;
  if (!open_) return;
  if (!batch->failure.empty()) return Lose(batch->failure);
  const bool current = batch->role == role_ && role_ready_;
  if (current && batch->ready) ApplyReady(*batch->ready);
  if (current && batch->more_expired) more_expired_ = true;
  if (current && !batch->gap.empty()) feed_wanted_ = role_ready_ = false;
  StartJob();
  StartBatch();
  const Liveness::Watch watch(liveness_);
  Deliver(*batch, current, watch);
  if (watch.Gone()) return;
  batch->Clear();
  spare_.push_back(batch);
}

void RocksDbBackend::Deliver(WorkBatch& batch, bool current, const Liveness::Watch& watch) {
  if (batch.keys) keys_ = *batch.keys;
  if (current) {
    executed_ = batch.out.executed;
    if (!batch.out.effects.empty()) events_->OnEffects(batch.out.effects);
    if (watch.Gone()) return;
  }
  if (current && batch.role == role_ && role_kind_ == Role::kFollower) {
    NoteApplied(batch.out.applied);
    if (watch.Gone()) return;
  }
  if (current && batch.role == role_ && !batch.gap.empty()) {
    events_->OnFeedGap(batch.gap);
    if (watch.Gone()) return;
  }
  DeliverReplies(batch, watch);
}

void RocksDbBackend::NoteApplied(Position position) {
  if (position <= applied_) return;
  applied_ = position;
  unsynced_ = true;
  events_->OnApplied(position);
}

void RocksDbBackend::DeliverReplies(WorkBatch& batch, const Liveness::Watch& watch) {
  for (const WorkBatch::Item& item : batch.items) {
    if (item.kind != WorkBatch::Item::Kind::kOpen) continue;
    if (RocksLane* lane = FindLane(item.lane)) lane->Ready();
    if (watch.Gone() || !open_) return;
  }
  Output& out = batch.out;
  BytesOwner owner;
  const auto large = [](const Output::Reply& reply) {
    return reply.size >= kSharedPayloadBytesMin;
  };
  if (std::any_of(out.replies.begin(), out.replies.end(), large)) {
    owner = std::make_shared<const std::string>(std::move(out.bytes));
  }
  const std::string_view bytes = owner ? *owner : out.bytes;
  for (const Output::Reply& reply : out.replies) {
    RocksLane* lane = FindLane(reply.lane);
    if (lane == nullptr) continue;
    lane->Take(reply, bytes.substr(reply.begin, reply.size), large(reply) ? owner : nullptr);
    if (watch.Gone() || !open_) return;
  }
}

void RocksDbBackend::ApplyReady(const Engine::Ready& ready) {
  apply_running_ = true;
  Job job;
  job.work = [ready](WorkerCore& core) { return core.store->Apply(*ready.batch, ready.after); };
  job.done = [this, position = ready.after.position] {
    apply_running_ = false;
    end_commit_ = true;
    // As fast as the chain commits it, so that keys do not expire faster than they are deleted.
    if (std::exchange(more_expired_, false)) expire_due_ = true;
    applied_ = position;
    unsynced_ = true;
    if (AnswersWaitForApplied()) events_->OnApplied(position);
  };
  job.role = role_;
  jobs_.push_front(std::move(job));
}

std::unique_ptr<backend::Backend> MakeRocksDbBackend(
    io::Reactor& reactor, BackendOptions options,
    std::function<Result<std::unique_ptr<Store>>()> open) {
  return std::make_unique<RocksDbBackend>(reactor, std::move(options), std::move(open));
}

}  // namespace catena::rocks
