// What a replica and a join owe in corners that neither paper nor schedule names.
#include "proxy/chain/replica.h"

#include <doctest/doctest.h>

#include "tests/scenario/world.h"

namespace catena::scenario {
namespace {

bool Contains(const std::vector<chain::LinkId>& links, chain::LinkId link) {
  return std::find(links.begin(), links.end(), link) != links.end();
}

TEST_CASE("a connection that was made for a passed configuration is closed") {
  World world({"A", "B"});
  world.Form({"A", "B"});
  chain::Replica& head = world.replica("A");
  world.Crash("B");
  world.Configure({"A"});
  world.Tell("A");
  head.OnSuccessorConnected(777);
  CHECK(Contains(head.TakeOutput().close, 777));
  // ... or by a member that has resigned meanwhile.
  World other({"A", "B"});
  other.Form({"A", "B"});
  other.replica("A").Resign();
  other.replica("A").OnSuccessorConnected(777);
  CHECK(Contains(other.replica("A").TakeOutput().close, 777));
}

TEST_CASE("the log keeps what an unsynced successor lacks, though all of it is committed") {
  World world({"A", "B", "N"}, {.backlog_bytes = 0});
  world.Form({"A", "B"});
  world.StartJoin("N");
  world.Settle();
  world.Hold("apply B");
  world.Hold("B>N");
  std::string large(300'000, 'v');
  for (const char* key : {"x=", "y="}) world.Write("A", key + large);
  world.Settle();
  REQUIRE(world.replica("B").committed() == Position(600'006));
  // B and N meet while B's socket is full; then B's database catches up and the log may be trimmed.
  world.Configure({"A", "B", "N"});
  world.TellAll();
  world.Hold("send B");
  world.Release("B>N");
  world.Settle();
  REQUIRE(world.replica("B").successor_linked());
  world.Release("apply B");
  world.Settle();
  REQUIRE(world.replica("B").settled() == Position(600'006));
  CHECK(world.replica("B").log().start() == Position());
  world.Release("send B");
  world.Settle();
  CHECK(world.replica("N").serves());
  CHECK(world["N"].database.history == world["A"].database.history);
  // What N has is kept for nobody.
  world.Write("A", "z=" + large);
  world.Settle();
  CHECK(world.replica("B").log().start() > Position());
}

TEST_CASE(
    "a tail that stays the tail keeps the log of its joiner; one that becomes it again lets go") {
  World world({"A", "B", "N"}, {.backlog_bytes = 0});
  world.Form({"A", "B"});
  world.StartJoin("N");
  world.Settle();
  world.Hold("send B");
  world.Hold("apply B");
  std::string large(300'000, 'v');
  world.Write("A", "x=" + large);
  world.Settle();
  world.Crash("A");
  world.Configure({"B"});
  // Its database reports in the very turn in which it hears of the new epoch.
  world["B"].database.history = world["B"].log;
  world.replica("B").Install(world.newest());
  world.replica("B").OnApplied(world.replica("B").committed());
  CHECK(world.replica("B").log().start() == Position());
  world.ReleaseAll();
  world.Settle();
  CHECK(world["N"].database.history == world["B"].database.history);
  REQUIRE(world.replica("B").head_ready());
  // N is listed, dies before they meet, and is removed again.
  world.Crash("N");
  world.Configure({"B", "N"});
  world.Tell("B");
  world.Settle();
  world.Configure({"B"});
  world.Tell("B");
  for (const char* key : {"x=", "y="}) world.Write("B", key + large);
  world.Settle();
  CHECK(world.replica("B").log().start() > Position(600'000));
}

TEST_CASE(
    "a joiner that is listed while its database loads has applied nothing and answers nothing") {
  World world({"A", "N"});
  world.Form({"A"});
  auto x = world.Write("A", "x=1");
  world.Settle();
  REQUIRE(x->answered());
  world["N"].database.history = "x=old;";
  world.Hold("load N");
  world.StartJoin("N");
  world.Settle();
  CHECK_FALSE(world["A"].source.Ready(world.replica("A").log()));
  world.Configure({"A", "N"});
  world.TellAll();
  world.GrantAll();
  world.Settle();
  CHECK(world.replica("N").applied() == Position());
  CHECK(world.replica("N").settled() == Position());
  CHECK_FALSE(world.Read("N", 'x')->answered());
}

TEST_CASE("a joiner whose snapshot is ahead of what the tail has captured is not ready") {
  World world({"A", "N"});
  world.Form({"A"});
  world.Hold("capture A");
  world.Execute("A", "x=1");
  world.StartJoin("N");
  world.Settle();
  REQUIRE(world.replica("N").received() > world.replica("A").received());
  CHECK_FALSE(world["A"].source.Ready(world.replica("A").log()));
  world.ReleaseAll();
  world.Settle();
  CHECK(world["A"].source.Ready(world.replica("A").log()));
}

TEST_CASE("what a life meant to do is not done in the name of the next") {
  World world({"A", "B", "C"});
  world.Form({"A", "B", "C"});
  world.Hold("apply B");
  world.Write("A", "x=1");
  world.Settle();
  world.Crash("A");
  world.Configure({"B", "C"});
  chain::Replica& replica = world.replica("B");
  CHECK(replica.Install(world.newest()) == chain::Replica::Installed::kMember);
  replica.OnApplied(replica.committed());
  // The promotion is due, and in the same turn B learns that it was removed.
  SUBCASE("a new life") {}
  SUBCASE("removed") {
    world.Configure({"C"});
    CHECK(replica.Install(world.newest()) == chain::Replica::Installed::kRemoved);
  }
  SUBCASE("resigned") { replica.Resign(); }
  replica.BeginLife(replica.incarnation().Next());
  chain::Output output = replica.TakeOutput();
  CHECK_FALSE(output.promote_at.has_value());
  CHECK_FALSE(output.resign.has_value());
  CHECK_FALSE(output.ask_target_bound);
  CHECK(output.messages.empty());
}

TEST_CASE("a resigned member says nothing and commits nothing more") {
  World world({"A", "B", "C"});
  world.Form({"A", "B", "C"});
  world.Hold("C>B");
  auto write = world.Write("A", "x=1");
  world.Settle();
  Position committed = world.replica("B").committed();
  world.Resign("B", "told to");
  CHECK_FALSE(world.replica("B").HasAuthority(world.now()));
  world.Grant("B");
  CHECK_FALSE(world.replica("B").HasAuthority(world.now()));
  world.ReleaseAll();
  world.KeepAlive("B");
  world.Settle();
  CHECK(world.replica("B").committed() == committed);
  CHECK(world.replica("B").Successor() == nullptr);
  CHECK(write->waiting());
  world.Configure({"A", "C"});
  world.TellAll();
  world.Settle();
  CHECK(write->answered());
}

TEST_CASE("an Append that does not continue the log exactly ends the link, and what it brought") {
  World world({"A", "B"});
  world.Form({"A", "B"});
  world.Write("A", "x=1");
  world.Settle();
  chain::Replica& follower = world.replica("B");
  chain::LinkId link = world["B"].predecessor_link;
  SUBCASE("a gap") { CHECK_FALSE(follower.AcceptsAppend(link, follower.received() + 1)); }
  SUBCASE("once more") { CHECK_FALSE(follower.AcceptsAppend(link, Position())); }
  CHECK_FALSE(follower.predecessor_linked());
  CHECK(Contains(follower.TakeOutput().close, link));
}

TEST_CASE("an Append on a link of the past changes nothing and harms no other link") {
  World world({"A", "B"});
  world.Form({"A", "B"});
  chain::Replica& follower = world.replica("B");
  CHECK_FALSE(follower.AcceptsAppend(12345, follower.received()));
  CHECK_FALSE(follower.AcceptsAppend(chain::kNoLink, follower.received()));
  CHECK(follower.predecessor_linked());
}

TEST_CASE(
    "a newer hello of the predecessor replaces its link; the older one's bytes count nothing") {
  World world({"A", "B"});
  world.Form({"A", "B"});
  chain::Replica& follower = world.replica("B");
  chain::LinkId old_link = world["B"].predecessor_link;
  const chain::Configuration& now = world.newest();
  REQUIRE(follower.OnHello(888, {now, "A", now.members[0].incarnation, "B",
                                 now.members[1].incarnation, chain::LinkPurpose::kChain, ""}));
  CHECK(Contains(follower.TakeOutput().close, old_link));
  CHECK_FALSE(follower.AcceptsAppend(old_link, follower.received()));
  CHECK_FALSE(follower.AcceptsAppend(888, follower.received()));  // not before Start
}

TEST_CASE("a database that is ahead of what is committed is never served from") {
  World world({"A", "B"});
  world.Form({"A", "B"});
  chain::Replica& follower = world.replica("B");
  follower.OnApplied(follower.committed() + 1);
  CHECK(follower.TakeOutput().resign.has_value());
}

TEST_CASE("an older configuration, one of another chain and the same one again are ignored") {
  World world({"A", "B"});
  world.Form({"A", "B"});
  chain::Replica& replica = world.replica("B");
  chain::Configuration changed = world.newest();
  changed.members.pop_back();
  CHECK(replica.Install(changed) == chain::Replica::Installed::kIgnored);
  changed.epoch = Epoch(changed.epoch.value() - 1);
  CHECK(replica.Install(changed) == chain::Replica::Installed::kIgnored);
  changed.epoch = Epoch(changed.epoch.value() + 5);
  changed.chain = "another";
  CHECK(replica.Install(changed) == chain::Replica::Installed::kIgnored);
  CHECK(replica.serves());
}

TEST_CASE("a keep-alive acknowledges again and is no gap in the log") {
  World world({"A", "B", "C"});
  world.Form({"A", "B", "C"});
  world.Write("A", "x=1");
  for (int i = 0; i < 3; ++i) {
    for (const char* id : {"C", "A", "B"}) world.KeepAlive(id);
    world.Capture("A", 2);
    world.Deliver("A", "B");
  }
  world.Settle();
  CHECK(world.replica("B").predecessor_linked());
  CHECK(world.replica("C").committed() == Position(4));
}

// --- acks the short way (design.md 3) ------------------------------------------------------------

World::Options ShortAcks() {
  World::Options options;
  options.short_acks = true;
  return options;
}

TEST_CASE("the tail acknowledges to the head itself, and the head tells those between") {
  World world({"A", "B", "C", "D"}, ShortAcks());
  world.Form({"A", "B", "C", "D"});
  for (const char* way : {"B>A", "C>B", "D>C"}) world.Hold(way);
  auto write = world.Write("A", "w=1");
  world.Settle();
  CHECK(write->answered());
  for (const char* id : {"A", "B", "C", "D"}) {
    CAPTURE(id);
    CHECK(world.replica(id).committed() == world.replica("A").received());
  }
}

TEST_CASE("without a short way acks travel the chain") {
  World world({"A", "B", "C"}, ShortAcks());
  world.Form({"A", "B", "C"});
  world.Cut("A", "C");
  auto write = world.Write("A", "w=1");
  world.Settle();
  CHECK(write->answered());
  CHECK(world.replica("B").committed() == world.replica("A").received());
}

// A link that swallows everything is known to be broken after a lease only.
TEST_CASE("a short way that falls silent holds commits up for a heartbeat at most") {
  World world({"A", "B", "C"}, ShortAcks());
  world.Form({"A", "B", "C"});
  world.Hold("C>A");
  auto write = world.Write("A", "w=1");
  world.Settle();
  REQUIRE(write->waiting());
  world.KeepAlive("C");
  world.Settle();
  CHECK(write->answered());
}

// Guards: replica.cc CloseLinks, StepFromTail. S3 for this link.
TEST_CASE("an ack the short way belongs to its epoch, and never goes beyond the log") {
  World world({"A", "B", "C"}, ShortAcks());
  world.Form({"A", "B", "C"});
  for (const char* way : {"C>A", "B>A"}) world.Hold(way);
  auto write = world.Write("A", "w=1");
  world.Settle();
  REQUIRE(write->waiting());
  chain::Replica& head = world.replica("A");
  chain::LinkId link = world["A"].acknowledging_tail.link;
  Position before = head.committed();
  head.Step(link, chain::Ack{head.received() + 1}, world.now());
  CHECK(head.committed() == before);
  CHECK(Contains(head.TakeOutput().close, link));
  head.Step(link, chain::Ack{head.received()}, world.now());
  CHECK(head.committed() == before);
  // The same with a link that its epoch's end has closed.
  world.Turn("A");
  link = world["A"].acknowledging_tail.link;
  world.Configure({"A", "B"});
  world.Tell("A");
  head.Step(link, chain::Ack{head.received()}, world.now());
  CHECK(head.committed() == before);
}

TEST_CASE("only the head of the epoch gets acks the short way, and only from its tail") {
  World world({"A", "B", "C"});
  world.Form({"A", "B", "C"});
  const chain::Configuration& now = world.newest();
  auto hello = [&](size_t from, size_t to) {
    return chain::Hello{now,
                        now.members[from].id,
                        now.members[from].incarnation,
                        now.members[to].id,
                        now.members[to].incarnation,
                        chain::LinkPurpose::kAcks,
                        ""};
  };
  CHECK_FALSE(world.replica("B").OnHello(901, hello(0, 1)));
  CHECK_FALSE(world.replica("C").OnHello(902, hello(1, 2)));
  chain::Hello earlier = hello(0, 2);
  earlier.configuration.epoch = Epoch(earlier.configuration.epoch.value() - 1);
  CHECK_FALSE(world.replica("C").OnHello(903, earlier));
  CHECK(world.replica("C").OnHello(904, hello(0, 2)));
  // Two need none.
  World pair({"A", "B"});
  pair.Form({"A", "B"});
  CHECK(pair.replica("A").AcknowledgingTail() == nullptr);
}

TEST_CASE("a question of somebody who is no member ends the link: what is kept is bounded") {
  World world({"A", "B", "C"});
  world.Form({"A", "B", "C"});
  chain::Replica& middle = world.replica("B");
  chain::LinkId link = world["B"].predecessor_link;
  middle.Step(link, chain::Ask{true, "C", 1}, world.now());
  CHECK(middle.predecessor_linked());
  SUBCASE("a question") { middle.Step(link, chain::Ask{false, "nobody", 1}, world.now()); }
  SUBCASE("an answer") { middle.Step(link, chain::Answer{true, "", 1, Position()}, world.now()); }
  CHECK_FALSE(middle.predecessor_linked());
  CHECK(Contains(middle.TakeOutput().close, link));
}

TEST_CASE("an answer to what was not asked settles nothing") {
  World world({"A", "B", "C"});
  world.Form({"A", "B", "C"});
  world.Hold("B>C");
  chain::Replica& middle = world.replica("B");
  const uint64_t asked = middle.RequestQuery();
  world.Settle();
  const chain::LinkId link = world["B"].successor.link;
  middle.Step(link, chain::Answer{false, "B", UINT64_MAX, middle.committed()}, world.now());
  CHECK(middle.successor_linked());
  CHECK(middle.settled_query() < asked);
  middle.Step(link, chain::Answer{false, "B", asked, middle.committed()}, world.now());
  CHECK(middle.settled_query() == asked);
  CHECK(middle.RequestQuery() == asked + 1);
}

}  // namespace
}  // namespace catena::scenario
