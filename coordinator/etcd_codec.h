// Requests to and answers from etcd v3's JSON gateway (POST /v3/kv/range and so on), as values.
// Keys and values travel in base64, 64-bit numbers as decimal strings, and fields that are zero are
// left out. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/result.h"

namespace catena::coordinator::etcd {

struct KeyValue {
  std::string key;
  std::string value;
  int64_t create_revision = 0;
  int64_t mod_revision = 0;
  int64_t lease = 0;
};

// A transaction: when all of `compares` hold, all of `puts` happen; otherwise `reads` tell why.
struct Compare {
  enum class Target { kCreateRevision, kModRevision };
  std::string key;
  Target target = Target::kModRevision;
  int64_t revision = 0;  // must be equal; 0: the key does not exist
};
struct Put {
  std::string key;
  std::string value;
  int64_t lease = 0;  // 0: none
};
struct Txn {
  std::vector<Compare> compares;
  std::vector<Put> puts;
  std::vector<std::string> reads;  // single keys
};

struct RangeAnswer {
  int64_t revision = 0;
  std::vector<KeyValue> pairs;
};
struct TxnAnswer {
  int64_t revision = 0;  // of the store; when `succeeded`, the mod_revision of every key put
  bool succeeded = false;
  // When not succeeded: what each of `reads` holds, in order; nullopt: no such key.
  std::vector<std::optional<KeyValue>> reads;
};
struct LeaseAnswer {
  int64_t id = 0;
  int64_t ttl_seconds = 0;  // of a keep-alive: <= 0 when the lease is gone
};

std::string EncodeRange(std::string_view key);
// Every key that begins with `prefix` (not empty).
std::string EncodeRangePrefix(std::string_view prefix);
std::string EncodeTxn(const Txn& txn);
std::string EncodeLeaseGrant(int64_t ttl_seconds);
std::string EncodeLeaseKeepAlive(int64_t lease);
std::string EncodeLeaseRevoke(int64_t lease);

Result<RangeAnswer> DecodeRange(std::string_view body);
Result<TxnAnswer> DecodeTxn(std::string_view body, size_t reads);
Result<LeaseAnswer> DecodeLeaseGrant(std::string_view body);
Result<LeaseAnswer> DecodeLeaseKeepAlive(std::string_view body);
// The text of an error answer ({"error": ..., "code": ...}), for people.
std::string DecodeError(std::string_view body);

std::string Base64(std::string_view bytes);
Result<std::string> FromBase64(std::string_view text);

}  // namespace catena::coordinator::etcd
