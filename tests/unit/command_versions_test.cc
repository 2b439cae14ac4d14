// What COMMAND looks like in other versions than the recorded one, and with modules: nothing but
// the rules of route_rules.cc knows a command by its name.
#include "command_reply.h"
#include "proxy/command/effect_parser.h"
#include "proxy/command/user_rights.h"
#include "proxy/resp/encoder.h"

namespace catena::command {
namespace {

// ---- Entries of 7.0 and later: ten fields ----

Value BeginAt(int index) {
  return List({Text("type"), Text("index"), Text("spec"), List({Text("index"), Number(index)})});
}

Value BeginBehind(const std::string& keyword, int from) {
  return List({Text("type"), Text("keyword"), Text("spec"),
               List({Text("keyword"), Text(keyword), Text("startfrom"), Number(from)})});
}

Value Range(int last, int step) {
  return List({Text("type"), Text("range"), Text("spec"),
               List({Text("lastkey"), Number(last), Text("keystep"), Number(step), Text("limit"),
                     Number(0)})});
}

Value Counted() {
  return List({Text("type"), Text("keynum"), Text("spec"),
               List({Text("keynumidx"), Number(0), Text("firstkey"), Number(1), Text("keystep"),
                     Number(1)})});
}

Value Other() { return List({Text("type"), Text("telepathy"), Text("spec"), List({})}); }

Value Spec(const std::string& flags, Value begin, Value find) {
  return List({Text("flags"), TextList(flags), Text("begin_search"), std::move(begin),
               Text("find_keys"), std::move(find)});
}

Value NewEntry(const std::string& name, int arity, const std::string& flags,
               std::vector<Value> specs, std::vector<Value> subcommands = {},
               const std::string& categories = "") {
  const int first = specs.empty() ? 0 : name.find('|') == std::string::npos ? 1 : 2;
  Value entry = OldEntry(name, arity, flags, first, first, first, categories);
  entry.elements.push_back(TextList("some_tip"));
  entry.elements.push_back(List(std::move(specs)));
  entry.elements.push_back(List(std::move(subcommands)));
  return entry;
}

CommandTable NewTable() {
  std::vector<Value> entries = {
      NewEntry("hexpire", -6, "write denyoom fast", {Spec("RW update", BeginAt(1), Range(0, 1))}),
      NewEntry("newread", -2, "readonly fast", {Spec("RO access", BeginAt(1), Range(0, 1))}),
      NewEntry("newmany", -3, "readonly movablekeys", {Spec("RO", BeginAt(1), Counted())}),
      NewEntry("newword", -3, "readonly movablekeys",
               {Spec("RO", BeginBehind("FROM", 1), Range(0, 1))}),
      NewEntry("newsome", -3, "readonly movablekeys",
               {Spec("RO incomplete", BeginAt(1), Range(0, 1))}),
      NewEntry("newguess", -3, "readonly movablekeys", {Spec("RO", Other(), Other())}),
      NewEntry("newcast", -3, "pubsub fast", {Spec("not_key", BeginAt(1), Range(0, 1))}),
      NewEntry("newadmin", -1, "admin noscript loading stale", {}),
      NewEntry("newthing", -1, "loading stale", {}),
      NewEntry("waitaof", 4, "blocking", {}),
      NewEntry("client", -2, "", {},
               {NewEntry("client|id", 2, "noscript loading stale", {}),
                NewEntry("client|no-touch", 3, "noscript loading stale", {}),
                NewEntry("client|capa", -3, "noscript loading stale", {})}),
      NewEntry("cluster", -2, "", {},
               {NewEntry("cluster|myshardid", 2, "stale", {}),
                NewEntry("cluster|syncslots", -3, "admin stale", {})}),
      NewEntry("commandlog", -2, "", {}, {NewEntry("commandlog|get", 4, "admin loading", {})}),
      NewEntry("script", -2, "", {},
               {NewEntry("script|show", 3, "noscript", {}),
                NewEntry("script|kill", 2, "noscript allow_busy", {})}),
      NewEntry(
          "newcontainer", -2, "", {},
          {NewEntry("newcontainer|put", -3, "write", {Spec("RW", BeginAt(2), Range(0, 1))}),
           NewEntry("newcontainer|look", -3, "readonly", {Spec("RO", BeginAt(2), Range(0, 1))}),
           NewEntry("newcontainer|help", 2, "loading stale", {})}),
      NewEntry("json.set", -4, "write denyoom module", {Spec("RW", BeginAt(1), Range(0, 1))}, {},
               "@write @slow"),
      NewEntry("json.debug", -2, "readonly module movablekeys",
               {Spec("RO", BeginAt(1), Range(0, 1))},
               {NewEntry("json.debug|memory", -3, "readonly module",
                         {Spec("RO", BeginAt(2), Range(0, 1))})}),
      NewEntry("ft.aggregate", -3, "readonly module movablekeys",
               {Spec("RO", BeginAt(1), Range(0, 1))}),
  };
  // Fields that a later version may add are not looked at.
  entries[0].elements.push_back(Text("an eleventh field"));
  auto table = CommandTable::FromReply(List(std::move(entries)));
  REQUIRE(table.has_value());
  return std::move(*table);
}

TEST_CASE("commands of a later version go by their flags") {
  const CommandTable table = NewTable();
  CheckRoutes(table, Route::kWrite, {"HEXPIRE h 1 FIELDS 1 f", "NEWTHING", "NEWCONTAINER PUT k"});
  CheckRoutes(table, Route::kRead, {"NEWREAD k", "NEWMANY 1 k", "NEWCONTAINER LOOK k"});
  CheckRoutes(table, Route::kLocal,
              {"NEWADMIN", "COMMANDLOG GET 1 slow", "CLUSTER MYSHARDID", "NEWCONTAINER HELP"});
  CheckRoutes(table, Route::kProxy,
              {"CLIENT ID", "CLIENT NO-TOUCH on", "CLIENT CAPA x", "WAITAOF 0 0 0"});
  CheckRoutes(table, Route::kRefused, {"CLUSTER SYNCSLOTS x"});
  CheckRoutes(table, Route::kUnknown, {"CLIENT NOSUCH", "NEWCONTAINER NOSUCH", "SCRIPT LOAD x"});
  CHECK(RouteOf(table, "SCRIPT SHOW x") == Route::kWrite);
  CHECK(RouteOf(table, "SCRIPT KILL") == Route::kInterrupt);
  CHECK(Find(table, "WAITAOF 0 0 0")->blocking);
}

TEST_CASE("keys of a later version's commands are where it says, or unknown") {
  const CommandTable table = NewTable();
  CHECK(KeysOf(table, "HEXPIRE h 1 FIELDS 1 f") == Keys{"h"});
  CHECK(KeysOf(table, "NEWMANY 2 a b x") == Keys{"a", "b"});
  CHECK(KeysOf(table, "NEWMANY 3 a b") == std::nullopt);
  CHECK(KeysOf(table, "NEWWORD x FROM k") == Keys{"k"});
  CHECK(KeysOf(table, "NEWWORD x y") == std::nullopt);
  CHECK(KeysOf(table, "NEWSOME a b") == std::nullopt);
  CHECK(KeysOf(table, "NEWGUESS a b") == std::nullopt);
  CHECK(KeysOf(table, "NEWCAST c m") == Keys{});
}

TEST_CASE("a module's commands of a later version") {
  const CommandTable table = NewTable();
  CHECK(RouteOf(table, "JSON.SET k $ 1") == Route::kWrite);
  CHECK(KeysOf(table, "JSON.SET k $ 1") == Keys{"k"});
  CHECK(RouteOf(table, "JSON.DEBUG MEMORY k") == Route::kRead);
  CHECK(RouteOf(table, "JSON.DEBUG NOSUCH k") == Route::kUnknown);
  // Its own function finds the keys, which only its server can call.
  CHECK(KeysOf(table, "FT.AGGREGATE i q") == std::nullopt);
}

TEST_CASE("what a module changes may be more than it names") {
  const CommandTable table = NewTable();
  EffectParser parser(table, Position(0));
  std::string bytes;
  for (const char* line : {"JSON.SET k $ 1", "HEXPIRE k 1 FIELDS 1 f"}) {
    const auto words = Words(line);
    resp::AppendCommand(bytes, Views(words));
  }
  for (const bool cut : {false, true}) {
    std::vector<bool> every;
    const auto note = [&](const EffectEntry& entry) { every.push_back(entry.touches_every_key); };
    const size_t first = cut ? 20 : bytes.size();
    CHECK(parser.Feed(std::string_view(bytes).substr(0, first), note).has_value());
    CHECK(parser.Feed(std::string_view(bytes).substr(first), note).has_value());
    CHECK(every == std::vector<bool>{true, false});
  }
}

TEST_CASE("rights of users with any version's commands") {
  const UserRights reader(Access::kReadOnly, {"*"}, {"*"});
  const UserRights tenant(Access::kAll, {"app:*"}, {"*"});
  const auto refused = [](const UserRights& rights, const CommandTable& table, const char* line) {
    const auto words = Words(line);
    const auto arguments = Views(words);
    const CommandInfo* info = table.Find(arguments);
    REQUIRE(info != nullptr);
    std::vector<uint32_t> keys;
    const bool known = FindKeys(*info, arguments, keys) == KeyKnowledge::kExact && !keys.empty();
    return !rights.Refusal(info, arguments, keys, known).empty();
  };
  const CommandTable old = OldTable(), later = NewTable();
  for (const char* line : {"ZUNIONSTORE d 1 a", "SORT l", "FT.CREATE i", "CLUSTER NODES",
                           "ACL SETUSER x", "CLIENT KILL ID 1", "CONFIG.THING"}) {
    CHECK_MESSAGE(refused(reader, old, line), std::string(line));
  }
  for (const char* line :
       {"GET k", "ZINTER 1 a", "CLIENT SETNAME x", "client id", "ACL WHOAMI", "JSON.GET k"}) {
    CHECK_MESSAGE(!refused(reader, old, line), std::string(line));
  }
  for (const char* line : {"GET k", "ZUNIONSTORE app:d 1 a", "STRALGO LCS KEYS app:a app:b",
                           "FT.SEARCH app:i q", "FT.CREATE app:i"}) {
    CHECK_MESSAGE(refused(tenant, old, line), std::string(line));
  }
  for (const char* line :
       {"HEXPIRE h 1 FIELDS 1 f", "NEWADMIN", "JSON.SET k $ 1", "NEWCONTAINER PUT k"}) {
    CHECK_MESSAGE(refused(reader, later, line), std::string(line));
  }
  for (const char* line : {"NEWSOME app:a app:b", "FT.AGGREGATE app:i q", "JSON.DEBUG MEMORY k"}) {
    CHECK_MESSAGE(refused(tenant, later, line), std::string(line));
  }
  for (const char* line :
       {"HEXPIRE app:h 1 FIELDS 1 f", "NEWMANY 1 app:k", "JSON.DEBUG MEMORY app:k"}) {
    CHECK_MESSAGE(!refused(tenant, later, line), std::string(line));
  }
}

// ---- Redis 6.2 and modules ----

TEST_CASE("keys of 6.2, which has no specifications") {
  const CommandTable old = OldTable();
  CHECK(KeysOf(old, "GET k") == Keys{"k"});
  CHECK(KeysOf(old, "ZUNIONSTORE d 2 a b WEIGHTS 1 2") == Keys{"d", "a", "b"});
  CHECK(KeysOf(old, "ZINTER 2 a b") == Keys{"a", "b"});
  CHECK(KeysOf(old, "ZINTER 3 a b") == std::nullopt);
  CHECK(KeysOf(old, "SORT l STORE d") == Keys{"l", "d"});
  CHECK(KeysOf(old, "GEORADIUS g 1 1 1 m STOREDIST d") == Keys{"g", "d"});
  CHECK(KeysOf(old, "MIGRATE h 1 %00EMPTY 0 10 KEYS a b") == Keys{"a", "b"});
  CHECK(KeysOf(old, "XREAD BLOCK 0 STREAMS a b 0 0") == Keys{"a", "b"});
  CHECK(KeysOf(old, "XREADGROUP GROUP g c STREAMS a >") == Keys{"a"});
  CHECK(KeysOf(old, "MEMORY USAGE k") == Keys{"k"});
  CHECK(KeysOf(old, "OBJECT ENCODING k") == Keys{"k"});
  CHECK(KeysOf(old, "EVAL s 1 a") == std::nullopt);
  CHECK(KeysOf(old, "STRALGO LCS KEYS a b") == std::nullopt);
}

TEST_CASE("routes of 6.2, which lists no subcommands") {
  const CommandTable old = OldTable();
  CheckRoutes(
      old, Route::kWrite,
      {"EVAL s 0", "PFCOUNT k", "SORT l", "XINFO STREAM k", "SCRIPT LOAD x", "OBJECT ENCODING k"});
  CheckRoutes(old, Route::kRead, {"GET k", "MEMORY USAGE k", "XREAD STREAMS k 0"});
  CheckRoutes(old, Route::kLocal,
              {"MEMORY DOCTOR", "ACL CAT", "ACL GENPASS", "CLUSTER NODES", "MODULE LIST"});
  CheckRoutes(old, Route::kRefused,
              {"ACL SETUSER x", "CLUSTER MEET h 1", "MODULE LOAD x", "SCRIPT DEBUG"});
  CheckRoutes(old, Route::kProxy, {"CLIENT ID", "CLIENT NOSUCH", "CATENA x"});
}

TEST_CASE("a module's command goes by its flags") {
  const CommandTable old = OldTable();
  CheckRoutes(old, Route::kRead, {"FT.SEARCH i q", "JSON.GET k"});
  CheckRoutes(old, Route::kWrite, {"FT.CREATE i", "GRAPH.THING"});
  CheckRoutes(old, Route::kLocal, {"CONFIG.THING"});
  CHECK(KeysOf(old, "JSON.GET k $") == Keys{"k"});
  CHECK(KeysOf(old, "FT.SEARCH i q") == std::nullopt);
}

}  // namespace
}  // namespace catena::command
