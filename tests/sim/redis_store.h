// The data of a simulated Redis and the commands on it. An effect is what goes into the stream.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace catena::sim {

using Arguments = std::vector<std::string>;
// Of all databases: a key of another one than 0 is named "database/key".
using Data = std::map<std::string, std::string>;

std::string Encode(const Arguments& command);
// The command on keys as Data names them. Of a DBSIZE the database is an argument then.
Arguments InDatabase(int database, Arguments command);
// Whatever it takes, with each key (a std::string) of a command.
void ForEachKey(auto& command, const auto& use) {
  const std::string& name = command[0];
  if (name == "DBSIZE" || name == "FLUSHALL") return;
  const size_t step = name == "MSET" ? 2 : 1;
  const bool many = name == "MSET" || name == "MGET" || name == "DEL";
  for (size_t i = 1; i < command.size() && (many || i == 1); i += step) use(command[i]);
}

struct Executed {
  std::string reply;  // RESP
  bool changed = false;
};

// GET MGET EXISTS STRLEN DBSIZE; SET SETNX GETSET APPEND INCRBY DEL MSET FLUSHALL; RPUSH LPOP BLPOP
// of lists whose elements begin with a v and have no other.
bool IsKnown(std::string_view name);
bool IsWrite(std::string_view name);
// Takes the first element of a list; "": there is none.
std::string PopFront(Data& data, const std::string& key);
// The answer to a command that is no write.
std::string Read(const Data& data, const Arguments& arguments);
// One command on `data`. `arguments[0]` in upper case, a known name. The effect of a change is the
// command itself, of a BLPOP the LPOP; this one does not wait.
Executed Execute(Data& data, const Arguments& arguments);

}  // namespace catena::sim
