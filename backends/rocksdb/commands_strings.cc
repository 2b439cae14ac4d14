// Strings as a whole and in pieces.
#include <algorithm>

#include "backends/rocksdb/command_handlers.h"

namespace catena::rocks::handlers {
namespace {

// What SET and GETEX say of the time a key has to live.
enum class Lifetime : uint8_t { kUntold, kKeep, kPersist, kEx, kPx, kExAt, kPxAt };

struct SetOptions {
  bool if_absent = false, if_present = false, answers_old = false;
  Lifetime lifetime = Lifetime::kUntold;
  size_t time_at = 0;  // where its number is; 0: it has none
};

TimeUnit UnitOf(Lifetime lifetime) {
  return {.seconds = lifetime == Lifetime::kEx || lifetime == Lifetime::kExAt,
          .relative = lifetime == Lifetime::kEx || lifetime == Lifetime::kPx};
}

// Takes an option about the lifetime at `at`, which it moves to the option's last word.
bool TakeLifetime(const Call& call, bool sets, size_t& at, SetOptions& options) {
  static constexpr std::pair<std::string_view, Lifetime> kTimes[] = {{"ex", Lifetime::kEx},
                                                                     {"px", Lifetime::kPx},
                                                                     {"exat", Lifetime::kExAt},
                                                                     {"pxat", Lifetime::kPxAt}};
  const auto choose = [&](Lifetime lifetime) {
    if (options.lifetime != Lifetime::kUntold && options.lifetime != lifetime) return false;
    options.lifetime = lifetime;
    return true;
  };
  if (sets && call.Is(at, "keepttl")) return choose(Lifetime::kKeep);
  if (!sets && call.Is(at, "persist")) return choose(Lifetime::kPersist);
  for (const auto& [word, lifetime] : kTimes) {
    if (!call.Is(at, word) || at + 1 == call.count() || !choose(lifetime)) continue;
    options.time_at = ++at;
    return true;
  }
  return false;
}

bool ParseOptions(const Call& call, size_t first, bool sets, SetOptions& options) {
  for (size_t at = first; at < call.count(); ++at) {
    if (sets && call.Is(at, "nx") && !options.if_present) {
      options.if_absent = true;
    } else if (sets && call.Is(at, "xx") && !options.if_absent) {
      options.if_present = true;
    } else if (sets && call.Is(at, "get")) {
      options.answers_old = true;
    } else if (!TakeLifetime(call, sets, at, options)) {
      return call.Refuse(kSyntaxError);
    }
  }
  return true;
}

bool CheckLength(const Call& call, int64_t length, size_t more) {
  int64_t total = 0;
  if (!__builtin_add_overflow(length, static_cast<int64_t>(more), &total) &&
      total <= kStringBytesMax)
    return true;
  call.Error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
  return false;
}

void ReplyValue(const Call& call, bool found, const Item& item) {
  if (found) {
    call.Bulk(item.value);
  } else {
    call.Null();
  }
}

// SETEX and PSETEX.
void SetWithTime(const Call& call, bool seconds) {
  const auto deadline = TakeDeadline(call, 2, {.seconds = seconds, .relative = true});
  if (!deadline) return;
  PutUntil(call, call[1], call[3], *deadline);
  call.Ok();
}

void PutPairs(const Call& call) {
  for (size_t i = 1; i < call.count(); i += 2)
    call.view().Put(call[i], call[i + 1], Item::kNoDeadline);
}

}  // namespace

void Get(Call& call) { ReplyValue(call, call.Get(call[1], call.item()), call.item()); }

void Set(Call& call) {
  SetOptions options;
  if (!ParseOptions(call, 3, true, options)) return;
  int64_t deadline = Item::kNoDeadline;
  if (options.time_at > 0) {
    const auto taken = TakeDeadline(call, options.time_at, UnitOf(options.lifetime));
    if (!taken) return;
    deadline = *taken;
  }
  const bool keeps = options.lifetime == Lifetime::kKeep;
  bool found = false;
  if (options.answers_old || keeps) {
    found = call.Get(call[1], call.item());
    if (keeps && found) deadline = call.item().deadline_ms;
  } else if (options.if_absent || options.if_present) {
    found = call.view().Has(call[1]);
  }
  const bool refused = (options.if_absent && found) || (options.if_present && !found);
  if (options.answers_old) {
    ReplyValue(call, found, call.item());
  } else if (refused) {
    call.Null();
  } else {
    call.Ok();
  }
  if (!refused) PutUntil(call, call[1], call[2], deadline);
}

void SetNx(Call& call) {
  const bool found = call.view().Has(call[1]);
  if (!found) call.view().Put(call[1], call[2], Item::kNoDeadline);
  call.Integer(found ? 0 : 1);
}

void SetEx(Call& call) { SetWithTime(call, true); }
void PSetEx(Call& call) { SetWithTime(call, false); }

void GetSet(Call& call) {
  Get(call);
  call.view().Put(call[1], call[2], Item::kNoDeadline);
}

void GetDel(Call& call) {
  const bool found = call.Get(call[1], call.item());
  ReplyValue(call, found, call.item());
  if (found) call.view().Delete(call[1]);
}

void GetEx(Call& call) {
  SetOptions options;
  if (!ParseOptions(call, 2, false, options)) return;
  if (!call.Get(call[1], call.item())) return call.Null();
  Item& item = call.item();
  if (options.time_at > 0) {
    const auto deadline = TakeDeadline(call, options.time_at, UnitOf(options.lifetime));
    if (!deadline) return;
    PutUntil(call, call[1], item.value, *deadline);
  } else if (options.lifetime == Lifetime::kPersist && item.deadline_ms != Item::kNoDeadline) {
    call.view().Put(call[1], item.value, Item::kNoDeadline);
  }
  call.Bulk(item.value);
}

void MGet(Call& call) {
  call.Array(call.count() - 1);
  for (size_t i = 1; i < call.count(); ++i)
    ReplyValue(call, call.Get(call[i], call.item()), call.item());
}

void MSet(Call& call) {
  if (call.count() % 2 == 0) return call.WrongArity();
  PutPairs(call);
  call.Ok();
}

void MSetNx(Call& call) {
  if (call.count() % 2 == 0) return call.WrongArity();
  for (size_t i = 1; i < call.count(); i += 2) {
    if (call.view().Has(call[i])) return call.Integer(0);
  }
  PutPairs(call);
  call.Integer(1);
}

void Append(Call& call) {
  Item& item = call.item();
  if (!call.Get(call[1], item)) {
    item.value.clear();
    item.deadline_ms = Item::kNoDeadline;
  } else if (!CheckLength(call, static_cast<int64_t>(item.value.size()), call[2].size())) {
    return;
  }
  item.value.append(call[2]);
  call.view().Put(call[1], item.value, item.deadline_ms);
  call.Integer(static_cast<int64_t>(item.value.size()));
}

void StrLen(Call& call) {
  const bool found = call.Get(call[1], call.item());
  call.Integer(found ? static_cast<int64_t>(call.item().value.size()) : 0);
}

void SetRange(Call& call) {
  const auto offset = call.TakeInteger(2);
  if (!offset) return;
  if (*offset < 0) return call.Error("ERR offset is out of range");
  const std::string_view piece = call[3];
  Item& item = call.item();
  if (!call.Get(call[1], item)) {
    item.value.clear();
    item.deadline_ms = Item::kNoDeadline;
  }
  if (piece.empty()) return call.Integer(static_cast<int64_t>(item.value.size()));
  if (!CheckLength(call, *offset, piece.size())) return;
  const auto at = static_cast<size_t>(*offset);
  item.value.resize(std::max(item.value.size(), at + piece.size()));
  piece.copy(item.value.data() + at, piece.size());
  call.view().Put(call[1], item.value, item.deadline_ms);
  call.Integer(static_cast<int64_t>(item.value.size()));
}

void GetRange(Call& call) {
  const auto first = call.TakeInteger(2);
  if (!first) return;
  const auto last = call.TakeInteger(3);
  if (!last) return;
  if (!call.Get(call[1], call.item())) return call.Bulk("");
  const std::string_view value = call.item().value;
  const auto length = static_cast<int64_t>(value.size());
  if (*first < 0 && *last < 0 && *first > *last) return call.Bulk("");
  const auto from_front = [&](int64_t index) {
    return std::max<int64_t>(index < 0 ? length + index : index, 0);
  };
  const int64_t begin = from_front(*first), end = std::min(from_front(*last), length - 1);
  if (begin > end) return call.Bulk("");
  call.Bulk(value.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin + 1)));
}

}  // namespace catena::rocks::handlers
