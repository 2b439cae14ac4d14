// The schedules that break a careless chain, each with the rule that closes it
// (proxy/chain/README.md lists them all). Every case here was seen to fail with its rule taken out;
// the comment "Guards" names the place.
#include <doctest/doctest.h>

#include "tests/scenario/world.h"

namespace catena::scenario {
namespace {

std::vector<NodeId> Members(const World& world) {
  std::vector<NodeId> ids;
  for (const chain::Member& member : world.newest().members) ids.push_back(member.id);
  return ids;
}

bool LinkBetween(const World& world, const NodeId& a, const NodeId& b) {
  for (const auto& [id, link] : world.links()) {
    bool same =
        (link.dialler == a && link.acceptor == b) || (link.dialler == b && link.acceptor == a);
    if (same && link.dialler_open && link.acceptor_open) return true;
  }
  return false;
}

// Heartbeats of everybody until the chain is these nodes, all synced and quiet.
void BeatUntil(World& world, const std::vector<NodeId>& ids) {
  for (int round = 0; round < 20; ++round) {
    world.BeatAll();
    world.Settle();
    world.Advance(kBeat);
    bool synced = Members(world) == ids;
    for (const NodeId& id : ids)
      synced =
          synced && world.replica(id).serves() && world.replica(id).epoch() == world.newest().epoch;
    if (synced) return;
  }
  world.Fail("the coordinator does not form the chain: " + world.waiting_for());
}

// Guards: coordinator/policy.cc IsSyncedMember (the one that stays reported synced).
TEST_CASE("S1 unsynced sole member") {
  World::Options options;
  options.replicas = 2;
  World world({"A", "N"}, options);
  world.StartCoordinator();
  for (int i = 0; Members(world) != std::vector<NodeId>{"A"}; ++i) {
    REQUIRE(i < 20);
    world.BeatAll();
    world.Advance(kBeat);
  }
  world.Settle();
  // N loads A's snapshot and is listed; A does not hear of it.
  for (int i = 0; Members(world).size() == 1; ++i) {
    REQUIRE(i < 20);
    world.Advance(kBeat);
    world.Beat("N");
    world.Settle();
    world.Beat("A", /*answer_lost=*/Members(world).size() == 1 &&
                        world["A"].source.Ready(world.replica("A").log()));
    if (Members(world).size() == 1) world.Settle();
  }
  world["A"].cut_off = true;
  world.Cut("A", "N");
  REQUIRE(world.replica("A").role() == chain::Role::kSole);
  auto w = world.Write("A", "w=1");
  world.Settle();
  CHECK(w->answered());  // a chain of one needs nobody
  for (int i = 0; i < 20; ++i) {
    world.Advance(kBeat);
    world.Beat("N");
    world.Settle();
  }
  CHECK(Members(world) == std::vector<NodeId>{"A", "N"});
  CHECK_FALSE(world.replica("N").serves());
  // Once A is back, N gets w and everything goes on.
  world.HealAll();
  BeatUntil(world, {"A", "N"});
  CHECK(world["N"].database.Get('w').second == "1");
}

// Guards: replica.cc TakeRole and MaybePromote.
TEST_CASE("S1 an unsynced member is never promoted, whoever lists it") {
  for (bool alone : {true, false}) {
    World world({"A", "N", "D"});
    world.Form({"A"});
    world.StartJoin("D");
    world.Settle();
    world.StartJoin("N");
    world.Settle();
    world.Cut("A", "N");
    world.Configure({"A", "N"});
    world.Tell("N");
    world.Configure(alone ? std::vector<NodeId>{"N"} : std::vector<NodeId>{"N", "D"});
    world.Tell("N");
    CHECK_FALSE(world["N"].promote_at.has_value());
    CHECK_FALSE(world["N"].resigned_because.empty());
    CHECK_FALSE(world.replica("N").serves());
  }
}

// Guards: replica.cc TellTarget (the branch for an unsynced predecessor).
TEST_CASE("S2 synced through an unsynced predecessor") {
  World world({"A", "B", "N", "D"});
  world.Form({"A", "B"});
  world.StartJoin("D");
  world.Settle();
  world.StartJoin("N");
  world.Settle();
  world.Hold("B>N");
  auto w = world.Write("A", "w=1");
  world.Settle();
  REQUIRE(w->answered());
  world.Configure({"A", "B", "N"});
  world.Tell("N");
  world.Configure({"A", "B", "N", "D"});
  world.TellAll();
  world.Settle();
  // D has met N and caught up with all that N has.
  REQUIRE(world.replica("N").successor_linked());
  REQUIRE(world.replica("D").received() == world.replica("N").received());
  CHECK_FALSE(world.replica("D").serves());
  world.Release("B>N");
  world.Settle();
  CHECK(world.replica("N").serves());
  CHECK(world.replica("D").serves());
  CHECK(world["D"].database.Get('w').second == "1");
}

// Guards: replica.cc Install (a member that is no longer listed was removed). The world fails when
// any record lists a removed incarnation again; policy_test and registry_test hold the
// coordinator's side.
TEST_CASE("S3 back in the same incarnation") {
  World::Options options;
  options.replicas = 2;
  World world({"A", "N"}, options);
  world.StartCoordinator();
  BeatUntil(world, {"A", "N"});
  Incarnation before = world.replica("N").incarnation();
  world.Pause("N");
  for (int i = 0; Members(world).size() == 2; ++i) {
    REQUIRE(i < 20);
    world.Advance(kBeat);
    world.Beat("A");
    world.Settle();
  }
  auto w = world.Write("A", "w=1");
  world.Settle();
  CHECK(w->answered());
  world.Resume("N");
  CHECK(world.replica("N").synced());  // it has not heard of anything
  CHECK(world.Read("N", 'w')->waiting());
  world.Tell("N");
  CHECK(world.replica("N").incarnation() > before);
  BeatUntil(world, {"A", "N"});
  CHECK(world.replica("N").incarnation() > before);
  CHECK(world["N"].database.Get('w').second == "1");
}

// Guards: replica.cc Install (a removed incarnation has resigned for good).
TEST_CASE("S3 a removed life does not act again, whatever it is told") {
  World world({"A", "N"});
  world.Form({"A", "N"});
  chain::Replica& replica = world.replica("N");
  chain::Configuration removed = world.newest();
  removed.epoch = removed.epoch.Next();
  chain::Member old_self = removed.members.back();
  removed.members.pop_back();
  CHECK(replica.Install(removed) == chain::Replica::Installed::kRemoved);
  chain::Configuration again = removed;
  again.epoch = again.epoch.Next();
  again.members.push_back(old_self);
  replica.Install(again);
  replica.GrantLease(world.now(), kLease);
  CHECK_FALSE(replica.serves());
  CHECK_FALSE(replica.HasAuthority(world.now()));
  CHECK_FALSE(replica.OnHello(
      99, chain::Hello{again, "A", again.members[0].incarnation, "N", old_self.incarnation,
                       chain::LinkPurpose::kChain, replica.replid()}));
}

// Guards: replica.cc LeaveEpoch (links end with their epoch) and Step (messages of other links
// count nothing).
TEST_CASE("S3 an ack belongs to its epoch and its link") {
  World world({"A", "N"});
  world.Form({"A", "N"});
  world.Hold("A>N");
  auto w = world.Write("A", "w=1");
  world.Settle();
  REQUIRE(w->waiting());
  // A is deposed; N, in its own epoch, commits another history up to the same position.
  world.ExpireLeases();
  world.Configure({"N"});
  world.Tell("N");
  world.Settle();
  auto y = world.Write("N", "y=1");
  world.Settle();
  REQUIRE(y->answered());
  REQUIRE(world.replica("N").committed() == world.replica("A").received());
  world.Release("A>N");
  world.Settle();
  CHECK_FALSE(w->answered());
  world.Tell("A");
  CHECK(w->failed());
}

// Guards: replica.cc StepFromSuccessor (an ack of more than was sent).
TEST_CASE("S3 an ack of what was never sent ends the link") {
  World world({"A", "N"});
  world.Form({"A", "N"});
  world.Hold("A>N");
  world.Hold("capture A");
  auto w = world.Write("A", "w=1");
  chain::Replica& head = world.replica("A");
  head.Step(world["A"].successor.link, chain::Ack{head.received() + 4}, world.now());
  CHECK_FALSE(head.successor_linked());
  world.Release("capture A");
  world.Settle();
  CHECK(w->waiting());
}

// Guards: replica.cc BeginLife (the log is dropped), world OnJoinHello as node_join.cc (the offer
// is the database's).
TEST_CASE("S4 a rejoiner's uncommitted tail") {
  World world({"A", "B", "C"});
  world.Form({"A", "B", "C"});
  world.Hold("B>C");
  auto u = world.Write("A", "u=1");
  world.Settle();
  REQUIRE(world.replica("B").received() > world.replica("B").committed());
  world.Crash("A");
  world.Configure({"C"});
  world.Tell("B");
  CHECK(world.replica("B").received() == Position());
  CHECK(world.replica("B").replid().empty());
  world.Release("B>C");
  world.Tell("C");
  world.Settle();
  auto y = world.Write("C", "y=1");
  world.Settle();
  REQUIRE(y->answered());
  REQUIRE(world["C"].database.history.size() == world["A"].database.history.size());
  world.Join("B");
  CHECK(world["B"].database.history == world["C"].database.history);
  CHECK(u->failed());
}

// Guards: replica.cc MaybePromote (committed == the log's end, applied == committed) and the feed,
// which ends at committed.
TEST_CASE("S5 promotion under the chain's replid") {
  World world({"A", "B", "C"});
  world.Form({"A", "B", "C"});
  // u at A and B only; A dies.
  world.Hold("B>C");
  auto u = world.Write("A", "u=1");
  world.Settle();
  Position with_u = world.replica("B").received();
  REQUIRE(with_u > world.replica("C").received());
  world.Crash("A");
  world.Configure({"B", "C"});
  world.Tell("B");
  world.Tell("C");
  world.Hold("promote B");
  world.Settle();
  // B is the head, links to C, and has not committed u: its database knows nothing of it and is not
  // to be promoted.
  REQUIRE(world.replica("B").is_head());
  CHECK_FALSE(world["B"].promote_at.has_value());
  CHECK(world["B"].database.position() < with_u);
  // Its proxy dies before it was promoted. C alone writes at u's position.
  world.Crash("B");
  world.Release("B>C");
  world.Configure({"C"});
  world.Tell("C");
  world.Settle();
  auto y = world.Write("C", "y=1");
  world.Settle();
  REQUIRE(y->answered());
  REQUIRE(world.replica("C").committed() == with_u);
  // B' resumes where its database is.
  world.Start("B");
  world.Join("B");
  CHECK(world["B"].database.history == world["C"].database.history);
  CHECK(u->failed());
}

// The other way round: u was at A and B, and B lives to see it committed before it takes over.
TEST_CASE("S5 a new head first commits its log down the chain, then applies it, then promotes") {
  World world({"A", "B", "C"});
  world.Form({"A", "B", "C"});
  world.Hold("B>C");
  world.Write("A", "u=1");
  world.Settle();
  world.Crash("A");
  world.Configure({"B", "C"});
  world.TellAll();
  world.Release("B>C");
  world.Hold("apply B");
  world.Settle();
  CHECK(world.replica("B").committed() == world.replica("B").received());
  CHECK_FALSE(world.replica("B").head_ready());
  world.Release("apply B");
  world.Settle();
  CHECK(world.replica("B").head_ready());
  auto read = world.Read("B", 'u');
  world.Settle();
  CHECK(read->value == "1");
}

// Guards: replica.cc AnswerAsks (authority of the tail).
TEST_CASE("S7 a removed tail answers") {
  World world({"A", "B", "C", "T"});
  world.Form({"A", "B", "C", "T"});
  // x is at A, B, C; T's lease ends, the others' do not.
  world.Hold("C>T");
  auto x = world.Write("A", "x=1");
  world.Settle();
  REQUIRE(world.replica("C").received() > world.replica("C").committed());
  world.Advance(kLease);
  for (const char* id : {"A", "B", "C"}) world.Grant(id);
  // B's question reaches T while both are in e1: it is the only thing that C could still pass on.
  auto read = world.Read("B", 'x');
  REQUIRE(read->waiting());
  REQUIRE(world.Deliver("B", "C"));
  uint64_t answered = world.replica("T").stats().queries_answered;
  // The bytes of x are lost on the way, the question is not: as if it had taken another way than
  // C's link.
  world.replica("T").Step(world["T"].predecessor_link, chain::Ask{false, "B", 1}, world.now());
  world.Turn("T");
  CHECK(world.replica("T").stats().queries_answered == answered);
  // e2 = [A, B, C]: C commits x and serves it.
  world.Configure({"A", "B", "C"});
  world.Tell("C");
  auto served = world.Read("C", 'x');
  world.Hold("C>B");
  world.Hold("B>C");
  world.Settle();
  REQUIRE(served->value == "1");
  auto late = world.Read("B", 'x');
  world.Settle();
  CHECK(late->waiting());
  CHECK(world.replica("T").stats().queries_answered == answered);
  world.ReleaseAll();
  world.TellAll();
  world.Settle();
  CHECK(read->value == "1");
  CHECK(late->value == "1");
  CHECK(x->answered());
}

TEST_CASE("S7 a tail without a lease answers after a verify") {
  World world({"A", "B", "C", "T"});
  world.Form({"A", "B", "C", "T"});
  world.Hold("C>T");
  world.Write("A", "x=1");
  world.Settle();
  world.ExpireLeases();
  auto read = world.Read("B", 'x');
  world.Settle();
  CHECK(read->waiting());
  world.Release("C>T");
  world.Settle();
  CHECK(read->value == "1");
  CHECK(world.replica("T").stats().verifies_sent > 0);
}

// Guards: the rule of head_executor.cc AuthorityProved in the world's words; node_test.cc has the
// executor itself.
TEST_CASE("S8 dirty read at a deposed head") {
  World world({"A", "B", "C"});
  world.Form({"A", "B", "C"});
  // x commits at C, where a reader sees it; the ack to A is late.
  world.Hold("B>A");
  auto x = world.Write("A", "x=1");
  world.Settle();
  auto seen = world.Read("C", 'x');
  REQUIRE(seen->value == "1");
  // A's lease ends; e2 = [B, C] acknowledges y over x.
  world.ExpireLeases();
  world.Hold("A>B");
  world.Configure({"B", "C"});
  world.Tell("B");
  world.Tell("C");
  world.Settle();
  auto y = world.Write("B", "x=2");
  world.Settle();
  REQUIRE(y->answered());
  // A reads the dirty x, and only then gets the old ack.
  auto read = world.Read("A", 'x');
  auto keyless = world.Read("A", '*');
  CHECK(read->waiting());
  world.Release("B>A");
  world.Settle();
  CHECK(world.replica("A").committed() == world.replica("A").received());
  CHECK(x->answered());  // it did commit, and its ack is the proof
  CHECK_FALSE(read->answered());
  CHECK_FALSE(keyless->answered());
}

// Guards: replica.cc TellTarget (an attached head's bound), node.cc PerformOutput (asked for each
// epoch).
TEST_CASE("S9 one becomes two") {
  World world({"A", "N"});
  world.Form({"A"});
  world.StartJoin("N");
  world.Settle();
  // A client that talks to A's database has its answer; the proxy has not read the effect yet.
  world.Hold("capture A");
  world.Hold("bound A");
  world.Execute("A", "w=1");
  world.Configure({"A", "N"});
  world.TellAll();
  world.Settle();
  REQUIRE(world.replica("A").successor_linked());
  REQUIRE(world.replica("N").received() == world.replica("A").received());
  CHECK_FALSE(world.replica("N").serves());
  world.Release("bound A");
  world.Settle();
  CHECK_FALSE(world.replica("N").serves());  // the target is there, w is not
  world.Release("capture A");
  world.Settle();
  CHECK(world.replica("N").serves());
  CHECK(world["N"].database.Get('w').second == "1");
}

// Guards: replica.cc TakeRole (a head stays attached when it is alone).
TEST_CASE("S10 positions that stand still: a chain that shrank to one stays attached") {
  World world({"A", "B"});
  world.Form({"A", "B"});
  world.Crash("B");
  world.Configure({"A"});
  world.Tell("A");
  CHECK(world.replica("A").head_ready());
  Position before = world.replica("A").received();
  for (const char* effect : {"v=1", "w=2", "x=3", "y=4", "z=5"}) world.Execute("A", effect);
  world.Settle();
  CHECK(world.replica("A").received() == before + 20);
  world.Start("B");
  world.Join("B");
  CHECK(world["B"].database.history == world["A"].database.history);
}

// Guards: join.cc OnOffer (another replid is another history, whatever the position).
TEST_CASE("S10, S11 the same position in another history") {
  World world({"A", "B"});
  world.Form({"A", "B"});
  world.Write("A", "x=1");
  world.Settle();
  // Both proxies die. A's database goes on without anybody counting, then comes back at an old
  // position.
  world.Crash("B");
  world.Crash("A");
  std::string& history = world["A"].database.history;
  history = history.substr(0, history.size() - 4) + "x=9;";
  world.AcceptLossOf("A");
  world.Start("A");
  world.Configure({"A"});
  world.Tell("A");
  world.Settle();
  world.Start("B");
  REQUIRE(world["B"].database.position() == world["A"].database.position());
  world.Join("B");
  CHECK(world["B"].database.Get('x').second == "9");
  CHECK(world["B"].database.history == world["A"].database.history);
}

// Guards: replica.cc OnWelcome (replid).
TEST_CASE("S11 rolled back, same replid: a member of another history resigns") {
  World world({"A", "B"});
  world.Form({"A", "B"});
  world.BreakLinks("A", "B");
  world.Deliver("B", "A");  // it notices, and dials again
  // The welcome of a B that holds other data: the position fits, the name does not.
  chain::Replica& head = world.replica("A");
  chain::LinkId link = world["A"].successor.link;
  REQUIRE(link != chain::kNoLink);
  head.Step(link, chain::Welcome{head.received(), "another history"}, world.now());
  CHECK_FALSE(head.successor_linked());
  chain::Output output = head.TakeOutput();
  REQUIRE(output.messages.size() >= 1);
  CHECK(std::holds_alternative<chain::CannotCatchUp>(output.messages.back().second));
}

// Guards: policy.cc Recover (run_id unchanged; offsets are not compared).
TEST_CASE("S12 offsets lie") {
  World::Options options;
  options.replicas = 2;
  World world({"A", "B"}, options);
  world.StartCoordinator();
  BeatUntil(world, {"A", "B"});
  auto w = world.Write("A", "w=1");
  world.Settle();
  REQUIRE(w->answered());
  world.BeatAll();
  // Everything dies. A's database comes back from an older file: another process, less data.
  world.Crash("B");
  world.Crash("A");
  world["A"].database.run_id = "another run of A";
  world["A"].database.history.clear();
  chain::Configuration before = world.newest();
  for (int i = 0; i < 20; ++i) {
    world.Start("A");
    world.Start("B");
    world.BeatAll();
    world.Settle();
    world.Advance(kBeat);
  }
  CHECK(world.newest() == before);
  CHECK(world.waiting_for().find("choose") != std::string::npos);
}

// Guards: policy.cc HasWitness (heard after the failure) and Recover (the last head's database is
// unchanged).
TEST_CASE("S13 all proxies restart, every database alive") {
  World world({"A", "B", "C"});
  world.StartCoordinator();
  BeatUntil(world, {"A", "B", "C"});
  world.Hold("apply B");
  world.Hold("apply C");
  auto w = world.Write("A", "w=1");
  world.Settle();
  REQUIRE(w->answered());
  world.BeatAll();
  // B and C die, and nobody sees their connections end; A is told to stop. w is in A's database
  // alone.
  for (const char* id : {"B", "C"}) {
    world[id].cut_off = true;
    world.Crash(id);
    world[id].cut_off = false;
  }
  world.ReleaseAll();
  world.Advance(std::chrono::milliseconds(10));
  world.Resign("A", "told to stop");
  world.Beat("A");
  // B and C were heard before that, not after: it stays listed, and its database is the one to go
  // on with.
  CHECK(Members(world) == std::vector<NodeId>{"A", "B", "C"});
  for (const char* id : {"C", "B"}) {
    world.Start(id);
    world.Beat(id);
    world.Advance(2 * kLease);
    world.Beat(id);
  }
  BeatUntil(world, {"A", "B", "C"});
  CHECK(world["C"].database.Get('w').second == "1");
}

// Guards: registry.cc Supersede and policy.cc LeaseIsOver.
TEST_CASE("S14 a newer incarnation is no proof") {
  World world({"A", "B"}, World::Options{.replicas = 2});
  world.StartCoordinator();
  BeatUntil(world, {"A", "B"});
  world.BeatAll();
  // The old process is paused; a new one of the same node registers.
  world.Pause("A");
  chain::Configuration before = world.newest();
  world.ReportNewIncarnation("A");
  world.Advance(kBeat);
  world.Beat("B");
  CHECK(world.newest() == before);
  // The old one wakes inside its lease, and may still serve.
  world.Resume("A");
  CHECK(world.replica("A").HasAuthority(world.now()));
  CHECK(world.Read("A", 'x')->answered());
  world.Pause("A");
  world.Advance(kLease);
  world.Beat("B");
  CHECK(Members(world) == std::vector<NodeId>{"B"});
  world.Resume("A");
  CHECK_FALSE(world.replica("A").HasAuthority(world.now()));
}

// Guards: configuration.h IndexOf (incarnations), replica.cc OnHello (each field).
TEST_CASE("S15 a handshake without the successor's incarnation") {
  World world({"A", "B"});
  world.Form({"A", "B"});
  // [A, B] becomes [B], which A does not hear; B restarts at epoch 0; deposed A dials in its own
  // epoch.
  world.ExpireLeases();
  world.Hold("B>A");
  world.Configure({"B"});
  world.Tell("B");
  world.Settle();
  world.BreakLinks("A", "B");
  world.Crash("B");
  world.Start("B");
  world.ReleaseAll();
  world.Settle();
  auto w = world.Write("A", "w=1");
  world.Settle();
  CHECK_FALSE(world.replica("B").is_member());
  CHECK(world["B"].resigned_because.empty());
  CHECK_FALSE(LinkBetween(world, "A", "B"));
  CHECK(w->waiting());
}

TEST_CASE("S15 a hello is refused unless every name and number in it fits") {
  World world({"A", "B", "C"});
  world.Form({"A", "B", "C"});
  const chain::Configuration now = world.newest();
  const chain::Hello right{now,
                           "A",
                           now.members[0].incarnation,
                           "B",
                           now.members[1].incarnation,
                           chain::LinkPurpose::kChain,
                           "replid"};
  auto takes = [&](const chain::Hello& hello) {
    static chain::LinkId link = 1000;
    return world.replica("B").OnHello(++link, hello);
  };
  auto with = [&](auto change) {
    chain::Hello hello = right;
    change(hello);
    return hello;
  };
  CHECK(takes(right));
  CHECK_FALSE(takes(with([](auto& h) { h.to = "C"; })));
  CHECK_FALSE(
      takes(with([](auto& h) { h.to_incarnation = Incarnation(h.to_incarnation.value() - 1); })));
  CHECK_FALSE(takes(with([](auto& h) { h.from = "C"; })));
  CHECK_FALSE(takes(with([](auto& h) { h.from_incarnation = h.from_incarnation.Next(); })));
  CHECK_FALSE(takes(with([](auto& h) { h.configuration.epoch = h.configuration.epoch.Next(); })));
  CHECK_FALSE(takes(
      with([](auto& h) { h.configuration.epoch = Epoch(h.configuration.epoch.value() - 1); })));
  // The predecessor's link is still the one that was taken.
  CHECK(world.replica("B").predecessor_linked());
}

// Guards: registry.cc MayHoldLease (withheld lives).
TEST_CASE("S16 a lease during a removal") {
  World world({"A", "B"}, World::Options{.replicas = 2});
  world.StartCoordinator();
  BeatUntil(world, {"A", "B"});
  world.BeatAll();
  // A's lease runs out; its removal is on the way to etcd.
  world.Hold("etcd");
  world["A"].cut_off = true;
  for (int i = 0; !world.writing(); ++i) {
    REQUIRE(i < 20);
    world.Advance(kBeat);
    world.Beat("B");
  }
  REQUIRE_FALSE(world.replica("A").HasAuthority(world.now()));
  // Its heartbeat arrives.
  world["A"].cut_off = false;
  world.Beat("A");
  CHECK_FALSE(world.replica("A").HasAuthority(world.now()));
  CHECK(world.Read("A", 'x')->waiting());
  world.Release("etcd");
  world.Beat("B");
  CHECK(Members(world) == std::vector<NodeId>{"B"});
}

// Guards: replica.cc OnWelcome (PassAllDown) and StepFromPredecessor (verify requests of a new
// link).
TEST_CASE("S19 lost question: asked again on a new link") {
  World world({"A", "B", "C"});
  world.Form({"A", "B", "C"});
  for (const char* where : {"C>B", "B>C"}) {
    CAPTURE(where);
    world.Hold("B>C");
    auto x = world.Write("A", where == std::string("C>B") ? "x=1" : "x=2");
    world.Settle();
    world.Release("B>C");
    world.GrantAll();
    auto read = world.Read("B", 'x');
    world.Hold(where);
    world.Settle();
    REQUIRE(read->waiting());
    world.BreakLinks("B", "C");
    world.Release(where);
    world.Settle();
    CHECK(read->answered());
    CHECK(x->answered());
  }
}

TEST_CASE("S19 a verify is asked again wherever it was lost") {
  World world({"A", "B", "C", "D"});
  world.Form({"A", "B", "C", "D"});
  world.ExpireLeases();
  const std::pair<const char*, std::pair<const char*, const char*>> places[] = {
      {"C>B", {"B", "C"}}, {"B>A", {"A", "B"}}, {"A>B", {"A", "B"}},
      {"B>C", {"B", "C"}}, {"C>D", {"C", "D"}}, {"D>C", {"C", "D"}}};
  for (const auto& place : places) {
    const auto& way = place.first;
    const auto& link = place.second;
    CAPTURE(way);
    auto read = world.Read("C", 'x');
    world.Hold(way);
    world.Settle();
    // Held on its way back to C it is lost as well, held above C it is late.
    REQUIRE(read->waiting());
    world.BreakLinks(link.first, link.second);
    world.Release(way);
    world.Settle();
    CHECK(read->answered());
  }
}

// Guards: replica.cc LeaveEpoch (asked = settled) and TakeRole (AskIfWanted).
TEST_CASE("S19 a question whose epoch passed is asked again in the next") {
  World world({"A", "B", "C"});
  world.Form({"A", "B", "C"});
  world.Hold("B>C");
  world.Write("A", "x=1");
  world.Settle();
  auto query = world.Read("B", 'x');
  world.ExpireLeases();
  auto verify = world.Read("B", 'y');
  world.Settle();
  REQUIRE(query->waiting());
  REQUIRE(verify->waiting());
  world.Crash("A");
  world.Configure({"B", "C"});
  world.TellAll();
  world.ReleaseAll();
  world.Settle();
  CHECK(query->answered());
  CHECK(verify->answered());
}

TEST_CASE("S19 a follower's questions survive the removal of the tail they were asked of") {
  World world({"A", "B", "C", "D"});
  world.Form({"A", "B", "C", "D"});
  world.Hold("C>D");
  world.Write("A", "x=1");
  world.Settle();
  auto query = world.Read("B", 'x');
  world.Settle();
  REQUIRE(query->waiting());
  world.Crash("D");
  world.Configure({"A", "B", "C"});
  world.TellAll();
  world.Settle();
  CHECK(query->value == "1");
}

TEST_CASE("S19 a follower's verify survives the epoch it was asked in") {
  World world({"A", "B", "C", "D"});
  world.Form({"A", "B", "C", "D"});
  world.ExpireLeases();
  world.Hold("C>D");
  auto read = world.Read("B", 'x');
  world.Settle();
  REQUIRE(read->waiting());
  world.Crash("D");
  world.Configure({"A", "B", "C"});
  world.TellAll();
  world.Settle();
  CHECK(read->answered());
}

// Guards: replica.cc AnswerAsks (an unsynced tail answers nothing), node.cc EndTurn (AnswerAsks at
// the end of each turn).
TEST_CASE("S19 a question that waits at a joiner is answered as soon as that is synced") {
  World world({"A", "N"});
  world.Form({"A"});
  world.StartJoin("N");
  world.Settle();
  world.Hold("capture A");
  world.Execute("A", "w=1");
  world.Configure({"A", "N"});
  world.TellAll();
  world.Settle();
  // No coordinator any more: A needs a verify.
  world.ExpireLeases();
  uint64_t ticket = world.replica("A").RequestVerify();
  world.Turn("A");
  world.Settle();
  CHECK(world.replica("A").settled_verify() < ticket);
  // The last message that N gets is the one that makes it synced; nobody asks a second time.
  world.Release("capture A");
  world.Settle();
  CHECK(world.replica("N").serves());
  CHECK(world.replica("A").settled_verify() >= ticket);
  CHECK(world.Read("A", 'x')->waiting());  // it needs one of its own
}

}  // namespace
}  // namespace catena::scenario
