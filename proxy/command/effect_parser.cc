#include "proxy/command/effect_parser.h"

#include <algorithm>

#include "proxy/base/free_memory.h"
#include "proxy/base/mutant.h"
#include "proxy/base/text.h"

namespace catena::command {
namespace {

using Arguments = std::span<const std::string_view>;

// A replica takes as much from its master; a limit only tells garbage from numbers.
constexpr uint64_t kArgumentsMax = INT32_MAX;
constexpr uint64_t kArgumentBytesMax = uint64_t{1} << 40;
// '*' or '$', up to 13 digits, CR, LF.
constexpr size_t kHeaderBytesMax = 16;
// A buffer that one huge entry has grown is given back above this.
constexpr size_t kWarmBytesMax = 1u << 20;

// ---- Words of the stream itself, which no table needs to know ----

enum class Word { kOrdinary, kBegin, kEnd, kWithoutKeys, kReplconf };

Word Classify(std::string_view name) {
  const auto is = [name](std::string_view word) { return EqualsIgnoringCase(name, word); };
  switch (name.size()) {
    case 4:
      return is("ping") ? Word::kWithoutKeys : is("exec") ? Word::kEnd : Word::kOrdinary;
    case 5:
      return is("multi") ? Word::kBegin : Word::kOrdinary;
    case 6:
      return is("select") ? Word::kWithoutKeys : Word::kOrdinary;
    case 7:
      return is("publish") ? Word::kWithoutKeys : is("discard") ? Word::kEnd : Word::kOrdinary;
    case 8:
      if (is("replconf")) return Word::kReplconf;
      return is("spublish") ? Word::kWithoutKeys : Word::kOrdinary;
    default:
      return Word::kOrdinary;
  }
}

// Empties a buffer for reuse, but gives back what a huge entry made it grow to.
template <typename Buffer>
void ClearAndTrim(Buffer& buffer) {
  if (buffer.capacity() > kWarmBytesMax / sizeof(*buffer.data())) FreeMemory(buffer);
  buffer.clear();
}

// The next bytes of a broken stream, for a person.
std::string Excerpt(std::string_view bytes) {
  std::string text;
  for (char c : bytes.substr(0, 40)) {
    if (c >= ' ' && c <= '~') {
      text += c;
    } else {
      constexpr char kDigits[] = "0123456789abcdef";
      const auto byte = static_cast<uint8_t>(c);
      text.append({'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]});
    }
  }
  return text;
}

// ---- Reading ----

enum class Progress { kComplete, kNeedMore, kError };

// Reads "<mark>digits\r\n" at `offset`, moves behind it. kNeedMore also for a beginning that is
// wrong further on: the reader of cut commands says so when it gets there.
Progress ReadHeader(std::string_view bytes, char mark, uint64_t max, size_t& offset,
                    uint64_t& value) {
  size_t at = offset;
  if (at == bytes.size()) return Progress::kNeedMore;
  if (bytes[at] != mark) return Progress::kError;
  ++at;
  const size_t digits_end = std::min(bytes.size(), offset + kHeaderBytesMax - 2);
  const size_t digits_begin = at;
  value = 0;
  while (at < digits_end && bytes[at] >= '0' && bytes[at] <= '9') {
    value = value * 10 + static_cast<uint64_t>(bytes[at++] - '0');
  }
  if (at == bytes.size()) return Progress::kNeedMore;
  if (at == digits_begin || bytes[at] != '\r' || value > max) return Progress::kError;
  if (at + 1 == bytes.size()) return Progress::kNeedMore;
  if (bytes[at + 1] != '\n') return Progress::kError;
  offset = at + 2;
  return Progress::kComplete;
}

Progress ReadCount(std::string_view bytes, size_t& offset, uint64_t& count) {
  const Progress progress = ReadHeader(bytes, '*', kArgumentsMax, offset, count);
  // A master sends no empty command.
  return progress == Progress::kComplete && count == 0 ? Progress::kError : progress;
}

// Reads one command at `offset` in place; on kComplete moves behind it.
Progress ReadWhole(std::string_view bytes, size_t& offset,
                   std::vector<std::string_view>& arguments) {
  arguments.clear();
  size_t at = offset;
  uint64_t count = 0;
  if (Progress progress = ReadCount(bytes, at, count); progress != Progress::kComplete) {
    return progress;
  }
  for (; count > 0; --count) {
    uint64_t length = 0;
    const Progress progress = ReadHeader(bytes, '$', kArgumentBytesMax, at, length);
    if (progress != Progress::kComplete) return progress;
    if (bytes.size() - at < length + 2) return Progress::kNeedMore;
    arguments.push_back(bytes.substr(at, length));
    at += length;
    if (bytes[at] != '\r' || bytes[at + 1] != '\n') return Progress::kError;
    at += 2;
  }
  offset = at;
  return Progress::kComplete;
}

// One command that arrives in pieces. Keeps name and first argument, and of the others those that
// FindKeys will look at; the rest is counted and let go.
class CutCommand {
 public:
  explicit CutCommand(const CommandTable& table) : table_(&table) {}

  void Begin();
  // Takes bytes from the front of `bytes` up to the command's end.
  Progress Take(std::string_view& bytes);
  // Of a complete command; those that were not kept are empty. Valid until Begin.
  void Views(std::vector<std::string_view>& arguments) const;

 private:
  enum class Expect { kCount, kLength, kPayload, kPayloadEnd };
  struct Kept {
    size_t offset, length;
  };

  Progress TakeHeader(std::string_view& bytes);
  void TakePayload(std::string_view& bytes);
  Progress TakePayloadEnd(std::string_view& bytes);
  void BeginArgument(uint64_t length);
  void EndArgument();
  bool Keeps(uint64_t index) const;
  void LookUp();

  const CommandTable* table_;
  Expect expect_ = Expect::kCount;
  std::string header_;  // of the line under way; the CR of a payload's end
  uint64_t count_ = 0;  // arguments
  uint64_t index_ = 0;  // of the argument under way
  uint64_t payload_left_ = 0;
  bool keeping_ = false;
  const CommandInfo* info_ = nullptr;
  std::string storage_;
  std::vector<Kept> kept_;  // up to the last argument that was kept
};

void CutCommand::Begin() {
  expect_ = Expect::kCount;
  header_.clear();
  count_ = index_ = payload_left_ = 0;
  info_ = nullptr;
  ClearAndTrim(storage_);
  ClearAndTrim(kept_);
}

Progress CutCommand::Take(std::string_view& bytes) {
  while (!bytes.empty()) {
    Progress progress = Progress::kComplete;
    switch (expect_) {
      case Expect::kCount:
      case Expect::kLength:
        progress = TakeHeader(bytes);
        break;
      case Expect::kPayload:
        TakePayload(bytes);
        break;
      case Expect::kPayloadEnd:
        progress = TakePayloadEnd(bytes);
        break;
    }
    if (progress == Progress::kError) return progress;
    if (count_ > 0 && index_ == count_) return Progress::kComplete;
  }
  return Progress::kNeedMore;
}

Progress CutCommand::TakeHeader(std::string_view& bytes) {
  // Byte by byte: it is one short line a cut argument, and garbage is noticed at its first byte.
  header_.push_back(bytes.front());
  bytes.remove_prefix(1);
  size_t offset = 0;
  uint64_t value = 0;
  const bool is_count = expect_ == Expect::kCount;
  const Progress progress = is_count ? ReadCount(header_, offset, value)
                                     : ReadHeader(header_, '$', kArgumentBytesMax, offset, value);
  if (progress != Progress::kComplete) return progress;
  header_.clear();
  if (is_count) {
    count_ = value;
    expect_ = Expect::kLength;
  } else {
    BeginArgument(value);
  }
  return Progress::kComplete;
}

void CutCommand::BeginArgument(uint64_t length) {
  payload_left_ = length;
  expect_ = length > 0 ? Expect::kPayload : Expect::kPayloadEnd;
  keeping_ = Keeps(index_);
  if (!keeping_) return;
  kept_.resize(index_ + 1, Kept{0, 0});
  kept_[index_] = Kept{storage_.size(), 0};
}

void CutCommand::TakePayload(std::string_view& bytes) {
  const size_t taken = std::min<uint64_t>(payload_left_, bytes.size());
  if (keeping_) {
    storage_.append(bytes.data(), taken);
    kept_[index_].length += taken;
  }
  bytes.remove_prefix(taken);
  payload_left_ -= taken;
  if (payload_left_ == 0) expect_ = Expect::kPayloadEnd;
}

Progress CutCommand::TakePayloadEnd(std::string_view& bytes) {
  const char wanted = header_.empty() ? '\r' : '\n';
  if (bytes.front() != wanted) return Progress::kError;
  bytes.remove_prefix(1);
  if (wanted == '\r') {
    header_.push_back('\r');
    return Progress::kComplete;
  }
  header_.clear();
  EndArgument();
  return Progress::kComplete;
}

void CutCommand::EndArgument() {
  ++index_;
  expect_ = Expect::kLength;
  // Name and, where there is one, subcommand are known now: the rest is kept by what they need.
  if (index_ == std::min<uint64_t>(2, count_)) LookUp();
}

void CutCommand::LookUp() {
  std::string_view names[2];
  for (size_t i = 0; i < index_; ++i) {
    names[i] = std::string_view(storage_).substr(kept_[i].offset, kept_[i].length);
  }
  info_ = table_->Find(Arguments(names, index_));
}

bool CutCommand::Keeps(uint64_t index) const {
  if (index < 2) return true;
  if (info_ == nullptr) return false;
  switch (info_->key_rule) {
    case CommandInfo::KeyRule::kNone:
    case CommandInfo::KeyRule::kScript:
    case CommandInfo::KeyRule::kUntold:
      return false;
    case CommandInfo::KeyRule::kRange:
      break;
    default:
      return true;
  }
  const int64_t at = static_cast<int64_t>(index);
  const int64_t last =
      info_->last_key < 0 ? static_cast<int64_t>(count_) + info_->last_key : info_->last_key;
  return at >= info_->first_key && at <= last && info_->key_step > 0 &&
         (at - info_->first_key) % info_->key_step == 0;
}

void CutCommand::Views(std::vector<std::string_view>& arguments) const {
  arguments.assign(count_, std::string_view());
  for (size_t i = 0; i < kept_.size(); ++i) {
    arguments[i] = std::string_view(storage_).substr(kept_[i].offset, kept_[i].length);
  }
}

}  // namespace

struct EffectParser::Impl {
  Impl(const CommandTable& commands, Position start) : table(&commands), cut(commands) {
    Reset(start);
  }

  void Reset(Position start);
  Progress Step(std::string_view& bytes, const std::function<void(const EffectEntry&)>& on_entry);
  void OnCommand(const std::function<void(const EffectEntry&)>& on_entry);
  void CollectKeys();
  void EndEntry(const std::function<void(const EffectEntry&)>& on_entry);
  void ClearEntry();

  const CommandTable* table;
  Position border;
  Position position;    // of the first byte not yet consumed
  bool in_cut = false;  // `cut` holds the beginning of a command
  bool in_transaction = false;
  CutCommand cut;
  EffectEntry entry;
  // Of the command just read; reused.
  std::vector<std::string_view> arguments;
  std::vector<uint32_t> keys;
};

void EffectParser::Impl::Reset(Position start) {
  border = position = start;
  in_cut = in_transaction = false;
  ClearEntry();
}

void EffectParser::Impl::ClearEntry() {
  ClearAndTrim(entry.key_hashes);
  ClearAndTrim(arguments);
  ClearAndTrim(keys);
  entry.touches_every_key = entry.asks_for_ack = false;
}

// Consumes one command from the front of `bytes`, or all of them.
Progress EffectParser::Impl::Step(std::string_view& bytes,
                                  const std::function<void(const EffectEntry&)>& on_entry) {
  const size_t before = bytes.size();
  Progress progress = Progress::kNeedMore;
  if (!in_cut) {
    size_t end = 0;
    progress = ReadWhole(bytes, end, arguments);
    bytes.remove_prefix(end);
    if (progress == Progress::kNeedMore) {
      cut.Begin();
      in_cut = true;
    }
  }
  if (in_cut) {
    progress = cut.Take(bytes);
    if (progress == Progress::kComplete) {
      cut.Views(arguments);
      in_cut = false;
    }
  }
  position = position + (before - bytes.size());
  if (progress == Progress::kComplete) OnCommand(on_entry);
  return progress;
}

// Entries are cut where a replica would execute: MULTI opens one whatever follows, EXEC closes it.
void EffectParser::Impl::OnCommand(const std::function<void(const EffectEntry&)>& on_entry) {
  switch (Classify(arguments[0])) {
    case Word::kBegin:
      in_transaction = true;
      break;
    case Word::kEnd:
      in_transaction = false;
      break;
    case Word::kReplconf:
      entry.asks_for_ack |= arguments.size() > 1 && EqualsIgnoringCase(arguments[1], "getack");
      break;
    case Word::kWithoutKeys:
      break;
    case Word::kOrdinary:
      CollectKeys();
      break;
  }
  if (!in_transaction || CATENA_MUTANT("transaction-cut")) EndEntry(on_entry);
}

// Not knowing a key that is touched would show old data: whatever is unclear touches every key.
void EffectParser::Impl::CollectKeys() {
  if (entry.touches_every_key) return;
  const CommandInfo* info = table->Find(arguments);
  keys.clear();
  if (info == nullptr || !info->UsesNamedKeysOnly() ||
      FindKeys(*info, arguments, keys) != KeyKnowledge::kExact || keys.empty()) {
    entry.touches_every_key = true;
    return;
  }
  for (uint32_t key : keys) entry.key_hashes.push_back(HashKey(arguments[key]));
}

void EffectParser::Impl::EndEntry(const std::function<void(const EffectEntry&)>& on_entry) {
  border = entry.end = position;
  on_entry(entry);
  ClearEntry();
}

EffectParser::EffectParser(const CommandTable& table, Position start)
    : impl_(std::make_unique<Impl>(table, start)) {}
EffectParser::~EffectParser() = default;
EffectParser::EffectParser(EffectParser&&) noexcept = default;
EffectParser& EffectParser::operator=(EffectParser&&) noexcept = default;

Result<void> EffectParser::Feed(std::string_view bytes,
                                const std::function<void(const EffectEntry&)>& on_entry) {
  while (!bytes.empty()) {
    if (impl_->Step(bytes, on_entry) != Progress::kError) continue;
    return Fail("not a replication stream: the entry that begins at position " +
                std::to_string(impl_->border.value()) + " is broken at position " +
                std::to_string(impl_->position.value()) + ", before \"" + Excerpt(bytes) + "\"");
  }
  return {};
}

Position EffectParser::border() const { return impl_->border; }
Position EffectParser::position() const { return impl_->position; }
void EffectParser::Reset(Position start) { impl_->Reset(start); }

}  // namespace catena::command
