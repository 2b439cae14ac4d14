// A few bare members of a chain, without processes or sockets: chain::Replica and chain::JoinSource
// driven as proxy/server/node.cc drives them. Links are queues of encoded messages that are
// delivered one at a time; a database is the string of everything that it executed, so its position
// is the string's length and a lost or rewritten effect shows at once. The coordinator is either
// the test itself (Configure, Tell, Grant) or the real policy and registry behind Beat().
//
// A test reads like a story:
//
//   World world({"A", "B", "C"});
//   world.Form({"A", "B", "C"});  // joined one after the other, synced, quiet, leases granted
//   world.Hold("B>C");            // what B sends to C stays on the way
//   auto write = world.Write("A", "x=1");
//   world.Settle();               // everything that is not held happens
//   CHECK_FALSE(write->answered());
//
// After every event the invariants of design.md section 5 are checked, with deltas; what breaks one
// fails the test and prints the events that led there.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/policy.h"
#include "coordinator/registry.h"
#include "proxy/chain/join.h"
#include "proxy/chain/replica.h"

namespace catena::scenario {

inline constexpr Duration kLease = std::chrono::milliseconds(1000);
inline constexpr Duration kBeat = std::chrono::milliseconds(200);

// A database: executes at the head, follows elsewhere. Survives its proxy.
struct Database {
  std::string history;  // "x=1;y=2;": every effect since position 0
  std::string
      replid;  // of the chain whose untouched prefix it holds as a replica; "": its own master
  std::string run_id;
  bool from_chain = false;
  size_t captured = 0;  // head: how much of `history` its proxy has read

  Position position() const { return Position(history.size()); }
  // End of the last effect that touched `key`, and what it set; 0 and "" when there is none.
  std::pair<Position, std::string> Get(char key) const;
};

// A client's command and its fate. Shared with the test that gave it.
struct Op {
  enum class State { kWaiting, kAnswered, kFailed };
  State state = State::kWaiting;
  bool is_write = false;
  char key = 0;
  std::string effect;  // of a write
  std::string value;   // that the answer of a read shows
  Position version;    // of what the answer reveals
  Position must_see;   // newest version that anybody had seen when the command arrived

  bool answered() const { return state == State::kAnswered; }
  bool failed() const { return state == State::kFailed; }
  bool waiting() const { return state == State::kWaiting; }

  // As proxy/server/head_executor.h keeps them.
  bool executed = false, version_known = false;
  Position bound, captured_at_send, needed_version;
  Epoch epoch;
  // As proxy/server/session.h's ReadWait.
  bool started = false, authority = false;
  Position needs;
  std::optional<uint64_t> verify_ticket, query_ticket;
};
using OpPtr = std::shared_ptr<Op>;

class World {
 public:
  // A queue a direction, emptied by Deliver.
  struct Frame {
    bool end = false;   // the sender closed, or the connection broke
    std::string bytes;  // one message as proxy/peer/codec.h writes it
  };
  struct Link {
    chain::LinkId id = chain::kNoLink;
    NodeId dialler, acceptor;
    bool dialler_open = true, acceptor_open = true;
    std::deque<Frame> down, up;  // from and to the dialler
  };
  // One node: proxy and database.
  struct Machine {
    NodeId id;
    bool up = true;        // its proxy runs
    bool paused = false;   // ... but is not scheduled
    bool cut_off = false;  // from the coordinator
    std::unique_ptr<chain::Replica> replica;
    chain::JoinSource source{1u << 20};
    Database database;
    std::string log, staged;  // what the replica's log holds, from position 0; bytes of a cut entry
    // A link that this machine keeps to another member.
    struct Dialled {
      chain::LinkId link = chain::kNoLink;
      std::string key;  // whom it was dialled for
    } successor, acknowledging_tail;
    chain::LinkId predecessor_link = chain::kNoLink, join_link = chain::kNoLink;
    int dials_left = 0;
    bool following = false;  // the database is fed from the log
    bool attach_wanted = false;
    std::optional<Position> promote_at;
    std::optional<Epoch> bound_asked;
    std::string resigned_because;  // not empty: resigned
    struct Joining {
      chain::LinkId link = chain::kNoLink;
      std::string replid;
      bool started = false, loading = false, loaded = false;
      chain::JoinProgress told;
    } joining;
    std::vector<OpPtr> ops;
    uint64_t reports = 0;
    // For the deltas of I2 and I5.
    Epoch last_epoch;
    Incarnation last_incarnation;
    Position last_received, last_committed, last_applied;
  };

  struct Options {
    size_t append_bytes = 1u << 16;  // at most in one Append: small ones cut entries
    size_t backlog_bytes = 1u << 16;
    size_t replicas = 3;
    bool short_acks = false;  // the tail acknowledges to the head directly, too
    coordinator::Recovery recovery = coordinator::Recovery::kOperator;
  };
  explicit World(std::vector<NodeId> ids) : World(std::move(ids), Options{}) {}
  World(std::vector<NodeId> ids, Options options);

  // --- the coordinator as the test plays it ---------------------------------------------------
  // A chain of these, formed as in life: the first alone, then one join after the other; then
  // everybody has a lease.
  void Form(const std::vector<NodeId>& ids);
  // The next configuration, with the incarnations of now. Nobody knows of it yet.
  const chain::Configuration& Configure(const std::vector<NodeId>& ids);
  void Tell(const NodeId& id);
  void TellAll();
  void Grant(const NodeId& id);  // a lease from now on
  void GrantAll();
  void Advance(Duration time) { now_ += time; }
  void ExpireLeases() { Advance(2 * kLease); }
  // The tail begins to bring `joiner` up to date.
  void StartJoin(const NodeId& joiner);
  // ... brings it all the way and the coordinator lists it; ends synced and quiet.
  void Join(const NodeId& joiner);

  // --- the real coordinator ------------------------------------------------------------------
  // From now on Beat() talks to registry and policy, whose records are in force at once (unless
  // Hold("etcd")).
  void StartCoordinator();
  // One heartbeat of `id` and, unless `answer_lost`, its answer.
  void Beat(const NodeId& id, bool answer_lost = false);
  void BeatAll();
  // A heartbeat of another process of the same node, which knows nothing yet.
  void ReportNewIncarnation(const NodeId& id);
  void Consider();
  const coordinator::Registry& registry() const { return *registry_; }
  bool writing() const { return writing_.has_value(); }
  const std::string& waiting_for() const { return waiting_for_; }
  void Choose(const NodeId& id) { choice_ = id; }

  // --- faults --------------------------------------------------------------------------------
  // What is named stays undone: "A>B" (messages), "apply B", "capture A", "promote B" (and attach),
  // "bound A", "send A" (log bytes: a full socket), "load N" (the end of a snapshot), "etcd".
  void Hold(const std::string& what) { held_.insert(what); }
  void Release(const std::string& what) { held_.erase(what); }
  void ReleaseAll() { held_.clear(); }
  void Crash(const NodeId& id);  // the proxy's process ends; the database stays
  void Start(const NodeId& id);  // a new process
  void Resign(const NodeId& id, const std::string& why);
  void Pause(const NodeId& id) { (*this)[id].paused = true; }
  void Resume(const NodeId& id);
  void BreakLinks(const NodeId& a, const NodeId& b);  // what is on the way is lost; both notice
  void Cut(const NodeId& a, const NodeId& b);         // ... and no new link can be made
  void Heal(const NodeId& a, const NodeId& b) { cut_.erase(Pair(a, b)); }
  void HealAll();

  // --- single events; false: there is nothing of the kind ------------------------------------
  bool Deliver(const NodeId& from, const NodeId& to);
  bool DeliverOn(chain::LinkId link, bool down);
  bool Capture(const NodeId& id, size_t bytes = SIZE_MAX);
  bool Apply(const NodeId& id, size_t bytes = SIZE_MAX);
  bool Promote(const NodeId& id);  // or attach
  bool AnswerBound(const NodeId& id);
  void Turn(const NodeId& id);  // the end of a loop turn without any event
  void KeepAlive(const NodeId& id);
  // Everything that is not held, until nothing is left to do.
  void Settle();

  // --- clients -------------------------------------------------------------------------------
  OpPtr Write(const NodeId& id, const std::string& effect);  // "x=1"
  OpPtr Read(const NodeId& id, char key);
  // Somebody who talks to the database directly.
  void Execute(const NodeId& id, const std::string& effect);

  // --- state ---------------------------------------------------------------------------------
  Machine& operator[](const NodeId& id);
  chain::Replica& replica(const NodeId& id) { return *(*this)[id].replica; }
  const Options& options() const { return options_; }
  const chain::Configuration& newest() const { return record_.configuration; }
  std::map<NodeId, Machine>& machines() { return machines_; }
  const std::map<chain::LinkId, Link>& links() const { return links_; }
  TimePoint now() const { return now_; }
  bool Reachable(const NodeId& a, const NodeId& b) const { return !cut_.contains(Pair(a, b)); }
  // What every member that ever counted agrees to have been committed.
  const std::string& truth() const { return truth_; }
  // An operator decided that what only others had is lost: what follows is judged by what `id` has.
  void AcceptLossOf(const NodeId& id);
  void CheckInvariants();
  [[noreturn]] void Fail(const std::string& what);
  void Note(std::string event);
  // The rest of the turn after an event at `id`, then the invariants.
  void After(Machine& machine);

 private:
  static std::pair<NodeId, NodeId> Pair(const NodeId& a, const NodeId& b) {
    return a < b ? std::pair(a, b) : std::pair(b, a);
  }
  bool Runs(const Machine& machine) const { return machine.up && !machine.paused; }
  Incarnation NewIncarnation() { return Incarnation(++last_incarnation_); }

  // The driver in miniature.
  void EndTurn(Machine& machine);
  void Perform(Machine& machine);
  void SendLog(Machine& machine);
  void FollowSource(Machine& machine);
  void DialMembers(Machine& machine);
  // False: nothing was dialled.
  bool KeepDialled(Machine& machine, Machine::Dialled& dialled, const chain::Member* member);
  chain::LinkId Dial(Machine& machine, const NodeId& to);
  void Send(Machine& machine, chain::LinkId link, const chain::Message& message);
  void Close(Machine& machine, chain::LinkId link);
  void ForgetLink(Machine& machine, chain::LinkId link);
  void DropStaged(Machine& machine);
  void TakeStream(Machine& machine, std::string_view bytes);
  void Receive(Machine& machine, chain::LinkId link, const std::string& bytes);
  void OnMessage(Machine& machine, chain::LinkId link, const chain::Message& message);
  void OnHello(Machine& machine, chain::LinkId link, const chain::Hello& hello);
  void OnJoinHello(Machine& machine, chain::LinkId link, const chain::Hello& hello);
  void OnJoinMessage(Machine& machine, chain::LinkId link, const chain::Message& message);
  void OnOffer(Machine& machine, const chain::Offer& offer);
  void AbandonSource(Machine& machine);
  void BeginSource(Machine& machine, const NodeId& joiner, Incarnation incarnation);
  void InstallConfiguration(Machine& machine, const chain::Configuration& configuration);
  void Resign(Machine& machine, const std::string& why);
  void BeginNewLife(Machine& machine);
  void FailOps(Machine& machine);
  void DrainQueue(Link& link, bool down);

  void RetryOps(Machine& machine);
  void TryAtHead(Machine& machine, Op& op);
  void TryAtFollower(Machine& machine, Op& op);
  void Answer(Machine& machine, Op& op);

  void LearnTruth(const Machine& machine);
  void CheckMember(Machine& machine);
  void CheckNeighbours(const chain::Configuration& configuration, size_t index);
  void CheckNothingLost();

  coordinator::NodeReport Report(Machine& machine);
  coordinator::PolicyInput MakeInput() const;
  void Adopt(const coordinator::ChainRecord& record);
  void NoteWritten();
  void OnAnswer(Machine& machine, const coordinator::NodeReport& report,
                const coordinator::Registry::Verdict& verdict);

  Options options_;
  std::map<NodeId, Machine> machines_;
  std::map<chain::LinkId, Link> links_;
  chain::LinkId last_link_ = 0;
  uint64_t last_incarnation_ = 0;
  uint64_t last_history_ = 0;
  std::set<std::pair<NodeId, NodeId>> cut_;
  std::set<std::string> held_;
  TimePoint now_{std::chrono::seconds(100)};
  coordinator::ChainRecord record_;
  std::optional<coordinator::ChainRecord>
      writing_;  // proposed, its fate unknown: nothing else is decided
  std::unique_ptr<coordinator::Registry> registry_;
  std::optional<coordinator::JoinOrder> join_;
  TimePoint join_since_{};
  std::optional<coordinator::Decision::Request> resign_request_;
  std::string waiting_for_;
  std::optional<NodeId> choice_;
  std::vector<std::string> events_;
  std::map<uint64_t, chain::Configuration> written_;  // by epoch
  std::string truth_;
  Position acknowledged_;  // everything up to here was revealed to somebody
  std::map<char, Position> revealed_;
};

}  // namespace catena::scenario
