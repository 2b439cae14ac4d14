#include "proxy/server/head_executor.h"

#include <algorithm>

#include "proxy/base/check.h"
#include "proxy/base/mutant.h"
#include "proxy/server/replies.h"
#include "proxy/server/transfer_time.h"

namespace catena::server {
namespace {

constexpr size_t kRecycledBatchesMax = 64;
constexpr size_t kRecycledReplyBytesMax = 1u << 20;
// Connections to the database that clients of their own never take: those that all share, the
// capture, snapshots, and people who look after it. Half of what there is, if that is less.
constexpr size_t kReservedConnections = 64;

}  // namespace

// One pipelined connection to the database with its batches.
class HeadExecutor::HeadLane final : public backend::LaneHandler {
 public:
  HeadLane(HeadExecutor& executor, backend::LaneOptions options)
      : executor_(executor), lane_(executor.backend_.OpenLane(options, this)) {}

  backend::Lane& lane() { return *lane_; }
  BatchPtr open;        // this turn's commands
  Ring<BatchPtr> sent;  // oldest first
  bool closed = false;

  void OnReply(std::string_view reply) override {
    if (closed) return;  // given up earlier in this turn
    CATENA_CHECK(!sent.empty() || open, "a reply answers a command");
    // A busy database is not even sent what this turn brings.
    Batch& batch = sent.empty() ? *open : *sent.front();
    Held& held = batch.held[batch.answered++];
    held.reply_begin = batch.replies.size();
    held.reply_size = reply.size();
    batch.replies.append(reply);
    if (SaysBusy(reply)) executor_.Answer(batch, held);
  }

  void OnLargeReply(const BytesOwner& owner, std::string_view reply) override {
    if (closed) return;
    OnReply({});
    Batch& batch = *sent.front();
    Held& held = batch.held[batch.answered - 1];
    held.owner = owner;
    held.reply_begin = static_cast<size_t>(reply.data() - owner->data());
    held.reply_size = reply.size();
  }

  void OnPosition(Position bound) override {
    if (closed) return;
    CATENA_CHECK(!sent.empty() && sent.front()->answered == sent.front()->held.size(),
                 "the position closes a batch");
    sent.front()->bound = bound;
    executor_.meter_.BackendAnswered(sent.front()->sent_at);
    executor_.meter_.Reached(WriteStage::kExecuted, sent.front()->sent_at, sent.front()->writes);
    executor_.waiting_.push_back(std::move(sent.front()));
    sent.pop_front();
  }

  void OnPositionUntold() override {
    if (closed) return;
    BatchPtr batch = std::move(sent.front());
    sent.pop_front();
    if (batch->released == batch->held.size()) return executor_.Recycle(std::move(batch));
    auto to_come = batch->bound_to_come = std::make_shared<std::optional<Position>>();
    executor_.waiting_.push_back(std::move(batch));
    executor_.backend_.AskPosition([to_come](std::optional<Position> bound) { *to_come = bound; });
  }

  void OnLaneClosed(const std::string& reason, bool nothing_sent) override {
    Fail("the connection to the head's database broke: " + reason, nothing_sent);
  }

  void Fail(std::string_view why, bool nothing_sent = false) {
    closed = true;
    executor_.lost_lane_ = executor_.lost_lane_ || !nothing_sent;
    if (open) executor_.FailBatch(*open, why, nothing_sent);
    open.reset();
    for (; !sent.empty(); sent.pop_front()) executor_.FailBatch(*sent.front(), why, nothing_sent);
  }

 private:
  HeadExecutor& executor_;
  std::unique_ptr<backend::Lane> lane_;
};

// A client's own connection to the database.
class HeadExecutor::Private final : public PrivateChannel, public backend::LaneHandler {
 public:
  Private(HeadExecutor& executor, backend::LaneOptions options, PrivateChannel::Handler* handler)
      : executor_(executor),
        number_(++executor.last_private_),
        handler_(handler),
        lane_(executor.backend_.OpenLane(options, this)) {
    executor_.private_channels_[number_] = this;
  }
  ~Private() override {
    *self_ = nullptr;
    executor_.private_channels_.erase(number_);
  }

  bool ready() const override { return true; }
  void Submit(std::string_view command) override {
    if (lane_) lane_->Submit(command);
  }
  bool full() const override {
    // Only what the head executes makes the log grow.
    const bool log_full = executor_.replica_.is_head() && executor_.LogFull();
    return (lane_ && lane_->UnsentBytes() > executor_.options_.pending_bytes_max) || log_full ||
           executor_.MayOvertakeLost();
  }
  // A message that was held.
  void Release(std::string_view message) {
    --held_;
    Deliver(message);
  }
  void Fail(const std::string& why, bool nothing_sent = false) {
    handler_->OnPrivateClosed(*this, why, nothing_sent);
  }
  // What was submitted must not take effect, or block, for as long as the owner keeps the channel.
  void GiveUp(const std::string& why) {
    executor_.lost_lane_ = true;
    lane_.reset();
    Fail(why);
  }

  void OnReply(std::string_view reply) override { Take(reply); }
  void OnPush(std::string_view push) override { Take(push); }
  void OnPosition(Position) override {}
  void OnLaneClosed(const std::string& reason, bool nothing_sent) override {
    if (!nothing_sent) {
      // The session may be one of many clients, of whom each may go on by another lane (S18).
      executor_.lost_lane_ = true;
      executor_.lost_privates_.push_back(std::move(lane_));
    }
    Fail("the connection to the database broke: " + reason, nothing_sent);
  }

 private:
  void Deliver(std::string_view message) { handler_->OnPrivateMessage(*this, message); }
  void Take(std::string_view message) {
    if (held_ == 0 && SaysBusy(message)) return Deliver(message);
    // I3: what a follower's database shows is committed. What is held from before a change of role
    // stays ahead. A head that has resigned judges no bound any more, and takes nothing new.
    const chain::Replica& replica = executor_.replica_;
    const bool executes = replica.is_head() && !replica.resigned();
    if (!executes && executor_.private_waiting_.empty() && !executor_.private_open_) {
      return Deliver(message);
    }
    if (!executor_.private_open_) executor_.private_open_ = std::make_unique<PrivateBatch>();
    executor_.private_open_->items.push_back({self_, std::string(message)});
    ++held_;
  }

  HeadExecutor& executor_;
  const uint64_t number_;
  PrivateChannel::Handler* handler_;
  std::shared_ptr<Private*> self_ = std::make_shared<Private*>(this);
  size_t held_ = 0;                      // messages that wait for their bound
  std::unique_ptr<backend::Lane> lane_;  // nullptr: it broke or was given up
};

Result<std::unique_ptr<PrivateChannel>> HeadExecutor::OpenPrivate(
    int database, int protocol, PrivateChannel::Handler* handler) {
  size_t there_are = backend_.CurrentLimits().connections_max;
  size_t reserved = std::min(kReservedConnections, there_are / 2);
  if (private_channels_.size() >= there_are - reserved) {
    return catena::Fail(
        "-ERR max number of clients reached: this command needs a connection of its own to the "
        "database of " +
        options_.node + ", which has maxclients " + std::to_string(there_are) + ", " +
        std::to_string(reserved) + " of them kept for everybody\r\n");
  }
  return std::make_unique<Private>(*this, backend::LaneOptions{database, protocol}, handler);
}

// A reply was received before its question is asked, so the answer covers what the reply may show.
void HeadExecutor::AskPrivateBound() {
  if (!private_open_) return;
  std::shared_ptr<PrivateBatch> batch = std::move(private_open_);
  batch->captured_at_ask = replica_.received();
  batch->epoch = replica_.epoch();
  batch->expires_at = ExpiryOf(0);
  private_waiting_.push_back(batch);
  backend_.AskPosition([batch](std::optional<Position> bound) { batch->bound = bound; });
}

void HeadExecutor::ReleasePrivate(TimePoint now) {
  while (!private_waiting_.empty()) {
    PrivateBatch& batch = *private_waiting_.front();
    if (!batch.bound || (replica_.is_head() && !replica_.head_ready())) return;
    if (replica_.is_head() && (replica_.received() < *batch.bound || Settled() < *batch.bound))
      return;
    if (!AuthorityProved(*batch.bound > batch.captured_at_ask, batch.epoch, batch.verify_ticket,
                         now))
      return;
    std::shared_ptr<PrivateBatch> held = private_waiting_.front();
    private_waiting_.pop_front();
    for (PrivateBatch::Item& item : held->items) {
      if (*item.channel != nullptr) (*item.channel)->Release(item.message);
    }
  }
}

HeadExecutor::HeadExecutor(chain::Replica& replica, backend::Backend& backend,
                           const Options& options, Meter& meter, std::function<TimePoint()> now,
                           std::function<std::string(std::string_view)> add_info)
    : replica_(replica),
      backend_(backend),
      options_(options),
      meter_(meter),
      now_(std::move(now)),
      add_info_(std::move(add_info)),
      effects_(backend, options.node) {}

HeadExecutor::~HeadExecutor() = default;

HeadExecutor::HeadLane& HeadExecutor::LaneFor(const LaneKey& key) {
  auto& lane = lanes_[key];
  if (lane && lane->closed) closed_lanes_.push_back(std::move(lane));
  if (!lane) {
    const auto& [database, protocol, scripts] = key;
    lane = std::make_unique<HeadLane>(*this, backend::LaneOptions{database, protocol});
  }
  return *lane;
}

bool HeadExecutor::ScriptsHeldUp(const Session& session) const {
  auto found = lanes_.find({session.database, session.protocol, true});
  if (found == lanes_.end() || found->second->sent.empty()) return false;
  return now_() - found->second->sent.front()->sent_at > kScriptIsSlow;
}

bool HeadExecutor::MayOvertakeLost() {
  if (!lost_lane_) return false;
  for (auto it = lanes_.begin(); it != lanes_.end();) {
    const auto lane = it++;
    if (!lane->second->closed) continue;
    closed_lanes_.push_back(std::move(lane->second));
    lanes_.erase(lane);
  }
  lost_lane_ = !closed_lanes_.empty() || !lost_privates_.empty() || backend_.HasAbandoned();
  return lost_lane_;
}

bool HeadExecutor::Full(HeadLane& lane) {
  const bool log_full = LogFull();
  if (log_full) meter_.BeginStall(StallCause::kLogFull);
  const bool lane_full = lane.lane().UnsentBytes() > options_.pending_bytes_max;
  if (lane_full) meter_.BeginStall(StallCause::kPendingFull);
  return log_full || lane_full;
}

bool HeadExecutor::AnyLaneFull() const {
  return std::any_of(lanes_.begin(), lanes_.end(), [this](const auto& item) {
    return item.second->lane().UnsentBytes() > options_.pending_bytes_max;
  });
}

bool HeadExecutor::LogFull() const {
  return replica_.received() - replica_.committed() > options_.log_bytes_max;
}

Dispatch HeadExecutor::Submit(Session& session, uint64_t number, const Request& request,
                              ReplyKind kind) {
  if (!backend_.Reachable() || MayOvertakeLost()) return Dispatch::kWait;
  HeadLane& lane = LaneFor({session.database, session.protocol, RunsScript(request)});
  if (Full(lane)) return Dispatch::kWait;
  size_t effect_bytes = kind == ReplyKind::kEffect ? request.command->raw.size() : 0;
  if (!effects_.Allows(effect_bytes)) {
    session.Complete(number, effects_.Refusal(effect_bytes));
    return Dispatch::kTaken;
  }
  if (!effects_.HasRoom(effect_bytes)) return Dispatch::kWait;
  if (!lane.open) lane.open = NewBatch();
  Batch& batch = *lane.open;
  Held held;
  held.session = &session;
  held.number = number;
  held.kind = kind;
  // A weaker mode weakens reads alone: a write that changed nothing tells what is so by its reply.
  held.needs_authority = session.consistency == Consistency::kLinearizable ||
                         session.consistency == Consistency::kTail ||
                         request.route != command::Route::kRead;
  if (kind == ReplyKind::kKeys) {
    held.hash_begin = static_cast<uint32_t>(batch.hashes.size());
    held.hash_count = static_cast<uint32_t>(request.key_hashes->size());
    batch.hashes.insert(batch.hashes.end(), request.key_hashes->begin(), request.key_hashes->end());
  }
  batch.held.push_back(held);
  if (kind == ReplyKind::kEffect) ++batch.writes;
  batch.effect_bytes += effect_bytes;
  effects_.Take(effect_bytes);
  ++owed_;
  session.CountOutstanding(HeadPath(request));
  if (request.owner) {
    lane.lane().SubmitShared(request.owner, request.command->raw);
  } else {
    lane.lane().Submit(request.command->raw);
  }
  return Dispatch::kTaken;
}

void HeadExecutor::EndBatches() {
  closed_lanes_.clear();
  lost_privates_.clear();
  AskPrivateBound();
  for (auto& [key, lane] : lanes_) {
    if (!lane->open || lane->closed) continue;
    lane->open->captured_at_send = replica_.received();
    lane->open->epoch = replica_.epoch();
    lane->open->sent_at = now_();
    lane->open->expires_at = ExpiryOf(lane->lane().UnsentBytes());
    lane->lane().SubmitPosition();
    lane->sent.push_back(std::move(lane->open));
  }
}

TimePoint HeadExecutor::ExpiryOf(size_t unsent_bytes) {
  size_t uncommitted = replica_.received() - replica_.committed();
  return now_() + options_.write_timeout +
         TransferTime(std::max(unsent_bytes, effects_.taken()) + uncommitted);
}

void HeadExecutor::Release() {
  if (waiting_.empty() && private_waiting_.empty()) return;
  TimePoint now = now_();
  ReleasePrivate(now);
  // Batches of several lanes stand in the order of their answers; an older one may wait longer than
  // a newer.
  for (size_t i = 0; i < waiting_.size(); ++i) ReleaseBatch(*waiting_[i], now);
  while (!waiting_.empty() && waiting_.front()->released == waiting_.front()->held.size()) {
    Recycle(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

void HeadExecutor::ReleaseBatch(Batch& batch, TimePoint now) {
  if (batch.bound_to_come) {
    if (!*batch.bound_to_come) return;
    batch.bound = **std::exchange(batch.bound_to_come, nullptr);
  }
  const bool captured =
      replica_.received() >= batch.bound ||
      (CATENA_MUTANT("answers-uncaptured") && replica_.role() == chain::Role::kSole);
  if (batch.released == batch.held.size() || !captured || !replica_.head_ready()) return;
  GiveEffects(batch);
  bool bound_committed = Settled() >= batch.bound;
  if (bound_committed && !std::exchange(batch.known_committed, true)) {
    meter_.Reached(WriteStage::kCommitted, batch.sent_at, batch.writes);
  }
  uint64_t writes_answered = 0;
  std::optional<bool> authority;
  for (size_t i = 0; i < batch.held.size(); ++i) {
    Held& held = batch.held[i];
    if (held.released || !DataSettled(batch, held, bound_committed)) continue;
    if (held.needs_authority && held.kind != ReplyKind::kNoData && held.kind != ReplyKind::kInfo) {
      if (!authority) {
        bool entry_committed = bound_committed && (batch.bound > batch.captured_at_send ||
                                                   CATENA_MUTANT("old-commit-is-authority"));
        authority = AuthorityProved(entry_committed, batch.epoch, batch.verify_ticket, now);
      }
      if (!*authority) continue;
    }
    if (held.kind == ReplyKind::kEffect) ++writes_answered;
    Answer(batch, held);
  }
  meter_.Reached(WriteStage::kReplied, batch.sent_at, writes_answered);
}

bool HeadExecutor::DataSettled(Batch& batch, Held& held, bool bound_committed) {
  switch (held.kind) {
    case ReplyKind::kNoData:
    case ReplyKind::kInfo:
      return true;
    case ReplyKind::kEffect:
      return bound_committed || CATENA_MUTANT("reply-before-commit") ||
             CATENA_MUTANT("answers-uncaptured");
    case ReplyKind::kKeys:
      if (bound_committed) return true;
      if (!held.version_known) {
        // "Looked up now": the capture holds everything that the reply may show.
        held.version = replica_.log().VersionOf(
            std::span(batch.hashes).subspan(held.hash_begin, held.hash_count));
        held.version_known = true;
      }
      return Settled() >= held.version;
  }
  return false;
}

bool HeadExecutor::AuthorityProved(bool entry_committed, Epoch epoch,
                                   std::optional<uint64_t>& verify_ticket, TimePoint now) {
  if (entry_committed && epoch == replica_.epoch()) return true;
  if (replica_.HasAuthority(now)) return true;
  if (!verify_ticket) verify_ticket = replica_.RequestVerify();
  return replica_.settled_verify() >= *verify_ticket;
}

void HeadExecutor::Answer(Batch& batch, Held& held) {
  held.released = true;
  ++batch.released;
  --owed_;
  std::string_view replies = held.owner ? std::string_view(*held.owner) : batch.replies;
  std::string_view reply = replies.substr(held.reply_begin, held.reply_size);
  held.session->seen = std::max(held.session->seen, replica_.committed());
  if (held.kind == ReplyKind::kInfo) {
    held.session->Complete(held.number, add_info_(reply));
  } else {
    held.session->Complete(held.number, reply, std::exchange(held.owner, nullptr));
  }
}

void HeadExecutor::FailBatch(Batch& batch, std::string_view why, bool nothing_sent) {
  GiveEffects(batch);
  std::string unknown = UnknownOutcome(why);
  std::string down = ChainDown(why);
  for (Held& held : batch.held) {
    if (held.released) continue;
    held.released = true;
    ++batch.released;
    --owed_;
    held.session->Complete(held.number, MayChange(held.kind) && !nothing_sent ? unknown : down);
  }
}

void HeadExecutor::Expire(TimePoint now) {
  for (size_t i = 0; i < waiting_.size(); ++i) {
    if (now < waiting_[i]->expires_at) continue;
    FailBatch(*waiting_[i], "not confirmed by the whole chain within the write timeout");
  }
  if (!private_waiting_.empty() && now >= private_waiting_.front()->expires_at) {
    FailPrivate("not confirmed by the whole chain within the write timeout");
  }
}

void HeadExecutor::FailAll(std::string_view why) {
  for (auto& [key, lane] : lanes_) lane->Fail(why);
  for (auto& [key, lane] : lanes_) closed_lanes_.push_back(std::move(lane));
  lanes_.clear();
  FailPrivate(std::string(why));
  for (; !waiting_.empty(); waiting_.pop_front()) FailBatch(*waiting_.front(), why);
}

void HeadExecutor::FailPrivate(const std::string& why) {
  private_waiting_.clear();
  private_open_.reset();
  // Handlers may destroy channels, their own and others, and open new ones.
  const auto last = last_private_;
  for (auto next = private_channels_.begin();
       next != private_channels_.end() && next->first <= last;) {
    const auto [number, channel] = *next;
    channel->GiveUp(why);
    next = private_channels_.upper_bound(number);
  }
}

HeadExecutor::BatchPtr HeadExecutor::NewBatch() {
  if (recycled_.empty()) return std::make_unique<Batch>();
  BatchPtr batch = std::move(recycled_.back());
  recycled_.pop_back();
  return batch;
}

void HeadExecutor::Recycle(BatchPtr batch) {
  GiveEffects(*batch);
  if (recycled_.size() >= kRecycledBatchesMax || batch->replies.capacity() > kRecycledReplyBytesMax)
    return;
  batch->held.clear();
  batch->hashes.clear();
  batch->replies.clear();
  batch->bound_to_come.reset();
  batch->answered = batch->released = 0;
  batch->writes = 0;
  batch->known_committed = false;
  batch->verify_ticket.reset();
  recycled_.push_back(std::move(batch));
}

}  // namespace catena::server
