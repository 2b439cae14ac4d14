#include "tests/sim/redis_model.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>

#include "backends/redis/rdb_check.h"
#include "proxy/base/check.h"
#include "proxy/resp/encoder.h"
#include "tests/sim/command_reply.h"
#include "tests/sim/redis_model_links.h"

namespace catena::sim {
namespace {

// Instead of a key, in a file: an RDB's repl-stream-db.
constexpr std::string_view kStreamDatabase = "\x02stream";
constexpr std::string_view kBusy =
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n";
constexpr std::string_view kUnblocked = "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n";
constexpr std::string_view kStateChanged =
    "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> "
    "replica?)\r\n";
constexpr std::string_view kReadOnly = "-READONLY You can't write against a read only replica.\r\n";

const Arguments& EffectOf(const Arguments& command) {
  thread_local Arguments pop = {"LPOP", ""};
  if (command[0] != "BLPOP") return command;
  pop[1] = command[1];
  return pop;
}

}  // namespace

RedisModel::RedisModel(Process& process, std::string address, const RedisImage& image,
                       RedisTimes times)
    : process_(process), times_(times), run_id_(NewId()), replid_(NewId()) {
  data_ = image.data;
  if (!image.replid.empty()) {
    // Redis 7 as a master: the former history is its second one.
    replid2_ = image.replid;
    offset_ = image.offset;
    second_offset_ = static_cast<int64_t>(offset_) + 1;
    MakeBacklog();
  }
  stale_ = Save(false);
  redial_ = process_.MakeTimer([this] {
    if (busy_) return redial_->Start(kRedialAfter);
    if (!master_host_.empty() && !master_)
      master_ = std::make_unique<MasterLink>(*this, master_host_ + ":" + master_port_);
  });
  save_ = process_.MakeTimer([this] { ScheduleSave(); });
  ScheduleSave();
  auto listener = process_.Listen(
      address, [this](std::unique_ptr<io::Stream> stream) { Accept(std::move(stream)); });
  CATENA_CHECK(listener.has_value(), "the address of a Redis is its own");
  listener_ = std::move(*listener);
}

RedisModel::~RedisModel() = default;

void RedisModel::ScheduleSave() {
  SaveStale();
  const bool feeds = std::any_of(clients_.begin(), clients_.end(),
                                 [](const auto& client) { return client->streaming; });
  if (is_master() && feeds) Feed(std::max(stream_database_, 0), {Encode({"PING"})});
  save_->Start(process_.network().scheduler().random().Between(Seconds(1), Seconds(10)));
}

std::string RedisModel::NewId() {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string id = "f";  // never like a chain's
  for (unsigned char byte : process_.RandomBytes(39)) id += kHex[byte & 15];
  return id;
}

RedisImage RedisModel::Save(bool aof) const {
  RedisImage image;
  image.data = data_;
  const bool knows_place = is_master() ? has_backlog_ : has_place_;
  if (aof || !knows_place) return image;
  image.replid = replid_;
  image.offset = offset_;
  return image;
}

void RedisModel::Accept(std::unique_ptr<io::Stream> stream) {
  clients_.push_back(std::make_unique<Client>(*this, ++last_client_, std::move(stream)));
}

void RedisModel::SetBusy(bool busy) {
  if (busy_ == busy) return;
  busy_ = busy;
  if (busy) return;
  process_.Post([this, alive = std::weak_ptr<int>(alive_)] {
    if (!alive.expired() && master_) master_->GoOn();
  });
}

// --- commands ------------------------------------------------------------------------------------

void RedisModel::Command(Client& client, const Arguments& arguments) {
  std::string reply;
  const std::string& name = arguments[0];
  if (busy_ && RefusedByScript(client, arguments, reply)) return client.Write(reply);
  if (name == "PSYNC") return Psync(client, arguments);
  if (ClientCommand(client, arguments, reply) || ServerCommand(client, arguments, reply)) {
    return client.Write(reply);
  }
  if (name == "MULTI" || name == "EXEC" || name == "DISCARD" || client.in_multi) {
    Transaction(client, arguments, reply);
  } else if (name == "WATCH" || name == "UNWATCH") {
    Watch(client, arguments, reply);
  } else {
    DataCommand(client, arguments, reply);
  }
  client.Write(reply);
  ServeBlocked();
}

bool RedisModel::RefusedByScript(Client& client, const Arguments& arguments, std::string& reply) {
  const std::string& name = arguments[0];
  static const std::set<std::string> kAllowed = {"MULTI",   "DISCARD", "WATCH",
                                                 "UNWATCH", "AUTH",    "REPLCONF"};
  if (kAllowed.contains(name)) return false;
  if (name == "EXEC") {
    client.in_multi = client.touched = false;
    client.watched.clear();
    reply = "-EXECABORT Transaction discarded because of: ";
  } else {
    client.aborted = client.in_multi;
    reply = "-";
  }
  reply += kBusy;
  return true;
}

bool RedisModel::ServerCommand(Client& client, const Arguments& arguments, std::string& reply) {
  const std::string& name = arguments[0];
  if (client.in_multi) return false;
  if (name == "INFO") {
    resp::AppendBulk(reply, Info());
  } else if (name == "ROLE") {
    reply = Role();
  } else if (name == "COMMAND") {
    reply = CommandReplyBytes();
  } else if (name == "FUNCTION") {
    resp::AppendBulk(reply, std::string("\x0a\0", 2) + std::string(8, '\0'));
  } else if (name == "CONFIG") {
    const std::string value = arguments[2] == "databases"            ? "16"
                              : arguments[2] == "repl-diskless-load" ? "disabled"
                                                                     : "yes";
    reply = Encode({arguments[2] == "*-read-only" ? "replica-read-only" : arguments[2], value});
  } else if (name == "REPLICAOF") {
    ReplicaOf(arguments[1], arguments[2]);
    reply = "+OK\r\n";
  } else if (name == "REPLCONF") {
    if (arguments[1] == "ACK") return true;
    if (arguments[1] == "rdb-only") client.snapshot_only = true;
    if (arguments[1] == "capa" && arguments[2] == "eof") client.capa_eof = true;
    reply = "+OK\r\n";
  } else {
    return false;
  }
  return true;
}

bool RedisModel::ClientCommand(Client& client, const Arguments& arguments, std::string& reply) {
  const std::string& name = arguments[0];
  if (name == "PING") {
    reply = loading_ ? "-LOADING Redis is loading the dataset in memory\r\n" : "+PONG\r\n";
  } else if (name == "AUTH" || name == "SELECT") {
    if (name == "SELECT") client.database = std::stoi(arguments[1]);
    reply = "+OK\r\n";
  } else if (name == "CLIENT" && arguments[1] == "SETNAME") {
    client.name = arguments[2];
    reply = "+OK\r\n";
  } else if (name == "CLIENT" && arguments[1] == "LIST") {
    std::string list;
    for (const auto& each : clients_) {
      if (each->open()) list += "id=" + std::to_string(each->id) + " name=" + each->name + "\n";
    }
    resp::AppendBulk(reply, list);
  } else if (name == "CLIENT" && arguments[1] == "ID") {
    resp::AppendInteger(reply, static_cast<int64_t>(client.id));
  } else if (name == "CLIENT" && arguments[1] == "UNBLOCK") {
    reply = ":0\r\n";
    for (const auto& each : clients_) {
      if (std::to_string(each->id) != arguments[2] || !each->waits_for) continue;
      const bool error = arguments.size() > 3 && arguments[3] == "ERROR";
      each->Unblock(error ? kUnblocked : "*-1\r\n");
      reply = ":1\r\n";
    }
  } else if (name == "CLIENT" && arguments[1] == "KILL") {
    reply = "-ERR No such client\r\n";
    for (const auto& each : clients_) {
      if (std::to_string(each->id) != arguments[3] || !each->open()) continue;
      each->Close();
      reply = ":1\r\n";
    }
  } else if (name == "CLIENT") {
    reply = "+OK\r\n";  // PAUSE, UNPAUSE
  } else {
    return false;
  }
  return true;
}

void RedisModel::DataCommand(Client& client, const Arguments& arguments, std::string& reply) {
  const std::string& name = arguments[0];
  if (!IsKnown(name)) {
    reply = "-ERR unknown command '" + arguments[0] + "'\r\n";
    return;
  }
  if (loading_) {
    reply = "-LOADING Redis is loading the dataset in memory\r\n";
    return;
  }
  if (IsWrite(arguments[0]) && !is_master()) {
    reply = kReadOnly;
    return;
  }
  Executed executed = Execute(data_, InDatabase(client.database, arguments));
  if (name == "BLPOP" && !executed.changed) return Block(client, arguments);
  reply = std::move(executed.reply);
  if (!executed.changed) return;
  Feed(client.database, {Encode(EffectOf(arguments))});
  TouchWatched();
}

void RedisModel::Block(Client& client, const Arguments& arguments) {
  client.waits_for = InDatabase(client.database, arguments)[1];
  client.patience = process_.MakeTimer([&client] { client.Unblock("*-1\r\n"); });
  client.patience->Start(Millis(std::llround(1000 * std::stod(arguments[2]))));
  // The longest waiting one comes first.
  const auto own = std::find_if(clients_.begin(), clients_.end(),
                                [&](const auto& each) { return each.get() == &client; });
  clients_.splice(clients_.end(), clients_, own);
}

void RedisModel::ServeBlocked() {
  for (const auto& client : clients_) {
    if (!client->waits_for || !data_.contains(*client->waits_for)) continue;
    const std::string key = *client->waits_for;
    client->Unblock(Execute(data_, {"BLPOP", key, "0"}).reply);
    Feed(client->database, {Encode({"LPOP", key.substr(key.find('/') + 1)})});
    TouchWatched();
  }
}

void RedisModel::Watch(Client& client, const Arguments& arguments, std::string& reply) {
  if (arguments[0] == "UNWATCH") {
    client.watched.clear();
    client.touched = false;
  }
  for (size_t i = 1; i < arguments.size(); ++i) {
    const std::string key = InDatabase(client.database, {"WATCH", arguments[i]})[1];
    const auto found = data_.find(key);
    client.watched.try_emplace(key,
                               found == data_.end() ? std::nullopt : std::optional(found->second));
  }
  reply = "+OK\r\n";
}

void RedisModel::TouchWatched() {
  for (const auto& client : clients_) {
    for (const auto& [key, held] : client->watched) {
      const auto found = data_.find(key);
      const bool same =
          held ? found != data_.end() && found->second == *held : found == data_.end();
      client->touched = client->touched || !same;
    }
  }
}

void RedisModel::Transaction(Client& client, const Arguments& arguments, std::string& reply) {
  const std::string& name = arguments[0];
  if (name == "MULTI") {
    client.in_multi = true;
    client.queued.clear();
    client.aborted = false;
    reply = "+OK\r\n";
  } else if (name == "DISCARD") {
    client.in_multi = client.touched = false;
    client.watched.clear();
    reply = "+OK\r\n";
  } else if (name == "EXEC") {
    reply = client.in_multi ? Exec(client) : "-ERR EXEC without MULTI\r\n";
    client.in_multi = client.touched = false;
    client.watched.clear();
  } else if (loading_) {
    client.aborted = true;
    reply = "-LOADING Redis is loading the dataset in memory\r\n";
  } else if (IsWrite(name) && !is_master()) {
    client.aborted = true;
    reply = kReadOnly;
  } else if (!IsKnown(name)) {
    client.aborted = true;
    reply = "-ERR unknown command\r\n";
  } else {
    client.queued.push_back(arguments);
    reply = "+QUEUED\r\n";
  }
}

std::string RedisModel::Exec(Client& client) {
  const bool writes = std::any_of(client.queued.begin(), client.queued.end(),
                                  [](const Arguments& queued) { return IsWrite(queued[0]); });
  if (client.aborted || loading_)
    return "-EXECABORT Transaction discarded because of previous errors.\r\n";
  if (client.touched) return "*-1\r\n";
  if (writes && !is_master())
    return "-EXECABORT Transaction discarded because of: READONLY a replica\r\n";
  std::string reply;
  resp::AppendArrayHeader(reply, client.queued.size());
  std::vector<std::string> effects;
  for (const Arguments& arguments : client.queued) {
    Executed executed = Execute(data_, InDatabase(client.database, arguments));
    reply += executed.reply;
    if (executed.changed) effects.push_back(Encode(EffectOf(arguments)));
  }
  if (!effects.empty()) Feed(client.database, effects);
  client.watched.clear();
  TouchWatched();
  return reply;
}

// --- what it says of itself ----------------------------------------------------------------------

std::string RedisModel::Info() const {
  std::string text =
      "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:" + run_id_ +
      "\r\n# Persistence\r\nloading:" + (loading_ ? "1" : "0") +
      "\r\n# Replication\r\nrole:" + (is_master() ? "master" : "slave") + "\r\n";
  if (!is_master()) {
    const uint64_t place = has_place_ ? offset_ : 1;
    text += "master_host:" + master_host_ + "\r\nmaster_port:" + master_port_ +
            "\r\nmaster_link_status:" + (master_ && master_->streaming() ? "up" : "down") +
            "\r\nslave_repl_offset:" + std::to_string(place) + "\r\nslave_read_only:1\r\n";
  }
  text += "master_replid:" + replid_ +
          "\r\nmaster_replid2:" + (replid2_.empty() ? std::string(40, '0') : replid2_) +
          "\r\nmaster_repl_offset:" + std::to_string(offset_) +
          "\r\nsecond_repl_offset:" + std::to_string(second_offset_) +
          "\r\nrepl_backlog_active:" + (has_backlog_ ? "1" : "0") + "\r\n# Keyspace\r\n";
  if (!data_.empty())
    text += "db0:keys=" + std::to_string(data_.size()) + ",expires=0,avg_ttl=0\r\n";
  return text;
}

std::string RedisModel::Role() const {
  std::string reply;
  if (is_master()) {
    resp::AppendArrayHeader(reply, 3);
    resp::AppendBulk(reply, "master");
    resp::AppendInteger(reply, static_cast<int64_t>(offset_));
    resp::AppendArrayHeader(reply, 0);
    return reply;
  }
  resp::AppendArrayHeader(reply, 5);
  resp::AppendBulk(reply, "slave");
  resp::AppendBulk(reply, master_host_);
  resp::AppendInteger(reply, std::stoll(master_port_));
  resp::AppendBulk(reply, master_ ? master_->state() : "connect");
  const bool up = master_ && master_->streaming();
  resp::AppendInteger(reply, up ? static_cast<int64_t>(offset_) : -1);
  return reply;
}

// --- as a master ---------------------------------------------------------------------------------

void RedisModel::MakeBacklog() {
  has_backlog_ = true;
  backlog_.clear();
}

void RedisModel::Feed(int database, const std::vector<std::string>& effects) {
  // Without a backlog the offset stands still.
  if (!has_backlog_) return;
  std::string bytes;
  if (std::exchange(stream_database_, database) != database)
    bytes += Encode({"SELECT", std::to_string(database)});
  if (effects.size() > 1) bytes += Encode({"MULTI"});
  for (const std::string& effect : effects) bytes += effect;
  if (effects.size() > 1) bytes += Encode({"EXEC"});
  FeedBytes(bytes);
}

void RedisModel::FeedBytes(std::string_view bytes) {
  offset_ += bytes.size();
  if (!has_backlog_) return;
  backlog_ += bytes;
  if (backlog_.size() > 2 * times_.backlog_bytes)
    backlog_.erase(0, backlog_.size() - times_.backlog_bytes);
  for (const auto& client : clients_) client->Replicate(bytes);
}

void RedisModel::NewHistory() {
  replid2_ = replid_;
  second_offset_ = static_cast<int64_t>(offset_) + 1;
  replid_ = NewId();
}

void RedisModel::Psync(Client& client, const Arguments& arguments) {
  if (loading_) return client.Write("-LOADING Redis is loading the dataset in memory\r\n");
  if (arguments.size() > 3) {
    if (is_master()) return client.Write("-ERR PSYNC FAILOVER can't be sent to a master.\r\n");
    if (arguments[1] != replid_)
      return client.Write("-ERR PSYNC FAILOVER replid must match my replid.\r\n");
    BecomeMaster();
  }
  if (!is_master() && !(master_ && master_->streaming()))
    return client.Write("-NOMASTERLINK Can't SYNC while not connected with my master\r\n");
  if (arguments[1] != "?" && Continue(client, arguments[1], std::stoull(arguments[2]))) return;
  if (!has_backlog_) {
    replid_ = NewId();
    replid2_.clear();
    second_offset_ = -1;
    MakeBacklog();
  }
  // A diskless snapshot begins after repl-diskless-sync-delay; nobody waits that long.
  if (!client.capa_eof) StartSnapshot(client);
}

bool RedisModel::Continue(Client& client, const std::string& replid, uint64_t first) {
  const bool second = replid == replid2_ && static_cast<int64_t>(first) <= second_offset_;
  if (replid != replid_ && !second) return false;
  if (!has_backlog_ || first > offset_ + 1 || first + backlog_.size() < offset_ + 1) return false;
  client.Write("+CONTINUE " + replid_ + "\r\n");
  client.Write(std::string_view(backlog_).substr(backlog_.size() - (offset_ + 1 - first)));
  client.streaming = true;
  return true;
}

std::string RedisModel::File() const {
  std::string file = "REDIS0010";
  file += Encode({std::string(kStreamDatabase), std::to_string(std::max(stream_database_, 0))});
  for (const auto& [key, value] : data_) file += Encode({key, value});
  file += '\xff';
  const uint64_t crc = redis::Crc64(0, file);
  for (int i = 0; i < 8; ++i) file += static_cast<char>(crc >> (8 * i));
  return file;
}

// The place is that of the question; what happens meanwhile follows behind the file.
void RedisModel::StartSnapshot(Client& client) {
  if (is_master()) stream_database_ = -1;
  client.Write("+FULLRESYNC " + replid_ + " " + std::to_string(offset_) + "\r\n");
  const std::string file = File();
  client.behind_snapshot.emplace();
  const Duration time =
      process_.network().scheduler().random().Between(Duration(0), times_.snapshot);
  process_.network().scheduler().After(
      time, [this, id = client.id, file, alive = std::weak_ptr<int>(alive_)] {
        if (alive.expired()) return;
        process_.Post([this, id, file, alive] {
          if (alive.expired()) return;
          for (const auto& each : clients_) {
            if (each->id == id) each->SendSnapshot(file);
          }
        });
      });
}

// --- as a replica --------------------------------------------------------------------------------

void RedisModel::ReplicaOf(const std::string& host, const std::string& port) {
  if (host == "NO") {
    if (!is_master()) BecomeMaster();
    return;
  }
  if (host == master_host_ && port == master_port_) return;
  if (is_master()) {
    // A master that becomes a replica offers its own place, which nobody else knows.
    has_place_ = has_backlog_;
    stream_database_ = 0;  // as Redis does: the new master would select
    for (const auto& client : clients_) {
      if (client->waits_for) client->Unblock(kStateChanged);
    }
  }
  for (const auto& client : clients_) {
    if (client->is_replica()) client->Close();
  }
  master_host_ = host;
  master_port_ = port;
  master_ = std::make_unique<MasterLink>(*this, host + ":" + port);
}

void RedisModel::BecomeMaster() {
  master_host_.clear();
  master_port_.clear();
  master_.reset();
  NewHistory();
  if (!has_backlog_) MakeBacklog();
  for (const auto& client : clients_) {
    if (client->is_replica()) client->Close();
  }
  stream_database_ = -1;
  has_place_ = false;
}

void RedisModel::Apply(const Arguments& arguments) {
  Arguments command = arguments;
  std::transform(command[0].begin(), command[0].end(), command[0].begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (command[0] == "SELECT") stream_database_ = std::stoi(command[1]);
  if (IsKnown(command[0])) Execute(data_, InDatabase(stream_database_, std::move(command)));
  TouchWatched();
}

void RedisModel::Load(std::string_view file, const std::string& replid, uint64_t offset) {
  loading_ = true;
  const Duration time = process_.network().scheduler().random().Between(Duration(0), times_.load);
  auto loaded = [this, file = std::string(file), replid, offset] {
    data_.clear();
    resp::CommandDecoder decoder;
    std::string_view body = std::string_view(file).substr(9, file.size() - 18);
    while (!body.empty()) {
      resp::Command pair;
      size_t consumed = 0;
      if (decoder.Decode(body, pair, consumed) != resp::Progress::kComplete) break;
      if (pair.arguments[0] == kStreamDatabase) {
        stream_database_ = std::stoi(std::string(pair.arguments[1]));
      } else {
        data_[std::string(pair.arguments[0])] = pair.arguments[1];
      }
      body.remove_prefix(consumed);
    }
    TouchWatched();
    loading_ = false;
    replid_ = replid;
    replid2_.clear();
    second_offset_ = -1;
    offset_ = offset;
    MakeBacklog();
    has_place_ = true;
    if (master_) master_->Loaded();
  };
  process_.network().scheduler().After(time, [this, number = ++loads_, loaded = std::move(loaded),
                                              alive = std::weak_ptr<int>(alive_)] {
    if (alive.expired()) return;
    process_.Post([this, number, loaded, alive] {
      if (alive.expired() || number != loads_) return;
      // Its master went meanwhile: it has its old data still, and no place any more.
      if (master_ && master_->loading()) return loaded();
      loading_ = false;
    });
  });
}

}  // namespace catena::sim
