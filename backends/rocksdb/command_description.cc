// COMMAND: the table, told as Redis 7.0 tells it.
#include <algorithm>
#include <charconv>

#include "backends/rocksdb/command_handlers.h"
#include "backends/rocksdb/command_table.h"
#include "proxy/base/text.h"
#include "proxy/command/glob.h"

namespace catena::rocks {
namespace {

// Calls `take` with each piece of `text` between separators; not at all for "".
template <typename Take>
void ForEachPiece(std::string_view text, char separator, const Take& take) {
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    take(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

size_t CountPieces(std::string_view text, char separator) {
  size_t count = 0;
  ForEachPiece(text, separator, [&](std::string_view) { ++count; });
  return count;
}

struct KeySpecification {
  std::string_view notes, flags;
  int index = 0, last = 0, step = 0;
};

KeySpecification ParseKeys(std::string_view text) {
  KeySpecification keys;
  if (text.starts_with('#')) {
    const size_t end = text.find('#', 1);
    keys.notes = text.substr(1, end - 1);
    text.remove_prefix(end + 1);
  }
  const size_t colon = text.find(':');
  keys.flags = text.substr(0, colon);
  int* const numbers[] = {&keys.index, &keys.last, &keys.step};
  size_t next = 0;
  ForEachPiece(text.substr(colon + 1), ',', [&](std::string_view number) {
    *numbers[next++] = ParseNumber<int>(number).value_or(0);
  });
  return keys;
}

// The command line's keys by one specification.
template <typename Take>
void ForEachKey(const KeySpecification& keys, size_t count, const Take& take) {
  const auto words = static_cast<int>(count);
  const int last = keys.last >= 0 ? keys.index + keys.last : words + keys.last;
  for (int at = keys.index; at <= std::min(last, words - 1); at += keys.step)
    take(static_cast<size_t>(at));
}

class Describer {
 public:
  Describer(int protocol, std::string& out) : protocol_(protocol), out_(out) {}

  void Entry(const CommandRow& row, std::span<const CommandRow> subcommands) {
    resp::AppendArrayHeader(out_, 10);
    resp::AppendBulk(out_, row.name);
    resp::AppendInteger(out_, row.arity);
    Words(row.flags, "");
    resp::AppendInteger(out_, row.first_key);
    resp::AppendInteger(out_, row.last_key);
    resp::AppendInteger(out_, row.key_step);
    Words(row.categories, "@");
    Set(CountPieces(row.tips, ' '));
    ForEachPiece(row.tips, ' ', [&](std::string_view tip) { resp::AppendBulk(out_, tip); });
    Set(CountPieces(row.keys, ';'));
    ForEachPiece(row.keys, ';', [&](std::string_view text) { Specification(ParseKeys(text)); });
    if (subcommands.empty()) return Set(0);
    resp::AppendArrayHeader(out_, subcommands.size());
    for (const CommandRow& subcommand : subcommands) Entry(subcommand, {});
  }

  void Words(std::string_view words, std::string_view prefix) {
    Set(CountPieces(words, ' '));
    ForEachPiece(words, ' ', [&](std::string_view word) {
      out_.append("+").append(prefix).append(word).append("\r\n");
    });
  }

 private:
  void Set(size_t size) {
    if (protocol_ < 3) return resp::AppendArrayHeader(out_, size);
    out_.append("~").append(std::to_string(size)).append("\r\n");
  }
  void Map(size_t pairs) { resp::AppendMapHeader(out_, pairs, protocol_); }
  void Number(std::string_view name, int value) {
    resp::AppendBulk(out_, name);
    resp::AppendInteger(out_, value);
  }
  // {"type": type, "spec": a map of so many pairs, which follow}
  void Step(std::string_view name, std::string_view type, size_t pairs) {
    resp::AppendBulk(out_, name);
    Map(2);
    resp::AppendBulk(out_, "type");
    resp::AppendBulk(out_, type);
    resp::AppendBulk(out_, "spec");
    Map(pairs);
  }
  void Specification(const KeySpecification& keys) {
    Map(keys.notes.empty() ? 3 : 4);
    if (!keys.notes.empty()) {
      resp::AppendBulk(out_, "notes");
      resp::AppendBulk(out_, keys.notes);
    }
    resp::AppendBulk(out_, "flags");
    Words(keys.flags, "");
    Step("begin_search", "index", 1);
    Number("index", keys.index);
    Step("find_keys", "range", 3);
    Number("lastkey", keys.last);
    Number("keystep", keys.step);
    Number("limit", 0);
  }

  int protocol_;
  std::string& out_;
};

void DescribeAll(int protocol, std::string& out) {
  resp::AppendArrayHeader(out, KnownCommands().size());
  Describer describer(protocol, out);
  for (const KnownCommand& command : KnownCommands())
    describer.Entry(*command.row, command.subcommands);
}

// "config|get" or "get"; row is nullptr if there is none.
FoundCommand FindNamed(std::string_view name) {
  const size_t bar = name.find('|');
  const std::string_view words[] = {name.substr(0, bar),
                                    bar < name.size() ? name.substr(bar + 1) : std::string_view()};
  return FindCommand(Arguments(words, bar < name.size() ? 2 : 1));
}

// The groups of COMMAND DOCS go by ACL categories.
std::string_view GroupOf(const CommandRow& row) {
  static constexpr std::pair<std::string_view, std::string_view> kGroups[] = {
      {"string", "string"},         {"bitmap", "bitmap"},
      {"connection", "connection"}, {"transaction", "transactions"},
      {"pubsub", "pubsub"},         {"keyspace", "generic"}};
  for (const auto& [category, group] : kGroups) {
    if (row.categories.find(category) != std::string_view::npos) return group;
  }
  return "server";
}

void ReplyDocs(const Call& call, const CommandRow& row) {
  call.Bulk(row.name);
  call.Map(1);
  call.Bulk("group");
  call.Bulk(GroupOf(row));
}

// GETKEYS and GETKEYSANDFLAGS, of the command line from the third word on.
void ReplyKeys(const Call& call, bool with_flags) {
  const Arguments line = call.arguments.subspan(2);
  const FoundCommand found = FindCommand(line);
  if (found.row == nullptr) return call.Error("ERR Invalid command specified");
  const std::string_view specifications = found.row->keys;
  if (specifications.empty() || specifications.starts_with("not_key"))
    return call.Error("ERR The command has no key arguments");
  if (!found.row->Takes(line.size()))
    return call.Error("ERR Invalid number of arguments specified for command");
  std::string& keys = call.bytes();
  keys.clear();
  size_t count = 0;
  ForEachPiece(specifications, ';', [&](std::string_view text) {
    const KeySpecification specification = ParseKeys(text);
    ForEachKey(specification, line.size(), [&](size_t at) {
      ++count;
      if (with_flags) resp::AppendArrayHeader(keys, 2);
      resp::AppendBulk(keys, line[at]);
      if (with_flags) Describer(call.protocol(), keys).Words(specification.flags, "");
    });
  });
  call.Array(count);
  call.reply.append(keys);
}

bool HasPiece(std::string_view words, std::string_view word) {
  bool has = false;
  ForEachPiece(words, ' ', [&](std::string_view piece) { has |= EqualsIgnoringCase(piece, word); });
  return has;
}

// Whether COMMAND LIST's filter, if there is one, lets the command through.
bool Lists(const Call& call, const CommandRow& row) {
  if (call.count() == 2) return true;
  if (call.Is(3, "aclcat")) return HasPiece(row.categories, call[4]);
  return call.Is(3, "pattern") && command::MatchesGlob(call[4], row.name);
}

}  // namespace

std::string_view CommandReply() {
  static const std::string reply = [] {
    std::string out;
    DescribeAll(2, out);
    return out;
  }();
  return reply;
}

namespace handlers {

void Command(Call& call) {
  if (call.protocol() < 3) return void(call.reply.append(CommandReply()));
  DescribeAll(call.protocol(), call.reply);
}

void CommandCount(Call& call) { call.Integer(static_cast<int64_t>(KnownCommands().size())); }

void CommandInfo(Call& call) {
  if (call.count() == 2) return Command(call);
  call.Array(call.count() - 2);
  for (std::string_view name : call.arguments.subspan(2)) {
    const FoundCommand found = FindNamed(name);
    if (found.row == nullptr) {
      call.Null();
      continue;
    }
    const bool whole = found.row == found.container->row;
    Describer(call.protocol(), call.reply)
        .Entry(*found.row, whole ? found.container->subcommands : std::span<const CommandRow>());
  }
}

void CommandDocs(Call& call) {
  if (call.count() == 2) {
    call.Map(KnownCommands().size());
    for (const KnownCommand& command : KnownCommands()) ReplyDocs(call, *command.row);
    return;
  }
  std::vector<const CommandRow*> rows;
  for (std::string_view name : call.arguments.subspan(2)) {
    if (const FoundCommand found = FindNamed(name); found.row != nullptr) rows.push_back(found.row);
  }
  call.Map(rows.size());
  for (const CommandRow* row : rows) ReplyDocs(call, *row);
}

void CommandGetKeys(Call& call) { ReplyKeys(call, false); }
void CommandGetKeysAndFlags(Call& call) { ReplyKeys(call, true); }

void CommandList(Call& call) {
  const bool filters = call.count() == 5 && call.Is(2, "filterby") &&
                       (call.Is(3, "module") || call.Is(3, "aclcat") || call.Is(3, "pattern"));
  if (call.count() != 2 && !filters) return call.Error(kSyntaxError);
  std::string& names = call.bytes();
  names.clear();
  size_t count = 0;
  const auto add = [&](const CommandRow& row) {
    if (!Lists(call, row)) return;
    resp::AppendBulk(names, row.name);
    ++count;
  };
  for (const KnownCommand& command : KnownCommands()) {
    add(*command.row);
    for (const CommandRow& subcommand : command.subcommands) add(subcommand);
  }
  call.Array(count);
  call.reply.append(names);
}

void CommandHelp(Call& call) {
  call.Help("COMMAND",
            {"(no subcommand)", "    Return details about all Redis commands.", "COUNT",
             "    Return the total number of commands in this Redis server.", "LIST",
             "    Return a list of all commands in this Redis server.", "INFO [<command-name> ...]",
             "    Return details about multiple Redis commands.",
             "    If no command names are given, documentation details for all",
             "    commands are returned.", "DOCS [<command-name> ...]",
             "    Return documentation details about multiple Redis commands.",
             "    If no command names are given, documentation details for all",
             "    commands are returned.", "GETKEYS <full-command>",
             "    Return the keys from a full Redis command.", "GETKEYSANDFLAGS <full-command>",
             "    Return the keys and the access flags from a full Redis command."});
}

}  // namespace handlers
}  // namespace catena::rocks
