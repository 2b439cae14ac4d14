// A Redis server as a process of the simulation, as far as a chain sees it (design.md 7): commands,
// transactions, INFO and ROLE, replication as master and as replica with partial and full resync,
// snapshots that take time, restarts that keep, lose or roll back the data. The proxy's own PSYNC
// machines talk to it over its sockets.
//
// Not modelled: several databases, expiry, scripts, blocking commands, RESP3.
#pragma once

#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/io/reactor.h"
#include "proxy/resp/decoder.h"
#include "tests/sim/network.h"
#include "tests/sim/redis_store.h"

namespace catena::sim {

// What survives the process.
struct RedisImage {
  Data data;
  std::string replid;  // of the history that the data is a prefix of; "": not known (an AOF)
  uint64_t offset = 0;
};

struct RedisTimes {
  Duration snapshot = Millis(20);  // from the question to the file
  Duration load = Millis(20);
  size_t backlog_bytes = 1u << 20;
};

class RedisModel {
 public:
  // `image`: what it finds on its disk.
  RedisModel(Process& process, std::string address, const RedisImage& image, RedisTimes times);
  ~RedisModel();

  const Data& data() const { return data_; }
  bool is_master() const { return master_host_.empty(); }
  uint64_t offset() const { return offset_; }
  const std::string& replid() const { return replid_; }
  const std::string& run_id() const { return run_id_; }
  // What a restart would find if it saved now. An AOF keeps the data and forgets the place.
  RedisImage Save(bool aof) const;
  // The latest periodic snapshot.
  const RedisImage& stale_image() const { return stale_; }
  void SaveStale() { stale_ = Save(false); }
  // Somebody's script overruns: nearly everything is answered with BUSY, the master's stream waits.
  void SetBusy(bool busy);

 private:
  class Client;
  class MasterLink;

  void Accept(std::unique_ptr<io::Stream> stream);
  void Command(Client& client, const Arguments& arguments);
  bool RefusedByScript(Client& client, const Arguments& arguments, std::string& reply);
  bool ServerCommand(Client& client, const Arguments& arguments, std::string& reply);
  bool ClientCommand(Client& client, const Arguments& arguments, std::string& reply);
  void DataCommand(Client& client, const Arguments& arguments, std::string& reply);
  void Transaction(Client& client, const Arguments& arguments, std::string& reply);
  std::string Exec(Client& client);
  void Block(Client& client, const Arguments& arguments);
  // Those who wait get what was pushed, who has waited longest first.
  void ServeBlocked();
  void Watch(Client& client, const Arguments& arguments, std::string& reply);
  // To be called when the data may have changed.
  void TouchWatched();
  void Psync(Client& client, const Arguments& arguments);
  bool Continue(Client& client, const std::string& replid, uint64_t first);
  void StartSnapshot(Client& client);
  void ReplicaOf(const std::string& host, const std::string& port);
  void BecomeMaster();
  void NewHistory();
  void MakeBacklog();
  void Feed(int database, const std::vector<std::string>& effects);
  void FeedBytes(std::string_view bytes);
  // As a replica: one command of the master's stream, complete.
  void Apply(const Arguments& arguments);
  void Load(std::string_view file, const std::string& replid, uint64_t offset);
  std::string File() const;
  std::string Info() const;
  std::string Role() const;
  std::string NewId();
  // Each few seconds: the periodic RDB, and the PING that a master sends to its replicas.
  void ScheduleSave();

  Process& process_;
  const RedisTimes times_;
  std::string run_id_, replid_, replid2_;
  int64_t second_offset_ = -1;
  uint64_t offset_ = 0;
  bool has_backlog_ = false;
  std::string backlog_;  // ends at offset_
  // Selected in the stream, our own or the master's; -1: a SELECT is due.
  int stream_database_ = -1;
  bool loading_ = false, busy_ = false;
  Data data_;
  RedisImage stale_;
  std::string master_host_, master_port_;
  bool has_place_ = false;  // as a replica: offset_ is one that a master knows (cached master)
  std::unique_ptr<MasterLink> master_;
  std::unique_ptr<io::Listener> listener_;
  std::unique_ptr<io::Timer> redial_, save_;
  std::list<std::unique_ptr<Client>> clients_;
  uint64_t last_client_ = 0;
  uint64_t loads_ = 0;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace catena::sim
