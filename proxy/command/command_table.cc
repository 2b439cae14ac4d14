#include "proxy/command/command_table.h"

#include <tsl/robin_map.h>
#include <xxhash.h>

#include <algorithm>

#include "proxy/base/text.h"
#include "proxy/command/key_finder.h"
#include "proxy/command/route_rules.h"

namespace catena::command {
namespace {

using resp::Type;
using resp::Value;
using KeySpec = CommandInfo::KeySpec;

// ---- Reading the reply ----

bool IsList(const Value& value) { return value.type == Type::kArray || value.type == Type::kSet; }

// The value of `name` in a map, or in RESP2's flat list of names and values; nullptr: not there.
const Value* Field(const Value& map, std::string_view name) {
  for (size_t i = 0; i + 1 < map.elements.size(); i += 2) {
    if (map.elements[i].text == name) return &map.elements[i + 1];
  }
  return nullptr;
}

int IntegerField(const Value& map, std::string_view name, int otherwise) {
  const Value* value = Field(map, name);
  if (value == nullptr || value->type != Type::kInteger) return otherwise;
  return static_cast<int>(std::clamp<int64_t>(value->integer, INT32_MIN, INT32_MAX));
}

std::string TextField(const Value& map, std::string_view name) {
  const Value* value = Field(map, name);
  return value != nullptr ? value->text : std::string();
}

bool Contains(const Value& list, std::string_view text) {
  return std::any_of(list.elements.begin(), list.elements.end(),
                     [&](const Value& element) { return element.text == text; });
}

void ParseBeginSearch(const Value& search, KeySpec& spec) {
  const Value* details = Field(search, "spec");
  if (details == nullptr) return;
  const std::string type = TextField(search, "type");
  if (type == "index") {
    spec.index = IntegerField(*details, "index", 0);
    if (spec.index >= 1) spec.begin = KeySpec::Begin::kIndex;
  } else if (type == "keyword") {
    spec.begin = KeySpec::Begin::kKeyword;
    spec.keyword = TextField(*details, "keyword");
    spec.index = IntegerField(*details, "startfrom", 1);
  }
}

void ParseFindKeys(const Value& find, KeySpec& spec) {
  const Value* details = Field(find, "spec");
  if (details == nullptr) return;
  const std::string type = TextField(find, "type");
  if (type == "range") {
    spec.find = KeySpec::Find::kRange;
    spec.last_key = IntegerField(*details, "lastkey", 0);
    spec.step = IntegerField(*details, "keystep", 1);
    spec.limit = IntegerField(*details, "limit", 0);
  } else if (type == "keynum") {
    spec.find = KeySpec::Find::kKeynum;
    spec.keynum_index = IntegerField(*details, "keynumidx", 0);
    spec.first_key = IntegerField(*details, "firstkey", 1);
    spec.key_step = IntegerField(*details, "keystep", 1);
  }
}

// Anything not understood leaves the specification unknown, which is always safe.
void ParseSpecs(const Value& list, CommandInfo& info) {
  bool only_channels = !list.elements.empty();
  for (const Value& element : list.elements) {
    const Value* flags = Field(element, "flags");
    if (flags != nullptr && Contains(*flags, "not_key")) continue;
    only_channels = false;
    KeySpec spec;
    spec.incomplete = flags == nullptr || Contains(*flags, "incomplete");
    if (const Value* search = Field(element, "begin_search")) ParseBeginSearch(*search, spec);
    if (const Value* find = Field(element, "find_keys")) ParseFindKeys(*find, spec);
    info.specs.push_back(std::move(spec));
  }
  if (only_channels) info.first_key = info.last_key = info.key_step = 0;
}

void ParseFlags(const Value& flags, CommandInfo& info) {
  info.write = Contains(flags, "write");
  info.readonly = Contains(flags, "readonly");
  info.denyoom = Contains(flags, "denyoom");
  info.admin = Contains(flags, "admin");
  info.pubsub = Contains(flags, "pubsub");
  info.noscript = Contains(flags, "noscript");
  info.blocking = Contains(flags, "blocking");
  info.movablekeys = Contains(flags, "movablekeys");
  info.no_auth = Contains(flags, "no_auth");
  info.may_replicate = Contains(flags, "may_replicate");
  info.module = Contains(flags, "module");
}

void ParseCategories(const Value& categories, CommandInfo& info) {
  info.acl_write = Contains(categories, "@write");
  info.acl_admin = Contains(categories, "@admin");
  info.acl_scripting = Contains(categories, "@scripting");
  // 6.2 has no such flag.
  if (Contains(categories, "@blocking")) info.blocking = true;
}

// Positions of an entry: name, arity, flags, first key, last key, step, ACL categories (6.0), tips,
// key specifications, subcommands (7.0).
constexpr size_t kFlagsAt = 2, kFirstKeyAt = 3, kCategoriesAt = 6, kSpecsAt = 8, kSubcommandsAt = 9;

bool IsEntry(const Value& entry) {
  if (entry.type != Type::kArray || entry.elements.size() < kCategoriesAt) return false;
  const auto& fields = entry.elements;
  return fields[0].IsString() && !fields[0].text.empty() && fields[1].type == Type::kInteger &&
         IsList(fields[kFlagsAt]) && fields[kFirstKeyAt].type == Type::kInteger &&
         fields[kFirstKeyAt + 1].type == Type::kInteger &&
         fields[kFirstKeyAt + 2].type == Type::kInteger;
}

// Subcommands are one level deep: those of a subcommand are not read.
Result<CommandInfo> ParseEntry(const Value& entry, bool with_subcommands) {
  if (!IsEntry(entry)) return Fail("not a reply to COMMAND: an entry is malformed");
  const auto& fields = entry.elements;
  CommandInfo info;
  for (char c : fields[0].text) info.name += LowerCase(c);
  info.arity = static_cast<int>(fields[1].integer);
  ParseFlags(fields[kFlagsAt], info);
  info.first_key = static_cast<int>(fields[kFirstKeyAt].integer);
  info.last_key = static_cast<int>(fields[kFirstKeyAt + 1].integer);
  info.key_step = static_cast<int>(fields[kFirstKeyAt + 2].integer);
  if (fields.size() > kCategoriesAt) ParseCategories(fields[kCategoriesAt], info);
  if (fields.size() > kSpecsAt) ParseSpecs(fields[kSpecsAt], info);
  if (!with_subcommands || fields.size() <= kSubcommandsAt) return info;
  for (const Value& sub : fields[kSubcommandsAt].elements) {
    auto parsed = ParseEntry(sub, false);
    if (!parsed) return parsed;
    info.subcommands.push_back(std::move(*parsed));
  }
  return info;
}

// ---- Completing what was read ----

// 6.2 tells no subcommands: those that a rule names are made from their container.
void AddRuledSubcommands(CommandInfo& container) {
  for (const RouteRule& rule : RouteRules()) {
    const bool inside = rule.name.size() > container.name.size() &&
                        rule.name.starts_with(container.name) &&
                        rule.name[container.name.size()] == '|';
    if (!inside) continue;
    CommandInfo sub = container;
    sub.subcommands.clear();
    sub.name = rule.name;
    container.subcommands.push_back(std::move(sub));
  }
}

void Complete(CommandInfo& info) {
  const bool told_subcommands = !info.subcommands.empty();
  if (!told_subcommands && !info.module) AddRuledSubcommands(info);
  AssignRoute(info, nullptr);
  AssignKeyRule(info);
  for (CommandInfo& sub : info.subcommands) {
    AssignRoute(sub, &info);
    AssignKeyRule(sub);
  }
  // Behind a container whose subcommands were all told, anything else is an error that the backend
  // words best. (COMMAND itself is callable.)
  if (told_subcommands && info.arity < -1) {
    info.route = Route::kUnknown;
    info.refusal.clear();
  }
}

CommandInfo Unlisted(std::string_view name, int arity) {
  CommandInfo info;
  info.name = name;
  info.arity = arity;
  return info;
}

// ---- Looking up ----

// Names are short; FNV-1a over letters made equal in case.
struct NameHash {
  size_t operator()(std::string_view name) const {
    uint64_t hash = 0xcbf29ce484222325u;
    for (char c : name) hash = (hash ^ static_cast<uint8_t>(c | 0x20)) * 0x100000001b3u;
    return hash ^ (hash >> 32);
  }
};

struct NameEqual {
  bool operator()(std::string_view a, std::string_view b) const { return EqualsIgnoringCase(a, b); }
};

const CommandInfo* FindSubcommand(const CommandInfo& container, std::string_view name) {
  const size_t prefix = container.name.size() + 1;
  for (const CommandInfo& sub : container.subcommands) {
    if (sub.name.size() != prefix + name.size()) continue;
    if (EqualsIgnoringCase(std::string_view(sub.name).substr(prefix), name)) return &sub;
  }
  return nullptr;
}

}  // namespace

struct CommandTable::Impl {
  // Never changed once the map points into it.
  std::vector<CommandInfo> commands;
  tsl::robin_map<std::string_view, const CommandInfo*, NameHash, NameEqual> by_name;
};

CommandTable::CommandTable() : impl_(std::make_unique<Impl>()) {}
CommandTable::~CommandTable() = default;
CommandTable::CommandTable(CommandTable&&) noexcept = default;
CommandTable& CommandTable::operator=(CommandTable&&) noexcept = default;

Result<CommandTable> CommandTable::FromReply(const resp::Value& reply) {
  if (reply.type != Type::kArray || reply.elements.empty()) {
    return Fail(reply.IsError() ? "COMMAND failed: " + reply.text : "not a reply to COMMAND");
  }
  CommandTable table;
  std::vector<CommandInfo>& commands = table.impl_->commands;
  for (const Value& element : reply.elements) {
    auto parsed = ParseEntry(element, true);
    if (!parsed) return Fail(parsed.error().message);
    commands.push_back(std::move(*parsed));
  }
  // Ours, and the two words at which Redis takes the peer for a browser and closes the connection,
  // which for us is one that many clients share.
  commands.push_back(Unlisted("catena", -2));
  commands.push_back(Unlisted("post", -1));
  commands.push_back(Unlisted("host:", -1));
  for (CommandInfo& info : commands) Complete(info);
  // Later entries win: ours over a module's of the same name.
  for (const CommandInfo& info : commands) table.impl_->by_name[info.name] = &info;
  return table;
}

const CommandInfo* CommandTable::Find(std::span<const std::string_view> arguments) const {
  if (arguments.empty()) return nullptr;
  const auto found = impl_->by_name.find(arguments[0]);
  if (found == impl_->by_name.end()) return nullptr;
  const CommandInfo* info = found->second;
  if (arguments.size() < 2 || info->subcommands.empty()) return info;
  const CommandInfo* sub = FindSubcommand(*info, arguments[1]);
  return sub != nullptr ? sub : info;
}

size_t CommandTable::size() const { return impl_->by_name.size(); }

uint64_t HashKey(std::string_view key) { return XXH3_64bits(key.data(), key.size()); }

}  // namespace catena::command
