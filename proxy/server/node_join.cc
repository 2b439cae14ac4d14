// Joining, both sides (design.md 6): the tail brings a node up to date that is no member, and the
// node that is brought up.
#include "proxy/base/log.h"
#include "proxy/server/node.h"

namespace catena::server {
namespace {

constexpr Duration kJoinRetryAfter = std::chrono::milliseconds(500);
// A joiner that has said nothing for so many leases is given up; it speaks once a beat.
constexpr int kSilentLeasesMax = 3;

}  // namespace

// --- the receiving side --------------------------------------------------------------------------

void Node::OnJoinHello(peer::PeerLink& link, const chain::Hello& hello) {
  InstallConfiguration(hello.configuration, "told by " + hello.from);
  bool fits = hello.to == options_.node && hello.to_incarnation == replica_.incarnation() &&
              hello.configuration.chain == options_.chain;
  bool wants =
      examined_ && !stopping_ && (phase_ == Phase::kCandidate || phase_ == Phase::kJoining);
  if (!fits || !wants || hello.configuration.epoch < replica_.epoch()) {
    std::optional<chain::Configuration> newer;
    if (replica_.epoch() > hello.configuration.epoch) newer = replica_.configuration();
    link.Send(chain::Refuse{options_.node + " does not want to join now", newer});
    return DropLink(link.id());
  }
  if (joining_.link != chain::kNoLink) DropLink(joining_.link);
  replica_.DropStaged();
  parser_->Reset(replica_.received());
  joining_.link = link.id();
  link.CountInto(&meter_.traffic(TrafficOf::kJoin));
  joining_.started = false;
  joining_.paused = joining_.log_paused = false;
  Enter(Phase::kJoining, "");
  chain::Offer offer;
  if (joining_.loaded && replica_.replid() == hello.replid) {
    offer = {replica_.replid(), replica_.received()};
  } else if (info_.resume && replica_.replid().empty()) {
    offer = {info_.resume->replid, info_.resume->position};
  } else if (joining_.loading && joining_.snapshot_replid == hello.replid) {
    offer.snapshot = joining_.snapshot;
    offer.snapshot_bytes = joining_.done;
  }
  joining_.replid = hello.replid;
  joining_.told_loaded = false;
  link.Send(offer);
}

void Node::OnJoinMessage(peer::PeerLink& link, const chain::Message& message) {
  if (link.id() == join_link_) {
    if (const auto* offer = std::get_if<chain::Offer>(&message)) OnOffer(*offer);
    if (const auto* progress = std::get_if<chain::JoinProgress>(&message))
      join_source_.OnProgress(*progress);
    return;
  }
  if (const auto* append = std::get_if<chain::Append>(&message)) {
    if (!joining_.started || append->from != replica_.log().staged_end())
      return DropLink(link.id());
    if (TakeStream(append->bytes)) replica_.OnReceived();
  } else if (const auto* start = std::get_if<chain::Start>(&message)) {
    StartFollowing(start->from);
  } else if (const auto* begin = std::get_if<chain::SnapshotBegin>(&message)) {
    BeginLoading(link, *begin);
  } else if (const auto* chunk = std::get_if<chain::SnapshotChunk>(&message)) {
    if (!joining_.loading) return;
    joining_.done += chunk->bytes.size();
    if (!backend_->SnapshotChunk(chunk->bytes)) {
      joining_.paused = true;
      link.PauseReading();
    }
  }
}

void Node::BeginLoading(peer::PeerLink& link, const chain::SnapshotBegin& begin) {
  log::Info(
      "snapshot_begins",
      {{"position", begin.position.value()}, {"bytes", begin.length}, {"from", begin.offset}});
  const bool goes_on = begin.offset > 0;
  const bool fits = joining_.loading && begin.name == joining_.snapshot &&
                    begin.offset == joining_.done && begin.length == joining_.total;
  if (goes_on && !fits) return DropLink(link.id());
  replica_.SetHistory(joining_.replid, begin.position);
  parser_->Reset(begin.position);
  if (goes_on) return;
  joining_.loaded = false;
  joining_.loading = true;
  joining_.snapshot = begin.name;
  joining_.snapshot_replid = joining_.replid;
  joining_.done = 0;
  joining_.total = begin.length;
  following_ = false;
  ++meter_.full_resyncs;
  backend_->BeginSnapshot(joining_.replid, begin.position, begin.length, this);
}

void Node::StartFollowing(Position from) {
  joining_.started = true;
  if (joining_.loading || joining_.loaded) {
    if (from != replica_.log().staged_end()) DropLink(joining_.link);
    return;
  }
  log::Info("resuming", {{"position", from.value()}});
  replica_.SetHistory(joining_.replid, from);
  parser_->Reset(from);
  following_ = true;
  joining_.loaded = true;
  ++meter_.partial_resyncs;
  replica_.OnApplied(from);
  backend_->Follow(joining_.replid, from, this);
}

void Node::OnSnapshotRoom() {
  if (!joining_.paused) return;
  joining_.paused = false;
  if (auto link = links_.find(joining_.link); link != links_.end()) link->second->ResumeReading();
}

void Node::OnSnapshotLoaded(Position position) {
  log::Info("snapshot_loaded", {{"position", position.value()}});
  joining_.loading = false;
  joining_.loaded = true;
  following_ = true;
  fed_ = Position();
  OnApplied(position);
}

void Node::OnSnapshotRefused(const std::string& reason) {
  AbandonJoining("snapshot refused: " + reason);
}

void Node::AbandonJoining(const std::string& why) {
  if (phase_ != Phase::kJoining && phase_ != Phase::kCandidate) return;
  if (phase_ == Phase::kJoining) log::Warn("join_abandoned", {{"why", why}});
  BeginNewLife(Incarnation());
}

void Node::ReportJoinProgress() {
  auto found = links_.find(joining_.link);
  if (found == links_.end() || !joining_.started) return;
  bool news = joining_.loaded != joining_.told_loaded || replica_.received() != joining_.told;
  if (!news) return;
  joining_.told = replica_.received();
  joining_.told_loaded = joining_.loaded;
  found->second->Send(JoinProgressNow());
}

chain::JoinProgress Node::JoinProgressNow() const {
  // Before Start, what is here may belong to another history.
  if (!joining_.started) return {};
  return {replica_.received(), joining_.loaded};
}

// --- the sending side ----------------------------------------------------------------------------

void Node::FollowJoinOrder(const std::optional<coordinator::JoinOrder>& order) {
  join_order_ = order;
  if (!order || !replica_.is_tail() || !replica_.serves()) return AbandonJoinSource("no order");
  if (replica_.is_head() && !replica_.head_ready()) return;
  bool same = join_source_.phase() != chain::JoinSource::Phase::kIdle &&
              join_source_.joiner() == order->node &&
              join_source_.incarnation() == order->incarnation;
  if (same || reactor_.Now() < join_retry_at_) return;
  AbandonJoinSource("another order");
  log::Info("join_begins", {{"node", order->node}, {"peers", order->peers}});
  join_source_.Begin(order->node, order->incarnation);
  join_ready_told_ = false;
  join_link_ = ++last_link_;
  heard_[join_link_] = reactor_.Now();
  links_[join_link_] =
      std::make_unique<peer::PeerLink>(join_link_, reactor_, order->peers, options_.credentials,
                                       this, &meter_.traffic(TrafficOf::kJoin));
}

// An order stands that this tail can follow, and the joiner has not answered yet, or no more.
bool Node::MissesJoiner() const {
  using Phase = chain::JoinSource::Phase;
  const Phase phase = join_source_.phase();
  const bool able = replica_.serves() && (!replica_.is_head() || replica_.head_ready());
  return join_order_ && able && phase != Phase::kSnapshot && phase != Phase::kStreaming;
}

void Node::AbandonJoinSource(const std::string& why) {
  if (join_source_.phase() == chain::JoinSource::Phase::kIdle) return;
  log::Info("join_ends", {{"node", join_source_.joiner()}, {"why", why}});
  join_source_.Abandon();
  snapshot_reader_.reset();
  snapshot_paused_ = false;
  chain::LinkId link = std::exchange(join_link_, chain::kNoLink);
  DropLink(link);
  // As a former tail the node still needs its log for the joiner, now its successor, until they
  // have met.
  if (replica_.is_tail() || !replica_.is_member()) replica_.PinLog(std::nullopt);
  join_retry_at_ = reactor_.Now() + kJoinRetryAfter;
}

void Node::OnOffer(const chain::Offer& offer) {
  if (join_source_.phase() != chain::JoinSource::Phase::kOffered) return;
  chain::Start start;
  bool snapshot = join_source_.OnOffer(offer, replica_, start);
  log::Info("join_offer", {{"node", join_source_.joiner()},
                           {"replid", offer.replid},
                           {"position", offer.position.value()},
                           {"answer", snapshot ? "snapshot" : "continue"}});
  replica_.PinLog(join_source_.pin());
  if (snapshot) {
    ++meter_.resyncs_given;
    // What had only just begun may be as old as any other (see OnSnapshotStart), and costs as little
    // to make anew.
    backend::SnapshotPart held;
    if (offer.snapshot_bytes > 0) held = {offer.snapshot, offer.snapshot_bytes};
    snapshot_reader_ = backend_->TakeSnapshot(this, held);
  } else {
    links_[join_link_]->Send(start);
  }
}

void Node::OnSnapshotStart(Position position, uint64_t length, const backend::SnapshotPart& from) {
  auto found = links_.find(join_link_);
  if (found == links_.end()) return;
  // One that is gone on with is older than what the log was kept for since this attempt began.
  if (from.bytes > 0 && !join_source_.CanFollow(replica_.log(), position)) {
    snapshot_reader_.reset();
    snapshot_reader_ = backend_->TakeSnapshot(this, {});
    return;
  }
  join_source_.OnSnapshotStart(position);
  replica_.PinLog(join_source_.pin());
  found->second->Send(chain::SnapshotBegin{position, length, from.name, from.bytes});
}

void Node::OnSnapshotBytes(std::string_view bytes) {
  auto found = links_.find(join_link_);
  if (found == links_.end()) return;
  while (!bytes.empty()) {
    size_t count = std::min(bytes.size(), kAppendBytesMax);
    found->second->Send(chain::SnapshotChunk{bytes.substr(0, count)});
    bytes.remove_prefix(count);
  }
  if (found->second->SendBudget() == 0 && snapshot_reader_) {
    snapshot_paused_ = true;
    snapshot_reader_->Pause();
  }
}

void Node::OnSnapshotEnd() {
  auto found = links_.find(join_link_);
  if (found == links_.end()) return;
  found->second->Send(chain::SnapshotEnd{});
  found->second->Send(join_source_.OnSnapshotEnd());
}

void Node::OnSnapshotFailed(const std::string& reason) {
  AbandonJoinSource("its own snapshot failed: " + reason);
}

void Node::SendJoinLog() {
  auto found = links_.find(join_link_);
  if (found == links_.end()) return;
  if (join_source_.Overrun(replica_.log())) return AbandonJoinSource("the log was overrun");
  for (size_t budget = found->second->SendBudget(); budget > 0;
       budget = found->second->SendBudget()) {
    auto append = join_source_.NextAppend(replica_.log(), std::min(budget, kAppendBytesMax));
    if (!append) return;
    found->second->SendAppend(*append);
  }
}

void Node::CheckJoinSource() {
  if (join_source_.phase() == chain::JoinSource::Phase::kIdle) return;
  replica_.PinLog(join_source_.pin());
  if (join_source_.PinTooLong(replica_.log()))
    return AbandonJoinSource("the joiner is too slow: join_bytes_max");
  if (reactor_.Now() - heard_[join_link_] > options_.lease * kSilentLeasesMax)
    return AbandonJoinSource("no sign of life");
  bool ready = join_source_.Ready(replica_.log());
  if (ready && !join_ready_told_) heartbeat_.SendNow();
  join_ready_told_ = ready;
}

}  // namespace catena::server
