#include "config/reader.h"

#include <algorithm>
#include <numeric>

namespace catena::config {
namespace {

std::string_view TypeName(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

std::string Quoted(std::string_view text) { return "\"" + std::string(text) + "\""; }

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

// The known key that `written` was probably meant to be; "" when none is near.
std::string_view Nearest(std::string_view written, const std::vector<std::string>& known) {
  std::string_view best;
  size_t best_distance = std::max<size_t>(2, written.size() / 2);
  for (const std::string& key : known) {
    const size_t distance = EditDistance(written, key);
    if (distance < best_distance) {
      best = key;
      best_distance = distance;
    }
  }
  return best;
}

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

// Names end up in etcd keys, logs and protocol words.
bool IsName(std::string_view text) {
  return text.size() <= 64 && std::ranges::all_of(text, [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
         });
}

bool IsPassword(std::string_view text) {
  constexpr std::string_view kHashed = "sha256:";
  if (!text.starts_with(kHashed)) return true;
  const std::string_view digits = text.substr(kHashed.size());
  return digits.size() == 64 &&
         std::ranges::all_of(digits, [](unsigned char c) { return std::isxdigit(c) != 0; });
}

}  // namespace

void Problems::Add(Place place, std::string text) { found_.push_back({place, std::move(text)}); }

std::string Problems::Text() const {
  std::vector<Problem> sorted = found_;
  std::ranges::stable_sort(sorted,
                           [](const Problem& a, const Problem& b) { return a.place < b.place; });
  std::string text;
  for (const Problem& problem : sorted) {
    if (!text.empty()) text += '\n';
    text += path_ + ":" + std::to_string(problem.place.line) + ":" +
            std::to_string(problem.place.column) + ": " + problem.text;
  }
  return text;
}

Place TableReader::At(std::string_view key) const {
  const toml::node* node = table_.get(key);
  const Place place = node != nullptr ? node->source().begin : table_.source().begin;
  // The file's own table has no place of its own in an empty file.
  return place.line == 0 ? Place{1, 1} : place;
}

const toml::node* TableReader::Find(std::string_view key, Need need) {
  known_.emplace_back(key);
  const toml::node* node = table_.get(key);
  if (node == nullptr && need == Need::kRequired) {
    Wrong(key, name_ + " lacks the required key " + std::string(key));
  }
  return node;
}

const std::string* TableReader::FindString(std::string_view key, Need need) {
  const toml::node* node = Find(key, need);
  if (node == nullptr) return nullptr;
  const toml::value<std::string>* value = node->as_string();
  if (value == nullptr) {
    Wrong(key, std::string(key) + " is " + std::string(TypeName(*node)) + "; allowed: a string");
    return nullptr;
  }
  if (value->get().empty()) {
    Wrong(key, std::string(key) + " is empty; allowed: a string that is not");
    return nullptr;
  }
  return &value->get();
}

void TableReader::NoChoice(std::string_view key, std::string_view written,
                           std::string_view allowed) {
  Wrong(key, "unknown " + std::string(key) + " " + Quoted(written) +
                 "; allowed: " + std::string(allowed));
}

void TableReader::Name(std::string_view key, std::string& out, Need need) {
  const std::string* text = FindString(key, need);
  if (text == nullptr) return;
  if (!IsName(*text)) {
    Wrong(key, "unusable " + std::string(key) + " " + Quoted(*text) +
                   "; allowed: 1 to 64 letters, digits and _ - .");
    return;
  }
  out = *text;
}

void TableReader::Text(std::string_view key, std::string& out, Need need) {
  if (const std::string* text = FindString(key, need)) out = *text;
}

void TableReader::Password(std::string_view key, std::string& out) {
  const std::string* text = FindString(key, Need::kOptional);
  if (text != nullptr && MayBePassword(key, *text)) out = *text;
}

bool TableReader::MayBePassword(std::string_view key, std::string_view text) {
  if (IsPassword(text)) return true;
  Wrong(key, std::string(key) +
                 " begins with sha256: and no hash follows; allowed: the plain "
                 "text, or sha256: and 64 hexadecimal digits");
  return false;
}

void TableReader::Boolean(std::string_view key, bool& out) {
  const toml::node* node = Find(key, Need::kOptional);
  if (node == nullptr) return;
  if (const auto value = node->value_exact<bool>()) {
    out = *value;
  } else {
    Wrong(key,
          std::string(key) + " is " + std::string(TypeName(*node)) + "; allowed: true or false");
  }
}

void TableReader::Integer(std::string_view key, int& out, int min, int max) {
  const toml::node* node = Find(key, Need::kOptional);
  if (node == nullptr) return;
  const auto value = node->value_exact<int64_t>();
  if (!value || *value < min || *value > max) {
    const std::string is = value ? std::to_string(*value) : std::string(TypeName(*node));
    const std::string upper =
        max == std::numeric_limits<int>::max() ? " or more" : " to " + std::to_string(max);
    Wrong(key,
          std::string(key) + " is " + is + "; allowed: an integer, " + std::to_string(min) + upper);
    return;
  }
  out = static_cast<int>(*value);
}

void TableReader::Count(std::string_view key, size_t& out, size_t min) {
  const toml::node* node = Find(key, Need::kOptional);
  if (node == nullptr) return;
  const auto value = node->value_exact<int64_t>();
  if (!value || *value < static_cast<int64_t>(min)) {
    const std::string is = value ? std::to_string(*value) : std::string(TypeName(*node));
    Wrong(key, std::string(key) + " is " + is + "; allowed: an integer, " + std::to_string(min) +
                   " or more");
    return;
  }
  out = static_cast<size_t>(*value);
}

void TableReader::Bytes(std::string_view key, size_t& out, size_t min) {
  const toml::node* node = Find(key, Need::kOptional);
  if (node == nullptr) return;
  std::string text;
  if (const auto string = node->value_exact<std::string>()) {
    text = *string;
  } else if (const auto integer = node->value_exact<int64_t>()) {
    text = std::to_string(*integer);
  }
  const Result<size_t> bytes = ParseBytes(text);
  if (!bytes) {
    Wrong(key, std::string(key) + ": " + bytes.error().message);
  } else if (*bytes < min) {
    Wrong(key, std::string(key) + " is " + FormatBytes(*bytes) + "; allowed: " + FormatBytes(min) +
                   " or more");
  } else {
    out = *bytes;
  }
}

void TableReader::OptionalInteger(std::string_view key, std::optional<int>& out, int min, int max) {
  int value = min;
  Integer(key, value, min, max);
  if (Has(key)) out = value;
}

void TableReader::OptionalBytes(std::string_view key, std::optional<size_t>& out, size_t min) {
  size_t value = min;
  Bytes(key, value, min);
  if (Has(key)) out = value;
}

void TableReader::Time(std::string_view key, Duration& out, Duration min) {
  const toml::node* node = Find(key, Need::kOptional);
  if (node == nullptr) return;
  const Result<Duration> time = ParseDuration(node->value_exact<std::string>().value_or(""));
  if (!time) {
    Wrong(key, std::string(key) + ": " + time.error().message);
  } else if (*time < min) {
    Wrong(key, std::string(key) + " is " + FormatDuration(*time) +
                   "; allowed: " + FormatDuration(min) + " or more");
  } else {
    out = *time;
  }
}

void TableReader::Address(std::string_view key, std::string& out, Need need) {
  const std::string* text = FindString(key, need);
  if (text == nullptr) return;
  // Nobody dials the replication address but the node's own Redis, which is told the bound port.
  const Result<HostPort> address = ParseHostPort(*text, key == "replication");
  if (!address) {
    Wrong(key, std::string(key) + ": " + address.error().message);
  } else if (IsWildcard(address->host)) {
    Wrong(key,
          std::string(key) + ": " + Quoted(*text) +
              " is nowhere to connect to; allowed: the address that others reach this node by");
  } else {
    out = *text;
  }
}

const toml::array* TableReader::FindArray(std::string_view key, Need need) {
  const toml::node* node = Find(key, need);
  if (node == nullptr || node->is_array()) return node != nullptr ? node->as_array() : nullptr;
  Wrong(key, std::string(key) + " is " + std::string(TypeName(*node)) + "; allowed: an array of " +
                 (need == Need::kRequired ? "one string or more" : "strings"));
  return nullptr;
}

void TableReader::Strings(std::string_view key, Need need,
                          const std::function<void(Place, const std::string&)>& each) {
  const toml::array* array = FindArray(key, need);
  if (array == nullptr) return;
  if (array->empty()) {
    Wrong(key, std::string(key) + " is empty; allowed: an array of one string or more");
  }
  EachString(key, *array, each);
}

void TableReader::EachString(std::string_view key, const toml::array& array,
                             const std::function<void(Place, const std::string&)>& each) {
  for (const toml::node& element : array) {
    const Place place = element.source().begin;
    if (const auto* text = element.as_string()) {
      each(place, text->get());
    } else {
      problems_.Add(place, std::string(key) + " holds " + std::string(TypeName(element)) +
                               "; allowed: strings");
    }
  }
}

void TableReader::Addresses(std::string_view key, std::vector<std::string>& out, Need need) {
  Strings(key, need, [&](Place place, const std::string& text) {
    const Result<HostPort> address = ParseHostPort(text, false);
    if (address && !IsWildcard(address->host)) {
      out.push_back(text);
      return;
    }
    problems_.Add(place, std::string(key) + ": " +
                             (address ? Quoted(text) + " is nowhere to connect to; allowed: the "
                                                       "address that others reach it by"
                                      : address.error().message));
  });
}

void TableReader::EtcdUrls(std::string_view key, std::vector<std::string>& out) {
  Strings(key, Need::kRequired, [&](Place place, const std::string& text) {
    const Result<EtcdUrl> url = ParseEtcdUrl(text);
    if (!url) {
      problems_.Add(place, std::string(key) + ": " + url.error().message);
    } else if (std::ranges::find(out, text) != out.end()) {
      problems_.Add(place, std::string(key) + ": " + Quoted(text) + " is there twice");
    } else {
      out.push_back(text);
    }
  });
}

void TableReader::Patterns(std::string_view key, std::vector<std::string>& out) {
  const toml::array* array = FindArray(key, Need::kOptional);
  if (array == nullptr) return;
  out.clear();
  EachString(key, *array, [&](Place place, const std::string& text) {
    if (text.empty()) {
      problems_.Add(place, std::string(key) +
                               " holds an empty pattern; allowed: patterns such as "
                               "\"app:*\"; \"*\" for all");
    }
    out.push_back(text);
  });
}

void TableReader::Backend(std::string_view key, BackendUrl& out) {
  const std::string* text = FindString(key, Need::kRequired);
  if (text == nullptr) return;
  Result<BackendUrl> url = ParseBackendUrl(*text);
  if (url) {
    out = *std::move(url);
  } else {
    Wrong(key, std::string(key) + ": " + url.error().message);
  }
}

void TableReader::Tables(std::string_view key, Need need) {
  const toml::node* node = Find(key, need);
  if (node == nullptr) return;
  const toml::array* array = node->as_array();
  const bool tables = array != nullptr && !array->empty() &&
                      std::ranges::all_of(*array, [](const toml::node& n) { return n.is_table(); });
  if (!tables) {
    Wrong(key, std::string(key) + " is no list of tables; allowed: one [[" +
                   (key == "chain" ? "" : "chain.") + std::string(key) + "]] or more");
  }
}

const toml::table* TableReader::SubTable(std::string_view key) {
  const toml::node* node = table_.get(key);
  if (node == nullptr) return nullptr;
  if (!node->is_table()) {
    Wrong(key, std::string(key) + " is " + std::string(TypeName(*node)) + "; allowed: a table");
  }
  return node->as_table();
}

std::vector<const toml::table*> TableReader::SubTables(std::string_view key) {
  std::vector<const toml::table*> tables;
  const toml::node* node = table_.get(key);
  if (node == nullptr || !node->is_array()) return tables;
  for (const toml::node& element : *node->as_array()) {
    if (const toml::table* table = element.as_table()) tables.push_back(table);
  }
  return tables;
}

void TableReader::Finish() {
  for (const auto& [key, node] : table_) {
    if (std::ranges::find(known_, key.str()) != known_.end()) continue;
    const std::string_view nearest = Nearest(key.str(), known_);
    std::string text = "unknown key " + std::string(key.str()) + " in " + name_;
    if (!nearest.empty()) text += " (did you mean " + std::string(nearest) + "?)";
    problems_.Add(key.source().begin, text + "; allowed: " + Join(known_));
  }
}

}  // namespace catena::config
