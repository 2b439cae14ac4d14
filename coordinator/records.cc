#include "coordinator/records.h"

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <utility>

namespace catena::coordinator {
namespace {

using nlohmann::json;

constexpr std::array<std::pair<ReportPhase, const char*>, 6> kPhases{{
    {ReportPhase::kStarting, "starting"},
    {ReportPhase::kCandidate, "candidate"},
    {ReportPhase::kMember, "member"},
    {ReportPhase::kJoining, "joining"},
    {ReportPhase::kResigning, "resigning"},
    {ReportPhase::kRefused, "refused"},
}};

// More than any lease or age, and far from overflow when it is added to a time.
constexpr Duration kDurationMax = std::chrono::hours(24 * 365 * 100);

// Reads the fields of one JSON object and keeps the first problem. A field that is missing leaves
// its default, so that processes of neighbouring versions understand each other; unknown fields are
// ignored for the same reason. A field of the wrong type is an error.
class Reader {
 public:
  Reader(const json& object, std::string where, std::string& problem)
      : object_(object), where_(std::move(where)), problem_(problem) {
    if (!object_.is_object()) Complain("is not an object");
  }

  void Get(const char* name, std::string& out) {
    if (const json* field = Find(name)) {
      if (!field->is_string()) return Complain(name, "is not a string");
      out = field->get_ref<const std::string&>();
    }
  }
  void Get(const char* name, bool& out) {
    if (const json* field = Find(name)) {
      if (!field->is_boolean()) return Complain(name, "is not a boolean");
      out = field->get<bool>();
    }
  }
  void Get(const char* name, uint64_t& out) {
    if (const json* field = Find(name)) {
      if (!field->is_number_unsigned()) return Complain(name, "is not a whole number >= 0");
      out = field->get<uint64_t>();
    }
  }
  template <typename Tag>
  void Get(const char* name, Counter<Tag>& out) {
    uint64_t value = out.value();
    Get(name, value);
    // All of them count in 63 bits, so that the next one is a number too.
    if (value > INT64_MAX) return Complain(name, "is too large");
    out = Counter<Tag>(value);
  }
  void Get(const char* name, int64_t& out) {
    if (const json* field = Find(name)) {
      if (!field->is_number_integer()) return Complain(name, "is not a whole number");
      out = field->get<int64_t>();
    }
  }
  void Get(const char* name, Duration& out) {
    int64_t count = out.count();
    Get(name, count);
    const Duration duration(count);
    if (duration > kDurationMax || duration < -kDurationMax) {
      return Complain(name, "is too large");
    }
    out = duration;
  }
  void Get(const char* name, std::vector<std::string>& out) {
    const json* field = Find(name);
    if (field == nullptr) return;
    if (!field->is_array()) return Complain(name, "is not an array");
    out.clear();
    for (const json& element : *field) {
      if (!element.is_string()) return Complain(name, "holds what is not a string");
      out.push_back(element.get<std::string>());
    }
  }
  void Get(const char* name, ReportPhase& out) {
    std::string text;
    Get(name, text);
    if (text.empty()) return;
    for (const auto& [phase, word] : kPhases) {
      if (text == word) {
        out = phase;
        return;
      }
    }
    Complain(name, "is no phase");
  }
  template <typename T>
  void Get(const char* name, std::optional<T>& out);
  template <typename T>
  void Get(const char* name, std::vector<T>& out);
  template <typename T>
  requires std::is_class_v<T>
  void Get(const char* name, T& out);

  // Like Get, for fields without which the message means nothing.
  template <typename T>
  void Need(const char* name, T& out) {
    if (problem_.empty() && Find(name) == nullptr) return Complain(name, "is missing");
    Get(name, out);
  }
  void Complain(const char* name, const char* what) {
    if (problem_.empty()) problem_ = where_ + "." + name + " " + what;
  }

 private:
  void Complain(const char* what) {
    if (problem_.empty()) problem_ = where_ + " " + what;
  }
  const json* Find(const char* name) const {
    if (!problem_.empty() || !object_.is_object()) return nullptr;
    auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  const json& object_;
  std::string where_;
  std::string& problem_;
};

const char* PhaseWord(ReportPhase phase) {
  for (const auto& [candidate, word] : kPhases) {
    if (candidate == phase) return word;
  }
  return "starting";
}

// --- one pair of functions for each struct, fields in the order of the header ---

json ToJson(const chain::Member& member) {
  return {{"id", member.id},
          {"incarnation", member.incarnation.value()},
          {"clients", member.clients},
          {"peers", member.peers},
          {"backend_run_id", member.backend_run_id}};
}
void FromJson(Reader& in, chain::Member& out) {
  in.Need("id", out.id);
  in.Need("incarnation", out.incarnation);
  in.Get("clients", out.clients);
  in.Get("peers", out.peers);
  in.Get("backend_run_id", out.backend_run_id);
}

json ToJson(const chain::Configuration& configuration) {
  json members = json::array();
  for (const chain::Member& member : configuration.members) members.push_back(ToJson(member));
  return {{"chain", configuration.chain},
          {"epoch", configuration.epoch.value()},
          {"members", std::move(members)}};
}
void FromJson(Reader& in, chain::Configuration& out) {
  in.Need("chain", out.chain);
  in.Need("epoch", out.epoch);
  in.Need("members", out.members);
  if (out.members.empty()) in.Complain("members", "is empty");
  if (out.epoch.value() == 0) in.Complain("epoch", "is 0");
}

json ToJson(const BackendReport& backend) {
  return {{"kind", backend.kind},
          {"healthy", backend.healthy},
          {"problem", backend.problem},
          {"run_id", backend.run_id},
          {"version", backend.version},
          {"keys", backend.keys},
          {"from_chain", backend.from_chain},
          {"committed_only", backend.committed_only},
          {"replid", backend.replid},
          {"position", backend.position.value()},
          {"address", backend.address}};
}
void FromJson(Reader& in, BackendReport& out) {
  in.Get("kind", out.kind);
  in.Get("healthy", out.healthy);
  in.Get("problem", out.problem);
  in.Get("run_id", out.run_id);
  in.Get("version", out.version);
  in.Get("keys", out.keys);
  in.Get("from_chain", out.from_chain);
  in.Get("committed_only", out.committed_only);
  in.Get("replid", out.replid);
  in.Get("position", out.position);
  in.Get("address", out.address);
}

json ToJson(const JoinerReady& ready) {
  return {{"node", ready.node},
          {"incarnation", ready.incarnation.value()},
          {"epoch", ready.epoch.value()}};
}
void FromJson(Reader& in, JoinerReady& out) {
  in.Need("node", out.node);
  in.Need("incarnation", out.incarnation);
  in.Need("epoch", out.epoch);
}

json ToJson(const JoinOrder& order) {
  return {{"node", order.node}, {"incarnation", order.incarnation.value()}, {"peers", order.peers}};
}
void FromJson(Reader& in, JoinOrder& out) {
  in.Need("node", out.node);
  in.Need("incarnation", out.incarnation);
  in.Get("peers", out.peers);
}

json ToJson(const NodeReport& report) {
  json out = {{"cluster", report.cluster},
              {"chain", report.chain},
              {"node", report.node},
              {"incarnation", report.incarnation.value()},
              {"number", report.number},
              {"clients", report.clients},
              {"version", report.version},
              {"peers", report.peers},
              {"phase", PhaseWord(report.phase)},
              {"problem", report.problem},
              {"epoch", report.epoch.value()},
              {"synced", report.synced},
              {"keeps_log", report.keeps_log},
              {"head_ready", report.head_ready},
              {"leaving", report.leaving},
              {"overwrite", report.overwrite},
              {"received", report.received.value()},
              {"committed", report.committed.value()},
              {"applied", report.applied.value()},
              {"log_start", report.log_start.value()},
              {"replid", report.replid},
              {"backend", ToJson(report.backend)},
              {"snapshot_done", report.snapshot_done},
              {"snapshot_total", report.snapshot_total},
              {"clients_connected", report.clients_connected},
              {"commands_answered", report.commands_answered},
              {"lease_left", report.lease_left.count()}};
  if (report.joiner_ready) out["joiner_ready"] = ToJson(*report.joiner_ready);
  out["predecessor_linked"] = report.predecessor_linked;
  out["successor_linked"] = report.successor_linked;
  return out;
}
void FromJson(Reader& in, NodeReport& out) {
  in.Need("cluster", out.cluster);
  in.Need("chain", out.chain);
  in.Need("node", out.node);
  in.Need("incarnation", out.incarnation);
  in.Get("number", out.number);
  in.Get("clients", out.clients);
  in.Get("version", out.version);
  in.Get("peers", out.peers);
  in.Need("phase", out.phase);
  in.Get("problem", out.problem);
  in.Get("epoch", out.epoch);
  in.Get("synced", out.synced);
  in.Get("keeps_log", out.keeps_log);
  in.Get("head_ready", out.head_ready);
  in.Get("leaving", out.leaving);
  in.Get("overwrite", out.overwrite);
  in.Get("received", out.received);
  in.Get("committed", out.committed);
  in.Get("applied", out.applied);
  in.Get("log_start", out.log_start);
  in.Get("replid", out.replid);
  in.Get("backend", out.backend);
  in.Get("joiner_ready", out.joiner_ready);
  in.Get("predecessor_linked", out.predecessor_linked);
  in.Get("successor_linked", out.successor_linked);
  in.Get("snapshot_done", out.snapshot_done);
  in.Get("snapshot_total", out.snapshot_total);
  in.Get("clients_connected", out.clients_connected);
  in.Get("commands_answered", out.commands_answered);
  in.Get("lease_left", out.lease_left);
  // A choice writes the epoch behind the newest that was reported.
  if (out.epoch.value() > INT64_MAX / 2) in.Complain("epoch", "is too large");
}

json ToJson(const HeartbeatAnswer& answer) {
  json out = {{"number", answer.number},
              {"lease", answer.lease.count()},
              {"incarnation_void", answer.incarnation_void},
              {"incarnation_above", answer.incarnation_above.value()},
              {"reason", answer.reason},
              {"resign", answer.resign},
              {"drain", answer.drain},
              {"notice", answer.notice}};
  if (answer.configuration) out["configuration"] = ToJson(*answer.configuration);
  if (answer.join) out["join"] = ToJson(*answer.join);
  return out;
}
void FromJson(Reader& in, HeartbeatAnswer& out) {
  in.Get("number", out.number);
  in.Get("lease", out.lease);
  in.Get("configuration", out.configuration);
  in.Get("join", out.join);
  in.Get("incarnation_void", out.incarnation_void);
  in.Get("incarnation_above", out.incarnation_above);
  in.Get("reason", out.reason);
  in.Get("resign", out.resign);
  in.Get("drain", out.drain);
  in.Get("notice", out.notice);
}

json ToJson(const KnownNode& known) {
  return {
      {"node", known.node}, {"address", known.address}, {"incarnation", known.incarnation.value()}};
}
void FromJson(Reader& in, KnownNode& out) {
  in.Need("node", out.node);
  in.Need("address", out.address);
  in.Get("incarnation", out.incarnation);
}

json ToJson(const Drain& drain) {
  return {{"node", drain.node}, {"returns", drain.returns}, {"after", drain.after}};
}
void FromJson(Reader& in, Drain& out) {
  in.Need("node", out.node);
  in.Get("returns", out.returns);
  in.Get("after", out.after);
}

json ToJson(const DrainRequest& request) {
  return {{"drain", ToJson(request.drain)}, {"end", request.end}, {"force", request.force}};
}
void FromJson(Reader& in, DrainRequest& out) {
  in.Need("drain", out.drain);
  in.Get("end", out.end);
  in.Get("force", out.force);
}

json ToJson(const Event& event) {
  return {{"wall_ms", event.wall_ms},
          {"epoch", event.epoch.value()},
          {"members", event.members},
          {"reason", event.reason}};
}
void FromJson(Reader& in, Event& out) {
  in.Get("wall_ms", out.wall_ms);
  in.Need("epoch", out.epoch);
  in.Get("members", out.members);
  in.Get("reason", out.reason);
}

json ToJson(const EventHistory& history) {
  json events = json::array();
  for (const Event& event : history.events) events.push_back(ToJson(event));
  return {{"events", std::move(events)}};
}
void FromJson(Reader& in, EventHistory& out) { in.Need("events", out.events); }

json ToJson(const ChainRecord& record) {
  json known = json::array();
  for (const KnownNode& database : record.known) known.push_back(ToJson(database));
  json drains = json::array();
  for (const Drain& drain : record.drains) drains.push_back(ToJson(drain));
  return {{"configuration", ToJson(record.configuration)},
          {"reason", record.reason},
          {"lease", record.lease.count()},
          {"head_complete", record.head_complete},
          {"known", std::move(known)},
          {"drains", std::move(drains)}};
}
void FromJson(Reader& in, ChainRecord& out) {
  in.Need("configuration", out.configuration);
  in.Get("reason", out.reason);
  in.Get("lease", out.lease);
  in.Get("head_complete", out.head_complete);
  in.Get("known", out.known);
  in.Get("drains", out.drains);
}

json ToJson(const NodeStatus& node) {
  return {{"report", ToJson(node.report)},
          {"member", node.member},
          {"heard_ago", node.heard_ago.count()},
          {"lease_out", node.lease_out.count()},
          {"notice", node.notice}};
}
void FromJson(Reader& in, NodeStatus& out) {
  in.Get("report", out.report);
  in.Get("member", out.member);
  in.Get("heard_ago", out.heard_ago);
  in.Get("lease_out", out.lease_out);
  in.Get("notice", out.notice);
}

json ToJson(const ChainStatus& chain) {
  json nodes = json::array();
  for (const NodeStatus& node : chain.nodes) nodes.push_back(ToJson(node));
  json out = {{"chain", chain.chain},
              {"nodes", std::move(nodes)},
              {"waiting_for", chain.waiting_for},
              {"needs_operator", chain.needs_operator},
              {"replicas", chain.replicas}};
  if (chain.record) out["record"] = ToJson(*chain.record);
  if (chain.join) out["join"] = ToJson(*chain.join);
  return out;
}
void FromJson(Reader& in, ChainStatus& out) {
  in.Need("chain", out.chain);
  in.Get("record", out.record);
  in.Get("nodes", out.nodes);
  in.Get("join", out.join);
  in.Get("waiting_for", out.waiting_for);
  in.Get("needs_operator", out.needs_operator);
  in.Get("replicas", out.replicas);
}

json ToJson(const ClusterStatus& status) {
  json chains = json::array();
  for (const ChainStatus& chain : status.chains) chains.push_back(ToJson(chain));
  return {{"cluster", status.cluster},
          {"leader", status.leader},
          {"answered_by", status.answered_by},
          {"etcd_healthy", status.etcd_healthy},
          {"chains", std::move(chains)}};
}
void FromJson(Reader& in, ClusterStatus& out) {
  in.Need("cluster", out.cluster);
  in.Get("leader", out.leader);
  in.Get("answered_by", out.answered_by);
  in.Get("etcd_healthy", out.etcd_healthy);
  in.Get("chains", out.chains);
}

template <typename T>
requires std::is_class_v<T>
void Reader::Get(const char* name, T& out) {
  if (const json* field = Find(name)) {
    Reader inner(*field, where_ + "." + name, problem_);
    FromJson(inner, out);
  }
}

template <typename T>
void Reader::Get(const char* name, std::optional<T>& out) {
  out.reset();
  if (Find(name) == nullptr) return;
  T value;
  Get(name, value);
  out = std::move(value);
}

template <typename T>
void Reader::Get(const char* name, std::vector<T>& out) {
  const json* field = Find(name);
  if (field == nullptr) return;
  if (!field->is_array()) return Complain(name, "is not an array");
  out.clear();
  for (const json& element : *field) {
    T value;
    Reader inner(element, where_ + "." + name, problem_);
    FromJson(inner, value);
    out.push_back(std::move(value));
  }
}

// Texts of databases and operating systems need not be UTF-8: what is not becomes U+FFFD.
template <typename T>
std::string Encode(const T& value) {
  return ToJson(value).dump(-1, ' ', false, json::error_handler_t::replace);
}

// Hostile nesting would be recursion in the parser's caller and in destructors; our own messages
// need six levels.
bool NestsTooDeep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > 32) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

template <typename T>
Result<T> Decode(std::string_view text, const char* what) {
  if (NestsTooDeep(text)) return Fail(std::string(what) + ": nested too deep");
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return Fail(std::string(what) + ": not JSON");
  T value;
  std::string problem;
  Reader reader(document, what, problem);
  if (problem.empty()) FromJson(reader, value);
  if (!problem.empty()) return Fail(std::move(problem));
  return value;
}

}  // namespace

void EventHistory::Add(Event event) {
  if (events.size() >= kMax) {
    events.erase(events.begin(), events.end() - static_cast<ptrdiff_t>(kMax - 1));
  }
  events.push_back(std::move(event));
}

std::string EncodeReport(const NodeReport& report) { return Encode(report); }
Result<NodeReport> DecodeReport(std::string_view json) {
  return Decode<NodeReport>(json, "heartbeat");
}
std::string EncodeAnswer(const HeartbeatAnswer& answer) { return Encode(answer); }
Result<HeartbeatAnswer> DecodeAnswer(std::string_view json) {
  return Decode<HeartbeatAnswer>(json, "answer");
}
std::string EncodeRecord(const ChainRecord& record) { return Encode(record); }
Result<ChainRecord> DecodeRecord(std::string_view json) {
  return Decode<ChainRecord>(json, "record");
}
std::string EncodeConfiguration(const chain::Configuration& configuration) {
  return Encode(configuration);
}
Result<chain::Configuration> DecodeConfiguration(std::string_view json) {
  return Decode<chain::Configuration>(json, "configuration");
}
std::string EncodeDrainRequest(const DrainRequest& request) { return Encode(request); }
Result<DrainRequest> DecodeDrainRequest(std::string_view json) {
  return Decode<DrainRequest>(json, "drain");
}
std::string EncodeEvents(const EventHistory& history) { return Encode(history); }
Result<EventHistory> DecodeEvents(std::string_view json) {
  return Decode<EventHistory>(json, "events");
}
std::string EncodeStatus(const ClusterStatus& status) { return Encode(status); }
Result<ClusterStatus> DecodeStatus(std::string_view json) {
  return Decode<ClusterStatus>(json, "status");
}

}  // namespace catena::coordinator
