#include "proxy/cli/client.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <utility>

#include "proxy/auth/proof.h"
#include "proxy/resp/encoder.h"
#include "proxy/tls_setup.h"

namespace catena::cli {
namespace {

Result<std::string> RandomNonce() {
  std::string nonce(16, '\0');
  if (getrandom(nonce.data(), nonce.size(), 0) != static_cast<ssize_t>(nonce.size())) {
    return Fail(std::string("no random bytes: ") + std::strerror(errno));
  }
  return nonce;
}

// Where a coordinator that does not lead sends us: nothing if `answer` is no such redirection, ""
// if it knows no leader either.
std::optional<std::string> Redirection(const resp::Value& answer) {
  constexpr std::string_view kWord = "NOTLEADER";
  if (answer.type == resp::Type::kArray && !answer.elements.empty() &&
      answer.elements[0].text == kWord) {
    return answer.elements.size() > 1 ? answer.elements[1].text : "";
  }
  if (answer.IsError() && answer.text.starts_with(kWord)) {
    return answer.text.size() > kWord.size() ? answer.text.substr(kWord.size() + 1) : "";
  }
  return std::nullopt;
}

}  // namespace

Result<Connection> Open(const config::Config& config, bool tls, const std::string& address) {
  if (!tls) return Connection::Open(address, kPatience, nullptr);
  const auto context = LoadTls(config.tls);
  if (!context) return Fail(context.error().message);
  return Connection::Open(address, kPatience, context->get());
}

Result<Connection> Dial(const config::Config& config, Port port, const std::string& address) {
  const Result<std::string> nonce = RandomNonce();
  if (!nonce) return Fail(nonce.error().message);
  const bool tls = port == Port::kCoordinator ? config.tls.coordinators : config.tls.peers;
  Result<Connection> connection = Open(config, tls, address);
  if (!connection) return connection;
  auth::Dialler dialler({config.cluster.name, config.cluster.secret}, *nonce);
  std::string out = dialler.Greeting();
  while (true) {
    if (auto sent = connection->Write(out); !sent) return Fail(sent.error().message);
    out.clear();
    const Result<bool> proven = dialler.Feed(connection->input(), out);
    if (!proven) return Fail(proven.error().message);
    if (*proven) return connection;
    if (!out.empty()) continue;
    if (auto read = connection->Read(); !read) return Fail(read.error().message);
  }
}

Result<resp::Value> Ask(Connection& connection, const std::vector<std::string_view>& arguments) {
  std::string bytes;
  resp::AppendCommand(bytes, arguments);
  if (auto sent = connection.Write(bytes); !sent) return Fail(sent.error().message);
  return connection.ReadValue();
}

namespace {

// Tries every address of the TOML, and goes where NOTLEADER points, until `ask` has an answer of the
// leader, or says that nobody else is to be asked.
Result<resp::Value> FindLeader(const config::Config& config,
                               const std::function<Result<resp::Value>(Connection&)>& ask,
                               const std::function<bool()>& ends) {
  std::deque<std::string> addresses(config.coordinator.listen.begin(),
                                    config.coordinator.listen.end());
  std::set<std::string> tried;
  std::string problems;
  while (!addresses.empty()) {
    const std::string address = addresses.front();
    addresses.pop_front();
    if (!tried.insert(address).second) continue;
    std::string problem;
    if (Result<Connection> connection = Dial(config, Port::kCoordinator, address); !connection) {
      problem = connection.error().message;
    } else if (Result<resp::Value> answer = ask(*connection); !answer) {
      problem = answer.error().message;
      if (ends()) return Fail(address + ": " + problem);
    } else if (const auto leader = Redirection(*answer)) {
      problem = leader->empty() ? "not the leader, and knows none" : "not the leader";
      if (!leader->empty()) addresses.push_front(*leader);
    } else {
      return answer;
    }
    problems += "\n  " + address + ": " + problem;
  }
  return Fail("no coordinator answers as the leader:" + problems);
}

std::string WithoutCode(const std::string& error) {
  constexpr std::string_view kCode = "ERR ";
  return error.starts_with(kCode) ? error.substr(kCode.size()) : error;
}

}  // namespace

Result<resp::Value> AskLeader(const config::Config& config,
                              const std::vector<std::string_view>& arguments) {
  return FindLeader(
      config, [&](Connection& connection) { return Ask(connection, arguments); },
      [] { return false; });
}

Carried CarryToLeader(const config::Config& config, const std::vector<std::string_view>& decision) {
  bool lost = false;
  const auto ask = [&](Connection& connection) {
    connection.SetPatience(kDecisionPatience);
    Result<resp::Value> answer = Ask(connection, decision);
    lost = !answer;
    return answer;
  };
  const auto answer = FindLeader(config, ask, [&] { return lost; });
  if (lost) {
    return {kNotFinished, std::string(coordinator::kNotKnownYet) + answer.error().message +
                              "; catenactl status tells when it is done"};
  }
  if (!answer) return {kNotDone, answer.error().message};
  if (!answer->IsError()) return {};
  std::string why = WithoutCode(answer->text);
  return {why.starts_with(coordinator::kNotKnownYet) ? kNotFinished : kNotDone, std::move(why)};
}

Result<std::string> AskLeaderForText(const config::Config& config,
                                     const std::vector<std::string_view>& arguments) {
  const Result<resp::Value> answer = AskLeader(config, arguments);
  if (!answer) return Fail(answer.error().message);
  if (answer->IsError()) return Fail(answer->text);
  return answer->text;
}

Result<coordinator::ClusterStatus> FetchStatus(const config::Config& config) {
  const auto text = AskLeaderForText(config, {"CATENA.STATUS"});
  if (!text) return Fail(text.error().message);
  return coordinator::DecodeStatus(*text);
}

Result<coordinator::EventHistory> FetchEvents(const config::Config& config,
                                              const std::string& chain) {
  const auto text = AskLeaderForText(config, {"CATENA.EVENTS", chain});
  if (!text) return Fail(text.error().message);
  return coordinator::DecodeEvents(*text);
}

}  // namespace catena::cli
