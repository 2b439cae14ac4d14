#include "proxy/server/forwarder.h"

#include <algorithm>

#include "proxy/auth/proof.h"
#include "proxy/base/log.h"
#include "proxy/base/mutant.h"
#include "proxy/base/ring.h"
#include "proxy/resp/decoder.h"
#include "proxy/resp/encoder.h"
#include "proxy/server/replies.h"
#include "proxy/server/transfer_time.h"

namespace catena::server {
namespace {

// A refused or broken channel is opened again so much later, when somebody still wants it.
constexpr Duration kRetryAfter = std::chrono::milliseconds(20);
constexpr Duration kOpenTimeout = std::chrono::seconds(1);
// The head answers within the write timeout itself; a connection that is silent for longer is broken.
constexpr Duration kExpireSlack = std::chrono::milliseconds(200);
// Tunnels that are being opened at a time. The head's proxy keeps only so many connections that have not proved
// themselves (peer_acceptor.cc): thousands of clients that block at once must not push each other out for ever.
constexpr size_t kOpeningTunnelsMax = 48;
// The memory of a big reply is not kept for small ones.
constexpr size_t kKeptBytes = 256u << 10;

}  // namespace

// One connection to the target's proxy until and while it carries commands.
class Forwarder::Connection : public io::StreamHandler {
 public:
  // `lane`: what the target knows the connection by, besides database and protocol; "" the shared one.
  Connection(Forwarder& owner, Key key, chain::Member target, std::string lane)
      : owner_(owner),
        key_(key),
        target_(std::move(target)),
        lane_(std::move(lane)),
        number_(++owner.last_number_),
        dialler_(owner.options_.credentials, owner.reactor_.RandomBytes(16)),
        opened_at_(owner.reactor_.Now()),
        stream_(owner.reactor_.Connect(target_.peers, this)) {}

  const chain::Member& target() const { return target_; }
  bool is_ready() const { return phase_ == Phase::kReady; }
  bool broken() const { return phase_ == Phase::kBroken; }
  TimePoint broken_at() const { return broken_at_; }
  bool OpeningTooLong(TimePoint now) const {
    return !is_ready() && !broken() && now - opened_at_ >= kOpenTimeout;
  }

  void Break(std::string_view why) {
    if (broken()) return;
    phase_ = Phase::kBroken;
    broken_at_ = owner_.reactor_.Now();
    stream_.reset();
    OnBroken(std::string(why));  // may destroy this
  }

  void OnConnected() override { stream_->Write(dialler_.Greeting()); }

  void OnRead(std::string_view bytes) override {
    traffic().in += bytes.size();
    if (is_ready() && input_.empty()) {
      std::optional<size_t> used = Take(bytes, nullptr);
      if (used) Keep(bytes.substr(*used));
      return;
    }
    input_.append(bytes);
    if (phase_ == Phase::kProving && !Prove()) return;
    if (phase_ == Phase::kOpening && !Open()) return;
    // Callbacks may destroy this; the bytes they look at must stay. An unfinished reply is not copied each time.
    auto input = std::make_shared<std::string>(std::move(input_));
    input_.clear();
    std::optional<size_t> used = Take(*input, input);
    if (!used) return;
    // Somebody keeps a large reply of it.
    if (input.use_count() > 1) return Keep(std::string_view(*input).substr(*used));
    input->erase(0, *used);
    if (!input->empty() || input->capacity() <= kKeptBytes) input_ = std::move(*input);
  }

  void OnClosed(std::string_view reason) override {
    Break("the connection to " + target_.id + " broke: " + std::string(reason));
  }

 protected:
  // One whole reply (or push); a large one may be kept with `owner`, else that is nullptr. False: this was destroyed or
  // broken meanwhile.
  virtual bool OnMessage(std::string_view message, const BytesOwner& owner) = 0;
  virtual void OnBroken(const std::string& why) = 0;
  virtual void OnReady() {}

  // What a reply shows is committed. As long as nobody can have removed this node, that was received
  // here, too.
  void NoteSeen(Session& session) const {
    if (received_here_) {
      session.seen = std::max(session.seen, owner_.replica_.received());
    } else {
      session.seen_elsewhere = true;
    }
  }

  Forwarder& owner_;
  const Key& key() const { return key_; }
  std::unique_ptr<io::Stream>& stream() { return stream_; }
  Traffic& traffic() {
    const bool to_head = std::get<Target>(key_) == Target::kHead;
    return owner_.meter_.traffic(to_head ? TrafficOf::kHead : TrafficOf::kTail);
  }
  size_t unsent() const { return stream_ ? stream_->UnsentBytes() : 0; }

 private:
  enum class Phase { kProving, kOpening, kReady, kBroken };

  bool Prove() {
    std::string out;
    Result<bool> proved = dialler_.Feed(input_, out);
    if (!proved) {
      log::Warn("forward_refused", {{"peer", target_.id}, {"why", proved.error().message}});
      Break(proved.error().message);
      return false;
    }
    stream_->Write(out);
    if (!*proved) return false;
    phase_ = Phase::kOpening;
    out.clear();
    auto [target, database, protocol, scripts] = key_;
    resp::AppendCommand(
        out, {"CATENA.FORWARD", owner_.options_.chain, target == Target::kHead ? "head" : "tail",
              owner_.options_.node, resp::Decimal(owner_.replica_.incarnation().value()),
              resp::Decimal(number_), std::to_string(database), std::to_string(protocol), lane_});
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
    OnReady();
    return true;
  }

  void Keep(std::string_view rest) {
    input_.reserve(std::max(rest.size(), scanner_.bytes_wanted()));
    input_.assign(rest);
  }

  // Hands out the replies in `bytes`, which lie in `*owner` if there is one; returns what they took, or nullopt when
  // this is gone or broken.
  std::optional<size_t> Take(std::string_view bytes, const BytesOwner& owner) {
    size_t used = 0;
    received_here_ = owner_.replica_.HasAuthority(owner_.reactor_.Now()) ||
                     CATENA_MUTANT("answers-count-as-received");
    while (true) {
      size_t length = 0;
      resp::Progress progress = scanner_.Scan(bytes.substr(used), length);
      if (progress == resp::Progress::kNeedMore) break;
      if (progress == resp::Progress::kError) {
        Break("the proxy of " + target_.id + " sent " + scanner_.error());
        return std::nullopt;
      }
      if (!OnMessage(bytes.substr(used, length),
                     length >= kSharedPayloadBytesMin ? owner : nullptr))
        return std::nullopt;
      used += length;
    }
    return used;
  }

  Key key_;
  chain::Member target_;
  std::string lane_;
  uint64_t number_;
  Phase phase_ = Phase::kProving;
  auth::Dialler dialler_;
  resp::ReplyScanner scanner_{resp::kReplyLimits};
  std::string input_;
  TimePoint opened_at_{}, broken_at_{};
  bool received_here_ = false;  // what the replies that are handed out show
  std::unique_ptr<io::Stream> stream_;
};

// Shared by all clients with the same database and protocol.
class Forwarder::Channel final : public Connection {
 public:
  using Connection::Connection;

  bool RetryDue(TimePoint now) const {
    return OpeningTooLong(now) || (broken() && now - broken_at() >= kRetryAfter);
  }
  Duration OldestWaits(TimePoint now) const {
    return owed_.empty() ? Duration(0) : now - owed_[0].sent_at;
  }
  bool Expired(TimePoint now) const { return !owed_.empty() && now >= owed_[0].expires_at; }
  bool Full() { return stream()->UnsentBytes() > owner_.options_.pending_bytes_max; }

  // The target leaves its place: nothing more goes there, what was sent is answered.
  bool leaving() const { return leaving_; }

  // A large command lies in `*owner`.
  void Send(Session& session, uint64_t number, std::string_view raw, const BytesOwner& owner,
            bool may_have_effect) {
    owed_bytes_ += raw.size();
    // They travel here, and then down the chain.
    TimePoint now = owner_.reactor_.Now();
    TimePoint expires_at =
        now + owner_.options_.write_timeout + kExpireSlack + TransferTime(2 * owed_bytes_);
    owed_.push_back(Owed{&session, number, may_have_effect, raw.size(), now, expires_at});
    ++owner_.owed_;
    traffic().out += raw.size();
    if (owner) {
      stream()->WriteShared(owner, raw);
    } else {
      stream()->Write(raw);
    }
    if (CATENA_MUTANT("forwarded-twice") && may_have_effect) {
      owed_bytes_ += raw.size();
      owed_.push_back(Owed{nullptr, number, true, raw.size(), now, expires_at});
      ++owner_.owed_;
      stream()->Write(raw);
    }
  }

 private:
  struct Owed {
    Session* session = nullptr;
    uint64_t number = 0;
    bool may_have_effect = false;
    size_t bytes = 0;
    TimePoint sent_at{}, expires_at{};
  };

  Owed NextOwed() {
    Owed to = owed_.front();
    owed_.pop_front();
    owed_bytes_ -= to.bytes;
    --owner_.owed_;
    return to;
  }

  bool OnMessage(std::string_view message, const BytesOwner& owner) override {
    if (message == kLeavingNotice) {
      HandOver();
      return true;
    }
    if (owed_.empty()) {
      Break("the proxy of " + target().id + " sent a reply that nobody waits for");
      return false;
    }
    Owed to = NextOwed();
    if (to.session == nullptr) {
      if (!leaving_) return CATENA_MUTANT("forwarded-twice");
      Break(target().id + " leaves its place in the chain");
      return false;
    }
    NoteSeen(*to.session);
    to.session->Complete(to.number, message, owner);
    return true;
  }

  void OnBroken(const std::string& why) override {
    std::string unknown = UnknownOutcome(why);
    std::string down = ChainDown(why);
    while (!owed_.empty()) {
      Owed to = NextOwed();
      if (to.session == nullptr) continue;
      if (to.may_have_effect) owner_.lost_.insert(key());
      to.session->Complete(to.number, to.may_have_effect ? unknown : down);
    }
  }

  void OnReady() override { owner_.lost_.erase(key()); }

  void HandOver() {
    if (leaving_) return;
    leaving_ = true;
    TimePoint now = owner_.reactor_.Now();
    owed_.push_back(Owed{nullptr, 0, false, 0, now, now + owner_.options_.write_timeout});
    ++owner_.owed_;
    stream()->Write(kHandedOverCommand);
  }

  bool leaving_ = false;
  Ring<Owed> owed_;
  size_t owed_bytes_ = 0;  // of the commands in owed_
};

// One client's own way to a connection of its own at the head's database.
class Forwarder::Tunnel final : public Connection, public PrivateChannel {
 public:
  Tunnel(Forwarder& owner, Key key, chain::Member target, Session& session,
         PrivateChannel::Handler* handler)
      : Connection(owner, key, std::move(target),
                   std::string(kTunnelLane) + resp::Decimal(session.id())),
        session_(session),
        number_(++owner.last_tunnel_),
        handler_(handler) {
    owner_.tunnels_[number_] = this;
    ++owner_.opening_tunnels_;
  }
  ~Tunnel() override {
    *alive_ = false;
    CountOpened();
    owner_.tunnels_.erase(number_);
  }

  bool ready() const override { return is_ready(); }
  bool full() const override { return unsent() > owner_.options_.pending_bytes_max; }
  void OnReady() override { CountOpened(); }
  void Submit(std::string_view command) override {
    traffic().out += command.size();
    stream()->Write(command);
  }
  void Close() override { Break("handed over"); }

 private:
  bool OnMessage(std::string_view message, const BytesOwner& owner) override {
    (void)owner;
    std::shared_ptr<bool> alive = alive_;
    if (message == kLeavingNotice) {
      handler_->OnPrivateLeaving(*this);
      return *alive && !broken();
    }
    NoteSeen(session_);
    handler_->OnPrivateMessage(*this, message);
    return *alive && !broken();
  }
  void OnBroken(const std::string& why) override {
    CountOpened();
    owner_.tunnel_retry_at_ = broken_at() + kRetryAfter;
    handler_->OnPrivateClosed(*this, why, false);
  }

  void CountOpened() {
    if (std::exchange(opening_, false)) --owner_.opening_tunnels_;
  }

  Session& session_;
  const uint64_t number_;
  bool opening_ = true;
  PrivateChannel::Handler* handler_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

Forwarder::Forwarder(io::Reactor& reactor, chain::Replica& replica, const Options& options,
                     Meter& meter)
    : reactor_(reactor), replica_(replica), options_(options), meter_(meter) {}

Forwarder::~Forwarder() = default;

void Forwarder::SetTargets(const std::optional<chain::Member>& head,
                           const std::optional<chain::Member>& tail) {
  const std::optional<chain::Member> former_head = std::exchange(head_, head);
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
  // What a former head has not read it does not execute any more.
  if (former_head != head_) lost_.clear();
  // Breaking one may destroy others with their sessions.
  for (auto next = tunnels_.begin(); next != tunnels_.end();) {
    const auto [number, tunnel] = *next;
    if (!(head_ && *head_ == tunnel->target()))
      tunnel->Break(tunnel->target().id + " is no longer the chain's head");
    next = tunnels_.upper_bound(number);
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
  if (!channel)
    channel = std::make_unique<Channel>(*this, key, *target,
                                        std::string(std::get<bool>(key) ? kScriptsLane : ""));
  return channel->is_ready() && !channel->leaving() ? channel.get() : nullptr;
}

// Whether something that goes this way (nullptr: by a connection of a client's own) could.
bool Forwarder::MayOvertake(const Key* way) {
  bool may = false;
  for (const Key& key : lost_) {
    if (way != nullptr && key == *way) continue;
    ReadyChannel(key);
    may = true;
  }
  return may;
}

std::unique_ptr<PrivateChannel> Forwarder::OpenTunnel(Session& session,
                                                      PrivateChannel::Handler* handler) {
  if (!head_ || reactor_.Now() < tunnel_retry_at_ || opening_tunnels_ >= kOpeningTunnelsMax)
    return nullptr;
  return std::make_unique<Tunnel>(*this,
                                  Key{Target::kHead, session.database, session.protocol, false},
                                  *head_, session, handler);
}

Dispatch Forwarder::Submit(Session& session, uint64_t number, const Request& request, Target target,
                           bool may_have_effect) {
  bool script = RunsScript(request) && target == Target::kHead;
  const Key way{target, session.database, session.protocol, script};
  if (MayOvertake(&way)) return Dispatch::kWait;
  Channel* channel = ReadyChannel(way);
  if (channel == nullptr) return Dispatch::kWait;
  if (channel->Full()) {
    meter_.BeginStall(StallCause::kPendingFull);
    return Dispatch::kWait;
  }
  Path to_head = script ? Path::kForwardScripts : Path::kForwardHead;
  session.CountOutstanding(target == Target::kHead ? to_head : Path::kForwardTail);
  channel->Send(session, number, request.command->raw, request.owner, may_have_effect);
  return Dispatch::kTaken;
}

bool Forwarder::ScriptsHeldUp(const Session& session) const {
  auto found = channels_.find(Key{Target::kHead, session.database, session.protocol, true});
  return found != channels_.end() && found->second->OldestWaits(reactor_.Now()) > kScriptIsSlow;
}

bool Forwarder::SubmitAgain(Session& session, uint64_t number, std::string_view raw, bool script) {
  const Key way{Target::kHead, session.database, session.protocol, script};
  if (MayOvertake(&way)) return false;
  Channel* channel = ReadyChannel(way);
  if (channel == nullptr || channel->Full()) return false;
  // A script that comes so only reads; SCRIPT KILL does something.
  channel->Send(session, number, raw, nullptr, !script);
  return true;
}

void Forwarder::Expire(TimePoint now) {
  for (auto& [key, channel] : channels_) {
    bool expired = !std::get<bool>(key) && channel->Expired(now);
    if (expired)
      channel->Break("no answer from " + channel->target().id + " within the write timeout");
  }
  if (opening_tunnels_ == 0) return;
  for (auto next = tunnels_.begin(); next != tunnels_.end();) {
    const auto [number, tunnel] = *next;
    if (tunnel->OpeningTooLong(now)) tunnel->Break("no answer");
    next = tunnels_.upper_bound(number);
  }
}

bool Forwarder::AnyChannelFull() const {
  return std::any_of(channels_.begin(), channels_.end(), [](const auto& item) {
    return item.second->is_ready() && item.second->Full();
  });
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
