// What databases and proxies answer. RESP2 against hiredis's reader (that of Debian 12 knows no
// RESP3); all of it by the two decoders against each other, and whole against in pieces.
#include "backends/redis/redis_info.h"
#include "proxy/resp/decoder.h"
#include "tests/fuzz/hiredis_oracle.h"
#include "tests/fuzz/input.h"

namespace catena::fuzz {
namespace {

using resp::Progress;
using resp::Type;
using resp::Value;

struct Scanned {
  std::vector<size_t> lengths;
  std::string error;
  bool operator==(const Scanned&) const = default;
};

Scanned Scan(const std::vector<std::string_view>& pieces, const resp::Limits& limits) {
  Scanned result;
  resp::ReplyScanner scanner(limits);
  std::string buffer;
  for (std::string_view piece : pieces) {
    buffer = std::string(buffer).append(piece);
    while (true) {
      size_t length = 0;
      const Progress progress = scanner.Scan(buffer, length);
      if (progress == Progress::kError) {
        result.error = scanner.error();
        return result;
      }
      if (progress == Progress::kNeedMore) {
        FUZZ_CHECK(scanner.bytes_wanted() == 0 || scanner.bytes_wanted() > buffer.size());
        break;
      }
      FUZZ_CHECK(length > 0 && length <= buffer.size());
      result.lengths.push_back(length);
      buffer.erase(0, length);
    }
  }
  return result;
}

bool Same(const redisReply& theirs, const Value& ours) {
  const std::string_view text(theirs.str, theirs.str != nullptr ? theirs.len : 0);
  switch (theirs.type) {
    case REDIS_REPLY_STRING:
      return ours.type == Type::kBulkString && ours.text == text;
    case REDIS_REPLY_STATUS:
      return ours.type == Type::kSimpleString && ours.text == text;
    case REDIS_REPLY_ERROR:
      return ours.type == Type::kError && ours.text == text;
    case REDIS_REPLY_INTEGER:
      return ours.type == Type::kInteger && ours.integer == theirs.integer;
    case REDIS_REPLY_NIL:
      return ours.type == Type::kNull;
    default:
      break;
  }
  if (ours.type != Type::kArray || ours.elements.size() != theirs.elements) return false;
  for (size_t i = 0; i < theirs.elements; ++i) {
    if (!Same(*theirs.element[i], ours.elements[i])) return false;
  }
  return true;
}

void CompareWithHiredis(std::string_view input, const Scanned& scanned) {
  if (!HiredisReader::CanJudge(input)) return;
  HiredisReader reader(input);
  HiredisReply reply(nullptr, freeReplyObject);
  for (size_t number = 0;; ++number) {
    const HiredisReader::Outcome outcome = reader.Next(reply);
    if (outcome == HiredisReader::Outcome::kError) return;
    if (outcome == HiredisReader::Outcome::kNeedMore) {
      FUZZ_CHECK(number == scanned.lengths.size());
      return;
    }
    FUZZ_CHECK(number < scanned.lengths.size());
    Value value;
    size_t consumed = 0;
    std::string error;
    FUZZ_CHECK(DecodeValue(input, value, consumed, error) == Progress::kComplete);
    FUZZ_CHECK(consumed == scanned.lengths[number]);
    FUZZ_CHECK(Same(*reply, value));
    input.remove_prefix(consumed);
  }
}

void CompareDecoders(std::string_view input, const Scanned& scanned, const resp::Limits& limits) {
  for (size_t length : scanned.lengths) {
    Value value;
    size_t consumed = 0;
    std::string error;
    const Progress progress = DecodeValue(input, value, consumed, error, limits);
    // It looks into what the scanner only skips, so it may refuse.
    FUZZ_CHECK(progress != Progress::kNeedMore);
    FUZZ_CHECK(progress == Progress::kError || consumed == length);
    FUZZ_CHECK((progress == Progress::kError) == !error.empty());
    if (progress == Progress::kComplete) {
      FUZZ_CHECK(DecodeValue(input.substr(0, length - 1), value, consumed, error, limits) ==
                 Progress::kNeedMore);
    }
    redis::ParseRole(input.substr(0, length));
    input.remove_prefix(length);
  }
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
    limits = {.bulk_bytes_max = 60, .elements_max = 5, .inline_bytes_max = 40, .nesting_max = 3};
  }
  const Scanned whole = Scan({input}, limits);
  FUZZ_CHECK(Scan(Pieces(input, seed), limits) == whole);
  CompareDecoders(input, whole, limits);
  if (!small) CompareWithHiredis(input, whole);
  return 0;
}
