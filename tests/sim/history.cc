#include "tests/sim/history.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "tests/sim/scheduler.h"

namespace catena::sim {
namespace {

// Keys that some command joins.
class Parts {
 public:
  explicit Parts(const History& history) {
    for (const Operation& operation : history) {
      std::string first;
      if (operation.WholeDatabase()) whole_ = true;
      for (const Arguments& command : operation.commands) {
        ForEachKey(command, [&](const std::string& key) {
          if (first.empty()) first = key;
          parent_[Root(key)] = Root(first);
        });
      }
    }
  }
  std::string Of(const Operation& operation) {
    if (whole_) return "";
    std::string part;
    for (const Arguments& command : operation.commands)
      ForEachKey(command, [&](const std::string& key) { part = Root(key); });
    return part;
  }

 private:
  std::string Root(std::string key) {
    auto [found, added] = parent_.try_emplace(key, key);
    while (found->second != key) {
      key = found->second;
      found = parent_.find(key);
    }
    return key;
  }
  std::map<std::string, std::string> parent_;
  bool whole_ = false;
};

uint64_t Mix(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9E3779B97F4A7C15 + (hash << 6) + (hash >> 2);
  return hash * 0xFF51AFD7ED558CCD;
}

// As its answers tell.
bool ChangedNothing(const Operation& operation) {
  for (size_t i = 0; i < operation.commands.size(); ++i) {
    const std::string& name = operation.commands[i][0];
    const bool refused = (name == "DEL" || name == "SETNX") && operation.replies[i] == ":0\r\n";
    if (IsWrite(name) && !refused) return false;
  }
  return true;
}

// What a change replaced, to take it back.
using Undo = std::vector<std::pair<std::string, std::optional<std::string>>>;

class Search {
 public:
  Search(const std::vector<const Operation*>& operations, uint64_t states_max);

  enum class Result { kFits, kViolation, kUndecided };
  Result Run();
  std::string Explain() const;

 private:
  // With a known answer, in the order of their connection.
  struct Lane {
    TimePoint began;
    std::vector<const Operation*> operations;
    size_t next = 0;
    bool done() const { return next == operations.size(); }
    const Operation& head() const { return *operations[next]; }
  };
  // Of unknown outcome: may take effect until the next write of its connection has (I8, S18). A
  // later read of the connection may miss it: until it is committed nobody sees it.
  struct Lost {
    const Operation* operation;
    size_t lane, before;
    bool taken = false;
  };
  // The next of a lane, or a lost one.
  struct Choice {
    bool lost;
    size_t index;
  };
  struct Step {
    std::vector<Choice> choices;
    Undo undo;  // of the one that was tried last
    size_t tried = 0;
  };

  void MakeChoices(std::vector<Choice>& choices);
  bool StillOpen(const Lost& lost) const {
    return !lost.taken && lanes_[lost.lane].next <= lost.before;
  }
  bool MayComeNow(size_t lane);
  bool ClosesAnother(size_t lane) const;
  bool Apply(const Operation& operation, Undo& undo);
  void Restore(Undo& undo);
  const Operation& Take(const Choice& choice);
  void PutBack(const Choice& choice);
  bool Remember();
  void NoteProgress();
  // Tokens are added up: the bits of each must be all over the place.
  static uint64_t Token(const Choice& choice, size_t place) {
    return Random(choice.index << 33 | place << 1 | (choice.lost ? 1 : 0)).Next();
  }

  std::vector<Lane> lanes_;  // in the order in which they began
  std::vector<Lost> lost_;   // in the order in which they were sent
  size_t first_open_ = 0;    // lanes before it are done
  size_t left_ = 0, best_left_ = SIZE_MAX;
  std::vector<size_t> best_next_;
  Data data_, best_data_;
  uint64_t place_ = 0;  // which operations have been taken: the sum of their tokens
  std::unordered_set<uint64_t> seen_;
  uint64_t states_max_;
};

Search::Search(const std::vector<const Operation*>& operations, uint64_t states_max)
    : states_max_(states_max) {
  std::unordered_map<size_t, size_t> lane_of;
  for (const Operation* operation : operations) {
    auto [found, added] = lane_of.try_emplace(operation->connection, lanes_.size());
    if (added) lanes_.push_back({operation->sent, {}});
    Lane& lane = lanes_[found->second];
    if (operation->outcome != Operation::Outcome::kDone) {
      lost_.push_back({operation, found->second, SIZE_MAX});
      continue;
    }
    if (operation->Writes()) {
      for (Lost& lost : lost_) {
        if (lost.lane == found->second && lost.before == SIZE_MAX)
          lost.before = lane.operations.size();
      }
    }
    lane.operations.push_back(operation);
    ++left_;
  }
}

// What may take effect next: what was sent before the earliest answer that has not been explained
// yet. Those with a known answer come first, in the order of the effect stream.
void Search::MakeChoices(std::vector<Choice>& choices) {
  while (first_open_ < lanes_.size() && lanes_[first_open_].done()) ++first_open_;
  TimePoint frontier = TimePoint::max();
  size_t end = first_open_;
  for (; end < lanes_.size(); ++end) {
    // What is behind was sent later still.
    if (lanes_[end].began > frontier) break;
    if (lanes_[end].done()) continue;
    frontier = std::min(frontier, lanes_[end].head().answered);
  }
  for (size_t lane = first_open_; lane < end; ++lane) {
    if (lanes_[lane].done() || lanes_[lane].head().sent > frontier) continue;
    if (MayComeNow(lane)) {
      choices = {{false, lane}};
      return;
    }
    choices.push_back({false, lane});
  }
  for (size_t lost = 0; lost < lost_.size() && lost_[lost].operation->sent <= frontier; ++lost) {
    if (StillOpen(lost_[lost])) choices.push_back({true, lost});
  }
  const auto operation = [this](const Choice& choice) -> const Operation& {
    return choice.lost ? *lost_[choice.index].operation : lanes_[choice.index].head();
  };
  std::stable_sort(choices.begin(), choices.end(), [&](const Choice& a, const Choice& b) {
    const Operation &first = operation(a), &second = operation(b);
    return std::tuple(first.hint, a.lost, first.answered) <
           std::tuple(second.hint, b.lost, second.answered);
  });
}

// What fits now and by its answer changes nothing, wherever it comes: whatever order there is, there
// is one in which it comes now.
bool Search::MayComeNow(size_t lane) {
  const Operation& operation = lanes_[lane].head();
  if (!ChangedNothing(operation)) return false;
  if (ClosesAnother(lane) && operation.Writes()) return false;
  Undo undo;
  const bool fits = Apply(operation, undo);
  Restore(undo);
  return fits;
}

// Taking a write ends the time in which earlier lost ones of its connection may have happened.
bool Search::ClosesAnother(size_t lane) const {
  return std::any_of(lost_.begin(), lost_.end(), [&](const Lost& lost) {
    return lost.lane == lane && !lost.taken && lost.before == lanes_[lane].next;
  });
}

const Operation& Search::Take(const Choice& choice) {
  if (choice.lost) {
    lost_[choice.index].taken = true;
    place_ += Token(choice, 0);
    return *lost_[choice.index].operation;
  }
  --left_;
  Lane& lane = lanes_[choice.index];
  place_ += Token(choice, lane.next);
  return *lane.operations[lane.next++];
}

void Search::PutBack(const Choice& choice) {
  if (choice.lost) {
    lost_[choice.index].taken = false;
    place_ -= Token(choice, 0);
    return;
  }
  ++left_;
  first_open_ = std::min(first_open_, choice.index);
  place_ -= Token(choice, --lanes_[choice.index].next);
}

bool Search::Apply(const Operation& operation, Undo& undo) {
  const bool known = operation.outcome == Operation::Outcome::kDone;
  const auto save = [&](const std::string& key) {
    auto found = data_.find(key);
    undo.emplace_back(key, found == data_.end() ? std::nullopt : std::optional(found->second));
  };
  for (size_t i = 0; i < operation.commands.size(); ++i) {
    const Arguments& command = operation.commands[i];
    if (command[0] == "FLUSHALL") {
      for (const auto& [key, value] : data_) undo.emplace_back(key, value);
    } else if (IsWrite(command[0])) {
      ForEachKey(command, save);
    }
    const Executed executed = Execute(data_, command);
    if (known && executed.reply != operation.replies[i]) return false;
  }
  return true;
}

void Search::Restore(Undo& undo) {
  for (; !undo.empty(); undo.pop_back()) {
    auto& [key, before] = undo.back();
    if (before) {
      data_[key] = std::move(*before);
    } else {
      data_.erase(key);
    }
  }
}

bool Search::Remember() {
  uint64_t hash = place_;
  for (const auto& [key, value] : data_) {
    hash = Mix(hash, std::hash<std::string>()(key));
    hash = Mix(hash, std::hash<std::string>()(value));
  }
  return seen_.insert(hash).second;
}

void Search::NoteProgress() {
  if (left_ >= best_left_) return;
  best_left_ = left_;
  best_next_.clear();
  for (const Lane& lane : lanes_) best_next_.push_back(lane.next);
  best_data_ = data_;
}

Search::Result Search::Run() {
  std::vector<Step> steps;
  bool advanced = true;
  if (left_ == 0) return Result::kFits;
  while (true) {
    if (advanced) MakeChoices(steps.emplace_back().choices);
    Step& step = steps.back();
    if (step.tried > 0 && !advanced) {
      Restore(step.undo);
      PutBack(step.choices[step.tried - 1]);
    }
    advanced = false;
    if (step.tried == step.choices.size()) {
      // The deepest that it came to is what is told.
      NoteProgress();
      steps.pop_back();
      if (steps.empty()) return Result::kViolation;
      continue;
    }
    const bool fits = Apply(Take(step.choices[step.tried++]), step.undo);
    if (fits && left_ == 0) return Result::kFits;
    advanced = fits && Remember();
    if (seen_.size() > states_max_) return Result::kUndecided;
  }
}

std::string Search::Explain() const {
  std::string text =
      "no order of the commands explains the answers. As far as it goes, the data is";
  for (const auto& [key, value] : best_data_) text += " " + key + "=" + value;
  text += "; then come:\n";
  std::vector<const Operation*> next;
  for (size_t lane = 0; lane < lanes_.size(); ++lane) {
    const auto& operations = lanes_[lane].operations;
    for (size_t i = best_next_[lane]; i < operations.size() && i < best_next_[lane] + 3; ++i)
      next.push_back(operations[i]);
  }
  std::sort(next.begin(), next.end(),
            [](const Operation* a, const Operation* b) { return a->sent < b->sent; });
  if (next.size() > 12) next.resize(12);
  for (const Operation* operation : next) text += "    " + operation->Text() + "\n";
  return text;
}

}  // namespace

bool Operation::WholeDatabase() const {
  return std::any_of(commands.begin(), commands.end(), [](const Arguments& command) {
    return command[0] == "DBSIZE" || command[0] == "FLUSHALL";
  });
}

bool Operation::Writes() const {
  return std::any_of(commands.begin(), commands.end(),
                     [](const Arguments& command) { return IsWrite(command[0]); });
}

std::string Operation::Text() const {
  const auto milliseconds = [](TimePoint time) {
    return std::to_string((time - TimePoint(std::chrono::seconds(1000))) /
                          std::chrono::microseconds(1));
  };
  std::string text = "[" + milliseconds(sent) + "us";
  text += outcome == Outcome::kDone ? ", " + milliseconds(answered) + "us]" : ", ...]";
  text += " connection " + std::to_string(connection) + " at " + node + ":";
  for (size_t i = 0; i < commands.size(); ++i) {
    for (const std::string& argument : commands[i]) text += " " + argument;
    if (i >= replies.size()) continue;
    text += " -> ";
    for (char c : replies[i]) text += c == '\r' ? "" : std::string(1, c == '\n' ? ' ' : c);
    text += ";";
  }
  return text + (outcome == Outcome::kUnknown ? " unknown" : "");
}

Judgement CheckLinearizable(const History& history, uint64_t states_max) {
  Parts parts(history);
  std::map<std::string, std::vector<const Operation*>> by_part;
  for (const Operation& operation : history) {
    if (!operation.Linearizable() || operation.outcome == Operation::Outcome::kRefused) continue;
    // An answer that never came says nothing of a read.
    if (operation.outcome == Operation::Outcome::kUnknown && !operation.Writes()) continue;
    by_part[parts.Of(operation)].push_back(&operation);
  }
  Judgement judgement;
  for (const auto& [part, operations] : by_part) {
    // Most of what has an unknown outcome never happened: an order without it is an order, and far
    // easier to find.
    std::vector<const Operation*> happened;
    std::copy_if(operations.begin(), operations.end(), std::back_inserter(happened),
                 [](const Operation* operation) {
                   return operation->outcome == Operation::Outcome::kDone || operation->hint > 0;
                 });
    if (Search(happened, states_max).Run() == Search::Result::kFits) continue;
    Search search(operations, states_max);
    const Search::Result result = search.Run();
    if (result == Search::Result::kUndecided) ++judgement.undecided;
    if (result == Search::Result::kViolation && judgement.violation.empty())
      judgement.violation = search.Explain();
  }
  return judgement;
}

}  // namespace catena::sim
