#include "backends/rocksdb/worker_core.h"

#include <utility>

#include "backends/rocksdb/command_call.h"
#include "backends/rocksdb/commands.h"
#include "proxy/base/free_memory.h"
#include "proxy/resp/decoder.h"

namespace catena::rocks {
namespace {

// Buffers that one large batch has grown are given back above this.
constexpr size_t kKeptBytes = 4u << 20;

template <typename Buffer>
void Empty(Buffer& buffer) {
  if (buffer.capacity() * sizeof(*buffer.data()) > kKeptBytes) FreeMemory(buffer);
  buffer.clear();
}

}  // namespace

// A Store that fails here is not marked as closed cleanly.
WorkerCore::~WorkerCore() {
  if (engine && owed > Position()) (void)engine->Settle(owed);
  Close();
}

void WorkerCore::Close() {
  incoming.reset();
  engine.reset();
  store.reset();
}

Result<backend::Info> WorkerCore::Open(const OpenFunction& open, uint64_t seed, int64_t now_ms,
                                       const std::string& configuration) {
  Close();
  auto opened = open();
  if (!opened) return tl::unexpected(opened.error());
  store = std::move(*opened);
  engine = std::make_unique<Engine>(*store, seed);
  engine->facts().started_ms = now_ms;
  engine->facts().configuration = [configuration] { return configuration; };
  return Examine();
}

Result<backend::Info> WorkerCore::Examine() {
  backend::Info info;
  info.kind = "rocksdb";
  info.run_id = store->run_id();
  info.version = store->Version();
  info.answers_as = kRedisVersion;
  info.keys = store->EstimateKeys();
  info.databases = 1;
  const Place& place = store->place();
  if (place.replid.starts_with(backend::kChainReplidPrefix)) {
    info.resume = backend::ResumePoint{place.replid, place.position};
  }
  info.committed_only = true;
  info.from_chain = store->from_chain();
  size_t consumed = 0;
  std::string error;
  if (resp::DecodeValue(CommandReply(), info.commands, consumed, error) !=
      resp::Progress::kComplete) {
    return Fail("the table of commands is broken: " + error);
  }
  return info;
}

void WorkBatch::Clear() {
  end_commit = expire = count_keys = false;
  Empty(bytes);
  Empty(items);
  Empty(feed);
  commit.reset();
  Empty(out.replies);
  Empty(out.bytes);
  Empty(out.effects);
  ready.reset();
  keys.reset();
  more_expired = false;
  gap.clear();
  failure.clear();
}

std::string_view WorkBatch::CommandOf(const Item& item) const {
  return std::string_view(item.owner ? *item.owner : bytes).substr(item.begin, item.size);
}

Result<void> WorkBatch::RunItems(Engine& engine) {
  commands_.clear();
  for (const Item& item : items) {
    if (item.kind == Item::Kind::kCommand) commands_.push_back(CommandOf(item));
  }
  if (auto fetched = engine.Prefetch(commands_); !fetched) return fetched;
  for (const Item& item : items) {
    switch (item.kind) {
      case Item::Kind::kCommand:
        if (auto done = engine.Submit(item.lane, CommandOf(item), now_ms, out); !done) return done;
        break;
      case Item::Kind::kPosition:
        engine.AskPosition(item.lane, out);
        break;
      case Item::Kind::kOpen:
        engine.Open(item.lane, item.protocol);
        break;
      case Item::Kind::kClose:
        engine.Close(item.lane);
        break;
    }
  }
  return {};
}

void WorkBatch::Run(WorkerCore& core) {
  Engine& engine = *core.engine;
  engine.NotePositions(out);
  if (end_commit) engine.EndCommit(out);
  Result<void> done = RunItems(engine);
  if (done && expire) {
    if (const auto expired = engine.Expire(now_ms, out)) {
      more_expired = *expired;
    } else {
      done = tl::unexpected(expired.error());
    }
  }
  if (done && !feed.empty()) {
    const auto applied = engine.Apply(feed, now_ms, out);
    if (!applied && applied.error().reason == Engine::Refusal::Reason::kStream) {
      gap = applied.error().message;
    } else if (!applied) {
      done = Fail(applied.error().message);
    }
  }
  if (!done) {
    failure = done.error().message;
    return;
  }
  if (commit) ready = engine.BeginCommit(*commit);
  if (count_keys) keys = core.store->EstimateKeys();
}

}  // namespace catena::rocks
