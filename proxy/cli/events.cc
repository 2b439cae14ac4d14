#include "proxy/cli/events.h"

#include <chrono>
#include <ctime>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "proxy/cli/client.h"
#include "proxy/cli/exit.h"

namespace catena::cli {
namespace {

constexpr std::chrono::milliseconds kLookAgain{500};

// "2026-01-31 12:00:00.123Z"
std::string WallTime(int64_t wall_ms) {
  const auto seconds = static_cast<std::time_t>(wall_ms / 1000);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[40];
  const size_t length = std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  std::snprintf(text + length, sizeof text - length, ".%03dZ", static_cast<int>(wall_ms % 1000));
  return text;
}

std::string AsJson(const coordinator::Event& event, const std::string& chain) {
  const nlohmann::json line = {{"chain", chain},           {"time", WallTime(event.wall_ms)},
                               {"wall_ms", event.wall_ms}, {"epoch", event.epoch.value()},
                               {"members", event.members}, {"reason", event.reason}};
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Those behind `last`, which may have been forgotten meanwhile.
size_t FirstNew(const std::vector<coordinator::Event>& events, const coordinator::Event& last) {
  for (size_t i = events.size(); i > 0; --i) {
    if (events[i - 1] == last) return i;
  }
  return 0;
}

}  // namespace

std::string RenderEvent(const coordinator::Event& event, const std::string& chain) {
  std::string members;
  for (const NodeId& member : event.members) members += (members.empty() ? "" : ",") + member;
  return WallTime(event.wall_ms) + (chain.empty() ? "" : "  " + chain) + "  epoch " +
         std::to_string(event.epoch.value()) + "  [" + members + "]  " + event.reason;
}

int ShowEvents(const config::Config& config, const std::string& chain,
               const EventsOptions& options) {
  std::vector<std::string> chains;
  for (const config::Chain& each : config.chains) {
    if (chain.empty() || each.name == chain) chains.push_back(each.name);
  }
  if (chains.empty()) {
    return Complain(config.path + " has no chain " + chain, kWrongUse);
  }
  std::map<std::string, coordinator::Event> last;
  while (true) {
    for (const std::string& name : chains) {
      const Result<coordinator::EventHistory> history = FetchEvents(config, name);
      if (!history && !options.follow) return Complain(history.error().message);
      if (!history || history->events.empty()) continue;
      const auto seen = last.find(name);
      size_t i = seen == last.end() ? 0 : FirstNew(history->events, seen->second);
      for (; i < history->events.size(); ++i) {
        const coordinator::Event& event = history->events[i];
        const std::string shown = chains.size() > 1 ? name : "";
        std::cout << (options.json ? AsJson(event, name) : RenderEvent(event, shown)) << std::endl;
      }
      last.insert_or_assign(name, history->events.back());
    }
    if (!options.follow) return kDone;
    std::this_thread::sleep_for(kLookAgain);
  }
}

}  // namespace catena::cli
