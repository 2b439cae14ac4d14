// The log of one node: bytes, entry borders, versions.
#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "proxy/chain/log.h"

namespace catena::chain {
namespace {

constexpr size_t kBlock = 256u << 10;  // log.cc

Position At(uint64_t position) { return Position(position); }

void AppendEntry(Log& log, const std::string& bytes, std::vector<uint64_t> keys = {}) {
  log.Append(bytes);
  log.Seal({log.staged_end(), false, keys});
}

// Everything from `from` to the end, in reads of at most `max` bytes.
std::string ReadAll(const Log& log, Position from, size_t max = SIZE_MAX) {
  std::string all;
  while (true) {
    auto slice = log.Read(from, log.end(), max);
    REQUIRE(slice.has_value());
    if (slice->bytes.empty()) return all;
    CHECK(slice->bytes.size() <= max);
    all += slice->bytes;
    from = from + slice->bytes.size();
  }
}

Position VersionOf(const Log& log, std::vector<uint64_t> keys) { return log.VersionOf(keys); }

TEST_CASE("an entry is invisible until it is complete") {
  Log log;
  log.Reset(At(100));
  log.Append("SET");
  CHECK(log.end() == At(100));
  CHECK(log.staged_end() == At(103));
  CHECK(log.Read(At(100), log.end(), 10)->bytes.empty());
  log.Append(" x;GET");
  log.Seal({At(106), false, {}});
  CHECK(log.end() == At(106));
  CHECK(log.staged_end() == At(109));
  CHECK(ReadAll(log, At(100)) == "SET x;");
}

TEST_CASE("what is not an entry yet can be read in one piece") {
  Log log;
  log.Reset(At(7));
  AppendEntry(log, "one;");
  std::string scratch;
  CHECK(log.Staged(log.end(), scratch).empty());
  log.Append("two;thr");
  CHECK(log.Staged(At(15), scratch) == "two;");
  CHECK(scratch.empty());
  const std::string large(2 * kBlock + 100, 'l');
  log.Append(large);
  CHECK(log.Staged(log.staged_end(), scratch) == "two;thr" + large);
}

TEST_CASE("a cut entry is dropped without a trace") {
  Log log;
  log.Reset(At(0));
  AppendEntry(log, "one;", {1});
  log.Append("tw");
  log.DropStaged();
  CHECK(log.staged_end() == At(4));
  AppendEntry(log, "three;", {2});
  CHECK(ReadAll(log, At(0)) == "one;three;");
  log.DropStaged();
  CHECK(ReadAll(log, At(0)) == "one;three;");
}

TEST_CASE("a cut entry larger than a block is dropped; what was sent stays as it was") {
  Log log;
  log.Reset(At(0));
  AppendEntry(log, "one;");
  Log::Slice sent = *log.Read(At(0), log.end(), 100);
  log.Append(std::string(2 * kBlock + 17, 'x'));
  log.DropStaged();
  CHECK(log.bytes() == 4);
  AppendEntry(log, "two;");
  // A socket may still refer to the bytes of the former block.
  CHECK(sent.bytes == "one;");
  CHECK(ReadAll(log, At(0)) == "one;two;");
}

TEST_CASE("what a reader was given stays valid while the log grows and is trimmed") {
  Log log;
  log.Reset(At(0));
  AppendEntry(log, std::string(kBlock, 'a'));
  Log::Slice sent = *log.Read(At(0), log.end(), kBlock);
  AppendEntry(log, std::string(kBlock, 'b'));
  log.Trim(log.end());
  CHECK(log.start() == At(2 * kBlock));
  CHECK(sent.bytes == std::string(kBlock, 'a'));
}

TEST_CASE("reading outside of what is held says so") {
  Log log;
  log.Reset(At(1000));
  CHECK(log.Read(At(1000), At(1000), 10)->bytes.empty());
  CHECK_FALSE(log.Read(At(999), At(1000), 10).has_value());
  AppendEntry(log, std::string(kBlock, 'a'));
  AppendEntry(log, "tail;");
  CHECK_FALSE(log.Read(log.end() + 1, log.end(), 10).has_value());
  // Nothing behind the limit, though the log has more.
  CHECK(log.Read(At(1000), At(1003), 10)->bytes == "aaa");
  log.Trim(log.end());
  CHECK(log.start() == At(1000 + kBlock));  // whole blocks only
  CHECK_FALSE(log.Read(At(1000), log.end(), 10).has_value());
  CHECK(ReadAll(log, log.start()) == "tail;");
}

TEST_CASE("trimming keeps what lies behind the position, and never takes a cut entry") {
  Log log;
  log.Reset(At(0));
  AppendEntry(log, std::string(kBlock - 1, 'a'));
  log.Append("bc");  // the first block is full, its last byte belongs to a cut entry
  log.Trim(At(10 * kBlock));
  CHECK(log.start() == At(0));
  log.Seal({At(kBlock + 1), false, {}});
  log.Trim(At(kBlock - 1));
  CHECK(log.start() == At(0));
  log.Trim(At(kBlock));
  CHECK(log.start() == At(kBlock));
  CHECK(ReadAll(log, At(kBlock)) == "c");
}

TEST_CASE("the version of a key is the end of the last entry that touched it") {
  Log log;
  log.Reset(At(50));
  CHECK(VersionOf(log, {7}) == At(50));  // unknown: as the highest forgotten position
  AppendEntry(log, "x=1;", {7});
  AppendEntry(log, "y=1;", {8});
  CHECK(VersionOf(log, {7}) == At(54));
  CHECK(VersionOf(log, {8}) == At(58));
  CHECK(VersionOf(log, {7, 8}) == At(58));
  CHECK(VersionOf(log, {9}) == At(50));
  AppendEntry(log, "x=2;", {7, 7});
  CHECK(VersionOf(log, {7}) == At(62));
  CHECK(VersionOf(log, {}) == At(50));
}

TEST_CASE(
    "an entry that touches every key is the newest of each, and of keys written before only") {
  Log log;
  log.Reset(At(0));
  AppendEntry(log, "x=1;", {7});
  log.Append("FLUSHALL;");
  log.Seal({At(13), true, {}});
  CHECK(VersionOf(log, {7}) == At(13));
  CHECK(VersionOf(log, {99}) == At(13));
  AppendEntry(log, "x=2;", {7});
  CHECK(VersionOf(log, {7}) == At(17));
  CHECK(VersionOf(log, {99}) == At(13));
}

TEST_CASE("forgotten versions count as at the highest forgotten position; newer ones stay") {
  Log log;
  log.Reset(At(0));
  AppendEntry(log, "x=1;", {7});
  AppendEntry(log, "y=1;", {8});
  AppendEntry(log, "x=2;", {7});
  log.Forget(At(8));
  CHECK(log.versions() == 1);
  CHECK(VersionOf(log, {7}) == At(12));
  CHECK(VersionOf(log, {8}) == At(8));
  log.Forget(At(3));  // never backwards
  CHECK(VersionOf(log, {8}) == At(8));
  log.Forget(At(1000));  // never beyond what was received
  CHECK(log.forgotten() == At(12));
  CHECK(log.versions() == 0);
}

TEST_CASE("a reset log knows nothing of the past") {
  Log log;
  log.Reset(At(0));
  AppendEntry(log, "x=1;", {7});
  log.Append("cut");
  log.Reset(At(900));
  CHECK(log.bytes() == 0);
  CHECK(log.end() == At(900));
  CHECK(log.staged_end() == At(900));
  CHECK(VersionOf(log, {7}) == At(900));
}

// The obvious log: one string, and every entry kept.
struct PlainLog {
  struct Touch {
    uint64_t end, key;
  };
  std::string all;
  uint64_t end = 0;
  std::vector<Touch> touches;
};

TEST_CASE("random appends, cuts, drops and trims agree with one plain string") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    Log log;
    log.Reset(At(0));
    PlainLog plain;
    for (int step = 0; step < 400; ++step) {
      switch (random() % 6) {
        case 0:
        case 1: {
          std::string bytes(random() % (random() % 20 == 0 ? 2 * kBlock : 5000),
                            static_cast<char>('a' + random() % 26));
          log.Append(bytes);
          plain.all += bytes;
          break;
        }
        case 2: {
          if (plain.all.size() == plain.end) break;
          plain.end += 1 + random() % (plain.all.size() - plain.end);
          uint64_t key = random() % 50;
          log.Seal({At(plain.end), false, std::span(&key, 1)});
          plain.touches.push_back({plain.end, key});
          break;
        }
        case 3:
          log.DropStaged();
          plain.all.resize(plain.end);
          break;
        case 4:
          log.Forget(At(random() % (plain.end + 1)));
          break;
        case 5: {
          uint64_t upto = random() % (plain.end + 1);
          Position before = log.start();
          log.Trim(At(upto));
          CHECK(log.start() <= std::max(before, At(upto)));
          break;
        }
      }
      REQUIRE(log.end() == At(plain.end));
      REQUIRE(log.staged_end() == At(plain.all.size()));
      if (step % 20 == 0) {
        size_t start = log.start().value();
        CHECK(ReadAll(log, log.start(), 1 + random() % kBlock) ==
              plain.all.substr(start, plain.end - start));
      }
      uint64_t key = random() % 50;
      uint64_t version = log.forgotten().value();
      for (const auto& touch : plain.touches) {
        if (touch.key == key) version = std::max(version, touch.end);
      }
      CHECK(VersionOf(log, {key}) == At(version));
    }
  }
}

}  // namespace
}  // namespace catena::chain
