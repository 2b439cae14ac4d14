// Errors that Catena itself gives, as complete RESP (design.md 8).
#pragma once

#include <string>
#include <string_view>

namespace catena::server {

// Nothing was executed; trying again is safe.
inline std::string ChainDown(std::string_view why) {
  return "-CHAINDOWN " + std::string(why) + "; the command was not executed\r\n";
}
// The command was sent on and its answer is lost: it may or may not have happened. Never retried by
// a proxy.
inline std::string UnknownOutcome(std::string_view why) {
  return "-UNKNOWNOUTCOME " + std::string(why) +
         "; the command may or may not have been executed\r\n";
}

// The database runs a script for too long and executed nothing of this command. (A script that says
// so itself betrays its own words, no data.)
inline bool SaysBusy(std::string_view reply) {
  return reply.starts_with("-BUSY ") && reply.find(" is busy running ") != std::string_view::npos;
}

}  // namespace catena::server
