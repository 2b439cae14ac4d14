// A node's sessions, and where their commands go.
#include <algorithm>

#include "proxy/base/log.h"
#include "proxy/base/mutant.h"
#include "proxy/base/text.h"
#include "proxy/server/node.h"
#include "proxy/server/refusal.h"
#include "proxy/server/replies.h"

namespace catena::server {
namespace {

// Of a scan, whether it continues where an earlier one ended.
bool GoesOn(const Request& request) {
  const size_t cursor = request.info->name == "scan" ? 1 : 2;
  return request.command->arguments.size() > cursor && request.command->arguments[cursor] != "0";
}

constexpr const char* kCursorOfAnother =
    "the database that gave this cursor cannot be asked any more, begin anew";
constexpr const char* kTooOld = "the data of this node may be older than max_staleness allows";

}  // namespace

void Node::OnAcceptClient(std::unique_ptr<io::Stream> stream) {
  if (FarTooManyDescriptors()) {
    log::Warn("client_refused", {{"peer", stream->PeerName()}, {"why", "too many open files"}});
    return;
  }
  if (clients_ >= options_.clients_max || TooManyDescriptors()) {
    log::Warn("client_refused", {{"peer", stream->PeerName()}, {"why", "too many clients"}});
    stream->Write("-ERR max number of clients reached\r\n");
    stream->CloseAfterFlush();
    return;
  }
  ++clients_;
  Session& session = AddSession(std::move(stream));
  session.consistency = options_.consistency;
  session.authenticated = options_.users.empty();
  session.user = "default";
}

Session& Node::AddSession(std::unique_ptr<io::Stream> stream) {
  uint64_t id = ++last_session_;
  Session::Settings settings;
  settings.limits.bulk_bytes_max = options_.bulk_bytes_max;
  settings.limits.command_bytes_max = options_.command_bytes_max;
  settings.output_bytes_max = options_.client_output_bytes_max;
  settings.pipeline_max = options_.client_pipeline_max;
  auto& session = sessions_[id] =
      std::make_unique<Session>(id, std::move(stream), this, meter_, settings);
  session->connected_at_ms = reactor_.WallMilliseconds();
  return *session;
}

void Node::OnBlocked(Session& session) {
  // What waits behind its own unanswered commands waits as long as they may (a BLPOP: for ever).
  bool waits = !session.over_limits() && session.outstanding() == 0 && !session.paused;
  if (session.paused) session.blocked_since.reset();
  if (waits && !session.blocked_since) session.blocked_since = reactor_.Now();
  // While it has answers to come, only these can change anything: a client behind its own BLPOP
  // costs no turn anything.
  if (session.in_blocked_list || session.outstanding() > 0) return;
  session.in_blocked_list = true;
  blocked_.push_back(&session);
}

std::string Node::OnGivenUp(Session& session, const resp::Command& command, std::string why) {
  std::string_view name = command.arguments[0];
  bool in_transaction = session.state && session.state->in_transaction();
  if (in_transaction || EqualsIgnoringCase(name, "multi") || EqualsIgnoringCase(name, "watch"))
    return StateOf(session).OnGivenUp(name, std::move(why));
  return why;
}

void Node::OnFinished(Session& session) {
  auto found = sessions_.find(session.id());
  if (found == sessions_.end()) return;
  if (!session.forwarded) --clients_;
  dead_sessions_.push_back(std::move(found->second));
  sessions_.erase(found);
}

Dispatch Node::OnCommand(Session& session, uint64_t number, Request& request) {
  // Which commands there are is told by the database; until it was reached once, everybody waits.
  if (!commands_) return Dispatch::kWait;
  if (!session.forwarded && !CheckAuthenticated(*this, session, number, request))
    return Dispatch::kTaken;
  if (session.state && session.state->changing()) return Dispatch::kWait;
  if (session.rights != nullptr && !(session.state && session.state->in_transaction())) {
    if (std::string refusal = UserRefusal(session, request); !refusal.empty()) {
      session.Complete(number, "-" + refusal + "\r\n");
      return Dispatch::kTaken;
    }
  }
  session.paused = pause_ != Pause::kNone && Paused(session, request);
  if (session.paused) return Dispatch::kWait;
  // No server knows it, or a module was loaded that may do anything, and block: only the head can
  // tell. Another node's proxy has told by which connection it sent it.
  const bool untold = request.info == nullptr && (!session.forwarded || session.tunnel);
  const bool captured =
      untold || (session.state ? session.state->Captures(request) : ClientState::Begins(request));
  // What only its connection answers waits for no database: given up, a SELECT or CLIENT REPLY would
  // leave what comes behind in another database, or its answers in other places.
  const bool own = request.info && request.info->route == command::Route::kProxy && !captured;
  if (!own && session.state && session.state->MayOvertakeLost()) return Dispatch::kWait;
  if (std::string refusal = TooLarge(backend_->CurrentLimits(), request); !refusal.empty()) {
    session.Complete(number, refusal);
    return Dispatch::kTaken;
  }
  if (captured) {
    session.CountAs(RequestClass::kPrivate);
    return EnterState(session, number, request);
  }
  const command::CommandInfo* info = request.info;
  if (info == nullptr && HandedOver(session, number, request)) return Dispatch::kTaken;
  if (info == nullptr) return RouteData(session, number, request);
  if (info->route == command::Route::kRefused || info->route == command::Route::kLocal) {
    if (std::string refusal = RefusalOf(request); !refusal.empty()) {
      session.Complete(number, "-" + refusal + "\r\n");
      return Dispatch::kTaken;
    }
  }
  if (info->name == "info") {
    ReplyKind kind =
        AsksForCatena(request.command->arguments) ? ReplyKind::kInfo : ReplyKind::kNoData;
    return RouteLocal(session, number, request, kind);
  }
  if (info->route == command::Route::kProxy)
    return AnswerProxyCommand(*this, session, number, request);
  if (info->route == command::Route::kLocal || info->route == command::Route::kUnknown) {
    return RouteLocal(session, number, request, ReplyKind::kNoData);
  }
  if (info->route == command::Route::kInterrupt) return Interrupt(session, number, request);
  return RouteData(session, number, request);
}

Dispatch Node::EnterState(Session& session, uint64_t number, const Request& request) {
  if (session.outstanding() == 0 && forwarder_.MayOvertakeLost()) return Dispatch::kWait;
  return StateOf(session).OnCommand(number, request);
}

void Node::OnDisconnected(Session& session) {
  if (session.state) session.state->Close();
}

std::string Node::RunIdOfHead() const {
  const auto& members = replica_.configuration().members;
  return members.empty() ? std::string() : members.front().backend_run_id;
}

Dispatch Node::RouteData(Session& session, uint64_t number, const Request& request) {
  bool reads = request.route == command::Route::kRead;
  bool scans = reads && request.info->name.ends_with("scan");
  const bool is_head = replica_.is_head() && !replica_.resigned();
  // What the local database tracks, it must have been asked for: another's answer would stay in its
  // client's cache for ever.
  const bool tracked = session.state && session.state->tracking();
  const bool goes_on = scans && GoesOn(request) && !session.scans.empty();
  const bool here = goes_on && info_.run_id == session.scans && (is_head || replica_.serves());
  if (goes_on && !here && (is_head || tracked || RunIdOfHead() != session.scans)) {
    session.Complete(number, ChainDown(kCursorOfAnother));
    return Dispatch::kTaken;
  }
  if (reads && session.consistency == Consistency::kEventual) {
    if (const auto refused = RefuseStale(session, number)) return *refused;
  }
  if (is_head) {
    if (!replica_.head_ready()) return Dispatch::kWait;
    // What other nodes sent before they handed over is still answered here.
    if (handing_over() && !session.forwarded) return Dispatch::kWait;
    if (reads && tracked) {
      // Not by the same connection as the client's transactions and blocking commands.
      if (session.outstanding() > 0 && session.path != Path::kTracked) return Dispatch::kWait;
      return session.state->SubmitTracked(number, request.command->raw);
    }
    if (session.outstanding() > 0 && session.path != HeadPath(request)) return Dispatch::kWait;
    bool alone = RunsScript(request) && session.outstanding() == 0;
    if (alone && head_executor_.ScriptsHeldUp(session))
      return StateOf(session).OnCommand(number, request);
    if (scans && !session.forwarded) session.scans = info_.run_id;
    ReplyKind kind = reads && request.ReadsKnownKeys() ? ReplyKind::kKeys : ReplyKind::kEffect;
    return head_executor_.Submit(session, number, request, kind);
  }
  if (!reads) return RouteForwarded(session, number, request, false);
  // I8: what follows a write goes where the write went, until that is answered. A scan's cursor
  // belongs to one server.
  bool follows = session.outstanding() > 0 && session.path == Path::kForwardHead && !scans &&
                 !tracked && !CATENA_MUTANT("route-change-overtakes");
  const bool leaves_it = handing_over() && !session.forwarded;
  const bool elsewhere_now = goes_on ? !here : !replica_.serves() || leaves_it;
  if (tracked && !replica_.serves()) return Dispatch::kWait;
  if (follows || (elsewhere_now && !tracked)) {
    if (scans && !session.forwarded) session.scans = RunIdOfHead();
    return RouteForwarded(session, number, request, true);
  }
  if (session.consistency == Consistency::kTail && !replica_.is_tail() && !scans && !tracked) {
    if (session.outstanding() > 0 && session.path != Path::kForwardTail) return Dispatch::kWait;
    session.CountAs(RequestClass::kForwardedRead);
    return forwarder_.Submit(session, number, request, Target::kTail, false);
  }
  // Nor is its answer kept behind one of another connection, past which it is told of a change.
  const Path local = tracked ? Path::kTracked : LocalPath(request);
  const bool elsewhere =
      session.outstanding() > 0 && (session.path != local || session.script_went_on);
  if (elsewhere && !CATENA_MUTANT("route-change-overtakes")) return Dispatch::kWait;
  if (scans && !session.forwarded) session.scans = info_.run_id;
  return local_reader_.Read(session, number, request);
}

std::optional<Dispatch> Node::RefuseStale(Session& session, uint64_t number) {
  if (options_.max_staleness == Duration(0) || !replica_.serves()) return std::nullopt;
  const TimePoint oldest = reactor_.Now() - options_.max_staleness;
  const auto known_since = [&] { return freshness_.known() && *freshness_.known() >= oldest; };
  if (known_since()) return std::nullopt;
  // The last heartbeat may be late, or this the first read of a node that has just joined.
  freshness_.Begin(reactor_.Now());
  if (known_since()) return std::nullopt;
  if (!freshness_.known()) return Dispatch::kWait;
  session.Complete(number, ChainDown(kTooOld));
  return Dispatch::kTaken;
}

Dispatch Node::RouteForwarded(Session& session, uint64_t number, const Request& request,
                              bool reads) {
  if (session.forwarded) {
    session.Complete(number, ChainDown(options_.node + " is no longer the chain's head"));
    return Dispatch::kTaken;
  }
  bool script = RunsScript(request);
  Path path = script ? Path::kForwardScripts : Path::kForwardHead;
  if (session.outstanding() > 0 && session.path != path) return Dispatch::kWait;
  if (reads && request.route == command::Route::kRead)
    session.CountAs(RequestClass::kForwardedRead);
  bool alone = script && session.outstanding() == 0;
  if (alone && forwarder_.ScriptsHeldUp(session)) return EnterState(session, number, request);
  return forwarder_.Submit(session, number, request, Target::kHead, !reads);
}

Dispatch Node::RouteLocal(Session& session, uint64_t number, const Request& request,
                          ReplyKind kind) {
  if (!examined_ || (handing_over() && !session.forwarded)) return Dispatch::kWait;
  if (replica_.head_ready()) {
    if (session.outstanding() > 0 && session.path != Path::kHead) return Dispatch::kWait;
    return head_executor_.Submit(session, number, request, kind);
  }
  if (promote_wanted_ || (replica_.is_head() && !replica_.resigned())) return Dispatch::kWait;
  if (session.outstanding() > 0 && session.path != LocalPath(request)) return Dispatch::kWait;
  return local_reader_.Pass(session, number, request, kind);
}

std::string Node::WhyWaiting(const Session& session) const {
  if (!commands_)
    return "the database behind this node has not been reached yet: " + backend_->Problem();
  if (replica_.epoch() == Epoch()) return "no configuration of the chain is known yet";
  if (session.read_wait.verify_ticket && !session.read_wait.authority) {
    return "this node has no lease, and the chain does not confirm that it is current";
  }
  if (session.read_wait.started)
    return "the chain did not tell in time whether the newest value is committed";
  if (options_.max_staleness > Duration(0) && replica_.serves() && !freshness_.known())
    return kTooOld;
  if (replica_.is_head())
    return "this node is not ready to be the head, or the chain does not commit";
  if (session.state && session.state->tracking() && !replica_.serves())
    return "this node is not up to date, and could not tell of changes what another one answers";
  return "the chain's head " + replica_.configuration().members.front().id + " cannot be reached";
}

}  // namespace catena::server
