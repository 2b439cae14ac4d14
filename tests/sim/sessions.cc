#include "tests/sim/sessions.h"

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "backends/rocksdb/batch.h"
#include "proxy/base/check.h"

namespace catena::sim {
namespace {

using server::Consistency;

// The data after each entry of a stream.
class Versions {
 public:
  explicit Versions(const Stream& stream);

  size_t count() const { return versions_.size(); }
  // All replies are what the commands read there.
  bool Shows(size_t version, const Operation& operation) const;
  // When it was first known that the next one is committed; `max` for the last.
  TimePoint replaced(size_t version) const {
    return version + 1 < count() ? versions_[version + 1].since : TimePoint::max();
  }
  // The first that has this value in one of its keys; nullopt: none.
  std::optional<size_t> WrittenAt(const std::string& value) const {
    const auto found = written_.find(value);
    return found == written_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  struct Version {
    Data data;
    TimePoint since;
  };
  // False: it is no change.
  bool Execute(const Arguments& command);
  void NoteValue(const std::string& value);

  std::vector<Version> versions_{{{}, TimePoint::min()}};
  std::unordered_map<std::string, size_t> written_;
  Data data_;
};

Versions::Versions(const Stream& stream) {
  bool in_transaction = false;
  ForEachCommand(stream, [&](const Arguments& command, size_t, TimePoint committed) {
    if (command[0] == "MULTI") in_transaction = true;
    if (command[0] == "EXEC") in_transaction = false;
    const bool changed = Execute(command) || command[0] == "EXEC";
    if (changed && !in_transaction) versions_.push_back({data_, committed});
  });
}

bool Versions::Execute(const Arguments& command) {
  if (command[0] == "CATENA.WRITE") {
    const auto read = rocks::ReadSerialized(command[1], [&](const rocks::Change& change) {
      const std::string key(change.key);
      if (change.value) {
        NoteValue(data_[key] = std::string(*change.value));
      } else {
        data_.erase(key);
      }
    });
    CATENA_CHECK(read.has_value(), "what was committed was checked on arrival");
    return true;
  }
  if (!IsWrite(command[0])) return false;
  sim::Execute(data_, command);
  NoteValue(command.back());
  return true;
}

// By what it ends with, which one command wrote alone.
void Versions::NoteValue(const std::string& value) {
  const size_t token = value.rfind('v');
  if (token != std::string::npos) written_.try_emplace(value.substr(token), count());
}

bool Versions::Shows(size_t version, const Operation& operation) const {
  const Data& data = versions_[version].data;
  for (size_t i = 0; i < operation.commands.size(); ++i) {
    if (Read(data, operation.commands[i]) != operation.replies[i]) return false;
  }
  return true;
}

class Judge {
 public:
  Judge(const Versions& versions, Duration max_staleness)
      : versions_(versions), max_staleness_(max_staleness) {}

  std::string Take(const Operation& operation) {
    if (operation.Writes()) return TakeWrite(operation);
    return operation.consistency == Consistency::kSequential ? TakeSequential(operation)
                                                             : TakeEventual(operation);
  }

 private:
  std::string TakeWrite(const Operation& operation) {
    for (const Arguments& command : operation.commands) {
      if (const auto version = versions_.WrittenAt(command.back())) {
        size_t& seen = seen_[operation.connection];
        seen = std::max(seen, *version);
      }
    }
    return "";
  }

  // The earliest place that explains it leaves most to those that follow.
  std::string TakeSequential(const Operation& operation) {
    size_t& seen = seen_[operation.connection];
    for (size_t version = seen; version < versions_.count(); ++version) {
      if (!versions_.Shows(version, operation)) continue;
      seen = version;
      return "";
    }
    return "goes back behind what its connection has seen, or shows what never was: " +
           operation.Text();
  }

  std::string TakeEventual(const Operation& operation) {
    for (size_t version = versions_.count(); version-- > 0;) {
      if (!versions_.Shows(version, operation)) continue;
      const TimePoint replaced = versions_.replaced(version);
      if (max_staleness_ == Duration(0) || replaced >= operation.sent - max_staleness_) return "";
      return "shows what was replaced " +
             std::to_string((operation.sent - replaced) / std::chrono::milliseconds(1)) +
             " ms before: " + operation.Text();
    }
    return "shows what never was: " + operation.Text();
  }

  const Versions& versions_;
  const Duration max_staleness_;
  std::unordered_map<size_t, size_t> seen_;  // by connection: the place that it has seen
};

}  // namespace

std::string CheckSessions(const std::map<std::string, Stream>& streams, const History& history,
                          Duration max_staleness) {
  const bool any = std::any_of(history.begin(), history.end(), [](const Operation& operation) {
    return !operation.Linearizable();
  });
  if (!any || streams.size() != 1 || streams.begin()->second.kept != UINT64_MAX) return "";
  const Versions versions(streams.begin()->second);
  Judge judge(versions, max_staleness);
  for (const Operation& operation : history) {
    const bool weaker = operation.consistency == Consistency::kSequential ||
                        operation.consistency == Consistency::kEventual;
    if (!weaker || operation.outcome != Operation::Outcome::kDone) continue;
    if (std::string wrong = judge.Take(operation); !wrong.empty()) return wrong;
  }
  return "";
}

}  // namespace catena::sim
