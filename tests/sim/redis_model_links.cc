#include "tests/sim/redis_model_links.h"

#include <algorithm>
#include <cctype>

#include "proxy/resp/encoder.h"

namespace catena::sim {

// --- connections of others -----------------------------------------------------------------------

RedisModel::Client::Client(RedisModel& redis, uint64_t number, std::unique_ptr<io::Stream> stream)
    : id(number), redis_(redis), stream_(std::move(stream)) {
  stream_->SetHandler(this);
}

void RedisModel::Client::Close() {
  if (!stream_) return;
  stream_.reset();
  streaming = false;
  behind_snapshot.reset();
  waits_for.reset();
  patience.reset();
  // It may be on the stack.
  redis_.process_.Defer([&redis = redis_, number = id, alive = std::weak_ptr<int>(redis_.alive_)] {
    if (alive.expired()) return;
    redis.clients_.remove_if([number](const auto& each) { return each->id == number; });
  });
}

void RedisModel::Client::Unblock(std::string_view reply) {
  waits_for.reset();
  patience.reset();
  Write(reply);
  redis_.process_.Post([&redis = redis_, number = id, alive = std::weak_ptr<int>(redis_.alive_)] {
    if (alive.expired()) return;
    for (const auto& client : redis.clients_) {
      if (client->id == number) return client->Go();
    }
  });
}

void RedisModel::Client::Go() {
  size_t used = 0;
  while (open() && !waits_for) {
    resp::Command command;
    size_t consumed = 0;
    const auto progress = decoder_.Decode(std::string_view(input_).substr(used), command, consumed);
    if (progress == resp::Progress::kError) return Close();
    if (progress == resp::Progress::kNeedMore) {
      used += consumed;
      break;
    }
    Arguments arguments(command.arguments.begin(), command.arguments.end());
    used += consumed;
    std::transform(arguments[0].begin(), arguments[0].end(), arguments[0].begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    redis_.Command(*this, arguments);
  }
  input_.erase(0, used);
}

void RedisModel::Client::Replicate(std::string_view bytes) {
  if (streaming) return Write(bytes);
  if (behind_snapshot) *behind_snapshot += bytes;
}

void RedisModel::Client::SendSnapshot(const std::string& file) {
  if (!behind_snapshot) return;
  std::string head;
  resp::AppendBulkHeader(head, file.size());
  Write(head);
  Write(file);
  if (snapshot_only) {
    stream_->CloseAfterFlush();
    return Close();
  }
  Write(*behind_snapshot);
  behind_snapshot.reset();
  streaming = true;
}

// --- the connection to the master ----------------------------------------------------------------

RedisModel::MasterLink::MasterLink(RedisModel& redis, const io::Address& address)
    : redis_(redis), stream_(redis.process_.Connect(address, this)) {
  ack_ =
      redis_.process_.MakeTimer([this] { redis_.busy_ ? ack_->Start(kAckEvery) : Acknowledge(); });
}

const char* RedisModel::MasterLink::state() const {
  constexpr const char* kNames[] = {"connecting", "handshake", "sync", "connected"};
  return kNames[static_cast<int>(state_)];
}

void RedisModel::MasterLink::OnConnected() {
  state_ = State::kHandshake;
  stream_->Write(Encode({"PING"}) + Encode({"REPLCONF", "listening-port", "6379"}) +
                 Encode({"REPLCONF", "capa", "eof", "capa", "psync2"}));
  const bool place = redis_.has_place_;
  stream_->Write(Encode(
      {"PSYNC", place ? redis_.replid_ : "?", place ? std::to_string(redis_.offset_ + 1) : "-1"}));
}

void RedisModel::MasterLink::OnClosed(std::string_view) {
  ack_->Stop();
  RedisModel& redis = redis_;
  // It may be on the stack; the place in the history stays.
  redis.process_.Defer([gone = std::shared_ptr<MasterLink>(redis.master_.release())] {});
  redis.redial_->Start(kRedialAfter);
}

bool RedisModel::MasterLink::Line(std::string& line) {
  const size_t end = input_.find("\r\n");
  if (end == std::string::npos) return false;
  line = input_.substr(0, end);
  input_.erase(0, end + 2);
  return true;
}

void RedisModel::MasterLink::OnRead(std::string_view bytes) {
  input_ += bytes;
  std::string line;
  while (state_ == State::kHandshake && Line(line)) {
    OnLine(line);
    if (!stream_) return;
  }
  if (state_ == State::kTransfer && !length_ && Line(line)) length_ = std::stoull(line.substr(1));
  if (state_ == State::kTransfer && length_ && !loading_ && input_.size() >= *length_) {
    loading_ = true;
    const std::string file = input_.substr(0, *length_);
    input_.erase(0, *length_);
    return redis_.Load(file, replid_, offset_);
  }
  if (state_ == State::kConnected) TakeStream();
}

void RedisModel::MasterLink::OnLine(const std::string& line) {
  // PING and two REPLCONFs come first.
  if (++replies_ <= 3) return;
  if (line.starts_with("+CONTINUE")) {
    const std::string replid = line.size() > 10 ? line.substr(10) : redis_.replid_;
    if (replid != redis_.replid_) {
      redis_.replid2_ = redis_.replid_;
      redis_.second_offset_ = static_cast<int64_t>(redis_.offset_) + 1;
      redis_.replid_ = replid;
    }
    if (!redis_.has_backlog_) redis_.MakeBacklog();
    state_ = State::kConnected;
    ack_->Start(kAckEvery);
    return;
  }
  if (line.starts_with("+FULLRESYNC ")) {
    const size_t space = line.find(' ', 12);
    replid_ = line.substr(12, space - 12);
    offset_ = std::stoull(line.substr(space + 1));
    redis_.has_place_ = false;
    state_ = State::kTransfer;
    return;
  }
  stream_.reset();
  OnClosed("refused");
}

void RedisModel::MasterLink::Loaded() {
  state_ = State::kConnected;
  Acknowledge();
  TakeStream();
}

// Whole commands count; an open transaction counts with its EXEC.
void RedisModel::MasterLink::TakeStream() {
  if (redis_.busy_) return;
  size_t used = 0;
  while (true) {
    resp::Command command;
    size_t consumed = 0;
    const std::string_view rest = std::string_view(input_).substr(used);
    if (decoder_.Decode(rest, command, consumed) != resp::Progress::kComplete) break;
    const Arguments arguments(command.arguments.begin(), command.arguments.end());
    transaction_ += rest.substr(0, consumed);
    used += consumed;
    if (arguments[0] == "MULTI") {
      in_multi_ = true;
      continue;
    }
    if (in_multi_ && arguments[0] != "EXEC") {
      queued_.push_back(arguments);
      continue;
    }
    for (const Arguments& queued : std::exchange(queued_, {})) redis_.Apply(queued);
    if (arguments[0] == "REPLCONF") {
      Acknowledge();
    } else if (arguments[0] != "EXEC") {
      redis_.Apply(arguments);
    }
    in_multi_ = false;
    redis_.FeedBytes(std::exchange(transaction_, {}));
  }
  input_.erase(0, used);
}

void RedisModel::MasterLink::Acknowledge() {
  if (!stream_ || state_ != State::kConnected) return;
  stream_->Write(Encode({"REPLCONF", "ACK", std::to_string(redis_.offset_)}));
  ack_->Start(kAckEvery);
}

}  // namespace catena::sim
