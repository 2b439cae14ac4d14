// A decoded RESP2/RESP3 value: for control messages (peer, coordinator, ROLE, INFO, COMMAND). The
// hot path relays raw bytes and only measures them with ReplyScanner.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace catena::resp {

enum class Type {
  kSimpleString,
  kError,
  kInteger,
  kBulkString,
  kNull,
  kArray,  // RESP2
  kMap,
  kSet,
  kPush,
  kDouble,
  kBoolean,
  kBigNumber,
  kVerbatim,
  kBlobError  // RESP3
};

struct Value {
  Type type = Type::kNull;
  std::string text;     // strings, errors, big numbers, doubles as sent; verbatim without "txt:"
  int64_t integer = 0;  // kInteger; kBoolean 0/1
  std::vector<Value> elements;  // aggregates; a map's keys and values alternate

  bool IsError() const { return type == Type::kError || type == Type::kBlobError; }
  bool IsString() const {
    return type == Type::kBulkString || type == Type::kSimpleString || type == Type::kVerbatim;
  }
};

}  // namespace catena::resp
