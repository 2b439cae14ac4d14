// A pipelined connection for clients' commands: raw commands in, raw replies out, nothing decoded
// but the answers of ROLE.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/backend.h"
#include "backends/redis/redis_backend.h"
#include "backends/redis/redis_info.h"
#include "proxy/base/liveness.h"
#include "proxy/io/reactor.h"
#include "proxy/resp/decoder.h"

namespace catena::redis {

class RedisLane : public backend::Lane, public io::StreamHandler {
 public:
  // The backend as its lanes see it.
  class Host {
   public:
    virtual ~Host() = default;
    virtual const std::string& LaneRunId() const = 0;
    // The position that an answer of ROLE stands for; nullopt: it does not fit the role of this
    // Redis. May report it as applied, and so destroy the lane.
    virtual std::optional<Position> JudgeLaneRole(const Role& role) = 0;
    // Another process answers than the one that was examined.
    virtual void OnLaneOtherProcess(const std::string& reason) = 0;
    virtual void OnLaneDestroyed(RedisLane* lane) = 0;
  };

  RedisLane(io::Reactor& reactor, const RedisOptions& redis, const backend::LaneOptions& options,
            Host* host, backend::LaneHandler* handler);
  ~RedisLane() override;

  void Submit(std::string_view command) override;
  void SubmitShared(const BytesOwner& owner, std::string_view command) override;
  void SubmitPosition() override;
  size_t UnsentBytes() const override;
  void PauseReading() override;
  void ResumeReading() override;

  // Something was sent and is not answered.
  bool Owes() const { return ready_ && (behind_ > 0 || !before_position_.empty()); }
  // Whether nothing that it owes has come for so long; then again after as long. Asked about once a
  // second.
  bool IsSilent(TimePoint now, Duration patience);
  // The Redis' id of this connection; "" until it is ready.
  const std::string& client_id() const { return client_id_; }
  // The Redis is lost: closes and tells the handler, unless it has been told.
  void Break(const std::string& reason);
  // The backend goes: closes without a word.
  void Detach();

 private:
  void OnRead(std::string_view bytes) override;
  void OnClosed(std::string_view reason) override;

  void Queue(const BytesOwner& owner, std::string_view command);
  static std::vector<std::string> Introduction(const RedisOptions& redis,
                                               const backend::LaneOptions& options);
  void Introduce();
  // Hands out the replies in `input`, which lies in `*owner` if there is one; returns the bytes
  // used, or nullopt when the lane is closed or gone.
  std::optional<size_t> Deliver(std::string_view input, const BytesOwner& owner);
  // One complete reply.
  void DeliverOne(std::string_view reply, const BytesOwner& owner, const Liveness::Watch& watch);
  // Bytes of a reply that is not complete.
  void Keep(std::string_view rest);
  void HandOut(std::string_view reply, const BytesOwner& owner);
  void HelloReply(std::string_view reply, const Liveness::Watch& watch);
  // The Redis was busy with a script: nothing that waits has been sent.
  void AnswerBusy(const Liveness::Watch& watch);
  void PositionReply(std::string_view reply, const Liveness::Watch& watch);

  Host* host_;
  backend::LaneHandler* handler_;
  bool ready_ = false;
  std::vector<std::string> introduction_;
  size_t hello_left_ = 0;  // replies of the introduction that are not in; not ready and 0: not sent
  std::string busy_;       // the -BUSY among them
  std::string client_id_;
  // Submitted before ready: bytes in *owner.
  std::vector<std::pair<BytesOwner, std::string_view>> queued_;
  size_t queued_bytes_ = 0;
  // Replies owed: for each position question the ordinary replies before it (after the previous
  // question), then those behind the last question.
  std::deque<uint64_t> before_position_;
  uint64_t behind_ = 0;
  bool heard_ = false;                     // since IsSilent was asked last
  std::optional<TimePoint> silent_since_;  // it owes something
  std::string buffer_;
  resp::ReplyScanner scanner_{resp::kReplyLimits};
  Liveness liveness_;
  std::unique_ptr<io::Stream> stream_;
};

}  // namespace catena::redis
