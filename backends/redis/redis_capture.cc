#include "backends/redis/redis_capture.h"

#include <algorithm>
#include <utility>

#include "proxy/base/log.h"
#include "proxy/base/mutant.h"
#include "proxy/resp/encoder.h"

namespace catena::redis {
namespace {

using Kind = PsyncReplica::Kind;

constexpr Duration kBacklogPoll = std::chrono::milliseconds(2);
constexpr Duration kRetry = std::chrono::milliseconds(50);
// Longer than a promotion without PSYNC FAILOVER can take; it ends by itself if we die meanwhile.
constexpr std::string_view kPauseMilliseconds = "2000";

}  // namespace

RedisCapture::RedisCapture(io::Reactor& reactor, const RedisOptions& options, RedisControl& control,
                           Owner* owner)
    : reactor_(reactor), options_(options), control_(control), owner_(owner) {
  step_timer_ = reactor_.MakeTimer([this] { Advance(); });
  ack_timer_ = reactor_.MakeTimer([this] { Acknowledge(); });
}

RedisCapture::~RedisCapture() {
  if (paused_) control_.Request({"CLIENT", "UNPAUSE"}, [](std::optional<std::string_view>) {});
}

ReplicaHello RedisCapture::Hello(bool capa_eof) const {
  ReplicaHello hello;
  hello.user = options_.user;
  hello.password = options_.password;
  hello.client_name = ConnectionName(options_.node, options_.incarnation);
  hello.run_id = control_.run_id();
  hello.capa_eof = capa_eof;
  return hello;
}

void RedisCapture::Attach() { Begin(Phase::kAttaching); }

void RedisCapture::Promote(const std::string& chain_replid, Position position) {
  replid_ = chain_replid;
  asked_ = position;
  Begin(Phase::kPromoting);
}

void RedisCapture::Begin(Phase phase) {
  phase_ = phase;
  deadline_ = reactor_.Now() + options_.attach_timeout;
  // Not inside the caller's stack: every result is an event of a later moment.
  AdvanceAfter(Duration::zero());
}

void RedisCapture::AdvanceAfter(Duration delay) { step_timer_->Start(delay); }

void RedisCapture::Advance() {
  if (phase_ == Phase::kAttached || phase_ == Phase::kLost) return;
  const TimePoint now = reactor_.Now();
  if (now >= deadline_) return Lost("cannot attach: " + last_trouble_);
  // Nothing need come of what is asked now: a Redis that cannot continue is silent until it has
  // made an end of another snapshot.
  AdvanceAfter(deadline_ - now);
  if (!link_) {
    link_ready_ = false;
    link_ = std::make_unique<ReplicaConnection>(reactor_, options_.address, Hello(false), this);
    return;
  }
  if (!link_ready_) return;
  if (phase_ == Phase::kReattaching) {
    link_ready_ = false;
    return link_->Ask(replid_, received_, false);
  }
  control_.Request({"INFO", "replication"}, [this, watch = Liveness::Watch(liveness_)](
                                                std::optional<std::string_view> reply) {
    if (watch.Gone()) return;
    if (!reply || (*reply)[0] != '$') {
      last_trouble_ = reply ? ReplyError(*reply) : "the control connection broke";
      return AdvanceAfter(kRetry);
    }
    if (!link_ || !link_ready_) return;  // it broke meanwhile; its next handshake goes on
    const ServerInfo server = ParseInfo(ReplyText(*reply));
    if (phase_ == Phase::kAttaching) ConsiderAttach(server);
    if (phase_ == Phase::kPromoting) ConsiderPromote(server);
  });
}

void RedisCapture::ConsiderAttach(const ServerInfo& server) {
  if (!server.is_master) return BecomeMaster();
  if (!server.backlog_active) {
    last_trouble_ = "the Redis makes no replication backlog";
    if (!starter_) OpenStarter();
    return AdvanceAfter(kBacklogPoll);
  }
  replid_ = server.replid;
  asked_ = Position(server.master_offset);
  link_ready_ = false;
  link_->Ask(replid_, asked_, false);
}

// One connection that can take a diskless snapshot asks for one: the backlog is made at once, the
// snapshot would begin after repl-diskless-sync-delay and is never wanted.
void RedisCapture::OpenStarter() {
  starter_ = std::make_unique<ReplicaConnection>(reactor_, options_.address, Hello(true), this);
}

void RedisCapture::ConsiderPromote(const ServerInfo& server) {
  if (server.is_master) {
    // Promoted already (without FAILOVER, or the answer was lost): its former history must end
    // where we stand.
    if (server.replid2 != replid_ ||
        server.second_offset != static_cast<int64_t>(asked_.value()) + 1) {
      return Lost("the Redis is a master of another history than " + replid_ + " up to " +
                  resp::Decimal(asked_.value()));
    }
    link_ready_ = false;
    return link_->Ask(replid_, asked_, false);
  }
  if (CATENA_MUTANT("promoted-unapplied") && server.replica_offset) {
    asked_ = Position(*server.replica_offset);
  }
  if (server.replid != replid_ || server.replica_offset != asked_.value()) {
    return Lost("the Redis stands at " + server.replid + " " +
                resp::Decimal(server.replica_offset.value_or(0)) + ", not at " + replid_ + " " +
                resp::Decimal(asked_.value()));
  }
  if (without_failover_) return BecomeMaster();
  link_ready_ = false;
  link_->Ask(replid_, asked_, true);
}

void RedisCapture::BecomeMaster() {
  const auto next = [this,
                     watch = Liveness::Watch(liveness_)](std::optional<std::string_view> reply) {
    if (watch.Gone()) return;
    const std::string error = reply ? ReplyError(*reply) : "the control connection broke";
    if (!error.empty()) last_trouble_ = "REPLICAOF NO ONE: " + error;
    AdvanceAfter(error.empty() ? Duration::zero() : kRetry);
  };
  if (phase_ == Phase::kPromoting) {
    // Keeps direct writers from pushing the first bytes out of a small backlog. Where WRITE is not
    // known (before 6.2) the backlog must do.
    paused_ = true;
    control_.Request({"CLIENT", "PAUSE", kPauseMilliseconds, "WRITE"},
                     [](std::optional<std::string_view>) {});
  }
  control_.Request({"REPLICAOF", "NO", "ONE"}, next);
}

void RedisCapture::OnReplicaEvent(ReplicaConnection* connection, const PsyncReplica::Event& event) {
  if (connection == starter_.get()) {
    if (event.kind == Kind::kReady) starter_->Ask("", std::nullopt, false);
    if (event.kind == Kind::kLater || event.kind == Kind::kRefused) {
      last_trouble_ = event.text;
      starter_.reset();
    }
    return;
  }
  switch (event.kind) {
    case Kind::kReady:
      link_ready_ = true;
      return Advance();
    case Kind::kContinue:
      return OnContinue(event.replid);
    case Kind::kStream:
      received_ = received_ + event.bytes.size();
      return owner_->OnCaptureBytes(event.bytes);
    case Kind::kFullResync:
      if (phase_ != Phase::kAttaching)
        return Lost("a gap: the Redis cannot continue from " +
                    resp::Decimal((phase_ == Phase::kPromoting ? asked_ : received_).value()));
      return StartOver("the backlog was overrun", Duration::zero());
    case Kind::kLater:
      return StartOver(event.text, kRetry);
    case Kind::kRefused:
      return OnRefused(event.text);
    default:
      return;
  }
}

void RedisCapture::OnContinue(const std::string& replid) {
  const bool first = phase_ != Phase::kReattaching;
  replid_ = replid;
  phase_ = Phase::kAttached;
  starter_.reset();
  step_timer_->Stop();
  if (std::exchange(paused_, false)) {
    control_.Request({"CLIENT", "UNPAUSE"}, [](std::optional<std::string_view>) {});
  }
  if (first) received_ = asked_;
  silent_since_.reset();
  log::Info(first ? "capture_attached" : "capture_continued",
            {{"address", options_.address}, {"replid", replid_}, {"position", received_.value()}});
  Acknowledge();
  if (first) owner_->OnCaptureAttached(received_);
}

void RedisCapture::OnRefused(const std::string& text) {
  if (phase_ == Phase::kPromoting && !without_failover_) {
    log::Info("promote_without_failover", {{"address", options_.address}, {"why", text}});
    without_failover_ = true;
    return StartOver(text, Duration::zero());
  }
  if (phase_ == Phase::kAttaching) return StartOver(text, kRetry);
  Lost(text);
}

void RedisCapture::StartOver(const std::string& reason, Duration delay) {
  last_trouble_ = reason;
  link_.reset();
  link_ready_ = false;
  AdvanceAfter(delay);
}

void RedisCapture::OnReplicaClosed(ReplicaConnection* connection, const std::string& reason) {
  last_trouble_ = reason;
  if (connection == starter_.get()) {
    starter_.reset();
    return;
  }
  if (phase_ == Phase::kAttached) return Reattach(reason);
  StartOver(reason, kRetry);
}

void RedisCapture::Reattach(const std::string& reason) {
  log::Info("capture_broken",
            {{"address", options_.address}, {"position", received_.value()}, {"why", reason}});
  ack_timer_->Stop();
  phase_ = Phase::kReattaching;
  deadline_ = reactor_.Now() + options_.attach_timeout;
  StartOver(reason, Duration::zero());
}

// A connection that the Redis has closed stays open, and silent, while a child of it that saves or
// rewrites its files has it, too.
void RedisCapture::Observe(Position executed) {
  if (phase_ != Phase::kAttached) return;
  const bool is_silent = executed > received_ && received_ == stood_at_;
  stood_at_ = received_;
  const TimePoint now = reactor_.Now();
  if (!is_silent) {
    silent_since_.reset();
  } else if (!silent_since_) {
    silent_since_ = now;
  } else if (now - *silent_since_ >= options_.hang_timeout) {
    Reattach("the Redis has executed more, and sends nothing");
  }
}

void RedisCapture::Lost(std::string reason) {
  phase_ = Phase::kLost;
  link_.reset();
  starter_.reset();
  step_timer_->Stop();
  ack_timer_->Stop();
  log::Warn("capture_lost", {{"address", options_.address}, {"why", reason}});
  owner_->OnCaptureLost(reason);
}

void RedisCapture::SetCommitted(Position position) {
  const bool wanted = committed_ < ack_until_;
  committed_ = std::max(committed_, position);
  if (wanted && phase_ == Phase::kAttached) Acknowledge();
}

void RedisCapture::AckWanted() { ack_until_ = received_; }

void RedisCapture::Acknowledge() {
  if (phase_ != Phase::kAttached) return;
  link_->Acknowledge(committed_);
  ack_timer_->Start(options_.check_interval);
}

}  // namespace catena::redis
