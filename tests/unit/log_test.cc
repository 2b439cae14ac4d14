#include "proxy/base/log.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

namespace catena::log {
namespace {

using std::chrono::milliseconds;

TimePoint At(int64_t ms) { return TimePoint(milliseconds(ms)); }

// What a reader that knows only the rule of log.h makes of a line of text.
std::vector<std::pair<std::string, std::string>> Parse(std::string_view line) {
  std::vector<std::pair<std::string, std::string>> pairs;
  while (!line.empty()) {
    const size_t equals = line.find('=');
    REQUIRE(equals != std::string_view::npos);
    const std::string key(line.substr(0, equals));
    line.remove_prefix(equals + 1);
    size_t end = line.starts_with('"') ? 1 : line.find(' ');
    if (line.starts_with('"')) {
      while (line.at(end) != '"') end += line[end] == '\\' ? 2 : 1;
      ++end;
      pairs.emplace_back(key, nlohmann::json::parse(line.substr(0, end)).get<std::string>());
    } else {
      pairs.emplace_back(key, line.substr(0, end));
    }
    line.remove_prefix(std::min(line.size(), end == std::string_view::npos ? end : end + 1));
  }
  return pairs;
}

TEST_CASE("plain values stand bare, others as JSON strings") {
  CHECK(
      Format(Form::kText, {{"event", "started"},
                           {"peer", "10.0.0.1:6390"},
                           {"why", "it \"broke\""},
                           {"nothing", ""},
                           {"count", 7},
                           {"negative", -1},
                           {"good", true}}) ==
      R"(event=started peer=10.0.0.1:6390 why="it \"broke\"" nothing="" count=7 negative=-1 good=true)");
}

TEST_CASE("whatever a value holds, a line stays one line and can be taken apart") {
  std::string every;
  for (int byte = 0; byte < 128; ++byte) every += static_cast<char>(byte);
  const std::vector<std::string> values = {
      "",   " ",    "a=b",   "\n",   "line\r\nevent=forged level=error",          "\"",
      "\\", "\\\"", "end\\", "\x7f", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x98", every};
  for (const std::string& value : values) {
    const std::vector<Field> fields = {{"event", "x"}, {"value", value}, {"last", 1}};
    const std::string text = Format(Form::kText, fields);
    CHECK(text.find_first_of("\r\n") == std::string::npos);
    const auto pairs = Parse(text);
    REQUIRE(pairs.size() == 3);
    CHECK(pairs[1].second == value);
    const std::string json = Format(Form::kJson, fields);
    CHECK(json.find_first_of("\r\n") == std::string::npos);
    const auto object = nlohmann::json::parse(json);
    CHECK(object["value"].get<std::string>() == value);
    CHECK(object["last"] == 1);
  }
}

TEST_CASE("bytes that are no UTF-8 are replaced, so that JSON stays JSON") {
  for (const char* bytes :
       {"\xff", "a\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xe0\x80\x80", "\x80"}) {
    const std::string line = Format(Form::kJson, {{"value", bytes}});
    const auto object = nlohmann::json::parse(line, nullptr, false);
    REQUIRE_FALSE(object.is_discarded());
    CHECK(object["value"].get<std::string>().find("\xef\xbf\xbd") != std::string::npos);
  }
}

TEST_CASE("of each kind so many a second, and then how many were not told") {
  RateLimit limit;
  uint64_t told = 0;
  for (int i = 0; i < 1000; ++i) told += limit.Allow("refused", At(i / 2)) ? 1 : 0;
  CHECK(told == kTimesASecond);
  CHECK(limit.Allow("other", At(500)));
  CHECK(limit.Settle(At(999)).empty());
  const auto left_out = limit.Settle(At(1000));
  REQUIRE(left_out.size() == 1);
  CHECK(left_out[0].kind == "refused");
  CHECK(left_out[0].times == 1000 - kTimesASecond);
  CHECK(limit.Settle(At(5000)).empty());
  CHECK(limit.Allow("refused", At(1000)));
}

TEST_CASE("a second in which nothing was left out makes room for the next by itself") {
  RateLimit limit;
  for (uint64_t i = 0; i < kTimesASecond; ++i) CHECK(limit.Allow("x", At(0)));
  for (uint64_t i = 0; i < kTimesASecond; ++i) CHECK(limit.Allow("x", At(1000)));
  CHECK_FALSE(limit.Allow("x", At(1999)));
}

TEST_CASE("levels and repeated events, as they leave the process") {
  std::vector<std::string> lines;
  SendTo([&](std::string_view line) { lines.emplace_back(line); });
  Init("a", Level::kWarn, Form::kText);
  Info("quiet");
  Warn("loud", {{"why", "a b"}});
  SetForm(Form::kJson);
  SetLevel(Level::kOff);
  Error("off");
  SetLevel(ParseLevel("debug"));
  Debug("fine", {{"n", 3}});
  SendTo(nullptr);
  Init("", Level::kInfo, Form::kText);
  CHECK(lines == std::vector<std::string>{R"(event=loud why="a b")", R"({"event":"fine","n":3})"});
}

}  // namespace
}  // namespace catena::log
