// What a database says of its commands, and what clients then send: keys lie within the arguments,
// limited users get no further than their keys, patterns match as in Redis, a proof is asked for.
#include <fstream>
#include <iterator>

#include "proxy/auth/proof.h"
#include "proxy/command/command_table.h"
#include "proxy/command/glob.h"
#include "proxy/command/user_rights.h"
#include "proxy/resp/decoder.h"
#include "tests/fuzz/input.h"

namespace catena::fuzz {
namespace {

using command::CommandInfo;
using command::CommandTable;

std::optional<resp::Value> DecodeReply(std::string_view bytes) {
  resp::Value reply;
  size_t consumed = 0;
  std::string error;
  if (DecodeValue(bytes, reply, consumed, error) != resp::Progress::kComplete) return std::nullopt;
  return reply;
}

const CommandTable& RecordedTable() {
  static const CommandTable table = [] {
    std::ifstream file(CATENA_TEST_DATA "/command-redis-7.0.15.resp", std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(file), {});
    return std::move(*CommandTable::FromReply(*DecodeReply(bytes)));
  }();
  return table;
}

std::vector<std::string> ConsumeWords(FuzzedDataProvider& provider, size_t most) {
  std::vector<std::string> words;
  for (size_t left = provider.ConsumeIntegralInRange<size_t>(0, most); left > 0; --left) {
    words.push_back(provider.ConsumeRandomLengthString(24));
  }
  return words;
}

void GiveCommand(const CommandTable& table, const std::vector<std::string>& words,
                 const command::UserRights& rights) {
  const std::vector<std::string_view> arguments(words.begin(), words.end());
  const CommandInfo* info = table.Find(arguments);
  std::vector<uint32_t> keys;
  bool known = false;
  if (info != nullptr) {
    known = FindKeys(*info, arguments, keys) == command::KeyKnowledge::kExact;
    MayBlock(*info, arguments);
  }
  for (uint32_t key : keys) FUZZ_CHECK(key >= 1 && key < arguments.size());
  const std::string refusal = rights.Refusal(info, arguments, keys, known);
  const bool errs = info == nullptr || !info->TakesArguments(arguments.size());
  const bool free =
      errs || rights.unlimited() || !refusal.empty() || info->route == command::Route::kProxy;
  if (free || info->readonly || keys.empty()) return;
  // The user's only pattern is "k*": nothing that changes another key gets through.
  for (uint32_t key : keys) FUZZ_CHECK(arguments[key].starts_with('k'));
}

void FuzzTable(FuzzedDataProvider& provider) {
  const std::vector<std::string> words = ConsumeWords(provider, 8);
  const bool limited = provider.ConsumeBool();
  const command::UserRights rights =
      limited ? command::UserRights(command::Access::kAll, {"k*"}, {"c*"}) : command::UserRights();
  GiveCommand(RecordedTable(), words, rights);
  const auto reply = DecodeReply(provider.ConsumeRemainingBytesAsString());
  if (!reply) return;
  const auto table = CommandTable::FromReply(*reply);
  if (table) GiveCommand(*table, words, rights);
}

// Redis's stringmatchlen, as plain as it can be said: one branch a byte of the pattern.
bool MatchesSlowly(std::string_view pattern, std::string_view text) {
  while (!pattern.empty()) {
    if (pattern[0] == '*') {
      for (size_t skipped = 0; skipped <= text.size(); ++skipped) {
        if (MatchesSlowly(pattern.substr(1), text.substr(skipped))) return true;
      }
      return false;
    }
    if (text.empty()) return false;
    const auto c = static_cast<unsigned char>(text[0]);
    const auto at = [&pattern](size_t i) { return static_cast<unsigned char>(pattern[i]); };
    size_t used = 1;
    bool match = pattern[0] == '?' || pattern[0] == text[0];
    if (pattern[0] == '\\' && pattern.size() >= 2) {
      match = at(1) == c;
      used = 2;
    } else if (pattern[0] == '[') {
      const bool inverted = pattern.size() > 1 && pattern[1] == '^';
      if (inverted) ++used;
      match = false;
      for (; used < pattern.size() && pattern[used] != ']'; ++used) {
        if (pattern[used] == '\\' && used + 1 < pattern.size()) {
          match |= at(++used) == c;
        } else if (used + 2 < pattern.size() && pattern[used + 1] == '-') {
          const auto low = std::min(at(used), at(used + 2)),
                     high = std::max(at(used), at(used + 2));
          match |= c >= low && c <= high;
          used += 2;
        } else {
          match |= at(used) == c;
        }
      }
      used = std::min(used + 1, pattern.size());
      match ^= inverted;
    }
    if (!match) return false;
    pattern.remove_prefix(used);
    text.remove_prefix(1);
  }
  return text.empty();
}

void FuzzGlob(FuzzedDataProvider& provider) {
  const std::string pattern = provider.ConsumeRandomLengthString(12);
  const std::string text = provider.ConsumeRandomLengthString(12);
  FUZZ_CHECK(command::MatchesGlob(pattern, text) == MatchesSlowly(pattern, text));
}

std::string AcceptorStory(const std::vector<std::string_view>& pieces) {
  auth::Acceptor acceptor({"cluster", "the secret"}, "0123456789abcdef");
  std::string input, out;
  for (std::string_view piece : pieces) {
    input.append(piece);
    const auto proved = acceptor.Feed(input, out);
    if (!proved) return out + proved.error().message;
    FUZZ_CHECK(!*proved);  // nobody guesses the secret
  }
  FUZZ_CHECK(out.find("the secret") == std::string::npos);
  return out;
}

std::string DiallerStory(const std::vector<std::string_view>& pieces) {
  auth::Dialler dialler({"cluster", "the secret"}, "0123456789abcdef");
  std::string input, out = dialler.Greeting();
  for (std::string_view piece : pieces) {
    input.append(piece);
    const auto proved = dialler.Feed(input, out);
    if (!proved) return out + proved.error().message;
    FUZZ_CHECK(!*proved);
  }
  return out;
}

void FuzzProof(FuzzedDataProvider& provider) {
  const auto seed = provider.ConsumeIntegral<uint16_t>();
  const std::string input = provider.ConsumeRemainingBytesAsString();
  FUZZ_CHECK(AcceptorStory(Pieces(input, seed)) == AcceptorStory({input}));
  FUZZ_CHECK(DiallerStory(Pieces(input, seed)) == DiallerStory({input}));
}

}  // namespace
}  // namespace catena::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace catena::fuzz;
  FuzzedDataProvider provider(data, size);
  switch (provider.ConsumeIntegral<uint8_t>() % 3) {
    case 0:
      FuzzTable(provider);
      break;
    case 1:
      FuzzGlob(provider);
      break;
    default:
      FuzzProof(provider);
  }
  return 0;
}
