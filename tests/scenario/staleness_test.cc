// max_staleness, with whole nodes: what an eventual read shows holds everything that anybody was told
// so long ago, or it fails. Guards: proxy/server/freshness.cc.
#include <doctest/doctest.h>

#include "tests/scenario/node_world.h"

namespace catena::scenario {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kMaxStaleness = seconds(2);
// Until a node that lost its chain must fail: it may have had a lease.
constexpr Duration kUntilStale = kMaxStaleness + seconds(1) + milliseconds(50);
constexpr char kOld[] = "$3\r\nold\r\n";

std::function<void(server::Options&)> Eventual(Duration max_staleness) {
  return [max_staleness](server::Options& options) {
    options.consistency = server::Consistency::kEventual;
    options.max_staleness = max_staleness;
  };
}

std::string Answer(NodeWorld& world, const NodeId& id, const std::vector<std::string>& command) {
  Client client(world, id);
  client.Send(command);
  world.Settle();
  return client.Take();
}

std::string Get(NodeWorld& world, const NodeId& id) { return Answer(world, id, {"GET", "x"}); }

// A linearizable one.
std::string GetStrictly(NodeWorld& world, const NodeId& id) {
  Client client(world, id);
  client.Send({"CATENA", "CONSISTENCY", "linearizable"});
  client.Send({"GET", "x"});
  world.Settle();
  return client.Take();
}

void Form(NodeWorld& world) {
  world.Form();
  REQUIRE(Answer(world, "A", {"SET", "x", "old"}) == "+OK\r\n");
  world.Advance(seconds(1));
}

bool Refused(const std::string& reply) { return reply.starts_with("-CHAINDOWN "); }

void CheckRefused(NodeWorld& world, const std::vector<NodeId>& ids) {
  for (const NodeId& id : ids) {
    CAPTURE(id);
    CHECK(Refused(Get(world, id)));
  }
}

void CheckShowOld(NodeWorld& world, const std::vector<NodeId>& ids) {
  for (const NodeId& id : ids) {
    CAPTURE(id);
    CHECK(Get(world, id) == kOld);
  }
}

TEST_CASE("max_staleness: what is cut off from the head and the coordinators together") {
  NodeWorld world({"A", "B", "C"}, Eventual(kMaxStaleness));
  Form(world);
  world.Advance(3 * kMaxStaleness);  // quiet is no staleness
  CheckShowOld(world, {"A", "B", "C"});
  for (const NodeId id : {"B", "C"}) {
    world.Cut("A", id);
    world.Cut(NodeWorld::kCoordinator, id);
  }
  world.Advance(kMaxStaleness - milliseconds(300));
  CheckShowOld(world, {"B", "C"});
  // B and C hear each other all the time.
  world.Advance(kUntilStale - kMaxStaleness + milliseconds(300));
  CheckRefused(world, {"B", "C"});
  // Nobody may commit without them, and the head knows it by its lease.
  CHECK(Get(world, "A") == kOld);
  world.Heal();
  world.Advance(seconds(1));
  CheckShowOld(world, {"A", "B", "C"});
}

TEST_CASE("max_staleness: a deposed head that hears nobody but its former successor") {
  NodeWorld world({"A", "B", "C"}, Eventual(kMaxStaleness));
  Form(world);
  world.Cut("A", NodeWorld::kCoordinator);
  world.Cut("A", "C");
  world.Advance(seconds(1));
  REQUIRE_FALSE(world.replica("A").HasAuthority(world.now()));
  world.Configure({"A", "C"}, {"C"});  // B is removed and has not heard of it
  world.Cut("B", NodeWorld::kCoordinator);
  world.Cut("B", "C");
  world.Advance(kUntilStale);
  REQUIRE(world.replica("A").successor_linked());
  REQUIRE(world.replica("A").epoch() < world.replica("C").epoch());
  CheckRefused(world, {"A", "B"});
}

// D commits, is read, and nobody hears of it: B has a lease and hears A and C.
TEST_CASE("max_staleness: the tail's commits become known to nobody") {
  NodeWorld world({"A", "B", "C", "D"}, Eventual(kMaxStaleness));
  Form(world);
  for (const NodeId id : {"A", "C"}) {
    Connection* link = world.NewestLink(id, "D");
    REQUIRE(link != nullptr);
    link->up.held = true;
  }
  REQUIRE(Answer(world, "A", {"SET", "x", "new"}).empty());
  for (const NodeId id : {"A", "B", "C"}) world.Cut(id, "D");
  REQUIRE(GetStrictly(world, "D") == "+OK\r\n$3\r\nnew\r\n");
  CHECK(Get(world, "B") == kOld);
  world.Advance(kUntilStale);
  REQUIRE(world.replica("B").HasAuthority(world.now()));
  REQUIRE(GetStrictly(world, "D") == "+OK\r\n$3\r\nnew\r\n");
  CheckRefused(world, {"B", "C"});
  CHECK(Get(world, "D") == "$3\r\nnew\r\n");
}

TEST_CASE("max_staleness: a whole chain without coordinators goes on") {
  NodeWorld world({"A", "B", "C"}, Eventual(kMaxStaleness));
  Form(world);
  for (const NodeId id : {"A", "B", "C"}) world.Cut(NodeWorld::kCoordinator, id);
  for (int i = 0; i < 10; ++i) {
    world.Advance(kMaxStaleness);
    CheckShowOld(world, {"A", "B", "C"});
  }
  REQUIRE_FALSE(world.replica("A").HasAuthority(world.now()));
  // Without the tail nobody can tell what it has shown; alone it cannot tell either.
  world.Cut("A", "C");
  world.Cut("B", "C");
  world.Advance(kMaxStaleness + milliseconds(50));
  CheckRefused(world, {"A", "B", "C"});
  world.Heal();
  world.Advance(seconds(1));
  CheckShowOld(world, {"A", "B", "C"});
}

TEST_CASE("max_staleness: a database that does not keep up") {
  NodeWorld world({"A", "B", "C"}, Eventual(kMaxStaleness));
  Form(world);
  world.database("B").HoldApplying(true);
  REQUIRE(Answer(world, "A", {"SET", "x", "new"}) == "+OK\r\n");
  CHECK(Get(world, "B") == kOld);
  world.Advance(kMaxStaleness + milliseconds(50));
  CHECK(Refused(Get(world, "B")));
  CHECK(Get(world, "C") == "$3\r\nnew\r\n");
  world.database("B").HoldApplying(false);
  world.Settle();
  CHECK(Get(world, "B") == "$3\r\nnew\r\n");
}

TEST_CASE("max_staleness 0: answered however old, and nothing is asked") {
  NodeWorld world({"A", "B", "C"}, Eventual(Duration(0)));
  Form(world);
  for (const NodeId id : {"B", "C"}) {
    world.Cut("A", id);
    world.Cut(NodeWorld::kCoordinator, id);
  }
  world.Cut("B", "C");
  world.Advance(seconds(60));
  for (const NodeId id : {"B", "C"}) {
    CAPTURE(id);
    CHECK(Get(world, id) == kOld);
    CHECK(world.replica(id).stats().verifies_sent == 0);
  }
}

// What it cannot tell yet it does not refuse: it waits for its lease, or here for a verify.
TEST_CASE("max_staleness: a node that joins refuses no read") {
  NodeWorld world({"A", "B", "C"}, Eventual(kMaxStaleness));
  world.Form({"A", "B"});
  REQUIRE(Answer(world, "A", {"SET", "x", "old"}) == "+OK\r\n");
  world.StartJoin("C");
  while (!world.report("B").joiner_ready) {
    world.Advance(milliseconds(10));
    REQUIRE(world.now() < TimePoint(seconds(1100)));
  }
  world.Cut("C", NodeWorld::kCoordinator);
  world.Configure({"A", "B", "C"}, {"A", "B"});
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 100; ++i) {
    for (const NodeId id : {"A", "B", "C"}) {
      clients.push_back(std::make_unique<Client>(world, id));
      clients.back()->Send({"GET", "x"});
    }
    world.Advance(milliseconds(10));
  }
  REQUIRE(world.replica("C").serves());
  REQUIRE(world.replica("C").stats().verifies_sent > 0);
  for (const auto& client : clients) CHECK(client->Take() == kOld);
}

}  // namespace
}  // namespace catena::scenario
