#include <doctest/doctest.h>

#include <vector>

#include "backends/rocksdb/batch.h"
#include "backends/rocksdb/effects.h"
#include "proxy/resp/encoder.h"

namespace catena::rocks {
namespace {

constexpr Position kStart(1000);

// What was told, a line each.
class Recorder : public EffectHandler {
 public:
  void OnWrite(std::string_view batch) override { lines.push_back("write " + std::string(batch)); }
  void OnFlush() override { lines.push_back("flush"); }
  void OnPublish(std::string_view channel, std::string_view message) override {
    lines.push_back("publish " + std::string(channel) + " " + std::string(message));
  }

  std::vector<std::string> lines;
};

// An entry in the making.
struct Entry {
  Position at() const { return kStart + bytes.size(); }
  Entry& Write(std::string_view batch, std::vector<std::string_view> keys) {
    AppendWrite(batch, keys, at(), bytes);
    return *this;
  }
  Entry& Flush() {
    AppendFlush(at(), bytes);
    return *this;
  }
  Entry& Publish(std::string_view channel, std::string_view message) {
    AppendPublish(channel, message, at(), bytes);
    return *this;
  }
  Entry& Multi() {
    AppendMulti(bytes);
    return *this;
  }
  Entry& Exec() {
    AppendExec(at(), bytes);
    return *this;
  }

  std::string bytes;
};

std::vector<Entry> EveryKind() {
  using namespace std::string_literals;
  return {Entry().Write("batch", {"key"}),
          Entry().Write("\0\r\n*"s, {"", "a\r\nb", std::string_view("\0\xff", 2)}),
          Entry().Write("", {}),
          Entry().Flush(),
          Entry().Publish("news", "hello"),
          Entry().Multi().Write("one", {"k1"}).Flush().Publish("c", "").Write("two", {}).Exec(),
          Entry().Multi().Flush().Exec()};
}

std::string ErrorOf(std::string_view entry, Position start = kStart) {
  Recorder recorder;
  const auto read = ReadEntry(entry, start, &recorder);
  CHECK(recorder.lines.empty());
  REQUIRE_FALSE(read);
  return read.error().message;
}

std::vector<std::string> Told(const Entry& entry) {
  Recorder recorder;
  const auto read = ReadEntry(entry.bytes, kStart, &recorder);
  if (!read) FAIL(read.error().message);
  return recorder.lines;
}

using Lines = std::vector<std::string>;

TEST_CASE("effects: what is appended is read") {
  CHECK(Told(Entry().Write("batch", {"key"})) == Lines{"write batch"});
  CHECK(Told(Entry().Flush()) == Lines{"flush"});
  CHECK(Told(Entry().Publish("news", "hello")) == Lines{"publish news hello"});
  CHECK(Told(Entry().Multi().Write("a", {"k"}).Flush().Publish("c", "m").Write("b", {}).Exec()) ==
        Lines{"write a", "flush", "publish c m", "write b"});
}

TEST_CASE("effects: a large value and many keys are read") {
  const std::string large(3u << 20, 'x');
  const std::vector<std::string_view> keys(200000, "key");
  Entry entry;
  entry.Write(large, keys);
  CHECK(Told(entry) == Lines{"write " + large});
}

TEST_CASE("effects: each bit of each kind of entry is covered") {
  for (const Entry& entry : EveryKind()) {
    CHECK(ReadEntry(entry.bytes, kStart, nullptr));
    for (size_t i = 0; i < entry.bytes.size(); ++i) {
      for (int bit = 0; bit < 8; ++bit) {
        std::string damaged = entry.bytes;
        damaged[i] = static_cast<char>(damaged[i] ^ 1 << bit);
        CAPTURE(i);
        CAPTURE(bit);
        CHECK(ErrorOf(damaged).find("damaged effect at position 1") == 0);
      }
    }
  }
}

TEST_CASE("effects: a byte too many, too few, or doubled is noticed") {
  for (const Entry& entry : EveryKind()) {
    for (size_t i = 0; i < entry.bytes.size(); ++i) {
      CAPTURE(i);
      ErrorOf(entry.bytes.substr(0, i));
      ErrorOf(std::string(entry.bytes).erase(i, 1));
      ErrorOf(std::string(entry.bytes).insert(i, 1, entry.bytes[i]));
    }
    ErrorOf(entry.bytes + entry.bytes);
    ErrorOf(entry.bytes + "\r\n");
  }
}

TEST_CASE("effects: an entry belongs to one place only") {
  for (const Entry& entry : EveryKind()) {
    CHECK(ErrorOf(entry.bytes, Position(999)).find("made to end at position") != std::string::npos);
    ErrorOf(entry.bytes, Position(0));
    ErrorOf(entry.bytes, kStart + (uint64_t{1} << 32));
  }
}

TEST_CASE("effects: the parts of a transaction do not change places, nor stand alone") {
  Entry first, second, whole;
  first.Multi().Write("aaa", {"k"});
  second = first;
  second.Write("bbb", {"k"});
  whole = second;
  whole.Exec();
  const std::string multi = Entry().Multi().bytes;
  const std::string a = first.bytes.substr(multi.size());
  const std::string b = second.bytes.substr(first.bytes.size());
  const std::string exec = whole.bytes.substr(second.bytes.size());
  REQUIRE(Told(whole) == Lines{"write aaa", "write bbb"});
  ErrorOf(multi + b + a + exec);
  ErrorOf(multi + a + exec);
  ErrorOf(multi + a + b);
  ErrorOf(a + b);
  ErrorOf(b + exec);
  ErrorOf(multi + exec);
  ErrorOf(Entry().Multi().Exec().bytes);
  ErrorOf(Entry().Exec().bytes);
  ErrorOf(Entry().Multi().Multi().Flush().Exec().Exec().bytes);
}

TEST_CASE("effects: what a Redis would send is none") {
  for (std::string_view bytes :
       {"", "*1\r\n$4\r\nPING\r\n", "FLUSHALL\r\n", "*0\r\n", "*1\r\n$8\r\nFLUSHALL\r\n",
        "*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$1\r\nm\r\n", "*-1\r\n", "*2000000000\r\n", "$1\r\n"}) {
    CAPTURE(bytes);
    ErrorOf(bytes);
  }
}

// ---- Serialized batches ----

struct OwnedChange {
  std::string key;
  std::optional<std::string> value;
  int64_t deadline_ms = Item::kNoDeadline;
  bool operator==(const OwnedChange&) const = default;
};

std::vector<OwnedChange> ChangesOf(std::string_view serialized) {
  std::vector<OwnedChange> changes;
  const auto read = ReadSerialized(serialized, [&](const Change& change) {
    OwnedChange owned{std::string(change.key), std::nullopt, change.deadline_ms};
    if (change.value) owned.value = std::string(*change.value);
    changes.push_back(std::move(owned));
  });
  if (!read) FAIL(read.error().message);
  return changes;
}

std::vector<OwnedChange> SomeChanges() {
  return {{"plain", "value"},
          {"gone", std::nullopt},
          {"", ""},
          {"late", "x", INT64_MAX},
          {"past", std::string(300, '\0'), 0},
          {"plain", "again", 1700000000000}};
}

std::string Serialized(const std::vector<OwnedChange>& owned) {
  std::vector<Change> changes;
  for (const OwnedChange& change : owned) {
    Change view{.key = change.key, .value = std::nullopt, .deadline_ms = change.deadline_ms};
    if (change.value) view.value = *change.value;
    changes.push_back(view);
  }
  std::string out;
  Serialize(changes, out);
  return out;
}

TEST_CASE("batch: changes come back as they were, in order") {
  CHECK(ChangesOf(Serialized(SomeChanges())) == SomeChanges());
  CHECK(ChangesOf(Serialized({})).empty());
}

TEST_CASE("batch: serializing appends, and leaves nothing for the next") {
  std::string out = "before";
  const Change change{.key = "k", .value = "v", .deadline_ms = 5};
  Serialize(std::span(&change, 1), out);
  CHECK(out == "before" + Serialized({{"k", "v", 5}}));
}

TEST_CASE("batch: bytes are RocksDB's own, the same on every machine") {
  using namespace std::string_literals;
  // Sequence number, count; then put and delete by their tags in RocksDB's log.
  CHECK(Serialized({{"k", "v", 258}, {"x", std::nullopt}}) ==
        "\0\0\0\0\0\0\0\0\3\0\0\0"s + "\1\1k\1v"s + "\5\1\1k\10\0\0\0\0\0\0\1\2"s + "\0\1x"s);
}

bool IsBatch(std::string_view bytes) {
  return ReadSerialized(bytes, [](const Change&) {}).has_value();
}

// A batch of one record.
std::string Record(std::string_view record, int count = 1) {
  return std::string(8, '\0') + static_cast<char>(count) + std::string(3, '\0') +
         std::string(record);
}

TEST_CASE("batch: other records than those of changes are refused") {
  using namespace std::string_literals;
  CHECK(IsBatch(Record("\1\1k\1v"s)));
  CHECK(IsBatch(Record("\0\1k"s)));
  CHECK_FALSE(IsBatch(Record("\1\1k\1v"s, 2)));
  CHECK_FALSE(IsBatch(Record("\1\1k\1v"s, 0)));
  CHECK_FALSE(IsBatch(Record("\2\1k\1v"s)));                    // merge
  CHECK_FALSE(IsBatch(Record("\3\1v"s, 0)));                    // log data
  CHECK_FALSE(IsBatch(Record("\4\1\1k"s)));                     // delete a deadline
  CHECK_FALSE(IsBatch(Record("\4\2\1k"s)));                     // delete in another family
  CHECK_FALSE(IsBatch(Record("\5\2\1k\1v"s)));                  // put into another family
  CHECK_FALSE(IsBatch(Record("\5\1\1k\10\0\0\0\0\0\0\0\1"s)));  // a deadline of no value
  CHECK_FALSE(IsBatch(Record("\1\1j\1v\5\1\1k\10\0\0\0\0\0\0\0\1"s, 2)));    // of another key
  CHECK_FALSE(IsBatch(Record("\1\1k\1v\5\1\1k\7\0\0\0\0\0\0\1"s, 2)));       // too short
  CHECK_FALSE(IsBatch(Record("\1\1k\1v\5\1\1k\10\377\0\0\0\0\0\0\1"s, 2)));  // negative
  CHECK_FALSE(IsBatch(Record("\7\1k"s)));                                    // single deletion
  CHECK_FALSE(IsBatch(Record("\17\1j\1k"s)));                                // range deletion
  for (int tag = 0; tag < 256; ++tag) {
    const std::string record = Record(std::string(1, static_cast<char>(tag)) + "\1k\1v"s);
    CAPTURE(tag);
    CHECK(IsBatch(record) == (tag == 1));
  }
}

TEST_CASE("batch: cut or damaged bytes are an error or another batch, never more") {
  const std::string whole = Serialized(SomeChanges());
  for (size_t i = 0; i < whole.size(); ++i) {
    CAPTURE(i);
    CHECK_FALSE(IsBatch(whole.substr(0, i)));
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = whole;
      damaged[i] = static_cast<char>(damaged[i] ^ 1 << bit);
      IsBatch(damaged);
    }
  }
}

}  // namespace
}  // namespace catena::rocks
