// Whole nodes (proxy/server/node.h) on a network, a clock and databases that a test moves by hand.
// Sessions, executors, forwarders, links and the driver are the real ones; only sockets, timers and
// the database behind each node are not.
//
//   NodeWorld world({"A", "B", "C"});
//   world.Form();                               // one chain of all, synced, with leases
//   Client client(world, "B");
//   client.Send({"SET", "x", "1"});
//   world.Settle();
//   CHECK(client.Take() == "+OK\r\n");
//
// One thread. Nothing happens but in Settle() and Advance().
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "backends/backend.h"
#include "coordinator/records.h"
#include "proxy/auth/proof.h"
#include "proxy/io/reactor.h"
#include "proxy/resp/decoder.h"
#include "proxy/server/node.h"

namespace catena::scenario {

class NodeWorld;

// One direction of a connection.
struct Pipe {
  std::string bytes;                    // written and not read yet
  bool ended = false;                   // the writer closed
  bool held = false;                    // nothing is delivered
  bool paused = false;                  // the reader does not read
  io::StreamHandler* reader = nullptr;  // nullptr: gone, or not accepted yet
};

struct Connection {
  NodeId dialler;
  io::Address address;
  NodeId acceptor;  // "" until accepted
  bool connected_told = false;
  Pipe down, up;  // from and to the dialler
};

// The database behind a node: SET, GET, SETNX, DBSIZE, INDEX.SIZE of a module, which answers the
// same, as does LATER.SIZE of a module that it was not examined with, EVAL, which sets its key to
// its argument, EVAL_RO and EVALSHA_RO, which get it (a follower does not know the latter's script),
// BLPOP, which blocks, PSUBSCRIBE, and SCAN, which answers this node's name. Its effect stream is
// the RESP of the commands that changed something.
class FakeDatabase final : public backend::Backend {
 public:
  class FakeLane;

  FakeDatabase(NodeWorld& world, NodeId id) : world_(world), id_(std::move(id)) {}

  void Start(backend::BackendEvents* events) override;
  void AttachCapture() override;
  void Promote(const std::string& chain_replid, Position position) override;
  void SetCommitted(Position committed) override;
  bool AnswersWaitForApplied() const override { return promises; }
  bool SealsEntries() const override { return true; }
  Result<void> CheckEntry(std::string_view entry, Position start) const override;
  void Follow(const std::string& chain_replid, Position position,
              backend::FeedSource* source) override;
  void FeedAvailable(Position committed) override;
  void BeginSnapshot(const std::string& chain_replid, Position position, uint64_t length,
                     backend::FeedSource* source) override;
  bool SnapshotChunk(std::string_view bytes) override;
  std::string DigestRequest(std::span<const std::string_view>) const override { return {}; }
  void Release() override;
  std::unique_ptr<backend::Lane> OpenLane(const backend::LaneOptions& options,
                                          backend::LaneHandler* handler) override;
  void AskPosition(std::function<void(std::optional<Position>)> done) override;
  // CLIENT UNBLOCK of whoever is blocked.
  void Interrupt(std::string_view command,
                 std::function<void(std::optional<std::string_view>)> done) override;
  // The answer of the next one is lost; or the next one itself, which is not executed.
  enum class Losing : uint8_t { kNothing, kAnswer, kInterrupt };
  Losing losing = Losing::kNothing;
  // None gets there while they are held.
  void HoldInterrupts(bool hold);
  std::unique_ptr<backend::SnapshotReader> TakeSnapshot(backend::SnapshotSink* sink,
                                                        const backend::SnapshotPart& held) override;
  uint64_t LastKeyCount() const override { return values_.size(); }
  const backend::Limits& CurrentLimits() const override { return limits; }
  backend::Limits limits;

  bool unreachable = false;   // never examined
  std::string stands_before;  // not "": a lane goes no further than to what contains this
  std::string select_error;   // not "": answers the next SELECT
  int last_database = 0;      // in which the latest command was executed
  bool unapplied = false;
  bool HasUnapplied() const override { return unapplied; }

  // As head it promises that what it has applied outlives a crash of all.
  bool promises = false;
  // Nothing is applied (see BackendEvents::OnApplied) while it is held.
  void HoldApplying(bool hold);
  // Of a snapshot that is taken of it only so many bytes come.
  size_t snapshot_bytes_max = SIZE_MAX;
  size_t snapshot_bytes_given = 0;
  // None that is taken of it begins.
  bool holds_snapshots = false;
  // It goes on with the snapshot of which somebody has a part, though it has changed since.
  bool keeps_snapshots = false;
  // An entry with this in it counts as damaged.
  std::string damage;

  bool executes() const { return executes_; }
  // It takes the bytes of a snapshot and does not finish loading them.
  void HoldLoading(bool hold) {
    hold_loading_ = hold;
    if (!hold && load_) load_();
  }
  Position position() const { return Position(stream_.size()); }
  std::string Get(const std::string& key) const {
    return values_.contains(key) ? values_.at(key) : "";
  }
  // Commands that are with the database now are not executed until ReleaseLanes.
  void HoldLanes();
  void ReleaseLanes();
  // Their connections are reset.
  void BreakLanes();
  // That of the one that holds this command.
  void BreakLane(const std::string& holding);
  // The head's effects are not captured any more.
  void LoseCapture();
  // Tells all who had CLIENT TRACKING that this key has changed.
  void Invalidate(const std::string& key);
  // What a lane holds when it is destroyed could still be executed until the test says otherwise.
  bool keeps_abandoned = false;
  bool HasAbandoned() const override { return keeps_abandoned && abandoned_; }
  // It knows MULTI, EXEC and DISCARD.
  bool transactions = false;
  // Else BLPOP takes the name of this node, once its lane is not held.
  bool blocks = true;
  int taken = 0;
  int gets = 0;  // that it has executed
  // Executes one command of one lane; false: there is none that is not held.
  bool Work();

 private:
  std::string Execute(const std::string& command);
  // A command of a transaction, or MULTI.
  std::string Transact(FakeLane& lane, const std::string& command, const std::string& name);
  // The first that is blocked. False: there is none.
  bool Unblock();
  void Apply(std::string_view stream);
  void FeedNow();

  NodeWorld& world_;
  NodeId id_;
  backend::BackendEvents* events_ = nullptr;
  std::map<std::string, std::string> values_;
  std::string stream_, resume_replid_;
  bool executes_ = false, from_chain_ = false;
  size_t captured_ = 0;
  backend::FeedSource* source_ = nullptr;
  std::string snapshot_, snapshot_replid_;
  size_t snapshot_length_ = 0;
  bool hold_loading_ = false;
  std::function<void()> load_;
  bool hold_applying_ = false, holds_interrupts_ = false;
  std::function<void()> interrupt_;
  bool abandoned_ = false;
  Position committed_;
  std::list<FakeLane*> lanes_;
  uint64_t life_ = 0;  // events of an earlier role are dropped
};

class NodeWorld {
 public:
  explicit NodeWorld(std::vector<NodeId> ids, std::function<void(server::Options&)> tune = {});
  ~NodeWorld();

  // One chain of all nodes in this order, or of the first of them; synced; everybody has a lease.
  void Form() { Form(ids_); }
  void Form(const std::vector<NodeId>& listed);
  // The first node alone.
  void FormFirst();
  // The coordinator asks `id` to leave its place; "": nobody.
  void Drain(const NodeId& id) { leaves_ = id; }
  // The tail is told to bring `joiner` up to date; nobody lists it.
  void StartJoin(const NodeId& joiner);
  const coordinator::NodeReport& report(const NodeId& id) { return reports_[id]; }
  // The next configuration; those of `hear` are told with their next heartbeat, the others know
  // nothing of it.
  void Configure(const std::vector<NodeId>& members, const std::set<NodeId>& hear);
  // From now on no heartbeat of `id` is answered, so its lease runs out.
  void CutOff(const NodeId& id) { silent_to_.insert(id); }

  // Everything that can happen without time passing.
  void Settle();
  // Time passes in small steps; timers fire.
  void Advance(Duration duration);

  server::Node& node(const NodeId& id) { return *nodes_.at(id).node; }
  FakeDatabase& database(const NodeId& id) { return *nodes_.at(id).database; }
  const chain::Replica& replica(const NodeId& id) { return node(id).replica(); }
  // The newest connection that `dialler` made to the peers of `acceptor` and that is open at both
  // ends; nullptr: none.
  Connection* NewestLink(const NodeId& dialler, const NodeId& acceptor);
  // Nothing that `id` dials from now on gets anywhere.
  void Isolate(const NodeId& id) { isolated_.insert(id); }
  // What was sent to `id` by these connections is read in one turn, in this order.
  void ReadInOneTurn(const NodeId& id, const std::vector<Connection*>& connections);
  // The dialler sees the connection broken; the other end still has unread bytes and knows nothing.
  void BreakAtDialler(Connection& connection);
  // Nothing passes between these two any more, on no connection, old or new; kCoordinator is one,
  // too. Heal() brings what was under way.
  static constexpr char kCoordinator[] = "coordinator";
  void Cut(const NodeId& one, const NodeId& other) { cut_.insert(std::minmax(one, other)); }
  void Heal() { cut_.clear(); }

  // --- for the parts of this world ---
  // Nodes that said that their process may end.
  std::set<NodeId> stopped;
  // What the reactor of a node says that it has open.
  std::map<NodeId, size_t> open_streams;

  TimePoint now() const { return now_; }
  // Runs in a loop turn of its own at node `id`.
  void Post(const NodeId& id, std::function<void()> event);
  std::shared_ptr<Connection> Connect(const NodeId& dialler, const io::Address& address,
                                      io::StreamHandler* handler);
  struct Listening {
    NodeId owner;
    std::function<void(std::unique_ptr<io::Stream>)> on_accept;
  };
  std::map<io::Address, Listening>& listening() { return listening_; }

 private:
  friend class NodeReactor;
  class CoordinatorConnection;
  struct Event {
    NodeId id;
    std::function<void()> run;
  };
  struct Running {
    std::unique_ptr<class NodeReactor> reactor;
    FakeDatabase* database = nullptr;
    std::unique_ptr<server::Node> node;
  };

  void RunTurn(const NodeId& id, const std::function<void()>& event);
  bool DeliverSomething();
  bool IsCut(const Connection& connection) const;
  bool DeliverPipe(const NodeId& to, Pipe& pipe);
  bool FireTimers();
  void AnswerHeartbeat(CoordinatorConnection& connection, const coordinator::NodeReport& report);
  void WaitUntil(const std::function<bool()>& condition, const char* what);

  TimePoint now_{std::chrono::seconds(1000)};
  auth::Credentials credentials_{"story", "secret"};
  std::vector<NodeId> ids_;
  std::map<io::Address, Listening> listening_;
  std::list<std::shared_ptr<Connection>> connections_;
  std::deque<Event> events_;
  std::set<NodeId> isolated_, silent_to_, hear_;
  std::set<std::pair<NodeId, NodeId>> cut_;  // in order
  std::unique_ptr<class NodeReactor> coordinator_reactor_;
  std::unique_ptr<io::Listener> coordinator_listener_;
  std::vector<std::unique_ptr<CoordinatorConnection>> coordinator_connections_;
  std::map<NodeId, coordinator::NodeReport> reports_;
  chain::Configuration configuration_, older_;
  std::optional<coordinator::JoinOrder> join_;
  NodeId leaves_;
  std::map<NodeId, Running> nodes_;
};

// A Redis client of one node, or whoever dials the port of its peers.
class Client final : public io::StreamHandler {
 public:
  enum class Port : uint8_t { kClients, kPeers };
  Client(NodeWorld& world, const NodeId& node, Port port = Port::kClients);
  ~Client() override;
  void Send(const std::vector<std::string>& arguments);
  void Write(std::string_view bytes);
  // What came since the last call, raw.
  std::string Take() { return std::exchange(received_, {}); }
  Connection& connection() { return *connection_; }

  void OnRead(std::string_view bytes) override { received_ += bytes; }
  void OnClosed(std::string_view) override { received_ += "(closed)"; }

 private:
  std::string received_;
  std::shared_ptr<Connection> connection_;
  std::unique_ptr<io::Stream> stream_;
};

}  // namespace catena::scenario
