#include "tests/sim/history.h"

#include <algorithm>
#include <map>
#include <unordered_set>
#include <utility>

namespace catena::sim {
namespace {

void ForEachKey(const Arguments& command, const auto& use) {
  const std::string& name = command[0];
  if (name == "DBSIZE" || name == "FLUSHALL") return;
  const size_t step = name == "MSET" ? 2 : 1;
  const bool many = name == "MSET" || name == "MGET" || name == "DEL";
  for (size_t i = 1; i < command.size() && (many || i == 1); i += step) use(command[i]);
}

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

// Which values ("v17") are in anybody's answers.
class Observed {
 public:
  explicit Observed(std::string_view answers) {
    for (size_t at = answers.find('v'); at != std::string_view::npos; at = answers.find('v', at)) {
      const size_t end = std::min(answers.find_first_not_of("0123456789", at + 1), answers.size());
      values_.insert(std::string(answers.substr(at, end - at)));
      at = end;
    }
  }
  bool Shows(const Operation& operation) const {
    if (operation.outcome == Operation::Outcome::kDone) return true;
    for (const Arguments& command : operation.commands) {
      if (command.size() < 3 || command[0] == "DEL") return true;  // writes no value of its own
      if (values_.contains(command.back())) return true;
    }
    return false;
  }

 private:
  std::unordered_set<std::string> values_;
};

uint64_t Mix(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9E3779B97F4A7C15 + (hash << 6) + (hash >> 2);
  return hash * 0xFF51AFD7ED558CCD;
}

class Search {
 public:
  Search(const std::vector<const Operation*>& operations, uint64_t states_max);

  enum class Result { kFits, kViolation, kUndecided };
  Result Run();
  std::string Explain() const;

 private:
  // With a known answer, in the order of their connection.
  using Lane = std::vector<const Operation*>;
  // Of unknown outcome: may take effect until the next write of its connection has (I8, S18). A
  // later read of the connection may miss it: until it is committed nobody sees it.
  struct Lost {
    const Operation* operation;
    size_t lane, before;
  };
  // The next of a lane, or a lost one.
  struct Choice {
    bool lost;
    size_t index;
  };
  struct Step {
    std::vector<Choice> choices;
    Data data;
    size_t tried = 0;
  };

  TimePoint Frontier() const;
  std::vector<Choice> Choices() const;
  bool StillOpen(size_t lost) const {
    return !taken_[lost] && next_[lost_[lost].lane] <= lost_[lost].before;
  }
  bool MayComeNow(size_t lane) const;
  bool Apply(const Operation& operation);
  const Operation& Take(const Choice& choice);
  void Undo(const Choice& choice);
  bool Remember();
  void NoteProgress();

  std::vector<Lane> lanes_;
  std::vector<Lost> lost_;
  std::vector<size_t> next_;
  std::vector<bool> taken_;
  size_t left_ = 0, best_left_ = SIZE_MAX;
  std::vector<size_t> best_next_;
  Data data_, best_data_;
  std::unordered_set<uint64_t> seen_;
  uint64_t states_max_;
};

Search::Search(const std::vector<const Operation*>& operations, uint64_t states_max)
    : states_max_(states_max) {
  std::map<size_t, size_t> lane_of;
  for (const Operation* operation : operations) {
    auto [found, added] = lane_of.try_emplace(operation->connection, lanes_.size());
    if (added) lanes_.emplace_back();
    Lane& lane = lanes_[found->second];
    if (operation->outcome != Operation::Outcome::kDone) {
      lost_.push_back({operation, found->second, SIZE_MAX});
      continue;
    }
    if (operation->Writes()) {
      for (Lost& lost : lost_) {
        if (lost.lane == found->second && lost.before == SIZE_MAX) lost.before = lane.size();
      }
    }
    lane.push_back(operation);
    ++left_;
  }
  next_.assign(lanes_.size(), 0);
  taken_.assign(lost_.size(), false);
}

// When the earliest answer came that has not been explained yet: what was sent later comes later.
TimePoint Search::Frontier() const {
  TimePoint frontier = TimePoint::max();
  for (size_t lane = 0; lane < lanes_.size(); ++lane) {
    if (next_[lane] < lanes_[lane].size())
      frontier = std::min(frontier, lanes_[lane][next_[lane]]->answered);
  }
  return frontier;
}

// What may take effect next: those with a known answer first, in the order of the effect stream.
std::vector<Search::Choice> Search::Choices() const {
  const TimePoint frontier = Frontier();
  std::vector<Choice> choices;
  for (size_t lane = 0; lane < lanes_.size(); ++lane) {
    if (next_[lane] == lanes_[lane].size() || lanes_[lane][next_[lane]]->sent > frontier) continue;
    if (MayComeNow(lane)) return {{false, lane}};
    choices.push_back({false, lane});
  }
  std::sort(choices.begin(), choices.end(), [this](const Choice& a, const Choice& b) {
    const Operation& first = *lanes_[a.index][next_[a.index]];
    const Operation& second = *lanes_[b.index][next_[b.index]];
    return std::pair(first.hint, first.answered) < std::pair(second.hint, second.answered);
  });
  for (size_t lost = 0; lost < lost_.size(); ++lost) {
    if (StillOpen(lost) && lost_[lost].operation->sent <= frontier) choices.push_back({true, lost});
  }
  return choices;
}

// A read whose answer fits now leaves everything as it is: whatever order there is, there is one in
// which it comes now.
bool Search::MayComeNow(size_t lane) const {
  const Operation& operation = *lanes_[lane][next_[lane]];
  if (operation.Writes()) return false;
  for (size_t i = 0; i < operation.commands.size(); ++i) {
    if (Read(data_, operation.commands[i]) != operation.replies[i]) return false;
  }
  return true;
}

const Operation& Search::Take(const Choice& choice) {
  if (choice.lost) {
    taken_[choice.index] = true;
    return *lost_[choice.index].operation;
  }
  --left_;
  return *lanes_[choice.index][next_[choice.index]++];
}

void Search::Undo(const Choice& choice) {
  if (choice.lost) {
    taken_[choice.index] = false;
    return;
  }
  ++left_;
  --next_[choice.index];
}

bool Search::Apply(const Operation& operation) {
  const bool known = operation.outcome == Operation::Outcome::kDone;
  for (size_t i = 0; i < operation.commands.size(); ++i) {
    const Executed executed = Execute(data_, operation.commands[i]);
    if (known && executed.reply != operation.replies[i]) return false;
  }
  return true;
}

bool Search::Remember() {
  uint64_t hash = 1;
  for (size_t next : next_) hash = Mix(hash, next);
  for (bool taken : taken_) hash = Mix(hash, taken ? 1 : 2);
  for (const auto& [key, value] : data_) {
    hash = Mix(hash, std::hash<std::string>()(key));
    hash = Mix(hash, std::hash<std::string>()(value));
  }
  return seen_.insert(hash).second;
}

void Search::NoteProgress() {
  if (left_ >= best_left_) return;
  best_left_ = left_;
  best_next_ = next_;
  best_data_ = data_;
}

Search::Result Search::Run() {
  std::vector<Step> steps;
  NoteProgress();
  if (left_ == 0) return Result::kFits;
  steps.push_back({Choices(), data_});
  while (!steps.empty()) {
    Step& step = steps.back();
    if (step.tried > 0) {
      Undo(step.choices[step.tried - 1]);
      data_ = step.data;
    }
    if (step.tried == step.choices.size()) {
      steps.pop_back();
      continue;
    }
    if (!Apply(Take(step.choices[step.tried++]))) continue;
    if (left_ == 0) return Result::kFits;
    if (!Remember()) continue;
    if (seen_.size() > states_max_) return Result::kUndecided;
    NoteProgress();
    steps.push_back({Choices(), data_});
  }
  return Result::kViolation;
}

std::string Search::Explain() const {
  std::string text =
      "no order of the commands explains the answers. As far as it goes, the data is";
  for (const auto& [key, value] : best_data_) text += " " + key + "=" + value;
  text += "; then come:\n";
  std::vector<const Operation*> next;
  for (size_t lane = 0; lane < lanes_.size(); ++lane) {
    for (size_t i = best_next_[lane]; i < lanes_[lane].size() && i < best_next_[lane] + 3; ++i)
      next.push_back(lanes_[lane][i]);
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
  std::string answers;
  std::map<std::string, std::vector<const Operation*>> by_part;
  for (const Operation& operation : history) {
    if (operation.outcome == Operation::Outcome::kDone) {
      for (const std::string& reply : operation.replies) answers += reply;
    }
    if (!operation.linearizable || operation.outcome == Operation::Outcome::kRefused) continue;
    // An answer that never came says nothing of a read.
    if (operation.outcome == Operation::Outcome::kUnknown && !operation.Writes()) continue;
    by_part[parts.Of(operation)].push_back(&operation);
  }
  const Observed observed(answers);
  Judgement judgement;
  for (const auto& [part, operations] : by_part) {
    // Most of what has an unknown outcome never showed: an order without it is an order, and far
    // easier to find.
    std::vector<const Operation*> seen;
    std::copy_if(operations.begin(), operations.end(), std::back_inserter(seen),
                 [&](const Operation* operation) { return observed.Shows(*operation); });
    Search::Result result = Search(seen, states_max).Run();
    if (result == Search::Result::kFits) continue;
    Search search(operations, states_max);
    if (result == Search::Result::kViolation) result = search.Run();
    if (result == Search::Result::kUndecided) ++judgement.undecided;
    if (result == Search::Result::kViolation && judgement.violation.empty())
      judgement.violation = search.Explain();
  }
  return judgement;
}

}  // namespace catena::sim
