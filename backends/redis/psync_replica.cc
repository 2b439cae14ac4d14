#include "backends/redis/psync_replica.h"

#include <algorithm>

#include "backends/redis/redis_info.h"
#include "proxy/base/check.h"
#include "proxy/base/text.h"
#include "proxy/resp/encoder.h"

namespace catena::redis {
namespace {

// A reply of the handshake is a line or one section of INFO; more than this is no Redis.
constexpr size_t kReplyBytesMax = 64u << 10;

// Errors of a Redis that may well answer otherwise in a moment: it starts, a script of somebody
// overruns, its master's link or all its places for clients are taken.
constexpr std::string_view kPassing[] = {"LOADING", "BUSY ", "NOMASTERLINK",
                                         "ERR max number of clients reached"};

bool Passes(std::string_view error) {
  return std::any_of(std::begin(kPassing), std::end(kPassing),
                     [error](std::string_view begin) { return error.starts_with(begin); });
}

// The line without its type byte and line end.
std::string_view LineText(std::string_view line) {
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
  if (!line.empty()) line.remove_prefix(1);
  return line;
}

}  // namespace

PsyncReplica::PsyncReplica(ReplicaHello hello) : hello_(std::move(hello)) {}

void PsyncReplica::Send(std::string& out, Step step,
                        std::initializer_list<std::string_view> command) {
  resp::AppendCommand(out, command);
  steps_.push_back(static_cast<char>(step));
}

std::string PsyncReplica::Hello() {
  std::string out;
  if (!hello_.password.empty() || !hello_.user.empty()) {
    if (hello_.user.empty()) {
      Send(out, Step::kAuth, {"AUTH", hello_.password});
    } else {
      Send(out, Step::kAuth, {"AUTH", hello_.user, hello_.password});
    }
  }
  Send(out, Step::kPing, {"PING"});
  if (!hello_.client_name.empty())
    Send(out, Step::kName, {"CLIENT", "SETNAME", hello_.client_name});
  if (!hello_.run_id.empty()) Send(out, Step::kInfo, {"INFO", "server"});
  if (hello_.listening_port != 0) {
    Send(out, Step::kConf,
         {"REPLCONF", "listening-port",
          resp::Decimal(static_cast<uint64_t>(hello_.listening_port))});
  }
  if (hello_.capa_eof) Send(out, Step::kConf, {"REPLCONF", "capa", "eof"});
  Send(out, Step::kConf, {"REPLCONF", "capa", "psync2"});
  if (hello_.rdb_only) Send(out, Step::kConf, {"REPLCONF", "rdb-only", "1"});
  return out;
}

std::string PsyncReplica::Ask(const std::string& replid, std::optional<Position> position,
                              bool failover) {
  CATENA_CHECK(phase_ == Phase::kReady, "PSYNC is asked once, after the handshake");
  phase_ = Phase::kAsked;
  asked_replid_ = position ? replid : "";
  std::string out;
  if (!position) {
    resp::AppendCommand(out, {"PSYNC", "?", "-1"});
    return out;
  }
  // PSYNC names the first byte wanted, counted from 1; a position names the bytes before it.
  const std::string first = resp::Decimal(position->value() + 1);
  if (failover) {
    resp::AppendCommand(out, {"PSYNC", replid, first, "FAILOVER"});
  } else {
    resp::AppendCommand(out, {"PSYNC", replid, first});
  }
  return out;
}

PsyncReplica::Event PsyncReplica::End(Kind kind, std::string text) {
  phase_ = Phase::kEnded;
  Event event;
  event.kind = kind;
  event.text = std::move(text);
  return event;
}

PsyncReplica::Event PsyncReplica::Refuse(std::string text) {
  return End(Kind::kRefused, std::move(text));
}

PsyncReplica::Event PsyncReplica::Next(std::string_view& input) {
  while (true) {
    Event event;
    // The end of a snapshot is told at once, not with the byte behind it.
    if (phase_ == Phase::kSnapshot && snapshot_left_ == 0) {
      phase_ = hello_.rdb_only ? Phase::kEnded : Phase::kStream;
      event.kind = Kind::kSnapshotEnd;
      return event;
    }
    if (input.empty()) return event;
    switch (phase_) {
      case Phase::kStream:
        event.kind = Kind::kStream;
        event.bytes = input;
        input = {};
        return event;
      case Phase::kSnapshot:
        event.kind = Kind::kSnapshotBytes;
        event.bytes = input.substr(0, std::min<uint64_t>(input.size(), snapshot_left_));
        input.remove_prefix(event.bytes.size());
        snapshot_left_ -= event.bytes.size();
        return event;
      case Phase::kReady:
      case Phase::kEnded:
        // Nothing is owed to us here; whatever it is, it is not ours.
        input = {};
        return event;
      case Phase::kHello:
      case Phase::kAsked:
      case Phase::kLength:
        break;
    }
    if (!CollectReply(input)) {
      if (reply_.size() > kReplyBytesMax) return Refuse("the handshake's reply is too long");
      return event;
    }
    const Phase phase = phase_;
    event = phase == Phase::kHello   ? HelloReply()
            : phase == Phase::kAsked ? PsyncReply()
                                     : LengthLine();
    reply_.clear();
    if (event.kind != Kind::kNeedMore) return event;
  }
}

bool PsyncReplica::CollectReply(std::string_view& input) {
  while (!input.empty() && reply_.size() <= kReplyBytesMax) {
    if (body_wanted_ > 0) {
      const size_t size = std::min(body_wanted_, input.size());
      reply_.append(input.substr(0, size));
      input.remove_prefix(size);
      body_wanted_ -= size;
      if (body_wanted_ == 0) return true;
      continue;
    }
    const size_t end = input.find('\n');
    reply_.append(input.substr(0, end == std::string_view::npos ? input.size() : end + 1));
    input.remove_prefix(end == std::string_view::npos ? input.size() : end + 1);
    if (end == std::string_view::npos) return false;
    // Redis sends bare newlines while a snapshot is in the making.
    if (reply_ == "\n" || reply_ == "\r\n") {
      reply_.clear();
      continue;
    }
    if (reply_[0] != '$' || phase_ == Phase::kLength) return true;
    const auto length = ParseNumber<uint64_t>(LineText(reply_));
    if (!length || *length > kReplyBytesMax) return true;
    body_wanted_ = *length + 2;
  }
  return false;
}

PsyncReplica::Event PsyncReplica::HelloReply() {
  const Step step = static_cast<Step>(steps_[next_step_++]);
  if (reply_[0] == '-') {
    const std::string text(LineText(reply_));
    if (Passes(text)) return End(Kind::kLater, text);
    // An older Redis may not know a REPLCONF word; then it does not have what the word switches on.
    // PING tells of the data, too: that it could not be saved (MISCONF), or is old (MASTERDOWN). It
    // can be read all the same.
    const bool serves = step == Step::kConf || (step == Step::kPing && !text.starts_with("NOAUTH"));
    if (!serves) return Refuse(text);
  }
  if (step == Step::kInfo && InfoField(reply_, "run_id") != hello_.run_id) {
    return Refuse("another Redis process answers (run_id " +
                  std::string(InfoField(reply_, "run_id")) + ")");
  }
  Event event;
  if (next_step_ == steps_.size()) {
    phase_ = Phase::kReady;
    event.kind = Kind::kReady;
  }
  return event;
}

PsyncReplica::Event PsyncReplica::PsyncReply() {
  const std::string_view text = LineText(reply_);
  Event event;
  if (reply_[0] == '-') return End(Passes(text) ? Kind::kLater : Kind::kRefused, std::string(text));
  if (text == "CONTINUE" || text.starts_with("CONTINUE ")) {
    phase_ = Phase::kStream;
    event.kind = Kind::kContinue;
    event.replid = text.size() > 9 ? std::string(text.substr(9)) : asked_replid_;
    return event;
  }
  const std::string_view rest = text.starts_with("FULLRESYNC ") ? text.substr(11) : "";
  const size_t space = rest.find(' ');
  const auto position = space == std::string_view::npos
                            ? std::nullopt
                            : ParseNumber<uint64_t>(rest.substr(space + 1));
  if (reply_[0] != '+' || !position || *position > INT64_MAX)
    return Refuse("unexpected answer to PSYNC: " + std::string(text));
  phase_ = Phase::kLength;
  event.kind = Kind::kFullResync;
  event.replid = rest.substr(0, space);
  event.position = Position(*position);
  return event;
}

PsyncReplica::Event PsyncReplica::LengthLine() {
  const std::string_view text = LineText(reply_);
  const auto length = ParseNumber<uint64_t>(text);
  if (reply_[0] != '$' || !length)
    return Refuse("no snapshot of a known length: " + std::string(text));
  phase_ = Phase::kSnapshot;
  snapshot_left_ = *length;
  Event event;
  event.kind = Kind::kSnapshotStart;
  event.length = *length;
  return event;
}

}  // namespace catena::redis
