// Replies to COMMAND made by hand, and short questions to the table that comes of them.
#pragma once

#include <optional>

#include "proxy/command/command_table.h"
#include "recorded.h"

namespace catena::command {

using resp::Type;
using resp::Value;
using test::Views;
using test::Words;

inline Value Text(std::string text) {
  Value value;
  value.type = Type::kBulkString;
  value.text = std::move(text);
  return value;
}

inline Value Number(int64_t number) {
  Value value;
  value.type = Type::kInteger;
  value.integer = number;
  return value;
}

inline Value List(std::vector<Value> elements) {
  Value value;
  value.type = Type::kArray;
  value.elements = std::move(elements);
  return value;
}

inline Value TextList(const std::string& words) {
  Value list = List({});
  for (const std::string& word : Words(words)) list.elements.push_back(Text(word));
  return list;
}

inline Value OldEntry(std::string name, int arity, const std::string& flags, int first, int last,
                      int step, const std::string& categories = "") {
  return List({Text(std::move(name)), Number(arity), TextList(flags), Number(first), Number(last),
               Number(step), TextList(categories)});
}

// As 6.2 answers: no specifications, no subcommands, no flag "blocking".
inline CommandTable OldTable() {
  auto table = CommandTable::FromReply(List({
      OldEntry("get", 2, "readonly fast", 1, 1, 1, "@read @string @fast"),
      OldEntry("eval", -3, "noscript may_replicate movablekeys", 0, 0, 0),
      OldEntry("pfcount", -2, "readonly may_replicate", 1, -1, 1),
      OldEntry("zunionstore", -4, "write denyoom movablekeys", 1, 1, 1),
      OldEntry("zinter", -3, "readonly movablekeys", 0, 0, 0),
      OldEntry("sort", -2, "write denyoom movablekeys", 1, 1, 1),
      OldEntry("georadius", -6, "write movablekeys", 1, 1, 1),
      OldEntry("migrate", -6, "write random movablekeys", 0, 0, 0),
      OldEntry("xread", -4, "readonly movablekeys", 0, 0, 0, "@read @stream @slow @blocking"),
      OldEntry("xreadgroup", -7, "write movablekeys", 0, 0, 0, "@write @stream @blocking"),
      OldEntry("memory", -2, "readonly random movablekeys", 0, 0, 0),
      OldEntry("object", -2, "readonly random", 2, 2, 1),
      OldEntry("xinfo", -2, "readonly random", 2, 2, 1),
      OldEntry("acl", -2, "admin noscript loading stale", 0, 0, 0),
      OldEntry("cluster", -2, "admin random stale", 0, 0, 0),
      OldEntry("module", -2, "admin noscript", 0, 0, 0),
      OldEntry("script", -2, "noscript may_replicate", 0, 0, 0),
      OldEntry("client", -2, "admin noscript random loading stale", 0, 0, 0),
      OldEntry("stralgo", -2, "readonly movablekeys", 0, 0, 0),
      OldEntry("ft.search", -2, "readonly module movablekeys", 0, 0, 0),
      OldEntry("ft.create", -2, "write module", 0, 0, 0),
      OldEntry("json.get", -2, "readonly module", 1, 1, 1),
      OldEntry("config.thing", -1, "admin module", 0, 0, 0),
      OldEntry("graph.thing", -1, "module", 0, 0, 0),
  }));
  REQUIRE(table.has_value());
  return std::move(*table);
}

inline const CommandInfo* Find(const CommandTable& table, const std::string& line) {
  const auto words = Words(line);
  return table.Find(Views(words));
}

inline Route RouteOf(const CommandTable& table, const std::string& line) {
  const CommandInfo* info = Find(table, line);
  REQUIRE_MESSAGE(info != nullptr, line);
  return info->route;
}

// The keys by name, or nothing when they cannot be told.
inline std::optional<std::vector<std::string>> KeysOf(const CommandTable& table,
                                                      const std::string& line) {
  const auto words = Words(line);
  const CommandInfo* info = table.Find(Views(words));
  REQUIRE_MESSAGE(info != nullptr, line);
  std::vector<uint32_t> positions;
  if (FindKeys(*info, Views(words), positions) != KeyKnowledge::kExact) return std::nullopt;
  std::vector<std::string> keys;
  for (uint32_t position : positions) keys.push_back(words.at(position));
  return keys;
}

using Keys = std::vector<std::string>;

inline void CheckRoutes(const CommandTable& table, Route route,
                        const std::vector<std::string>& lines) {
  for (const std::string& line : lines) {
    INFO(line);
    CHECK(RouteOf(table, line) == route);
  }
}

}  // namespace catena::command
