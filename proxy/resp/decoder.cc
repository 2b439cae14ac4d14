#include "proxy/resp/decoder.h"

#include <algorithm>
#include <cstring>
#include <optional>

namespace catena::resp {
namespace {

// Vectors that one giant command blew up are given back above this many elements.
constexpr size_t kKeptElements = 1024;
// More than any reply can hold, and far from overflow when doubled for a map.
constexpr int64_t kReplyElementsMax = int64_t{1} << 40;

constexpr char kStreamed[] = "Protocol error: streamed replies are not supported";
constexpr char kLongLine[] = "Protocol error: too big line in a reply";

bool IsDigit(char c) { return static_cast<unsigned char>(c - '0') <= 9; }

// The C locale's isspace, as sdssplitargs uses it.
bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

int HexDigit(char c) {
  if (IsDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// A 64-bit decimal by Redis's string2ll: no leading zeros, no plus sign, no spaces, no "-0".
std::optional<int64_t> ParseDecimal(std::string_view text) {
  if (text == "0") return 0;
  const bool negative = !text.empty() && text[0] == '-';
  if (negative) text.remove_prefix(1);
  if (text.empty() || text.size() > 19 || text[0] == '0') return std::nullopt;
  uint64_t value = 0;  // 19 digits cannot overflow it
  for (char c : text) {
    if (!IsDigit(c)) return std::nullopt;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  const uint64_t limit = static_cast<uint64_t>(INT64_MAX) + (negative ? 1 : 0);
  if (value > limit) return std::nullopt;
  return static_cast<int64_t>(negative ? uint64_t{0} - value : value);
}

// RESP3's strings and aggregates of unknown length, which no Redis sends.
bool IsStreamed(std::string_view input, size_t offset) {
  return input.size() - offset > 1 && input[offset + 1] == '?';
}

enum class LineState { kOk, kPartial, kTooLong, kInvalid };

// Reads "<type byte><decimal>\r\n" at `offset` (which is inside `input`). kOk: `next` is behind it.
// Like Redis it takes whatever byte follows the CR: what is passed on is then understood alike.
LineState ReadLengthLine(std::string_view input, size_t offset, size_t line_max, int64_t& value,
                         size_t& next) {
  const char* const begin = input.data();
  const char* const end = begin + input.size();
  const char* p = begin + offset + 1;
  if (p < end && *p >= '1' && *p <= '9') {
    int64_t number = *p++ - '0';
    for (int digits = 1; digits < 18 && p < end && IsDigit(*p); ++digits) {
      number = number * 10 + (*p++ - '0');
    }
    if (end - p >= 2 && *p == '\r') {
      value = number;
      next = static_cast<size_t>(p - begin) + 2;
      return LineState::kOk;
    }
  }
  const char* const line = begin + offset;
  const void* found = memchr(line, '\r', static_cast<size_t>(end - line));
  const char* const cr = found ? static_cast<const char*>(found) : end;
  if (static_cast<size_t>(cr - line) > line_max) return LineState::kTooLong;
  if (end - cr < 2) return LineState::kPartial;
  const auto number = ParseDecimal({line + 1, static_cast<size_t>(cr - line - 1)});
  if (!number) return LineState::kInvalid;
  value = *number;
  next = static_cast<size_t>(cr - begin) + 2;
  return LineState::kOk;
}

// One escape or plain byte inside double quotes at `p`; returns where the next one starts.
const char* Unquote(const char* p, const char* end, std::string& out) {
  if (*p != '\\' || p + 1 == end) {
    out.push_back(*p);
    return p + 1;
  }
  if (p[1] == 'x' && end - p >= 4 && HexDigit(p[2]) >= 0 && HexDigit(p[3]) >= 0) {
    out.push_back(static_cast<char>(HexDigit(p[2]) * 16 + HexDigit(p[3])));
    return p + 4;
  }
  constexpr std::string_view kLetters = "nrtba";
  constexpr std::string_view kMeanings = "\n\r\t\b\a";
  const size_t letter = kLetters.find(p[1]);
  out.push_back(letter == std::string_view::npos ? p[1] : kMeanings[letter]);
  return p + 2;
}

// Reads the argument at `p` by the rules of sdssplitargs, appending it to `out`. Returns the byte
// behind it, or nullptr: quotes not closed, or closed inside a word.
const char* ReadInlineArgument(const char* p, const char* end, std::string& out) {
  char quote = 0;
  while (p < end) {
    if (quote == 0) {
      if (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') return p;
      if (*p == '"' || *p == '\'') {
        quote = *p;
      } else {
        out.push_back(*p);
      }
      ++p;
    } else if (*p == quote) {
      ++p;
      return p == end || IsSpace(*p) ? p : nullptr;
    } else if (quote == '"') {
      p = Unquote(p, end, out);
    } else {
      if (*p == '\\' && p + 1 < end && p[1] == '\'') ++p;
      out.push_back(*p++);
    }
  }
  return quote == 0 ? p : nullptr;
}

}  // namespace

// ------------------------------------------------------------------------------ CommandDecoder

Progress CommandDecoder::Fail(std::string text) {
  error_ = std::move(text);
  ForgetCommand();
  return Progress::kError;
}

void CommandDecoder::ForgetCommand() {
  in_command_ = false;
  spans_.clear();
  if (spans_.capacity() > kKeptElements) spans_.shrink_to_fit();
}

Progress CommandDecoder::Decode(std::string_view input, Command& command, size_t& consumed) {
  consumed = 0;
  bytes_wanted_ = 0;
  while (consumed < input.size()) {
    size_t used = 0;
    const Progress progress = DecodeOne(input.substr(consumed), command, used);
    if (progress == Progress::kNeedMore) {
      // The caller is free to drop the skipped bytes or to keep them, so an offset to resume from
      // would be ambiguous: start over, at most once if it drops them.
      if (consumed > 0) ForgetCommand();
      command.arguments.clear();
      return progress;
    }
    if (progress == Progress::kError) return progress;
    consumed += used;
    if (!command.arguments.empty()) {
      command.raw = input.substr(0, consumed);
      return Progress::kComplete;
    }
  }
  return Progress::kNeedMore;
}

Progress CommandDecoder::DecodeOne(std::string_view input, Command& command, size_t& consumed) {
  if (in_command_) return ResumeMultibulk(input, command, consumed);
  command.arguments.clear();
  if (input[0] == '*') return DecodeMultibulk(input, command, consumed);
  return DecodeInline(input, command, consumed);
}

Progress CommandDecoder::DecodeMultibulk(std::string_view input, Command& command,
                                         size_t& consumed) {
  command.is_inline = false;
  int64_t count = 0;
  switch (ReadLengthLine(input, 0, limits_.inline_bytes_max, count, scan_offset_)) {
    case LineState::kOk:
      break;
    case LineState::kPartial:
      return Progress::kNeedMore;
    case LineState::kTooLong:
      return Fail("Protocol error: too big mbulk count string");
    case LineState::kInvalid:
      return Fail("Protocol error: invalid multibulk length");
  }
  if (count > 0 && static_cast<uint64_t>(count) > limits_.elements_max) {
    return Fail("Protocol error: invalid multibulk length");
  }
  elements_left_ = count > 0 ? static_cast<size_t>(count) : 0;
  // Most commands are here whole: their arguments become views right away.
  std::vector<std::string_view>& arguments = command.arguments;
  const Progress progress = ReadBulks(input, [&](size_t offset, size_t length) {
    arguments.push_back(input.substr(offset, length));
  });
  if (progress == Progress::kComplete) consumed = scan_offset_;
  if (progress == Progress::kNeedMore) {
    in_command_ = true;
    spans_.clear();
    for (std::string_view argument : arguments) {
      spans_.push_back({static_cast<size_t>(argument.data() - input.data()), argument.size()});
    }
  }
  return progress;
}

// The command began in an earlier call and the buffer may have moved since: views only at the end.
Progress CommandDecoder::ResumeMultibulk(std::string_view input, Command& command,
                                         size_t& consumed) {
  const Progress progress = ReadBulks(input, [this](size_t offset, size_t length) {
    spans_.push_back({offset, length});
  });
  if (progress != Progress::kComplete) return progress;
  command.is_inline = false;
  command.arguments.clear();
  command.arguments.reserve(spans_.size());
  for (const Span& span : spans_) {
    command.arguments.push_back(input.substr(span.offset, span.length));
  }
  consumed = scan_offset_;
  ForgetCommand();
  return progress;
}

// Reads the missing bulks from scan_offset_ on, telling `add` where each lies.
template <typename Add>
Progress CommandDecoder::ReadBulks(std::string_view input, const Add& add) {
  while (elements_left_ > 0) {
    if (scan_offset_ >= input.size()) return Progress::kNeedMore;
    int64_t length = 0;
    size_t payload = 0;
    const LineState state =
        ReadLengthLine(input, scan_offset_, limits_.inline_bytes_max, length, payload);
    if (state == LineState::kPartial) return Progress::kNeedMore;
    if (state == LineState::kTooLong) return Fail("Protocol error: too big bulk count string");
    if (input[scan_offset_] != '$') {
      return Fail(std::string("Protocol error: expected '$', got '") + input[scan_offset_] + "'");
    }
    if (state == LineState::kInvalid || length < 0 ||
        static_cast<uint64_t>(length) > limits_.bulk_bytes_max) {
      return Fail("Protocol error: invalid bulk length");
    }
    const size_t size = static_cast<size_t>(length);
    if (payload + size > limits_.command_bytes_max) {
      return Fail("Protocol error: too big command, more than " +
                  std::to_string(limits_.command_bytes_max) + " bytes");
    }
    if (input.size() - payload < 2 || input.size() - payload - 2 < size) {
      bytes_wanted_ = payload + size + 2;
      return Progress::kNeedMore;
    }
    add(payload, size);
    scan_offset_ = payload + size + 2;
    --elements_left_;
  }
  return Progress::kComplete;
}

Progress CommandDecoder::DecodeInline(std::string_view input, Command& command, size_t& consumed) {
  command.is_inline = true;
  const size_t newline = input.find('\n');
  const size_t line_bytes = newline == std::string_view::npos ? input.size() : newline;
  if (line_bytes > limits_.inline_bytes_max) return Fail("Protocol error: too big inline request");
  if (newline == std::string_view::npos) return Progress::kNeedMore;
  std::string_view line = input.substr(0, newline);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  if (!SplitInline(line, command.arguments)) {
    return Fail("Protocol error: unbalanced quotes in request");
  }
  consumed = newline + 1;
  return Progress::kComplete;
}

bool CommandDecoder::SplitInline(std::string_view line, std::vector<std::string_view>& arguments) {
  const bool quoted = line.find_first_of("\"'") != std::string_view::npos;
  inline_storage_.clear();
  // Reserved in full, because the views into it must not move: unescaping only shortens.
  if (quoted) inline_storage_.reserve(line.size());
  const char* p = line.data();
  const char* const end = p + line.size();
  while (true) {
    while (p < end && IsSpace(*p)) ++p;
    if (p == end) return true;
    const char* const begin = p;
    if (!quoted) {
      while (p < end && *p != ' ' && *p != '\n' && *p != '\r' && *p != '\t') ++p;
      arguments.emplace_back(begin, static_cast<size_t>(p - begin));
      continue;
    }
    const size_t start = inline_storage_.size();
    p = ReadInlineArgument(begin, end, inline_storage_);
    if (p == nullptr) return false;
    arguments.emplace_back(inline_storage_.data() + start, inline_storage_.size() - start);
  }
}

// -------------------------------------------------------------------------------- ReplyScanner

Progress ReplyScanner::Fail(std::string text) {
  error_ = std::move(text);
  return Progress::kError;
}

Progress ReplyScanner::Scan(std::string_view input, size_t& length) {
  bytes_wanted_ = 0;
  do {
    if (offset_ >= input.size()) return Progress::kNeedMore;
    const size_t depth = open_.size();
    const Progress progress = ScanElement(input);
    if (progress != Progress::kComplete) return progress;
    if (open_.size() > depth) continue;  // an aggregate opened: it counts when its last child does
    while (!open_.empty() && --open_.back() == 0) open_.pop_back();
  } while (!open_.empty());
  length = offset_;
  offset_ = 0;
  return Progress::kComplete;
}

// Scans one scalar, or the head of an aggregate.
Progress ReplyScanner::ScanElement(std::string_view input) {
  switch (input[offset_]) {
    case '$':
    case '*':
    case '%':
    case '~':
    case '>':
    case '|':
    case '=':
    case '!':
      return ScanLength(input);
    case '+':
    case '-':
    case ':':
    case '_':
    case '#':
    case ',':
    case '(':
      return ScanLine(input);
    default:
      return Fail(std::string("Protocol error: unknown reply type '") + input[offset_] + "'");
  }
}

Progress ReplyScanner::ScanLine(std::string_view input) {
  const char* const line = input.data() + offset_;
  const size_t available = input.size() - offset_;
  size_t from = line_scanned_;
  while (const void* found = memchr(line + from, '\n', available - from)) {
    const size_t newline = static_cast<size_t>(static_cast<const char*>(found) - line);
    if (newline > limits_.bulk_bytes_max) return Fail(kLongLine);
    if (newline > 0 && line[newline - 1] == '\r') {
      offset_ += newline + 1;
      line_scanned_ = 0;
      return Progress::kComplete;
    }
    from = newline + 1;
  }
  if (available > limits_.bulk_bytes_max) return Fail(kLongLine);
  line_scanned_ = available;
  return Progress::kNeedMore;
}

// Everything that begins with a length: strings are skipped whole, aggregates opened.
Progress ReplyScanner::ScanLength(std::string_view input) {
  const char type = input[offset_];
  if (IsStreamed(input, offset_)) return Fail(kStreamed);
  int64_t count = 0;
  size_t next = 0;
  switch (ReadLengthLine(input, offset_, limits_.inline_bytes_max, count, next)) {
    case LineState::kOk:
      break;
    case LineState::kPartial:
      return Progress::kNeedMore;
    case LineState::kTooLong:
    case LineState::kInvalid:
      return Fail("Protocol error: invalid length in a reply");
  }
  const bool null = count == -1 && (type == '$' || type == '*');
  if (count < 0 && !null) return Fail("Protocol error: invalid length in a reply");
  if (null) {
    offset_ = next;
    return Progress::kComplete;
  }
  if (type == '$' || type == '=' || type == '!') {
    const size_t size = static_cast<size_t>(count);
    if (size > limits_.bulk_bytes_max) return Fail("Protocol error: too big bulk in a reply");
    if (input.size() - next < 2 || input.size() - next - 2 < size) {
      bytes_wanted_ = next + size + 2;
      return Progress::kNeedMore;
    }
    offset_ = next + size + 2;
    return Progress::kComplete;
  }
  if (count > kReplyElementsMax) return Fail("Protocol error: invalid length in a reply");
  if (open_.size() >= kNestingMax) return Fail("Protocol error: too deeply nested reply");
  uint64_t children = static_cast<uint64_t>(count);
  if (type == '%' || type == '|') children *= 2;
  if (type == '|') ++children;  // an attribute and the value behind it count as one element
  if (children > 0) open_.push_back(children);
  offset_ = next;
  return Progress::kComplete;
}

// --------------------------------------------------------------------------------- DecodeValue

namespace {

constexpr size_t kReservedElements = 16;

// One pass over `input`; offset_ is where the next value starts.
class ValueReader {
 public:
  ValueReader(std::string_view input, const Limits& limits, std::string& error)
      : input_(input), limits_(limits), error_(error) {}

  Progress Read(Value& value, int depth);
  size_t offset() const { return offset_; }

 private:
  Progress ReadLine(char type, Value& value);
  Progress ReadString(char type, Value& value);
  Progress ReadAggregate(char type, Value& value, int depth);
  Progress ReadLength(int64_t& length);
  Progress Fail(std::string text) {
    error_ = std::move(text);
    return Progress::kError;
  }

  std::string_view input_;
  const Limits& limits_;
  std::string& error_;
  size_t offset_ = 0;
};

Progress ValueReader::Read(Value& value, int depth) {
  value = Value{};
  if (offset_ >= input_.size()) return Progress::kNeedMore;
  const char type = input_[offset_];
  switch (type) {
    case '$':
    case '=':
    case '!':
      return ReadString(type, value);
    case '*':
    case '%':
    case '~':
    case '>':
    case '|':
      return ReadAggregate(type, value, depth);
    case '+':
    case '-':
    case ':':
    case '_':
    case '#':
    case ',':
    case '(':
      return ReadLine(type, value);
    default:
      return Fail(std::string("Protocol error: unknown reply type '") + type + "'");
  }
}

Progress ValueReader::ReadLine(char type, Value& value) {
  const size_t end = input_.find("\r\n", offset_);
  const size_t before_lf = (end == std::string_view::npos ? input_.size() : end + 1) - offset_;
  if (before_lf > limits_.bulk_bytes_max) return Fail(kLongLine);
  if (end == std::string_view::npos) return Progress::kNeedMore;
  const std::string_view text = input_.substr(offset_ + 1, end - offset_ - 1);
  offset_ = end + 2;
  switch (type) {
    case '+':
      value.type = Type::kSimpleString;
      break;
    case '-':
      value.type = Type::kError;
      break;
    case ',':
      value.type = Type::kDouble;
      break;
    case '(':
      value.type = Type::kBigNumber;
      break;
    case '_':
      value.type = Type::kNull;
      return Progress::kComplete;
    case '#':
      if (text != "t" && text != "f") return Fail("Protocol error: invalid boolean in a reply");
      value.type = Type::kBoolean;
      value.integer = text == "t" ? 1 : 0;
      return Progress::kComplete;
    default: {
      const auto number = ParseDecimal(text.substr(0, 1) == "+" ? text.substr(1) : text);
      if (!number) return Fail("Protocol error: invalid integer in a reply");
      value.type = Type::kInteger;
      value.integer = *number;
      return Progress::kComplete;
    }
  }
  value.text = text;
  return Progress::kComplete;
}

// -1 for a null; anything else below 0 is an error already.
Progress ValueReader::ReadLength(int64_t& length) {
  if (IsStreamed(input_, offset_)) return Fail(kStreamed);
  const char type = input_[offset_];
  size_t next = 0;
  switch (ReadLengthLine(input_, offset_, limits_.inline_bytes_max, length, next)) {
    case LineState::kOk:
      break;
    case LineState::kPartial:
      return Progress::kNeedMore;
    case LineState::kTooLong:
    case LineState::kInvalid:
      return Fail("Protocol error: invalid length in a reply");
  }
  if (length < 0 && !(length == -1 && (type == '$' || type == '*'))) {
    return Fail("Protocol error: invalid length in a reply");
  }
  offset_ = next;
  return Progress::kComplete;
}

Progress ValueReader::ReadString(char type, Value& value) {
  int64_t length = 0;
  if (const Progress progress = ReadLength(length); progress != Progress::kComplete)
    return progress;
  if (length < 0) return Progress::kComplete;
  const size_t size = static_cast<size_t>(length);
  if (size > limits_.bulk_bytes_max) return Fail("Protocol error: too big bulk in a reply");
  if (input_.size() - offset_ < 2 || input_.size() - offset_ - 2 < size) return Progress::kNeedMore;
  std::string_view text = input_.substr(offset_, size);
  offset_ += size + 2;
  value.type = type == '$' ? Type::kBulkString : type == '!' ? Type::kBlobError : Type::kVerbatim;
  if (type == '=') {
    constexpr size_t kFormatBytes = 4;  // "txt:" or "mkd:"
    if (size < kFormatBytes || text[kFormatBytes - 1] != ':') {
      return Fail("Protocol error: invalid verbatim string in a reply");
    }
    text.remove_prefix(kFormatBytes);
  }
  value.text = text;
  return Progress::kComplete;
}

Progress ValueReader::ReadAggregate(char type, Value& value, int depth) {
  if (depth >= limits_.nesting_max) return Fail("Protocol error: too deeply nested reply");
  int64_t count = 0;
  if (const Progress progress = ReadLength(count); progress != Progress::kComplete) return progress;
  if (count < 0) return Progress::kComplete;
  if (static_cast<uint64_t>(count) > limits_.elements_max) {
    return Fail("Protocol error: too many elements in a reply");
  }
  value.type = type == '%'   ? Type::kMap
               : type == '~' ? Type::kSet
               : type == '>' ? Type::kPush
                             : Type::kArray;
  const size_t children = static_cast<size_t>(count) * (type == '%' || type == '|' ? 2 : 1);
  value.elements.reserve(std::min(children, kReservedElements));  // the announced may never come
  for (size_t i = 0; i < children; ++i) {
    Value& child = value.elements.emplace_back();
    const Progress progress = Read(child, depth + 1);
    if (progress != Progress::kComplete) return progress;
  }
  if (type == '|') return Read(value, depth + 1);  // attributes are skipped: the value is behind
  return Progress::kComplete;
}

}  // namespace

Progress DecodeValue(std::string_view input, Value& value, size_t& consumed, std::string& error,
                     const Limits& limits) {
  consumed = 0;
  ValueReader reader(input, limits, error);
  const Progress progress = reader.Read(value, 0);
  if (progress == Progress::kComplete) consumed = reader.offset();
  return progress;
}

}  // namespace catena::resp
