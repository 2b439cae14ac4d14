// A lane of the RocksDB backend: commands go into the backend's next batch, replies come out of the
// last. Loop thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "backends/backend.h"
#include "backends/rocksdb/engine.h"
#include "backends/rocksdb/worker_core.h"
#include "proxy/base/liveness.h"
#include "proxy/base/ring.h"

namespace catena::rocks {

class RocksLane final : public backend::Lane {
 public:
  class Host {
   public:
    virtual ~Host() = default;
    // The batch that is being filled, and its number, which grows.
    virtual WorkBatch& NextBatch() = 0;
    virtual uint64_t NextBatchNumber() const = 0;
    // What is executed and not applied, if that is more than should be.
    virtual size_t OverdueBytes() const = 0;
    // Runs `fn` later in this turn.
    virtual void Later(std::function<void()> fn) = 0;
    virtual void OnLaneDestroyed(RocksLane* lane) = 0;
  };

  // `refused`: nothing reaches the database until its owner is told so.
  RocksLane(LaneId id, int protocol, bool refused, Host* host, backend::LaneHandler* handler);
  ~RocksLane() override;

  LaneId id() const { return id_; }

  void Submit(std::string_view command) override;
  void SubmitShared(const BytesOwner& owner, std::string_view command) override;
  void SubmitPosition() override;
  size_t UnsentBytes() const override;
  void PauseReading() override { paused_ = true; }
  void ResumeReading() override;

  // What the engine answered. `owner`: of the bytes, for a large reply, or nullptr.
  void Take(const Output::Reply& reply, std::string_view bytes, const BytesOwner& owner);
  // The database has taken notice of the lane.
  void Ready();
  // The database is lost: tells the handler, unless it has been told.
  void Break(const std::string& reason, bool nothing_sent);
  // The backend goes: closes without a word.
  void Detach() { host_ = nullptr; }

 private:
  struct Held {
    Output::Reply::Kind kind;
    std::string bytes;
    Position position;
  };

  bool open() const { return host_ != nullptr && !broken_ && !refused_; }
  void Add(WorkBatch::Item item);
  void Deliver(Output::Reply::Kind kind, std::string_view bytes, Position position,
               const BytesOwner& owner);
  void DeliverHeld();

  const LaneId id_;
  const bool refused_;
  Host* host_;
  backend::LaneHandler* handler_;
  bool broken_ = false;
  bool paused_ = false;
  Ring<Held> held_;  // while paused
  // Commands that wait until the lane reads again: what it holds is bounded by what was under way.
  std::vector<WorkBatch::Item> waiting_;
  size_t waiting_bytes_ = 0;
  size_t unsent_bytes_ = 0;    // in the batch
  uint64_t unsent_batch_ = 0;  // of this number
  Liveness liveness_;
};

}  // namespace catena::rocks
