#include "backends/redis/redis_feed.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "backends/redis/redis_feed_link.h"
#include "proxy/base/log.h"
#include "proxy/base/mutant.h"
#include "proxy/resp/encoder.h"

namespace catena::redis {
namespace {

// Redis executes what it reads at once, 16 KB at a time; larger writes make ROLE late.
constexpr size_t kPieceBytes = 16u << 10;
// Connections that have not asked for anything; the Redis makes one at a time.
constexpr size_t kLinksMax = 4;
// ROLE is asked again at once so often, then after 1 ms, 2 ms, ... 10 ms: a Redis that is slow to
// execute what it was fed must not also be kept busy with questions.
constexpr int kEagerAsks = 3;
constexpr Duration kAskPause = std::chrono::milliseconds(1);
constexpr int kAskPausesMax = 10;

// How long and for how many bytes nobody needs to know what is applied.
constexpr Duration kLazyAsk = std::chrono::milliseconds(5);
constexpr uint64_t kUnaskedBytesMax = 256u << 10;

}  // namespace

RedisFeed::Link::Link(RedisFeed& feed, std::unique_ptr<io::Stream> stream)
    : feed_(feed), stream_(std::move(stream)) {
  stream_->SetHandler(this);
}

void RedisFeed::Link::OnRead(std::string_view bytes) {
  const Liveness::Watch watch(liveness_);
  while (true) {
    std::string out;
    const PsyncMaster::Event event = machine_.Next(std::exchange(bytes, {}), out);
    if (!out.empty()) stream_->Write(out);
    switch (event.kind) {
      case PsyncMaster::Kind::kNeedMore:
        return;
      case PsyncMaster::Kind::kAsk:
        feed_.OnAsk(this, event);
        break;
      case PsyncMaster::Kind::kAck:
        feed_.OnAck(this, *event.position);
        break;
      case PsyncMaster::Kind::kClose:
        return feed_.OnLinkClosed(this, event.text);
    }
    if (watch.Gone()) return;
  }
}

void RedisFeed::Link::OnClosed(std::string_view reason) {
  feed_.OnLinkClosed(this, std::string(reason));
}

void RedisFeed::Link::OnDrained() {
  if (feed_.active_ == this) feed_.OnLinkDrained();
}

RedisFeed::RedisFeed(io::Reactor& reactor, const RedisOptions& options, RedisControl& control,
                     Owner* owner, std::string chain_replid, Position position,
                     backend::FeedSource* source)
    : reactor_(reactor),
      options_(options),
      control_(control),
      owner_(owner),
      chain_replid_(std::move(chain_replid)),
      position_(position),
      source_(source),
      fed_(position),
      applied_(position) {
  connect_timer_ = reactor_.MakeTimer([this] {
    const std::string reason = "the Redis did not connect to " + host_ + ":" +
                               std::to_string(port_) + "; can it reach that address?";
    if (snapshot_) return RefuseSnapshot(reason);
    Gap(reason);
  });
  role_timer_ =
      reactor_.MakeTimer([this] { phase_ == Phase::kLoading ? PollLoading() : AskApplied(); });
}

RedisFeed::~RedisFeed() = default;

// --- becoming its master ---

void RedisFeed::Follow() { Listen(); }

void RedisFeed::BeginSnapshot(uint64_t length) {
  snapshot_ = true;
  snapshot_length_ = length;
  check_.emplace(length, control_.examination().rdb_version);
  Listen();
}

void RedisFeed::Listen() {
  connect_timer_->Start(options_.feed_connect_timeout);
  auto listener =
      reactor_.Listen(options_.replication_address,
                      [this](std::unique_ptr<io::Stream> stream) { OnAccept(std::move(stream)); });
  if (!listener) {
    reactor_.Defer([this, watch = Liveness::Watch(liveness_), text = listener.error().message] {
      if (watch.Gone()) return;
      const std::string reason = "cannot listen on " + options_.replication_address + ": " + text;
      return snapshot_ ? RefuseSnapshot(reason) : Gap(reason);
    });
    return;
  }
  listener_ = std::move(*listener);
  const std::string& bound = listener_->BoundAddress();
  const size_t colon = bound.rfind(':');
  port_ = std::atoi(bound.c_str() + colon + 1);
  host_ = bound.substr(0, colon);
  if (host_.size() > 2 && host_.front() == '[') host_ = host_.substr(1, host_.size() - 2);
  if (host_ == "0.0.0.0" || host_ == "::") host_ = control_.LocalHost();
  AskForReplica();
}

void RedisFeed::AskForReplica() {
  if (options_.tls) {
    control_.Request(
        {"CONFIG", "SET", "tls-replication", "yes"},
        [this, watch = Liveness::Watch(liveness_)](std::optional<std::string_view> reply) {
          if (watch.Gone() || !reply || ReplyError(*reply).empty()) return;
          log::Warn("tls_replication_unset",
                    {{"address", options_.address}, {"why", ReplyError(*reply)}});
        });
  }
  // The port may be the one that it has already, a fixed one or by chance; then REPLICAOF does
  // nothing: the Redis dials again only each second, and where our predecessor's machine went away
  // without a word it holds on to that connection for repl-timeout. A detour makes it dial now; its
  // place in the history is kept.
  control_.Request({"REPLICAOF", host_, "1"}, [](std::optional<std::string_view>) {});
  control_.Request(
      {"REPLICAOF", host_, std::to_string(port_)},
      [this, watch = Liveness::Watch(liveness_)](std::optional<std::string_view> reply) {
        if (watch.Gone() || phase_ == Phase::kEnded) return;
        if (!reply) return AskForReplica();  // within the grace, or we are gone with the Redis
        const std::string error = ReplyError(*reply);
        if (error.empty()) return owner_->OnFeedMaster(host_, port_);
        const std::string reason = "REPLICAOF refused: " + error;
        return snapshot_ ? RefuseSnapshot(reason) : Gap(reason);
      });
}

void RedisFeed::OnAccept(std::unique_ptr<io::Stream> stream) {
  // Whoever fills the table without asking gives way to the newest.
  if (links_.size() >= kLinksMax) {
    const auto idle = std::find_if(links_.begin(), links_.end(),
                                   [this](const auto& link) { return link.get() != active_; });
    links_.erase(idle);
  }
  links_.push_back(std::make_unique<Link>(*this, std::move(stream)));
}

void RedisFeed::RemoveLink(Link* link) {
  if (active_ == link) active_ = nullptr;
  std::erase_if(links_, [link](const auto& owned) { return owned.get() == link; });
}

void RedisFeed::MakeActive(Link* link) {
  Link* const former = std::exchange(active_, link);
  if (former && former != link) RemoveLink(former);
  drain_asked_ = false;
  connect_timer_->Stop();
}

void RedisFeed::OnLinkClosed(Link* link, const std::string& reason) {
  const bool was_active = link == active_;
  RemoveLink(link);
  if (!was_active || phase_ == Phase::kEnded) return;
  log::Info("feed_broken", {{"address", options_.address},
                            {"fed", fed_.value()},
                            {"applied", applied_.value()},
                            {"why", reason}});
  if (snapshot_) return RefuseSnapshot("the Redis broke the snapshot off: " + reason);
  phase_ = Phase::kWaiting;
  connect_timer_->Start(options_.feed_connect_timeout);
}

// --- answering its question ---

void RedisFeed::OnAsk(Link* link, const PsyncMaster::Event& ask) {
  log::Info("feed_asked",
            {{"address", options_.address},
             {"replid", ask.replid},
             {"position", ask.position ? resp::Decimal(ask.position->value()) : "snapshot"}});
  if (phase_ == Phase::kEnded) {
    link->stream().Write(link->machine().Later());
    return;
  }
  // Anybody can dial this port. The Redis that belongs here says of itself that it is just asking;
  // everybody else would be given the data, and his place in the history taken for our Redis's.
  control_.Request({"ROLE"}, [this, ask, watch = Liveness::Watch(liveness_), link,
                              link_watch = link->Watch()](std::optional<std::string_view> reply) {
    if (watch.Gone() || link_watch.Gone()) return;
    if (!reply || reply->find("\r\nhandshake\r\n") == std::string_view::npos) {
      log::Warn("feed_stranger",
                {{"address", options_.address}, {"from", link->stream().PeerName()}});
      return OnLinkClosed(link, "it is not the Redis of this node");
    }
    Answer(link, ask);
  });
}

void RedisFeed::Answer(Link* link, const PsyncMaster::Event& ask) {
  if (phase_ == Phase::kEnded) {
    link->stream().Write(link->machine().Later());
    return;
  }
  if (snapshot_) return AnswerSnapshot(link);
  AnswerFollow(link, ask);
}

// A Redis restarted from an RDB of this history asks under its own new name; it is the one
// examined, and it has not been written to since, if it stands exactly where it stood then.
bool RedisFeed::MayResumeAsMaster(const PsyncMaster::Event& ask) const {
  const Examination& seen = control_.examination();
  const auto& resume = seen.info.resume;
  if (!seen.server.is_master || !resume || resume->replid != chain_replid_) return false;
  if (ask.replid != seen.server.replid || ask.position != resume->position) return false;
  // Its selected database is forgotten: 0.
  return source_->DatabaseAt(resume->position) == 0 || CATENA_MUTANT("former-head-kept") ||
         CATENA_MUTANT("database-forgotten");
}

void RedisFeed::AnswerFollow(Link* link, const PsyncMaster::Event& ask) {
  const bool known = ask.position && (ask.replid == chain_replid_ || MayResumeAsMaster(ask));
  if (!known || !source_->CommittedBytes(*ask.position, 1)) {
    link->stream().Write(link->machine().Later());
    return Gap("it stands at " + ask.replid + " " +
               (ask.position ? resp::Decimal(ask.position->value()) : std::string("?")) +
               ", which the log of " + chain_replid_ + " cannot continue");
  }
  MakeActive(link);
  link->stream().Write(link->machine().Continue(chain_replid_));
  phase_ = Phase::kStreaming;
  fed_ = *ask.position;
  applied_ = std::max(applied_, fed_);
  log::Info("feed_continues",
            {{"address", options_.address}, {"replid", chain_replid_}, {"position", fed_.value()}});
  const Liveness::Watch watch(liveness_);
  owner_->OnFeedApplied(applied_);
  if (!watch.Gone()) Pump();
}

void RedisFeed::AnswerSnapshot(Link* link) {
  if (phase_ != Phase::kWaiting) {
    return RefuseSnapshot("the Redis asked anew while the snapshot was being sent");
  }
  MakeActive(link);
  phase_ = Phase::kSending;
  link->stream().Write(link->machine().FullResync(chain_replid_, position_, snapshot_length_));
  FlushSnapshot();
  if (check_->bytes_seen() == snapshot_length_) return StartLoading();
  OfferRoom();
}

// --- the stream ---

void RedisFeed::Available() { Pump(); }

void RedisFeed::Stop() { End(); }

void RedisFeed::Pump() {
  if (phase_ != Phase::kStreaming || !active_) return;
  io::Stream& stream = active_->stream();
  while (stream.UnsentBytes() < options_.feed_unsent_max) {
    const auto bytes = source_->CommittedBytes(fed_, kPieceBytes);
    if (!bytes) return Gap("the log no longer has position " + resp::Decimal(fed_.value()));
    if (bytes->empty()) break;
    stream.Write(*bytes);
    fed_ = fed_ + bytes->size();
  }
  if (!drain_asked_ && stream.UnsentBytes() >= options_.feed_unsent_max) {
    drain_asked_ = true;
    stream.NotifyBelow(options_.feed_unsent_max / 2);
  }
  AskWhenDue();
}

void RedisFeed::Await(Position position) {
  if (position <= awaited_) return;
  awaited_ = position;
  fruitless_ = 0;
  if (applied_ < awaited_) AskApplied();
}

// Each question costs both processes system calls, so without anybody who waits it is asked for
// many pieces at once.
void RedisFeed::AskWhenDue() {
  if (applied_ >= fed_ || role_asked_ || ask_due_) return;
  if (applied_ < awaited_ || fed_ - applied_ >= kUnaskedBytesMax) return AskApplied();
  ask_due_ = true;
  role_timer_->Start(kLazyAsk);
}

void RedisFeed::OnLinkDrained() {
  drain_asked_ = false;
  if (phase_ == Phase::kSending) return OfferRoom();
  Pump();
}

// ROLE is the fastest way to learn that the feed is executed: its own acknowledgement comes once a
// second.
void RedisFeed::AskApplied() {
  ask_due_ = false;
  if (role_asked_ || phase_ != Phase::kStreaming || applied_ >= fed_) return;
  role_timer_->Stop();
  role_asked_ = true;
  control_.AskRole([this, watch = Liveness::Watch(liveness_)](std::optional<Role> role) {
    if (watch.Gone()) return;
    role_asked_ = false;
    OnRole(role);
  });
}

void RedisFeed::OnRole(std::optional<Role> role) {
  if (!role || phase_ != Phase::kStreaming) return;
  if (role->is_master) return Fail("it is no replica any more");
  const Position before = applied_;
  const Liveness::Watch watch(liveness_);
  if (role->offset) Observe(*role->offset);
  if (watch.Gone() || phase_ != Phase::kStreaming || applied_ >= fed_) return;
  fruitless_ = applied_ > before ? 0 : fruitless_ + 1;
  if (applied_ >= awaited_ && fruitless_ == 0) return AskWhenDue();
  if (fruitless_ <= kEagerAsks) return AskApplied();
  ask_due_ = true;
  role_timer_->Start(kAskPause * std::min(fruitless_ - kEagerAsks, kAskPausesMax));
}

void RedisFeed::Observe(uint64_t offset) {
  if (phase_ != Phase::kStreaming && phase_ != Phase::kWaiting) return;
  if (snapshot_) return;
  const Position position(offset);
  if (position > fed_) {
    // While its connection is down it may have been fed by our predecessor up to the moment it was
    // cut.
    if (phase_ == Phase::kWaiting) return;
    return Fail("it is at " + resp::Decimal(offset) + ", ahead of what it was fed (" +
                resp::Decimal(fed_.value()) + ")");
  }
  if (position <= applied_) return;
  applied_ = position;
  owner_->OnFeedApplied(applied_);
}

void RedisFeed::OnAck(Link* link, Position position) {
  if (link != active_) return;
  if (phase_ == Phase::kLoading) return OnLoaded(position);
  if (phase_ == Phase::kStreaming) Observe(position.value());
}

// --- the snapshot ---

size_t RedisFeed::SnapshotBacklog() const {
  return snapshot_bytes_.size() + (active_ ? active_->stream().UnsentBytes() : 0);
}

bool RedisFeed::SnapshotChunk(std::string_view bytes) {
  if (!snapshot_ || phase_ == Phase::kEnded) return true;
  const RdbCheck::Verdict verdict = check_->Feed(bytes, snapshot_bytes_);
  if (verdict == RdbCheck::Verdict::kBad) {
    // Its last bytes never leave: the Redis drops the piece it has and keeps its old data.
    reactor_.Defer([this, watch = Liveness::Watch(liveness_)] {
      if (!watch.Gone()) RefuseSnapshot(check_->error());
    });
    return true;
  }
  FlushSnapshot();
  if (verdict == RdbCheck::Verdict::kGood) {
    if (active_) StartLoading();
    return true;
  }
  room_wanted_ = SnapshotBacklog() >= options_.snapshot_buffer_max;
  if (room_wanted_ && active_) OfferRoom();
  return !room_wanted_;
}

void RedisFeed::FlushSnapshot() {
  if (!active_ || snapshot_bytes_.empty()) return;
  const auto shared = std::make_shared<const std::string>(std::exchange(snapshot_bytes_, {}));
  active_->stream().WriteShared(shared, *shared);
}

// Tells the owner, or waits for the connection to drain.
void RedisFeed::OfferRoom() {
  if (!room_wanted_) return;
  if (SnapshotBacklog() >= options_.snapshot_buffer_max / 2) {
    if (drain_asked_) return;
    drain_asked_ = true;
    return active_->stream().NotifyBelow(options_.snapshot_buffer_max / 2 - 1);
  }
  room_wanted_ = false;
  owner_->OnFeedSnapshotRoom();
}

void RedisFeed::StartLoading() {
  phase_ = Phase::kLoading;
  fruitless_ = 0;
  role_timer_->Start(kAskPause);
}

// Its acknowledgement may come up to a second after the load.
void RedisFeed::PollLoading() {
  control_.AskRole([this, watch = Liveness::Watch(liveness_)](std::optional<Role> role) {
    if (watch.Gone() || !role || phase_ != Phase::kLoading) return;
    if (role->is_master) return Fail("it is no replica any more");
    if (role->offset) return OnLoaded(Position(*role->offset));
    fruitless_ = std::min(fruitless_ + 1, 5 * kAskPausesMax);
    role_timer_->Start(kAskPause * fruitless_);
  });
}

void RedisFeed::OnLoaded(Position position) {
  if (position != position_) {
    return RefuseSnapshot("it stands at " + resp::Decimal(position.value()) + " instead of " +
                          resp::Decimal(position_.value()) + " after loading");
  }
  role_timer_->Stop();
  ask_due_ = false;
  fruitless_ = 0;
  snapshot_ = false;
  check_.reset();
  phase_ = Phase::kStreaming;
  log::Info(
      "snapshot_loaded",
      {{"address", options_.address}, {"replid", chain_replid_}, {"position", position.value()}});
  const Liveness::Watch watch(liveness_);
  owner_->OnFeedSnapshotLoaded(position);
  if (!watch.Gone()) Pump();
}

// --- ends ---

void RedisFeed::End() {
  phase_ = Phase::kEnded;
  connect_timer_->Stop();
  role_timer_->Stop();
  snapshot_bytes_.clear();
}

void RedisFeed::Gap(std::string reason) {
  End();
  log::Warn("feed_gap", {{"address", options_.address}, {"why", reason}});
  owner_->OnFeedGap(reason);
}

void RedisFeed::RefuseSnapshot(std::string reason) {
  if (phase_ == Phase::kEnded) return;
  End();
  if (active_) RemoveLink(active_);
  log::Warn("snapshot_refused", {{"address", options_.address}, {"why", reason}});
  owner_->OnFeedSnapshotRefused(reason);
}

void RedisFeed::Fail(const std::string& reason) {
  End();
  owner_->OnFeedBroken(reason);
}

}  // namespace catena::redis
