// The visitor of fields.h that lists a table's keys and values as text. Internal to config/.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/config.h"
#include "config/fields.h"

namespace catena::config {

// One key of a table, its value as text, and the field itself.
struct Value {
  Key key;
  std::string text;   // equal exactly if the values are
  std::string shown;  // for people
  void* field;
  void (*assign)(void* to, const void* from);  // one such field to another
};

// The visitor of fields.h that lists a table.
class Lister {
 public:
  void Name(Key key, std::string& field, Need) { Add(key, field, field); }
  void Text(Key key, std::string& field, Need) { Add(key, field, field); }
  void Address(Key key, std::string& field, Need) { Add(key, field, field); }
  void Password(Key key, std::string& field) { Add(key, field, field, "***"); }
  void Boolean(Key key, bool& field) { Add(key, field, field ? "true" : "false"); }
  void Integer(Key key, int& field, int, int) { Add(key, field, std::to_string(field)); }
  void Count(Key key, size_t& field, size_t) { Add(key, field, std::to_string(field)); }
  void Bytes(Key key, size_t& field, size_t) { Add(key, field, FormatBytes(field)); }
  void OptionalBytes(Key key, std::optional<size_t>& field, size_t) {
    AddOptional(key, field, field ? FormatBytes(*field) : "");
  }
  void OptionalInteger(Key key, std::optional<int>& field, int, int) {
    AddOptional(key, field, field ? std::to_string(*field) : "");
  }
  void Time(Key key, Duration& field, Duration) { Add(key, field, FormatDuration(field)); }
  void OptionalAddress(Key key, std::string& field) { Add(key, field, field); }
  void Addresses(Key key, std::vector<std::string>& field, Need) { Add(key, field, Join(field)); }
  void EtcdUrls(Key key, std::vector<std::string>& field) { Add(key, field, Join(field)); }
  void Patterns(Key key, std::vector<std::string>& field) { Add(key, field, Join(field)); }
  void Backend(Key key, BackendUrl& field) {
    Add(key, field, field.text + ' ' + field.user + ' ' + field.password, field.text);
  }
  template <typename E>
  void Choice(Key key, E& field, Choices<E> choices) {
    for (const auto& [text, choice] : choices) {
      if (choice == field) Add(key, field, std::string(text));
    }
  }
  void Table(Key) {}
  void Tables(Key, Need) {}

  std::vector<Value> values;

 private:
  static std::string Join(const std::vector<std::string>& texts) {
    std::string joined;
    for (const std::string& text : texts) joined += (joined.empty() ? "" : ",") + text;
    return joined;
  }
  template <typename T>
  void AddOptional(Key key, std::optional<T>& field, const std::string& text) {
    Add(key, field, text, field ? text : "the database's own");
  }
  template <typename T>
  void Add(Key key, T& field, const std::string& text) {
    Add(key, field, text, text);
  }
  template <typename T>
  void Add(Key key, T& field, const std::string& text, const std::string& shown) {
    values.push_back({key, text, shown, &field, [](void* to, const void* from) {
                        *static_cast<T*>(to) = *static_cast<const T*>(from);
                      }});
  }
};

template <typename Struct>
std::vector<Value> ListOf(Struct& fields) {
  Lister lister;
  VisitFields(lister, fields);
  return std::move(lister.values);
}

}  // namespace catena::config
