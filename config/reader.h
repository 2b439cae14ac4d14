// Reads one TOML table into a struct by its list of fields, and collects every problem on the way.
// Internal to config/.
#pragma once

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "config/address.h"
#include "config/config.h"
#include "config/fields.h"

namespace catena::config {

using Place = toml::source_position;

// All that is wrong with a file, each with its place; told in the order of the file.
class Problems {
 public:
  explicit Problems(std::string path) : path_(std::move(path)) {}
  void Add(Place place, std::string text);
  bool empty() const { return found_.empty(); }
  // "path:line:column: text" for each, one a line.
  std::string Text() const;

 private:
  struct Problem {
    Place place;
    std::string text;
  };
  std::string path_;
  std::vector<Problem> found_;
};

// The visitor of fields.h that reads. Absent optional keys leave the field as it is. After the
// visit call Finish() once, which reports unknown keys.
class TableReader {
 public:
  // `name` is the table's for messages: "[cluster]", "[[chain.node]]".
  TableReader(const toml::table& table, std::string name, Problems& problems)
      : table_(table), name_(std::move(name)), problems_(problems) {}

  void Name(std::string_view key, std::string& out, Need need);
  void Text(std::string_view key, std::string& out, Need need);
  void Password(std::string_view key, std::string& out);
  void Boolean(std::string_view key, bool& out);
  void Integer(std::string_view key, int& out, int min, int max);
  void Count(std::string_view key, size_t& out, size_t min);
  void Bytes(std::string_view key, size_t& out, size_t min);
  void Time(std::string_view key, Duration& out, Duration min);
  void Address(std::string_view key, std::string& out, Need need);
  void OptionalAddress(std::string_view key, std::string& out) {
    Address(key, out, Need::kOptional);
  }
  void Addresses(std::string_view key, std::vector<std::string>& out, Need need);
  void EtcdUrls(std::string_view key, std::vector<std::string>& out);
  void Patterns(std::string_view key, std::vector<std::string>& out);
  void Backend(std::string_view key, BackendUrl& out);
  void Table(std::string_view key) { known_.emplace_back(key); }
  void Tables(std::string_view key, Need need);
  template <typename E>
  void Choice(std::string_view key, E& out, Choices<E> choices);

  void Finish();

  // Where the value of `key` stands; where the table does, if the key is absent.
  Place At(std::string_view key) const;
  void Wrong(std::string_view key, std::string text) { problems_.Add(At(key), std::move(text)); }
  // The table or the tables of that name; nullptr or empty if absent or of another type (then
  // reported).
  const toml::table* SubTable(std::string_view key);
  std::vector<const toml::table*> SubTables(std::string_view key);

 private:
  // The value of `key`, nullptr if absent (reported if needed). Marks the key as known.
  const toml::node* Find(std::string_view key, Need need);
  // The same, which must be a string that is not empty.
  const std::string* FindString(std::string_view key, Need need);
  // The array of `key`, nullptr if absent; reported if needed or of another type.
  const toml::array* FindArray(std::string_view key, Need need);
  void EachString(std::string_view key, const toml::array& array,
                  const std::function<void(Place, const std::string&)>& each);
  // One string or more.
  void Strings(std::string_view key, Need need,
               const std::function<void(Place, const std::string&)>& each);
  void NoChoice(std::string_view key, std::string_view written, std::string_view allowed);

  const toml::table& table_;
  std::string name_;
  Problems& problems_;
  std::vector<std::string> known_;
};

template <typename E>
void TableReader::Choice(std::string_view key, E& out, Choices<E> choices) {
  const std::string* written = FindString(key, Need::kOptional);
  if (written == nullptr) return;
  std::string allowed;
  for (const auto& [text, value] : choices) {
    if (text == *written) {
      out = value;
      return;
    }
    allowed += (allowed.empty() ? "" : ", ") + std::string(text);
  }
  NoChoice(key, *written, allowed);
}

}  // namespace catena::config
