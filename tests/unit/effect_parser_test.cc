#include "proxy/command/effect_parser.h"

#include <algorithm>

#include "allocations.h"
#include "proxy/resp/encoder.h"
#include "recorded.h"

namespace catena::command {
namespace {

using test::allocations;
using test::largest_allocation;
using test::Words;

const CommandTable& Table() {
  static const CommandTable table = test::RecordedTable();
  return table;
}

bool Equal(const EffectEntry& a, const EffectEntry& b) {
  return a.end == b.end && a.touches_every_key == b.touches_every_key &&
         a.key_hashes == b.key_hashes && a.asks_for_ack == b.asks_for_ack;
}

bool Equal(const std::vector<EffectEntry>& a, const std::vector<EffectEntry>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const EffectEntry& x, const EffectEntry& y) { return Equal(x, y); });
}

// A parser and what it has reported.
class Stream {
 public:
  explicit Stream(uint64_t start = 0) : parser(Table(), Position(start)) {}

  bool Feed(std::string_view bytes) {
    const auto result =
        parser.Feed(bytes, [this](const EffectEntry& entry) { entries.push_back(entry); });
    if (!result) error = result.error().message;
    return result.has_value();
  }
  bool FeedCommands(const std::vector<std::string>& lines) {
    for (const std::string& line : lines) {
      if (!Feed(Encoded(line))) return false;
    }
    return true;
  }
  static std::string Encoded(const std::string& line) {
    const auto words = Words(line);
    std::string bytes;
    resp::AppendCommand(bytes, test::Views(words));
    return bytes;
  }

  EffectParser parser;
  std::vector<EffectEntry> entries;
  std::string error;
};

std::vector<uint64_t> Hashes(const std::vector<std::string>& keys) {
  std::vector<uint64_t> hashes;
  for (const std::string& key : keys) hashes.push_back(HashKey(key));
  return hashes;
}

const std::string& Recording() {
  static const std::string bytes = test::ReadData("effects-redis-7.0.15.resp");
  return bytes;
}

// The recording's entries as record.py has cut and described them.
std::vector<EffectEntry> RecordedEntries() {
  std::vector<EffectEntry> entries;
  std::istringstream lines(test::ReadData("effects-redis-7.0.15.txt"));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    uint64_t end = 0;
    std::string touched, name;
    fields >> end >> touched >> name;
    EffectEntry entry;
    entry.end = Position(end);
    entry.touches_every_key = touched == "every";
    entry.asks_for_ack = name == "REPLCONF";
    std::istringstream keys(touched);
    const bool has_keys = touched != "every" && touched != "-";
    for (std::string key; has_keys && std::getline(keys, key, ',');) {
      entry.key_hashes.push_back(HashKey(test::DecodeWord(key)));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

std::string Describe(const EffectEntry& entry) {
  return std::to_string(entry.end.value()) + (entry.touches_every_key ? " every" : "") + " " +
         std::to_string(entry.key_hashes.size()) + " keys";
}

// Keys do not matter where every key is touched.
std::vector<EffectEntry> WithoutNeedlessKeys(std::vector<EffectEntry> entries) {
  for (EffectEntry& entry : entries) {
    if (entry.touches_every_key) entry.key_hashes.clear();
  }
  return entries;
}

// ---- The recorded stream ----

TEST_CASE("a recorded stream has the entries that were read from it independently") {
  Stream stream;
  REQUIRE(stream.Feed(Recording()));
  const auto entries = WithoutNeedlessKeys(stream.entries);
  const auto expected = RecordedEntries();
  REQUIRE(expected.size() > 60);
  REQUIRE(entries.size() == expected.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    INFO(Describe(entries[i]) << " where expected " << Describe(expected[i]));
    CHECK(Equal(entries[i], expected[i]));
  }
  CHECK(stream.parser.border() == Position(Recording().size()));
  CHECK(stream.parser.position() == Position(Recording().size()));
}

TEST_CASE("the stream may be cut at every byte") {
  const auto expected = RecordedEntries();
  for (size_t cut = 0; cut <= Recording().size(); ++cut) {
    Stream stream;
    REQUIRE(stream.Feed(std::string_view(Recording()).substr(0, cut)));
    REQUIRE(stream.parser.position() == Position(cut));
    const Position last = stream.entries.empty() ? Position(0) : stream.entries.back().end;
    REQUIRE(stream.parser.border() == last);
    REQUIRE(stream.Feed(std::string_view(Recording()).substr(cut)));
    INFO("cut at " << cut);
    REQUIRE(Equal(WithoutNeedlessKeys(stream.entries), expected));
  }
}

TEST_CASE("the stream may come in pieces of any size") {
  const auto expected = RecordedEntries();
  for (size_t piece : {1, 2, 3, 5, 7, 16, 61, 1000, 4096}) {
    Stream stream;
    for (size_t at = 0; at < Recording().size(); at += piece) {
      REQUIRE(stream.Feed(std::string_view(Recording()).substr(at, piece)));
    }
    INFO("pieces of " << piece);
    CHECK(Equal(WithoutNeedlessKeys(stream.entries), expected));
  }
}

// ---- What entries touch ----

TEST_CASE("entries tell their keys") {
  Stream stream(1000);
  REQUIRE(stream.FeedCommands({"SET a 1", "MSET a 1 b 2", "DEL x y z", "ZUNIONSTORE d 2 a b",
                               "XGROUP CREATE s g $", "pfcount h1 h2", "RESTORE r 0 payload"}));
  REQUIRE(stream.entries.size() == 7);
  CHECK(stream.entries[0].key_hashes == Hashes({"a"}));
  CHECK(stream.entries[0].end == Position(1000 + Stream::Encoded("SET a 1").size()));
  CHECK(stream.entries[1].key_hashes == Hashes({"a", "b"}));
  CHECK(stream.entries[2].key_hashes == Hashes({"x", "y", "z"}));
  CHECK(stream.entries[3].key_hashes == Hashes({"d", "a", "b"}));
  CHECK(stream.entries[4].key_hashes == Hashes({"s"}));
  CHECK(stream.entries[5].key_hashes == Hashes({"h1", "h2"}));
  CHECK(stream.entries[6].key_hashes == Hashes({"r"}));
  for (const EffectEntry& entry : stream.entries) {
    CHECK_FALSE(entry.touches_every_key);
    CHECK_FALSE(entry.asks_for_ack);
  }
}

TEST_CASE("entries without keys touch nothing") {
  Stream stream;
  REQUIRE(stream.FeedCommands({"ping", "PING", "SELECT 3", "PUBLISH c m", "SPUBLISH c m",
                               "REPLCONF GETACK *", "replconf ack 3"}));
  REQUIRE(stream.entries.size() == 7);
  for (size_t i = 0; i < stream.entries.size(); ++i) {
    CHECK(stream.entries[i].key_hashes.empty());
    CHECK_FALSE(stream.entries[i].touches_every_key);
    CHECK(stream.entries[i].asks_for_ack == (i == 5));
  }
}

TEST_CASE("what is not clear touches every key") {
  Stream stream;
  const std::vector<std::string> lines = {"FLUSHALL",
                                          "FLUSHDB ASYNC",
                                          "SWAPDB 0 1",
                                          "FUNCTION LOAD x",
                                          "FUNCTION FLUSH",
                                          "SCRIPT LOAD x",
                                          "NOSUCH.COMMAND a b",
                                          "EVAL s 1 a",
                                          "SORT l BY w_* STORE d",
                                          "ZUNIONSTORE d x a",
                                          "DEL",
                                          "DBSIZE"};
  REQUIRE(stream.FeedCommands(lines));
  REQUIRE(stream.entries.size() == lines.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    INFO(lines[i]);
    CHECK(stream.entries[i].touches_every_key);
  }
  REQUIRE(stream.FeedCommands({"SET a 1"}));
  CHECK_FALSE(stream.entries.back().touches_every_key);
}

// ---- Transactions ----

TEST_CASE("a transaction is one entry") {
  Stream stream;
  REQUIRE(stream.FeedCommands({"MULTI", "SET a 1", "SELECT 2", "DEL b c"}));
  CHECK(stream.entries.empty());
  CHECK(stream.parser.border() == Position(0));
  CHECK(stream.parser.position() > Position(0));
  REQUIRE(stream.FeedCommands({"EXEC", "SET d 1"}));
  REQUIRE(stream.entries.size() == 2);
  CHECK(stream.entries[0].key_hashes == Hashes({"a", "b", "c"}));
  CHECK(stream.entries[1].key_hashes == Hashes({"d"}));
  CHECK(stream.parser.border() == stream.entries[1].end);
}

TEST_CASE("one unclear command makes its transaction touch every key, and only it") {
  Stream stream;
  REQUIRE(stream.FeedCommands(
      {"MULTI", "SET a 1", "FLUSHALL", "SET b 1", "REPLCONF GETACK *", "EXEC", "SET c 1"}));
  REQUIRE(stream.entries.size() == 2);
  CHECK(stream.entries[0].touches_every_key);
  CHECK(stream.entries[0].asks_for_ack);
  CHECK_FALSE(stream.entries[1].touches_every_key);
  CHECK_FALSE(stream.entries[1].asks_for_ack);
  CHECK(stream.entries[1].key_hashes == Hashes({"c"}));
}

TEST_CASE("entries are cut where a replica executes") {
  Stream stream;
  REQUIRE(stream.FeedCommands(
      {"EXEC", "MULTI", "MULTI", "SET a 1", "EXEC", "MULTI", "EXEC", "multi", "exec"}));
  REQUIRE(stream.entries.size() == 4);
  CHECK(stream.entries[1].key_hashes == Hashes({"a"}));
  CHECK(stream.entries[2].key_hashes.empty());
}

// ---- Reset ----

TEST_CASE("reset forgets a cut entry") {
  for (size_t cut : {1, 5, 20, 33, 40}) {
    Stream stream(100);
    const std::string open = Stream::Encoded("MULTI") + Stream::Encoded("FLUSHALL") +
                             Stream::Encoded("REPLCONF GETACK *");
    REQUIRE(stream.Feed(std::string_view(open).substr(0, cut)));
    stream.parser.Reset(Position(500));
    CHECK(stream.parser.border() == Position(500));
    CHECK(stream.parser.position() == Position(500));
    REQUIRE(stream.FeedCommands({"SET a 1"}));
    REQUIRE(stream.entries.size() == 1);
    CHECK(stream.entries[0].end == Position(500 + Stream::Encoded("SET a 1").size()));
    CHECK(stream.entries[0].key_hashes == Hashes({"a"}));
    CHECK_FALSE(stream.entries[0].touches_every_key);
    CHECK_FALSE(stream.entries[0].asks_for_ack);
  }
}

// ---- Broken streams ----

TEST_CASE("what is no replication stream is an error, however it is cut") {
  const std::vector<std::string> broken = {"+OK\r\n",
                                           "\n",
                                           "PING\r\n",
                                           "$3\r\nabc\r\n",
                                           "*0\r\n",
                                           "*-1\r\n",
                                           "*\r\n",
                                           "*x\r\n",
                                           "*1x\r\n$4\r\nPING\r\n",
                                           "*1\r$4\r\nPING\r\n",
                                           "*1\n$4\nPING\n",
                                           "*99999999999999999999\r\n",
                                           "*2147483648\r\n",
                                           "*1\r\n:4\r\n",
                                           "*1\r\n$-1\r\n",
                                           "*1\r\n$99999999999999\r\n",
                                           "*1\r\n$4\r\nPINGxx",
                                           "*1\r\n$4\r\nPING\rx",
                                           "*1\r\n$4\r\nPING\n\n",
                                           "*1\r\n*1\r\n$4\r\nPING\r\n",
                                           "*2\r\n$4\r\nPING\r\n\r\n",
                                           "* 1\r\n"};
  for (const std::string& bad : broken) {
    const std::string good = Stream::Encoded("SET a 1");
    for (size_t piece : {size_t{1}, size_t{2}, size_t{3}, bad.size() + good.size()}) {
      Stream stream;
      const std::string bytes = good + bad;
      bool fine = true;
      for (size_t at = 0; fine && at < bytes.size(); at += piece) {
        fine = stream.Feed(std::string_view(bytes).substr(at, piece));
      }
      INFO(bad << " in pieces of " << piece);
      CHECK_FALSE(fine);
      CHECK(stream.error.starts_with("not a replication stream: "));
      CHECK(stream.entries.size() == 1);
      CHECK(stream.parser.border() == Position(good.size()));
    }
  }
}

TEST_CASE("an error says where and what") {
  Stream stream(1000);
  CHECK_FALSE(stream.Feed("-LOADING\x01 wait\r\n"));
  CHECK(stream.error ==
        "not a replication stream: the entry that begins at position 1000 is broken at position "
        "1000, "
        "before \"-LOADING\\x01 wait\\x0d\\x0a\"");
}

TEST_CASE("random damage is an error or other entries, never a crash") {
  uint64_t random = 7;
  const auto next = [&random](size_t below) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    return static_cast<size_t>((random >> 33) % below);
  };
  const std::string start = Recording().substr(0, 3600);
  int errors = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = start;
    for (size_t count = 1 + next(3); count > 0; --count) {
      bytes[next(bytes.size())] = round % 2 ? static_cast<char>(next(256)) : "*$\r\n019"[next(7)];
    }
    Stream whole, pieces;
    const bool whole_fine = whole.Feed(bytes);
    bool pieces_fine = true;
    for (size_t at = 0; pieces_fine && at < bytes.size();) {
      const size_t piece = 1 + next(50);
      pieces_fine = pieces.Feed(std::string_view(bytes).substr(at, piece));
      at += piece;
    }
    // Cutting never changes what is read.
    REQUIRE(whole_fine == pieces_fine);
    REQUIRE(Equal(WithoutNeedlessKeys(whole.entries), WithoutNeedlessKeys(pieces.entries)));
    REQUIRE(whole.parser.border() == pieces.parser.border());
    errors += !whole_fine;
  }
  CHECK(errors > 300);
}

// ---- Memory ----

TEST_CASE("a large value is neither kept nor looked at twice") {
  constexpr size_t kValueBytes = 256u << 20;
  const std::string piece(64u << 10, 'v');
  for (const bool with_options : {false, true}) {
    const std::string count = with_options ? "*5" : "*3";
    const std::string head = count + "\r\n$3\r\nSET\r\n$3\r\nkey\r\n";
    Stream stream;
    largest_allocation = 0;
    REQUIRE(stream.Feed(head + "$" + std::to_string(kValueBytes) + "\r\n"));
    for (size_t sent = 0; sent < kValueBytes; sent += piece.size()) REQUIRE(stream.Feed(piece));
    REQUIRE(stream.Feed("\r\n"));
    if (with_options) REQUIRE(stream.Feed("$2\r\nPX\r\n$3\r\n100\r\n"));
    CHECK(largest_allocation < 4096);
    REQUIRE(stream.entries.size() == 1);
    CHECK(stream.entries[0].key_hashes == Hashes({"key"}));
  }
}

TEST_CASE("a large key that is cut is found all the same, and its memory given back") {
  const std::string key(3u << 20, 'k');
  const std::string bytes = Stream::Encoded("DEL a " + key + " b") + Stream::Encoded("SET b 1");
  Stream stream;
  for (size_t at = 0; at < bytes.size(); at += 65536) {
    REQUIRE(stream.Feed(std::string_view(bytes).substr(at, 65536)));
  }
  REQUIRE(stream.entries.size() == 2);
  CHECK(stream.entries[0].key_hashes == Hashes({"a", key, "b"}));
  CHECK(stream.entries[1].key_hashes == Hashes({"b"}));
}

TEST_CASE("a warm parser does not allocate") {
  EffectParser parser(Table(), Position(0));
  size_t entries = 0;
  const std::function<void(const EffectEntry&)> count = [&entries](const EffectEntry&) {
    ++entries;
  };
  const auto feed_all = [&] {
    for (size_t at = 0; at < Recording().size(); at += 100) {
      if (!parser.Feed(std::string_view(Recording()).substr(at, 100), count)) return false;
    }
    return true;
  };
  REQUIRE(feed_all());
  const size_t entries_before = entries;
  const size_t allocations_before = allocations;
  const bool fine = feed_all();
  const size_t allocations_after = allocations;
  CHECK(fine);
  CHECK(entries == 2 * entries_before);
  CHECK(allocations_after == allocations_before);
}

}  // namespace
}  // namespace catena::command
