// The RocksDB backend's roles, snapshots, and what it is asked in any role.
#include <algorithm>
#include <utility>

#include "backends/rocksdb/rocksdb_backend_impl.h"
#include "proxy/resp/encoder.h"

namespace catena::rocks {
namespace {

constexpr size_t kSnapshotWaitingMax = 4u << 20;        // bytes that wait to be written
constexpr size_t kOverdueBytesMax = 32u << 20;          // executed and not applied
constexpr Duration kKeptFor = std::chrono::minutes(1);  // a checkpoint that is not read any more
constexpr std::string_view kNotBusy = "-NOTBUSY No scripts in execution right now.\r\n";

}  // namespace

// --- roles ---------------------------------------------------------------------------------------

void RocksDbBackend::NewRole(Role role) {
  ++role_;
  role_kind_ = role;
  role_ready_ = false;
  source_ = nullptr;
  committed_ = Position();
  commit_.reset();
  feed_wanted_ = expire_due_ = more_expired_ = apply_running_ = end_commit_ = false;
  loading_.reset();
}

void RocksDbBackend::BecomeHead(const std::string& replid, std::optional<Position> position) {
  if (!open_) return;
  NewRole(Role::kHead);
  auto applied = std::make_shared<Position>();
  Job job;
  job.exclusive = true;
  job.work = [replid, position, applied](WorkerCore& core) -> Result<void> {
    *applied = core.store->place().position;
    if (position && *position != *applied) return {};
    return core.engine->BecomeHead(replid);
  };
  job.done = [this, position, applied] {
    if (position && *position != *applied) {
      return events_->OnCaptureLost("the database is at position " +
                                    std::to_string(applied->value()) + ", not at " +
                                    std::to_string(position->value()));
    }
    role_ready_ = true;
    executed_ = applied_ = *applied;
    events_->OnAttached(*applied);
  };
  AddJob(std::move(job));
}

void RocksDbBackend::AttachCapture() { BecomeHead("", std::nullopt); }

void RocksDbBackend::Promote(const std::string& chain_replid, Position position) {
  BecomeHead(chain_replid, position);
}

void RocksDbBackend::NameHistory(const std::string& chain_replid) {
  if (role_kind_ != Role::kHead) return;
  Job job;
  job.exclusive = true;
  job.work = [chain_replid](WorkerCore& core) { return core.engine->NameHistory(chain_replid); };
  job.done = [] {};
  AddJob(std::move(job));
}

void RocksDbBackend::SetCommitted(Position position) {
  if (role_kind_ != Role::kHead || position <= applied_) return;
  commit_ = committed_ = position;
}

void RocksDbBackend::Follow(const std::string& chain_replid, Position position,
                            backend::FeedSource* source) {
  if (!open_) return;
  NewRole(Role::kFollower);
  source_ = source;
  fed_ = executed_ = applied_ = position;
  auto place = std::make_shared<Place>();
  Job job;
  job.exclusive = true;
  job.work = [place](WorkerCore& core) -> Result<void> {
    core.engine->BecomeFollower();
    *place = core.store->place();
    return {};
  };
  job.done = [this, place, chain_replid, position] {
    if (place->replid != chain_replid || place->position != position) {
      return events_->OnFeedGap("the database is at position " +
                                std::to_string(place->position.value()) + " of history '" +
                                place->replid + "', not at " + std::to_string(position.value()) +
                                " of '" + chain_replid + "'");
    }
    role_ready_ = feed_wanted_ = true;
  };
  AddJob(std::move(job));
}

// What was answered may be nowhere but here, so all that was committed is applied first.
void RocksDbBackend::Release() {
  if (!open_) return;
  const Position committed = committed_;
  NewRole(Role::kNone);
  committed_ = committed;
  auto info = std::make_shared<Result<backend::Info>>();
  Job job;
  job.exclusive = true;
  job.work = [info, committed](WorkerCore& core) -> Result<void> {
    if (auto settled = core.engine->Settle(committed); !settled) return settled;
    core.incoming.reset();
    core.store->DropIncoming();
    core.engine->BecomeFollower();
    *info = core.Examine();
    if (!*info) return tl::unexpected(info->error());
    return {};
  };
  job.done = [this, info] {
    // The last role may have applied more than it has told, and this too.
    unsynced_ = true;
    committed_ = Position();
    Examined(**info);
  };
  AddJob(std::move(job));
}

// --- a snapshot comes in -------------------------------------------------------------------------

void RocksDbBackend::BeginSnapshot(const std::string& chain_replid, Position position,
                                   uint64_t length, backend::FeedSource* source) {
  if (!open_) return;
  NewRole(Role::kLoading);
  source_ = source;
  loading_ = std::make_shared<Loading>();
  loading_->place = {chain_replid, position};
  loading_->length = length;
  loading_->busy = true;
  Job job;
  job.exclusive = true;
  job.work = [loading = loading_](WorkerCore& core) -> Result<void> {
    core.engine->BecomeFollower();
    // Which checkpoint it is nobody tells, so nothing of an earlier one can be used.
    core.incoming.reset();
    core.store->DropIncoming();
    auto incoming = core.store->BeginIncoming(loading->place.replid, loading->length);
    if (incoming) core.incoming = std::move(*incoming);
    if (!incoming) loading->refusal = incoming.error().message;
    return {};
  };
  job.done = [this] { ContinueLoading(); };
  AddJob(std::move(job));
}

bool RocksDbBackend::SnapshotChunk(std::string_view bytes) {
  if (!loading_) return true;
  loading_->taken += bytes.size();
  loading_->waiting.append(bytes);
  if (!loading_->busy) WriteWaiting();
  loading_->room_wanted = loading_->waiting.size() >= kSnapshotWaitingMax;
  return !loading_->room_wanted;
}

// A piece of work for it is done.
void RocksDbBackend::ContinueLoading() {
  loading_->busy = false;
  if (loading_->taken > loading_->length) loading_->refusal = "the snapshot is longer than told";
  if (!loading_->refusal.empty()) {
    const std::string reason = loading_->refusal;
    NewRole(Role::kNone);
    return events_->OnSnapshotRefused(reason);
  }
  const bool makes_room = loading_->room_wanted;
  WriteWaiting();
  if (!makes_room) return;
  loading_->room_wanted = false;
  events_->OnSnapshotRoom();
}

void RocksDbBackend::WriteWaiting() {
  if (loading_->waiting.empty()) {
    if (loading_->written == loading_->length) FinishLoading();
    return;
  }
  loading_->busy = true;
  loading_->writing.clear();
  loading_->writing.swap(loading_->waiting);
  loading_->written += loading_->writing.size();
  Job job;
  job.work = [loading = loading_](WorkerCore& core) -> Result<void> {
    if (auto written = core.incoming->Write(loading->writing); !written) {
      loading->refusal = written.error().message;
    }
    return {};
  };
  job.done = [this] { ContinueLoading(); };
  AddJob(std::move(job));
}

void RocksDbBackend::FinishLoading() {
  loading_->busy = true;
  Job check;
  check.work = [loading = loading_](WorkerCore& core) -> Result<void> {
    if (auto checked = core.incoming->Check(); !checked) loading->refusal = checked.error().message;
    return {};
  };
  check.done = [this] {
    if (!loading_->refusal.empty()) return ContinueLoading();
    Job replace;
    replace.exclusive = true;
    replace.work = [loading = loading_](WorkerCore& core) -> Result<void> {
      if (auto done = core.store->Replace(std::move(core.incoming), loading->place); !done) {
        return done;
      }
      core.engine->Reload();
      return {};
    };
    replace.done = [this] {
      const Position position = loading_->place.position;
      loading_.reset();
      role_kind_ = Role::kFollower;
      role_ready_ = feed_wanted_ = true;
      fed_ = executed_ = applied_ = position;
      events_->OnSnapshotLoaded(position);
    };
    AddJob(std::move(replace));
  };
  AddJob(std::move(check));
}

// --- a snapshot goes out -------------------------------------------------------------------------

std::unique_ptr<backend::SnapshotReader> RocksDbBackend::TakeSnapshot(
    backend::SnapshotSink* sink, const backend::SnapshotPart& held) {
  auto snapshot = std::make_unique<RocksSnapshot>(
      reactor_, sink, [this](RocksSnapshot* gone, std::shared_ptr<ReadCheckpoint> reading) {
        std::erase(snapshots_, gone);
        Keep(std::move(reading));
        // The files are gone with the database that was lost, or cannot be read. Who asks again
        // gets others, or it would come to the same place each time.
        if (!open_ || gone->failed()) Keep(nullptr);
      });
  RocksSnapshot* reader = snapshot.get();
  snapshots_.push_back(reader);
  if (!open_) {
    Later([reader, watch = reader->watch()] {
      if (!watch.Gone()) reader->Fail("the database is not open");
    });
  } else if (kept_ && !held.name.empty() && kept_->checkpoint->name() == held.name &&
             held.bytes <= kept_->checkpoint->bytes()) {
    Later([reader, reading = std::exchange(kept_, nullptr), offset = held.bytes,
           watch = reader->watch()] {
      if (!watch.Gone()) reader->Begin(reading, offset);
    });
  } else {
    Keep(nullptr);
    MakeCheckpoint(reader);
  }
  return snapshot;
}

void RocksDbBackend::MakeCheckpoint(RocksSnapshot* reader) {
  auto reading = std::make_shared<ReadCheckpoint>();
  reading->core = core_;
  Job job;
  job.any_role = true;
  job.work = [reading](WorkerCore& core) -> Result<void> {
    auto made = core.store->MakeCheckpoint();
    if (made) reading->checkpoint = std::move(*made);
    if (!made) reading->done = tl::unexpected(made.error());
    return {};
  };
  job.done = [this, reading, reader, watch = reader->watch()] {
    if (watch.Gone()) return Keep(reading);
    if (!reading->done) return reader->Fail(reading->done.error().message);
    reader->Begin(reading, 0);
  };
  AddJob(std::move(job));
}

// What the receiver may ask for again, for a while.
void RocksDbBackend::Keep(std::shared_ptr<ReadCheckpoint> reading) {
  std::shared_ptr<ReadCheckpoint> former = std::exchange(kept_, std::move(reading));
  if (former) Forget(reactor_, former);
  if (kept_ && !kept_->checkpoint) kept_.reset();
  if (kept_) forget_->Start(kKeptFor);
}

// --- any role ------------------------------------------------------------------------------------

std::string RocksDbBackend::DigestRequest(std::span<const std::string_view> keys) const {
  std::vector<std::string_view> call{"CATENA.DIGEST"};
  call.insert(call.end(), keys.begin(), keys.end());
  std::string raw;
  resp::AppendCommand(raw, std::span<const std::string_view>(call));
  return raw;
}

size_t RocksDbBackend::OverdueBytes() const {
  if (role_kind_ != Role::kHead || !role_ready_) return 0;
  const uint64_t overdue = executed_ - applied_;
  return overdue > kOverdueBytesMax ? overdue : 0;
}

void RocksDbBackend::Later(std::function<void()> fn) {
  reactor_.Defer([fn = std::move(fn), watch = Liveness::Watch(liveness_)] {
    if (!watch.Gone()) fn();
  });
}

std::unique_ptr<backend::Lane> RocksDbBackend::OpenLane(const backend::LaneOptions& options,
                                                        backend::LaneHandler* handler) {
  const LaneId id = ++last_lane_id_;
  const bool refused = !open_ || options.database != 0;
  auto lane = std::make_unique<RocksLane>(id, options.protocol, refused, this, handler);
  lanes_[id] = lane.get();
  if (refused) {
    const std::string reason =
        open_ ? "the database has no number " + std::to_string(options.database) : problem_;
    Later([this, id, reason] {
      if (RocksLane* closed = FindLane(id)) closed->Break(reason, true);
    });
  }
  return lane;
}

RocksLane* RocksDbBackend::FindLane(LaneId id) {
  if (last_lane_ != nullptr && last_lane_->id() == id) return last_lane_;
  const auto found = lanes_.find(id);
  if (found == lanes_.end()) return nullptr;
  return last_lane_ = found->second;
}

void RocksDbBackend::OnLaneDestroyed(RocksLane* lane) {
  if (last_lane_ == lane) last_lane_ = nullptr;
  lanes_.erase(lane->id());
}

// Every reply so far came with its effects' end.
void RocksDbBackend::AskPosition(std::function<void(std::optional<Position>)> done) {
  std::optional<Position> position;
  if (open_) position = executed_;
  Later([done = std::move(done), position] { done(position); });
}

void RocksDbBackend::Interrupt(std::string_view,
                               std::function<void(std::optional<std::string_view>)> done) {
  Later([done = std::move(done)] { done(kNotBusy); });
}

}  // namespace catena::rocks
