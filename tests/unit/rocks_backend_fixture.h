// A RocksDB backend on a store in memory whose disk can be made to fail and to hang.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backends/rocksdb/rocksdb_backend.h"
#include "proxy/base/check.h"
#include "proxy/resp/encoder.h"
#include "tests/unit/backend_fixture.h"
#include "tests/unit/rocks_engine_fixture.h"

namespace catena::test {

inline rocks::BackendOptions QuickOptions() {
  rocks::BackendOptions options;
  options.reopen_interval = std::chrono::milliseconds(10);
  options.expiry_interval = std::chrono::milliseconds(5);
  return options;
}

// What the stores of one machine do; asked from whatever thread they are called on.
struct DiskState {
  std::atomic<bool> fails = false;
  std::atomic<bool> reads_fail = false;  // of copies
  std::atomic<bool> walks_fail = false;
  std::atomic<int> opened = 0, applies = 0, syncs = 0, checkpoints = 0, reads = 0, copies = 0;
  std::mutex mutex;
  std::condition_variable changed;
  bool hangs = false;  // by `mutex`
  std::atomic<bool> changing = false, reading = false;

  void WaitWhileItHangs() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return !hangs; });
  }
};

// What the Store's contract has only one thread do at a time.
class Alone {
 public:
  explicit Alone(std::atomic<bool>& taken) : taken_(taken) {
    CATENA_CHECK(!taken_.exchange(true),
                 "a Store has one reader and one writer at a time, a Checkpoint one reader");
  }
  ~Alone() { taken_ = false; }

 private:
  std::atomic<bool>& taken_;
};

class DiskCheckpoint final : public rocks::Checkpoint {
 public:
  DiskCheckpoint(std::unique_ptr<rocks::Checkpoint> checkpoint, std::shared_ptr<DiskState> disk)
      : checkpoint_(std::move(checkpoint)), disk_(std::move(disk)) {
    ++disk_->copies;
  }
  ~DiskCheckpoint() override {
    const Alone alone(reading_);
    --disk_->copies;
  }
  const rocks::Place& place() const override { return checkpoint_->place(); }
  const std::string& name() const override { return checkpoint_->name(); }
  uint64_t bytes() const override { return checkpoint_->bytes(); }
  Result<void> Read(uint64_t offset, size_t max, std::string& out) override {
    const Alone alone(reading_);
    ++disk_->reads;
    disk_->WaitWhileItHangs();
    if (disk_->reads_fail) return catena::Fail("the copy is gone");
    return checkpoint_->Read(offset, max, out);
  }

 private:
  std::unique_ptr<rocks::Checkpoint> checkpoint_;
  std::shared_ptr<DiskState> disk_;
  std::atomic<bool> reading_ = false;
};

class DiskStore final : public rocks::Store {
 public:
  DiskStore(std::unique_ptr<rocks::Store> store, std::shared_ptr<DiskState> disk)
      : store_(std::move(store)), disk_(std::move(disk)) {}

  const rocks::Place& place() const override { return store_->place(); }
  bool from_chain() const override { return store_->from_chain(); }
  const std::string& run_id() const override { return store_->run_id(); }
  uint64_t EstimateKeys() const override { return store_->EstimateKeys(); }
  int Compare(std::string_view a, std::string_view b) const override {
    return store_->Compare(a, b);
  }
  std::string Statistics() const override { return store_->Statistics(); }
  std::string Version() const override { return store_->Version(); }
  Result<bool> Get(std::string_view key, rocks::Item& item) override {
    const Alone alone(disk_->reading);
    if (disk_->fails) return Failed();
    return store_->Get(key, item);
  }
  Result<void> MultiGet(std::span<const std::string_view> keys, std::span<rocks::Item> items,
                        std::span<bool> found) override {
    const Alone alone(disk_->reading);
    if (disk_->fails) return Failed();
    return store_->MultiGet(keys, items, found);
  }
  std::unique_ptr<rocks::Cursor> Walk() override {
    const Alone alone(disk_->reading);
    return disk_->walks_fail ? empty_->Walk() : store_->Walk();
  }
  Result<void> Walked() const override {
    if (disk_->walks_fail) return Failed();
    return store_->Walked();
  }
  Result<void> Expired(int64_t deadline, size_t max, std::vector<std::string>& keys) override {
    const Alone alone(disk_->reading);
    if (disk_->fails) return Failed();
    return store_->Expired(deadline, max, keys);
  }
  std::unique_ptr<rocks::Batch> NewBatch() override { return store_->NewBatch(); }
  Result<void> Apply(rocks::Batch& batch, const rocks::Place& after) override {
    const Alone alone(disk_->changing);
    ++disk_->applies;
    disk_->WaitWhileItHangs();
    if (disk_->fails) return Failed();
    return store_->Apply(batch, after);
  }
  Result<void> SetPlace(const rocks::Place& place) override {
    const Alone alone(disk_->changing);
    return store_->SetPlace(place);
  }
  Result<void> SyncNow() override {
    const Alone alone(disk_->changing);
    ++disk_->syncs;
    return store_->SyncNow();
  }
  Result<std::unique_ptr<rocks::Checkpoint>> MakeCheckpoint() override {
    const Alone alone(disk_->changing);
    ++disk_->checkpoints;
    disk_->WaitWhileItHangs();
    auto made = store_->MakeCheckpoint();
    if (!made) return made;
    return std::make_unique<DiskCheckpoint>(std::move(*made), disk_);
  }
  Result<std::unique_ptr<rocks::Incoming>> BeginIncoming(const std::string& name,
                                                         uint64_t bytes) override {
    const Alone alone(disk_->changing);
    return store_->BeginIncoming(name, bytes);
  }
  void DropIncoming() override {
    const Alone alone(disk_->changing);
    store_->DropIncoming();
  }
  Result<void> Replace(std::unique_ptr<rocks::Incoming> incoming,
                       const rocks::Place& place) override {
    const Alone alone(disk_->changing);
    if (disk_->fails) return Failed();
    return store_->Replace(std::move(incoming), place);
  }

 private:
  static tl::unexpected<Error> Failed() { return Fail("the disk is gone"); }

  std::unique_ptr<rocks::Store> store_, empty_ = rocks::MakeMemoryStore();
  std::shared_ptr<DiskState> disk_;
};

class Disk {
 public:
  using Opener = std::function<Result<std::unique_ptr<rocks::Store>>()>;

  ~Disk() { Hang(false); }
  // What `open` opens lies on this disk.
  Opener With(Opener open) {
    return [open = std::move(open), state = state_]() -> Result<std::unique_ptr<rocks::Store>> {
      if (state->fails) return catena::Fail("no disk");
      auto store = open();
      if (!store) return store;
      return std::make_unique<DiskStore>(std::move(*store), state);
    };
  }
  // Each opening finds it empty.
  Opener InMemory() {
    return With([state = state_] {
      std::string run_id = std::to_string(++state->opened);
      run_id.insert(0, 40 - run_id.size(), '0');
      return rocks::MakeMemoryStore(run_id);
    });
  }
  void Fail(bool fails) { state_->fails = fails; }
  void Hang(bool hangs) {
    const std::lock_guard lock(state_->mutex);
    state_->hangs = hangs;
    state_->changed.notify_all();
  }
  void FailReads(bool fail) { state_->reads_fail = fail; }
  // A walk then ends before the first key.
  void FailWalks(bool fail) { state_->walks_fail = fail; }
  // Of copies; and how many of those there are.
  int reads() const { return state_->reads; }
  int copies() const { return state_->copies; }
  int applies() const { return state_->applies; }
  int syncs() const { return state_->syncs; }
  int checkpoints() const { return state_->checkpoints; }

 private:
  std::shared_ptr<DiskState> state_ = std::make_shared<DiskState>();
};

// One connection; what it gets, for people.
struct Client : backend::LaneHandler {
  Client(Loop& on, backend::Backend& backend, backend::LaneOptions options = {}) : loop(on) {
    lane = backend.OpenLane(options, this);
  }
  std::string Run(std::initializer_list<std::string_view> arguments) {
    std::string bytes;
    resp::AppendCommand(bytes, arguments);
    const size_t before = replies.size();
    lane->Submit(bytes);
    loop.Until([&] { return replies.size() > before || closed; });
    return replies.size() > before ? replies[before] : "closed";
  }
  std::optional<Position> AskPosition() {
    const size_t before = positions.size();
    lane->SubmitPosition();
    loop.Until([&] { return positions.size() > before || closed; });
    if (positions.size() == before) return std::nullopt;
    return positions[before];
  }
  void OnLaneReady() override { ready = true; }
  void OnReply(std::string_view reply) override { replies.push_back(rocks::test::Readable(reply)); }
  void OnPosition(Position position) override {
    positions.push_back(position);
    replies_before.push_back(replies.size());
  }
  void OnPush(std::string_view push) override { pushes.push_back(rocks::test::Readable(push)); }
  void OnLaneClosed(const std::string& reason, bool) override {
    closed = true;
    why = reason;
  }

  Loop& loop;
  bool ready = false, closed = false;
  std::string why;
  std::vector<std::string> replies, pushes;
  std::vector<Position> positions;
  std::vector<size_t> replies_before;  // of each position
  std::unique_ptr<backend::Lane> lane;
};

}  // namespace catena::test
