#include "tests/sim/faults.h"

namespace catena::sim {

Faults::Faults(Cluster& cluster) : cluster_(cluster), random_(cluster.plan().seed * 17 + 3) {}

void Faults::Trace(const std::string& line) {
  if (cluster_.scheduler().tracing()) cluster_.scheduler().Trace(line);
}

void Faults::Begin() {
  storm_ = true;
  ++storms_;
  for (size_t i = 0; i < kFaults; ++i) Schedule(static_cast<Fault>(i));
}

void Faults::Calm() {
  Trace("the storm is over");
  storm_ = false;
  ++storms_;
  cluster_.etcd().faults() = {};
  cluster_.network().HealAll();
  cluster_.KillTwins();
  StartAll();
  for (const NodeId& id : cluster_.nodes()) {
    for (Process* process : {cluster_.redis_process(id), cluster_.proxy_process(id)}) {
      if (process == nullptr) continue;  // no Redis is here
      process->Resume();
      process->SetDelay(Duration(0));
      process->ReleaseWork();
      process->SetExhausted(false);
    }
    if (OfRocksDb()) cluster_.FailDisk(id, false);
    if (cluster_.redis(id) != nullptr) cluster_.redis(id)->SetBusy(false);
  }
  for (const std::string& id : cluster_.coordinators()) cluster_.coordinator_process(id)->Resume();
}

void Faults::StartAll() {
  for (const NodeId& id : cluster_.nodes()) {
    cluster_.StartRedis(id);
    cluster_.StartProxy(id);
  }
  for (const std::string& id : cluster_.coordinators()) cluster_.StartCoordinator(id);
  EndDrains();
}

void Faults::Schedule(Fault fault) {
  const Duration mean = cluster_.plan().every[static_cast<size_t>(fault)];
  if (mean <= Duration(0)) return;
  Later(random_.Between(Duration(0), 2 * mean), [this, fault] {
    if (Happen(fault)) ++counts_[fault];
    Schedule(fault);
  });
}

// Only within this storm.
void Faults::Later(Duration delay, std::function<void()> mend) {
  cluster_.scheduler().After(delay, [this, storm = storms_, mend = std::move(mend)] {
    if (storm == storms_) mend();
  });
}

bool Faults::Recovering() {
  if (!lost_) return false;
  const auto newest = cluster_.Newest();
  if (newest && newest->IndexOf(lost_->id, lost_->incarnation)) return true;
  lost_.reset();
  return false;
}

void Faults::NoteLoss(const NodeId& id) {
  const auto newest = cluster_.Newest();
  for (const chain::Member& member : newest->members) {
    if (member.id == id) lost_ = member;
  }
}

bool Faults::IsCompleteHead(const NodeId& id) {
  const auto& record = cluster_.Record();
  if (!record || !record->head_complete) return false;
  const chain::Member& head = record->configuration.members.front();
  const chain::Replica& replica = cluster_.node(id)->replica();
  return head.id == id && head.incarnation == replica.incarnation() && replica.head_ready() &&
         cluster_.HasDatabase(id);
}

bool Faults::Happen(Fault fault) {
  const bool of_members = fault <= Fault::kPauseRedis || fault == Fault::kPartition;
  if (of_members && Recovering()) return false;
  switch (fault) {
    case Fault::kCrashProxy:
      return CrashProxy();
    case Fault::kPauseProxy:
      return PauseProxy();
    case Fault::kStopProxy:
      return StopProxy();
    case Fault::kCrashRedis:
      return CrashRedis();
    case Fault::kPauseRedis:
      return PauseRedis();
    case Fault::kCrashCoordinator:
      return CrashCoordinator();
    case Fault::kPauseCoordinator:
      return PauseCoordinator();
    case Fault::kEtcdLeader:
      Trace("etcd changes its leader");
      cluster_.etcd().ChangeLeader(random_.Between(Duration(0), Seconds(3)));
      return true;
    case Fault::kEtcdRequests:
      return EtcdRequests();
    case Fault::kPartition:
      return Partition();
    case Fault::kBreak:
      cluster_.network().BreakSome();
      return true;
    case Fault::kDrain:
      return Drain();
    case Fault::kSlow:
      return Slow();
    case Fault::kCount:
      break;
  }
  return false;
}

// A moment, about a lease, or several.
Duration Faults::Long() {
  const Duration lease = cluster_.plan().lease;
  switch (random_.Below(3)) {
    case 0:
      return random_.Between(Millis(1), lease / 2);
    case 1:
      return random_.Between(lease / 2, 2 * lease);
    default:
      return random_.Between(lease, 5 * lease);
  }
}

size_t Faults::WholeWithout(const NodeId& id) {
  const auto newest = cluster_.Newest();
  if (!newest) return 0;
  const TimePoint now = cluster_.scheduler().now();
  if (newest->epoch != epoch_) {
    epoch_ = newest->epoch;
    same_since_ = now;
  }
  // Until it has been in force for a while somebody may still act on the one before.
  if (now - same_since_ < 2 * cluster_.plan().lease || cluster_.network().partitioned()) return 0;
  size_t whole = 0;
  for (const chain::Member& member : newest->members) {
    if (member.id == id || !cluster_.Complete(member.id)) continue;
    Process* const redis = cluster_.redis_process(member.id);
    const bool runs = cluster_.HasDatabase(member.id) && (redis == nullptr || !redis->paused()) &&
                      !cluster_.proxy_process(member.id)->paused() && !cluster_.stopping(member.id);
    if (runs) ++whole;
  }
  return whole;
}

bool Faults::CrashProxy() {
  if (OfRocksDb() && random_.Chance(150)) return CrashEverybody();
  const NodeId id = random_.Of(cluster_.nodes());
  if (cluster_.node(id) == nullptr) return false;
  // The head's Redis has everything; anybody else's may miss what its proxy's log held.
  const bool complete_head = IsCompleteHead(id);
  if (WholeWithout(id) == 0 && !complete_head) return false;
  if (!complete_head) NoteLoss(id);
  cluster_.KillProxy(id, random_.Chance(250));
  Later(random_.Between(Millis(5), Seconds(4)), [this, id] { cluster_.StartProxy(id); });
  return true;
}

// Each disk keeps what was applied there; with all of them together nothing that was answered is
// lost, if the coordinators know that the head had applied all that its members held (policy.cc).
bool Faults::MayCrashEverybody() {
  const auto& record = cluster_.Record();
  return record && record->head_complete && record->drains.empty() && !Recovering();
}

// Half of the time no disk has done anything for a moment before.
bool Faults::CrashEverybody() {
  if (!MayCrashEverybody()) return false;
  if (random_.Chance(500)) {
    KillEverybody();
    return true;
  }
  Trace("all disks stand still");
  for (const NodeId& id : cluster_.nodes()) {
    if (Process* const process = cluster_.proxy_process(id)) process->HoldWork();
  }
  Later(random_.Between(Millis(1), Millis(300)), [this] {
    if (MayCrashEverybody()) return KillEverybody();
    for (const NodeId& id : cluster_.nodes()) {
      if (Process* const process = cluster_.proxy_process(id)) process->ReleaseWork();
    }
  });
  return true;
}

void Faults::KillEverybody() {
  for (const NodeId& id : cluster_.nodes()) {
    cluster_.KillProxy(id, random_.Chance(250));
    Later(random_.Between(Millis(5), Seconds(4)), [this, id] { cluster_.StartProxy(id); });
  }
}

void Faults::PauseFor(Process* process, Duration time, std::function<Process*()> again) {
  Trace("pause " + process->name() + " for " + std::to_string(time / Millis(1)) + " ms");
  process->Pause();
  Later(time, [number = process->number(), again = std::move(again)] {
    Process* const still = again();
    if (still != nullptr && still->number() == number) still->Resume();
  });
}

void Faults::Exhaust(Process* process, Duration time, std::function<Process*()> again) {
  Trace(process->name() + " may open no file for " + std::to_string(time / Millis(1)) + " ms");
  process->SetExhausted(true);
  Later(time, [number = process->number(), again = std::move(again)] {
    Process* const still = again();
    if (still != nullptr && still->number() == number) still->SetExhausted(false);
  });
}

bool Faults::PauseProxy() {
  const NodeId id = random_.Of(cluster_.nodes());
  Process* const process = cluster_.proxy_process(id);
  if (process == nullptr || process->paused()) return false;
  const auto again = [this, id] { return cluster_.proxy_process(id); };
  random_.Chance(300) ? Exhaust(process, Long(), again) : PauseFor(process, Long(), again);
  return true;
}

bool Faults::StopProxy() {
  const NodeId id = random_.Of(cluster_.nodes());
  if (cluster_.node(id) == nullptr || WholeWithout(id) == 0) return false;
  cluster_.StopProxy(id);
  Later(random_.Between(Seconds(1), Seconds(6)), [this, id] {
    // One that has not finished by then goes on; it is started when the storm is over.
    cluster_.StartProxy(id);
  });
  return true;
}

bool Faults::CrashRedis() {
  if (OfRocksDb()) return LoseDisk();
  const NodeId id = random_.Of(cluster_.nodes());
  if (cluster_.redis(id) == nullptr || WholeWithout(id) == 0) return false;
  NoteLoss(id);
  cluster_.KillRedis(id, static_cast<Cluster::Keeps>(random_.Below(4)));
  Later(random_.Between(Millis(5), Seconds(3)), [this, id] { cluster_.StartRedis(id); });
  return true;
}

// One that keeps everything fails for a while under a proxy that runs.
bool Faults::LoseDisk() {
  const NodeId id = random_.Of(cluster_.nodes());
  if (cluster_.node(id) == nullptr || WholeWithout(id) == 0) return false;
  NoteLoss(id);
  const auto keeps = static_cast<Cluster::Keeps>(random_.Below(4));
  if (keeps == Cluster::Keeps::kEverything) {
    cluster_.FailDisk(id, true);
  } else {
    cluster_.KillProxy(id, random_.Chance(250));
    cluster_.LoseDisk(id, keeps);
  }
  Later(random_.Between(Millis(5), Seconds(3)), [this, id] {
    cluster_.FailDisk(id, false);
    cluster_.StartProxy(id);
  });
  return true;
}

bool Faults::HangDisk() {
  const NodeId id = random_.Of(cluster_.nodes());
  Process* const process = cluster_.proxy_process(id);
  if (process == nullptr || process->holds_work()) return false;
  Trace("disk " + id + " hangs");
  process->HoldWork();
  Later(Long(), [this, id, number = process->number()] {
    Process* const still = cluster_.proxy_process(id);
    if (still == nullptr || still->number() != number) return;
    Trace("disk " + id + " goes on");
    still->ReleaseWork();
  });
  return true;
}

bool Faults::PauseRedis() {
  if (OfRocksDb()) return HangDisk();
  const NodeId id = random_.Of(cluster_.nodes());
  Process* const process = cluster_.redis_process(id);
  if (process == nullptr || process->paused()) return false;
  const Duration time = Long();
  if (random_.Chance(300)) {
    OverrunScript(id, time);
  } else {
    PauseFor(process, time, [this, id] { return cluster_.redis_process(id); });
  }
  return true;
}

void Faults::OverrunScript(const NodeId& id, Duration time) {
  Trace("a script runs in redis " + id + " for " + std::to_string(time / Millis(1)) + " ms");
  cluster_.redis(id)->SetBusy(true);
  Later(time, [this, id, number = cluster_.redis_process(id)->number()] {
    Process* const still = cluster_.redis_process(id);
    if (still != nullptr && still->number() == number) cluster_.redis(id)->SetBusy(false);
  });
}

bool Faults::CrashCoordinator() {
  const std::string id = random_.Of(cluster_.coordinators());
  if (cluster_.coordinator_process(id) == nullptr) return false;
  cluster_.KillCoordinator(id);
  Later(random_.Between(Millis(5), Seconds(4)), [this, id] { cluster_.StartCoordinator(id); });
  return true;
}

bool Faults::PauseCoordinator() {
  const std::string id = random_.Of(cluster_.coordinators());
  Process* const process = cluster_.coordinator_process(id);
  if (process == nullptr || process->paused()) return false;
  PauseFor(process, Long(), [this, id] { return cluster_.coordinator_process(id); });
  return true;
}

bool Faults::EtcdRequests() {
  EtcdModel::Faults& faults = cluster_.etcd().faults();
  faults.lose_question = random_.Below(300);
  faults.lose_answer = random_.Below(300);
  faults.late = random_.Below(200);
  faults.delay_max = random_.Between(Millis(1), Millis(200));
  Trace("etcd loses and delays requests");
  Later(Long(), [this] { cluster_.etcd().faults() = {}; });
  return true;
}

bool Faults::Partition() {
  if (cluster_.network().partitioned()) return false;
  std::vector<std::string> machines = cluster_.nodes();
  for (const std::string& id : cluster_.coordinators()) machines.push_back(id);
  const std::string cut = random_.Of(machines);
  machines.push_back(kEtcdMachine);
  // Often a node loses its coordinators alone: its links stand and its lease runs out.
  if (random_.Chance(300)) machines = cluster_.coordinators();
  const bool in = random_.Chance(700), out = !in || random_.Chance(700);
  // From everybody, or from some.
  const uint64_t share = random_.Chance(400) ? 1000 : 400;
  for (const std::string& other : machines) {
    if (other == cut || !random_.Chance(share)) continue;
    if (in) cluster_.network().Block(other, cut);
    if (out) cluster_.network().Block(cut, other);
    Trace("partition: " + cut +
          (in && out ? " <> "
           : in      ? " hears nothing of "
                     : " is not heard by ") +
          other);
  }
  Later(Long(), [this] {
    Trace("the partition heals");
    cluster_.network().HealAll();
  });
  return true;
}

bool Faults::Drain() {
  coordinator::DrainRequest request;
  request.drain.node = random_.Of(cluster_.nodes());
  switch (random_.Below(3)) {
    case 0:
      request.drain.returns = true;
      break;
    case 1:
      request.drain.after = random_.Of(cluster_.nodes());
      break;
    default:
      request.force = true;
  }
  cluster_.Wish(request);
  Later(2 * Long(), [this] { EndDrains(); });
  return true;
}

void Faults::EndDrains() {
  const auto& record = cluster_.Record();
  if (!record) return;
  for (const coordinator::Drain& drain : record->drains) {
    if (!drain.returns) cluster_.Wish({drain, /*end=*/true});
  }
}

bool Faults::Slow() {
  const NodeId id = random_.Of(cluster_.nodes());
  Process* const process =
      random_.Chance(500) ? cluster_.proxy_process(id) : cluster_.redis_process(id);
  if (process == nullptr) return false;
  const Duration delay = random_.Between(Micros(100), Millis(30));
  Trace(process->name() + " is slow");
  process->SetDelay(delay);
  Later(Long(), [this, id] {
    for (Process* each : {cluster_.proxy_process(id), cluster_.redis_process(id)}) {
      if (each != nullptr) each->SetDelay(Duration(0));
    }
  });
  return true;
}

}  // namespace catena::sim
