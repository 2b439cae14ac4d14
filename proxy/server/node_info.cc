// What a node tells of itself: INFO's `# Catena` section.
#include <algorithm>
#include <cctype>

#include "proxy/base/text.h"
#include "proxy/resp/decoder.h"
#include "proxy/resp/encoder.h"
#include "proxy/server/node.h"

namespace catena::server {
Node::~Node() = default;

bool AsksForCatena(std::span<const std::string_view> arguments) {
  auto wants = [](std::string_view section) {
    std::string lower(section);
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    return lower == "catena" || lower == "default" || lower == "all" || lower == "everything";
  };
  return arguments.size() < 2 || std::any_of(arguments.begin() + 1, arguments.end(), wants);
}

std::string Node::AddInfoSection(std::string_view reply) const {
  resp::Value value;
  size_t consumed = 0;
  std::string error;
  if (resp::DecodeValue(reply, value, consumed, error) != resp::Progress::kComplete ||
      !value.IsString()) {
    return std::string(reply);
  }
  auto number = [](uint64_t n) { return resp::Decimal(n); };
  TimePoint now = reactor_.Now();
  Duration lease = replica_.lease().ValidAt(now) ? replica_.lease().expires() - now : Duration(0);
  std::string text = std::move(value.text);
  text += "\r\n# Catena\r\n";
  text += "catena_chain:" + options_.chain + "\r\n";
  text += "catena_node:" + options_.node + "\r\n";
  text += "catena_role:" + std::string(RoleName(replica_.role())) + "\r\n";
  text += "catena_epoch:" + number(replica_.epoch().value()) + "\r\n";
  text += "catena_incarnation:" + number(replica_.incarnation().value()) + "\r\n";
  text += "catena_members:" + number(replica_.configuration().members.size()) + "\r\n";
  text += "catena_serving:" + number(replica_.serves() ? 1 : 0) + "\r\n";
  text += "catena_consistency:" + std::string(ConsistencyName(options_.consistency)) + "\r\n";
  text += "catena_replid:" + replica_.replid() + "\r\n";
  text += "catena_received:" + number(replica_.received().value()) + "\r\n";
  text += "catena_committed:" + number(replica_.committed().value()) + "\r\n";
  text += "catena_applied:" +
          number(replica_.head_ready() ? replica_.received().value() : replica_.applied().value()) +
          "\r\n";
  text += "catena_log_bytes:" + number(replica_.log().bytes()) + "\r\n";
  text += "catena_lease_left_ms:" +
          number(static_cast<uint64_t>(lease / std::chrono::milliseconds(1))) + "\r\n";
  text += "catena_clients:" + number(sessions_.size()) + "\r\n";
  text += "catena_commands_processed:" + number(meter_.answered()) + "\r\n";
  text += "catena_reads_clean:" + number(local_reader_.stats().clean) + "\r\n";
  text += "catena_reads_dirty:" + number(local_reader_.stats().dirty) + "\r\n";
  text += "catena_version_queries:" + number(replica_.stats().queries_sent) + "\r\n";
  text += "catena_version_queries_answered:" + number(replica_.stats().queries_answered) + "\r\n";
  text += "catena_verifies:" + number(replica_.stats().verifies_sent) + "\r\n";
  text += "catena_uptime_in_seconds:" +
          number(static_cast<uint64_t>((now - started_at_) / std::chrono::seconds(1))) + "\r\n";
  std::string out;
  if (value.type == resp::Type::kVerbatim) {
    out = "=" + number(text.size() + 4) + "\r\ntxt:" + text + "\r\n";
  } else {
    resp::AppendBulk(out, text);
  }
  return out;
}

}  // namespace catena::server
