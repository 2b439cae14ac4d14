#include "backends/redis/redis_snapshot.h"

#include <utility>

#include "backends/redis/redis_info.h"

namespace catena::redis {
namespace {

using Kind = PsyncReplica::Kind;

// While it prepares the file Redis sends a newline about each second; this long without any is a
// dead link.
constexpr Duration kQuietMax = std::chrono::seconds(60);

ReplicaHello SnapshotHello(const RedisOptions& options, const std::string& run_id) {
  ReplicaHello hello;
  hello.user = options.user;
  hello.password = options.password;
  hello.client_name = ConnectionName(options.node, options.incarnation);
  hello.run_id = run_id;
  hello.rdb_only = true;  // and no capa eof: no delay, and a slow reader costs Redis nothing
  return hello;
}

}  // namespace

RedisSnapshot::RedisSnapshot(io::Reactor& reactor, const RedisOptions& options,
                             const std::string& run_id, std::string replid, Host* host,
                             backend::SnapshotSink* sink)
    : replid_(std::move(replid)), host_(host), sink_(sink) {
  quiet_timer_ = reactor.MakeTimer([this] { OnQuiet(); });
  quiet_timer_->Start(kQuietMax);
  connection_ = std::make_unique<ReplicaConnection>(reactor, options.address,
                                                    SnapshotHello(options, run_id), this);
}

RedisSnapshot::~RedisSnapshot() {
  if (host_) host_->OnSnapshotDestroyed(this);
}

void RedisSnapshot::Pause() {
  paused_ = true;
  if (connection_) connection_->PauseReading();
}

void RedisSnapshot::Resume() {
  paused_ = false;
  if (connection_) connection_->ResumeReading();
}

void RedisSnapshot::Detach() {
  host_ = nullptr;
  connection_.reset();
  quiet_timer_->Stop();
}

void RedisSnapshot::Fail(const std::string& reason) {
  if (!connection_) return;
  connection_.reset();
  quiet_timer_->Stop();
  sink_->OnSnapshotFailed(reason);
}

void RedisSnapshot::OnQuiet() {
  if (!connection_) return;
  if (!connection_->TakeHeard() && !paused_) return Fail("the Redis has sent nothing for 60 s");
  quiet_timer_->Start(kQuietMax);
}

void RedisSnapshot::OnReplicaEvent(ReplicaConnection* connection,
                                   const PsyncReplica::Event& event) {
  switch (event.kind) {
    case Kind::kReady:
      return connection->Ask("", std::nullopt, false);
    case Kind::kFullResync:
      position_ = event.position;
      if (replid_.empty() || event.replid == replid_) return;
      return Fail("the Redis is in the history " + event.replid + ", not in " + replid_);
    case Kind::kSnapshotStart:
      return sink_->OnSnapshotStart(position_, event.length, {});
    case Kind::kSnapshotBytes:
      return sink_->OnSnapshotBytes(event.bytes);
    case Kind::kSnapshotEnd:
      quiet_timer_->Stop();
      connection_.reset();
      return sink_->OnSnapshotEnd();
    case Kind::kLater:
    case Kind::kRefused:
      return Fail(event.text);
    case Kind::kContinue:
      return Fail("the Redis continued where a snapshot was asked for");
    case Kind::kStream:
    case Kind::kNeedMore:
      return;
  }
}

void RedisSnapshot::OnReplicaClosed(ReplicaConnection*, const std::string& reason) { Fail(reason); }

}  // namespace catena::redis
