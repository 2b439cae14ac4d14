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
constexpr std::string_view kUnknownOutcome = "-UNKNOWNOUTCOME ";
inline std::string UnknownOutcome(std::string_view why) {
  return std::string(kUnknownOutcome) + std::string(why) +
         "; the command may or may not have been executed\r\n";
}

// --- between proxies, on forwarding connections ---

// Names of lanes (forwarder.h): that of all clients' scripts, and how those begin that one client has
// for itself.
constexpr std::string_view kScriptsLane = "scripts";
constexpr std::string_view kTunnelLane = "client ";

// --- the same, when a node leaves its place in the chain ---

// The node will take nothing more on this connection after kHandedOver, by which the other side
// says that it sends nothing more; everything before it is answered. A tunnel is closed instead,
// as soon as it is idle.
constexpr std::string_view kLeavingNotice = ">1\r\n$14\r\nCATENA.LEAVING\r\n";
constexpr std::string_view kHandedOver = "CATENA.HANDEDOVER";
constexpr std::string_view kHandedOverCommand = "*1\r\n$17\r\nCATENA.HANDEDOVER\r\n";
// The answer of a blocking command that took nothing: it is to be sent to the next head.
constexpr std::string_view kSendAgain = "-CATENA.SENDAGAIN\r\n";

// The database runs a script for too long and executed nothing of this command. (A script that says
// so itself betrays its own words, no data.)
inline bool SaysBusy(std::string_view reply) {
  return reply.starts_with("-BUSY ") && reply.find(" is busy running ") != std::string_view::npos;
}

}  // namespace catena::server
