// The schedules that chance seldom or never hits, since many steps must come in one order: each is
// told here as a story of faults and commands, with the clients' work around it. A story that does
// not go on within a time is given up. What is right is for the checks of every run to say, but for
// answers that must come in the middle of a story.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/sim/cluster.h"
#include "tests/sim/workload.h"

namespace catena::sim {

class Story {
 public:
  // `name`: one of Plan's. All outlive it.
  Story(const std::string& name, Cluster& cluster, Workload& workload);

  // After every event, from the time the faults may begin.
  void GoOn();
  bool over() const { return next_ == steps_.size(); }
  // "": none.
  const std::string& violation() const { return violation_; }

 private:
  struct Step {
    std::function<void()> act;
    std::function<bool()> until;
  };

  void LogGoesDownTheChain();
  void LogGoesIntoTheDatabase();
  void ReadsOfTheRemoved();
  void ReadAcrossPromotion();
  void DirtyReadAtDeposedHead();
  void OneBecomesTwo();
  void WipedDatabaseComesBack();
  void FormerHeadComesBack();
  void HeadComesBackWithAnOlderDatabase();
  void AllProxiesRestart();
  void TwoProcessesOfOneNode(bool new_leader);
  void LateBytes();
  void LostQuestion();

  void Then(std::function<void()> act, std::function<bool()> until) {
    steps_.push_back({std::move(act), std::move(until)});
  }
  void Write(size_t index);  // at this member, and wait for the answer
  void Cut(const NodeId& node, bool nodes, bool coordinators);
  bool IsRemoved(const chain::Member& member);
  bool IsWhole();
  bool IsLinked();
  // Time has passed since the step began.
  bool Passed(Duration time);
  const chain::Member& member(size_t index) const { return members_[index]; }
  const NodeId& head() const { return members_.front().id; }
  const NodeId& tail() const { return members_.back().id; }

  const std::string name_;
  Cluster& cluster_;
  Workload& workload_;
  std::vector<chain::Member> members_;  // when it began
  std::vector<Step> steps_;
  size_t next_ = 0;
  bool begun_ = false, acted_ = false;
  TimePoint step_began_{};
  std::string violation_;
  size_t writer_ = 0, reader_ = 0;  // connections
};

}  // namespace catena::sim
