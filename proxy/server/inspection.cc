#include "proxy/server/inspection.h"

#include <algorithm>
#include <charconv>

#include "proxy/base/text.h"
#include "proxy/command/command_table.h"
#include "proxy/resp/encoder.h"

namespace catena::server {
namespace {

constexpr std::string_view kReads[] = {"scan",   "sscan",    "hscan",  "zrange", "xrange",
                                       "lrange", "getrange", "exists", "type",   "info",
                                       "llen",   "strlen",   "zcard",  "xlen",   "pexpiretime"};
constexpr size_t kUnsentMax = 8u << 20;
bool IsRead(std::string_view name) {
  return std::any_of(std::begin(kReads), std::end(kReads),
                     [&](std::string_view read) { return EqualsIgnoringCase(name, read); });
}

std::string Error(std::string_view text) {
  std::string out;
  resp::AppendError(out, text);
  return out;
}

}  // namespace

Inspection::Inspection(std::unique_ptr<io::Stream> stream, backend::Backend& backend,
                       std::function<Position()> received, std::function<void()> on_closed)
    : stream_(std::move(stream)),
      backend_(backend),
      received_(std::move(received)),
      on_closed_(std::move(on_closed)) {
  stream_->SetHandler(this);
  lane_ = backend_.OpenLane({}, this);
}

void Inspection::OnRead(std::string_view bytes) {
  input_.append(bytes);
  size_t used = 0;
  while (stream_) {
    resp::Command command;
    size_t consumed = 0;
    const auto progress = decoder_.Decode(std::string_view(input_).substr(used), command, consumed);
    if (progress == resp::Progress::kError) return Close("ERR " + decoder_.error());
    if (progress == resp::Progress::kComplete) Take(command);
    used += consumed;
    if (progress == resp::Progress::kNeedMore) break;
  }
  input_.erase(0, used);
}

void Inspection::Take(const resp::Command& command) {
  const std::string_view name = command.arguments[0];
  const size_t count = command.arguments.size();
  if (name == "POSITION" && count == 1) {
    ++owed_;
    return lane_->SubmitPosition();
  }
  if (name == "DIGEST" && count > 1) return Digest(command);
  if (IsRead(name)) {
    ++owed_;
    return lane_->Submit(command.raw);
  }
  const bool own = (name == "SELECT" && count == 2) || (name == "WATCH" && count > 1) ||
                   (name == "TOUCHED" && count == 1);
  if (!own) return Close("ERR not a command of an inspection");
  if (owed_ > 0) return Close("ERR not while answers are owed");
  if (name == "SELECT") return Select(command.arguments[1]);
  if (name == "WATCH") return Watch(command);
  Write(Touched());
}

void Inspection::Digest(const resp::Command& command) {
  ++owed_;
  lane_->Submit(backend_.DigestRequest(std::span(command.arguments).subspan(1)));
}

void Inspection::Select(std::string_view text) {
  int database = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), database);
  if (error != std::errc() || end != text.data() + text.size() || database < 0)
    return Close("ERR no database number");
  lane_ = backend_.OpenLane({database, 2}, this);
  Write("+OK\r\n");
}

void Inspection::Watch(const resp::Command& command) {
  if (command.arguments.size() - 1 > kWatchedMax) return Close("ERR too many keys to watch");
  watched_.clear();
  touched_.clear();
  for (size_t i = 1; i < command.arguments.size(); ++i) {
    watched_.push_back(command::HashKey(command.arguments[i]));
    touched_[watched_.back()] = Position();
  }
  std::string out;
  resp::AppendInteger(out, static_cast<int64_t>(received_().value()));
  Write(out);
}

void Inspection::OnEntry(const command::EffectEntry& entry) {
  if (touched_.empty()) return;
  if (entry.touches_every_key) {
    for (auto& [hash, position] : touched_) position = entry.end;
  }
  for (uint64_t hash : entry.key_hashes) {
    const auto found = touched_.find(hash);
    if (found != touched_.end()) found->second = entry.end;
  }
}

std::string Inspection::Touched() const {
  std::string out;
  resp::AppendArrayHeader(out, watched_.size() + 1);
  resp::AppendInteger(out, static_cast<int64_t>(received_().value()));
  for (uint64_t hash : watched_) {
    resp::AppendInteger(out, static_cast<int64_t>(touched_.at(hash).value()));
  }
  return out;
}

void Inspection::OnReply(std::string_view reply) {
  --owed_;
  Write(reply);
}

void Inspection::OnPosition(Position position) {
  std::string out;
  resp::AppendInteger(out, static_cast<int64_t>(position.value()));
  OnReply(out);
}

void Inspection::OnPositionUntold() { OnReply(Error("ERR the database does not tell now")); }

void Inspection::OnLaneClosed(const std::string& reason, bool) { Close("ERR " + reason); }

void Inspection::Write(std::string_view bytes) {
  if (!stream_) return;
  stream_->Write(bytes);
  if (paused_ || stream_->UnsentBytes() <= kUnsentMax) return;
  paused_ = true;
  stream_->PauseReading();
  lane_->PauseReading();
  stream_->NotifyBelow(kUnsentMax / 2);
}

void Inspection::OnDrained() {
  if (!std::exchange(paused_, false) || !stream_) return;
  stream_->ResumeReading();
  lane_->ResumeReading();
}

void Inspection::Close(std::string_view why) {
  if (!stream_) return;
  stream_->Write(Error(why));
  stream_->CloseAfterFlush();
  OnClosed(why);
}

void Inspection::OnClosed(std::string_view) {
  if (!stream_) return;
  // The lane may be calling: it goes with this object.
  stream_.reset();
  on_closed_();
}

}  // namespace catena::server
