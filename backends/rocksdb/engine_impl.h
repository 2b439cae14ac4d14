// The engine's inside; see engine.h. engine.cc: data and roles; engine_lanes.cc: connections.
#pragma once

#include <tsl/robin_map.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/rocksdb/effects.h"
#include "backends/rocksdb/engine.h"
#include "backends/rocksdb/engine_lane.h"
#include "backends/rocksdb/entry_cutter.h"
#include "backends/rocksdb/overlay.h"
#include "backends/rocksdb/pubsub.h"
#include "backends/rocksdb/watches.h"
#include "proxy/base/ring.h"
#include "proxy/resp/decoder.h"

namespace catena::rocks {

// Values that were read ahead.
class Prefetched {
 public:
  struct Found {
    bool known = false;
    const Item* item = nullptr;
  };

  void Clear() {
    if (keys_.empty()) return;
    keys_.clear();
    index_.clear();
  }
  void Add(std::string_view key) {
    if (keys_.size() == kKeysMax || !index_.try_emplace(key, keys_.size()).second) return;
    keys_.push_back(key);
  }
  Result<void> Read(Store& store);
  Found Find(std::string_view key) const;

 private:
  static constexpr size_t kKeysMax = 1024;

  std::vector<std::string_view> keys_;
  std::vector<Item> items_;
  std::unique_ptr<bool[]> found_;
  size_t room_ = 0;
  tsl::robin_map<std::string_view, size_t> index_;
};

struct Engine::Impl final : View, EntryCutter::Handler, EffectHandler {
  // Commands that concern the connection, or all of them.
  enum class Word : uint8_t {
    kOther,
    kMulti,
    kExec,
    kDiscard,
    kWatch,
    kUnwatch,
    kSubscribe,
    kPsubscribe,
    kUnsubscribe,
    kPunsubscribe,
    kPublish,
    kPubsub,
    kPing,
    kReset,
    kQuit,
  };

  Impl(Store& store, uint64_t seed);

  // --- View: what is executed, and above it what the command has changed ---
  bool Get(std::string_view key, Item& item) override;
  bool Has(std::string_view key) override { return Get(key, scratch_); }
  void Put(std::string_view key, std::string_view value, int64_t deadline_ms) override;
  void Delete(std::string_view key) override;
  void Clear() override;
  std::unique_ptr<Cursor> Walk() override;
  int Compare(std::string_view a, std::string_view b) const override {
    return store_.Compare(a, b);
  }
  uint64_t CountKeys() override;
  int64_t NowMs() const override { return now_ms_; }
  uint64_t Random() override;

  // --- lanes (engine_lanes.cc) ---
  static Word Classify(std::string_view name);
  EngineLane* Find(LaneId id);
  Result<void> Submit(EngineLane& lane, std::string_view command, Output& out);
  void RunAny(EngineLane& lane, Word word, Arguments arguments);
  void RunQueued(EngineLane& lane);
  // Those that a transaction can hold; appends to reply_.
  void Run(EngineLane& lane, Word word, Arguments arguments);
  // Those that change the connection's state.
  void RunState(EngineLane& lane, Word word, Arguments arguments);
  void Exec(EngineLane& lane);
  void EndTransaction(EngineLane& lane);
  void Watch(EngineLane& lane, Arguments keys);
  void Subscriptions(EngineLane& lane, Word word, Arguments names);
  void Ping(EngineLane& lane, Arguments arguments);
  void Reset(EngineLane& lane);
  bool Writes(Word word, const EngineLane& lane, Arguments arguments) const;
  uint64_t Publish(std::string_view channel, std::string_view message);
  void Push(EngineLane& lane, std::string_view message);
  void Reply(const EngineLane& lane, size_t begin, Output::Reply::Kind kind);
  bool Expired(int64_t deadline_ms) const {
    return deadline_ms != Item::kNoDeadline && deadline_ms <= now_ms_;
  }

  // --- data (engine.cc) ---
  // The key's item whether its time has passed or not.
  bool GetRaw(std::string_view key, Item& item);
  // Ends a command or transaction: its changes become one entry. An Error: the Store failed, nothing
  // has changed.
  Result<void> EndEntry(Output& out);
  void AppendEntry(std::string& out);
  void ForgetPublished();
  Result<void> OnEntry(std::string_view entry, Position start,
                       const std::vector<std::string_view>& keys) override;
  void OnWrite(std::string_view batch) override;
  void OnFlush() override;
  void OnPublish(std::string_view channel, std::string_view message) override {
    Publish(channel, message);
  }
  void StartAt(const Place& place);
  void NotePositions(Output& out) const {
    out.executed = executed_;
    out.applied = applied_;
  }

  Store& store_;
  ServerFacts facts_;
  bool head_ = false;
  std::string replid_;
  Position executed_, applied_;
  std::optional<Position> committing_;
  Overlay overlay_;
  Ring<Position> entries_;  // ends of those that are not applied
  std::unique_ptr<Batch> batch_;
  EntryCutter cutter_;
  Prefetched prefetched_;

  tsl::robin_map<LaneId, std::unique_ptr<EngineLane>> lanes_;
  EngineLane* last_lane_ = nullptr;
  Watches watches_;
  PubSub pubsub_;
  Workspace workspace_;

  // Of the work under way.
  int64_t now_ms_ = 0;
  Output* out_ = nullptr;
  std::optional<Error> failure_;
  bool walked_ = false;
  uint64_t random_state_;
  resp::CommandDecoder decoder_;
  resp::Command command_;
  std::string reply_;
  // Published by the entry under way: channels and messages end to end, and their lengths.
  std::string published_bytes_;
  std::vector<std::pair<size_t, size_t>> published_;
  Item scratch_;
  std::string serialized_;
  std::vector<Change> changes_;
  std::vector<std::string_view> changed_keys_;
  std::vector<std::string_view> queued_arguments_;
};

}  // namespace catena::rocks
