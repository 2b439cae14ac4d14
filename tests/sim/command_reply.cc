#include "tests/sim/command_reply.h"

#include <fstream>
#include <iterator>
#include <set>

#include "proxy/base/check.h"
#include "proxy/resp/decoder.h"
#include "proxy/resp/encoder.h"

namespace catena::sim {
namespace {

const std::set<std::string>& Kept() {
  static const std::set<std::string> kept = {
      "get",     "mget",     "exists",  "strlen", "dbsize",  "set",     "setnx",
      "getset",  "rpush",    "lpop",    "blpop",  "append",  "incrby",  "del",
      "mset",    "flushall", "multi",   "exec",   "discard", "ping",    "echo",
      "select",  "info",     "role",    "client", "config",  "command", "watch",
      "unwatch", "replconf", "publish", "reset",  "quit",    "hello",   "auth"};
  return kept;
}

void Append(std::string& out, const resp::Value& value) {
  switch (value.type) {
    case resp::Type::kSimpleString:
      return resp::AppendSimple(out, value.text);
    case resp::Type::kInteger:
      return resp::AppendInteger(out, value.integer);
    case resp::Type::kBulkString:
      return resp::AppendBulk(out, value.text);
    case resp::Type::kArray:
      resp::AppendArrayHeader(out, value.elements.size());
      for (const resp::Value& element : value.elements) Append(out, element);
      return;
    default:
      return resp::AppendNull(out, 2);
  }
}

std::string Make() {
  std::ifstream file(CATENA_TEST_DATA "/command-redis-7.0.15.resp", std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  resp::Value all;
  size_t consumed = 0;
  std::string error;
  CATENA_CHECK(resp::DecodeValue(bytes, all, consumed, error) == resp::Progress::kComplete,
               "the recorded reply is in " CATENA_TEST_DATA);
  resp::Value some;
  some.type = resp::Type::kArray;
  for (resp::Value& command : all.elements) {
    if (Kept().contains(command.elements[0].text)) some.elements.push_back(std::move(command));
  }
  std::string out;
  Append(out, some);
  return out;
}

}  // namespace

const std::string& CommandReplyBytes() {
  static const std::string bytes = Make();
  return bytes;
}

}  // namespace catena::sim
