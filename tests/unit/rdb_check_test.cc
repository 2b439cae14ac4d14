// The streaming check of snapshots, on a file that a Redis wrote.
#include "backends/redis/rdb_check.h"

#include <doctest/doctest.h>

#include <fstream>
#include <sstream>
#include <string>

namespace catena::redis {
namespace {

using Verdict = RdbCheck::Verdict;

// tests/unit/data/small.rdb: redis-server 7.0.15, RDB version 10, a key of each of a few types, two
// databases.
std::string SmallRdb() {
  std::ifstream file(CATENA_TEST_DATA "/small.rdb", std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

struct Outcome {
  Verdict verdict = Verdict::kMore;
  std::string handed_on;
  std::string error;
};

Outcome Feed(const std::string& rdb, size_t piece, int version_max = 10) {
  RdbCheck check(rdb.size(), version_max);
  Outcome outcome;
  for (size_t at = 0; at < rdb.size() && outcome.verdict == Verdict::kMore; at += piece) {
    outcome.verdict = check.Feed(std::string_view(rdb).substr(at, piece), outcome.handed_on);
  }
  outcome.error = check.error();
  return outcome;
}

TEST_CASE("the checksum is the one of Redis") {
  CHECK(Crc64(0, "123456789") == 0xe9c6d914c4b8d9caULL);
  const std::string text(1000, 'x');
  for (size_t cut = 0; cut < 40; ++cut) {
    CHECK(Crc64(Crc64(0, std::string_view(text).substr(0, cut)),
                std::string_view(text).substr(cut)) == Crc64(0, text));
  }
}

TEST_CASE("a good file passes whole, however it is cut") {
  const std::string rdb = SmallRdb();
  REQUIRE(rdb.size() > 100);
  for (size_t piece = 1; piece <= rdb.size(); ++piece) {
    const Outcome outcome = Feed(rdb, piece);
    CHECK(outcome.verdict == Verdict::kGood);
    CHECK(outcome.handed_on == rdb);
  }
}

TEST_CASE("a byte changed anywhere is refused, and the end not handed on") {
  const std::string rdb = SmallRdb();
  for (size_t at = 0; at < rdb.size(); ++at) {
    for (const char flip : {'\x01', '\x80', '\xff'}) {
      std::string corrupt = rdb;
      corrupt[at] = static_cast<char>(corrupt[at] ^ flip);
      const Outcome outcome = Feed(corrupt, 13);
      CHECK(outcome.verdict == Verdict::kBad);
      CHECK(!outcome.error.empty());
      CHECK(outcome.handed_on.size() < rdb.size());
    }
  }
}

TEST_CASE("a version that the reader does not know is refused before a byte is handed on") {
  const std::string rdb = SmallRdb();
  CHECK(Feed(rdb, 5, 10).verdict == Verdict::kGood);
  CHECK(Feed(rdb, 5, 11).verdict == Verdict::kGood);
  const Outcome outcome = Feed(rdb, 5, 9);
  CHECK(outcome.verdict == Verdict::kBad);
  CHECK(outcome.handed_on.empty());
  CHECK(outcome.error.find("version 10") != std::string::npos);
}

TEST_CASE("a checksum of zero means that none was made") {
  std::string rdb = SmallRdb();
  rdb.replace(rdb.size() - 8, 8, std::string(8, '\0'));
  CHECK(Feed(rdb, 100).verdict == Verdict::kGood);
}

TEST_CASE("the end is held back until it is known to be right") {
  const std::string rdb = SmallRdb();
  RdbCheck check(rdb.size(), 10);
  std::string out;
  CHECK(check.Feed(rdb.substr(0, rdb.size() - 1), out) == Verdict::kMore);
  CHECK(out == rdb.substr(0, rdb.size() - 9));
  CHECK(check.Feed(rdb.substr(rdb.size() - 1), out) == Verdict::kGood);
  CHECK(out == rdb);
}

TEST_CASE("too short and too long are refused") {
  const std::string rdb = SmallRdb();
  std::string out;
  CHECK(RdbCheck(5, 10).Feed("REDIS", out) == Verdict::kBad);
  RdbCheck check(rdb.size(), 10);
  CHECK(check.Feed(rdb + "x", out) == Verdict::kBad);
  CHECK(check.Feed(rdb, out) == Verdict::kBad);  // and stays so
  CHECK(out.empty());
  // Cut short inside: what stands where the end mark should be is none.
  CHECK(Feed(rdb.substr(0, rdb.size() - 3), 50).verdict == Verdict::kBad);
}

}  // namespace
}  // namespace catena::redis
