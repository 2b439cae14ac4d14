// The files of a database's directory: which are RocksDB's, and how all of them are replaced at once.
//
// A replacement waits, complete, in the directory's kIncomingDirectory. A mark there tells how far
// it is, so that what a crash interrupts is finished when the directory is opened the next time:
//
//   COMPLETE   the old files are being deleted; the new ones are the database from here on
//   MOVING     the new ones are being moved to their place
#pragma once

#include <rocksdb/env.h>

#include <functional>
#include <string>

#include "proxy/base/result.h"

namespace catena::rocks {

inline constexpr const char* kIncomingDirectory = "catena.incoming";
inline constexpr const char* kCheckpointPrefix = "catena.checkpoint.";

// Part of the data: CURRENT, IDENTITY, MANIFEST-5, OPTIONS-7, 9.log, 11.sst, 13.blob.
bool IsDataFile(const std::string& name);
// May be in a directory that holds no database yet.
bool IsHarmless(const std::string& name);

Result<void> ToResult(const rocksdb::Status& status, const std::string& what);

Result<void> SyncDirectory(rocksdb::Env* env, const std::string& directory);
// A directory without subdirectories; not there: nothing to do.
Result<void> RemoveDirectory(rocksdb::Env* env, const std::string& directory);
// Copies that were left behind, of either kind. No swap has begun, and the database is not open.
Result<void> RemoveLeftovers(rocksdb::Env* env, const std::string& directory);

// The incoming directory has everything, synced: from here on it is the database.
Result<void> BeginSwap(rocksdb::Env* env, const std::string& directory);
// Does what is left of a swap that has begun, if one has. The database is not open. `on_step` is
// called where a crash may come.
Result<void> FinishSwap(rocksdb::Env* env, const std::string& directory,
                        const std::function<void()>& on_step);

}  // namespace catena::rocks
