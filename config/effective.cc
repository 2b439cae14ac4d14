#include "config/effective.h"

#include <algorithm>

#include "config/lister.h"
#include "config/reader.h"

namespace catena::config {
namespace {

class Collector {
 public:
  // Adds what `fields` holds; `written` is the table of the file, nullptr if there is none.
  template <typename Struct>
  void Add(const std::string& name, Struct fields, const toml::table* written) {
    for (const Value& value : ListOf(fields)) {
      const toml::node* node = written == nullptr ? nullptr : written->get(value.key);
      const uint32_t line = node == nullptr ? 0 : node->source().begin.line;
      settings.push_back({name, std::string(value.key), value.shown, line});
    }
  }

  std::vector<Setting> settings;
};

const toml::table* Table(const toml::table& in, std::string_view key) {
  const toml::node* node = in.get(key);
  return node == nullptr ? nullptr : node->as_table();
}

// The table at `index` of an array of tables.
const toml::table* Table(const toml::table& in, std::string_view key, size_t index) {
  const toml::node* node = in.get(key);
  const toml::array* array = node == nullptr ? nullptr : node->as_array();
  const toml::node* element = array == nullptr ? nullptr : array->get(index);
  return element == nullptr ? nullptr : element->as_table();
}

void AddChain(Collector& out, const Chain& chain, const toml::table& table) {
  const std::string name = "chain " + chain.name;
  out.Add(name, chain, &table);
  out.Add(name + " limits", chain.limits, Table(table, "limits"));
  if (chain.nodes.front().backend.kind == BackendKind::kRocksDb) {
    out.Add(name + " rocksdb", chain.rocksdb, Table(table, "rocksdb"));
  }
  for (size_t i = 0; i < chain.users.size(); ++i) {
    out.Add(name + " user " + chain.users[i].name, chain.users[i], Table(table, "user", i));
  }
  for (size_t i = 0; i < chain.nodes.size(); ++i) {
    out.Add(name + " node " + chain.nodes[i].id, chain.nodes[i], Table(table, "node", i));
  }
}

}  // namespace

Result<std::vector<Setting>> Effective(const Config& config) {
  const toml::parse_result parsed = toml::parse_file(config.path);
  if (!parsed) return Fail(config.path + ": " + std::string(parsed.error().description()));
  const toml::table& root = parsed.table();
  Collector out;
  out.Add("cluster", config.cluster, Table(root, "cluster"));
  out.Add("tls", config.tls, Table(root, "tls"));
  out.Add("coordinator", config.coordinator, Table(root, "coordinator"));
  for (size_t i = 0; i < config.chains.size(); ++i) {
    const toml::table* table = Table(root, "chain", i);
    if (table == nullptr) return Fail(config.path + " changed while it was read");
    AddChain(out, config.chains[i], *table);
  }
  return std::move(out.settings);
}

}  // namespace catena::config
