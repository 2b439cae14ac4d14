#include "backends/redis/psync_master.h"

#include <algorithm>
#include <cctype>

#include "proxy/base/check.h"
#include "proxy/base/text.h"
#include "proxy/resp/encoder.h"

namespace catena::redis {
namespace {

// A replica's commands are a few dozen bytes; AUTH may carry a long password.
constexpr size_t kCommandBytesMax = 16u << 10;

resp::Limits ReplicaLimits() {
  resp::Limits limits;
  limits.bulk_bytes_max = kCommandBytesMax;
  limits.elements_max = 64;
  limits.inline_bytes_max = kCommandBytesMax;
  limits.command_bytes_max = kCommandBytesMax;
  return limits;
}

}  // namespace

PsyncMaster::PsyncMaster() : decoder_(ReplicaLimits()) {}

PsyncMaster::Event PsyncMaster::Close(std::string text) {
  phase_ = Phase::kEnded;
  buffer_.clear();
  Event event;
  event.kind = Kind::kClose;
  event.text = std::move(text);
  return event;
}

PsyncMaster::Event PsyncMaster::Next(std::string_view input, std::string& out) {
  if (phase_ == Phase::kEnded) return {};
  buffer_.append(input);
  // What it sends behind PSYNC waits for the answer, as it would at a Redis.
  while (phase_ != Phase::kAsked && !buffer_.empty()) {
    resp::Command command;
    size_t consumed = 0;
    const resp::Progress progress = decoder_.Decode(buffer_, command, consumed);
    if (progress == resp::Progress::kError) return Close(decoder_.error());
    if (progress == resp::Progress::kNeedMore) {
      buffer_.erase(0, consumed);
      break;
    }
    Event event = Execute(command, out);
    if (phase_ == Phase::kEnded) return event;
    buffer_.erase(0, consumed);
    if (event.kind != Kind::kNeedMore) return event;
  }
  if (buffer_.size() > 2 * kCommandBytesMax) return Close("sends more than a replica would");
  return {};
}

PsyncMaster::Event PsyncMaster::Execute(const resp::Command& command, std::string& out) {
  const std::string_view name = command.arguments[0];
  if (EqualsIgnoringCase(name, "replconf")) return Replconf(command, out);
  if (phase_ == Phase::kStreaming) {
    return Close("unexpected command in the stream: " + std::string(name));
  }
  if (EqualsIgnoringCase(name, "ping")) {
    resp::AppendSimple(out, "PONG");
    return {};
  }
  // A Redis with `masterauth` set introduces itself; that it dialled us, as told, is what counts.
  if (EqualsIgnoringCase(name, "auth")) {
    resp::AppendSimple(out, "OK");
    return {};
  }
  if (EqualsIgnoringCase(name, "psync")) return Psync(command);
  return Close("not a replica's command: " + std::string(name));
}

PsyncMaster::Event PsyncMaster::Replconf(const resp::Command& command, std::string& out) {
  const auto& arguments = command.arguments;
  if (arguments.size() >= 3 && EqualsIgnoringCase(arguments[1], "ack")) {
    // REPLCONF ACK <offset> [FACK <aof offset>]: never answered.
    const auto offset = ParseNumber<int64_t>(arguments[2]);
    if (!offset || *offset < 0) return {};
    Event event;
    event.kind = Kind::kAck;
    event.position = Position(static_cast<uint64_t>(*offset));
    return event;
  }
  // listening-port, ip-address, capa <any word>, version ...: none changes what we send.
  if (phase_ == Phase::kHandshake) resp::AppendSimple(out, "OK");
  return {};
}

PsyncMaster::Event PsyncMaster::Psync(const resp::Command& command) {
  const auto& arguments = command.arguments;
  const auto first = arguments.size() >= 3 ? ParseNumber<int64_t>(arguments[2]) : std::nullopt;
  if (!first) return Close("malformed PSYNC");
  if (arguments.size() > 3) return Close("asks us to fail over to it");
  phase_ = Phase::kAsked;
  Event event;
  event.kind = Kind::kAsk;
  event.replid = arguments[1];
  if (event.replid != "?" && *first >= 1)
    event.position = Position(static_cast<uint64_t>(*first - 1));
  return event;
}

std::string PsyncMaster::Continue(const std::string& replid) {
  CATENA_CHECK(phase_ == Phase::kAsked, "an answer needs a question");
  phase_ = Phase::kStreaming;
  std::string out;
  resp::AppendSimple(out, "CONTINUE " + replid);
  return out;
}

std::string PsyncMaster::FullResync(const std::string& replid, Position position, uint64_t length) {
  CATENA_CHECK(phase_ == Phase::kAsked, "an answer needs a question");
  phase_ = Phase::kStreaming;
  std::string out;
  resp::AppendSimple(out, "FULLRESYNC " + replid + " " + resp::Decimal(position.value()));
  resp::AppendBulkHeader(out, length);
  return out;
}

std::string PsyncMaster::Later() {
  CATENA_CHECK(phase_ == Phase::kAsked, "an answer needs a question");
  phase_ = Phase::kHandshake;
  std::string out;
  resp::AppendError(out, "NOMASTERLINK the chain is not ready to feed this replica");
  return out;
}

}  // namespace catena::redis
