// What clients send, decoded whole and in pieces: the same commands, the same error. The oracles
// are hiredis's reader for multibulk commands and its sdssplitargs (Redis's own) for inline ones.
extern "C" {
#include <hiredis/sds.h>
}

#include <optional>

#include "proxy/resp/decoder.h"
#include "tests/fuzz/hiredis_oracle.h"
#include "tests/fuzz/input.h"

namespace catena::fuzz {
namespace {

using Arguments = std::vector<std::string>;

struct Decoded {
  std::vector<Arguments> commands;
  std::string raw, error;
  bool operator==(const Decoded&) const = default;
};

// The buffer moves with each piece, so that a view kept across calls is a use after free.
Decoded Decode(const std::vector<std::string_view>& pieces, const resp::Limits& limits, bool drop) {
  Decoded result;
  resp::CommandDecoder decoder(limits);
  resp::Command command;
  std::string buffer;
  for (std::string_view piece : pieces) {
    buffer = std::string(buffer).append(piece);
    while (true) {
      size_t consumed = 0;
      const resp::Progress progress = decoder.Decode(buffer, command, consumed);
      FUZZ_CHECK(consumed <= buffer.size());
      if (progress == resp::Progress::kError) {
        result.error = decoder.error();
        return result;
      }
      if (progress == resp::Progress::kNeedMore) {
        FUZZ_CHECK(decoder.bytes_wanted() == 0 ||
                   decoder.bytes_wanted() > buffer.size() - consumed);
        if (drop) buffer.erase(0, consumed);
        break;
      }
      FUZZ_CHECK(!command.arguments.empty());
      FUZZ_CHECK(command.is_inline || command.arguments.size() <= limits.elements_max);
      FUZZ_CHECK(command.raw == std::string_view(buffer).substr(0, consumed));
      result.commands.emplace_back(command.arguments.begin(), command.arguments.end());
      result.raw += command.raw;
      buffer.erase(0, consumed);
    }
  }
  return result;
}

// One command at the start of `input` as the oracles see it; no arguments: one that is skipped.
struct Expected {
  Arguments arguments;
  size_t length = 0;
};

std::optional<Expected> ExpectInline(std::string_view input) {
  // With a zero byte in it Redis would not find the end of the line; the proxy reads it as any byte
  // (Session::UnfoldInline), which C's strings can not tell.
  const size_t newline = input.find_first_of(std::string_view("\n\0", 2));
  if (newline == std::string_view::npos || input[newline] == '\0') return std::nullopt;
  std::string line(input.substr(0, newline));
  if (!line.empty() && line.back() == '\r') line.pop_back();
  int count = 0;
  sds* words = sdssplitargs(line.c_str(), &count);
  if (words == nullptr) return std::nullopt;
  Expected expected;
  for (int i = 0; i < count; ++i) expected.arguments.emplace_back(words[i], sdslen(words[i]));
  sdsfreesplitres(words, count);
  expected.length = newline + 1;
  return expected;
}

std::optional<Expected> ExpectMultibulk(std::string_view input) {
  HiredisReader reader(input);
  HiredisReply reply(nullptr, freeReplyObject);
  if (reader.Next(reply) != HiredisReader::Outcome::kReply) return std::nullopt;
  Expected expected;
  expected.length = input.size() - reader.left();
  for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; ++i) {
    if (reply->element[i]->type != REDIS_REPLY_STRING) return std::nullopt;
    expected.arguments.emplace_back(reply->element[i]->str, reply->element[i]->len);
  }
  return expected;
}

// As far as the oracles, which have no limits, understand the input, it was understood alike.
void CompareWithOracles(std::string_view input, const Decoded& decoded) {
  if (!HiredisReader::CanJudge(input)) return;
  size_t number = 0;
  while (!input.empty()) {
    const auto expected = input[0] == '*' ? ExpectMultibulk(input) : ExpectInline(input);
    if (!expected) return;
    input.remove_prefix(expected->length);
    if (expected->arguments.empty()) continue;
    FUZZ_CHECK(number < decoded.commands.size());
    FUZZ_CHECK(decoded.commands[number++] == expected->arguments);
  }
  FUZZ_CHECK(number == decoded.commands.size() && decoded.error.empty());
}

}  // namespace
}  // namespace catena::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace catena::fuzz;
  FuzzedDataProvider provider(data, size);
  const auto seed = provider.ConsumeIntegral<uint16_t>();
  const bool small = provider.ConsumeBool();
  const std::string input = provider.ConsumeRemainingBytesAsString();
  catena::resp::Limits limits;
  if (small) {
    limits = {.bulk_bytes_max = 40,
              .elements_max = 5,
              .inline_bytes_max = 50,
              .nesting_max = 1,
              .command_bytes_max = 100};
  }
  const Decoded whole = Decode({input}, limits, true);
  FUZZ_CHECK(Decode(Pieces(input, seed), limits, false) == whole);
  // What was skipped is dropped, so it is no part of a command's bytes.
  const Decoded cut = Decode(Pieces(input, seed + 1), limits, true);
  FUZZ_CHECK(cut.commands == whole.commands && cut.error == whole.error);
  if (!small) CompareWithOracles(input, whole);
  return 0;
}
