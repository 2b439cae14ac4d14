// Schedules whose rules live in the driver and the executors (proxy/server), with whole nodes.
#include <doctest/doctest.h>

#include "proxy/peer/codec.h"
#include "proxy/resp/encoder.h"
#include "tests/scenario/node_world.h"

namespace catena::scenario {
namespace {

using std::chrono::milliseconds;

TEST_CASE("a chain of whole nodes takes writes anywhere and is read everywhere") {
  NodeWorld world({"A", "B", "C"});
  world.Form();
  for (const char* id : {"A", "B", "C"}) {
    CAPTURE(id);
    Client client(world, id);
    client.Send({"SET", "x", id});
    world.Settle();
    world.Advance(milliseconds(50));
    CHECK(client.Take() == "+OK\r\n");
    for (const char* other : {"A", "B", "C"}) {
      Client reader(world, other);
      reader.Send({"GET", "x"});
      world.Settle();
      CHECK(reader.Take() == "$1\r\n" + std::string(id) + "\r\n");
    }
  }
}

// Guards: proxy/server/head_executor.h Settled (I4). Acknowledged and not on a disk anywhere, the
// write would be lost with a crash of all nodes.
TEST_CASE("where the database promises to outlive a crash, replies wait for what it has applied") {
  NodeWorld world({"A", "B", "C"});
  for (const char* id : {"A", "B", "C"}) world.database(id).promises = true;
  world.Form();
  Client writer(world, "B"), reader(world, "A");
  world.database("A").HoldApplying(true);
  writer.Send({"SET", "x", "1"});
  world.Settle();
  reader.Send({"GET", "x"});
  world.Settle();
  REQUIRE(world.replica("A").committed() == world.replica("A").received());
  CHECK(writer.Take().empty());
  CHECK(reader.Take().empty());
  world.database("A").HoldApplying(false);
  world.Settle();
  CHECK(writer.Take() == "+OK\r\n");
  CHECK(reader.Take() == "$1\r\n1\r\n");
}

// Guards: proxy/server/node.cc TakeStream. A damaged entry that is passed on, or that counts as
// received, is committed.
TEST_CASE("an entry that comes damaged is neither received nor passed on") {
  NodeWorld world({"A", "B", "C"});
  world.Form();
  const Position before = world.replica("B").received();
  world.database("B").damage = "broken";
  Client client(world, "A");
  client.Send({"SET", "x", "broken"});
  world.Settle();
  CHECK(!world.replica("B").is_member());
  CHECK(world.replica("C").received() == before);
  CHECK(world.database("C").Get("x").empty());
  CHECK(client.Take().empty());
}

// Both ways on which acks travel, the chain's and the short one: what comes up them is late.
class HeldAcks {
 public:
  explicit HeldAcks(std::vector<Connection*> ways) : ways_(std::move(ways)) {
    for (Connection* way : ways_) {
      REQUIRE(way != nullptr);
      way->up.held = true;
    }
  }
  void Release() {
    for (Connection* way : ways_) way->up.held = false;
  }

 private:
  std::vector<Connection*> ways_;
};

// Of the RESP of SET x <value>.
size_t SetBytes(const std::string& value) {
  std::string command;
  resp::AppendCommand(command, {"SET", "x", value});
  return command.size();
}

// Guards: proxy/server/head_executor.cc Submit (Allows). More would make the database cut the
// capture off.
TEST_CASE(
    "a command with more effects than the head's database can replicate is refused in its turn") {
  NodeWorld world({"A", "B", "C"});
  world.Form();
  const std::string most(1000, 'x'), more(1001, 'x');
  world.database("A").limits.effect_bytes_max = SetBytes(most);
  world.database("A").limits.effect_setting = "its-limit 1234";
  for (const char* id : {"A", "B", "C"}) {
    CAPTURE(id);
    Client client(world, id);
    client.Send({"SET", "x", most});
    client.Send({"SET", "x", more});
    client.Send({"GET", "y"});
    world.Settle();
    world.Advance(milliseconds(50));
    CHECK(client.Take() == "+OK\r\n-ERR " + std::to_string(SetBytes(more)) +
                               " bytes are more than the chain can replicate at once: the database "
                               "of its head A has its-limit 1234, of "
                               "which three quarters (" +
                               std::to_string(SetBytes(most)) +
                               " bytes) may be used; raise it there with CONFIG SET "
                               "client-output-buffer-limit\r\n$-1\r\n");
  }
  CHECK(world.database("C").Get("x") == most);
  CHECK(world.replica("A").is_head());
}

// Guards: proxy/server/head_executor.cc Submit (HasRoom).
TEST_CASE("commands that are too much together go one after the other") {
  NodeWorld world({"A", "B", "C"});
  world.Form();
  const std::string value(1000, 'x');
  world.database("A").limits.effect_bytes_max = SetBytes(value) * 3 / 2;
  Client first(world, "A"), second(world, "A"), small(world, "A");
  world.database("A").HoldLanes();
  first.Send({"SET", "a", value});
  world.Settle();
  second.Send({"SET", "b", value});
  small.Send({"SET", "c", "1"});
  world.Settle();
  world.database("A").ReleaseLanes();
  world.Settle();
  world.Advance(milliseconds(50));
  CHECK(first.Take() == "+OK\r\n");
  CHECK(second.Take() == "+OK\r\n");
  CHECK(small.Take() == "+OK\r\n");
  CHECK(world.database("C").Get("b") == value);
}

// Guards: proxy/server/refusal.cc TooLarge. The database would close a connection that all clients
// share.
TEST_CASE("what the database does not take is refused before it gets there") {
  NodeWorld world({"A", "B"});
  world.Form();
  world.database("B").limits.argument_bytes_max = 100;
  world.database("B").limits.command_bytes_max = 300;
  Client client(world, "B");
  client.Send({"SET", "x", std::string(100, 'x')});
  client.Send({"SET", "x", std::string(101, 'x')});
  client.Send({"MGET", std::string(100, 'x'), std::string(100, 'x'), std::string(100, 'x')});
  client.Send({"GET", "y"});
  world.Settle();
  world.Advance(milliseconds(50));
  CHECK(client.Take() ==
        "+OK\r\n-ERR an argument of 101 bytes is more than proto-max-bulk-len of this node's "
        "database, 100\r\n"
        "-ERR a command of 338 bytes is more than client-query-buffer-limit of this node's "
        "database, 300\r\n$-1\r\n");
}

// Guards: proxy/server/node_routing.cc OnAcceptClient.
TEST_CASE("one client too many is told so, and connections of other proxies do not count") {
  NodeWorld world({"A", "B"}, [](server::Options& options) { options.clients_max = 2; });
  world.Form();
  Client other(world, "B");
  other.Send({"SET", "x", "1"});  // B is now connected to A
  world.Settle();
  auto first = std::make_unique<Client>(world, "A");
  Client second(world, "A");
  world.Settle();
  Client third(world, "A");
  world.Settle();
  CHECK(third.Take().starts_with("-ERR max number of clients reached\r\n"));
  first.reset();
  world.Settle();
  Client fourth(world, "A");
  fourth.Send({"GET", "x"});
  world.Settle();
  CHECK(fourth.Take() == "$1\r\n1\r\n");
}

// Guards: proxy/server/node.cc MaybePromote (no local read in flight).
TEST_CASE("S6 a read across a promotion") {
  NodeWorld world({"A", "B", "C"});
  world.Form();
  Client writer(world, "A");
  writer.Send({"SET", "x", "1"});
  world.Settle();
  REQUIRE(writer.Take() == "+OK\r\n");
  // B sends a clean read to its database, which is slow on that connection.
  Client warm_up(world, "B");
  warm_up.Send({"GET", "x"});
  world.Settle();
  REQUIRE(warm_up.Take() == "$1\r\n1\r\n");
  world.database("B").HoldLanes();
  Client reader(world, "B");
  reader.Send({"GET", "x"});
  world.Settle();
  REQUIRE(reader.Take().empty());
  // A dies; B is the head. A write on another connection must not get in between.
  world.CutOff("A");
  world.Isolate("A");
  world.Configure({"B", "C"}, {"B", "C"});
  world.Advance(milliseconds(300));
  REQUIRE(world.replica("B").is_head());
  Client second(world, "B");
  second.Send({"SET", "x", "2"});
  world.Advance(milliseconds(300));
  REQUIRE(world.replica("B").committed() == world.replica("B").received());
  CHECK_FALSE(world.database("B").executes());
  CHECK(world.database("B").Get("x") == "1");
  world.database("B").ReleaseLanes();
  world.Settle();
  CHECK(reader.Take() == "$1\r\n1\r\n");
  world.Advance(milliseconds(300));
  CHECK(world.replica("B").head_ready());
  CHECK(second.Take() == "+OK\r\n");
  CHECK(world.database("C").Get("x") == "2");
}

// Guards: proxy/server/head_executor.cc AuthorityProved (an entry that went down after the command
// came, else lease or verify).
TEST_CASE("S8 dirty read at a deposed head") {
  NodeWorld world({"A", "B", "C"});
  world.Form();
  Client warm_up(world, "A");
  warm_up.Send({"SET", "x", "0"});
  world.Settle();
  REQUIRE(warm_up.Take() == "+OK\r\n");
  // A hears nothing from the coordinator any more.
  world.CutOff("A");
  world.Isolate("A");
  world.Advance(milliseconds(800));
  // x=1 commits at C, where a reader sees it; the ack to A is late.
  HeldAcks acks({world.NewestLink("A", "B"), world.NewestLink("A", "C")});
  Client writer(world, "A");
  writer.Send({"SET", "x", "1"});
  world.Settle();
  REQUIRE(writer.Take().empty());
  Client seen(world, "C");
  seen.Send({"GET", "x"});
  world.Settle();
  REQUIRE(seen.Take() == "$1\r\n1\r\n");
  // A's lease ends; e2 = [B, C] acknowledges 2 over it.
  world.Advance(milliseconds(200));
  REQUIRE_FALSE(world.replica("A").HasAuthority(world.now()));
  world.Configure({"B", "C"}, {"B", "C"});
  world.Advance(milliseconds(250));
  Client other(world, "B");
  other.Send({"SET", "x", "2"});
  world.Advance(milliseconds(100));
  REQUIRE(other.Take() == "+OK\r\n");
  // A reads the dirty x, and gets the old ack only afterwards.
  Client read(world, "A"), failing(world, "A"), keyless(world, "A");
  read.Send({"GET", "x"});
  failing.Send({"SETNX", "x", "9"});
  keyless.Send({"DBSIZE"});
  world.Settle();
  acks.Release();
  world.Settle();
  REQUIRE(world.replica("A").committed() == world.replica("A").received());
  CHECK(writer.Take() == "+OK\r\n");  // it did commit, and its ack is the proof
  CHECK(read.Take().empty());
  CHECK(failing.Take().empty());
  CHECK(keyless.Take().empty());
  world.Advance(std::chrono::seconds(6));
  CHECK(read.Take().starts_with("-CHAINDOWN"));
  CHECK(failing.Take().starts_with("-UNKNOWNOUTCOME"));
  CHECK(keyless.Take().starts_with("-"));
}

// S18: c1, SET x 1, is on its way to the head when its link breaks, and its client is told that nobody
// knows. It arrives when the link's `down` is held no longer.
Connection& LoseOnTheWay(NodeWorld& world, Client& client) {
  client.Send({"SET", "x", "0"});
  world.Advance(milliseconds(50));
  REQUIRE(client.Take() == "+OK\r\n");
  Connection* link = world.NewestLink("B", "A");
  REQUIRE(link != nullptr);
  link->down.held = true;
  client.Send({"SET", "x", "1"});
  world.Settle();
  world.BreakAtDialler(*link);
  world.Settle();
  CHECK(client.Take().starts_with("-UNKNOWNOUTCOME"));
  return *link;
}

// Guards: proxy/server/node_links.cc OpenForwarded (what is unread on the earlier connection is dropped
// first).
TEST_CASE("S18 late bytes") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client first(world, "B");
  Connection& link = LoseOnTheWay(world, first);
  // c2 comes by a new link and runs; only then c1 arrives.
  first.Send({"SET", "x", "2"});
  world.Advance(milliseconds(100));
  CHECK(first.Take() == "+OK\r\n");
  link.down.held = false;
  world.Advance(milliseconds(100));
  first.Send({"GET", "x"});
  world.Advance(milliseconds(50));
  CHECK(first.Take() == "$1\r\n2\r\n");
  CHECK(world.database("A").Get("x") == "2");
}

// Guards: proxy/server/forwarder.cc MayOvertake.
TEST_CASE("S18 late bytes, when the next command goes another way") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client first(world, "B");
  Connection& link = LoseOnTheWay(world, first);
  // Commands of clients of RESP3 travel by connections of their own.
  first.Send({"HELLO", "3"});
  first.Send({"SET", "x", "2"});
  world.Advance(milliseconds(200));
  CHECK(first.Take().ends_with("+OK\r\n"));
  link.down.held = false;
  world.Advance(milliseconds(100));
  CHECK(world.database("A").Get("x") == "2");
}

// Guards: proxy/server/node_routing.cc RouteForwarded. A script that does not wait for another client's
// takes a connection of its own.
TEST_CASE("S18 late bytes, when the next command is a script that avoids a slow one") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client first(world, "B"), slow(world, "B");
  first.Send({"SET", "x", "0"});
  world.Advance(milliseconds(50));
  first.Take();
  Connection* shared = world.NewestLink("B", "A");
  world.database("A").stands_before = "slow";
  slow.Send({"EVAL", "script", "1", "slow", "1"});
  world.Advance(milliseconds(50));
  REQUIRE(world.NewestLink("B", "A") != shared);
  shared->down.held = true;
  first.Send({"SET", "x", "1"});
  world.Settle();
  world.BreakAtDialler(*shared);
  world.Settle();
  CHECK(first.Take().starts_with("-UNKNOWNOUTCOME"));
  first.Send({"EVAL", "script", "1", "x", "2"});
  world.Advance(milliseconds(100));
  CHECK(first.Take() == "+OK\r\n");
  shared->down.held = false;
  world.Advance(milliseconds(100));
  CHECK(world.database("A").Get("x") == "2");
}

// Guards: proxy/server/node_links.cc OpenForwarded (a client's tunnel follows the former one in any
// database and protocol).
TEST_CASE("S18 late bytes, when the client's own connection was opened in another database") {
  NodeWorld world({"A", "B"});
  world.Form();
  world.database("A").blocks = false;
  Client client(world, "B");
  client.Send({"BLPOP", "l", "0"});
  world.Advance(milliseconds(50));
  REQUIRE(client.Take() == "$1\r\nA\r\n");
  Connection* tunnel = world.NewestLink("B", "A");
  REQUIRE(tunnel != nullptr);
  client.Send({"SELECT", "1"});
  client.Send({"BLPOP", "l", "0"});
  world.Settle();
  REQUIRE(client.Take() == "+OK\r\n$1\r\nA\r\n");
  REQUIRE(world.database("A").last_database == 1);
  tunnel->down.held = true;
  client.Send({"BLPOP", "l", "0"});
  world.Settle();
  world.BreakAtDialler(*tunnel);
  world.Settle();
  CHECK(client.Take().starts_with("-UNKNOWNOUTCOME"));
  client.Send({"SET", "x", "1"});
  world.Advance(milliseconds(200));
  CHECK(client.Take() == "+OK\r\n");
  tunnel->down.ended = false;  // that comes later still
  tunnel->down.held = false;
  world.Advance(milliseconds(100));
  CHECK(world.database("A").taken == 2);
}

// Guards: proxy/server/client_state.cc MatchConnection, proxy/server/tracking.cc MatchLocal. As with
// -BUSY from a script that ends just then.
TEST_CASE("what comes behind a SELECT that the database refused is not executed in another") {
  NodeWorld world({"A", "B"});
  world.Form();
  world.database("A").blocks = false;
  Client client(world, "A");
  client.Send({"BLPOP", "l", "0"});
  world.Settle();
  REQUIRE(client.Take() == "$1\r\nA\r\n");
  world.database("A").select_error = "-BUSY a script runs\r\n";
  client.Send({"SELECT", "1"});
  client.Send({"BLPOP", "l", "0"});
  world.Settle();
  REQUIRE(world.database("A").select_error.empty());
  CHECK(client.Take() == "+OK\r\n$1\r\nA\r\n");
  CHECK(world.database("A").last_database == 1);

  Client tracking(world, "B");
  tracking.Send({"HELLO", "3"});
  tracking.Send({"CLIENT", "TRACKING", "ON"});
  tracking.Send({"GET", "x"});
  world.Settle();
  tracking.Take();
  world.database("B").select_error = "-BUSY a script runs\r\n";
  tracking.Send({"SELECT", "1"});
  tracking.Send({"GET", "x"});
  world.Settle();
  REQUIRE(world.database("B").select_error.empty());
  CHECK(tracking.Take() == "+OK\r\n-BUSY a script runs\r\n");
  tracking.Send({"GET", "x"});
  world.Settle();
  CHECK(tracking.Take() == "$-1\r\n");
  CHECK(world.database("B").last_database == 1);
}

// Guards: proxy/server/client_state.cc MayOvertakeLost.
TEST_CASE("S18 late bytes, within the database of the head") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "A");
  client.Send({"BLPOP", "l", "0"});
  client.Send({"SET", "x", "1"});
  world.Settle();
  world.database("A").keeps_abandoned = true;
  world.database("A").BreakLanes();
  world.Advance(milliseconds(100));
  CHECK(client.Take().starts_with("-UNKNOWNOUTCOME"));
  CHECK(world.database("A").Get("x") == "");
  world.database("A").keeps_abandoned = false;
  world.Advance(milliseconds(100));
  CHECK(client.Take() == "+OK\r\n");
}

// Guards: proxy/server/node.cc EndTurn (what a superseded session left in the database counts before
// the next one is welcome).
TEST_CASE("S18 late bytes, within the database of the head, of another node's client") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "B");
  client.Send({"BLPOP", "l", "0"});
  world.Advance(milliseconds(50));
  Connection* tunnel = world.NewestLink("B", "A");
  REQUIRE(tunnel != nullptr);
  client.Send({"SET", "x", "1"});
  world.Settle();
  world.database("A").keeps_abandoned = true;
  // A does not hear that B gives this one up before the next one is there.
  tunnel->down.held = true;
  world.database("A").BreakLanes();
  world.Advance(milliseconds(100));
  CHECK(client.Take().starts_with("-UNKNOWNOUTCOME"));
  CHECK(world.database("A").Get("x") == "");
  world.database("A").keeps_abandoned = false;
  world.Advance(milliseconds(100));
  CHECK(client.Take() == "+OK\r\n");
}

// Guards: proxy/server/head_executor.cc Private::OnLaneClosed. Many clients of a node share one session.
TEST_CASE("S18 late bytes, of a script that another node's clients had to themselves") {
  NodeWorld world({"A", "B"});
  world.Form();
  world.database("A").stands_before = "EVAL";
  Client slow(world, "A");
  slow.Send({"EVAL", "script", "1", "y", "0"});
  world.Advance(milliseconds(50));
  Client client(world, "B");
  client.Send({"EVAL", "script", "1", "x", "late"});
  world.Settle();
  world.database("A").keeps_abandoned = true;
  world.database("A").BreakLane("late");
  world.Settle();
  CHECK(client.Take().starts_with("-UNKNOWNOUTCOME"));
  client.Send({"SET", "x", "1"});
  world.Advance(milliseconds(100));
  CHECK(client.Take() == "");
  CHECK(world.database("A").Get("x") == "");
  world.database("A").keeps_abandoned = false;
  world.Advance(milliseconds(100));
  CHECK(client.Take() == "+OK\r\n");
}

// Guards: proxy/server/head_executor.cc Private::GiveUp. Its connection to the database stands.
TEST_CASE("S18 late bytes, of a script whose own connection was given up after the write timeout") {
  NodeWorld world({"A", "B", "C"});
  world.Form();
  world.database("A").stands_before = "EVAL";
  Client slow(world, "A"), writer(world, "A"), watcher(world, "A"), client(world, "B");
  slow.Send({"EVAL", "script", "1", "y", "0"});
  // From now on nothing is committed, and so no reply of a connection of its own is given.
  world.Cut("B", "C");
  writer.Send({"SET", "y", "1"});
  world.Settle();
  watcher.Send({"WATCH", "y"});
  world.Advance(milliseconds(50));
  client.Send({"EVAL", "script", "1", "x", "late"});
  world.database("A").keeps_abandoned = true;
  world.Advance(milliseconds(5200));
  REQUIRE(watcher.Take().starts_with("-CHAINDOWN"));
  REQUIRE(client.Take().starts_with("-UNKNOWNOUTCOME"));
  client.Send({"SET", "x", "1"});
  world.Advance(milliseconds(100));
  CHECK(world.database("A").Get("x") == "");
  world.database("A").stands_before.clear();
  world.database("A").ReleaseLanes();
  world.database("A").keeps_abandoned = false;
  world.Heal();
  world.Advance(milliseconds(1500));
  CHECK(client.Take() == "+OK\r\n");
  CHECK(world.database("A").Get("x") == "1");
}

// Guards: proxy/server/client_state.cc MayOvertakeLost (Opening::kRefused).
TEST_CASE("S18 late bytes, where no new connection can be had to make an end of them") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "B");
  client.Send({"BLPOP", "l", "0"});
  client.Send({"SET", "x", "1"});
  world.Advance(milliseconds(50));
  world.open_streams["B"] = SIZE_MAX;
  world.database("A").BreakLanes();
  world.Advance(milliseconds(100));
  CHECK(client.Take().starts_with("-UNKNOWNOUTCOME"));
  CHECK(world.database("A").Get("x") == "");
  world.open_streams["B"] = 0;
  world.Advance(milliseconds(100));
  CHECK(client.Take() == "+OK\r\n");
}

// Guards: proxy/server/node_links.cc WelcomeForwarded (what it waits for outlives those that waited
// before it).
TEST_CASE("S18 late bytes, when a connection that waits for their end is itself superseded") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "B");
  client.Send({"EVAL", "script", "1", "x", "0"});
  world.Advance(milliseconds(50));
  REQUIRE(client.Take() == "+OK\r\n");
  Connection* link = world.NewestLink("B", "A");
  REQUIRE(link != nullptr);
  world.database("A").HoldLanes();
  client.Send({"EVAL", "script", "1", "x", "1"});
  world.Settle();
  link->down.held = true;
  world.BreakAtDialler(*link);
  CHECK(client.Take().empty());
  client.Send({"SET", "x", "2"});
  // B gives a connection up that is not welcome for a second, and dials again.
  world.Advance(milliseconds(2500));
  CHECK(client.Take().starts_with("-UNKNOWNOUTCOME"));
  CHECK(world.database("A").Get("x") == "0");
  world.database("A").ReleaseLanes();
  world.Advance(milliseconds(1500));
  CHECK(client.Take() == "+OK\r\n");
  CHECK(world.database("A").Get("x") == "2");
}

// Guards: proxy/server/node_routing.cc RouteData (tracked reads have a connection of their own).
TEST_CASE("I8 a tracked read at the head waits for the blocking command before it") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "A"), other(world, "A");
  client.Send({"SET", "x", "1"});
  client.Send({"CLIENT", "TRACKING", "ON"});
  world.Settle();
  REQUIRE(client.Take() == "+OK\r\n+OK\r\n");
  client.Send({"BLPOP", "l", "0"});
  client.Send({"GET", "x"});
  world.Settle();
  other.Send({"SET", "x", "2"});
  world.Settle();
  REQUIRE(other.Take() == "+OK\r\n");
  world.database("A").blocks = false;
  world.database("A").ReleaseLanes();
  world.Settle();
  CHECK(client.Take() == "$1\r\nA\r\n$1\r\n2\r\n");
}

// Guards: proxy/server/client_state.cc SubmitHead. What a client publishes after it subscribed, it gets.
TEST_CASE("I8 what goes by a client's connection to the head waits for its subscription") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "A");
  client.Send({"CLIENT", "TRACKING", "ON"});
  world.Settle();
  REQUIRE(client.Take() == "+OK\r\n");
  FakeDatabase& database = world.database("A");
  database.blocks = false;
  database.HoldLanes();
  client.Send({"SUBSCRIBE", "channel"});
  client.Send({"BLPOP", "l", "0"});
  world.Settle();
  CHECK(database.taken == 0);
  database.ReleaseLanes();
  world.Settle();
  CHECK(database.taken == 1);
  CHECK(client.Take() == "-ERR not in this story\r\n$1\r\nA\r\n");
}

// Guards: proxy/server/client_state.cc PassAgain, SubmitHead (ending_). It would be executed first.
TEST_CASE("I8 nothing is executed behind a blocked command that goes to the next head") {
  for (const bool before_it_is_ended : {false, true}) {
    CAPTURE(before_it_is_ended);
    NodeWorld world({"A", "B"});
    world.Form();
    Client client(world, "B");
    client.Send({"BLPOP", "first", "0"});
    world.Advance(milliseconds(50));
    Connection* tunnel = world.NewestLink("B", "A");
    REQUIRE(tunnel != nullptr);
    // B does not hear yet that A leaves, and sends what comes.
    tunnel->up.held = true;
    FakeDatabase& database = world.database("A");
    database.HoldInterrupts(before_it_is_ended);
    database.blocks = world.database("B").blocks = false;
    world.node("A").Stop();
    world.Settle();
    client.Send({"BLPOP", "second", "0"});
    world.Settle();
    database.HoldInterrupts(false);
    world.Settle();
    tunnel->up.held = false;
    world.Settle();
    CHECK(database.taken == 0);
    world.Configure({"B"}, {"A", "B"});
    world.Advance(milliseconds(500));
    const std::string answers = client.Take();
    CAPTURE(answers);
    CHECK(answers.starts_with("$1\r\nB\r\n-CHAINDOWN"));
  }
}

// Guards: proxy/server/node.cc ContinueStop.
TEST_CASE("a proxy that is told to stop stays until its database has what was committed") {
  NodeWorld world({"A"});
  world.Form();
  Client client(world, "A");
  client.Send({"SET", "x", "1"});
  world.Advance(milliseconds(100));
  CHECK(client.Take() == "+OK\r\n");
  world.database("A").unapplied = true;
  world.node("A").Stop();
  world.Advance(milliseconds(3000));
  CHECK(!world.stopped.contains("A"));
  world.database("A").unapplied = false;
  world.Advance(milliseconds(100));
  CHECK(world.stopped.contains("A"));
}

// Guards: proxy/server/node_leave.cc Left. What was answered is in the log of this proxy only.
TEST_CASE("a head that is told to stop before it is promoted stays until its log is applied") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "A");
  world.database("B").HoldApplying(true);
  client.Send({"SET", "x", "1"});
  world.Advance(milliseconds(100));
  REQUIRE(client.Take() == "+OK\r\n");
  world.Cut("A", "B");
  world.Configure({"B"}, {"B"});
  world.Advance(milliseconds(300));
  REQUIRE(world.replica("B").is_head());
  world.node("B").Stop();
  world.Advance(milliseconds(5000));
  CHECK(!world.stopped.contains("B"));
  world.database("B").HoldApplying(false);
  world.Advance(milliseconds(1000));
  CHECK(world.database("B").Get("x") == "1");
  CHECK(world.stopped.contains("B"));
}

// Guards: proxy/server/local_reader.cc Linearizable (a dirty key waits for the tail's word).
TEST_CASE(
    "CRAQ 2.3: a dirty key at a follower is answered by what the tail says, never by what is "
    "there") {
  NodeWorld world({"A", "B", "C"});
  world.Form();
  Client writer(world, "A");
  writer.Send({"SET", "x", "1"});
  world.Settle();
  REQUIRE(writer.Take() == "+OK\r\n");
  // x=2 is committed at C, where somebody reads it, and B does not know.
  HeldAcks acks({world.NewestLink("B", "C"), world.NewestLink("A", "C")});
  writer.Send({"SET", "x", "2"});
  world.Settle();
  Client tail(world, "C"), reader(world, "B"), clean(world, "B");
  tail.Send({"GET", "x"});
  world.Settle();
  REQUIRE(tail.Take() == "$1\r\n2\r\n");
  reader.Send({"GET", "x"});
  clean.Send({"GET", "y"});
  world.Settle();
  CHECK(reader.Take().empty());
  CHECK(clean.Take() == "$-1\r\n");
  acks.Release();
  world.Settle();
  CHECK(reader.Take() == "$1\r\n2\r\n");
  CHECK(writer.Take() == "+OK\r\n");
}

// Guards: local_reader.cc Linearizable and head_executor.cc AuthorityProved (authority).
TEST_CASE(
    "CRAQ 2.4, strong: without any coordinator a whole chain serves, and a part of it does not") {
  NodeWorld world({"A", "B", "C"});
  world.Form();
  for (const char* id : {"A", "B", "C"}) world.CutOff(id);
  world.Advance(milliseconds(1200));
  for (const char* id : {"A", "B", "C"}) {
    CAPTURE(id);
    REQUIRE_FALSE(world.replica(id).HasAuthority(world.now()));
    Client client(world, id);
    client.Send({"SET", "x", id});
    client.Send({"GET", "x"});
    world.Advance(milliseconds(50));
    CHECK(client.Take() == "+OK\r\n$1\r\n" + std::string(id) + "\r\n");
  }
  // The middle falls silent: what is left on either side cannot know that it is current.
  world.Advance(milliseconds(50));
  Connection* link = world.NewestLink("B", "C");
  REQUIRE(link != nullptr);
  link->up.held = link->down.held = true;
  world.Isolate("B");
  for (const char* id : {"A", "B", "C"}) {
    CAPTURE(id);
    Client client(world, id);
    client.Send({"GET", "x"});
    world.Advance(milliseconds(500));
    CHECK(client.Take().empty());
    world.Advance(std::chrono::seconds(5));
    CHECK(client.Take().starts_with("-CHAINDOWN"));
  }
}

TEST_CASE(
    "CRAQ 2.4, eventual and sequential: what a follower answers when it is cut off, and after a "
    "write") {
  NodeWorld world({"A", "B", "C"});
  world.Form();
  Client sequential(world, "C"), eventual(world, "C");
  sequential.Send({"CATENA", "CONSISTENCY", "sequential"});
  eventual.Send({"CATENA", "CONSISTENCY", "eventual"});
  world.Settle();
  REQUIRE(sequential.Take() == "+OK\r\n");
  REQUIRE(eventual.Take() == "+OK\r\n");
  // A connection sees its own writes, wherever they went.
  sequential.Send({"SET", "x", "1"});
  sequential.Send({"GET", "x"});
  world.Advance(milliseconds(50));
  CHECK(sequential.Take() == "+OK\r\n$1\r\n1\r\n");
  // Cut off from everybody, without a lease: the minority side answers where it was asked to.
  for (const NodeId other : {"A", "B", NodeWorld::kCoordinator}) world.Cut("C", other);
  world.Advance(milliseconds(1200));
  Client strong(world, "C");
  strong.Send({"GET", "x"});
  eventual.Send({"GET", "x"});
  sequential.Send({"GET", "x"});
  world.Advance(milliseconds(50));
  CHECK(strong.Take().empty());
  CHECK(eventual.Take() == "$1\r\n1\r\n");
  CHECK(sequential.Take() == "$1\r\n1\r\n");
}

// Guards: head_executor.cc Submit (only reads are weaker in a weaker mode).
TEST_CASE("a write that changed nothing at a head that was cut off is answered in no mode") {
  NodeWorld world({"A", "B", "C"});
  world.Form();
  Client sequential(world, "A"), eventual(world, "A"), reader(world, "A");
  sequential.Send({"CATENA", "CONSISTENCY", "sequential"});
  eventual.Send({"CATENA", "CONSISTENCY", "eventual"});
  reader.Send({"CATENA", "CONSISTENCY", "eventual"});
  world.Settle();
  REQUIRE(sequential.Take() + eventual.Take() + reader.Take() == "+OK\r\n+OK\r\n+OK\r\n");
  for (const NodeId other : {"B", "C", NodeWorld::kCoordinator}) world.Cut("A", other);
  world.Advance(milliseconds(1200));
  world.Configure({"B", "C"}, {"B", "C"});
  world.Advance(milliseconds(250));
  Client other(world, "B");
  other.Send({"SET", "x", "1"});
  world.Advance(milliseconds(50));
  REQUIRE(other.Take() == "+OK\r\n");
  sequential.Send({"DEL", "x"});
  eventual.Send({"DEL", "x"});
  reader.Send({"GET", "x"});
  reader.Send({"DBSIZE"});
  world.Advance(milliseconds(50));
  CHECK(sequential.Take().empty());
  CHECK(eventual.Take().empty());
  CHECK(reader.Take() == "$-1\r\n:0\r\n");
  world.Advance(std::chrono::seconds(6));
  CHECK(sequential.Take().starts_with("-UNKNOWNOUTCOME"));
  CHECK(eventual.Take().starts_with("-UNKNOWNOUTCOME"));
}

// Guards: proxy/server/forwarder.cc NoteSeen.
TEST_CASE("sequential: a connection sees its own write also at a node that was removed unawares") {
  NodeWorld world({"A", "B", "C"});
  world.Form();
  Client client(world, "C");
  client.Send({"CATENA", "CONSISTENCY", "sequential"});
  client.Send({"SET", "x", "1"});
  world.Advance(milliseconds(50));
  REQUIRE(client.Take() == "+OK\r\n+OK\r\n");
  // C hears nothing of the coordinator and of B, but can reach the head.
  for (const NodeId other : {"B", NodeWorld::kCoordinator}) world.Cut("C", other);
  world.Advance(milliseconds(1200));
  world.Configure({"A", "B"}, {"A", "B"});
  world.Advance(milliseconds(250));
  client.Send({"SET", "x", "2"});
  world.Advance(milliseconds(50));
  REQUIRE(client.Take() == "+OK\r\n");
  REQUIRE(world.database("C").Get("x") == "1");
  client.Send({"GET", "x"});
  world.Advance(milliseconds(50));
  CHECK(client.Take().empty());
  // Once it hears of its removal it asks the head.
  world.Advance(std::chrono::seconds(6));
  CHECK(client.Take() == "$1\r\n2\r\n");
}

// Guards: proxy/server/node.cc FeedBackend (whoever feeds the log waits for the database).
TEST_CASE("I9 a joiner whose database is slow to load does not fill its log without end") {
  constexpr size_t kLogBytesMax = 1u << 20;
  NodeWorld world({"A", "B"}, [](server::Options& options) {
    options.log_bytes_max = kLogBytesMax;
    options.backlog_bytes = 1u << 20;
    options.join_bytes_max = 8u << 20;
  });
  world.FormFirst();
  Client writer(world, "A");
  writer.Send({"SET", "x", "1"});
  world.Settle();
  world.database("B").HoldLoading(true);
  world.StartJoin("B");
  world.Advance(milliseconds(300));
  size_t most = 0;
  for (int i = 0; i < 40; ++i) {
    writer.Send({"SET", "x", std::string(100'000, 'v')});
    world.Advance(milliseconds(10));
    most = std::max(most, world.replica("B").log().bytes());
  }
  CHECK(most > kLogBytesMax);  // it did take in what it may
  CHECK(most < 2 * kLogBytesMax);
  CHECK_FALSE(world.report("A").joiner_ready.has_value());
  // Once the database follows, everything goes on.
  world.database("B").HoldLoading(false);
  world.Advance(std::chrono::seconds(1));
  CHECK(world.replica("B").received() == world.replica("A").received());
  CHECK(world.replica("B").applied() == world.replica("B").received());
  CHECK(world.report("A").joiner_ready.has_value());
}

// Guards: proxy/server/node_links.cc OnHello (QuestionsSent). A refusal takes the turn's questions
// along: the tail may have answered them before what is read later in the turn was even sent.
TEST_CASE("CRAQ 2.3: a read shares no question that left before it came, nor within a turn") {
  NodeWorld world({"A", "B", "C"});
  world.Form();
  Client writer(world, "A"), first(world, "B"), second(world, "B");
  world.Settle();
  Connection* predecessor = world.NewestLink("A", "B");
  HeldAcks acks({world.NewestLink("B", "C"), world.NewestLink("A", "C")});
  writer.Send({"SET", "x", "1"});
  world.Settle();
  REQUIRE(world.replica("B").received() > world.replica("B").committed());
  const chain::Replica& b = world.replica("B");
  const uint64_t before = b.stats().queries_sent;
  const chain::Hello hello{b.configuration(),
                           "A",
                           world.replica("A").incarnation(),
                           "nobody",
                           Incarnation(1),
                           chain::LinkPurpose::kChain,
                           b.replid()};
  peer::Encode(hello, predecessor->down.bytes);
  for (Client* client : {&first, &second}) client->Send({"GET", "x"});
  SUBCASE("with a refusal between them") {
    world.ReadInOneTurn("B", {&first.connection(), predecessor, &second.connection()});
    acks.Release();
    world.Advance(milliseconds(100));
    CHECK(b.stats().queries_sent == before + 2);
  }
  SUBCASE("with one behind them") {
    world.ReadInOneTurn("B", {&first.connection(), &second.connection(), predecessor});
    acks.Release();
    world.Advance(milliseconds(100));
    CHECK(b.stats().queries_sent == before + 1);
  }
  for (Client* client : {&first, &second}) CHECK(client->Take() == "$1\r\n1\r\n");
}

// Guards: proxy/server/node_links.cc OnHello (predecessor_paused_). The link that was paused goes
// when the next predecessor says hello; the new one is not paused yet.
TEST_CASE(
    "I9 a member whose database is slow does not fill its log without end, whoever feeds it") {
  constexpr size_t kLogBytesMax = 1u << 20;
  NodeWorld world({"A", "B", "C"}, [](server::Options& options) {
    options.log_bytes_max = kLogBytesMax;
    options.backlog_bytes = 1u << 20;
  });
  world.Form();
  world.database("C").HoldApplying(true);
  Client writer(world, "A");
  const auto write = [&](int count) {
    for (int i = 0; i < count; ++i) {
      writer.Send({"SET", "x", std::string(100'000, 'v')});
      world.Advance(milliseconds(10));
    }
  };
  write(20);
  REQUIRE(world.replica("C").unapplied_bytes() > kLogBytesMax);
  // C hears of the next epoch from A, its predecessor from now on.
  world.Configure({"A", "C"}, {"A", "B"});
  world.Advance(milliseconds(300));
  REQUIRE(world.replica("C").epoch() == world.replica("A").epoch());
  REQUIRE(world.replica("C").predecessor_linked());
  write(40);
  CHECK(world.replica("C").unapplied_bytes() < 3 * kLogBytesMax);
  world.database("C").HoldApplying(false);
  world.Advance(std::chrono::seconds(1));
  CHECK(world.replica("C").applied() == world.replica("A").received());
}

// Guards: proxy/chain/replica.cc TakeRole. The joiner lacks what others have of that history, and
// they would resume where it has gone on differently.
TEST_CASE("S11 a joiner that an operator chooses begins a new history") {
  NodeWorld world({"A", "B", "C"});
  world.Form({"A", "B"});
  Client writer(world, "A");
  writer.Send({"SET", "x", "1"});
  world.Settle();
  world.StartJoin("C");
  while (!world.report("B").joiner_ready) {
    world.Advance(milliseconds(10));
    REQUIRE(world.now() < TimePoint(std::chrono::seconds(1100)));
  }
  world.Cut("B", "C");
  writer.Send({"SET", "y", "lost with A and B"});
  world.Advance(milliseconds(50));
  REQUIRE(world.replica("B").applied() > world.replica("C").received());
  const std::string history = world.replica("B").replid();
  REQUIRE(world.replica("C").replid() == history);
  for (const NodeId id : {"A", "B"}) {
    world.Cut(id, NodeWorld::kCoordinator);
    world.Cut(id, "C");
  }
  // The choice stands until the chosen one serves, in whatever incarnation.
  for (int i = 0; i < 5 && !world.replica("C").head_ready(); ++i) {
    world.Configure({"C"}, {"C"});
    world.Advance(milliseconds(500));
  }
  REQUIRE(world.replica("C").head_ready());
  CHECK(world.replica("C").replid() != history);
  CHECK(world.database("C").Get("x") == "1");
}

// Guards: proxy/server/node_join.cc BeginLoading. A large database would never arrive over a link
// that breaks now and then.
TEST_CASE("a snapshot goes on where a broken link left it") {
  NodeWorld world({"A", "B"});
  world.FormFirst();
  Client writer(world, "A");
  writer.Send({"SET", "x", std::string(10'000, 'v')});
  world.Settle();
  FakeDatabase& source = world.database("A");
  source.snapshot_bytes_max = 6'000;
  world.StartJoin("B");
  world.Advance(milliseconds(300));
  REQUIRE(source.snapshot_bytes_given == 6'000);
  source.snapshot_bytes_max = SIZE_MAX;
  world.BreakAtDialler(*world.NewestLink("A", "B"));
  world.Advance(std::chrono::seconds(2));
  CHECK(source.snapshot_bytes_given == source.position().value());
  CHECK(world.database("B").Get("x") == std::string(10'000, 'v'));
  CHECK(world.report("A").joiner_ready.has_value());
}

// Guards: proxy/server/node_join.cc MissesJoiner. The joiner says that it is joining all the while,
// and would keep every other node out.
TEST_CASE("a tail tells whether it reaches the joiner that it is to feed") {
  NodeWorld world({"A", "B"});
  world.FormFirst();
  CHECK(world.report("A").successor_linked);
  world.StartJoin("B");
  world.Advance(std::chrono::seconds(1));
  REQUIRE(world.report("A").joiner_ready.has_value());
  CHECK(world.report("A").successor_linked);
  world.Cut("A", "B");
  world.Advance(std::chrono::seconds(5));
  CHECK(world.report("B").phase == coordinator::ReportPhase::kJoining);
  CHECK_FALSE(world.report("A").successor_linked);
  world.Heal();
  world.Advance(std::chrono::seconds(5));
  CHECK(world.report("A").successor_linked);
}

// Guards: proxy/server/node_join.cc OnJoinHello (another history). What is put in place would count
// as a prefix of one history, and be of another.
TEST_CASE("a part of a snapshot is not gone on with in another history") {
  NodeWorld world({"A", "B", "C"});
  world.FormFirst();
  Client first(world, "A");
  first.Send({"SET", "x", std::string(10'000, 'v')});
  world.Settle();
  world.database("A").snapshot_bytes_max = 6'000;
  world.StartJoin("B");
  world.Advance(milliseconds(300));
  REQUIRE(world.database("A").snapshot_bytes_given == 6'000);
  world.database("C").holds_snapshots = true;
  world.Configure({"C"}, {"A", "B", "C"});
  world.Advance(std::chrono::seconds(1));
  REQUIRE(world.replica("C").head_ready());
  Client second(world, "C");
  second.Send({"SET", "x", std::string(10'000, 'w')});
  world.Advance(std::chrono::seconds(1));
  REQUIRE(world.NewestLink("C", "B") != nullptr);
  world.BreakAtDialler(*world.NewestLink("C", "B"));
  world.database("C").holds_snapshots = false;
  world.Advance(std::chrono::seconds(2));
  CHECK(world.report("C").joiner_ready.has_value());
  CHECK(world.database("C").snapshot_bytes_given == world.database("C").position().value());
  CHECK(world.database("B").Get("x") == std::string(10'000, 'w'));
}

// Guards: proxy/server/node_join.cc OnSnapshotStart (CanFollow). The attempt that goes on with it
// would be given up at once, like the one before it, and so would every later one.
TEST_CASE("a snapshot that the log has left too far behind is not gone on with") {
  size_t part = 0;
  SUBCASE("of which a part has come") { part = 6'000; }
  SUBCASE("that had just begun") {}
  NodeWorld world({"A", "B"}, [](server::Options& options) {
    options.backlog_bytes = 1u << 20;
    options.join_bytes_max = 1u << 20;
  });
  world.FormFirst();
  Client writer(world, "A");
  writer.Send({"SET", "x", std::string(10'000, 'v')});
  world.Settle();
  FakeDatabase& source = world.database("A");
  source.keeps_snapshots = true;
  source.snapshot_bytes_max = part;
  world.StartJoin("B");
  world.Advance(milliseconds(300));
  REQUIRE(source.snapshot_bytes_given == part);
  for (int i = 0; i < 30; ++i) {
    writer.Send({"SET", "y", std::string(100'000, 'w')});
    world.Advance(milliseconds(10));
  }
  source.snapshot_bytes_max = SIZE_MAX;
  world.Advance(std::chrono::seconds(5));
  CHECK(world.report("A").joiner_ready.has_value());
  CHECK(world.database("B").Get("x").size() == 10'000);
}

// Guards: proxy/server/client_state.cc OnGivenUp. Executed one by one, the commands of a transaction
// would take effect in part.
TEST_CASE("a MULTI that is given up refuses everything up to its EXEC") {
  NodeWorld world({"A", "B"});  // in no chain yet: there is no head
  Client together(world, "B"), one_by_one(world, "B");
  together.Send({"MULTI"});
  together.Send({"SET", "x", "1"});
  together.Send({"EXEC"});
  together.Send({"GET", "y"});
  one_by_one.Send({"MULTI"});
  world.Advance(std::chrono::seconds(6));
  std::string answers = together.Take();
  CHECK(answers.starts_with("+OK\r\n-CHAINDOWN"));
  CHECK(answers.find("-EXECABORT") != std::string::npos);
  CHECK(answers.find("without MULTI") == std::string::npos);
  // What it sends next may be on its way already: it is the transaction's, whenever it comes.
  CHECK(one_by_one.Take() == "+OK\r\n");
  one_by_one.Send({"SET", "x", "1"});
  world.Settle();
  CHECK(one_by_one.Take().starts_with("-CHAINDOWN"));
  one_by_one.Send({"EXEC"});
  world.Settle();
  CHECK(one_by_one.Take().starts_with("-EXECABORT"));
  one_by_one.Send({"EXEC"});
  world.Settle();
  CHECK(one_by_one.Take() == "-ERR EXEC without MULTI\r\n");
}

// Guards: proxy/server/client_state.cc OnGivenUp. The chain may be back before EXEC.
TEST_CASE("an EXEC behind a WATCH that is given up executes nothing") {
  NodeWorld world({"A", "B"});  // in no chain yet: there is no head
  Client client(world, "A");
  client.Send({"WATCH", "x"});
  world.Advance(std::chrono::seconds(6));
  CHECK(client.Take().starts_with("-CHAINDOWN"));
  world.Form();
  client.Send({"MULTI"});
  client.Send({"SET", "x", "1"});
  client.Send({"EXEC"});
  world.Advance(milliseconds(100));
  CHECK(client.Take().ends_with("*-1\r\n"));
}

// Guards: proxy/server/node_routing.cc OnCommand. Given up, they would leave what comes behind them in
// another database, or its answers in other places.
TEST_CASE("what only changes its connection does not wait for the end of what was lost") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "B");
  client.Send({"BLPOP", "l", "0"});
  world.Advance(milliseconds(50));
  world.open_streams["B"] = SIZE_MAX;  // no connection that could make an end of it
  world.database("A").BreakLanes();
  world.Advance(milliseconds(100));
  CHECK(client.Take().starts_with("-UNKNOWNOUTCOME"));
  client.Send({"SELECT", "1"});
  client.Send({"PING"});
  client.Send({"CLIENT", "REPLY", "SKIP"});
  client.Send({"SET", "x", "1"});
  client.Send({"SET", "y", "1"});
  world.Advance(std::chrono::seconds(6));
  const std::string answers = client.Take();
  CHECK(answers.starts_with("+OK\r\n+PONG\r\n-CHAINDOWN"));
  CHECK(answers.find("-CHAINDOWN", 20) == std::string::npos);
}

// Guards: proxy/server/session.cc FailWaiting.
TEST_CASE("a client of a node that has never reached its database is told so and disconnected") {
  NodeWorld world({"A", "B"});
  world.database("B").unreachable = true;
  Client client(world, "B");
  client.Send({"SELECT", "1"});
  client.Send({"SET", "x", "1"});
  world.Advance(std::chrono::seconds(6));
  const std::string answers = client.Take();
  CHECK(answers.starts_with("-CHAINDOWN"));
  CHECK(answers.ends_with("\r\n(closed)"));
  CHECK(answers.find('-', 1) == answers.find("-CHAINDOWN", 1));
}

// Guards: proxy/server/client_state.cc OnHeadMessage (kBegin). The database would execute them by
// themselves.
TEST_CASE("what was sent behind a MULTI that the database refuses has an unknown outcome") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "A");
  client.Send({"MULTI"});  // the database does not know it
  client.Send({"SET", "x", "1"});
  world.Advance(milliseconds(100));
  const std::string answers = client.Take();
  CHECK(answers.starts_with("+OK\r\n-UNKNOWNOUTCOME"));
  // Sent before its client could know.
  client.Send({"SET", "x", "2"});
  client.Send({"EXEC"});
  world.Advance(milliseconds(100));
  CHECK(client.Take() ==
        "-ERR not in this story\r\n"
        "-EXECABORT Transaction discarded because of: ERR not in this story\r\n");
  CHECK(world.database("A").Get("x") != "2");
}

// Guards: proxy/server/client_state.cc SubmitHead, with all that a client sends together and apart.
TEST_CASE("a transaction that gets no connection of its own is aborted as a whole") {
  for (const bool together : {true, false}) {
    for (const char* at : {"A", "B"}) {
      NodeWorld world({"A", "B"});
      world.Form();
      world.database("A").limits.connections_max = 0;
      Client client(world, at);
      client.Send({"MULTI"});
      if (!together) world.Settle();
      client.Send({"SET", "x", "1"});
      if (!together) world.Settle();
      client.Send({"EXEC"});
      world.Settle();
      const std::string answers = client.Take();
      CHECK(answers.starts_with("+OK\r\n-ERR max number of clients reached"));
      CHECK(answers.find("\r\n-EXECABORT Transaction discarded because of: ERR max number") !=
            std::string::npos);
      CHECK(world.database("A").Get("x") == "");
      client.Send({"SET", "x", "2"});
      world.Settle();
      CHECK(client.Take() == "+OK\r\n");
    }
  }
}

// Guards: proxy/server/client_state.cc Transaction. Executed, it would be told to be not executed.
TEST_CASE("what came behind a MULTI that the head's proxy refuses is not executed by itself") {
  NodeWorld world({"A", "B"});
  world.Form();
  world.database("A").limits.connections_max = 0;
  Client client(world, "B");
  client.Send({"WATCH", "x"});
  world.Advance(milliseconds(50));
  REQUIRE(client.Take().starts_with("-ERR max number of clients reached"));
  Connection* tunnel = world.NewestLink("B", "A");
  REQUIRE(tunnel != nullptr);
  tunnel->up.held = true;
  client.Send({"MULTI"});
  client.Send({"SET", "x", "1"});
  world.Settle();
  world.BreakAtDialler(*tunnel);
  world.Settle();
  CHECK(client.Take().find("-UNKNOWNOUTCOME") == std::string::npos);
  CHECK(world.database("A").Get("x") == "");
}

// Guards: proxy/server/head_executor.cc FailBatch, proxy/server/local_reader.cc Fail.
TEST_CASE(
    "a lost command that may have changed the server's settings is not told to be not executed") {
  for (const char* id : {"A", "B"}) {
    NodeWorld world({"A", "B"});
    world.Form();
    Client client(world, id);
    client.Send({"SLOWLOG", "RESET"});
    world.Settle();
    REQUIRE(client.Take() == "-ERR not in this story\r\n");
    world.database(id).HoldLanes();
    client.Send({"SLOWLOG", "RESET"});
    world.Settle();
    world.database(id).BreakLanes();
    world.Settle();
    CHECK(client.Take().starts_with("-UNKNOWNOUTCOME"));
  }
}

// Guards: proxy/server/session.cc Push.
TEST_CASE("a head that leaves tells a proxy so that has not read its replies yet") {
  NodeWorld world({"A", "B"},
                  [](server::Options& options) { options.client_output_bytes_max = 20; });
  world.Form();
  Client client(world, "B");
  client.Send({"SET", "x", "1"});
  world.Advance(milliseconds(50));
  REQUIRE(client.Take() == "+OK\r\n");
  Connection* link = world.NewestLink("B", "A");
  REQUIRE(link != nullptr);
  link->up.held = true;
  client.Send({"OBJECT", "ENCODING", "x"});
  world.Settle();
  world.node("A").Stop();
  world.Settle();
  client.Send({"SET", "x", "2"});
  world.Settle();
  link->up.held = false;
  world.Settle();
  CHECK(client.Take() == "-ERR not in this story\r\n+OK\r\n");
}

// Guards: proxy/server/node_routing.cc OnBlocked.
TEST_CASE("a pause of writes does not make a read wait longer for a chain that is not there") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "B"), writer(world, "B");
  for (const NodeId other : {"A", NodeWorld::kCoordinator}) world.Cut("B", other);
  world.Advance(milliseconds(1200));
  client.Send({"CLIENT", "PAUSE", "100000", "WRITE"});
  world.Settle();
  client.Send({"GET", "x"});
  writer.Send({"SET", "x", "1"});
  world.Advance(std::chrono::seconds(6));
  CHECK(client.Take().starts_with("+OK\r\n-CHAINDOWN"));
  CHECK(writer.Take().empty());
}

// Guards: proxy/server/node_clients.cc Interrupt.
TEST_CASE("I8 what comes behind a SCRIPT KILL waits for the blocking command before it") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "A");
  FakeDatabase& database = world.database("A");
  database.HoldInterrupts(true);
  client.Send({"BLPOP", "l", "0"});
  client.Send({"SCRIPT", "KILL"});
  client.Send({"SET", "x", "1"});
  world.Advance(milliseconds(100));
  CHECK(database.Get("x") == "");
  database.blocks = false;
  database.ReleaseLanes();
  world.Settle();
  CHECK(database.taken == 1);
  database.HoldInterrupts(false);
  world.Settle();
  CHECK(database.Get("x") == "1");
  CHECK(client.Take() == "$1\r\nA\r\n:0\r\n+OK\r\n");
}

// Guards: proxy/server/session.cc FailWaiting. The next command's answer would be swallowed, and it
// would be told to be not executed.
TEST_CASE("a command that is given up and was to have no answer has none") {
  NodeWorld world({"A", "B"});  // in no chain yet: there is no head
  Client skipping(world, "B"), silent(world, "B");
  skipping.Send({"CLIENT", "REPLY", "SKIP"});
  skipping.Send({"SET", "x", "1"});
  silent.Send({"CLIENT", "REPLY", "OFF"});
  silent.Send({"SET", "y", "1"});
  world.Advance(std::chrono::seconds(6));
  CHECK(skipping.Take().empty());
  skipping.Send({"ECHO", "next"});
  silent.Send({"CLIENT", "REPLY", "ON"});
  world.Settle();
  CHECK(skipping.Take() == "$4\r\nnext\r\n");
  CHECK(silent.Take() == "+OK\r\n");
}

// Guards: proxy/server/node_leave.cc Unblock.
TEST_CASE("a blocked command goes to the next head although the database lost what was to end it") {
  for (const auto losing : {FakeDatabase::Losing::kInterrupt, FakeDatabase::Losing::kAnswer}) {
    CAPTURE(static_cast<int>(losing));
    NodeWorld world({"A", "B"});
    world.Form();
    Client client(world, "B");
    client.Send({"BLPOP", "l", "0"});
    world.Advance(milliseconds(50));
    world.database("A").losing = losing;
    world.database("B").blocks = false;
    world.node("A").Stop();
    world.Advance(milliseconds(500));
    CHECK(world.replica("A").resigned());
    world.Configure({"B"}, {"A", "B"});
    world.Advance(milliseconds(500));
    CHECK(client.Take() == "$1\r\nB\r\n");
  }
}

// Guards: proxy/server/client_state.cc AbortTransaction.
TEST_CASE("a head that leaves does not wait for a transaction that was aborted") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "B");
  client.Send({"MULTI"});  // the database does not know it
  world.Advance(milliseconds(50));
  REQUIRE(client.Take() == "+OK\r\n");
  world.node("A").Stop();
  world.Advance(milliseconds(500));
  CHECK(world.replica("A").resigned());
}

// Guards: proxy/server/node_routing.cc RouteData. Its client would never hear that the key changed.
TEST_CASE("a tracked read behind a write is one of the database that tracks it") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "B");
  client.Send({"CLIENT", "TRACKING", "ON"});
  world.Settle();
  REQUIRE(client.Take() == "+OK\r\n");
  client.Send({"SET", "x", "1"});
  client.Send({"GET", "x"});
  world.Advance(milliseconds(100));
  CHECK(client.Take() == "+OK\r\n$1\r\n1\r\n");
  CHECK(world.database("A").gets == 0);
  CHECK(world.database("B").gets == 1);
}

// Guards: proxy/server/node_routing.cc RouteData. Nobody else tells its client that the key changed.
TEST_CASE("a tracked read is one of the local database, in mode tail, too, or of none") {
  NodeWorld world({"A", "B", "C", "D"});
  world.Form({"A", "B", "C"});
  Client writer(world, "A"), client(world, "B"), outside(world, "D");
  writer.Send({"SET", "x", "1"});
  for (Client* of : {&client, &outside}) {
    of->Send({"CATENA", "CONSISTENCY", "tail"});
    of->Send({"CLIENT", "TRACKING", "ON"});
  }
  world.Advance(milliseconds(50));
  for (Client* of : {&client, &outside}) {
    REQUIRE(of->Take() == "+OK\r\n+OK\r\n");
    of->Send({"GET", "x"});
  }
  world.Advance(milliseconds(50));
  CHECK(client.Take() == "$1\r\n1\r\n");
  CHECK(outside.Take().empty());
  for (const char* id : {"A", "B", "C", "D"}) {
    CAPTURE(id);
    CHECK(world.database(id).gets == (id == std::string("B") ? 1 : 0));
  }
  world.Advance(std::chrono::seconds(6));
  CHECK(outside.Take().starts_with("-CHAINDOWN this node is not up to date"));
}

// Guards: proxy/server/node_routing.cc RouteData (Path::kTracked). Its client would take the older
// value for the newer, and never hear of the key again.
TEST_CASE("what tells that a key changed does not overtake the answer of a tracked read") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client writer(world, "A"), client(world, "B");
  writer.Send({"SET", "x", "1"});
  client.Send({"CONFIG", "GET", "maxmemory"});
  world.Advance(milliseconds(50));
  REQUIRE(client.Take().starts_with("-ERR"));
  world.database("B").HoldLanes();
  client.Send({"CLIENT", "TRACKING", "ON"});
  world.Settle();
  REQUIRE(client.Take() == "+OK\r\n");
  client.Send({"CONFIG", "GET", "maxmemory"});
  client.Send({"GET", "x"});
  world.Settle();
  writer.Send({"SET", "x", "2"});
  world.Advance(milliseconds(50));
  world.database("B").Invalidate("x");
  world.Settle();
  CHECK(client.Take() == ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nx\r\n");
  world.database("B").ReleaseLanes();
  world.Settle();
  CHECK(client.Take() == "-ERR not in this story\r\n$1\r\n2\r\n");
}

// Guards: proxy/server/local_reader.cc Deliver, proxy/server/node_routing.cc RouteData. The first of
// a client's reads would show what the next does not.
TEST_CASE("I8 what comes behind a script that goes on to the head follows it there") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client writer(world, "A"), client(world, "B");
  writer.Send({"SET", "x", "1"});
  world.Advance(milliseconds(50));
  client.Send({"EVALSHA_RO", "sha", "1", "x"});
  world.Advance(milliseconds(50));
  REQUIRE(client.Take() == "$1\r\n1\r\n");
  Connection* to_head = world.NewestLink("B", "A");
  REQUIRE(to_head != nullptr);
  to_head->down.held = true;
  client.Send({"EVALSHA_RO", "sha", "1", "x"});
  SUBCASE("sent together with it") { client.Send({"EVAL_RO", "script", "1", "x"}); }
  SUBCASE("sent when it has gone on") {
    world.Settle();
    client.Send({"EVAL_RO", "script", "1", "x"});
  }
  world.Settle();
  writer.Send({"SET", "x", "2"});
  world.Settle();
  to_head->down.held = false;
  world.Advance(milliseconds(50));
  CHECK(client.Take() == "$1\r\n2\r\n$1\r\n2\r\n");
  client.Send({"EVAL_RO", "script", "1", "x"});
  world.database("A").gets = 0;
  world.Settle();
  CHECK(client.Take() == "$1\r\n2\r\n");
  CHECK(world.database("A").gets == 0);
}

// Guards: proxy/server/head_executor.cc Take. It would wait for a bound that nobody judges any more,
// and then cost all others their connections.
TEST_CASE("a client that subscribes at a head that has resigned is answered") {
  NodeWorld world({"A", "B"});
  world.Form();
  world.CutOff("A");
  world.database("A").LoseCapture();
  world.Settle();
  REQUIRE(world.replica("A").resigned());
  Client client(world, "A");
  client.Send({"PSUBSCRIBE", "x"});
  world.Settle();
  CHECK(client.Take() == "*3\r\n$10\r\npsubscribe\r\n$1\r\nx\r\n:1\r\n");
  world.Advance(std::chrono::seconds(6));
  CHECK(client.Take().empty());
}

// Guards: proxy/server/session_commands.cc Hello. Its client would take the messages for replies.
TEST_CASE("a connection that was opened before HELLO subscribes in the protocol of now") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "B");
  client.Send({"CLIENT", "TRACKING", "OFF"});
  client.Send({"HELLO", "3"});
  world.Settle();
  REQUIRE(client.Take().starts_with("+OK\r\n%"));
  client.Send({"PSUBSCRIBE", "x"});
  world.Settle();
  CHECK(client.Take() == ">3\r\n$10\r\npsubscribe\r\n$1\r\nx\r\n:1\r\n");
}

// Guards: proxy/server/head_executor.cc Private::full. Only what the head executes makes the log grow.
TEST_CASE("a clean tracked read at a follower does not wait for a chain that does not commit") {
  NodeWorld world({"A", "B", "C"},
                  [](server::Options& options) { options.log_bytes_max = 10'000; });
  world.Form();
  Client writer(world, "A"), client(world, "B");
  writer.Send({"SET", "x", "1"});
  client.Send({"CLIENT", "TRACKING", "ON"});
  world.Advance(milliseconds(50));
  REQUIRE(client.Take() == "+OK\r\n");
  world.Cut("B", "C");
  world.Cut("A", "C");
  writer.Send({"SET", "y", std::string(20'000, 'v')});
  world.Settle();
  REQUIRE(world.replica("B").received() - world.replica("B").committed() > 10'000);
  client.Send({"GET", "x"});
  world.Settle();
  CHECK(client.Take() == "$1\r\n1\r\n");
}

// Guards: proxy/server/node_routing.cc RouteData (Session::scans). It would miss keys and not tell.
TEST_CASE("a scan does not go on at another database than the one that gave its cursor") {
  NodeWorld world({"A", "B", "C"});
  world.Form({"A", "B"});
  Client client(world, "B"), outside(world, "C"), pooled(world, "C");
  const auto scan = [&](Client& of, const char* cursor) {
    of.Send({"SCAN", cursor});
    world.Advance(milliseconds(50));
    return of.Take();
  };
  CHECK(scan(client, "0") == "$1\r\nB\r\n");
  CHECK(scan(outside, "0") == "$1\r\nA\r\n");
  CHECK(scan(outside, "17") == "$1\r\nA\r\n");
  CHECK(scan(pooled, "17") == "$1\r\nA\r\n");
  world.Configure({"A"}, {"A", "B", "C"});
  world.Advance(milliseconds(500));
  CHECK(scan(client, "17").starts_with("-CHAINDOWN the database that gave this cursor"));
  CHECK(scan(client, "0") == "$1\r\nA\r\n");
  CHECK(scan(client, "17") == "$1\r\nA\r\n");
  world.StartJoin("C");
  world.Advance(milliseconds(500));
  world.Configure({"A", "C"}, {"A", "B", "C"});
  world.Advance(milliseconds(500));
  REQUIRE(world.replica("C").serves());
  CHECK(scan(outside, "17") == "$1\r\nA\r\n");
  CHECK(scan(outside, "0") == "$1\r\nC\r\n");
  CHECK(scan(outside, "17") == "$1\r\nC\r\n");
}

// Guards: proxy/server/local_reader.cc StartWait, proxy/server/node_routing.cc RouteData. The key
// that it names is clean, and what it looks at is not.
TEST_CASE("a module's command reads more than the keys that it names") {
  NodeWorld world({"A", "B", "C"});
  world.Form();
  Client writer(world, "A"), reader(world, "B"), at_head(world, "A");
  const auto read = [&](Client& client) {
    client.Send({"INDEX.SIZE", "index"});
    world.Settle();
    return client.Take();
  };
  CHECK(read(reader) == ":0\r\n");
  world.database("B").HoldApplying(true);
  writer.Send({"SET", "x", "1"});
  world.Settle();
  REQUIRE(writer.Take() == "+OK\r\n");
  CHECK(read(reader).empty());
  world.database("B").HoldApplying(false);
  world.Settle();
  CHECK(reader.Take() == ":1\r\n");
  // I4: what is not committed is not shown.
  world.Cut("B", "C");
  writer.Send({"SET", "y", "1"});
  world.Settle();
  REQUIRE(writer.Take().empty());
  CHECK(read(at_head).empty());
}

// Guards: proxy/server/node_routing.cc OnCommand (a command that the table does not know).
TEST_CASE("a command of a module that was loaded later shows nothing old") {
  NodeWorld world({"A", "B", "C"});
  world.Form();
  Client writer(world, "A"), reader(world, "B"), at_head(world, "A");
  const auto read = [&](Client& client) {
    client.Send({"LATER.SIZE", "index"});
    world.Settle();
    world.Advance(milliseconds(50));
    return client.Take();
  };
  CHECK(read(reader) == ":0\r\n");
  world.database("B").HoldApplying(true);
  writer.Send({"SET", "x", "1"});
  world.Settle();
  REQUIRE(writer.Take() == "+OK\r\n");
  CHECK(read(reader) == ":1\r\n");
  world.database("B").HoldApplying(false);
  // I4: what is not committed is not shown.
  world.Cut("B", "C");
  writer.Send({"SET", "y", "1"});
  world.Settle();
  REQUIRE(writer.Take().empty());
  CHECK(read(reader).empty());
  CHECK(read(at_head).empty());
}

// Guards: proxy/server/tracking.cc SubmitTracked (PrivateChannel::full).
TEST_CASE("I8 a tracked read at the head waits for what a lost connection left in the database") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "A");
  client.Send({"SET", "x", "0"});
  client.Send({"CLIENT", "TRACKING", "ON"});
  world.Settle();
  REQUIRE(client.Take() == "+OK\r\n+OK\r\n");
  FakeDatabase& database = world.database("A");
  database.keeps_abandoned = true;
  database.HoldLanes();
  client.Send({"SET", "x", "1"});
  world.Settle();
  database.BreakLane("SET");
  world.Settle();
  REQUIRE(client.Take().starts_with("-UNKNOWNOUTCOME"));
  client.Send({"GET", "x"});
  world.Settle();
  database.ReleaseLanes();
  world.Advance(milliseconds(100));
  CHECK(client.Take().empty());
  database.keeps_abandoned = false;
  world.Advance(milliseconds(100));
  CHECK(client.Take() == "$1\r\n0\r\n");
}

// Guards: proxy/server/node_leave.cc ContinueLeaving. The session that clients share would keep it.
TEST_CASE("a head that leaves does not wait for the connection that a script had to itself") {
  NodeWorld world({"A", "B"});
  world.Form();
  world.database("A").stands_before = "EVAL";
  Client slow(world, "A"), client(world, "B");
  slow.Send({"EVAL", "script", "1", "y", "0"});
  world.Advance(milliseconds(50));
  client.Send({"EVAL", "script", "1", "x", "1"});
  world.Advance(milliseconds(50));
  world.database("A").stands_before.clear();
  world.database("A").ReleaseLanes();
  world.Advance(milliseconds(50));
  REQUIRE(client.Take() == "+OK\r\n");
  world.node("A").Stop();
  world.Advance(milliseconds(500));
  CHECK(world.replica("A").resigned());
}

// Guards: proxy/server/tracking.cc SubmitTracked. Who had asked for it is told something else by then.
TEST_CASE("a tracked read is not answered with what refused the SELECT of one that was given up") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "A");
  client.Send({"CLIENT", "TRACKING", "ON"});
  client.Send({"GET", "x"});
  world.Settle();
  REQUIRE(client.Take() == "+OK\r\n$-1\r\n");
  FakeDatabase& database = world.database("A");
  database.select_error = "-BUSY a script runs\r\n";
  database.stands_before = "SELECT";
  client.Send({"SELECT", "1"});
  client.Send({"GET", "x"});
  world.Advance(milliseconds(5200));
  REQUIRE(client.Take().starts_with("+OK\r\n-CHAINDOWN"));
  client.Send({"SELECT", "2"});
  database.stands_before.clear();
  database.ReleaseLanes();
  world.Settle();
  REQUIRE(database.select_error.empty());
  client.Send({"GET", "x"});
  world.Settle();
  CHECK(client.Take() == "+OK\r\n$-1\r\n");
  CHECK(database.last_database == 2);
}

// Guards: proxy/server/client_state.cc OnHeadMessage. It would be sent again, to the same head.
TEST_CASE(
    "a command that its user ends with an error is ended, also behind a drain that was called "
    "off") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client blocked(world, "A"), user(world, "A");
  blocked.Send({"CLIENT", "ID"});
  blocked.Send({"BLPOP", "l", "0"});
  world.Settle();
  const std::string answer = blocked.Take();
  const std::string id = answer.substr(1, answer.find('\r') - 1);
  FakeDatabase& database = world.database("A");
  database.HoldInterrupts(true);
  world.Drain("A");
  world.Advance(milliseconds(500));
  world.Drain("");
  world.Advance(milliseconds(500));
  REQUIRE_FALSE(world.replica("A").resigned());
  database.losing = FakeDatabase::Losing::kInterrupt;
  database.HoldInterrupts(false);
  world.Advance(milliseconds(100));
  REQUIRE(database.losing == FakeDatabase::Losing::kNothing);
  REQUIRE(blocked.Take().empty());
  user.Send({"CLIENT", "UNBLOCK", id, "ERROR"});
  world.Advance(milliseconds(100));
  CHECK(user.Take() == ":1\r\n");
  CHECK(blocked.Take().starts_with("-UNBLOCKED "));
}

// Guards: proxy/server/client_state.cc FailHead, SubmitHead.
TEST_CASE("CLIENT LIST does not count commands of an earlier transaction in a refused one") {
  NodeWorld world({"A", "B"});
  world.Form();
  world.database("A").transactions = true;
  Client client(world, "A"), user(world, "A");
  const auto queued = [&] {
    user.Send({"CLIENT", "LIST"});
    world.Settle();
    const std::string list = user.Take();
    const size_t at = list.find(" flags=x ");
    return at == std::string::npos ? "" : list.substr(list.find("multi=", at), 7);
  };
  client.Send({"MULTI"});
  client.Send({"GET", "x"});
  client.Send({"EXEC"});
  client.Send({"MULTI"});
  client.Send({"GET", "x"});
  client.Send({"GET", "y"});
  world.Settle();
  REQUIRE(client.Take() == "+OK\r\n+QUEUED\r\n*1\r\n$-1\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n");
  CHECK(queued() == "multi=2");
  world.database("A").BreakLanes();
  world.Settle();
  CHECK(queued() == "multi=0");
}

// Guards: proxy/server/node_routing.cc OnCommand. Nobody can tell that it does not block, which would
// hold up what all clients share.
TEST_CASE("what the database was not examined with has a connection of its own") {
  NodeWorld world({"A", "B"});
  world.Form();
  world.database("A").stands_before = "LATER.POP";
  for (const char* id : {"A", "B"}) {
    CAPTURE(id);
    Client blocked(world, id), client(world, id);
    blocked.Send({"LATER.POP", "l", "0"});
    world.Advance(milliseconds(50));
    client.Send({"SET", "x", "1"});
    world.Advance(milliseconds(50));
    CHECK(client.Take() == "+OK\r\n");
    CHECK(blocked.Take().empty());
  }
}

// Guards: proxy/server/node_routing.cc OnCommand. It would be undone by what EXEC brings.
TEST_CASE("I8 what changes a connection waits for a transaction that does, too") {
  NodeWorld world({"A", "B"});
  world.Form();
  world.database("A").transactions = true;
  for (const char* id : {"A", "B"}) {
    CAPTURE(id);
    Client client(world, id);
    client.Send({"MULTI"});
    client.Send({"SELECT", "1"});
    client.Send({"CLIENT", "SETNAME", "one"});
    client.Send({"EXEC"});
    client.Send({"SELECT", "0"});
    client.Send({"CLIENT", "SETNAME", "two"});
    client.Send({"CLIENT", "GETNAME"});
    client.Send({"SET", "x", "1"});
    world.Advance(milliseconds(100));
    CHECK(client.Take().ends_with("+OK\r\n+OK\r\n$3\r\ntwo\r\n+OK\r\n"));
    CHECK(world.database("A").last_database == 0);
    client.Send({"CLIENT", "INFO"});
    world.Settle();
    const std::string info = client.Take();
    CHECK(info.find(" db=0 ") != std::string::npos);
    CHECK(info.find(" name=two ") != std::string::npos);
  }
}

// Guards: proxy/server/client_state.cc FailHead. A client that reports the first error of a transaction
// would take it for not executed, and repeat it.
TEST_CASE("what stands before a lost EXEC is not told to be not executed") {
  for (const char* id : {"A", "B"}) {
    CAPTURE(id);
    NodeWorld world({"A", "B"});
    world.Form();
    world.database("A").transactions = true;
    world.database("A").stands_before = "MULTI";
    Client client(world, id);
    client.Send({"MULTI"});
    client.Send({"SET", "x", "1"});
    client.Send({"EXEC"});
    world.Advance(milliseconds(50));
    REQUIRE(client.Take().empty());
    world.database("A").stands_before.clear();
    world.database("A").BreakLanes();
    world.Advance(milliseconds(100));
    const std::string answers = client.Take();
    size_t unknown = 0;
    for (size_t at = 0; (at = answers.find("-UNKNOWNOUTCOME", at)) != std::string::npos; ++at)
      ++unknown;
    CHECK(unknown == 3);
    CHECK(answers.find("-CHAINDOWN") == std::string::npos);
  }
}

// Guards: proxy/server/node_clients.cc InterruptHereOrAtHead. One that ran at the head would be ended,
// too.
TEST_CASE("a SCRIPT KILL whose answer the local database lost is not sent on to the head") {
  NodeWorld world({"A", "B"});
  world.Form();
  Client client(world, "B");
  world.database("B").losing = FakeDatabase::Losing::kInterrupt;
  client.Send({"SCRIPT", "KILL"});
  world.Advance(milliseconds(100));
  CHECK(client.Take().starts_with("-UNKNOWNOUTCOME"));
}

// Guards: proxy/server/client_state.cc Transaction. What its client sent with it may still come.
TEST_CASE("an EXEC behind a WATCH that gets no connection of its own executes nothing") {
  for (const char* id : {"A", "B"}) {
    CAPTURE(id);
    NodeWorld world({"A", "B"});
    world.Form();
    world.database("A").transactions = true;
    Client client(world, id);
    world.Settle();
    world.open_streams[id] = SIZE_MAX;
    client.Send({"WATCH", "x"});
    world.Advance(milliseconds(50));
    REQUIRE(client.Take().starts_with("-ERR max number of clients"));
    world.open_streams[id] = 0;
    for (const char* answer : {"*-1\r\n", "*1\r\n+OK\r\n"}) {
      client.Send({"MULTI"});
      client.Send({"SET", "x", "1"});
      client.Send({"EXEC"});
      world.Advance(milliseconds(50));
      CHECK(client.Take() == "+OK\r\n+QUEUED\r\n" + std::string(answer));
    }
  }
}

// Guards: proxy/server/client_state.cc OnHeadMessage (kWatch). As of a connection that was opened while
// somebody's script overran.
TEST_CASE("an EXEC behind a WATCH that the database did not take executes nothing") {
  for (const char* id : {"A", "B"}) {
    CAPTURE(id);
    NodeWorld world({"A", "B"});
    world.Form();
    world.database("A").transactions = true;
    Client client(world, id);
    client.Send({"WATCH", "x"});
    world.Advance(milliseconds(50));
    REQUIRE(client.Take() == "-ERR not in this story\r\n");
    client.Send({"MULTI"});
    client.Send({"SET", "x", "1"});
    client.Send({"EXEC"});
    world.Advance(milliseconds(50));
    CHECK(client.Take() == "+OK\r\n+QUEUED\r\n*-1\r\n");
  }
}

}  // namespace
}  // namespace catena::scenario
