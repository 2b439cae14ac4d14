#include "proxy/server/client_state.h"

#include "proxy/base/mutant.h"
#include "proxy/base/text.h"
#include "proxy/resp/decoder.h"
#include "proxy/resp/encoder.h"
#include "proxy/server/refusal.h"
#include "proxy/server/replies.h"

namespace catena::server {
namespace {

constexpr std::string_view kTransaction[] = {"multi", "exec", "discard", "watch", "unwatch"};
constexpr std::string_view kSubscribe[] = {"subscribe", "psubscribe", "ssubscribe"};
constexpr std::string_view kTracking[] = {"client|tracking", "client|caching",
                                          "client|trackinginfo", "client|getredir"};
constexpr std::string_view kUnsubscribe[] = {"unsubscribe", "punsubscribe", "sunsubscribe"};
constexpr std::string_view kQueued = "+QUEUED\r\n";
constexpr std::string_view kClientIdCommand = "*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n";
// Stands in a transaction for a command that the proxy answers.
constexpr std::string_view kPlaceholder = "*1\r\n$4\r\nPING\r\n";
// Answered by the database as by the proxy, or effective at once whatever the transaction does.
constexpr std::string_view kPassInMulti[] = {"ping",  "echo",    "select", "info",  "multi",
                                             "watch", "unwatch", "quit",   "reset", "monitor"};
// Concern the connection itself, which is not the transaction's.
constexpr std::string_view kNotInMulti[] = {"client|reply", "client|tracking", "client|caching",
                                            "client|unblock"};
// Not known to any server: makes it abort the transaction as for any command that it refuses.
constexpr std::string_view kAbortingCommand = "*1\r\n$14\r\nCATENA-REFUSED\r\n";

template <size_t N>
bool OneOf(std::string_view name, const std::string_view (&names)[N]) {
  for (std::string_view candidate : names) {
    if (name == candidate) return true;
  }
  return false;
}

std::string_view NameOf(const Request& request) {
  return request.info == nullptr ? std::string_view() : std::string_view(request.info->name);
}

bool Blocks(const Request& request) {
  return request.info != nullptr && command::MayBlock(*request.info, request.command->arguments);
}

// The first two bulks of a push or message: its kind and its channel.
bool ReadKind(std::string_view message, std::string& kind, std::string& name) {
  resp::Value value;
  size_t consumed = 0;
  std::string error;
  if (message.empty() || (message[0] != '*' && message[0] != '>')) return false;
  if (resp::DecodeValue(message, value, consumed, error) != resp::Progress::kComplete) return false;
  if (value.elements.size() < 2 || !value.elements[0].IsString()) return false;
  kind = value.elements[0].text;
  name = value.elements[1].text;
  return true;
}

bool IsMessage(std::string_view kind) {
  return kind == "message" || kind == "pmessage" || kind == "smessage";
}

// Cheap look at a delivered message, so that a busy subscriber costs no decoding.
bool LooksLikeMessage(std::string_view bytes) {
  size_t first = bytes.find("\r\n");
  if (first == std::string_view::npos) return false;
  std::string_view rest = bytes.substr(first + 2);
  return rest.starts_with("$7\r\nmessage\r\n") || rest.starts_with("$8\r\npmessage\r\n") ||
         rest.starts_with("$8\r\nsmessage\r\n");
}

// A line of MONITOR: +1700000000.000000 [0 127.0.0.1:5000] "ping"
bool LooksMonitored(std::string_view bytes) {
  return bytes.starts_with("+1") && bytes.find(" [") < 24;
}

}  // namespace

ClientState::ClientState(Session& session, Channels channels)
    : session_(session), make_(std::move(channels)) {}

ClientState::~ClientState() = default;

bool ClientState::Begins(const Request& request) {
  std::string_view name = NameOf(request);
  return OneOf(name, kTransaction) || OneOf(name, kSubscribe) || OneOf(name, kUnsubscribe) ||
         OneOf(name, kTracking) || name == "monitor" || Blocks(request);
}

bool ClientState::Captures(const Request& request) const {
  std::string_view name = NameOf(request);
  if (name == "quit" || name == "reset") return false;
  if (in_multi_ || passed_again_ || Begins(request)) return true;
  return subscribed() && session_.protocol == 2;
}

Dispatch ClientState::Reply(uint64_t number, std::string_view reply) {
  session_.Complete(number, reply);
  return Dispatch::kTaken;
}

Dispatch ClientState::OnCommand(uint64_t number, const Request& request) {
  dead_.reset();
  // What goes to the next head comes first, there.
  if (again_) return Dispatch::kWait;
  if (passed_again_) return Reply(number, ChainDown("the chain's head leaves its place"));
  std::string_view name = NameOf(request);
  if (session_.outstanding() > 0 && session_.path != Path::kPrivate) return Dispatch::kWait;
  bool subscription = OneOf(name, kSubscribe) || OneOf(name, kUnsubscribe);
  if (subscribed() && session_.protocol == 2) {
    bool allowed = subscription || name == "ping" || request.info == nullptr;
    if (allowed || !request.info->TakesArguments(request.command->arguments.size())) {
      return SubmitLocal(number, request);
    }
    return RefuseToSubscriber(number, request);
  }
  if (in_multi_ && name != "exec" && name != "discard") return Queue(number, request);
  if (OneOf(name, kTransaction)) return Transaction(number, request, name);
  if (OneOf(name, kTracking)) return Tracking(number, request, name);
  // As Redis, which does not even answer a monitor's second MONITOR.
  if (name == "monitor" && monitoring_) return Reply(number, "");
  if (subscription || name == "monitor") return SubmitLocal(number, request);
  if (RunsScript(request)) return SubmitHead(number, request.command->raw, Action::kScript);
  // An XREAD from "$" means the stream as it was when the command came first; and a module may do
  // something before it blocks, or although it was ended.
  const bool repeatable = request.info != nullptr && !request.info->module && name != "xread";
  return SubmitHead(number, request.command->raw, Action::kEffect,
                    repeatable ? std::string(request.command->raw) : std::string());
}

// --- transactions and blocking commands ----------------------------------------------------------

Dispatch ClientState::Transaction(uint64_t number, const Request& request, std::string_view name) {
  std::string_view raw = request.command->raw;
  size_t count = request.command->arguments.size();
  if (name == "multi") {
    if (count != 1) return Reply(number, "-ERR wrong number of arguments for 'multi' command\r\n");
    Dispatch dispatch = SubmitHead(number, raw, Action::kBegin);
    in_multi_ = dispatch == Dispatch::kTaken;
    queued_bytes_ = 0;
    return dispatch;
  }
  if (name == "watch") {
    Dispatch dispatch = SubmitHead(number, raw, count > 1 ? Action::kWatch : Action::kPlain);
    if (dispatch == Dispatch::kTaken && count > 1) {
      watching_ = true;
      // Refused: as one that is given up.
      if (!head_) watch_lost_ = true;
    }
    return dispatch;
  }
  if (name == "unwatch") {
    if (!watching_ || watch_lost_) {
      watching_ = watch_lost_ = false;
      return Reply(number, count == 1 ? "+OK\r\n"
                                      : "-ERR wrong number of arguments for 'unwatch' command\r\n");
    }
    Dispatch dispatch = SubmitHead(number, raw, Action::kPlain);
    if (dispatch == Dispatch::kTaken && count == 1) watching_ = false;
    return dispatch;
  }
  bool exec = name == "exec";
  if (count != 1 && in_multi_ && multi_error_.empty()) {
    // It aborts the transaction: an EXEC at once, a DISCARD when EXEC comes.
    Dispatch dispatch = SubmitHead(number, raw, exec ? Action::kExec : Action::kPlain);
    if (exec && dispatch == Dispatch::kTaken) LeaveTransaction();
    return dispatch;
  }
  if (count != 1) {
    return Reply(number,
                 (exec ? "-EXECABORT Transaction discarded because of: " : "-ERR ") +
                     ("wrong number of arguments for '" + std::string(name) + "' command\r\n"));
  }
  if (!in_multi_)
    return Reply(number, exec ? "-ERR EXEC without MULTI\r\n" : "-ERR DISCARD without MULTI\r\n");
  if (!multi_error_.empty()) {
    const std::string why = multi_error_.substr(1);
    LeaveTransaction();
    return Reply(number, exec ? "-EXECABORT Transaction discarded because of: " + why : "+OK\r\n");
  }
  if (exec && watch_lost_) {
    std::string null;
    resp::AppendNullArray(null, session_.protocol);
    Dispatch dispatch =
        SubmitHead(number, "*1\r\n$7\r\nDISCARD\r\n", Action::kReplace, std::move(null));
    if (dispatch == Dispatch::kTaken) LeaveTransaction();
    return dispatch;
  }
  Dispatch dispatch = exec ? SubmitExec(number, raw) : SubmitHead(number, raw, Action::kPlain);
  if (dispatch == Dispatch::kTaken) LeaveTransaction();
  return dispatch;
}

Dispatch ClientState::SubmitExec(uint64_t number, std::string_view raw) {
  size_t bytes = make_.head_is_here() ? queued_bytes_ : 0;
  if (!make_.effects->HasRoom(bytes)) return Dispatch::kWait;
  Dispatch dispatch = SubmitHead(number, raw, Action::kExec);
  if (dispatch == Dispatch::kWait) return dispatch;
  changing_ = will_change_;
  head_owed_.back().effect_bytes = bytes;
  make_.effects->Take(bytes);
  return dispatch;
}

ClientState::Pending ClientState::NextOwed() {
  Pending pending = std::move(head_owed_.front());
  head_owed_.pop_front();
  if (pending.action == Action::kExec) changing_ = false;
  make_.effects->Give(pending.effect_bytes);
  return pending;
}

void ClientState::LeaveTransaction() {
  in_multi_ = watching_ = watch_lost_ = will_change_ = false;
  multi_error_.clear();
}

void ClientState::AbortTransaction(const std::string& why, Sent sent) {
  in_multi_ = true;
  dead_ = std::move(head_);
  FailHead(why, sent);
  // The head must not wait for it when it leaves.
  if (dead_) dead_->Close();
}

std::string ClientState::OnGivenUp(std::string_view name, std::string why) {
  if (!in_multi_ && EqualsIgnoringCase(name, "watch")) {
    watching_ = watch_lost_ = true;
    return why;
  }
  const bool begins = !in_multi_;
  if (multi_error_.empty()) multi_error_ = why;
  AbortTransaction("the transaction was given up", Sent::kNothing);
  if (EqualsIgnoringCase(name, "exec") || EqualsIgnoringCase(name, "discard")) LeaveTransaction();
  return begins ? AnswerToRefused() : why;
}

std::string ClientState::AnswerToRefused() const {
  return session_.forwarded ? multi_error_ : "+OK\r\n";
}

Dispatch ClientState::Queue(uint64_t number, const Request& request) {
  if (!multi_error_.empty()) return Reply(number, multi_error_);
  auto abort = [&](const std::string& error) {
    return SubmitHead(number, kAbortingCommand, Action::kReplace, "-" + error + "\r\n");
  };
  if (std::string refusal = UserRefusal(session_, request); !refusal.empty()) return abort(refusal);
  if (std::string refusal = RefusalOf(request); !refusal.empty()) return abort(refusal);
  std::string_view name = NameOf(request);
  if (OneOf(name, kNotInMulti) || OneOf(name, kSubscribe) || OneOf(name, kUnsubscribe)) {
    return abort("ERR Command not allowed inside a transaction");
  }
  size_t bytes = queued_bytes_ + request.command->raw.size();
  if (make_.head_is_here() && !make_.effects->Allows(bytes)) {
    return SubmitHead(number, kAbortingCommand, Action::kReplace, make_.effects->Refusal(bytes));
  }
  queued_bytes_ = bytes;
  if (request.route == command::Route::kProxy && !OneOf(name, kPassInMulti)) {
    if (!request.info->TakesArguments(request.command->arguments.size())) {
      return abort("ERR wrong number of arguments for '" + std::string(name) + "' command");
    }
    will_change_ = true;
    return SubmitHead(number, kPlaceholder, Action::kSubstitute, std::string(request.command->raw));
  }
  if (name == "select" && request.command->arguments.size() == 2) {
    std::string_view text = request.command->arguments[1];
    if (ParseNumber<int>(text)) {
      will_change_ = true;
      return SubmitHead(number, request.command->raw, Action::kSelect, std::string(text));
    }
  }
  return SubmitHead(number, request.command->raw, Action::kPlain);
}

void ClientState::OnQueued(const Pending& pending) {
  if (pending.action == Action::kSelect)
    selects_.emplace_back(queued_, std::atoi(pending.text.c_str()));
  if (pending.action == Action::kSubstitute) substitutes_.emplace_back(queued_, pending.text);
  ++queued_;
}

std::string ClientState::FinishExec(std::string_view exec_reply) {
  if (!exec_reply.starts_with("*") || exec_reply.starts_with("*-1")) return std::string(exec_reply);
  resp::ReplyScanner scanner;
  size_t at = exec_reply.find("\r\n") + 2;
  std::string out(exec_reply.substr(0, at));
  auto select = selects_.begin();
  auto substitute = substitutes_.begin();
  for (size_t index = 0; index < queued_; ++index) {
    size_t length = 0;
    if (scanner.Scan(exec_reply.substr(at), length) != resp::Progress::kComplete) break;
    bool selects = select != selects_.end() && select->first == index;
    // It takes effect with the transaction, if it succeeded there.
    if (selects && exec_reply[at] == '+') session_.database = head_database_ = select->second;
    if (selects) ++select;
    if (substitute != substitutes_.end() && substitute->first == index) {
      out += make_.answer(session_, substitute->second);
      ++substitute;
    } else {
      out += exec_reply.substr(at, length);
    }
    at += length;
  }
  return out += exec_reply.substr(at);
}

ClientState::Opening ClientState::OpenHead() {
  if (head_) return head_->ready() ? Opening::kReady : Opening::kWait;
  auto opened = make_.to_head(session_, this);
  if (!opened) {
    refusal_ = opened.error().message;
    return Opening::kRefused;
  }
  head_ = std::move(*opened);
  leaving_head_ = false;
  head_database_ = session_.database;
  head_protocol_ = session_.protocol;
  head_id_.reset();
  head_id_asked_ = false;
  return head_ && head_->ready() ? Opening::kReady : Opening::kWait;
}

bool ClientState::MatchConnection() {
  std::string out;
  if (head_protocol_ != session_.protocol) {
    head_protocol_ = session_.protocol;
    resp::AppendCommand(out, {"HELLO", resp::Decimal(static_cast<uint64_t>(head_protocol_))});
    head_->Submit(out);
    head_owed_.push_back({0, Action::kSwallow, {}, 0});
  }
  if (head_database_ != session_.database && !head_selecting_) {
    out.clear();
    head_database_ = session_.database;
    resp::AppendCommand(out, {"SELECT", resp::Decimal(static_cast<uint64_t>(head_database_))});
    head_->Submit(out);
    head_owed_.push_back({0, Action::kOwnSelect, {}, 0});
    head_selecting_ = true;
  }
  return !head_selecting_;
}

Dispatch ClientState::SubmitHead(uint64_t number, std::string_view raw, Action action,
                                 std::string text) {
  // A subscription goes by another connection; and what is being ended may go to the next head.
  if (!local_owed_.empty() || ending_ != Ending::kNo) return Dispatch::kWait;
  Opening opening = OpenHead();
  if (opening == Opening::kRefused && action == Action::kBegin) {
    // What follows is sent in any case, most likely already: refused by itself, MULTI would let it
    // be executed as if it were no transaction's.
    multi_error_ = refusal_;
    queued_ = 0;
    return Reply(number, "+OK\r\n");
  }
  if (opening == Opening::kRefused) return Reply(number, refusal_);
  if (opening == Opening::kWait || head_->full()) return Dispatch::kWait;
  // A head that leaves ends what is open and gets nothing new.
  if (leaving_head_ && !in_multi_) return Dispatch::kWait;
  if (!in_multi_ && !MatchConnection()) return Dispatch::kWait;
  if (action == Action::kEffect && !head_id_asked_) {
    head_id_asked_ = true;
    head_owed_.push_back({0, Action::kOwnId, {}, 0});
    head_->Submit(kClientIdCommand);
  }
  session_.CountOutstanding(Path::kPrivate);
  head_owed_.push_back({number, action, std::move(text), 0});
  head_->Submit(raw);
  return Dispatch::kTaken;
}

// Another MULTI is under way.
bool ClientState::BeginsAgain(const Ring<Pending>& owed) {
  for (size_t i = 0; i < owed.size(); ++i) {
    if (owed[i].action == Action::kBegin) return true;
  }
  return false;
}

void ClientState::OnPrivateMessage(PrivateChannel& channel, std::string_view message) {
  if (&channel == local_.get()) return OnLocalMessage(message);
  if (&channel != head_.get() || head_owed_.empty()) return;
  OnHeadMessage(message);
  if (leaving_head_) LeaveHead();
}

void ClientState::OnHeadMessage(std::string_view message) {
  Pending pending = NextOwed();
  const bool asked = std::exchange(ending_, Ending::kNo) != Ending::kNo;
  const bool ended = !std::exchange(ends_with_error_, false) && asked;
  if (pending.action == Action::kEffect && TookNothing(pending, message, ended)) {
    // The head knows the command, and this node does not.
    if (pending.text.empty())
      return session_.Complete(pending.number, ChainDown("the chain's head leaves its place"));
    again_ = std::move(pending);
    return make_.again(session_);
  }
  // The head lost its own connection; it makes an end of that for another channel of ours.
  if (message.starts_with(kUnknownOutcome)) lost_effects_ = leaving_head_ = true;
  switch (pending.action) {
    case Action::kSwallow:
      return;
    case Action::kOwnSelect:
      head_selecting_ = false;
      if (message.starts_with("+")) return;
      // What waits gets a new connection, whose introduction tells what is wrong.
      dead_ = std::move(head_);
      return FailHead("its connection could not select a database", Sent::kNothing);
    case Action::kReplace:
      return session_.Complete(pending.number, pending.text);
    case Action::kOwnId:
      if (message.starts_with(":")) head_id_ = std::atoll(message.data() + 1);
      return;
    case Action::kExec:
      if (selects_.empty() && substitutes_.empty())
        return session_.Complete(pending.number, message);
      return session_.Complete(pending.number, FinishExec(message));
    case Action::kBegin:
      if (message.starts_with("+")) {
        queued_ = 0;
        selects_.clear();
        substitutes_.clear();
      }
      // As with -BUSY. What follows was meant for the transaction and is most likely on its way.
      if (!message.starts_with("+") && in_multi_ && !BeginsAgain(head_owed_)) {
        multi_error_ = message;
        AbortTransaction("MULTI was refused", Sent::kWithoutMulti);
        return session_.Complete(pending.number, AnswerToRefused());
      }
      return session_.Complete(pending.number, message);
    case Action::kWatch:
      // As -BUSY of a connection that is not introduced yet.
      if (message.starts_with("-") && watching_) watch_lost_ = true;
      return session_.Complete(pending.number, message);
    case Action::kSelect:
    case Action::kSubstitute:
    case Action::kPlain:
      if (message == kQueued) OnQueued(pending);
      [[fallthrough]];
    case Action::kScript:
    case Action::kEffect:
      return session_.Complete(pending.number, message);
  }
}

void ClientState::OnPrivateClosed(PrivateChannel& channel, const std::string& why,
                                  bool nothing_sent) {
  if (&channel == local_.get()) {
    // A subscriber must know that it may have missed messages; Redis tells by closing.
    dead_ = std::move(local_);
    return session_.CloseNow("the local database was lost");
  }
  if (&channel != head_.get()) return;
  dead_ = std::move(head_);
  FailHead(why, nothing_sent ? Sent::kNothing : Sent::kInOrder);
}

void ClientState::FailHead(const std::string& why, Sent sent) {
  if (in_multi_ && multi_error_.empty())
    multi_error_ = ChainDown("the connection to the chain's head was lost inside MULTI");
  if (watching_ && !CATENA_MUTANT("watch-forgotten")) watch_lost_ = true;
  ending_ = Ending::kNo;
  ends_with_error_ = false;
  head_selecting_ = false;
  queued_ = 0;
  // What an EXEC behind it may have executed, too: a client may take the first error for that of all.
  size_t execs = 0;
  for (size_t i = 0; i < head_owed_.size(); ++i) {
    if (head_owed_[i].action == Action::kExec) ++execs;
  }
  while (!head_owed_.empty()) {
    Pending pending = NextOwed();
    if (IsOurs(pending.action)) continue;
    const bool alone = pending.action == Action::kEffect || pending.action == Action::kScript;
    const bool effect =
        sent == Sent::kWithoutMulti || (sent == Sent::kInOrder && (alone || execs > 0));
    if (pending.action == Action::kExec) --execs;
    lost_effects_ = lost_effects_ || effect;
    session_.Complete(pending.number, effect ? UnknownOutcome(why) : ChainDown(why));
  }
}

bool ClientState::MayOvertakeLost() {
  if (!lost_effects_) return false;
  // What it left counts as abandoned when it is destroyed.
  dead_.reset();
  if (make_.has_abandoned() || (head_ && leaving_head_)) return true;
  if (!make_.head_is_here() && OpenHead() != Opening::kReady) return true;
  lost_effects_ = false;
  return false;
}

// --- the head leaves its place -------------------------------------------------------------------

void ClientState::OnPrivateLeaving(PrivateChannel& channel) {
  if (&channel == head_.get()) LeaveHead();
}

void ClientState::LeaveHead() {
  if (!head_) return;
  leaving_head_ = true;
  if (in_multi_ || !head_owed_.empty()) return;
  if (watching_ && !CATENA_MUTANT("watch-forgotten")) watch_lost_ = true;
  dead_ = std::move(head_);
  dead_->Close();
}

bool ClientState::TookNothing(const Pending& pending, std::string_view message, bool ended) {
  if (message == kSendAgain) return true;
  return ended && !pending.text.empty() && message.starts_with("-UNBLOCKED ");
}

std::optional<ClientState::Blocked> ClientState::Unblockable() const {
  const std::optional<int64_t> id = BlockedAs();
  if (!id || head_owed_.size() > 1 || ending_ == Ending::kAsked) return std::nullopt;
  return Blocked{*id, !head_owed_[0].text.empty()};
}

bool ClientState::SendAgain() {
  if (!again_) return true;
  dead_.reset();
  if (head_ && leaving_head_) return false;
  const Opening opening = OpenHead();
  if (opening == Opening::kRefused) {
    session_.Complete(std::exchange(again_, std::nullopt)->number, refusal_);
    return true;
  }
  if (opening == Opening::kWait || !MatchConnection()) return false;
  head_id_asked_ = true;
  head_owed_.push_back({0, Action::kOwnId, {}, 0});
  head_->Submit(kClientIdCommand);
  head_->Submit(again_->text);
  head_owed_.push_back(*std::exchange(again_, std::nullopt));
  return true;
}

void ClientState::PassAgain() {
  if (!again_) return;
  passed_again_ = true;
  session_.Complete(std::exchange(again_, std::nullopt)->number, kSendAgain);
}

void ClientState::FailAgain(std::string_view why) {
  if (again_) session_.Complete(std::exchange(again_, std::nullopt)->number, ChainDown(why));
}

StateSummary ClientState::Summary() const {
  StateSummary summary;
  summary.channels = static_cast<int64_t>(channels_.size());
  summary.patterns = static_cast<int64_t>(patterns_.size());
  summary.shards = static_cast<int64_t>(shards_.size());
  if (in_multi_) summary.queued = static_cast<int64_t>(queued_);
  if (tracking_ && redirect_ >= 0) summary.redirect = redirect_;
  std::string flags;
  if (monitoring_) flags += 'O';
  if (subscribed()) flags += 'P';
  if (tracking_) flags += 't';
  if (in_multi_) flags += 'x';
  if (BlockedAs()) flags += 'b';
  if (!flags.empty()) summary.flags = flags;
  return summary;
}

std::optional<int64_t> ClientState::BlockedAs() const {
  if (in_multi_ || head_owed_.empty() || head_owed_[0].action != Action::kEffect)
    return std::nullopt;
  return head_id_;
}

// --- subscriptions and MONITOR -------------------------------------------------------------------

size_t ClientState::ExpectedConfirmations(const Request& request) const {
  std::string_view name = NameOf(request);
  size_t given = request.command->arguments.size() - 1;
  if (OneOf(name, kSubscribe)) return given > 0 ? given : 1;
  if (!OneOf(name, kUnsubscribe)) return 1;
  if (given > 0) return given;
  const std::set<std::string>& all = name == "unsubscribe"    ? channels_
                                     : name == "punsubscribe" ? patterns_
                                                              : shards_;
  return all.empty() ? 1 : all.size();
}

ClientState::Opening ClientState::OpenLocal() {
  if (local_) return Opening::kReady;
  auto opened = make_.to_local(session_, this);
  if (!opened) {
    refusal_ = opened.error().message;
    return Opening::kRefused;
  }
  local_ = std::move(*opened);
  local_database_ = session_.database;
  local_protocol_ = session_.protocol;
  local_id_.reset();
  if (!local_) return Opening::kWait;
  // Asked now: a RESP2 subscriber cannot ask any more.
  SendLocal(kClientIdCommand, {0, LocalAction::kOwnId, 1, {}});
  return Opening::kReady;
}

void ClientState::SendLocal(std::string_view raw, PendingLocal pending) {
  local_owed_.push_back(std::move(pending));
  local_->Submit(raw);
}

Dispatch ClientState::SubmitLocal(uint64_t number, const Request& request) {
  // One at a time: how many confirmations the next one gets depends on what this one leaves.
  if (!local_owed_.empty() || session_.outstanding() > 0) return Dispatch::kWait;
  Opening opening = OpenLocal();
  if (opening == Opening::kRefused) return Reply(number, refusal_);
  if (opening == Opening::kWait) return Dispatch::kWait;
  session_.CountOutstanding(Path::kPrivate);
  if (NameOf(request) == "monitor") monitoring_ = true;
  PendingLocal pending{number, LocalAction::kConfirmations, ExpectedConfirmations(request), {}};
  SendLocal(request.command->raw, std::move(pending));
  return Dispatch::kTaken;
}

// In the words of this version of the server, which says them of an ECHO; of a write, a follower
// would say that it is one.
Dispatch ClientState::RefuseToSubscriber(uint64_t number, const Request& request) {
  if (!local_owed_.empty() || session_.outstanding() > 0) return Dispatch::kWait;
  session_.CountOutstanding(Path::kPrivate);
  SendLocal("*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
            {number, LocalAction::kWrongContext, 1, request.info->name});
  return Dispatch::kTaken;
}

void ClientState::OnLocalMessage(std::string_view message) {
  bool reply = !local_owed_.empty() && local_owed_.front().action != LocalAction::kConfirmations;
  if (reply && !message.starts_with(">") && !LooksLikeMessage(message) &&
      !LooksMonitored(message)) {
    return OnLocalReply(message);
  }
  session_.Push(message);
  if (reply || LooksLikeMessage(message) || (monitoring_ && local_owed_.empty())) return;
  std::string kind, name;
  bool confirmation = ReadKind(message, kind, name);
  if (confirmation && (IsMessage(kind) || kind == "invalidate" || kind == "tracking-redir-broken"))
    return;
  if (confirmation) CountConfirmation(kind, name);
  if (local_owed_.empty()) return;
  PendingLocal& oldest = local_owed_.front();
  // An error answers the whole command.
  oldest.replies = message.starts_with("-") ? 0 : oldest.replies - 1;
  if (oldest.replies > 0) return;
  uint64_t number = oldest.number;
  local_owed_.pop_front();
  session_.Complete(number, "");
}

void ClientState::OnLocalReply(std::string_view message) {
  PendingLocal pending = std::move(local_owed_.front());
  local_owed_.pop_front();
  switch (pending.action) {
    case LocalAction::kSwallow:
      return;
    case LocalAction::kOwnSelect:
      local_selecting_ = false;
      if (message.starts_with("+")) return;
      local_database_ = -1;
      local_select_error_ = message;
      return;
    case LocalAction::kOwnId:
      if (message.starts_with(":")) local_id_ = std::atoll(message.data() + 1);
      return;
    case LocalAction::kTracking:
      if (message.starts_with("+")) tracking_ = pending.text == "on";
      if (!tracking_) redirect_ = redirect_at_database_ = -1;
      return session_.Complete(pending.number, message);
    case LocalAction::kRedirect:
      return session_.Complete(pending.number, NameRedirection(message));
    case LocalAction::kWrongContext: {
      std::string error(message);
      if (size_t at = error.find("'echo'"); at != std::string::npos)
        error.replace(at, 6, "'" + pending.text + "'");
      return session_.Complete(pending.number, error);
    }
    case LocalAction::kReply:
    case LocalAction::kConfirmations:
      return session_.Complete(pending.number, message);
  }
}

void ClientState::CountConfirmation(std::string_view kind, const std::string& name) {
  if (kind == "subscribe") channels_.insert(name);
  if (kind == "psubscribe") patterns_.insert(name);
  if (kind == "ssubscribe") shards_.insert(name);
  if (kind == "unsubscribe") channels_.erase(name);
  if (kind == "punsubscribe") patterns_.erase(name);
  if (kind == "sunsubscribe") shards_.erase(name);
}

void ClientState::Close() {
  head_.reset();
  local_.reset();
  for (; !local_owed_.empty(); local_owed_.pop_front()) {
    LocalAction action = local_owed_.front().action;
    bool ours = action == LocalAction::kSwallow || action == LocalAction::kOwnSelect ||
                action == LocalAction::kOwnId;
    if (!ours) session_.Complete(local_owed_.front().number, "");
  }
  while (!head_owed_.empty()) {
    Pending pending = NextOwed();
    if (!IsOurs(pending.action)) session_.Complete(pending.number, "");
  }
  if (again_) session_.Complete(std::exchange(again_, std::nullopt)->number, "");
  LeaveTransaction();
  ending_ = Ending::kNo;
  ends_with_error_ = false;
  head_selecting_ = local_selecting_ = false;
  local_select_error_.clear();
  monitoring_ = tracking_ = false;
  redirect_ = redirect_at_database_ = -1;
  channels_.clear();
  patterns_.clear();
  shards_.clear();
}

}  // namespace catena::server
