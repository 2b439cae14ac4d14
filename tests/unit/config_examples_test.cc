// The shipped TOML files are documentation: they must load, name every key, and tell the truth
// about defaults.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include "config/config.h"
#include "config/fields.h"

namespace catena::config {
namespace {

const std::string kDirectory = std::string(CATENA_SOURCE_DIR) + "/config/";

std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  REQUIRE(!text.str().empty());
  return text.str();
}

// A directory with a secret in it, which the examples do not bring along.
class SecretDirectory {
 public:
  SecretDirectory() {
    char name[] = "/tmp/catena_config_XXXXXX";
    path_ = mkdtemp(name);
    std::ofstream(path_ + "/secret") << "an example's secret\n";
  }
  ~SecretDirectory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A key's default as TOML, "" if it is required, and whether it may change while a process runs.
struct Default {
  std::string value;
  bool live = false;
};

// The visitor that writes them down.
class DefaultsLister {
 public:
  explicit DefaultsLister(std::map<std::string, Default>& out) : out_(out) {}
  void Name(Key key, std::string&, Need) { At(key) = ""; }
  void Text(Key key, std::string&, Need) { At(key) = ""; }
  void Password(Key key, std::string&) { At(key) = ""; }
  void OptionalAddress(Key key, std::string&) { At(key) = ""; }
  void Addresses(Key key, std::vector<std::string>&, Need) { At(key) = ""; }
  void EtcdUrls(Key key, std::vector<std::string>&) { At(key) = ""; }
  void Patterns(Key key, std::vector<std::string>& value) {
    REQUIRE(value.size() == 1);
    At(key) = "[\"" + value.front() + "\"]";
  }
  void Backend(Key key, BackendUrl&) { At(key) = ""; }
  void Address(Key key, std::string& value, Need need) {
    At(key) = need == Need::kRequired ? "" : "\"" + value + "\"";
  }
  void Boolean(Key key, bool& value) { At(key) = value ? "true" : "false"; }
  void Integer(Key key, int& value, int, int) { At(key) = std::to_string(value); }
  void Count(Key key, size_t& value, size_t) { At(key) = std::to_string(value); }
  void Bytes(Key key, size_t& value, size_t) { At(key) = "\"" + FormatBytes(value) + "\""; }
  void OptionalBytes(Key key, std::optional<size_t>&, size_t) { At(key) = ""; }
  void OptionalInteger(Key key, std::optional<int>&, int, int) { At(key) = ""; }
  void Time(Key key, Duration& value, Duration) { At(key) = "\"" + FormatDuration(value) + "\""; }
  template <typename E>
  void Choice(Key key, E& value, Choices<E> choices) {
    for (const auto& [text, choice] : choices) {
      if (choice == value) At(key) = "\"" + std::string(text) + "\"";
    }
  }
  void Table(Key) {}
  void Tables(Key, Need) {}

 private:
  std::string& At(Key key) {
    Default& entry = out_[std::string(key)];
    entry.live = key.live;
    return entry.value;
  }
  std::map<std::string, Default>& out_;
};

template <typename Struct>
std::map<std::string, Default> Defaults() {
  std::map<std::string, Default> defaults;
  DefaultsLister lister(defaults);
  Struct fields;
  VisitFields(lister, fields);
  return defaults;
}

std::map<std::string, std::map<std::string, Default>> AllDefaults() {
  auto chain = Defaults<Chain>();
  chain["replicas"].value = "3";  // the number of nodes in the example
  return {{"[cluster]", Defaults<Cluster>()},
          {"[coordinator]", Defaults<Coordinator>()},
          {"[tls]", Defaults<Tls>()},
          {"[[chain]]", std::move(chain)},
          {"[chain.limits]", Defaults<Limits>()},
          {"[chain.rocksdb]", Defaults<RocksDb>()},
          {"[[chain.user]]", Defaults<User>()},
          {"[[chain.node]]", Defaults<Node>()}};
}

// One line of example.toml that is an option or a table's header, commented out or not.
struct Option {
  bool commented = false;
  std::string header;  // "[[chain.node]]"; "" for an option
  std::string key, value;
  std::string comment;  // the lines above it
};

bool ConsistsOf(std::string_view text, std::string_view characters) {
  return !text.empty() && text.find_first_not_of(characters) == std::string_view::npos;
}

std::optional<Option> ReadOption(std::string_view line) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz_";
  Option option;
  option.commented = line.starts_with("# ");
  if (option.commented) line.remove_prefix(2);
  if (line.starts_with("[") && ConsistsOf(line, std::string(kLetters) + "[].")) {
    option.header = line;
    return option;
  }
  const size_t equals = line.find(" = ");
  if (equals == std::string_view::npos || !ConsistsOf(line.substr(0, equals), kLetters)) {
    return std::nullopt;
  }
  option.key = line.substr(0, equals);
  option.value = line.substr(equals + 3);
  return option;
}

// What example.toml says: section -> key -> first line with it.
std::map<std::string, std::map<std::string, Option>> Documented(const std::string& text) {
  std::map<std::string, std::map<std::string, Option>> sections;
  std::istringstream lines(text);
  std::string section, comment;
  for (std::string line; std::getline(lines, line);) {
    auto option = ReadOption(line);
    if (!option) comment = line.empty() ? "" : comment + line.substr(1);
    if (!option) continue;
    option->comment = std::exchange(comment, "");
    if (!option->header.empty()) {
      section = option->header;
    } else {
      sections[section].try_emplace(option->key, *option);
    }
  }
  return sections;
}

std::string Uncommented(const std::string& text, bool rocksdb) {
  std::istringstream lines(text);
  std::string out, section;
  for (std::string line; std::getline(lines, line);) {
    const auto option = ReadOption(line);
    if (option && !option->header.empty()) section = option->header;
    // A second way to give what is there already, and for one kind of backend.
    const bool other_way = option && (option->key.ends_with("password_file") ||
                                      (section == "[chain.rocksdb]" && !rocksdb));
    out += (option && option->commented && !other_way ? line.substr(2) : line) + "\n";
  }
  return out;
}

TEST_CASE("the shipped files load") {
  for (const char* name : {"example.toml", "three-nodes.toml"}) {
    const auto config = Parse(ReadText(kDirectory + name), name, SecretDirectory().path());
    INFO(name << "\n" << (config ? "" : config.error().message));
    REQUIRE(config);
    CHECK(config->chains.at(0).nodes.size() == 3);
    CHECK(config->chains.at(0).replicas == 3);
  }
}

TEST_CASE("example.toml explains every key, and its defaults are those of the program") {
  const auto documented = Documented(ReadText(kDirectory + "example.toml"));
  for (const auto& of_section : AllDefaults()) {
    const auto& section = of_section.first;
    REQUIRE(documented.contains(section));
    for (const auto& of_key : of_section.second) {
      const auto& key = of_key.first;
      const auto& value = of_key.second.value;
      INFO(section << " " << key);
      const auto line = documented.at(section).find(key);
      REQUIRE(line != documented.at(section).end());
      if (value.empty()) continue;
      CHECK(line->second.commented);
      CHECK(line->second.value == value);
    }
    CHECK(documented.at(section).size() == of_section.second.size());
  }
}

TEST_CASE("example.toml says of each option whether a running process takes a new value") {
  const auto documented = Documented(ReadText(kDirectory + "example.toml"));
  for (const auto& of_section : AllDefaults()) {
    const std::string& section = of_section.first;
    for (const auto& option : of_section.second) {
      const std::string& key = option.first;
      // What a table is known by cannot change: it would be another.
      if (section.starts_with("[[") && (key == "name" || key == "id")) continue;
      INFO(section << " " << key);
      const std::string& comment = documented.at(section).at(key).comment;
      CHECK((comment.find("Needs a restart.") == std::string::npos) == option.second.live);
    }
  }
}

TEST_CASE("example.toml with every option spelt out loads and equals the defaults") {
  const std::string text = ReadText(kDirectory + "example.toml");
  const std::string spelt_out = Uncommented(text, false);
  REQUIRE(spelt_out != text);
  const auto config = Parse(spelt_out, "example.toml", SecretDirectory().path());
  INFO((config ? "" : config.error().message));
  REQUIRE(config);
  CHECK(config->coordinator.lease == Coordinator{}.lease);
  CHECK(config->chains[0].limits.join_bytes_max == Limits{}.join_bytes_max);
  CHECK(config->chains[0].users.at(0).name == "default");
}

TEST_CASE("example.toml with every option of a RocksDB chain loads") {
  std::string text = Uncommented(ReadText(kDirectory + "example.toml"), true);
  const std::string redis = "\"redis://127.0.0.1:6379\"";
  for (size_t at; (at = text.find(redis)) != std::string::npos;) {
    text.replace(at, redis.size(), "\"rocksdb:///srv/db\"");
  }
  const auto config = Parse(text, "example.toml", SecretDirectory().path());
  INFO((config ? "" : config.error().message));
  REQUIRE(config);
  const RocksDb& rocksdb = config->chains[0].rocksdb;
  CHECK(rocksdb.block_cache == RocksDb{}.block_cache);
  CHECK(rocksdb.write_buffer == 64u << 20);
  CHECK(rocksdb.open_files == 1024);
  CHECK(rocksdb.background_jobs == 2);
}

}  // namespace
}  // namespace catena::config
