// Keys' deadlines.
#include <algorithm>

#include "backends/rocksdb/command_handlers.h"

namespace catena::rocks::handlers {
namespace {

// On which deadlines the key has now EXPIRE does anything.
struct ExpiryCondition {
  bool if_none = false, if_some = false, if_later = false, if_earlier = false;
};

bool ParseCondition(const Call& call, ExpiryCondition& condition) {
  for (size_t at = 3; at < call.count(); ++at) {
    if (call.Is(at, "nx")) {
      condition.if_none = true;
    } else if (call.Is(at, "xx")) {
      condition.if_some = true;
    } else if (call.Is(at, "gt")) {
      condition.if_later = true;
    } else if (call.Is(at, "lt")) {
      condition.if_earlier = true;
    } else {
      const std::string_view option = call[at];
      call.Error("ERR Unsupported option " + std::string(option.substr(0, option.find('\0'))));
      return false;
    }
  }
  const auto& [none, some, later, earlier] = condition;
  if (none && (some || later || earlier)) {
    call.Error("ERR NX and XX, GT or LT options at the same time are not compatible");
  } else if (later && earlier) {
    call.Error("ERR GT and LT options at the same time are not compatible");
  } else {
    return true;
  }
  return false;
}

// A key without a deadline has one that is later than any.
bool Holds(const ExpiryCondition& condition, int64_t now, int64_t wanted) {
  const bool has = now != Item::kNoDeadline;
  if (condition.if_none && has) return false;
  if (condition.if_some && !has) return false;
  if (condition.if_later && (!has || wanted <= now)) return false;
  return !condition.if_earlier || !has || wanted < now;
}

void SetDeadline(const Call& call, TimeUnit unit) {
  ExpiryCondition condition;
  if (!ParseCondition(call, condition)) return;
  const auto number = call.TakeInteger(2);
  if (!number) return;
  int64_t when = *number;
  if (unit.seconds && __builtin_mul_overflow(when, 1000, &when)) return call.InvalidExpireTime();
  if (unit.relative && __builtin_add_overflow(when, call.now_ms(), &when))
    return call.InvalidExpireTime();
  if (!call.Get(call[1], call.item())) return call.Integer(0);
  if (!Holds(condition, call.item().deadline_ms, when)) return call.Integer(0);
  if (IsPast(call, when)) {
    call.view().Delete(call[1]);
  } else {
    call.view().Put(call[1], call.item().value, when);
  }
  call.Integer(1);
}

// The time that is left, or the deadline itself; -1: none, -2: no such key.
void ReplyDeadline(const Call& call, TimeUnit unit) {
  if (!call.Get(call[1], call.item())) return call.Integer(-2);
  int64_t time = call.item().deadline_ms;
  if (time == Item::kNoDeadline) return call.Integer(-1);
  if (unit.relative) time = std::max<int64_t>(time - call.now_ms(), 0);
  if (unit.seconds) time = time / 1000 + (time % 1000 >= 500 ? 1 : 0);
  call.Integer(time);
}

}  // namespace

void Expire(Call& call) { SetDeadline(call, {.seconds = true, .relative = true}); }
void PExpire(Call& call) { SetDeadline(call, {.relative = true}); }
void ExpireAt(Call& call) { SetDeadline(call, {.seconds = true}); }
void PExpireAt(Call& call) { SetDeadline(call, {}); }

void Ttl(Call& call) { ReplyDeadline(call, {.seconds = true, .relative = true}); }
void PTtl(Call& call) { ReplyDeadline(call, {.relative = true}); }
void ExpireTime(Call& call) { ReplyDeadline(call, {.seconds = true}); }
void PExpireTime(Call& call) { ReplyDeadline(call, {}); }

void Persist(Call& call) {
  const bool had = call.Get(call[1], call.item()) && call.item().deadline_ms != Item::kNoDeadline;
  if (had) call.view().Put(call[1], call.item().value, Item::kNoDeadline);
  call.Integer(had);
}

}  // namespace catena::rocks::handlers
