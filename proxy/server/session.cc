#include "proxy/server/session.h"

#include <utility>

#include "proxy/base/check.h"
#include "proxy/resp/encoder.h"
#include "proxy/server/client_state.h"

namespace catena::server {
namespace {

// Once this much input waits behind a command that waits, the socket is left alone.
constexpr size_t kWaitingInputBytes = 256u << 10;

}  // namespace

Session::Session(uint64_t id, std::unique_ptr<io::Stream> stream, SessionOwner* owner, const Settings& settings)
    : id_(id), owner_(owner), settings_(settings), stream_(std::move(stream)), decoder_(settings.limits) {
  stream_->SetHandler(this);
}

Session::~Session() = default;

void Session::OnRead(std::string_view bytes) {
  if (close_after_replies_) return;
  if (!input_.empty() || waiting_) {
    input_.append(bytes);
    if (!waiting_) {
      // Parsing in place moves nothing: the rest is kept behind what was used.
      size_t used = Process(input_);
      input_.erase(0, used);
    }
  } else {
    size_t used = Process(bytes);
    input_.assign(bytes.substr(used));
  }
  if (decoder_.bytes_wanted() > input_.capacity()) input_.reserve(decoder_.bytes_wanted());
  if (waiting_ && input_.size() > kWaitingInputBytes && !reading_paused_ && stream_) {
    reading_paused_ = true;
    stream_->PauseReading();
  }
  MaybeFinish();
}

size_t Session::Process(std::string_view bytes) {
  processing_ = true;
  size_t used = 0;
  while (taking_ && !close_after_replies_ && stream_) {
    size_t consumed = 0;
    resp::Progress progress = decoder_.Decode(bytes.substr(used), command_, consumed);
    if (progress == resp::Progress::kNeedMore) {
      used += consumed;
      break;
    }
    if (progress == resp::Progress::kError) {
      ProtocolError(decoder_.error());
      used = bytes.size();
      break;
    }
    over_limits_ = OverLimits();
    if (over_limits_ || !Take()) {
      waiting_ = true;
      owner_->OnBlocked(*this);
      break;
    }
    used += consumed;
  }
  if (!taking_ || close_after_replies_) used = bytes.size();
  processing_ = false;
  return used;
}

bool Session::OverLimits() {
  if (slots_.size() >= settings_.pipeline_max) return true;
  if (stream_->UnsentBytes() < settings_.output_bytes_max) return false;
  stream_->NotifyBelow(settings_.output_bytes_max / 2);
  return true;
}

bool Session::Take() {
  uint64_t number = next_number_++;
  slots_.push_back(Slot{});
  bool skipped = std::exchange(skip_next_, false);
  slots_.back().silent = skipped || reply_mode == ReplyMode::kOff;
  if (DispatchCommand(number) == Dispatch::kWait) {
    --next_number_;
    slots_.pop_back();
    skip_next_ = skipped;
    return false;
  }
  blocked_since.reset();
  read_wait = ReadWait{};
  return true;
}

Dispatch Session::DispatchCommand(uint64_t number) {
  const command::CommandTable* table = owner_->Commands();
  Request request;
  request.command = &command_;
  request.key_hashes = &key_hashes_;
  key_hashes_.clear();
  if (table != nullptr) request.info = table->Find(command_.arguments);
  if (request.info != nullptr) {
    request.route = request.info->route;
    key_positions_.clear();
    auto knowledge = command::FindKeys(*request.info, command_.arguments, key_positions_);
    request.keys_known = knowledge == command::KeyKnowledge::kExact && !key_positions_.empty();
    for (uint32_t position : key_positions_) {
      key_hashes_.push_back(command::HashKey(command_.arguments[position]));
    }
  }
  last_command_ = request.info != nullptr ? request.info->name : "unknown";
  return owner_->OnCommand(*this, number, request);
}

void Session::ProtocolError(const std::string& error) {
  std::string reply;
  resp::AppendError(reply, "ERR " + error);
  uint64_t number = next_number_++;
  slots_.push_back(Slot{});
  Complete(number, reply);
  CloseAfterReplies();
}

void Session::Complete(uint64_t number, std::string_view reply) {
  CATENA_CHECK(number < next_number_ && next_number_ - number <= slots_.size(), "an answer to an open command");
  size_t index = slots_.size() - static_cast<size_t>(next_number_ - number);
  Slot& slot = slots_[index];
  CATENA_CHECK(!slot.done, "one answer a command");
  slot.done = true;
  if (slot.counted) --outstanding_;
  if (outstanding_ == 0) path = Path::kNone;
  if (index == 0) {
    bool silent = slot.silent;
    slots_.pop_front();
    if (!silent) Emit(reply);
    FlushReady();
  } else if (stream_ && !slot.silent) {
    slot.reply = reply;
  }
  MaybeFinish();
}

void Session::CountOutstanding(Path on) {
  // The command being dispatched is always the newest slot.
  path = on;
  slots_.back().counted = true;
  ++outstanding_;
}

void Session::FlushReady() {
  while (!slots_.empty() && slots_.front().done) {
    if (!slots_.front().silent) Emit(slots_.front().reply);
    slots_.pop_front();
  }
  if (slots_.empty() && close_after_replies_ && stream_) {
    stream_->CloseAfterFlush();
    stream_.reset();
    owner_->OnDisconnected(*this);
  }
}

void Session::Emit(std::string_view reply) {
  if (stream_) stream_->Write(reply);
}

void Session::Push(std::string_view message) {
  if (!stream_) return;
  if (stream_->UnsentBytes() > settings_.output_bytes_max) return CloseNow("it does not read its messages");
  stream_->Write(message);
}

void Session::Retry() {
  if (!waiting_ || processing_) return;
  waiting_ = false;
  size_t used = Process(input_);
  input_.erase(0, used);
  if (!waiting_ && reading_paused_ && stream_) {
    reading_paused_ = false;
    stream_->ResumeReading();
  }
  MaybeFinish();
}

void Session::FailWaiting(std::string_view error_reply) {
  if (!waiting_ || processing_) return;
  size_t consumed = 0;
  resp::Progress progress = decoder_.Decode(input_, command_, consumed);
  CATENA_CHECK(progress == resp::Progress::kComplete, "a waiting command is complete");
  input_.erase(0, consumed);
  // Those that were sent together with it have waited as long; a later one has not waited at all.
  if (input_.empty()) blocked_since.reset();
  read_wait = ReadWait{};
  uint64_t number = next_number_++;
  slots_.push_back(Slot{});
  Complete(number, error_reply);
  Retry();
}

void Session::CloseAfterReplies() {
  close_after_replies_ = true;
  FlushReady();
  MaybeFinish();
}

void Session::CloseNow(std::string_view why) {
  if (stream_) OnClosed(why);
}

void Session::OnClosed(std::string_view) {
  stream_.reset();
  waiting_ = false;
  input_.clear();
  owner_->OnDisconnected(*this);
  MaybeFinish();
}

void Session::OnDrained() { Retry(); }

void Session::MaybeFinish() {
  // Answers that are still owed by an executor find this object by pointer: it lives until the last one came.
  if (stream_ || outstanding_ > 0 || processing_ || finished_) return;
  finished_ = true;
  owner_->OnFinished(*this);
}

}  // namespace catena::server
