// What one run is made of, drawn from its seed: the size of the cluster, which faults there are and
// how often, what the clients do. Each run has only some kinds of faults ("swarm"): a fault that is
// always there hides what happens without it.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "proxy/server/options.h"
#include "tests/sim/network.h"
#include "tests/sim/redis_model.h"

namespace catena::sim {

// What is behind each proxy.
enum class Database { kRedis, kRocksDb };

// With a RocksDB in the proxies those of Redis are faults of its disk.
enum class Fault {
  kCrashProxy,  // its process ends; maybe with its machine
  kPauseProxy,  // longer than a lease, or a moment
  kStopProxy,   // graceful stop, start later
  kCrashRedis,  // and what it finds at the restart: all, a part, nothing
  kPauseRedis,  // a disk: it hangs
  kCrashCoordinator,
  kPauseCoordinator,
  kEtcdLeader,    // etcd's own leader changes
  kEtcdRequests,  // requests and answers are lost or late for a while
  kPartition,     // one machine from others, one way or both
  kBreak,         // a connection breaks
  kDrain,         // an operator takes a node out for a while, or puts it elsewhere
  kSlow,          // a process gets the processor late for a while
  kCount
};
inline constexpr size_t kFaults = static_cast<size_t>(Fault::kCount);
const char* FaultName(Fault fault);
// One that can be told of such a database.
bool IsStory(const std::string& name, Database database);

struct Plan {
  // `story`: tells this one, with fewer faults of chance around it. A seed is the same plan with
  // either database, but for the stories that it has not.
  explicit Plan(uint64_t seed, const std::string& story = "", Database database = Database::kRedis);

  uint64_t seed;
  Database database = Database::kRedis;
  size_t nodes = 3, replicas = 3, coordinators = 2;
  Duration lease = Seconds(1), heartbeat = Millis(200);
  int64_t drift_ppm_max = 9000;  // each clock; the margin between two is 20,000
  Network::Options network;
  RedisTimes redis;
  Duration max_staleness{0};  // of eventual reads; 0: no bound
  Duration disk_max{0};       // how long RocksDB's work takes

  Duration calm = Seconds(3);             // the chain forms
  Duration storm = Seconds(12);           // faults
  std::array<Duration, kFaults> every{};  // mean time between two faults of a kind; 0: none

  size_t clients = 4;
  size_t keys = 4;
  size_t pipeline_max = 4;
  Duration think_max = Millis(60);
  uint64_t writes = 500;  // per mille of the commands
  uint64_t transactions = 0, multi_key = 0, whole_database = 0;
  bool lists = false;      // RPUSH and BLPOP, too
  bool databases = false;  // connections select others, too
  std::array<uint64_t, 4> consistency = {1000, 0, 0,
                                         0};  // shares of connections, in order of the enum

  // A schedule that is carried out besides (story.h); "": none.
  std::string story;

  std::string Describe() const;
};

}  // namespace catena::sim
