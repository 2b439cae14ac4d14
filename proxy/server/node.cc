#include "proxy/server/node.h"

#include <algorithm>

#include "proxy/base/log.h"
#include "proxy/base/mutant.h"
#include "proxy/server/replies.h"

namespace catena::server {
namespace {

constexpr Duration kTick = std::chrono::milliseconds(20);
constexpr Duration kStopWithin = std::chrono::seconds(8);

std::string NewReplid(io::Reactor& reactor) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string replid(backend::kChainReplidPrefix);
  if (CATENA_MUTANT("one-replid-for-all")) return replid + std::string(34, '0');
  for (unsigned char byte : reactor.RandomBytes(20)) {
    replid += kHex[byte >> 4];
    replid += kHex[byte & 15];
  }
  replid.resize(40);
  return replid;
}

Incarnation NewIncarnation(io::Reactor& reactor, Incarnation above) {
  // Wall time in microseconds: later processes get later ones without anything on disk.
  return std::max(above.Next(),
                  Incarnation(static_cast<uint64_t>(reactor.WallMilliseconds()) * 1000));
}

}  // namespace

const char* PhaseName(coordinator::ReportPhase phase) {
  constexpr const char* kNames[] = {"starting", "candidate", "member",
                                    "joining",  "resigning", "refused"};
  return kNames[static_cast<int>(phase)];
}

const char* ConsistencyName(Consistency consistency) {
  constexpr const char* kNames[] = {"linearizable", "sequential", "eventual", "tail"};
  return kNames[static_cast<int>(consistency)];
}

Node::Node(const Reactors& reactors, Options options, const MakeBackend& make_backend,
           std::function<void()> on_stopped)
    : reactors_(reactors),
      reactor_(reactors.peers),
      options_(std::move(options)),
      on_stopped_(std::move(on_stopped)),
      replica_({options_.chain, options_.node, options_.drift_per_mille, options_.backlog_bytes}),
      freshness_(replica_),
      backend_(make_backend(NewIncarnation(reactor_, Incarnation()))),
      acceptor_(reactor_, options_.credentials,
                [this](auto stream, const auto& arguments, std::string rest) {
                  OnPeerOpened(std::move(stream), arguments, std::move(rest));
                }),
      join_source_(options_.join_bytes_max),
      meter_([this] { return reactor_.Now(); }, options_.measures_times),
      heartbeat_(
          reactors_.coordinators, options_,
          {[this] { return Report(); },
           [this](const auto& answer, auto sent_at) { OnCoordinatorAnswer(answer, sent_at); }}),
      head_executor_(
          replica_, *backend_, options_, meter_, [this] { return reactor_.Now(); },
          [this](std::string_view reply) { return AddInfoSection(reply); }),
      local_reader_(
          replica_, *backend_, options_, meter_, [this] { return reactor_.Now(); },
          [this](std::string_view reply) { return AddInfoSection(reply); }),
      forwarder_(reactor_, replica_, options_, meter_),
      tick_(reactor_.MakeTimer([this] {
        tick_armed_ = false;
        OnTick();
      })) {}

Result<void> Node::Start() {
  local_reader_.SetReroute([this](Session& session, uint64_t number, std::string command) {
    rerouted_.push_back(Rerouted{&session, number, std::move(command), reactor_.Now(), true});
  });
  started_at_ = reactor_.Now();
  replica_.BeginLife(NewIncarnation(reactor_, Incarnation()));
  if (auto listening = acceptor_.Listen(options_.peers_address); !listening) return listening;
  auto listener = reactors_.clients.Listen(
      options_.clients_address,
      [this](std::unique_ptr<io::Stream> stream) { OnAcceptClient(std::move(stream)); });
  if (!listener) return tl::unexpected(listener.error());
  client_listener_ = std::move(*listener);
  reactor_.AddTurnEndHook([this] { EndTurn(); });
  backend_->Start(this);
  heartbeat_.Start();
  beat_ = reactor_.MakeTimer([this] { OnBeat(); });
  beat_->Start(options_.heartbeat);
  log::Info("started", {{"node", options_.node},
                        {"chain", options_.chain},
                        {"clients", options_.clients_address},
                        {"peers", options_.peers_address}});
  return {};
}

// --- turn ----------------------------------------------------------------------------------------

void Node::EndTurn() {
  if (stopped_) return;
  if (!broken_.empty()) Resign(std::exchange(broken_, {}));
  if (replica_.OwesAnswers()) replica_.AnswerAsks(reactor_.Now());
  PerformOutput();
  SendLog();
  SendJoinLog();
  FeedBackend();
  head_executor_.Release();
  freshness_.Follow();
  RetryBlocked();
  head_executor_.EndBatches();
  if (!welcomes_.empty()) {
    // What a session left in the database counts as abandoned when it is destroyed.
    DestroyDead();
    WelcomeForwarded();
  }
  // Reads of this turn may have asked questions; commits of this turn are acknowledged.
  PerformOutput();
  ReportJoinProgress();
  CheckJoinSource();
  MaybePromote();
  local_reader_.EndTurn();
  SendRerouted();
  if (!again_.empty()) SendAgain();
  forwarder_.EndTurn();
  if (leaving_) ContinueLeaving();
  if (stopping_) ContinueStop();
  DestroyDead();
  ArmTick();
  UpdateStalls();
  meter_.EndTurn();
}

void Node::PerformOutput() {
  chain::Output output = replica_.TakeOutput();
  for (chain::LinkId id : output.close) DropLink(id);
  for (auto& [id, message] : output.messages) {
    auto found = links_.find(id);
    if (found != links_.end()) found->second->Send(message);
  }
  if (output.ask_target_bound) {
    backend_->AskPosition([this, epoch = replica_.epoch()](std::optional<Position> bound) {
      if (bound && epoch == replica_.epoch()) replica_.OnTargetBound(*bound);
    });
  }
  if (output.promote_at) promote_at_ = *output.promote_at;
  promote_wanted_ = promote_wanted_ || output.promote_at.has_value();
  if (output.resign) Resign(*output.resign);
  DialMembers();
}

void Node::SendLog() {
  auto found = links_.find(successor_.link);
  successor_full_ = false;
  if (found == links_.end()) return;
  for (size_t budget = found->second->SendBudget(); budget > 0;
       budget = found->second->SendBudget()) {
    auto append = replica_.NextAppend(std::min(budget, kAppendBytesMax));
    if (!append) return;
    found->second->SendAppend(*append);
  }
  successor_full_ = true;
}

void Node::FeedBackend() {
  Position committed =
      CATENA_MUTANT("uncommitted-applied") ? replica_.received() : replica_.committed();
  if (committed == fed_) return;
  fed_ = committed;
  if (replica_.head_ready()) {
    backend_->SetCommitted(committed);
  } else if (following_) {
    backend_->FeedAvailable(committed);
    if (!applying_) applying_ = Applying{committed, meter_.Now()};
    if (replica_.is_head() || stopping_) backend_->ApplyAwaited(committed);
  }
  // A database that cannot keep up slows the chain down, or its own join, rather than filling the
  // log (I9).
  if (replica_.is_head() || replica_.unapplied_bytes() <= options_.log_bytes_max) return;
  if (auto link = links_.find(predecessor_link_); link != links_.end() && !predecessor_paused_) {
    predecessor_paused_ = true;
    link->second->PauseReading();
  }
  if (auto link = links_.find(joining_.link); link != links_.end() && !joining_.log_paused) {
    joining_.log_paused = true;
    link->second->PauseReading();
  }
}

void Node::MaybePromote() {
  if (!promote_wanted_ || !replica_.is_head() || replica_.resigned()) return;
  // S6: a read that was judged by the follower's rule must not see what the head executes.
  if (local_reader_.in_flight() > 0 && !CATENA_MUTANT("promoted-under-reads")) return;
  promote_wanted_ = false;
  following_ = false;
  applying_.reset();
  ++meter_.promotions;
  log::Info("promoting", {{"position", promote_at_.value()}});
  backend_->Promote(replica_.replid(), promote_at_);
}

void Node::RetryBlocked() {
  if (blocked_.empty()) return;
  std::vector<Session*> sessions = std::move(blocked_);
  blocked_.clear();
  for (Session* session : sessions) session->in_blocked_list = false;
  for (Session* session : sessions) {
    if (!session->closed()) session->Retry();
  }
}

void Node::OnTick() {
  TimePoint now = reactor_.Now();
  head_executor_.Expire(now);
  forwarder_.Expire(now);
  ExpireRerouted(now);
  std::vector<Session*> expired;
  for (Session* session : blocked_) {
    if (session->blocked_since && now - *session->blocked_since >= options_.write_timeout)
      expired.push_back(session);
  }
  for (Session* session : expired) session->FailWaiting(ChainDown(WhyWaiting(*session)));
}

void Node::ArmTick() {
  bool needed = !blocked_.empty() || !head_executor_.idle() || forwarder_.owed() > 0 ||
                !rerouted_.empty() || !again_.empty() || leaving_ || stopping_ ||
                (replica_.Successor() != nullptr && successor_.link == chain::kNoLink) ||
                join_order_.has_value();
  if (!needed || tick_armed_) return;
  tick_armed_ = true;
  tick_->Start(kTick);
}

void Node::DestroyDead() {
  dead_links_.clear();
  for (auto& session : dead_sessions_) {
    if (session->in_blocked_list) std::erase(blocked_, session.get());
    auto lane = forwarded_.find(session->forward_lane);
    if (lane == forwarded_.end()) continue;
    if (lane->second.session == session.get()) lane->second.session = nullptr;
    const bool needed =
        lane->second.session != nullptr || sessions_.contains(lane->second.welcomed);
    if (!needed) forwarded_.erase(lane);
  }
  dead_sessions_.clear();
}

// --- configuration and life ----------------------------------------------------------------------

void Node::OnCoordinatorAnswer(const coordinator::HeartbeatAnswer& answer,
                               std::optional<TimePoint> sent_at) {
  if (answer.notice != notice_) {
    notice_ = answer.notice;
    if (!notice_.empty()) log::Warn("notice", {{"text", notice_}});
  }
  if (answer.configuration) InstallConfiguration(*answer.configuration, answer.reason);
  if (answer.incarnation_void && answer.incarnation_above >= replica_.incarnation()) {
    FailOwed("this node was removed from the chain");
    return BeginNewLife(answer.incarnation_above);
  }
  if (sent_at && answer.lease > Duration(0) && phase_ == Phase::kMember) {
    const bool late = CATENA_MUTANT("lease-from-answer");
    replica_.GrantLease(late ? reactor_.Now() : *sent_at, answer.lease);
    replica_.AnswerAsks(reactor_.Now());
  }
  if (!answer.resign.empty()) Resign(answer.resign);
  if (!stopping_) FollowDrain(answer.drain);
  if (phase_ == Phase::kResigning && resign_number_ && answer.number >= *resign_number_) {
    resign_known_ = true;
    if (examined_ && !stopping_) return BeginNewLife(Incarnation());
  }
  FollowJoinOrder(answer.join);
}

void Node::InstallConfiguration(const chain::Configuration& configuration, const std::string& why) {
  Epoch before = replica_.epoch();
  switch (replica_.Install(configuration)) {
    case chain::Replica::Installed::kIgnored:
      break;
    case chain::Replica::Installed::kMember:
      return AfterRoleChange(why);
    case chain::Replica::Installed::kRemoved:
      log::Warn("removed", {{"epoch", configuration.epoch.value()}, {"why", why}});
      FailOwed("this node was removed from the chain");
      if (stopping_) {
        resign_known_ = true;
        return;
      }
      return BeginNewLife(Incarnation());
  }
  if (before != replica_.epoch()) SetForwardTargets();
}

void Node::AfterRoleChange(const std::string& why) {
  ++meter_.epochs;
  log::Info("installed", {{"epoch", replica_.epoch().value()},
                          {"role", RoleName(replica_.role())},
                          {"members", replica_.configuration().members.size()},
                          {"received", replica_.received().value()},
                          {"committed", replica_.committed().value()},
                          {"applied", replica_.applied().value()},
                          {"why", why}});
  if (phase_ != Phase::kResigning) Enter(Phase::kMember, "");
  // An offer that was made earlier is accepted while another attempt has begun to replace the data.
  if (joining_.loading) Resign("listed while its database loads a snapshot");
  // The join link has done its work; the chain link takes over.
  if (joining_.link != chain::kNoLink) DropLink(joining_.link);
  if (!replica_.is_tail()) AbandonJoinSource("no longer the tail");
  if (!replica_.is_head()) promote_wanted_ = false;
  if (replica_.is_head() && following_) backend_->ApplyAwaited(replica_.committed());
  if (replica_.role() == chain::Role::kSole && replica_.replid().empty() && !attaching_) {
    attaching_ = true;
    backend_->AttachCapture();
  }
  if (!replica_.head_ready()) parser_->Reset(replica_.received());
  complete_from_ = replica_.received();
  SetForwardTargets();
  if (!replica_.is_head()) CloseForwarded(Target::kHead);
  if (!replica_.is_tail()) CloseForwarded(Target::kTail);
  heartbeat_.SendNow();
}

void Node::SetForwardTargets() {
  std::optional<chain::Member> head, tail;
  const chain::Configuration& newest = replica_.configuration();
  if (newest.epoch > Epoch()) {
    if (newest.members.front().id != options_.node) head = newest.members.front();
    if (newest.members.back().id != options_.node) tail = newest.members.back();
  }
  forwarder_.SetTargets(head, tail);
}

void Node::FailOwed(std::string_view why) {
  for (auto& [id, inspection] : inspections_) inspection->Close("ERR " + std::string(why));
  head_executor_.FailAll(why);
  local_reader_.FailAll(why);
  CloseForwarded(Target::kHead);
  CloseForwarded(Target::kTail);
}

void Node::Resign(const std::string& reason) {
  leaving_.reset();
  if (phase_ == Phase::kResigning) return;
  if (!replica_.is_member()) return AbandonJoining(reason);
  ++meter_.resignations;
  replica_.Resign();
  AbandonJoinSource("resigning");
  FailOwed("this node left the chain: " + reason);
  Enter(Phase::kResigning, reason);
  heartbeat_.SendNow();
  resign_number_ = heartbeat_.connected() ? heartbeat_.last_number() : heartbeat_.last_number() + 1;
}

void Node::BeginNewLife(Incarnation above) {
  AbandonJoinSource("a new life");
  Incarnation incarnation = NewIncarnation(reactor_, std::max(above, replica_.incarnation()));
  if (CATENA_MUTANT("removed-listed-again")) incarnation = replica_.incarnation();
  for (chain::LinkId id : {predecessor_link_, successor_.link, acknowledging_tail_.link,
                           acknowledged_head_, news_link_, joining_.link}) {
    DropLink(id);
  }
  replica_.BeginLife(incarnation);
  freshness_.BeginLife();
  joining_ = Joining{};
  promote_wanted_ = attaching_ = following_ = false;
  fed_ = Position();
  applying_.reset();
  probe_.reset();
  resign_number_.reset();
  resign_known_ = false;
  examined_ = false;
  // What connections saw or waited for was told in positions of the former history.
  for (auto& [id, session] : sessions_) {
    session->seen = Position();
    session->seen_elsewhere = !CATENA_MUTANT("answers-count-as-received");
    session->read_wait = ReadWait{};
  }
  Enter(Phase::kStarting, "");
  SetForwardTargets();
  backend_->Release();
}

void Node::Enter(Phase phase, std::string why) {
  if (phase == phase_ && why == phase_why_) return;
  phase_ = phase;
  phase_why_ = std::move(why);
  constexpr const char* kUsual[] = {"its database is being examined",
                                    "its database was examined: it may become a member",
                                    "the configuration lists it",
                                    "the tail brings it up to date",
                                    "",
                                    ""};
  const std::string why_now = phase_why_.empty() ? kUsual[static_cast<int>(phase_)] : phase_why_;
  log::Info("phase", {{"phase", PhaseName(phase_)},
                      {"incarnation", replica_.incarnation().value()},
                      {"why", why_now}});
}

coordinator::NodeReport Node::Report() {
  coordinator::NodeReport report;
  report.cluster = options_.credentials.cluster;
  report.chain = options_.chain;
  report.node = options_.node;
  report.incarnation = replica_.incarnation();
  report.clients = options_.clients_address;
  report.peers = options_.peers_address;
  report.phase = phase_;
  report.problem = phase_why_;
  report.epoch = replica_.epoch();
  report.synced = replica_.serves();
  report.keeps_log = replica_.serves();
  const bool executes_first = !info_.committed_only;
  const bool ready = replica_.head_ready();
  report.head_ready = ready && (executes_first || head_executor_.applied() >= complete_from_);
  report.leaving = handing_over();
  report.overwrite = options_.overwrite;
  report.received = replica_.received();
  report.committed = replica_.committed();
  report.applied = !ready           ? replica_.applied()
                   : executes_first ? replica_.received()
                                    : head_executor_.applied();
  report.log_start = replica_.log().start();
  report.replid = replica_.replid();
  report.backend.kind = info_.kind;
  report.backend.healthy = examined_;
  report.backend.problem = examined_ ? "" : backend_->Problem();
  report.backend.run_id = info_.run_id;
  report.backend.version = info_.version;
  report.backend.databases = static_cast<uint64_t>(std::max(info_.databases, 0));
  report.backend.keys = examined_ ? backend_->LastKeyCount() : info_.keys;
  report.backend.address = options_.backend_address;
  report.backend.committed_only = info_.committed_only;
  if (info_.resume) {
    report.backend.replid = info_.resume->replid;
    report.backend.position = info_.resume->position;
  }
  // What a snapshot is filling it with are the chain's keys, not the user's.
  report.backend.from_chain = info_.from_chain || joining_.loading || joining_.loaded;
  if (join_source_.Ready(replica_.log()) && replica_.is_tail()) {
    report.joiner_ready = coordinator::JoinerReady{join_source_.joiner(),
                                                   join_source_.incarnation(), replica_.epoch()};
  }
  report.predecessor_linked = replica_.is_head() || replica_.predecessor_linked();
  report.successor_linked = replica_.is_tail() ? !MissesJoiner() : replica_.successor_linked();
  report.snapshot_done = joining_.done;
  report.snapshot_total = joining_.total;
  report.clients_connected = sessions_.size();
  report.commands_answered = meter_.answered();
  TimePoint now = reactor_.Now();
  if (replica_.lease().ValidAt(now)) report.lease_left = replica_.lease().expires() - now;
  return report;
}

// --- graceful stop -------------------------------------------------------------------------------

void Node::Stop() {
  if (stopping_) return;
  stopping_ = true;
  stop_deadline_ = reactor_.Now() + kStopWithin;
  log::Info("stopping");
  client_listener_.reset();
  for (auto& [id, session] : sessions_) {
    if (!session->forwarded) session->StopTaking();
  }
  BeginLeaving("the proxy was told to stop");
  ArmTick();
}

void Node::ContinueStop() {
  TimePoint now = reactor_.Now();
  bool member = replica_.is_member() && !replica_.resigned();
  if (member && now < stop_deadline_) return;  // leaving_ is under way
  bool told = phase_ != Phase::kResigning || resign_known_;
  if ((told && !backend_->HasUnapplied()) || now >= stop_deadline_) FinishStop();
}

void Node::FinishStop() {
  stopped_ = true;
  log::Info("stopped");
  std::vector<Session*> closing;
  for (auto& [id, session] : sessions_) closing.push_back(session.get());
  for (Session* session : closing) session->CloseAfterReplies();
  on_stopped_();
}

// --- backend events ------------------------------------------------------------------------------

void Node::OnExamined(const backend::Info& info) {
  auto table = command::CommandTable::FromReply(info.commands);
  if (!table) {
    log::Error("backend_unusable", {{"why", table.error().message}});
    return;
  }
  log::Info("examined", {{"kind", info.kind},
                         {"version", info.version},
                         {"run_id", info.run_id},
                         {"keys", info.keys},
                         {"resume", info.resume ? info.resume->position.value() : 0}});
  info_ = info;
  examined_ = true;
  parser_.reset();
  commands_ = std::move(*table);
  parser_ = std::make_unique<command::EffectParser>(*commands_, replica_.received());
  if (phase_ == Phase::kResigning && resign_known_ && !stopping_)
    return BeginNewLife(Incarnation());
  if (phase_ == Phase::kStarting) Enter(Phase::kCandidate, "");
  if (info_.databases > 0) databases_ = info_.databases;
  heartbeat_.SendNow();
}

void Node::OnLost(const std::string& reason) {
  log::Warn("backend_lost", {{"why", reason}});
  examined_ = false;
  if (replica_.is_member()) return Resign("its database was lost: " + reason);
  AbandonJoining(reason);
  local_reader_.FailAll(reason);
  Enter(Phase::kStarting, reason);
}

void Node::OnAttached(Position position) {
  attaching_ = false;
  if (!replica_.is_head() || replica_.resigned()) return;
  if (replica_.replid().empty()) {
    replica_.SetHistory(NewReplid(reactor_), position);
    backend_->NameHistory(replica_.replid());
  } else if (position != replica_.received() && !CATENA_MUTANT("promoted-unapplied")) {
    return Resign("the capture begins at " + std::to_string(position.value()) +
                  ", the log ends at " + std::to_string(replica_.received().value()));
  }
  parser_->Reset(position);
  replica_.OnHeadAttached(position);
  head_executor_.OnAttached(position);
  fed_ = Position();
  log::Info("attached", {{"position", position.value()}, {"replid", replica_.replid()}});
  heartbeat_.SendNow();
}

void Node::OnCaptureLost(const std::string& reason) {
  attaching_ = false;
  Resign("the capture of the database's effects was lost: " + reason);
}

bool Node::TakeStream(std::string_view bytes) {
  replica_.AppendBytes(bytes);
  const bool sealed = backend_->SealsEntries() && !replica_.head_ready();
  Result<void> whole;
  auto taken = parser_->Feed(bytes, [this, sealed, &whole](const command::EffectEntry& entry) {
    if (sealed && whole) {
      whole = backend_->CheckEntry(replica_.log().Staged(entry.end, entry_scratch_),
                                   replica_.received());
    }
    if (!whole) return;
    replica_.AppendEntry({entry.end, entry.touches_every_key, entry.key_hashes});
    if (entry.asks_for_ack && replica_.is_head()) backend_->AckWanted();
    for (auto& [id, inspection] : inspections_) inspection->OnEntry(entry);
  });
  if (taken && whole) return true;
  if (broken_.empty()) broken_ = taken ? whole.error().message : taken.error().message;
  return false;
}

void Node::OnEffects(std::string_view bytes) {
  if (!replica_.head_ready() || !broken_.empty()) return;
  if (TakeStream(bytes)) replica_.OnReceived();
}

void Node::OnApplied(Position position) {
  replica_.OnApplied(position);
  head_executor_.OnApplied(position);
  if (applying_ && position >= applying_->upto) {
    meter_.Applied(applying_->since);
    applying_.reset();
  }
  if (!(predecessor_paused_ || joining_.log_paused) ||
      replica_.unapplied_bytes() > options_.log_bytes_max / 2)
    return;
  for (chain::LinkId id : {predecessor_link_, joining_.link}) {
    if (auto link = links_.find(id); link != links_.end()) link->second->ResumeReading();
  }
  predecessor_paused_ = joining_.log_paused = false;
}

void Node::OnFeedGap(const std::string& reason) {
  following_ = false;
  info_.resume.reset();
  if (replica_.is_member()) return Resign("its database cannot follow: " + reason);
  AbandonJoining(reason);
}

std::optional<std::string_view> Node::CommittedBytes(Position from, size_t max) {
  auto slice = replica_.log().Read(from, replica_.committed(), max);
  if (!slice) return std::nullopt;
  return slice->bytes;
}

}  // namespace catena::server
