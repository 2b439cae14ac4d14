// What goes wrong, when, and for how long. Everything that it breaks it mends in Calm().
//
// Faults stay within what a chain promises to survive: of the members of the newest configuration
// one that is synced keeps its data and its log, or all keep their RocksDB. A database loses its
// data, or its proxy its log, only while others are whole and the configuration has been the same
// for a while.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "tests/sim/cluster.h"

namespace catena::sim {

class Faults {
 public:
  explicit Faults(Cluster& cluster);

  // From now until Calm().
  void Begin();
  void Calm();
  // Whatever does not run is started, whoever was drained may come back.
  void StartAll();
  // How often each kind happened.
  const std::map<Fault, int>& counts() const { return counts_; }

 private:
  void Schedule(Fault fault);
  bool Happen(Fault fault);
  bool CrashProxy();
  bool PauseProxy();
  bool StopProxy();
  bool CrashRedis();
  bool PauseRedis();
  void OverrunScript(const NodeId& id, Duration time);
  bool CrashEverybody();
  bool MayCrashEverybody();
  void KillEverybody();
  bool LoseDisk();
  bool HangDisk();
  bool OfRocksDb() const { return cluster_.plan().database == Database::kRocksDb; }
  bool CrashCoordinator();
  bool PauseCoordinator();
  bool EtcdRequests();
  bool Partition();
  bool Drain();
  void EndDrains();
  bool Slow();
  // A member has lost what it held and is listed still: no other may fail until it is removed.
  bool Recovering();
  void NoteLoss(const NodeId& id);
  // The last head's database has everything, and the coordinators know it.
  bool IsCompleteHead(const NodeId& id);
  // Members but `id` that would still hold everything if `id` lost it.
  size_t WholeWithout(const NodeId& id);
  Duration Long();
  void Exhaust(Process* process, Duration time, std::function<Process*()> again);
  void PauseFor(Process* process, Duration time, std::function<Process*()> again);
  void Later(Duration delay, std::function<void()> mend);
  void Trace(const std::string& line);

  Cluster& cluster_;
  Random random_;
  bool storm_ = false;
  uint64_t storms_ = 0;
  std::map<Fault, int> counts_;
  std::optional<chain::Member> lost_;
  Epoch epoch_;
  TimePoint same_since_{};
};

}  // namespace catena::sim
