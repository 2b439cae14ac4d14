#include "backends/rocksdb/rocks_snapshot.h"

#include <utility>

namespace catena::rocks {
namespace {

constexpr size_t kPieceBytes = 512u << 10;

}  // namespace

void Forget(io::Reactor& reactor, const std::shared_ptr<ReadCheckpoint>& reading) {
  reading->forgotten = true;
  if (!reading->busy) reactor.RunOnWorker([reading] { reading->checkpoint.reset(); }, [] {});
}

RocksSnapshot::RocksSnapshot(io::Reactor& reactor, backend::SnapshotSink* sink,
                             OnDestroyed on_destroyed)
    : reactor_(reactor), sink_(sink), on_destroyed_(std::move(on_destroyed)) {}

RocksSnapshot::~RocksSnapshot() {
  if (on_destroyed_) on_destroyed_(this, std::move(reading_));
}

void RocksSnapshot::Begin(std::shared_ptr<ReadCheckpoint> reading, uint64_t offset) {
  reading_ = std::move(reading);
  offset_ = offset;
  const Checkpoint& checkpoint = *reading_->checkpoint;
  const Liveness::Watch watch(liveness_);
  sink_->OnSnapshotStart(checkpoint.place().position, checkpoint.bytes(),
                         {checkpoint.name(), offset});
  if (!watch.Gone()) ReadNext();
}

void RocksSnapshot::ReadNext() {
  if (paused_ || over_ || !reading_) return;
  if (reading_->busy) {
    reading_->when_free = [this, watch = Liveness::Watch(liveness_)] {
      if (!watch.Gone()) ReadNext();
    };
    return;
  }
  reading_->busy = true;
  reactor_.RunOnWorker(
      [reading = reading_, offset = offset_] {
        reading->done = reading->checkpoint->Read(offset, kPieceBytes, reading->bytes);
      },
      [this, &reactor = reactor_, reading = reading_, watch = Liveness::Watch(liveness_)] {
        reading->busy = false;
        if (reading->forgotten) return Forget(reactor, reading);
        if (const auto next = std::exchange(reading->when_free, nullptr)) next();
        if (!watch.Gone() && !reading->busy) OnRead();
      });
}

void RocksSnapshot::OnRead() {
  if (over_) return;
  if (!reading_->done) return Fail(reading_->done.error().message);
  offset_ += reading_->bytes.size();
  const bool ends = offset_ >= reading_->checkpoint->bytes() || reading_->bytes.empty();
  const Liveness::Watch watch(liveness_);
  sink_->OnSnapshotBytes(reading_->bytes);
  if (watch.Gone() || over_) return;
  if (!ends) return ReadNext();
  if (offset_ != reading_->checkpoint->bytes()) return Fail("the checkpoint is shorter than told");
  over_ = true;
  sink_->OnSnapshotEnd();
}

void RocksSnapshot::Resume() {
  paused_ = false;
  ReadNext();
}

void RocksSnapshot::Fail(const std::string& reason) {
  if (std::exchange(over_, true)) return;
  failed_ = true;
  sink_->OnSnapshotFailed(reason);
}

void RocksSnapshot::Detach() {
  on_destroyed_ = nullptr;
  over_ = true;
}

}  // namespace catena::rocks
