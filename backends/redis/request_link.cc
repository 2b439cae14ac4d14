#include "backends/redis/request_link.h"

#include <algorithm>
#include <utility>

#include "proxy/resp/encoder.h"

namespace catena::redis {

RequestLink::RequestLink(io::Reactor& reactor, const io::Address& address, Owner* owner)
    : owner_(owner), stream_(reactor.Connect(address, this)) {}

void RequestLink::Send(std::initializer_list<std::string_view> command, ReplyCallback callback) {
  std::string bytes;
  resp::AppendCommand(bytes, command);
  SendRaw(bytes, std::move(callback));
}

void RequestLink::SendRaw(std::string_view command, ReplyCallback callback) {
  waiting_.push_back(std::move(callback));
  if (stream_) stream_->Write(command);
}

std::deque<ReplyCallback> RequestLink::Abandon() {
  stream_.reset();
  return std::exchange(waiting_, {});
}

std::string RequestLink::LocalName() const {
  return stream_ && connected_ ? stream_->LocalName() : std::string();
}

void RequestLink::OnConnected() { connected_ = true; }

void RequestLink::OnRead(std::string_view bytes) {
  const Liveness::Watch watch(liveness_);
  owner_->OnLinkHeard();
  if (watch.Gone()) return;
  if (buffer_.empty()) {
    const auto used = Answer(bytes);
    if (used) buffer_.assign(bytes.substr(*used));
    return;
  }
  // The callbacks may make this object go; the bytes they look at must not.
  std::string input = std::move(buffer_);
  buffer_.clear();
  input.append(bytes);
  const auto used = Answer(input);
  if (!used) return;
  input.erase(0, *used);
  buffer_ = std::move(input);
}

std::optional<size_t> RequestLink::Answer(std::string_view input) {
  const Liveness::Watch watch(liveness_);
  size_t used = 0;
  while (used < input.size()) {
    size_t length = 0;
    const resp::Progress progress = scanner_.Scan(input.substr(used), length);
    if (progress == resp::Progress::kNeedMore) break;
    if (progress == resp::Progress::kError || waiting_.empty()) {
      Break(progress == resp::Progress::kError ? scanner_.error()
                                               : "a reply that nobody asked for");
      return std::nullopt;
    }
    const ReplyCallback callback = std::move(waiting_.front());
    waiting_.pop_front();
    callback(input.substr(used, length));
    if (watch.Gone() || !stream_) return std::nullopt;
    used += length;
  }
  return used;
}

void RequestLink::OnClosed(std::string_view reason) { Break(std::string(reason)); }

void RequestLink::Break(const std::string& why) {
  // `why` may belong to what the callbacks destroy.
  const std::string reason = why;
  const Liveness::Watch watch(liveness_);
  for (const ReplyCallback& callback : Abandon()) {
    callback(std::nullopt);
    if (watch.Gone()) return;
  }
  owner_->OnLinkClosed(reason);
}

resp::Value DecodeReply(std::string_view reply) {
  resp::Value value;
  size_t consumed = 0;
  std::string error;
  if (resp::DecodeValue(reply, value, consumed, error) != resp::Progress::kComplete) {
    value = {};
    value.type = resp::Type::kError;
    value.text = "protocol error: " + error;
  }
  return value;
}

std::string_view ReplyText(std::string_view reply) {
  const size_t line_end = reply.find("\r\n");
  if (line_end == std::string_view::npos) return {};
  if (reply[0] == '+') return reply.substr(1, line_end - 1);
  if ((reply[0] != '$' && reply[0] != '=') || reply.size() < line_end + 4) return {};
  std::string_view body = reply.substr(line_end + 2, reply.size() - line_end - 4);
  if (reply[0] == '=') body.remove_prefix(std::min<size_t>(4, body.size()));  // "txt:"
  return body;
}

std::string ReplyError(std::string_view reply) {
  if (reply.empty() || reply[0] != '-') return {};
  return std::string(reply.substr(1, reply.find("\r\n") - 1));
}

}  // namespace catena::redis
