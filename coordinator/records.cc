#include "coordinator/records.h"

#include <algorithm>
#include <array>
#include <charconv>
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

  void Optional(const char* name, std::string& out) {
    if (const json* field = Find(name)) {
      if (!field->is_string()) return Complain(name, "is not a string");
      out = field->get_ref<const std::string&>();
    }
  }
  void Optional(const char* name, bool& out) {
    if (const json* field = Find(name)) {
      if (!field->is_boolean()) return Complain(name, "is not a boolean");
      out = field->get<bool>();
    }
  }
  void Optional(const char* name, uint64_t& out) {
    if (const json* field = Find(name)) {
      if (!field->is_number_unsigned()) return Complain(name, "is not a whole number >= 0");
      out = field->get<uint64_t>();
    }
  }
  template <typename Tag>
  void Optional(const char* name, Counter<Tag>& out) {
    uint64_t value = out.value();
    Optional(name, value);
    // All of them count in 63 bits, so that the next one is a number too.
    if (value > INT64_MAX) return Complain(name, "is too large");
    out = Counter<Tag>(value);
  }
  void Optional(const char* name, int64_t& out) {
    if (const json* field = Find(name)) {
      if (!field->is_number_integer()) return Complain(name, "is not a whole number");
      out = field->get<int64_t>();
    }
  }
  void Optional(const char* name, Duration& out) {
    int64_t count = out.count();
    Optional(name, count);
    const Duration duration(count);
    if (duration > kDurationMax || duration < -kDurationMax) {
      return Complain(name, "is too large");
    }
    out = duration;
  }
  void Optional(const char* name, std::vector<std::string>& out) {
    const json* field = Find(name);
    if (field == nullptr) return;
    if (!field->is_array()) return Complain(name, "is not an array");
    out.clear();
    for (const json& element : *field) {
      if (!element.is_string()) return Complain(name, "holds what is not a string");
      out.push_back(element.get<std::string>());
    }
  }
  void Optional(const char* name, ReportPhase& out) {
    std::string text;
    Optional(name, text);
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
  void Optional(const char* name, std::optional<T>& out);
  template <typename T>
  void Optional(const char* name, std::vector<T>& out);
  template <typename T>
  requires std::is_class_v<T>
  void Optional(const char* name, T& out);

  // Like Optional, for fields without which the message means nothing.
  template <typename T>
  void Required(const char* name, T& out) {
    if (problem_.empty() && Find(name) == nullptr) return Complain(name, "is missing");
    Optional(name, out);
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

// Writes the fields of one struct as a JSON object at the end of a text. What Reader reads it
// writes, so that one list of fields serves both.
class Writer {
 public:
  explicit Writer(std::string& out) : out_(out) { out_ += '{'; }
  ~Writer() { out_ += '}'; }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  template <typename T>
  void Optional(const char* name, const std::optional<T>& value) {
    if (value) Optional(name, *value);
  }
  template <typename T>
  void Optional(const char* name, const T& value) {
    if (out_.back() != '{') out_ += ',';
    out_ += '"';
    out_ += name;
    out_ += "\":";
    Put(value);
  }
  template <typename T>
  void Required(const char* name, const T& value) {
    Optional(name, value);
  }
  // What was made here is as it has to be.
  void Complain(const char*, const char*) {}

 private:
  void Put(bool value) { out_ += value ? "true" : "false"; }
  void Put(uint64_t value) { PutNumber(value); }
  void Put(int64_t value) { PutNumber(value); }
  template <typename Tag>
  void Put(Counter<Tag> value) {
    PutNumber(value.value());
  }
  void Put(Duration value) { PutNumber(value.count()); }
  void Put(ReportPhase value) { Put(std::string(PhaseWord(value))); }
  void Put(const std::string& text) {
    const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
      return c >= ' ' && c < 127 && c != '"' && c != '\\';
    });
    if (plain) {
      out_ += '"';
      out_ += text;
      out_ += '"';
      return;
    }
    // Texts of databases and operating systems need not be UTF-8: what is not becomes U+FFFD.
    out_ += json(text).dump(-1, ' ', false, json::error_handler_t::replace);
  }
  template <typename T>
  void Put(const std::vector<T>& values) {
    out_ += '[';
    for (const T& value : values) {
      if (out_.back() != '[') out_ += ',';
      Put(value);
    }
    out_ += ']';
  }
  template <typename T>
  requires std::is_class_v<T>
  void Put(const T& value) {
    Writer inner(out_);
    List(inner, value);
  }
  void PutNumber(auto value) {
    std::array<char, 24> digits;
    const auto end = std::to_chars(digits.begin(), digits.end(), value).ptr;
    out_.append(digits.begin(), end);
  }

  std::string& out_;
};

// --- one list for each struct, in the order of the header; `fields` is a Reader or a Writer ---

// A struct that is read or written.
template <typename Given, typename T>
concept Either = std::is_same_v<std::remove_const_t<Given>, T>;

void List(auto& fields, Either<chain::Member> auto& out) {
  fields.Required("id", out.id);
  fields.Required("incarnation", out.incarnation);
  fields.Optional("clients", out.clients);
  fields.Optional("peers", out.peers);
  fields.Optional("backend_run_id", out.backend_run_id);
}

void List(auto& fields, Either<chain::Configuration> auto& out) {
  fields.Required("chain", out.chain);
  fields.Required("epoch", out.epoch);
  fields.Required("members", out.members);
  if (out.members.empty()) fields.Complain("members", "is empty");
  if (out.epoch.value() == 0) fields.Complain("epoch", "is 0");
}

void List(auto& fields, Either<BackendReport> auto& out) {
  fields.Optional("kind", out.kind);
  fields.Optional("healthy", out.healthy);
  fields.Optional("problem", out.problem);
  fields.Optional("run_id", out.run_id);
  fields.Optional("version", out.version);
  fields.Optional("keys", out.keys);
  fields.Optional("from_chain", out.from_chain);
  fields.Optional("committed_only", out.committed_only);
  fields.Optional("replid", out.replid);
  fields.Optional("position", out.position);
  fields.Optional("address", out.address);
  fields.Optional("databases", out.databases);
}

void List(auto& fields, Either<JoinerReady> auto& out) {
  fields.Required("node", out.node);
  fields.Required("incarnation", out.incarnation);
  fields.Required("epoch", out.epoch);
}

void List(auto& fields, Either<JoinOrder> auto& out) {
  fields.Required("node", out.node);
  fields.Required("incarnation", out.incarnation);
  fields.Optional("peers", out.peers);
}

void List(auto& fields, Either<NodeReport> auto& out) {
  fields.Required("cluster", out.cluster);
  fields.Required("chain", out.chain);
  fields.Required("node", out.node);
  fields.Required("incarnation", out.incarnation);
  fields.Optional("number", out.number);
  fields.Optional("clients", out.clients);
  fields.Optional("version", out.version);
  fields.Optional("peers", out.peers);
  fields.Required("phase", out.phase);
  fields.Optional("problem", out.problem);
  fields.Optional("epoch", out.epoch);
  fields.Optional("synced", out.synced);
  fields.Optional("keeps_log", out.keeps_log);
  fields.Optional("head_ready", out.head_ready);
  fields.Optional("leaving", out.leaving);
  fields.Optional("overwrite", out.overwrite);
  fields.Optional("received", out.received);
  fields.Optional("committed", out.committed);
  fields.Optional("applied", out.applied);
  fields.Optional("log_start", out.log_start);
  fields.Optional("replid", out.replid);
  fields.Optional("backend", out.backend);
  fields.Optional("joiner_ready", out.joiner_ready);
  fields.Optional("predecessor_linked", out.predecessor_linked);
  fields.Optional("successor_linked", out.successor_linked);
  fields.Optional("snapshot_done", out.snapshot_done);
  fields.Optional("snapshot_total", out.snapshot_total);
  fields.Optional("clients_connected", out.clients_connected);
  fields.Optional("commands_answered", out.commands_answered);
  fields.Optional("lease_left", out.lease_left);
  // A choice writes the epoch behind the newest that was reported.
  if (out.epoch.value() > INT64_MAX / 2) fields.Complain("epoch", "is too large");
}

void List(auto& fields, Either<HeartbeatAnswer> auto& out) {
  fields.Optional("number", out.number);
  fields.Optional("lease", out.lease);
  fields.Optional("configuration", out.configuration);
  fields.Optional("join", out.join);
  fields.Optional("incarnation_void", out.incarnation_void);
  fields.Optional("incarnation_above", out.incarnation_above);
  fields.Optional("reason", out.reason);
  fields.Optional("resign", out.resign);
  fields.Optional("drain", out.drain);
  fields.Optional("notice", out.notice);
}

void List(auto& fields, Either<KnownNode> auto& out) {
  fields.Required("node", out.node);
  fields.Required("address", out.address);
  fields.Optional("incarnation", out.incarnation);
}

void List(auto& fields, Either<Drain> auto& out) {
  fields.Required("node", out.node);
  fields.Optional("returns", out.returns);
  fields.Optional("after", out.after);
}

void List(auto& fields, Either<DrainRequest> auto& out) {
  fields.Required("drain", out.drain);
  fields.Optional("end", out.end);
  fields.Optional("force", out.force);
}

void List(auto& fields, Either<Event> auto& out) {
  fields.Optional("wall_ms", out.wall_ms);
  fields.Required("epoch", out.epoch);
  fields.Optional("members", out.members);
  fields.Optional("reason", out.reason);
}

void List(auto& fields, Either<EventHistory> auto& out) { fields.Required("events", out.events); }

void List(auto& fields, Either<ChainRecord> auto& out) {
  fields.Required("configuration", out.configuration);
  fields.Optional("reason", out.reason);
  fields.Optional("lease", out.lease);
  fields.Optional("head_complete", out.head_complete);
  fields.Optional("known", out.known);
  fields.Optional("drains", out.drains);
}

void List(auto& fields, Either<NodeStatus> auto& out) {
  fields.Optional("report", out.report);
  fields.Optional("member", out.member);
  fields.Optional("heard_ago", out.heard_ago);
  fields.Optional("lease_out", out.lease_out);
  fields.Optional("notice", out.notice);
}

void List(auto& fields, Either<ChainStatus> auto& out) {
  fields.Required("chain", out.chain);
  fields.Optional("record", out.record);
  fields.Optional("nodes", out.nodes);
  fields.Optional("join", out.join);
  fields.Optional("waiting_for", out.waiting_for);
  fields.Optional("needs_operator", out.needs_operator);
  fields.Optional("replicas", out.replicas);
}

void List(auto& fields, Either<ClusterStatus> auto& out) {
  fields.Required("cluster", out.cluster);
  fields.Optional("leader", out.leader);
  fields.Optional("answered_by", out.answered_by);
  fields.Optional("etcd_healthy", out.etcd_healthy);
  fields.Optional("chains", out.chains);
}

template <typename T>
requires std::is_class_v<T>
void Reader::Optional(const char* name, T& out) {
  if (const json* field = Find(name)) {
    Reader inner(*field, where_ + "." + name, problem_);
    List(inner, out);
  }
}

template <typename T>
void Reader::Optional(const char* name, std::optional<T>& out) {
  out.reset();
  if (Find(name) == nullptr) return;
  T value;
  Optional(name, value);
  out = std::move(value);
}

template <typename T>
void Reader::Optional(const char* name, std::vector<T>& out) {
  const json* field = Find(name);
  if (field == nullptr) return;
  if (!field->is_array()) return Complain(name, "is not an array");
  out.clear();
  for (const json& element : *field) {
    T value;
    Reader inner(element, where_ + "." + name, problem_);
    List(inner, value);
    out.push_back(std::move(value));
  }
}

template <typename T>
std::string Encode(const T& value) {
  std::string text;
  Writer fields(text);
  List(fields, value);
  return text;
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
  if (problem.empty()) List(reader, value);
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
