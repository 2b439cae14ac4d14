// A connection on which we are the replica of a Redis: PsyncReplica with a socket.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "backends/redis/psync_replica.h"
#include "proxy/base/liveness.h"
#include "proxy/io/reactor.h"

namespace catena::redis {

class ReplicaConnection : public io::StreamHandler {
 public:
  // Each call may destroy the connection.
  class Handler {
   public:
    virtual ~Handler() = default;
    // Any event but kNeedMore. After kLater and kRefused nothing follows.
    virtual void OnReplicaEvent(ReplicaConnection* connection,
                                const PsyncReplica::Event& event) = 0;
    virtual void OnReplicaClosed(ReplicaConnection* connection, const std::string& reason) = 0;
  };

  ReplicaConnection(io::Reactor& reactor, const io::Address& address, ReplicaHello hello,
                    Handler* handler);

  // After kReady; see PsyncReplica::Ask.
  void Ask(const std::string& replid, std::optional<Position> position, bool failover);
  // REPLCONF ACK.
  void Acknowledge(Position position);
  void PauseReading() { stream_->PauseReading(); }
  void ResumeReading() { stream_->ResumeReading(); }
  // Moments at which bytes came are what tells a slow snapshot from a dead one.
  bool TakeHeard() { return std::exchange(heard_, false); }

  void OnRead(std::string_view bytes) override;
  void OnClosed(std::string_view reason) override;

 private:
  Handler* handler_;
  PsyncReplica machine_;
  bool heard_ = false;
  Liveness liveness_;
  std::unique_ptr<io::Stream> stream_;
};

}  // namespace catena::redis
