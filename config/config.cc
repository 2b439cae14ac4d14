#include "config/config.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>

#include "config/address.h"
#include "config/fields.h"
#include "config/reader.h"

namespace catena::config {
namespace {

constexpr size_t kSecretBytesMin = 8;

Result<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  // A directory opens, and fails only when read.
  if (!file || (file.peek(), file.bad())) return Fail(std::strerror(errno));
  if (!file.eof()) text << file.rdbuf();
  return text.str();
}

std::string JoinPath(const std::string& directory, const std::string& path) {
  if (directory.empty() || path.starts_with('/')) return path;
  return directory + (directory.ends_with('/') ? "" : "/") + path;
}

// Tells the loopback addresses of one machine from another's; "" if that cannot be told.
std::string MachineOf(const std::string& address) {
  const Result<HostPort> parsed = ParseHostPort(address, false);
  return parsed && !IsLoopback(parsed->host) ? parsed->host : "";
}

// Things that may be used once: the first user of each is remembered for the message.
class Unique {
 public:
  explicit Unique(Problems& problems) : problems_(problems) {}

  void Claim(const std::string& key, const std::string& shown, Place place) {
    if (key.empty()) return;  // absent or unusable, which was reported already
    const auto [first, is_new] = used_.try_emplace(key, place);
    if (is_new) return;
    problems_.Add(place, shown + " is used twice (first in line " +
                             std::to_string(first->second.line) + "); allowed: each once");
  }

 private:
  Problems& problems_;
  std::map<std::string, Place> used_;
};

// Reads the whole file into a Config. One object per file.
class Loader {
 public:
  Loader(Config& config, std::string directory, Problems& problems)
      : config_(config), directory_(std::move(directory)), problems_(problems) {}

  void Read(const toml::table& root);

 private:
  void ReadCluster(const toml::table& table);
  void ReadSecret(TableReader& reader);
  // What the file named by `key` holds, without white space at its end. Nothing: reported.
  std::optional<std::string> ReadNamed(TableReader& reader, std::string_view key,
                                       const std::string& written, const std::string& allowed);
  void ReadCoordinator(const toml::table& table);
  void ReadTls(const toml::table& table);
  void CheckTls(const toml::table* table);
  void ReadChain(const toml::table& table);
  void ReadUsers(TableReader& chain_reader, Chain& chain);
  void ReadRocksDb(TableReader& chain_reader, Chain& chain);
  void ReadUserPassword(TableReader& reader, User& user);
  void ReadBackendPassword(TableReader& reader, Node& node);
  void ReadNodes(TableReader& chain_reader, Chain& chain);
  void ClaimAdminAddresses(const Coordinator& coordinator, TableReader& reader);
  void ClaimAddresses(const Node& node, TableReader& reader);
  void ClaimAddress(std::string_view what, const std::string& address, const std::string& machine,
                    Place place);

  Config& config_;
  std::string directory_;
  Problems& problems_;
  Unique addresses_{problems_};
  Unique node_ids_{problems_};
  Unique chain_names_{problems_};
};

void Loader::Read(const toml::table& root) {
  TableReader reader(root, "the file", problems_);
  VisitFields(reader, config_);
  for (const std::string_view section : {"cluster", "coordinator"}) {
    const toml::table* table = reader.SubTable(section);
    if (table == nullptr) {
      if (!root.contains(section)) {
        problems_.Add({1, 1}, "the file lacks the required table [" + std::string(section) + "]");
      }
      continue;
    }
    section == "cluster" ? ReadCluster(*table) : ReadCoordinator(*table);
  }
  for (const toml::table* table : reader.SubTables("chain")) ReadChain(*table);
  const toml::table* tls = reader.SubTable("tls");
  if (tls != nullptr) ReadTls(*tls);
  if (tls != nullptr || !root.contains("tls")) CheckTls(tls);
  reader.Finish();
}

void Loader::ReadCluster(const toml::table& table) {
  TableReader reader(table, "[cluster]", problems_);
  VisitFields(reader, config_.cluster);
  reader.Finish();
  if (!config_.cluster.secret_file.empty()) ReadSecret(reader);
}

void Loader::ReadSecret(TableReader& reader) {
  const std::string allowed =
      "a file with at least " + std::to_string(kSecretBytesMin) + " bytes of secret";
  auto secret = ReadNamed(reader, "secret_file", config_.cluster.secret_file, allowed);
  if (!secret) return;
  if (secret->size() < kSecretBytesMin) {
    reader.Wrong("secret_file", "secret_file " + config_.cluster.secret_file +
                                    " holds too short a secret; allowed: " + allowed);
    return;
  }
  config_.cluster.secret = *std::move(secret);
}

std::optional<std::string> Loader::ReadNamed(TableReader& reader, std::string_view key,
                                             const std::string& written,
                                             const std::string& allowed) {
  const std::string path = JoinPath(directory_, written);
  const std::string named = std::string(key) + " " + path;
  Result<std::string> text = ReadFile(path);
  if (!text) {
    reader.Wrong(key,
                 "cannot read " + named + ": " + text.error().message + "; allowed: " + allowed);
    return std::nullopt;
  }
  text->erase(text->find_last_not_of(" \t\r\n\v\f") + 1);
  if (text->empty()) {
    reader.Wrong(key, named + " holds nothing; allowed: " + allowed);
    return std::nullopt;
  }
  return *std::move(text);
}

void Loader::ReadCoordinator(const toml::table& table) {
  Coordinator& coordinator = config_.coordinator;
  TableReader reader(table, "[coordinator]", problems_);
  VisitFields(reader, coordinator);
  reader.Finish();
  if (const toml::node* listen = table.get("listen"); listen != nullptr && listen->is_array()) {
    for (const toml::node& element : *listen->as_array()) {
      if (const auto text = element.value_exact<std::string>()) {
        ClaimAddress("address", *text, "", element.source().begin);
      }
    }
  }
  ClaimAdminAddresses(coordinator, reader);
  if (coordinator.lease < 2 * coordinator.heartbeat) {
    reader.Wrong("lease", "lease is " + FormatDuration(coordinator.lease) + " and heartbeat " +
                              FormatDuration(coordinator.heartbeat) +
                              "; allowed: a lease of at least two heartbeats");
  }
  if (coordinator.leader_ttl % std::chrono::seconds(1) != Duration(0)) {
    reader.Wrong("leader_ttl", "leader_ttl is " + FormatDuration(coordinator.leader_ttl) +
                                   "; allowed: whole seconds, 2s or more");
  }
}

void Loader::ClaimAdminAddresses(const Coordinator& coordinator, TableReader& reader) {
  if (coordinator.admin.empty()) return;
  if (coordinator.admin.size() != coordinator.listen.size()) {
    return reader.Wrong("admin", "admin has " + std::to_string(coordinator.admin.size()) +
                                     " addresses and listen " +
                                     std::to_string(coordinator.listen.size()) +
                                     "; allowed: one for each of listen, in the same order");
  }
  for (size_t i = 0; i < coordinator.admin.size(); ++i) {
    ClaimAddress("address", coordinator.admin[i], MachineOf(coordinator.listen[i]),
                 reader.At("admin"));
  }
}

void Loader::ReadTls(const toml::table& table) {
  Tls& tls = config_.tls;
  TableReader reader(table, "[tls]", problems_);
  VisitFields(reader, tls);
  reader.Finish();
  if (tls.certificate_file.empty() != tls.key_file.empty()) {
    const std::string_view there = tls.key_file.empty() ? "certificate_file" : "key_file";
    reader.Wrong(there, "[tls] has certificate_file or key_file alone; allowed: both or none");
  }
  for (std::string* path : {&tls.ca_file, &tls.certificate_file, &tls.key_file}) {
    if (!path->empty()) *path = JoinPath(directory_, *path);
  }
}

// Whatever speaks TLS needs its files.
void Loader::CheckTls(const toml::table* table) {
  const Tls& tls = config_.tls;
  std::string own, others;  // the first that needs a certificate of ours, and the CA
  const auto needs = [](bool does, std::string& what, const std::string& text) {
    if (does && what.empty()) what = text;
  };
  needs(tls.clients != ClientTls::kOff, own, "clients");
  needs(tls.clients == ClientTls::kMutual, others, "clients = \"mutual\"");
  for (std::string* what : {&own, &others}) {
    needs(tls.peers, *what, "peers = true");
    needs(tls.coordinators, *what, "coordinators = true");
  }
  for (const std::string& url : config_.coordinator.etcd) {
    needs(url.starts_with("https://"), others, url);
  }
  for (const Chain& chain : config_.chains) {
    for (const Node& node : chain.nodes) {
      // It dials us, too.
      for (std::string* what : {&own, &others}) needs(node.backend.tls, *what, node.backend.text);
    }
  }
  const Place place = table != nullptr ? table->source().begin : Place{1, 1};
  if (!own.empty() && tls.certificate_file.empty() && tls.key_file.empty()) {
    problems_.Add(place,
                  own + " needs a certificate; allowed: [tls] certificate_file and key_file");
  }
  if (!others.empty() && tls.ca_file.empty()) {
    problems_.Add(place, others + " needs a CA to check certificates by; allowed: [tls] ca_file");
  }
}

void Loader::ReadChain(const toml::table& table) {
  Chain chain;
  TableReader reader(table, "[[chain]]", problems_);
  VisitFields(reader, chain);
  reader.Finish();
  chain_names_.Claim(chain.name, "chain name \"" + chain.name + "\"", reader.At("name"));
  if (const toml::table* limits = reader.SubTable("limits")) {
    TableReader limits_reader(*limits, "[chain.limits]", problems_);
    VisitFields(limits_reader, chain.limits);
    limits_reader.Finish();
  }
  ReadUsers(reader, chain);
  ReadNodes(reader, chain);
  ReadRocksDb(reader, chain);
  const Duration heartbeat = config_.coordinator.heartbeat;
  if (chain.max_staleness > Duration(0) && chain.max_staleness < 2 * heartbeat) {
    reader.Wrong("max_staleness", "max_staleness is " + FormatDuration(chain.max_staleness) +
                                      " and heartbeat " + FormatDuration(heartbeat) +
                                      "; allowed: at least two heartbeats, or 0s: unbounded");
  }
  const int nodes = static_cast<int>(chain.nodes.size());
  if (chain.replicas > nodes) {
    reader.Wrong("replicas", "replicas is " + std::to_string(chain.replicas) +
                                 " and the chain has " + std::to_string(nodes) +
                                 " nodes; allowed: 1 to the number of nodes");
  }
  if (chain.replicas == 0) chain.replicas = nodes;
  config_.chains.push_back(std::move(chain));
}

void Loader::ReadRocksDb(TableReader& chain_reader, Chain& chain) {
  const toml::table* table = chain_reader.SubTable("rocksdb");
  if (table == nullptr) return;
  TableReader reader(*table, "[chain.rocksdb]", problems_);
  VisitFields(reader, chain.rocksdb);
  reader.Finish();
  const bool usable = !chain.nodes.empty() && !chain.nodes.front().backend.text.empty();
  if (usable && chain.nodes.front().backend.kind != BackendKind::kRocksDb) {
    chain_reader.Wrong("rocksdb",
                       "[chain.rocksdb] in a chain whose databases are none; allowed: with "
                       "rocksdb:/// backends");
  }
}

void Loader::ReadUsers(TableReader& chain_reader, Chain& chain) {
  Unique names(problems_);
  for (const toml::table* table : chain_reader.SubTables("user")) {
    User user;
    TableReader reader(*table, "[[chain.user]]", problems_);
    VisitFields(reader, user);
    reader.Finish();
    ReadUserPassword(reader, user);
    names.Claim(user.name, "user name \"" + user.name + "\"", reader.At("name"));
    chain.users.push_back(std::move(user));
  }
}

void Loader::ReadUserPassword(TableReader& reader, User& user) {
  constexpr std::string_view kFile = "password_file";
  if (reader.Has("password") == reader.Has(kFile)) {
    reader.Wrong(kFile, "[[chain.user]] has " +
                            std::string(reader.Has(kFile) ? "two passwords" : "no password") +
                            "; allowed: password or password_file");
  } else if (!user.password_file.empty()) {
    auto text = ReadNamed(reader, kFile, user.password_file, "a file with a password");
    if (text && reader.MayBePassword(kFile, *text)) user.password = *std::move(text);
  }
}

void Loader::ReadBackendPassword(TableReader& reader, Node& node) {
  constexpr std::string_view kFile = "backend_password_file";
  if (node.backend_password_file.empty()) {
    if (node.backend.user.empty() || !node.backend.password.empty()) return;
    return reader.Wrong("backend",
                        "backend names a user and no password; allowed: user:password@, "
                        ":password@, or backend_password_file");
  }
  if (!node.backend.password.empty() || node.backend.kind != BackendKind::kRedis) {
    reader.Wrong(kFile,
                 "backend_password_file beside a backend " +
                     std::string(node.backend.kind == BackendKind::kRedis ? "URL with a password"
                                                                          : "without passwords") +
                     "; allowed: one of them, with redis://, rediss:// or unix://");
    return;
  }
  auto text = ReadNamed(reader, kFile, node.backend_password_file, "a file with a password");
  if (text) node.backend.password = *std::move(text);
}

void Loader::ReadNodes(TableReader& chain_reader, Chain& chain) {
  for (const toml::table* table : chain_reader.SubTables("node")) {
    Node node;
    TableReader reader(*table, "[[chain.node]]", problems_);
    VisitFields(reader, node);
    reader.Finish();
    ReadBackendPassword(reader, node);
    node_ids_.Claim(node.id, "node id \"" + node.id + "\"", reader.At("id"));
    ClaimAddresses(node, reader);
    if (!chain.nodes.empty() && !node.backend.text.empty() &&
        !chain.nodes.front().backend.text.empty() &&
        node.backend.kind != chain.nodes.front().backend.kind) {
      reader.Wrong("backend",
                   "backend is of another kind than that of the chain's first node; "
                   "allowed: one kind of backend in a chain");
    }
    chain.nodes.push_back(std::move(node));
  }
}

void Loader::ClaimAddresses(const Node& node, TableReader& reader) {
  // Loopback addresses, sockets and directories mean another thing on each machine; which machine
  // a node is on shows in its peers address.
  const std::string machine = MachineOf(node.peers);
  ClaimAddress("address", node.clients, machine, reader.At("clients"));
  ClaimAddress("address", node.peers, machine, reader.At("peers"));
  ClaimAddress("address", node.replication, machine, reader.At("replication"));
  ClaimAddress("address", node.admin, machine, reader.At("admin"));
  ClaimAddress("backend", node.backend.address, machine, reader.At("backend"));
}

void Loader::ClaimAddress(std::string_view what, const std::string& address,
                          const std::string& machine, Place place) {
  const std::string shown = std::string(what) + " \"" + address + "\"";
  const Result<HostPort> parsed = ParseHostPort(address, true);
  if (!parsed) {
    // unix:///path or a directory of RocksDB; anything else was reported where it was read.
    if (what == "backend" && !address.empty()) {
      addresses_.Claim("path " + machine + " " + address, shown, place);
    }
    return;
  }
  if (parsed->port == 0) return;
  const std::string host =
      IsLoopback(parsed->host)
          ? (parsed->host == "localhost" ? "127.0.0.1" : parsed->host) + "@" + machine
          : parsed->host;
  addresses_.Claim(host + " " + std::to_string(parsed->port), shown, place);
}

}  // namespace

Result<Config> Parse(std::string_view text, const std::string& path, const std::string& directory) {
  Problems problems(path);
  const toml::parse_result parsed = toml::parse(text, path);
  if (!parsed) {
    problems.Add(parsed.error().source().begin, std::string(parsed.error().description()));
    return Fail(problems.Text());
  }
  Config config;
  config.path = path;
  Loader(config, directory, problems).Read(parsed.table());
  if (!problems.empty()) return Fail(problems.Text());
  return config;
}

Result<Config> Load(const std::string& path) {
  const Result<std::string> text = ReadFile(path);
  if (!text) return Fail(path + ": cannot read the file: " + text.error().message);
  const size_t slash = path.rfind('/');
  return Parse(*text, path, slash == std::string::npos ? "" : path.substr(0, slash + 1));
}

std::vector<std::string> Warnings(const Config& config) {
  std::vector<std::string> warnings;
  const bool readable = config.tls.clients == ClientTls::kOff;
  const bool anybody = config.tls.clients != ClientTls::kMutual;
  for (const Chain& chain : config.chains) {
    for (const Node& node : chain.nodes) {
      const Result<HostPort> address = ParseHostPort(node.clients, false);
      if (!address || IsLoopback(address->host)) continue;
      const std::string port = "node " + node.id + ": the clients' port " + node.clients + " is ";
      if (chain.users.empty() && anybody) {
        warnings.push_back(port + "open to whoever reaches it: no [[chain.user]] has a password");
      }
      if (readable) {
        warnings.push_back(port +
                           "not encrypted: passwords and data can be read on the way; see "
                           "clients in [tls]");
      }
    }
  }
  return warnings;
}

Result<Config::NodeRef> Config::FindNode(std::string_view id) const {
  std::string known;
  for (const Chain& chain : chains) {
    for (const Node& node : chain.nodes) {
      if (node.id == id) return NodeRef{&chain, &node};
      known += (known.empty() ? "" : ", ") + node.id;
    }
  }
  return Fail(path + " has no node \"" + std::string(id) + "\"; allowed: " + known);
}

}  // namespace catena::config
