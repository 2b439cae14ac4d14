// The data as it is on disk: what is committed and applied, nothing else. RocksDB's own headers are
// only behind this interface (rocks_store.cc); another implementation keeps everything in memory,
// for simulation.
//
// Threads: never the loop's. Reading (Get, MultiGet, Walk and its cursors, Walked, Expired,
// Compare, EstimateKeys, Statistics, Version) comes from one thread at a time and may run while another one
// changes something, so that an fsync holds up no command: each call then sees the data as it was
// before that change or after it. What changes something comes from one thread at a time, too;
// place(), from_chain(), run_id(), NewBatch and a Batch's building belong to it. Replace and the
// destructor run alone. Checkpoint::Read may run at the same time as everything. Nothing is retried:
// an Error means that the database can no longer be trusted and has to be opened again.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backends/rocksdb/view.h"
#include "proxy/base/clock.h"
#include "proxy/base/ids.h"
#include "proxy/base/result.h"

namespace catena::rocks {

// When the bytes of applied entries are on the disk.
enum class Sync : uint8_t {
  kAlways,    // before anything that they contain is answered
  kInterval,  // each so often
  kNever      // when the operating system writes them
};

struct StoreOptions {
  std::string directory;                  // absolute; made if it is not there
  size_t block_cache_bytes = 512u << 20;  // write buffers are counted in it, and take at most half
  // Not set: as the directory's OPTIONS file has it; 64 MB, 1024 and 2 where there is none.
  std::optional<size_t> write_buffer_bytes;
  std::optional<int> open_files_max;
  std::optional<int> background_jobs;
  Sync sync = Sync::kAlways;
};

// Which prefix of which history the data is.
struct Place {
  // "": of none that is known; so also after another program has written, and it may be so after a
  // power cut unless kAlways.
  std::string replid;
  Position position;
};

// One key's change, as effects carry them.
struct Change {
  std::string_view key;
  std::optional<std::string_view> value;  // nullopt: deleted
  int64_t deadline_ms = Item::kNoDeadline;
};

// A group of changes, in order, built up and applied in one atomic write. Its serialized form
// (rocksdb::WriteBatch's, with the default column family for values and number 1 for deadlines,
// whatever the numbers are in a database) is what the effect stream carries.
class Batch {
 public:
  virtual ~Batch() = default;
  virtual void Add(const Change& change) = 0;
  virtual void Clear() = 0;  // deletes every key, those added before included
  // Adds those of a serialized batch. An Error, at whatever bytes: it is none, or names another
  // column family; the batch then has to be reset.
  virtual Result<void> AddSerialized(std::string_view serialized) = 0;
  virtual void Reset() = 0;  // to be used again; needed behind each Apply, too
};

// `changes` as AddSerialized takes them, appended to `out`.
void Serialize(std::span<const Change> changes, std::string& out);

// A consistent copy of the database at a place, hard links where the file system can. It is
// forgotten, and its space given back, when this is destroyed.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;
  virtual const Place& place() const = 0;
  virtual const std::string& name() const = 0;  // unique, of this making
  // Of the whole as a stream of bytes: a list of files with lengths and checksums, then the files.
  virtual uint64_t bytes() const = 0;
  // Up to `max` bytes from `offset` into `out` (replaced).
  virtual Result<void> Read(uint64_t offset, size_t max, std::string& out) = 0;
};

// A checkpoint's bytes coming in, beside the data that they will replace. What has come stays on
// disk until DropIncoming or the end of the process, so a broken transfer can go on.
class Incoming {
 public:
  virtual ~Incoming() = default;
  virtual uint64_t received() const = 0;
  virtual Result<void> Write(std::string_view bytes) = 0;  // the next ones
  // All have come: every file is complete and its checksum right, and it opens as a database.
  virtual Result<void> Check() = 0;
};

class Store {
 public:
  virtual ~Store() = default;

  // --- about the database ---
  virtual const Place& place() const = 0;
  // The data came from a chain, even if the place is not known.
  virtual bool from_chain() const = 0;
  // Of the data as it was last known to be complete: 40 hex digits; another one each time it is
  // opened when something that was acknowledged may be missing: opened after an unclean end unless
  // kAlways, written by another program, another database.
  virtual const std::string& run_id() const = 0;
  virtual uint64_t EstimateKeys() const = 0;
  virtual int Compare(std::string_view a, std::string_view b) const = 0;
  virtual std::string Statistics() const = 0;  // for INFO: "rocksdb_...:number\r\n" lines
  virtual std::string Version() const = 0;

  // --- reading what is applied; deadlines are told, not obeyed ---
  virtual Result<bool> Get(std::string_view key, Item& item) = 0;
  // found[i] tells whether items[i] was filled. All three of one length.
  virtual Result<void> MultiGet(std::span<const std::string_view> keys, std::span<Item> items,
                                std::span<bool> found) = 0;
  // Over what is applied now; it may stay open over Apply and then shows the former state.
  virtual std::unique_ptr<Cursor> Walk() = 0;
  // What a cursor came upon that it could not read: it then looks as if it were at its end, and what
  // it has shown is not all.
  virtual Result<void> Walked() const = 0;
  // Keys whose deadline is at or before `deadline_ms`, the earliest first, at most `max`.
  virtual Result<void> Expired(int64_t deadline_ms, size_t max, std::vector<std::string>& keys) = 0;

  // --- changing it ---
  virtual std::unique_ptr<Batch> NewBatch() = 0;
  // Atomically, with the new place; on the disk before it returns if kAlways.
  virtual Result<void> Apply(Batch& batch, const Place& after) = 0;
  // The data stays, and is now a prefix of that history.
  virtual Result<void> SetPlace(const Place& place) = 0;
  virtual Result<void> SyncNow() = 0;  // kInterval's clock is the caller's

  // --- whole copies ---
  virtual Result<std::unique_ptr<Checkpoint>> MakeCheckpoint() = 0;
  // Goes on with the one that came before if its name, a Checkpoint's, is the same. After a Write that
  // found damage it goes on from before that.
  virtual Result<std::unique_ptr<Incoming>> BeginIncoming(const std::string& name,
                                                          uint64_t bytes) = 0;
  virtual void DropIncoming() = 0;
  // Replaces all data by a checked one, at `place`; a crash in between leaves the one or the other.
  // run_id() stays: coordinators were told it before the node joined, and it is this node's own.
  virtual Result<void> Replace(std::unique_ptr<Incoming> incoming, const Place& place) = 0;
};

// An Error says what is wrong and what can be done: no such comparator or merge operator, locked by
// another process, a newer format, a damaged file. The database is then as it was.
Result<std::unique_ptr<Store>> OpenStore(const StoreOptions& options);
// Empty, at place {"", 1}; its contents are gone with it, so `run_id` should be a new one each time.
// Deterministic.
std::unique_ptr<Store> MakeMemoryStore(std::string run_id = std::string(40, '0'));

}  // namespace catena::rocks
