#include "proxy/cli/top.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <vector>

#include "proxy/cli/client.h"
#include "proxy/cli/exit.h"
#include "proxy/cli/status.h"

namespace catena::cli {
namespace {

using coordinator::ChainStatus;
using coordinator::ClusterStatus;
using coordinator::EventHistory;
using coordinator::NodeStatus;
using coordinator::ReportPhase;

constexpr size_t kEventsShown = 8;
constexpr std::string_view kBold = "1", kDim = "2", kRed = "31", kGreen = "32", kYellow = "33";

// A line in the making: cut at the screen's edge, counted without its colours.
class Line {
 public:
  explicit Line(const Screen& screen) : screen_(screen) {}

  Line& Add(std::string_view text, std::string_view colour = "") {
    const std::string_view fitting = text.substr(0, screen_.width - width_);
    width_ += fitting.size();
    if (fitting.empty()) return *this;
    const bool paints = screen_.colour && !colour.empty();
    if (paints) text_ += "\033[" + std::string(colour) + "m";
    for (const char c : fitting) text_ += static_cast<unsigned char>(c) < ' ' ? '?' : c;
    if (paints) text_ += "\033[0m";
    return *this;
  }
  Line& Left(std::string_view text, size_t width, std::string_view colour = "") {
    Add(text.substr(0, width), colour);
    return Add(std::string(width > text.size() ? width - text.size() : 0, ' ')).Add(" ");
  }
  Line& Right(std::string_view text, size_t width, std::string_view colour = "") {
    Add(std::string(width > text.size() ? width - text.size() : 0, ' '));
    return Add(text, colour).Add(" ");
  }
  std::string Text() const { return text_; }

 private:
  const Screen& screen_;
  std::string text_;
  size_t width_ = 0;
};

std::string Short(double value, std::initializer_list<const char*> units, double step) {
  auto unit = units.begin();
  while (value >= 1000 && unit + 1 != units.end()) {
    value /= step;
    ++unit;
  }
  char text[32];
  const bool fraction = unit != units.begin() && value < 10;
  std::snprintf(text, sizeof text, fraction ? "%.1f%s" : "%.0f%s", value, *unit);
  return text;
}

std::string Bytes(uint64_t count) {
  return Short(static_cast<double>(count), {"B", "KB", "MB", "GB", "TB"}, 1024);
}
std::string Count(double count) { return Short(count, {"", "k", "M", "G"}, 1000); }

std::string Time(Duration duration) {
  const double seconds = std::chrono::duration<double>(duration).count();
  char text[32];
  std::snprintf(text, sizeof text, seconds < 1 ? "%.0fms" : "%.1fs",
                seconds < 1 ? seconds * 1000 : seconds);
  return text;
}

std::string RoleOf(size_t index, size_t count) {
  if (count == 1) return "only";
  return index == 0 ? "head" : index + 1 == count ? "tail" : "middle";
}

// What is wrong with a member, and how bad it is.
std::pair<std::string, std::string_view> StateOf(const NodeStatus& node, Epoch epoch) {
  if (!node.notice.empty()) return {node.notice, kRed};
  if (node.report.phase == ReportPhase::kResigning) {
    return {"resigning: " + node.report.problem, kYellow};
  }
  if (!node.report.backend.healthy) return {node.report.backend.problem, kRed};
  if (node.report.epoch != epoch) {
    return {"in epoch " + std::to_string(node.report.epoch.value()), kYellow};
  }
  if (!node.report.synced) return {"catching up", kYellow};
  return {"serving", kGreen};
}

class Frame {
 public:
  Frame(const Rates& rates, const Screen& screen) : rates_(rates), screen_(screen) {}

  void Cluster(const ClusterStatus& status) {
    Line line(screen_);
    line.Add("Catena ").Add(status.cluster, kBold).Add("   leader ");
    line.Add(status.leader.empty() ? "none" : status.leader, status.leader.empty() ? kRed : "");
    line.Add("   etcd ")
        .Add(status.etcd_healthy ? "well" : "does not answer", status.etcd_healthy ? kGreen : kRed);
    Put(line);
  }

  void Chain(const ChainStatus& chain, const EventHistory& events) {
    lines_.emplace_back();
    Headline(chain);
    Members(chain);
    Others(chain);
    Events(events);
  }

  std::string Text() const {
    std::string out;
    const size_t count =
        screen_.height == 0 ? lines_.size() : std::min(lines_.size(), screen_.height);
    for (size_t i = 0; i < count; ++i) out += lines_[i] + "\n";
    return out;
  }

 private:
  void Put(const Line& line) { lines_.push_back(line.Text()); }

  void Headline(const ChainStatus& chain) {
    const size_t members = chain.record ? chain.record->configuration.members.size() : 0;
    Line line(screen_);
    line.Add(chain.chain, kBold).Add("   ");
    line.Add(std::to_string(members) + " of " + std::to_string(chain.replicas) + " members",
             members < chain.replicas ? kYellow : kGreen);
    if (chain.record) {
      line.Add("   epoch " + std::to_string(chain.record->configuration.epoch.value()));
    }
    Put(line);
    if (chain.waiting_for.empty()) return;
    const std::string_view what = chain.needs_operator ? "an operator is needed: " : "waiting for ";
    Put(Line(screen_).Add(std::string(what) + chain.waiting_for,
                          chain.needs_operator ? kRed : kYellow));
  }

  void Members(const ChainStatus& chain) {
    if (!chain.record) return;
    Put(Columns("role", "node", "req/s", "clients", "lag", "uncomm", "lease", "keys", "state", kDim,
                kDim));
    Position newest;
    for (const NodeStatus& node : chain.nodes) {
      if (node.member) newest = std::max(newest, node.report.received);
    }
    const size_t count = chain.record->configuration.members.size();
    size_t index = 0;
    for (const NodeStatus& node : chain.nodes) {
      if (!node.member) continue;
      const coordinator::NodeReport& report = node.report;
      const double rate = rates_.Of(report);
      const auto [state, mood] = StateOf(node, chain.record->configuration.epoch);
      const uint64_t lag = newest > report.applied ? newest - report.applied : 0;
      const uint64_t uncommitted =
          report.received > report.committed ? report.received - report.committed : 0;
      Put(Columns(RoleOf(index++, count), report.node, rate < 0 ? "-" : Count(rate),
                  Count(static_cast<double>(report.clients_connected)),
                  report.head_ready ? "-" : Bytes(lag), Bytes(uncommitted),
                  node.lease_out > Duration(0) ? Time(node.lease_out) : "none",
                  Count(static_cast<double>(report.backend.keys)), state, "", mood));
    }
  }

  Line Columns(std::string_view role, std::string_view node, std::string_view rate,
               std::string_view clients, std::string_view lag, std::string_view uncommitted,
               std::string_view lease, std::string_view keys, std::string_view state,
               std::string_view colour, std::string_view mood) const {
    Line line(screen_);
    line.Left(role, 6, colour).Left(node, 12, colour.empty() ? kBold : colour);
    line.Right(rate, 6, colour);
    // What says least goes first where there is little room.
    if (screen_.width >= 64) line.Right(clients, 7, colour);
    line.Right(lag, 6, colour);
    if (screen_.width >= 76) line.Right(uncommitted, 6, colour);
    line.Right(lease, 6, colour);
    if (screen_.width >= 84) line.Right(keys, 6, colour);
    line.Add(" ").Add(state, mood);
    return line;
  }

  void Others(const ChainStatus& chain) {
    for (const NodeStatus& node : chain.nodes) {
      if (node.member) continue;
      const coordinator::NodeReport& report = node.report;
      const bool joins =
          report.phase == ReportPhase::kJoining || (chain.join && chain.join->node == report.node);
      Line line(screen_);
      if (report.incarnation.value() == 0) {
        line.Left("-", 6).Left(report.node, 12).Add("not heard of", kYellow);
      } else if (joins) {
        line.Left("joins", 6).Left(report.node, 12, kBold).Add(Progress(report), kYellow);
      } else {
        // A member's last words say so still.
        const bool gone = report.phase == ReportPhase::kMember;
        const std::string why = node.notice.empty() ? report.problem : node.notice;
        const bool spare = report.phase == ReportPhase::kCandidate && why.starts_with("stands by");
        line.Left(spare ? "spare" : "-", 6).Left(report.node, 12);
        if (!spare)
          line.Add(gone ? "gone" : PhaseName(report.phase), gone ? kRed : kYellow).Add(", ");
        line.Add("heard " + Time(node.heard_ago) + " ago" + (why.empty() ? "" : ": " + why), kDim);
      }
      Put(line);
    }
  }

  std::string Progress(const coordinator::NodeReport& report) const {
    if (report.snapshot_total == 0) return "from the log";
    const double share = std::min(1.0, static_cast<double>(report.snapshot_done) /
                                           static_cast<double>(report.snapshot_total));
    constexpr int kCells = 20;
    const int done = static_cast<int>(share * kCells);
    return "[" + std::string(static_cast<size_t>(done), '#') +
           std::string(static_cast<size_t>(kCells - done), '.') + "] " +
           std::to_string(static_cast<int>(share * 100)) + " % of " + Bytes(report.snapshot_total);
  }

  void Events(const EventHistory& history) {
    const size_t count = std::min(kEventsShown, history.events.size());
    for (size_t i = 0; i < count; ++i) {
      const coordinator::Event& event = history.events[history.events.size() - 1 - i];
      const std::time_t seconds = event.wall_ms / 1000;
      std::tm local{};
      localtime_r(&seconds, &local);
      char clock[16];
      std::strftime(clock, sizeof clock, "%H:%M:%S", &local);
      std::string order;
      for (const NodeId& id : event.members) order += (order.empty() ? "" : " > ") + id;
      Put(Line(screen_)
              .Add("  ")
              .Left(clock, 8, kDim)
              .Add("epoch " + std::to_string(event.epoch.value()) + "  " + event.reason)
              .Add("  " + order, kDim));
    }
  }

  const Rates& rates_;
  const Screen& screen_;
  std::vector<std::string> lines_;
};

volatile std::sig_atomic_t interrupted = 0;

// As the terminal is now; a screen that is none is as wide as COLUMNS says, or 80.
Screen CurrentScreen(bool once) {
  Screen screen;
  winsize size{};
  const bool terminal = isatty(STDOUT_FILENO) == 1;
  if (terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    screen.width = size.ws_col;
    // The last line stays free: writing into its end would scroll.
    if (!once && size.ws_row > 1) screen.height = size.ws_row - 1u;
  } else if (const char* columns = std::getenv("COLUMNS")) {
    screen.width = static_cast<size_t>(std::max(20, std::atoi(columns)));
  }
  screen.colour = terminal && std::getenv("NO_COLOR") == nullptr;
  return screen;
}

struct Shown {
  ClusterStatus status;
  std::map<std::string, EventHistory> events;
};

Result<Shown> Fetch(const config::Config& config) {
  Result<ClusterStatus> status = FetchStatus(config);
  if (!status) return Fail(status.error().message);
  Shown shown{std::move(*status), {}};
  for (const ChainStatus& chain : shown.status.chains) {
    auto events = FetchEvents(config, chain.chain);
    if (events) shown.events[chain.chain] = std::move(*events);
  }
  return shown;
}

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Sleep(Duration duration) {
  timespec rest{};
  rest.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(duration).count();
  rest.tv_nsec = (duration % std::chrono::seconds(1)).count();
  nanosleep(&rest, nullptr);  // a signal ends it
}

}  // namespace

void Rates::Add(const ClusterStatus& status, double now) {
  for (const ChainStatus& chain : status.chains) {
    for (const NodeStatus& node : chain.nodes) {
      const coordinator::NodeReport& report = node.report;
      const auto [entry, is_new] = seen_.try_emplace({report.node, report.incarnation});
      Seen& seen = entry->second;
      // The same report again says nothing about the time since.
      if (!is_new && report.number == seen.number) continue;
      if (!is_new && report.commands_answered >= seen.answered && now > seen.at) {
        seen.rate = static_cast<double>(report.commands_answered - seen.answered) / (now - seen.at);
      }
      seen = Seen{report.number, report.commands_answered, now, seen.rate};
    }
  }
}

double Rates::Of(const coordinator::NodeReport& report) const {
  const auto entry = seen_.find({report.node, report.incarnation});
  return entry == seen_.end() ? -1 : entry->second.rate;
}

std::string RenderTop(const ClusterStatus& status,
                      const std::map<std::string, EventHistory>& events, const Rates& rates,
                      const Screen& screen) {
  Frame frame(rates, screen);
  frame.Cluster(status);
  for (const ChainStatus& chain : status.chains) {
    const auto history = events.find(chain.chain);
    frame.Chain(chain, history == events.end() ? EventHistory() : history->second);
  }
  return frame.Text();
}

int RunTop(const config::Config& config, bool once) {
  Rates rates;
  if (once) {
    Result<Shown> shown = Fetch(config);
    if (shown) {
      rates.Add(shown->status, Seconds());
      Sleep(std::chrono::milliseconds(500));
      shown = Fetch(config);
    }
    if (!shown) return Complain(shown.error().message);
    rates.Add(shown->status, Seconds());
    std::cout << RenderTop(shown->status, shown->events, rates, CurrentScreen(true));
    return 0;
  }
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // Another screen, without a cursor; the terminal gets its own back at the end.
  std::cout << "\033[?1049h\033[?25l";
  while (interrupted == 0) {
    const Result<Shown> shown = Fetch(config);
    std::string frame;
    if (shown) {
      rates.Add(shown->status, Seconds());
      frame = RenderTop(shown->status, shown->events, rates, CurrentScreen(false));
    } else {
      frame = shown.error().message + "\n";
    }
    // Each line ends what an earlier frame left there, the last everything below.
    std::string out = "\033[H";
    for (const char c : frame) out += c == '\n' ? "\033[K\r\n" : std::string(1, c);
    std::cout << out << "\033[J" << std::flush;
    Sleep(std::chrono::seconds(1));
  }
  std::cout << "\033[?25h\033[?1049l" << std::flush;
  return 0;
}

}  // namespace catena::cli
