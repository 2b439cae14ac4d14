#include "proxy/admin/process_metrics.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace catena::admin {
namespace {

Duration ToDuration(const timeval& time) {
  return std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec);
}

uint64_t ResidentBytes() {
  uint64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

uint64_t OpenDescriptors() {
  uint64_t count = 0;
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator("/proc/self/fd", error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    ++count;
  }
  return count;
}

}  // namespace

void AppendProcessMetrics(Exposition& out, const Histogram& turns) {
  out.Times("catena_loop_turn_seconds",
            "One turn of the event loop; what came meanwhile waited so long.", turns);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  out.Counter("process_cpu_seconds_total", "Processor time used.",
              ToDuration(usage.ru_utime) + ToDuration(usage.ru_stime));
  out.Gauge("process_resident_memory_bytes", "Memory resident.", ResidentBytes());
  out.Gauge("process_open_fds", "Descriptors that are open.", OpenDescriptors());
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  out.Gauge("process_max_fds", "Descriptors that may be open.",
            static_cast<uint64_t>(limit.rlim_cur));
}

}  // namespace catena::admin
