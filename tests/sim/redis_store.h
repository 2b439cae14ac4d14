// The data of a simulated Redis and the commands on it. An effect is what goes into the stream.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace catena::sim {

using Arguments = std::vector<std::string>;
using Data = std::map<std::string, std::string>;

std::string Encode(const Arguments& command);

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
