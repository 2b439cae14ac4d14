#include "proxy/command/key_finder.h"

#include "proxy/base/text.h"

namespace catena::command {
namespace {

using Arguments = std::span<const std::string_view>;
using KeyRule = CommandInfo::KeyRule;
using KeySpec = CommandInfo::KeySpec;

// ---- Which rule a command gets ----

struct NamedRule {
  std::string_view name;
  KeyRule rule;
};

constexpr NamedRule kNamedRules[] = {
    {"sort", KeyRule::kSort},          {"sort_ro", KeyRule::kSort},
    {"georadius", KeyRule::kGeoStore}, {"georadiusbymember", KeyRule::kGeoStore},
    {"migrate", KeyRule::kMigrate},    {"eval", KeyRule::kScript},
    {"eval_ro", KeyRule::kScript},     {"evalsha", KeyRule::kScript},
    {"evalsha_ro", KeyRule::kScript},  {"fcall", KeyRule::kScript},
    {"fcall_ro", KeyRule::kScript},
};

KeySpec RangeAt(int index) {
  KeySpec spec;
  spec.begin = KeySpec::Begin::kIndex;
  spec.index = index;
  spec.find = KeySpec::Find::kRange;
  return spec;
}

// "numkeys key [key ...]" with numkeys at `index`.
KeySpec NumkeysAt(int index) {
  KeySpec spec;
  spec.begin = KeySpec::Begin::kIndex;
  spec.index = index;
  spec.find = KeySpec::Find::kKeynum;
  spec.first_key = 1;
  return spec;
}

// "STREAMS key [key ...] id [id ...]": the first half behind the keyword.
KeySpec StreamsFrom(int index) {
  KeySpec spec;
  spec.begin = KeySpec::Begin::kKeyword;
  spec.index = index;
  spec.keyword = "STREAMS";
  spec.find = KeySpec::Find::kRange;
  spec.last_key = -1;
  spec.limit = 2;
  return spec;
}

// What 7.0 says about the commands that 6.2 calls movablekeys without saying where.
std::vector<KeySpec> SpecsOfOldCommand(std::string_view name) {
  if (name == "eval" || name == "evalsha") return {NumkeysAt(2)};
  if (name == "zunion" || name == "zinter" || name == "zdiff") return {NumkeysAt(1)};
  if (name == "zunionstore" || name == "zinterstore" || name == "zdiffstore") {
    return {RangeAt(1), NumkeysAt(2)};
  }
  if (name == "xread") return {StreamsFrom(1)};
  if (name == "xreadgroup") return {StreamsFrom(4)};
  if (name == "memory|usage") return {RangeAt(2)};
  return {};
}

// ---- Finding ----

// Positions first, first + step ... last. They must lie within the arguments, in order.
bool AppendRange(int64_t first, int64_t last, int64_t step, Arguments arguments,
                 std::vector<uint32_t>& keys) {
  if (first < 1 || last < first || last >= std::ssize(arguments) || step < 1) return false;
  for (int64_t i = first; i <= last; i += step) keys.push_back(static_cast<uint32_t>(i));
  return true;
}

KeyKnowledge Exactly(bool found) { return found ? KeyKnowledge::kExact : KeyKnowledge::kUnknown; }

KeyKnowledge FindByRange(const CommandInfo& info, Arguments arguments,
                         std::vector<uint32_t>& keys) {
  const int64_t last = info.last_key < 0 ? std::ssize(arguments) + info.last_key : info.last_key;
  return Exactly(AppendRange(info.first_key, last, info.key_step, arguments, keys));
}

// Where the keys of `spec` begin; 0: it does not apply to these arguments (its keyword is missing).
int64_t BeginOf(const KeySpec& spec, Arguments arguments) {
  if (spec.begin == KeySpec::Begin::kIndex) return spec.index;
  const int64_t count = std::ssize(arguments);
  const bool backwards = spec.index < 0;
  const int64_t start = backwards ? count + spec.index : spec.index;
  for (int64_t i = start; i >= 1 && i < count; i += backwards ? -1 : 1) {
    if (EqualsIgnoringCase(arguments[i], spec.keyword)) return i + 1;
  }
  return 0;
}

// A numkeys argument: a decimal number that fits the number of arguments.
std::optional<int64_t> ParseCount(std::string_view text) {
  const auto value = ParseNumber<int64_t>(text);
  if (!value || *value < 0 || *value > INT32_MAX) return std::nullopt;
  return value;
}

bool AppendCounted(const KeySpec& spec, int64_t begin, bool zero_allowed, Arguments arguments,
                   std::vector<uint32_t>& keys) {
  const int64_t count_at = begin + spec.keynum_index;
  if (count_at < 1 || count_at >= std::ssize(arguments)) return false;
  const auto count = ParseCount(arguments[count_at]);
  if (!count) return false;
  if (*count == 0) return zero_allowed;
  const int64_t first = begin + spec.first_key;
  return AppendRange(first, first + (*count - 1) * spec.key_step, spec.key_step, arguments, keys);
}

bool AppendBySpec(const KeySpec& spec, bool zero_allowed, Arguments arguments,
                  std::vector<uint32_t>& keys) {
  if (spec.begin == KeySpec::Begin::kUnknown || spec.find == KeySpec::Find::kUnknown) return false;
  const int64_t begin = BeginOf(spec, arguments);
  if (begin == 0) return !spec.incomplete;
  if (spec.find == KeySpec::Find::kKeynum) {
    return AppendCounted(spec, begin, zero_allowed, arguments, keys) && !spec.incomplete;
  }
  int64_t last = begin + spec.last_key;
  if (spec.last_key < 0) {
    const int64_t left = std::ssize(arguments) - begin;
    last = begin + (spec.limit > 1 ? left / spec.limit : left) + spec.last_key;
  }
  return AppendRange(begin, last, spec.step, arguments, keys) && !spec.incomplete;
}

KeyKnowledge FindBySpecs(const CommandInfo& info, bool zero_allowed, Arguments arguments,
                         std::vector<uint32_t>& keys) {
  const size_t before = keys.size();
  bool all = true;
  for (const KeySpec& spec : info.specs) all &= AppendBySpec(spec, zero_allowed, arguments, keys);
  // No specification applied: the command lacks its keyword.
  return Exactly(all && keys.size() > before);
}

// SORT key [BY pattern] [LIMIT offset count] [GET pattern ...] [ASC|DESC] [ALPHA] [STORE
// destination]: the patterns name keys by what is in the list, but only those with a '*'.
KeyKnowledge FindSortKeys(Arguments arguments, std::vector<uint32_t>& keys) {
  if (arguments.size() < 2) return KeyKnowledge::kUnknown;
  keys.push_back(1);
  bool all = true;
  for (size_t i = 2; i < arguments.size(); ++i) {
    const bool has_next = i + 1 < arguments.size();
    if (EqualsIgnoringCase(arguments[i], "limit")) {
      i += 2;
    } else if (EqualsIgnoringCase(arguments[i], "by") || EqualsIgnoringCase(arguments[i], "get")) {
      all &= has_next && arguments[i + 1].find('*') == std::string_view::npos;
      ++i;
    } else if (EqualsIgnoringCase(arguments[i], "store") && has_next) {
      keys.push_back(static_cast<uint32_t>(++i));
    }
  }
  return Exactly(all);
}

// GEORADIUS key ... [STORE destination] [STOREDIST destination]: the last one named is written;
// every one is counted, as a specification (which finds the first) would miss it.
KeyKnowledge FindGeoStoreKeys(Arguments arguments, std::vector<uint32_t>& keys) {
  if (arguments.size() < 2) return KeyKnowledge::kUnknown;
  keys.push_back(1);
  for (size_t i = 5; i + 1 < arguments.size(); ++i) {
    if (EqualsIgnoringCase(arguments[i], "store") ||
        EqualsIgnoringCase(arguments[i], "storedist")) {
      keys.push_back(static_cast<uint32_t>(++i));
    }
  }
  return KeyKnowledge::kExact;
}

// MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH p] [AUTH2 u p] [KEYS key ...]
KeyKnowledge FindMigrateKeys(Arguments arguments, std::vector<uint32_t>& keys) {
  const int64_t count = std::ssize(arguments);
  if (count < 4) return KeyKnowledge::kUnknown;
  if (!arguments[3].empty()) {
    keys.push_back(3);
    return KeyKnowledge::kExact;
  }
  for (int64_t i = 6; i < count; ++i) {
    if (EqualsIgnoringCase(arguments[i], "keys")) {
      return Exactly(AppendRange(i + 1, count - 1, 1, arguments, keys));
    }
    if (EqualsIgnoringCase(arguments[i], "auth")) {
      i += 1;
    } else if (EqualsIgnoringCase(arguments[i], "auth2")) {
      i += 2;
    }
  }
  return KeyKnowledge::kUnknown;
}

}  // namespace

void AssignKeyRule(CommandInfo& info) {
  for (const NamedRule& named : kNamedRules) {
    if (info.module || named.name != info.name) continue;
    info.key_rule = named.rule;
    if (info.specs.empty()) info.specs = SpecsOfOldCommand(info.name);
    return;
  }
  if (!info.movablekeys) {
    info.key_rule = info.first_key != 0 ? KeyRule::kRange : KeyRule::kNone;
    return;
  }
  // A module's command is movable when the module finds its keys by a function of its own, which
  // only its server can call; the specification that Redis shows then is a guess.
  if (!info.module && info.specs.empty()) info.specs = SpecsOfOldCommand(info.name);
  info.key_rule = info.module || info.specs.empty() ? KeyRule::kUntold : KeyRule::kSpecs;
}

KeyKnowledge FindKeys(const CommandInfo& info, Arguments arguments, std::vector<uint32_t>& keys) {
  switch (info.key_rule) {
    case KeyRule::kNone:
      return KeyKnowledge::kExact;
    case KeyRule::kRange:
      return FindByRange(info, arguments, keys);
    case KeyRule::kSpecs:
      return FindBySpecs(info, /*zero_allowed=*/false, arguments, keys);
    case KeyRule::kScript:
      FindBySpecs(info, /*zero_allowed=*/true, arguments, keys);
      return KeyKnowledge::kUnknown;
    case KeyRule::kSort:
      return FindSortKeys(arguments, keys);
    case KeyRule::kGeoStore:
      return FindGeoStoreKeys(arguments, keys);
    case KeyRule::kMigrate:
      return FindMigrateKeys(arguments, keys);
    case KeyRule::kUntold:
      break;
  }
  return KeyKnowledge::kUnknown;
}

bool MayBlock(const CommandInfo& info, Arguments arguments) {
  if (!info.blocking) return false;
  if (info.name != "xread" && info.name != "xreadgroup") return true;
  // Read as Redis does, so that a group or consumer named "STREAMS" or "BLOCK" is no option.
  for (size_t i = 1; i < arguments.size(); ++i) {
    if (EqualsIgnoringCase(arguments[i], "block")) return true;
    if (EqualsIgnoringCase(arguments[i], "streams")) return false;
    if (EqualsIgnoringCase(arguments[i], "group")) {
      i += 2;
    } else if (EqualsIgnoringCase(arguments[i], "count")) {
      i += 1;
    }
  }
  return false;
}

}  // namespace catena::command
