#include "proxy/server/session.h"

#include <algorithm>
#include <utility>

#include "proxy/base/check.h"
#include "proxy/base/free_memory.h"
#include "proxy/base/mutant.h"
#include "proxy/resp/encoder.h"
#include "proxy/server/client_state.h"

namespace catena::server {
namespace {

// Once this much input waits behind a command that waits, the socket is left alone.
constexpr size_t kWaitingInputBytes = 256u << 10;
// Commands that a new connection may have under way; each answer allows one more while that many
// are used.
constexpr size_t kFirstWindow = 16;
// Bytes of unread replies at which a connection is given up, in multiples of its limit: reached
// only by replies that are much larger than those before them, to commands that had been sent on
// already.
constexpr size_t kGivenUpAt = 4;
// Buffers that one large command made grow are given back above this: there may be thousands of
// connections.
constexpr size_t kKeptBytes = 64u << 10;

}  // namespace

Session::Session(uint64_t id, std::unique_ptr<io::Stream> stream, SessionOwner* owner, Meter& meter,
                 const Settings& settings)
    : id_(id),
      owner_(owner),
      meter_(meter),
      settings_(settings),
      stream_(std::move(stream)),
      decoder_(settings.limits),
      window_(std::min(kFirstWindow, settings.pipeline_max)) {
  stream_->SetHandler(this);
}

Session::~Session() = default;

void Session::OnRead(std::string_view bytes) {
  if (close_after_replies_) return;
  last_read_ = owner_->Now();
  if (!waiting_) arrived_ = last_read_;
  traffic().in += bytes.size();
  if (!input_.empty() || waiting_) {
    input_.append(bytes);
    if (!waiting_) {
      // Parsing in place moves nothing: the rest is kept behind what was used.
      size_t used = Process(input_);
      TakeInput(used);
    }
  } else {
    size_t used = Process(bytes);
    input_.assign(bytes.substr(used));
  }
  if (decoder_.bytes_wanted() > input_.capacity()) input_.reserve(decoder_.bytes_wanted());
  if (waiting_ && input_.size() > kWaitingInputBytes) PauseReading();
  MaybeFinish();
}

void Session::PauseReading() {
  if (reading_paused_ || !stream_) return;
  reading_paused_ = true;
  paused_at_ = last_read_;
  paused_for_ = over_limits_ ? StallCause::kClientReplies : StallCause::kClientCommands;
  stream_->PauseReading();
}

void Session::ResumeReading() {
  if (!std::exchange(reading_paused_, false)) return;
  meter_.stall(paused_for_).Add(meter_.Now() - paused_at_);
  if (stream_) stream_->ResumeReading();
}

Traffic& Session::traffic() {
  return meter_.traffic(forwarded ? TrafficOf::kForwarded : TrafficOf::kClients);
}

void Session::TakeInput(size_t used) {
  input_.erase(0, used);
  if (input_.empty() && input_.capacity() > kKeptBytes) FreeMemory(input_);
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
    bool shared = command_.raw.size() >= kSharedPayloadBytesMin && bytes.data() == input_.data();
    if (over_limits_ || !(shared ? TakeShared(used + consumed) : Take())) {
      waiting_ = true;
      owner_->OnBlocked(*this);
      break;
    }
    used += consumed;
    if (!shared) continue;
    bytes = input_;  // what was behind it
    used = 0;
  }
  if (!taking_ || close_after_replies_) used = bytes.size();
  processing_ = false;
  return used;
}

bool Session::OverLimits() {
  size_t owed = slots_.size();
  if (owed >= window_) return true;
  // What is owed will be about as large as what came: the memory for it must be there before it is
  // asked for.
  size_t unsent = stream_->UnsentBytes();
  if (unsent + held_bytes_ + owed * reply_bytes_ < settings_.output_bytes_max) return false;
  if (unsent >= settings_.output_bytes_max / 2)
    stream_->NotifyBelow(settings_.output_bytes_max / 2);
  return true;
}

void Session::LearnFrom(size_t reply_bytes) {
  if (2 * slots_.size() >= window_ && window_ < settings_.pipeline_max) ++window_;
  if (reply_bytes >= reply_bytes_) {
    reply_bytes_ = reply_bytes;
  } else {
    reply_bytes_ -= (reply_bytes_ - reply_bytes) / 16;
  }
}

bool Session::TakeShared(size_t end) {
  // Moving it leaves its bytes where they are.
  auto owner = std::make_shared<std::string>(std::move(input_));
  command_owner_ = owner;
  bool taken = Take();
  command_owner_.reset();
  if (taken) {
    input_.assign(*owner, end);
  } else {
    input_ = std::move(*owner);
  }
  return taken;
}

bool Session::Take() {
  uint64_t number = next_number_++;
  slots_.push_back(Slot{});
  slots_.back().since = arrived_;
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

// An inline command as an array of bulks. Passed on as it came, a zero byte in it would hide the
// rest of the line from Redis, which then answers late or never - on a connection that all clients
// share.
void Session::UnfoldInline() {
  inline_command_.clear();
  resp::AppendCommand(inline_command_, std::span<const std::string_view>(command_.arguments));
  command_.raw = inline_command_;
}

Dispatch Session::DispatchCommand(uint64_t number) {
  if (command_.is_inline) UnfoldInline();
  const command::CommandTable* table = owner_->Commands();
  Request request;
  request.command = &command_;
  request.owner = command_owner_;
  request.key_hashes = &key_hashes_;
  key_hashes_.clear();
  if (table != nullptr) request.info = table->Find(command_.arguments);
  CountAs(ClassOf(request.info));
  if (request.info != nullptr) {
    request.route = request.info->route;
    key_positions_.clear();
    auto knowledge = command::FindKeys(*request.info, command_.arguments, key_positions_);
    request.keys_known = knowledge == command::KeyKnowledge::kExact && !key_positions_.empty();
    for (uint32_t position : key_positions_) {
      key_hashes_.push_back(command::HashKey(command_.arguments[position]));
    }
    request.key_positions = key_positions_;
  }
  last_command_ = request.info != nullptr ? request.info->name : "unknown";
  return owner_->OnCommand(*this, number, request);
}

void Session::ProtocolError(const std::string& error) {
  std::string reply;
  resp::AppendError(reply, "ERR " + error);
  uint64_t number = next_number_++;
  slots_.push_back(Slot{});
  slots_.back().since = arrived_;
  Complete(number, reply);
  CloseAfterReplies();
}

void Session::Complete(uint64_t number, std::string_view reply, const BytesOwner& owner) {
  CATENA_CHECK(number < next_number_ && next_number_ - number <= slots_.size(),
               "an answer to an open command");
  size_t index = slots_.size() - static_cast<size_t>(next_number_ - number);
  Slot& slot = slots_[index];
  CATENA_CHECK(!slot.done, "one answer a command");
  slot.done = true;
  meter_.Answered(slot.counts_as, reply, slot.since, forwarded);
  if (slot.counted) --outstanding_;
  if (outstanding_ == 0) {
    path = Path::kNone;
    script_went_on = false;
  }
  LearnFrom(reply.size());
  if (index == 0) {
    bool silent = slot.silent;
    slots_.pop_front();
    if (!silent) Emit(reply, owner);
    FlushReady();
  } else if (stream_ && !slot.silent && CATENA_MUTANT("replies-out-of-order")) {
    Emit(reply, owner);
    slot.silent = true;
  } else if (stream_ && !slot.silent) {
    held_bytes_ += reply.size();
    if (owner) {
      slot.large = std::make_unique<Large>(Large{owner, reply});
    } else {
      slot.reply = reply;
    }
  }
  if (stream_ && held_bytes_ + stream_->UnsentBytes() > GivenUpBytes())
    CloseNow("it does not read its replies");
  if (waiting_) owner_->OnBlocked(*this);
  MaybeFinish();
}

// A single reply may always be as large as a value can be.
size_t Session::GivenUpBytes() const {
  return kGivenUpAt * settings_.output_bytes_max + settings_.limits.bulk_bytes_max;
}

void Session::CountOutstanding(Path on) {
  // The command being dispatched is always the newest slot.
  path = on;
  slots_.back().counted = true;
  ++outstanding_;
}

void Session::FlushReady() {
  while (!slots_.empty() && slots_.front().done) {
    Slot& slot = slots_.front();
    std::string_view reply = slot.large ? slot.large->reply : std::string_view(slot.reply);
    held_bytes_ -= reply.size();
    if (!slot.silent) Emit(reply, slot.large ? slot.large->owner : nullptr);
    slots_.pop_front();
  }
  if (slots_.empty() && close_after_replies_ && stream_) {
    stream_->CloseAfterFlush();
    stream_.reset();
    owner_->OnDisconnected(*this);
  }
}

void Session::Emit(std::string_view reply, const BytesOwner& owner) {
  if (!stream_) return;
  traffic().out += reply.size();
  if (owner) return stream_->WriteShared(owner, reply);
  stream_->Write(reply);
}

void Session::Push(std::string_view message) {
  if (!stream_) return;
  // Another proxy gets a few words at a time, whatever it has not read yet.
  if (!forwarded && stream_->UnsentBytes() > settings_.output_bytes_max)
    return CloseNow("it does not read its messages");
  traffic().out += message.size();
  stream_->Write(message);
}

void Session::Retry() {
  if (!waiting_ || processing_) return;
  waiting_ = false;
  size_t used = Process(input_);
  TakeInput(used);
  if (!waiting_) ResumeReading();
  MaybeFinish();
}

void Session::FailWaiting(std::string error_reply) {
  if (!waiting_ || processing_) return;
  size_t consumed = 0;
  resp::Progress progress = decoder_.Decode(input_, command_, consumed);
  CATENA_CHECK(progress == resp::Progress::kComplete, "a waiting command is complete");
  error_reply = owner_->OnGivenUp(*this, command_, std::move(error_reply));
  TakeInput(consumed);
  // Those that were sent together with it have waited as long; a later one has not waited at all.
  if (input_.empty()) blocked_since.reset();
  read_wait = ReadWait{};
  uint64_t number = next_number_++;
  slots_.push_back(Slot{});
  slots_.back().silent = std::exchange(skip_next_, false) || reply_mode == ReplyMode::kOff;
  const command::CommandTable* table = owner_->Commands();
  CountAs(ClassOf(table != nullptr ? table->Find(command_.arguments) : nullptr));
  slots_.back().since = arrived_;
  Complete(number, error_reply);
  // Nobody can tell what it would have changed for those behind it.
  if (table == nullptr) return CloseAfterReplies();
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
  ResumeReading();
  waiting_ = false;
  input_.clear();
  owner_->OnDisconnected(*this);
  MaybeFinish();
}

void Session::OnDrained() { Retry(); }

void Session::MaybeFinish() {
  // Answers that are still owed by an executor find this object by pointer: it lives until the last
  // one came.
  if (stream_ || outstanding_ > 0 || processing_ || finished_) return;
  finished_ = true;
  owner_->OnFinished(*this);
}

}  // namespace catena::server
