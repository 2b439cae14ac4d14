// The logic of the RocksDB backend's commands. That their replies are Redis's, byte for byte, is
// shown by integration/test_rocksdb_dual.py; here is what that cannot see: what is written, times,
// cursors, Catena's own commands.
#include <set>

#include "allocations.h"
#include "proxy/resp/encoder.h"
#include "rocks_command_fixture.h"

namespace catena::rocks::test {
namespace {

TEST_CASE("SET writes once, with its deadline; a refused one writes nothing") {
  CommandFixture run;
  CHECK(run.EffectsOf("set a 1 px 5000") == "put a");
  CHECK(run.view.items["a"].deadline_ms == run.view.now_ms + 5000);
  CHECK(run.EffectsOf("set a 2 nx") == "");
  CHECK(run.EffectsOf("set b 2 xx") == "");
  CHECK(run.EffectsOf("set a 2 keepttl") == "put a");
  CHECK(run.view.items["a"].deadline_ms == run.view.now_ms + 5000);
  CHECK(run.EffectsOf("set a 2") == "put a");
  CHECK(run.view.items["a"].deadline_ms == Item::kNoDeadline);
}

TEST_CASE("a deadline in the past deletes, and only what is there") {
  CommandFixture run;
  CHECK(run.EffectsOf("set a 1 pxat 1") == "");
  run("set a 1");
  CHECK(run.EffectsOf("set a 1 pxat 1") == "delete a");
  run("set a 1");
  CHECK(run.EffectsOf("expire a -1") == "delete a");
  CHECK(run.EffectsOf("expire a -1") == "");
  run("set a 1");
  CHECK(run("getex a exat 1") == "$1\r\n1\r\n");
  CHECK(run.view.items.empty());
}

TEST_CASE("commands that change nothing write nothing") {
  CommandFixture run;
  run("set a foo");
  run("setbit bits 1 1");
  for (const char* line : {"persist a", "getex a", "getex a persist", "setrange a 1 %00EMPTY",
                           "rename a a", "msetnx a 1 b 2", "incr a", "setbit bits 1 1", "del none",
                           "getdel none", "bitop and none none", "copy a a", "expire a 10 xx",
                           "bitfield a get u8 0", "bitfield a overflow fail incrby u8 0 300"}) {
    INFO(line);
    CHECK(run.EffectsOf(line) == "");
  }
}

TEST_CASE("an expired key is not there") {
  CommandFixture run;
  run("set a 1 px 10");
  CHECK(run("pttl a") == ":10\r\n");
  run.view.now_ms += 10;
  CHECK(run("get a") == "$-1\r\n");
  CHECK(run("ttl a") == ":-2\r\n");
  CHECK(run("dbsize") == ":0\r\n");
  CHECK(run("incr a") == ":1\r\n");
  CHECK(run("ttl a") == ":-1\r\n");
}

TEST_CASE("numbers and pieces keep the time to live; whole new values do not") {
  for (const char* line : {"incr a", "incrbyfloat a 1.5", "append a 1", "setrange a 0 9",
                           "setbit a 0 1", "bitfield a set u8 0 1"}) {
    CommandFixture run;
    run("set a 1 ex 100");
    run(line);
    INFO(line);
    CHECK(run("ttl a") == ":100\r\n");
  }
  for (const char* line : {"set a 1", "getset a 1", "mset a 1", "bitop not a a"}) {
    CommandFixture run;
    run("set a 1 ex 100");
    run(line);
    INFO(line);
    CHECK(run("ttl a") == ":-1\r\n");
  }
}

TEST_CASE("RENAME and COPY take the deadline along") {
  CommandFixture run;
  run("set a 1 ex 100");
  run("set b 2");
  CHECK(run.EffectsOf("rename a b") == "delete a, put b");
  CHECK(run("ttl b") == ":100\r\n");
  run("copy b c");
  CHECK(run("ttl c") == ":100\r\n");
}

TEST_CASE("BITFIELD saturates on the side that Redis chooses") {
  CommandFixture run;
  const char* const set = "bitfield a overflow sat set i8 0 ";
  const auto result_of = [&](const std::string& number) {
    run(set + number);
    return run("bitfield a get i8 0");
  };
  CHECK(result_of("-129") == "*1\r\n:-128\r\n");
  CHECK(result_of("128") == "*1\r\n:127\r\n");
  CHECK(result_of("-9223372036854775680") == "*1\r\n:-128\r\n");
  CHECK(result_of("-9223372036854775681") == "*1\r\n:127\r\n");
  run("bitfield a set i8 0 5");
  CHECK(run("bitfield a overflow sat incrby i8 0 -9223372036854775808") == "*1\r\n:-128\r\n");
}

TEST_CASE("strings are no larger than Redis allows") {
  CommandFixture run;
  CHECK(run("setrange a 536870911 xx") ==
        "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n");
  CHECK(run("setbit a 4294967296 1") == "-ERR bit offset is not an integer or out of range\r\n");
  CHECK(run.view.effects.empty());
}

// A View with one key, which allocates nothing once it is warm.
class OneKeyView final : public View {
 public:
  bool Get(std::string_view, Item& item) override {
    item = item_;
    return true;
  }
  bool Has(std::string_view) override { return true; }
  void Put(std::string_view, std::string_view value, int64_t deadline_ms) override {
    item_.value.assign(value);
    item_.deadline_ms = deadline_ms;
  }
  void Delete(std::string_view) override {}
  void Clear() override {}
  std::unique_ptr<Cursor> Walk() override { return nullptr; }
  int Compare(std::string_view a, std::string_view b) const override { return a.compare(b); }
  uint64_t CountKeys() override { return 1; }
  int64_t NowMs() const override { return 1; }
  uint64_t Random() override { return 1; }

 private:
  Item item_;
};

TEST_CASE("frequent commands allocate nothing once the buffers are warm") {
  OneKeyView view;
  CommandFixture run;
  CommandContext context{view, run.client, run.facts, run.workspace};
  const std::string value(100, 'v');
  const std::vector<std::vector<std::string_view>> commands = {
      {"SET", "key", value}, {"set", "key", value, "EX", "100"},
      {"GET", "key"},        {"MGET", "key", "key"},
      {"EXISTS", "key"},     {"GETRANGE", "key", "0", "50"},
      {"APPEND", "key", ""}, {"SETBIT", "key", "5", "1"},
      {"SET", "key", "1"},   {"INCR", "key"},
      {"DEL", "key"},        {"TTL", "key"}};
  std::string reply;
  reply.reserve(4096);
  const auto run_all = [&] {
    reply.clear();
    for (const auto& command : commands) Execute(command, context, reply);
  };
  run_all();
  const size_t before = catena::test::allocations;
  run_all();
  const size_t after = catena::test::allocations;
  CHECK(reply.find("-ERR") == std::string::npos);
  CHECK(after == before);
}

TEST_CASE("room for large values is given back") {
  CommandFixture run;
  run.RunWords({"set", "a", std::string(3u << 20, 'x')});
  for (const char* line : {"get a", "append a b", "bitop not b a", "catena.range - +", "lcs a a"}) {
    INFO(line);
    run(line);
    CHECK(run.workspace.item.value.capacity() <= Workspace::kKeptBytes);
    CHECK(run.workspace.other.value.capacity() <= Workspace::kKeptBytes);
    CHECK(run.workspace.bytes.capacity() <= Workspace::kKeptBytes);
  }
}

// ---- DUMP and RESTORE ----

TEST_CASE("what DUMP gives, RESTORE takes; damage is found") {
  CommandFixture run;
  const std::string values[] = {"",
                                "0",
                                "-128",
                                "32767",
                                "-2147483648",
                                "2147483648",
                                "a\\r\\nb",
                                std::string(63, 'x'),
                                std::string(64, 'y'),
                                std::string(20000, 'z')};
  for (const std::string& value : values) {
    run.RunWords({"set", "a", value});
    const std::string payload = run.Decoded("dump a").text;
    CHECK(run.RunWords({"restore", "b", "0", payload, "replace"}) == "+OK\r\n");
    CHECK(run.Decoded("get b").text == value);
    for (size_t at = 0; at < std::min<size_t>(payload.size(), 100); ++at) {
      std::string damaged = payload;
      damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
      CHECK(run.RunWords({"restore", "c", "0", damaged}) ==
            "-ERR DUMP payload version or checksum are wrong\r\n");
    }
  }
}

// A payload of Redis 7.0.15: DUMP of a list with one element "x".
constexpr std::string_view kDumpedList(
    "\x12\x01\x02\x0a\x0a\x00\x00\x00\x01\x00\x81\x78\x02\xff\x0a\x00\xd1\x7b\x3f\xb8\x5c\x03\x06"
    "\x0e",
    24);

TEST_CASE("RESTORE refuses values of other types") {
  CommandFixture run;
  CHECK(run.RunWords({"restore", "l", "0", std::string(kDumpedList)}) ==
        "-ERR the rocksdb backend restores strings only\r\n");
}

// ---- SCAN ----

// Goes on from `cursor` by one step; adds what came to `seen`.
std::string Step(CommandFixture& run, const std::string& cursor, std::multiset<std::string>& seen,
                 const std::string& options = "count 3") {
  const resp::Value reply = run.Decoded("scan " + cursor + " " + options);
  for (const resp::Value& key : reply.elements[1].elements) seen.insert(key.text);
  return reply.elements[0].text;
}

void SetNumbered(CommandFixture& run, int from, int to) {
  for (int i = from; i < to; ++i) run("set k" + std::to_string(1000 + i) + " v");
}

TEST_CASE("SCAN passes what is there all the time exactly once, while keys come and go") {
  CommandFixture run;
  SetNumbered(run, 0, 40);
  std::multiset<std::string> seen;
  std::string cursor = "0";
  int step = 0;
  do {
    cursor = Step(run, cursor, seen);
    // Those with odd numbers come and go; the one that the cursor remembers may be among them.
    for (int i = 1; i < 40; i += 2)
      run((step % 2 == 0 ? "del k" : "set k") + std::to_string(1000 + i) + " ");
    ++step;
  } while (cursor != "0" && step < 100);
  CHECK(cursor == "0");
  for (int i = 0; i < 40; i += 2) CHECK(seen.count("k" + std::to_string(1000 + i)) == 1);
}

TEST_CASE("a step of SCAN can be asked again, an older one starts over") {
  CommandFixture run;
  SetNumbered(run, 0, 20);
  std::multiset<std::string> seen, again, over;
  const std::string first = Step(run, "0", seen);
  const std::string second = Step(run, first, seen);
  Step(run, first, again);
  CHECK(again == std::multiset<std::string>{"k1003", "k1004", "k1005"});
  // The answer to the first asking can still be used.
  again.clear();
  const std::string third = Step(run, second, again);
  CHECK(again == std::multiset<std::string>{"k1006", "k1007", "k1008"});
  Step(run, third, over);
  Step(run, first, over);
  CHECK(over.count("k1000") == 1);
}

TEST_CASE("cursors that are not known start over, and end") {
  CommandFixture run;
  SetNumbered(run, 0, 5);
  std::multiset<std::string> seen;
  CHECK(Step(run, "123456789", seen, "count 10") == "0");
  CHECK(seen.size() == 5);
}

TEST_CASE("SCAN's memory is bounded, and a double holds its cursors") {
  ScanCursors cursors;
  uint64_t latest = 0;
  for (uint64_t i = 0; i < 3 * ScanCursors::kScansMax; ++i) {
    latest = cursors.Advance(0, "key", i * 0x9e3779b97f4a7c15u);
    CHECK(latest < uint64_t{1} << 53);
    CHECK(latest != 0);
  }
  CHECK(cursors.size() == ScanCursors::kScansMax);
  CHECK(cursors.Find(latest) == "key");
  // Long keys push out more than one.
  const std::string large(ScanCursors::kBytesMax, 'k');
  const uint64_t of_large = cursors.Advance(0, large, 77);
  CHECK(cursors.size() == 1);
  CHECK(cursors.Find(of_large) == large);
  CHECK_FALSE(cursors.Find(latest).has_value());
}

TEST_CASE("one scan goes on for ever without pushing out another") {
  ScanCursors cursors;
  const uint64_t slow = cursors.Advance(0, "slow", 1);
  uint64_t fast = 0;
  for (int i = 0; i < 200'000; ++i) {
    fast = cursors.Advance(fast, "fast", 1000 + static_cast<uint64_t>(i));
    REQUIRE(fast != 0);
  }
  CHECK(cursors.Find(fast) == "fast");
  CHECK(cursors.Find(slow) == "slow");
}

// ---- CATENA.RANGE, RANDOMKEY, CATENA.DIGEST ----

std::string KeysInRange(CommandFixture& run, const std::string& line) {
  const resp::Value reply = run.Decoded("catena.range " + line);
  if (reply.IsError()) return reply.text;
  std::string keys;
  for (size_t i = 0; i < reply.elements.size(); i += 2)
    keys += reply.elements[i].text + "=" + reply.elements[i + 1].text + " ";
  return keys;
}

TEST_CASE("CATENA.RANGE") {
  CommandFixture run;
  run("mset a 1 b 2 c 3 d 4");
  run("set cc 5 px 1");
  run.view.now_ms += 1;
  CHECK(KeysInRange(run, "- +") == "a=1 b=2 c=3 d=4 ");
  CHECK(KeysInRange(run, "b c") == "b=2 c=3 ");
  CHECK(KeysInRange(run, "aa cz") == "b=2 c=3 ");
  CHECK(KeysInRange(run, "b + limit 2") == "b=2 c=3 ");
  CHECK(KeysInRange(run, "- c reverse") == "c=3 b=2 a=1 ");
  CHECK(KeysInRange(run, "b + REVERSE LIMIT 1") == "d=4 ");
  CHECK(KeysInRange(run, "aa zz reverse") == "d=4 c=3 b=2 ");
  CHECK(KeysInRange(run, "c b") == "");
  CHECK(KeysInRange(run, "+ -") == "");
  CHECK(KeysInRange(run, "- + limit 0") == "");
  CHECK(KeysInRange(run, "- + limit -1") == "ERR LIMIT can't be negative");
  CHECK(KeysInRange(run, "- + limit") == "ERR syntax error");
  run.client.protocol = 3;
  CHECK(run("catena.range a a") == "%1\r\n$1\r\na\r\n$1\r\n1\r\n");
}

TEST_CASE("a range that is too large for one reply is refused") {
  CommandFixture run;
  for (const char* key : {"a", "b", "c"}) run.RunWords({"set", key, std::string(30u << 20, 'x')});
  CHECK(KeysInRange(run, "- +").starts_with("ERR the range has more than 64 MiB"));
  CHECK_FALSE(KeysInRange(run, "- + limit 2").starts_with("ERR"));
}

TEST_CASE("ranges and scans follow the database's comparator") {
  CommandFixture run(true);
  run("mset a 1 b 2 c 3 d 4");
  CHECK(KeysInRange(run, "- +") == "d=4 c=3 b=2 a=1 ");
  CHECK(KeysInRange(run, "c a limit 2") == "c=3 b=2 ");
  CHECK(KeysInRange(run, "a c") == "");
  CHECK(KeysInRange(run, "- b reverse") == "b=2 c=3 d=4 ");
  std::multiset<std::string> seen;
  const std::string cursor = Step(run, "0", seen);
  CHECK(Step(run, cursor, seen) == "0");
  CHECK(seen == std::multiset<std::string>{"a", "b", "c", "d"});
}

void CheckRandomKeys(bool reversed) {
  CommandFixture run(reversed);
  CHECK(run("randomkey") == "$-1\r\n");
  const std::string keys[] = {"", "a", "ab", "abc", "b:1", "b:10", "b:2", "b:\xff", "\xff\xff"};
  for (const std::string& key : keys) run.RunWords({"set", key, "1"});
  std::set<std::string> seen;
  for (int i = 0; i < 2000; ++i) seen.insert(run.Decoded("randomkey").text);
  CHECK(seen == std::set<std::string>(std::begin(keys), std::end(keys)));
}

TEST_CASE("RANDOMKEY comes to every key") {
  CheckRandomKeys(false);
  CheckRandomKeys(true);
}

TEST_CASE("RANDOMKEY comes from all over a large database") {
  for (bool reversed : {false, true}) {
    CommandFixture run(reversed);
    for (int i = 0; i < 5000; ++i) run("set user:" + std::to_string(10'000 + i) + " x");
    std::set<std::string> thousands;
    for (int i = 0; i < 200; ++i) thousands.insert(run.Decoded("randomkey").text.substr(0, 7));
    CHECK(thousands ==
          std::set<std::string>{"user:10", "user:11", "user:12", "user:13", "user:14"});
  }
}

TEST_CASE("CATENA.DIGEST") {
  CommandFixture run;
  run("set a abc");
  run("set b abc pxat 1800000000000");
  run.RunWords({"set", "edge", std::string(65536, 'x')});
  run.RunWords({"set", "large", std::string(65537, 'x')});
  const resp::Value reply = run.Decoded("catena.digest a b none large edge");
  REQUIRE(reply.elements.size() == 5);
  CHECK(reply.elements[0].text == "a9993e364706816aba3e25717850c26c9cd0d89d -1");
  CHECK(reply.elements[1].text == "a9993e364706816aba3e25717850c26c9cd0d89d 1800000000000");
  CHECK(reply.elements[2].text == "");
  CHECK(reply.elements[3].text == "big -1");
  CHECK(reply.elements[4].text.size() == 43);
}

// ---- What the server tells of itself ----

TEST_CASE("HELLO switches the protocol, and an error leaves it") {
  CommandFixture run;
  run.client.id = 7;
  CHECK(run("hello 4") == "-NOPROTO unsupported protocol version\r\n");
  CHECK(run("hello 3 nonsense").starts_with("-ERR Syntax error in HELLO option"));
  CHECK(run.client.protocol == 2);
  CHECK(run("hello 3 setname me").starts_with("%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n"));
  CHECK(run.client.protocol == 3);
  CHECK(run("client getname") == "$2\r\nme\r\n");
  CHECK(run("client id") == ":7\r\n");
  CHECK(run("get none") == "_\r\n");
}

TEST_CASE("INFO and CONFIG GET tell the facts") {
  CommandFixture run;
  run.facts.version = "7.8.3";
  run.facts.estimated_keys = [] { return uint64_t{12}; };
  run.facts.statistics = [] { return std::string("rocksdb_files:3\r\n"); };
  run.facts.replication = [] { return std::string("role:slave\r\n"); };
  run.facts.configuration = [] { return std::string("dir\0/data\0save\0no\0", 18); };
  CHECK(run.Decoded("info keyspace RocksDB").text ==
        "# Keyspace\r\ndb0:keys=12,expires=0,avg_ttl=0\r\n\r\n# RocksDB\r\nrocksdb_files:3\r\n");
  const std::string all = run.Decoded("info").text;
  for (const char* line : {"redis_version:7.0.15\r\n", "rocksdb_version:7.8.3\r\n",
                           "role:slave\r\n", "total_commands_processed:2\r\n"}) {
    INFO(line);
    CHECK(all.find(line) != std::string::npos);
  }
  CHECK(run("config get databases") == "*2\r\n$9\r\ndatabases\r\n$1\r\n1\r\n");
  CHECK(run("config get DIR sav*") ==
        "*4\r\n$3\r\ndir\r\n$5\r\n/data\r\n$4\r\nsave\r\n$2\r\nno\r\n");
  CHECK(run("config set save x").starts_with("-ERR CONFIG SET is not supported"));
  run.client.protocol = 3;
  CHECK(run("info cluster") == "=34\r\ntxt:# Cluster\r\ncluster_enabled:0\r\n\r\n");
}

TEST_CASE("there is one database") {
  CommandFixture run;
  CHECK(run("select 0") == "+OK\r\n");
  CHECK(run("select 1") == "-ERR DB index is out of range\r\n");
  run("set a 1");
  CHECK(run("copy a b db 1") == "-ERR DB index is out of range\r\n");
  CHECK(run("copy a b db 0") == ":1\r\n");
}

}  // namespace
}  // namespace catena::rocks::test
