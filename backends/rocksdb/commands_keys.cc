// Keys, whatever their values.
#include <limits>

#include "backends/rocksdb/command_handlers.h"

namespace catena::rocks::handlers {
namespace {

// Argument `at` as the number of a database: there is one only, number 0.
bool TakeDatabase(const Call& call, size_t at) {
  const auto number = call.TakeInteger(at);
  if (!number) return false;
  if (*number == 0) return true;
  const bool is_int =
      *number >= std::numeric_limits<int>::min() && *number <= std::numeric_limits<int>::max();
  call.Error(is_int ? "ERR DB index is out of range"
                    : "ERR value is out of range, value must between -2147483648 and 2147483647");
  return false;
}

// REPLACE, and DB 0; nullopt: an error is replied.
std::optional<bool> TakeReplace(const Call& call) {
  bool replaces = false;
  for (size_t at = 3; at < call.count(); ++at) {
    if (call.Is(at, "replace")) {
      replaces = true;
    } else if (call.Is(at, "db") && at + 1 < call.count()) {
      if (!TakeDatabase(call, ++at)) return std::nullopt;
    } else {
      call.Error(kSyntaxError);
      return std::nullopt;
    }
  }
  return replaces;
}

void MoveKey(const Call& call, bool replaces) {
  Item& item = call.item();
  if (!call.Get(call[1], item)) return call.Error(kNoSuchKey);
  const bool same = call[1] == call[2];
  if (!replaces && (same || call.view().Has(call[2]))) return call.Integer(0);
  if (!same) {
    call.view().Delete(call[1]);
    call.view().Put(call[2], item.value, item.deadline_ms);
  }
  if (replaces) return call.Ok();
  call.Integer(1);
}

constexpr size_t kShortStringMax = 44;       // Redis keeps it in one piece with its object
constexpr int64_t kSharedIntegerMax = 9999;  // Redis keeps one object for each

// OBJECT's replies are those for a value that was just set.
void ObjectReply(const Call& call, void (*answer)(const Call&, std::string_view value)) {
  if (!call.Get(call[2], call.item())) return call.Null();
  answer(call, call.item().value);
}

}  // namespace

void Del(Call& call) {
  int64_t deleted = 0;
  for (std::string_view key : call.arguments.subspan(1)) {
    if (!call.view().Has(key)) continue;
    call.view().Delete(key);
    ++deleted;
  }
  call.Integer(deleted);
}

void Exists(Call& call) {
  int64_t found = 0;
  for (std::string_view key : call.arguments.subspan(1)) found += call.view().Has(key);
  call.Integer(found);
}

void Type(Call& call) { call.Simple(call.view().Has(call[1]) ? "string" : "none"); }

void Rename(Call& call) { MoveKey(call, true); }
void RenameNx(Call& call) { MoveKey(call, false); }

void Copy(Call& call) {
  const auto replaces = TakeReplace(call);
  if (!replaces) return;
  if (call[1] == call[2]) return call.Error("ERR source and destination objects are the same");
  Item& item = call.item();
  if (!call.Get(call[1], item)) return call.Integer(0);
  if (!*replaces && call.view().Has(call[2])) return call.Integer(0);
  call.view().Put(call[2], item.value, item.deadline_ms);
  call.Integer(1);
}

void DbSize(Call& call) { call.Integer(static_cast<int64_t>(call.view().CountKeys())); }

void FlushAll(Call& call) {
  const bool known =
      call.count() == 1 || (call.count() == 2 && (call.Is(1, "sync") || call.Is(1, "async")));
  if (!known) return call.Error(kSyntaxError);
  call.view().Clear();
  call.Ok();
}

void Select(Call& call) {
  if (TakeDatabase(call, 1)) call.Ok();
}

void ObjectEncoding(Call& call) {
  ObjectReply(call, [](const Call& c, std::string_view value) {
    if (ParseInteger(value)) return c.Bulk("int");
    c.Bulk(value.size() <= kShortStringMax ? "embstr" : "raw");
  });
}

void ObjectRefCount(Call& call) {
  ObjectReply(call, [](const Call& c, std::string_view value) {
    const auto number = ParseInteger(value);
    const bool shared = number && *number >= 0 && *number <= kSharedIntegerMax;
    c.Integer(shared ? std::numeric_limits<int>::max() : 1);
  });
}

void ObjectIdleTime(Call& call) {
  ObjectReply(call, [](const Call& c, std::string_view) { c.Integer(0); });
}

void ObjectFreq(Call& call) {
  ObjectReply(call, [](const Call& c, std::string_view) {
    c.Error(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note "
        "that when switching between policies at runtime LRU and LFU data will take some time to "
        "adjust.");
  });
}

void ObjectHelp(Call& call) {
  call.Help("OBJECT",
            {"ENCODING <key>",
             "    Return the kind of internal representation used in order to store the value",
             "    associated with a <key>.", "FREQ <key>",
             "    Return the access frequency index of the <key>. The returned integer is",
             "    proportional to the logarithm of the recent access frequency of the key.",
             "IDLETIME <key>",
             "    Return the idle time of the <key>, that is the approximated number of",
             "    seconds elapsed since the last access to the key.", "REFCOUNT <key>",
             "    Return the number of references of the value associated with the specified",
             "    <key>."});
}

// The bytes of key and value, without what the database adds.
void MemoryUsage(Call& call) {
  for (size_t at = 3; at < call.count(); ++at) {
    if (!call.Is(at, "samples") || at + 1 == call.count()) return call.Error(kSyntaxError);
    const auto samples = call.TakeInteger(++at);
    if (!samples) return;
    if (*samples < 0) return call.Error(kSyntaxError);
  }
  if (!call.Get(call[2], call.item())) return call.Null();
  call.Integer(static_cast<int64_t>(call[2].size() + call.item().value.size()));
}

void MemoryHelp(Call& call) {
  call.Help("MEMORY", {"USAGE <key> [SAMPLES <count>]",
                       "    Return the bytes of <key> and its value. The count has no effect."});
}

}  // namespace catena::rocks::handlers
