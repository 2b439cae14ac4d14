// What proxies and coordinators tell each other, and what the coordinator keeps in etcd, as plain
// structs with a JSON codec. Pure. Proxies include this header; it knows nothing of either side.
//
// On a connection (after auth::Dialler/Acceptor) every message is a RESP array of bulk strings:
//   proxy -> coordinator   CATENA.HEARTBEAT <json of NodeReport>
//   coordinator -> proxy
//     HEARTBEAT <json of HeartbeatAnswer>      one for each heartbeat, in order
//     CONFIGURATION <json of HeartbeatAnswer>  unasked, as soon as a configuration changes; grants
//                                              no lease
//     NOTLEADER <address or "">                instead of an answer: ask there
//   catenactl -> coordinator
//     CATENA.STATUS                            bulk: json of ClusterStatus
//     CATENA.CHOOSE <chain> <node>             +OK or error: the operator's decision of design.md 6
//                                              (what may be lost is the caller's to say)
//     CATENA.DRAIN <chain> <json of DrainRequest>
//                                              +OK: the wish stands in the chain's record; or error
//                                              Errors of these two begin with `kNotKnownYet` (behind
//                                              "ERR ") if it may be done after all.
//     CATENA.EVENTS <chain>                    bulk: json of EventHistory
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/clock.h"
#include "proxy/base/ids.h"
#include "proxy/base/result.h"
#include "proxy/chain/configuration.h"

namespace catena::coordinator {

inline constexpr std::string_view kNotKnownYet = "not known yet: ";

// The database behind a node as its proxy sees it.
struct BackendReport {
  std::string kind;         // "redis" | "rocksdb"
  bool healthy = false;     // reachable, right role, not loading: fit to be a member
  std::string problem;      // why not healthy, for people
  std::string run_id;       // of the database process; "" unknown
  std::string version;      // "7.0.15"
  uint64_t keys = 0;        // number of keys, all databases
  bool from_chain = false;  // its data came from a chain: its replid is a chain's
  std::string address;      // where the database is, without credentials, as in the TOML
  // In every role it holds committed entries only, a prefix of the history `replid` that ends at
  // `position` (told while the node is no member; "" not known).
  bool committed_only = false;
  std::string replid{};
  Position position{};
  uint64_t databases = 0;  // how many numbers SELECT takes; 0 not known
};

// T tells the coordinator that joiner N has nearly caught up (design.md 6, join).
struct JoinerReady {
  NodeId node;
  Incarnation incarnation;
  Epoch epoch;  // of the reporter; void unless the reporter is the tail of that epoch
};

enum class ReportPhase { kStarting, kCandidate, kMember, kJoining, kResigning, kRefused };

// A heartbeat.
struct NodeReport {
  std::string cluster;
  std::string chain;
  NodeId node;
  Incarnation incarnation;
  uint64_t number =
      0;  // echoed in the answer; the proxy measures its lease from this one's sending
  std::string version;         // of the program, for people
  std::string clients, peers;  // addresses for Member
  ReportPhase phase = ReportPhase::kStarting;
  // kStarting: backend not examined yet, no candidate. kCandidate: examined, wants to be (or
  // become) a member. kMember: acts in configuration `epoch`. kJoining: being fed by the tail.
  // kResigning: answers nothing any more and wants to be removed (also a draining node). kRefused:
  // cannot join, see `problem`.
  std::string problem;     // reason of kResigning / kRefused, for people
  Epoch epoch;             // newest configuration installed; 0 none
  bool synced = false;     // in `epoch` (design.md 6); only then it may be left alone or promoted
  bool keeps_log = false;  // this incarnation has been a synced member and still holds its log
  // Head of `epoch`, promoted and attached: its database has executed everything that the log held
  // when that was installed.
  bool head_ready = false;
  bool overwrite = false;  // TOML: a non-empty database that the chain never had may be wiped
  Position received, committed, applied, log_start;
  std::string replid;  // the chain history that its data belongs to; "" unknown
  BackendReport backend;
  std::optional<JoinerReady> joiner_ready;
  bool leaving = false;  // takes nothing new any more, and will resign (see HeartbeatAnswer::drain)
  // Whether the links to the neighbours in `epoch` work (true where there is none). A tail's
  // successor is the joiner that it is ordered to feed.
  bool predecessor_linked = true, successor_linked = true;
  // Progress of a join that this node receives: bytes of snapshot done / total (0 unknown).
  uint64_t snapshot_done = 0, snapshot_total = 0;
  uint64_t clients_connected = 0;
  uint64_t commands_answered = 0;  // since the proxy started, other nodes' clients' included
  Duration lease_left{0};          // for the status display
};

// The tail of `configuration` is to bring this node up to date and offer it with JoinerReady.
struct JoinOrder {
  NodeId node;
  Incarnation incarnation;
  std::string peers;
};

struct HeartbeatAnswer {
  uint64_t number = 0;
  Duration lease{0};  // granted from the heartbeat's sending; 0: none
  // The newest configuration that this leader knows of the chain (also when the node is no member).
  std::optional<chain::Configuration> configuration;
  std::string reason;             // why that configuration came to be, for people
  std::optional<JoinOrder> join;  // for the tail; repeated while it stands
  // This incarnation is superseded or was removed: take one larger than `incarnation_above`.
  bool incarnation_void = false;
  Incarnation incarnation_above;
  // The member is asked to resign: it cannot be reached by the other members. "": not.
  std::string resign;
  // An operator moves the member out: it finishes what it has begun, hands over who is connected,
  // and resigns then. "": not, or not any more: it goes on as before.
  std::string drain;
  std::string notice;  // why the node is not a member, for its log and status; "" nothing
};

// A node that has been a member. What its database holds is the chain's, or was given to it.
struct KnownNode {
  NodeId node;
  std::string address;  // BackendReport::address; "" not told
  // The latest that was listed: it and those before it are never listed again (S3).
  Incarnation incarnation{};
  friend bool operator==(const KnownNode&, const KnownNode&) = default;
};

// An operator's wish that a node leaves its chain, in force until it is taken back or fulfilled.
struct Drain {
  NodeId node;
  // It comes back at once, as the tail: the chain is put into another order. The wish ends then.
  bool returns = false;
  // It leaves when this node is a synced member, which until then may join beyond `replicas`;
  // "": it leaves now.
  NodeId after;
  friend bool operator==(const Drain&, const Drain&) = default;
};

// What catenactl asks for.
struct DrainRequest {
  Drain drain;
  bool end = false;    // the wish for drain.node is taken back; nothing else of it counts
  bool force = false;  // also when only one member would stay
};

// Why a chain's record changed.
struct Event {
  int64_t wall_ms = 0;  // by the clock of the coordinator that led, milliseconds since 1970
  Epoch epoch;
  std::vector<NodeId> members;  // head first
  std::string reason;
  friend bool operator==(const Event&, const Event&) = default;
};

// The newest changes of one chain, oldest first, as etcd keeps them under
// /catena/<cluster>/events/<chain>. Written by the transaction that changes the record.
struct EventHistory {
  static constexpr size_t kMax = 100;
  std::vector<Event> events;
  // Forgets the oldest beyond kMax.
  void Add(Event event);
};

// One chain as etcd keeps it under /catena/<cluster>/chains/<chain>.
struct ChainRecord {
  chain::Configuration configuration;
  std::string reason;  // why this epoch came to be, for people
  // The longest lease that may be out when this is the newest record: a later leader whose TOML
  // says less still waits so long before it removes anybody (schedule S17). 0: no more than its
  // own.
  Duration lease{0};
  // The head's database is known to have executed everything that was ever answered (it was the
  // first head, was chosen, or reported so after its promotion). Until then its run_id alone proves
  // nothing: a follower that was listed as head and died before its promotion lacks what its log
  // held (S13).
  bool head_complete = false;
  // Databases that members have had, one a node, in order of id. A head's own history, and any
  // database that was restarted from an AOF, do not show that they came from the chain; this does.
  std::vector<KnownNode> known;
  std::vector<Drain> drains;  // in the order in which they were asked for
};

struct NodeStatus {
  NodeReport report;
  bool member = false;
  Duration heard_ago{0};
  Duration lease_out{0};  // what is left of the lease as the coordinator counts it
  std::string notice;
};

struct ChainStatus {
  std::string chain;
  std::optional<ChainRecord> record;
  std::vector<NodeStatus> nodes;  // members in chain order, then the others in TOML order
  std::optional<JoinOrder> join;
  std::string waiting_for;  // why nothing can be done right now ("operator must choose ..."), or ""
  bool needs_operator = false;  // it may wait for ever, unless somebody decides (catenactl choose)
  size_t replicas = 0;          // members that it should have
};

struct ClusterStatus {
  std::string cluster;
  std::string leader;  // address of the coordinator that leads; "" none known
  std::string answered_by;
  bool etcd_healthy = false;
  std::vector<ChainStatus> chains;
};

std::string EncodeReport(const NodeReport& report);
Result<NodeReport> DecodeReport(std::string_view json);
std::string EncodeAnswer(const HeartbeatAnswer& answer);
Result<HeartbeatAnswer> DecodeAnswer(std::string_view json);
std::string EncodeRecord(const ChainRecord& record);
Result<ChainRecord> DecodeRecord(std::string_view json);
std::string EncodeConfiguration(const chain::Configuration& configuration);
Result<chain::Configuration> DecodeConfiguration(std::string_view json);
std::string EncodeDrainRequest(const DrainRequest& request);
Result<DrainRequest> DecodeDrainRequest(std::string_view json);
std::string EncodeEvents(const EventHistory& history);
Result<EventHistory> DecodeEvents(std::string_view json);
std::string EncodeStatus(const ClusterStatus& status);
Result<ClusterStatus> DecodeStatus(std::string_view json);

}  // namespace catena::coordinator
