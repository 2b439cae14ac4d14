// Reads what data/record.py has recorded from a real redis-server.
#pragma once

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/command/command_table.h"
#include "proxy/resp/decoder.h"

namespace catena::test {

inline std::string ReadData(const std::string& name) {
  std::ifstream file(std::string(CATENA_TEST_DATA) + "/" + name, std::ios::binary);
  REQUIRE_MESSAGE(file.good(), name);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

inline resp::Value DecodeAll(std::string_view bytes) {
  resp::Value value;
  size_t consumed = 0;
  std::string error;
  const auto progress = resp::DecodeValue(bytes, value, consumed, error);
  REQUIRE_MESSAGE(progress == resp::Progress::kComplete, error);
  REQUIRE(consumed == bytes.size());
  return value;
}

inline resp::Value CommandReply() { return DecodeAll(ReadData("command-redis-7.0.15.resp")); }

inline command::CommandTable RecordedTable() {
  auto table = command::CommandTable::FromReply(CommandReply());
  REQUIRE(table.has_value());
  return std::move(*table);
}

// Words at spaces, percent-decoded as record.py has encoded them.
inline std::string DecodeWord(std::string_view word) {
  if (word == "%00EMPTY") return "";
  std::string text;
  for (size_t i = 0; i < word.size(); ++i) {
    if (word[i] != '%') {
      text += word[i];
    } else {
      text += static_cast<char>(std::stoi(std::string(word.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    }
  }
  return text;
}

inline std::vector<std::string> Words(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(DecodeWord(word));
  return words;
}

inline std::vector<std::string_view> Views(const std::vector<std::string>& words) {
  return {words.begin(), words.end()};
}

}  // namespace catena::test
