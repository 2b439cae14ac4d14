#include "backends/rocksdb/effects.h"

#include <xxhash.h>

#include <cstdint>
#include <initializer_list>
#include <utility>

#include "proxy/resp/decoder.h"
#include "proxy/resp/encoder.h"

namespace catena::rocks {
namespace {

using Arguments = std::span<const std::string_view>;

constexpr std::string_view kWrite = "CATENA.WRITE";
constexpr std::string_view kFlush = "FLUSHALL";
constexpr std::string_view kPublish = "PUBLISH";
constexpr std::string_view kExec = "EXEC";
constexpr std::string_view kMultiCommand = "*1\r\n$5\r\nMULTI\r\n";

constexpr size_t kNumberBytes = 8;
constexpr size_t kLineEndBytes = 2;

// An entry is as large as it is, and it is all there: these only tell garbage from numbers.
constexpr resp::Limits kLimits{.bulk_bytes_max = size_t{1} << 40,
                               .elements_max = size_t{1} << 31,
                               .command_bytes_max = size_t{1} << 41};

void AppendNumber(uint64_t value, std::string& out) {
  for (size_t i = 0; i < kNumberBytes; ++i) out.push_back(static_cast<char>(value >> 8 * i));
}

uint64_t ReadNumber(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = kNumberBytes; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

// ---- Writing ----

// Ends the command that begins at `begin` of `out`.
void AppendSeal(size_t begin, Position start, std::string& out) {
  resp::AppendBulkHeader(out, kSealBytes);
  const size_t bytes = out.size() - begin + kSealBytes + kLineEndBytes;
  AppendNumber((start + bytes).value(), out);
  AppendNumber(XXH3_64bits(out.data() + begin, out.size() - begin), out);
  out += "\r\n";
}

void AppendSealed(std::initializer_list<std::string_view> words, Arguments more, Position start,
                  std::string& out) {
  const size_t begin = out.size();
  resp::AppendArrayHeader(out, words.size() + more.size() + 1);
  for (std::string_view word : words) resp::AppendBulk(out, word);
  for (std::string_view word : more) resp::AppendBulk(out, word);
  AppendSeal(begin, start, out);
}

// ---- Reading ----

tl::unexpected<Error> Broken(Position at, const std::string& what) {
  return Fail("damaged effect at position " + std::to_string(at.value()) + ": " + what);
}

// `raw`: of the whole command. The seal is its last argument.
Result<void> CheckSeal(std::string_view raw, std::string_view seal, Position start) {
  if (seal.size() != kSealBytes) return Broken(start, "its seal has a wrong length");
  const size_t hashed = raw.size() - kLineEndBytes - kNumberBytes;
  if (XXH3_64bits(raw.data(), hashed) != ReadNumber(seal.substr(kNumberBytes))) {
    return Broken(start, "its checksum is wrong");
  }
  // The decoder takes whatever byte follows a CR; in front of the hash that is covered by it.
  if (!raw.ends_with("\r\n")) return Broken(start, "its line end is wrong");
  const uint64_t end = ReadNumber(seal);
  if (end != (start + raw.size()).value()) {
    return Broken(start, "it was made to end at position " + std::to_string(end) + ", not at " +
                             std::to_string((start + raw.size()).value()));
  }
  return {};
}

// Reads the commands of one entry. Kept from one entry to the next, so that it allocates nothing
// once warm.
class EntryReader {
 public:
  Result<void> Read(std::string_view entry, Position start, EffectHandler* handler);

 private:
  Result<void> ReadTransaction(std::string_view rest, Position at, EffectHandler* handler);
  Result<size_t> ReadCommand(std::string_view rest, Position at);
  Result<void> Tell(Position at, EffectHandler* handler) const;
  bool IsExec() const { return command_.arguments[0] == kExec && command_.arguments.size() == 2; }

  resp::CommandDecoder decoder_{kLimits};
  resp::Command command_;
};

// Decodes the first command of `rest` and checks its seal; its length.
Result<size_t> EntryReader::ReadCommand(std::string_view rest, Position at) {
  size_t length = 0;
  const resp::Progress progress = decoder_.Decode(rest, command_, length);
  if (progress != resp::Progress::kComplete) {
    const auto broken =
        Broken(at, progress == resp::Progress::kError ? decoder_.error() : "it is cut");
    decoder_ = resp::CommandDecoder(kLimits);
    return broken;
  }
  // Anything else that the decoder takes for a command, or skips.
  if (rest[0] != '*' || command_.is_inline || command_.arguments.size() < 2) {
    return Broken(at, "it is no sealed command");
  }
  if (auto checked = CheckSeal(command_.raw, command_.arguments.back(), at); !checked) {
    return tl::unexpected(checked.error());
  }
  return length;
}

Result<void> EntryReader::Tell(Position at, EffectHandler* handler) const {
  const std::vector<std::string_view>& words = command_.arguments;
  const std::string_view name = words[0];
  if (name == kWrite && words.size() >= 3) {
    if (handler != nullptr) handler->OnWrite(words[1]);
  } else if (name == kFlush && words.size() == 2) {
    if (handler != nullptr) handler->OnFlush();
  } else if (name == kPublish && words.size() == 4) {
    if (handler != nullptr) handler->OnPublish(words[1], words[2]);
  } else {
    return Broken(at, "\"" + std::string(name.substr(0, 32)) + "\" with " +
                          std::to_string(words.size() - 1) + " arguments is no effect");
  }
  return {};
}

Result<void> EntryReader::ReadTransaction(std::string_view rest, Position at,
                                          EffectHandler* handler) {
  for (bool first = true;; first = false) {
    const auto length = ReadCommand(rest, at);
    if (!length) return tl::unexpected(length.error());
    if (IsExec()) {
      if (first) return Broken(at, "a transaction without effects");
      if (*length == rest.size()) return {};
      return Broken(at + *length, "bytes behind the end of the entry");
    }
    if (auto told = Tell(at, handler); !told) return told;
    rest.remove_prefix(*length);
    at = at + *length;
  }
}

Result<void> EntryReader::Read(std::string_view entry, Position start, EffectHandler* handler) {
  if (entry.starts_with(kMultiCommand)) {
    const std::string_view rest = entry.substr(kMultiCommand.size());
    const Position at = start + kMultiCommand.size();
    // Nothing is told of an entry that turns out to be wrong further on.
    auto checked = ReadTransaction(rest, at, nullptr);
    return checked && handler != nullptr ? ReadTransaction(rest, at, handler) : checked;
  }
  const auto length = ReadCommand(entry, start);
  if (!length) return tl::unexpected(length.error());
  if (*length != entry.size()) {
    return Broken(start + *length, "bytes behind the end of the entry");
  }
  return Tell(start, handler);
}

}  // namespace

void AppendWrite(std::string_view batch, std::span<const std::string_view> keys, Position start,
                 std::string& out) {
  AppendSealed({kWrite, batch}, keys, start, out);
}

void AppendFlush(Position start, std::string& out) { AppendSealed({kFlush}, {}, start, out); }

void AppendPublish(std::string_view channel, std::string_view message, Position start,
                   std::string& out) {
  AppendSealed({kPublish, channel, message}, {}, start, out);
}

void AppendMulti(std::string& out) { out += kMultiCommand; }

void AppendExec(Position start, std::string& out) { AppendSealed({kExec}, {}, start, out); }

Result<void> ReadEntry(std::string_view entry, Position start, EffectHandler* handler) {
  thread_local EntryReader reader;
  return reader.Read(entry, start, handler);
}

}  // namespace catena::rocks
