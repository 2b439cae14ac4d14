#include "tests/sim/effects.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "backends/rocksdb/batch.h"
#include "proxy/resp/decoder.h"

namespace catena::sim {
namespace {

struct Effect {
  uint64_t place;
  TimePoint at;
  bool taken = false;
};

// A value or a tag that one command of the run has alone.
bool IsToken(const std::string& argument) {
  return argument.size() > 1 && (argument[0] == 'v' || argument[0] == 't') &&
         std::isdigit(static_cast<unsigned char>(argument[1]));
}

// The value that a BLPOP was answered with; "": none.
std::string Popped(const std::string& reply) {
  const size_t token = reply.rfind("\r\nv");
  return token == std::string::npos ? "" : reply.substr(token + 2, reply.size() - token - 4);
}

// By what a command's effect is known; "": it has none.
std::string NameOf(const Arguments& command) {
  if (command[0] == "FLUSHALL") return command[0];
  const std::string last = command.back().substr(command.back().find('/') + 1);
  if (IsToken(last)) return last;
  return command[0] == "INCRBY" ? "by " + last : "";
}

// RocksDB's effects are what keys are then: a value ends with its token, a sum is what makes the
// difference. Whose a deletion was only its keys and the time tell.
class WrittenNames {
 public:
  std::string Of(std::string_view batch) {
    std::string name;
    const auto read = rocks::ReadSerialized(batch, [&](const rocks::Change& change) {
      name = change.value ? OfValue(std::string(*change.value)) : OfDeletion(change.key);
    });
    return read ? name : "";
  }
  static std::string OfDeletion(std::string_view key) { return "DEL " + std::string(key); }
  void Flush() { sum_ = 0; }

 private:
  std::string OfValue(const std::string& value) {
    const size_t token = value.rfind('v');
    if (token != std::string::npos) return value.substr(token);
    const long long sum = std::strtoll(value.c_str(), nullptr, 10);
    return "by " + std::to_string(sum - std::exchange(sum_, sum));
  }

  long long sum_ = 0;  // of the one key that is counted in
};

class Effects {
 public:
  explicit Effects(const std::map<std::string, Stream>& streams) {
    std::vector<const Stream*> in_order;
    for (const auto& [replid, stream] : streams) in_order.push_back(&stream);
    std::sort(in_order.begin(), in_order.end(),
              [](const Stream* a, const Stream* b) { return a->start < b->start; });
    for (const Stream* stream : in_order) Read(*stream);
  }

  bool IsLost(const std::string& name) const { return lost_.contains(name); }

  // The first of this name that nobody has taken and that was committed in this time.
  uint64_t Take(const std::string& name, TimePoint after, TimePoint until) {
    auto found = by_name_.find(name);
    if (found == by_name_.end()) return 0;
    for (Effect& effect : found->second) {
      if (effect.taken || effect.at < after || effect.at > until) continue;
      effect.taken = true;
      return effect.place;
    }
    return 0;
  }

 private:
  void Read(const Stream& stream) {
    ForEachCommand(stream, [&](const Arguments& command, size_t end, TimePoint committed) {
      const bool rocks = command[0] == "CATENA.WRITE";
      if (command[0] == "FLUSHALL") written_.Flush();
      if (!rocks && !IsWrite(command[0])) return;
      if (command[0] == "FLUSHALL") lists_.clear();
      if (command[0] == "RPUSH") Execute(lists_, command);
      const std::string name = rocks                  ? written_.Of(command[1])
                               : command[0] == "LPOP" ? "pop " + PopFront(lists_, command[1])
                                                      : NameOf(command);
      if (stream.start + end > stream.kept) {
        lost_.insert(name);
      } else {
        by_name_[name].push_back({stream.start + end, committed});
      }
    });
  }

  WrittenNames written_;
  Data lists_;
  std::unordered_set<std::string> lost_;
  std::unordered_map<std::string, std::vector<Effect>> by_name_;
};

}  // namespace

void ForEachCommand(const Stream& stream,
                    const std::function<void(const Arguments&, size_t, TimePoint)>& use) {
  resp::CommandDecoder decoder;
  int database = 0;
  auto time = stream.committed_at.begin();
  for (size_t at = 0; at < stream.bytes.size();) {
    resp::Command command;
    size_t consumed = 0;
    const std::string_view rest = std::string_view(stream.bytes).substr(at);
    if (decoder.Decode(rest, command, consumed) != resp::Progress::kComplete) return;
    at += consumed;
    while (time != stream.committed_at.end() && time->first < at) ++time;
    if (time == stream.committed_at.end()) return;
    Arguments arguments(command.arguments.begin(), command.arguments.end());
    if (arguments[0] == "SELECT") database = std::stoi(arguments[1]);
    // RocksDB's are no commands, and of one database.
    const bool named = database > 0 && IsWrite(arguments[0]);
    use(named ? InDatabase(database, std::move(arguments)) : arguments, at, time->second);
  }
}

std::string FindEffects(const std::map<std::string, Stream>& streams, History& history) {
  Effects effects(streams);
  std::string wrong;
  const auto find = [&](Operation& operation) {
    const bool done = operation.outcome == Operation::Outcome::kDone;
    const TimePoint until = done ? operation.answered : TimePoint::max();
    for (const Arguments& command : operation.commands) {
      const bool pops = command[0] == "BLPOP" && done && operation.commands.size() == 1;
      const std::string name = pops ? "pop " + Popped(operation.replies[0]) : NameOf(command);
      uint64_t place = name.empty() ? 0 : effects.Take(name, operation.sent, until);
      for (size_t i = 1; place == 0 && command[0] == "DEL" && i < command.size(); ++i)
        place = effects.Take(WrittenNames::OfDeletion(command[i]), operation.sent, until);
      if (place != 0) operation.hint = place;
      if (done && wrong.empty() && IsToken(name) && effects.IsLost(name))
        wrong = "answered, and lost with all proxies: " + operation.Text();
    }
  };
  // Those that nobody's value tells apart belong to whoever was answered first.
  std::vector<Operation*> in_order;
  for (Operation& operation : history) {
    if (operation.outcome != Operation::Outcome::kRefused) in_order.push_back(&operation);
  }
  std::stable_sort(in_order.begin(), in_order.end(), [](const Operation* a, const Operation* b) {
    return std::pair(a->outcome != Operation::Outcome::kDone, a->answered) <
           std::pair(b->outcome != Operation::Outcome::kDone, b->answered);
  });
  for (Operation* operation : in_order) find(*operation);
  return wrong;
}

}  // namespace catena::sim
