// What the two papers claim, claim by claim.
//   CR:   van Renesse & Schneider, Chain Replication for Supporting High Throughput and
//   Availability, OSDI 2004 CRAQ: Terrace & Freedman, Object Storage on CRAQ, USENIX ATC 2009
#include <doctest/doctest.h>

#include "tests/scenario/world.h"

namespace catena::scenario {
namespace {

World ChainOf(const std::vector<NodeId>& ids, World::Options options = {}) {
  World world(ids, options);
  world.Form(ids);
  return world;
}

// --- CR section 3, the protocol ------------------------------------------------------------------

TEST_CASE("CR 3: an update is answered when the tail has it, and not earlier") {
  World world = ChainOf({"A", "B", "C"});
  auto write = world.Write("A", "x=1");
  world.Capture("A");
  CHECK(world.Deliver("A", "B"));
  CHECK(write->waiting());
  CHECK(world.Deliver("B", "C"));
  CHECK(world.replica("C").committed() == world.replica("A").received());
  CHECK(write->waiting());  // the head does not know yet
  CHECK(world.Deliver("C", "B"));
  CHECK(write->waiting());
  CHECK(world.Deliver("B", "A"));
  CHECK(write->answered());
}

TEST_CASE("CR 3: updates are pipelined; none waits for another's acknowledgement") {
  World world = ChainOf({"A", "B", "C"});
  std::vector<OpPtr> writes;
  for (const char* effect : {"x=1", "y=1", "x=2", "z=1"}) {
    writes.push_back(world.Write("A", effect));
    world.Capture("A");
  }
  CHECK(world.replica("B").received() == world.replica("C").received());
  while (world.Deliver("A", "B")) continue;
  while (world.Deliver("B", "C")) continue;
  CHECK(world.replica("C").received() == world.replica("A").received());
  world.Settle();
  for (const OpPtr& write : writes) CHECK(write->answered());
}

TEST_CASE(
    "CR 3: Update Propagation Invariant, the history of each server is a prefix of its "
    "predecessor's") {
  World world = ChainOf({"A", "B", "C", "D"}, {.append_bytes = 3});
  for (const char* effect : {"x=1", "y=22", "x=333"}) world.Write("A", effect);
  world.Capture("A", 5);
  // The world compares the histories of all neighbours after each of these.
  size_t steps = 0;
  for (bool progress = true; progress; ++steps) {
    progress = world.Capture("A", 2);
    for (const auto& [from, to] : {std::pair("A", "B"), std::pair("B", "C"), std::pair("C", "D"),
                                   std::pair("D", "C"), std::pair("C", "B"), std::pair("B", "A")}) {
      progress = world.Deliver(from, to) || progress;
    }
    CHECK(world.replica("A").received() >= world.replica("B").received());
    CHECK(world.replica("B").received() >= world.replica("C").received());
    CHECK(world.replica("C").received() >= world.replica("D").received());
  }
  CHECK(steps > 5);
  CHECK(world.replica("D").received() == world.replica("A").received());
}

TEST_CASE("CR 3: an entry is never cut, wherever the link that carried it breaks") {
  World world = ChainOf({"A", "B"}, {.append_bytes = 2});
  auto write = world.Write("A", "x=12345");
  world.Capture("A");
  for (int frames = 1; frames <= 3; ++frames) {
    for (int i = 0; i < frames; ++i) world.Deliver("A", "B");
    world.BreakLinks("A", "B");
    world.Deliver("A", "B");
    CHECK(world.replica("B").received() == Position());
    CHECK(world.replica("B").log().staged_end() == Position());
    world.Deliver("B", "A");
    while (world.replica("A").successor_linked() == false)
      REQUIRE((world.Deliver("A", "B") || world.Deliver("B", "A")));
  }
  world.Settle();
  CHECK(write->answered());
  CHECK(world["B"].database.history == "x=12345;");
}

// --- CR section 3, coping with server failures ---------------------------------------------------

TEST_CASE("CR 3, failure of the head: what had not left it is lost, and was answered to nobody") {
  World world = ChainOf({"A", "B", "C"});
  auto kept = world.Write("A", "x=1");
  world.Settle();
  auto lost = world.Write("A", "x=2");
  world.Crash("A");
  world.Configure({"B", "C"});
  world.TellAll();
  world.Settle();
  CHECK(kept->answered());
  CHECK(lost->failed());  // its outcome is unknown to its client
  CHECK(world.replica("B").head_ready());
  world.GrantAll();
  auto read = world.Read("B", 'x');
  CHECK(read->value == "1");
}

TEST_CASE(
    "CR 3, failure of the head: what its successor had is completed by the rest of the chain") {
  World world = ChainOf({"A", "B", "C"});
  world.Hold("B>C");
  auto write = world.Write("A", "x=1");
  world.Settle();
  world.Crash("A");
  world.Release("B>C");
  world.Configure({"B", "C"});
  world.TellAll();
  world.Settle();
  CHECK(write->failed());
  CHECK(world.replica("C").committed() == Position(4));
  world.GrantAll();
  CHECK(world.Read("C", 'x')->value == "1");
  auto next = world.Write("B", "x=2");
  world.Settle();
  CHECK(next->answered());
  CHECK(world["C"].database.history == "x=1;x=2;");
}

TEST_CASE("CR 3, failure of the tail: what its predecessor has is committed") {
  World world = ChainOf({"A", "B", "C"});
  world.Hold("B>C");
  auto write = world.Write("A", "x=1");
  world.Settle();
  CHECK(write->waiting());
  world.Crash("C");
  world.Configure({"A", "B"});
  world.TellAll();
  CHECK(world.replica("B").committed() == world.replica("B").received());
  world.Settle();
  CHECK(write->answered());
}

TEST_CASE(
    "CR 3, failure of another server: its predecessor sends its successor exactly what that "
    "lacks") {
  World world = ChainOf({"A", "B", "C"});
  world.Write("A", "x=1");
  world.Settle();
  // B has y and C does not; B never saw z.
  world.Hold("B>C");
  auto y = world.Write("A", "y=1");
  world.Settle();
  world.Hold("A>B");
  auto z = world.Write("A", "z=1");
  world.Settle();
  world.Crash("B");
  world.Configure({"A", "C"});
  world.TellAll();
  world.ReleaseAll();
  world.Settle();
  CHECK(y->answered());
  CHECK(z->answered());
  CHECK(world["C"].database.history == "x=1;y=1;z=1;");  // nothing twice, nothing missing
}

TEST_CASE(
    "CR 3, several failures at once: head and middle, and the next one before the first is "
    "settled") {
  World world = ChainOf({"A", "B", "C", "D"});
  world.Hold("C>D");
  auto write = world.Write("A", "x=1");
  world.Settle();
  world.Crash("A");
  world.Crash("B");
  world.Configure({"C", "D"});
  world.Tell("C");
  world.Hold("promote C");
  world.Settle();
  // Before C has taken over, D goes as well.
  world.Crash("D");
  world.Configure({"C"});
  world.Tell("C");
  world.ReleaseAll();
  world.Settle();
  CHECK(world.replica("C").head_ready());
  CHECK(world["C"].database.history == "x=1;");
  CHECK(world.Read("C", 'x')->value == "1");
  CHECK(write->failed());
}

TEST_CASE("CR 3, extending a chain: updates go on while the new tail is brought up to date") {
  World world({"A", "B", "N"});
  world.Form({"A", "B"});
  auto before = world.Write("A", "x=1");
  world.Settle();
  world.StartJoin("N");
  // Between every two messages of the join there is an update.
  for (int i = 0; i < 10; ++i) {
    auto write = world.Write("A", "y=" + std::to_string(i));
    world.Hold("B>N");
    world.Hold("N>B");
    world.Settle();
    CHECK(write->answered());
    world.ReleaseAll();
    world.Deliver("B", "N");
    world.Deliver("N", "B");
  }
  world.Settle();
  CHECK(world["B"].source.Ready(world.replica("B").log()));
  CHECK_FALSE(world.replica("N").serves());
  world.Configure({"A", "B", "N"});
  // T+ commits nothing by itself from the new epoch on.
  world.Hold("B>N");
  world.TellAll();
  auto during = world.Write("A", "z=1");
  world.Settle();
  CHECK(during->waiting());
  CHECK(world.replica("B").committed() < world.replica("B").received());
  world.ReleaseAll();
  world.Settle();
  CHECK(during->answered());
  CHECK(world.replica("N").serves());
  CHECK(world["N"].database.history == world["A"].database.history);
}

TEST_CASE("CR 3, extending a chain: the tail fails while it brings up the next one") {
  World world({"A", "B", "N"});
  world.Form({"A", "B"});
  world.Write("A", "x=1");
  world.Settle();
  world.StartJoin("N");
  world.Settle();
  world.Write("A", "x=2");
  world.Capture("A");
  world.Crash("B");
  world.Configure({"A"});
  world.TellAll();
  world.Settle();
  CHECK_FALSE(world.replica("N").is_member());
  // The next tail goes on where the former one stopped.
  world.Join("N");
  CHECK(world["N"].database.history == "x=1;x=2;");
}

// --- CRAQ section 2.3 ----------------------------------------------------------------------------

TEST_CASE("CRAQ 2.3: a clean object is read at any node, without a message") {
  World world = ChainOf({"A", "B", "C"});
  world.Write("A", "x=1");
  world.Settle();
  for (const char* node : {"A", "B", "C"}) {
    CAPTURE(node);
    auto read = world.Read(node, 'x');
    CHECK(read->value == "1");
    CHECK(read->answered());
  }
  CHECK(world.replica("B").stats().queries_sent == 0);
}

TEST_CASE(
    "CRAQ 2.3: a dirty object is asked for at the tail; before it commits the old version is the "
    "answer") {
  World world = ChainOf({"A", "B", "C"});
  world.Write("A", "x=1");
  world.Settle();
  world.Write("A", "x=2");
  world.Capture("A");
  world.Deliver("A", "B");
  auto read = world.Read("B", 'x');
  CHECK(read->waiting());
  CHECK(world.replica("B").stats().queries_sent == 1);
  // The question overtakes nothing: log and question share the link, so C has x=2 when it answers.
  // Let C be asked before: the question of an earlier dirty read is still under way.
  world.Settle();
  CHECK(read->value == "2");
  // Now the other order: the update reaches B while its question for an older dirty version is on
  // its way back.
  world.Write("A", "x=3");
  world.Capture("A");
  world.Deliver("A", "B");
  auto third = world.Read("B", 'x');
  while (world.Deliver("B", "C")) continue;
  world.Write("A", "x=4");
  world.Capture("A");
  world.Deliver("A", "B");
  world.Hold("B>C");
  world.Settle();
  CHECK(third->value == "3");  // x=4 is at B, dirty; the tail named x=3
  CHECK(world.replica("B").committed() < world.replica("B").received());
}

TEST_CASE(
    "CRAQ 2.3: one query in flight serves every read that came before it was sent; later ones "
    "share the next") {
  World world = ChainOf({"A", "B", "C"});
  world.Write("A", "x=1");
  world.Write("A", "y=1");
  world.Capture("A");
  world.Deliver("A", "B");
  world.Hold("B>C");
  std::vector<OpPtr> reads;
  for (int i = 0; i < 50; ++i) reads.push_back(world.Read("B", i % 2 == 0 ? 'x' : 'y'));
  CHECK(world.replica("B").stats().queries_sent == 1);
  world.ReleaseAll();
  world.Settle();
  for (const OpPtr& read : reads) CHECK(read->value == "1");
  // One that may have been answered before the later readers came, and one for all of these.
  CHECK(world.replica("B").stats().queries_sent == 2);
}

// Guards: replica.cc RequestQuery (a question in flight may have been answered before this reader
// came).
TEST_CASE("CRAQ 2.3: a read does not take an answer that the tail gave before it arrived") {
  World world = ChainOf({"A", "B", "C"});
  world.Hold("send B");
  world.Hold("C>B");
  world.Write("A", "x=1");
  world.Settle();
  auto before = world.Read("B", 'x');
  world.Settle();  // C answers: nothing of x is committed
  world.Release("send B");
  world.Settle();
  auto shown = world.Read("C", 'x');
  REQUIRE(shown->value == "1");
  auto after = world.Read("B", 'x');
  REQUIRE(world.Deliver("C", "B"));
  CHECK(before->answered());
  CHECK(before->value.empty());
  CHECK(after->waiting());
  world.ReleaseAll();
  world.Settle();
  CHECK(after->value == "1");
}

// Guards: replica.cc RequestVerify.
TEST_CASE("CRAQ 2.4, strong: a read does not take a verify that began before it arrived") {
  World world = ChainOf({"A", "B", "C"});
  world.Write("A", "x=1");
  world.Settle();
  world.ExpireLeases();
  world.Hold("C>B");
  auto before = world.Read("B", 'x');
  world.Settle();
  REQUIRE(before->waiting());
  // B is removed and does not hear of it; the others go on.
  world.Hold("A>B");
  world.Configure({"A", "C"});
  world.Tell("A");
  world.Tell("C");
  world.Settle();
  auto newer = world.Write("A", "x=2");
  world.Settle();
  REQUIRE(newer->answered());
  auto after = world.Read("B", 'x');
  REQUIRE(world.Deliver("C", "B"));
  CHECK(before->value == "1");
  CHECK(after->waiting());
  world.ReleaseAll();
  world.Settle();
  CHECK_FALSE(after->answered());
}

TEST_CASE(
    "CRAQ 2.3: an acknowledgement makes the version clean, and the older ones are forgotten") {
  World world = ChainOf({"A", "B", "C"});
  for (const char* effect : {"x=1", "x=2", "y=1"}) world.Write("A", effect);
  world.Settle();
  CHECK(world.replica("B").log().versions() == 0);
  CHECK(world.replica("B").log().forgotten() == world.replica("B").received());
  CHECK(world.Read("B", 'x')->value == "2");
  // At a node whose database is behind, committed versions are kept until it has them.
  world.Hold("apply B");
  world.Write("A", "x=3");
  world.Settle();
  CHECK(world.replica("B").log().versions() == 1);
  auto read = world.Read("B", 'x');
  CHECK(read->waiting());
  CHECK(world.Read("B", 'y')->answered());
  world.ReleaseAll();
  world.Settle();
  CHECK(read->value == "3");
}

TEST_CASE("CRAQ 2.3: reads never go backwards from node to node") {
  World world = ChainOf({"A", "B", "C"});
  world.Write("A", "x=1");
  world.Settle();
  world.Hold("C>B");
  world.Hold("apply B");
  world.Write("A", "x=2");
  world.Settle();
  CHECK(world.Read("C", 'x')->value == "2");
  // B does not know yet that x=2 is committed, and has not applied it; it must not answer 1 any
  // more.
  auto read = world.Read("B", 'x');
  world.Settle();
  CHECK(read->waiting());
  world.Release("C>B");
  world.Settle();
  CHECK(read->waiting());
  world.ReleaseAll();
  world.Settle();
  CHECK(read->value == "2");
}

TEST_CASE("CRAQ 2.3: an effect that touches every key makes every object dirty") {
  World world = ChainOf({"A", "B", "C"});
  world.Write("A", "x=1");
  world.Settle();
  world.Execute("A", "*=flushed");
  world.Capture("A");
  world.Deliver("A", "B");
  auto read = world.Read("B", 'x');
  CHECK(read->waiting());
  world.Settle();
  CHECK(read->value == "flushed");
}

// --- CRAQ section 2.4, consistency models --------------------------------------------------------

TEST_CASE(
    "CRAQ 2.4, strong: without a lease nobody answers from memory; a verify through the whole "
    "chain is as good") {
  World world = ChainOf({"A", "B", "C"});
  world.Write("A", "x=1");
  world.Settle();
  world.ExpireLeases();
  for (const char* node : {"A", "B", "C"}) {
    CAPTURE(node);
    auto read = world.Read(node, 'x');
    CHECK(read->waiting());
    world.Settle();
    CHECK(read->value == "1");
  }
  // Writes need no lease at all.
  auto write = world.Write("A", "x=2");
  world.Settle();
  CHECK(write->answered());
}

TEST_CASE("CRAQ 2.4, strong: a verify is batched like a query") {
  World world = ChainOf({"A", "B", "C"});
  world.ExpireLeases();
  world.Hold("B>A");
  std::vector<OpPtr> reads;
  for (int i = 0; i < 50; ++i) reads.push_back(world.Read("B", 'x'));
  CHECK(world.replica("B").stats().verifies_sent == 1);
  world.ReleaseAll();
  world.Settle();
  for (const OpPtr& read : reads) CHECK(read->answered());
  CHECK(world.replica("B").stats().verifies_sent == 2);
}

TEST_CASE(
    "CRAQ 2.4, eventual: whatever a follower's database shows is committed and only ever grows") {
  World world = ChainOf({"A", "B", "C"});
  std::string shown;
  for (int i = 0; i < 20; ++i) {
    world.Write("A", "x=" + std::to_string(i));
    world.Capture("A");
    world.Deliver("A", "B");
    if (i % 2 == 0) world.Deliver("B", "C");
    if (i % 3 == 0) world.Deliver("C", "B");
    world.Apply("B");
    const std::string& now = world["B"].database.history;
    CHECK(now.starts_with(shown));
    CHECK(world.truth().starts_with(now));
    shown = now;
  }
  CHECK(shown.size() > 0);
}

// --- CRAQ section 2.5 and 5.3, failure recovery --------------------------------------------------

TEST_CASE("CRAQ 2.5: a node that joins serves nothing before it holds what its predecessor held") {
  World world({"A", "B", "N"});
  world.Form({"A", "B"});
  world.Write("A", "x=1");
  world.Settle();
  world.StartJoin("N");
  world.Settle();
  world.Hold("B>N");
  world.Write("A", "x=2");
  world.Settle();
  world.Configure({"A", "B", "N"});
  world.TellAll();
  world.GrantAll();
  world.Settle();
  CHECK(world.Read("N", 'x')->failed());
  world.ReleaseAll();
  world.Settle();
  world.Grant("N");
  CHECK(world.Read("N", 'x')->value == "2");
}

TEST_CASE(
    "CRAQ 2.5: a returning node goes on from its own position when the log reaches back to it") {
  World world = ChainOf({"A", "B", "C"});
  world.Write("A", "x=1");
  world.Settle();
  world.Crash("C");
  world.Configure({"A", "B"});
  world.TellAll();
  world.Settle();
  world.Write("A", "x=2");
  world.Settle();
  world.Start("C");
  world.StartJoin("C");
  world.Settle();
  CHECK(world["C"].joining.loaded);
  CHECK(world.replica("C").log().start() == Position(4));  // no snapshot, which would begin later
  CHECK(world["C"].database.history == "x=1;x=2;");
}

TEST_CASE(
    "CRAQ 5.3: a successor that the log no longer reaches resigns rather than holding up commits") {
  World world({"A", "B"}, {.backlog_bytes = 0});
  world.Form({"A", "B"});
  // Enough for whole blocks of the log to go.
  std::string large(300'000, 'v');
  world.Write("A", "x=" + large);
  world.Settle();
  world.Write("A", "y=" + large);
  world.Settle();
  REQUIRE(world.replica("A").log().start() > Position());
  world.BreakLinks("A", "B");
  world.Deliver("B", "A");
  world.replica("A").Step(world["A"].successor.link,
                          chain::Welcome{Position(5), world.replica("A").replid()}, world.now());
  world.Turn("A");
  CHECK_FALSE(world.replica("A").successor_linked());
  world.replica("B").Step(world["B"].predecessor_link, chain::CannotCatchUp{"the log begins later"},
                          world.now());
  world.Turn("B");
  CHECK_FALSE(world["B"].resigned_because.empty());
}

}  // namespace
}  // namespace catena::scenario
