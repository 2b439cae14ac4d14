#include "backends/redis/redis_control.h"

#include <algorithm>
#include <utility>

#include "proxy/base/log.h"
#include "proxy/base/mutant.h"
#include "proxy/base/text.h"
#include "proxy/resp/encoder.h"

namespace catena::redis {
namespace {

// While recovering, between attempts to connect.
constexpr Duration kRecoverInterval = std::chrono::milliseconds(20);
// Before ROLE is asked again of a Redis that is busy with a script.
constexpr Duration kBusyInterval = std::chrono::milliseconds(10);
// What a Redis streams of its own accord or instead of what clients said.
constexpr std::string_view kStreamedBySelf[] = {"select", "multi", "exec",      "del",     "unlink",
                                                "set",    "hdel",  "pexpireat", "persist", "srem",
                                                "lpop",   "rpop",  "xclaim",    "xgroup"};
// What it streams as clients said it although COMMAND does not say that it writes.
constexpr std::string_view kStreamedUnflagged[] = {"pfcount", "publish", "spublish"};
constexpr std::string_view kIgnoresMaxmemory = "*-ignore-maxmemory";

// Of ":<number>"; 0: it is none.
uint64_t NumberOf(std::string_view reply) {
  if (!reply.starts_with(':')) return 0;
  return ParseNumber<uint64_t>(reply.substr(1, reply.find("\r\n") - 1)).value_or(0);
}

// Of one entry of the reply to COMMAND.
bool Writes(const resp::Value& command) {
  if (command.elements.size() < 3) return false;
  const std::vector<resp::Value>& flags = command.elements[2].elements;
  return std::any_of(flags.begin(), flags.end(),
                     [](const resp::Value& flag) { return flag.text == "write"; });
}

// Since 7.0 one whose subcommands write (FUNCTION) need not have the flag itself.
bool SubcommandWrites(const resp::Value& command) {
  constexpr size_t kSubcommands = 9;
  if (command.elements.size() <= kSubcommands) return false;
  const std::vector<resp::Value>& subcommands = command.elements[kSubcommands].elements;
  return std::any_of(subcommands.begin(), subcommands.end(), Writes);
}

// Of the reply to COMMAND: what changes data or is streamed all the same, and kStreamedBySelf.
std::vector<std::string> StreamedCommands(const resp::Value& commands) {
  std::vector<std::string> names(std::begin(kStreamedBySelf), std::end(kStreamedBySelf));
  for (const resp::Value& command : commands.elements) {
    if (command.elements.empty()) continue;
    const std::string& name = command.elements[0].text;
    const bool unflagged = std::find(std::begin(kStreamedUnflagged), std::end(kStreamedUnflagged),
                                     name) != std::end(kStreamedUnflagged);
    if (unflagged || Writes(command) || SubcommandWrites(command)) names.push_back(name);
  }
  return names;
}

}  // namespace

RedisControl::RedisControl(io::Reactor& reactor, const RedisOptions& options, Owner* owner)
    : reactor_(reactor), options_(options), owner_(owner) {
  retry_timer_ = reactor_.MakeTimer([this] { OnRetry(); });
  grace_timer_ =
      reactor_.MakeTimer([this] { Lose("the control connection broke and did not come back"); });
  check_timer_ = reactor_.MakeTimer([this] { OnCheckTimer(); });
  role_timer_ = reactor_.MakeTimer([this] { SendRole(); });
}

RedisControl::~RedisControl() = default;

void RedisControl::Start() { Connect(); }

std::string RedisControl::LocalHost() const {
  const std::string name = link_ ? link_->LocalName() : std::string();
  const size_t colon = name.rfind(':');
  // Over a unix socket there is no address, but the Redis is on this machine.
  if (options_.address.starts_with("unix:") || colon == std::string::npos) return "127.0.0.1";
  std::string host = name.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  return host;
}

// --- connecting and coming back ---

void RedisControl::Connect() {
  retry_timer_->Stop();
  stage_pending_ = 0;
  link_ = std::make_unique<RequestLink>(reactor_, options_.address, this);
  StartStage(Stage::kIntroduce);
}

void RedisControl::RetryAfter(Duration after) { retry_timer_->Start(after); }

void RedisControl::OnRetry() {
  if (reconnect_on_retry_ || !link_ || !link_->open()) {
    Connect();
  } else {
    StartStage(Stage::kIntroduce);
  }
}

void RedisControl::SetProblem(std::string problem, Duration retry_after, bool reconnect) {
  if (problem != problem_) {
    problem_ = std::move(problem);
    log::Warn("backend_problem", {{"address", options_.address}, {"why", problem_}});
  }
  // While ready others' questions are under way on the connection.
  reconnect_on_retry_ = reconnect && state_ != State::kReady;
  RetryAfter(retry_after);
}

void RedisControl::OnLinkHeard() { heard_ = reactor_.Now(); }

void RedisControl::OnLinkClosed(const std::string& reason) {
  check_unanswered_ = false;
  stage_pending_ = 0;
  if (state_ == State::kDown) {
    return SetProblem("cannot connect to " + options_.address + ": " + reason,
                      options_.retry_interval, true);
  }
  reconnect_on_retry_ = true;
  if (state_ == State::kRecovering) return RetryAfter(kRecoverInterval);
  log::Info("control_broken", {{"address", options_.address}, {"why", reason}});
  state_ = State::kRecovering;
  check_timer_->Stop();
  grace_timer_->Start(options_.reconnect_grace);
  Connect();
}

void RedisControl::Recover(const ServerInfo& server, uint64_t generation) {
  if (server.run_id != run_id() && !CATENA_MUTANT("wiped-served"))
    return Lose("another Redis process answers (run_id " + server.run_id + ")");
  state_ = State::kReady;
  problem_.clear();
  grace_timer_->Stop();
  check_timer_->Start(options_.check_interval);
  log::Info("control_recovered", {{"address", options_.address}});
  const Liveness::Watch watch(liveness_);
  FlushQueue();
  owner_->OnControlChecked(server, generation);
  if (watch.Gone() || state_ != State::kReady) return;
  if (examining_) StartStage(Stage::kIntroduce);
}

void RedisControl::FlushQueue() {
  for (Queued& queued : std::exchange(queue_, {})) {
    link_->SendRaw(queued.command, std::move(queued.callback));
  }
  if (!role_waiting_.empty()) SendRole();
}

void RedisControl::Lose(std::string reason) {
  if (state_ == State::kDown) return;
  log::Warn("backend_lost", {{"address", options_.address}, {"why", reason}});
  state_ = State::kDown;
  problem_ = reason;
  examining_ = loading_ = check_unanswered_ = role_in_flight_ = obeys_maxmemory_ = false;
  stage_pending_ = 0;
  for (io::Timer* timer : {grace_timer_.get(), check_timer_.get(), role_timer_.get()})
    timer->Stop();
  std::deque<ReplyCallback> callbacks = link_->Abandon();
  for (Queued& queued : std::exchange(queue_, {})) callbacks.push_back(std::move(queued.callback));
  // role_asked_ comes back through the callback of its question, which then finds state_ == kDown.
  std::vector<RoleCallback> roles = std::exchange(role_asked_, {});
  for (RoleCallback& role : std::exchange(role_waiting_, {})) roles.push_back(std::move(role));
  reconnect_on_retry_ = true;
  RetryAfter(options_.retry_interval);
  const Liveness::Watch watch(liveness_);
  owner_->OnControlLost(reason);
  for (const ReplyCallback& callback : callbacks) {
    if (watch.Gone()) return;
    callback(std::nullopt);
  }
  for (const RoleCallback& role : roles) role(std::nullopt);
}

// --- examination ---

void RedisControl::ExamineAgain() {
  examining_ = true;
  if (state_ == State::kReady) StartStage(Stage::kIntroduce);
}

void RedisControl::StartStage(Stage stage) {
  stage_ = stage;
  stage_problem_.clear();
  switch (stage) {
    case Stage::kIntroduce:
      return AskIdentity();
    case Stage::kCut:
      return AskClients();
    case Stage::kAbilities:
      return AskAbilities();
    case Stage::kResult:
      return Ask({"INFO"}, [this](std::string_view reply) {
        Require("INFO", reply);
        info_text_ = ReplyText(reply);
      });
  }
}

void RedisControl::Ask(std::initializer_list<std::string_view> command,
                       std::function<void(std::string_view)> on_reply) {
  std::string bytes;
  resp::AppendCommand(bytes, command);
  AskRaw(bytes, std::move(on_reply));
}

void RedisControl::AskRaw(std::string_view command,
                          std::function<void(std::string_view)> on_reply) {
  ++stage_pending_;
  link_->SendRaw(command,
                 [this, on_reply = std::move(on_reply),
                  watch = Liveness::Watch(liveness_)](std::optional<std::string_view> reply) {
                   if (!reply || watch.Gone()) return;  // OnLinkClosed starts over
                   on_reply(*reply);
                   if (watch.Gone() || stage_pending_ == 0) return;
                   if (--stage_pending_ == 0) StageDone();
                 });
}

void RedisControl::Require(std::string_view what, std::string_view reply) {
  const std::string error = ReplyError(reply);
  if (error.empty() || !stage_problem_.empty()) return;
  stage_problem_ = std::string(what) + " refused by " + options_.address + ": " + error;
}

void RedisControl::AskIdentity() {
  const auto require = [this](std::string_view what) {
    return [this, what](std::string_view reply) { Require(what, reply); };
  };
  if (!options_.password.empty() || !options_.user.empty()) {
    if (options_.user.empty()) {
      Ask({"AUTH", options_.password}, require("AUTH"));
    } else {
      Ask({"AUTH", options_.user, options_.password}, require("AUTH"));
    }
  }
  Ask({"CLIENT", "SETNAME", ConnectionName(options_.node, options_.incarnation)},
      require("CLIENT SETNAME"));
  Ask({"CLIENT", "ID"}, [this](std::string_view reply) {
    Require("CLIENT ID", reply);
    next_client_id_ = NumberOf(reply);
    if (state_ != State::kRecovering) client_id_ = next_client_id_;
  });
  const uint64_t generation = owner_->RoleGeneration();
  Ask({"INFO"}, [this, generation](std::string_view reply) {
    Require("INFO", reply);
    info_text_ = ReplyText(reply);
    if (state_ == State::kRecovering && stage_problem_.empty())
      EndFormer(ParseInfo(info_text_), generation);
  });
}

// A lost connection may still bring what was asked on it, and its clients have been told that they
// do not know: it ends before anything is asked on the new one (S18).
void RedisControl::EndFormer(const ServerInfo& server, uint64_t generation) {
  if (server.run_id != run_id()) return Recover(server, generation);
  Ask({"CLIENT", "KILL", "ID", resp::Decimal(client_id_)},
      [this, server, generation](std::string_view reply) {
        // "No such client" is as good.
        if (reply.starts_with("-BUSY ")) return Require("CLIENT KILL", reply);
        client_id_ = next_client_id_;
        Recover(server, generation);
      });
}

void RedisControl::StageDone() {
  if (state_ == State::kRecovering) {
    // The identity could not be read (busy, for instance): ask until the grace ends.
    return SetProblem(stage_problem_, kRecoverInterval, true);
  }
  if (state_ == State::kReady && !examining_) return;
  if (!stage_problem_.empty()) {
    return SetProblem(stage_problem_, options_.problem_interval, stage_ == Stage::kIntroduce);
  }
  const ServerInfo server = ParseInfo(info_text_);
  if (server.loading) {
    return SetProblem(options_.address + " is loading its data", options_.retry_interval, false);
  }
  if (server.mode == "cluster" || server.mode == "sentinel" || server.run_id.empty()) {
    return SetProblem(options_.address + " is not a standalone Redis but: " + server.mode,
                      options_.problem_interval, false);
  }
  switch (stage_) {
    case Stage::kIntroduce:
      return StartStage(Stage::kCut);
    case Stage::kCut:
      return StartStage(cut_.empty() ? Stage::kAbilities : Stage::kCut);
    case Stage::kAbilities:
      return StartStage(Stage::kResult);
    case Stage::kResult:
      return FinishExamination();
  }
}

// A proxy that starts cuts what its predecessor, perhaps only paused, still holds open (S14). After
// a loss so does this one with its own former connections: the Redis goes on reading what came on
// them, and a command of unknown outcome must not take effect behind a later one (S18). Repeated
// until none is listed.
void RedisControl::AskClients() {
  for (const std::string& id : std::exchange(cut_, {})) {
    log::Info("predecessor_cut", {{"address", options_.address}, {"client", id}});
    // "No such client" is as good.
    Ask({"CLIENT", "KILL", "ID", id}, [](std::string_view) {});
  }
  Ask({"CLIENT", "LIST"}, [this](std::string_view reply) {
    Require("CLIENT LIST", reply);
    for (ClientEntry& client : ParseClientList(ReplyText(reply))) {
      if (MustBeCut(client)) cut_.push_back(std::move(client.id));
    }
  });
}

bool RedisControl::MustBeCut(const ClientEntry& client) const {
  if (IsPredecessorsName(client.name, options_.node, options_.incarnation)) return true;
  // A Redis numbers its connections in their order. While this one is ready the others are in use.
  return state_ == State::kDown &&
         client.name == ConnectionName(options_.node, options_.incarnation) &&
         ParseNumber<uint64_t>(client.id) < client_id_;
}

void RedisControl::AskAbilities() {
  Ask({"COMMAND"}, [this](std::string_view reply) {
    Require("COMMAND", reply);
    examination_.info.commands = DecodeReply(reply);
    InsistOnNames(StreamedCommands(examination_.info.commands));
  });
  examination_.rdb_version = 0;
  // An empty function library is a cheap way to see the RDB version; before 7.0 the release tells
  // it.
  Ask({"FUNCTION", "DUMP"}, [this](std::string_view reply) {
    examination_.rdb_version = RdbVersionOfDump(ReplyText(reply)).value_or(0);
  });
  Ask({"ROLE"}, [this](std::string_view reply) { Require("ROLE", reply); });
  examination_.info.databases = 0;
  Ask({"CONFIG", "GET", "databases"}, [this](std::string_view reply) {
    const resp::Value pair = DecodeReply(reply);
    if (pair.elements.size() != 2) return;
    examination_.info.databases = ParseNumber<int>(pair.elements[1].text).value_or(0);
  });
  place_forgotten_ = false;
  if (place_doubtful_) ForgetPlace();
  // A follower that takes writes of its own diverges; so does one that obeys its own maxmemory: it
  // evicts by itself, and does not execute what it is fed. "*-": both were slave-... before 5.0.
  InsistOnSetting("*-read-only", "yes", [this] { ForgetPlace(); });
  InsistOnSetting(kIgnoresMaxmemory, "yes", [this] { ForgetPlace(); });
  // Loading from the socket would begin before the last byte, which is held back until the checksum
  // is known.
  InsistOnSetting("repl-diskless-load", "disabled", [] {});
  for (std::string_view setting : kLimitSettings) {
    Ask({"CONFIG", "GET", setting}, [this](std::string_view reply) { TakeSettings(reply); });
  }
}

// A Redis streams what clients call a command and, of its own accord, what Redis calls it: with
// rename-command no other understands the one, and itself not the other. What is not understood is
// skipped, and the offsets stay equal. COMMAND tells the names of Redis, COMMAND INFO knows those
// that it answers to.
void RedisControl::InsistOnNames(std::vector<std::string> names) {
  std::vector<std::string_view> question = {"COMMAND", "INFO"};
  question.insert(question.end(), names.begin(), names.end());
  std::string bytes;
  resp::AppendCommand(bytes, question);
  AskRaw(bytes, [this, names = std::move(names)](std::string_view reply) {
    const std::vector<resp::Value> known = DecodeReply(reply).elements;
    for (size_t i = 0; i < known.size() && known.size() == names.size(); ++i) {
      if (!known[i].elements.empty() || !stage_problem_.empty()) continue;
      stage_problem_ = options_.address + " has a command by another name or not at all, not as " +
                       names[i] +
                       ": what is replicated would be skipped; take its rename-command out of the "
                       "redis.conf";
    }
  });
}

void RedisControl::TakeSettings(std::string_view config_reply) {
  const resp::Value pairs = DecodeReply(config_reply);
  for (size_t i = 0; i + 1 < pairs.elements.size(); i += 2) {
    TakeSetting(pairs.elements[i].text, pairs.elements[i + 1].text, limits_);
  }
}

void RedisControl::InsistOnSetting(std::string_view pattern, const std::string& wanted,
                                   std::function<void()> on_other) {
  Ask({"CONFIG", "GET", pattern},
      [this, wanted, on_other = std::move(on_other)](std::string_view reply) {
        Require("CONFIG GET", reply);
        const resp::Value pairs = DecodeReply(reply);
        for (size_t i = 0; i + 1 < pairs.elements.size(); i += 2) {
          const std::string name = pairs.elements[i].text;
          if (pairs.elements[i + 1].text == wanted) continue;
          log::Info("backend_setting",
                    {{"address", options_.address}, {"name", name}, {"value", wanted}});
          // Before the setting is put right: a proxy that comes after us sees only that.
          on_other();
          Ask({"CONFIG", "SET", name, wanted},
              [this, name](std::string_view answer) { Require("CONFIG SET " + name, answer); });
        }
      });
}

// What it holds may be another thing than its place in the chain's history says (I7): it is made to
// begin a history of its own, and takes a snapshot wherever it joins. Once: of the chain it must
// still remember that its data is from there.
void RedisControl::ForgetPlace() {
  ServerInfo server = ParseInfo(info_text_);
  server.read_only = true;
  const auto resume = ResumePointOf(server);
  if (!resume || std::exchange(place_forgotten_, true)) return;
  log::Warn("backend_place_forgotten", {{"address", options_.address},
                                        {"replid", resume->replid},
                                        {"position", resume->position.value()}});
  const auto require = [this](std::string_view reply) { Require("REPLICAOF", reply); };
  Ask({"REPLICAOF", "NO", "ONE"}, require);
  Ask({"REPLICAOF", LocalHost(), "1"}, require);
}

void RedisControl::FinishExamination() {
  examination_.server = ParseInfo(info_text_);
  const ServerInfo& server = examination_.server;
  if (examination_.rdb_version == 0) examination_.rdb_version = RdbVersionOfRelease(server.version);
  backend::Info& info = examination_.info;
  info.kind = "redis";
  info.run_id = server.run_id;
  info.version = server.version;
  info.keys = keys_ = server.keys;
  info.resume = ResumePointOf(server);
  if (!info.resume) place_doubtful_ = false;
  info.from_chain = IsFromChain(server);
  examining_ = false;
  problem_.clear();
  state_ = State::kReady;
  check_timer_->Start(options_.check_interval);
  log::Info("backend_examined",
            {{"address", options_.address},
             {"run_id", server.run_id},
             {"version", server.version},
             {"role", server.is_master ? "master" : "slave"},
             {"replid", server.replid},
             {"keys", server.keys},
             {"resume", info.resume ? resp::Decimal(info.resume->position.value()) : "no"}});
  owner_->OnControlExamined(examination_);
}

// --- watching ---

void RedisControl::OnCheckTimer() {
  if (state_ != State::kReady) return;
  check_timer_->Start(options_.check_interval);
  const TimePoint now = reactor_.Now();
  if (check_unanswered_) {
    const Duration limit = loading_ ? options_.hang_timeout_loading : options_.hang_timeout;
    if (now - heard_ > limit) Lose("it does not answer any more");
    return;
  }
  if (!link_->open()) return;
  check_unanswered_ = true;
  heard_ = now;
  link_->Send({"INFO", "keyspace"}, [this](std::optional<std::string_view> reply) {
    if (reply && (*reply)[0] == '$') keys_ = CountKeys(ReplyText(*reply));
  });
  // An operator may have changed them.
  for (std::string_view setting : kLimitSettings) {
    link_->Send({"CONFIG", "GET", setting}, [this](std::optional<std::string_view> reply) {
      if (reply) TakeSettings(*reply);
    });
  }
  link_->Send({"CONFIG", "GET", kIgnoresMaxmemory}, [this](std::optional<std::string_view> reply) {
    if (!reply || (*reply)[0] == '-') return;
    const std::vector<resp::Value> pairs = DecodeReply(*reply).elements;
    obeys_maxmemory_ = std::any_of(pairs.begin(), pairs.end(),
                                   [](const resp::Value& word) { return word.text == "no"; });
  });
  const uint64_t generation = owner_->RoleGeneration();
  link_->Send({"INFO", "replication"}, [this, generation](std::optional<std::string_view> reply) {
    check_unanswered_ = false;
    // An error (BUSY) still shows that it lives.
    if (!reply || (*reply)[0] != '$') return;
    ServerInfo server = ParseInfo(ReplyText(*reply));
    server.obeys_maxmemory = obeys_maxmemory_;
    owner_->OnControlChecked(server, generation);
  });
}

void RedisControl::Request(std::initializer_list<std::string_view> command,
                           ReplyCallback callback) {
  std::string bytes;
  resp::AppendCommand(bytes, command);
  RequestRaw(bytes, std::move(callback));
}

void RedisControl::RequestRaw(std::string_view command, ReplyCallback callback) {
  if (state_ == State::kDown) {
    return reactor_.Defer([callback = std::move(callback)] { callback(std::nullopt); });
  }
  if (state_ == State::kReady && link_->open()) return link_->SendRaw(command, std::move(callback));
  queue_.push_back({std::string(command), std::move(callback)});
}

void RedisControl::AskRole(RoleCallback callback) {
  if (state_ == State::kDown) {
    return reactor_.Defer([callback = std::move(callback)] { callback(std::nullopt); });
  }
  role_waiting_.push_back(std::move(callback));
  SendRole();
}

void RedisControl::SendRole() {
  if (role_in_flight_ || role_waiting_.empty()) return;
  if (state_ != State::kReady || !link_->open()) return;
  role_in_flight_ = true;
  role_asked_.swap(role_waiting_);
  link_->SendRaw("*1\r\n$4\r\nROLE\r\n",
                 [this, watch = Liveness::Watch(liveness_)](std::optional<std::string_view> reply) {
                   if (!watch.Gone()) OnRoleReply(reply);
                 });
}

void RedisControl::OnRoleReply(std::optional<std::string_view> reply) {
  if (state_ == State::kDown) return;
  role_in_flight_ = false;
  const std::optional<Role> role = reply ? ParseRole(*reply) : std::nullopt;
  if (!role) {
    // Those who asked keep their place before those who came later.
    role_asked_.insert(role_asked_.end(), std::make_move_iterator(role_waiting_.begin()),
                       std::make_move_iterator(role_waiting_.end()));
    role_waiting_ = std::exchange(role_asked_, {});
    if (reply) role_timer_->Start(kBusyInterval);
    return;
  }
  const Liveness::Watch watch(liveness_);
  for (const RoleCallback& callback : std::exchange(role_asked_, {})) callback(role);
  if (!watch.Gone()) SendRole();
}

}  // namespace catena::redis
