#include "proxy/cli/inspector.h"

#include <unordered_set>
#include <utility>

#include "proxy/cli/client.h"
#include "proxy/resp/encoder.h"

namespace catena::cli {
namespace {

constexpr Duration kAnswerWithin = std::chrono::seconds(30);
constexpr int64_t kElements = 1000;          // of a large value at a time
constexpr int64_t kStringBytes = 256 << 10;  // the same of a string

// FNV-1a, finished by a mixer: for telling values apart, not against an attacker.
class Hasher {
 public:
  void Add(std::string_view bytes) {
    Number(bytes.size());
    for (const char c : bytes) Byte(static_cast<unsigned char>(c));
  }
  void Number(uint64_t number) {
    for (int i = 0; i < 8; ++i) Byte(static_cast<unsigned char>(number >> (8 * i)));
  }
  uint64_t Value() const {
    uint64_t x = state_;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }

 private:
  void Byte(unsigned char byte) { state_ = (state_ ^ byte) * 0x100000001b3u; }

  uint64_t state_ = 0xcbf29ce484222325u;
};

void AddValue(Hasher& hasher, const resp::Value& value) {
  hasher.Add(value.text);
  hasher.Number(value.elements.size());
  for (const resp::Value& element : value.elements) AddValue(hasher, element);
}

// Pieces that come in the value's own order.
Result<uint64_t> ByIndex(Inspector& inspector, const std::string& key, std::string_view command,
                         int64_t piece, bool scores) {
  Hasher hasher;
  for (int64_t from = 0;; from += piece) {
    const std::string first = std::to_string(from);
    const std::string last = std::to_string(from + piece - 1);
    std::vector<std::string_view> call{command, key, first, last};
    if (scores) call.push_back("WITHSCORES");
    const auto answer = inspector.Ask(call);
    if (!answer) return Fail(answer.error().message);
    if (answer->elements.empty() && answer->text.empty()) return hasher.Value();
    if (answer->elements.empty()) {
      // Pieces of a string are one text, wherever it is cut.
      for (const char c : answer->text) hasher.Number(static_cast<unsigned char>(c));
    }
    for (const resp::Value& element : answer->elements) AddValue(hasher, element);
  }
}

Result<uint64_t> OfStream(Inspector& inspector, const std::string& key) {
  Hasher hasher;
  std::string from = "-";
  while (true) {
    const auto answer =
        inspector.Ask({"XRANGE", key, from, "+", "COUNT", std::to_string(kElements)});
    if (!answer) return Fail(answer.error().message);
    if (answer->elements.empty()) return hasher.Value();
    for (const resp::Value& entry : answer->elements) AddValue(hasher, entry);
    const resp::Value& last = answer->elements.back();
    if (last.elements.empty()) return Fail("an entry without an id");
    from = "(" + last.elements[0].text;
  }
}

// Elements in any order, some perhaps twice: their hashes are added up once each.
Result<uint64_t> OfTable(Inspector& inspector, const std::string& key, std::string_view command,
                         size_t width) {
  std::unordered_set<uint64_t> seen;
  uint64_t sum = 0;
  std::string cursor = "0";
  do {
    const auto answer = inspector.Ask({command, key, cursor, "COUNT", std::to_string(kElements)});
    if (!answer) return Fail(answer.error().message);
    if (answer->elements.size() != 2) return Fail("no answer of a scan");
    cursor = answer->elements[0].text;
    const auto& elements = answer->elements[1].elements;
    for (size_t i = 0; i + width <= elements.size(); i += width) {
      Hasher hasher;
      for (size_t j = 0; j < width; ++j) hasher.Add(elements[i + j].text);
      if (seen.insert(hasher.Value()).second) sum += hasher.Value();
    }
  } while (cursor != "0");
  return sum;
}

Result<uint64_t> Contents(Inspector& inspector, const std::string& key, const std::string& type) {
  if (type == "string") return ByIndex(inspector, key, "GETRANGE", kStringBytes, false);
  if (type == "list") return ByIndex(inspector, key, "LRANGE", kElements, false);
  if (type == "zset") return ByIndex(inspector, key, "ZRANGE", kElements, true);
  if (type == "stream") return OfStream(inspector, key);
  if (type == "set") return OfTable(inspector, key, "SSCAN", 1);
  if (type == "hash") return OfTable(inspector, key, "HSCAN", 2);
  return Fail("key " + key + " is a " + type + ", which cannot be compared in pieces");
}

}  // namespace

Result<Inspector> Inspector::Open(const config::Config& config, const std::string& chain,
                                  const std::string& node, const std::string& peers) {
  Result<Connection> connection = Dial(config, Port::kPeers, peers);
  if (!connection) return Fail(node + ": " + connection.error().message);
  Inspector inspector(node, std::move(*connection));
  const auto opened = inspector.Ask({"CATENA.INSPECT", chain});
  if (!opened) return Fail(opened.error().message);
  return inspector;
}

void Inspector::Request(const std::vector<std::string_view>& command) {
  resp::AppendCommand(requests_, command);
}

Result<void> Inspector::Send() {
  connection_.SetPatience(kAnswerWithin);
  const std::string requests = std::exchange(requests_, {});
  if (auto sent = connection_.Write(requests); !sent) {
    return Fail(node_ + ": " + sent.error().message);
  }
  return {};
}

Result<resp::Value> Inspector::Answer() {
  Result<resp::Value> answer = connection_.ReadValue();
  if (!answer) return Fail(node_ + ": " + answer.error().message);
  if (answer->IsError()) return Fail(node_ + ": " + answer->text);
  return answer;
}

Result<resp::Value> Inspector::Ask(const std::vector<std::string_view>& command) {
  Request(command);
  if (auto sent = Send(); !sent) return Fail(sent.error().message);
  return Answer();
}

Result<std::string> CanonicalValue(Inspector& inspector, const std::string& key) {
  const auto type = inspector.Ask({"TYPE", key});
  if (!type) return Fail(type.error().message);
  if (type->text == "none") return std::string("missing");
  const auto due = inspector.Ask({"PEXPIRETIME", key});
  const auto contents = Contents(inspector, key, type->text);
  if (!contents) return Fail(contents.error().message);
  std::string text = type->text;
  // Servers before 7.0 do not tell the deadline.
  if (due && due->integer >= 0) text += ", expires at " + std::to_string(due->integer);
  char hex[20];
  std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(*contents));
  return text + ", digest " + hex;
}

}  // namespace catena::cli
