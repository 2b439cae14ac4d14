#include "backends/redis/redis_lane.h"

#include <algorithm>
#include <utility>

#include "backends/redis/request_link.h"
#include "proxy/base/free_memory.h"
#include "proxy/base/mutant.h"
#include "proxy/resp/encoder.h"

namespace catena::redis {
namespace {

constexpr size_t kKeptBytes = 128u << 10;
constexpr std::string_view kRoleCommand = "*1\r\n$4\r\nROLE\r\n";

}  // namespace

RedisLane::RedisLane(io::Reactor& reactor, const RedisOptions& redis,
                     const backend::LaneOptions& options, Host* host, backend::LaneHandler* handler)
    : host_(host),
      handler_(handler),
      introduction_(Introduction(redis, options)),
      stream_(reactor.Connect(redis.address, this)) {
  Introduce();
}

RedisLane::~RedisLane() {
  if (host_) host_->OnLaneDestroyed(this);
}

std::vector<std::string> RedisLane::Introduction(const RedisOptions& redis,
                                                 const backend::LaneOptions& options) {
  std::vector<std::string> commands;
  const auto send = [&commands](std::initializer_list<std::string_view> command) {
    resp::AppendCommand(commands.emplace_back(), command);
  };
  if (!redis.user.empty()) {
    send({"AUTH", redis.user, redis.password});
  } else if (!redis.password.empty()) {
    send({"AUTH", redis.password});
  }
  if (options.protocol >= 3) send({"HELLO", "3"});
  if (options.database != 0)
    send({"SELECT", resp::Decimal(static_cast<uint64_t>(options.database))});
  send({"CLIENT", "SETNAME", ConnectionName(redis.node, redis.incarnation)});
  send({"CLIENT", "ID"});
  send({"INFO", "server"});
  return commands;
}

void RedisLane::Introduce() {
  hello_left_ = introduction_.size();
  for (const std::string& command : introduction_) stream_->Write(command);
}

void RedisLane::Submit(std::string_view command) {
  if (!stream_) return;
  ++behind_;
  if (ready_) return stream_->Write(command);
  auto owner = std::make_shared<const std::string>(command);
  Queue(owner, *owner);
}

void RedisLane::Queue(const BytesOwner& owner, std::string_view command) {
  queued_.emplace_back(owner, command);
  queued_bytes_ += command.size();
  if (hello_left_ == 0) Introduce();
}

void RedisLane::SubmitShared(const BytesOwner& owner, std::string_view command) {
  if (!stream_) return;
  ++behind_;
  if (ready_) return stream_->WriteShared(owner, command);
  Queue(owner, command);
}

void RedisLane::SubmitPosition() {
  Submit(kRoleCommand);
  if (stream_) before_position_.push_back(std::exchange(behind_, 0) - 1);
}

size_t RedisLane::UnsentBytes() const {
  return queued_bytes_ + (stream_ ? stream_->UnsentBytes() : 0);
}

void RedisLane::PauseReading() {
  if (stream_) stream_->PauseReading();
}

void RedisLane::ResumeReading() {
  if (stream_) stream_->ResumeReading();
}

void RedisLane::Break(const std::string& reason) {
  if (!stream_) return;
  stream_.reset();
  handler_->OnLaneClosed(reason, !ready_);
}

void RedisLane::Detach() {
  host_ = nullptr;
  stream_.reset();
}

void RedisLane::OnClosed(std::string_view reason) {
  Break(ready_ ? std::string(reason) : "cannot connect: " + std::string(reason));
}

bool RedisLane::IsSilent(TimePoint now, Duration patience) {
  const bool heard = std::exchange(heard_, false);
  if (!Owes()) {
    silent_since_.reset();
  } else if (heard || !silent_since_) {
    silent_since_ = now;
  } else if (now - *silent_since_ >= patience) {
    silent_since_ = now;
    return true;
  }
  return false;
}

void RedisLane::OnRead(std::string_view bytes) {
  heard_ = true;
  if (buffer_.empty()) {
    const auto used = Deliver(bytes, nullptr);
    if (used && *used < bytes.size()) Keep(bytes.substr(*used));
    return;
  }
  // Callbacks may destroy the lane; the bytes they look at must stay.
  const auto input = std::make_shared<std::string>(std::move(buffer_));
  buffer_.clear();
  input->append(bytes);
  const auto used = Deliver(*input, input);
  if (!used) return;
  // Somebody keeps a large reply of it.
  if (input.use_count() > 1) return Keep(std::string_view(*input).substr(*used));
  input->erase(0, *used);
  // The memory of a big reply is not kept for small ones.
  if (!input->empty() || input->capacity() <= kKeptBytes) buffer_ = std::move(*input);
}

void RedisLane::Keep(std::string_view rest) {
  buffer_.reserve(std::max(rest.size(), scanner_.bytes_wanted()));
  buffer_.assign(rest);
}

std::optional<size_t> RedisLane::Deliver(std::string_view input, const BytesOwner& owner) {
  const Liveness::Watch watch(liveness_);
  size_t used = 0;
  while (used < input.size()) {
    size_t length = 0;
    const resp::Progress progress = scanner_.Scan(input.substr(used), length);
    if (progress == resp::Progress::kNeedMore) break;
    if (progress == resp::Progress::kError) {
      Break("unreadable reply: " + scanner_.error());
      return std::nullopt;
    }
    DeliverOne(input.substr(used, length), owner, watch);
    if (watch.Gone() || !stream_) return std::nullopt;
    used += length;
  }
  return used;
}

void RedisLane::HandOut(std::string_view reply, const BytesOwner& owner) {
  if (owner && reply.size() >= kSharedPayloadBytesMin) return handler_->OnLargeReply(owner, reply);
  handler_->OnReply(reply);
}

void RedisLane::DeliverOne(std::string_view reply, const BytesOwner& owner,
                           const Liveness::Watch& watch) {
  if (reply[0] == '>') return handler_->OnPush(reply);
  if (!ready_) return HelloReply(reply, watch);
  if (!before_position_.empty()) {
    if (before_position_.front() == 0) {
      before_position_.pop_front();
      return PositionReply(reply, watch);
    }
    --before_position_.front();
    return HandOut(reply, owner);
  }
  if (behind_ == 0) return handler_->OnPush(reply);
  --behind_;
  HandOut(reply, owner);
}

void RedisLane::HelloReply(std::string_view reply, const Liveness::Watch& watch) {
  const std::string error = ReplyError(reply);
  const bool busy = reply.starts_with("-BUSY ");
  if (!error.empty() && !busy) return Break("cannot connect: " + error);
  if (busy) busy_ = reply;
  if (reply[0] == ':') client_id_ = reply.substr(1, reply.size() - 3);
  if (--hello_left_ > 0) return;
  if (!busy_.empty()) return AnswerBusy(watch);
  const std::string_view run_id = InfoField(ReplyText(reply), "run_id");
  if (run_id != host_->LaneRunId() && !CATENA_MUTANT("wiped-served")) {
    const std::string reason = "another Redis process answers (run_id " + std::string(run_id) + ")";
    host_->OnLaneOtherProcess(reason);
    if (!watch.Gone()) Break(reason);
    return;
  }
  ready_ = true;
  for (const auto& [owner, command] : queued_) stream_->WriteShared(owner, command);
  FreeMemory(queued_);
  queued_bytes_ = 0;
  handler_->OnLaneReady();
}

// As the Redis would; it has not even taken the introduction, which is tried again with the next
// command.
void RedisLane::AnswerBusy(const Liveness::Watch& watch) {
  const std::string busy = std::exchange(busy_, {});
  queued_.clear();
  queued_bytes_ = 0;
  std::deque<uint64_t> before_position = std::exchange(before_position_, {});
  const uint64_t behind = std::exchange(behind_, 0);
  const auto answer = [&](uint64_t count) {
    for (; count > 0 && !watch.Gone() && stream_; --count) handler_->OnReply(busy);
  };
  for (const uint64_t count : before_position) {
    answer(count);
    if (watch.Gone() || !stream_) return;
    handler_->OnPositionUntold();
  }
  answer(behind);
}

void RedisLane::PositionReply(std::string_view reply, const Liveness::Watch& watch) {
  const std::optional<Role> role = ParseRole(reply);
  const std::optional<Position> position = role ? host_->JudgeLaneRole(*role) : std::nullopt;
  if (watch.Gone() || !stream_) return;
  if (position) return handler_->OnPosition(*position);
  handler_->OnPositionUntold();
}

}  // namespace catena::redis
