#include "tests/scenario/world.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <iostream>
#include <utility>
#include <variant>

#include "proxy/peer/codec.h"
#include "proxy/resp/decoder.h"

namespace catena::scenario {
namespace {

using chain::kNoLink;
using chain::LinkId;
using chain::Role;

constexpr char kChain[] = "story";
constexpr int kDialsPerSettle = 3;
constexpr size_t kEventsShown = 80;

std::string RoleText(Role role) {
  constexpr const char* kNames[] = {"outside", "sole", "head", "middle", "tail"};
  return kNames[static_cast<int>(role)];
}

// What the log is told of "x=1;". '*' touches every key, '#' none.
chain::Entry EntryOf(std::string_view text, Position end, uint64_t& hash) {
  hash = static_cast<unsigned char>(text[0]);
  chain::Entry entry{end, text[0] == '*', {}};
  if (text[0] != '*' && text[0] != '#') entry.key_hashes = std::span(&hash, 1);
  return entry;
}

// "CATENA.APPEND 4 x=1;" of a message's bytes, for the story that a failure prints.
std::string Short(std::string_view text, size_t max = 60) {
  return text.size() <= max ? std::string(text) : std::string(text.substr(0, max)) + "...";
}

std::string Readable(const std::string& bytes) {
  resp::CommandDecoder decoder;
  resp::Command command;
  size_t consumed = 0;
  std::string text;
  if (decoder.Decode(bytes, command, consumed) != resp::Progress::kComplete) return "?";
  for (std::string_view argument : command.arguments) {
    text += (text.empty() ? "" : " ") + Short(argument, 40);
  }
  return text;
}

bool Extends(std::string_view whole, std::string_view prefix) {
  return whole.substr(0, prefix.size()) == prefix;
}

}  // namespace

std::pair<Position, std::string> Database::Get(char key) const {
  std::pair<Position, std::string> found;
  for (size_t begin = 0; begin < history.size();) {
    size_t end = history.find(';', begin);
    if (history[begin] == key || history[begin] == '*') {
      found = {Position(end + 1), history.substr(begin + 2, end - begin - 2)};
    }
    begin = end + 1;
  }
  return found;
}

World::World(std::vector<NodeId> ids, Options options) : options_(options) {
  record_.configuration.chain = kChain;
  for (const NodeId& id : ids) {
    Machine& machine = machines_[id];
    machine.id = id;
    machine.database.run_id = "run of " + id;
    machine.up = false;
    Start(id);
  }
}

World::Machine& World::operator[](const NodeId& id) { return machines_.at(id); }

void World::Note(std::string event) { events_.push_back(std::move(event)); }

void World::Fail(const std::string& what) {
  std::string text = what + "\n";
  for (auto& [id, m] : machines_) {
    const chain::Replica& r = *m.replica;
    text += "  " + id + (m.up ? m.paused ? " paused" : "" : " down") + " epoch " +
            std::to_string(r.epoch().value()) + " " + RoleText(r.role()) +
            (r.synced() ? "" : " unsynced") + (r.resigned() ? " resigned" : "") + " log [" +
            std::to_string(r.log().start().value()) + ", " + std::to_string(r.received().value()) +
            "] committed " + std::to_string(r.committed().value()) + " applied " +
            std::to_string(r.applied().value()) + " database \"" + Short(m.database.history, 400) +
            "\"" + (m.resigned_because.empty() ? "" : " resigned: " + m.resigned_because) + "\n";
  }
  size_t first = events_.size() > kEventsShown ? events_.size() - kEventsShown : 0;
  for (size_t i = first; i < events_.size(); ++i)
    text += "  " + std::to_string(i) + " " + events_[i] + "\n";
  FAIL(text);
  std::abort();
}

// --- the coordinator as the test plays it --------------------------------------------------------

const chain::Configuration& World::Configure(const std::vector<NodeId>& ids) {
  chain::Configuration& configuration = record_.configuration;
  configuration.epoch = configuration.epoch.Next();
  configuration.members.clear();
  for (const NodeId& id : ids) {
    Machine& machine = machines_.at(id);
    configuration.members.push_back(
        {id, machine.replica->incarnation(), id, id, machine.database.run_id});
  }
  record_.reason.clear();
  NoteWritten();
  return configuration;
}

void World::NoteWritten() {
  const chain::Configuration& configuration = record_.configuration;
  std::string text;
  for (const chain::Member& member : configuration.members) {
    text += (text.empty() ? "" : ",") + member.id;
    // S3: removal is final for an incarnation.
    bool listed_before = false, removed = false;
    for (const auto& [epoch, earlier] : written_) {
      bool listed = earlier.IndexOf(member.id, member.incarnation).has_value();
      removed = removed || (listed_before && !listed);
      listed_before = listed_before || listed;
    }
    if (removed) Fail(member.id + " is listed again in an incarnation that was removed");
  }
  written_[configuration.epoch.value()] = configuration;
  Note("epoch " + std::to_string(configuration.epoch.value()) + " = [" + text + "]" +
       (record_.reason.empty() ? "" : ": " + record_.reason));
}

void World::Tell(const NodeId& id) {
  Machine& machine = machines_.at(id);
  if (!Runs(machine)) return;
  Note("tell " + id);
  InstallConfiguration(machine, record_.configuration);
  After(machine);
}

void World::TellAll() {
  for (auto& [id, machine] : machines_) Tell(id);
}

void World::Grant(const NodeId& id) { machines_.at(id).replica->GrantLease(now_, kLease); }

void World::GrantAll() {
  for (const chain::Member& member : newest().members) Grant(member.id);
}

void World::Form(const std::vector<NodeId>& ids) {
  Configure({ids[0]});
  Tell(ids[0]);
  Settle();
  for (size_t i = 1; i < ids.size(); ++i) Join(ids[i]);
  GrantAll();
}

void World::StartJoin(const NodeId& joiner) {
  Machine& tail = machines_.at(newest().members.back().id);
  BeginSource(tail, joiner, machines_.at(joiner).replica->incarnation());
  After(tail);
}

void World::Join(const NodeId& joiner) {
  Machine& tail = machines_.at(newest().members.back().id);
  StartJoin(joiner);
  Settle();
  if (!tail.source.Ready(tail.replica->log())) Fail(joiner + " was not brought up to date");
  std::vector<NodeId> ids;
  for (const chain::Member& member : newest().members) ids.push_back(member.id);
  ids.push_back(joiner);
  Configure(ids);
  TellAll();
  Settle();
  if (!replica(joiner).serves()) Fail(joiner + " did not become synced");
}

// --- the real coordinator ------------------------------------------------------------------------

void World::StartCoordinator() {
  coordinator::Registry::Options registry{kLease, {}};
  for (const auto& [id, machine] : machines_) registry.nodes.push_back(id);
  std::optional<coordinator::ChainRecord> found;
  if (record_.configuration.epoch > Epoch()) found = record_;
  join_.reset();
  resign_request_.reset();
  registry_ = std::make_unique<coordinator::Registry>(std::move(registry), found, now_);
}

coordinator::NodeReport World::Report(Machine& machine) {
  using coordinator::ReportPhase;
  const chain::Replica& replica = *machine.replica;
  coordinator::NodeReport report;
  report.chain = kChain;
  report.node = report.clients = report.peers = machine.id;
  report.incarnation = replica.incarnation();
  report.number = ++machine.reports;
  report.phase = !machine.resigned_because.empty() ? ReportPhase::kResigning
                 : replica.is_member()             ? ReportPhase::kMember
                 : machine.joining.link != kNoLink ? ReportPhase::kJoining
                                                   : ReportPhase::kCandidate;
  report.problem = machine.resigned_because;
  report.epoch = replica.epoch();
  report.synced = report.keeps_log = replica.serves();
  report.head_ready = replica.head_ready();
  report.received = replica.received();
  report.committed = replica.committed();
  report.applied = replica.head_ready() ? replica.received() : replica.applied();
  report.log_start = replica.log().start();
  report.replid = replica.replid();
  report.backend.kind = "fake";
  report.backend.healthy = true;
  report.backend.run_id = machine.database.run_id;
  report.backend.version = "1";
  report.backend.keys = machine.database.history.empty() ? 0 : 1;
  report.backend.from_chain = machine.database.from_chain;
  if (machine.source.Ready(replica.log()) && replica.is_tail()) {
    report.joiner_ready = {machine.source.joiner(), machine.source.incarnation(), replica.epoch()};
  }
  report.predecessor_linked = replica.is_head() || replica.predecessor_linked();
  report.successor_linked = replica.is_tail() || replica.successor_linked();
  return report;
}

coordinator::PolicyInput World::MakeInput() const {
  coordinator::PolicyInput input;
  input.facts.chain = kChain;
  input.facts.replicas = options_.replicas;
  input.facts.recovery = options_.recovery;
  for (const auto& [id, machine] : machines_) input.facts.nodes.push_back({id, false});
  if (record_.configuration.epoch > Epoch()) input.record = record_;
  input.lives = registry_->Lives();
  input.now = now_;
  input.newest = registry_->newest();
  input.leader_since = registry_->leader_since();
  input.removals_from = registry_->removals_from();
  input.lease = kLease;
  input.silence = kLease / 2;
  input.link_grace = 2 * kLease;
  input.introduction = 4 * kBeat;
  input.settling = 2 * kLease;
  input.join = join_;
  input.join_since = join_since_;
  input.choice = choice_;
  return input;
}

void World::Consider() {
  if (writing_) {
    if (held_.contains("etcd")) return;
    Adopt(*std::exchange(writing_, std::nullopt));
  }
  coordinator::Decision decision = Decide(MakeInput());
  waiting_for_ = decision.waiting_for;
  resign_request_ = decision.resign;
  for (const auto& life : decision.voids) registry_->MarkVoid(life);
  bool same = join_ && decision.join && join_->node == decision.join->node &&
              join_->incarnation == decision.join->incarnation;
  if (!same) join_since_ = now_;
  join_ = decision.join;
  if (decision.choice_done) choice_.reset();
  if (!decision.next) return;
  registry_->Withhold(registry_->RemovedBy(decision.next->configuration));
  writing_ = decision.next;
  if (!held_.contains("etcd")) Adopt(*std::exchange(writing_, std::nullopt));
}

void World::Adopt(const coordinator::ChainRecord& record) {
  bool changed = record.configuration.epoch > record_.configuration.epoch;
  record_ = record;
  if (changed) NoteWritten();
  if (choice_ && record_.configuration.members.size() == 1 &&
      record_.configuration.members[0].id == *choice_)
    choice_.reset();
  registry_->SetRecord(record_, now_);
  registry_->Withhold({});
}

void World::Beat(const NodeId& id, bool answer_lost) {
  Machine& machine = machines_.at(id);
  if (!Runs(machine) || machine.cut_off) return;
  Note("heartbeat " + id + (answer_lost ? ", answer lost" : ""));
  coordinator::NodeReport report = Report(machine);
  coordinator::Registry::Verdict verdict =
      registry_->OnHeartbeat(report, machine.replica->incarnation().value(), true, now_);
  Consider();
  if (!answer_lost) OnAnswer(machine, report, verdict);
  After(machine);
}

void World::BeatAll() {
  for (auto& [id, machine] : machines_) Beat(id);
}

void World::ReportNewIncarnation(const NodeId& id) {
  coordinator::NodeReport report;
  report.chain = kChain;
  report.node = report.clients = report.peers = id;
  report.incarnation = NewIncarnation();
  report.phase = coordinator::ReportPhase::kCandidate;
  report.backend.healthy = true;
  report.backend.run_id = machines_.at(id).database.run_id;
  Note("heartbeat of a new process of " + id);
  registry_->OnHeartbeat(report, report.incarnation.value(), true, now_);
  Consider();
}

void World::OnAnswer(Machine& machine, const coordinator::NodeReport& report,
                     const coordinator::Registry::Verdict& verdict) {
  if (record_.configuration.epoch > Epoch()) InstallConfiguration(machine, record_.configuration);
  // What the installation changed is another life's.
  if (machine.replica->incarnation() != report.incarnation) return;
  const coordinator::Life* life = registry_->Find(machine.id, report.incarnation);
  if (verdict.incarnation_void || (life != nullptr && life->is_void)) return BeginNewLife(machine);
  if (verdict.lease > Duration(0) && machine.resigned_because.empty())
    machine.replica->GrantLease(now_, verdict.lease);
  if (resign_request_ && resign_request_->node == machine.id &&
      resign_request_->incarnation == report.incarnation) {
    Resign(machine, resign_request_->reason);
  }
  if (report.phase == coordinator::ReportPhase::kResigning) return BeginNewLife(machine);
  const chain::Replica& replica = *machine.replica;
  bool source = join_ && replica.is_tail() && replica.serves() &&
                (!replica.is_head() || replica.head_ready()) &&
                newest().members.back().id == machine.id;
  if (!source) return AbandonSource(machine);
  bool same = machine.source.phase() != chain::JoinSource::Phase::kIdle &&
              machine.source.joiner() == join_->node &&
              machine.source.incarnation() == join_->incarnation;
  if (!same) BeginSource(machine, join_->node, join_->incarnation);
}

// --- faults --------------------------------------------------------------------------------------

void World::Crash(const NodeId& id) {
  Machine& machine = machines_.at(id);
  Note("crash " + id);
  FailOps(machine);
  for (auto& [link_id, link] : links_) {
    if (link.dialler == id && link.dialler_open) {
      link.dialler_open = false;
      link.down.push_back({true, ""});
    }
    if (link.acceptor == id && link.acceptor_open) {
      link.acceptor_open = false;
      link.up.push_back({true, ""});
    }
  }
  machine.up = machine.paused = false;
  if (registry_ && !machine.cut_off) {
    registry_->OnDisconnected(id, machine.replica->incarnation(),
                              machine.replica->incarnation().value(), now_);
  }
  // A Redis that was executing is its own master; one that followed keeps its place in the history.
  if (machine.replica->head_ready()) machine.database.replid.clear();
}

void World::Start(const NodeId& id) {
  Machine& old = machines_.at(id);
  if (old.up) return;
  Note("start " + id);
  Machine fresh;
  fresh.id = id;
  fresh.cut_off = old.cut_off;
  fresh.database = std::move(old.database);
  fresh.replica = std::make_unique<chain::Replica>(
      chain::ReplicaOptions{kChain, id, /*drift_per_mille=*/20, options_.backlog_bytes});
  fresh.replica->BeginLife(NewIncarnation());
  machines_.at(id) = std::move(fresh);
}

void World::Resign(const NodeId& id, const std::string& why) {
  Machine& machine = machines_.at(id);
  Resign(machine, why);
  After(machine);
}

void World::Resume(const NodeId& id) {
  Machine& machine = machines_.at(id);
  if (!machine.paused) return;
  machine.paused = false;
  After(machine);
}

void World::BreakLinks(const NodeId& a, const NodeId& b) {
  Note("links between " + a + " and " + b + " break");
  for (auto& [id, link] : links_) {
    if (Pair(link.dialler, link.acceptor) != Pair(a, b)) continue;
    link.down.assign(1, {true, ""});
    link.up.assign(1, {true, ""});
  }
}

void World::Cut(const NodeId& a, const NodeId& b) {
  BreakLinks(a, b);
  cut_.insert(Pair(a, b));
}

void World::HealAll() {
  Note("everything heals");
  cut_.clear();
  held_.clear();
  for (auto& [id, machine] : machines_) {
    machine.cut_off = false;
    Start(id);
    Resume(id);
  }
}

// --- single events -------------------------------------------------------------------------------

bool World::Deliver(const NodeId& from, const NodeId& to) {
  for (auto& [id, link] : links_) {
    bool down = link.dialler == from && link.acceptor == to;
    bool up = link.acceptor == from && link.dialler == to;
    if ((down && !link.down.empty()) || (up && !link.up.empty())) return DeliverOn(id, down);
  }
  return false;
}

bool World::DeliverOn(LinkId id, bool down) {
  Link& link = links_.at(id);
  std::deque<Frame>& queue = down ? link.down : link.up;
  Machine& to = machines_.at(down ? link.acceptor : link.dialler);
  const NodeId from = down ? link.dialler : link.acceptor;
  bool& open = down ? link.acceptor_open : link.dialler_open;
  if (queue.empty() || (open && !Runs(to))) return false;
  Frame frame = std::move(queue.front());
  queue.pop_front();
  if (open) {
    if (frame.end) {
      Note(to.id + " sees that " + from + " closed link " + std::to_string(id));
      open = false;
      to.replica->OnLinkClosed(id);
      ForgetLink(to, id);
    } else {
      Note(from + ">" + to.id + " link " + std::to_string(id) + " " + Readable(frame.bytes));
      Receive(to, id, frame.bytes);
    }
    After(to);
  }
  auto found = links_.find(id);
  if (found != links_.end() && !found->second.dialler_open && !found->second.acceptor_open)
    links_.erase(found);
  return true;
}

bool World::Capture(const NodeId& id, size_t bytes) {
  Machine& machine = machines_.at(id);
  if (!Runs(machine) || !machine.replica->head_ready()) return false;
  Database& database = machine.database;
  bytes = std::min(bytes, database.history.size() - database.captured);
  if (bytes == 0) return false;
  Note("capture " + id + " " +
       Short(std::string_view(database.history).substr(database.captured, bytes)));
  std::string chunk = database.history.substr(database.captured, bytes);
  database.captured += bytes;
  TakeStream(machine, chunk);
  machine.replica->OnReceived();
  After(machine);
  return true;
}

bool World::Apply(const NodeId& id, size_t bytes) {
  Machine& machine = machines_.at(id);
  if (!Runs(machine) || !machine.following) return false;
  Database& database = machine.database;
  std::string feed;
  while (feed.size() < bytes) {
    auto slice = machine.replica->log().Read(database.position() + feed.size(),
                                             machine.replica->committed(), bytes - feed.size());
    if (!slice) {
      Resign(machine, "its database wants what the log does not hold");
      After(machine);
      return true;
    }
    if (slice->bytes.empty()) break;
    feed += slice->bytes;
  }
  // Half a command counts nothing.
  size_t whole = feed.rfind(';');
  if (whole == std::string::npos) return false;
  database.history += feed.substr(0, whole + 1);
  Note("apply " + id + " up to " + std::to_string(database.history.size()));
  machine.replica->OnApplied(database.position());
  After(machine);
  return true;
}

bool World::Promote(const NodeId& id) {
  Machine& machine = machines_.at(id);
  if (!Runs(machine) || machine.replica->resigned()) return false;
  if (!machine.promote_at && !machine.attach_wanted) return false;
  Position position = machine.database.position();
  if (machine.promote_at) {
    Note("promote " + id);
    if (position != *std::exchange(machine.promote_at, std::nullopt))
      Fail("the database is promoted at another position");
  } else {
    Note("attach " + id);
    machine.replica->SetHistory("history " + std::to_string(++last_history_), position);
    machine.log = machine.database.history;
  }
  machine.attach_wanted = machine.following = false;
  machine.database.captured = machine.database.history.size();
  machine.database.replid.clear();
  machine.database.from_chain = true;
  DropStaged(machine);
  machine.replica->OnHeadAttached(position);
  After(machine);
  return true;
}

bool World::AnswerBound(const NodeId& id) {
  Machine& machine = machines_.at(id);
  if (!Runs(machine) || !machine.bound_asked) return false;
  Note("bound " + id);
  Epoch asked = *std::exchange(machine.bound_asked, std::nullopt);
  if (asked == machine.replica->epoch())
    machine.replica->OnTargetBound(machine.database.position());
  After(machine);
  return true;
}

void World::Turn(const NodeId& id) { After(machines_.at(id)); }

void World::KeepAlive(const NodeId& id) {
  Machine& machine = machines_.at(id);
  if (!Runs(machine)) return;
  machine.replica->KeepAlive();
  After(machine);
}

void World::Settle() {
  for (auto& [id, machine] : machines_) {
    machine.dials_left = kDialsPerSettle;
    if (Runs(machine)) After(machine);
  }
  for (bool progress = true; progress;) {
    progress = false;
    std::vector<LinkId> ids;
    for (const auto& [id, link] : links_) ids.push_back(id);
    for (LinkId id : ids) {
      for (bool down : {true, false}) {
        while (links_.contains(id)) {
          const Link& link = links_.at(id);
          const std::string way =
              down ? link.dialler + ">" + link.acceptor : link.acceptor + ">" + link.dialler;
          if (held_.contains(way) || !DeliverOn(id, down)) break;
          progress = true;
        }
      }
    }
    for (auto& [id, machine] : machines_) {
      progress = (!held_.contains("promote " + id) && Promote(id)) || progress;
      progress = (!held_.contains("capture " + id) && Capture(id)) || progress;
      progress = (!held_.contains("apply " + id) && Apply(id)) || progress;
      progress = (!held_.contains("bound " + id) && AnswerBound(id)) || progress;
    }
  }
}

// --- the driver in miniature ---------------------------------------------------------------------

void World::After(Machine& machine) {
  EndTurn(machine);
  CheckInvariants();
}

void World::EndTurn(Machine& machine) {
  if (!Runs(machine)) return;
  if (machine.replica->OwesAnswers()) machine.replica->AnswerAsks(now_);
  Perform(machine);
  SendLog(machine);
  RetryOps(machine);
  Perform(machine);
  FollowSource(machine);
}

void World::Perform(Machine& machine) {
  chain::Output output = machine.replica->TakeOutput();
  for (LinkId id : output.close) Close(machine, id);
  for (auto& [id, message] : output.messages) Send(machine, id, message);
  if (output.ask_target_bound) machine.bound_asked = machine.replica->epoch();
  if (output.promote_at) machine.promote_at = output.promote_at;
  if (output.resign) Resign(machine, *output.resign);
  DialMembers(machine);
}

void World::SendLog(Machine& machine) {
  if (held_.contains("send " + machine.id)) return;
  while (auto append = machine.replica->NextAppend(options_.append_bytes)) {
    Send(machine, machine.successor.link,
         chain::Append{append->from, append->committed, append->slice.bytes});
  }
  while (auto append = machine.source.NextAppend(machine.replica->log(), options_.append_bytes)) {
    Send(machine, machine.join_link,
         chain::Append{append->from, append->committed, append->slice.bytes});
  }
}

// Both sides of a join, at the end of a turn.
void World::FollowSource(Machine& machine) {
  if (machine.source.phase() != chain::JoinSource::Phase::kIdle) {
    machine.replica->PinLog(machine.source.pin());
    if (machine.source.PinTooLong(machine.replica->log()) ||
        machine.source.Overrun(machine.replica->log())) {
      AbandonSource(machine);
    }
  }
  Machine::Joining& joining = machine.joining;
  if (joining.link == kNoLink || !joining.started) return;
  chain::JoinProgress progress{machine.replica->received(), joining.loaded};
  if (progress.received == joining.told.received && progress.loaded == joining.told.loaded) return;
  joining.told = progress;
  Send(machine, joining.link, progress);
}

void World::DialMembers(Machine& machine) {
  if (KeepDialled(machine, machine.successor, machine.replica->Successor())) {
    machine.replica->OnSuccessorConnected(machine.successor.link);
    Perform(machine);
  }
  const chain::Member* tail = options_.short_acks ? machine.replica->AcknowledgingTail() : nullptr;
  if (KeepDialled(machine, machine.acknowledging_tail, tail)) {
    machine.replica->OnTailConnected(machine.acknowledging_tail.link);
    Perform(machine);
  }
}

bool World::KeepDialled(Machine& machine, Machine::Dialled& dialled, const chain::Member* member) {
  std::string key =
      member == nullptr ? "" : std::to_string(machine.replica->epoch().value()) + ' ' + member->id;
  if (dialled.link != kNoLink && key != dialled.key) Close(machine, dialled.link);
  if (member == nullptr || dialled.link != kNoLink || machine.dials_left == 0) return false;
  --machine.dials_left;
  LinkId link = Dial(machine, member->id);
  if (link == kNoLink) return false;
  dialled = {link, std::move(key)};
  return true;
}

LinkId World::Dial(Machine& machine, const NodeId& to) {
  if (!Reachable(machine.id, to) || !machines_.at(to).up) return kNoLink;
  LinkId id = ++last_link_;
  Link& link = links_[id];
  link.id = id;
  link.dialler = machine.id;
  link.acceptor = to;
  Note(machine.id + " dials " + to + ", link " + std::to_string(id));
  return id;
}

void World::Send(Machine& machine, LinkId id, const chain::Message& message) {
  auto found = links_.find(id);
  if (found == links_.end()) return;
  Link& link = found->second;
  bool dialler = link.dialler == machine.id;
  if (!(dialler ? link.dialler_open : link.acceptor_open)) return;
  // Into a broken connection.
  const std::deque<Frame>& queue = dialler ? link.down : link.up;
  if (!queue.empty() && queue.back().end) return;
  Frame frame;
  peer::Encode(message, frame.bytes);
  (dialler ? link.down : link.up).push_back(std::move(frame));
}

void World::Close(Machine& machine, LinkId id) {
  if (auto found = links_.find(id); found != links_.end()) {
    Link& link = found->second;
    bool dialler = link.dialler == machine.id;
    bool& open = dialler ? link.dialler_open : link.acceptor_open;
    std::deque<Frame>& out = dialler ? link.down : link.up;
    if (open && (out.empty() || !out.back().end)) out.push_back({true, ""});
    open = false;
  }
  machine.replica->OnLinkClosed(id);
  ForgetLink(machine, id);
}

void World::ForgetLink(Machine& machine, LinkId id) {
  if (id == machine.successor.link) machine.successor.link = kNoLink;
  if (id == machine.acknowledging_tail.link) machine.acknowledging_tail.link = kNoLink;
  if (id == machine.predecessor_link) {
    machine.predecessor_link = kNoLink;
    DropStaged(machine);
  }
  if (id == machine.join_link) AbandonSource(machine);
  if (id == machine.joining.link) machine.joining.link = kNoLink;
}

void World::DropStaged(Machine& machine) { machine.staged.clear(); }

void World::TakeStream(Machine& machine, std::string_view bytes) {
  machine.replica->AppendBytes(bytes);
  machine.staged += bytes;
  for (size_t end = machine.staged.find(';'); end != std::string::npos;
       end = machine.staged.find(';')) {
    std::string text = machine.staged.substr(0, end + 1);
    machine.staged.erase(0, end + 1);
    machine.log += text;
    uint64_t hash = 0;
    machine.replica->AppendEntry(EntryOf(text, Position(machine.log.size()), hash));
  }
}

void World::Receive(Machine& machine, LinkId link, const std::string& bytes) {
  resp::CommandDecoder decoder;
  resp::Command command;
  size_t consumed = 0;
  if (decoder.Decode(bytes, command, consumed) != resp::Progress::kComplete ||
      consumed != bytes.size()) {
    Fail("a message is one command: " + bytes);
  }
  Result<chain::Message> message = peer::Decode(command.arguments);
  if (!message) Fail(message.error().message + ": " + bytes);
  OnMessage(machine, link, *message);
}

void World::OnMessage(Machine& machine, LinkId link, const chain::Message& message) {
  if (const auto* append = std::get_if<chain::Append>(&message)) {
    if (link == machine.joining.link) return OnJoinMessage(machine, link, message);
    if (!machine.replica->AcceptsAppend(link, append->from)) return;
    TakeStream(machine, append->bytes);
    return machine.replica->OnReceived(append->committed);
  }
  if (const auto* hello = std::get_if<chain::Hello>(&message))
    return OnHello(machine, link, *hello);
  if (const auto* refuse = std::get_if<chain::Refuse>(&message)) {
    auto newer = refuse->newer;
    Close(machine, link);
    if (newer) InstallConfiguration(machine, *newer);
    return;
  }
  if (link == machine.joining.link || link == machine.join_link)
    return OnJoinMessage(machine, link, message);
  machine.replica->Step(link, message, now_);
}

void World::OnHello(Machine& machine, LinkId link, const chain::Hello& hello) {
  if (hello.purpose == chain::LinkPurpose::kJoin) return OnJoinHello(machine, link, hello);
  InstallConfiguration(machine, hello.configuration);
  if (!machine.replica->OnHello(link, hello)) {
    Perform(machine);
    return Close(machine, link);
  }
  if (hello.purpose == chain::LinkPurpose::kAcks) return;
  DropStaged(machine);
  machine.predecessor_link = link;
}

// --- joining -------------------------------------------------------------------------------------

void World::BeginSource(Machine& machine, const NodeId& joiner, Incarnation incarnation) {
  AbandonSource(machine);
  LinkId link = Dial(machine, joiner);
  if (link == kNoLink) return;
  machine.source.Begin(joiner, incarnation);
  machine.join_link = link;
  Send(machine, link, machine.source.OnConnected(link, *machine.replica));
}

void World::AbandonSource(Machine& machine) {
  if (machine.source.phase() == chain::JoinSource::Phase::kIdle) return;
  machine.source.Abandon();
  LinkId link = std::exchange(machine.join_link, kNoLink);
  Close(machine, link);
  if (machine.replica->is_tail() || !machine.replica->is_member())
    machine.replica->PinLog(std::nullopt);
}

void World::OnOffer(Machine& machine, const chain::Offer& offer) {
  if (machine.source.phase() != chain::JoinSource::Phase::kOffered) return;
  chain::Start start;
  bool snapshot = machine.source.OnOffer(offer, *machine.replica, start);
  machine.replica->PinLog(machine.source.pin());
  if (!snapshot) return Send(machine, machine.join_link, start);
  const std::string& history = machine.database.history;
  machine.source.OnSnapshotStart(machine.database.position());
  Send(machine, machine.join_link,
       chain::SnapshotBegin{machine.database.position(), history.size()});
  Send(machine, machine.join_link, chain::SnapshotChunk{history});
  Send(machine, machine.join_link, chain::SnapshotEnd{});
  Send(machine, machine.join_link, machine.source.OnSnapshotEnd());
}

void World::OnJoinHello(Machine& machine, LinkId link, const chain::Hello& hello) {
  InstallConfiguration(machine, hello.configuration);
  chain::Replica& replica = *machine.replica;
  bool fits = hello.to == machine.id && hello.to_incarnation == replica.incarnation();
  bool wants = !replica.is_member() && machine.resigned_because.empty();
  if (!fits || !wants || hello.configuration.epoch < replica.epoch()) {
    std::optional<chain::Configuration> newer;
    if (replica.epoch() > hello.configuration.epoch) newer = replica.configuration();
    Send(machine, link, chain::Refuse{"does not want to join", newer});
    return Close(machine, link);
  }
  Machine::Joining& joining = machine.joining;
  if (joining.link != kNoLink) Close(machine, joining.link);
  replica.DropStaged();
  DropStaged(machine);
  joining.link = link;
  joining.started = false;
  joining.told = {};
  chain::Offer offer;
  if (joining.loaded && replica.replid() == hello.replid) {
    offer = {replica.replid(), replica.received()};
  } else if (!machine.database.replid.empty() && replica.replid().empty()) {
    offer = {machine.database.replid, machine.database.position()};
  }
  joining.replid = hello.replid;
  Send(machine, link, offer);
}

void World::OnJoinMessage(Machine& machine, LinkId link, const chain::Message& message) {
  if (link == machine.join_link) {
    if (const auto* offer = std::get_if<chain::Offer>(&message)) OnOffer(machine, *offer);
    if (const auto* progress = std::get_if<chain::JoinProgress>(&message))
      machine.source.OnProgress(*progress);
    return;
  }
  Machine::Joining& joining = machine.joining;
  chain::Replica& replica = *machine.replica;
  if (const auto* append = std::get_if<chain::Append>(&message)) {
    if (!joining.started || append->from != replica.log().staged_end()) return Close(machine, link);
    TakeStream(machine, append->bytes);
    replica.OnReceived();
  } else if (const auto* begin = std::get_if<chain::SnapshotBegin>(&message)) {
    replica.SetHistory(joining.replid, begin->position);
    joining.loading = true;
    joining.loaded = machine.following = false;
  } else if (const auto* chunk = std::get_if<chain::SnapshotChunk>(&message)) {
    machine.log = chunk->bytes;
  } else if (std::holds_alternative<chain::SnapshotEnd>(message)) {
    if (held_.contains("load " + machine.id)) return;
    machine.database.history = machine.log;
    machine.database.replid = joining.replid;
    machine.database.from_chain = machine.following = joining.loaded = true;
    joining.loading = false;
    replica.OnApplied(machine.database.position());
  } else if (const auto* start = std::get_if<chain::Start>(&message)) {
    joining.started = true;
    if (joining.loading || joining.loaded) {
      if (start->from != replica.log().staged_end()) Close(machine, link);
      return;
    }
    if (start->from != machine.database.position())
      Fail("the joiner resumes where its database is");
    replica.SetHistory(joining.replid, start->from);
    machine.log = machine.database.history;
    machine.database.replid = joining.replid;
    machine.database.from_chain = machine.following = joining.loaded = true;
    replica.OnApplied(start->from);
  }
}

// --- configuration and life ----------------------------------------------------------------------

void World::InstallConfiguration(Machine& machine, const chain::Configuration& configuration) {
  chain::Replica& replica = *machine.replica;
  switch (replica.Install(configuration)) {
    case chain::Replica::Installed::kIgnored:
      return;
    case chain::Replica::Installed::kRemoved:
      Note(machine.id + " was removed");
      return BeginNewLife(machine);
    case chain::Replica::Installed::kMember:
      break;
  }
  Note(machine.id + " installs epoch " + std::to_string(replica.epoch().value()) + " as " +
       RoleText(replica.role()));
  machine.dials_left = kDialsPerSettle;
  if (machine.joining.loading && !held_.contains("load " + machine.id)) {
    Resign(machine, "listed while its database loads a snapshot");
  }
  if (machine.joining.link != kNoLink) Close(machine, machine.joining.link);
  if (!replica.is_tail()) AbandonSource(machine);
  if (!replica.is_head()) machine.promote_at.reset();
  if (replica.role() == Role::kSole && replica.replid().empty()) machine.attach_wanted = true;
  if (!replica.head_ready()) DropStaged(machine);
}

void World::Resign(Machine& machine, const std::string& why) {
  if (!machine.resigned_because.empty()) return;
  if (!machine.replica->is_member()) return BeginNewLife(machine);
  Note(machine.id + " resigns: " + why);
  machine.replica->Resign();
  AbandonSource(machine);
  FailOps(machine);
  machine.resigned_because = why;
  Perform(machine);
}

void World::BeginNewLife(Machine& machine) {
  Note(machine.id + " begins a new life");
  FailOps(machine);
  AbandonSource(machine);
  bool was_head = machine.replica->head_ready() || machine.database.captured > 0;
  for (LinkId id : {machine.predecessor_link, machine.successor.link,
                    machine.acknowledging_tail.link, machine.joining.link})
    Close(machine, id);
  machine.replica->BeginLife(NewIncarnation());
  machine.log.clear();
  machine.staged.clear();
  machine.joining = {};
  machine.promote_at.reset();
  machine.bound_asked.reset();
  machine.attach_wanted = machine.following = false;
  machine.resigned_because.clear();
  // A former head's database may hold what nobody confirmed; a follower's holds committed entries
  // only (I3).
  if (was_head) machine.database.replid.clear();
  machine.database.captured = 0;
}

// --- clients -------------------------------------------------------------------------------------

OpPtr World::Write(const NodeId& id, const std::string& effect) {
  auto op = std::make_shared<Op>();
  op->is_write = true;
  op->key = effect[0];
  op->effect = effect + ";";
  op->must_see = revealed_[op->key];
  Note("write " + Short(effect) + " at " + id);
  Machine& machine = machines_.at(id);
  machine.ops.push_back(op);
  After(machine);
  return op;
}

OpPtr World::Read(const NodeId& id, char key) {
  auto op = std::make_shared<Op>();
  op->key = key;
  op->must_see = revealed_[key];
  Note(std::string("read ") + key + " at " + id);
  Machine& machine = machines_.at(id);
  machine.ops.push_back(op);
  After(machine);
  return op;
}

void World::Execute(const NodeId& id, const std::string& effect) {
  Note("execute " + Short(effect) + " at the database of " + id);
  machines_.at(id).database.history += effect + ";";
}

void World::FailOps(Machine& machine) {
  for (OpPtr& op : machine.ops) op->state = Op::State::kFailed;
  machine.ops.clear();
}

void World::RetryOps(Machine& machine) {
  LearnTruth(machine);
  for (size_t i = 0; i < machine.ops.size(); ++i) {
    Op& op = *machine.ops[i];
    chain::Replica& replica = *machine.replica;
    if (replica.is_head() && !replica.resigned()) {
      TryAtHead(machine, op);
    } else if (op.is_write || !replica.serves()) {
      op.state = Op::State::kFailed;
    } else {
      TryAtFollower(machine, op);
    }
  }
  std::erase_if(machine.ops, [](const OpPtr& op) { return !op->waiting(); });
}

// The rule of design.md section 3, as proxy/server/head_executor.cc has it.
void World::TryAtHead(Machine& machine, Op& op) {
  chain::Replica& replica = *machine.replica;
  if (!replica.head_ready()) return;
  if (!op.executed) {
    op.executed = true;
    op.captured_at_send = replica.received();
    op.epoch = replica.epoch();
    op.verify_ticket.reset();
    if (op.is_write) machine.database.history += op.effect;
    std::tie(op.version, op.value) = machine.database.Get(op.key);
    op.bound = machine.database.position();
  }
  if (replica.received() < op.bound) return;
  bool bound_committed = replica.committed() >= op.bound;
  if (!bound_committed && op.is_write) return;
  if (!op.version_known) {
    uint64_t hash = static_cast<unsigned char>(op.key);
    op.needed_version = replica.log().VersionOf(std::span(&hash, 1));
    op.version_known = true;
  }
  if (!bound_committed && replica.committed() < op.needed_version) return;
  bool authority =
      (bound_committed && op.bound > op.captured_at_send && op.epoch == replica.epoch()) ||
      replica.HasAuthority(now_);
  if (!authority) {
    if (!op.verify_ticket) op.verify_ticket = replica.RequestVerify();
    if (replica.settled_verify() < *op.verify_ticket) return;
  }
  Answer(machine, op);
}

// The rule of design.md section 4, as proxy/server/local_reader.cc has it.
void World::TryAtFollower(Machine& machine, Op& op) {
  chain::Replica& replica = *machine.replica;
  if (!op.started) {
    op.started = true;
    uint64_t hash = static_cast<unsigned char>(op.key);
    op.needs = replica.log().VersionOf(std::span(&hash, 1));
    op.authority = replica.HasAuthority(now_);
    if (!op.authority) op.verify_ticket = replica.RequestVerify();
    if (op.needs > replica.committed()) op.query_ticket = replica.RequestQuery();
  }
  if (!op.authority) {
    op.authority = replica.HasAuthority(now_) ||
                   (op.verify_ticket && replica.settled_verify() >= *op.verify_ticket);
    if (!op.authority) return;
  }
  if (op.needs > replica.committed()) {
    if (!op.query_ticket || replica.settled_query() < *op.query_ticket) return;
    op.needs = replica.committed();
  }
  if (op.needs > replica.applied()) return;
  std::tie(op.version, op.value) = machine.database.Get(op.key);
  Answer(machine, op);
}

void World::Answer(Machine& machine, Op& op) {
  if (op.is_write) op.version = op.bound;
  op.state = Op::State::kAnswered;
  std::string_view shown = std::string_view(machine.database.history).substr(0, op.version.value());
  Note(machine.id + " answers " +
       (op.is_write ? Short(op.effect)
                    : std::string(1, op.key) + " is \"" + Short(op.value) + "\""));
  if (op.version.value() > truth_.size() || !Extends(truth_, shown)) {
    Fail("I4: an answer of " + machine.id + " reveals what is not committed");
  }
  if (op.version < op.must_see) Fail("I6: an answer of " + machine.id + " is from the past");
  revealed_[op.key] = std::max(revealed_[op.key], op.version);
  if (shown.size() > 0 && shown[shown.size() - 1] == ';')
    acknowledged_ = std::max(acknowledged_, op.version);
}

// --- invariants ----------------------------------------------------------------------------------

void World::LearnTruth(const Machine& machine) {
  const chain::Replica& replica = *machine.replica;
  if (replica.replid().empty() || machine.joining.loading) return;
  std::string_view committed = std::string_view(machine.log).substr(0, replica.committed().value());
  if (committed.size() > truth_.size()) {
    if (!Extends(committed, truth_)) Fail(machine.id + " committed another history");
    truth_ = committed;
  } else if (!Extends(truth_, committed)) {
    Fail(machine.id + " committed another history");
  }
}

void World::AcceptLossOf(const NodeId& id) {
  truth_ = machines_.at(id).database.history;
  acknowledged_ = std::min(acknowledged_, Position(truth_.size()));
  for (auto& [key, version] : revealed_) version = std::min(version, Position(truth_.size()));
}

void World::CheckMember(Machine& machine) {
  const chain::Replica& replica = *machine.replica;
  if (replica.epoch() < machine.last_epoch) Fail("I5: the epoch of " + machine.id + " fell");
  machine.last_epoch = replica.epoch();
  if (replica.replid().empty() || machine.joining.loading) return;
  if (replica.received() != Position(machine.log.size()) ||
      replica.log().staged_end() - replica.received() != machine.staged.size()) {
    Fail("the log of " + machine.id + " is not what came in");
  }
  LearnTruth(machine);
  if (replica.committed() > replica.received())
    Fail("I2: " + machine.id + " committed what it has not received");
  if (!replica.is_member() || machine.last_incarnation != replica.incarnation()) {
    machine.last_incarnation = replica.is_member() ? replica.incarnation() : Incarnation();
  } else if (replica.received() < machine.last_received ||
             replica.committed() < machine.last_committed ||
             replica.applied() < machine.last_applied) {
    Fail("I2: a position of " + machine.id + " fell");
  }
  machine.last_received = replica.received();
  machine.last_committed = replica.committed();
  machine.last_applied = replica.applied();
  if (replica.head_ready()) {
    if (!Extends(machine.database.history, machine.log))
      Fail("the head's log is not what its database executed");
  } else if (machine.following) {
    if (machine.database.position() > replica.committed() ||
        !Extends(machine.log, machine.database.history)) {
      Fail("I3: the database of " + machine.id + " holds what is not committed");
    }
  }
}

void World::CheckNeighbours(const chain::Configuration& configuration, size_t index) {
  auto acting = [&](const chain::Member& member) -> Machine* {
    Machine& machine = machines_.at(member.id);
    const chain::Replica& replica = *machine.replica;
    bool acts = machine.up && replica.incarnation() == member.incarnation && replica.is_member() &&
                replica.epoch() == configuration.epoch && !machine.joining.loading;
    return acts ? &machine : nullptr;
  };
  Machine* tail = acting(configuration.members.back());
  Machine* here = acting(configuration.members[index]);
  if (here == nullptr) return;
  if (tail != nullptr && tail->replica->synced() &&
      here->replica->committed() > tail->replica->received()) {
    Fail("I2: " + here->id + " committed what the tail has not received");
  }
  if (index + 1 == configuration.members.size()) return;
  Machine* next = acting(configuration.members[index + 1]);
  if (next == nullptr || !(next->replica->synced() || here->replica->successor_linked())) return;
  if (!Extends(here->log, next->log))
    Fail("I1: the log of " + next->id + " is not a prefix of that of " + here->id);
}

// Every synced member that acts in the newest configuration holds everything that anybody was told.
void World::CheckNothingLost() {
  for (const chain::Member& member : newest().members) {
    Machine& machine = machines_.at(member.id);
    const chain::Replica& replica = *machine.replica;
    if (!machine.up || replica.incarnation() != member.incarnation ||
        replica.epoch() != newest().epoch)
      continue;
    if (!replica.serves() || replica.replid().empty()) continue;
    if (!Extends(machine.log, std::string_view(truth_).substr(0, acknowledged_.value()))) {
      Fail("lost: " + member.id + " serves in the newest epoch without what was acknowledged");
    }
  }
}

void World::CheckInvariants() {
  for (auto& [id, machine] : machines_) {
    if (machine.up) CheckMember(machine);
  }
  for (const auto& [epoch, configuration] : written_) {
    for (size_t i = 0; i < configuration.members.size(); ++i) CheckNeighbours(configuration, i);
  }
  CheckNothingLost();
}

}  // namespace catena::scenario
