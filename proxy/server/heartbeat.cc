#include "proxy/server/heartbeat.h"

#include "proxy/base/log.h"
#include "proxy/base/version.h"
#include "proxy/resp/encoder.h"

namespace catena::server {
namespace {

// A coordinator that has not answered for so many beats is given up for the next.
constexpr int kSilentBeatsMax = 3;
constexpr resp::Limits kAnswerLimits{
    .bulk_bytes_max = 1u << 20, .elements_max = 8, .inline_bytes_max = 4096, .nesting_max = 1};

}  // namespace

Heartbeat::Heartbeat(io::Reactor& reactor, const Options& options, Callbacks callbacks)
    : reactor_(reactor),
      options_(options),
      callbacks_(std::move(callbacks)),
      timer_(reactor.MakeTimer([this] { Beat(); })),
      decoder_(kAnswerLimits) {}

void Heartbeat::Start() { Beat(); }

void Heartbeat::Beat() {
  timer_->Start(options_.heartbeat);
  TimePoint now = reactor_.Now();
  if (phase_ != Phase::kIdle && now - last_sign_ > options_.heartbeat * kSilentBeatsMax) {
    log::Warn("coordinator_silent", {{"address", stream_ ? stream_->PeerName() : ""}});
    TryNext();
  } else if (phase_ == Phase::kIdle) {
    Connect();
  } else if (phase_ == Phase::kReady) {
    SendReport();
  }
}

void Heartbeat::SendNow() {
  if (phase_ != Phase::kReady) return;
  SendReport();
}

void Heartbeat::Connect() {
  ConnectTo(options_.coordinators[next_address_++ % options_.coordinators.size()]);
}

void Heartbeat::ConnectTo(const std::string& address) {
  sent_.clear();
  input_.clear();
  decoder_ = resp::CommandDecoder(kAnswerLimits);
  phase_ = Phase::kConnecting;
  last_sign_ = reactor_.Now();
  dialler_ = std::make_unique<auth::Dialler>(options_.credentials, reactor_.RandomBytes(16));
  stream_ = reactor_.Connect(address, this);
}

void Heartbeat::TryNext() {
  stream_.reset();
  phase_ = Phase::kIdle;
  Connect();
}

void Heartbeat::OnConnected() {
  phase_ = Phase::kProving;
  stream_->Write(dialler_->Greeting());
}

void Heartbeat::OnClosed(std::string_view reason) {
  if (phase_ == Phase::kReady) log::Info("coordinator_lost", {{"why", reason}});
  stream_.reset();
  phase_ = Phase::kIdle;  // the next beat tries the next address
}

void Heartbeat::OnRead(std::string_view bytes) {
  input_.append(bytes);
  if (phase_ == Phase::kProving && !Prove()) return;
  if (phase_ == Phase::kReady) Decode();
}

bool Heartbeat::Prove() {
  std::string out;
  Result<bool> proved = dialler_->Feed(input_, out);
  if (!proved) {
    log::Error("coordinator_refused", {{"why", proved.error().message}});
    OnClosed(proved.error().message);
    return false;
  }
  stream_->Write(out);
  if (!*proved) return false;
  phase_ = Phase::kReady;
  log::Info("coordinator_found",
            {{"address", stream_->PeerName()}, {"protocol", dialler_->version()}});
  SendReport();
  return true;
}

void Heartbeat::SendReport() {
  coordinator::NodeReport report = callbacks_.report();
  report.number = ++number_;
  report.version = ProgramVersion();
  // The lease runs from here: before the bytes leave (design.md 6).
  sent_[number_] = reactor_.Now();
  std::string out;
  resp::AppendCommand(out, {"CATENA.HEARTBEAT", coordinator::EncodeReport(report)});
  stream_->Write(out);
}

void Heartbeat::Decode() {
  size_t used = 0;
  while (phase_ == Phase::kReady) {
    size_t consumed = 0;
    resp::Progress progress =
        decoder_.Decode(std::string_view(input_).substr(used), command_, consumed);
    used += consumed;
    if (progress == resp::Progress::kNeedMore) break;
    if (progress == resp::Progress::kError) return OnClosed(decoder_.error());
    if (!OnMessage(command_.arguments)) return;
  }
  input_.erase(0, used);
}

bool Heartbeat::OnMessage(const std::vector<std::string_view>& arguments) {
  if (arguments.size() < 2) {
    OnClosed("malformed message");
    return false;
  }
  if (arguments[0] == "NOTLEADER") {
    OnNotLeader(arguments[1]);
    return false;
  }
  Result<coordinator::HeartbeatAnswer> answer = coordinator::DecodeAnswer(arguments[1]);
  if (!answer) {
    log::Error("coordinator_nonsense", {{"why", answer.error().message}});
    OnClosed(answer.error().message);
    return false;
  }
  last_sign_ = reactor_.Now();
  std::optional<TimePoint> sent_at;
  if (arguments[0] == "HEARTBEAT") {
    auto found = sent_.find(answer->number);
    if (found == sent_.end()) return true;
    sent_at = found->second;
    sent_.erase(sent_.begin(), std::next(found));
  }
  callbacks_.on_answer(*answer, sent_at);
  return phase_ == Phase::kReady;
}

void Heartbeat::OnNotLeader(std::string_view address) {
  std::string leader(address);
  stream_.reset();
  phase_ = Phase::kIdle;
  if (!leader.empty()) ConnectTo(leader);
}

}  // namespace catena::server
