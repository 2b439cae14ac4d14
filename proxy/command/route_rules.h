// Where each command runs. The backend's flags decide; the list behind this header holds only what
// flags cannot tell, one line with its reason for each.
#pragma once

#include <span>
#include <string_view>

#include "proxy/command/command_table.h"

namespace catena::command {

struct RouteRule {
  std::string_view name;  // lower case; "acl|cat" for a subcommand
  Route route;
  std::string_view reason;  // kRefused: the end of the sentence that the client sees
};

// All rules. A rule for a container ("acl") holds for those of its subcommands that have none
// themselves.
std::span<const RouteRule> RouteRules();

// Sets route and refusal from the rules, else from the flags. `container` is nullptr for a
// top-level command. A module's command goes by its flags alone.
void AssignRoute(CommandInfo& info, const CommandInfo* container);

}  // namespace catena::command
