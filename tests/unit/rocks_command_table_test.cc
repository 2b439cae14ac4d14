// What the RocksDB backend tells of its commands, and how it answers names that it does not have.
#include <algorithm>

#include "backends/rocksdb/command_table.h"
#include "rocks_command_fixture.h"

namespace catena::rocks::test {
namespace {

using catena::test::DecodeAll;
using command::CommandInfo;
using command::CommandTable;
using command::KeyKnowledge;
using command::Route;

CommandTable Table() {
  auto table = CommandTable::FromReply(DecodeAll(CommandReply()));
  REQUIRE(table.has_value());
  return std::move(*table);
}

const CommandInfo* Find(const CommandTable& table, const std::string& line) {
  const auto words = Words(line);
  return table.Find(Views(words));
}

std::string KeysOf(const CommandTable& table, const std::string& line) {
  const auto words = Words(line);
  const auto views = Views(words);
  const CommandInfo* info = table.Find(views);
  REQUIRE(info != nullptr);
  std::vector<uint32_t> keys;
  CHECK(command::FindKeys(*info, views, keys) == KeyKnowledge::kExact);
  std::string found;
  for (uint32_t key : keys) found += (found.empty() ? "" : " ") + words[key];
  return found;
}

void CheckEqual(const resp::Value& ours, const resp::Value& theirs) {
  CHECK(ours.type == theirs.type);
  CHECK(ours.text == theirs.text);
  CHECK(ours.integer == theirs.integer);
  REQUIRE(ours.elements.size() == theirs.elements.size());
  for (size_t i = 0; i < ours.elements.size(); ++i)
    CheckEqual(ours.elements[i], theirs.elements[i]);
}

constexpr size_t kSubcommandsAt = 9;

const resp::Value* Named(const std::vector<resp::Value>& entries, const std::string& name) {
  const auto found = std::find_if(entries.begin(), entries.end(), [&](const resp::Value& entry) {
    return entry.elements[0].text == name;
  });
  return found != entries.end() ? &*found : nullptr;
}

// An entry without its subcommands, of which this backend has fewer.
resp::Value Alone(resp::Value entry) {
  entry.elements[kSubcommandsAt].elements.clear();
  return entry;
}

void CheckEntries(const std::vector<resp::Value>& ours, const std::vector<resp::Value>& theirs) {
  for (const resp::Value& entry : ours) {
    const std::string& name = entry.elements[0].text;
    INFO(name);
    if (name.starts_with("catena.")) continue;
    const resp::Value* redis = Named(theirs, name);
    REQUIRE(redis != nullptr);
    CheckEqual(Alone(entry), Alone(*redis));
    CheckEntries(entry.elements[kSubcommandsAt].elements, redis->elements[kSubcommandsAt].elements);
  }
}

TEST_CASE("COMMAND tells of each command what Redis 7.0.15 tells") {
  const resp::Value ours = DecodeAll(CommandReply());
  CHECK(ours.elements.size() > 80);
  CheckEntries(ours.elements, catena::test::CommandReply().elements);
}

TEST_CASE("the router sends the backend's commands where it sends Redis's") {
  const CommandTable table = Table(), redis = catena::test::RecordedTable();
  for (const char* line : {"get a",          "set a b",      "mget a b",    "bitop and a b c",
                           "scan 0",         "dbsize",       "flushall",    "object encoding a",
                           "memory usage a", "config get x", "info",        "multi",
                           "exec",           "watch a",      "publish c m", "subscribe c",
                           "command",        "client id",    "ping",        "select 0",
                           "wait 0 0",       "role"}) {
    INFO(line);
    const CommandInfo *here = Find(table, line), *there = Find(redis, line);
    REQUIRE((here != nullptr && there != nullptr));
    CHECK(here->route == there->route);
    CHECK(KeysOf(table, line) == KeysOf(redis, line));
  }
}

TEST_CASE("the router knows Catena's own commands") {
  const CommandTable table = Table();
  CHECK(Find(table, "catena.range a b")->route == Route::kRead);
  CHECK(KeysOf(table, "catena.range a b limit 5").empty());
  CHECK(Find(table, "catena.digest a b")->route == Route::kRead);
  CHECK(KeysOf(table, "catena.digest a b") == "a b");
  CHECK(Find(table, "catena.write batch a b seal")->route == Route::kWrite);
  CHECK(KeysOf(table, "catena.write batch a b seal") == "a b");
}

const CommandTraits* TraitsOf(const std::string& line) {
  const auto words = Words(line);
  return FindTraits(Views(words));
}

TEST_CASE("traits") {
  REQUIRE(TraitsOf("GET a") != nullptr);
  CHECK_FALSE(TraitsOf("GET a")->writes);
  CHECK(TraitsOf("GET a")->reads_only_values);
  CHECK(TraitsOf("mset a 1")->writes);
  CHECK(TraitsOf("mset a 1")->key_step == 2);
  CHECK(TraitsOf("flushdb")->writes);
  CHECK_FALSE(TraitsOf("scan 0")->reads_only_values);
  CHECK(TraitsOf("object encoding a")->first_key == 2);
  for (const char* line : {"get", "lpush a b", "nosuch", "config nosuch", "multi", "publish a b",
                           "catena.write b a s"}) {
    INFO(line);
    CHECK(TraitsOf(line) == nullptr);
  }
}

std::string Unqueued(const std::string& line) {
  const auto words = Words(line);
  std::string reply;
  const bool queued = CheckArguments(Views(words), reply);
  CHECK(queued == reply.empty());
  return reply;
}

TEST_CASE("what cannot be queued is told at once") {
  CHECK(Unqueued("get a").empty());
  CHECK(Unqueued("publish a b").empty());
  CHECK(Unqueued("get") == "-ERR wrong number of arguments for 'get' command\r\n");
  CHECK(Unqueued("config get") == "-ERR wrong number of arguments for 'config|get' command\r\n");
  CHECK(Unqueued("NoSuch a") ==
        "-ERR unknown command 'NoSuch', with args beginning with: 'a' \r\n");
  CHECK(Unqueued("catena.write b a s").starts_with("-ERR command 'catena.write' is not"));
}

TEST_CASE("commands of other types name the backend") {
  CommandFixture run;
  CHECK(run("LPUSH a b") ==
        "-ERR command 'LPUSH' is not supported by the rocksdb backend: it has strings, keys, "
        "transactions and publish/subscribe\r\n");
  CHECK(run("config nosuch a") == "-ERR unknown subcommand 'nosuch'. Try CONFIG HELP.\r\n");
  CHECK(run("catena.write b a s") ==
        "-ERR command 'catena.write' is not supported by the rocksdb backend\r\n");
  CHECK(run.view.effects.empty());
}

void CheckThereOrElsewhere(const resp::Value& entry) {
  const std::string& name = entry.elements[0].text;
  INFO(name);
  const size_t bar = name.find('|');
  const std::vector<std::string_view> words =
      bar == std::string::npos
          ? std::vector<std::string_view>{name}
          : std::vector<std::string_view>{std::string_view(name).substr(0, bar),
                                          std::string_view(name).substr(bar + 1)};
  const FoundCommand found = FindCommand(words);
  CHECK((found.row != nullptr) != IsElsewhere(name));
  if (found.container == nullptr || bar != std::string::npos) return;
  for (const resp::Value& subcommand : entry.elements[kSubcommandsAt].elements)
    CheckThereOrElsewhere(subcommand);
}

TEST_CASE("every command of Redis is either there or known to be elsewhere") {
  for (const resp::Value& entry : catena::test::CommandReply().elements)
    CheckThereOrElsewhere(entry);
  CommandFixture run;
  CHECK(run("Memory Doctor") ==
        "-ERR command 'memory|Doctor' is not supported by the rocksdb backend\r\n");
}

}  // namespace
}  // namespace catena::rocks::test
