// catenactl: looks at a cluster, checks it, and carries an operator's decision to it.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>

#include "config/config.h"
#include "coordinator/records.h"
#include "proxy/base/version.h"
#include "proxy/cli/check.h"
#include "proxy/cli/choose.h"
#include "proxy/cli/client.h"
#include "proxy/cli/status.h"
#include "proxy/cli/top.h"

namespace catena::cli {
namespace {

constexpr int kFailed = 1;

bool WantsColour() { return isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr; }

int Complain(const std::string& message) {
  std::cerr << "catenactl: " << message << "\n";
  return kFailed;
}

// The status as the leader sent it.
Result<std::string> FetchStatus(const config::Config& config) {
  const Result<resp::Value> answer = AskLeader(config, {"CATENA.STATUS"});
  if (!answer) return Fail(answer.error().message);
  if (answer->IsError()) return Fail(answer->text);
  return answer->text;
}

bool HasChain(const config::Config& config, const std::string& name) {
  for (const config::Chain& chain : config.chains) {
    if (chain.name == name) return true;
  }
  return false;
}

// The JSON with only one of its chains.
Result<std::string> OnlyChain(const std::string& text, const std::string& chain) {
  nlohmann::json status = nlohmann::json::parse(text, nullptr, false);
  if (status.is_discarded() || !status.is_object()) return Fail("the coordinator's JSON is broken");
  nlohmann::json kept = nlohmann::json::array();
  for (const nlohmann::json& each : status["chains"]) {
    if (each.is_object() && each.contains("chain") && each["chain"] == chain) kept.push_back(each);
  }
  status["chains"] = std::move(kept);
  return status.dump();
}

int RunStatus(const config::Config& config, const std::string& chain, bool json) {
  if (!chain.empty() && !HasChain(config, chain)) {
    return Complain(config.path + " has no chain " + chain);
  }
  Result<std::string> text = FetchStatus(config);
  if (text && json && !chain.empty()) text = OnlyChain(*text, chain);
  if (!text) return Complain(text.error().message);
  if (json) {
    std::cout << *text << "\n";
    return 0;
  }
  const Result<coordinator::ClusterStatus> status = coordinator::DecodeStatus(*text);
  if (!status) return Complain(status.error().message);
  std::cout << RenderStatus(*status, config, {WantsColour(), chain});
  return 0;
}

int RunCheck(const config::Config& config) {
  const std::vector<Finding> findings = CheckCluster(config);
  std::cout << RenderFindings(findings, WantsColour());
  return AllGood(findings) ? 0 : kFailed;
}

int RunChoose(const config::Config& config, const std::string& chain, const std::string& node,
              bool sure) {
  const auto found = config.FindNode(node);
  if (!found) return Complain(found.error().message);
  if (found->chain->name != chain) {
    return Complain("node " + node + " belongs to chain " + found->chain->name + ", not " + chain);
  }
  const Result<std::string> text = FetchStatus(config);
  if (!text) return Complain(text.error().message);
  const Result<coordinator::ClusterStatus> status = coordinator::DecodeStatus(*text);
  if (!status) return Complain(status.error().message);
  const Result<std::string> explanation = ExplainChoice(*status, chain, node);
  if (!explanation) return Complain(explanation.error().message);
  std::cout << *explanation << std::flush;
  if (!sure) {
    if (isatty(STDIN_FILENO) != 1)
      return Complain("no terminal to ask for confirmation; see --yes");
    if (!Confirm(std::cin, std::cout, node)) return Complain("not confirmed; nothing was done");
  }
  const Result<void> chosen = Choose(config, chain, node);
  if (!chosen) return Complain(chosen.error().message);
  std::cout << "Chain " << chain << " goes on with " << node << ".\n";
  return 0;
}

int Run(int argc, char** argv) {
  CLI::App app{"Looks at a Catena cluster, checks it, and decides where it cannot.", "catenactl"};
  app.set_version_flag("--version", "catenactl " + std::string(ProgramVersion()));
  app.require_subcommand(1);
  std::string path;
  app.add_option("--config", path, "the cluster's TOML file")->required();

  std::string status_chain, chain, node;
  bool json = false, sure = false;
  CLI::App* status = app.add_subcommand(
      "status", "the chains, their members in order and their progress, as the leader sees them");
  status->add_flag("--json", json,
                   "one line of JSON instead of a table; positions and lag in bytes, times in "
                   "nanoseconds, described in coordinator/records.h");
  status->add_option("--chain", status_chain, "only this chain");
  bool once = false;
  CLI::App* top = app.add_subcommand("top", "the same, drawn anew each second, until Ctrl-C");
  top->add_flag("--once", once, "one frame, after half a second, for scripts");
  CLI::App* check = app.add_subcommand(
      "check", "validate the TOML and try every coordinator, etcd, proxy and database");
  CLI::App* choose = app.add_subcommand(
      "choose",
      "when every member was lost: go on with the data of one node, and lose what only "
      "others have");
  choose->add_option("CHAIN", chain, "the chain's name")->required();
  choose->add_option("NODE", node, "the id of the node whose data is to be kept")->required();
  choose->add_flag("--yes", sure, "do not ask");
  CLI11_PARSE(app, argc, argv);

  const Result<config::Config> config = config::Load(path);
  if (!config) {
    std::cerr << config.error().message << "\n";
    return kFailed;
  }
  if (top->parsed()) return RunTop(*config, once);
  if (check->parsed()) return RunCheck(*config);
  if (choose->parsed()) return RunChoose(*config, chain, node, sure);
  return RunStatus(*config, status_chain, json);
}

}  // namespace
}  // namespace catena::cli

int main(int argc, char** argv) { return catena::cli::Run(argc, argv); }
