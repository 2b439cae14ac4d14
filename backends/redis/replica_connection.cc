#include "backends/redis/replica_connection.h"

#include <utility>

#include "proxy/resp/encoder.h"

namespace catena::redis {

ReplicaConnection::ReplicaConnection(io::Reactor& reactor, const io::Address& address,
                                     ReplicaHello hello, Handler* handler)
    : handler_(handler), machine_(std::move(hello)), stream_(reactor.Connect(address, this)) {
  stream_->Write(machine_.Hello());
}

void ReplicaConnection::Ask(const std::string& replid, std::optional<Position> position,
                            bool failover) {
  stream_->Write(machine_.Ask(replid, position, failover));
}

void ReplicaConnection::Acknowledge(Position position) {
  std::string command;
  resp::AppendCommand(command, {"REPLCONF", "ACK", resp::Decimal(position.value())});
  stream_->Write(command);
}

void ReplicaConnection::OnRead(std::string_view bytes) {
  const Liveness::Watch watch(liveness_);
  heard_ = true;
  while (true) {
    const PsyncReplica::Event event = machine_.Next(bytes);
    if (event.kind == PsyncReplica::Kind::kNeedMore) return;
    handler_->OnReplicaEvent(this, event);
    if (watch.Gone()) return;
  }
}

void ReplicaConnection::OnClosed(std::string_view reason) {
  handler_->OnReplicaClosed(this, std::string(reason));
}

}  // namespace catena::redis
