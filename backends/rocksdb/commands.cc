#include "backends/rocksdb/commands.h"

#include "backends/rocksdb/command_call.h"
#include "backends/rocksdb/command_table.h"
#include "proxy/base/free_memory.h"

namespace catena::rocks {
namespace {

std::string UpperCase(std::string_view text) {
  std::string upper(text);
  for (char& c : upper) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
  }
  return upper;
}

void AppendNotHere(std::string_view name, std::string& reply) {
  resp::AppendError(
      reply, "ERR command '" + std::string(name) + "' is not supported by the rocksdb backend");
}

void AppendUnknownSubcommand(const FoundCommand& found, Arguments arguments, std::string& reply) {
  constexpr size_t kShown = 128;
  std::string_view name = arguments[1];
  name = name.substr(0, name.find('\0')).substr(0, kShown);
  const std::string_view container = found.container->row->name;
  const std::string full = std::string(container) + "|" + std::string(name);
  if (IsElsewhere(full)) return AppendNotHere(full, reply);
  resp::AppendError(reply, "ERR unknown subcommand '" + std::string(name) + "'. Try " +
                               UpperCase(container) + " HELP.");
}

// Finds the command and checks the number of its arguments; nullptr: the error is appended.
const CommandRow* Check(const FoundCommand& found, Arguments arguments, std::string& reply) {
  if (found.container == nullptr) {
    AppendUnknownCommand(arguments, reply);
  } else if (found.row == nullptr) {
    AppendUnknownSubcommand(found, arguments, reply);
  } else if (!found.row->Takes(arguments.size())) {
    resp::AppendError(
        reply, "ERR wrong number of arguments for '" + std::string(found.row->name) + "' command");
  } else {
    return found.row;
  }
  return nullptr;
}

void GiveBack(Workspace& workspace) {
  for (std::string* room : {&workspace.item.value, &workspace.other.value, &workspace.bytes}) {
    if (room->capacity() > Workspace::kKeptBytes) FreeMemory(*room);
  }
}

constexpr std::string_view kStreamCommand = "catena.write";

}  // namespace

const CommandTraits* FindTraits(Arguments arguments) {
  const FoundCommand found = FindCommand(arguments);
  const bool runs = found.row != nullptr && found.row->run != nullptr;
  return runs && found.row->Takes(arguments.size()) ? found.traits : nullptr;
}

bool CheckArguments(Arguments arguments, std::string& reply) {
  const CommandRow* row = Check(FindCommand(arguments), arguments, reply);
  if (row == nullptr) return false;
  if (row->name != kStreamCommand) return true;
  AppendNotHere(row->name, reply);
  return false;
}

void Execute(Arguments arguments, CommandContext& context, std::string& reply) {
  const CommandRow* row = Check(FindCommand(arguments), arguments, reply);
  if (row == nullptr) return;
  if (row->run == nullptr) return AppendNotHere(row->name, reply);
  ++context.workspace.commands_run;
  Call call{arguments, context, reply, row->name};
  row->run(call);
  GiveBack(context.workspace);
}

}  // namespace catena::rocks
