// Talks to the processes of a cluster as one of them: with the proof of the secret, then RESP.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "coordinator/records.h"
#include "proxy/base/clock.h"
#include "proxy/base/result.h"
#include "proxy/cli/connection.h"
#include "proxy/cli/exit.h"
#include "proxy/resp/value.h"

namespace catena::cli {

inline constexpr Duration kPatience = std::chrono::seconds(3);
// A coordinator that leads answers a decision after ten seconds at the latest.
inline constexpr Duration kDecisionPatience = std::chrono::seconds(15);

enum class Port { kCoordinator, kPeers };

// A connection to a coordinator or to a proxy's peers port, with TLS if the TOML says so, on which
// both sides have proved the secret.
Result<Connection> Dial(const config::Config& config, Port port, const std::string& address);

// The same without the secret; with TLS if `tls`.
Result<Connection> Open(const config::Config& config, bool tls, const std::string& address);

// Sends one command and waits for its answer. An error answer is a value, not a failure.
Result<resp::Value> Ask(Connection& connection, const std::vector<std::string_view>& arguments);

// Asks the coordinator that leads: tries every address of the TOML and goes where NOTLEADER points.
// The failure names each address and what was wrong there.
Result<resp::Value> AskLeader(const config::Config& config,
                              const std::vector<std::string_view>& arguments);
// The text of the answer; an error answer is a failure, too.
Result<std::string> AskLeaderForText(const config::Config& config,
                                     const std::vector<std::string_view>& arguments);
// How a decision ended that was carried to the leader. kDone: it is in force; kNotDone: it was refused,
// or did not get there; kNotFinished: nobody knows yet, and it is not sent again.
struct Carried {
  Exit exit = kDone;
  std::string why;
};
Carried CarryToLeader(const config::Config& config, const std::vector<std::string_view>& decision);

// What the leader knows of all chains, and how one of them came to be what it is.
Result<coordinator::ClusterStatus> FetchStatus(const config::Config& config);
Result<coordinator::EventHistory> FetchEvents(const config::Config& config,
                                              const std::string& chain);

}  // namespace catena::cli
