#include "proxy/server/forwarder.h"

#include <algorithm>

#include "proxy/auth/proof.h"
#include "proxy/base/log.h"
#include "proxy/base/ring.h"
#include "proxy/resp/decoder.h"
#include "proxy/resp/encoder.h"
#include "proxy/server/replies.h"

namespace catena::server {
namespace {

// A refused or broken channel is opened again so much later, when somebody still wants it.
constexpr Duration kRetryAfter = std::chrono::milliseconds(20);
constexpr Duration kOpenTimeout = std::chrono::seconds(1);
// The head answers within the write timeout itself; a connection that is silent for longer is broken.
constexpr Duration kExpireSlack = std::chrono::milliseconds(200);

}  // namespace

class Forwarder::Channel final : public io::StreamHandler {
 public:
  Channel(Forwarder& owner, Key key, chain::Member target, uint64_t number)
      : owner_(owner),
        key_(key),
        target_(std::move(target)),
        number_(number),
        dialler_(owner.options_.credentials, owner.reactor_.RandomBytes(16)),
        opened_at_(owner.reactor_.Now()),
        stream_(owner.reactor_.Connect(target_.peers, this)) {}

  const chain::Member& target() const { return target_; }
  bool ready() const { return phase_ == Phase::kReady; }
  bool RetryDue(TimePoint now) const {
    if (phase_ == Phase::kBroken) return now - broken_at_ >= kRetryAfter;
    return phase_ != Phase::kReady && now - opened_at_ >= kOpenTimeout;
  }
  bool Expired(TimePoint now) const {
    return !owed_.empty() && now - owed_[0].sent_at >= owner_.options_.write_timeout + kExpireSlack;
  }
  bool Full() const { return stream_->UnsentBytes() > owner_.options_.pending_bytes_max; }

  void Send(Session& session, uint64_t number, std::string_view raw, bool may_have_effect) {
    owed_.push_back(Owed{&session, number, may_have_effect, owner_.reactor_.Now()});
    ++owner_.owed_;
    stream_->Write(raw);
  }

  void Break(std::string_view why) {
    if (phase_ == Phase::kBroken) return;
    phase_ = Phase::kBroken;
    broken_at_ = owner_.reactor_.Now();
    stream_.reset();
    std::string unknown = UnknownOutcome(why);
    std::string down = ChainDown(why);
    while (!owed_.empty()) {
      Owed to = owed_.front();
      owed_.pop_front();
      --owner_.owed_;
      to.session->Complete(to.number, to.may_have_effect ? unknown : down);
    }
  }

  void OnConnected() override { stream_->Write(dialler_.Greeting()); }

  void OnRead(std::string_view bytes) override {
    if (phase_ == Phase::kReady && input_.empty()) {
      input_.assign(bytes.substr(Deliver(bytes)));
      return;
    }
    input_.append(bytes);
    if (phase_ == Phase::kProving && !Prove()) return;
    if (phase_ == Phase::kOpening && !Open()) return;
    if (phase_ == Phase::kReady) input_.erase(0, Deliver(input_));
  }

  void OnClosed(std::string_view reason) override {
    Break("the connection to " + target_.id + " broke: " + std::string(reason));
  }

 private:
  enum class Phase { kProving, kOpening, kReady, kBroken };
  struct Owed {
    Session* session = nullptr;
    uint64_t number = 0;
    bool may_have_effect = false;
    TimePoint sent_at{};
  };

  bool Prove() {
    std::string out;
    Result<bool> proved = dialler_.Feed(input_, out);
    if (!proved) {
      spdlog::warn("event=forward_refused peer={} why=\"{}\"", target_.id, proved.error().message);
      Break(proved.error().message);
      return false;
    }
    stream_->Write(out);
    if (!*proved) return false;
    phase_ = Phase::kOpening;
    out.clear();
    auto [target, database, protocol] = key_;
    resp::AppendCommand(out, {"CATENA.FORWARD", owner_.options_.chain, target == Target::kHead ? "head" : "tail",
                              owner_.options_.node, resp::Decimal(owner_.replica_.incarnation().value()),
                              resp::Decimal(number_), std::to_string(database), std::to_string(protocol)});
    stream_->Write(out);
    return true;
  }

  bool Open() {
    size_t end = input_.find("\r\n");
    if (end == std::string::npos) return false;
    std::string answer = input_.substr(0, end);
    input_.erase(0, end + 2);
    if (answer != "+OK") {
      Break(answer);
      return false;
    }
    phase_ = Phase::kReady;
    return true;
  }

  size_t Deliver(std::string_view bytes) {
    size_t used = 0;
    while (phase_ == Phase::kReady && !owed_.empty()) {
      size_t length = 0;
      resp::Progress progress = scanner_.Scan(bytes.substr(used), length);
      if (progress == resp::Progress::kNeedMore) break;
      if (progress == resp::Progress::kError) {
        Break("the head's proxy sent " + scanner_.error());
        break;
      }
      Owed to = owed_.front();
      owed_.pop_front();
      --owner_.owed_;
      // Everything that the reply shows is committed, so it was received here before.
      to.session->seen = std::max(to.session->seen, owner_.replica_.received());
      to.session->Complete(to.number, bytes.substr(used, length));
      used += length;
    }
    return phase_ == Phase::kBroken ? bytes.size() : used;
  }

  Forwarder& owner_;
  Key key_;
  chain::Member target_;
  uint64_t number_;
  Phase phase_ = Phase::kProving;
  auth::Dialler dialler_;
  resp::ReplyScanner scanner_;
  Ring<Owed> owed_;
  std::string input_;
  TimePoint opened_at_{}, broken_at_{};
  std::unique_ptr<io::Stream> stream_;
};

Forwarder::Forwarder(io::Reactor& reactor, chain::Replica& replica, const Options& options)
    : reactor_(reactor), replica_(replica), options_(options) {}

Forwarder::~Forwarder() = default;

void Forwarder::SetTargets(const std::optional<chain::Member>& head, const std::optional<chain::Member>& tail) {
  head_ = head;
  tail_ = tail;
  for (auto it = channels_.begin(); it != channels_.end();) {
    const std::optional<chain::Member>& target = TargetOf(std::get<0>(it->first));
    if (target && *target == it->second->target()) {
      ++it;
      continue;
    }
    it->second->Break(it->second->target().id + " is no longer the chain's " +
                      (std::get<0>(it->first) == Target::kHead ? "head" : "tail"));
    closed_.push_back(std::move(it->second));
    it = channels_.erase(it);
  }
}

Forwarder::Channel* Forwarder::ReadyChannel(const Key& key) {
  const std::optional<chain::Member>& target = TargetOf(std::get<0>(key));
  if (!target) return nullptr;
  auto& channel = channels_[key];
  if (channel && channel->RetryDue(reactor_.Now())) {
    channel->Break("no answer");
    closed_.push_back(std::move(channel));
  }
  if (!channel) channel = std::make_unique<Channel>(*this, key, *target, ++last_number_);
  return channel->ready() ? channel.get() : nullptr;
}

Dispatch Forwarder::Submit(Session& session, uint64_t number, const Request& request, Target target,
                           bool may_have_effect) {
  Channel* channel = ReadyChannel(Key{target, session.database, session.protocol});
  if (channel == nullptr || channel->Full()) return Dispatch::kWait;
  session.CountOutstanding(target == Target::kHead ? Path::kForwardHead : Path::kForwardTail);
  channel->Send(session, number, request.command->raw, may_have_effect);
  return Dispatch::kTaken;
}

void Forwarder::Expire(TimePoint now) {
  for (auto& [key, channel] : channels_) {
    if (channel->Expired(now)) channel->Break("no answer from " + channel->target().id + " within the write timeout");
  }
}

void Forwarder::EndTurn() { closed_.clear(); }

void Forwarder::FailAll(std::string_view why) {
  for (auto& [key, channel] : channels_) {
    channel->Break(why);
    closed_.push_back(std::move(channel));
  }
  channels_.clear();
}

}  // namespace catena::server
