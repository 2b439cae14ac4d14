#include "proxy/cli/status.h"

#include <algorithm>
#include <array>
#include <vector>

namespace catena::cli {
namespace {

using coordinator::ChainStatus;
using coordinator::NodeReport;
using coordinator::NodeStatus;
using coordinator::ReportPhase;

enum class Colour { kNone, kGreen, kYellow, kRed, kBold };

std::string Paint(std::string_view text, Colour colour, bool enabled) {
  static constexpr std::array<std::string_view, 5> kCodes{"", "32", "33", "31", "1"};
  if (!enabled || colour == Colour::kNone) return std::string(text);
  return "\033[" + std::string(kCodes[static_cast<size_t>(colour)]) + "m" + std::string(text) +
         "\033[0m";
}

struct Cell {
  std::string text;
  Colour colour = Colour::kNone;
};
using Row = std::vector<Cell>;

// Columns as wide as their widest cell. Padding is outside of the colours.
std::string RenderTable(const std::vector<Row>& rows, bool colour) {
  std::vector<size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].text.size());
  }
  std::string out;
  for (const Row& row : rows) {
    out += "  ";
    for (size_t i = 0; i < row.size(); ++i) {
      out += Paint(row[i].text, row[i].colour, colour);
      if (i + 1 < row.size()) out.append(widths[i] - row[i].text.size() + 2, ' ');
    }
    out += '\n';
  }
  return out;
}

std::string Milliseconds(Duration duration) {
  const auto count = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
  return std::to_string(std::max<int64_t>(count, 0)) + "ms";
}

Cell Backend(const coordinator::BackendReport& backend) {
  const std::string name = backend.kind + (backend.version.empty() ? "" : " " + backend.version);
  if (backend.healthy) return {name + ", healthy", Colour::kGreen};
  return {name + ", " + (backend.problem.empty() ? "not healthy" : backend.problem), Colour::kRed};
}

std::string Role(size_t index, size_t count) {
  if (count == 1) return "only";
  if (index == 0) return "head";
  return index + 1 == count ? "tail" : "middle";
}

// What the newest of the chain's bytes is, as far as anybody reported.
Position Newest(const ChainStatus& chain) {
  Position newest;
  for (const NodeStatus& node : chain.nodes) {
    if (node.member) newest = std::max(newest, node.report.received);
  }
  return newest;
}

uint64_t Lag(Position newest, Position applied) { return newest > applied ? newest - applied : 0; }

std::string Number(uint64_t value) { return std::to_string(value); }

const Row kMemberHeader{{"role"},     {"id"},        {"incarnation"}, {"epoch"},
                        {"received"}, {"committed"}, {"applied"},     {"lag"},
                        {"lease"},    {"keys"},      {"clients"},     {"backend"}};

Row MemberRow(const NodeStatus& node, const ChainStatus& chain, size_t index) {
  const NodeReport& report = node.report;
  const chain::Configuration& configuration = chain.record->configuration;
  const chain::Member& member = configuration.members[index];
  const bool heard = report.incarnation == member.incarnation;
  Row row{{Role(index, configuration.members.size()), Colour::kBold},
          {member.id},
          {Number(member.incarnation.value())}};
  if (!heard) {
    row.push_back({"this incarnation has not been heard", Colour::kRed});
    return row;
  }
  const bool current = report.epoch == configuration.epoch && report.synced;
  const uint64_t lag = Lag(Newest(chain), report.applied);
  row.push_back({Number(report.epoch.value()) + (report.synced ? "" : " (not synced)"),
                 current ? Colour::kNone : Colour::kYellow});
  row.push_back({Number(report.received.value())});
  row.push_back({Number(report.committed.value())});
  row.push_back({Number(report.applied.value())});
  row.push_back({Number(lag)});
  row.push_back(node.lease_out > Duration(0)
                    ? Cell{Milliseconds(node.lease_out)}
                    : Cell{"none, heard " + Milliseconds(node.heard_ago) + " ago", Colour::kRed});
  row.push_back({Number(report.backend.keys)});
  row.push_back({Number(report.clients_connected)});
  row.push_back(Backend(report.backend));
  return row;
}

Row OtherRow(const NodeStatus& node) {
  const NodeReport& report = node.report;
  std::string detail = report.problem.empty() ? node.notice : report.problem;
  if (report.incarnation.value() == 0) {
    return {{report.node}, {"not heard", Colour::kYellow}};
  }
  if (report.phase == ReportPhase::kJoining && report.snapshot_total > 0) {
    // Doubles: a product of two byte counts may pass 64 bits.
    const auto percent = static_cast<int>(100.0 * static_cast<double>(report.snapshot_done) /
                                          static_cast<double>(report.snapshot_total));
    detail = std::to_string(percent) + " % of the snapshot" + (detail.empty() ? "" : "; " + detail);
  }
  const Colour colour = report.phase == ReportPhase::kRefused ? Colour::kRed : Colour::kYellow;
  return {{report.node},
          {std::string(PhaseName(report.phase)), colour},
          {"applied " + Number(report.applied.value())},
          {Number(report.backend.keys) + " keys"},
          Backend(report.backend),
          {"heard " + Milliseconds(node.heard_ago) + " ago"},
          {detail}};
}

std::string RenderHeadline(const ChainStatus& chain, const config::Config& config, bool colour) {
  std::string out = "chain " + Paint(chain.chain, Colour::kBold, colour);
  if (!chain.record) return out + "   no configuration yet\n";
  const chain::Configuration& configuration = chain.record->configuration;
  out += "   epoch " + Number(configuration.epoch.value());
  if (!chain.record->reason.empty()) out += " (" + chain.record->reason + ")";
  const size_t members = configuration.members.size();
  std::string count = Number(members) + " members";
  Colour mood = Colour::kGreen;
  for (const config::Chain& configured : config.chains) {
    if (configured.name != chain.chain) continue;
    const auto wanted = static_cast<size_t>(configured.replicas);
    count = Number(members) + " of " + Number(wanted) + " members";
    if (members < wanted) mood = Colour::kYellow;
  }
  return out + "   " + Paint(count, mood, colour) + "\n";
}

std::string RenderChain(const ChainStatus& chain, const config::Config& config, bool colour) {
  std::string out = RenderHeadline(chain, config, colour);
  std::vector<Row> members{kMemberHeader};
  std::vector<Row> others;
  for (const NodeStatus& node : chain.nodes) {
    // Members come first, in the order of the chain.
    if (node.member && chain.record) {
      members.push_back(MemberRow(node, chain, members.size() - 1));
    } else {
      others.push_back(OtherRow(node));
    }
  }
  if (members.size() > 1) out += RenderTable(members, colour);
  if (!others.empty()) out += "  no members:\n" + RenderTable(others, colour);
  if (chain.join) out += "  " + chain.join->node + " is joining\n";
  if (!chain.waiting_for.empty()) {
    out += "  " + Paint("waiting: " + chain.waiting_for, Colour::kYellow, colour) + "\n";
  }
  return out;
}

}  // namespace

std::string_view PhaseName(ReportPhase phase) {
  switch (phase) {
    case ReportPhase::kStarting:
      return "starting";
    case ReportPhase::kCandidate:
      return "candidate";
    case ReportPhase::kMember:
      return "member";
    case ReportPhase::kJoining:
      return "joining";
    case ReportPhase::kResigning:
      return "resigning";
    case ReportPhase::kRefused:
      return "refused";
  }
  return "unknown";
}

std::string RenderStatus(const coordinator::ClusterStatus& status, const config::Config& config,
                         const StatusOptions& options) {
  std::string out = "cluster " + Paint(status.cluster, Colour::kBold, options.colour) +
                    "   leader " + (status.leader.empty() ? "none" : status.leader) + "   etcd " +
                    (status.etcd_healthy ? Paint("healthy", Colour::kGreen, options.colour)
                                         : Paint("not reachable", Colour::kRed, options.colour)) +
                    "\n";
  for (const ChainStatus& chain : status.chains) {
    if (!options.chain.empty() && chain.chain != options.chain) continue;
    out += "\n" + RenderChain(chain, config, options.colour);
  }
  return out;
}

}  // namespace catena::cli
