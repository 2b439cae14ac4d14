#include "backends/rocksdb/rocks_store_open.h"

#include <fcntl.h>
#include <rocksdb/convenience.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/statistics.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/options_util.h>
#include <rocksdb/version.h>
#include <rocksdb/write_buffer_manager.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "backends/rocksdb/rocks_store_files.h"

namespace catena::rocks {
namespace {

constexpr size_t kWriteBufferBytes = 64u << 20;
constexpr size_t kSharedBufferBytesMin = 16u << 20;
constexpr int kOpenFilesMax = 1024;
constexpr int kBackgroundJobs = 2;
// Written back evenly instead of in one go at the end of a file, which would hold up reads.
constexpr uint64_t kBytesPerSync = 1u << 20;
constexpr int kBloomBitsPerKey = 10;
// Of Catena's own families: one record, rewritten with each batch, and small records.
constexpr size_t kMetaBufferBytes = 1u << 20;
constexpr size_t kDeadlineBufferBytes = 16u << 20;

using Families = std::vector<rocksdb::ColumnFamilyDescriptor>;

struct Layout {
  rocksdb::DBOptions options;
  Families families;
};

bool IsOwn(const std::string& family) {
  return family == kMetaFamily || family == kDeadlinesFamily || family == kExpiryFamily;
}

// RocksDB's text names no remedy.
std::string Explained(const rocksdb::Status& status) {
  const std::string text = status.ToString();
  const auto tells = [&text](const char* words) { return text.find(words) != std::string::npos; };
  if (tells("Could not load")) {
    return text +
           ": a node opens databases whose comparators, merge operators, compaction filters and "
           "prefix extractors are RocksDB's own, not those that a program brings along";
  }
  const std::string version = rocksdb::GetRocksVersionAsString();
  if (tells("Could not find option") || tells("Unrecognized option") || tells("newer version")) {
    return text + ": it was written by a newer RocksDB than the " + version + " of this node";
  }
  if (status.IsCorruption()) {
    return text + ": it is damaged, or was written by a newer RocksDB than the " + version +
           " of this node; look at it with ldb or restore it, or move it away to have the data "
           "copied from the chain";
  }
  if (tells("While lock file")) return text + ": another process has it open";
  return text;
}

tl::unexpected<Error> CannotOpen(const std::string& directory, const rocksdb::Status& status) {
  return rocks::CannotOpen(directory, Explained(status));
}

// ---- What is there ----

enum class Contents { kNothing, kDatabase };

Result<Contents> Examine(const std::string& directory, rocksdb::Env* env) {
  bool is_directory = false;
  if (rocksdb::Status status = env->IsDirectory(directory, &is_directory); !status.ok()) {
    return CannotOpen(directory, status);
  }
  if (!is_directory) return rocks::CannotOpen(directory, "it is not a directory");
  if (::access(directory.c_str(), R_OK | W_OK | X_OK) != 0) {
    return rocks::CannotOpen(directory, std::string(std::strerror(errno)) +
                                            ": the node must be allowed to read and write there");
  }
  std::vector<std::string> names;
  if (rocksdb::Status status = env->GetChildren(directory, &names); !status.ok()) {
    return CannotOpen(directory, status);
  }
  if (std::find(names.begin(), names.end(), "CURRENT") != names.end()) return Contents::kDatabase;
  for (const std::string& name : names) {
    if (IsDataFile(name)) {
      return rocks::CannotOpen(directory, "it has " + name +
                                              " of a RocksDB, but no CURRENT: it is damaged; "
                                              "restore it, or move it away");
    }
    if (!IsHarmless(name)) {
      return rocks::CannotOpen(directory, "it holds no RocksDB, and is not empty: there is " +
                                              name + "; name another directory");
    }
  }
  return Contents::kNothing;
}

// ---- Options ----

rocksdb::BlockBasedTableOptions TableOptions() {
  rocksdb::BlockBasedTableOptions table;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(kBloomBitsPerKey, false));
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  return table;
}

bool Supports(rocksdb::CompressionType type) {
  const auto supported = rocksdb::GetSupportedCompressions();
  return std::find(supported.begin(), supported.end(), type) != supported.end();
}

// Of families that are made here.
rocksdb::ColumnFamilyOptions NewFamily(size_t write_buffer_bytes) {
  rocksdb::ColumnFamilyOptions family;
  family.write_buffer_size = write_buffer_bytes;
  family.level_compaction_dynamic_level_bytes = true;
  if (Supports(rocksdb::kLZ4Compression)) family.compression = rocksdb::kLZ4Compression;
  if (Supports(rocksdb::kZSTD)) family.bottommost_compression = rocksdb::kZSTD;
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(TableOptions()));
  return family;
}

Layout NewLayout(const StoreOptions& options) {
  Layout layout;
  layout.options.max_open_files = kOpenFilesMax;
  layout.options.max_background_jobs = kBackgroundJobs;
  layout.options.bytes_per_sync = kBytesPerSync;
  layout.options.wal_bytes_per_sync = kBytesPerSync;
  layout.options.keep_log_file_num = 10;
  layout.options.max_log_file_size = 16u << 20;
  layout.families.emplace_back(rocksdb::kDefaultColumnFamilyName,
                               NewFamily(options.write_buffer_bytes.value_or(kWriteBufferBytes)));
  return layout;
}

// The families that are there, by the manifest, with their options by the OPTIONS file. A database
// without one has been made with RocksDB's defaults, or is refused when it is opened.
Result<Layout> ReadLayout(const std::string& directory, rocksdb::Env* env) {
  rocksdb::ConfigOptions strict;
  strict.env = env;
  strict.ignore_unknown_options = false;
  strict.ignore_unsupported_options = false;
  Layout layout;
  rocksdb::Status status =
      rocksdb::LoadLatestOptions(strict, directory, &layout.options, &layout.families);
  if (!status.ok() && !status.IsNotFound()) return CannotOpen(directory, status);
  layout.options.env = env;
  std::vector<std::string> names;
  status = rocksdb::DB::ListColumnFamilies(layout.options, directory, &names);
  if (!status.ok()) return CannotOpen(directory, status);
  Families families;
  for (const std::string& name : names) {
    const auto known = std::find_if(layout.families.begin(), layout.families.end(),
                                    [&](const auto& family) { return family.name == name; });
    families.emplace_back(
        name, known != layout.families.end() ? known->options : rocksdb::ColumnFamilyOptions());
  }
  layout.families = std::move(families);
  if (!layout.options.wal_dir.empty() && layout.options.wal_dir != directory) {
    return rocks::CannotOpen(directory, "its write-ahead log is in another directory, " +
                                            layout.options.wal_dir +
                                            ": a node keeps all of a database in one");
  }
  for (const auto& family : layout.families) {
    if (family.options.comparator->timestamp_size() > 0) {
      return rocks::CannotOpen(directory,
                               "its column family " + family.name + " has timestamps in its keys");
    }
  }
  return layout;
}

// Whatever the OPTIONS file says: what the promises of store.h rest upon, and bounds the memory.
void Adapt(const StoreOptions& options, rocksdb::Env* env,
           const std::shared_ptr<rocksdb::Cache>& cache, Layout& layout) {
  rocksdb::DBOptions& db = layout.options;
  db.env = env;
  db.create_if_missing = db.create_missing_column_families = true;
  db.error_if_exists = false;
  db.paranoid_checks = true;
  db.manual_wal_flush = db.unordered_write = db.two_write_queues = false;
  db.best_efforts_recovery = false;
  db.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  if (options.open_files_max) db.max_open_files = *options.open_files_max;
  if (options.background_jobs) db.max_background_jobs = *options.background_jobs;
  db.statistics = rocksdb::CreateDBStatistics();
  db.statistics->set_stats_level(rocksdb::StatsLevel::kExceptHistogramOrTimers);

  Families& families = layout.families;
  families.erase(std::remove_if(families.begin(), families.end(),
                                [](const auto& family) { return IsOwn(family.name); }),
                 families.end());
  size_t largest_buffer = 0;
  for (auto& family : families) {
    if (options.write_buffer_bytes && family.name == rocksdb::kDefaultColumnFamilyName) {
      family.options.write_buffer_size = *options.write_buffer_bytes;
    }
    largest_buffer = std::max(largest_buffer, family.options.write_buffer_size);
  }
  families.emplace_back(kMetaFamily, NewFamily(kMetaBufferBytes));
  families.emplace_back(kDeadlinesFamily, NewFamily(kDeadlineBufferBytes));
  families.emplace_back(kExpiryFamily, NewFamily(kDeadlineBufferBytes));
  // One that is written and one that is flushed, of all families together. They are counted as part
  // of the cache, of which at least half has to be left for blocks.
  const size_t buffers_max = std::max(options.block_cache_bytes / 2, kSharedBufferBytesMin);
  db.write_buffer_manager = std::make_shared<rocksdb::WriteBufferManager>(
      std::min(2 * largest_buffer, buffers_max), cache);
  for (auto& family : families) {
    auto* table = family.options.table_factory->GetOptions<rocksdb::BlockBasedTableOptions>();
    if (table == nullptr) continue;
    table->block_cache = cache;
    table->no_block_cache = false;
    table->cache_index_and_filter_blocks = true;
  }
}

// ---- Opening ----

// RocksDB would begin a new LOG in the directory.
class SilentLogger : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

void NameFamilies(Database& database) {
  for (rocksdb::ColumnFamilyHandle* family : database.families) {
    const std::string& name = family->GetName();
    if (name == rocksdb::kDefaultColumnFamilyName) database.values = family;
    if (name == kMetaFamily) database.meta = family;
    if (name == kDeadlinesFamily) database.deadlines = family;
    if (name == kExpiryFamily) database.expiry = family;
  }
}

std::shared_ptr<rocksdb::Cache> NewCache(const StoreOptions& options) {
  return rocksdb::NewLRUCache(options.block_cache_bytes);
}

Result<std::unique_ptr<Database>> LookAt(const std::string& directory, Layout layout,
                                         std::unique_ptr<rocksdb::WalFilter> log_filter) {
  layout.options.info_log = std::make_shared<SilentLogger>();
  layout.options.wal_filter = log_filter.get();
  auto database = std::make_unique<Database>();
  database->log_filter = std::move(log_filter);
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status = rocksdb::DB::OpenForReadOnly(
      layout.options, directory, layout.families, &database->families, &db);
  if (!status.ok()) return CannotOpen(directory, status);
  database->db.reset(db);
  NameFamilies(*database);
  return database;
}

// The number of the last of the Store's writes in tables.
Result<uint64_t> LastInTables(const std::string& directory, const Layout& layout) {
  const auto tables = LookAt(directory, layout, std::make_unique<NoLogFilter>());
  if (!tables) return tl::unexpected(tables.error());
  const auto state = ReadState(**tables);
  if (!state) return rocks::CannotOpen(directory, state.error().message);
  return *state ? (*state)->sequence : 0;
}

}  // namespace

Database::~Database() {
  for (rocksdb::ColumnFamilyHandle* family : families) db->DestroyColumnFamilyHandle(family);
  if (db) db->Close();
}

// nullopt: it has none.
Result<std::optional<StoreState>> ReadState(const Database& database) {
  if (database.meta == nullptr) return std::nullopt;
  std::string bytes;
  const rocksdb::Status status =
      database.db->Get(rocksdb::ReadOptions(), database.meta, kStateKey, &bytes);
  if (status.IsNotFound()) return std::nullopt;
  if (auto read = ToResult(status, "read Catena's record"); !read) {
    return tl::unexpected(read.error());
  }
  auto state = DecodeState(bytes);
  if (!state) return tl::unexpected(state.error());
  return *std::move(state);
}

tl::unexpected<Error> CannotOpen(const std::string& directory, const std::string& reason) {
  return Fail("cannot open the database in " + directory + ": " + reason);
}

Result<void> CheckUnlocked(const std::string& directory) {
  const int file = ::open((directory + "/LOCK").c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return {};
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  const bool told = ::fcntl(file, F_GETLK, &lock) == 0;
  ::close(file);
  if (!told || lock.l_type == F_UNLCK) return {};
  return CannotOpen(directory, "process " + std::to_string(lock.l_pid) +
                                   " has it open for writing; only one may, others can read it "
                                   "as a secondary or read-only instance");
}

Result<std::unique_ptr<Database>> OpenDatabase(const std::string& directory,
                                               const StoreOptions& options, rocksdb::Env* env) {
  const auto contents = Examine(directory, env);
  if (!contents) return tl::unexpected(contents.error());
  uint64_t last_in_tables = 0;
  Result<Layout> layout = NewLayout(options);
  if (*contents == Contents::kDatabase) {
    layout = ReadLayout(directory, env);
    if (!layout) return tl::unexpected(layout.error());
    // What cannot be opened is found out before anything is written.
    if (auto looked = LookAt(directory, *layout, nullptr); !looked) return looked;
    const auto last = LastInTables(directory, *layout);
    if (!last) return tl::unexpected(last.error());
    last_in_tables = *last;
  }
  auto database = std::make_unique<Database>();
  database->cache = NewCache(options);
  database->log_filter = std::make_unique<LogHoleFilter>(last_in_tables);
  layout->options.wal_filter = database->log_filter.get();
  Adapt(options, env, database->cache, *layout);
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      rocksdb::DB::Open(layout->options, directory, layout->families, &database->families, &db);
  if (!status.ok()) return CannotOpen(directory, status);
  database->db.reset(db);
  NameFamilies(*database);
  return database;
}

Result<std::unique_ptr<Database>> LookAtDatabase(const std::string& directory, rocksdb::Env* env) {
  auto layout = ReadLayout(directory, env);
  if (!layout) return tl::unexpected(layout.error());
  return LookAt(directory, *std::move(layout), nullptr);
}

}  // namespace catena::rocks
