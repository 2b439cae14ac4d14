// One node's own database as catenactl verify sees it (proxy/server/inspection.h has the protocol).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "proxy/base/result.h"
#include "proxy/cli/connection.h"
#include "proxy/resp/value.h"

namespace catena::cli {

// Requests and answers apart, so that all nodes work at the same time. Answers come in order.
class Inspector {
 public:
  static Result<Inspector> Open(const config::Config& config, const std::string& chain,
                                const std::string& node, const std::string& peers);

  const std::string& node() const { return node_; }
  void Request(const std::vector<std::string_view>& command);
  // Sends what was requested.
  Result<void> Send();
  // An error answer is a failure here, with the node's name.
  Result<resp::Value> Answer();
  // Request, Send and Answer.
  Result<resp::Value> Ask(const std::vector<std::string_view>& command);

 private:
  Inspector(std::string node, Connection connection)
      : node_(std::move(node)), connection_(std::move(connection)) {}

  std::string node_;
  Connection connection_;
  std::string requests_;
};

// What a value is, whatever its encoding: "missing", or type, deadline and a digest, read in pieces
// so that nobody waits for a large one.
Result<std::string> CanonicalValue(Inspector& inspector, const std::string& key);

}  // namespace catena::cli
