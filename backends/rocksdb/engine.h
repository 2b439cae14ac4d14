// The RocksDB backend's database server, without threads, sockets or clocks: connections (lanes)
// with their states, execution at the head over uncommitted versions, applying at every node,
// pub/sub. The backend (rocksdb_backend.h) moves it on a worker thread, one batch of work at a time,
// and carries what comes out to the loop.
//
// At the head each executed command's changes become one entry of the effect stream and one version
// of each key above the Store (CRAQ's version lists); Commit applies the entries up to a position to
// the Store, in one write, and forgets those versions.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backends/rocksdb/commands.h"
#include "backends/rocksdb/store.h"
#include "proxy/base/ids.h"
#include "proxy/base/result.h"

namespace catena::rocks {

using LaneId = uint64_t;

// What came out of a batch of work, in order.
struct Output {
  struct Reply {
    enum class Kind : uint8_t { kReply, kPush, kPosition } kind = Kind::kReply;
    LaneId lane = 0;
    size_t begin = 0, size = 0;  // in `bytes`
    Position position;           // kPosition
  };
  std::vector<Reply> replies;
  std::string bytes;
  std::string effects;  // the next bytes of the effect stream, whole entries
  Position executed;    // head: end of `effects`; follower: applied
  Position applied;     // in the Store, on the disk if its Sync is kAlways
};

class Engine {
 public:
  // `store` is not owned and outlives it. `seed` of RANDOMKEY and the like.
  Engine(Store& store, uint64_t seed);
  ~Engine();

  // What INFO and CONFIG GET tell; what the engine knows itself is filled in.
  ServerFacts& facts();

  // --- role: a follower from the beginning ---
  // Executes from here on; effects begin at the store's position. The history is named `replid`;
  // "": NameHistory tells, before anything is committed.
  Result<void> BecomeHead(const std::string& replid);
  Result<void> NameHistory(const std::string& replid);
  // Forgets uncommitted versions and cut entries; executes no writes any more.
  void BecomeFollower();
  // The Store has got other data (Replace). Only as a follower.
  void Reload();

  // --- lanes ---
  void Open(LaneId lane, int protocol);
  void Close(LaneId lane);
  // One command, complete RESP or inline. `now_ms`: wall clock since 1970. An Error is the Store's.
  Result<void> Submit(LaneId lane, std::string_view command, int64_t now_ms, Output& out);
  void AskPosition(LaneId lane, Output& out);
  // Fills in out.executed and out.applied, as every call with an Output does.
  void NotePositions(Output& out) const;
  // The keys of what comes next are read from the Store together; until the Store changes or the
  // next Prefetch, while which `commands` stay.
  Result<void> Prefetch(const std::vector<std::string_view>& commands);

  // --- data ---
  // Head: entries up to `committed` (an entry's end) go to the Store.
  Result<void> Commit(Position committed, Output& out);
  // The same in steps: what the first returns is given to Store::Apply, which may run on another
  // thread while this one executes commands; EndCommit follows when it is done, and only then the
  // next BeginCommit. nullopt: nothing to apply.
  struct Ready {
    Batch* batch;  // the engine's
    Place after;
  };
  std::optional<Ready> BeginCommit(Position committed);
  void EndCommit(Output& out);
  // Commit of what is left, whether or not what BeginCommit returned last has been applied.
  Result<void> Settle(Position committed);
  // Follower: whole or cut entries behind the applied position; what is cut waits for its rest.
  // An Error of Reason kStream: these are not the entries that belong there, and the data is as it
  // was; it needs a snapshot. kStore: the Store's.
  struct Refusal {
    enum class Reason : uint8_t { kStream, kStore } reason;
    std::string message;
  };
  tl::expected<void, Refusal> Apply(std::string_view bytes, int64_t now_ms, Output& out);
  // Head: keys whose time has come are deleted, some at a time; true: there may be more, which are
  // found when what is deleted by now is applied.
  Result<bool> Expire(int64_t now_ms, Output& out);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace catena::rocks
