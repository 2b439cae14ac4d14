// Runs seeds of the simulator, each in a process of its own kind: a broken invariant of the real
// code aborts, and must cost one seed only.
//
//   catena_sim --seeds N [--from S] [--jobs J]   ends with "seeds N violations V"
//   catena_sim --seed S --trace                  replays one with a readable trace
//   catena_sim --story S8 ...                    any of these with this schedule (story.h)
//   catena_sim --backend rocksdb ...             any of these with a RocksDB in the proxies
//   catena_sim --drift PPM ...                   any of these with clocks that go wrong by up to so
//                                                much; beyond what is promised they make violations
// and in a build with CATENA_MUTANTS:
//   catena_sim --mutants                         ends with "mutants M caught C"
//   catena_sim --mutant NAME ...                 any of the above with this defect
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "proxy/base/log.h"
#include "tests/sim/mutants.h"
#include "tests/sim/simulation.h"

namespace {

using namespace catena;

struct Flags {
  uint64_t from = 1, seeds = 1;
  size_t jobs = std::max(1u, std::thread::hardware_concurrency());
  bool trace = false;
  bool mutants = false;
  bool stop_at_first = false;
  std::string story;
  sim::Database database = sim::Database::kRedis;
  std::optional<int64_t> drift_ppm;
};

bool ParseDatabase(const std::string& name, sim::Database& database) {
  if (name == "rocksdb") database = sim::Database::kRocksDb;
  return name == "redis" || name == "rocksdb";
}

bool Parse(int argc, char** argv, Flags& flags) {
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--trace") {
      flags.trace = true;
      continue;
    }
    if (flag == "--mutants") {
      flags.mutants = true;
      continue;
    }
    if (++i >= argc) return false;
    if (flag == "--story") {
      flags.story = argv[i];
      continue;
    }
    if (flag == "--backend") {
      if (!ParseDatabase(argv[i], flags.database)) return false;
      continue;
    }
    if (flag == "--mutant") {
      if (!sim::Plant(argv[i])) return false;
      continue;
    }
    const uint64_t value = std::strtoull(argv[i], nullptr, 10);
    if (flag == "--seeds") {
      flags.seeds = value;
    } else if (flag == "--from" || flag == "--seed") {
      flags.from = value;
    } else if (flag == "--drift") {
      flags.drift_ppm = static_cast<int64_t>(std::min<uint64_t>(value, 900'000));
    } else if (flag == "--jobs") {
      flags.jobs = std::max<size_t>(1, value);
    } else {
      return false;
    }
  }
  return flags.story.empty() || sim::IsStory(flags.story, flags.database);
}

std::string ReplayCommand(uint64_t seed, const Flags& flags) {
  return "tests/sim.sh --seed " + std::to_string(seed) + " --trace" +
         (flags.database == sim::Database::kRocksDb ? " --backend rocksdb" : "") +
         (flags.drift_ppm ? " --drift " + std::to_string(*flags.drift_ppm) : "") +
         (flags.story.empty() ? "" : " --story " + flags.story);
}

sim::Outcome RunSeed(uint64_t seed, bool trace, const Flags& flags) {
  sim::Plan plan(seed, flags.story, flags.database);
  if (flags.drift_ppm) plan.drift_ppm_max = *flags.drift_ppm;
  if (!trace) return sim::Simulate(plan, nullptr);
  std::printf("%s\n", plan.Describe().c_str());
  // The real code's log lines, among those of the simulation.
  log::SendTo([](std::string_view line) { sim::Scheduler::TraceNow(line); });
  return sim::Simulate(plan, [](std::string_view line) {
    std::printf("%.*s\n", static_cast<int>(line.size()), line.data());
  });
}

// One line of text a seed, from the child to the parent:
// "end violations operators undecided commands events simulated_ms epochs faults recoveries".
int RunShare(const Flags& flags, size_t job, int out) {
  for (uint64_t i = job; i < flags.seeds; i += flags.jobs) {
    const uint64_t seed = flags.from + i;
    dprintf(out, "begin %llu\n", static_cast<unsigned long long>(seed));
    const sim::Outcome outcome = RunSeed(seed, false, flags);
    int faults = 0;
    for (const auto& [fault, count] : outcome.faults) faults += count;
    if (!outcome.violation.empty()) {
      std::printf("seed %llu: %s\n  replay: %s\n", static_cast<unsigned long long>(seed),
                  outcome.violation.c_str(), ReplayCommand(seed, flags).c_str());
      std::fflush(stdout);
    }
    dprintf(out, "end %d %d %llu %llu %llu %lld %llu %d %llu\n", outcome.violation.empty() ? 0 : 1,
            outcome.needs_operator ? 1 : 0, static_cast<unsigned long long>(outcome.undecided),
            static_cast<unsigned long long>(outcome.commands),
            static_cast<unsigned long long>(outcome.events),
            static_cast<long long>(outcome.simulated / sim::Millis(1)),
            static_cast<unsigned long long>(outcome.epochs), faults,
            static_cast<unsigned long long>(outcome.recoveries));
    if (flags.stop_at_first && !outcome.violation.empty()) break;
  }
  return 0;
}

struct Totals {
  uint64_t seeds = 0, violations = 0, operators = 0, undecided = 0, commands = 0, events = 0,
           epochs = 0, faults = 0, recoveries = 0;
  double simulated_ms = 0;
};

void Collect(FILE* in, Totals& totals, const Flags& flags, bool quiet) {
  unsigned long long seed = 0;
  bool open = false;
  char line[256];
  while (std::fgets(line, sizeof line, in)) {
    unsigned long long undecided = 0, commands = 0, events = 0, epochs = 0, recoveries = 0;
    long long simulated = 0;
    int violated = 0, operators = 0, faults = 0;
    if (std::sscanf(line, "begin %llu", &seed) == 1) {
      open = true;
    } else if (std::sscanf(line, "end %d %d %llu %llu %llu %lld %llu %d %llu", &violated,
                           &operators, &undecided, &commands, &events, &simulated, &epochs, &faults,
                           &recoveries) == 9) {
      open = false;
      ++totals.seeds;
      totals.violations += static_cast<uint64_t>(violated);
      totals.operators += static_cast<uint64_t>(operators);
      if (operators > 0 && !quiet) std::printf("seed %llu: needs an operator\n", seed);
      totals.undecided += undecided;
      if (undecided > 0 && !quiet) std::printf("seed %llu: undecided\n", seed);
      totals.commands += commands;
      totals.events += events;
      totals.epochs += epochs;
      totals.recoveries += recoveries;
      totals.faults += static_cast<uint64_t>(faults);
      totals.simulated_ms += static_cast<double>(simulated);
    }
  }
  if (!open) return;
  ++totals.seeds;
  ++totals.violations;
  if (quiet) return;
  std::printf("seed %llu: the process ended\n  replay: %s\n", seed,
              ReplayCommand(seed, flags).c_str());
}

struct Job {
  pid_t pid = 0;
  FILE* results = nullptr;
};

Job Start(const std::function<int(int out)>& run) {
  int ends[2];
  if (pipe(ends) != 0) std::abort();
  std::fflush(stdout);
  const pid_t pid = fork();
  if (pid == 0) {
    close(ends[0]);
    _exit(run(ends[1]));
  }
  close(ends[1]);
  return {pid, fdopen(ends[0], "r")};
}

void Finish(const Job& job, Totals& totals, const Flags& flags, bool quiet = false) {
  Collect(job.results, totals, flags, quiet);
  std::fclose(job.results);
  waitpid(job.pid, nullptr, 0);
}

int RunMany(const Flags& flags) {
  const auto began = std::chrono::steady_clock::now();
  Totals totals;
  std::vector<Job> jobs;
  for (size_t job = 0; job < flags.jobs; ++job)
    jobs.push_back(Start([&](int out) { return RunShare(flags, job, out); }));
  for (const Job& job : jobs) Finish(job, totals, flags);
  const double took =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  std::printf(
      "%.0f s, %.1f seeds/s, %.1f simulated hours (%.0f an hour), %llu commands, %llu events, "
      "%llu faults, %llu epochs, %llu recoveries of all, %llu undecided, %llu waited for an "
      "operator\n",
      took, static_cast<double>(totals.seeds) / took, totals.simulated_ms / 3.6e6,
      totals.simulated_ms / 1000 / took, static_cast<unsigned long long>(totals.commands),
      static_cast<unsigned long long>(totals.events),
      static_cast<unsigned long long>(totals.faults),
      static_cast<unsigned long long>(totals.epochs),
      static_cast<unsigned long long>(totals.recoveries),
      static_cast<unsigned long long>(totals.undecided),
      static_cast<unsigned long long>(totals.operators));
  std::printf("seeds %llu violations %llu\n", static_cast<unsigned long long>(totals.seeds),
              static_cast<unsigned long long>(totals.violations));
  // A chain comes back by itself; that it asks is for rare double faults. Disks that lost something
  // while all proxies died are more of them.
  const uint64_t asks_once_in = flags.database == sim::Database::kRedis ? 100 : 50;
  const bool asks_seldom = totals.operators <= 1 + totals.seeds / asks_once_in;
  const bool recovers = flags.database == sim::Database::kRedis || totals.seeds < 100 ||
                        !flags.story.empty() || totals.recoveries > 0;
  const bool well = totals.violations == 0 && asks_seldom && recovers;
  return well && totals.seeds == flags.seeds ? 0 : 1;
}

// One mutant after the other in each process, the first seed that finds it ends it.
int HuntMutant(const sim::Mutant& mutant, const Flags& flags, int out) {
  if (std::freopen("/dev/null", "w", stderr) == nullptr ||
      std::freopen("/dev/null", "w", stdout) == nullptr || !sim::Plant(mutant.name))
    return 2;
  Flags own = flags;
  own.jobs = 1;
  own.seeds = flags.seeds > 1 ? flags.seeds : mutant.seeds_max;
  own.stop_at_first = true;
  own.story = mutant.story;
  return RunShare(own, 0, out);
}

// What finds a defect must not be there without it.
bool IsCleanWithout(uint64_t seed, const std::string& story, const Flags& flags) {
  Flags one;
  one.story = story;
  one.database = flags.database;
  one.from = seed;
  one.jobs = 1;
  Totals totals;
  Finish(Start([&](int out) {
           const bool quiet = std::freopen("/dev/null", "w", stdout) != nullptr;
           return quiet ? RunShare(one, 0, out) : 2;
         }),
         totals, one, /*quiet=*/true);
  return totals.violations == 0;
}

int RunMutants(const Flags& flags) {
  size_t caught = 0;
  const auto mutants = sim::Mutants();
  std::vector<std::pair<Job, size_t>> running;
  const auto finish = [&] {
    const auto [job, index] = running.front();
    running.erase(running.begin());
    Totals totals;
    Finish(job, totals, flags, /*quiet=*/true);
    const bool found = totals.violations > 0 &&
                       IsCleanWithout(flags.from + totals.seeds - 1, mutants[index].story, flags);
    caught += found ? 1 : 0;
    std::printf("%s %s: %s, %llu seeds\n", found ? "caught  " : "SURVIVED", mutants[index].name,
                mutants[index].what, static_cast<unsigned long long>(totals.seeds));
  };
  for (size_t i = 0; i < mutants.size(); ++i) {
    if (running.size() == flags.jobs) finish();
    running.emplace_back(Start([&](int out) { return HuntMutant(mutants[i], flags, out); }), i);
  }
  while (!running.empty()) finish();
  std::printf("mutants %zu caught %zu\n", mutants.size(), caught);
  return caught == mutants.size() && caught > 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  if (!Parse(argc, argv, flags)) {
    std::fprintf(stderr,
                 "usage: catena_sim [--backend redis|rocksdb] --seeds N [--from S] [--jobs J] | "
                 "--seed S --trace\n");
    return 2;
  }
  log::SetLevel(flags.trace ? log::Level::kInfo : log::Level::kOff);
  if (flags.mutants) return RunMutants(flags);
  if (!flags.trace) return RunMany(flags);
  const sim::Outcome outcome = RunSeed(flags.from, true, flags);
  std::printf("%s\n", outcome.violation.empty() ? "no violation" : outcome.violation.c_str());
  return outcome.violation.empty() ? 0 : 1;
}
