// Commands that walk over the keys.
#include <openssl/evp.h>

#include <algorithm>

#include "backends/rocksdb/command_handlers.h"
#include "proxy/base/text.h"
#include "proxy/command/glob.h"

namespace catena::rocks::handlers {
namespace {

// A key or value is answered, in a range, up to so many bytes in all; one pair always is.
constexpr size_t kRangeBytesMax = 64u << 20;
// Larger values are not digested, so that nothing waits for them.
constexpr size_t kDigestedBytesMax = 64u << 10;

struct ScanOptions {
  int64_t count = 10;
  std::optional<std::string_view> pattern;
  bool strings = true;  // TYPE asks for them, or for nothing
};

// As strtoul reads it: white space is refused, a sign taken, "" is 0.
std::optional<uint64_t> TakeCursor(const Call& call, std::string_view text) {
  text = text.substr(0, text.find('\0'));
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const auto number = ParseNumber<uint64_t>(text);
  if (number) return negative ? 0 - *number : *number;
  if (text.empty() && call[1].empty()) return 0;
  call.Error("ERR invalid cursor");
  return std::nullopt;
}

bool ParseOptions(const Call& call, ScanOptions& options) {
  for (size_t at = 2; at < call.count(); at += 2) {
    const bool complete = at + 1 < call.count();
    if (complete && call.Is(at, "count")) {
      const auto count = call.TakeInteger(at + 1);
      if (!count) return false;
      options.count = *count;
      if (*count >= 1) continue;
    } else if (complete && call.Is(at, "match")) {
      options.pattern = call[at + 1];
      continue;
    } else if (complete && call.Is(at, "type")) {
      options.strings = call.Is(at + 1, "string");
      continue;
    }
    call.Error(kSyntaxError);
    return false;
  }
  return true;
}

bool Matches(const ScanOptions& options, std::string_view key) {
  return options.strings && (!options.pattern || command::MatchesGlob(*options.pattern, key));
}

// Bulks are gathered first, since their number stands before them.
struct Bulks {
  explicit Bulks(std::string& buffer) : bytes(buffer) { bytes.clear(); }
  void Add(std::string_view text) {
    resp::AppendBulk(bytes, text);
    ++count;
  }
  std::string& bytes;
  size_t count = 0;
};

void ReplyArray(const Call& call, const Bulks& bulks) {
  call.Array(bulks.count);
  call.reply.append(bulks.bytes);
}

// ---- CATENA.RANGE ----

struct RangeOptions {
  int64_t limit = INT64_MAX;
  bool reverse = false;
};

bool ParseOptions(const Call& call, RangeOptions& options) {
  for (size_t at = 3; at < call.count(); ++at) {
    if (call.Is(at, "reverse")) {
      options.reverse = true;
    } else if (call.Is(at, "limit") && at + 1 < call.count()) {
      const auto limit = call.TakeInteger(++at);
      if (!limit) return false;
      if (*limit < 0) return call.Refuse("ERR LIMIT can't be negative");
      options.limit = *limit;
    } else {
      return call.Refuse(kSyntaxError);
    }
  }
  return true;
}

// From `start` to `end`, both included; "-" and "+" are before and behind every key.
class RangeWalk {
 public:
  RangeWalk(View& view, std::string_view start, std::string_view end, bool reverse)
      : view_(view), cursor_(view.Walk()), start_(start), end_(end), reverse_(reverse) {
    if (reverse_) {
      end_ == "+" ? cursor_->SeekToLast() : cursor_->SeekForPrev(end_);
    } else {
      start_ == "-" ? cursor_->SeekToFirst() : cursor_->Seek(start_);
    }
    // Open at the wrong end: nothing is before "-" or behind "+".
    nothing_ = start_ == "+" || end_ == "-";
  }
  bool Valid() const {
    if (nothing_ || !cursor_->Valid()) return false;
    if (reverse_) return start_ == "-" || view_.Compare(cursor_->key(), start_) >= 0;
    return end_ == "+" || view_.Compare(cursor_->key(), end_) <= 0;
  }
  void Next() { reverse_ ? cursor_->Prev() : cursor_->Next(); }
  Cursor& cursor() { return *cursor_; }

 private:
  View& view_;
  std::unique_ptr<Cursor> cursor_;
  std::string_view start_, end_;
  bool reverse_, nothing_ = false;
};

// ---- RANDOMKEY ----

// A cursor by the order of bytes, for a comparator that has it or the reverse of it.
class ByteOrder {
 public:
  ByteOrder(const View& view, Cursor& cursor)
      : cursor_(cursor), reversed_(view.Compare("a", "b") > 0) {}

  void ToFirst() { reversed_ ? cursor_.SeekToLast() : cursor_.SeekToFirst(); }
  void ToLast() { reversed_ ? cursor_.SeekToFirst() : cursor_.SeekToLast(); }
  void ToOrAbove(std::string_view key) { reversed_ ? cursor_.SeekForPrev(key) : cursor_.Seek(key); }
  // The last key that begins with `prefix`; there is one.
  void ToLastWith(std::string prefix) {
    while (!prefix.empty() && prefix.back() == '\xff') prefix.pop_back();
    if (prefix.empty()) return ToLast();
    ++prefix.back();
    reversed_ ? cursor_.Seek(prefix) : cursor_.SeekForPrev(prefix);
    if (cursor_.Valid() && cursor_.key() == prefix) reversed_ ? cursor_.Next() : cursor_.Prev();
  }
  // Empty: at no key.
  std::string key() const { return cursor_.Valid() ? std::string(cursor_.key()) : std::string(); }

 private:
  Cursor& cursor_;
  bool reversed_;
};

// Descends between the first and the last key, byte by byte, at each byte in which they differ to
// those that have a random one there: somewhere in the database, rather where few keys are. With a
// comparator that does not order bytes it is still some key. Bounded by the length of the keys.
std::string RandomPlace(View& view, Cursor& cursor) {
  ByteOrder order(view, cursor);
  order.ToFirst();
  std::string low = order.key();
  order.ToLast();
  std::string high = order.key();
  for (size_t depth = 0; low < high; ++depth) {
    while (depth < low.size() && low[depth] == high[depth]) ++depth;
    const int first = depth < low.size() ? static_cast<uint8_t>(low[depth]) : -1;
    const int last = static_cast<uint8_t>(high[depth]);
    const auto choices = static_cast<uint64_t>(last - first + 1);
    const int byte = first + static_cast<int>(view.Random() % choices);
    if (byte < 0) return low;
    order.ToOrAbove(high.substr(0, depth) + static_cast<char>(byte));
    const std::string next = order.key();
    if (next < low || next.size() <= depth) return low;
    low = next;
    order.ToLastWith(low.substr(0, depth + 1));
    high = order.key();
  }
  return low;
}

// ---- CATENA.DIGEST ----

void AppendSha1(std::string_view text, std::string& out) {
  static constexpr char kHex[] = "0123456789abcdef";
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  EVP_Digest(text.data(), text.size(), digest, &length, EVP_sha1(), nullptr);
  for (unsigned int i = 0; i < length; ++i) {
    out += kHex[digest[i] >> 4];
    out += kHex[digest[i] & 15];
  }
}

}  // namespace

// CATENA.DIGEST key...: what proxy/server/inspection.h says of it.
void Digest(Call& call) {
  call.Array(call.count() - 1);
  for (std::string_view key : call.arguments.subspan(1)) {
    std::string& text = call.bytes();
    text.clear();
    Item& item = call.item();
    if (call.Get(key, item)) {
      if (item.value.size() > kDigestedBytesMax) {
        text = "big";
      } else {
        AppendSha1(item.value, text);
      }
      text += ' ';
      text += std::to_string(item.deadline_ms);
    }
    call.Bulk(text);
  }
}

void Keys(Call& call) {
  Bulks keys(call.bytes());
  const auto cursor = call.view().Walk();
  for (cursor->SeekToFirst(); cursor->Valid(); cursor->Next()) {
    if (command::MatchesGlob(call[1], cursor->key())) keys.Add(cursor->key());
  }
  ReplyArray(call, keys);
}

void Scan(Call& call) {
  const auto asked = TakeCursor(call, call[1]);
  if (!asked) return;
  ScanOptions options;
  if (!ParseOptions(call, options)) return;
  ScanCursors& scans = call.context.workspace.scans;
  const auto cursor = call.view().Walk();
  const auto behind = *asked != 0 ? scans.Find(*asked) : std::nullopt;
  if (behind) {
    cursor->Seek(*behind);
    if (cursor->Valid() && call.view().Compare(cursor->key(), *behind) == 0) cursor->Next();
  } else {
    cursor->SeekToFirst();
  }
  Bulks keys(call.bytes());
  std::string& last = call.item().value;
  for (int64_t seen = 0; cursor->Valid() && seen < options.count; ++seen, cursor->Next()) {
    last.assign(cursor->key());
    if (Matches(options, last)) keys.Add(last);
  }
  const uint64_t next =
      cursor->Valid() ? scans.Advance(*asked, last, call.view().Random()) : uint64_t{0};
  call.Array(2);
  call.Bulk(resp::Decimal(next));
  ReplyArray(call, keys);
}

// Goes on some keys from a random place, round the end, so that neighbours come equally often.
void RandomKey(Call& call) {
  constexpr uint64_t kStepsMax = 64;
  const auto cursor = call.view().Walk();
  cursor->SeekToFirst();
  if (!cursor->Valid()) return call.Null();
  cursor->Seek(RandomPlace(call.view(), *cursor));
  for (uint64_t steps = call.view().Random() % kStepsMax; steps > 0; --steps) {
    cursor->Next();
    if (!cursor->Valid()) cursor->SeekToFirst();
  }
  call.Bulk(cursor->key());
}

// CATENA.RANGE start end [LIMIT n] [REVERSE]: keys and values in the order of the database's
// comparator, as a map in RESP3. `start` is the lower end in both directions, both ends are included
// and need not exist; "-" as start and "+" as end are open (a key of that name is within them).
// REVERSE begins at the end.
void Range(Call& call) {
  RangeOptions options;
  if (!ParseOptions(call, options)) return;
  RangeWalk walk(call.view(), call[1], call[2], options.reverse);
  Bulks pairs(call.bytes());
  int64_t found = 0;
  for (; found < options.limit && walk.Valid(); walk.Next(), ++found) {
    walk.cursor().Read(call.item());
    pairs.Add(walk.cursor().key());
    pairs.Add(call.item().value);
    if (found > 0 && pairs.bytes.size() > kRangeBytesMax)
      return call.Error("ERR the range has more than 64 MiB; ask for less of it with LIMIT");
  }
  call.Map(static_cast<size_t>(found));
  call.reply.append(pairs.bytes);
}

}  // namespace catena::rocks::handlers
