// The Store on a RocksDB: reading and writing, what it keeps over a restart, and the directories
// that others have made.
#include <rocksdb/comparator.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/merge_operator.h>
#include <rocksdb/table.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <random>
#include <thread>

#include "rocks_store_fixture.h"

namespace catena::rocks {
namespace {

using namespace test;
namespace files = std::filesystem;

TEST_CASE("rocks store: a new directory is empty, and belongs to no history") {
  TemporaryDirectory directory;
  const auto store = Opened(directory / "new");
  CHECK(store->place().replid.empty());
  CHECK(store->place().position == Position(1));
  CHECK_FALSE(store->from_chain());
  CHECK(store->run_id().size() == 40);
  CHECK(store->EstimateKeys() == 0);
  CHECK(Walked(*store).empty());
  CHECK(Read(*store, "k") == "none");
  CHECK(store->Version().find("7.") == 0);
}

TEST_CASE("rocks store: what is applied is read, raw bytes of any kind") {
  using namespace std::string_literals;
  TemporaryDirectory directory;
  const auto store = Opened(directory / "db");
  const std::string large(3u << 20, 'x');
  Put(*store, "k", "v");
  Put(*store, "", "empty key");
  Put(*store, "\0\xff\r\n"s, "\0"s);
  Put(*store, "large", large);
  Put(*store, "late", "w", 1700000000000);
  CHECK(Read(*store, "k") == "v");
  CHECK(Read(*store, "") == "empty key");
  CHECK(Read(*store, "\0\xff\r\n"s) == "\0"s);
  CHECK(Read(*store, "large") == large);
  CHECK(Read(*store, "late") == "w@1700000000000");
  CHECK(store->place().replid == "history");
  CHECK(store->place().position == Position(6));
  CHECK(store->from_chain());
}

TEST_CASE("rocks store: many keys are read at once, with and without deadlines") {
  TemporaryDirectory directory;
  const auto store = Opened(directory / "db");
  for (int i = 0; i < 100; i += 2) Put(*store, std::to_string(i), "v" + std::to_string(i));
  const auto read = [&](int n) {
    Strings names;
    for (int i = 0; i < n; ++i) names.push_back(std::to_string(i));
    const std::vector<std::string_view> keys(names.begin(), names.end());
    std::vector<Item> items(keys.size());
    const auto found = std::make_unique<bool[]>(keys.size());
    REQUIRE(store->MultiGet(keys, items, std::span(found.get(), keys.size())));
    Strings texts;
    for (size_t i = 0; i < keys.size(); ++i) {
      texts.push_back(found[i] ? TextOf(items[i]) : "none");
    }
    return texts;
  };
  CHECK(read(0).empty());
  CHECK(read(3) == Strings{"v0", "none", "v2"});
  CHECK(read(100)[98] == "v98");
  Put(*store, "1", "w", 55);
  Put(*store, "2", "x", 66);
  CHECK(read(4) == Strings{"v0", "w@55", "x@66", "none"});
  CHECK(read(100)[98] == "v98");
}

TEST_CASE("rocks store: of a key only the last change counts, its deadline too") {
  TemporaryDirectory directory;
  const auto store = Opened(directory / "db");
  Put(*store, "k", "1", 100);
  Put(*store, "k", "2");
  CHECK(Read(*store, "k") == "2");
  CHECK(Expired(*store, 1000).empty());
  Put(*store, "k", "3", 100);
  Put(*store, "k", "3", 200);
  CHECK(Expired(*store, 199).empty());
  CHECK(Expired(*store, 200) == Strings{"k"});
  Delete(*store, "k");
  CHECK(Expired(*store, 1000).empty());
  Put(*store, "k", "4");
  CHECK(Read(*store, "k") == "4");

  const auto batch = store->NewBatch();
  batch->Add({.key = "k", .value = "5", .deadline_ms = 300});
  batch->Add({.key = "j", .value = "1"});
  batch->Add({.key = "k", .value = "6"});
  batch->Add({.key = "j", .value = "2", .deadline_ms = 400});
  batch->Add({.key = "i", .value = "1", .deadline_ms = 500});
  batch->Add({.key = "i", .value = std::nullopt});
  REQUIRE(store->Apply(*batch, {"history", Position(100)}));
  CHECK(Walked(*store) == "j=2@400 k=6 ");
  CHECK(Expired(*store, 1000) == Strings{"j"});
}

TEST_CASE("rocks store: what is serialized is applied, and other bytes are refused") {
  TemporaryDirectory directory;
  const auto store = Opened(directory / "db");
  const std::array<Change, 3> changes{Change{.key = "a", .value = "1", .deadline_ms = 7},
                                      Change{.key = "b", .value = "2"},
                                      Change{.key = "a", .value = "3"}};
  std::string serialized;
  Serialize(changes, serialized);
  const auto batch = store->NewBatch();
  REQUIRE(batch->AddSerialized(serialized));
  REQUIRE(batch->AddSerialized(serialized));
  CHECK_FALSE(batch->AddSerialized("nonsense"));
  CHECK_FALSE(batch->AddSerialized(serialized.substr(0, serialized.size() - 1)));
  batch->Reset();
  REQUIRE(batch->AddSerialized(serialized));
  REQUIRE(store->Apply(*batch, {"history", Position(9)}));
  CHECK(Walked(*store) == "a=3 b=2 ");
}

TEST_CASE("rocks store: clearing deletes all that was there, and before it in its batch") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  auto store = Opened(path);
  Put(*store, "old", "1");
  Put(*store, "older", "1", 50);
  const auto batch = store->NewBatch();
  batch->Add({.key = "early", .value = "1", .deadline_ms = 10});
  batch->Clear();
  batch->Add({.key = "late", .value = "1", .deadline_ms = 20});
  batch->Add({.key = "old", .value = "2"});
  REQUIRE(store->Apply(*batch, {"history", Position(50)}));
  CHECK(Walked(*store) == "late=1@20 old=2 ");
  CHECK(Expired(*store, 1000) == Strings{"late"});
  batch->Reset();
  batch->Clear();
  REQUIRE(store->Apply(*batch, {"history", Position(60)}));
  CHECK(Walked(*store).empty());
  batch->Reset();
  batch->Clear();  // with nothing there
  REQUIRE(store->Apply(*batch, {"history", Position(70)}));
  CHECK(Expired(*store, 1000).empty());
  store.reset();
  store = Opened(path);
  CHECK(store->place().position == Position(70));
  CHECK(Walked(*store).empty());
}

// An empty range would count in RocksDB's numbers when it is written, and not when it is recovered.
TEST_CASE("rocks store: clearing a single key is recovered from the log as it was written") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  auto store = Opened(path);
  const std::string run_id = store->run_id();
  Put(*store, "only", "1", 50);
  const auto batch = store->NewBatch();
  batch->Clear();
  REQUIRE(store->Apply(*batch, {"history", Position(50)}));
  store.reset();
  store = Opened(path);
  CHECK(store->run_id() == run_id);
  CHECK(store->place().replid == "history");
}

TEST_CASE("rocks store: a cursor goes both ways over the data as it was") {
  TemporaryDirectory directory;
  const auto store = Opened(directory / "db");
  for (const char* key : {"b", "d", "f"}) Put(*store, key, key);
  const auto plain = store->Walk();
  Put(*store, "f", "F", 90);
  const auto cursor = store->Walk();
  Put(*store, "c", "new");
  Put(*store, "f", "again");
  Delete(*store, "b");
  cursor->Seek("c");
  CHECK(cursor->key() == "d");
  cursor->Prev();
  CHECK(cursor->key() == "b");
  cursor->Prev();
  CHECK_FALSE(cursor->Valid());
  cursor->SeekForPrev("e");
  CHECK(cursor->key() == "d");
  cursor->SeekForPrev("a");
  CHECK_FALSE(cursor->Valid());
  cursor->SeekToLast();
  CHECK(cursor->key() == "f");
  CHECK(Walked(*plain) == "b=b d=d f=f ");
  CHECK(Walked(*cursor) == "b=b d=d f=F@90 ");
  CHECK(Walked(*store) == "c=new d=d f=again ");
}

TEST_CASE("rocks store: expired keys come by their deadlines, also those set later") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  auto store = Opened(path);
  Put(*store, "late", "", 30);
  Put(*store, "early", "", 10);
  Put(*store, "middle", "", 20);
  Put(*store, "never", "");
  CHECK(Expired(*store, 20) == Strings{"early", "middle"});
  CHECK(Expired(*store, 99, 1) == Strings{"early"});
  CHECK(Expired(*store, 9).empty());
  Delete(*store, "early");
  CHECK(Expired(*store, 20) == Strings{"middle"});
  Put(*store, "first", "", 0);
  CHECK(Expired(*store, 20) == Strings{"first", "middle"});
  store.reset();
  store = Opened(path);
  CHECK(Expired(*store, 99) == Strings{"first", "middle", "late"});
}

TEST_CASE("rocks store: random changes leave what a map holds, over restarts") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  auto store = Opened(path);
  std::map<std::string, std::pair<std::string, int64_t>> model;
  std::mt19937 random(7);
  const auto pick = [&](uint32_t n) { return random() % n; };
  uint64_t position = 1;
  for (int round = 0; round < 600; ++round) {
    const auto batch = store->NewBatch();
    if (pick(50) == 0) batch->Clear(), model.clear();
    for (uint32_t n = pick(8); n > 0; --n) {
      const std::string key = "key" + std::to_string(pick(40));
      if (pick(3) == 0) {
        batch->Add({.key = key, .value = std::nullopt});
        model.erase(key);
        continue;
      }
      const std::string value = std::to_string(random());
      const int64_t deadline = pick(2) == 0 ? Item::kNoDeadline : pick(30);
      batch->Add({.key = key, .value = value, .deadline_ms = deadline});
      model[key] = {value, deadline};
    }
    REQUIRE(store->Apply(*batch, {"history", Position(++position)}));
    if (pick(60) == 0) {
      store.reset();
      store = Opened(path);
    }
    std::string expected;
    std::vector<std::pair<int64_t, std::string>> due;
    for (const auto& [key, value] : model) {
      expected += key + "=" + TextOf({value.first, value.second}) + " ";
      if (value.second != Item::kNoDeadline && value.second <= 15)
        due.emplace_back(value.second, key);
    }
    std::sort(due.begin(), due.end());
    Strings keys;
    for (const auto& [deadline, key] : due) keys.push_back(key);
    REQUIRE(Walked(*store) == expected);
    REQUIRE(Expired(*store, 15) == keys);
    REQUIRE(store->place().position == Position(position));
  }
}

TEST_CASE("rocks store: a reader beside the writer sees each change whole") {
  TemporaryDirectory directory;
  const auto store = Opened(directory / "db");
  Put(*store, "k", "0");
  std::atomic<bool> done{false};
  std::thread writer([&] {
    const auto batch = store->NewBatch();
    for (int i = 1; i <= 4000; ++i) {
      batch->Reset();
      // A value and its deadline say the same number; now and then it has none.
      const std::string value = std::to_string(i);
      batch->Add({.key = "k", .value = value, .deadline_ms = i % 3 == 0 ? Item::kNoDeadline : i});
      batch->Add({.key = "j", .value = value, .deadline_ms = i});
      if (i % 7 == 0) batch->Add({.key = "j", .value = std::nullopt});
      (void)store->Apply(*batch, {"history", Position(static_cast<uint64_t>(i))});
    }
    done = true;
  });
  int64_t last = 0;
  const auto judge = [&](const Item& item) {
    const int64_t number = std::stoll(item.value);
    CHECK(number >= last);
    CHECK(item.deadline_ms == (number % 3 == 0 ? Item::kNoDeadline : number));
    last = number;
  };
  Strings expired;
  while (!done) {
    Item item;
    REQUIRE(store->Get("k", item).value());
    judge(item);
    std::array<std::string_view, 2> keys{"j", "k"};
    std::array<Item, 2> items;
    std::array<bool, 2> found{};
    REQUIRE(store->MultiGet(keys, items, found));
    judge(items[1]);
    CHECK(found[0] == (std::stoll(items[1].value) % 7 != 0 && last > 0));
    if (found[0]) CHECK(items[0].value == items[1].value);
    const auto cursor = store->Walk();
    cursor->Seek("k");
    cursor->Read(item);
    judge(item);
    REQUIRE(store->Expired(INT64_MAX, 10, expired));
  }
  writer.join();
  CHECK(Read(*store, "k") == "4000@4000");
  CHECK(Expired(*store, 5000) == Strings{"j", "k"});
}

// ---- Over restarts ----

TEST_CASE("rocks store: an orderly restart keeps data, place and run_id") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  auto store = Opened(path);
  const std::string run_id = store->run_id();
  for (int i = 0; i < 3; ++i) {
    Put(*store, "k" + std::to_string(i), "v", i == 1 ? 77 : Item::kNoDeadline);
    REQUIRE(store->SyncNow());
    store.reset();
    store = Opened(path);
    CHECK(store->run_id() == run_id);
    CHECK(store->place().replid == "history");
    CHECK(store->place().position == Position(static_cast<uint64_t>(i) + 2));
    CHECK(store->from_chain());
  }
  CHECK(Walked(*store) == "k0=v k1=v@77 k2=v ");
  REQUIRE(store->SetPlace({"other", Position(1000)}));
  store.reset();
  store = Opened(path);
  CHECK(store->place().replid == "other");
  CHECK(store->place().position == Position(1000));
  CHECK(store->run_id() == run_id);
}

TEST_CASE("rocks store: flushes and compactions do not look like another program's writes") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  auto store = Opened(path);
  const std::string run_id = store->run_id();
  const std::string value(10000, 'v');
  // Some times the write buffer.
  for (int i = 0; i < 800; ++i) Put(*store, std::to_string(i % 300), value, i % 2 ? i : -1);
  CHECK(store->Statistics().find("rocksdb_files_at_level0:0") == std::string::npos);
  store.reset();
  store = Opened(path);
  CHECK(store->run_id() == run_id);
  CHECK(store->place().position == Position(801));
}

using Options = rocksdb::Options;

// As the owner's program does it.
void WithOwner(
    const std::string& path, const Options& options,
    const std::function<void(rocksdb::DB&, std::vector<rocksdb::ColumnFamilyHandle*>&)>& use) {
  std::vector<std::string> names;
  Options opening = options;
  opening.create_if_missing = opening.create_missing_column_families = true;
  if (!rocksdb::DB::ListColumnFamilies(opening, path, &names).ok()) names = {"default"};
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const std::string& name : names) {
    families.emplace_back(name, name.starts_with("catena.") ? Options() : opening);
  }
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const auto status = rocksdb::DB::Open(opening, path, families, &handles, &db);
  if (!status.ok()) FAIL(status.ToString());
  use(*db, handles);
  for (auto* handle : handles) db->DestroyColumnFamilyHandle(handle);
  delete db;
}

void OwnerPuts(const std::string& path, const std::string& key, const std::string& value,
               const Options& options = {}) {
  WithOwner(path, options, [&](rocksdb::DB& db, auto&) {
    REQUIRE(db.Put(rocksdb::WriteOptions(), key, value).ok());
  });
}

TEST_CASE("rocks store: after another program's write the place is known no more") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  auto store = Opened(path);
  const std::string run_id = store->run_id();
  Put(*store, "k", "v");
  store.reset();
  OwnerPuts(path, "k", "theirs");
  store = Opened(path);
  CHECK(store->place().replid.empty());
  CHECK(store->place().position == Position(2));
  CHECK(store->from_chain());
  CHECK(store->run_id() != run_id);
  CHECK(Read(*store, "k") == "theirs");
  const std::string second = store->run_id();
  store.reset();
  store = Opened(path);
  CHECK(store->run_id() == second);
  CHECK(store->place().replid.empty());
}

TEST_CASE("rocks store: another program that only opens it changes nothing") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  auto store = Opened(path);
  const std::string run_id = store->run_id();
  Put(*store, "k", "v");
  store.reset();
  WithOwner(path, {}, [](rocksdb::DB& db, auto& families) {
    REQUIRE(db.Flush(rocksdb::FlushOptions(), families).ok());
    REQUIRE(db.CompactRange(rocksdb::CompactRangeOptions(), nullptr, nullptr).ok());
  });
  store = Opened(path);
  CHECK(store->run_id() == run_id);
  CHECK(store->place().replid == "history");
}

TEST_CASE("rocks store: deadlines of keys that another program deleted go") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  auto store = Opened(path);
  for (int i = 0; i < 3000; ++i) Put(*store, std::to_string(i), "v", i);
  store.reset();
  WithOwner(path, {}, [](rocksdb::DB& db, auto&) {
    REQUIRE(db.DeleteRange(rocksdb::WriteOptions(), db.DefaultColumnFamily(), "0", "8").ok());
    REQUIRE(db.Put(rocksdb::WriteOptions(), "900", "kept").ok());
  });
  store = Opened(path);
  CHECK(store->Statistics().find("rocksdb_keys_with_deadline:222\r\n") != std::string::npos);
  CHECK(Expired(*store, 9) == Strings{"8", "9"});
  CHECK(Read(*store, "900") == "kept@900");
  Put(*store, "900", "now");
  CHECK(Expired(*store, 5000, 5000).size() == 221);
  store.reset();
  store = Opened(path);
  CHECK(Expired(*store, 5000, 5000).size() == 221);
}

TEST_CASE("rocks store: leftovers of copies go when it is opened") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  Opened(path).reset();
  for (const char* name : {"catena.checkpoint.3", "catena.checkpoint.4.tmp", "catena.incoming"}) {
    files::create_directory(path + "/" + name);
    std::ofstream(path + "/" + name + "/000001.sst") << "x";
  }
  std::ofstream(path + "/notes.txt") << "the owner's";
  Opened(path).reset();
  CHECK_FALSE(files::exists(path + "/catena.checkpoint.3"));
  CHECK_FALSE(files::exists(path + "/catena.checkpoint.4.tmp"));
  CHECK_FALSE(files::exists(path + "/catena.incoming"));
  CHECK(files::exists(path + "/notes.txt"));
}

// ---- Databases of others ----

TEST_CASE("rocks store: an owner's data, families and options stay as they are") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  Options options;
  options.comparator = rocksdb::ReverseBytewiseComparator();
  options.compression = rocksdb::kZlibCompression;
  options.write_buffer_size = 3u << 20;
  options.max_background_jobs = 5;
  REQUIRE(rocksdb::MergeOperator::CreateFromString(rocksdb::ConfigOptions(), "stringappend",
                                                   &options.merge_operator)
              .ok());
  WithOwner(path, options, [&](rocksdb::DB& db, auto& handles) {
    rocksdb::ColumnFamilyHandle* family = nullptr;
    REQUIRE(db.CreateColumnFamily(options, "orders", &family).ok());
    handles.push_back(family);
    REQUIRE(db.Put({}, family, "o", "1").ok());
    REQUIRE(db.Put({}, "a", "1").ok());
    REQUIRE(db.Merge({}, "a", "2").ok());
    REQUIRE(db.Put({}, "b", "3").ok());
  });
  StoreOptions ours;
  ours.directory = path;
  auto store = Opened(ours);
  CHECK(Walked(*store) == "b=3 a=1,2 ");
  CHECK(store->Compare("a", "b") > 0);
  CHECK(store->place().position == Position(1));
  CHECK_FALSE(store->from_chain());
  Put(*store, "c", "4");
  CHECK(Walked(*store) == "c=4 b=3 a=1,2 ");
  store.reset();
  ours.write_buffer_bytes = 5u << 20;
  Opened(ours).reset();

  std::string text;
  for (const auto& [name, content] : Contents(path)) {
    if (name.find("/OPTIONS-") != std::string::npos) text = content;  // the newest one
  }
  CHECK(text.find("wal_filter") == std::string::npos);  // a help of our own, for one opening
  CHECK(text.find("max_background_jobs=5") != std::string::npos);
  CHECK(text.find("write_buffer_size=5242880") != std::string::npos);
  CHECK(text.find("write_buffer_size=3145728") != std::string::npos);
  CHECK(text.find("compression=kZlibCompression") != std::string::npos);
  WithOwner(path, options, [](rocksdb::DB& db, auto& handles) {
    std::string value;
    for (auto* handle : handles) {
      if (handle->GetName() == "orders") REQUIRE(db.Get({}, handle, "o", &value).ok());
    }
    CHECK(value == "1");
    REQUIRE(db.Get({}, "c", &value).ok());
    CHECK(value == "4");
  });
}

// Refused, for a reason that its words name, and exactly as it was.
void CheckRefused(const std::string& path, const std::vector<std::string>& words) {
  const auto before = Contents(path);
  const std::string error = OpenError(path);
  for (const std::string& word : words) {
    CAPTURE(error);
    CHECK(error.find(word) != std::string::npos);
  }
  CHECK(Contents(path) == before);
}

struct OddComparator : rocksdb::Comparator {
  const char* Name() const override { return "owner.Odd"; }
  int Compare(const rocksdb::Slice& a, const rocksdb::Slice& b) const override {
    return a.compare(b);
  }
  void FindShortestSeparator(std::string*, const rocksdb::Slice&) const override {}
  void FindShortSuccessor(std::string*) const override {}
};

struct OddMerge : rocksdb::AssociativeMergeOperator {
  const char* Name() const override { return "owner.Merge"; }
  bool Merge(const rocksdb::Slice&, const rocksdb::Slice*, const rocksdb::Slice& value,
             std::string* out, rocksdb::Logger*) const override {
    out->assign(value.data(), value.size());
    return true;
  }
};

TEST_CASE("rocks store: what only its own program has is not opened, and left as it was") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  Options options;
  SUBCASE("a comparator") {
    static const OddComparator comparator;
    options.comparator = &comparator;
    OwnerPuts(path, "k", "v", options);
    CheckRefused(path, {path, "Comparator: owner.Odd", "RocksDB's own"});
    // Without the OPTIONS file, too, only less is known.
    for (const auto& entry : files::directory_iterator(path)) {
      if (entry.path().filename().string().starts_with("OPTIONS")) files::remove(entry.path());
    }
    CheckRefused(path, {path, "owner.Odd"});
  }
  SUBCASE("a merge operator") {
    options.merge_operator = std::make_shared<OddMerge>();
    OwnerPuts(path, "k", "v", options);
    CheckRefused(path, {path, "MergeOperator: owner.Merge"});
  }
  SUBCASE("a log elsewhere") {
    options.wal_dir = directory / "log";
    OwnerPuts(path, "k", "v", options);
    CheckRefused(path, {path, directory / "log"});
  }
}

void ReplaceInFile(const std::string& path, const std::string& from, const std::string& to) {
  std::ifstream in(path, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(in), {});
  REQUIRE(text.find(from) != std::string::npos);
  text.replace(text.find(from), from.size(), to);
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

std::string FileLike(const std::string& path, const std::string& part) {
  std::string found;
  for (const auto& entry : files::directory_iterator(path)) {
    const std::string name = entry.path().string();
    if (name.find(part) != std::string::npos && name > found) found = name;
  }
  REQUIRE_FALSE(found.empty());
  return found;
}

TEST_CASE("rocks store: damage and newer formats are told, and left as they are") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  WithOwner(path, {}, [](rocksdb::DB& db, auto&) {
    REQUIRE(db.Put({}, "k", "v").ok());
    REQUIRE(db.Flush({}).ok());
    REQUIRE(db.Put({}, "j", "v").ok());
  });
  SUBCASE("an option that is not known") {
    ReplaceInFile(FileLike(path, "/OPTIONS-"), "max_background_jobs", "max_foreground_jobs");
    CheckRefused(path, {path, "newer RocksDB"});
  }
  SUBCASE("no CURRENT") {
    files::remove(path + "/CURRENT");
    CheckRefused(path, {path, "no CURRENT"});
  }
  SUBCASE("no manifest") {
    files::remove(FileLike(path, "/MANIFEST-"));
    CheckRefused(path, {path, "MANIFEST"});
  }
  SUBCASE("a damaged manifest") {
    const std::string manifest = FileLike(path, "/MANIFEST-");
    std::ofstream(manifest, std::ios::binary | std::ios::trunc) << std::string(200, 'x');
    CheckRefused(path, {path, "damaged"});
  }
  SUBCASE("a table is missing") {
    files::remove(FileLike(path, ".sst"));
    CheckRefused(path, {path, "No such file", "restore it"});
  }
  SUBCASE("a table is shorter") {
    files::resize_file(FileLike(path, ".sst"), 100);
    CheckRefused(path, {path, ".sst"});
  }
  SUBCASE("a table of a newer format") {
    const std::string table = FileLike(path, ".sst");
    std::fstream file(table, std::ios::binary | std::ios::in | std::ios::out);
    // The footer's format version stands before the magic number of 8 bytes.
    file.seekp(-12, std::ios::end);
    file.write("\xc8\0\0\0", 4);
    file.close();
    CheckRefused(path, {path, "newer RocksDB"});
  }
  SUBCASE("a record of Catena's of a newer format") {
    Opened(path).reset();
    WithOwner(path, {}, [](rocksdb::DB& db, auto& handles) {
      for (auto* handle : handles) {
        if (handle->GetName() == "catena.meta") REQUIRE(db.Put({}, handle, "state", "\x09").ok());
      }
    });
    const std::string error = OpenError(path);
    CHECK(error.find("format 9") != std::string::npos);
    CHECK(error.find("newer") != std::string::npos);
  }
}

TEST_CASE("rocks store: a walk that comes upon damage tells so") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  WithOwner(path, {}, [](rocksdb::DB& db, auto&) {
    for (int i = 0; i < 1000; ++i) {
      REQUIRE(db.Put({}, "key" + std::to_string(1000 + i), std::string(100, 'v')).ok());
    }
    REQUIRE(db.Flush({}).ok());
  });
  {
    const std::string table = FileLike(path, ".sst");
    std::fstream file(table, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(files::file_size(table) / 2));
    file.write("damaged", 7);
  }
  const auto store = Opened(path);
  CHECK(store->Walked());
  const auto cursor = store->Walk();
  int keys = 0;
  for (cursor->SeekToFirst(); cursor->Valid(); cursor->Next()) ++keys;
  CHECK(keys < 1000);
  REQUIRE(!store->Walked());
  CHECK(store->Walked().error().message.find("walk the keys") != std::string::npos);
}

TEST_CASE("rocks store: what is no database is told, and left as it is") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  SUBCASE("a file") {
    std::ofstream(path) << "text";
    CHECK(OpenError(path).find("not a directory") != std::string::npos);
  }
  SUBCASE("somebody's files") {
    files::create_directory(path);
    std::ofstream(path + "/letter.txt") << "text";
    CheckRefused(path, {path, "not empty", "letter.txt"});
  }
  SUBCASE("no parent") {
    CHECK(OpenError(path + "/a/b").find(path + "/a/b") != std::string::npos);
    CHECK_FALSE(files::exists(path));
  }
  SUBCASE("not allowed") {
    if (::geteuid() == 0) return;  // root may write anywhere
    OwnerPuts(path, "k", "v");
    files::permissions(path, files::perms::owner_read | files::perms::owner_exec);
    CheckRefused(path, {path, "allowed"});
    files::permissions(path, files::perms::owner_all);
  }
}

TEST_CASE("rocks store: one that is open is not opened again") {
  TemporaryDirectory directory;
  const std::string path = directory / "db";
  const auto store = Opened(path);
  const auto before = Contents(path);
  CHECK(OpenError(path).find("open already") != std::string::npos);
  CHECK(Contents(path) == before);
  Put(*store, "k", "v");
}

}  // namespace
}  // namespace catena::rocks
