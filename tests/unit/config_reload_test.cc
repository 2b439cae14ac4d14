#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "config/reload.h"
#include "proxy/base/log.h"

namespace catena::config {
namespace {

// A directory with a TOML file and its secret.
class Files {
 public:
  Files() {
    char name[] = "/tmp/catena_reload_XXXXXX";
    directory_ = mkdtemp(name);
    Write("secret", "a secret of some length\n");
  }
  ~Files() { std::filesystem::remove_all(directory_); }
  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(directory_ + "/" + name) << text;
    return directory_ + "/" + name;
  }

 private:
  std::string directory_;
};

constexpr const char* kFile = R"([cluster]
name = "shop"
secret_file = "secret"
[coordinator]
listen = ["10.0.0.1:7400"]
etcd = ["http://10.0.0.1:2379"]
[[chain]]
name = "main"
[[chain.user]]
name = "app"
password = "first"
[[chain.node]]
id = "a"
clients = "10.0.0.1:6380"
peers = "10.0.0.1:6390"
backend = "redis://:hidden@127.0.0.1:6379"
[[chain.node]]
id = "b"
clients = "10.0.0.2:6380"
peers = "10.0.0.2:6390"
backend = "redis://127.0.0.1:6379"
)";

std::string With(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

Config Loaded(const std::string& text) {
  Files files;
  Result<Config> config = Load(files.Write("catena.toml", text));
  INFO((config ? "" : config.error().message));
  REQUIRE(config);
  return *std::move(config);
}

// "key: from -> to", with a '!' in front of what waits for a restart; one a line.
std::string Changes(const std::string& text, const std::string& self = "") {
  std::string out;
  for (const Change& change : Merge(Loaded(kFile), Loaded(text), self).changes) {
    out += (change.taken ? "" : "!") + change.key + ": " + change.from + " -> " + change.to + "\n";
  }
  return out;
}

TEST_CASE("the same file changes nothing") { CHECK(Changes(kFile) == ""); }

TEST_CASE("an opened RocksDB keeps its options") {
  const std::string running =
      With(With(With(kFile, "redis://:hidden@127.0.0.1:6379", "rocksdb:///srv/db"),
                "redis://127.0.0.1:6379", "rocksdb:///srv/db"),
           "[[chain.user]]", "[chain.rocksdb]\nsync = \"always\"\n[[chain.user]]");
  const std::string file = With(running, "\"always\"", "\"never\"\nopen_files = 100");
  const Reloaded merged = Merge(Loaded(running), Loaded(file), "a");
  REQUIRE(merged.changes.size() == 2);
  CHECK(merged.changes[0].key == "chain.main.rocksdb.sync");
  CHECK(merged.changes[1].from == "the database's own");
  CHECK(merged.changes[1].to == "100");
  CHECK_FALSE((merged.changes[0].taken || merged.changes[1].taken));
  CHECK(merged.config.chains[0].rocksdb.sync == Sync::kAlways);
  CHECK_FALSE(merged.config.chains[0].rocksdb.open_files);
}

TEST_CASE("what may change is taken, what may not keeps the running value") {
  const std::string text = With(With(kFile, "[[chain.user]]",
                                     "write_timeout = \"2s\"\nconsistency = \"tail\"\n"
                                     "[chain.limits]\nclients_max = 7\n[[chain.user]]"),
                                "[[chain]]", "lease = \"3s\"\nleader_ttl = \"5s\"\n[[chain]]");
  CHECK(Changes(text) ==
        "coordinator.lease: 1s -> 3s\n"
        "!coordinator.leader_ttl: 2s -> 5s\n"
        "chain.main.consistency: linearizable -> tail\n"
        "chain.main.write_timeout: 5s -> 2s\n"
        "chain.main.limits.clients_max: 10000 -> 7\n");
  const Config merged = Merge(Loaded(kFile), Loaded(text), "").config;
  CHECK(merged.coordinator.lease == std::chrono::seconds(3));
  CHECK(merged.coordinator.leader_ttl == std::chrono::seconds(2));
  CHECK(merged.chains[0].limits.clients_max == 7);
}

TEST_CASE("secrets are compared and never shown") {
  CHECK(Changes(With(kFile, "first", "second")) == "chain.main.user.app.password: *** -> ***\n");
  const std::string backend = Changes(With(kFile, "hidden", "buried"), "a");
  CHECK(backend.starts_with("!chain.main.node.a.backend"));
  CHECK(backend.find("hidden") == std::string::npos);
  CHECK(backend.find("buried") == std::string::npos);
  Config before = Loaded(kFile), after = Loaded(kFile);
  after.cluster.secret = "another secret";
  const Reloaded reloaded = Merge(before, after, "a");
  CHECK(reloaded.config.cluster.secret == before.cluster.secret);
  REQUIRE(reloaded.changes.size() == 1);
  CHECK_FALSE(reloaded.changes[0].taken);
  CHECK(reloaded.changes[0].to == "***");
}

TEST_CASE("users, nodes and chains come and go") {
  const std::string node =
      "[[chain.node]]\nid = \"c\"\nclients = \"10.0.0.3:6380\"\npeers = \"10.0.0.3:6390\"\n"
      "backend = \"redis://127.0.0.1:6379\"\n";
  CHECK(Changes(std::string(kFile) + node) ==
        "chain.main.replicas: 2 -> 3\nchain.main.node.c:  -> there\n");
  CHECK(Changes(With(kFile, "\"app\"", "\"web\"")) ==
        "chain.main.user.app: there -> \nchain.main.user.web:  -> there\n");
  const std::string other = With(With(With(node, "\"c\"", "\"z\""), ".3:", ".9:"), ".3:", ".9:");
  CHECK(Changes(std::string(kFile) + "[[chain]]\nname = \"second\"\n" + other) ==
        "chain.second:  -> there\n");
}

TEST_CASE("another node's addresses are that node's business") {
  const std::string text = With(kFile, "10.0.0.2:6380", "10.0.0.2:6381");
  CHECK(Changes(text, "a") == "chain.main.node.b.clients: 10.0.0.2:6380 -> 10.0.0.2:6381\n");
  CHECK(Changes(text, "b") == "!chain.main.node.b.clients: 10.0.0.2:6380 -> 10.0.0.2:6381\n");
}

TEST_CASE("a file with an error changes nothing, and the log says where and why") {
  Files files;
  const std::string path = files.Write("catena.toml", kFile);
  const Config running = *Load(path);
  std::string lines;
  log::SendTo([&](std::string_view line) { lines.append(line).append("\n"); });
  files.Write("catena.toml", With(kFile, "[[chain.user]]", "write_timeout = 5\n[[chain.user]]"));
  CHECK_FALSE(LoadAgain(running, "a"));
  CHECK(lines.find("event=reload_refused") == 0);
  CHECK(lines.find("catena.toml:9:17: write_timeout: not a duration") != std::string::npos);
  lines.clear();
  files.Write("catena.toml", With(kFile, "id = \"a\"", "id = \"x\""));
  CHECK_FALSE(LoadAgain(running, "a"));
  CHECK(lines.find("no node") != std::string::npos);
  lines.clear();
  files.Write("catena.toml",
              With(kFile, "[[chain.user]]", "write_timeout = \"9s\"\n[[chain.user]]"));
  const auto reloaded = LoadAgain(running, "a");
  log::SendTo(nullptr);
  REQUIRE(reloaded);
  CHECK(reloaded->chains[0].write_timeout == std::chrono::seconds(9));
  CHECK(lines == "event=reloaded changed=\"chain.main.write_timeout: 5s -> 9s\"\n");
}

}  // namespace
}  // namespace catena::config
