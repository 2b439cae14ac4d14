// The follower's side of a Redis: we are its master. Listens for it, gives it the committed stream
// (or a checked snapshot first), and learns what it has executed.
//
// Phases:   following:  waiting -> streaming (and back to waiting when its connection breaks)
//           snapshot:   waiting -> sending -> loading -> streaming
//           ended:      gap, refused or stopped; the Redis is told "later" from then on
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backends/backend.h"
#include "backends/redis/psync_master.h"
#include "backends/redis/rdb_check.h"
#include "backends/redis/redis_control.h"
#include "proxy/base/liveness.h"
#include "proxy/io/reactor.h"

namespace catena::redis {

class RedisFeed {
 public:
  // Each call may destroy the feed.
  class Owner {
   public:
    virtual ~Owner() = default;
    // REPLICAOF is accepted: the Redis is the replica of this address from now on.
    virtual void OnFeedMaster(const std::string& host, int port) = 0;
    virtual void OnFeedApplied(Position position) = 0;
    virtual void OnFeedGap(const std::string& reason) = 0;
    virtual void OnFeedSnapshotRoom() = 0;
    virtual void OnFeedSnapshotLoaded(Position position) = 0;
    virtual void OnFeedSnapshotRefused(const std::string& reason) = 0;
    // The Redis executed something that we did not feed, or is nobody's replica any more (I7).
    virtual void OnFeedBroken(const std::string& reason) = 0;
  };

  RedisFeed(io::Reactor& reactor, const RedisOptions& options, RedisControl& control, Owner* owner,
            std::string chain_replid, Position position, backend::FeedSource* source);
  ~RedisFeed();

  // One of the two, once. `length`: bytes of the snapshot.
  void Follow();
  void BeginSnapshot(uint64_t length);

  bool SnapshotChunk(std::string_view bytes);
  // The source has more, or may have.
  void Available();
  // Somebody waits until `position` is applied: it is asked for at once instead of now and then.
  void Await(Position position);
  // Nothing is sent any more (promotion); the connection stays.
  void Stop();
  // What a lane or the check learned of the position of the Redis, which stands in the chain's
  // history.
  void Observe(uint64_t offset);

  const std::string& chain_replid() const { return chain_replid_; }
  Position applied() const { return applied_; }
  bool streaming() const { return phase_ == Phase::kStreaming; }

 private:
  enum class Phase { kWaiting, kSending, kLoading, kStreaming, kEnded };
  class Link;  // one connection from the Redis

  void Listen();
  void AskForReplica();
  void OnAccept(std::unique_ptr<io::Stream> stream);
  void OnAsk(Link* link, const PsyncMaster::Event& ask);
  void OnAck(Link* link, Position position);
  void OnLinkClosed(Link* link, const std::string& reason);
  void OnLinkDrained();
  void RemoveLink(Link* link);
  void MakeActive(Link* link);

  void Answer(Link* link, const PsyncMaster::Event& ask);
  void AnswerFollow(Link* link, const PsyncMaster::Event& ask);
  void AnswerSnapshot(Link* link);
  bool MayResumeAsMaster(const PsyncMaster::Event& ask) const;

  void Pump();
  void AskApplied();
  void OnRole(std::optional<Role> role);

  void FlushSnapshot();
  size_t SnapshotBacklog() const;
  void OfferRoom();
  void StartLoading();
  void PollLoading();
  void AskWhenDue();
  void OnLoaded(Position position);

  void Gap(std::string reason);
  void RefuseSnapshot(std::string reason);
  void Fail(const std::string& reason);
  void End();

  io::Reactor& reactor_;
  const RedisOptions& options_;
  RedisControl& control_;
  Owner* owner_;
  const std::string chain_replid_;
  const Position position_;  // where the source stands, or the snapshot's
  backend::FeedSource* source_;
  Phase phase_ = Phase::kWaiting;
  bool snapshot_ = false;  // a snapshot comes first, and is not loaded yet
  std::string host_;       // what the Redis was told
  int port_ = 0;

  std::unique_ptr<io::Listener> listener_;
  std::vector<std::unique_ptr<Link>> links_;
  Link* active_ = nullptr;  // the one that is fed
  Position fed_, applied_;
  bool drain_asked_ = false;
  bool role_asked_ = false;
  bool ask_due_ = false;  // role_timer_ runs
  Position awaited_;      // somebody waits until so much is applied
  int fruitless_ = 0;     // answers of ROLE in a row that brought nothing new

  std::optional<RdbCheck> check_;
  uint64_t snapshot_length_ = 0;
  std::string snapshot_bytes_;  // checked, not yet written
  bool room_wanted_ = false;

  std::unique_ptr<io::Timer> connect_timer_, role_timer_;
  Liveness liveness_;
};

}  // namespace catena::redis
