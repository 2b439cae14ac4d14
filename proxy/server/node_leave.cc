// A member leaves its place - an operator drains it, or its proxy is told to stop - and no client of
// any node is failed over it:
//
//   1. a head lets open transactions end; nobody begins a new one here
//   2. it takes nothing new. Every proxy that sends commands here is told (kLeavingNotice), says
//      where its commands end (kHandedOver) and keeps the rest for the next head; so do the node's
//      own clients. Blocked commands are ended without effect and sent to the next head
//   3. when everything that was taken is committed, applied and answered, it resigns
//
// A follower's own clients are served through the head from step 2 on. Each step takes so long at
// most; what is not done then - a transaction that is left open, a script that runs on - gets what
// it would get if the node died.
#include "proxy/base/log.h"
#include "proxy/resp/encoder.h"
#include "proxy/server/node.h"
#include "proxy/server/replies.h"

namespace catena::server {
namespace {

constexpr Duration kTransactionsWithin = std::chrono::seconds(5);
constexpr Duration kHandOverWithin = std::chrono::seconds(2);

bool IsLocal(Path path) {
  return path == Path::kHead || path == Path::kHeadScripts || path == Path::kLocalRead ||
         path == Path::kLocalScripts || path == Path::kTracked;
}

}  // namespace

// Level: the coordinator repeats it as long as it holds, and goes on without it otherwise.
void Node::FollowDrain(const std::string& why) {
  if (why.empty() == !leaving_) return;
  if (!why.empty()) return BeginLeaving(why);
  log::Info("stays", {{"why", "the coordinator does not ask it to leave any more"}});
  leaving_.reset();
}

void Node::BeginLeaving(const std::string& why) {
  if (leaving_ || phase_ != Phase::kMember || replica_.resigned()) return;
  log::Info("leaving", {{"why", why}});
  leaving_ = Leaving{why, false, reactor_.Now() + kTransactionsWithin};
  if (replica_.is_head()) TellTunnels();
  ArmTick();
}

void Node::ContinueLeaving() {
  const TimePoint now = reactor_.Now();
  if (!replica_.is_member() || replica_.resigned()) return leaving_.reset();
  // Without a coordinator nobody would take it out of the chain, which would stand still.
  if (!stopping_ && !replica_.lease().ValidAt(now)) return FollowDrain("");
  if (!leaving_->handing_over) {
    if (replica_.is_head()) {
      // The proxy behind a tunnel has been told. A session that clients share opens another.
      for (auto& [id, session] : sessions_) {
        if (session->state && !session->tunnel) session->state->LeaveHead();
      }
    }
    if (StatesHold(/*blocked_too=*/false) && now < leaving_->until) return;
    HandOver();
  }
  if (replica_.is_head()) {
    for (auto& [id, session] : sessions_) Unblock(*session);
  }
  // What a head has not applied before its promotion may have been answered by one that is gone, and
  // then it is nowhere else.
  const bool only_here = stopping_ && replica_.is_head() && IsBehindLog();
  if (!Left() && now < (only_here ? stop_deadline_ : leaving_->until)) return;
  const std::string why = leaving_->why;
  Resign(why);
}

void Node::TellTunnels() {
  for (auto& [id, session] : sessions_) {
    if (session->tunnel && !session->closed()) session->Push(kLeavingNotice);
  }
}

void Node::HandOver() {
  leaving_->handing_over = true;
  leaving_->until = reactor_.Now() + kHandOverWithin;
  heartbeat_.SendNow();
  for (auto& [id, session] : sessions_) {
    const bool shared = session->forwarded && !session->tunnel;
    if (shared && !session->closed()) session->Push(kLeavingNotice);
  }
}

void Node::Unblock(Session& session) {
  if (!session.state) return;
  const std::optional<ClientState::Blocked> blocked = session.state->Unblockable();
  if (!blocked) return;
  std::string command;
  resp::AppendCommand(command, {"CLIENT", "UNBLOCK", std::to_string(blocked->id),
                                blocked->error ? "ERROR" : "TIMEOUT"});
  using Ending = ClientState::Ending;
  const Ending before = session.state->ending();
  session.state->SetEnding(Ending::kAsked);
  backend_->Interrupt(
      command, [this, before, id = session.id()](std::optional<std::string_view> reply) {
        const auto found = sessions_.find(id);
        if (found == sessions_.end() || found->second->state->ending() != Ending::kAsked) return;
        if (!reply) {
          found->second->state->SetEnding(Ending::kUntold);
        } else if (reply->starts_with(":0")) {
          // It has not come to the database yet; or an answer that was lost had ended it.
          found->second->state->SetEnding(before);
        }
      });
}

// Clients in a state of their own at the head's database. Those of a proxy that stops take nothing
// more, so that their transactions cannot end.
bool Node::StatesHold(bool blocked_too) const {
  if (!replica_.is_head()) return false;
  for (const auto& [id, session] : sessions_) {
    if (!session->state || !session->state->HoldsHead()) continue;
    const bool waits = session->forwarded || !stopping_;
    if (waits && (blocked_too || !session->state->BlockedAs())) return true;
  }
  return false;
}

// Nothing is owed that only this node can answer.
bool Node::Left() const {
  if (replica_.committed() != replica_.received()) return false;
  if (IsBehindLog()) return false;
  if (local_reader_.in_flight() > 0 || StatesHold(/*blocked_too=*/true)) return false;
  for (const auto& [id, session] : sessions_) {
    if (session->forwarded && !session->closed() && !session->handed_over) return false;
    const bool owed_here = stopping_ || session->forwarded || IsLocal(session->path);
    if (owed_here && session->outstanding() > 0) return false;
  }
  return true;
}

// An attached head's database has executed everything.
bool Node::IsBehindLog() const {
  return !replica_.head_ready() && replica_.applied() != replica_.committed();
}

bool Node::HandedOver(Session& session, uint64_t number, const Request& request) {
  if (!session.forwarded || request.command->arguments[0] != kHandedOver) return false;
  session.handed_over = true;
  session.Complete(number, "+OK\r\n");
  return true;
}

void Node::SendAgain() {
  const TimePoint now = reactor_.Now();
  std::erase_if(again_, [&](const Again& again) {
    const auto found = sessions_.find(again.session);
    if (found == sessions_.end() || !found->second->state) return true;
    if (found->second->state->SendAgain()) return true;
    if (now - again.since < options_.write_timeout) return false;
    found->second->state->FailAgain("the chain's head cannot be reached");
    return true;
  });
}

}  // namespace catena::server
