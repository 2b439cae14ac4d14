#include "tests/sim/network.h"

#include <algorithm>
#include <utility>

#include "proxy/base/mutant.h"

namespace catena::sim {

std::string MachineOf(const io::Address& address) { return address.substr(0, address.find(':')); }

TimePoint Machine::Clock(TimePoint now) const {
  const Duration passed = now - TimePoint(Seconds(1000));
  return origin + passed + Duration(passed.count() / 1'000'000 * drift_ppm);
}

Duration Machine::Real(Duration duration) const {
  return Duration(duration.count() - duration.count() / 1000 * drift_ppm / 1000);
}

// --- streams -------------------------------------------------------------------------------------

class SimStream final : public io::Stream {
 public:
  SimStream(Network& network, std::shared_ptr<Connection> connection, int side)
      : network_(network), connection_(std::move(connection)), side_(side) {
    end().stream = this;
  }
  ~SimStream() override {
    end().stream = nullptr;
    end().handler = nullptr;
    if (end().closing) return;
    end().out.clear();
    network_.Close(connection_, side_);
  }
  void SetHandler(io::StreamHandler* handler) override {
    end().handler = handler;
    network_.ReadSoon(connection_, side_);
  }
  void Write(std::string_view bytes) override {
    if (end().closing || bytes.empty() || end().process == nullptr) return;
    end().out.append(bytes);
    end().process->MarkDirty(connection_, side_);
  }
  void WriteShared(std::shared_ptr<const std::string>, std::string_view bytes) override {
    Write(bytes);
  }
  size_t UnsentBytes() const override { return connection_->ends[side_].out.size(); }
  void NotifyBelow(size_t mark) override { end().drain_mark = mark; }
  void PauseReading() override { end().paused = true; }
  void ResumeReading() override {
    end().paused = false;
    network_.ReadSoon(connection_, side_);
  }
  void CloseAfterFlush() override {
    end().handler = nullptr;
    network_.Close(connection_, side_);
  }
  const std::string& PeerName() const override { return connection_->ends[1 - side_].name; }
  const std::string& LocalName() const override { return connection_->ends[side_].name; }

 private:
  End& end() { return connection_->ends[side_]; }

  Network& network_;
  std::shared_ptr<Connection> connection_;
  const int side_;
};

// --- processes -----------------------------------------------------------------------------------

class Process::SimTimer final : public io::Timer {
 public:
  SimTimer(Process& process, std::function<void()> fire)
      : state_(std::make_shared<State>(State{&process, 0, false, std::move(fire)})) {}
  ~SimTimer() override { state_->process = nullptr; }
  void Start(Duration after) override {
    Process& process = *state_->process;
    Scheduler& scheduler = process.network_.scheduler();
    state_->armed = true;
    ++state_->starts;
    state_->due = scheduler.now() + std::max(process.machine_.Real(after), Duration(0));
    Await(state_);
  }
  void Stop() override {
    state_->armed = false;
    ++state_->starts;
  }

 private:
  struct State {
    Process* process;
    uint64_t starts;
    bool armed;
    std::function<void()> fire;
    TimePoint due{};
    // An event of the scheduler is on its way; one that comes too early goes on from there, so that
    // a timer that is always started anew costs nothing.
    TimePoint awaited = TimePoint::max();
  };
  static void Await(const std::shared_ptr<State>& state) {
    if (state->awaited <= state->due) return;
    state->awaited = state->due;
    state->process->network_.scheduler().At(state->due, [state, at = state->due] {
      if (state->awaited != at) return;
      state->awaited = TimePoint::max();
      if (state->process == nullptr || !state->armed) return;
      if (state->due > at) return Await(state);
      Due(state, state->starts);
    });
  }
  static void Due(const std::shared_ptr<State>& state, uint64_t start) {
    state->process->Post([state, start] {
      if (state->process == nullptr || !state->armed || state->starts != start) return;
      state->armed = false;
      // It may destroy the timer.
      const auto held = state;
      held->fire();
    });
  }
  std::shared_ptr<State> state_;
};

class Process::SimListener final : public io::Listener {
 public:
  SimListener(Network& network, io::Address address, Process* process)
      : network_(network), address_(std::move(address)), process_(process) {}
  ~SimListener() override {
    auto found = network_.listening().find(address_);
    if (found != network_.listening().end() && found->second.process == process_)
      network_.listening().erase(found);
  }
  const std::string& BoundAddress() const override { return address_; }

 private:
  Network& network_;
  io::Address address_;
  Process* process_;
};

Process::Process(Network& network, std::string name, const std::string& machine)
    : network_(network),
      number_(network.NextProcess()),
      name_(std::move(name)),
      machine_(network.machine(machine)) {}

Process::~Process() {
  if (!dead_) Kill(false);
}

TimePoint Process::Now() {
  return CATENA_MUTANT("cached-clock") ? turn_ended_ : machine_.Clock(network_.scheduler().now());
}

int64_t Process::WallMilliseconds() {
  const Duration since = network_.scheduler().now().time_since_epoch();
  return 1'700'000'000'000 + since / std::chrono::milliseconds(1);
}

std::string Process::RandomBytes(size_t count) {
  std::string bytes;
  while (bytes.size() < count) bytes += static_cast<char>(network_.scheduler().random().Below(256));
  return bytes;
}

std::unique_ptr<io::Stream> Process::Connect(const io::Address& address,
                                             io::StreamHandler* handler) {
  return std::make_unique<SimStream>(network_, network_.Dial(*this, address, handler), 0);
}

Result<std::unique_ptr<io::Listener>> Process::Listen(
    const io::Address& address, std::function<void(std::unique_ptr<io::Stream>)> on_accept) {
  io::Address bound = address;
  if (bound.ends_with(":0")) bound = machine_.name + ":" + std::to_string(next_port_++);
  while (bound != address && network_.listening().contains(bound))
    bound = machine_.name + ":" + std::to_string(next_port_++);
  if (network_.listening().contains(bound)) return Fail(bound + ": address already in use");
  network_.listening()[bound] = {
      this,
      std::make_shared<std::function<void(std::unique_ptr<io::Stream>)>>(std::move(on_accept))};
  return std::make_unique<SimListener>(network_, bound, this);
}

std::unique_ptr<io::Timer> Process::MakeTimer(std::function<void()> on_fire) {
  return std::make_unique<SimTimer>(*this, std::move(on_fire));
}

void Process::Defer(std::function<void()> fn) {
  deferred_.push_back(std::move(fn));
  if (!in_turn_) Wake();
}

void Process::RunOnWorker(std::function<void()> work, std::function<void()> done) {
  if (work_delay_max_ == Duration(0)) {
    work();
    return Post(std::move(done));
  }
  Scheduler& scheduler = network_.scheduler();
  scheduler.After(scheduler.random().Between(Micros(1), work_delay_max_),
                  [this, alive = std::weak_ptr<int>(alive_), work = std::move(work),
                   done = std::move(done)]() mutable {
                    if (!alive.expired()) Work(std::move(work), std::move(done));
                  });
}

// A process may die after its work is done and before it knows.
void Process::Work(std::function<void()> work, std::function<void()> done) {
  if (holds_work_) {
    return held_work_.push_back([this, work = std::move(work), done = std::move(done)]() mutable {
      Work(std::move(work), std::move(done));
    });
  }
  work();
  Scheduler& scheduler = network_.scheduler();
  scheduler.After(scheduler.random().Between(Micros(1), Micros(100)),
                  [this, alive = std::weak_ptr<int>(alive_), done = std::move(done)]() mutable {
                    if (!alive.expired()) Post(std::move(done));
                  });
}

void Process::HoldWork() { holds_work_ = true; }

void Process::ReleaseWork() {
  holds_work_ = false;
  for (auto& work : std::exchange(held_work_, {})) work();
}

void Process::Post(std::function<void()> event) {
  if (dead_) return;
  inbox_.push_back(std::move(event));
  Wake();
}

void Process::MarkDirty(const std::shared_ptr<Connection>& connection, int side) {
  dirty_.emplace_back(connection, side);
  if (!in_turn_) Wake();
}

void Process::Wake() {
  if (awake_ || paused_ || dead_) return;
  awake_ = true;
  Random& random = network_.scheduler().random();
  const Duration after = delay_ + Micros(random.Between(1, 20));
  network_.scheduler().After(after, [this, alive = std::weak_ptr<int>(alive_)] {
    if (!alive.expired()) Turn();
  });
}

void Process::Turn() {
  awake_ = false;
  if (paused_ || dead_) return;
  in_turn_ = true;
  network_.scheduler().SetActor(&name_);
  for (size_t ready = inbox_.size(); ready > 0 && !dead_; --ready) {
    auto event = std::move(inbox_.front());
    inbox_.pop_front();
    event();
  }
  while (!deferred_.empty() && !dead_) {
    auto fn = std::move(deferred_.front());
    deferred_.pop_front();
    fn();
  }
  for (size_t i = 0; i < hooks_.size() && !dead_; ++i) hooks_[i]();
  FlushDirty();
  network_.scheduler().SetActor(nullptr);
  in_turn_ = false;
  turn_ended_ = machine_.Clock(network_.scheduler().now());
  if (!inbox_.empty() || !deferred_.empty() || !dirty_.empty()) Wake();
}

void Process::FlushDirty() {
  auto dirty = std::move(dirty_);
  dirty_.clear();
  for (auto& [connection, side] : dirty) network_.Flush(connection, side);
}

void Process::Pause() { paused_ = true; }

void Process::Resume() {
  paused_ = false;
  Wake();
}

void Process::Kill(bool silent) {
  dead_ = true;
  alive_.reset();
  inbox_.clear();
  deferred_.clear();
  dirty_.clear();
  held_work_.clear();
  network_.Dropped(*this, silent);
}

// --- the network ---------------------------------------------------------------------------------

Machine& Network::machine(const std::string& name) {
  auto [found, added] = machines_.try_emplace(name);
  if (added) {
    found->second.name = name;
    found->second.origin = TimePoint(Seconds(scheduler_.random().Between(1000, 100'000)));
  }
  return found->second;
}

std::string Network::NextName(const std::string& machine) {
  return machine + ":" + std::to_string(next_port_++);
}

Duration Network::Delay(const std::string& from, const std::string& to) {
  Random& random = scheduler_.random();
  if (from == to) return random.Between(Micros(5), options_.local_delay_max);
  return random.Between(options_.delay_min, options_.delay_max);
}

std::shared_ptr<Connection> Network::Dial(Process& process, const io::Address& address,
                                          io::StreamHandler* handler) {
  auto connection = std::make_shared<Connection>();
  connection->number = ++last_connection_;
  connection->address = address;
  End& near = connection->ends[0];
  near.process = &process;
  near.handler = handler;
  near.machine = process.machine().name;
  near.name = NextName(near.machine);
  End& far = connection->ends[1];
  far.machine = MachineOf(address);
  far.name = address;
  connections_.push_back(connection);
  const TimePoint give_up = scheduler_.now() + options_.connect_timeout;
  scheduler_.After(Delay(near.machine, far.machine),
                   [this, connection, give_up] { AcceptOn(connection, give_up); });
  if (options_.dials_twice > 0 && scheduler_.random().Chance(options_.dials_twice)) {
    scheduler_.After(scheduler_.random().Between(Duration(0), options_.connect_timeout),
                     [this, address] { DialInVain(address); });
  }
  return connection;
}

void Network::AcceptOn(const std::shared_ptr<Connection>& connection, TimePoint give_up) {
  End& near = connection->ends[0];
  End& far = connection->ends[1];
  if (near.closed || connection->broken) return;
  if (Blocked(near.machine, far.machine) || Blocked(far.machine, near.machine)) {
    if (scheduler_.now() >= give_up) return Reset(connection, 0, Duration(0));
    return scheduler_.After(Millis(200),
                            [this, connection, give_up] { AcceptOn(connection, give_up); });
  }
  auto listening = listening_.find(connection->address);
  if (listening == listening_.end()) return Reset(connection, 0, Delay(far.machine, near.machine));
  TellAcceptor(connection, listening->second);
  scheduler_.After(Delay(far.machine, near.machine), [this, connection] {
    End& dialler = connection->ends[0];
    if (dialler.process == nullptr) return;
    dialler.process->Post([connection] {
      End& end = connection->ends[0];
      if (end.handler != nullptr && !end.told_end) end.handler->OnConnected();
    });
    Flush(connection, 0);
  });
}

void Network::TellAcceptor(const std::shared_ptr<Connection>& connection,
                           const Listening& listening) {
  connection->ends[1].process = listening.process;
  connection->established = true;
  listening.process->Post([this, connection, listener = std::weak_ptr(listening.on_accept)] {
    if (connection->ends[1].closed) return;
    const auto on_accept = listener.lock();
    if (!on_accept) return Reset(connection, 0, Duration(0));
    (*on_accept)(std::make_unique<SimStream>(*this, connection, 1));
    ReadSoon(connection, 1);
  });
}

void Network::DialInVain(const io::Address& address) {
  const auto listening = listening_.find(address);
  if (listening == listening_.end()) return;
  auto connection = std::make_shared<Connection>();
  connection->number = ++last_connection_;
  connection->address = address;
  connection->ends[0].closed = true;
  connection->ends[1].machine = MachineOf(address);
  connection->ends[1].name = address;
  connections_.push_back(connection);
  TellAcceptor(connection, listening->second);
  Reset(connection, 1, scheduler_.random().Between(Duration(0), options_.connect_timeout));
}

void Network::Flush(const std::shared_ptr<Connection>& connection, int side) {
  End& end = connection->ends[side];
  End& other = connection->ends[1 - side];
  if (!connection->established || connection->broken) return;
  const size_t room = options_.window > end.on_way ? options_.window - end.on_way : 0;
  const size_t size = std::min(room, end.out.size());
  const bool last = end.closing && size == end.out.size() && !end.closed;
  if (size == 0 && !last) return;
  std::string bytes = end.out.substr(0, size);
  end.out.erase(0, size);
  end.on_way += size;
  if (last) end.closed = true;
  const auto is = [](const End& one, const std::string& name) {
    return one.process != nullptr && one.process->name() == name;
  };
  if (to_stall_ && is(end, to_stall_->from) && is(other, to_stall_->to) &&
      bytes.find(to_stall_->text) != std::string::npos) {
    stalled_ = connection;
    stalled_side_ = side;
    to_stall_.reset();
  }
  end.last_arrival = std::max(end.last_arrival + Duration(1),
                              scheduler_.now() + Delay(end.machine, other.machine));
  scheduler_.At(end.last_arrival, [this, connection, side, last, bytes = std::move(bytes)] {
    Arrive(connection, 1 - side, bytes, last);
  });
  NotifyDrained(connection, side);
}

void Network::NotifyDrained(const std::shared_ptr<Connection>& connection, int side) {
  End& end = connection->ends[side];
  if (!end.drain_mark || end.out.size() > *end.drain_mark || end.process == nullptr) return;
  end.drain_mark.reset();
  end.process->Post([connection, side] {
    End& drained = connection->ends[side];
    if (drained.handler != nullptr && !drained.told_end) drained.handler->OnDrained();
  });
}

void Network::Arrive(const std::shared_ptr<Connection>& connection, int side, std::string bytes,
                     bool last) {
  if (connection->broken) return;
  End& end = connection->ends[side];
  End& sender = connection->ends[1 - side];
  if (scheduler_.now() < connection->held_until) {
    scheduler_.At(connection->held_until, [this, connection, side, bytes = std::move(bytes), last] {
      Arrive(connection, side, bytes, last);
    });
    return;
  }
  if (connection == stalled_ || Blocked(sender.machine, end.machine)) {
    held_.push_back([this, connection, side, bytes = std::move(bytes), last] {
      Arrive(connection, side, bytes, last);
    });
    return;
  }
  if (end.closed) {
    // Bytes for nobody: the kernel answers with a reset.
    if (!bytes.empty()) Reset(connection, 1 - side, Delay(end.machine, sender.machine));
    return;
  }
  end.in += bytes;
  end.in_ended = end.in_ended || last;
  ReadSoon(connection, side);
}

void Network::ReadSoon(const std::shared_ptr<Connection>& connection, int side) {
  End& end = connection->ends[side];
  if (end.process == nullptr || end.handler == nullptr || end.paused) return;
  if (end.in.empty() && !end.in_ended) return;
  end.process->Post([this, connection, side] { Read(connection, side); });
}

void Network::Read(const std::shared_ptr<Connection>& connection, int side) {
  End& end = connection->ends[side];
  if (end.handler == nullptr || end.paused || end.told_end) return;
  if (!end.in.empty()) {
    size_t size = end.in.size();
    if (size > 1 && scheduler_.random().Chance(options_.short_reads))
      size = static_cast<size_t>(scheduler_.random().Between(1, static_cast<int64_t>(size)));
    const std::string bytes = end.in.substr(0, size);
    end.in.erase(0, size);
    End& sender = connection->ends[1 - side];
    sender.on_way -= std::min(sender.on_way, size);
    if (!sender.out.empty() || (sender.closing && !sender.closed)) {
      scheduler_.After(Delay(end.machine, sender.machine),
                       [this, connection, side] { Flush(connection, 1 - side); });
    }
    end.handler->OnRead(bytes);
    return ReadSoon(connection, side);
  }
  if (!end.in_ended) return;
  end.told_end = true;
  end.handler->OnClosed("closed by peer");
}

void Network::Close(const std::shared_ptr<Connection>& connection, int side) {
  End& end = connection->ends[side];
  end.closing = true;
  if (!connection->established) {
    end.closed = true;
    return;
  }
  if (end.process != nullptr) end.process->MarkDirty(connection, side);
}

// This end learns that the connection is gone, and reads no more of it.
void Network::Reset(const std::shared_ptr<Connection>& connection, int side, Duration after) {
  scheduler_.After(after, [connection, side] {
    End& end = connection->ends[side];
    if (end.closed) return;
    end.closed = true;
    end.out.clear();
    if (end.process == nullptr || end.handler == nullptr) return;
    end.process->Post([connection, side] {
      End& reset = connection->ends[side];
      if (reset.handler == nullptr || reset.told_end) return;
      reset.told_end = true;
      reset.in.clear();
      reset.handler->OnClosed("connection reset by peer");
    });
  });
}

void Network::Dropped(Process& process, bool silent) {
  std::erase_if(listening_, [&](const auto& item) { return item.second.process == &process; });
  for (const auto& weak : connections_) {
    const auto connection = weak.lock();
    if (!connection) continue;
    for (int side : {0, 1}) {
      End& end = connection->ends[side];
      if (end.process != &process) continue;
      End& other = connection->ends[1 - side];
      end.process = nullptr;
      end.handler = nullptr;
      end.out.clear();
      if (silent) {
        connection->broken = true;
        end.closed = true;
        Reset(connection, 1 - side, options_.keepalive);
      } else if (!connection->established) {
        end.closed = end.closing = true;
      } else if (!end.closed) {
        end.closing = true;
        Flush(connection, side);
        if (!end.in.empty()) Reset(connection, 1 - side, Delay(end.machine, other.machine));
      }
    }
  }
}

void Network::HealAll() {
  blocked_.clear();
  EndStall();
}

void Network::EndStall() {
  to_stall_.reset();
  stalled_.reset();
  // What a partition still holds back goes behind again.
  auto held = std::move(held_);
  held_.clear();
  for (auto& arrive : held) arrive();
}

void Network::BreakSome() {
  std::vector<std::shared_ptr<Connection>> standing;
  std::erase_if(connections_, [](const auto& weak) { return weak.expired(); });
  for (const auto& weak : connections_) {
    const auto connection = weak.lock();
    const bool local = connection->ends[0].machine == connection->ends[1].machine;
    if (!connection->established || connection->broken) continue;
    // Within a machine little breaks by itself.
    if (local && !scheduler_.random().Chance(200)) continue;
    if (!connection->ends[0].closed && !connection->ends[1].closed) standing.push_back(connection);
  }
  if (standing.empty()) return;
  Random& random = scheduler_.random();
  const auto connection = random.Of(standing);
  if (scheduler_.tracing())
    scheduler_.Trace("break " + connection->ends[0].name + " > " + connection->ends[1].name);
  // Half of the time what is on the way still arrives, late, at the end that learns last.
  connection->broken = random.Chance(500);
  const int first = static_cast<int>(random.Below(2));
  const Duration late = random.Between(Duration(0), kBreakKnown);
  connection->held_until = scheduler_.now() + random.Between(Duration(0), late);
  Reset(connection, first, Duration(0));
  Reset(connection, 1 - first, late);
}

size_t Network::connections() const {
  size_t count = 0;
  for (const auto& weak : connections_) {
    const auto connection = weak.lock();
    if (connection && !connection->ends[0].closed && !connection->ends[1].closed) ++count;
  }
  return count;
}

}  // namespace catena::sim
