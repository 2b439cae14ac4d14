#include "tests/scenario/node_world.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "proxy/base/log.h"
#include "proxy/resp/encoder.h"
#include "tests/unit/recorded.h"

namespace catena::scenario {
namespace {

constexpr Duration kStep = std::chrono::milliseconds(10);

std::string Clients(const NodeId& id) { return id + ":clients"; }
std::string Peers(const NodeId& id) { return id + ":peers"; }

std::string Encoded(const std::vector<std::string>& arguments) {
  std::string out;
  std::vector<std::string_view> views(arguments.begin(), arguments.end());
  resp::AppendCommand(out, views);
  return out;
}

std::vector<std::string> Decoded(std::string_view bytes, size_t& consumed) {
  resp::CommandDecoder decoder;
  resp::Command command;
  if (decoder.Decode(bytes, command, consumed) != resp::Progress::kComplete) return {};
  return {command.arguments.begin(), command.arguments.end()};
}

class FakeStream final : public io::Stream {
 public:
  FakeStream(std::shared_ptr<Connection> connection, bool dialler)
      : connection_(std::move(connection)),
        in_(dialler ? connection_->up : connection_->down),
        out_(dialler ? connection_->down : connection_->up),
        name_(dialler ? connection_->address : connection_->dialler) {}
  ~FakeStream() override {
    in_.reader = nullptr;
    out_.ended = true;
  }
  void SetHandler(io::StreamHandler* handler) override { in_.reader = handler; }
  void Write(std::string_view bytes) override {
    if (!out_.ended) out_.bytes += bytes;
  }
  void WriteShared(std::shared_ptr<const std::string>, std::string_view bytes) override {
    Write(bytes);
  }
  size_t UnsentBytes() const override { return out_.held ? out_.bytes.size() : 0; }
  void NotifyBelow(size_t) override {}
  void PauseReading() override { in_.paused = true; }
  void ResumeReading() override { in_.paused = false; }
  void CloseAfterFlush() override {
    out_.ended = true;
    in_.reader = nullptr;
  }
  const std::string& PeerName() const override { return name_; }
  const std::string& LocalName() const override { return name_; }

 private:
  std::shared_ptr<Connection> connection_;
  Pipe& in_;
  Pipe& out_;
  std::string name_;
};

}  // namespace

// One node's view of the world.
class NodeReactor final : public io::Reactor {
 public:
  NodeReactor(NodeWorld& world, NodeId id) : world_(world), id_(std::move(id)) {}

  TimePoint Now() override { return world_.now(); }
  int64_t WallMilliseconds() override {
    return world_.now().time_since_epoch() / std::chrono::milliseconds(1);
  }
  std::string RandomBytes(size_t count) override {
    std::string bytes;
    while (bytes.size() < count) bytes += static_cast<char>(++random_ * 37 + id_.back());
    return bytes;
  }
  std::unique_ptr<io::Stream> Connect(const io::Address& address,
                                      io::StreamHandler* handler) override {
    return std::make_unique<FakeStream>(world_.Connect(id_, address, handler), true);
  }
  Result<std::unique_ptr<io::Listener>> Listen(
      const io::Address& address,
      std::function<void(std::unique_ptr<io::Stream>)> on_accept) override {
    world_.listening()[address] = {id_, std::move(on_accept)};
    return std::make_unique<FakeListener>(world_, address);
  }
  std::unique_ptr<io::Timer> MakeTimer(std::function<void()> on_fire) override {
    return std::make_unique<FakeTimer>(*this, std::move(on_fire));
  }
  void AddTurnEndHook(std::function<void()> hook) override { hooks_.push_back(std::move(hook)); }
  void Defer(std::function<void()> fn) override { world_.Post(id_, std::move(fn)); }
  void RunOnWorker(std::function<void()> work, std::function<void()> done) override {
    work();
    world_.Post(id_, std::move(done));
  }
  size_t OpenStreams() const override { return world_.open_streams[id_]; }
  void Run() override {}
  void Stop() override {}

  void EndTurn() {
    for (const auto& hook : hooks_) hook();
  }
  // A timer that is due; nullptr: none.
  std::function<void()>* Due() {
    for (FakeTimer* timer : timers_) {
      if (timer->due && *timer->due <= world_.now()) {
        timer->due.reset();
        return &timer->on_fire;
      }
    }
    return nullptr;
  }

 private:
  class FakeListener final : public io::Listener {
   public:
    FakeListener(NodeWorld& world, io::Address address)
        : world_(world), address_(std::move(address)) {}
    ~FakeListener() override { world_.listening().erase(address_); }
    const std::string& BoundAddress() const override { return address_; }

   private:
    NodeWorld& world_;
    io::Address address_;
  };
  class FakeTimer final : public io::Timer {
   public:
    FakeTimer(NodeReactor& reactor, std::function<void()> fire)
        : on_fire(std::move(fire)), reactor_(reactor) {
      reactor_.timers_.push_back(this);
    }
    ~FakeTimer() override { reactor_.timers_.remove(this); }
    void Start(Duration after) override { due = reactor_.world_.now() + after; }
    void Stop() override { due.reset(); }
    std::function<void()> on_fire;
    std::optional<TimePoint> due;

   private:
    NodeReactor& reactor_;
  };

  NodeWorld& world_;
  NodeId id_;
  unsigned random_ = 0;
  std::vector<std::function<void()>> hooks_;
  std::list<FakeTimer*> timers_;
};

// --- the database --------------------------------------------------------------------------------

namespace {

// What Redis says, and a command of a module that names one key and looks at all.
resp::Value Commands() {
  resp::Value commands = test::CommandReply();
  commands.elements.push_back(test::DecodeAll(
      "*6\r\n$10\r\nindex.size\r\n:2\r\n*2\r\n+readonly\r\n+module\r\n:1\r\n:1\r\n:1\r\n"));
  return commands;
}

}  // namespace

class FakeDatabase::FakeLane final : public backend::Lane {
 public:
  FakeLane(FakeDatabase& database, const backend::LaneOptions& options,
           backend::LaneHandler* lane_handler)
      : handler(lane_handler),
        protocol(options.protocol),
        selected(options.database),
        database_(database) {
    database_.lanes_.push_back(this);
  }
  ~FakeLane() override {
    database_.abandoned_ = database_.abandoned_ || !queue.empty();
    database_.lanes_.remove(this);
  }
  void Submit(std::string_view command) override { queue.emplace_back(command); }
  void SubmitPosition() override { queue.emplace_back(""); }
  size_t UnsentBytes() const override { return 0; }
  void PauseReading() override {}
  void ResumeReading() override {}

  backend::LaneHandler* handler;
  std::deque<std::string> queue;  // "": the position is asked for
  bool held = false;
  bool tracked = false;
  int protocol;
  int selected;
  std::optional<std::vector<std::string>> transaction;  // its commands

 private:
  FakeDatabase& database_;
};

void FakeDatabase::Start(backend::BackendEvents* events) {
  events_ = events;
  Release();
}

void FakeDatabase::Release() {
  source_ = nullptr;
  if (executes_) resume_replid_.clear();
  executes_ = false;
  uint64_t life = ++life_;
  world_.Post(id_, [this, life] {
    if (life != life_ || unreachable) return;
    backend::Info info;
    info.kind = "redis";
    info.run_id = "run of " + id_;
    info.version = "7.0.15";
    info.keys = values_.size();
    if (!resume_replid_.empty()) info.resume = backend::ResumePoint{resume_replid_, position()};
    info.from_chain = from_chain_;
    static const resp::Value commands = Commands();
    info.commands = commands;
    events_->OnExamined(info);
  });
}

void FakeDatabase::AttachCapture() {
  world_.Post(id_, [this, life = life_] {
    if (life != life_) return;
    executes_ = from_chain_ = true;
    captured_ = stream_.size();
    events_->OnAttached(position());
  });
}

void FakeDatabase::Promote(const std::string&, Position at) {
  source_ = nullptr;
  world_.Post(id_, [this, at, life = life_] {
    if (life != life_) return;
    if (position() != at) return events_->OnCaptureLost("promoted elsewhere");
    executes_ = true;
    captured_ = stream_.size();
    events_->OnAttached(at);
  });
}

void FakeDatabase::SetCommitted(Position committed) {
  committed_ = committed;
  if (!hold_applying_) HoldApplying(false);
}

void FakeDatabase::HoldApplying(bool hold) {
  hold_applying_ = hold;
  if (hold) return;
  if (!executes_) return FeedAvailable(Position());
  world_.Post(id_, [this, life = life_] {
    if (life == life_) events_->OnApplied(committed_);
  });
}

Result<void> FakeDatabase::CheckEntry(std::string_view entry, Position start) const {
  if (damage.empty() || entry.find(damage) == std::string_view::npos) return {};
  return Fail("damaged at " + std::to_string(start.value()));
}

void FakeDatabase::Follow(const std::string& chain_replid, Position, backend::FeedSource* source) {
  resume_replid_ = chain_replid;
  from_chain_ = true;
  source_ = source;
}

void FakeDatabase::FeedAvailable(Position) {
  world_.Post(id_, [this, life = life_] {
    if (life == life_) FeedNow();
  });
}

void FakeDatabase::FeedNow() {
  if (source_ == nullptr || hold_applying_) return;
  std::string feed;
  while (true) {
    auto bytes = source_->CommittedBytes(position() + feed.size(), SIZE_MAX);
    if (!bytes) return events_->OnFeedGap("the log begins later");
    if (bytes->empty()) break;
    feed += *bytes;
  }
  Apply(feed);
  if (!feed.empty()) events_->OnApplied(position());
}

void FakeDatabase::BeginSnapshot(const std::string& chain_replid, Position, uint64_t length,
                                 backend::FeedSource* source) {
  snapshot_.clear();
  snapshot_replid_ = chain_replid;
  snapshot_length_ = length;
  source_ = source;
  if (length == 0) SnapshotChunk("");
}

bool FakeDatabase::SnapshotChunk(std::string_view bytes) {
  snapshot_ += bytes;
  if (snapshot_.size() < snapshot_length_) return true;
  load_ = [this, life = life_] {
    world_.Post(id_, [this, life] {
      if (life != life_) return;
      values_.clear();
      stream_.clear();
      Apply(snapshot_);
      resume_replid_ = snapshot_replid_;
      from_chain_ = true;
      load_ = nullptr;
      events_->OnSnapshotLoaded(position());
    });
  };
  if (!hold_loading_) load_();
  return true;
}

std::unique_ptr<backend::Lane> FakeDatabase::OpenLane(const backend::LaneOptions& options,
                                                      backend::LaneHandler* handler) {
  return std::make_unique<FakeLane>(*this, options, handler);
}

void FakeDatabase::AskPosition(std::function<void(std::optional<Position>)> done) {
  world_.Post(id_, [this, done = std::move(done)] { done(position()); });
}

void FakeDatabase::Interrupt(std::string_view,
                             std::function<void(std::optional<std::string_view>)> done) {
  interrupt_ = [this, done = std::move(done)] {
    const Losing lost = std::exchange(losing, Losing::kNothing);
    if (lost == Losing::kInterrupt) return done(std::nullopt);
    const bool unblocked = Unblock();
    if (unblocked && lost == Losing::kAnswer) return done(std::nullopt);
    done(unblocked ? ":1\r\n" : ":0\r\n");
  };
  if (!holds_interrupts_) HoldInterrupts(false);
}

bool FakeDatabase::Unblock() {
  for (FakeLane* lane : lanes_) {
    if (lane->queue.empty() || lane->queue.front().find("BLPOP") == std::string::npos) continue;
    lane->queue.pop_front();
    lane->held = false;
    lane->handler->OnReply("-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n");
    return true;
  }
  return false;
}

void FakeDatabase::HoldInterrupts(bool hold) {
  holds_interrupts_ = hold;
  if (!hold && interrupt_) world_.Post(id_, std::exchange(interrupt_, nullptr));
}

std::unique_ptr<backend::SnapshotReader> FakeDatabase::TakeSnapshot(
    backend::SnapshotSink* sink, const backend::SnapshotPart& held) {
  class Reader final : public backend::SnapshotReader {
   public:
    ~Reader() override { *alive = false; }
    void Pause() override {}
    void Resume() override {}
    std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  };
  auto reader = std::make_unique<Reader>();
  world_.Post(id_, [this, sink, held, alive = reader->alive] {
    if (!*alive || holds_snapshots) return;
    static constexpr std::string_view kName = "copy ";
    size_t length = stream_.size();
    if (keeps_snapshots && !held.name.empty()) length = std::stoul(held.name.substr(kName.size()));
    backend::SnapshotPart from{std::string(kName) + std::to_string(length), 0};
    if (held.name == from.name) from.bytes = held.bytes;
    sink->OnSnapshotStart(Position(length), length, from);
    world_.Post(id_, [this, sink, length, from, alive] {
      if (!*alive) return;
      const std::string_view rest = std::string_view(stream_).substr(0, length).substr(from.bytes);
      const std::string_view given = rest.substr(0, snapshot_bytes_max);
      snapshot_bytes_given += given.size();
      sink->OnSnapshotBytes(given);
      if (given.size() == rest.size()) sink->OnSnapshotEnd();
    });
  });
  return reader;
}

void FakeDatabase::HoldLanes() {
  for (FakeLane* lane : lanes_) lane->held = true;
}

void FakeDatabase::ReleaseLanes() {
  for (FakeLane* lane : lanes_) lane->held = false;
}

void FakeDatabase::BreakLanes() {
  HoldLanes();
  world_.Post(id_, [this] {
    for (FakeLane* lane : std::list(lanes_)) {
      if (std::count(lanes_.begin(), lanes_.end(), lane) > 0)
        lane->handler->OnLaneClosed("reset", false);
    }
  });
}

void FakeDatabase::BreakLane(const std::string& holding) {
  const auto holds = [&](FakeLane* lane) {
    return std::any_of(lane->queue.begin(), lane->queue.end(), [&](const std::string& command) {
      return command.find(holding) != std::string::npos;
    });
  };
  const auto lane = std::find_if(lanes_.begin(), lanes_.end(), holds);
  if (lane == lanes_.end()) return;
  world_.Post(id_, [handler = (*lane)->handler] { handler->OnLaneClosed("reset", false); });
}

void FakeDatabase::LoseCapture() {
  world_.Post(id_, [this] { events_->OnCaptureLost("lost"); });
}

void FakeDatabase::Invalidate(const std::string& key) {
  world_.Post(id_, [this, push = ">2\r\n$10\r\ninvalidate\r\n" + Encoded({key})] {
    for (FakeLane* lane : std::list(lanes_)) {
      if (lane->tracked) lane->handler->OnPush(push);
    }
  });
}

bool FakeDatabase::Work() {
  for (FakeLane* lane : lanes_) {
    if (blocks && !lane->queue.empty() && lane->queue.front().find("BLPOP") != std::string::npos)
      lane->held = true;
    if (!stands_before.empty() && !lane->queue.empty() &&
        lane->queue.front().find(stands_before) != std::string::npos)
      lane->held = true;
    if (lane->held || lane->queue.empty()) continue;
    std::string command = std::move(lane->queue.front());
    lane->queue.pop_front();
    if (command.empty()) {
      lane->handler->OnPosition(position());
    } else {
      size_t consumed = 0;
      const std::vector<std::string> arguments = Decoded(command, consumed);
      if (command.find("TRACKING") != std::string::npos) lane->tracked = true;
      const bool transacts = transactions && (lane->transaction || arguments[0] == "MULTI");
      std::string reply = transacts ? Transact(*lane, command, arguments[0]) : Execute(command);
      if (arguments[0] == "SELECT" && !transacts) {
        reply = std::exchange(select_error, std::string());
        if (reply.empty()) lane->selected = std::stoi(arguments[1]);
        if (reply.empty()) reply = "+OK\r\n";
      }
      last_database = lane->selected;
      if (arguments[0] == "HELLO") {
        lane->protocol = std::stoi(arguments[1]);
        reply = "+OK\r\n";
      }
      if (arguments[0] == "PSUBSCRIBE") {
        reply = lane->protocol == 3 ? ">" : "*";
        reply += "3\r\n$10\r\npsubscribe\r\n" + Encoded({arguments[1]}).substr(4) + ":1\r\n";
      }
      lane->handler->OnReply(reply);
    }
    return true;
  }
  if (!executes_ || captured_ == stream_.size()) return false;
  std::string effects = stream_.substr(captured_);
  captured_ = stream_.size();
  events_->OnEffects(effects);
  return true;
}

std::string FakeDatabase::Transact(FakeLane& lane, const std::string& command,
                                   const std::string& name) {
  if (name == "MULTI") {
    lane.transaction.emplace();
    return "+OK\r\n";
  }
  if (name != "EXEC" && name != "DISCARD") {
    lane.transaction->push_back(command);
    return "+QUEUED\r\n";
  }
  const std::vector<std::string> commands = *std::exchange(lane.transaction, std::nullopt);
  if (name == "DISCARD") return "+OK\r\n";
  std::string replies = "*" + std::to_string(commands.size()) + "\r\n";
  for (const std::string& each : commands) {
    size_t consumed = 0;
    const std::vector<std::string> arguments = Decoded(each, consumed);
    if (arguments[0] == "SELECT") lane.selected = std::stoi(arguments[1]);
    replies += Execute(each);
  }
  return replies;
}

std::string FakeDatabase::Execute(const std::string& command) {
  size_t consumed = 0;
  std::vector<std::string> arguments = Decoded(command, consumed);
  const std::string& name = arguments[0];
  const size_t wanted = name == "GET" ? 2 : name == "SET" || name == "SETNX" ? 3 : 1;
  if (arguments.size() < wanted) return "-ERR wrong number of arguments\r\n";
  if (name == "EVALSHA_RO" && !executes_) return "-NOSCRIPT No matching script.\r\n";
  if (name == "GET" || name == "EVAL_RO" || name == "EVALSHA_RO") {
    ++gets;
    auto found = values_.find(arguments.back());
    if (found == values_.end()) return "$-1\r\n";
    return "$" + std::to_string(found->second.size()) + "\r\n" + found->second + "\r\n";
  }
  if (name == "DBSIZE" || name == "INDEX.SIZE" || name == "LATER.SIZE")
    return ":" + std::to_string(values_.size()) + "\r\n";
  if (name == "SET" || name == "SETNX") {
    if (!executes_) return "-READONLY You can't write against a read only replica.\r\n";
    bool sets = name == "SET" || !values_.contains(arguments[1]);
    if (sets) Apply(Encoded({"SET", arguments[1], arguments[2]}));
    return name == "SET" ? "+OK\r\n" : sets ? ":1\r\n" : ":0\r\n";
  }
  if (name == "EVAL" && arguments.size() == 5) {
    Apply(Encoded({"SET", arguments[3], arguments[4]}));
    return "+OK\r\n";
  }
  if (name == "SELECT") return "+OK\r\n";
  if (name == "SCAN") return "$1\r\n" + id_ + "\r\n";
  if (name == "BLPOP") {
    ++taken;
    return "$" + std::to_string(id_.size()) + "\r\n" + id_ + "\r\n";
  }
  if (name == "CLIENT" && arguments[1] == "UNBLOCK") return Unblock() ? ":1\r\n" : ":0\r\n";
  if (name == "CLIENT" && arguments[1] == "ID") return ":7\r\n";
  if (name == "CLIENT" && arguments[1] == "TRACKING") return "+OK\r\n";
  return "-ERR not in this story\r\n";
}

void FakeDatabase::Apply(std::string_view stream) {
  stream_ += stream;
  while (!stream.empty()) {
    size_t consumed = 0;
    std::vector<std::string> arguments = Decoded(stream, consumed);
    REQUIRE(arguments.size() == 3);
    values_[arguments[1]] = arguments[2];
    stream.remove_prefix(consumed);
  }
}

// --- the coordinator -----------------------------------------------------------------------------

class NodeWorld::CoordinatorConnection final : public io::StreamHandler {
 public:
  CoordinatorConnection(NodeWorld& world, std::unique_ptr<io::Stream> stream)
      : world_(world),
        acceptor_(world.credentials_, "0123456789abcdef"),
        stream_(std::move(stream)) {
    stream_->SetHandler(this);
  }
  void OnRead(std::string_view bytes) override {
    input_ += bytes;
    if (!proved_) {
      std::string out;
      Result<bool> proved = acceptor_.Feed(input_, out);
      REQUIRE(proved.has_value());
      stream_->Write(out);
      proved_ = *proved;
    }
    while (proved_ && !input_.empty()) {
      size_t consumed = 0;
      std::vector<std::string> arguments = Decoded(input_, consumed);
      if (arguments.empty()) return;
      input_.erase(0, consumed);
      REQUIRE(arguments.size() == 2);
      auto report = coordinator::DecodeReport(arguments[1]);
      REQUIRE(report.has_value());
      world_.AnswerHeartbeat(*this, *report);
    }
  }
  void OnClosed(std::string_view) override { stream_.reset(); }
  void Send(const std::vector<std::string>& arguments) {
    if (stream_) stream_->Write(Encoded(arguments));
  }

 private:
  NodeWorld& world_;
  auth::Acceptor acceptor_;
  bool proved_ = false;
  std::string input_;
  std::unique_ptr<io::Stream> stream_;
};

void NodeWorld::AnswerHeartbeat(CoordinatorConnection& connection,
                                const coordinator::NodeReport& report) {
  if (silent_to_.contains(report.node)) return;
  reports_[report.node] = report;
  coordinator::HeartbeatAnswer answer;
  answer.number = report.number;
  const chain::Configuration& told = hear_.contains(report.node) ? configuration_ : older_;
  if (told.epoch > Epoch()) answer.configuration = told;
  if (told.IndexOf(report.node, report.incarnation)) answer.lease = std::chrono::seconds(1);
  if (told.epoch > Epoch() && told.members.back().id == report.node) answer.join = join_;
  if (report.node == leaves_) answer.drain = "an operator drains it";
  connection.Send({"HEARTBEAT", coordinator::EncodeAnswer(answer)});
}

void NodeWorld::Configure(const std::vector<NodeId>& members, const std::set<NodeId>& hear) {
  older_ = configuration_;
  hear_ = hear;
  configuration_.chain = "story";
  configuration_.epoch = configuration_.epoch.Next();
  configuration_.members.clear();
  for (const NodeId& id : members) {
    configuration_.members.push_back(
        {id, replica(id).incarnation(), Clients(id), Peers(id), "run of " + id});
  }
}

// --- the world -----------------------------------------------------------------------------------

NodeWorld::NodeWorld(std::vector<NodeId> ids, std::function<void(server::Options&)> tune)
    : ids_(std::move(ids)),
      coordinator_reactor_(std::make_unique<NodeReactor>(*this, kCoordinator)) {
  log::SetLevel(log::Level::kOff);
  coordinator_listener_ = std::move(
      *coordinator_reactor_->Listen(kCoordinator, [this](std::unique_ptr<io::Stream> stream) {
        coordinator_connections_.push_back(
            std::make_unique<CoordinatorConnection>(*this, std::move(stream)));
      }));
  for (const NodeId& id : ids_) {
    Running& running = nodes_[id];
    running.reactor = std::make_unique<NodeReactor>(*this, id);
    server::Options options;
    options.chain = "story";
    options.node = id;
    options.clients_address = Clients(id);
    options.peers_address = Peers(id);
    options.credentials = credentials_;
    options.coordinators = {kCoordinator};
    if (tune) tune(options);
    auto make_database = [this, &running, id](Incarnation) {
      auto database = std::make_unique<FakeDatabase>(*this, id);
      running.database = database.get();
      return database;
    };
    running.node = std::make_unique<server::Node>(*running.reactor, options, make_database,
                                                  [this, id] { stopped.insert(id); });
    RunTurn(id, [&] { REQUIRE(running.node->Start().has_value()); });
  }
}

NodeWorld::~NodeWorld() {
  events_.clear();
  for (auto& [id, running] : nodes_) running.node.reset();
}

void NodeWorld::Post(const NodeId& id, std::function<void()> event) {
  events_.push_back({id, std::move(event)});
}

void NodeWorld::RunTurn(const NodeId& id, const std::function<void()>& event) {
  event();
  if (auto running = nodes_.find(id); running != nodes_.end()) running->second.reactor->EndTurn();
}

std::shared_ptr<Connection> NodeWorld::Connect(const NodeId& dialler, const io::Address& address,
                                               io::StreamHandler* handler) {
  auto connection = std::make_shared<Connection>();
  connection->dialler = dialler;
  connection->address = address;
  connection->up.reader = handler;
  if (isolated_.contains(dialler)) connection->up.held = connection->down.held = true;
  connections_.push_back(connection);
  return connection;
}

Connection* NodeWorld::NewestLink(const NodeId& dialler, const NodeId& acceptor) {
  Connection* newest = nullptr;
  for (const auto& connection : connections_) {
    bool open = connection->up.reader != nullptr && connection->down.reader != nullptr &&
                !connection->down.ended && !connection->up.ended;
    if (connection->dialler == dialler && connection->address == Peers(acceptor) && open)
      newest = connection.get();
  }
  return newest;
}

void NodeWorld::ReadInOneTurn(const NodeId& id, const std::vector<Connection*>& connections) {
  RunTurn(id, [&] {
    for (Connection* connection : connections) {
      const std::string bytes = std::exchange(connection->down.bytes, {});
      connection->down.reader->OnRead(bytes);
    }
  });
}

void NodeWorld::BreakAtDialler(Connection& connection) {
  io::StreamHandler* reader = std::exchange(connection.up.reader, nullptr);
  REQUIRE(reader != nullptr);
  RunTurn(connection.dialler, [&] { reader->OnClosed("connection reset"); });
}

bool NodeWorld::DeliverPipe(const NodeId& to, Pipe& pipe) {
  if (pipe.held || pipe.paused || pipe.reader == nullptr) return false;
  if (!pipe.bytes.empty()) {
    std::string bytes = std::exchange(pipe.bytes, {});
    RunTurn(to, [&] { pipe.reader->OnRead(bytes); });
    return true;
  }
  if (!pipe.ended) return false;
  io::StreamHandler* reader = std::exchange(pipe.reader, nullptr);
  RunTurn(to, [&] { reader->OnClosed("closed by peer"); });
  return true;
}

bool NodeWorld::IsCut(const Connection& connection) const {
  const NodeId to = connection.address.substr(0, connection.address.find(':'));
  return cut_.contains(std::minmax(connection.dialler, to));
}

bool NodeWorld::DeliverSomething() {
  // The newest first: what is late on an old connection is really late.
  std::vector<std::shared_ptr<Connection>> all(connections_.rbegin(), connections_.rend());
  for (const auto& connection : all) {
    if (IsCut(*connection)) continue;
    if (connection->acceptor.empty() && !connection->down.held &&
        connection->up.reader != nullptr) {
      auto listening = listening_.find(connection->address);
      if (listening == listening_.end()) {
        connection->up.ended = true;
      } else {
        connection->acceptor = listening->second.owner;
        auto on_accept = listening->second.on_accept;
        RunTurn(connection->acceptor,
                [&] { on_accept(std::make_unique<FakeStream>(connection, false)); });
        if (connection->up.reader != nullptr)
          RunTurn(connection->dialler, [&] { connection->up.reader->OnConnected(); });
        return true;
      }
    }
    if (DeliverPipe(connection->acceptor, connection->down) ||
        DeliverPipe(connection->dialler, connection->up))
      return true;
  }
  std::erase_if(connections_, [](const auto& c) { return c.use_count() == 1; });
  return false;
}

void NodeWorld::Settle() {
  for (int steps = 0;; ++steps) {
    REQUIRE(steps < 100'000);
    if (!events_.empty()) {
      Event event = std::move(events_.front());
      events_.pop_front();
      RunTurn(event.id, event.run);
      continue;
    }
    bool progress = DeliverSomething();
    for (auto& [id, running] : nodes_) {
      RunTurn(id, [&, &running = running] { progress = running.database->Work() || progress; });
    }
    if (!progress && events_.empty()) return;
  }
}

bool NodeWorld::FireTimers() {
  for (auto& [id, running] : nodes_) {
    if (std::function<void()>* fire = running.reactor->Due()) {
      RunTurn(id, *fire);
      return true;
    }
  }
  return false;
}

void NodeWorld::Advance(Duration duration) {
  for (TimePoint until = now_ + duration; now_ < until;) {
    now_ += kStep;
    while (FireTimers()) continue;
    Settle();
  }
}

void NodeWorld::WaitUntil(const std::function<bool()>& condition, const char* what) {
  Settle();
  for (int i = 0; !condition(); ++i) {
    REQUIRE_MESSAGE(i < 1000, what);
    Advance(kStep);
  }
}

void NodeWorld::FormFirst() {
  std::set<NodeId> all(ids_.begin(), ids_.end());
  WaitUntil([&] { return reports_.size() == ids_.size() && reports_[ids_[0]].backend.healthy; },
            "everybody reports");
  Configure({ids_[0]}, all);
  WaitUntil([&] { return replica(ids_[0]).head_ready(); }, "the first is ready");
}

void NodeWorld::StartJoin(const NodeId& joiner) {
  join_ = coordinator::JoinOrder{joiner, replica(joiner).incarnation(), Peers(joiner)};
}

void NodeWorld::Form(const std::vector<NodeId>& listed) {
  FormFirst();
  std::vector<NodeId> members = {ids_[0]};
  std::set<NodeId> all(ids_.begin(), ids_.end());
  for (size_t i = 1; i < listed.size(); ++i) {
    StartJoin(listed[i]);
    WaitUntil([&] { return reports_[members.back()].joiner_ready.has_value(); },
              "the joiner is ready");
    members.push_back(listed[i]);
    join_.reset();
    Configure(members, all);
    WaitUntil(
        [&] {
          return replica(listed[i]).serves() &&
                 replica(members.front()).epoch() == configuration_.epoch;
        },
        "it is synced");
  }
  WaitUntil(
      [&] {
        return std::all_of(listed.begin(), listed.end(), [&](const NodeId& id) {
          const chain::Replica& replica = this->replica(id);
          return replica.HasAuthority(now_) && replica.epoch() == configuration_.epoch &&
                 (replica.is_tail() || replica.successor_linked());
        });
      },
      "everybody is linked and has a lease");
}

Client::Client(NodeWorld& world, const NodeId& node, Port port)
    : connection_(
          world.Connect("client", port == Port::kClients ? Clients(node) : Peers(node), this)),
      stream_(std::make_unique<FakeStream>(connection_, true)) {}

Client::~Client() = default;

void Client::Send(const std::vector<std::string>& arguments) { Write(Encoded(arguments)); }

void Client::Write(std::string_view bytes) { stream_->Write(bytes); }

}  // namespace catena::scenario
