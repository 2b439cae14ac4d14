// The small language of the backends' tests: a loop, what a backend says, the captured stream as a
// log, snapshots.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backends/backend.h"
#include "proxy/io/uv_reactor.h"

namespace catena::test {

inline const std::string kChain = "ca7e4a0000000000000000000000000000000001";

class Loop {
 public:
  Loop() : reactor_(io::MakeUvReactor()), tick_(reactor_->MakeTimer([this] { Tick(); })) {
    reactor_->AddTurnEndHook([this] {
      if (done_ && done_()) reactor_->Stop();
    });
  }
  io::Reactor& reactor() { return *reactor_; }

  // Runs until `condition` holds; false when it does not within `limit`.
  bool Until(std::function<bool()> condition,
             std::chrono::milliseconds limit = std::chrono::seconds(20)) {
    const auto end = std::chrono::steady_clock::now() + limit;
    done_ = [condition = std::move(condition), end] {
      return condition() || std::chrono::steady_clock::now() > end;
    };
    tick_->Start(std::chrono::milliseconds(0));
    reactor_->Run();
    const auto done = std::exchange(done_, nullptr);
    return std::chrono::steady_clock::now() <= end;
  }
  // Lets pass what is under way: for "nothing happens" only.
  void For(std::chrono::milliseconds time) {
    Until([] { return false; }, time);
  }

 private:
  void Tick() {
    if (done_ && done_()) return reactor_->Stop();
    tick_->Start(std::chrono::milliseconds(1));
  }

  std::unique_ptr<io::Reactor> reactor_;
  std::function<bool()> done_;
  std::unique_ptr<io::Timer> tick_;
};

// The bytes of a history from `start` on, all committed unless `committed` says otherwise.
struct StreamLog : backend::FeedSource {
  Position start;
  std::string bytes;
  std::optional<Position> committed;
  std::optional<int> database;

  Position End() const { return start + bytes.size(); }
  std::optional<std::string_view> CommittedBytes(Position from, size_t max) override {
    const Position end = committed.value_or(End());
    if (from < start || from > end) return std::nullopt;
    return std::string_view(bytes).substr(from - start, std::min<uint64_t>(max, end - from));
  }
  std::optional<int> DatabaseAt(Position) override { return database; }
};

// Writes down what a backend says.
struct EventLog : backend::BackendEvents {
  void OnExamined(const backend::Info& info) override { examined.push_back(info); }
  void OnLost(const std::string& reason) override { lost.push_back(reason); }
  void OnAttached(Position position) override {
    attached = position;
    log.start = position;
    log.bytes.clear();
  }
  void OnCaptureLost(const std::string& reason) override { capture_lost.push_back(reason); }
  void OnEffects(std::string_view bytes) override {
    log.bytes.append(bytes);
    if (on_effects) on_effects();
  }
  void OnApplied(Position position) override {
    fell |= applied && position < *applied;
    applied = position;
  }
  void OnFeedGap(const std::string& reason) override { gaps.push_back(reason); }
  void OnSnapshotRoom() override { ++rooms; }
  void OnSnapshotLoaded(Position position) override { loaded = position; }
  void OnSnapshotRefused(const std::string& reason) override { refused.push_back(reason); }

  std::vector<backend::Info> examined;
  std::vector<std::string> lost, capture_lost, gaps, refused;
  std::optional<Position> attached, applied, loaded;
  bool fell = false;  // OnApplied went backwards
  int rooms = 0;
  StreamLog log;  // what was captured
  std::function<void()> on_effects;
};

struct Snapshot : backend::SnapshotSink {
  void OnSnapshotStart(Position at, uint64_t size, const backend::SnapshotPart&) override {
    position = at;
    length = size;
  }
  void OnSnapshotBytes(std::string_view piece) override { bytes.append(piece); }
  void OnSnapshotEnd() override { ended = true; }
  void OnSnapshotFailed(const std::string& reason) override { failed = reason; }

  Position position;
  uint64_t length = 0;
  std::string bytes, failed;
  bool ended = false;
};

inline Snapshot Take(Loop& loop, backend::Backend& backend) {
  Snapshot snapshot;
  const auto reader = backend.TakeSnapshot(&snapshot, {});
  loop.Until([&] { return snapshot.ended || !snapshot.failed.empty(); });
  return snapshot;
}

// Gives `backend` the snapshot in chunks, as fast as it takes them; true when it is loaded.
inline bool Load(Loop& loop, backend::Backend& backend, EventLog& events, const Snapshot& snapshot,
                 backend::FeedSource* source, size_t chunk = 64u << 10) {
  backend.BeginSnapshot(kChain, snapshot.position, snapshot.bytes.size(), source);
  for (size_t at = 0; at < snapshot.bytes.size(); at += chunk) {
    const int rooms = events.rooms;
    if (!backend.SnapshotChunk(std::string_view(snapshot.bytes).substr(at, chunk))) {
      loop.Until([&] { return events.rooms > rooms || !events.refused.empty(); });
    }
  }
  loop.Until([&] { return events.loaded || !events.refused.empty(); });
  return events.loaded == snapshot.position;
}

}  // namespace catena::test
