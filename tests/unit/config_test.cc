#include "config/config.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "config/address.h"

namespace catena::config {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A directory that is removed at the end of the test.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    char name[] = "/tmp/catena_config_XXXXXX";
    path_ = mkdtemp(name);
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ + "/" + name, std::ios::binary) << text;
    return path_ + "/" + name;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

constexpr const char* kCluster = "[cluster]\nname = \"shop\"\nsecret_file = \"secret\"\n";
constexpr const char* kCoordinator =
    "[coordinator]\nlisten = [\"10.0.0.1:7400\"]\netcd = [\"http://10.0.0.1:2379\"]\n";
constexpr const char* kChain = "[[chain]]\nname = \"main\"\n";

std::string NodeText(const std::string& id, const std::string& machine,
                     const std::string& backend = "redis://127.0.0.1:6379") {
  return "[[chain.node]]\nid = \"" + id + "\"\nclients = \"" + machine + ":6380\"\npeers = \"" +
         machine + ":6390\"\nbackend = \"" + backend + "\"\n";
}

// Parses with a good secret in place.
Result<Config> ParseText(const std::string& text) {
  TemporaryDirectory directory;
  directory.Write("secret", "0123456789abcdef\n");
  return Parse(text, "c.toml", directory.path());
}

// The message of a text that must be refused.
std::string Refusal(const std::string& text) {
  const auto config = ParseText(text);
  CHECK_FALSE(config);
  return config ? "" : config.error().message;
}

std::string Good() {
  return std::string(kCluster) + kCoordinator + kChain + NodeText("a", "10.0.0.1") +
         NodeText("b", "10.0.0.2");
}

// The good file with one line put behind the header or line `after`.
std::string With(const std::string& after, const std::string& line) {
  std::string text = Good();
  const size_t at = text.find(after);
  REQUIRE(at != std::string::npos);
  return text.insert(at + after.size(), "\n" + line);
}

// The good file with `from` replaced once.
std::string Replaced(const std::string& from, const std::string& to) {
  std::string text = Good();
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

bool Contains(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
  return text.find(part) != std::string::npos;
}

TEST_CASE("durations") {
  CHECK(ParseDuration("200ms") == milliseconds(200));
  CHECK(ParseDuration("7us") == std::chrono::microseconds(7));
  CHECK(ParseDuration("1s") == seconds(1));
  CHECK(ParseDuration("5m") == seconds(300));
  CHECK(ParseDuration("1h") == seconds(3600));
  CHECK(ParseDuration("0s") == Duration(0));
  for (const char* bad : {"", "s", "1", "-1s", "1.5s", "1 s", " 1s", "1s ", "1d", "+1s", "1S",
                          "99999999999999999999s", "876001h", "18446744073709551615h"}) {
    INFO(bad);
    CHECK_FALSE(ParseDuration(bad));
  }
  CHECK(FormatDuration(milliseconds(1500)) == "1500ms");
  CHECK(FormatDuration(seconds(120)) == "2m");
  CHECK(FormatDuration(Duration(0)) == "0s");
}

TEST_CASE("sizes") {
  CHECK(ParseBytes("100") == 100u);
  CHECK(ParseBytes("100b") == 100u);
  CHECK(ParseBytes("512kb") == 512u * 1024);
  CHECK(ParseBytes("64mb") == 64u << 20);
  CHECK(ParseBytes("1gb") == 1u << 30);
  for (const char* bad : {"", "kb", "-1", "1.5mb", "1 mb", "1MB", "1k", "1tb", "9999999999gb",
                          "18446744073709551616"}) {
    INFO(bad);
    CHECK_FALSE(ParseBytes(bad));
  }
  CHECK(FormatBytes(64u << 20) == "64mb");
  CHECK(FormatBytes(1025) == "1025b");
}

TEST_CASE("addresses") {
  CHECK(ParseHostPort("10.0.0.1:6380", false)->port == 6380);
  CHECK(ParseHostPort("Redis-1.example.org:1", false)->host == "redis-1.example.org");
  CHECK(ParseHostPort("[::1]:65535", false)->host == "::1");
  CHECK(ParseHostPort("127.0.0.1:0", true)->port == 0);
  for (const char* bad : {"", "host", ":1", "host:", "host:0", "host:65536", "host:-1", "host:1x",
                          "host: 1", "a b:1", "::1:80", "[]:1", "http://a:1", "host:+1"}) {
    INFO(bad);
    CHECK_FALSE(ParseHostPort(bad, false));
  }
}

TEST_CASE("backend URLs") {
  const auto plain = ParseBackendUrl("redis://127.0.0.1:6379");
  REQUIRE(plain);
  CHECK(plain->address == "127.0.0.1:6379");
  CHECK(plain->text == "redis://127.0.0.1:6379");
  CHECK(plain->password.empty());

  const auto user = ParseBackendUrl("redis://app%40x:p%3a%2F%25w@db.local:7000");
  REQUIRE(user);
  CHECK(user->user == "app@x");
  CHECK(user->password == "p:/%w");
  CHECK(user->address == "db.local:7000");
  CHECK(user->text == "redis://app@x:***@db.local:7000");

  const auto password_only = ParseBackendUrl("redis://:secret@h:1");
  REQUIRE(password_only);
  CHECK(password_only->user.empty());
  CHECK(password_only->password == "secret");

  CHECK(ParseBackendUrl("unix:///run/redis.sock")->address == "unix:///run/redis.sock");
  CHECK(ParseBackendUrl("unix://u:p@/run/redis.sock")->address == "unix:///run/redis.sock");
  const auto rocksdb = ParseBackendUrl("rocksdb:///var/lib/db");
  REQUIRE(rocksdb);
  CHECK(rocksdb->kind == BackendKind::kRocksDb);
  CHECK(rocksdb->address == "/var/lib/db");

  for (const char* bad : {"", "127.0.0.1:6379", "redis://", "redis://h", "redis://h:0",
                          "redis://h:1/0", "redis://@h:1", "redis://u:%zz@h:1", "redis://u:%4@h:1",
                          "redis://u:@h:1", "redis://0.0.0.0:1", "unix://relative", "unix:///",
                          "rocksdb://relative", "rocksdb:///", "http://h:1", "rediss://h"}) {
    INFO(bad);
    CHECK_FALSE(ParseBackendUrl(bad));
  }
}

TEST_CASE("no message repeats a password") {
  for (const char* bad :
       {"redis://u:hunter22@h:0", "redis://u:hunter22%@h:1", "redus://u:hunter22@h:1",
        "unix://u:hunter22@x", "redis://u:hunter22@h:1/3"}) {
    const auto url = ParseBackendUrl(bad);
    REQUIRE_FALSE(url);
    INFO(url.error().message);
    CHECK(url.error().message.find("hunter22") == std::string::npos);
  }
}

TEST_CASE("a minimal file is read with the defaults") {
  const auto config = ParseText(Good());
  INFO((config ? "" : config.error().message));
  REQUIRE(config);
  CHECK(config->cluster.name == "shop");
  CHECK(config->cluster.secret == "0123456789abcdef");
  CHECK(config->cluster.log_level == "info");
  CHECK(config->coordinator.listen == std::vector<std::string>{"10.0.0.1:7400"});
  CHECK(config->coordinator.etcd == std::vector<std::string>{"http://10.0.0.1:2379"});
  CHECK(config->coordinator.lease == seconds(1));
  REQUIRE(config->chains.size() == 1);
  const Chain& chain = config->chains[0];
  CHECK(chain.replicas == 2);
  CHECK(chain.consistency == Consistency::kLinearizable);
  CHECK(chain.limits.backlog_bytes == 64u << 20);
  REQUIRE(chain.nodes.size() == 2);
  CHECK(chain.nodes[1].id == "b");
  CHECK(chain.nodes[1].replication == "127.0.0.1:0");
  CHECK_FALSE(chain.nodes[1].overwrite);
}

TEST_CASE("every option is read") {
  std::string text = Good();
  const auto put = [&](const std::string& after, const std::string& lines) {
    text.insert(text.find(after) + after.size(), lines);
  };
  put(kCluster, "log_level = \"warn\"\n");
  put(kCoordinator,
      "heartbeat = \"50ms\"\nlease = \"400ms\"\ndrift_per_mille = 30\nleader_ttl = \"3s\"\n");
  put(kChain,
      "replicas = 1\nconsistency = \"eventual\"\nwrite_timeout = \"2s\"\nmax_staleness = \"9s\"\n"
      "recovery = \"automatic\"\n[chain.limits]\nbacklog_bytes = \"1mb\"\nlog_bytes_max = 2097152\n"
      "client_output_bytes_max = \"3mb\"\nclient_pipeline_max = 4\npending_bytes_max = \"5mb\"\n"
      "bulk_bytes_max = \"6mb\"\nclients_max = 7\njoin_bytes_max = \"9mb\"\n"
      "[[chain.user]]\nname = \"default\"\npassword = \"pw\"\naccess = \"read-only\"\n"
      "keys = [\"a*\", \"b\"]\nchannels = []\n");
  text += "overwrite = true\nreplication = \"127.0.0.1:7001\"\n";
  const auto config = ParseText(text);
  INFO((config ? "" : config.error().message));
  REQUIRE(config);
  CHECK(config->cluster.log_level == "warn");
  CHECK(config->coordinator.heartbeat == milliseconds(50));
  CHECK(config->coordinator.lease == milliseconds(400));
  CHECK(config->coordinator.drift_per_mille == 30);
  CHECK(config->coordinator.leader_ttl == seconds(3));
  const Chain& chain = config->chains.at(0);
  CHECK(chain.replicas == 1);
  CHECK(chain.consistency == Consistency::kEventual);
  CHECK(chain.write_timeout == seconds(2));
  CHECK(chain.max_staleness == seconds(9));
  CHECK(chain.recovery == Recovery::kAutomatic);
  const Limits& limits = chain.limits;
  CHECK(limits.backlog_bytes == 1u << 20);
  CHECK(limits.log_bytes_max == 2u << 20);
  CHECK(limits.client_output_bytes_max == 3u << 20);
  CHECK(limits.client_pipeline_max == 4);
  CHECK(limits.pending_bytes_max == 5u << 20);
  CHECK(limits.bulk_bytes_max == 6u << 20);
  CHECK(limits.clients_max == 7);
  CHECK(limits.join_bytes_max == 9u << 20);
  REQUIRE(chain.users.size() == 1);
  CHECK(chain.users[0].name == "default");
  CHECK(chain.users[0].password == "pw");
  CHECK(chain.users[0].access == Access::kReadOnly);
  CHECK(chain.users[0].keys == std::vector<std::string>{"a*", "b"});
  CHECK(chain.users[0].channels.empty());
  CHECK(chain.nodes[1].overwrite);
  CHECK(chain.nodes[1].replication == "127.0.0.1:7001");
}

std::string OfRocksDb(const std::string& lines) {
  return std::string(kCluster) + kCoordinator + kChain + "[chain.rocksdb]\n" + lines +
         NodeText("a", "10.0.0.1", "rocksdb:///srv/db") +
         NodeText("b", "10.0.0.2", "rocksdb:///srv/db");
}

TEST_CASE("options of RocksDB: what is not written is left to the database") {
  const auto plain = ParseText(OfRocksDb(""));
  INFO((plain ? "" : plain.error().message));
  REQUIRE(plain);
  const RocksDb& unset = plain->chains.at(0).rocksdb;
  CHECK(unset.sync == Sync::kAlways);
  CHECK(unset.sync_interval == seconds(1));
  CHECK(unset.block_cache == 512u << 20);
  CHECK_FALSE(unset.write_buffer);
  CHECK_FALSE(unset.open_files);
  CHECK_FALSE(unset.background_jobs);

  const auto written =
      ParseText(OfRocksDb("sync = \"interval\"\nsync_interval = \"20ms\"\nblock_cache = \"2mb\"\n"
                          "write_buffer = \"3mb\"\nopen_files = 64\nbackground_jobs = 5\n"));
  INFO((written ? "" : written.error().message));
  REQUIRE(written);
  const RocksDb& set = written->chains.at(0).rocksdb;
  CHECK(set.sync == Sync::kInterval);
  CHECK(set.sync_interval == milliseconds(20));
  CHECK(set.block_cache == 2u << 20);
  CHECK(set.write_buffer == 3u << 20);
  CHECK(set.open_files == 64);
  CHECK(set.background_jobs == 5);
}

TEST_CASE("options of RocksDB that cannot be") {
  Contains(Refusal(OfRocksDb("sync = \"often\"\n")),
           "c.toml:10:8: unknown sync \"often\"; allowed: always, interval, never");
  Contains(Refusal(OfRocksDb("sync_interval = \"9ms\"\n")), "allowed: 10ms or more");
  Contains(Refusal(OfRocksDb("block_cache = \"1kb\"\n")), "block_cache is 1kb; allowed: 1mb");
  Contains(Refusal(OfRocksDb("write_buffer = true\n")), "write_buffer: not a number of bytes");
  Contains(Refusal(OfRocksDb("open_files = 63\n")), "an integer, 64 to 1048576");
  Contains(Refusal(OfRocksDb("background_jobs = 0\n")), "background_jobs is 0; allowed");
  Contains(Refusal(OfRocksDb("block_caches = 1\n")),
           "unknown key block_caches in [chain.rocksdb] (did you mean block_cache?)");
  Contains(Refusal(With("name = \"main\"", "[chain.rocksdb]\nsync = \"never\"")),
           "c.toml:9:1: [chain.rocksdb] in a chain whose databases are none; allowed: with "
           "rocksdb:/// backends");
}

TEST_CASE("errors stand where the mistake is and say what is allowed") {
  CHECK(Refusal(With("[cluster]", "secretfile = \"x\""))
            .starts_with("c.toml:2:1: unknown key secretfile in [cluster] (did you mean "
                         "secret_file?); allowed: name, "
                         "secret_file, log_level"));
  CHECK(
      Refusal(With("[coordinator]", "lease = 5")).starts_with("c.toml:5:9: lease: not a duration"));
  CHECK(Refusal("[cluster\n").starts_with("c.toml:1:"));
  CHECK(Refusal("x = = 1").starts_with("c.toml:1:"));
}

TEST_CASE("all problems are told at once, in the order of the file") {
  const std::string text =
      Refusal(std::string("[cluster]\nname = 5\n") + kCoordinator + "lease = \"150ms\"\n" + kChain +
              "replica = 2\n" + NodeText("a", "10.0.0.1"));
  Contains(text, "c.toml:1:1: [cluster] lacks the required key secret_file\n");
  Contains(text, "c.toml:2:8: name is an integer; allowed: a string\n");
  Contains(text,
           "c.toml:6:9: lease is 150ms and heartbeat 200ms; allowed: a lease of at least two");
  Contains(text, "c.toml:9:1: unknown key replica in [[chain]] (did you mean replicas?)");
  CHECK(text.find(":1:1:") < text.find(":2:8:"));
  CHECK(text.find(":6:9:") < text.find(":9:1:"));
}

TEST_CASE("max_staleness is 0 or no shorter than what can be known") {
  const auto with = [](const std::string& max_staleness) {
    std::string text = Good();
    const size_t chain = text.find(kChain);
    return text.insert(chain + std::string_view(kChain).size(),
                       "max_staleness = \"" + max_staleness + "\"\n");
  };
  Contains(Refusal(with("399ms")),
           "max_staleness is 399ms and heartbeat 200ms; allowed: at least two heartbeats, or 0s: "
           "unbounded");
  for (const char* allowed : {"0s", "400ms"}) {
    CAPTURE(allowed);
    CHECK(ParseText(with(allowed)));
  }
}

TEST_CASE("missing parts") {
  const std::string nothing = Refusal("");
  Contains(nothing, "c.toml:1:1: the file lacks the required table [cluster]");
  Contains(nothing, "the file lacks the required table [coordinator]");
  Contains(nothing, "lacks the required key chain");
  Contains(Refusal(std::string(kCluster) + kCoordinator + kChain),
           "[[chain]] lacks the required key node");
  for (const char* key : {"id", "clients", "peers", "backend"}) {
    std::string text = Good();
    const size_t at = text.find(std::string("\n") + key + " = ") + 1;
    text.erase(at, text.find('\n', at) - at + 1);
    Contains(Refusal(text), std::string("[[chain.node]] lacks the required key ") + key);
  }
}

TEST_CASE("wrong types") {
  Contains(Refusal(Replaced("[\"10.0.0.1:7400\"]", "\"10.0.0.1:7400\"")),
           "listen is a string; allowed: an array");
  Contains(Refusal(Replaced("[\"10.0.0.1:7400\"]", "[]")), "listen is empty");
  Contains(Refusal(Replaced("[\"10.0.0.1:7400\"]", "[7400]")), "listen holds an integer");
  Contains(Refusal(With("id = \"a\"", "overwrite = \"yes\"")),
           "overwrite is a string; allowed: true");
  Contains(Refusal(With("name = \"main\"", "replicas = 1.0")),
           "replicas is a number with a fraction");
  Contains(Refusal(With("name = \"main\"", "limits = 1")),
           "limits is an integer; allowed: a table");
  Contains(Refusal(With("name = \"main\"", "user = \"x\"")), "user is no list of tables");
  Contains(Refusal("cluster = 1\n" + Good().substr(std::string(kCluster).size())),
           "cluster is an integer; allowed: a table");
  Contains(Refusal(Replaced("name = \"main\"", "name = \"\"")), "name is empty");
}

TEST_CASE("values out of range") {
  Contains(Refusal(With("[coordinator]", "lease = \"99ms\"")),
           "lease is 99ms; allowed: 100ms or more");
  Contains(Refusal(With("[coordinator]", "heartbeat = \"501ms\"")), "at least two heartbeats");
  Contains(Refusal(With("[coordinator]", "leader_ttl = \"1s\"")), "leader_ttl is 1s; allowed: 2s");
  Contains(Refusal(With("[coordinator]", "leader_ttl = \"2500ms\"")), "allowed: whole seconds");
  Contains(Refusal(With("[coordinator]", "drift_per_mille = -1")), "allowed: an integer, 0 to 500");
  Contains(Refusal(With("name = \"main\"", "replicas = 0")),
           "replicas is 0; allowed: an integer, 1");
  Contains(Refusal(With("name = \"main\"", "replicas = 3")), "the chain has 2 nodes");
  Contains(Refusal(With("name = \"main\"", "consistency = \"strong\"")),
           "unknown consistency \"strong\"; allowed: linearizable, sequential, eventual, tail");
  Contains(Refusal(With("name = \"main\"", "recovery = \"magic\"")),
           "allowed: operator, automatic");
  Contains(Refusal(With("[cluster]", "log_level = \"loud\"")), "allowed: debug, info, warn, error");
  Contains(Refusal(With("name = \"main\"", "limits = {backlog_bytes = \"1b\"}")),
           "allowed: 16kb or more");
  Contains(Refusal(With("name = \"main\"", "limits = {log_bytes_max = \"1x\"}")),
           "not a number of bytes");
  Contains(Refusal(With("name = \"main\"", "limits = {clients_max = 0}")), "clients_max is 0");
  Contains(Refusal(Replaced("name = \"main\"", "name = \"a b\"")), "unusable name \"a b\"");
  Contains(Refusal(Replaced("id = \"a\"", "id = \"a/b\"")), "unusable id \"a/b\"");
}

TEST_CASE("unusable addresses") {
  Contains(Refusal(Replaced("10.0.0.1:6380", "10.0.0.1")), "clients: \"10.0.0.1\" is no address");
  Contains(Refusal(Replaced("10.0.0.1:6390", "0.0.0.0:6390")),
           "peers: \"0.0.0.0:6390\" is nowhere");
  Contains(Refusal(Replaced("10.0.0.1:7400", "10.0.0.1:0")),
           "listen: \"10.0.0.1:0\" is no address");
  Contains(Refusal(Replaced("http://10.0.0.1:2379", "10.0.0.1:2379")), "allowed: http://host:port");
  Contains(Refusal(Replaced("[\"http://10.0.0.1:2379\"]",
                            "[\"http://10.0.0.1:2379\", \"http://10.0.0.1:2379\"]")),
           "is there twice");
}

TEST_CASE("addresses for HTTP") {
  const auto config = ParseText(With("[coordinator]", "admin = [\"127.0.0.1:7480\"]"));
  REQUIRE(config);
  CHECK(config->coordinator.admin == std::vector<std::string>{"127.0.0.1:7480"});
  CHECK(config->chains[0].nodes[0].admin.empty());
  Contains(Refusal(With("[coordinator]", "admin = [\"10.0.0.1:7480\", \"10.0.0.2:7480\"]")),
           "admin has 2 addresses and listen 1; allowed: one for each of listen");
  Contains(Refusal(With("[coordinator]", "admin = [\"10.0.0.1:7400\"]")), "is used twice");
  Contains(Refusal(With("id = \"a\"", "admin = \"10.0.0.1:6390\"")), "is used twice");
  Contains(Refusal(With("id = \"a\"", "admin = \"0.0.0.0:6480\"")),
           "admin: \"0.0.0.0:6480\" is nowhere");
}

TEST_CASE("everything is used once") {
  Contains(Refusal(Replaced("id = \"b\"", "id = \"a\"")),
           "node id \"a\" is used twice (first in line 10)");
  Contains(Refusal(Replaced("10.0.0.2:6380", "10.0.0.1:6380")),
           "address \"10.0.0.1:6380\" is used twice");
  Contains(Refusal(Replaced("10.0.0.2:6380", "10.0.0.2:6390")),
           "address \"10.0.0.2:6390\" is used twice");
  Contains(Refusal(Replaced("10.0.0.2:6380", "10.0.0.1:7400")),
           "address \"10.0.0.1:7400\" is used twice");
  Contains(Refusal(Good() + "replication = \"10.0.0.2:6390\"\n"), "is used twice");
  Contains(Refusal(Good() + kChain + NodeText("c", "10.0.0.3")),
           "chain name \"main\" is used twice");
  Contains(Refusal(Good() + "[[chain]]\nname = \"other\"\n" + NodeText("a", "10.0.0.3")),
           "node id \"a\" is used twice");
  const std::string user = "[[chain.user]]\nname = \"x\"\npassword = \"y\"\n";
  Contains(Refusal(Good() + user + user), "user name \"x\" is used twice");
}

TEST_CASE("a loopback backend belongs to its machine") {
  // Each of two machines has a Redis at 127.0.0.1:6379 of its own; one machine has only one.
  REQUIRE(ParseText(Good()));
  const std::string head = std::string(kCluster) + kCoordinator + kChain;
  Contains(Refusal(head + NodeText("a", "127.0.0.1") +
                   "[[chain.node]]\nid = \"b\"\nclients = \"127.0.0.1:6381\"\n"
                   "peers = \"127.0.0.1:6391\"\nbackend = \"redis://localhost:6379\"\n"),
           "backend \"localhost:6379\" is used twice");
  Contains(Refusal(head + NodeText("a", "10.0.0.1", "redis://10.0.0.9:1") +
                   NodeText("b", "10.0.0.2", "redis://10.0.0.9:1")),
           "backend \"10.0.0.9:1\" is used twice");
  Contains(Refusal(head + NodeText("a", "127.0.0.1", "unix:///run/r.sock") +
                   "[[chain.node]]\nid = \"b\"\nclients = \"127.0.0.1:6381\"\n"
                   "peers = \"127.0.0.1:6391\"\nbackend = \"unix:///run/r.sock\"\n"),
           "is used twice");
  CHECK(ParseText(head + NodeText("a", "10.0.0.1", "rocksdb:///db") +
                  NodeText("b", "10.0.0.2", "rocksdb:///db")));
}

TEST_CASE("one kind of backend in a chain") {
  const std::string text =
      Refusal(std::string(kCluster) + kCoordinator + kChain + NodeText("a", "10.0.0.1") +
              NodeText("b", "10.0.0.2", "rocksdb:///db"));
  Contains(text, "c.toml:18:11: backend is of another kind");
}

TEST_CASE("passwords of users") {
  const auto with = [](const std::string& password) {
    return Good() + "[[chain.user]]\nname = \"u\"\npassword = \"" + password + "\"\n";
  };
  CHECK(ParseText(with("plain")));
  CHECK(ParseText(with("sha256:" + std::string(64, 'a'))));
  Contains(Refusal(with("sha256:abc")), "sha256: and 64 hexadecimal digits");
  Contains(Refusal(with("sha256:" + std::string(64, 'g'))), "sha256: and 64 hexadecimal digits");
  Contains(Refusal(with("")), "password is empty");
}

TEST_CASE("what users may do") {
  const auto with = [](const std::string& line) {
    return Good() + "[[chain.user]]\nname = \"u\"\npassword = \"p\"\n" + line + "\n";
  };
  const auto plain = ParseText(with(""));
  REQUIRE(plain);
  CHECK(plain->chains[0].users[0].access == Access::kAll);
  CHECK(plain->chains[0].users[0].keys == std::vector<std::string>{"*"});
  CHECK(plain->chains[0].users[0].channels == std::vector<std::string>{"*"});
  Contains(Refusal(with("access = \"write\"")),
           "unknown access \"write\"; allowed: all, read-only");
  Contains(Refusal(with("keys = \"a*\"")), "keys is a string; allowed: an array of strings");
  Contains(Refusal(with("keys = [1]")), "keys holds an integer; allowed: strings");
  Contains(Refusal(with("channels = [\"\"]")), "channels holds an empty pattern");
  Contains(Refusal(with("key = [\"a\"]")), "did you mean keys?");
}

TEST_CASE("the secret's file") {
  TemporaryDirectory directory;
  const auto refusal = [&] {
    const auto config = Parse(Good(), "c.toml", directory.path());
    CHECK_FALSE(config);
    return config ? "" : config.error().message;
  };
  Contains(refusal(), "c.toml:3:15: cannot read secret_file " + directory.path() +
                          "/secret: No such file or directory");
  directory.Write("secret", " \n");
  Contains(refusal(), "holds nothing; allowed: a file with at least 8 bytes of secret");
  directory.Write("secret", "1234567\n");
  Contains(refusal(), "holds too short a secret");
  CHECK(refusal().find("1234567") == std::string::npos);
  std::filesystem::remove(directory.path() + "/secret");
  std::filesystem::create_directory(directory.path() + "/secret");
  Contains(refusal(), "cannot read secret_file");
}

TEST_CASE("passwords in files") {
  TemporaryDirectory directory;
  directory.Write("secret", "0123456789abcdef\n");
  directory.Write("word", "open sesame\n");
  directory.Write("empty", "\n");
  directory.Write("hash", "sha256:12\n");
  const auto parse = [&](const std::string& node, const std::string& user) {
    return Parse(std::string(kCluster) + kCoordinator + kChain +
                     (user.empty() ? "" : "[[chain.user]]\nname = \"u\"\n" + user + "\n") +
                     NodeText("a", "10.0.0.1",
                              node.find("://") != std::string::npos ? node.substr(0, node.find(' '))
                                                                    : "redis://127.0.0.1:6379") +
                     (node.find(' ') != std::string::npos ? node.substr(node.find(' ') + 1) : "") +
                     "\n",
                 "c.toml", directory.path());
  };
  const auto refusal = [&](const std::string& node, const std::string& user) {
    const auto config = parse(node, user);
    CHECK_FALSE(config);
    return config ? "" : config.error().message;
  };
  const std::string file = "backend_password_file = \"word\"";
  auto config = parse("redis://u@127.0.0.1:1 " + file, "password_file = \"word\"");
  REQUIRE(config);
  CHECK(config->chains[0].users[0].password == "open sesame");
  const BackendUrl& backend = config->chains[0].nodes[0].backend;
  CHECK(backend.user == "u");
  CHECK(backend.password == "open sesame");
  CHECK(backend.text == "redis://:***@127.0.0.1:1");

  Contains(refusal("", "password = \"x\"\npassword_file = \"word\""),
           "[[chain.user]] has two passwords; allowed: password or password_file");
  Contains(refusal("", "access = \"all\""), "[[chain.user]] has no password");
  Contains(refusal("", "password_file = \"none\""), "c.toml:11:17: cannot read password_file " +
                                                        directory.path() +
                                                        "/none: No such file or directory");
  Contains(refusal("", "password_file = \"empty\""), "/empty holds nothing");
  Contains(refusal("", "password_file = \"hash\""), "begins with sha256: and no hash follows");
  Contains(refusal("redis://:x@127.0.0.1:1 " + file, ""), "beside a backend URL with a password");
  Contains(refusal("rocksdb:///d " + file, ""), "beside a backend without passwords");
  Contains(refusal("redis://u@127.0.0.1:1", ""), "backend names a user and no password");
}

TEST_CASE("TLS: what speaks it needs its files") {
  const auto with = [](const std::string& tls) { return Good() + "[tls]\n" + tls + "\n"; };
  const std::string own = "certificate_file = \"n.pem\"\nkey_file = \"/k/n.key\"\n";
  const std::string all = own + "ca_file = \"ca.pem\"\n";
  const auto config =
      ParseText(with(all + "clients = \"mutual\"\npeers = true\ncoordinators = true"));
  REQUIRE(config);
  CHECK(config->tls.clients == ClientTls::kMutual);
  CHECK(config->tls.peers);
  CHECK(config->tls.coordinators);
  CHECK(config->tls.certificate_file.ends_with("/n.pem"));
  CHECK(config->tls.key_file == "/k/n.key");
  CHECK(ParseText(with("")));
  CHECK(ParseText(with(own + "clients = \"on\"")));
  Contains(Refusal(with("clients = \"on\"")),
           "clients needs a certificate; allowed: [tls] certificate_file and key_file");
  Contains(Refusal(with(own + "clients = \"mutual\"")), "clients = \"mutual\" needs a CA");
  Contains(Refusal(with("peers = true")), "peers = true needs a certificate");
  Contains(Refusal(with("peers = true")), "peers = true needs a CA");
  Contains(Refusal(with("clients = \"yes\"")), "unknown clients \"yes\"; allowed: off, on, mutual");
  Contains(Refusal(with("key_file = \"k\"")), "certificate_file or key_file alone");
  Contains(Refusal(Good() + "tls = 1\n"), "tls");

  const std::string chain = std::string(kCluster) + kCoordinator + kChain;
  const std::string secure = chain + NodeText("a", "10.0.0.1", "rediss://u:p@10.0.0.1:6379");
  Contains(Refusal(secure), "rediss://u:***@10.0.0.1:6379 needs a CA");
  Contains(Refusal(secure), "rediss://u:***@10.0.0.1:6379 needs a certificate");
  const auto backend = ParseText(secure + "[tls]\n" + all);
  REQUIRE(backend);
  CHECK(backend->chains[0].nodes[0].backend.tls);
  CHECK(backend->chains[0].nodes[0].backend.address == "10.0.0.1:6379");
  const std::string etcd =
      std::string(kCluster) +
      "[coordinator]\nlisten = [\"10.0.0.1:7400\"]\netcd = [\"https://10.0.0.1:2379\"]\n" + kChain +
      NodeText("a", "10.0.0.1");
  Contains(Refusal(etcd), "https://10.0.0.1:2379 needs a CA");
}

TEST_CASE("ports that others reach without a password or without TLS are told") {
  const auto warnings = [](const std::string& text) {
    const auto config = ParseText(text);
    REQUIRE(config);
    return Warnings(*config);
  };
  const std::string head = std::string(kCluster) + kCoordinator + kChain;
  const std::string user = "[[chain.user]]\nname = \"u\"\npassword = \"p\"\n";
  const std::string tls = "[tls]\ncertificate_file = \"c\"\nkey_file = \"k\"\nca_file = \"a\"\n";
  const std::string out = NodeText("a", "10.0.0.1");
  CHECK(warnings(head + NodeText("a", "127.0.0.1")).empty());
  const auto both = warnings(head + out);
  REQUIRE(both.size() == 2);
  Contains(both[0], "node a: the clients' port 10.0.0.1:6380 is open to whoever reaches it");
  Contains(both[1], "node a: the clients' port 10.0.0.1:6380 is not encrypted");
  CHECK(warnings(head + user + out).size() == 1);
  CHECK(warnings(head + out + tls + "clients = \"on\"\n").size() == 1);
  CHECK(warnings(head + user + out + tls + "clients = \"on\"\n").empty());
  CHECK(warnings(head + out + tls + "clients = \"mutual\"\n").empty());
}

TEST_CASE("files are found beside each other") {
  TemporaryDirectory directory;
  directory.Write("secret", "a long secret  \t\r\n");
  const std::string path = directory.Write("c.toml", Good());
  const auto config = Load(path);
  REQUIRE(config);
  CHECK(config->cluster.secret == "a long secret");
  CHECK(config->path == path);
  const auto missing = Load(directory.path() + "/none.toml");
  REQUIRE_FALSE(missing);
  Contains(missing.error().message, "none.toml: cannot read the file: No such file");
}

TEST_CASE("a node is found by its id, wherever it is") {
  const auto config =
      ParseText(Good() + "[[chain]]\nname = \"other\"\n" + NodeText("z", "10.0.0.3"));
  REQUIRE(config);
  const auto found = config->FindNode("z");
  REQUIRE(found);
  CHECK(found->chain->name == "other");
  CHECK(found->node->clients == "10.0.0.3:6380");
  Contains(config->FindNode("q").error().message, "no node \"q\"; allowed: a, b, z");
}

TEST_CASE("a table's name that begins with what no name begins with is an error, not an end") {
  for (const std::string& name : {std::string("%"), std::string("\x1a"), std::string("\u00e4")}) {
    Contains(Refusal("[cluster]\n[" + name + "]\n"), "c.toml:2:2: ");
  }
}

TEST_CASE("a letter beyond ASCII outside of strings and comments is named by its place") {
  Contains(Refusal("\u04ce = 1\n"), "c.toml:1:1: ");
  Contains(Refusal("[cluster]\nname = \"x\" \u00e4\n"), "c.toml:2:12: ");
  CHECK(ParseText(Good() + "# \u00e4\n"));
}

}  // namespace
}  // namespace catena::config
