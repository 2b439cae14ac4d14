#include "backends/redis/redis_lane.h"

#include <utility>

#include "backends/redis/request_link.h"
#include "proxy/resp/encoder.h"

namespace catena::redis {
namespace {

constexpr size_t kKeptBytes = 128u << 10;
constexpr std::string_view kRoleCommand = "*1\r\n$4\r\nROLE\r\n";

}  // namespace

RedisLane::RedisLane(io::Reactor& reactor, const RedisOptions& redis,
                     const backend::LaneOptions& options, Host* host, backend::LaneHandler* handler)
    : host_(host), handler_(handler), stream_(reactor.Connect(redis.address, this)) {
  Introduce(redis, options);
}

RedisLane::~RedisLane() {
  if (host_) host_->OnLaneDestroyed(this);
}

void RedisLane::Introduce(const RedisOptions& redis, const backend::LaneOptions& options) {
  std::string out;
  const auto send = [this, &out](std::initializer_list<std::string_view> command) {
    resp::AppendCommand(out, command);
    ++hello_left_;
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
  send({"INFO", "server"});
  stream_->Write(out);
}

void RedisLane::Submit(std::string_view command) {
  if (!stream_) return;
  ++behind_;
  if (ready_) {
    stream_->Write(command);
  } else {
    queued_.append(command);
  }
}

void RedisLane::SubmitPosition() {
  Submit(kRoleCommand);
  if (stream_) before_position_.push_back(std::exchange(behind_, 0) - 1);
}

size_t RedisLane::UnsentBytes() const {
  return queued_.size() + (stream_ ? stream_->UnsentBytes() : 0);
}

void RedisLane::PauseReading() {
  paused_ = true;
  UpdateReading();
}

void RedisLane::ResumeReading() {
  paused_ = false;
  UpdateReading();
}

void RedisLane::UpdateReading() {
  if (!stream_) return;
  if (paused_ || held_) {
    stream_->PauseReading();
  } else {
    stream_->ResumeReading();
  }
}

void RedisLane::Break(const std::string& reason) {
  if (!stream_) return;
  stream_.reset();
  handler_->OnLaneClosed(reason);
}

void RedisLane::Detach() {
  host_ = nullptr;
  stream_.reset();
}

void RedisLane::OnClosed(std::string_view reason) {
  Break(ready_ ? std::string(reason) : "cannot connect: " + std::string(reason));
}

void RedisLane::OnRead(std::string_view bytes) {
  if (held_) {
    buffer_.append(bytes);
    return;
  }
  if (buffer_.empty()) {
    const auto used = Deliver(bytes);
    if (used && *used < bytes.size()) buffer_.assign(bytes.substr(*used));
    return;
  }
  // Callbacks may destroy the lane; the bytes they look at must stay.
  std::string input = std::move(buffer_);
  buffer_.clear();
  input.append(bytes);
  const auto used = Deliver(input);
  if (!used) return;
  input.erase(0, *used);
  // The memory of a big reply is not kept for small ones.
  if (!input.empty() || input.capacity() <= kKeptBytes) buffer_ = std::move(input);
}

std::optional<size_t> RedisLane::Deliver(std::string_view input) {
  const Liveness::Watch watch(liveness_);
  size_t used = 0;
  while (used < input.size() && !held_) {
    size_t length = 0;
    const resp::Progress progress = scanner_.Scan(input.substr(used), length);
    if (progress == resp::Progress::kNeedMore) break;
    if (progress == resp::Progress::kError) {
      Break("unreadable reply: " + scanner_.error());
      return std::nullopt;
    }
    DeliverOne(input.substr(used, length), watch);
    if (watch.Gone() || !stream_) return std::nullopt;
    used += length;
  }
  return used;
}

void RedisLane::DeliverOne(std::string_view reply, const Liveness::Watch& watch) {
  if (reply[0] == '>') return handler_->OnPush(reply);
  if (!ready_) return HelloReply(reply, watch);
  if (!before_position_.empty()) {
    if (before_position_.front() == 0) {
      before_position_.pop_front();
      return PositionReply(reply, watch);
    }
    --before_position_.front();
    return handler_->OnReply(reply);
  }
  if (behind_ == 0) return handler_->OnPush(reply);
  --behind_;
  handler_->OnReply(reply);
}

void RedisLane::HelloReply(std::string_view reply, const Liveness::Watch& watch) {
  const std::string error = ReplyError(reply);
  if (!error.empty()) return Break("cannot connect: " + error);
  if (--hello_left_ > 0) return;
  const std::string_view run_id = InfoField(ReplyText(reply), "run_id");
  if (run_id != host_->LaneRunId()) {
    const std::string reason = "another Redis process answers (run_id " + std::string(run_id) + ")";
    host_->OnLaneOtherProcess(reason);
    if (!watch.Gone()) Break(reason);
    return;
  }
  ready_ = true;
  stream_->Write(queued_);
  queued_ = {};
  handler_->OnLaneReady();
}

void RedisLane::PositionReply(std::string_view reply, const Liveness::Watch& watch) {
  const std::optional<Role> role = ParseRole(reply);
  const std::optional<Position> position = role ? host_->JudgeLaneRole(*role) : std::nullopt;
  if (watch.Gone() || !stream_) return;
  if (position) return handler_->OnPosition(*position);
  // BUSY, or an answer of another role. A later answer bounds as well; the replies behind wait for
  // it.
  held_ = true;
  UpdateReading();
  host_->AskLanePosition([this, watch](std::optional<Position> later) {
    if (!watch.Gone()) OnHeldPosition(later);
  });
}

void RedisLane::OnHeldPosition(std::optional<Position> position) {
  if (!position || !stream_) return;  // lost: the backend breaks its lanes
  const Liveness::Watch watch(liveness_);
  held_ = false;
  UpdateReading();
  handler_->OnPosition(*position);
  if (watch.Gone() || !stream_) return;
  if (!buffer_.empty()) OnRead({});
}

}  // namespace catena::redis
