#include "tests/sim/redis_store.h"

#include <algorithm>

#include "proxy/resp/encoder.h"

namespace catena::sim {
namespace {

// Asked for every command of every order that is tried: compared with constants, of which each is a
// word or two.
template <typename... Names>
bool OneOf(std::string_view name, const Names&... names) {
  return (... || (name == names));
}

std::string Integer(int64_t value) {
  std::string out;
  resp::AppendInteger(out, value);
  return out;
}

void AppendValue(std::string& out, const Data& data, const std::string& key) {
  auto found = data.find(key);
  if (found == data.end()) return resp::AppendNull(out, 2);
  resp::AppendBulk(out, found->second);
}

}  // namespace

std::string Encode(const Arguments& command) {
  std::string out;
  const std::vector<std::string_view> views(command.begin(), command.end());
  resp::AppendCommand(out, views);
  return out;
}

Arguments InDatabase(int database, Arguments command) {
  if (database == 0) return command;
  const std::string prefix = std::to_string(database) + "/";
  if (command[0] == "DBSIZE") command.push_back(prefix);
  ForEachKey(command, [&](std::string& key) { key.insert(0, prefix); });
  return command;
}

bool IsKnown(std::string_view name) {
  return IsWrite(name) || OneOf(name, "GET", "MGET", "EXISTS", "STRLEN", "DBSIZE");
}
bool IsWrite(std::string_view name) {
  return OneOf(name, "SET", "SETNX", "GETSET", "APPEND", "INCRBY", "DEL", "MSET", "FLUSHALL",
               "RPUSH", "LPOP", "BLPOP");
}

std::string PopFront(Data& data, const std::string& key) {
  auto found = data.find(key);
  if (found == data.end()) return "";
  std::string& list = found->second;
  const std::string first = list.substr(0, list.find('v', 1));
  list.erase(0, first.size());
  if (list.empty()) data.erase(found);
  return first;
}

std::string Read(const Data& data, const Arguments& arguments) {
  const std::string& name = arguments[0];
  if (name == "DBSIZE") {
    const std::string prefix = arguments.size() > 1 ? arguments[1] : "";
    return Integer(std::count_if(data.begin(), data.end(), [&](const auto& pair) {
      const size_t slash = pair.first.find('/');
      return pair.first.substr(0, slash == std::string::npos ? 0 : slash + 1) == prefix;
    }));
  }
  std::string out;
  if (name == "GET") AppendValue(out, data, arguments[1]);
  if (name == "EXISTS") out = Integer(data.contains(arguments[1]) ? 1 : 0);
  if (name == "STRLEN") {
    auto found = data.find(arguments[1]);
    out = Integer(found == data.end() ? 0 : static_cast<int64_t>(found->second.size()));
  }
  if (name == "MGET") {
    resp::AppendArrayHeader(out, arguments.size() - 1);
    for (size_t i = 1; i < arguments.size(); ++i) AppendValue(out, data, arguments[i]);
  }
  return out;
}

Executed Execute(Data& data, const Arguments& arguments) {
  const std::string& name = arguments[0];
  if (!IsWrite(name)) return {Read(data, arguments)};
  if (name == "FLUSHALL") {
    data.clear();
    return {"+OK\r\n", true};
  }
  const std::string& key = arguments[1];
  if (name == "MSET") {
    for (size_t i = 1; i + 1 < arguments.size(); i += 2) data[arguments[i]] = arguments[i + 1];
    return {"+OK\r\n", true};
  }
  if (name == "SETNX") {
    const bool sets = !data.contains(key);
    if (sets) data[key] = arguments[2];
    return {Integer(sets ? 1 : 0), sets};
  }
  if (name == "DEL") {
    size_t gone = 0;
    for (size_t i = 1; i < arguments.size(); ++i) gone += data.erase(arguments[i]);
    return {Integer(static_cast<int64_t>(gone)), gone > 0};
  }
  if (name == "GETSET") {
    std::string out;
    AppendValue(out, data, key);
    data[key] = arguments[2];
    return {out, true};
  }
  if (name == "LPOP" || name == "BLPOP") {
    const std::string first = PopFront(data, key);
    std::string out;
    if (first.empty()) return {name == "LPOP" ? "$-1\r\n" : "*-1\r\n"};
    if (name == "BLPOP") {
      resp::AppendArrayHeader(out, 2);
      resp::AppendBulk(out, key.substr(key.find('/') + 1));
    }
    resp::AppendBulk(out, first);
    return {out, true};
  }
  std::string& value = data[key];
  if (name == "RPUSH") {
    value += arguments[2];
    return {Integer(std::count(value.begin(), value.end(), 'v')), true};
  }
  if (name == "APPEND") {
    value += arguments[2];
    return {Integer(static_cast<int64_t>(value.size())), true};
  }
  if (name == "INCRBY") {
    value = std::to_string((value.empty() ? 0 : std::stoll(value)) + std::stoll(arguments[2]));
    return {":" + value + "\r\n", true};
  }
  value = arguments[2];  // SET
  return {"+OK\r\n", true};
}

}  // namespace catena::sim
