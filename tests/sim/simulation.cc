#include "tests/sim/simulation.h"

#include "tests/sim/cluster.h"
#include "tests/sim/effects.h"
#include "tests/sim/faults.h"
#include "tests/sim/history.h"
#include "tests/sim/invariants.h"
#include "tests/sim/redis_model_links.h"
#include "tests/sim/sessions.h"
#include "tests/sim/story.h"
#include "tests/sim/workload.h"

namespace catena::sim {
namespace {

// After the last fault: leases, elections and joins take a few seconds each; a graceful stop up to
// eight.
constexpr Duration kConvergence = Seconds(60);
// Longer than a client waits for an answer.
constexpr Duration kAftermath = Seconds(10);
constexpr Duration kGoodTimes = Seconds(1);
constexpr uint64_t kEventsMax = 20'000'000;

// A gauge without labels, as the node publishes it.
std::string GaugeOf(server::Node& node, const std::string& name) {
  Exposition metrics;
  node.AppendMetrics(metrics);
  const std::string& text = metrics.text();
  const size_t begin = text.find("\n" + name + " ") + name.size() + 2;
  return text.substr(begin, text.find('\n', begin) - begin);
}

class Simulation {
 public:
  Simulation(const Plan& plan, std::function<void(std::string_view)> trace)
      : plan_(plan), scheduler_(plan.seed) {
    scheduler_.TraceTo(std::move(trace));
    cluster_ = std::make_unique<Cluster>(scheduler_, plan);
    invariants_ = std::make_unique<Invariants>(*cluster_);
    cluster_->OnTurn([this](const NodeId& id) { invariants_->AfterTurn(id); });
    faults_ = std::make_unique<Faults>(*cluster_);
    workload_ = std::make_unique<Workload>(*cluster_);
    workload_->HintWith([this] { return invariants_->committed(); });
  }

  Outcome Run();

 private:
  bool RunFor(Duration time);
  void TellStory();
  // Runs until `condition`, at most until `end`.
  template <typename Condition>
  bool RunUntil(TimePoint end, const Condition& condition);
  bool Step();
  bool WaitFor(Duration bound, const std::function<std::string()>& why);
  std::string WhyNot();
  std::string WhyNotQuiet();
  void CheckEnd();
  void AskEverybody();
  void Fail(const std::string& what) {
    if (outcome_.violation.empty()) outcome_.violation = what + "\n" + cluster_->Describe();
  }

  const Plan plan_;
  Scheduler scheduler_;
  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<Invariants> invariants_;
  std::unique_ptr<Faults> faults_;
  std::unique_ptr<Workload> workload_;
  Outcome outcome_;
  size_t answers_wanted_ = 0, answers_ = 0;
};

bool Simulation::Step() {
  if (!scheduler_.Step()) return false;
  invariants_->AfterEvent();
  for (const std::string* violation : {&invariants_->violation(), &workload_->violation()}) {
    if (!violation->empty()) Fail(*violation);
  }
  if (scheduler_.events() > kEventsMax) Fail("too many events: something goes round in circles");
  return outcome_.violation.empty();
}

template <typename Condition>
bool Simulation::RunUntil(TimePoint end, const Condition& condition) {
  while (!condition()) {
    if (scheduler_.now() >= end || !Step()) return false;
  }
  return true;
}

void Simulation::TellStory() {
  Story story(plan_.story, *cluster_, *workload_);
  RunUntil(scheduler_.now() + plan_.storm, [&story] {
    story.GoOn();
    return story.over();
  });
  if (!story.violation().empty()) Fail(story.violation());
}

bool Simulation::RunFor(Duration time) {
  const TimePoint end = scheduler_.now() + time;
  RunUntil(end, [] { return false; });
  return outcome_.violation.empty();
}

Outcome Simulation::Run() {
  workload_->Start();
  if (RunFor(plan_.calm)) {
    faults_->Begin();
    plan_.story.empty() ? static_cast<void>(RunFor(plan_.storm)) : TellStory();
  }
  if (outcome_.violation.empty()) {
    faults_->Calm();
    CheckEnd();
  }
  History& history = workload_->history();
  if (const std::string wrong = FindEffects(invariants_->streams(), history); !wrong.empty())
    Fail(wrong);
  const Judgement judgement = CheckLinearizable(history);
  if (!judgement.violation.empty()) Fail("not linearizable: " + judgement.violation);
  const Duration bound = plan_.max_staleness * (1'000'000 + 2 * plan_.drift_ppm_max) / 1'000'000;
  if (const std::string wrong = CheckSessions(invariants_->streams(), history, bound);
      !wrong.empty())
    Fail("a read " + wrong);
  outcome_.undecided = judgement.undecided;
  outcome_.events = scheduler_.events();
  outcome_.commands = workload_->answered();
  outcome_.simulated = scheduler_.now() - TimePoint(Seconds(1000));
  outcome_.faults = faults_->counts();
  outcome_.recoveries = invariants_->recoveries();
  if (const auto newest = cluster_->Newest()) outcome_.epochs = newest->epoch.value();
  return outcome_;
}

void Simulation::CheckEnd() {
  if (!outcome_.violation.empty()) return;
  const TimePoint began = scheduler_.now();
  if (!WaitFor(kConvergence, [this] { return WhyNot(); })) return;
  outcome_.converged = scheduler_.now() - began;
  // What waited in a broken chain may still fail, or comes to a connection that broke unnoticed;
  // after that nothing does, but where answers must be fresh: a Redis dials its proxy again only
  // each second.
  const Duration redial = plan_.max_staleness > Duration(0) ? kRedialAfter : Duration(0);
  if (!RunFor(Network::kBreakKnown + redial + plan_.lease)) return;
  // A removal that was decided before may be written only now, when etcd answers again.
  if (!WaitFor(kConvergence, [this] { return WhyNot(); })) return;
  const TimePoint stands = scheduler_.now();
  RunUntil(stands + kAftermath, [this, stands] { return !workload_->OwesFrom(stands); });
  if (!outcome_.violation.empty()) return;
  workload_->ExpectSuccess();
  if (!RunFor(kGoodTimes)) return;
  workload_->Finish();
  if (!WaitFor(Seconds(20), [this] { return WhyNotQuiet(); })) return;
  AskEverybody();
  if (!RunUntil(scheduler_.now() + Seconds(10), [this] { return answers_ == answers_wanted_; }))
    return Fail("a node does not answer although all is well");
  WaitFor(Seconds(10), [this] { return WhyNotQuiet(); });
}

// Until `why` has nothing to say any more.
bool Simulation::WaitFor(Duration bound, const std::function<std::string()>& why) {
  std::string reason = "not looked at";
  TimePoint look{};
  const auto well = [&] {
    if (scheduler_.now() < look) return false;
    look = scheduler_.now() + Millis(50);
    faults_->StartAll();  // a graceful stop may have ended only now
    reason = why();
    return reason.empty();
  };
  const bool done = RunUntil(scheduler_.now() + bound, well);
  // After S13 the head's database has everything, and everybody knows it.
  if (!done && cluster_->WaitsForOperator() && plan_.story != "S13") {
    outcome_.needs_operator = true;
  } else if (!done) {
    Fail("it does not come back: " + reason);
  }
  return done;
}

// Everybody's answer after a write is the same, and that of the database.
void Simulation::AskEverybody() {
  workload_->Ask(cluster_->nodes()[0], {"SET", "end", "here"}, [this](const std::string& reply) {
    if (reply != "+OK\r\n") Fail("a write although all is well: " + reply);
    for (const NodeId& id : cluster_->nodes()) {
      workload_->Ask(id, {"GET", "end"}, [this, id](const std::string& answer) {
        ++answers_;
        if (answer != "$4\r\nhere\r\n")
          Fail("a read at " + id + " although all is well: " + answer);
      });
    }
  });
  answers_wanted_ = cluster_->nodes().size();
}

// "" when the whole chain stands.
std::string Simulation::WhyNot() {
  for (const NodeId& id : cluster_->nodes()) {
    if (cluster_->node(id) == nullptr || cluster_->stopping(id)) return id + " does not run";
  }
  const auto newest = cluster_->Newest();
  if (!newest) return "no configuration";
  const size_t members = newest->members.size(), wanted = std::min(plan_.replicas, plan_.nodes);
  if (members < wanted) return "members are missing";
  // A replacement that is called off when the new member has come leaves both.
  const bool drains = plan_.every[static_cast<size_t>(Fault::kDrain)] > Duration(0);
  if (members > wanted && !drains) return "there are too many members";
  for (const chain::Member& member : newest->members) {
    if (!cluster_->Complete(member.id)) return member.id + " is not complete";
    const chain::Replica& replica = cluster_->node(member.id)->replica();
    if (replica.epoch() != newest->epoch) return member.id + " is in an older epoch";
    if (!replica.HasAuthority(cluster_->proxy_process(member.id)->Now()))
      return member.id + " has no lease";
    if (replica.is_head() ? !replica.head_ready() : !replica.predecessor_linked())
      return member.id + " is not in its place";
  }
  return "";
}

// "" when, moreover, nobody waits for anything, all databases are the same and the clients are
// gone.
std::string Simulation::WhyNotQuiet() {
  if (std::string why = WhyNot(); !why.empty()) return why;
  if (!workload_->idle()) return "unanswered: " + workload_->Owed();
  const auto newest = cluster_->Newest();
  const std::string& head = newest->members.front().id;
  for (const chain::Member& member : newest->members) {
    if (cluster_->DatabasePosition(member.id) != cluster_->DatabasePosition(head))
      return member.id + "'s database is behind";
    if (cluster_->DatabaseKeys(member.id) != cluster_->DatabaseKeys(head))
      return member.id + "'s data differ from " + head + "'s";
  }
  for (const NodeId& id : cluster_->nodes()) {
    for (const auto& [number, session] : cluster_->node(id)->sessions()) {
      if (!session->forwarded) return id + " keeps a client that is gone";
      if (session->outstanding() > 0) return id + " owes an answer to another node";
    }
    for (const char* gauge :
         {"catena_clients", "catena_uncommitted_bytes", "catena_unapplied_bytes"}) {
      if (GaugeOf(*cluster_->node(id), gauge) != "0") return id + " shows some " + gauge;
    }
  }
  return "";
}

}  // namespace

Outcome Simulate(const Plan& plan, std::function<void(std::string_view)> trace) {
  return Simulation(plan, std::move(trace)).Run();
}

}  // namespace catena::sim
