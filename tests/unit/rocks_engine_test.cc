// The RocksDB backend's engine on a store in memory: versions above it, entries, transactions,
// subscriptions, expiry, following.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "tests/unit/allocations.h"
#include "tests/unit/rocks_engine_fixture.h"

namespace catena::rocks::test {
namespace {

// --- versions and entries ------------------------------------------------------------------------

TEST_CASE("a head shows what it executed, and the store has it when it is committed") {
  Database head = Database::Head();
  CHECK(head.Run("SET a 1") == "OK");
  CHECK(head.Run("GET a") == "1");
  CHECK(head.Stored() == "");
  CHECK(head.applied == Position(1));
  head.CommitAll();
  CHECK(head.Stored() == "a=1");
  CHECK(head.applied == head.executed);
  CHECK(head.store->place().position == head.executed);
  CHECK(head.store->place().replid == kHistory);
  CHECK(head.Run("GET a") == "1");
}

TEST_CASE("a commit takes the versions up to it and no more") {
  Database head = Database::Head();
  head.Run("SET a 1");
  head.Run("SET b 1");
  const Position first = head.executed;
  head.Run("SET a 2");
  head.Run("DEL b");
  const Position second = head.executed;
  head.Run("SET a 3");
  head.Commit(first);
  CHECK(head.Stored() == "a=1 b=1");
  CHECK(head.Run("MGET a b") == "[3 (nil)]");
  head.Commit(second);
  CHECK(head.Stored() == "a=2");
  head.CommitAll();
  CHECK(head.Stored() == "a=3");
}

TEST_CASE("each command that changes something is one entry, which ends where the head says") {
  Database head = Database::Head();
  const Position start(1);
  CHECK(head.Run("GET a") == "(nil)");
  CHECK(head.Run("DEL a") == "0");
  CHECK(head.effects.empty());
  CHECK(head.Run("MSET a 1 b 2 a 3") == "OK");
  CHECK(head.executed == start + head.effects.size());
  struct Seen : EffectHandler {
    void OnWrite(std::string_view) override { ++writes; }
    void OnFlush() override { ++flushes; }
    void OnPublish(std::string_view, std::string_view) override { ++published; }
    int writes = 0, flushes = 0, published = 0;
  } seen;
  CHECK(ReadEntry(head.effects, start, &seen));
  CHECK(seen.writes == 1);
  const Position second = head.executed;
  head.effects.clear();
  CHECK(head.Run("INCR bad") == "1");
  CHECK(head.Run("APPEND b x") == "2");
  CHECK(head.Run("INCR b") == "ERR value is not an integer or out of range");
  CHECK(head.executed == second + head.effects.size());
}

TEST_CASE("FLUSHALL hides the store until it is committed, and what comes behind it stays") {
  Database head = Database::Head();
  head.Run("MSET a 1 b 2");
  head.CommitAll();
  head.Run("SET c 3");
  CHECK(head.Run("FLUSHALL") == "OK");
  CHECK(head.Run("MGET a b c") == "[(nil) (nil) (nil)]");
  CHECK(head.Run("DBSIZE") == "0");
  head.Run("SET b 4");
  CHECK(head.Run("KEYS *") == "[b]");
  CHECK(head.Stored() == "a=1 b=2");
  head.CommitAll();
  CHECK(head.Stored() == "b=4");
  CHECK(head.Run("MGET a b c") == "[(nil) 4 (nil)]");
}

TEST_CASE("a walk merges versions with the store, both ways") {
  Database head = Database::Head();
  head.Run("MSET a 1 c 1 e 1 g 1");
  head.CommitAll();
  head.Run("MSET b 2 c 2 h 2");
  head.Run("DEL e");
  CHECK(head.Run("CATENA.RANGE - +") == "[a 1 b 2 c 2 g 1 h 2]");
  CHECK(head.Run("CATENA.RANGE - + REVERSE") == "[h 2 g 1 c 2 b 2 a 1]");
  CHECK(head.Run("DBSIZE") == "5");
  head.CommitAll();
  CHECK(head.Run("DBSIZE") == "5");
}

TEST_CASE("a failed command changes nothing, and none is lost with it") {
  Database head = Database::Head();
  head.Run("SET text abc");
  const Position before = head.executed;
  CHECK(head.Run("INCR text") == "ERR value is not an integer or out of range");
  CHECK(head.Run("LPUSH text x").starts_with("ERR"));
  CHECK(head.executed == before);
}

// --- roles ---------------------------------------------------------------------------------------

TEST_CASE("a follower applies a head's entries, however they are cut") {
  Database head = Database::Head();
  head.Run("MSET a 1 b 2");
  head.Run("MULTI");
  head.Run("FLUSHALL");
  head.Run("SET c 3 PXAT 5000000");
  head.Run("PUBLISH news x");
  head.Run("EXEC");
  head.Run("APPEND c 4");
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{100}, head.effects.size()}) {
    Database follower;
    Position last;
    for (size_t at = 0; at < head.effects.size(); at += piece) {
      CHECK(follower.Apply(std::string_view(head.effects).substr(at, piece)) == "");
      CHECK(follower.applied >= last);
      CHECK(follower.applied <= Position(1) + at + piece);
      last = follower.applied;
    }
    CHECK(follower.applied == head.executed);
    CHECK(follower.Stored() == "c=34@5000000");
    CHECK(follower.Run("GET c") == "34");
  }
}

TEST_CASE("a transaction cut between its commands is applied with its last byte") {
  Database head = Database::Head();
  head.Run("SET large " + std::string(30'000, 'x'));
  const size_t begin = head.effects.size();
  head.Run("MULTI");
  head.Run("SET a 1");
  head.Run("PUBLISH news x");
  head.Run("EXEC");
  const std::string_view bytes = head.effects;
  const size_t between = begin + std::string_view("*1\r\n$5\r\nMULTI\r\n").size();
  Database follower;
  CHECK(follower.Apply(bytes.substr(0, 10'000)) == "");
  CHECK(follower.Apply(bytes.substr(10'000, between - 10'000)) == "");
  CHECK(follower.applied == Position(1) + begin);
  CHECK(follower.Apply(bytes.substr(between)) == "");
  CHECK(follower.applied == head.executed);
}

TEST_CASE("a follower refuses damaged entries and those of another place") {
  Database head = Database::Head();
  head.Run("SET a 1");
  const std::string first = head.effects;
  head.Run("SET b 2");
  for (size_t at = 0; at < first.size(); ++at) {
    Database follower;
    std::string damaged = first;
    damaged[at] ^= 1;
    const std::string answer = follower.Apply(damaged);
    CHECK((answer != "" || follower.applied == Position(1)));
    CHECK(follower.Stored() == "");
  }
  Database follower;
  CHECK(follower.Apply(head.effects.substr(first.size())) != "");
  CHECK(follower.Stored() == "");
}

TEST_CASE("a follower refuses writes in Redis's words") {
  Database follower;
  CHECK(follower.Run("SET a 1") == "READONLY You can't write against a read only replica.");
  CHECK(follower.Run("GET a") == "(nil)");
  CHECK(follower.Run("MULTI") == "OK");
  CHECK(follower.Run("GET a") == "QUEUED");
  CHECK(follower.Run("SET a 1") == "READONLY You can't write against a read only replica.");
  CHECK(follower.Run("EXEC") == "EXECABORT Transaction discarded because of previous errors.");
  CHECK(follower.Run("SET") == "ERR wrong number of arguments for 'set' command");
  CHECK(follower.Run("FOO").starts_with("ERR unknown command"));
}

TEST_CASE("a former head forgets what was not committed") {
  Database head = Database::Head();
  head.Run("SET a 1");
  head.CommitAll();
  const Position committed = head.executed;
  head.Run("SET a 2");
  head.Run("SET b 2");
  head.engine->BecomeFollower();
  CHECK(head.Run("MGET a b") == "[1 (nil)]");
  CHECK(head.executed == committed);
  REQUIRE(head.engine->BecomeHead(""));
  head.Run("SET c 3");
  CHECK(head.Run("MGET a b c") == "[1 (nil) 3]");
  head.CommitAll();
  CHECK(head.Stored() == "a=1 c=3");
}

TEST_CASE("a promoted follower goes on where it is") {
  Database head = Database::Head(), follower;
  REQUIRE(follower.store->SetPlace({kHistory, Position(1)}));
  follower.engine->Reload();
  head.Run("SET a 1");
  CHECK(follower.Apply(head.effects) == "");
  REQUIRE(follower.engine->BecomeHead(kHistory));
  CHECK(follower.Run("APPEND a 2") == "2");
  Database third;
  CHECK(third.Apply(head.effects + follower.effects) == "");
  CHECK(third.Stored() == "a=12");
}

TEST_CASE("a commit that is applied elsewhere hides nothing meanwhile") {
  Database head = Database::Head();
  head.Run("SET a 1");
  const auto ready = head.engine->BeginCommit(head.executed);
  REQUIRE(ready);
  CHECK(head.Run("GET a") == "1");
  CHECK(head.Run("APPEND a 2") == "2");
  REQUIRE(head.store->Apply(*ready->batch, ready->after));
  CHECK(head.Run("GET a") == "12");
  Output out;
  head.engine->EndCommit(out);
  CHECK(out.applied < out.executed);
  CHECK(head.Run("GET a") == "12");
  CHECK(head.Stored() == "a=1");
  head.CommitAll();
  CHECK(head.Stored() == "a=12");
}

// --- expiry --------------------------------------------------------------------------------------

TEST_CASE("a head deletes an expired key with the command that meets it; a follower hides it") {
  Database head = Database::Head(), follower;
  head.Run("SET k v PXAT 1000500");
  head.CommitAll();
  CHECK(follower.Apply(head.effects) == "");
  head.effects.clear();
  head.now_ms = follower.now_ms = 1'000'500;
  CHECK(follower.Run("GET k") == "(nil)");
  CHECK(follower.Run("DBSIZE") == "0");
  CHECK(follower.Stored() == "k=v@1000500");
  CHECK(head.Run("DBSIZE") == "0");
  CHECK(head.effects.empty());
  CHECK(head.Run("GET k") == "(nil)");
  CHECK(!head.effects.empty());
  CHECK(follower.Apply(head.effects) == "");
  CHECK(follower.Stored() == "");
}

TEST_CASE("expired keys are deleted some at a time, and those that were set again are not") {
  Database head = Database::Head();
  for (int i = 0; i < 500; ++i) head.Run("SET k" + std::to_string(i) + " v PXAT 1000500");
  head.Run("SET later v PXAT 2000000");
  head.CommitAll();
  head.Run("SET k7 again");
  head.now_ms = 1'000'501;
  int rounds = 0;
  for (; head.Run("DBSIZE") != "2" || head.Stored() != "k7=again later=v@2000000"; ++rounds) {
    Output out;
    REQUIRE(head.engine->Expire(head.now_ms, out));
    head.Taken(out, 0);
    head.CommitAll();
    REQUIRE(rounds < 10);
  }
  CHECK(rounds > 1);
}

// --- transactions --------------------------------------------------------------------------------

TEST_CASE("a transaction is one entry with one version a key") {
  Database head = Database::Head();
  CHECK(head.Run("MULTI") == "OK");
  CHECK(head.Run("MULTI") == "ERR MULTI calls can not be nested");
  CHECK(head.Run("WATCH a") == "ERR WATCH inside MULTI is not allowed");
  CHECK(head.Run("SET a 1") == "QUEUED");
  CHECK(head.Run("APPEND a 2") == "QUEUED");
  CHECK(head.Run("INCR a") == "QUEUED");
  CHECK(head.Run("GET a") == "QUEUED");
  CHECK(head.Run("GET a", 2) == "(nil)");
  CHECK(head.effects.empty());
  CHECK(head.Run("EXEC") == "[OK 2 13 13]");
  CHECK(ReadEntry(head.effects, Position(1), nullptr));
  head.CommitAll();
  CHECK(head.Stored() == "a=13");
  CHECK(head.Run("EXEC") == "ERR EXEC without MULTI");
  CHECK(head.Run("DISCARD") == "ERR DISCARD without MULTI");
}

TEST_CASE("a transaction with a wrong command is not executed") {
  Database head = Database::Head();
  head.Run("MULTI");
  CHECK(head.Run("SET a 1") == "QUEUED");
  CHECK(head.Run("SET a").starts_with("ERR wrong number"));
  CHECK(head.Run("EXEC") == "EXECABORT Transaction discarded because of previous errors.");
  CHECK(head.Run("GET a") == "(nil)");
  head.Run("MULTI");
  CHECK(head.Run("SUBSCRIBE x") == "ERR Command not allowed inside a transaction");
  CHECK(head.Run("EXEC") == "EXECABORT Transaction discarded because of previous errors.");
  head.Run("MULTI");
  CHECK(head.Run("EXEC now") ==
        "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command");
  CHECK(head.Run("EXEC") == "ERR EXEC without MULTI");
  head.Run("MULTI");
  CHECK(head.Run("SET a 1") == "QUEUED");
  CHECK(head.Run("DISCARD") == "OK");
  CHECK(head.Run("GET a") == "(nil)");
}

TEST_CASE("WATCH is failed by every change of the key") {
  Database head = Database::Head();
  head.Run("SET k v");
  const auto outcome = [&](const std::vector<std::string>& changes, LaneId by) {
    CHECK(head.Run("WATCH k other") == "OK");
    for (const std::string& change : changes) head.Run(change, by);
    head.Run("MULTI");
    head.Run("PING");
    return head.Run("EXEC");
  };
  CHECK(outcome({}, 2) == "[PONG]");
  CHECK(outcome({"SET k w"}, 2) == "(nil)");
  CHECK(outcome({"SET k w"}, 1) == "(nil)");
  CHECK(outcome({"SET else w"}, 2) == "[PONG]");
  CHECK(outcome({"SET other w"}, 2) == "(nil)");
  CHECK(outcome({"DEL other"}, 2) == "(nil)");
  CHECK(outcome({"GET k", "DEL nothing"}, 2) == "[PONG]");
  CHECK(outcome({"SET k w", "UNWATCH"}, 1) == "[PONG]");
  CHECK(outcome({"MULTI", "INCR n", "SET k 1", "EXEC"}, 2) == "(nil)");
  CHECK(outcome({"FLUSHALL"}, 2) == "(nil)");
  CHECK(outcome({"FLUSHALL"}, 2) == "[PONG]");  // none of them was there
}

TEST_CASE("WATCH is failed by expiry, unless the key had expired before") {
  Database head = Database::Head();
  head.Run("SET k v PXAT 1000500");
  head.Run("WATCH k");
  head.Run("WATCH k", 2);
  head.now_ms = 1'000'500;
  head.Run("MULTI");
  head.Run("PING");
  CHECK(head.Run("EXEC") == "(nil)");
  CHECK(head.Run("WATCH k") == "OK");  // it is still in the data
  CHECK(head.Run("GET k", 2) == "(nil)");
  head.Run("MULTI");
  head.Run("PING");
  CHECK(head.Run("EXEC") == "[PONG]");
  head.Run("MULTI", 2);
  CHECK(head.Run("EXEC", 2) == "(nil)");
}

TEST_CASE("RESET ends a transaction and everything else of a connection") {
  Database head = Database::Head();
  head.Run("CLIENT SETNAME x", 3);
  head.Run("SUBSCRIBE c", 3);
  head.Run("WATCH k", 3);
  head.Run("MULTI", 3);
  CHECK(head.Run("RESET", 3) == "RESET");
  CHECK(head.Run("EXEC", 3) == "ERR EXEC without MULTI");
  CHECK(head.Run("CLIENT GETNAME", 3) == "(nil)");
  CHECK(head.Run("PUBLISH c m") == "0");
}

// --- pub/sub -------------------------------------------------------------------------------------

TEST_CASE("subscribers get messages, at the head when they are published") {
  Database head = Database::Head();
  CHECK(head.Run("SUBSCRIBE a b") == "[subscribe a 1] [subscribe b 2]");
  CHECK(head.Run("PSUBSCRIBE ?", 3) == ">[psubscribe ? 1]");
  CHECK(head.Run("PUBLISH a m", 2) == "1:[message a m] 3:>[pmessage ? a m] 2");
  CHECK(head.Run("PUBLISH xx m", 2) == "0");
  CHECK(head.Run("PUBSUB CHANNELS", 2).size() == std::string("[a b]").size());
  CHECK(head.Run("PUBSUB CHANNELS a*", 2) == "[a]");
  CHECK(head.Run("PUBSUB CHANNELS a* b*", 2) ==
        "ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP.");
  CHECK(head.Run("PUBSUB NUMSUB a xx", 2) == "[a 1 xx 0]");
  CHECK(head.Run("PUBSUB NUMPAT", 2) == "1");
  CHECK(head.Run("UNSUBSCRIBE") == "[unsubscribe a 1] [unsubscribe b 0]");
  CHECK(head.Run("UNSUBSCRIBE") == "[unsubscribe (nil) 0]");
  CHECK(head.Run("PUBLISH b m", 2) == "3:>[pmessage ? b m] 1");
}

TEST_CASE("what is published is an entry, which followers deliver when they apply it") {
  Database head = Database::Head(), follower;
  follower.Run("SUBSCRIBE news");
  CHECK(head.Run("PUBLISH news x") == "0");
  head.Run("MULTI");
  head.Run("SET k v");
  head.Run("PUBLISH news y");
  CHECK(head.Run("EXEC") == "[OK 0]");
  CHECK(follower.Apply(head.effects) == "1:[message news x] 1:[message news y]");
  CHECK(follower.applied == head.executed);
  CHECK(follower.Stored() == "k=v");
}

TEST_CASE("a RESP2 subscriber may only subscribe, PING, QUIT and RESET") {
  Database head = Database::Head();
  head.Run("SUBSCRIBE a");
  CHECK(head.Run("GET k") ==
        "ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are "
        "allowed in this context");
  CHECK(head.Run("PING") == "[pong ]");
  CHECK(head.Run("PING hi") == "[pong hi]");
  CHECK(head.Run("QUIT") == "OK");
  head.Run("SUBSCRIBE a", 3);
  CHECK(head.Run("GET k", 3) == "(nil)");
  CHECK(head.Run("PING", 3) == "PONG");
}

TEST_CASE("a closed lane leaves nothing behind") {
  Database head = Database::Head();
  head.Run("SUBSCRIBE a");
  head.Run("WATCH k", 2);
  head.engine->Close(1);
  head.engine->Close(2);
  CHECK(head.Run("PUBLISH a m", 3) == "0");
  CHECK(head.Run("SET k v", 3) == "OK");
  CHECK(head.Run("GET k", 1) == "");
}

// --- reading ahead -------------------------------------------------------------------------------

TEST_CASE("values that were read ahead are those of this moment") {
  Database head = Database::Head();
  head.Run("MSET a 1 b 2");
  head.CommitAll();
  const std::vector<std::string_view> commands = {"*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
                                                  "*3\r\n$4\r\nMGET\r\n$1\r\nb\r\n$1\r\nc\r\n"};
  REQUIRE(head.engine->Prefetch(commands));
  CHECK(head.Run("GET a") == "1");
  CHECK(head.Run("SET a 3") == "OK");
  CHECK(head.Run("MGET a b c") == "[3 2 (nil)]");
  head.CommitAll();
  CHECK(head.Run("MGET a b c") == "[3 2 (nil)]");
}

// --- everything at once --------------------------------------------------------------------------

// Reference: the state after each entry, so that what a commit leaves, and what a loss of the role
// takes back, is known.
struct Reference {
  using State = std::map<std::string, std::string>;

  static std::string Text(const State& state) {
    std::string text = "[";
    for (const auto& [key, value] : state) {
      text += (text.size() > 1 ? " " : "") + key + " " + value;
    }
    return text + "]";
  }
  State now;
  std::map<uint64_t, State> after = {{1, {}}};  // by the entry's end
};

// One command of `random`'s choice, on the engine and the reference.
std::string Change(std::mt19937& random, Reference::State& state, int step) {
  const std::string key(1, static_cast<char>('a' + random() % 12));
  const std::string other(1, static_cast<char>('a' + random() % 12));
  const std::string value = std::to_string(step);
  switch (random() % 12) {
    case 0:
      if (random() % 5 != 0) break;
      state.clear();
      return "FLUSHALL";
    case 1:
    case 2:
      state.erase(key);
      return "DEL " + key;
    case 3:
      state[key] += "x";
      return "APPEND " + key + " x";
    case 4:
      state[key] = state[other] = value;
      return "MSET " + key + " " + value + " " + other + " " + value;
    case 5:
      if (!state.contains(key) || key == other) break;
      state[other] = state[key];
      state.erase(key);
      return "RENAME " + key + " " + other;
    default:
      break;
  }
  state[key] = value;
  return "SET " + key + " " + value;
}

TEST_CASE("commits, losses of the role and walks in any order") {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    std::mt19937 random(seed);
    Database head = Database::Head(), follower;
    Reference reference;
    std::optional<Engine::Ready> ready;
    head.Run("PING");
    const auto finish = [&] {
      if (!ready) return;
      REQUIRE(head.store->Apply(*ready->batch, ready->after));
      Output out;
      head.engine->EndCommit(out);
      head.Taken(out, 0);
      REQUIRE(head.applied == ready->after.position);
      ready.reset();
    };
    for (int step = 0; step < 200; ++step) {
      INFO("seed ", seed, ", step ", step);
      const uint32_t what = random() % 20;
      if (what < 12) {
        head.Run(Change(random, reference.now, step));
      } else if (what < 14) {
        head.Run("MULTI");
        for (uint32_t i = 0; i < 1 + random() % 4; ++i) {
          head.Run(Change(random, reference.now, step));
        }
        head.Run("EXEC");
      } else if (what < 18) {
        if (random() % 2 == 0) finish();
        // To the end of any entry.
        auto at = reference.after.begin();
        std::advance(at, random() % reference.after.size());
        if (!ready) ready = head.engine->BeginCommit(Position(at->first));
      } else if (what == 18) {
        finish();
        if (random() % 4 == 0) {
          head.engine->BecomeFollower();
          REQUIRE(head.engine->BecomeHead(kHistory));
          reference.after.erase(reference.after.upper_bound(head.applied.value()),
                                reference.after.end());
          reference.now = reference.after.rbegin()->second;
          head.effects.resize(head.applied - Position(1));
          head.executed = head.applied;
        }
      }
      reference.after[head.executed.value()] = reference.now;
      REQUIRE(head.Run("CATENA.RANGE - +") == Reference::Text(reference.now));
      if (ready) continue;
      std::string stored = head.Stored();
      std::replace(stored.begin(), stored.end(), '=', ' ');
      REQUIRE("[" + stored + "]" == Reference::Text(reference.after[head.applied.value()]));
    }
    finish();
    CHECK(follower.Apply(head.effects) == "");
    CHECK(follower.Run("CATENA.RANGE - +") == Reference::Text(reference.now));
  }
}

// --- cost ----------------------------------------------------------------------------------------

TEST_CASE("a warm engine allocates nothing per command") {
  Database head = Database::Head();
  std::vector<std::string> commands;
  for (int i = 0; i < 50; ++i) {
    const std::string key = "a key too long to lie inside a string object " + std::to_string(i);
    for (const std::string& command :
         {"SET '" + key + "' 'and a value that is as long as that " + std::to_string(i) + "'",
          "GET '" + key + "'", "MGET '" + key + "' nothing", "EXISTS '" + key + "'",
          "INCR 'and a counter with a long name, too " + std::to_string(i) + "'",
          "DEL '" + key + " which never was'"}) {
      commands.push_back(command + "\r\n");
    }
  }
  Output out;
  size_t during = 0;
  using catena::test::allocations;
  for (int round = 0; round < 4; ++round) {
    out.replies.clear();
    out.bytes.clear();
    out.effects.clear();
    const size_t before = allocations;
    for (const std::string& command : commands) {
      REQUIRE(head.engine->Submit(1, command, head.now_ms, out));
    }
    head.engine->AskPosition(1, out);
    during = allocations - before;
    // The store in memory has its own.
    REQUIRE(head.engine->Commit(out.executed, out));
  }
  CHECK(during == 0);
  CHECK(out.replies.size() == commands.size() + 1);
}

}  // namespace
}  // namespace catena::rocks::test
