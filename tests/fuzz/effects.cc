// Streams of effects: whole and in pieces the same entries with the same keys, and the same error.
// What is read in place and what is read in pieces are two parsers, so each is the other's oracle.
#include <fstream>
#include <functional>
#include <iterator>

#include "proxy/command/effect_parser.h"
#include "proxy/resp/decoder.h"
#include "tests/fuzz/input.h"

namespace catena::fuzz {
namespace {

const command::CommandTable& Table() {
  static const command::CommandTable table = [] {
    std::ifstream file(CATENA_TEST_DATA "/command-redis-7.0.15.resp", std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(file), {});
    resp::Value reply;
    size_t consumed = 0;
    std::string error;
    FUZZ_CHECK(DecodeValue(bytes, reply, consumed, error) == resp::Progress::kComplete);
    return std::move(*command::CommandTable::FromReply(reply));
  }();
  return table;
}

constexpr Position kStart(1000);

struct Parsed {
  struct Entry {
    uint64_t end;
    bool touches_every_key, asks_for_ack;
    std::vector<uint64_t> key_hashes;
    bool operator==(const Entry&) const = default;
  };
  std::vector<Entry> entries;
  bool failed = false;
  bool operator==(const Parsed&) const = default;
};

Parsed Parse(const std::vector<std::string_view>& pieces, std::string_view input) {
  command::EffectParser parser(Table(), kStart);
  Parsed parsed;
  uint64_t fed = 0;
  for (std::string_view piece : pieces) {
    const auto result =
        parser.Feed(std::string(piece), [&parsed](const command::EffectEntry& entry) {
          parsed.entries.push_back(
              {entry.end.value(), entry.touches_every_key, entry.asks_for_ack,
               entry.touches_every_key ? std::vector<uint64_t>() : entry.key_hashes});
        });
    if (!result) {
      parsed.failed = true;
      break;
    }
    fed += piece.size();
    FUZZ_CHECK(parser.position() == kStart + fed);
    FUZZ_CHECK(parser.border() <= parser.position());
  }
  uint64_t last = kStart.value();
  for (const Parsed::Entry& entry : parsed.entries) {
    FUZZ_CHECK(entry.end > last && entry.end <= (kStart + input.size()).value());
    FUZZ_CHECK(input[entry.end - kStart.value() - 1] == '\n');
    last = entry.end;
  }
  FUZZ_CHECK(parser.border().value() == last);
  return parsed;
}

}  // namespace
}  // namespace catena::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace catena::fuzz;
  FuzzedDataProvider provider(data, size);
  const auto seed = provider.ConsumeIntegral<uint16_t>();
  const std::string input = provider.ConsumeRemainingBytesAsString();
  FUZZ_CHECK(Parse(Pieces(input, seed), input) == Parse({input}, input));
  return 0;
}
