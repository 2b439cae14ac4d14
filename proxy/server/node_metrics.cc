// What a node publishes of itself for Prometheus and for probes.
#include <algorithm>

#include "proxy/server/node.h"

namespace catena::server {
namespace {

constexpr std::array<const char*, kRequestClasses> kClassNames = {
    "read", "dirty_read", "forwarded_read", "write", "script", "private", "other"};
constexpr std::array<const char*, kOutcomes> kOutcomeNames = {"ok", "error", "chaindown",
                                                              "unknown_outcome"};
constexpr std::array<const char*, kStallCauses> kCauseNames = {
    "client_replies", "client_commands", "log_full",     "pending_full",
    "successor_slow", "database_slow",   "snapshot_slow"};
constexpr std::array<const char*, kTrafficKinds> kTrafficNames = {
    "clients", "forwarded", "head", "tail", "predecessor", "successor", "acks", "join", "others"};
constexpr std::array<const char*, kWriteStages> kStageNames = {"executed", "committed", "replied"};
// Of these, how long they took says something.
constexpr RequestClass kTimed[] = {RequestClass::kRead, RequestClass::kDirtyRead,
                                   RequestClass::kForwardedRead, RequestClass::kWrite,
                                   RequestClass::kScript};

void AppendRequests(Exposition& out, const Meter& meter) {
  for (const bool forwarded : {false, true}) {
    for (size_t of = 0; of < kRequestClasses; ++of) {
      for (size_t outcome = 0; outcome < kOutcomes; ++outcome) {
        out.Counter(
            "catena_requests_total",
            "Commands answered, by what they are, by result, and by who sent them.",
            meter.requests(static_cast<RequestClass>(of), static_cast<Outcome>(outcome), forwarded),
            {{"class", kClassNames[of]},
             {"result", kOutcomeNames[outcome]},
             {"from", forwarded ? "proxy" : "client"}});
      }
    }
  }
}

void AppendTimes(Exposition& out, const Meter& meter) {
  if (!meter.measures_times()) return;
  for (const RequestClass of : kTimed) {
    out.Times("catena_request_seconds", "From a client's command to its reply, at this proxy.",
              meter.latency(of), {{"class", kClassNames[static_cast<size_t>(of)]}});
  }
  for (size_t stage = 0; stage < kWriteStages; ++stage) {
    out.Times(
        "catena_write_stage_seconds",
        "At the head, from the sending of a write to its database until that has executed it, "
        "until the tail has received it (committed), until its reply has left.",
        meter.stage(static_cast<WriteStage>(stage)), {{"stage", kStageNames[stage]}});
  }
  out.Times(
      "catena_apply_seconds",
      "At a follower, from when changes are known to be committed until its database is known "
      "to have executed them; one sample at a time.",
      meter.applied());
  out.Times("catena_backend_round_trip_seconds",
            "From the sending of commands to the database until it has answered.", meter.backend());
}

void AppendStalls(Exposition& out, Meter& meter) {
  const TimePoint now = meter.Now();
  for (size_t i = 0; i < kStallCauses; ++i) {
    out.Counter("catena_backpressure_total",
                "Times that something was not read on, so that its sender had to wait, by cause.",
                meter.stall(static_cast<StallCause>(i)).count(), {{"cause", kCauseNames[i]}});
  }
  for (size_t i = 0; i < kStallCauses; ++i) {
    out.Counter("catena_backpressure_seconds_total", "How long that was; of clients, the sum.",
                meter.stall(static_cast<StallCause>(i)).total(now), {{"cause", kCauseNames[i]}});
  }
}

void AppendTraffic(Exposition& out, Meter& meter) {
  for (size_t i = 0; i < kTrafficKinds; ++i) {
    const Traffic& traffic = meter.traffic(static_cast<TrafficOf>(i));
    for (const bool in : {true, false}) {
      out.Counter("catena_link_bytes_total",
                  "Bytes received and sent, by what the connections are for.",
                  in ? traffic.in : traffic.out,
                  {{"link", kTrafficNames[i]}, {"direction", in ? "in" : "out"}});
    }
  }
}

void AppendPositions(Exposition& out, const chain::Replica& replica) {
  const uint64_t received = replica.received().value();
  const uint64_t committed = replica.committed().value();
  // A head's database executes by itself.
  const uint64_t applied = replica.head_ready() ? received : replica.applied().value();
  out.Gauge("catena_received_position_bytes", "Position up to which the log holds everything.",
            received);
  out.Gauge("catena_committed_position_bytes", "Position up to which every member has everything.",
            committed);
  out.Gauge("catena_applied_position_bytes",
            "Position up to which the database is known to have executed everything.", applied);
  out.Gauge("catena_uncommitted_bytes", "Received and not known to be committed.",
            received - committed);
  out.Gauge("catena_unapplied_bytes", "Committed and not known to be executed by the database.",
            committed > applied ? committed - applied : 0);
  const uint64_t settled = replica.settled().value(), start = replica.log().start().value();
  out.Gauge("catena_log_bytes", "Log held in memory, backlog included.", replica.log().bytes());
  out.Gauge("catena_backlog_bytes", "Part of it that is kept for partial resyncs.",
            settled > start ? settled - start : 0);
  out.Gauge("catena_versioned_keys", "Keys whose versions are known, dirty ones among them.",
            replica.log().versions());
}

void AppendMembership(Exposition& out, const chain::Replica& replica, TimePoint now) {
  out.Gauge("catena_epoch", "Newest configuration known.", replica.epoch().value());
  for (const chain::Role role : {chain::Role::kOutside, chain::Role::kSole, chain::Role::kHead,
                                 chain::Role::kMiddle, chain::Role::kTail}) {
    out.Gauge("catena_role", "1 for the role of this node.", uint64_t{replica.role() == role},
              {{"role", chain::RoleName(role)}});
  }
  out.Gauge("catena_synced", "1: a member that holds everything, and may serve.",
            uint64_t{replica.serves()});
  const bool leased = replica.lease().ValidAt(now);
  out.Gauge("catena_lease_left_seconds", "How long this node may answer without asking the chain.",
            leased ? replica.lease().expires() - now : Duration(0));
}

}  // namespace

RequestClass ClassOf(const command::CommandInfo* info) {
  if (info == nullptr) return RequestClass::kOther;
  if (info->key_rule == command::CommandInfo::KeyRule::kScript) return RequestClass::kScript;
  if (info->route == command::Route::kRead) return RequestClass::kRead;
  return info->route == command::Route::kWrite ? RequestClass::kWrite : RequestClass::kOther;
}

void Node::UpdateStalls() {
  meter_.SetStall(StallCause::kSuccessorSlow, successor_full_);
  meter_.SetStall(StallCause::kDatabaseSlow, predecessor_paused_ || joining_.log_paused);
  meter_.SetStall(StallCause::kSnapshotSlow, joining_.paused);
  if (!head_executor_.LogFull()) meter_.EndStall(StallCause::kLogFull);
  if (meter_.stall(StallCause::kPendingFull).going_on() && !head_executor_.AnyLaneFull() &&
      !local_reader_.AnyLaneFull() && !forwarder_.AnyChannelFull()) {
    meter_.EndStall(StallCause::kPendingFull);
  }
}

void Node::AppendMetrics(Exposition& out) {
  AppendRequests(out, meter_);
  AppendTimes(out, meter_);
  AppendReads(out);
  AppendPositions(out, replica_);
  AppendMembership(out, replica_, reactor_.Now());
  AppendLinks(out);
  AppendTraffic(out, meter_);
  AppendStalls(out, meter_);
  AppendResyncs(out);
  out.Counter("catena_epochs_total", "Configurations installed as a member.", meter_.epochs);
  out.Counter("catena_promotions_total", "Times that this node became a chain's head.",
              meter_.promotions);
  out.Counter("catena_resignations_total", "Times that this node left its chain by itself.",
              meter_.resignations);
  out.Gauge("catena_clients", "Clients connected.", uint64_t{clients_});
  out.Gauge("catena_ready", "1: can answer linearizable reads (as /readyz).",
            uint64_t{WhyNotReady().empty()});
  out.Gauge("catena_backend_up", "1: the database is reachable and of the right kind.",
            uint64_t{examined_ && backend_->Reachable()});
  out.Gauge("catena_keys", "Keys in the database.",
            examined_ ? backend_->LastKeyCount() : uint64_t{0});
}

void Node::AppendReads(Exposition& out) const {
  constexpr std::string_view kReads = "catena_linearizable_reads_total";
  const LocalReader::Stats& reads = local_reader_.stats();
  out.Counter(kReads, "At followers: reads whose keys were clean, or dirty, when they came.",
              reads.clean, {{"state", "clean"}});
  out.Counter(kReads, "", reads.dirty, {{"state", "dirty"}});
  const chain::Replica::Stats& asked = replica_.stats();
  out.Counter("catena_version_queries_total", "Asked of the tail; one serves all who wait.",
              asked.queries_sent);
  out.Counter("catena_version_queries_answered_total", "Answered as the tail.",
              asked.queries_answered);
  out.Counter("catena_verifies_total", "Sent through the whole chain for want of a lease.",
              asked.verifies_sent);
}

// Those that this node's role needs.
void Node::AppendLinks(Exposition& out) const {
  constexpr std::string_view kUp = "catena_link_up";
  out.Gauge(kUp, "1: the link to that neighbour, or to a coordinator, works.",
            uint64_t{heartbeat_.connected()}, {{"link", "coordinator"}});
  if (!replica_.is_member()) return;
  if (!replica_.is_head()) {
    out.Gauge(kUp, "", uint64_t{replica_.predecessor_linked()}, {{"link", "predecessor"}});
  }
  if (!replica_.is_tail()) {
    out.Gauge(kUp, "", uint64_t{replica_.successor_linked()}, {{"link", "successor"}});
  }
}

void Node::AppendResyncs(Exposition& out) const {
  constexpr std::string_view kResyncs = "catena_resyncs_total";
  out.Counter(kResyncs, "Times that this node's database was brought up to date.",
              meter_.full_resyncs, {{"kind", "full"}});
  out.Counter(kResyncs, "", meter_.partial_resyncs, {{"kind", "partial"}});
  out.Counter("catena_snapshots_sent_total", "Snapshots begun for other nodes.",
              meter_.resyncs_given);
  out.Gauge("catena_resync_done_bytes", "Of the snapshot that is being received, or was last.",
            joining_.done);
  out.Gauge("catena_resync_total_bytes", "Length of that snapshot; 0: none.", joining_.total);
}

std::string Node::WhyNotReady() {
  if (stopping_) return "it is stopping";
  if (!examined_) return "its database cannot be used: " + backend_->Problem();
  if (!replica_.is_member()) {
    return std::string("it is no member of its chain (") + PhaseName(phase_) + ")" +
           (notice_.empty() ? "" : ": " + notice_);
  }
  if (replica_.resigned()) return "it has left its chain: " + phase_why_;
  if (!replica_.synced()) return "it is being brought up to date";
  if (replica_.is_head() && !replica_.head_ready()) return "it is becoming the head";
  const TimePoint now = reactor_.Now();
  if (replica_.HasAuthority(now)) {
    probe_.reset();
    return "";
  }
  if (!replica_.is_head() && !replica_.predecessor_linked()) {
    return "it has no lease, and no link to its predecessor";
  }
  if (!replica_.is_tail() && !replica_.successor_linked()) {
    return "it has no lease, and no link to its successor";
  }
  // A verify costs the chain a message a link; one at a time is under way for whoever asks here.
  const bool answered = probe_ && replica_.settled_verify() >= probe_->ticket;
  if (probe_ && !answered && now - probe_->since > options_.lease) {
    return "it has no lease, and the chain does not confirm that it is current";
  }
  if (!probe_ || answered) probe_ = Probe{replica_.RequestVerify(), now};
  return "";
}

}  // namespace catena::server
