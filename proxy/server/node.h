// The driver of one node: the only place where chain, backend, peers, sessions and coordinator
// meet. It feeds events to the pure core and, at the end of every loop turn, performs what the core
// says (EndTurn has the order). Loop thread.
//
// A node's life: the backend is examined (kStarting), it offers itself (kCandidate), the tail
// brings it up to date (kJoining), a configuration lists it (kMember), it resigns or is removed
// (kResigning) and begins a new life.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "backends/backend.h"
#include "coordinator/records.h"
#include "proxy/chain/join.h"
#include "proxy/chain/replica.h"
#include "proxy/command/command_table.h"
#include "proxy/command/effect_parser.h"
#include "proxy/io/reactor.h"
#include "proxy/peer/peer_link.h"
#include "proxy/server/client_state.h"
#include "proxy/server/forwarder.h"
#include "proxy/server/freshness.h"
#include "proxy/server/head_executor.h"
#include "proxy/server/heartbeat.h"
#include "proxy/server/inspection.h"
#include "proxy/server/local_reader.h"
#include "proxy/server/meter.h"
#include "proxy/server/options.h"
#include "proxy/server/peer_acceptor.h"
#include "proxy/server/session.h"

namespace catena::server {

// By which reactor each kind of connection is made and taken. All share one loop; they differ in
// whether they speak TLS. Each outlives the node.
struct Reactors {
  Reactors(io::Reactor& all) : clients(all), peers(all), coordinators(all) {}
  Reactors(io::Reactor& of_clients, io::Reactor& of_peers, io::Reactor& of_coordinators)
      : clients(of_clients), peers(of_peers), coordinators(of_coordinators) {}

  io::Reactor& clients;
  io::Reactor& peers;
  io::Reactor& coordinators;
};

class Node final : public SessionOwner,
                   public peer::PeerLinkHandler,
                   public backend::BackendEvents,
                   public backend::FeedSource,
                   public backend::SnapshotSink {
 public:
  using MakeBackend = std::function<std::unique_ptr<backend::Backend>(Incarnation)>;

  // `on_stopped` is called once, after Stop() has finished.
  Node(const Reactors& reactors, Options options, const MakeBackend& make_backend,
       std::function<void()> on_stopped);
  ~Node() override;

  // Listens and begins; an Error names the address that cannot be bound.
  Result<void> Start();
  // Takes over what may change while it runs (config/fields.h: live keys); the rest of `options` must
  // be as it was. Limits of a connection hold for those that come afterwards. A connection whose user
  // is gone, or was subscribed to channels that its user may no longer have, is closed as by Redis.
  void Reconfigure(Options options);
  // Graceful: takes no further command, answers what it owes, applies what is committed, resigns.
  void Stop();

  // --- SessionOwner ---
  Dispatch OnCommand(Session& session, uint64_t number, Request& request) override;
  void OnBlocked(Session& session) override;
  std::string OnGivenUp(Session& session, const resp::Command& command, std::string why) override;
  void OnFinished(Session& session) override;
  void OnDisconnected(Session& session) override;
  const command::CommandTable* Commands() const override {
    return commands_ ? &*commands_ : nullptr;
  }
  TimePoint Now() override { return reactor_.Now(); }

  // --- for session_commands.cc ---
  const Options& options() const { return options_; }
  const chain::Replica& replica() const { return replica_; }
  const std::map<uint64_t, std::unique_ptr<Session>>& sessions() const { return sessions_; }
  int databases() const { return databases_; }
  // The version of Redis that clients see.
  const std::string& server_version() const {
    return info_.answers_as.empty() ? info_.version : info_.answers_as;
  }
  // The local server's reply to INFO with the `# Catena` section behind it.
  std::string AddInfoSection(std::string_view reply) const;
  // What the node has counted and measured, and how it is, into `out`.
  void AppendMetrics(Exposition& out);
  // Why this node cannot answer linearizable reads now, for people; "" it can: it is a synced member
  // with a lease, or the chain confirms that it is current.
  std::string WhyNotReady();
  // CLIENT PAUSE: clients' commands, or their writes, wait so long.
  void PauseClients(Duration duration, bool all);
  void UnpauseClients() { pause_ = Pause::kNone; }
  // CLIENT UNBLOCK: of a connection that the head knows by `id`. Its answer is that of `session`'s
  // command.
  Dispatch UnblockAtHead(Session& session, uint64_t number, int64_t id, bool error);
  int64_t WallMilliseconds() { return reactor_.WallMilliseconds(); }

  // --- PeerLinkHandler ---
  void OnLinkReady(peer::PeerLink& link) override;
  void OnLinkHeard(peer::PeerLink& link) override;
  void OnLinkMessage(peer::PeerLink& link, const chain::Message& message) override;
  void OnLinkClosed(peer::PeerLink& link, const std::string& reason) override;
  void OnLinkDrained(peer::PeerLink& link) override;

  // --- BackendEvents ---
  void OnExamined(const backend::Info& info) override;
  void OnLost(const std::string& reason) override;
  void OnAttached(Position position) override;
  void OnCaptureLost(const std::string& reason) override;
  void OnEffects(std::string_view bytes) override;
  void OnApplied(Position position) override;
  void OnFeedGap(const std::string& reason) override;
  void OnSnapshotRoom() override;
  void OnSnapshotLoaded(Position position) override;
  void OnSnapshotRefused(const std::string& reason) override;

  // --- FeedSource ---
  std::optional<std::string_view> CommittedBytes(Position from, size_t max) override;

  // --- SnapshotSink (this node is the tail and brings a joiner up to date) ---
  void OnSnapshotStart(Position position, uint64_t length,
                       const backend::SnapshotPart& from) override;
  void OnSnapshotBytes(std::string_view bytes) override;
  void OnSnapshotEnd() override;
  void OnSnapshotFailed(const std::string& reason) override;

 private:
  using Phase = coordinator::ReportPhase;

  // Of one Append, and of one part of a snapshot: large enough to amortize its header, small enough
  // to be overtaken by messages.
  static constexpr size_t kAppendBytesMax = 256u << 10;

  // What this node receives while it joins (node_join.cc).
  struct Joining {
    chain::LinkId link = chain::kNoLink;
    std::string replid;    // of the chain, from Hello
    bool started = false;  // Start came: log bytes may follow
    bool loading = false;  // a snapshot is under way
    bool loaded = false;   // the database follows
    std::string snapshot;  // name of it
    std::string snapshot_replid;
    uint64_t done = 0, total = 0;
    Position told;  // last JoinProgress
    bool told_loaded = false;
    bool paused = false;      // the database takes no more of the snapshot now
    bool log_paused = false;  // the database is too far behind the log
  };

  // A member that leaves its place while clients work (node_leave.cc).
  struct Leaving {
    std::string why;
    bool handing_over = false;  // takes nothing new; before that, open transactions end
    TimePoint until{};          // then it goes on to the next step all the same
  };
  // A connection of another proxy that was accepted, and is told so when what came by the one before
  // it is over.
  struct Welcome {
    uint64_t session = 0;
    bool scripts = false;
  };
  // A command of this session is to be sent to the next head.
  struct Again {
    uint64_t session = 0;
    TimePoint since{};
  };

  // --- turn (node.cc) ---
  void EndTurn();
  void PerformOutput();
  void UpdateStalls();
  void SendLog();
  void SendJoinLog();
  void FeedBackend();
  void MaybePromote();
  void RetryBlocked();
  void OnTick();
  void ArmTick();
  void OnBeat();
  void DestroyDead();

  // --- what is published (node_metrics.cc) ---
  void AppendReads(Exposition& out) const;
  void AppendLinks(Exposition& out) const;
  void AppendResyncs(Exposition& out) const;

  // --- configuration and life ---
  void OnCoordinatorAnswer(const coordinator::HeartbeatAnswer& answer,
                           std::optional<TimePoint> sent_at);
  // `why` it came to be, for the log.
  void InstallConfiguration(const chain::Configuration& configuration, const std::string& why);
  void AfterRoleChange(const std::string& why);
  void Resign(const std::string& reason);
  void BeginNewLife(Incarnation above);
  void Enter(Phase phase, std::string why);
  coordinator::NodeReport Report();
  void SetForwardTargets();
  void FailOwed(std::string_view why);
  void FinishStop();
  void ContinueStop();
  // --- leaving in an orderly way (node_leave.cc) ---
  void FollowDrain(const std::string& why);
  void BeginLeaving(const std::string& why);
  void ContinueLeaving();
  void HandOver();
  void TellTunnels();
  void Unblock(Session& session);
  bool StatesHold(bool blocked_too) const;
  bool Left() const;
  bool IsBehindLog() const;
  // What comes now is the next head's, or another node's.
  bool handing_over() const { return leaving_ && leaving_->handing_over; }
  bool HandedOver(Session& session, uint64_t number, const Request& request);
  void SendAgain();

  // --- stream ---
  // Bytes of the effect stream into the log, with their entries. False: it is no such stream.
  bool TakeStream(std::string_view bytes);

  // --- links (node_links.cc) ---
  struct Dialled;
  void KeepDialled(Dialled& dialled, const chain::Member* member);
  void DialMembers();
  void DropLink(chain::LinkId id);
  void AskForNews();
  void OnPeerOpened(std::unique_ptr<io::Stream> stream, const std::vector<std::string>& arguments,
                    std::string rest);
  void OpenForwarded(std::unique_ptr<io::Stream> stream, const std::vector<std::string>& arguments,
                     std::string rest);
  void OpenInspection(std::unique_ptr<io::Stream> stream, const std::vector<std::string>& arguments,
                      const std::string& rest);
  void OpenLink(std::unique_ptr<io::Stream> stream, const std::vector<std::string>& arguments,
                std::string rest);
  void OnHello(peer::PeerLink& link, const chain::Hello& hello);
  void WelcomeForwarded();
  void CloseForwarded(Target target);

  // --- join, receiving side (node_join.cc) ---
  void OnJoinHello(peer::PeerLink& link, const chain::Hello& hello);
  void OnJoinMessage(peer::PeerLink& link, const chain::Message& message);
  void BeginLoading(peer::PeerLink& link, const chain::SnapshotBegin& begin);
  void StartFollowing(Position from);
  void AbandonJoining(const std::string& why);
  void ReportJoinProgress();
  chain::JoinProgress JoinProgressNow() const;
  // --- join, sending side ---
  void FollowJoinOrder(const std::optional<coordinator::JoinOrder>& order);
  bool MissesJoiner() const;
  void AbandonJoinSource(const std::string& why);
  void OnOffer(const chain::Offer& offer);
  void CheckJoinSource();

  // --- sessions (node_routing.cc) ---
  void OnAcceptClient(std::unique_ptr<io::Stream> stream);
  Session& AddSession(std::unique_ptr<io::Stream> stream);
  Dispatch RouteData(Session& session, uint64_t number, const Request& request);
  Dispatch RouteLocal(Session& session, uint64_t number, const Request& request, ReplyKind kind);
  // The session's state of its own, made when it enters one first.
  ClientState& StateOf(Session& session);
  // By a connection of the client's own, which what its session lost must not come behind (S18).
  Dispatch EnterState(Session& session, uint64_t number, const Request& request);
  // --- clients' own states (node_clients.cc) ---
  enum class Pause : uint8_t { kNone, kWrites, kAll };
  // A script that this node's database would not run, on its way to the head.
  struct Rerouted {
    Session* session = nullptr;
    uint64_t number = 0;
    std::string command;
    TimePoint since{};
    bool script = false;
  };
  bool Paused(const Session& session, const Request& request);
  // Clients have as many as they may; the rest is the chain's.
  bool TooManyDescriptors() const;
  bool FarTooManyDescriptors() const;
  Dispatch Interrupt(Session& session, uint64_t number, const Request& request);
  Dispatch InterruptHereOrAtHead(Session& session, uint64_t number, const Request& request);
  std::string AnswerQueued(Session& session, std::string_view raw);
  void SendRerouted();
  void ExpireRerouted(TimePoint now);
  // After a change of users: rights of those connected are those of the new ones.
  void ReviewUsers(const std::vector<User>& former);
  Dispatch RouteForwarded(Session& session, uint64_t number, const Request& request, bool reads);
  // An eventual read of this node's database, which may be too old for it (max_staleness): an error,
  // or, as long as a node that has just joined cannot tell, kWait.
  std::optional<Dispatch> RefuseStale(Session& session, uint64_t number);
  std::string WhyWaiting(const Session& session) const;
  std::string RunIdOfHead() const;

  const Reactors reactors_;
  io::Reactor& reactor_;  // of peers, and for timers and the like
  Options options_;
  std::function<void()> on_stopped_;
  chain::Replica replica_;
  Freshness freshness_;
  std::unique_ptr<backend::Backend> backend_;
  Phase phase_ = Phase::kStarting;
  std::string phase_why_;
  backend::Info info_;
  bool examined_ = false;   // info_ is of the database as it is now
  bool attaching_ = false;  // AttachCapture was asked for
  bool following_ = false;  // the database is fed from the log
  Position fed_;            // committed position that the backend was told last
  // One of the things that are being measured: how long the database takes for what is committed.
  struct Applying {
    Position upto;
    TimePoint since;
  };
  std::optional<Applying> applying_;
  // A verify that was begun for WhyNotReady().
  struct Probe {
    uint64_t ticket = 0;
    TimePoint since;
  };
  std::optional<Probe> probe_;
  bool promote_wanted_ = false;  // ... at promote_at_, as soon as no local read is in flight
  Position promote_at_;
  int databases_ = 16;  // CONFIG GET databases of the local server
  std::optional<command::CommandTable> commands_;
  std::unique_ptr<command::EffectParser> parser_;
  std::string entry_scratch_;
  // A head of this epoch whose database has applied so much has all that earlier members may have
  // shown.
  Position complete_from_;
  std::string broken_;  // set inside a stream callback; handled at the end of the turn

  std::map<chain::LinkId, std::unique_ptr<peer::PeerLink>> links_;
  std::vector<std::unique_ptr<peer::PeerLink>> dead_links_;
  chain::LinkId last_link_ = chain::kNoLink;
  std::map<chain::LinkId, TimePoint> heard_;  // last sign of life of each link
  chain::LinkId predecessor_link_ = chain::kNoLink;
  bool predecessor_paused_ = false;  // the local database is too far behind
  // A link that this node keeps to another member.
  struct Dialled {
    chain::LinkId link = chain::kNoLink;  // dialled or dialling
    Epoch epoch{};                        // for which it was dialled, and whom
    NodeId to{};
    TimePoint redial_at{};
    TrafficOf traffic = TrafficOf::kOthers;
  };
  Dialled successor_{.traffic = TrafficOf::kSuccessor};
  Dialled acknowledging_tail_{.traffic = TrafficOf::kAcks};
  bool successor_full_ = false;                       // takes no more of the log now
  chain::LinkId acknowledged_head_ = chain::kNoLink;  // at the tail: the other end of such a link
  chain::LinkId news_link_ = chain::kNoLink;          // to one that may know a newer configuration
  chain::Member news_from_;
  TimePoint news_at_{};
  PeerAcceptor acceptor_;

  chain::JoinSource join_source_;
  chain::LinkId join_link_ = chain::kNoLink;
  std::unique_ptr<backend::SnapshotReader> snapshot_reader_;
  bool snapshot_paused_ = false;
  bool join_ready_told_ = false;
  std::optional<coordinator::JoinOrder> join_order_;
  TimePoint join_retry_at_{};  // a failed attempt is repeated then
  Joining joining_;

  Meter meter_;
  std::map<uint64_t, std::unique_ptr<Inspection>> inspections_;
  uint64_t last_inspection_ = 0;
  Heartbeat heartbeat_;
  std::optional<uint64_t>
      resign_number_;  // heartbeat that told it; answered: the coordinator knows
  bool resign_known_ = false;
  std::string notice_;

  // Outlive the sessions, whose clients may own connections of theirs.
  HeadExecutor head_executor_;
  LocalReader local_reader_;
  Forwarder forwarder_;

  std::unique_ptr<io::Listener> client_listener_;
  std::map<uint64_t, std::unique_ptr<Session>> sessions_;
  std::vector<std::unique_ptr<Session>> dead_sessions_;
  uint64_t last_session_ = 0;
  size_t clients_ = 0;  // sessions that are not forwarded
  std::vector<Session*> blocked_;
  Pause pause_ = Pause::kNone;
  TimePoint pause_until_{};
  std::deque<Rerouted> rerouted_;
  std::vector<Again> again_;
  std::vector<Welcome> welcomes_;
  // The newest forwarding connection of each (node, target, database, protocol), or of one client's
  // own: S18. Commands can only have come by one that was welcome, and may be under way still when
  // later ones, which wait for their end, have come and gone.
  struct ForwardedLane {
    uint64_t incarnation = 0, number = 0;
    Session* session = nullptr;
    uint64_t welcomed = 0;  // session; 0: none
  };
  std::map<std::string, ForwardedLane> forwarded_;

  std::unique_ptr<io::Timer> tick_;  // runs only while something can expire
  std::unique_ptr<io::Timer> beat_;
  bool tick_armed_ = false;
  std::optional<Leaving> leaving_;
  bool stopping_ = false;
  bool stopped_ = false;
  TimePoint stop_deadline_{};
  TimePoint started_at_{};
};

// "starting" ..., for people.
const char* PhaseName(coordinator::ReportPhase phase);

// Answers a command of Route::kProxy (session_commands.cc). kWait only for those that must not
// overtake others. `capture`: the reply goes there at once, and nowhere else.
Dispatch AnswerProxyCommand(Node& node, Session& session, uint64_t number, const Request& request,
                            std::string* capture = nullptr);
// Whether this INFO wants the `# Catena` section: by name or with all that is shown by default.
bool AsksForCatena(std::span<const std::string_view> arguments);
// True when the session may run this command without AUTH; otherwise NOAUTH was answered.
bool CheckAuthenticated(Node& node, Session& session, uint64_t number, const Request& request);

}  // namespace catena::server
