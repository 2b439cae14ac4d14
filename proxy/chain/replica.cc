#include "proxy/chain/replica.h"

#include <algorithm>

#include "proxy/base/check.h"
#include "proxy/base/mutant.h"

namespace catena::chain {

const char* RoleName(Role role) {
  constexpr const char* kNames[] = {"outside", "sole", "head", "middle", "tail"};
  return kNames[static_cast<int>(role)];
}

Replica::Replica(ReplicaOptions options)
    : options_(std::move(options)), lease_(options_.drift_per_mille) {}

// --- life ----------------------------------------------------------------------------------------

void Replica::BeginLife(Incarnation incarnation) {
  CATENA_CHECK(incarnation > incarnation_, "a new life has a later incarnation");
  if (is_member()) LeaveEpoch();
  incarnation_ = incarnation;
  role_ = Role::kOutside;
  resigned_ = synced_ = attached_ = promoting_ = false;
  ack_owed_ = ack_up_owed_ = commit_owed_ = false;
  target_.reset();
  pin_.reset();
  replid_.clear();
  log_.Reset(Position());
  committed_ = applied_ = Position();
  lease_ = Lease(options_.drift_per_mille);
  query_ = Question{};
  verify_ = Question{};
  DropIntentions();
}

void Replica::SetHistory(std::string replid, Position position) {
  CATENA_CHECK(role_ == Role::kOutside || (role_ == Role::kSole && !attached_),
               "a member among others keeps its history");
  replid_ = std::move(replid);
  log_.Reset(position);
  committed_ = position;
  applied_ = Position();
}

// What a life wanted to do and has not done yet must not be done in the name of the next.
void Replica::DropIntentions() {
  output_.ask_target_bound = false;
  output_.promote_at.reset();
  output_.resign.reset();
}

Replica::Installed Replica::Install(const Configuration& configuration) {
  const bool newer =
      configuration.epoch > configuration_.epoch ||
      (configuration.epoch < configuration_.epoch && CATENA_MUTANT("old-epoch-accepted"));
  if (configuration.chain != options_.chain || !newer) {
    return Installed::kIgnored;
  }
  bool was_member = is_member();
  configuration_ = configuration;
  std::optional<size_t> index = configuration.IndexOf(options_.id, incarnation_);
  for (size_t i = 0; CATENA_MUTANT("acts-in-older-life") && i < configuration.members.size(); ++i) {
    if (configuration.members[i].id == options_.id) index = i;
  }
  if (!index) {
    if (!was_member) return Installed::kIgnored;
    LeaveEpoch();
    role_ = Role::kOutside;
    resigned_ = true;  // nothing is answered any more in this life
    lease_.Close();
    DropIntentions();
    return Installed::kRemoved;
  }
  if (was_member) LeaveEpoch();
  TakeRole(*index);
  return Installed::kMember;
}

void Replica::TakeRole(size_t index) {
  bool was_outside = role_ == Role::kOutside;
  bool was_tail = is_tail();
  size_t last = configuration_.members.size() - 1;
  index_ = index;
  role_ = last == 0       ? Role::kSole
          : index == 0    ? Role::kHead
          : index == last ? Role::kTail
                          : Role::kMiddle;
  if (was_outside) {
    // A chain's first or only member is complete by the coordinator's decision; a joiner must prove
    // it. One that is listed alone before it could (an operator chose it) lacks what others have of
    // that history, and they would resume: it resigns, and goes on in its next life under a replid
    // of its own (S11).
    synced_ = (role_ == Role::kSole && replid_.empty()) || CATENA_MUTANT("unsynced-tail-serves");
    if (role_ != Role::kSole && (replid_.empty() || role_ != Role::kTail)) {
      output_.resign =
          "listed in epoch " + std::to_string(epoch().value()) + " without the chain's data";
    }
  }
  if (is_head() && !synced_ && !output_.resign) {
    output_.resign = "head of epoch " + std::to_string(epoch().value()) + " before it was synced";
  }
  if (!synced_) target_.reset();
  if (!attached_) log_.DropStaged();
  // A joiner that was listed and is gone again needs nothing; one that this tail still feeds does.
  if (is_tail() && !was_tail) pin_.reset();
  CommitLocally();
  AskIfWanted(query_, false);
  AskIfWanted(verify_, true);
}

void Replica::LeaveEpoch() {
  if (!CATENA_MUTANT("links-outlive-epoch")) CloseLinks();
  queries_passing_.clear();
  verifies_passing_.clear();
  verify_requests_passing_.clear();
  // What was asked in this epoch is asked again in the next; an answer of this one no longer
  // arrives.
  if (!CATENA_MUTANT("question-not-repeated")) {
    query_.asked = query_.settled;
    verify_.asked = verify_.settled;
  }
  target_bound_.reset();
}

void Replica::Resign() {
  resigned_ = true;
  lease_.Close();
  CloseLinks();
  DropIntentions();
}

// --- links ---------------------------------------------------------------------------------------

const Member* Replica::Successor() const {
  if (!is_member() || is_tail() || resigned_) return nullptr;
  return &configuration_.members[index_ + 1];
}

void Replica::OnSuccessorConnected(LinkId link) {
  const Member* successor = Successor();
  if (successor == nullptr) {
    // It was dialled for a configuration that has passed meanwhile.
    output_.close.push_back(link);
    return;
  }
  successor_ = SuccessorLink{link, false, Position(), false};
  output_.messages.emplace_back(
      link, Hello{configuration_, options_.id, incarnation_, successor->id, successor->incarnation,
                  LinkPurpose::kChain, replid_});
}

const Member* Replica::AcknowledgingTail() const {
  bool wanted = role_ == Role::kHead && configuration_.members.size() > 2 && !resigned_;
  return wanted ? &configuration_.members.back() : nullptr;
}

void Replica::OnTailConnected(LinkId link) {
  const Member* tail = AcknowledgingTail();
  if (tail == nullptr) {
    output_.close.push_back(link);
    return;
  }
  ack_link_ = link;
  output_.messages.emplace_back(link, Hello{configuration_, options_.id, incarnation_, tail->id,
                                            tail->incarnation, LinkPurpose::kAcks, replid_});
}

void Replica::OnLinkClosed(LinkId link) {
  if (link == kNoLink) return;
  if (link == predecessor_link_) {
    predecessor_link_ = kNoLink;
    predecessor_started_ = false;
    log_.DropStaged();
  }
  if (link == successor_.link) successor_ = SuccessorLink{};
  if (link == ack_link_) {
    ack_link_ = kNoLink;
    ack_owed_ = true;  // what was on its way may be lost: by way of the predecessor
  }
}

void Replica::CloseLinks() {
  CloseLink(predecessor_link_);
  CloseLink(successor_.link);
  CloseLink(ack_link_);
}

void Replica::CloseLink(LinkId link) {
  if (link == kNoLink) return;
  output_.close.push_back(link);
  std::erase_if(output_.messages,
                [link](const auto& addressed) { return addressed.first == link; });
  OnLinkClosed(link);
}

void Replica::RefuseHello(LinkId link, std::string reason) {
  std::optional<Configuration> newest;
  if (epoch() > Epoch()) newest = configuration_;
  output_.messages.emplace_back(link, Refuse{std::move(reason), std::move(newest)});
}

std::optional<std::string> Replica::WhyRefused(const Hello& hello) const {
  if (hello.to != options_.id || hello.to_incarnation != incarnation_) {
    return "this is " + options_.id + " in incarnation " + std::to_string(incarnation_.value());
  }
  if (resigned_) return "resigned";
  if (hello.configuration.epoch != epoch()) {
    return "epoch is " + std::to_string(epoch().value()) + " here";
  }
  if (!is_member() || index_ == 0) return "has no predecessor in this epoch";
  bool acks = hello.purpose == LinkPurpose::kAcks;
  if (acks && !is_tail()) return "is not the tail in this epoch";
  const Member& expected = configuration_.members[acks ? 0 : index_ - 1];
  if (hello.from != expected.id || hello.from_incarnation != expected.incarnation) {
    return (acks ? "head in this epoch is " : "predecessor in this epoch is ") + expected.id;
  }
  return std::nullopt;
}

bool Replica::OnHello(LinkId link, const Hello& hello) {
  if (std::optional<std::string> why = WhyRefused(hello)) {
    RefuseHello(link, std::move(*why));
    return false;
  }
  if (hello.purpose == LinkPurpose::kAcks) {
    CloseLink(ack_link_);
    ack_link_ = link;
    ack_owed_ = true;
    return true;
  }
  CloseLink(predecessor_link_);
  predecessor_link_ = link;
  predecessor_started_ = false;
  output_.messages.emplace_back(link, Welcome{log_.end(), replid_});
  return true;
}

void Replica::Step(LinkId link, const Message& message, TimePoint now) {
  if (link == kNoLink || resigned_) return;
  if (!AskedByMember(message)) return CloseLink(link);
  if (link == successor_.link) {
    StepFromSuccessor(message);
  } else if (link == predecessor_link_) {
    StepFromPredecessor(message);
  } else if (link == ack_link_) {
    StepFromTail(message);
  } else {
    return;
  }
  AnswerAsks(now);
}

// Only members ask: what is kept of questions is bounded by their number.
bool Replica::AskedByMember(const Message& message) const {
  const NodeId* asker = nullptr;
  if (const auto* ask = std::get_if<Ask>(&message)) asker = &ask->asker;
  if (const auto* answer = std::get_if<Answer>(&message)) asker = &answer->asker;
  if (const auto* request = std::get_if<VerifyRequest>(&message)) asker = &request->asker;
  const auto& members = configuration_.members;
  return asker == nullptr || std::any_of(members.begin(), members.end(),
                                         [&](const Member& m) { return m.id == *asker; });
}

void Replica::StepFromSuccessor(const Message& message) {
  if (const auto* welcome = std::get_if<Welcome>(&message)) return OnWelcome(*welcome);
  if (!successor_.started) return CloseLink(successor_.link);
  if (const auto* ack = std::get_if<Ack>(&message)) {
    // A successor cannot have more than was sent to it; such an ack belongs to another history.
    if (ack->committed > successor_.sent) return CloseLink(successor_.link);
    AdvanceCommitted(ack->committed, From::kBelow);
  } else if (const auto* answer = std::get_if<Answer>(&message)) {
    Settle(*answer);
  } else if (const auto* request = std::get_if<VerifyRequest>(&message)) {
    PassVerifyRequest(*request);
  } else {
    CloseLink(successor_.link);
  }
}

// At the head; at the tail, what the head says on this link only keeps it alive.
void Replica::StepFromTail(const Message& message) {
  const auto* ack = std::get_if<Ack>(&message);
  if (ack == nullptr || ack->committed > log_.end()) return CloseLink(ack_link_);
  if (is_head()) AdvanceCommitted(ack->committed, From::kAbove);
}

void Replica::StepFromPredecessor(const Message& message) {
  if (const auto* start = std::get_if<Start>(&message)) {
    if (start->from != log_.end() || predecessor_started_) return CloseLink(predecessor_link_);
    predecessor_started_ = true;
    ack_owed_ = ack_up_owed_ = true;
    for (const auto& [asker, passing] : verify_requests_passing_) {
      output_.messages.emplace_back(predecessor_link_, VerifyRequest{asker, passing.number});
    }
  } else if (const auto* target = std::get_if<Target>(&message)) {
    if (!synced_) target_ = target->position;
    LearnSynced();
    TellTarget();
  } else if (const auto* ask = std::get_if<Ask>(&message)) {
    PassAsk(*ask);
  } else if (const auto* cannot = std::get_if<CannotCatchUp>(&message)) {
    output_.resign = "predecessor cannot bring it up to date: " + cannot->reason;
  } else {
    CloseLink(predecessor_link_);
  }
}

void Replica::OnWelcome(const Welcome& welcome) {
  if (successor_.started) return CloseLink(successor_.link);
  std::string why;
  if (welcome.replid != replid_) {
    why = "history " + welcome.replid + " is not the chain's " + replid_;
  } else if (welcome.received < log_.start()) {
    why = "it has " + std::to_string(welcome.received.value()) + ", the log begins at " +
          std::to_string(log_.start().value());
  } else if (welcome.received > log_.end()) {
    why = "it has " + std::to_string(welcome.received.value()) + ", its predecessor only " +
          std::to_string(log_.end().value());
  }
  if (!why.empty()) {
    output_.messages.emplace_back(successor_.link, CannotCatchUp{why});
    return;
  }
  successor_.started = true;
  const bool forgets = CATENA_MUTANT("no-resend") || CATENA_MUTANT("resend-with-gap");
  successor_.sent = forgets ? log_.end() : welcome.received;
  commit_owed_ = true;
  pin_.reset();
  output_.messages.emplace_back(successor_.link, Start{welcome.received});
  PassAllDown();
  TellTarget();
}

void Replica::TellTarget() {
  if (!successor_.started || successor_.target_told) return;
  Position target = log_.end();
  if (is_head() && attached_ && !CATENA_MUTANT("answers-uncaptured")) {
    // S9: writes that this database executed and answered may not be captured yet.
    if (!target_bound_) {
      output_.ask_target_bound = true;
      return;
    }
    target = std::max(target, *target_bound_);
  } else if (!synced_) {
    // S2: an unsynced predecessor's log is not the whole.
    if (!target_) return;
    target = std::max(target, *target_);
  }
  successor_.target_told = true;
  SendDown(Target{target});
}

void Replica::OnTargetBound(Position bound) {
  target_bound_ = bound;
  TellTarget();
}

void Replica::SendUp(Message message) {
  if (predecessor_link_ != kNoLink && predecessor_started_) {
    output_.messages.emplace_back(predecessor_link_, std::move(message));
  }
}

void Replica::SendDown(Message message) {
  if (successor_.started) output_.messages.emplace_back(successor_.link, std::move(message));
}

// --- data ----------------------------------------------------------------------------------------

bool Replica::AcceptsAppend(LinkId link, Position from) {
  if (link == kNoLink || link != predecessor_link_) return false;
  const bool follows = from == log_.staged_end() || CATENA_MUTANT("resend-with-gap");
  if (predecessor_started_ && follows && !resigned_) return true;
  CloseLink(link);
  return false;
}

void Replica::OnReceived(Position committed) {
  CommitLocally();
  AdvanceCommitted(std::min(committed, log_.end()), From::kAbove);
  LearnSynced();
}

void Replica::CommitLocally() {
  // The tail's receipt commits. A joiner outside the configuration is fed by the tail: all of it is
  // committed.
  const bool alone = is_head() && !attached_ && CATENA_MUTANT("new-head-commits-alone");
  if (is_tail() || role_ == Role::kOutside || alone) AdvanceCommitted(log_.end(), From::kSelf);
}

void Replica::AdvanceCommitted(Position position, From from) {
  if (resigned_) return;
  CATENA_CHECK(position <= log_.end(), "I2: committed <= received");
  if (position > committed_) {
    committed_ = position;
    (from == From::kAbove ? commit_owed_ : ack_owed_) = true;
    TrimLog();
  }
  MaybePromote();
}

void Replica::LearnSynced() {
  if (synced_ || !is_member() || !target_ || log_.end() < *target_) return;
  synced_ = true;
  PassAllDown();
}

void Replica::OnApplied(Position applied) {
  if (attached_ || applied <= applied_) return;
  if (applied > committed_) {
    output_.resign = "the database is at " + std::to_string(applied.value()) +
                     ", ahead of what is committed: " + std::to_string(committed_.value());
    return;
  }
  applied_ = applied;
  TrimLog();
  MaybePromote();
}

void Replica::MaybePromote() {
  // S5: first the whole log goes down the chain and into the database; only then a promotion.
  if (!is_head() || !serves() || attached_ || promoting_ || replid_.empty()) return;
  const bool in_database = applied_ == committed_ || CATENA_MUTANT("promoted-unapplied");
  if (committed_ != log_.end() || !in_database) return;
  log_.DropStaged();
  promoting_ = true;
  output_.promote_at = applied_;
}

void Replica::OnHeadAttached(Position position) {
  CATENA_CHECK(is_head(), "only a head's database executes");
  CATENA_CHECK(position == log_.end(), "the capture begins where the log ends");
  attached_ = true;
  promoting_ = false;
  CommitLocally();
  TellTarget();
}

std::optional<AppendSlice> Replica::NextAppend(size_t max) {
  if (!successor_.started || resigned_) return std::nullopt;
  auto slice = log_.Read(successor_.sent, log_.end(), max);
  CATENA_CHECK(slice.has_value(), "what the successor lacks is in the log");
  // The tail knows what it has received.
  bool tells_commit =
      std::exchange(commit_owed_, false) && index_ + 2 < configuration_.members.size();
  if (slice->bytes.empty() && !tells_commit) return std::nullopt;
  AppendSlice append{successor_.sent, committed_, std::move(*slice)};
  successor_.sent = successor_.sent + append.slice.bytes.size();
  return append;
}

void Replica::TrimLog() {
  log_.Forget(settled());
  uint64_t floor =
      settled().value() > options_.backlog_bytes ? settled().value() - options_.backlog_bytes : 0;
  if (pin_) floor = std::min(floor, pin_->value());
  // An unsynced successor may lack what was committed before it was listed.
  if (successor_.started) floor = std::min(floor, successor_.sent.value());
  log_.Trim(Position(floor));
}

void Replica::KeepAlive() {
  if (resigned_) return;
  ack_owed_ = ack_up_owed_ = true;
  SendDown(Append{successor_.sent, committed_, {}});
  if (is_head() && ack_link_ != kNoLink) output_.messages.emplace_back(ack_link_, Ack{committed_});
}

// --- authority -----------------------------------------------------------------------------------

bool Replica::HasAuthority(TimePoint now) const {
  if (!serves()) return false;
  if (CATENA_MUTANT("lease-unchecked")) return true;
  return role_ == Role::kSole || lease_.ValidAt(now);
}

uint64_t Replica::RequestQuery() {
  // A question that is in flight may have been answered before this reader came: it shares the next
  // one.
  const uint64_t next = CATENA_MUTANT("early-query") && query_.asked > query_.settled
                            ? query_.asked
                            : query_.asked + 1;
  query_.wanted = std::max(query_.wanted, next);
  AskIfWanted(query_, false);
  return query_.wanted;
}

uint64_t Replica::RequestVerify() {
  verify_.wanted = std::max(verify_.wanted, verify_.asked + 1);
  AskIfWanted(verify_, true);
  return verify_.wanted;
}

void Replica::AskIfWanted(Question& question, bool verify) {
  bool in_flight = question.asked > question.settled;
  if (in_flight || question.wanted <= question.settled || !serves()) return;
  question.asked = question.wanted;
  if (verify) {
    ++stats_.verifies_sent;
    PassVerifyRequest(VerifyRequest{options_.id, question.asked});
  } else {
    ++stats_.queries_sent;
    PassAsk(Ask{false, options_.id, question.asked});
  }
}

void Replica::PassVerifyRequest(const VerifyRequest& request) {
  if (is_head() && CATENA_MUTANT("verify-at-head"))
    return Settle(Answer{true, request.asker, request.number, committed_});
  if (is_head()) return PassAsk(Ask{true, request.asker, request.number});
  verify_requests_passing_[request.asker] = Passing{request.number, std::nullopt};
  SendUp(request);
}

void Replica::PassAsk(const Ask& ask) {
  auto& passing = ask.verify ? verifies_passing_ : queries_passing_;
  passing[ask.asker] = Passing{ask.number, std::nullopt};
  // An unsynced member passes nothing on; it is asked again when it is synced (AnswerAsks at the
  // tail).
  if (synced_ && !is_tail()) SendDown(ask);
}

void Replica::PassAllDown() {
  if (!synced_ || is_tail()) return;
  for (const auto& [asker, passing] : queries_passing_) SendDown(Ask{false, asker, passing.number});
  for (const auto& [asker, passing] : verifies_passing_) SendDown(Ask{true, asker, passing.number});
}

void Replica::AnswerAsks(TimePoint now) {
  if (!is_tail() || !serves()) return;
  for (auto it = verifies_passing_.begin(); it != verifies_passing_.end();) {
    Answer answer{true, it->first, it->second.number, committed_};
    it = verifies_passing_.erase(it);
    Settle(answer);
  }
  for (auto it = queries_passing_.begin(); it != queries_passing_.end();) {
    Passing& passing = it->second;
    // S7: a removed tail must not answer "not committed".
    bool authority =
        HasAuthority(now) || (passing.verify_ticket && verify_.settled >= *passing.verify_ticket);
    if (!authority) {
      if (!passing.verify_ticket) passing.verify_ticket = RequestVerify();
      ++it;
      continue;
    }
    ++stats_.queries_answered;
    Answer answer{false, it->first, passing.number, committed_};
    it = queries_passing_.erase(it);
    Settle(answer);
  }
}

void Replica::Settle(const Answer& answer) {
  auto& passing = answer.verify ? verifies_passing_ : queries_passing_;
  if (auto found = passing.find(answer.asker);
      found != passing.end() && found->second.number <= answer.number) {
    passing.erase(found);
  }
  if (answer.verify) {
    auto found = verify_requests_passing_.find(answer.asker);
    if (found != verify_requests_passing_.end() && found->second.number <= answer.number) {
      verify_requests_passing_.erase(found);
    }
  }
  AdvanceCommitted(std::min(answer.committed, log_.end()), From::kBelow);
  if (answer.asker != options_.id) return SendUp(answer);
  Question& question = answer.verify ? verify_ : query_;
  // What was not asked cannot be settled: it would answer those who ask later.
  if (answer.number > question.asked) return;
  question.settled = std::max(question.settled, answer.number);
  AskIfWanted(question, answer.verify);
}

// --- output --------------------------------------------------------------------------------------

void Replica::AckUp() {
  if (!ack_owed_ || resigned_ || predecessor_link_ == kNoLink || !predecessor_started_) return;
  ack_owed_ = false;
  if (is_tail() && ack_link_ != kNoLink) {
    output_.messages.emplace_back(ack_link_, Ack{committed_});
    // The head tells the others, with the next bytes of its log.
    if (!std::exchange(ack_up_owed_, false)) return;
  }
  output_.messages.emplace_back(predecessor_link_, Ack{committed_});
}

Output Replica::TakeOutput() {
  MaybePromote();
  AckUp();
  return std::exchange(output_, Output{});
}

}  // namespace catena::chain
