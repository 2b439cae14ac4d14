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
  Search(const std::vector<const Operation*>& operations, uint64_t states_max)
      : states_max_(states_max) {
    std::map<size_t, size_t> lane_of;
    for (const Operation* operation : operations) {
      auto [found, added] = lane_of.try_emplace(operation->connection, lanes_.size());
      if (added) lanes_.emplace_back();
      lanes_[found->second].push_back(operation);
      if (operation->outcome == Operation::Outcome::kDone) ++left_;
    }
    next_.assign(lanes_.size(), 0);
  }

  enum class Result { kFits, kViolation, kUndecided };
  Result Run();
  std::string Explain() const;

 private:
  struct Step {
    std::vector<std::pair<size_t, size_t>> choices;  // (lane, index of the operation taken)
    size_t tried = 0;
    size_t lane = 0, before = 0;  // to undo
    Data data;
    bool counted = false;
  };

  std::vector<std::pair<size_t, size_t>> Choices() const;
  bool ChangesNothing(const Operation& operation) const;
  bool Apply(const Operation& operation);
  bool Remember();
  void NoteProgress();

  std::vector<std::vector<const Operation*>> lanes_;
  std::vector<size_t> next_;
  size_t left_ = 0, best_left_ = SIZE_MAX;
  std::vector<size_t> best_next_;
  Data data_, best_data_;
  std::unordered_set<uint64_t> seen_;
  uint64_t states_max_;
};

// What may take effect next: nothing that was sent after something else had been answered that has
// not taken effect yet. Those with a known answer first, the earliest answered first.
std::vector<std::pair<size_t, size_t>> Search::Choices() const {
  TimePoint frontier = TimePoint::max();
  for (size_t lane = 0; lane < lanes_.size(); ++lane) {
    for (size_t i = next_[lane]; i < lanes_[lane].size(); ++i) {
      const Operation& operation = *lanes_[lane][i];
      if (operation.sent > frontier) break;
      if (operation.outcome != Operation::Outcome::kDone) continue;
      frontier = std::min(frontier, operation.answered);
      break;
    }
  }
  std::vector<std::pair<size_t, size_t>> known, unknown;
  for (size_t lane = 0; lane < lanes_.size(); ++lane) {
    for (size_t i = next_[lane]; i < lanes_[lane].size(); ++i) {
      const Operation& operation = *lanes_[lane][i];
      if (operation.sent > frontier) break;
      const bool done = operation.outcome == Operation::Outcome::kDone;
      (done ? known : unknown).emplace_back(lane, i);
      if (done) break;  // those before it may never have happened; it cannot be passed over
    }
  }
  for (const auto& choice : known) {
    if (choice.second == next_[choice.first] &&
        ChangesNothing(*lanes_[choice.first][choice.second]))
      return {choice};
  }
  std::sort(known.begin(), known.end(), [this](const auto& a, const auto& b) {
    const Operation& first = *lanes_[a.first][a.second];
    const Operation& second = *lanes_[b.first][b.second];
    return std::pair(first.hint, first.answered) < std::pair(second.hint, second.answered);
  });
  known.insert(known.end(), unknown.begin(), unknown.end());
  return known;
}

// Its answer fits now and it leaves everything as it is: whatever order there is, there is one in
// which it comes now.
bool Search::ChangesNothing(const Operation& operation) const {
  if (!operation.Writes()) {
    for (size_t i = 0; i < operation.commands.size(); ++i) {
      if (Read(data_, operation.commands[i]) != operation.replies[i]) return false;
    }
    return true;
  }
  if (operation.commands.size() > 1 || operation.replies[0] != ":0\r\n") return false;
  Data data = data_;
  const Executed executed = Execute(data, operation.commands[0]);
  return !executed.changed && executed.reply == operation.replies[0];
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
  steps.push_back({Choices(), 0, 0, 0, data_, false});
  while (!steps.empty()) {
    Step& step = steps.back();
    if (step.tried > 0) {  // undo the last try
      next_[step.lane] = step.before;
      data_ = step.data;
      if (step.counted) ++left_;
    }
    if (step.tried == step.choices.size()) {
      steps.pop_back();
      continue;
    }
    const auto [lane, index] = step.choices[step.tried++];
    const Operation& operation = *lanes_[lane][index];
    step.lane = lane;
    step.before = next_[lane];
    step.counted = false;
    if (!Apply(operation)) continue;
    next_[lane] = index + 1;
    step.counted = operation.outcome == Operation::Outcome::kDone;
    if (step.counted) --left_;
    if (left_ == 0) return Result::kFits;
    if (!Remember()) continue;
    if (seen_.size() > states_max_) return Result::kUndecided;
    NoteProgress();
    steps.push_back({Choices(), 0, 0, 0, data_, false});
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
    if (Search(seen, states_max).Run() == Search::Result::kFits) continue;
    Search search(operations, states_max);
    const Search::Result result = search.Run();
    if (result == Search::Result::kUndecided) ++judgement.undecided;
    if (result == Search::Result::kViolation && judgement.violation.empty())
      judgement.violation = search.Explain();
  }
  return judgement;
}

}  // namespace catena::sim
