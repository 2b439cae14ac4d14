// An embedded RocksDB as the database behind a node (design.md 9). The proxy executes: an Engine on
// a worker thread runs commands against the Store and, at the head, the uncommitted versions above
// it. In every role only committed entries are applied to the Store, so a former head needs no
// rollback.
//
// Two workers at a time, at most. One runs batches of commands: what came while the last was under
// way, so that many clients share one hand-over. The other changes the database: commits that came
// while one was being written are written together, and an fsync holds up no command at the head. A
// follower's commands and what it is fed take turns on the first: a command sees whole entries, which
// are on the disk if the Sync is kAlways. The loop waits for neither.
//
//   auto backend = rocks::MakeRocksDbBackend(reactor, [] { return rocks::OpenStore(options); });
#pragma once

#include <functional>
#include <memory>

#include "backends/backend.h"
#include "backends/rocksdb/store.h"
#include "proxy/io/reactor.h"

namespace catena::rocks {

struct BackendOptions {
  Sync sync = Sync::kAlways;
  Duration sync_interval = std::chrono::seconds(1);    // kInterval
  Duration reopen_interval = std::chrono::seconds(1);  // after it could not be opened, or failed
  Duration expiry_interval = std::chrono::milliseconds(100);  // the head looks for expired keys
  std::string configuration;  // what CONFIG GET tells: "name\0value\0..."
};

// `open` is called on a worker thread, again after a failure. At most one Store is open at a time.
std::unique_ptr<backend::Backend> MakeRocksDbBackend(
    io::Reactor& reactor, BackendOptions options,
    std::function<Result<std::unique_ptr<Store>>()> open);

}  // namespace catena::rocks
