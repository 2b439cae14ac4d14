// Opening a directory as it is, and refusing what cannot be opened so without a trace in it.
#pragma once

#include <rocksdb/cache.h>
#include <rocksdb/db.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backends/rocksdb/rocks_store_log.h"
#include "backends/rocksdb/rocks_store_state.h"
#include "backends/rocksdb/store.h"

namespace catena::rocks {

inline constexpr const char* kMetaFamily = "catena.meta";            // StoreState, under kStateKey
inline constexpr const char* kDeadlinesFamily = "catena.deadlines";  // key -> deadline
inline constexpr const char* kExpiryFamily = "catena.expiry";        // deadline + key -> ""
inline constexpr const char* kStateKey = "state";

// An open database with all its column families, closed by the destructor.
struct Database {
  Database() = default;
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  std::shared_ptr<rocksdb::Cache> cache;
  std::unique_ptr<rocksdb::WalFilter> log_filter;
  std::unique_ptr<rocksdb::DB> db;
  std::vector<rocksdb::ColumnFamilyHandle*> families;
  // Of those; Catena's own are nullptr in a database that is opened to be looked at and has none.
  rocksdb::ColumnFamilyHandle* values = nullptr;
  rocksdb::ColumnFamilyHandle* meta = nullptr;
  rocksdb::ColumnFamilyHandle* deadlines = nullptr;
  rocksdb::ColumnFamilyHandle* expiry = nullptr;
};

// Nobody else has `directory` open, and it holds a database, or nothing: then an Error never comes
// from there. Names the process that has it.
Result<void> CheckUnlocked(const std::string& directory);

// Opens it for reading and writing, and makes it, with Catena's families in it, where they are not
// there. `directory` need not be that of `options`.
Result<std::unique_ptr<Database>> OpenDatabase(const std::string& directory,
                                               const StoreOptions& options, rocksdb::Env* env);

// Opens it only to look at it; no file is changed or made.
Result<std::unique_ptr<Database>> LookAtDatabase(const std::string& directory, rocksdb::Env* env);

// Catena's record in it; nullopt: it has none.
Result<std::optional<StoreState>> ReadState(const Database& database);

// "cannot open ..." for people, with what can be done about it.
tl::unexpected<Error> CannotOpen(const std::string& directory, const std::string& reason);

}  // namespace catena::rocks
