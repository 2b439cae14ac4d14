#include "proxy/cli/check.h"

#include <ifaddrs.h>
#include <netdb.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "config/address.h"
#include "proxy/cli/client.h"

namespace catena::cli {
namespace {

using Verdict = Finding::Verdict;

Finding CheckProof(const config::Config& config, Port port, const std::string& what,
                   const std::string& address) {
  const Result<Connection> connection = Dial(config, port, address);
  if (!connection) return {what + " " + address, Verdict::kBad, connection.error().message};
  return {what + " " + address, Verdict::kGood, "answers and knows the secret"};
}

Finding CheckEtcd(const config::Config& config, const std::string& text) {
  const std::string what = "etcd " + text;
  const config::EtcdUrl url = *config::ParseEtcdUrl(text);
  Result<Connection> connection = Open(config, url.tls, url.address);
  if (!connection) return {what, Verdict::kBad, connection.error().message};
  const std::string request = "GET /health HTTP/1.0\r\nHost: " + url.address + "\r\n\r\n";
  if (auto sent = connection->Write(request); !sent) {
    return {what, Verdict::kBad, sent.error().message};
  }
  const Result<std::string> answer = connection->ReadAll();
  if (!answer) return {what, Verdict::kBad, answer.error().message};
  // etcd 3.4 says "true" as a string.
  const bool healthy = answer->find("\"health\":\"true\"") != std::string::npos ||
                       answer->find("\"health\":true") != std::string::npos;
  if (!healthy) return {what, Verdict::kBad, "says that it is not healthy, or is no etcd"};
  return {what, Verdict::kGood, "healthy"};
}

// Whether `host` is an address of this machine.
bool IsLocal(const std::string& host) {
  if (config::IsLoopback(host)) return true;
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return false;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(all, freeifaddrs);
  for (const ifaddrs* each = all; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr) continue;
    const int family = each->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    char text[NI_MAXHOST];
    const socklen_t length = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    if (getnameinfo(each->ifa_addr, length, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) == 0 &&
        host == text) {
      return true;
    }
  }
  return false;
}

// Whether the node's database can be tried from this machine.
bool IsReachableHere(const config::Node& node) {
  const Result<config::HostPort> backend = config::ParseHostPort(node.backend.address, false);
  if (backend && !config::IsLoopback(backend->host)) return true;
  const Result<config::HostPort> peers = config::ParseHostPort(node.peers, false);
  return peers && IsLocal(peers->host);
}

// The value of one line "field:value" of INFO.
std::string InfoField(const std::string& info, const std::string& field) {
  const size_t at = info.find("\n" + field + ":");
  if (at == std::string::npos) return "";
  const size_t start = at + field.size() + 2;
  return info.substr(start, info.find_first_of("\r\n", start) - start);
}

Finding CheckRedis(const config::Config& config, const std::string& what,
                   const config::BackendUrl& url) {
  const auto bad = [&](std::string text) { return Finding{what, Verdict::kBad, std::move(text)}; };
  Result<Connection> connection = Open(config, url.tls, url.address);
  if (!connection) return bad(connection.error().message);
  if (!url.password.empty()) {
    std::vector<std::string_view> arguments{"AUTH"};
    if (!url.user.empty()) arguments.push_back(url.user);
    arguments.push_back(url.password);
    const Result<resp::Value> answer = Ask(*connection, arguments);
    if (!answer) return bad(answer.error().message);
    if (answer->IsError()) return bad("refuses the password: " + answer->text);
  }
  const Result<resp::Value> info = Ask(*connection, {"INFO", "server"});
  if (!info) return bad(info.error().message);
  if (info->IsError()) return bad(info->text);
  const std::string version = InfoField(info->text, "redis_version");
  if (version.empty()) return bad("does not answer as a Redis server");
  // What the proxy cannot do without; it costs nothing to ask.
  const Result<resp::Value> role = Ask(*connection, {"ROLE"});
  if (!role || role->IsError()) {
    return bad("ROLE: " + (role ? role->text : role.error().message));
  }
  return {what, Verdict::kGood, "Redis " + version + ", " + role->elements.at(0).text};
}

Finding CheckBackend(const config::Config& config, const config::Node& node) {
  const std::string what = "backend of " + node.id + " " + node.backend.text;
  if (!IsReachableHere(node)) return {what, Verdict::kUnknown, "only reachable on its own machine"};
  if (node.backend.kind == config::BackendKind::kRedis)
    return CheckRedis(config, what, node.backend);
  std::error_code error;
  if (std::filesystem::is_directory(node.backend.address, error)) {
    return {what, Verdict::kGood, "the directory is there"};
  }
  return {what, Verdict::kUnknown, "no directory yet; the proxy makes it"};
}

}  // namespace

std::vector<Finding> CheckCluster(const config::Config& config) {
  std::vector<Finding> findings;
  findings.push_back({config.path, Verdict::kGood, "valid"});
  for (const std::string& warning : config::Warnings(config)) {
    findings.push_back({config.path, Verdict::kWarning, warning});
  }
  for (const std::string& url : config.coordinator.etcd) findings.push_back(CheckEtcd(config, url));
  for (const std::string& address : config.coordinator.listen) {
    findings.push_back(CheckProof(config, Port::kCoordinator, "coordinator", address));
  }
  for (const config::Chain& chain : config.chains) {
    for (const config::Node& node : chain.nodes) {
      findings.push_back(CheckProof(config, Port::kPeers, "proxy " + node.id, node.peers));
      findings.push_back(CheckBackend(config, node));
    }
  }
  return findings;
}

std::string RenderFindings(const std::vector<Finding>& findings, bool colour) {
  size_t width = 0;
  for (const Finding& finding : findings) width = std::max(width, finding.what.size());
  std::string out;
  for (const Finding& finding : findings) {
    const bool good = finding.verdict == Verdict::kGood;
    const bool bad = finding.verdict == Verdict::kBad;
    const bool warning = finding.verdict == Verdict::kWarning;
    const std::string word = good ? "ok     " : bad ? "WRONG  " : warning ? "warning" : "unknown";
    const std::string code = good ? "32" : bad ? "31" : "33";
    out += (colour ? "\033[" + code + "m" + word + "\033[0m" : word) + "  " + finding.what +
           std::string(width - finding.what.size() + 2, ' ') + finding.detail + "\n";
  }
  return out;
}

bool AllGood(const std::vector<Finding>& findings) {
  return std::ranges::none_of(
      findings, [](const Finding& finding) { return finding.verdict == Verdict::kBad; });
}

}  // namespace catena::cli
