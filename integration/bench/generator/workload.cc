#include "integration/bench/generator/workload.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>

#include "proxy/resp/encoder.h"

namespace catena::bench {
namespace {

constexpr size_t kKeyDigits = 12;
constexpr std::string_view kMgetHeader = "*11\r\n$4\r\nMGET\r\n";
static_assert(kMgetKeys == 10);

// Printable and not compressible to nothing, so that nobody on the way gains by it.
std::string MakeValue(size_t bytes, uint64_t seed) {
  Random random(seed ^ 0x5EED);
  std::string value(bytes, '\0');
  for (char& c : value) c = static_cast<char>('A' + random.Below(26));
  return value;
}

}  // namespace

Workload::Workload(const WorkloadOptions& options, KeyChooser keys, std::vector<Share> shares)
    : options_(options), random_(options.seed), keys_(std::move(keys)), shares_(std::move(shares)) {
  resp::AppendBulk(value_bulk_, MakeValue(options.value_bytes, options.seed));
  resp::AppendBulk(key_bulk_, options.key_prefix + std::string(kKeyDigits, '0'));
  if (options.wait_replicas > 0) {
    resp::AppendCommand(wait_, {"WAIT", std::to_string(options.wait_replicas), "0"});
  }
}

Result<Workload> Workload::Make(const WorkloadOptions& options) {
  auto keys = KeyChooser::Parse(options.keys, options.key_count);
  if (!keys) return Fail(keys.error().message);
  auto shares = ParseMix(options.mix);
  if (!shares) return Fail(shares.error().message);
  return Workload(options, std::move(*keys), std::move(*shares));
}

Result<std::vector<Workload::Share>> Workload::ParseMix(const std::string& text) {
  static constexpr std::array<std::pair<std::string_view, Name>, 7> kNames{{{"get", Name::kGet},
                                                                            {"mget", Name::kMget},
                                                                            {"set", Name::kSet},
                                                                            {"setex", Name::kSetEx},
                                                                            {"incr", Name::kIncr},
                                                                            {"lpush", Name::kLpush},
                                                                            {"ping", Name::kPing}}};
  std::vector<Share> shares;
  std::string_view rest = text;
  uint64_t total = 0;
  while (!rest.empty()) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    const size_t equals = std::min(item.find('='), item.size());
    const std::string_view number = item.substr(std::min(item.size(), equals + 1));
    uint64_t share = 0;
    const auto parsed = std::from_chars(number.data(), number.data() + number.size(), share);
    const size_t before = shares.size();
    for (const auto& [name, value] : kNames) {
      if (name == item.substr(0, equals)) shares.push_back({value, total + share});
    }
    if (shares.size() == before || parsed.ec != std::errc() || share == 0) {
      return Fail("mix \"" + text + "\"; allowed: NAME=SHARE,... with get, mget, set, setex, " +
                  "incr, lpush, ping and shares of 1 and more");
    }
    total += share;
  }
  if (shares.empty()) return Fail("mix: empty");
  return shares;
}

void Workload::AppendKey(std::string& out) {
  uint64_t rest = keys_.Choose(random_);
  char* digit = key_bulk_.data() + key_bulk_.size() - 3;  // before CR LF
  for (size_t i = 0; i < kKeyDigits; ++i, rest /= 10) *digit-- = static_cast<char>('0' + rest % 10);
  out += key_bulk_;
}

void Workload::AppendCommand(Name name, std::string& out) {
  switch (name) {
    case Name::kGet:
      out += "*2\r\n$3\r\nGET\r\n";
      return AppendKey(out);
    case Name::kMget:
      out += kMgetHeader;
      for (int i = 0; i < kMgetKeys; ++i) AppendKey(out);
      return;
    case Name::kSet:
      out += "*3\r\n$3\r\nSET\r\n";
      AppendKey(out);
      out += value_bulk_;
      return;
    case Name::kSetEx:
      out += "*4\r\n$5\r\nSETEX\r\n";
      AppendKey(out);
      out += "$4\r\n3600\r\n";
      out += value_bulk_;
      return;
    case Name::kIncr:
      out += "*2\r\n$4\r\nINCR\r\n";
      return AppendKey(out);
    case Name::kLpush:
      out += "*3\r\n$5\r\nLPUSH\r\n";
      AppendKey(out);
      out += value_bulk_;
      return;
    case Name::kPing:
      out += "*1\r\n$4\r\nPING\r\n";
      return;
  }
}

Workload::Appended Workload::AppendNext(std::string& out) {
  Name name = shares_.front().name;
  if (shares_.size() > 1) {
    const uint64_t drawn = random_.Below(shares_.back().below);
    size_t i = 0;
    while (shares_[i].below <= drawn) ++i;
    name = shares_[i].name;
  }
  AppendCommand(name, out);
  if (name == Name::kGet || name == Name::kMget || name == Name::kPing) return {Kind::kRead, 1};
  out += wait_;
  return {Kind::kWrite, wait_.empty() ? 1 : 2};
}

bool Workload::IsShortWait(Kind kind, std::string_view reply) const {
  if (wait_.empty() || kind != Kind::kWrite) return false;
  int replicas = 0;
  std::from_chars(reply.data() + 1, reply.data() + reply.size(), replicas);
  return replicas < options_.wait_replicas;
}

}  // namespace catena::bench
