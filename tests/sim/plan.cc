#include "tests/sim/plan.h"

#include <algorithm>
#include <iterator>
#include <sstream>

namespace catena::sim {
namespace {

Duration Often(Random& random) { return random.Between(Millis(400), Seconds(6)); }

void DrawFaults(Plan& plan, Random& random) {
  // From none at all to nearly all kinds.
  const uint64_t share = random.Below(700);
  for (Duration& every : plan.every) {
    if (random.Chance(share)) every = Often(random);
  }
}

void DrawNetwork(Plan& plan, Random& random) {
  if (random.Chance(500)) plan.network.delay_max = random.Between(Millis(1), Millis(40));
  if (random.Chance(200)) plan.network.window = static_cast<size_t>(random.Between(512, 8192));
  if (random.Chance(300)) plan.network.short_reads = random.Below(500);
  if (random.Chance(300)) plan.network.dials_twice = random.Below(500);
}

void DrawWorkload(Plan& plan, Random& random) {
  plan.clients = static_cast<size_t>(random.Between(2, 6));
  plan.keys = random.Chance(300) ? 1 : static_cast<size_t>(random.Between(2, 6));
  plan.pipeline_max = static_cast<size_t>(random.Between(1, 6));
  plan.think_max = random.Between(Millis(5), Millis(150));
  plan.writes = static_cast<uint64_t>(random.Between(200, 800));
  if (random.Chance(300)) plan.transactions = random.Below(300);
  if (random.Chance(300)) plan.multi_key = random.Below(300);
  if (random.Chance(150)) plan.whole_database = random.Below(100);
  if (random.Chance(400)) {
    for (uint64_t& share : plan.consistency) share = random.Below(1000);
  }
}

// Clients at the heels of each other on few keys, on a network on which news takes its time.
void MakeHot(Plan& plan, Random& random) {
  plan.network.delay_max = random.Between(Millis(2), Millis(30));
  plan.keys = static_cast<size_t>(random.Between(1, 3));
  plan.clients = static_cast<size_t>(random.Between(4, 6));
  plan.pipeline_max = static_cast<size_t>(random.Between(1, 2));
  plan.think_max = Millis(5);
  plan.writes = static_cast<uint64_t>(random.Between(100, 400));
  plan.consistency = {1000, 0, 0, 0};
  if (random.Chance(500)) plan.multi_key = 300;
  if (random.Chance(300)) plan.whole_database = 60;
}

// What the schedule needs.
void PrepareFor(Plan& plan, const std::string& story) {
  Random random(plan.seed * 0x9E3779B97F4A7C15 + 5);
  plan.story = story;
  plan.nodes = plan.replicas = story == "S19" ? 4 : 3;
  plan.coordinators = std::max<size_t>(plan.coordinators, 2);
  plan.every = {};
  plan.storm = Seconds(30);
  plan.network.window = 64u << 10;
  plan.clients = 2;
  if (story == "S11" || story == "S13") plan.writes = 0;
  if (story == "S17") plan.lease = Seconds(6);
  if (story == "S19") MakeHot(plan, random);
}

// Those whose end is no operator's choice may come by chance.
constexpr const char* kStories[] = {"S5",  "S5b", "S6",  "S7",  "S8",  "S9", "S11",
                                    "S13", "S14", "S17", "S18", "S19", "I7"};
// Their steps are a Redis's: its sockets, its stream, its life beside the proxy.
constexpr const char* kStoriesOfRedis[] = {"S5b", "S6", "S9", "S11", "S12", "S14", "S17", "I7"};

template <size_t size>
bool IsIn(const char* const (&names)[size], const std::string& name) {
  return std::find(names, names + size, name) != names + size;
}

// A moment becomes known to be fresh after a commit, and is old before the next heartbeat's does.
void DrawMaxStaleness(Plan& plan) {
  Random random(plan.seed * 0x9E3779B97F4A7C15 + 13);
  const Duration least = 2 * plan.heartbeat + 10 * plan.network.delay_max;
  if (plan.consistency[2] > 0) plan.max_staleness = random.Between(least, 2 * least);
}

void DrawDisk(Plan& plan) {
  Random random(plan.seed * 0x9E3779B97F4A7C15 + 11);
  const Duration most[] = {Micros(100), Millis(5), Millis(50)};
  plan.disk_max = random.Between(Micros(10), most[random.Below(std::size(most))]);
}

}  // namespace

const char* FaultName(Fault fault) {
  constexpr const char* kNames[] = {"crash-proxy",
                                    "pause-proxy",
                                    "stop-proxy",
                                    "crash-redis",
                                    "pause-redis",
                                    "crash-coordinator",
                                    "pause-coordinator",
                                    "etcd-leader",
                                    "etcd-requests",
                                    "partition",
                                    "break",
                                    "drain",
                                    "slow"};
  return kNames[static_cast<int>(fault)];
}

bool IsStory(const std::string& name, Database database) {
  const bool known = name == "S12" || IsIn(kStories, name);
  return known && (database == Database::kRedis || !IsIn(kStoriesOfRedis, name));
}

Plan::Plan(uint64_t seed_, const std::string& story_, Database database_)
    : seed(seed_), database(database_) {
  Random random(seed * 0x2545F4914F6CDD1D + 1);
  nodes = static_cast<size_t>(random.Between(2, 4));
  replicas = nodes > 2 && random.Chance(200) ? nodes - 1 : nodes;
  coordinators = static_cast<size_t>(random.Between(1, 3));
  storm = random.Between(Seconds(5), Seconds(16));
  redis.snapshot = random.Between(Millis(1), Millis(300));
  redis.load = random.Between(Millis(1), Millis(300));
  if (random.Chance(200)) redis.backlog_bytes = 4096;
  DrawFaults(*this, random);
  DrawNetwork(*this, random);
  DrawWorkload(*this, random);
  if (random.Chance(300)) MakeHot(*this, random);
  if (random.Chance(300)) {
    lease = Millis(400);
    heartbeat = Millis(80);
  }
  if (!story_.empty()) {
    PrepareFor(*this, story_);
  } else if (random.Chance(30)) {
    const std::string drawn = kStories[random.Below(std::size(kStories))];
    if (IsStory(drawn, database)) PrepareFor(*this, drawn);
  }
  DrawMaxStaleness(*this);
  if (database == Database::kRedis) {
    Random random(seed * 0x9E3779B97F4A7C15 + 17);
    lists = random.Chance(300);
    databases = story.empty() && random.Chance(300);
  }
  if (database == Database::kRocksDb) DrawDisk(*this);
}

std::string Plan::Describe() const {
  std::ostringstream text;
  text << "seed " << seed << ": " << nodes << " nodes, " << replicas << " replicas, "
       << coordinators << " coordinators, " << clients << " clients, " << keys << " keys;"
       << (story.empty() ? "" : " story " + story);
  if (max_staleness > Duration(0)) text << " max_staleness " << max_staleness / Millis(1) << "ms;";
  for (size_t i = 0; i < kFaults; ++i) {
    if (every[i] > Duration(0))
      text << ' ' << FaultName(static_cast<Fault>(i)) << "/" << every[i] / Millis(1) << "ms";
  }
  return text.str();
}

}  // namespace catena::sim
