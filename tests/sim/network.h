// Machines, their processes and the TCP between them, on virtual time.
//
// A process is an io::Reactor: what is ready when it gets the processor is one loop turn, in which
// reads and timers run first, then deferred work, then the turn-end hooks; then its output leaves.
// A paused process gets no turn, a slow one gets it late; the kernel of its machine goes on: it
// completes connections and takes bytes until its buffers are full.
//
// A connection keeps its order and loses nothing while it stands. Bytes that a partition holds back
// go on when it heals; a broken connection loses what is on the way, or delivers it long after the
// other end knows (schedule S18).
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "proxy/io/reactor.h"
#include "tests/sim/scheduler.h"

namespace catena::sim {

class Network;
class Process;
class SimStream;

// Name of the machine in "machine:port".
std::string MachineOf(const io::Address& address);

struct Machine {
  std::string name;
  int64_t drift_ppm = 0;  // its clock gains so many microseconds a second
  TimePoint origin{};     // its clock's reading when the simulation began
  TimePoint Clock(TimePoint now) const;
  // How long `duration` of its clock takes.
  Duration Real(Duration duration) const;
};

// One end of a connection, as its machine's kernel holds it.
struct End {
  Process* process = nullptr;  // nullptr: not accepted yet, or gone
  SimStream* stream = nullptr;
  io::StreamHandler* handler = nullptr;
  std::string machine, name;
  std::string in;         // arrived and not read
  bool in_ended = false;  // nothing more comes
  bool told_end = false;
  bool paused = false;
  std::string out;       // written and not taken by the kernel
  size_t on_way = 0;     // bytes taken by the kernel that the other end has not read
  bool closing = false;  // the end follows the last of `out`
  bool closed = false;   // ... and is on its way
  std::optional<size_t> drain_mark;
  TimePoint last_arrival{};
};

struct Connection {
  uint64_t number = 0;
  io::Address address;
  End ends[2];  // the dialler's, the acceptor's
  bool established = false;
  TimePoint held_until{};  // what is on the way does not arrive before
  bool broken = false;     // nothing that is on the way arrives any more
};

class Process final : public io::Reactor {
 public:
  Process(Network& network, std::string name, const std::string& machine);
  ~Process() override;

  // --- io::Reactor ---
  TimePoint Now() override;
  int64_t WallMilliseconds() override;
  std::string RandomBytes(size_t count) override;
  std::unique_ptr<io::Stream> Connect(const io::Address& address,
                                      io::StreamHandler* handler) override;
  Result<std::unique_ptr<io::Listener>> Listen(
      const io::Address& address,
      std::function<void(std::unique_ptr<io::Stream>)> on_accept) override;
  std::unique_ptr<io::Timer> MakeTimer(std::function<void()> on_fire) override;
  void AddTurnEndHook(std::function<void()> hook) override { hooks_.push_back(std::move(hook)); }
  void Defer(std::function<void()> fn) override;
  void RunOnWorker(std::function<void()> work, std::function<void()> done) override;
  size_t OpenStreams() const override { return exhausted_ ? SIZE_MAX : 0; }
  void Run() override {}
  void Stop() override {}

  // --- faults ---
  void Pause();
  void Resume();
  bool paused() const { return paused_; }
  // Its connections end and it does nothing any more; what it was is destroyed by its owner. With
  // `silent` (the machine lost power) nobody is told until the machine is back.
  void Kill(bool silent);
  bool dead() const { return dead_; }
  // Each turn comes so much later.
  void SetDelay(Duration delay) { delay_ = delay; }
  // What workers do takes up to so long. 0: no time, and nothing is drawn.
  void SetWorkDelay(Duration max) { work_delay_max_ = max; }
  // Workers stand still: what they wait for does not come.
  void HoldWork();
  void ReleaseWork();
  bool holds_work() const { return holds_work_; }
  // It may open no file more.
  void SetExhausted(bool exhausted) { exhausted_ = exhausted; }

  const std::string& name() const { return name_; }
  // No other process of the simulation has it, also not a later one at the same address.
  uint64_t number() const { return number_; }
  Machine& machine() { return machine_; }
  Network& network() { return network_; }
  // Runs in a turn.
  void Post(std::function<void()> event);
  // Output of `connection`'s end `side` leaves at the end of the turn.
  void MarkDirty(const std::shared_ptr<Connection>& connection, int side);

 private:
  friend class Network;
  class SimTimer;
  class SimListener;

  void Wake();
  void Turn();
  void Work(std::function<void()> work, std::function<void()> done);
  void FlushDirty();

  Network& network_;
  const uint64_t number_;
  std::string name_;
  Machine& machine_;
  std::deque<std::function<void()>> inbox_, deferred_;
  std::vector<std::function<void()>> hooks_;
  std::vector<std::pair<std::shared_ptr<Connection>, int>> dirty_;
  bool awake_ = false, in_turn_ = false, paused_ = false, dead_ = false;
  Duration delay_{0}, work_delay_max_{0};
  bool holds_work_ = false, exhausted_ = false;
  std::vector<std::function<void()>> held_work_;
  TimePoint turn_ended_{};  // on its clock
  int next_port_ = 40000;
  // Callbacks that come after its death are dropped.
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

class Network {
 public:
  struct Options {
    Duration delay_min = Micros(50), delay_max = Micros(500);  // between machines
    Duration local_delay_max = Micros(60);                     // within one
    size_t window = 64u << 10;  // bytes of one direction that kernels hold
    uint64_t short_reads = 0;   // per mille of the reads that bring only a part
    uint64_t dials_twice = 0;   // per mille of the attempts to connect that come once more
    Duration connect_timeout = Seconds(3);
    Duration keepalive = Seconds(8);  // after which a silent machine's connections break
  };

  Network(Scheduler& scheduler, Options options) : scheduler_(scheduler), options_(options) {}

  Scheduler& scheduler() { return scheduler_; }
  Options& options() { return options_; }
  Machine& machine(const std::string& name);

  // Nothing arrives at `to` from `from`; what is sent waits.
  void Block(const std::string& from, const std::string& to) { blocked_.insert({from, to}); }
  void HealAll();
  bool Blocked(const std::string& from, const std::string& to) const {
    return blocked_.contains({from, to});
  }
  bool partitioned() const { return !blocked_.empty(); }
  // The next bytes from one process to another that contain `text` stay on their way, with them what
  // follows on their connection, until EndStall() or HealAll(): a packet is lost again and again.
  void StallNext(const std::string& from, const std::string& to, const std::string& text) {
    to_stall_ = Stall{from, to, text};
  }
  bool stalled() const { return stalled_ != nullptr; }
  void EndStall();
  // Who sent the stalled bytes learns that the connection is gone; the other end, when they arrive.
  void BreakStalled() { Reset(stalled_, stalled_side_, Duration(0)); }
  // Some connection breaks; its ends learn of it at different times, kBreakKnown later at the most.
  static constexpr Duration kBreakKnown = Millis(800);
  void BreakSome();
  // How many connections stand, and bytes that wait in them.
  size_t connections() const;

  // --- for processes and streams ---
  struct Listening {
    Process* process;
    // Shared with nobody, so that a connection can tell whether it is still there.
    std::shared_ptr<std::function<void(std::unique_ptr<io::Stream>)>> on_accept;
  };
  std::map<io::Address, Listening>& listening() { return listening_; }
  std::shared_ptr<Connection> Dial(Process& process, const io::Address& address,
                                   io::StreamHandler* handler);
  // A packet of a dialler that has given up comes late: somebody connects, says nothing and goes.
  void DialInVain(const io::Address& address);
  // Takes what fits from the end's output to the other end.
  void Flush(const std::shared_ptr<Connection>& connection, int side);
  void Close(const std::shared_ptr<Connection>& connection, int side);
  // There may be something to read at this end.
  void ReadSoon(const std::shared_ptr<Connection>& connection, int side);
  void Dropped(Process& process, bool silent);
  std::string NextName(const std::string& machine);
  uint64_t NextProcess() { return ++last_process_; }

 private:
  void Arrive(const std::shared_ptr<Connection>& connection, int side, std::string bytes,
              bool last);
  void TellAcceptor(const std::shared_ptr<Connection>& connection, const Listening& listening);
  void AcceptOn(const std::shared_ptr<Connection>& connection, TimePoint give_up);
  void Read(const std::shared_ptr<Connection>& connection, int side);
  void Reset(const std::shared_ptr<Connection>& connection, int side, Duration after);
  void NotifyDrained(const std::shared_ptr<Connection>& connection, int side);
  Duration Delay(const std::string& from, const std::string& to);

  struct Stall {
    std::string from, to, text;
  };

  Scheduler& scheduler_;
  Options options_;
  std::map<std::string, Machine> machines_;
  std::set<std::pair<std::string, std::string>> blocked_;
  std::map<io::Address, Listening> listening_;
  std::list<std::weak_ptr<Connection>> connections_;
  std::optional<Stall> to_stall_;
  std::shared_ptr<Connection> stalled_;
  int stalled_side_ = 0;                     // the sender's
  std::vector<std::function<void()>> held_;  // what does not arrive for the time being, in order
  uint64_t last_connection_ = 0, last_process_ = 0;
  int next_port_ = 50000;
};

}  // namespace catena::sim
