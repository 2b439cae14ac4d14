#include "backends/redis/redis_backend.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "backends/redis/digest.h"
#include "backends/redis/redis_capture.h"
#include "backends/redis/redis_control.h"
#include "backends/redis/redis_feed.h"
#include "backends/redis/redis_lane.h"
#include "backends/redis/redis_snapshot.h"
#include "proxy/base/liveness.h"
#include "proxy/base/log.h"
#include "proxy/resp/encoder.h"

namespace catena::redis {
namespace {

// Of silent connections so many are looked for at a time.
constexpr size_t kLanesAskedForMax = 1000;

// Puts the parts together: which of them lives in which role, and what the Redis must say of its
// own role.
class RedisBackend final : public backend::Backend,
                           public RedisControl::Owner,
                           public RedisCapture::Owner,
                           public RedisFeed::Owner,
                           public RedisLane::Host,
                           public RedisSnapshot::Host {
 public:
  RedisBackend(io::Reactor& reactor, RedisOptions options)
      : reactor_(reactor), options_(std::move(options)), control_(reactor_, options_, this) {}
  ~RedisBackend() override;

  void Start(backend::BackendEvents* events) override;
  void AttachCapture() override;
  void Promote(const std::string& chain_replid, Position position) override;
  void SetCommitted(Position position) override;
  void AckWanted() override;
  void Follow(const std::string& chain_replid, Position position,
              backend::FeedSource* source) override;
  void FeedAvailable(Position committed) override;
  void ApplyAwaited(Position position) override;
  void BeginSnapshot(const std::string& chain_replid, Position position, uint64_t length,
                     backend::FeedSource* source) override;
  bool SnapshotChunk(std::string_view bytes) override;
  std::string DigestRequest(std::span<const std::string_view> keys) const override {
    return redis::DigestRequest(keys);
  }
  void Release() override;
  std::unique_ptr<backend::Lane> OpenLane(const backend::LaneOptions& options,
                                          backend::LaneHandler* handler) override;
  void AskPosition(std::function<void(std::optional<Position>)> done) override;
  void Interrupt(std::string_view command,
                 std::function<void(std::optional<std::string_view>)> done) override {
    control_.RequestRaw(command, std::move(done));
  }
  std::unique_ptr<backend::SnapshotReader> TakeSnapshot(backend::SnapshotSink* sink,
                                                        const backend::SnapshotPart& held) override;
  const backend::Limits& CurrentLimits() const override { return control_.limits(); }
  bool HasAbandoned() const override { return !abandoned_.empty(); }
  uint64_t LastKeyCount() const override { return control_.keys(); }
  std::string Problem() const override { return control_.problem(); }
  bool Reachable() const override { return control_.connected(); }

 private:
  // What the Redis must say of its role, or somebody else reconfigured it.
  enum class Wanted { kAnything, kAsExamined, kMaster, kOurReplica };

  void OnControlExamined(const Examination& examination) override;
  void OnControlLost(const std::string& reason) override;
  void OnControlChecked(const ServerInfo& server, uint64_t generation) override;
  uint64_t RoleGeneration() const override { return generation_; }

  void OnCaptureAttached(Position position) override;
  void OnCaptureBytes(std::string_view bytes) override { events_->OnEffects(bytes); }
  void OnCaptureLost(const std::string& reason) override;

  void OnFeedMaster(const std::string& host, int port) override;
  void OnFeedApplied(Position position) override { events_->OnApplied(position); }
  void OnFeedGap(const std::string& reason) override { events_->OnFeedGap(reason); }
  void OnFeedSnapshotRoom() override { events_->OnSnapshotRoom(); }
  void OnFeedSnapshotLoaded(Position position) override;
  void OnFeedSnapshotRefused(const std::string& reason) override;
  void OnFeedBroken(const std::string& reason) override { control_.Lose(reason); }

  const std::string& LaneRunId() const override { return control_.run_id(); }
  std::optional<Position> JudgeLaneRole(const Role& role) override;
  void OnLaneOtherProcess(const std::string& reason) override { control_.Lose(reason); }
  void OnLaneDestroyed(RedisLane* lane) override;
  void OnSnapshotDestroyed(RedisSnapshot* snapshot) override { std::erase(snapshots_, snapshot); }

  void EndAbandoned(const std::string& id);
  void LookForClosedLanes();
  // Ends the role. Nothing is said to the Redis.
  void EndRole();
  void Want(Wanted wanted);
  bool Fits(const Role& role) const;
  // Breaks what still runs on connections of a Redis that is lost.
  void BreakConnections(const std::string& reason);

  io::Reactor& reactor_;
  const RedisOptions options_;
  backend::BackendEvents* events_ = nullptr;
  RedisControl control_;
  std::unique_ptr<RedisCapture> capture_;
  std::unique_ptr<RedisFeed> feed_;
  Wanted wanted_ = Wanted::kAnything;
  std::string master_host_;  // kOurReplica
  int master_port_ = 0;
  uint64_t generation_ = 0;  // one more with each change of wanted_
  bool has_role_ = false;
  std::vector<RedisLane*> lanes_;  // owned by those who opened them
  std::vector<RedisSnapshot*> snapshots_;
  std::set<std::string> abandoned_;  // ids of connections that HasAbandoned tells of
  Liveness liveness_;
};

RedisBackend::~RedisBackend() {
  EndRole();
  for (RedisLane* lane : lanes_) lane->Detach();
  for (RedisSnapshot* snapshot : snapshots_) snapshot->Detach();
}

void RedisBackend::Start(backend::BackendEvents* events) {
  events_ = events;
  control_.Start();
}

void RedisBackend::Want(Wanted wanted) {
  wanted_ = wanted;
  ++generation_;
}

void RedisBackend::EndRole() {
  capture_.reset();
  feed_.reset();
  has_role_ = false;
  control_.SetLoading(false);
  Want(Wanted::kAnything);
}

// --- what the control connection found ---

void RedisBackend::OnControlExamined(const Examination& examination) {
  // A role that was given while the examination ran goes first; its end examines again.
  if (has_role_) return;
  Want(Wanted::kAsExamined);
  events_->OnExamined(examination.info);
}

void RedisBackend::OnControlLost(const std::string& reason) {
  const Liveness::Watch watch(liveness_);
  EndRole();
  abandoned_.clear();
  events_->OnLost(reason);
  if (!watch.Gone()) BreakConnections(reason);
}

void RedisBackend::BreakConnections(const std::string& reason) {
  const Liveness::Watch watch(liveness_);
  // Each call may destroy any of them, and open others.
  for (RedisLane* lane : std::vector<RedisLane*>(lanes_)) {
    if (std::find(lanes_.begin(), lanes_.end(), lane) == lanes_.end()) continue;
    lane->Break(reason);
    if (watch.Gone()) return;
  }
  for (RedisSnapshot* snapshot : std::vector<RedisSnapshot*>(snapshots_)) {
    if (std::find(snapshots_.begin(), snapshots_.end(), snapshot) == snapshots_.end()) continue;
    snapshot->Fail(reason);
    if (watch.Gone()) return;
  }
}

void RedisBackend::OnControlChecked(const ServerInfo& server, uint64_t generation) {
  for (const std::string& id : std::set<std::string>(abandoned_)) EndAbandoned(id);
  LookForClosedLanes();
  if (generation != generation_ || wanted_ == Wanted::kAnything) return;
  const std::string now = server.is_master ? std::string("a master")
                                           : "a replica of " + server.master_host + ":" +
                                                 std::to_string(server.master_port);
  const bool was_master = wanted_ == Wanted::kAsExamined ? control_.examination().server.is_master
                                                         : wanted_ == Wanted::kMaster;
  const bool ours = wanted_ == Wanted::kOurReplica;
  // A candidate with a place in the history is watched as a follower is: its place is offered as it
  // was examined.
  const bool has_place =
      ours || (wanted_ == Wanted::kAsExamined && !was_master && control_.examination().info.resume);
  // Whatever else it is given up for: the examination may find the setting right again.
  if (has_place && (!server.read_only || server.obeys_maxmemory)) control_.DoubtPlace();
  if (server.is_master != was_master) return control_.Lose("somebody made it " + now);
  if (wanted_ == Wanted::kMaster && capture_) capture_->Observe(Position(server.master_offset));
  if (!has_place) return;
  if (ours && (server.master_host != master_host_ || server.master_port != master_port_)) {
    return control_.Lose("somebody made it " + now);
  }
  if (!server.read_only) return control_.Lose("somebody switched replica-read-only off");
  if (server.obeys_maxmemory) {
    return control_.Lose("somebody switched replica-ignore-maxmemory off");
  }
  if (feed_ && server.replid == feed_->chain_replid() && server.replica_offset) {
    feed_->Observe(*server.replica_offset);
  }
}

// --- head ---

void RedisBackend::AttachCapture() {
  if (!control_.ready()) return;
  EndRole();
  has_role_ = true;
  capture_ = std::make_unique<RedisCapture>(reactor_, options_, control_, this);
  capture_->Attach();
}

void RedisBackend::Promote(const std::string& chain_replid, Position position) {
  if (!control_.ready()) return;
  has_role_ = true;
  Want(Wanted::kAnything);
  // Its connection to us stays until it is a master: nothing must come between.
  if (feed_) feed_->Stop();
  capture_ = std::make_unique<RedisCapture>(reactor_, options_, control_, this);
  capture_->Promote(chain_replid, position);
}

void RedisBackend::OnCaptureAttached(Position position) {
  feed_.reset();
  Want(Wanted::kMaster);
  events_->OnAttached(position);
}

void RedisBackend::OnCaptureLost(const std::string& reason) {
  Want(Wanted::kAnything);
  events_->OnCaptureLost(reason);
}

void RedisBackend::SetCommitted(Position position) {
  if (capture_) capture_->SetCommitted(position);
}

void RedisBackend::AckWanted() {
  if (capture_) capture_->AckWanted();
}

// --- follower ---

void RedisBackend::Follow(const std::string& chain_replid, Position position,
                          backend::FeedSource* source) {
  if (!control_.ready()) return;
  EndRole();
  has_role_ = true;
  feed_ = std::make_unique<RedisFeed>(reactor_, options_, control_, this, chain_replid, position,
                                      source);
  feed_->Follow();
}

void RedisBackend::FeedAvailable(Position) {
  if (feed_) feed_->Available();
}

void RedisBackend::ApplyAwaited(Position position) {
  if (feed_) feed_->Await(position);
}

void RedisBackend::BeginSnapshot(const std::string& chain_replid, Position position,
                                 uint64_t length, backend::FeedSource* source) {
  if (!control_.ready()) return;
  EndRole();
  has_role_ = true;
  control_.SetLoading(true);
  feed_ = std::make_unique<RedisFeed>(reactor_, options_, control_, this, chain_replid, position,
                                      source);
  feed_->BeginSnapshot(length);
}

bool RedisBackend::SnapshotChunk(std::string_view bytes) {
  return feed_ ? feed_->SnapshotChunk(bytes) : true;
}

void RedisBackend::OnFeedMaster(const std::string& host, int port) {
  master_host_ = host;
  master_port_ = port;
  Want(Wanted::kOurReplica);
}

void RedisBackend::OnFeedSnapshotLoaded(Position position) {
  control_.SetLoading(false);
  events_->OnSnapshotLoaded(position);
}

void RedisBackend::OnFeedSnapshotRefused(const std::string& reason) {
  control_.SetLoading(false);
  events_->OnSnapshotRefused(reason);
}

// --- any role ---

void RedisBackend::Release() {
  EndRole();
  control_.ExamineAgain();
}

std::unique_ptr<backend::Lane> RedisBackend::OpenLane(const backend::LaneOptions& options,
                                                      backend::LaneHandler* handler) {
  auto lane = std::make_unique<RedisLane>(reactor_, options_, options, this, handler);
  lanes_.push_back(lane.get());
  return lane;
}

// A Redis reads what a closed connection still holds; only one that it has killed is over.
void RedisBackend::OnLaneDestroyed(RedisLane* lane) {
  std::erase(lanes_, lane);
  if (!lane->Owes() || !control_.ready()) return;
  abandoned_.insert(lane->client_id());
  EndAbandoned(lane->client_id());
}

void RedisBackend::EndAbandoned(const std::string& id) {
  control_.Request({"CLIENT", "KILL", "ID", id},
                   [this, id, watch = Liveness::Watch(liveness_)](auto reply) {
                     if (watch.Gone()) return;
                     // Busy with a script: asked again when it is looked at next.
                     const bool busy = reply && reply->starts_with("-BUSY ");
                     if (!reply && control_.ready()) return EndAbandoned(id);
                     if (!busy) abandoned_.erase(id);
                   });
}

// A connection that the Redis has closed stays open, and silent, while a child of it that saves or
// rewrites its files has it, too. One that is silent for another reason - what it waits for blocks -
// is among the Redis' clients.
void RedisBackend::LookForClosedLanes() {
  std::string command;
  std::vector<std::string> asked;
  for (RedisLane* lane : lanes_) {
    if (asked.size() == kLanesAskedForMax) break;
    if (lane->IsSilent(reactor_.Now(), options_.hang_timeout)) asked.push_back(lane->client_id());
  }
  if (asked.empty()) return;
  std::vector<std::string_view> words{"CLIENT", "LIST", "ID"};
  words.insert(words.end(), asked.begin(), asked.end());
  resp::AppendCommand(command, words);
  control_.RequestRaw(command, [this, asked, watch = Liveness::Watch(liveness_)](auto reply) {
    if (watch.Gone() || !reply || !reply->starts_with("$")) return;
    std::set<std::string> closed(asked.begin(), asked.end());
    for (const ClientEntry& client : ParseClientList(ReplyText(*reply))) closed.erase(client.id);
    for (RedisLane* lane : std::vector<RedisLane*>(lanes_)) {
      if (std::find(lanes_.begin(), lanes_.end(), lane) == lanes_.end()) continue;
      if (lane->Owes() && closed.contains(lane->client_id())) {
        lane->Break("the Redis has closed it");
        if (watch.Gone()) return;
      }
    }
  });
}

bool RedisBackend::Fits(const Role& role) const {
  if (wanted_ == Wanted::kMaster) return role.is_master;
  if (wanted_ == Wanted::kOurReplica) return !role.is_master;
  return true;
}

std::optional<Position> RedisBackend::JudgeLaneRole(const Role& role) {
  if (!Fits(role)) return std::nullopt;
  if (role.is_master) return Position(*role.offset);
  if (role.offset && feed_) {
    const Liveness::Watch watch(liveness_);
    const uint64_t generation = generation_;
    feed_->Observe(*role.offset);
    // What it observed may have ended the role, or everything.
    if (watch.Gone() || generation != generation_) return std::nullopt;
  }
  if (role.offset) return Position(*role.offset);
  // Its connection to us is down: it still has what it had.
  if (feed_) return feed_->applied();
  return Position(control_.examination().server.replica_offset.value_or(0));
}

void RedisBackend::AskPosition(std::function<void(std::optional<Position>)> done) {
  control_.AskRole([this, done = std::move(done), generation = generation_,
                    watch = Liveness::Watch(liveness_)](std::optional<Role> role) mutable {
    if (!role || watch.Gone()) return done(std::nullopt);
    const std::optional<Position> position = JudgeLaneRole(*role);
    if (position || watch.Gone()) return done(position);
    if (generation != generation_)
      return AskPosition(std::move(done));  // asked before the role changed
    done(std::nullopt);
    if (!watch.Gone()) {
      control_.Lose(role->is_master ? "it is a master, not our replica"
                                    : "it is a replica, not a master");
    }
  });
}

// A Redis keeps no RDB: each is a new one.
std::unique_ptr<backend::SnapshotReader> RedisBackend::TakeSnapshot(backend::SnapshotSink* sink,
                                                                    const backend::SnapshotPart&) {
  auto snapshot =
      std::make_unique<RedisSnapshot>(reactor_, options_, control_.run_id(),
                                      feed_ ? feed_->chain_replid() : std::string(), this, sink);
  snapshots_.push_back(snapshot.get());
  return snapshot;
}

}  // namespace

std::unique_ptr<backend::Backend> MakeRedisBackend(io::Reactor& reactor, RedisOptions options) {
  return std::make_unique<RedisBackend>(reactor, std::move(options));
}

}  // namespace catena::redis
