#include "proxy/cli/settings.h"

#include <iostream>
#include <nlohmann/json.hpp>

#include "config/effective.h"
#include "proxy/cli/exit.h"

namespace catena::cli {

int ShowConfig(const config::Config& config, bool json) {
  const auto settings = config::Effective(config);
  if (!settings) return Complain(settings.error().message);
  if (json) {
    nlohmann::json lines = nlohmann::json::array();
    for (const config::Setting& setting : *settings) {
      nlohmann::json line = {
          {"table", setting.table}, {"key", setting.key}, {"value", setting.value}};
      line["line"] = setting.line > 0 ? nlohmann::json(setting.line) : nlohmann::json();
      lines.push_back(std::move(line));
    }
    std::cout << lines.dump() << "\n";
    return kDone;
  }
  std::string table;
  for (const config::Setting& setting : *settings) {
    if (setting.table != table) std::cout << (table.empty() ? "" : "\n") << setting.table << "\n";
    table = setting.table;
    std::cout << "  " << setting.key << " = " << setting.value << "   ("
              << (setting.line > 0 ? "line " + std::to_string(setting.line) : "default") << ")\n";
  }
  return kDone;
}

std::string NamesOf(const config::Config& config, const std::string& what) {
  std::string names;
  for (const config::Chain& chain : config.chains) {
    if (what == "chains") names += chain.name + "\n";
    if (what != "nodes") continue;
    for (const config::Node& node : chain.nodes) names += node.id + "\n";
  }
  return names;
}

std::string BashCompletions(const std::string& commands) {
  return R"(# Completion of catenactl for bash: source <(catenactl completions bash)
_catenactl() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
  local config= command= i options= names=
  declare -A known=(
)" + commands +
         R"(  )
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      --config) config=${COMP_WORDS[i+1]}; ((i++)) ;;
      -*) ;;
      *) [[ $command ]] || command=${COMP_WORDS[i]} ;;
    esac
  done
  if [[ $previous == --config ]]; then
    COMPREPLY=($(compgen -f -- "$word"))
    return
  fi
  if [[ ! $command ]]; then
    COMPREPLY=($(compgen -W "--config --help ${!known[*]}" -- "$word"))
    return
  fi
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "${known[$command]}" -- "$word"))
    return
  fi
  case $command:$previous in
    *:--chain | choose:choose | reorder:reorder) names=chains ;;
    drain:* | undrain:* | replace:* | choose:* | reorder:*) names=nodes ;;
    completions:*) options=bash ;;
  esac
  if [[ $names && $config ]]; then
    options=$("${COMP_WORDS[0]}" --config "$config" completions "$names" 2>/dev/null)
  fi
  COMPREPLY=($(compgen -W "$options" -- "$word"))
}
complete -F _catenactl catenactl
)";
}

}  // namespace catena::cli
