// The RocksDB backend's commands with any arguments: each answers with one whole reply, writes only
// if it may and only its own keys, and an error means that nothing was written.
#include <algorithm>

#include "backends/rocksdb/command_table.h"
#include "proxy/resp/decoder.h"
#include "tests/fuzz/input.h"
#include "tests/unit/map_view.h"

namespace catena::fuzz {
namespace {

using rocks::CommandTraits;
using rocks::KnownCommand;

constexpr const char* kWords[] = {"a",     "b",     "c",      "0",     "1",    "-1",   "nx",
                                  "xx",    "get",   "ex",     "px",    "exat", "pxat", "keepttl",
                                  "byte",  "bit",   "idx",    "len",   "u8",   "i64",  "incrby",
                                  "set",   "fail",  "sat",    "limit", "-",    "+",    "reverse",
                                  "match", "count", "object", "*",     "gt",   "lt",   "replace"};

std::string ConsumeWord(FuzzedDataProvider& provider) {
  if (provider.ConsumeBool()) return provider.PickValueInArray(kWords);
  return provider.ConsumeRandomLengthString(24);
}

std::vector<std::string> ConsumeCommand(FuzzedDataProvider& provider) {
  const auto known = rocks::KnownCommands();
  const KnownCommand& command = known[provider.ConsumeIntegralInRange<size_t>(0, known.size() - 1)];
  std::vector<std::string> words = {std::string(command.row->name)};
  if (!command.subcommands.empty() && provider.ConsumeBool()) {
    const auto& name =
        command
            .subcommands[provider.ConsumeIntegralInRange<size_t>(0, command.subcommands.size() - 1)]
            .name;
    words.emplace_back(name.substr(name.find('|') + 1));
  }
  for (int left = provider.ConsumeIntegralInRange(0, 7); left > 0; --left)
    words.push_back(ConsumeWord(provider));
  // An offset of seven digits would make a string of megabytes each time.
  const bool grows = words[0] == "setbit" || words[0] == "setrange" || words[0] == "bitfield";
  for (std::string& word : words) {
    if (grows && &word != &words[0]) word.resize(std::min<size_t>(word.size(), 6));
  }
  return words;
}

// "put a" and "delete a", of keys that the traits name, or "clear" of a command without keys.
void CheckEffects(const std::vector<std::string>& effects, const CommandTraits* traits,
                  rocks::Arguments arguments) {
  if (effects.empty()) return;
  FUZZ_CHECK(traits != nullptr && traits->writes);
  const int count = static_cast<int>(arguments.size());
  const int last = traits->last_key < 0 ? count + traits->last_key : traits->last_key;
  for (const std::string& effect : effects) {
    bool own = effect == "clear" && traits->first_key == 0;
    for (int at = traits->first_key; traits->first_key > 0 && at <= last; at += traits->key_step)
      own |= effect.substr(effect.find(' ') + 1) == arguments[static_cast<size_t>(at)];
    FUZZ_CHECK(own);
  }
}

void CheckReply(const std::string& reply, bool wrote) {
  resp::Value value;
  size_t consumed = 0;
  std::string error;
  const auto progress = resp::DecodeValue(reply, value, consumed, error);
  FUZZ_CHECK(progress == resp::Progress::kComplete && consumed == reply.size());
  FUZZ_CHECK(!value.IsError() || !wrote);
}

void Run(FuzzedDataProvider& provider) {
  rocks::test::MapView view;
  rocks::Client client;
  rocks::ServerFacts facts;
  rocks::Workspace workspace;
  rocks::CommandContext context{view, client, facts, workspace};
  std::string reply;
  while (provider.remaining_bytes() > 0) {
    const std::vector<std::string> words = ConsumeCommand(provider);
    const std::vector<std::string_view> arguments(words.begin(), words.end());
    const CommandTraits* traits = rocks::FindTraits(arguments);
    reply.clear();
    view.effects.clear();
    view.now_ms += provider.ConsumeIntegral<uint8_t>();
    rocks::Execute(arguments, context, reply);
    CheckEffects(view.effects, traits, arguments);
    CheckReply(reply, !view.effects.empty());
  }
}

}  // namespace
}  // namespace catena::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider provider(data, size);
  catena::fuzz::Run(provider);
  return 0;
}
