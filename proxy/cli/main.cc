// catenactl: looks at a cluster, checks it, and carries an operator's decision to it.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>

#include "config/config.h"
#include "coordinator/records.h"
#include "proxy/base/version.h"
#include "proxy/cli/check.h"
#include "proxy/cli/choose.h"
#include "proxy/cli/client.h"
#include "proxy/cli/events.h"
#include "proxy/cli/exit.h"
#include "proxy/cli/operate.h"
#include "proxy/cli/settings.h"
#include "proxy/cli/status.h"
#include "proxy/cli/top.h"
#include "proxy/cli/verify.h"

namespace catena::cli {
namespace {

bool WantsColour() { return isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr; }

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
  Result<std::string> text = AskLeaderForText(config, {"CATENA.STATUS"});
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
  return AllGood(findings) ? 0 : kNotDone;
}

int RunChoose(const config::Config& config, const std::string& chain, const std::string& node,
              bool sure) {
  const auto found = config.FindNode(node);
  if (!found) return Complain(found.error().message);
  if (found->chain->name != chain) {
    return Complain("node " + node + " belongs to chain " + found->chain->name + ", not " + chain);
  }
  const Result<coordinator::ClusterStatus> status = FetchStatus(config);
  if (!status) return Complain(status.error().message);
  const Result<std::string> explanation = ExplainChoice(*status, chain, node);
  if (!explanation) return Complain(explanation.error().message);
  std::cout << *explanation << std::flush;
  if (!sure) {
    if (isatty(STDIN_FILENO) != 1)
      return Complain("no terminal to ask for confirmation; see --yes");
    if (!Confirm(std::cin, std::cout, node)) return Complain("not confirmed; nothing was done");
  }
  const Carried chosen = Choose(config, chain, node);
  if (chosen.exit != kDone) return Complain(chosen.why, chosen.exit);
  std::cout << "Chain " << chain << " goes on with " << node << ".\n";
  return 0;
}

// Everything that the command line says; the command sets what to run.
struct Arguments {
  std::string path, chain, node, other;
  std::vector<std::string> order;
  int effort = 5;
  bool json = false, sure = false, force = false, follow = false, no_wait = false, once = false;
  double timeout = 600;  // seconds

  Watching Watch() const {
    return {!no_wait, std::chrono::duration_cast<Duration>(std::chrono::duration<double>(timeout))};
  }
};
using Command = std::function<int(const config::Config&)>;

CLI::App* Add(CLI::App& app, const std::string& name, const std::string& what,
              const std::string& example) {
  CLI::App* command = app.add_subcommand(name, what);
  command->footer("Example:\n  catenactl --config cluster.toml " + example);
  return command;
}

void AddWatching(CLI::App* command, Arguments& arguments) {
  command->add_option("--timeout", arguments.timeout, "seconds to watch (600)")
      ->check(CLI::PositiveNumber);
  command->add_flag("--no-wait", arguments.no_wait, "only ask for it");
}

void AddLooking(CLI::App& app, Arguments& arguments, Command& run) {
  CLI::App* status =
      Add(app, "status",
          "the chains, their members in order and their progress, as the leader sees them",
          "status --chain main");
  status->add_flag("--json", arguments.json,
                   "one line of JSON instead of a table; positions and lag in bytes, times in "
                   "nanoseconds, described in coordinator/records.h");
  status->add_option("--chain", arguments.chain, "only this chain");
  status->callback([&] {
    run = [&](const auto& config) { return RunStatus(config, arguments.chain, arguments.json); };
  });
  CLI::App* top = Add(app, "top", "the same, drawn anew each second, until Ctrl-C", "top");
  top->add_flag("--once", arguments.once, "one frame, after half a second, for scripts");
  top->callback([&] { run = [&](const auto& config) { return RunTop(config, arguments.once); }; });
  Add(app, "check", "validate the TOML and try every coordinator, etcd, proxy and database",
      "check")
      ->callback([&] { run = RunCheck; });
  CLI::App* events = Add(app, "events", "why each epoch came to be: the last 100 changes",
                         "events --chain main --follow");
  events->add_flag("--json", arguments.json, "one JSON object a line");
  events->add_flag("--follow", arguments.follow, "go on with what happens next");
  events->add_option("--chain", arguments.chain, "only this chain");
  events->callback([&] {
    run = [&](const auto& config) {
      return ShowEvents(config, arguments.chain, {arguments.json, arguments.follow});
    };
  });
}

// "[name]=options" for each command, as bash reads it.
std::string CommandsOf(const CLI::App& app) {
  std::string text;
  for (const CLI::App* command : app.get_subcommands({})) {
    text += "    [" + command->get_name() + "]=\"";
    for (const CLI::Option* option : command->get_options()) {
      if (!option->get_lnames().empty()) text += "--" + option->get_lnames().front() + " ";
    }
    text += "\"\n";
  }
  return text;
}

void AddSettings(CLI::App& app, Arguments& arguments, Command& run) {
  CLI::App* config =
      Add(app, "config", "what the file comes to: every key, its value, and its line", "config");
  config->add_flag("--json", arguments.json, "a JSON array");
  config->callback(
      [&] { run = [&](const auto& loaded) { return ShowConfig(loaded, arguments.json); }; });
  CLI::App* completions =
      app.add_subcommand("completions", "a script that completes catenactl's command line");
  completions->footer("Example:\n  source <(catenactl completions bash)");
  completions->add_option("WHAT", arguments.other, "bash; of the file: chains, nodes")
      ->required()
      ->check(CLI::IsMember({"bash", "chains", "nodes"}));
  completions->callback([&] {
    run = [&](const auto& loaded) {
      std::cout << NamesOf(loaded, arguments.other);
      return kDone;
    };
  });
}

void AddVerify(CLI::App& app, Arguments& arguments, Command& run) {
  CLI::App* verify =
      Add(app, "verify", "compare the data of a chain's members, key by key, while clients work",
          "verify --chain main");
  verify->add_option("--chain", arguments.chain, "only this chain");
  verify
      ->add_option("--effort", arguments.effort,
                   "percent of the time that it may keep the nodes busy (5)")
      ->check(CLI::Range(1, 100));
  verify->add_flag("--json", arguments.json, "one line of JSON a chain");
  verify->callback([&] {
    run = [&](const auto& config) {
      return Verify(config, {arguments.chain, arguments.effort, arguments.json});
    };
  });
}

void AddOperating(CLI::App& app, Arguments& arguments, Command& run) {
  CLI::App* drain = Add(app, "drain",
                        "move a node out of its chain, without a failed request, and keep it out "
                        "until undrain; its proxy goes on serving clients through the chain",
                        "drain n2");
  drain->add_option("NODE", arguments.node, "the node's id")->required();
  drain->add_flag("--force", arguments.force, "also when only one member would stay");
  AddWatching(drain, arguments);
  drain->callback([&] {
    run = [&](const auto& config) {
      return Drain(config, arguments.node, arguments.force, arguments.Watch());
    };
  });
  CLI::App* undrain =
      Add(app, "undrain", "let a drained node be a member or a spare again; ends any wish for it",
          "undrain n2");
  undrain->add_option("NODE", arguments.node, "the node's id")->required();
  undrain->callback(
      [&] { run = [&](const auto& config) { return Undrain(config, arguments.node); }; });
  CLI::App* replace =
      Add(app, "replace", "bring a spare in, then drain the member whose place it takes",
          "replace n1 n4");
  replace->add_option("OLD", arguments.node, "the member that leaves")->required();
  replace->add_option("NEW", arguments.other, "the node that comes")->required();
  AddWatching(replace, arguments);
  replace->callback([&] {
    run = [&](const auto& config) {
      return Replace(config, arguments.node, arguments.other, arguments.Watch());
    };
  });
  CLI::App* reorder = Add(app, "reorder",
                          "another order of the members, so another head or tail, without a failed "
                          "request: members leave and come back as the tail, one at a time",
                          "reorder main n2,n1,n3");
  reorder->add_option("CHAIN", arguments.chain, "the chain's name")->required();
  reorder->add_option("ORDER", arguments.order, "all members, head first, separated by commas")
      ->required()
      ->delimiter(',');
  AddWatching(reorder, arguments);
  reorder->callback([&] {
    run = [&](const auto& config) {
      return Reorder(config, arguments.chain, arguments.order, arguments.Watch());
    };
  });
}

void AddDeciding(CLI::App& app, Arguments& arguments, Command& run) {
  CLI::App* choose = Add(app, "choose",
                         "when every member was lost: go on with the data of one node, and lose "
                         "what only others have",
                         "choose main n1");
  choose->add_option("CHAIN", arguments.chain, "the chain's name")->required();
  choose->add_option("NODE", arguments.node, "the id of the node whose data is to be kept")
      ->required();
  choose->add_flag("--yes", arguments.sure, "do not ask");
  choose->callback([&] {
    run = [&](const auto& config) {
      return RunChoose(config, arguments.chain, arguments.node, arguments.sure);
    };
  });
}

int Run(int argc, char** argv) {
  CLI::App app{"Looks at a Catena cluster, operates it, and decides where it cannot.", "catenactl"};
  app.set_version_flag("--version", "catenactl " + std::string(ProgramVersion()));
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 done; 1 not done (refused, no such chain or node, or nobody answers);\n"
      "2 wrong command line or file; 3 not finished in time, or not known to be done;\n"
      "4 verify: the data differs.");
  Arguments arguments;
  Command run;
  app.add_option("--config", arguments.path, "the cluster's TOML file");
  AddLooking(app, arguments, run);
  AddVerify(app, arguments, run);
  AddSettings(app, arguments, run);
  AddOperating(app, arguments, run);
  AddDeciding(app, arguments, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kWrongUse;
  }
  if (app.got_subcommand("completions") && arguments.other == "bash") {
    std::cout << BashCompletions(CommandsOf(app));
    return kDone;
  }
  if (arguments.path.empty()) return Complain("--config FILE is needed", kWrongUse);
  const Result<config::Config> config = config::Load(arguments.path);
  if (!config) {
    std::cerr << config.error().message << "\n";
    return kWrongUse;
  }
  return run(*config);
}

}  // namespace
}  // namespace catena::cli

int main(int argc, char** argv) { return catena::cli::Run(argc, argv); }
