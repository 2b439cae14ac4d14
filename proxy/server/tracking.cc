// CLIENT TRACKING: the local database tracks the reads of a client that passes them through a
// connection of its own, and sends the invalidations there when the stream brings a change. Ids in
// redirections are translated between ours and those of the database.

#include "proxy/base/text.h"
#include "proxy/resp/encoder.h"
#include "proxy/server/client_state.h"

namespace catena::server {
namespace {

// No connection of a database ever has it.
constexpr int64_t kNobody = INT64_MAX;

}  // namespace

Dispatch ClientState::Tracking(uint64_t number, const Request& request, std::string_view name) {
  if (session_.outstanding() > 0 || !local_owed_.empty()) return Dispatch::kWait;
  Opening opening = OpenLocal();
  if (opening == Opening::kRefused) return Reply(number, refusal_);
  if (opening == Opening::kWait) return Dispatch::kWait;
  std::vector<std::string_view> words = request.command->arguments;
  std::string id;
  for (size_t i = 3; name == "client|tracking" && i + 1 < words.size(); ++i) {
    std::optional<uint64_t> client = ParseNumber<uint64_t>(words[i + 1]);
    if (!EqualsIgnoringCase(words[i], "redirect") || !client) continue;
    ClientState* target = make_.find(*client);
    std::optional<int64_t> there = target != nullptr ? target->LocalId() : kNobody;
    if (!there) return Dispatch::kWait;
    redirect_ = static_cast<int64_t>(*client);
    redirect_at_database_ = *there;
    words[i + 1] = id = std::to_string(*there);
    break;
  }
  std::string raw;
  resp::AppendCommand(raw, words);
  PendingLocal pending{number, LocalAction::kReply, 1, {}};
  if (name == "client|tracking") {
    pending.action = LocalAction::kTracking;
    pending.text = words.size() > 2 && EqualsIgnoringCase(words[2], "on") ? "on" : "off";
  } else if (name != "client|caching") {
    pending.action = LocalAction::kRedirect;
  }
  session_.CountOutstanding(Path::kPrivate);
  MatchLocalProtocol();
  SendLocal(raw, std::move(pending));
  return Dispatch::kTaken;
}

Dispatch ClientState::SubmitTracked(uint64_t number, std::string_view raw) {
  Opening opening = OpenLocal();
  if (opening == Opening::kRefused) return Reply(number, refusal_);
  if (opening == Opening::kWait || local_->full()) return Dispatch::kWait;
  const std::string error = std::exchange(local_select_error_, std::string());
  if (!error.empty() && local_select_for_ == number) return Reply(number, error);
  if (!MatchLocal(number)) return Dispatch::kWait;
  session_.CountOutstanding(Path::kTracked);
  SendLocal(raw, {number, LocalAction::kReply, 1, {}});
  return Dispatch::kTaken;
}

void ClientState::MatchLocalProtocol() {
  if (!local_ || local_protocol_ == session_.protocol) return;
  std::string out;
  local_protocol_ = session_.protocol;
  resp::AppendCommand(out, {"HELLO", resp::Decimal(static_cast<uint64_t>(local_protocol_))});
  SendLocal(out, {0, LocalAction::kSwallow, 1, {}});
}

bool ClientState::MatchLocal(uint64_t number) {
  MatchLocalProtocol();
  if (local_database_ != session_.database && !local_selecting_) {
    std::string out;
    local_database_ = session_.database;
    resp::AppendCommand(out, {"SELECT", resp::Decimal(static_cast<uint64_t>(local_database_))});
    SendLocal(out, {0, LocalAction::kOwnSelect, 1, {}});
    local_selecting_ = true;
    local_select_for_ = number;
  }
  return !local_selecting_;
}

std::optional<int64_t> ClientState::LocalId() {
  return OpenLocal() == Opening::kReady ? local_id_ : std::nullopt;
}

std::string ClientState::NameRedirection(std::string_view reply) const {
  std::string out(reply);
  std::string theirs = ":" + std::to_string(redirect_at_database_) + "\r\n";
  size_t at = redirect_ < 0 ? std::string::npos : out.find(theirs);
  if (at != std::string::npos)
    out.replace(at, theirs.size(), ":" + std::to_string(redirect_) + "\r\n");
  return out;
}

}  // namespace catena::server
