// Which commands there are, and what COMMAND tells of each: names, numbers of arguments, flags, keys
// and categories are those of Redis 7.0.15, so that clients and the router see what they know. Pure.
#pragma once

#include <span>
#include <string_view>

#include "backends/rocksdb/commands.h"

namespace catena::rocks {

struct Call;

struct CommandRow {
  std::string_view name;  // lower case; subcommands "config|get" stand behind their container
  void (*run)(Call&);     // nullptr: the engine's own or the proxy's, or a mere container
  int arity;              // the name included; negative: at least so many
  // Words with a space between: as COMMAND tells them, categories without '@'.
  std::string_view flags;
  int first_key, last_key, key_step;
  std::string_view categories;
  std::string_view tips;
  // Key specifications, with ';' between: "[#notes#]flags:index,last,step", last and step as ranges
  // tell them.
  std::string_view keys;

  bool Takes(size_t count) const {
    return arity >= 0 ? count == static_cast<size_t>(arity) : count >= static_cast<size_t>(-arity);
  }
};

// Commands on data, and all others.
std::span<const CommandRow> DataCommands();
std::span<const CommandRow> ServerCommands();

// A command that is there.
struct KnownCommand {
  const CommandRow* row = nullptr;
  CommandTraits traits;
  std::span<const CommandRow> subcommands;
};

// In the order of the rows, subcommands not among them.
std::span<const KnownCommand> KnownCommands();

struct FoundCommand {
  const KnownCommand* container = nullptr;  // nullptr: the name is not known
  // The command itself, or the subcommand that was named; nullptr: it is not known.
  const CommandRow* row = nullptr;
  const CommandTraits* traits = nullptr;
};

// By the name and, where the command has some, the subcommand, in any case. Allocates nothing.
FoundCommand FindCommand(Arguments arguments);

// Whether Redis has a command or subcommand ("acl|list") of this name and this backend does not.
bool IsElsewhere(std::string_view name);

// The error for a name that FindCommand does not find.
void AppendUnknownCommand(Arguments arguments, std::string& reply);

}  // namespace catena::rocks
