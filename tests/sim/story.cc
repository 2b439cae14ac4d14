#include "tests/sim/story.h"

#include <algorithm>

namespace catena::sim {
namespace {

// Of the stories alone.
constexpr char kKey[] = "s";
constexpr Duration kStepWithin = Seconds(12);

}  // namespace

Story::Story(const std::string& name, Cluster& cluster, Workload& workload)
    : name_(name), cluster_(cluster), workload_(workload) {
  Then([] {}, [this] { return IsWhole(); });
}

void Story::GoOn() {
  const TimePoint now = cluster_.scheduler().now();
  if (over()) return;
  if (!acted_) {
    acted_ = true;
    step_began_ = now;
    steps_[next_].act();
  }
  if (steps_[next_].until()) {
    acted_ = false;
    ++next_;
    if (!begun_) {
      begun_ = true;
      members_ = cluster_.Newest()->members;
      if (name_ == "S5") LogGoesDownTheChain();
      if (name_ == "S5b") LogGoesIntoTheDatabase();
      if (name_ == "S7") ReadsOfTheRemoved();
      if (name_ == "S6") ReadAcrossPromotion();
      if (name_ == "S8") DirtyReadAtDeposedHead();
      if (name_ == "I7") WipedDatabaseComesBack();
      if (name_ == "S9") OneBecomesTwo();
      if (name_ == "S11") FormerHeadComesBack();
      if (name_ == "S12") HeadComesBackWithAnOlderDatabase();
      if (name_ == "S13") AllProxiesRestart();
      if (name_ == "S14") TwoProcessesOfOneNode(false);
      if (name_ == "S17") TwoProcessesOfOneNode(true);
      if (name_ == "S18") LateBytes();
      if (name_ == "S19") LostQuestion();
    }
  } else if (now - step_began_ > kStepWithin) {
    if (cluster_.scheduler().tracing()) cluster_.scheduler().Trace("the story is given up");
    next_ = steps_.size();
  }
}

bool Story::Passed(Duration time) { return cluster_.scheduler().now() - step_began_ >= time; }

bool Story::IsWhole() {
  const auto newest = cluster_.Newest();
  return newest && newest->members.size() == cluster_.plan().replicas &&
         std::all_of(newest->members.begin(), newest->members.end(),
                     [this](const chain::Member& each) { return cluster_.Complete(each.id); });
}

// Every member acts in the newest configuration, in its place.
bool Story::IsLinked() {
  const auto newest = cluster_.Newest();
  return std::all_of(newest->members.begin(), newest->members.end(), [&](const auto& each) {
    if (!cluster_.Complete(each.id)) return false;
    const chain::Replica& replica = cluster_.node(each.id)->replica();
    return replica.epoch() == newest->epoch &&
           (replica.is_head() ? replica.head_ready() : replica.predecessor_linked());
  });
}

bool Story::IsRemoved(const chain::Member& member) {
  const auto newest = cluster_.Newest();
  return !newest->IndexOf(member.id, member.incarnation).has_value();
}

void Story::Write(size_t index) {
  Then(
      [this, index] {
        writer_ = workload_.Connect(member(index).id);
        workload_.Send(writer_, {"SET", kKey, workload_.NewValue()});
      },
      [this] { return workload_.AllAnswered(writer_); });
}

void Story::Cut(const NodeId& node, bool nodes, bool coordinators) {
  Network& network = cluster_.network();
  for (const NodeId& other : cluster_.nodes()) {
    if (other != node && nodes) network.Block(other, node);
  }
  for (const std::string& other : cluster_.coordinators()) {
    if (!coordinators) continue;
    network.Block(other, node);
    network.Block(node, other);
  }
}

// u is at A and B only when A dies: B must not take it for committed before C has it.
void Story::LogGoesDownTheChain() {
  const NodeId next = member(1).id;
  Write(0);
  Then(
      [this, next] {
        cluster_.network().Block(next, tail());
        writer_ = workload_.Connect(head());
        workload_.Send(writer_, {"SET", kKey, workload_.NewValue()});
      },
      [this] { return Passed(Millis(60)); });
  Then([this] { cluster_.KillProxy(head(), false); }, [this] { return IsRemoved(member(0)); });
  Then([] {}, [this] { return Passed(Millis(50)); });
  Then([this] { cluster_.network().HealAll(); }, [] { return true; });
}

// The tail has acknowledged u, and it is still on its way into B's database when A dies.
void Story::LogGoesIntoTheDatabase() {
  const NodeId next = member(1).id;
  Write(0);
  Then(
      [this, next] {
        cluster_.network().StallNext("proxy " + next, "redis " + next, "$1\r\ns\r\n");
        writer_ = workload_.Connect(head());
        workload_.Send(writer_, {"SET", kKey, workload_.NewValue()});
      },
      [this] { return cluster_.network().stalled() && workload_.AllAnswered(writer_); });
  Then([this] { cluster_.KillProxy(head(), false); }, [this] { return IsRemoved(member(0)); });
  Then([] {}, [this] { return Passed(Millis(50)); });
  Then([this] { cluster_.network().EndStall(); }, [] { return true; });
}

// Nobody hears of A any more, which goes on alone and verifies by itself.
void Story::ReadsOfTheRemoved() {
  Write(0);
  Then(
      [this] {
        Cut(head(), true, true);
        for (const NodeId& other : cluster_.nodes()) cluster_.network().Block(head(), other);
      },
      [this] {
        server::Node* const next = cluster_.node(member(1).id);
        return IsRemoved(member(0)) && next != nullptr && next->replica().head_ready();
      });
  Write(1);
  Then(
      [this] {
        reader_ = workload_.Connect(head());
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return workload_.AllAnswered(reader_) || Passed(Millis(500)); });
  Then([this] { cluster_.network().HealAll(); }, [] { return true; });
}

// A read waits on its way to B's database while B is promoted; what B then executes is at B alone.
void Story::ReadAcrossPromotion() {
  const NodeId follower = member(1).id;
  const auto promoted = [this, follower] {
    return IsRemoved(member(0)) && cluster_.node(follower)->replica().head_ready();
  };
  Write(0);
  Then(
      [this, follower] {
        cluster_.network().StallNext("proxy " + follower, "redis " + follower, "$1\r\ns\r\n");
        reader_ = workload_.Connect(follower);
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return cluster_.network().stalled(); });
  Then([this] { cluster_.KillProxy(head(), false); },
       [this, promoted] { return promoted() || Passed(3 * cluster_.plan().lease); });
  Then(
      [this, follower] {
        cluster_.network().Block(follower, tail());
        writer_ = workload_.Connect(follower);
        workload_.Send(writer_, {"SET", kKey, workload_.NewValue()});
      },
      [this] { return Passed(Millis(20)); });
  Then([this] { cluster_.network().EndStall(); },
       [this] { return workload_.AllAnswered(reader_) || Passed(Millis(100)); });
  Then(
      [this] {
        reader_ = workload_.Connect(tail());
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return workload_.AllAnswered(reader_) || Passed(Millis(100)); });
  Then([this] { cluster_.network().HealAll(); }, [] { return true; });
}

// x commits just before A's lease ends, the acks to A are late; the others acknowledge y over x; A
// reads x, and then gets the acks.
void Story::DirtyReadAtDeposedHead() {
  Write(0);
  Then([this] { Cut(head(), false, true); },
       [this] { return Passed(cluster_.plan().lease * 7 / 10); });
  Then(
      [this] {
        Cut(head(), true, false);
        writer_ = workload_.Connect(head());
        workload_.Send(writer_, {"SET", kKey, workload_.NewValue()});
      },
      [this] {
        server::Node* const next = cluster_.node(member(1).id);
        return IsRemoved(member(0)) && next != nullptr && next->replica().head_ready();
      });
  Then(
      [this] {
        reader_ = workload_.Connect(tail());
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return workload_.AllAnswered(reader_); });
  Write(1);
  Then(
      [this] {
        reader_ = workload_.Connect(head());
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return Passed(Millis(20)); });
  Then([this] { cluster_.network().HealAll(); },
       [this] { return workload_.AllAnswered(reader_) || Passed(Seconds(1)); });
}

// A has answered what its stream has not brought yet when it learns that it is one of two.
void Story::OneBecomesTwo() {
  const NodeId joiner = member(1).id;
  Then(
      [this] {
        for (const chain::Member& each : members_) {
          if (each.id != head()) cluster_.KillProxy(each.id, false);
        }
      },
      [this] { return cluster_.Newest()->members.size() == 1; });
  Write(0);
  Then([this, joiner] { cluster_.StartProxy(joiner); },
       [this] { return cluster_.Newest()->members.size() == 2; });
  Then(
      [this] {
        cluster_.network().StallNext("redis " + head(), "proxy " + head(), "$1\r\ns\r\n");
        workload_.Send(writer_, {"SET", kKey, workload_.NewValue()});
      },
      [this] { return workload_.AllAnswered(writer_) || Passed(Millis(50)); });
  Then([] {}, [this, joiner] { return cluster_.Complete(joiner) || Passed(Seconds(2)); });
  Then([this] { cluster_.KillProxy(head(), false); },
       [this] { return IsRemoved(member(0)) || Passed(Seconds(4)); });
  Then(
      [this, joiner] {
        reader_ = workload_.Connect(joiner);
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return workload_.AllAnswered(reader_) || Passed(Seconds(1)); });
}

void Story::WipedDatabaseComesBack() {
  const NodeId follower = tail();
  Write(0);
  Then(
      [this, follower] {
        reader_ = workload_.Connect(follower);
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return workload_.AllAnswered(reader_); });
  Then([this, follower] { cluster_.KillRedis(follower, Cluster::Keeps::kNothing); },
       [this] { return Passed(Millis(5)); });
  Then([this, follower] { cluster_.StartRedis(follower); }, [] { return true; });
  for (int i = 0; i < 100; ++i) {
    Then([this] { workload_.Send(reader_, {"GET", kKey}); }, [this] { return Passed(Millis(4)); });
  }
}

// A head that was promoted once keeps the chain's name as its second; what it executed alone is as
// long as what the others committed instead.
void Story::FormerHeadComesBack() {
  Then([this] { cluster_.KillProxy(head(), false); }, [this] { return IsRemoved(member(0)); });
  Then([this] { cluster_.StartProxy(head()); },
       [this] {
         server::Node* const next = cluster_.node(member(1).id);
         return IsWhole() && next != nullptr && next->replica().head_ready();
       });
  Then([this] { members_ = cluster_.Newest()->members; }, [] { return true; });
  // From here on its stream needs no SELECT any more, of 23 bytes; the next head's begins with one.
  Write(0);
  Then(
      [this] {
        Cut(head(), true, true);
        for (const NodeId& other : cluster_.nodes()) cluster_.network().Block(head(), other);
        writer_ = workload_.Connect(head());
        workload_.Send(writer_, {"SET", std::string(23, 's'), workload_.NewValue()});
      },
      [this] {
        server::Node* const next = cluster_.node(member(1).id);
        return IsRemoved(member(0)) && next != nullptr && next->replica().head_ready();
      });
  for (int i = 0; i < 6; ++i) Write(1);
  Then([this] { cluster_.network().HealAll(); }, [] { return true; });
}

void Story::HeadComesBackWithAnOlderDatabase() {
  Write(0);
  Then(
      [this] {
        for (const NodeId& id : cluster_.nodes()) cluster_.KillProxy(id, false);
        cluster_.KillRedis(head(), Cluster::Keeps::kNothing);
      },
      [this] { return Passed(Millis(50)); });
  Then(
      [this] {
        for (const NodeId& id : cluster_.nodes()) cluster_.StartRedis(id);
        for (const NodeId& id : cluster_.nodes()) cluster_.StartProxy(id);
      },
      [this] { return IsWhole(); });
  Write(0);
}

// Everybody but the head is gone without a word; the head resigns before anybody has noticed, with
// nothing on its way that could hold it up, or be heard of them afterwards.
void Story::AllProxiesRestart() {
  Write(0);
  Then(
      [this] {
        for (const chain::Member& each : members_) {
          if (each.id != head()) cluster_.KillProxy(each.id, true);
        }
      },
      [this] { return Passed(cluster_.plan().network.delay_max + Millis(1)); });
  Then([this] { cluster_.StopProxy(head()); }, [this] { return cluster_.node(head()) == nullptr; });
  Then(
      [this] {
        for (const NodeId& id : cluster_.nodes()) cluster_.StartProxy(id);
      },
      [this] { return IsWhole(); });
}

// The older process stands still with a lease; the newer one must not end it, nor a new leader that
// knows nothing of it.
void Story::TwoProcessesOfOneNode(bool new_leader) {
  Write(0);
  Then(
      [this] {
        reader_ = workload_.Connect(tail());
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return workload_.AllAnswered(reader_); });
  Then(
      [this, new_leader] {
        cluster_.proxy_process(tail())->Pause();
        cluster_.StartTwin(tail());
        if (new_leader) cluster_.KillCoordinator(cluster_.Leader());
      },
      [this] { return IsRemoved(members_.back()); });
  Write(0);
  Then(
      [this] {
        for (auto& [id, twin] : cluster_.twins()) twin.process->Resume();
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return workload_.AllAnswered(reader_) || Passed(Millis(300)); });
  Then([this] { cluster_.KillTwins(); }, [] { return true; });
}

// A forwarding connection ends for the node that forwards while bytes are on their way; the head has
// them only after the client's next command, which comes by another connection.
void Story::LateBytes() {
  const NodeId follower = member(1).id;
  Write(1);
  Then(
      [this, follower] {
        cluster_.network().StallNext("proxy " + follower, "proxy " + head(), "$1\r\ns\r\n");
        workload_.Send(writer_, {"SET", kKey, workload_.NewValue()});
      },
      [this] { return cluster_.network().stalled(); });
  Then([this] { cluster_.network().BreakStalled(); },
       [this] { return workload_.AllAnswered(writer_); });
  Then(
      [this] {
        workload_.Send(writer_, {"SET", kKey, workload_.NewValue()});
      },
      [this] { return workload_.AllAnswered(writer_); });
  Then([this] { cluster_.network().EndStall(); }, [this] { return Passed(Millis(20)); });
  Then(
      [this, follower] {
        reader_ = workload_.Connect(follower);
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return workload_.AllAnswered(reader_); });
}

// A verify goes lost with the tail; in the next epoch the node that asked must ask again, or it
// reads nothing any more without the coordinators.
void Story::LostQuestion() {
  const NodeId asker = member(1).id;
  const auto without_coordinators = [this] {
    Then(
        [this] {
          for (const std::string& id : cluster_.coordinators()) cluster_.KillCoordinator(id);
        },
        [this] { return Passed(cluster_.plan().lease * 3 / 2); });
  };
  Write(0);
  without_coordinators();
  Then(
      [this, asker] {
        cluster_.KillProxy(tail(), false);
        reader_ = workload_.Connect(asker);
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return Passed(Millis(100)); });
  Then(
      [this] {
        for (const std::string& id : cluster_.coordinators()) cluster_.StartCoordinator(id);
      },
      [this] {
        return IsRemoved(members_.back()) && IsLinked() && workload_.AllAnswered(reader_);
      });
  without_coordinators();
  Then(
      [this, asker] {
        reader_ = workload_.Connect(asker);
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] {
        if (Passed(Seconds(2))) violation_ = "a whole chain does not answer without coordinators";
        return workload_.AllAnswered(reader_);
      });
}

}  // namespace catena::sim
