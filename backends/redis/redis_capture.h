// The head's side of a Redis: attaches to its replication stream as a replica would, or promotes a
// fed follower and attaches in one command, keeps the attachment over broken connections,
// acknowledges commits.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "backends/redis/redis_control.h"
#include "backends/redis/replica_connection.h"
#include "proxy/base/ids.h"

namespace catena::redis {

class RedisCapture : public ReplicaConnection::Handler {
 public:
  // Each call may destroy the capture. After OnCaptureLost it does nothing more.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnCaptureAttached(Position position) = 0;
    virtual void OnCaptureBytes(std::string_view bytes) = 0;
    virtual void OnCaptureLost(const std::string& reason) = 0;
  };

  RedisCapture(io::Reactor& reactor, const RedisOptions& options, RedisControl& control,
               Owner* owner);
  ~RedisCapture() override;

  // One of the two, once.
  void Attach();
  void Promote(const std::string& chain_replid, Position position);

  void SetCommitted(Position position);
  void AckWanted();
  // What the Redis says now and then of its position.
  void Observe(Position executed);
  bool attached() const { return phase_ == Phase::kAttached || phase_ == Phase::kReattaching; }

 private:
  enum class Phase { kIdle, kAttaching, kPromoting, kAttached, kReattaching, kLost };

  void OnReplicaEvent(ReplicaConnection* connection, const PsyncReplica::Event& event) override;
  void OnReplicaClosed(ReplicaConnection* connection, const std::string& reason) override;

  void Begin(Phase phase);
  // Takes the next step of attaching or promoting: connect, look at INFO, then decide by it.
  void Advance();
  void AdvanceAfter(Duration delay);
  void ConsiderAttach(const ServerInfo& server);
  void ConsiderPromote(const ServerInfo& server);
  void BecomeMaster();
  void OpenStarter();
  void StartOver(const std::string& reason, Duration delay);
  void Reattach(const std::string& reason);
  void OnContinue(const std::string& replid);
  void OnRefused(const std::string& text);
  void Lost(std::string reason);
  void Acknowledge();
  ReplicaHello Hello(bool capa_eof) const;

  io::Reactor& reactor_;
  const RedisOptions& options_;
  RedisControl& control_;
  Owner* owner_;
  Phase phase_ = Phase::kIdle;
  std::string replid_;  // of the history that is asked for
  Position asked_;      // from where on
  Position received_;   // captured up to here
  Position committed_;
  Position ack_until_;                     // commits up to here are acknowledged at once
  Position stood_at_;                      // what was captured when it was observed last
  std::optional<TimePoint> silent_since_;  // it was behind then, and nothing came
  bool link_ready_ = false;                // the handshake is done, PSYNC is not asked
  bool without_failover_ = false;          // this Redis does not know PSYNC ... FAILOVER
  bool paused_ = false;                    // CLIENT PAUSE is in force
  std::string last_trouble_;
  TimePoint deadline_{};
  std::unique_ptr<io::Timer> step_timer_, ack_timer_;
  std::unique_ptr<ReplicaConnection> link_;
  std::unique_ptr<ReplicaConnection> starter_;  // makes Redis create its backlog
  Liveness liveness_;
};

}  // namespace catena::redis
