// A snapshot being read from a Redis: the RDB and its position, on a connection of its own.
#pragma once

#include <memory>
#include <string>

#include "backends/backend.h"
#include "backends/redis/redis_backend.h"
#include "backends/redis/replica_connection.h"

namespace catena::redis {

class RedisSnapshot : public backend::SnapshotReader, public ReplicaConnection::Handler {
 public:
  class Host {
   public:
    virtual ~Host() = default;
    virtual void OnSnapshotDestroyed(RedisSnapshot* snapshot) = 0;
  };

  // `run_id`: the process that must answer. `replid`: the history that the snapshot must be of;
  // empty: any.
  RedisSnapshot(io::Reactor& reactor, const RedisOptions& options, const std::string& run_id,
                std::string replid, Host* host, backend::SnapshotSink* sink);
  ~RedisSnapshot() override;

  void Pause() override;
  void Resume() override;

  // Ends it, and tells the sink unless it has been told.
  void Fail(const std::string& reason);
  // The backend goes: ends without a word.
  void Detach();

 private:
  void OnReplicaEvent(ReplicaConnection* connection, const PsyncReplica::Event& event) override;
  void OnReplicaClosed(ReplicaConnection* connection, const std::string& reason) override;
  void OnQuiet();

  const std::string replid_;
  Host* host_;
  backend::SnapshotSink* sink_;
  Position position_;
  bool paused_ = false;
  std::unique_ptr<io::Timer> quiet_timer_;
  std::unique_ptr<ReplicaConnection> connection_;
};

}  // namespace catena::redis
