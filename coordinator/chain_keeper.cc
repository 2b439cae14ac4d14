#include "coordinator/chain_keeper.h"

#include <algorithm>
#include <utility>

#include "proxy/base/log.h"
#include "proxy/base/mutant.h"

namespace catena::coordinator {
namespace {

// For so long etcd gets what was decided: its usual failures are shorter, and delay no replacement.
constexpr Duration kDecidedAnewAfter = std::chrono::seconds(5);

std::vector<NodeId> NodesOf(const ChainFacts& facts) {
  std::vector<NodeId> nodes;
  for (const ChainFacts::Node& node : facts.nodes) nodes.push_back(node.id);
  return nodes;
}

std::string Describe(const chain::Configuration& configuration) {
  std::string text;
  for (const chain::Member& member : configuration.members) {
    text +=
        (text.empty() ? "" : ",") + member.id + "/" + std::to_string(member.incarnation.value());
  }
  return text;
}

bool SameOrder(const std::optional<JoinOrder>& a, const std::optional<JoinOrder>& b) {
  if (!a || !b) return a.has_value() == b.has_value();
  return a->node == b->node && a->incarnation == b->incarnation && a->peers == b->peers;
}

}  // namespace

ChainKeeper::ChainKeeper(io::Reactor& reactor, etcd::Client& etcd, Leadership& leadership,
                         Options options, const Found& found)
    : reactor_(reactor), etcd_(etcd), leadership_(leadership), options_(std::move(options)) {
  if (found.record) {
    mod_revision_ = found.record->mod_revision;
    if (auto record = DecodeRecord(found.record->value)) {
      record_ = std::move(*record);
    } else {
      unreadable_ = "the record in etcd cannot be read: " + record.error().message;
      log::Error("record_unreadable", {{"chain", options_.facts.chain}, {"why", unreadable_}});
    }
  }
  if (found.events) {
    if (auto events = DecodeEvents(found.events->value)) {
      events_ = std::move(*events);
    } else {
      // Nothing depends on it: it begins anew.
      log::Warn("history_unreadable",
                {{"chain", options_.facts.chain}, {"why", events.error().message}});
    }
  }
  Registry::Options registry{options_.lease, NodesOf(options_.facts)};
  registry_ = std::make_unique<Registry>(std::move(registry), record_, reactor_.Now());
  look_again_ = reactor_.MakeTimer([this] { Consider(); });
  send_again_ = reactor_.MakeTimer([this] { SendAgain(); });
  choice_timer_ =
      reactor_.MakeTimer([this] { EndChoice(Fail(WhyTooLong(choice_->written, waiting_for_))); });
  wish_timer_ = reactor_.MakeTimer([this] {
    EndWish(Fail(WhyTooLong(wish_->written, "the chain's record changes all the time")));
  });
  Consider();
}

ChainKeeper::~ChainKeeper() {
  const std::string why = "this coordinator leads no longer";
  if (choice_) choice_->done(Fail(WhyNotDone(choice_->written, why)));
  if (wish_) wish_->done(Fail(WhyNotDone(wish_->written, why)));
}

void ChainKeeper::OnHeartbeat(Subscriber& subscriber, const NodeReport& report, TimePoint now) {
  const Registry::LifeName name(report.node, report.incarnation);
  auto [entry, added] = subscribers_.emplace(name, &subscriber);
  if (entry->second != &subscriber) {
    entry->second->Drop("a newer connection of the same node");
    entry->second = &subscriber;
  }
  if (registry_->WasDeaf(report, options_.silence, now)) registry_->ForgetWhoWasHeard(now);
  const Registry::Verdict verdict =
      registry_->OnHeartbeat(report, subscriber.number(), leadership_.Trusted(now), now);
  Consider();
  HeartbeatAnswer answer = News(report.node, report.incarnation);
  answer.number = report.number;
  answer.lease = verdict.lease;
  if (verdict.incarnation_void) {
    answer.incarnation_void = true;
    answer.incarnation_above = std::max(answer.incarnation_above, verdict.incarnation_above);
  }
  if (verdict.unknown_node) answer.notice = "not in the coordinator's TOML";
  subscriber.SendAnswer(answer);
}

void ChainKeeper::OnGone(Subscriber& subscriber, const NodeId& node, Incarnation incarnation) {
  const auto entry = subscribers_.find({node, incarnation});
  if (entry == subscribers_.end() || entry->second != &subscriber) return;
  subscribers_.erase(entry);
  registry_->OnDisconnected(node, incarnation, subscriber.number(), reactor_.Now());
  Consider();
}

void ChainKeeper::OnTrustedAgain() {
  registry_->ForgetWhoWasHeard(reactor_.Now());
  Consider();
}

void ChainKeeper::Reconfigure(Options options) {
  options_ = std::move(options);
  registry_->Change({options_.lease, NodesOf(options_.facts)}, reactor_.Now());
  Consider();
}

void ChainKeeper::Choose(const NodeId& node, ChoiceDone done) {
  if (!unreadable_.empty()) return done(Fail(unreadable_));
  const auto& nodes = options_.facts.nodes;
  if (std::none_of(nodes.begin(), nodes.end(), [&](const auto& n) { return n.id == node; })) {
    return done(Fail("chain '" + options_.facts.chain + "' has no node '" + node + "'"));
  }
  if (choice_) EndChoice(Fail(WhyNotDone(choice_->written, "another choice was made")));
  log::Warn("operator_choice", {{"chain", options_.facts.chain}, {"node", node}});
  choice_ = Choice{node, std::move(done)};
  choice_timer_->Start(options_.choice_timeout);
  UpdateWithheld();
  Consider();
}

void ChainKeeper::EndChoice(Result<bool> result) {
  if (!choice_) return;
  const Choice ended = std::move(*choice_);
  choice_.reset();
  choice_timer_->Stop();
  UpdateWithheld();
  ended.done(std::move(result));
}

// A record that is being written is written on, and may be in force already; but one that was decided
// before the operator asked does not have it, and none will.
std::string ChainKeeper::WhyNotDone(bool written, const std::string& why) const {
  if (!writing_ || !written) return "not done: " + why;
  return std::string(kNotKnownYet) + why + "; catenactl status tells when it is done";
}

std::string ChainKeeper::WhyTooLong(bool written, const std::string& why) const {
  if (!write_problem_.empty()) {
    return WhyNotDone(written, "etcd does not take it (" + write_problem_ + ")");
  }
  return WhyNotDone(written, writing_ ? "etcd does not answer" : why);
}

void ChainKeeper::Wish(const DrainRequest& request, ChoiceDone done) {
  if (!unreadable_.empty()) return done(Fail(unreadable_));
  if (wish_) return done(Fail("another drain is being recorded; try again"));
  log::Warn("operator_drain", {{"chain", options_.facts.chain},
                               {"node", request.drain.node},
                               {"end", request.end},
                               {"returns", request.drain.returns},
                               {"after", request.drain.after},
                               {"force", request.force}});
  wish_ = PendingWish{request, std::move(done)};
  wish_timer_->Start(options_.choice_timeout);
  Consider();
}

void ChainKeeper::EndWish(Result<bool> result) {
  if (!wish_) return;
  const PendingWish ended = std::move(*wish_);
  wish_.reset();
  wish_timer_->Stop();
  ended.done(std::move(result));
}

PolicyInput ChainKeeper::MakeInput(TimePoint now) const {
  PolicyInput input;
  input.facts = options_.facts;
  input.record = record_;
  input.lives = registry_->Lives();
  input.newest = registry_->newest();
  input.now = now;
  input.leader_since = registry_->leader_since();
  input.removals_from = registry_->removals_from();
  input.lease = options_.lease;
  input.silence = options_.silence;
  input.settling = options_.settling;
  input.link_grace = options_.link_grace;
  input.introduction = options_.introduction;
  input.join = join_;
  input.join_since = join_since_;
  if (choice_) input.choice = choice_->node;
  if (wish_) input.wish = wish_->request;
  return input;
}

void ChainKeeper::Consider() {
  if (!unreadable_.empty()) return;
  if (writing_) return ReviewOrders();
  // Deposed in this turn, by another chain. What is compared with no revision would be true while
  // nobody leads.
  if (leadership_.owner_revision() == 0) return;
  const TimePoint now = reactor_.Now();
  const Decision decision = Decide(MakeInput(now));
  TakeOver(decision);
  if (decision.look_again) {
    look_again_->Start(*decision.look_again - now);
  } else {
    look_again_->Stop();
  }
  if (!decision.next) write_problem_.clear();
  if (decision.next) Write(*decision.next, decision.event);
}

void ChainKeeper::TakeOver(const Decision& decision) {
  notices_ = decision.notices;
  if (decision.resign && !resign_) {
    log::Warn("asked_to_resign", {{"chain", options_.facts.chain},
                                  {"node", decision.resign->node},
                                  {"why", decision.resign->reason}});
  }
  resign_ = decision.resign;
  needs_operator_ = decision.needs_operator;
  if (waiting_for_ != decision.waiting_for) {
    waiting_for_ = decision.waiting_for;
    if (!waiting_for_.empty()) {
      log::Warn("chain_waits", {{"chain", options_.facts.chain}, {"for", waiting_for_}});
    }
  }
  for (const Registry::LifeName& life : decision.voids) registry_->MarkVoid(life);
  if (!SameOrder(join_, decision.join)) {
    join_ = decision.join;
    join_since_ = reactor_.Now();
    log::Info("join_order", {{"chain", options_.facts.chain}, {"node", join_ ? join_->node : ""}});
    TellAll();
  }
  FollowDrain(decision.drain);
  if (decision.choice_done) EndChoice(true);
  if (decision.wish_done) EndWish(true);
  if (!decision.wish_refused.empty()) EndWish(Fail(decision.wish_refused));
}

// Nothing new is decided before the record is known; but that a member can be spared may have ceased
// to be true.
void ChainKeeper::ReviewOrders() {
  if (!drain_ && !resign_) return;
  const Decision decision = Decide(MakeInput(reactor_.Now()));
  const auto stands = [](const auto& order, const auto& now) {
    return order && now && order->node == now->node && order->incarnation == now->incarnation;
  };
  if (!stands(resign_, decision.resign)) resign_.reset();
  if (!stands(drain_, decision.drain)) FollowDrain(std::nullopt);
}

void ChainKeeper::FollowDrain(const std::optional<Decision::Request>& drain) {
  const bool same =
      drain && drain_ && drain->node == drain_->node && drain->incarnation == drain_->incarnation;
  if (same || (!drain && !drain_)) return;
  drain_ = drain;
  log::Warn("drain_order", {{"chain", options_.facts.chain},
                            {"node", drain_ ? drain_->node : ""},
                            {"why", drain_ ? drain_->reason : "withdrawn, or done"}});
  TellAll();
}

void ChainKeeper::Write(const ChainRecord& next, const std::string& event) {
  writing_ = Writing{next, events_, !event.empty(), reactor_.Now()};
  writing_->chosen = choice_.has_value();
  if (choice_) choice_->written = true;
  if (wish_) wish_->written = true;
  if (!event.empty()) {
    Event change{reactor_.WallMilliseconds(), next.configuration.epoch, {}, event};
    for (const chain::Member& member : next.configuration.members) {
      change.members.push_back(member.id);
    }
    writing_->events.Add(std::move(change));
  }
  UpdateWithheld();
  Send();
}

void ChainKeeper::Send() {
  send_again_->Stop();
  etcd::Txn txn;
  txn.compares = {{leadership_.leader_key(), etcd::Compare::Target::kCreateRevision,
                   leadership_.owner_revision()},
                  {options_.key, etcd::Compare::Target::kModRevision, mod_revision_}};
  if (CATENA_MUTANT("two-leaders-write")) txn.compares.clear();
  const bool withdraws = writing_->withdrawn;
  txn.puts = {{options_.key, EncodeRecord(withdraws ? *record_ : writing_->record), 0}};
  if (writing_->tells_event && !withdraws) {
    txn.puts.push_back({options_.events_key, EncodeEvents(writing_->events), 0});
  }
  txn.reads = {leadership_.leader_key(), options_.key};
  etcd_.Commit(
      etcd::Class::kData, std::move(txn),
      [this, alive = std::weak_ptr<int>(alive_)](const etcd::Answer<etcd::TxnAnswer>& answer) {
        if (!alive.expired()) OnWritten(answer);
      });
}

// While etcd does not answer for long, those who were to go may have come back, and those who were
// to stay may have failed (S13). To put the record in force once more is safe as well: once that
// happened, what was sent before can no longer (S16).
void ChainKeeper::SendAgain() {
  if (!writing_) return Consider();
  writing_->withdrawn = writing_->withdrawn || IsOutdated(*writing_);
  Send();
}

bool ChainKeeper::IsOutdated(const Writing& writing) const {
  const chain::Configuration& next = writing.record.configuration;
  if (writing.chosen || !record_ || next == record_->configuration) return false;
  const TimePoint now = reactor_.Now();
  if (now - writing.decided < kDecidedAnewAfter) return false;
  const Decision decision = Decide(MakeInput(now));
  return !decision.next || decision.next->configuration != next;
}

void ChainKeeper::OnWritten(const etcd::Answer<etcd::TxnAnswer>& answer) {
  write_problem_ = answer ? "" : answer.error().message;
  if (answer) {
    if (!answer->succeeded) return OnRefused(*answer);
    if (writing_->withdrawn) return OnWithdrawn(answer->revision);
    const ChainRecord written = writing_->record;
    return Adopt(written, answer->revision);
  }
  log::Warn("write_failed", {{"chain", options_.facts.chain},
                             {"epoch", writing_->record.configuration.epoch.value()},
                             {"unknown", answer.error().unknown},
                             {"why", answer.error().message}});
  // Unknown: only another that compares the same tells. It either happens now (then the earlier one
  // can no longer), or it is refused and shows what happened. Until then the removed get no lease
  // (S16), also if it cannot even be sent meanwhile.
  writing_->may_happen = writing_->may_happen || answer.error().unknown;
  if (!writing_->may_happen) {
    writing_.reset();
    UpdateWithheld();
  }
  send_again_->Start(options_.retry);
}

void ChainKeeper::OnRefused(const etcd::TxnAnswer& answer) {
  const auto& leader = answer.reads[0];
  if (!leader || leader->create_revision != leadership_.owner_revision()) {
    return leadership_.Over("a transaction found the leader's key taken");
  }
  const auto& found = answer.reads[1];
  if (!found) return leadership_.Over("the record of a chain has vanished from etcd");
  // An earlier sending of our own that did happen; or another's, as when etcd was restored from a
  // backup that has this leader's key as well. The next leadership begins with what is there.
  const ChainRecord written = writing_->record;
  if (writing_->withdrawn && found->value == EncodeRecord(*record_)) {
    return OnWithdrawn(found->mod_revision);
  }
  if (found->value != EncodeRecord(written)) {
    return leadership_.Over("a chain's record in etcd was changed by somebody else");
  }
  Adopt(written, found->mod_revision);
}

void ChainKeeper::Adopt(const ChainRecord& record, int64_t revision) {
  const bool changed = !record_ || record_->configuration != record.configuration;
  std::optional<chain::Configuration> before;
  if (record_) before = record_->configuration;
  events_ = std::move(writing_->events);
  writing_.reset();
  record_ = record;
  mod_revision_ = revision;
  registry_->SetRecord(record, reactor_.Now());
  const auto& members = record.configuration.members;
  if (changed && choice_ && members.size() == 1 && members[0].id == choice_->node) EndChoice(true);
  UpdateWithheld();
  if (changed) {
    log::Warn("configuration", {{"chain", options_.facts.chain},
                                {"epoch", record.configuration.epoch.value()},
                                {"members", Describe(record.configuration)},
                                {"why", record.reason}});
    leadership_.OnConfiguration(before, record.configuration);
    TellAll();
  }
  Consider();
}

void ChainKeeper::OnWithdrawn(int64_t revision) {
  log::Warn("write_withdrawn", {{"chain", options_.facts.chain},
                                {"epoch", writing_->record.configuration.epoch.value()},
                                {"was", writing_->record.reason}});
  writing_.reset();
  mod_revision_ = revision;
  UpdateWithheld();
  Consider();
}

void ChainKeeper::UpdateWithheld() {
  std::vector<Registry::LifeName> withheld;
  if (writing_ && !CATENA_MUTANT("lease-during-removal"))
    withheld = registry_->RemovedBy(writing_->record.configuration);
  if (choice_ && record_) {
    for (const chain::Member& member : record_->configuration.members) {
      if (member.id != choice_->node) withheld.emplace_back(member.id, member.incarnation);
    }
  }
  std::optional<Duration> lease_max;
  if (writing_ && writing_->record.lease > Duration(0)) lease_max = writing_->record.lease;
  registry_->Withhold(std::move(withheld), lease_max);
}

// What a node is to know beside its lease.
HeartbeatAnswer ChainKeeper::News(const NodeId& node, Incarnation incarnation) const {
  HeartbeatAnswer news;
  if (record_) {
    news.configuration = record_->configuration;
    news.reason = record_->reason;
    const chain::Member& tail = record_->configuration.members.back();
    if (tail.id == node && tail.incarnation == incarnation) news.join = join_;
  }
  if (resign_ && resign_->node == node && resign_->incarnation == incarnation) {
    news.resign = resign_->reason;
  }
  if (drain_ && drain_->node == node && drain_->incarnation == incarnation) {
    news.drain = drain_->reason;
  }
  const Life* life = registry_->Find(node, incarnation);
  if (life != nullptr && life->is_void) {
    news.incarnation_void = true;
    const Life* latest = registry_->Latest(node);
    news.incarnation_above = latest->incarnation;
  }
  news.notice = unreadable_.empty() ? NoticeOf(node) : unreadable_;
  return news;
}

std::string ChainKeeper::NoticeOf(const NodeId& node) const {
  for (const Decision::Notice& notice : notices_) {
    if (notice.node == node) return notice.text;
  }
  return record_ ? "" : waiting_for_;
}

void ChainKeeper::TellAll() {
  for (const auto& [name, subscriber] : subscribers_) {
    subscriber->SendConfiguration(News(name.first, name.second));
  }
}

ChainStatus ChainKeeper::Status(TimePoint now) const {
  ChainStatus status;
  status.chain = options_.facts.chain;
  status.record = record_;
  status.join = join_;
  status.waiting_for = unreadable_.empty() ? waiting_for_ : unreadable_;
  // Etcd may answer all else, as one whose space is used up does.
  if (status.waiting_for.empty() && !write_problem_.empty()) {
    status.waiting_for = "etcd to take the chain's record: " + write_problem_;
  }
  status.needs_operator = needs_operator_;
  status.replicas = options_.facts.replicas;
  if (record_) {
    for (const chain::Member& member : record_->configuration.members) {
      if (const Life* life = registry_->Find(member.id, member.incarnation)) {
        status.nodes.push_back(StatusOf(*life, true, now));
      }
    }
  }
  for (const ChainFacts::Node& node : options_.facts.nodes) {
    const Life* life = registry_->Latest(node.id);
    if (life == nullptr) {
      Life unheard;
      unheard.node = node.id;
      unheard.heard = registry_->leader_since();
      status.nodes.push_back(StatusOf(unheard, false, now));
    } else if (!record_ || !record_->configuration.IndexOf(node.id, life->incarnation)) {
      status.nodes.push_back(StatusOf(*life, false, now));
    }
  }
  return status;
}

NodeStatus ChainKeeper::StatusOf(const Life& life, bool member, TimePoint now) const {
  NodeStatus status;
  if (life.report) {
    status.report = *life.report;
  } else {
    status.report.chain = options_.facts.chain;
    status.report.node = life.node;
    status.report.incarnation = life.incarnation;
  }
  status.member = member;
  status.heard_ago = now - life.heard;
  status.lease_out = std::max(Duration(0), life.lease_out - now);
  status.notice = life.report ? "" : "not heard of";
  if (life.report && !life.connected) status.notice = "its connection is broken";
  if (!member && life.report && life.connected) status.notice = NoticeOf(life.node);
  return status;
}

}  // namespace catena::coordinator
