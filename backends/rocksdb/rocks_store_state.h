// The Store's own record of its data, under one key of the column family catena.meta. Each write to
// the database carries a new one in its batch, so that it always tells of exactly what is there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "backends/rocksdb/store.h"
#include "proxy/base/result.h"

namespace catena::rocks {

struct StoreState {
  Place place{"", Position(1)};
  bool from_chain = false;
  std::string run_id;       // 40 hex digits
  std::string database_id;  // RocksDB's, which another one has when a backup is restored
  // RocksDB's number of its last write, this record's own. Another one when the database is opened:
  // somebody else has written.
  uint64_t sequence = 0;
  uint64_t deadlines = 0;  // keys that have one
  // The families of deadlines fit the values: not so any more when somebody else has written.
  bool deadlines_fit = true;
  // The first record of a process; there may be foreign writes before it, and none behind.
  bool begins_session = false;
  bool clean = false;         // it was closed in order, and all of it was on the disk then
  Sync sync = Sync::kAlways;  // of the process that has written it
};

std::string EncodeState(const StoreState& state);
// An Error: it is damaged, or of a newer version of the format.
Result<StoreState> DecodeState(std::string_view bytes);

}  // namespace catena::rocks
