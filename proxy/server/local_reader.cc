#include "proxy/server/local_reader.h"

#include <algorithm>

#include "proxy/base/check.h"
#include "proxy/base/ring.h"
#include "proxy/server/client_state.h"
#include "proxy/server/replies.h"

namespace catena::server {

// One pipelined connection to the local database.
class LocalReader::ReadLane final : public backend::LaneHandler {
 public:
  struct Owed {
    Session* session = nullptr;
    uint64_t number = 0;
    ReplyKind kind = ReplyKind::kKeys;
    TimePoint sent_at{};
    std::unique_ptr<std::string>
        script;  // of a script: the command, should it have to go to the head
  };

  ReadLane(LocalReader& reader, backend::LaneOptions options)
      : reader_(reader), lane_(reader.backend_.OpenLane(options, this)) {}

  backend::Lane& lane() { return *lane_; }
  Ring<Owed> owed;
  bool closed = false;

  void OnReply(std::string_view reply) override { Deliver(reply, nullptr); }
  void OnLargeReply(const BytesOwner& owner, std::string_view reply) override {
    Deliver(reply, owner);
  }

  void Deliver(std::string_view reply, const BytesOwner& owner) {
    if (closed) return;  // given up earlier in this turn
    CATENA_CHECK(!owed.empty(), "a reply answers a command");
    Owed to = std::move(owed.front());
    owed.pop_front();
    --reader_.in_flight_;
    reader_.meter_.BackendAnswered(to.sent_at);
    const bool refused = reply.starts_with("-READONLY") || reply.starts_with("-NOSCRIPT");
    // I8: one that came behind it would show less than it does.
    if (to.script && (refused || to.session->script_went_on)) {
      to.session->script_went_on = true;
      reader_.reroute_(*to.session, to.number, std::move(*to.script));
    } else if (to.kind == ReplyKind::kInfo) {
      to.session->Complete(to.number, reader_.add_info_(reply));
    } else {
      to.session->Complete(to.number, reply, owner);
    }
  }

  void OnPosition(Position) override {}

  void OnLaneClosed(const std::string& reason, bool nothing_sent) override {
    Fail("the connection to the local database broke: " + reason, nothing_sent);
  }

  void Fail(std::string_view why, bool nothing_sent = false) {
    closed = true;
    std::string unknown = UnknownOutcome(why);
    std::string down = ChainDown(why);
    while (!owed.empty()) {
      Owed to = std::move(owed.front());
      owed.pop_front();
      --reader_.in_flight_;
      to.session->Complete(to.number, MayChange(to.kind) && !nothing_sent ? unknown : down);
    }
  }

 private:
  LocalReader& reader_;
  std::unique_ptr<backend::Lane> lane_;
};

LocalReader::LocalReader(chain::Replica& replica, backend::Backend& backend, const Options& options,
                         Meter& meter, std::function<TimePoint()> now,
                         std::function<std::string(std::string_view)> add_info)
    : replica_(replica),
      backend_(backend),
      options_(options),
      meter_(meter),
      now_(std::move(now)),
      add_info_(std::move(add_info)) {}

LocalReader::~LocalReader() = default;

Dispatch LocalReader::Read(Session& session, uint64_t number, const Request& request) {
  switch (session.consistency) {
    case Consistency::kEventual:
      break;
    case Consistency::kSequential:
      // Never backwards, and the connection's own writes are seen: wait until what it saw is
      // applied here.
      if (session.seen_elsewhere) {
        if (!HasAuthority(session.read_wait)) return Dispatch::kWait;
        // A member in good standing has received all that anybody was shown.
        session.seen = replica_.received();
        session.seen_elsewhere = false;
      }
      if (!Applied(session.seen)) return Dispatch::kWait;
      session.seen = replica_.applied();
      break;
    case Consistency::kLinearizable:
    case Consistency::kTail:
      if (!Linearizable(session, request)) return Dispatch::kWait;
      break;
  }
  return Submit(session, number, request, ReplyKind::kKeys);
}

bool LocalReader::Linearizable(Session& session, const Request& request) {
  ReadWait& wait = session.read_wait;
  if (!wait.started) StartWait(wait, request);
  if (!HasAuthority(wait)) return false;
  if (wait.needs > replica_.committed()) {
    if (!wait.query_ticket || replica_.settled_query() < *wait.query_ticket) return false;
    // The tail said, after this read arrived, that nothing behind its answer is committed.
    wait.needs = replica_.committed();
  }
  return Applied(wait.needs);
}

bool LocalReader::HasAuthority(ReadWait& wait) {
  if (wait.authority) return true;
  wait.authority = replica_.HasAuthority(now_()) ||
                   (wait.verify_ticket && replica_.settled_verify() >= *wait.verify_ticket);
  if (!wait.authority && !wait.verify_ticket) {
    if (!verify_ticket_) verify_ticket_ = replica_.RequestVerify();
    wait.verify_ticket = verify_ticket_;
  }
  return wait.authority;
}

bool LocalReader::Applied(Position position) {
  if (position <= replica_.applied()) return true;
  backend_.ApplyAwaited(position);
  return false;
}

void LocalReader::StartWait(ReadWait& wait, const Request& request) {
  wait.started = true;
  wait.needs = request.ReadsKnownKeys() ? replica_.log().VersionOf(*request.key_hashes)
                                        : replica_.received();
  wait.dirty = wait.needs > replica_.committed();
  ++(wait.dirty ? stats_.dirty : stats_.clean);
  if (wait.dirty) {
    if (!query_ticket_) query_ticket_ = replica_.RequestQuery();
    wait.query_ticket = query_ticket_;
  }
}

Dispatch LocalReader::Pass(Session& session, uint64_t number, const Request& request,
                           ReplyKind kind) {
  return Submit(session, number, request, kind);
}

Dispatch LocalReader::Submit(Session& session, uint64_t number, const Request& request,
                             ReplyKind kind) {
  if (session.state && session.state->tracking() && kind == ReplyKind::kKeys) {
    return session.state->SubmitTracked(number, request.command->raw);
  }
  bool script = RunsScript(request);
  auto& lane = lanes_[{session.database, session.protocol, script}];
  if (lane && lane->closed) closed_lanes_.push_back(std::move(lane));
  if (!lane)
    lane =
        std::make_unique<ReadLane>(*this, backend::LaneOptions{session.database, session.protocol});
  if (lane->lane().UnsentBytes() > options_.pending_bytes_max) {
    meter_.BeginStall(StallCause::kPendingFull);
    return Dispatch::kWait;
  }
  if (session.read_wait.dirty) session.CountAs(RequestClass::kDirtyRead);
  lane->owed.push_back(
      ReadLane::Owed{&session, number, kind, SentNow(),
                     script ? std::make_unique<std::string>(request.command->raw) : nullptr});
  ++in_flight_;
  session.CountOutstanding(LocalPath(request));
  lane->lane().Submit(request.command->raw);
  return Dispatch::kTaken;
}

bool LocalReader::AnyLaneFull() const {
  return std::any_of(lanes_.begin(), lanes_.end(), [this](const auto& item) {
    return item.second->lane().UnsentBytes() > options_.pending_bytes_max;
  });
}

TimePoint LocalReader::SentNow() { return meter_.measures_times() ? meter_.Now() : TimePoint(); }

void LocalReader::EndTurn() {
  closed_lanes_.clear();
  QuestionsSent();
}

void LocalReader::QuestionsSent() {
  query_ticket_.reset();
  verify_ticket_.reset();
}

void LocalReader::FailAll(std::string_view why) {
  for (auto& [key, lane] : lanes_) lane->Fail(why);
  for (auto& [key, lane] : lanes_) closed_lanes_.push_back(std::move(lane));
  lanes_.clear();
}

}  // namespace catena::server
