#include "backends/rocksdb/engine.h"

#include <algorithm>
#include <utility>

#include "backends/rocksdb/engine_impl.h"
#include "backends/rocksdb/merged_cursor.h"
#include "proxy/base/check.h"
#include "proxy/base/free_memory.h"
#include "proxy/resp/encoder.h"

namespace catena::rocks {
namespace {

constexpr size_t kExpiredAtOnce = 200;
// Buffers that one huge entry has grown are given back above this.
constexpr size_t kKeptBytes = 1u << 20;
// A command may be as large as clients may send it (and a forwarding proxy's frame around it).
constexpr resp::Limits kCommandLimits{.bulk_bytes_max = size_t{1} << 40,
                                      .elements_max = size_t{1} << 31,
                                      .command_bytes_max = size_t{1} << 41};

}  // namespace

// --- values read ahead ---------------------------------------------------------------------------

Result<void> Prefetched::Read(Store& store) {
  if (room_ < keys_.size()) {
    room_ = keys_.size();
    items_.resize(room_);
    found_ = std::make_unique<bool[]>(room_);
  }
  return store.MultiGet(keys_, std::span(items_).first(keys_.size()),
                        std::span(found_.get(), keys_.size()));
}

Prefetched::Found Prefetched::Find(std::string_view key) const {
  if (keys_.empty()) return {};
  const auto at = index_.find(key);
  if (at == index_.end()) return {};
  return {true, found_[at->second] ? &items_[at->second] : nullptr};
}

// --- the view ------------------------------------------------------------------------------------

Engine::Impl::Impl(Store& store, uint64_t seed)
    : store_(store),
      overlay_(store),
      batch_(store.NewBatch()),
      random_state_(seed),
      decoder_(kCommandLimits) {
  facts_.version = store.Version();
  facts_.run_id = store.run_id();
  facts_.estimated_keys = [this] { return store_.EstimateKeys(); };
  facts_.statistics = [this] { return store_.Statistics(); };
  facts_.replication = [this] {
    return std::string(head_ ? "role:master\r\n" : "role:slave\r\n") +
           "connected_slaves:0\r\nmaster_replid:" + replid_ +
           "\r\nmaster_repl_offset:" + resp::Decimal(executed_.value()) + "\r\n";
  };
  facts_.configuration = [] { return std::string(); };
  StartAt(store.place());
}

bool Engine::Impl::GetRaw(std::string_view key, Item& item) {
  const Overlay::Found found = overlay_.Find(key);
  if (found.decided) {
    if (found.version == nullptr || found.version->deleted) return false;
    item.value.assign(found.version->value);
    item.deadline_ms = found.version->deadline_ms;
    return true;
  }
  if (const Prefetched::Found ahead = prefetched_.Find(key); ahead.known) {
    if (ahead.item == nullptr) return false;
    item.value.assign(ahead.item->value);
    item.deadline_ms = ahead.item->deadline_ms;
    return true;
  }
  const auto read = store_.Get(key, item);
  if (read) return *read;
  if (!failure_) failure_ = read.error();
  return false;
}

bool Engine::Impl::Get(std::string_view key, Item& item) {
  if (!GetRaw(key, item)) return false;
  if (!Expired(item.deadline_ms)) return true;
  // Only the head makes an expired key a deleted one; others hide it.
  if (head_) Delete(key);
  return false;
}

void Engine::Impl::Put(std::string_view key, std::string_view value, int64_t deadline_ms) {
  overlay_.Put(key, value, deadline_ms);
  watches_.Touch(key, false);
}

void Engine::Impl::Delete(std::string_view key) {
  watches_.Touch(key, true);
  overlay_.Delete(key);
}

void Engine::Impl::Clear() {
  watches_.TouchAll([this](std::string_view key) { return GetRaw(key, scratch_); });
  overlay_.Clear();
}

std::unique_ptr<Cursor> Engine::Impl::Walk() {
  walked_ = true;
  std::vector<std::string> expired;
  std::unique_ptr<Cursor> store;
  if (!overlay_.hides_store()) {
    if (auto read = store_.Expired(now_ms_, SIZE_MAX, expired); !read) failure_ = read.error();
    std::sort(expired.begin(), expired.end(), [this](const std::string& a, const std::string& b) {
      return store_.Compare(a, b) < 0;
    });
    store = store_.Walk();
  }
  return std::make_unique<MergedCursor>(store_, overlay_, std::move(store), std::move(expired),
                                        now_ms_);
}

uint64_t Engine::Impl::CountKeys() {
  uint64_t count = 0;
  const auto cursor = Walk();
  for (cursor->SeekToFirst(); cursor->Valid(); cursor->Next()) ++count;
  return count;
}

// SplitMix64.
uint64_t Engine::Impl::Random() {
  random_state_ += 0x9e3779b97f4a7c15;
  uint64_t mixed = random_state_;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
  return mixed ^ (mixed >> 31);
}

// --- entries -------------------------------------------------------------------------------------

Result<void> Engine::Impl::EndEntry(Output& out) {
  if (std::exchange(walked_, false) && !failure_) {
    if (auto walked = store_.Walked(); !walked) failure_ = walked.error();
  }
  if (failure_) {
    overlay_.Drop();
    ForgetPublished();
    return tl::unexpected(*std::exchange(failure_, std::nullopt));
  }
  if (!head_) return {};  // what a follower publishes stays there
  if (!overlay_.changed() && published_.empty()) return {};
  const size_t before = out.effects.size();
  AppendEntry(out.effects);
  executed_ = executed_ + (out.effects.size() - before);
  overlay_.Seal(executed_);
  entries_.push_back(executed_);
  return {};
}

void Engine::Impl::AppendEntry(std::string& out) {
  const size_t begin = out.size();
  const auto here = [&] { return executed_ + (out.size() - begin); };
  overlay_.Changes(changes_);
  const size_t commands =
      (overlay_.flushes() ? 1 : 0) + (changes_.empty() ? 0 : 1) + published_.size();
  if (commands > 1) AppendMulti(out);
  if (overlay_.flushes()) AppendFlush(here(), out);
  if (!changes_.empty()) {
    serialized_.clear();
    Serialize(changes_, serialized_);
    changed_keys_.clear();
    for (const Change& change : changes_) changed_keys_.push_back(change.key);
    AppendWrite(serialized_, changed_keys_, here(), out);
    if (serialized_.capacity() > kKeptBytes) FreeMemory(serialized_);
  }
  size_t at = 0;
  for (const auto& [channel, message] : published_) {
    const std::string_view bytes(published_bytes_);
    AppendPublish(bytes.substr(at, channel), bytes.substr(at + channel, message), here(), out);
    at += channel + message;
  }
  ForgetPublished();
  if (commands > 1) AppendExec(here(), out);
}

void Engine::Impl::ForgetPublished() {
  published_.clear();
  published_bytes_.clear();
  if (published_bytes_.capacity() > kKeptBytes) FreeMemory(published_bytes_);
}

// --- Engine --------------------------------------------------------------------------------------

Engine::Engine(Store& store, uint64_t seed) : impl_(std::make_unique<Impl>(store, seed)) {}
Engine::~Engine() = default;

ServerFacts& Engine::facts() { return impl_->facts_; }
void Engine::NotePositions(Output& out) const { impl_->NotePositions(out); }

void Engine::Impl::StartAt(const Place& place) {
  replid_ = place.replid;
  executed_ = applied_ = place.position;
  overlay_.Reset();
  entries_.clear();
  committing_.reset();
  prefetched_.Clear();
  cutter_.Reset(applied_);
}

Result<void> Engine::BecomeHead(const std::string& replid) {
  impl_->StartAt(impl_->store_.place());
  impl_->head_ = true;
  return replid.empty() ? Result<void>() : NameHistory(replid);
}

Result<void> Engine::NameHistory(const std::string& replid) {
  if (replid == impl_->replid_) return {};
  CATENA_CHECK(!impl_->committing_, "a history has a name before anything of it is applied");
  impl_->replid_ = replid;
  return impl_->store_.SetPlace({replid, impl_->applied_});
}

void Engine::BecomeFollower() {
  impl_->head_ = false;
  // Versions that are forgotten were seen by those who watch.
  impl_->watches_.TouchAll([](std::string_view) { return true; });
  impl_->StartAt(impl_->store_.place());
}

void Engine::Reload() { BecomeFollower(); }

Result<void> Engine::Commit(Position committed, Output& out) {
  if (const auto ready = BeginCommit(committed)) {
    if (auto applied = impl_->store_.Apply(*ready->batch, ready->after); !applied) return applied;
    EndCommit(out);
  }
  impl_->NotePositions(out);
  return {};
}

std::optional<Engine::Ready> Engine::BeginCommit(Position committed) {
  CATENA_CHECK(!impl_->committing_, "one commit at a time");
  Position end;
  Ring<Position>& entries = impl_->entries_;
  while (!entries.empty() && entries.front() <= committed) {
    end = entries.front();
    entries.pop_front();
  }
  if (end == Position()) return std::nullopt;
  impl_->committing_ = end;
  impl_->batch_->Reset();
  impl_->overlay_.Collect(end, *impl_->batch_);
  return Ready{impl_->batch_.get(), {impl_->replid_, end}};
}

void Engine::EndCommit(Output& out) {
  CATENA_CHECK(impl_->committing_, "a commit was begun");
  impl_->applied_ = *std::exchange(impl_->committing_, std::nullopt);
  impl_->overlay_.Forget(impl_->applied_);
  impl_->prefetched_.Clear();
  impl_->NotePositions(out);
}

Result<void> Engine::Settle(Position committed) {
  Output out;
  if (const auto end = impl_->committing_) {
    if (impl_->store_.place().position < *end) {
      const Place after{impl_->replid_, *end};
      if (auto applied = impl_->store_.Apply(*impl_->batch_, after); !applied) return applied;
    }
    EndCommit(out);
  }
  return Commit(committed, out);
}

// --- following -----------------------------------------------------------------------------------

void Engine::Impl::OnWrite(std::string_view batch) {
  if (auto added = batch_->AddSerialized(batch); !added && !failure_) failure_ = added.error();
}

void Engine::Impl::OnFlush() {
  watches_.TouchAll([](std::string_view) { return true; });
  batch_->Clear();
}

Result<void> Engine::Impl::OnEntry(std::string_view entry, Position start,
                                   const std::vector<std::string_view>& keys) {
  if (auto read = ReadEntry(entry, start, this); !read) return read;
  if (failure_) return tl::unexpected(*failure_);
  if (watches_.empty()) return {};
  for (const std::string_view key : keys) watches_.Touch(key, false);
  return {};
}

tl::expected<void, Engine::Refusal> Engine::Apply(std::string_view bytes, int64_t now_ms,
                                                  Output& out) {
  CATENA_CHECK(!impl_->head_, "a head applies what it executed");
  impl_->now_ms_ = now_ms;
  impl_->out_ = &out;
  impl_->batch_->Reset();
  if (auto fed = impl_->cutter_.Feed(bytes, *impl_); !fed) {
    impl_->failure_.reset();
    return tl::unexpected(Refusal{Refusal::Reason::kStream, fed.error().message});
  }
  const Position end = impl_->cutter_.border();
  if (end > impl_->applied_) {
    if (auto applied = impl_->store_.Apply(*impl_->batch_, {impl_->replid_, end}); !applied) {
      return tl::unexpected(Refusal{Refusal::Reason::kStore, applied.error().message});
    }
    impl_->executed_ = impl_->applied_ = end;
    impl_->prefetched_.Clear();
  }
  impl_->NotePositions(out);
  return {};
}

Result<bool> Engine::Expire(int64_t now_ms, Output& out) {
  if (!impl_->head_ || impl_->overlay_.hides_store()) return false;
  std::vector<std::string> keys;
  if (auto read = impl_->store_.Expired(now_ms, kExpiredAtOnce, keys); !read) {
    return tl::unexpected(read.error());
  }
  if (keys.empty()) return false;
  impl_->now_ms_ = now_ms;
  for (const std::string& key : keys) {
    // A newer version has another deadline, or deletes it already.
    if (!impl_->overlay_.Find(key).decided) impl_->Delete(key);
  }
  if (auto ended = impl_->EndEntry(out); !ended) return tl::unexpected(ended.error());
  impl_->NotePositions(out);
  return keys.size() == kExpiredAtOnce;
}

}  // namespace catena::rocks
