// What a node does for its clients' own states: private connections, pauses, interruptions of
// scripts.
#include <algorithm>

#include "proxy/resp/encoder.h"
#include "proxy/server/node.h"
#include "proxy/server/replies.h"

namespace catena::server {
namespace {

// Descriptors that clients never take: for the chain's links, the database, the coordinators and
// whoever knocks at the peers' port. A quarter of what there is, if that is less.
constexpr size_t kReservedDescriptors = 1280;
constexpr std::string_view kTooManyDescriptors =
    "-ERR max number of clients reached: this command needs a connection of its own, and the proxy "
    "may not open more files (RLIMIT_NOFILE)\r\n";

}  // namespace

bool Node::TooManyDescriptors() const {
  size_t reserved = std::min(kReservedDescriptors, options_.descriptors_max / 4);
  return reactor_.OpenStreams() >= options_.descriptors_max - reserved;
}

// One that is told why keeps its descriptor until it has read that.
bool Node::FarTooManyDescriptors() const {
  size_t reserved = std::min(kReservedDescriptors, options_.descriptors_max / 4);
  return reactor_.OpenStreams() >= options_.descriptors_max - reserved / 2;
}

ClientState& Node::StateOf(Session& session) {
  if (session.state) return *session.state;
  ClientState::Channels channels;
  using Opened = Result<std::unique_ptr<PrivateChannel>>;
  channels.to_head = [this](Session& of, PrivateChannel::Handler* handler) -> Opened {
    if (TooManyDescriptors()) return Fail(std::string(kTooManyDescriptors));
    // What came through a tunnel was sent before its proxy knew.
    if (leaving_ && replica_.is_head() && !of.forwarded) return nullptr;
    if (replica_.head_ready()) return head_executor_.OpenPrivate(of.database, of.protocol, handler);
    if (of.forwarded || replica_.is_head()) return nullptr;
    return forwarder_.OpenTunnel(of, handler);
  };
  channels.to_local = [this](Session& of, PrivateChannel::Handler* handler) -> Opened {
    if (!examined_) return nullptr;
    if (TooManyDescriptors()) return Fail(std::string(kTooManyDescriptors));
    return head_executor_.OpenPrivate(of.database, of.protocol, handler);
  };
  channels.effects = &head_executor_.effects();
  channels.head_is_here = [this] { return replica_.head_ready(); };
  channels.find = [this](uint64_t id) -> ClientState* {
    auto found = sessions_.find(id);
    bool there = found != sessions_.end() && !found->second->forwarded && !found->second->closed();
    return there ? &StateOf(*found->second) : nullptr;
  };
  channels.again = [this](Session& of) {
    // The proxy of the client sends it again.
    if (of.forwarded) return of.state->PassAgain();
    if (stopping_) return of.state->FailAgain("the proxy was told to stop");
    again_.push_back({of.id(), reactor_.Now()});
  };
  channels.answer = [this](Session& of, std::string_view raw) { return AnswerQueued(of, raw); };
  channels.has_abandoned = [this] {
    return head_executor_.MayOvertakeLost() || backend_->HasAbandoned();
  };
  session.state = std::make_unique<ClientState>(session, std::move(channels));
  return *session.state;
}

std::string Node::AnswerQueued(Session& session, std::string_view raw) {
  resp::CommandDecoder decoder;
  resp::Command command;
  size_t consumed = 0;
  std::string reply;
  decoder.Decode(raw, command, consumed);
  Request request;
  request.command = &command;
  request.info = commands_->Find(command.arguments);
  AnswerProxyCommand(*this, session, 0, request, &reply);
  return reply;
}

void Node::PauseClients(Duration duration, bool all) {
  // As in Redis, a pause of everything is not weakened, and none is made shorter.
  pause_until_ =
      std::max(pause_ == Pause::kNone ? TimePoint() : pause_until_, reactor_.Now() + duration);
  if (pause_ != Pause::kAll) pause_ = all ? Pause::kAll : Pause::kWrites;
}

bool Node::Paused(const Session& session, const Request& request) {
  if (reactor_.Now() >= pause_until_) {
    pause_ = Pause::kNone;
    return false;
  }
  if (session.forwarded) return false;
  if (pause_ == Pause::kAll) return true;
  return request.info != nullptr &&
         (request.route == command::Route::kWrite || request.info->name == "exec");
}

Dispatch Node::UnblockAtHead(Session& session, uint64_t number, int64_t id, bool error) {
  std::string raw;
  resp::AppendCommand(raw, {"CLIENT", "UNBLOCK", std::to_string(id), error ? "ERROR" : "TIMEOUT"});
  resp::Command command;
  command.raw = raw;
  Request request;
  request.command = &command;
  if (!replica_.head_ready()) return RouteForwarded(session, number, request, false);
  if (session.outstanding() > 0 && session.path != Path::kHead) return Dispatch::kWait;
  return head_executor_.Submit(session, number, request, ReplyKind::kNoData);
}

Dispatch Node::Interrupt(Session& session, uint64_t number, const Request& request) {
  if (!replica_.head_ready()) return InterruptHereOrAtHead(session, number, request);
  if (session.outstanding() > 0 && session.path != Path::kHead) return Dispatch::kWait;
  session.CountOutstanding(Path::kHead);
  backend_->Interrupt(
      request.command->raw, [&session, number](std::optional<std::string_view> reply) {
        session.Complete(
            number, reply ? std::string(*reply) : UnknownOutcome("the head's database was lost"));
      });
  return Dispatch::kTaken;
}

// A script may run here (EVAL_RO) or there.
Dispatch Node::InterruptHereOrAtHead(Session& session, uint64_t number, const Request& request) {
  if (session.forwarded || !examined_) return RouteForwarded(session, number, request, false);
  if (session.outstanding() > 0 && session.path != Path::kLocalRead) return Dispatch::kWait;
  session.CountOutstanding(Path::kLocalRead);
  std::string command(request.command->raw);
  backend_->Interrupt(request.command->raw,
                      [this, &session, number, command](std::optional<std::string_view> reply) {
                        // It may have ended a script here; it is not to end another, too.
                        if (!reply) {
                          session.Complete(number, UnknownOutcome("the local database was lost"));
                        } else if (!reply->starts_with("-NOTBUSY")) {
                          session.Complete(number, *reply);
                        } else {
                          rerouted_.push_back({&session, number, command, reactor_.Now(), false});
                        }
                      });
  return Dispatch::kTaken;
}

void Node::SendRerouted() {
  while (!rerouted_.empty()) {
    Rerouted& next = rerouted_.front();
    if (!forwarder_.SubmitAgain(*next.session, next.number, next.command, next.script)) return;
    rerouted_.pop_front();
  }
}

void Node::ExpireRerouted(TimePoint now) {
  while (!rerouted_.empty() && now - rerouted_.front().since >= options_.write_timeout) {
    Rerouted expired = std::move(rerouted_.front());
    rerouted_.pop_front();
    expired.session->Complete(expired.number, ChainDown("the chain's head cannot be reached"));
  }
}

}  // namespace catena::server
