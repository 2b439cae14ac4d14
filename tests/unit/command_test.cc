#include <algorithm>
#include <map>
#include <optional>

#include "command_reply.h"
#include "proxy/command/route_rules.h"

namespace catena::command {
namespace {

const CommandTable& Table() {
  static const CommandTable table = test::RecordedTable();
  return table;
}

// ---- The table ----

TEST_CASE("the recorded reply is read whole") {
  const size_t in_reply = test::CommandReply().elements.size();
  CHECK(in_reply > 200);
  CHECK(Table().size() == in_reply + 3);  // catena, post, host:
  const CommandInfo* set = Find(Table(), "SET k v");
  REQUIRE(set != nullptr);
  CHECK(set->arity == -3);
  CHECK(set->write);
  CHECK(set->denyoom);
  CHECK_FALSE(set->readonly);
  CHECK(set->first_key == 1);
  CHECK(Find(Table(), "blpop k 0")->blocking);
  CHECK(Find(Table(), "auth x")->no_auth);
  CHECK(Find(Table(), "subscribe c")->pubsub);
  CHECK(Find(Table(), "config get x")->admin);
  CHECK(Find(Table(), "multi")->noscript);
}

TEST_CASE("names are found in any case, with their subcommands") {
  CHECK(Find(Table(), "gEt k")->name == "get");
  CHECK(Find(Table(), "CONFIG gEt x")->name == "config|get");
  CHECK(Find(Table(), "config")->name == "config");
  CHECK(Find(Table(), "config nosuch")->name == "config");
  CHECK(Find(Table(), "Georadiusbymember_RO g")->name == "georadiusbymember_ro");
  CHECK(Find(Table(), "nosuch") == nullptr);
  CHECK(Find(Table(), "ge") == nullptr);
  CHECK(Find(Table(), "gett") == nullptr);
  CHECK(Find(Table(), "config|get") == nullptr);
  CHECK(Find(Table(), "") == nullptr);
  CHECK(Table().Find({}) == nullptr);
  const std::string long_name(100000, 'x');
  const std::string_view long_view = long_name;
  CHECK(Table().Find({&long_view, 1}) == nullptr);
}

TEST_CASE("entries stay in place when the table is moved") {
  CommandTable table = test::RecordedTable();
  const CommandInfo* get = Find(table, "get k");
  const CommandTable moved = std::move(table);
  CHECK(Find(moved, "get k") == get);
  CHECK(get->name == "get");
}

TEST_CASE("what is no reply to COMMAND is an error") {
  CHECK_FALSE(CommandTable::FromReply(Value{}).has_value());
  CHECK_FALSE(CommandTable::FromReply(List({})).has_value());
  CHECK_FALSE(CommandTable::FromReply(List({Number(1)})).has_value());
  CHECK_FALSE(CommandTable::FromReply(List({List({Text("get"), Number(2)})})).has_value());
  CHECK_FALSE(CommandTable::FromReply(List({OldEntry("", 2, "", 1, 1, 1)})).has_value());
  Value error;
  error.type = Type::kError;
  error.text = "NOPERM no";
  CHECK(CommandTable::FromReply(error).error().message == "COMMAND failed: NOPERM no");
  Value bad_sub = List({OldEntry("config", -2, "", 0, 0, 0)});
  bad_sub.elements[0].elements.resize(9, List({}));
  bad_sub.elements[0].elements.push_back(List({List({Text("config|get")})}));
  CHECK_FALSE(CommandTable::FromReply(bad_sub).has_value());
}

// RESP3 has sets of flags and maps where RESP2 has flat lists; nothing else differs.
Value AsResp3(Value entry) {
  entry.elements[2].type = Type::kSet;
  entry.elements[6].type = Type::kSet;
  for (Value& spec : entry.elements[8].elements) {
    spec.type = Type::kMap;
    for (size_t i = 1; i < spec.elements.size(); i += 2) {
      Value& value = spec.elements[i];
      if (value.type != Type::kArray) continue;
      const bool is_flags = spec.elements[i - 1].text == "flags";
      value.type = is_flags ? Type::kSet : Type::kMap;
      if (!is_flags) value.elements[3].type = Type::kMap;
    }
  }
  for (Value& sub : entry.elements[9].elements) sub = AsResp3(std::move(sub));
  return entry;
}

TEST_CASE("RESP3 says the same as RESP2") {
  Value reply = test::CommandReply();
  std::vector<std::string> names;
  for (Value& entry : reply.elements) {
    names.push_back(entry.elements[0].text);
    entry = AsResp3(std::move(entry));
  }
  const auto table = CommandTable::FromReply(reply);
  REQUIRE(table.has_value());
  for (const std::string& name : names) {
    const CommandInfo* a = Find(Table(), name);
    const CommandInfo* b = Find(*table, name);
    REQUIRE(b != nullptr);
    CHECK(a->write == b->write);
    CHECK(a->route == b->route);
    CHECK(a->key_rule == b->key_rule);
    REQUIRE(a->specs.size() == b->specs.size());
    for (size_t i = 0; i < a->specs.size(); ++i) {
      CHECK(a->specs[i].index == b->specs[i].index);
      CHECK(a->specs[i].find == b->specs[i].find);
      CHECK(a->specs[i].incomplete == b->specs[i].incomplete);
    }
  }
  CHECK(KeysOf(*table, "XREAD STREAMS a b 0 0") == Keys{"a", "b"});
}

// ---- Routes ----

TEST_CASE("writes and what may write go to the head") {
  CheckRoutes(Table(), Route::kWrite,
              {"SET k v",
               "OBJECT ENCODING k",
               "OBJECT FREQ k",
               "FUNCTION STATS",
               "DEL k",
               "GETEX k",
               "GETDEL k",
               "SORT k",
               "GEORADIUS k",
               "BITFIELD k",
               "GEORADIUSBYMEMBER k",
               "XREADGROUP GROUP",
               "BLPOP k 0",
               "BLMPOP 0 1 k LEFT",
               "PFCOUNT k",
               "PUBLISH c m",
               "SPUBLISH c m",
               "EVAL s 0",
               "EVALSHA s 0",
               "FCALL f 0",
               "XINFO STREAM k",
               "XINFO GROUPS k",
               "SCRIPT LOAD x",
               "SCRIPT EXISTS x",
               "SCRIPT FLUSH",
               "FUNCTION LOAD x",
               "FUNCTION DELETE x",
               "FUNCTION FLUSH",
               "FUNCTION RESTORE x",
               "COPY a b",
               "RESTORE k 0 x",
               "MIGRATE h",
               "SWAPDB 0 1",
               "FLUSHALL",
               "FLUSHDB",
               "XGROUP CREATE k g $",
               "EXPIRE k 1",
               "SPOP k"});
}

TEST_CASE("reads stay at their node") {
  CheckRoutes(Table(), Route::kRead,
              {"GET k",
               "MGET k",
               "SCAN 0",
               "KEYS *",
               "DBSIZE",
               "RANDOMKEY",
               "XREAD STREAMS k 0",
               "MEMORY USAGE k",
               "DUMP k",
               "TOUCH k",
               "LCS a b",
               "SORT_RO k",
               "GEORADIUS_RO k",
               "GEORADIUSBYMEMBER_RO k",
               "BITFIELD_RO k",
               "EVAL_RO s 0",
               "EVALSHA_RO s 0",
               "FCALL_RO f 0",
               "FUNCTION LIST",
               "FUNCTION DUMP",
               "TTL k",
               "EXISTS k"});
}

TEST_CASE("what is about the server stays local") {
  CheckRoutes(Table(), Route::kLocal,
              {"CONFIG GET x",   "CONFIG SET a b",  "CONFIG RESETSTAT", "SLOWLOG GET",
               "LATENCY LATEST", "MEMORY DOCTOR",   "MEMORY STATS",     "LASTSAVE",
               "TIME",           "LOLWUT",          "BGSAVE",           "BGREWRITEAOF",
               "SAVE",           "MODULE LIST",     "ACL CAT",          "ACL GENPASS",
               "ACL HELP",       "PUBSUB CHANNELS", "FUNCTION HELP",    "CLUSTER INFO",
               "CLUSTER SLOTS",  "COMMAND",         "COMMAND DOCS",     "COMMAND GETKEYS get a",
               "PFSELFTEST",     "OBJECT HELP",     "XINFO HELP"});
}

TEST_CASE("the session answers what is about the connection or the chain") {
  CheckRoutes(Table(), Route::kProxy, {"PING",          "ECHO x",
                                       "SELECT 0",      "HELLO",
                                       "AUTH x",        "QUIT",
                                       "RESET",         "CLIENT ID",
                                       "CLIENT KILL x", "CLIENT TRACKING on",
                                       "INFO",          "WAIT 0 0",
                                       "ROLE",          "READONLY",
                                       "READWRITE",     "ASKING",
                                       "MULTI",         "EXEC",
                                       "DISCARD",       "WATCH k",
                                       "UNWATCH",       "SUBSCRIBE c",
                                       "PSUBSCRIBE c",  "SSUBSCRIBE c",
                                       "UNSUBSCRIBE",   "PUNSUBSCRIBE",
                                       "SUNSUBSCRIBE",  "MONITOR",
                                       "CATENA",        "catena consistency eventual"});
  CHECK(Find(Table(), "catena x")->arity == -2);
}

TEST_CASE("what would break the chain is refused with its reason") {
  const std::vector<std::string> refused = {"REPLICAOF h 1",
                                            "SLAVEOF h 1",
                                            "FAILOVER",
                                            "SHUTDOWN",
                                            "SYNC",
                                            "PSYNC ? -1",
                                            "REPLCONF ack 1",
                                            "DEBUG RELOAD",
                                            "DEBUG",
                                            "MODULE LOAD x",
                                            "MODULE UNLOAD x",
                                            "MODULE LOADEX x",
                                            "CLUSTER MEET h 1",
                                            "CLUSTER RESET",
                                            "CLUSTER ADDSLOTS 1",
                                            "CLUSTER FAILOVER",
                                            "SCRIPT DEBUG yes",
                                            "PFDEBUG x k",
                                            "ACL SETUSER u",
                                            "ACL LIST",
                                            "ACL LOAD",
                                            "POST / HTTP/1.1",
                                            "Host: localhost"};
  CheckRoutes(Table(), Route::kRefused, refused);
  for (const std::string& line : refused) CHECK(Find(Table(), line)->refusal.starts_with("ERR "));
  CHECK(Find(Table(), "replicaof no one")->refusal ==
        "ERR REPLICAOF is not allowed through Catena: it would break the chain; use catenactl");
  CHECK(Find(Table(), "acl setuser x")->refusal ==
        "ERR ACL SETUSER is not allowed through Catena: users and their rights are in the "
        "configuration file");
}

TEST_CASE("a subcommand that the backend does not know gets the backend's own error") {
  CheckRoutes(
      Table(), Route::kUnknown,
      {"CONFIG NOSUCH", "CONFIG", "CLIENT NOSUCH", "ACL NOSUCH", "MODULE", "OBJECT", "XGROUP x"});
  CHECK(Find(Table(), "ACL NOSUCH")->refusal.empty());
}

TEST_CASE("what ends a script does not wait behind it") {
  CheckRoutes(Table(), Route::kInterrupt, {"SCRIPT KILL", "FUNCTION KILL"});
  CheckRoutes(Table(), Route::kProxy, {"ACL WHOAMI"});
}

TEST_CASE("every listed command has a route, and refusals only have a text") {
  const std::vector<Route> decided = {Route::kRead,  Route::kWrite,   Route::kLocal,
                                      Route::kProxy, Route::kRefused, Route::kInterrupt};
  for (const Value& entry : test::CommandReply().elements) {
    const CommandInfo* info = Find(Table(), entry.elements[0].text);
    REQUIRE(info != nullptr);
    INFO(info->name);
    const bool container = !info->subcommands.empty() && info->name != "command";
    CHECK((std::count(decided.begin(), decided.end(), info->route) == 1) == !container);
    for (const CommandInfo& sub : info->subcommands) {
      INFO(sub.name);
      CHECK(std::count(decided.begin(), decided.end(), sub.route) == 1);
      CHECK((sub.route == Route::kRefused) == !sub.refusal.empty());
      // Nothing that writes is run at a follower.
      if (sub.write) CHECK((sub.route == Route::kWrite || sub.route == Route::kRefused));
    }
    if (info->write) CHECK((info->route == Route::kWrite || info->route == Route::kRefused));
    CHECK((info->route == Route::kRefused) == !info->refusal.empty());
  }
}

TEST_CASE("no rule stands twice") {
  std::map<std::string_view, int> seen;
  for (const RouteRule& rule : RouteRules()) {
    INFO(rule.name);
    CHECK(++seen[rule.name] == 1);
    CHECK_FALSE(rule.reason.empty());
  }
}

// ---- Keys ----

TEST_CASE("keys are those that COMMAND GETKEYS told") {
  std::istringstream lines(test::ReadData("getkeys-redis-7.0.15.txt"));
  int compared = 0;
  for (std::string line; std::getline(lines, line);) {
    INFO(line);
    const size_t arrow = line.find(" =>");
    REQUIRE(arrow != std::string::npos);
    const std::string command = line.substr(0, arrow);
    const Keys expected = Words(line.substr(arrow + 3));
    const auto words = Words(command);
    const CommandInfo* info = Table().Find(Views(words));
    REQUIRE(info != nullptr);
    std::vector<uint32_t> positions;
    const KeyKnowledge knowledge = FindKeys(*info, Views(words), positions);
    Keys keys;
    for (uint32_t position : positions) keys.push_back(words.at(position));
    CHECK(keys == expected);
    // Scripts may use keys that they do not declare.
    CHECK((knowledge == KeyKnowledge::kUnknown) ==
          (info->key_rule == CommandInfo::KeyRule::kScript));
    ++compared;
  }
  CHECK(compared > 70);
}

TEST_CASE("commands without keys have none, exactly") {
  for (const char* line :
       {"PING", "SCAN 0", "DBSIZE", "FLUSHALL", "SELECT 1", "PUBLISH c m", "CATENA x",
        "SPUBLISH c m", "CONFIG GET x", "SUBSCRIBE c", "SSUBSCRIBE c"}) {
    INFO(std::string(line));
    CHECK(KeysOf(Table(), line) == Keys{});
  }
}

TEST_CASE("patterns of SORT name keys by content") {
  CHECK(KeysOf(Table(), "SORT l BY w_*") == std::nullopt);
  CHECK(KeysOf(Table(), "SORT l GET # GET o_*->f STORE d") == std::nullopt);
  CHECK(KeysOf(Table(), "SORT_RO l BY w_*") == std::nullopt);
  CHECK(KeysOf(Table(), "SORT l BY") == std::nullopt);
  CHECK(KeysOf(Table(), "SORT l BY nosort GET #") == Keys{"l"});
  CHECK(KeysOf(Table(), "SORT l GET store LIMIT store 2 STORE d") == Keys{"l", "d"});
}

TEST_CASE("every destination counts when one is named again") {
  CHECK(KeysOf(Table(), "SORT l STORE a LIMIT 0 1 STORE b") == Keys{"l", "a", "b"});
  CHECK(KeysOf(Table(), "GEORADIUS g 1 1 1 m STORE a STORE b STOREDIST c") ==
        Keys{"g", "a", "b", "c"});
}

TEST_CASE("arguments that make no sense have unknown keys") {
  for (const char* line : {"GET",
                           "DEL",
                           "OBJECT ENCODING",
                           "BLPOP",
                           "BLPOP k",
                           "RENAME a",
                           "ZUNIONSTORE",
                           "ZUNIONSTORE d",
                           "ZUNIONSTORE d x a",
                           "ZUNIONSTORE d 3 a b",
                           "ZUNIONSTORE d 0",
                           "ZUNIONSTORE d -1 a",
                           "ZUNIONSTORE d 9223372036854775807 a",
                           "ZUNIONSTORE d 99999999999999999999 a",
                           "ZUNIONSTORE d 2147483647 a",
                           "ZUNIONSTORE d 1x a",
                           "ZUNIONSTORE d %00EMPTY a",
                           "ZUNION 2 a",
                           "LMPOP",
                           "LMPOP 1",
                           "XREAD",
                           "XREAD STREAMS",
                           "XREAD STREAMS a",
                           "XREAD COUNT 1",
                           "SORT",
                           "GEORADIUS",
                           "MIGRATE",
                           "MIGRATE h 1 %00EMPTY 0 10",
                           "MIGRATE h 1 %00EMPTY 0 10 KEYS",
                           "SINTERCARD 2 a",
                           "BZMPOP 0",
                           "EVAL",
                           "EVAL s",
                           "EVAL s x",
                           "EVAL s 5 a"}) {
    INFO(std::string(line));
    CHECK_FALSE(KeysOf(Table(), line).has_value());
  }
}

// Whatever the arguments are, no position lies outside of them.
TEST_CASE("random arguments are safe") {
  const std::vector<std::string> pool = {
      "0",       "1",     "2",    "7",  "-1",  "2147483647", "-9223372036854775808",
      "STREAMS", "STORE", "KEYS", "BY", "GET", "AUTH",       "AUTH2",
      "BLOCK",   "GROUP", "a",    "",   "*",   "LIMIT"};
  const Value reply = test::CommandReply();
  uint64_t random = 1;
  const auto next = [&random](size_t below) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    return static_cast<size_t>((random >> 33) % below);
  };
  for (int round = 0; round < 200000; ++round) {
    const std::string& name = reply.elements[next(reply.elements.size())].elements[0].text;
    std::vector<std::string_view> arguments = {name};
    for (size_t count = next(9); count > 0; --count) arguments.push_back(pool[next(pool.size())]);
    const CommandInfo* info = Table().Find(arguments);
    REQUIRE(info != nullptr);
    std::vector<uint32_t> keys;
    FindKeys(*info, arguments, keys);
    MayBlock(*info, arguments);
    for (uint32_t key : keys) REQUIRE((key >= 1 && key < arguments.size()));
  }
}

TEST_CASE("equal keys have equal hashes") {
  CHECK(HashKey("key") == HashKey(std::string("xkey").substr(1)));
  CHECK(HashKey("key") != HashKey("Key"));
  CHECK(HashKey("") != HashKey(std::string_view("\0", 1)));
  CHECK(HashKey("key") == 0xbbea0d63a05165e3u);  // the same in every process and version
}

// ---- Blocking ----

TEST_CASE("blocking commands block, XREAD only with BLOCK") {
  const auto may_block = [](const CommandTable& table, const std::string& line) {
    const auto words = Words(line);
    return MayBlock(*table.Find(Views(words)), Views(words));
  };
  CHECK(may_block(Table(), "BLPOP k 0"));
  CHECK(may_block(Table(), "BLMPOP 0 1 k LEFT"));
  CHECK_FALSE(may_block(Table(), "LPOP k"));
  CHECK_FALSE(may_block(Table(), "SORT block"));
  const CommandTable old = OldTable();
  for (const CommandTable* table : {&Table(), &old}) {
    CHECK(may_block(*table, "XREAD block 0 STREAMS k 0"));
    CHECK(may_block(*table, "XREAD COUNT 1 BLOCK 0 STREAMS k 0"));
    CHECK_FALSE(may_block(*table, "XREAD COUNT 1 STREAMS k 0"));
    CHECK_FALSE(may_block(*table, "XREAD STREAMS block 0"));
    CHECK(may_block(*table, "XREADGROUP GROUP streams c BLOCK 0 STREAMS k >"));
    CHECK_FALSE(may_block(*table, "XREADGROUP GROUP block block STREAMS k >"));
    CHECK(may_block(*table, "XREADGROUP BLOCK 0 GROUP g c STREAMS k >"));
  }
}

}  // namespace
}  // namespace catena::command
