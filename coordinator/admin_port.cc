#include "coordinator/admin_port.h"

#include <openssl/evp.h>

#include <nlohmann/json.hpp>

#include "coordinator/records.h"
#include "coordinator/status_page.h"
#include "proxy/admin/process_metrics.h"

namespace catena::coordinator {
namespace {

// What stands between <tag> and </tag>.
std::string_view Between(std::string_view text, const std::string& tag) {
  const size_t begin = text.find("<" + tag + ">") + tag.size() + 2;
  return text.substr(begin, text.find("</" + tag + ">", begin) - begin);
}

// As Content-Security-Policy wants it: 'sha256-...'
std::string HashOf(std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE], base64[2 * EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_Digest(text.data(), text.size(), digest, &length, EVP_sha256(), nullptr);
  const int size = EVP_EncodeBlock(base64, digest, static_cast<int>(length));
  return "'sha256-" + std::string(reinterpret_cast<char*>(base64), static_cast<size_t>(size)) + "'";
}

}  // namespace

AdminPort::AdminPort(Options options, Controller& controller, const EtcdUse& etcd,
                     const Histogram& turns)
    : options_(std::move(options)),
      controller_(controller),
      etcd_(etcd),
      turns_(turns),
      page_policy_("default-src 'none'; connect-src 'self'; frame-ancestors 'none'; style-src " +
                   HashOf(Between(kStatusPage, "style")) + "; script-src " +
                   HashOf(Between(kStatusPage, "script"))) {}

admin::Response AdminPort::Answer(std::string_view path) {
  if (path == "/") return Page();
  if (path == "/status.json") return {200, "application/json", StatusJson()};
  if (path == "/metrics") return Metrics();
  if (path == "/healthz") return {200, {}, "ok\n"};
  if (path == "/readyz") return Readiness();
  return admin::NotFound("/, /status.json, /metrics, /healthz, /readyz");
}

admin::Response AdminPort::Page() const {
  return {200, "text/html; charset=utf-8", kStatusPage, page_policy_};
}

admin::Response AdminPort::Metrics() {
  Exposition out;
  AppendMetrics(out, controller_.counters(), etcd_, controller_.etcd_healthy(),
                controller_.Status());
  admin::AppendProcessMetrics(out, turns_);
  return {200, std::string(Exposition::kContentType), out.text()};
}

// Ready to lead, or to say who does.
admin::Response AdminPort::Readiness() {
  if (controller_.Leads()) return {200, {}, "ready, and leading\n"};
  if (!controller_.etcd_healthy()) return {503, {}, "not ready: etcd does not answer\n"};
  const std::string leader = controller_.LeaderAddress();
  if (leader.empty()) return {503, {}, "not ready: no coordinator leads\n"};
  return {200, {}, "ready; " + leader + " leads\n"};
}

std::string AdminPort::StatusJson() {
  std::optional<ClusterStatus> known = controller_.Status();
  ClusterStatus status = known.value_or(ClusterStatus());
  status.cluster = options_.cluster;
  status.answered_by = options_.address;
  status.leader = controller_.LeaderAddress();
  status.etcd_healthy = controller_.etcd_healthy();
  auto document = nlohmann::json::parse(EncodeStatus(status));
  document["leads"] = known.has_value();
  const auto page = options_.pages.find(status.leader);
  document["leader_page"] = page == options_.pages.end() ? "" : "http://" + page->second + "/";
  for (nlohmann::json& chain : document["chains"]) {
    const Result<EventHistory> events = controller_.Events(chain["chain"].get<std::string>());
    if (events) chain["events"] = nlohmann::json::parse(EncodeEvents(*events))["events"];
  }
  return document.dump();
}

}  // namespace catena::coordinator
