// Reads a checkpoint on workers and hands its bytes to the loop. Loop thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "backends/backend.h"
#include "backends/rocksdb/worker_core.h"
#include "proxy/base/liveness.h"
#include "proxy/io/reactor.h"

namespace catena::rocks {

// A checkpoint that is read, with what it needs. While `busy` a worker has the use of `bytes` and
// `done`.
struct ReadCheckpoint {
  std::shared_ptr<WorkerCore> core;  // keeps the database open
  std::unique_ptr<Checkpoint> checkpoint;
  std::string bytes;
  Result<void> done;
  bool busy = false;
  bool forgotten = false;           // goes when it is not busy any more
  std::function<void()> when_free;  // for a reader that took it over from one that is gone

  ~ReadCheckpoint() { checkpoint.reset(); }  // before the database
};

// Removes its files, which is a worker's, when no other worker reads them any more.
void Forget(io::Reactor& reactor, const std::shared_ptr<ReadCheckpoint>& reading);

class RocksSnapshot final : public backend::SnapshotReader {
 public:
  // `on_destroyed` is called by the destructor, unless the backend was detached before, with what
  // was read; that is nothing to go on with if it has failed.
  using OnDestroyed = std::function<void(RocksSnapshot*, std::shared_ptr<ReadCheckpoint>)>;

  RocksSnapshot(io::Reactor& reactor, backend::SnapshotSink* sink, OnDestroyed on_destroyed);
  ~RocksSnapshot() override;

  void Pause() override { paused_ = true; }
  void Resume() override;

  // The checkpoint is there; it is read from `offset` on.
  void Begin(std::shared_ptr<ReadCheckpoint> reading, uint64_t offset);
  void Fail(const std::string& reason);
  bool failed() const { return failed_; }
  void Detach();
  // For jobs that may come to run when this is gone.
  Liveness::Watch watch() const { return Liveness::Watch(liveness_); }

 private:
  void ReadNext();
  void OnRead();

  io::Reactor& reactor_;
  backend::SnapshotSink* sink_;
  OnDestroyed on_destroyed_;
  std::shared_ptr<ReadCheckpoint> reading_;
  uint64_t offset_ = 0;
  bool paused_ = false;
  bool over_ = false, failed_ = false;
  Liveness liveness_;
};

}  // namespace catena::rocks
