#include "coordinator/election.h"

#include <algorithm>
#include <utility>

#include "proxy/base/log.h"

namespace catena::coordinator {

Election::Election(io::Reactor& reactor, etcd::Client& etcd, Options options, Events& events)
    : reactor_(reactor), etcd_(etcd), options_(std::move(options)), events_(events) {
  timer_ = reactor_.MakeTimer([this] {
    if (stopped_) return;
    leading() ? KeepAlive() : Look();
  });
}

void Election::Start() { Look(); }

void Election::Stop(std::function<void()> done) {
  stopped_ = true;
  timer_->Stop();
  const int64_t lease = lease_;
  if (leading()) Depose("stopping");
  if (lease == 0) return reactor_.Defer(std::move(done));
  etcd_.Revoke(lease, [done = std::move(done)](const etcd::Answer<bool>&) { done(); });
}

void Election::Lost(const std::string& reason) {
  if (!leading()) return;
  const int64_t lease = lease_;
  Depose(reason);
  LetGo(lease);
  LookAgain();
}

std::string Election::LeaderAddress(TimePoint now) const {
  if (Trusted(now)) return options_.address;
  // Older than a TTL it says nothing.
  return !leading() && now < leader_seen_ + options_.ttl ? leader_address_ : "";
}

void Election::Look() {
  etcd_.Range(etcd::Class::kLeadership, options_.key,
              [this](const etcd::Answer<etcd::RangeAnswer>& answer) { OnLooked(answer); });
}

void Election::OnLooked(const etcd::Answer<etcd::RangeAnswer>& answer) {
  if (stopped_) return;
  NoteHealth(answer.has_value(), answer ? "" : answer.error().message);
  if (!answer) return LookAgain();
  if (answer->pairs.empty()) {
    leader_address_.clear();
    return Campaign();
  }
  const std::string& value = answer->pairs.front().value;
  if (value != leader_address_) log::Info("leader_seen", {{"leader", value}});
  // The own address here is an earlier process's: its key has yet to expire.
  leader_address_ = value == options_.address ? "" : value;
  leader_seen_ = reactor_.Now();
  LookAgain();
}

void Election::Campaign() {
  const TimePoint asked = reactor_.Now();
  const int64_t seconds = std::chrono::duration_cast<std::chrono::seconds>(options_.ttl).count();
  etcd_.GrantLease(seconds, [this, asked](const etcd::Answer<etcd::LeaseAnswer>& answer) {
    if (stopped_) return;
    NoteHealth(answer.has_value(), answer ? "" : answer.error().message);
    if (!answer) return LookAgain();
    TakeKey(asked, *answer);
  });
}

void Election::TakeKey(TimePoint asked, const etcd::LeaseAnswer& lease) {
  lease_ = lease.id;
  etcd::Txn txn;
  txn.compares = {{options_.key, etcd::Compare::Target::kCreateRevision, 0}};
  txn.puts = {{options_.key, options_.address, lease.id}};
  auto done = [this, asked, lease](const etcd::Answer<etcd::TxnAnswer>& answer) {
    if (stopped_) return LetGo(lease.id);
    NoteHealth(answer.has_value(), answer ? "" : answer.error().message);
    if (!answer) {
      if (answer.error().unknown) return FindOut(asked, lease);
    } else if (answer->succeeded) {
      return Win(asked, lease, answer->revision);
    }
    LetGo(lease.id);
    LookAgain();
  };
  etcd_.Commit(etcd::Class::kLeadership, std::move(txn), done);
}

// Nobody knows whether the key was taken: look. If it happens later after all, the lease that
// nobody keeps alive (and that is revoked here) takes it away again.
void Election::FindOut(TimePoint asked, const etcd::LeaseAnswer& lease) {
  auto done = [this, asked, lease](const etcd::Answer<etcd::RangeAnswer>& answer) {
    if (stopped_) return LetGo(lease.id);
    const bool won = answer && !answer->pairs.empty() && answer->pairs.front().lease == lease.id;
    if (won) return Win(asked, lease, answer->pairs.front().create_revision);
    LetGo(lease.id);
    LookAgain();
  };
  etcd_.Range(etcd::Class::kLeadership, options_.key, done);
}

void Election::Win(TimePoint asked, const etcd::LeaseAnswer& lease, int64_t revision) {
  owner_revision_ = revision;
  Trust(asked, lease.ttl_seconds);
  log::Info("elected", {{"address", options_.address}, {"revision", revision}});
  timer_->Start(options_.ttl / 4);
  events_.OnElected();
}

void Election::Trust(TimePoint asked, int64_t ttl_seconds) {
  const Duration ttl = std::chrono::seconds(ttl_seconds);
  // Clocks of two machines differ in speed, and etcd rounds.
  const Duration margin = ttl / 10 + std::chrono::milliseconds(100);
  trusted_until_ = std::max(trusted_until_, asked + ttl - margin);
}

void Election::KeepAlive() {
  log::Settle();
  const TimePoint asked = reactor_.Now();
  etcd_.KeepAlive(lease_, [this, asked](const etcd::Answer<etcd::LeaseAnswer>& answer) {
    OnKeptAlive(asked, answer);
  });
}

void Election::OnKeptAlive(TimePoint asked, const etcd::Answer<etcd::LeaseAnswer>& answer) {
  if (stopped_ || !leading()) return;
  NoteHealth(answer.has_value(), answer ? "" : answer.error().message);
  if (!answer) {
    // The key may still be ours: until the trust ends as a leader, afterwards to find out.
    timer_->Start(options_.ttl / 20);
    return;
  }
  if (answer->id == lease_ && answer->ttl_seconds <= 0) {
    Depose("etcd let the leader's lease expire");
    return Look();
  }
  const bool lapsed = !Trusted(reactor_.Now());
  if (answer->id == lease_) Trust(asked, answer->ttl_seconds);
  if (lapsed && Trusted(reactor_.Now())) events_.OnTrustedAgain();
  timer_->Start(options_.ttl / 4);
}

void Election::Depose(const std::string& reason) {
  log::Warn("deposed", {{"why", reason}});
  owner_revision_ = 0;
  trusted_until_ = TimePoint{};
  lease_ = 0;
  events_.OnDeposed(reason);
}

void Election::LookAgain() {
  log::Settle();
  if (!stopped_) timer_->Start(options_.poll);
}

void Election::LetGo(int64_t lease) {
  if (lease == lease_) lease_ = 0;
  etcd_.Revoke(lease, [](const etcd::Answer<bool>&) {});
}

void Election::NoteHealth(bool healthy, const std::string& problem) {
  if (health_told_ && healthy == etcd_healthy_) return;
  health_told_ = true;
  etcd_healthy_ = healthy;
  if (healthy) {
    log::Info("etcd_reachable");
  } else {
    log::Warn("etcd_unreachable", {{"why", problem}});
  }
}

}  // namespace catena::coordinator
