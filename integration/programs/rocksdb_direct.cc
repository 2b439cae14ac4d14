// rocksdb-direct: uses a RocksDB directory as its owner's programs would, which know nothing of
// Catena. For tests: writes raw keys, holds the lock, reads as a read-only or secondary instance.
// For the benchmark: the same work as catena-load's, without anybody between.
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/table.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "integration/bench/generator/keys.h"

namespace {

using catena::bench::Random;

struct Settings {
  std::string directory;
  std::vector<std::string> words;  // keys, or keys and values by turns
  std::string secondary;           // directory of the secondary's own log
  std::string prefix = "key:";
  uint64_t count = 100'000;
  size_t bytes = 100;
  std::string compression = "none";
  std::string operation = "get";
  int group = 1;
  int threads = 1;
  double seconds = 1;
  bool sync = false;
  size_t cache_bytes = 512u << 20;
};

void Check(const rocksdb::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

rocksdb::Options DatabaseOptions(const Settings& settings) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.compression =
      settings.compression == "zlib" ? rocksdb::kZlibCompression : rocksdb::kNoCompression;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(settings.cache_bytes);
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

// A database that is open for writing, with all its column families, as RocksDB demands.
class Writable {
 public:
  explicit Writable(const Settings& settings) {
    const rocksdb::Options options = DatabaseOptions(settings);
    std::vector<std::string> names;
    if (!rocksdb::DB::ListColumnFamilies(options, settings.directory, &names).ok()) {
      names = {rocksdb::kDefaultColumnFamilyName};
    }
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const std::string& name : names) families.emplace_back(name, options);
    rocksdb::DB* opened = nullptr;
    Check(rocksdb::DB::Open(options, settings.directory, families, &handles_, &opened));
    db_.reset(opened);
  }
  ~Writable() {
    for (rocksdb::ColumnFamilyHandle* handle : handles_) db_->DestroyColumnFamilyHandle(handle);
    db_->Close().PermitUncheckedError();
  }
  rocksdb::DB& operator*() { return *db_; }
  rocksdb::DB* operator->() { return db_.get(); }

 private:
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;
};

// As catena-load names it.
std::string KeyOf(const Settings& settings, uint64_t number) {
  char digits[24];
  std::snprintf(digits, sizeof digits, "%012llu", static_cast<unsigned long long>(number));
  return settings.prefix + digits;
}

std::string ValueOf(size_t bytes, Random& random) {
  std::string value(bytes, '\0');
  for (char& c : value) c = static_cast<char>('A' + random.Below(26));
  return value;
}

std::string Read(rocksdb::DB& db, const std::string& key) {
  std::string value;
  const rocksdb::Status status = db.Get({}, key, &value);
  if (status.IsNotFound()) return "(none)";
  Check(status);
  return value;
}

void Put(const Settings& settings) {
  Writable db(settings);
  for (size_t i = 0; i + 1 < settings.words.size(); i += 2) {
    Check(db->Put({}, settings.words[i], settings.words[i + 1]));
  }
}

void Get(const Settings& settings) {
  rocksdb::DB* opened = nullptr;
  Check(rocksdb::DB::OpenForReadOnly({}, settings.directory, &opened));
  const std::unique_ptr<rocksdb::DB> db(opened);
  for (const std::string& key : settings.words) std::cout << Read(*db, key) << "\n";
}

// Answers each line of standard input, a key, by its value now.
void Secondary(const Settings& settings) {
  rocksdb::Options options;
  options.max_open_files = -1;
  rocksdb::DB* opened = nullptr;
  Check(rocksdb::DB::OpenAsSecondary(options, settings.directory, settings.secondary, &opened));
  const std::unique_ptr<rocksdb::DB> db(opened);
  for (std::string key; std::getline(std::cin, key);) {
    Check(db->TryCatchUpWithPrimary());
    std::cout << Read(*db, key) << std::endl;
  }
}

// Prints "open", and keeps the database so until standard input ends.
void Hold(const Settings& settings) {
  Writable db(settings);
  std::cout << "open" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
  }
}

void Fill(const Settings& settings) {
  Writable db(settings);
  Random random(1);
  rocksdb::WriteBatch batch;
  for (uint64_t i = 0; i < settings.count; ++i) {
    Check(batch.Put(KeyOf(settings, i), ValueOf(settings.bytes, random)));
    if (batch.GetDataSize() < (1u << 20) && i + 1 < settings.count) continue;
    Check(db->Write({}, &batch));
    batch.Clear();
  }
  Check(db->Flush({}));
}

// One thread's share of a measurement: calls with `group` operations each.
class Worker {
 public:
  Worker(const Settings& settings, rocksdb::DB& db, uint64_t seed)
      : settings_(settings), db_(db), random_(seed), value_(ValueOf(settings.bytes, random_)) {}

  void Call() {
    if (settings_.operation == "set") return Set();
    const size_t of_each = settings_.operation == "mget" ? 10 : 1;
    keys_.clear();
    for (size_t i = 0; i < of_each * static_cast<size_t>(settings_.group); ++i)
      keys_.push_back(Key());
    if (keys_.size() == 1) {
      value_.clear();
      return Check(db_.Get({}, keys_.front(), &value_));
    }
    std::vector<rocksdb::Slice> slices(keys_.begin(), keys_.end());
    std::vector<rocksdb::PinnableSlice> values(keys_.size());
    std::vector<rocksdb::Status> statuses(keys_.size());
    db_.MultiGet({}, db_.DefaultColumnFamily(), slices.size(), slices.data(), values.data(),
                 statuses.data());
    for (const rocksdb::Status& status : statuses) Check(status);
  }

 private:
  std::string Key() { return KeyOf(settings_, random_.Below(settings_.count)); }

  void Set() {
    rocksdb::WriteOptions options;
    options.sync = settings_.sync;
    batch_.Clear();
    for (int i = 0; i < settings_.group; ++i) Check(batch_.Put(Key(), value_));
    Check(db_.Write(options, &batch_));
  }

  const Settings& settings_;
  rocksdb::DB& db_;
  Random random_;
  std::string value_;
  std::vector<std::string> keys_;
  rocksdb::WriteBatch batch_;
};

void Bench(const Settings& settings) {
  using Clock = std::chrono::steady_clock;
  Writable db(settings);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> calls{0};
  std::vector<std::thread> threads;
  const auto begun = Clock::now();
  for (int i = 0; i < settings.threads; ++i) {
    threads.emplace_back([&, i] {
      Worker worker(settings, *db, static_cast<uint64_t>(i) + 1);
      uint64_t mine = 0;
      try {
        for (; !stop; ++mine) worker.Call();
      } catch (const std::runtime_error& problem) {
        std::cerr << "rocksdb-direct: " << problem.what() << std::endl;
        std::_Exit(1);
      }
      calls += mine;
    });
  }
  std::this_thread::sleep_for(std::chrono::duration<double>(settings.seconds));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const double took = std::chrono::duration<double>(Clock::now() - begun).count();
  const double operations = static_cast<double>(calls) * settings.group;
  std::cout << nlohmann::json{{"operations", operations}, {"rate", operations / took}} << "\n";
}

void AddCommands(CLI::App& app, Settings& settings, std::function<void(const Settings&)>& chosen) {
  const auto add = [&](const char* name, const char* text, void (*run)(const Settings&)) {
    CLI::App* command = app.add_subcommand(name, text);
    command->callback([&chosen, run] { chosen = run; });
    command->add_option("directory", settings.directory)->required();
    return command;
  };
  add("put", "writes keys and values, given by turns", Put)
      ->add_option("words", settings.words, "KEY VALUE ...")
      ->required();
  add("get", "prints the values of keys, read-only", Get)
      ->add_option("keys", settings.words)
      ->required();
  add("secondary", "prints the value of each key on standard input, beside the writer", Secondary)
      ->add_option("own", settings.secondary, "directory for its own log")
      ->required();
  add("hold", "keeps the database open until standard input ends", Hold);
  for (CLI::App* command : {add("fill", "writes keys as catena-load names them", Fill),
                            add("bench", "measures; prints one JSON object", Bench)}) {
    command->add_option("--key-prefix", settings.prefix);
    command->add_option("--key-count", settings.count);
    command->add_option("--bytes", settings.bytes, "of a value");
    command->add_option("--compression", settings.compression)
        ->check(CLI::IsMember({"none", "zlib"}));
    command->add_option("--operation", settings.operation)
        ->check(CLI::IsMember({"get", "set", "mget"}));
    command->add_option("--group", settings.group, "operations in one call");
    command->add_option("--threads", settings.threads);
    command->add_option("--seconds", settings.seconds);
    command->add_option("--cache-bytes", settings.cache_bytes);
    command->add_flag("--sync", settings.sync);
  }
  app.require_subcommand(1);
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  std::function<void(const Settings&)> chosen;
  CLI::App app("Uses a RocksDB directory without Catena.", "rocksdb-direct");
  AddCommands(app, settings, chosen);
  CLI11_PARSE(app, argc, argv);
  try {
    chosen(settings);
  } catch (const std::runtime_error& problem) {
    std::cerr << "rocksdb-direct: " << problem.what() << "\n";
    return 1;
  }
  return 0;
}
