#include "tests/sim/story.h"

#include <algorithm>

namespace catena::sim {
namespace {

// Of the stories alone.
constexpr char kKey[] = "s";
constexpr Duration kPatience = Seconds(12);

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
      if (name_ == "S6") ReadAcrossPromotion();
      if (name_ == "S8") DirtyReadAtDeposedHead();
      if (name_ == "I7") WipedDatabaseComesBack();
      if (name_ == "S9") OneBecomesTwo();
      if (name_ == "S11") FormerHeadComesBack();
      if (name_ == "S12") HeadComesBackWithAnOlderDatabase();
      if (name_ == "S13") AllProxiesRestart();
      if (name_ == "S14") TwoProcessesOfOneNode(false);
      if (name_ == "S17") TwoProcessesOfOneNode(true);
      if (name_ == "S19") LostQuestion();
    }
  } else if (now - step_began_ > kPatience) {
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

bool Story::IsRemoved(const chain::Member& member) {
  const auto newest = cluster_.Newest();
  return !newest->IndexOf(member.id, member.incarnation).has_value();
}

void Story::Write(const NodeId& node) {
  Then(
      [this, node] {
        writer_ = workload_.Connect(node);
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

// A read waits at B's database while B is promoted; what B then executes is at B alone.
void Story::ReadAcrossPromotion() {
  const NodeId follower = member(1).id;
  Write(head());
  Then(
      [this, follower] {
        cluster_.network().DelayNext("proxy " + follower, "$1\r\ns\r\n", Seconds(4));
        reader_ = workload_.Connect(follower);
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return cluster_.network().delay_happened(); });
  Then([this] { cluster_.KillProxy(head(), false); },
       [this, follower] {
         return IsRemoved(member(0)) &&
                (cluster_.node(follower)->replica().head_ready() || workload_.AllAnswered(reader_));
       });
  Then(
      [this, follower] {
        cluster_.network().Block(follower, tail());
        writer_ = workload_.Connect(follower);
        workload_.Send(writer_, {"SET", kKey, workload_.NewValue()});
      },
      [this] { return workload_.AllAnswered(reader_); });
  Then(
      [this] {
        reader_ = workload_.Connect(tail());
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return workload_.AllAnswered(reader_) || Passed(Millis(500)); });
  Then([this] { cluster_.network().HealAll(); }, [] { return true; });
}

// x commits, the acks to A are late; A's lease ends; the others acknowledge y over x; A reads x, and
// then gets the acks.
void Story::DirtyReadAtDeposedHead() {
  Write(head());
  Then(
      [this] {
        Cut(head(), true, false);
        writer_ = workload_.Connect(head());
        workload_.Send(writer_, {"SET", kKey, workload_.NewValue()});
      },
      [this] {
        const chain::Replica& replica = cluster_.node(tail())->replica();
        return replica.committed() > cluster_.node(head())->replica().committed() &&
               Passed(Millis(20));
      });
  Then([this] { Cut(head(), false, true); },
       [this] {
         server::Node* const next = cluster_.node(member(1).id);
         return IsRemoved(member(0)) && next != nullptr && next->replica().head_ready();
       });
  Write(member(1).id);
  Then(
      [this] {
        reader_ = workload_.Connect(head());
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return Passed(Millis(60)); });
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
  Write(head());
  Then([this, joiner] { cluster_.StartProxy(joiner); },
       [this] { return cluster_.Newest()->members.size() == 2; });
  Then(
      [this] {
        cluster_.network().DelayNext("redis " + head(), "$1\r\ns\r\n", Seconds(9));
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
  Write(head());
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
  Then(
      [this] {
        members_ = cluster_.Newest()->members;
        Cut(head(), true, true);
        for (const NodeId& other : cluster_.nodes()) cluster_.network().Block(head(), other);
        writer_ = workload_.Connect(head());
        // The next head's stream begins with a SELECT, of 23 bytes.
        workload_.Send(writer_, {"SET", std::string(24, 's'), workload_.NewValue()});
      },
      [this] {
        server::Node* const next = cluster_.node(member(1).id);
        return IsRemoved(member(0)) && next != nullptr && next->replica().head_ready();
      });
  for (int i = 0; i < 6; ++i) Write(member(1).id);
  Then([this] { cluster_.network().HealAll(); }, [] { return true; });
}

void Story::HeadComesBackWithAnOlderDatabase() {
  Write(head());
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
  Write(head());
}

// Everybody but the head is gone without a word; the head is stopped before anybody has noticed.
void Story::AllProxiesRestart() {
  Write(head());
  Then(
      [this] {
        for (const chain::Member& each : members_) {
          if (each.id != head()) cluster_.KillProxy(each.id, true);
        }
        cluster_.StopProxy(head());
      },
      [this] { return cluster_.node(head()) == nullptr; });
  Then(
      [this] {
        for (const NodeId& id : cluster_.nodes()) cluster_.StartProxy(id);
      },
      [this] { return IsWhole(); });
}

// The older process stands still with a lease; the newer one must not end it, nor a new leader that
// knows nothing of it.
void Story::TwoProcessesOfOneNode(bool new_leader) {
  Write(head());
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
  Write(head());
  Then(
      [this] {
        for (auto& [id, twin] : cluster_.twins()) twin.process->Resume();
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return workload_.AllAnswered(reader_) || Passed(Millis(300)); });
  Then([this] { cluster_.KillTwins(); }, [] { return true; });
}

// The answer to a version query goes with the tail; the node that asked remains.
void Story::LostQuestion() {
  const NodeId asker = member(1).id;
  Write(head());
  Then(
      [this, asker] {
        for (const NodeId& other : cluster_.nodes()) {
          if (other != tail()) cluster_.network().Block(tail(), other);
        }
        writer_ = workload_.Connect(head());
        workload_.Send(writer_, {"SET", kKey, workload_.NewValue()});
      },
      [this, asker] {
        const chain::Replica& replica = cluster_.node(asker)->replica();
        return replica.received() > replica.committed() && Passed(Millis(20));
      });
  Then(
      [this, asker] {
        reader_ = workload_.Connect(asker);
        workload_.Send(reader_, {"GET", kKey});
      },
      [this] { return Passed(Millis(50)); });
  Then([this] { cluster_.KillProxy(tail(), false); },
       [this] { return IsRemoved(members_.back()); });
  Then([this] { cluster_.network().HealAll(); }, [this] { return workload_.AllAnswered(reader_); });
}

}  // namespace catena::sim
