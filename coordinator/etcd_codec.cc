#include "coordinator/etcd_codec.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

namespace catena::coordinator::etcd {
namespace {

using nlohmann::json;

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int DigitOf(char c) {
  const size_t digit = kAlphabet.find(c);
  return digit == std::string_view::npos ? -1 : static_cast<int>(digit);
}

json ParseObject(std::string_view body) {
  json document = json::parse(body, nullptr, /*allow_exceptions=*/false);
  return document.is_object() ? std::move(document) : json();
}

// A member of `object`, or null when `object` is none or has none.
const json& At(const json& object, const char* name) {
  static const json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(name);
  return found == object.end() ? kNull : *found;
}

// 64-bit numbers come as strings, some gateways send small ones as numbers; absent is 0.
int64_t Number(const json& field) {
  if (field.is_number_integer()) return field.get<int64_t>();
  if (!field.is_string()) return 0;
  const std::string& text = field.get_ref<const std::string&>();
  int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

Result<std::string> Bytes(const json& field) {
  if (field.is_null()) return std::string();
  if (!field.is_string()) return Fail("etcd: bytes are not a string");
  return FromBase64(field.get_ref<const std::string&>());
}

Result<KeyValue> ToKeyValue(const json& pair) {
  auto key = Bytes(At(pair, "key"));
  auto value = Bytes(At(pair, "value"));
  if (!key) return Fail(key.error().message);
  if (!value) return Fail(value.error().message);
  return KeyValue{std::move(*key), std::move(*value), Number(At(pair, "create_revision")),
                  Number(At(pair, "mod_revision")), Number(At(pair, "lease"))};
}

Result<RangeAnswer> ToRange(const json& document) {
  RangeAnswer answer;
  answer.revision = Number(At(At(document, "header"), "revision"));
  const json& pairs = At(document, "kvs");
  if (pairs.is_null()) return answer;
  if (!pairs.is_array()) return Fail("etcd: kvs is not an array");
  for (const json& pair : pairs) {
    auto decoded = ToKeyValue(pair);
    if (!decoded) return Fail(decoded.error().message);
    answer.pairs.push_back(std::move(*decoded));
  }
  return answer;
}

json RangeOf(std::string_view key) { return {{"key", Base64(key)}}; }

std::string Text(const json& value) { return value.dump(); }

}  // namespace

std::string EncodeRange(std::string_view key) { return Text(RangeOf(key)); }

std::string EncodeRangePrefix(std::string_view prefix) {
  // The end is the prefix with its last byte that can grow made one larger.
  std::string end(prefix);
  while (!end.empty() && static_cast<unsigned char>(end.back()) == 0xff) end.pop_back();
  if (end.empty()) {
    end.push_back('\0');  // etcd: "to the last key"
  } else {
    end.back() = static_cast<char>(static_cast<unsigned char>(end.back()) + 1);
  }
  json request = RangeOf(prefix);
  request["range_end"] = Base64(end);
  return Text(request);
}

std::string EncodeTxn(const Txn& txn) {
  json compares = json::array();
  for (const Compare& compare : txn.compares) {
    const bool create = compare.target == Compare::Target::kCreateRevision;
    compares.push_back(
        {{"key", Base64(compare.key)},
         {"result", "EQUAL"},
         {"target", create ? "CREATE" : "MOD"},
         {create ? "create_revision" : "mod_revision", std::to_string(compare.revision)}});
  }
  json puts = json::array();
  for (const Put& put : txn.puts) {
    json request = {{"key", Base64(put.key)}, {"value", Base64(put.value)}};
    if (put.lease != 0) request["lease"] = std::to_string(put.lease);
    puts.push_back({{"request_put", std::move(request)}});
  }
  json reads = json::array();
  for (const std::string& key : txn.reads) reads.push_back({{"request_range", RangeOf(key)}});
  return Text({{"compare", std::move(compares)},
               {"success", std::move(puts)},
               {"failure", std::move(reads)}});
}

std::string EncodeLeaseGrant(int64_t ttl_seconds) {
  return Text({{"TTL", std::to_string(ttl_seconds)}});
}
std::string EncodeLeaseKeepAlive(int64_t lease) { return Text({{"ID", std::to_string(lease)}}); }
std::string EncodeLeaseRevoke(int64_t lease) { return Text({{"ID", std::to_string(lease)}}); }

Result<RangeAnswer> DecodeRange(std::string_view body) {
  const json document = ParseObject(body);
  if (!At(document, "header").is_object()) return Fail("etcd: no range answer");
  return ToRange(document);
}

Result<TxnAnswer> DecodeTxn(std::string_view body, size_t reads) {
  const json document = ParseObject(body);
  if (!At(document, "header").is_object()) return Fail("etcd: no transaction answer");
  TxnAnswer answer;
  answer.revision = Number(At(At(document, "header"), "revision"));
  const json& succeeded = At(document, "succeeded");
  answer.succeeded = succeeded.is_boolean() && succeeded.get<bool>();
  if (answer.succeeded) return answer;
  const json& responses = At(document, "responses");
  if (reads > 0 && (!responses.is_array() || responses.size() != reads)) {
    return Fail("etcd: a transaction answered to other reads than were asked");
  }
  for (size_t i = 0; i < reads; ++i) {
    auto range = ToRange(At(responses[i], "response_range"));
    if (!range) return Fail(range.error().message);
    answer.reads.push_back(range->pairs.empty() ? std::nullopt
                                                : std::optional(std::move(range->pairs.front())));
  }
  return answer;
}

Result<LeaseAnswer> DecodeLeaseGrant(std::string_view body) {
  const json document = ParseObject(body);
  LeaseAnswer answer{Number(At(document, "ID")), Number(At(document, "TTL"))};
  if (answer.id == 0 || answer.ttl_seconds <= 0) return Fail("etcd: no lease was granted");
  return answer;
}

Result<LeaseAnswer> DecodeLeaseKeepAlive(std::string_view body) {
  // One element of a stream: {"result": {...}}. A lease that is gone comes without a TTL.
  const json document = ParseObject(body.substr(0, body.find('\n')));
  const json& result = At(document, "result");
  if (!result.is_object() || Number(At(result, "ID")) == 0)
    return Fail("etcd: no keep-alive answer");
  return LeaseAnswer{Number(At(result, "ID")), Number(At(result, "TTL"))};
}

std::string DecodeError(std::string_view body) {
  const json document = ParseObject(body);
  for (const char* name : {"error", "message"}) {
    const json& field = At(document, name);
    if (field.is_string()) return field.get<std::string>();
    if (At(field, "message").is_string()) return At(field, "message").get<std::string>();
  }
  return std::string(body.substr(0, 200));
}

std::string Base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0);
    }
    for (size_t k = 0; k < 4; ++k) {
      text.push_back(k <= count ? kAlphabet[group >> (18 - 6 * k) & 63] : '=');
    }
  }
  return text;
}

Result<std::string> FromBase64(std::string_view text) {
  if (text.size() % 4 != 0) return Fail("base64: length is no multiple of 4");
  std::string bytes;
  for (size_t i = 0; i < text.size(); i += 4) {
    size_t digits = 4;
    if (i + 4 == text.size()) {
      if (text[i + 3] == '=') digits = 3;
      if (digits == 3 && text[i + 2] == '=') digits = 2;
    }
    uint32_t group = 0;
    for (size_t k = 0; k < 4; ++k) {
      const int digit = k < digits ? DigitOf(text[i + k]) : 0;
      if (digit < 0) return Fail("base64: a character that is none of its alphabet");
      group = group << 6 | static_cast<uint32_t>(digit);
    }
    for (size_t k = 0; k + 1 < digits; ++k)
      bytes.push_back(static_cast<char>(group >> (16 - 8 * k)));
  }
  return bytes;
}

}  // namespace catena::coordinator::etcd
