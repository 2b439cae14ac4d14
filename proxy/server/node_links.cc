// A node's connections with others: the links of its chain, and what they dial in for.
#include <algorithm>

#include "proxy/base/log.h"
#include "proxy/base/mutant.h"
#include "proxy/base/text.h"
#include "proxy/resp/encoder.h"
#include "proxy/server/node.h"
#include "proxy/server/replies.h"

namespace catena::server {
namespace {

// Verifications that may look at this node at a time.
constexpr size_t kInspectionsMax = 4;
constexpr Duration kRedialAfter = std::chrono::milliseconds(20);

}  // namespace

void Node::DialMembers() {
  KeepDialled(successor_, replica_.Successor());
  KeepDialled(acknowledging_tail_, replica_.AcknowledgingTail());
}

void Node::KeepDialled(Dialled& dialled, const chain::Member* member) {
  bool current = member != nullptr && dialled.epoch == replica_.epoch() && dialled.to == member->id;
  if (dialled.link != chain::kNoLink && !current) DropLink(dialled.link);
  if (member == nullptr || dialled.link != chain::kNoLink || reactor_.Now() < dialled.redial_at)
    return;
  dialled = Dialled{++last_link_, replica_.epoch(), member->id, reactor_.Now() + kRedialAfter,
                    dialled.traffic};
  heard_[dialled.link] = reactor_.Now();
  links_[dialled.link] =
      std::make_unique<peer::PeerLink>(dialled.link, reactor_, member->peers, options_.credentials,
                                       this, &meter_.traffic(dialled.traffic));
}

void Node::DropLink(chain::LinkId id) {
  auto found = links_.find(id);
  if (found == links_.end()) return;
  found->second->CloseAfterFlush();
  dead_links_.push_back(std::move(found->second));
  links_.erase(found);
  heard_.erase(id);
  replica_.OnLinkClosed(id);
  for (chain::LinkId* link :
       {&successor_.link, &acknowledging_tail_.link, &acknowledged_head_, &news_link_}) {
    if (id == *link) *link = chain::kNoLink;
  }
  if (id == predecessor_link_) {
    predecessor_link_ = chain::kNoLink;
    predecessor_paused_ = false;
    if (parser_) parser_->Reset(replica_.received());
  }
  if (id == join_link_) AbandonJoinSource("the link closed");
  if (id == joining_.link) joining_.link = chain::kNoLink;
}

// Nobody dials a member that was removed. One that the coordinators cannot reach either asks those
// before it, in turn, as if to become their predecessor: they refuse, and say what they know.
void Node::AskForNews() {
  TimePoint now = reactor_.Now();
  std::optional<size_t> index =
      replica_.configuration().IndexOf(options_.node, replica_.incarnation());
  bool cut_off = index && *index > 0 && !replica_.resigned() && !replica_.predecessor_linked() &&
                 !replica_.lease().ValidAt(now);
  if (!cut_off || news_link_ != chain::kNoLink || now < news_at_) return;
  news_at_ = now + options_.lease;
  // The nearest first; whoever was asked last is passed over once.
  size_t next = *index - 1;
  for (size_t i = 0; i < *index; ++i) {
    if (replica_.configuration().members[i] == news_from_) next = i > 0 ? i - 1 : *index - 1;
  }
  news_from_ = replica_.configuration().members[next];
  news_link_ = ++last_link_;
  heard_[news_link_] = now;
  links_[news_link_] =
      std::make_unique<peer::PeerLink>(news_link_, reactor_, news_from_.peers, options_.credentials,
                                       this, &meter_.traffic(TrafficOf::kOthers));
}

void Node::OnLinkReady(peer::PeerLink& link) {
  if (link.id() == successor_.link) {
    replica_.OnSuccessorConnected(link.id());
  } else if (link.id() == acknowledging_tail_.link) {
    replica_.OnTailConnected(link.id());
  } else if (link.id() == news_link_) {
    link.Send(chain::Hello{replica_.configuration(), options_.node, replica_.incarnation(),
                           news_from_.id, news_from_.incarnation, chain::LinkPurpose::kChain,
                           replica_.replid()});
  } else if (link.id() == join_link_) {
    link.Send(join_source_.OnConnected(link.id(), replica_));
  }
}

// A large message on a slow network takes longer than a lease.
void Node::OnLinkHeard(peer::PeerLink& link) {
  if (const auto heard = heard_.find(link.id()); heard != heard_.end()) {
    heard->second = reactor_.Now();
  }
}

void Node::OnLinkMessage(peer::PeerLink& link, const chain::Message& message) {
  if (const auto* append = std::get_if<chain::Append>(&message)) {
    if (link.id() == joining_.link) return OnJoinMessage(link, message);
    if (!replica_.AcceptsAppend(link.id(), append->from) || !broken_.empty()) return;
    if (TakeStream(append->bytes)) replica_.OnReceived(append->committed);
    return;
  }
  if (const auto* hello = std::get_if<chain::Hello>(&message)) return OnHello(link, *hello);
  if (const auto* refuse = std::get_if<chain::Refuse>(&message)) {
    std::string reason = refuse->reason;
    auto newer = refuse->newer;
    log::Info("link_refused", {{"peer", link.peer_name()}, {"why", reason}});
    DropLink(link.id());
    if (newer) InstallConfiguration(*newer, "told by a neighbour that refused a link");
    return;
  }
  if (link.id() == joining_.link || link.id() == join_link_) return OnJoinMessage(link, message);
  replica_.Step(link.id(), message, reactor_.Now());
}

void Node::OnLinkClosed(peer::PeerLink& link, const std::string& reason) {
  if (links_.contains(link.id())) {
    log::Debug("link_closed", {{"link", link.id()}, {"peer", link.peer_name()}, {"why", reason}});
  }
  DropLink(link.id());
}

void Node::OnLinkDrained(peer::PeerLink& link) {
  if (link.id() != join_link_ || !snapshot_paused_ || !snapshot_reader_) return;
  snapshot_paused_ = false;
  snapshot_reader_->Resume();
}

void Node::OnHello(peer::PeerLink& link, const chain::Hello& hello) {
  if (hello.purpose == chain::LinkPurpose::kJoin) return OnJoinHello(link, hello);
  chain::Hello copy = hello;
  chain::LinkId id = link.id();
  InstallConfiguration(copy.configuration, "told by " + hello.from);
  if (!links_.contains(id)) return;
  if (!replica_.OnHello(id, copy)) {
    PerformOutput();  // the refusal leaves before the link is dropped
    local_reader_.QuestionsSent();
    return DropLink(id);
  }
  if (copy.purpose == chain::LinkPurpose::kAcks) {
    acknowledged_head_ = id;
    link.CountInto(&meter_.traffic(TrafficOf::kAcks));
    return;
  }
  predecessor_link_ = id;
  predecessor_paused_ = false;  // an earlier one was; its end is still to be performed
  link.CountInto(&meter_.traffic(TrafficOf::kPredecessor));
  parser_->Reset(replica_.received());
}

void Node::OnPeerOpened(std::unique_ptr<io::Stream> stream,
                        const std::vector<std::string>& arguments, std::string rest) {
  const std::string& what = arguments[0];
  if (what == "CATENA.HELLO") return OpenLink(std::move(stream), arguments, std::move(rest));
  if (what == "CATENA.FORWARD") return OpenForwarded(std::move(stream), arguments, std::move(rest));
  if (what == "CATENA.INSPECT") return OpenInspection(std::move(stream), arguments, rest);
  std::string out;
  if (what == "PING" || what == "ping") {
    resp::AppendSimple(out, "PONG");
  } else {
    resp::AppendError(
        out, "ERR a peer connection begins with CATENA.HELLO, CATENA.FORWARD or CATENA.INSPECT");
  }
  stream->Write(out);
  stream->CloseAfterFlush();
}

void Node::OpenInspection(std::unique_ptr<io::Stream> stream,
                          const std::vector<std::string>& arguments, const std::string& rest) {
  std::string refusal;
  if (arguments.size() != 2 || arguments[1] != options_.chain) {
    refusal = "ERR this node belongs to chain " + options_.chain;
  } else if (!replica_.serves() || !examined_) {
    refusal = "ERR " + options_.node + " is no synced member of the chain";
  } else if (inspections_.size() >= kInspectionsMax) {
    refusal = "ERR too many inspections of " + options_.node;
  }
  std::string out;
  if (!refusal.empty()) {
    resp::AppendError(out, refusal);
    stream->Write(out);
    return stream->CloseAfterFlush();
  }
  stream->Write("+OK\r\n");
  const uint64_t id = ++last_inspection_;
  auto& inspection = inspections_[id] = std::make_unique<Inspection>(
      std::move(stream), *backend_, [this] { return replica_.received(); },
      [this, id] { reactor_.Defer([this, id] { inspections_.erase(id); }); });
  if (!rest.empty()) inspection->Received(rest);
}

void Node::OpenLink(std::unique_ptr<io::Stream> stream, const std::vector<std::string>& arguments,
                    std::string rest) {
  chain::LinkId id = ++last_link_;
  auto& link = links_[id] = std::make_unique<peer::PeerLink>(id, std::move(stream), this,
                                                             &meter_.traffic(TrafficOf::kOthers));
  heard_[id] = reactor_.Now();
  std::string bytes;
  std::vector<std::string_view> views(arguments.begin(), arguments.end());
  resp::AppendCommand(bytes, views);
  link->Received(bytes + rest);
}

void Node::OpenForwarded(std::unique_ptr<io::Stream> stream,
                         const std::vector<std::string>& arguments, std::string rest) {
  auto refuse = [&](std::string_view why) {
    std::string out;
    resp::AppendError(out, why);
    stream->Write(out);
    stream->CloseAfterFlush();
  };
  if (arguments.size() != 9 || (arguments[2] != "head" && arguments[2] != "tail"))
    return refuse("ERR malformed CATENA.FORWARD");
  auto incarnation = ParseNumber<uint64_t>(arguments[4]);
  auto number = ParseNumber<uint64_t>(arguments[5]);
  auto database = ParseNumber<uint64_t>(arguments[6]);
  auto protocol = ParseNumber<uint64_t>(arguments[7]);
  bool numbers =
      incarnation && number && database && protocol && (*protocol == 2 || *protocol == 3);
  if (!numbers) return refuse("ERR malformed CATENA.FORWARD");
  if (*database >= static_cast<uint64_t>(databases_)) {
    return refuse("ERR the database of " + options_.node + " has no number " + arguments[6]);
  }
  if (arguments[1] != options_.chain)
    return refuse("ERR this node belongs to chain " + options_.chain);
  Target target = arguments[2] == "head" ? Target::kHead : Target::kTail;
  bool ready =
      target == Target::kHead ? replica_.head_ready() : replica_.serves() && replica_.is_tail();
  if (!ready || leaving_ || stopping_)
    return refuse("CHAINDOWN " + options_.node + " is not (yet) the chain's " + arguments[2]);

  const bool tunnel = arguments[8].starts_with(kTunnelLane);
  // A client may have changed its database and protocol since it opened its former tunnel.
  std::string key = arguments[2] + ' ' + arguments[3] + ' ' +
                    (tunnel ? "" : arguments[6] + ' ' + arguments[7] + ' ') + arguments[8];
  ForwardedLane& lane = forwarded_[key];
  if (std::pair(lane.incarnation, lane.number) >= std::pair(*incarnation, *number))
    return refuse("ERR superseded");
  // S18: what is unread on the earlier connection is dropped before anything of this one is read.
  if (lane.session != nullptr && !CATENA_MUTANT("late-bytes-read"))
    lane.session->CloseNow("superseded");
  Session& session = AddSession(std::move(stream));
  welcomes_.push_back({session.id(), arguments[8] == kScriptsLane});
  session.forwarded = true;
  session.authenticated = true;
  session.database = static_cast<int>(*database);
  session.protocol = static_cast<int>(*protocol);
  session.consistency = Consistency::kLinearizable;
  session.name = arguments[3];
  lane = ForwardedLane{*incarnation, *number, &session, lane.welcomed};
  session.forward_target = target;
  session.tunnel = tunnel;
  session.forward_lane = std::move(key);
  if (!rest.empty()) session.Received(rest);
}

// S18: what an earlier connection of the same kind gave to the database is executed, or never will
// be, before anything of this one is even sent.
void Node::WelcomeForwarded() {
  std::erase_if(welcomes_, [this](const Welcome& welcome) {
    const auto found = sessions_.find(welcome.session);
    if (found == sessions_.end()) return true;
    Session& session = *found->second;
    ForwardedLane& lane = forwarded_[session.forward_lane];
    const bool superseded = lane.session != &session;
    const bool may_be_alone = session.tunnel || welcome.scripts;
    const bool later = superseded || sessions_.contains(lane.welcomed) ||
                       (may_be_alone && backend_->HasAbandoned());
    if (later && !CATENA_MUTANT("late-bytes-read")) return false;
    lane.welcomed = session.id();
    session.Push("+OK\r\n");
    return true;
  });
}

void Node::CloseForwarded(Target target) {
  std::vector<Session*> closing;
  for (auto& [id, session] : sessions_) {
    if (session->forwarded && session->forward_target == target && !session->closed())
      closing.push_back(session.get());
  }
  for (Session* session : closing) session->CloseAfterReplies();
}

void Node::OnBeat() {
  beat_->Start(options_.heartbeat);
  TimePoint now = reactor_.Now();
  // Both ends of a link speak once a beat, so that a silent one is known to be broken within a
  // lease.
  std::vector<chain::LinkId> silent;
  for (auto& [id, link] : links_) {
    bool paused = id == predecessor_link_ && predecessor_paused_;
    bool chain_link = id == predecessor_link_ || id == successor_.link ||
                      id == acknowledging_tail_.link || id == acknowledged_head_ ||
                      id == news_link_;
    if (chain_link && !paused && now - heard_[id] > options_.lease) silent.push_back(id);
  }
  for (chain::LinkId id : silent) {
    log::Warn("link_silent", {{"link", id}, {"peer", links_[id]->peer_name()}});
    DropLink(id);
  }
  log::Settle();
  replica_.KeepAlive();
  if (options_.max_staleness > Duration(0)) freshness_.Begin(now);
  AskForNews();
  if (auto link = links_.find(joining_.link); link != links_.end())
    link->second->Send(JoinProgressNow());
}

}  // namespace catena::server
