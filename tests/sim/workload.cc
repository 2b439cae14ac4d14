#include "tests/sim/workload.h"

#include <algorithm>

#include "proxy/base/check.h"

namespace catena::sim {
namespace {

// Longer than a node may take: its write timeout is 5 s.
constexpr Duration kPatience = Seconds(9);
constexpr uint64_t kWatching = 300;                   // per mille of the transactions
constexpr std::string_view kNotExecuted = "*-1\r\n";  // EXEC: a watched key was changed
constexpr const char* kModes[] = {"linearizable", "sequential", "eventual", "tail"};

bool IsError(std::string_view reply, std::string_view code) {
  return reply.substr(0, 1) == "-" && reply.substr(1, code.size()) == code;
}

}  // namespace

class Workload::Client final : public io::StreamHandler {
 public:
  Client(Workload& owner, size_t number)
      : owner_(owner),
        process_(owner.cluster_.network(), "client " + std::to_string(number),
                 "c" + std::to_string(number)) {
    timer_ = process_.MakeTimer([this] { Next(); });
    patience_ = process_.MakeTimer([this] { Leave("no answer in time"); });
  }

  void Start() { timer_->Start(owner_.random_.Between(Duration(0), Millis(500))); }
  void Finish() {
    if (waiting_.empty()) Leave("finished");
  }
  bool idle() const { return !stream_ && waiting_.empty(); }
  bool OwesFrom(TimePoint then) const {
    return !waiting_.empty() && owner_.history_[waiting_.front().operation].sent <= then;
  }
  std::string Owed() const {
    return waiting_.empty() ? "" : owner_.history_[waiting_.front().operation].Text();
  }

  void OnRead(std::string_view bytes) override {
    input_ += bytes;
    size_t used = 0;
    while (used < input_.size()) {
      size_t length = 0;
      const auto progress = scanner_.Scan(std::string_view(input_).substr(used), length);
      if (progress == resp::Progress::kError) return owner_.violation_ = scanner_.error(), void();
      if (progress == resp::Progress::kNeedMore) break;
      OnReply(input_.substr(used, length));
      used += length;
    }
    input_.erase(0, used);
    if (waiting_.empty() && stream_) Rest();
  }
  void OnClosed(std::string_view) override { Leave("closed"); }

 private:
  struct Waiting {
    size_t operation;
    size_t replies;  // still missing
    bool selects;    // the first is that of a SELECT
    // A transaction behind WATCH and GET of this key, which are answered first.
    std::string watched, seen;
    bool watches = false;
  };

  void Next();
  void Enter();
  void Leave(const std::string& why);
  void Rest();
  void Send();
  void OnReply(const std::string& reply);

  Workload& owner_;
  Process process_;
  std::unique_ptr<io::Stream> stream_;
  std::unique_ptr<io::Timer> timer_, patience_;
  resp::ReplyScanner scanner_;
  std::string input_;
  NodeId node_;
  size_t connection_ = 0;
  size_t mode_ = 0;
  int database_ = 0;
  int bursts_left_ = 0;
  bool mode_told_ = true;
  bool select_refused_ = false;  // what is behind it would be executed in another database
  std::deque<Waiting> waiting_;
};

void Workload::Client::Next() {
  if (owner_.finishing_) return Leave("finished");
  if (!stream_) Enter();
  Send();
}

void Workload::Client::Enter() {
  Random& random = owner_.random_;
  node_ = random.Of(owner_.cluster_.nodes());
  connection_ = ++owner_.last_connection_;
  bursts_left_ = static_cast<int>(random.Between(1, 25));
  input_.clear();
  scanner_ = resp::ReplyScanner();
  database_ = 0;
  select_refused_ = false;
  stream_ = process_.Connect(owner_.cluster_.ClientsAddress(node_), this);
  const auto& shares = owner_.cluster_.plan().consistency;
  uint64_t total = 1;
  for (uint64_t share : shares) total += share;
  uint64_t drawn = random.Below(total);
  for (mode_ = 0; mode_ < 3 && drawn >= shares[mode_]; ++mode_) drawn -= shares[mode_];
  mode_told_ = mode_ == 0;
  if (!mode_told_) stream_->Write(Encode({"CATENA", "CONSISTENCY", kModes[mode_]}));
}

void Workload::Client::Send() {
  const Plan& plan = owner_.cluster_.plan();
  Random& random = owner_.random_;
  size_t count = 1 + random.Below(plan.pipeline_max);
  for (; count > 0; --count) {
    Operation operation = owner_.MakeOperation(false);
    operation.connection = connection_;
    operation.node = node_;
    operation.sent = owner_.cluster_.scheduler().now();
    operation.consistency = static_cast<server::Consistency>(mode_);
    const bool transaction = operation.commands.size() > 1;
    const bool selects = plan.databases && random.Chance(200);
    if (selects) {
      database_ = static_cast<int>(random.Below(3));
      stream_->Write(Encode({"SELECT", std::to_string(database_)}));
    }
    std::string watched;
    if (transaction && mode_ == 0 && random.Chance(kWatching)) {
      watched = owner_.Key();
      stream_->Write(Encode({"WATCH", watched}) + Encode({"GET", watched}));
    }
    if (transaction) stream_->Write(Encode({"MULTI"}));
    for (const Arguments& command : operation.commands) stream_->Write(Encode(command));
    if (transaction) stream_->Write(Encode({"EXEC"}));
    for (Arguments& command : operation.commands)
      command = InDatabase(database_, std::move(command));
    if (!watched.empty()) watched = InDatabase(database_, {"GET", watched})[1];
    const size_t replies = (selects ? 1 : 0) + (watched.empty() ? 0 : 2) +
                           (transaction ? operation.commands.size() + 2 : 1);
    waiting_.push_back({owner_.history_.size(), replies, selects, watched, "", false});
    owner_.history_.push_back(std::move(operation));
  }
  patience_->Start(kPatience);
}

void Workload::Client::OnReply(const std::string& reply) {
  if (!mode_told_) {
    mode_told_ = true;
    return;
  }
  if (waiting_.empty()) {
    owner_.violation_ = "an answer that nobody asked for: " + reply;
    return;
  }
  if (select_refused_) {
    owner_.violation_ = "an answer behind a refused SELECT: " + reply;
    return;
  }
  Waiting& waiting = waiting_.front();
  if (std::exchange(waiting.selects, false)) select_refused_ = reply != "+OK\r\n";
  Operation& operation = owner_.history_[waiting.operation];
  const size_t left = --waiting.replies;
  if (!waiting.watched.empty() && left == operation.commands.size() + 3)
    waiting.watches = reply == "+OK\r\n";
  if (!waiting.watched.empty() && left == operation.commands.size() + 2) waiting.seen = reply;
  if (left > 0) return;
  owner_.Answered(operation, reply);
  // What was executed was so while the key still held what was read.
  if (waiting.watches && waiting.seen[0] == '$' && operation.outcome == Operation::Outcome::kDone) {
    operation.commands.insert(operation.commands.begin(), {"GET", waiting.watched});
    operation.replies.insert(operation.replies.begin(), waiting.seen);
  }
  waiting_.pop_front();
}

void Workload::Client::Rest() {
  patience_->Stop();
  if (owner_.finishing_ || --bursts_left_ <= 0) Leave("enough");
  timer_->Start(owner_.random_.Between(Duration(0), owner_.cluster_.plan().think_max));
}

void Workload::Client::Leave(const std::string& why) {
  patience_->Stop();
  stream_.reset();
  Scheduler& scheduler = owner_.cluster_.scheduler();
  for (const Waiting& waiting : waiting_) {
    if (scheduler.tracing())
      scheduler.Trace(why + ": " + owner_.history_[waiting.operation].Text());
  }
  waiting_.clear();  // their outcome stays unknown
  if (!owner_.finishing_)
    timer_->Start(owner_.random_.Between(Duration(0), owner_.cluster_.plan().think_max));
}

// --- by hand -------------------------------------------------------------------------------------

class Workload::Hand final : public io::StreamHandler {
 public:
  Hand(Workload& owner, const NodeId& node)
      : owner_(owner),
        node_(node),
        connection_(++owner.last_connection_),
        stream_(owner.prober_->Connect(owner.cluster_.ClientsAddress(node), this)) {}

  void Send(const Arguments& command) {
    Operation operation;
    operation.commands = {command};
    operation.connection = connection_;
    operation.node = node_;
    operation.sent = owner_.cluster_.scheduler().now();
    if (!stream_) return;
    waiting_.push_back(owner_.history_.size());
    owner_.history_.push_back(std::move(operation));
    stream_->Write(Encode(command));
  }
  bool idle() const { return waiting_.empty(); }

  void OnRead(std::string_view bytes) override {
    input_ += bytes;
    size_t length = 0;
    while (scanner_.Scan(input_, length) == resp::Progress::kComplete && !waiting_.empty()) {
      owner_.Answered(owner_.history_[waiting_.front()], input_.substr(0, length));
      waiting_.pop_front();
      input_.erase(0, length);
    }
  }
  void OnClosed(std::string_view) override {
    stream_.reset();
    waiting_.clear();  // their outcome stays unknown
  }

 private:
  Workload& owner_;
  const NodeId node_;
  const size_t connection_;
  std::unique_ptr<io::Stream> stream_;
  resp::ReplyScanner scanner_;
  std::string input_;
  std::deque<size_t> waiting_;
};

size_t Workload::Connect(const NodeId& node) {
  hands_.push_back(std::make_unique<Hand>(*this, node));
  return hands_.size() - 1;
}

void Workload::Send(size_t hand, const Arguments& command) { hands_[hand]->Send(command); }

bool Workload::AllAnswered(size_t hand) const { return hands_[hand]->idle(); }

// --- one command of a test -----------------------------------------------------------------------

class Workload::Question final : public io::StreamHandler {
 public:
  Question(Process& process, const io::Address& address, const Arguments& command,
           std::function<void(std::string)> done)
      : done_(std::move(done)), stream_(process.Connect(address, this)) {
    stream_->Write(Encode(command));
  }
  void OnRead(std::string_view bytes) override {
    input_ += bytes;
    size_t length = 0;
    if (scanner_.Scan(input_, length) == resp::Progress::kComplete) End(input_);
  }
  void OnClosed(std::string_view reason) override { End("-closed " + std::string(reason)); }

 private:
  void End(const std::string& reply) {
    stream_.reset();
    if (done_) std::exchange(done_, nullptr)(reply);
  }
  std::function<void(std::string)> done_;
  std::unique_ptr<io::Stream> stream_;
  resp::ReplyScanner scanner_;
  std::string input_;
};

// --- the workload --------------------------------------------------------------------------------

Workload::Workload(Cluster& cluster)
    : cluster_(cluster),
      random_(cluster.plan().seed * 31 + 7),
      prober_(std::make_unique<Process>(cluster.network(), "prober", "c0")) {
  for (size_t i = 0; i < cluster.plan().clients; ++i)
    clients_.push_back(std::make_unique<Client>(*this, i + 1));
}

Workload::~Workload() = default;

void Workload::Start() {
  for (const auto& client : clients_) client->Start();
}

void Workload::Finish() {
  finishing_ = true;
  hands_.clear();
  for (const auto& client : clients_) client->Finish();
}

bool Workload::idle() const {
  return std::all_of(clients_.begin(), clients_.end(),
                     [](const auto& client) { return client->idle(); });
}

bool Workload::OwesFrom(TimePoint then) const {
  return std::any_of(clients_.begin(), clients_.end(),
                     [then](const auto& client) { return client->OwesFrom(then); });
}

std::string Workload::Owed() const {
  for (const auto& client : clients_) {
    if (std::string owed = client->Owed(); !owed.empty()) return owed;
  }
  return "";
}

void Workload::Ask(const NodeId& node, const Arguments& command,
                   std::function<void(std::string)> done) {
  questions_.push_back(std::make_unique<Question>(*prober_, cluster_.ClientsAddress(node), command,
                                                  std::move(done)));
}

void Workload::Answered(Operation& operation, const std::string& reply) {
  Scheduler& scheduler = cluster_.scheduler();
  operation.answered = scheduler.now();
  operation.hint = where_();
  operation.replies = {reply};
  operation.commands.size() > 1 ? JudgeTransaction(operation) : Judge(operation);
  if (operation.outcome != Operation::Outcome::kDone && operation.sent >= success_from_ &&
      reply != kNotExecuted)
    violation_ = "a failure although all is well: " + operation.Text();
  if (scheduler.tracing()) scheduler.Trace("answered " + operation.Text());
  ++answered_;
}

void Workload::Judge(Operation& operation) {
  const std::string& reply = operation.replies[0];
  operation.outcome = Operation::Outcome::kDone;
  if (IsError(reply, "UNKNOWNOUTCOME")) operation.outcome = Operation::Outcome::kUnknown;
  const bool refused = IsError(reply, "CHAINDOWN") || IsError(reply, "LOADING") ||
                       IsError(reply, "MASTERDOWN") || IsError(reply, "STALE") ||
                       IsError(reply, "BUSY") || IsError(reply, "ERR max number of clients");
  if (refused) operation.outcome = Operation::Outcome::kRefused;
  if (reply[0] == '-' && operation.outcome == Operation::Outcome::kDone)
    violation_ = "an error that no command here deserves: " + operation.Text();
}

void Workload::JudgeTransaction(Operation& operation) {
  const std::string reply = operation.replies[0];
  operation.outcome = Operation::Outcome::kDone;
  if (reply == kNotExecuted) {
    operation.outcome = Operation::Outcome::kRefused;
    return;
  }
  if (reply[0] == '-') {
    const bool refused = IsError(reply, "EXECABORT") || IsError(reply, "CHAINDOWN") ||
                         IsError(reply, "BUSY") || IsError(reply, "ERR EXEC without MULTI") ||
                         IsError(reply, "ERR max number of clients");
    operation.outcome = refused ? Operation::Outcome::kRefused : Operation::Outcome::kUnknown;
    if (!refused && !IsError(reply, "UNKNOWNOUTCOME"))
      violation_ = "an error that no transaction here deserves: " + operation.Text();
    return;
  }
  operation.replies.clear();
  size_t at = reply.find("\r\n") + 2;
  resp::ReplyScanner scanner;
  while (at < reply.size()) {
    size_t length = 0;
    if (scanner.Scan(std::string_view(reply).substr(at), length) != resp::Progress::kComplete)
      break;
    operation.replies.push_back(reply.substr(at, length));
    at += length;
  }
  if (operation.replies.size() != operation.commands.size()) {
    operation.replies = {reply};
    operation.replies.resize(operation.commands.size());
    violation_ = "a transaction with a part missing: " + operation.Text();
  }
}

std::string Workload::Key() { return "k" + std::to_string(random_.Below(cluster_.plan().keys)); }

Arguments Workload::MakeRead() {
  const Plan& plan = cluster_.plan();
  if (random_.Chance(plan.whole_database)) return {"DBSIZE"};
  if (random_.Chance(plan.multi_key)) return {"MGET", Key(), Key()};
  if (random_.Chance(100)) return {"EXISTS", Key()};
  return {"GET", Key()};
}

// A value is written once in a run, so that an answer tells which write it shows; a DEL has a key of
// its own that is never there, an INCRBY a sum of its own, so that effects tell whose they are. Keys
// that INCRBY counts in hold nothing else.
Arguments Workload::MakeWrite() {
  const Plan& plan = cluster_.plan();
  const std::string value = NewValue();
  if (random_.Chance(plan.whole_database)) return {"FLUSHALL"};
  if (random_.Chance(plan.multi_key)) {
    if (random_.Chance(300)) return {"DEL", Key(), Key(), "t" + std::to_string(last_value_)};
    return {"MSET", Key(), value, Key(), value};
  }
  if (plan.lists && random_.Chance(150)) {
    if (random_.Chance(500)) return {"RPUSH", "l0", value};
    return {"BLPOP", "l0", "0." + std::to_string(random_.Between(1, 9))};
  }
  switch (random_.Below(8)) {
    case 0:
      return {"SETNX", Key(), value};
    case 1:
      return {"DEL", Key(), "t" + std::to_string(last_value_)};
    case 2:
      return {"GETSET", Key(), value};
    case 3:
      return {"INCRBY", "n0", std::to_string(last_value_)};
    case 4:
      return {"APPEND", Key(), value};
    default:
      return {"SET", Key(), value};
  }
}

Operation Workload::MakeOperation(bool reads_only) {
  const Plan& plan = cluster_.plan();
  Operation operation;
  const bool transaction = !reads_only && random_.Chance(plan.transactions);
  for (size_t left = transaction ? 2 + random_.Below(3) : 1; left > 0; --left) {
    const bool writes = !reads_only && random_.Chance(plan.writes);
    operation.commands.push_back(writes ? MakeWrite() : MakeRead());
  }
  return operation;
}

}  // namespace catena::sim
