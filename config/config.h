// The one TOML file of a cluster as typed, validated values (design.md 11). Every error names
// file:line:column, what is wrong and what is allowed. Mains unpack these structs into the small
// Options of each part; no lower layer sees them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/clock.h"
#include "proxy/base/result.h"

namespace catena::config {

enum class Consistency { kLinearizable, kSequential, kEventual, kTail };
enum class BackendKind { kRedis, kRocksDb };
enum class Recovery { kOperator, kAutomatic };
// When what a RocksDB has applied is on the disk.
enum class Sync { kAlways, kInterval, kNever };
enum class Access { kAll, kReadOnly };
// TLS on the clients' ports: none; with our certificate; and with one of theirs by our CA as well.
enum class ClientTls { kOff, kOn, kMutual };

struct Cluster {
  std::string name;
  std::string secret_file;          // as written; relative to the TOML file's directory
  std::string secret;               // its content without trailing white space; >= 8 bytes
  std::string log_level = "info";   // debug | info | warn | error
  std::string log_format = "text";  // text | json
};

struct Coordinator {
  std::vector<std::string> listen;  // host:port of each coordinator
  // host:port for HTTP of each coordinator, in the order of `listen`; empty: none
  std::vector<std::string> admin;
  std::vector<std::string> etcd;  // http://host:port or https://host:port
  Duration heartbeat = std::chrono::milliseconds(200);
  Duration lease = std::chrono::seconds(1);  // >= 2 * heartbeat
  // Share of the lease a proxy gives up against clock drift between machines, in parts per
  // thousand.
  int drift_per_mille = 20;
  Duration leader_ttl =
      std::chrono::seconds(2);  // etcd lease of the leader key, whole seconds >= 2
};

// Paths are those of the TOML, joined to its directory; "" where it names none. What is in the files
// is not looked at here.
struct Tls {
  std::string ca_file;
  std::string certificate_file, key_file;  // both or none
  ClientTls clients = ClientTls::kOff;
  bool peers = false;         // TLS with certificates on both sides
  bool coordinators = false;  // the same
};

struct BackendUrl {
  BackendKind kind = BackendKind::kRedis;
  bool tls = false;     // rediss://
  std::string text;     // as written, password replaced by ***
  std::string address;  // "host:port" or "unix:///path"; RocksDB: the directory
  std::string user, password;
};

// What clients must say to AUTH, and what they may do then. No users: no AUTH needed, everything
// allowed.
struct User {
  std::string name;           // "default" is the one of AUTH with one argument
  std::string password;       // plain, or "sha256:<64 hex>"; perhaps from password_file
  std::string password_file;  // as written
  Access access = Access::kAll;
  // Redis' patterns; none: no key, no channel.
  std::vector<std::string> keys = {"*"};
  std::vector<std::string> channels = {"*"};
};

// Bounds of everything that could grow (I9). Reaching one slows the sender down.
struct Limits {
  // Bytes of committed entries kept behind the applied position for partial resyncs.
  size_t backlog_bytes = 64u << 20;
  // Uncommitted bytes after which a head takes no further commands until some commit.
  size_t log_bytes_max = 256u << 20;
  // Per connection: unread reply bytes, then commands of that connection wait.
  size_t client_output_bytes_max = 64u << 20;
  // Per connection: commands sent on and not yet answered.
  size_t client_pipeline_max = 100'000;
  // All clients together: bytes of commands waiting for the backend or the head.
  size_t pending_bytes_max = 128u << 20;
  size_t bulk_bytes_max = 512u << 20;
  size_t command_bytes_max = 1024u << 20;
  size_t clients_max = 10'000;
  // Log that a tail pins for a joiner; beyond it the join is given up and starts again.
  size_t join_bytes_max = 1024u << 20;
};

// How the nodes of a chain use their RocksDB. What is not set is as the directory's OPTIONS file has
// it, or as the program chooses in a new directory.
struct RocksDb {
  size_t block_cache = 512u << 20;
  std::optional<size_t> write_buffer;
  std::optional<int> open_files;
  std::optional<int> background_jobs;
  Sync sync = Sync::kAlways;
  Duration sync_interval = std::chrono::seconds(1);  // with kInterval
};

struct Node {
  std::string id;
  std::string clients;
  std::string peers;
  std::string replication = "127.0.0.1:0";  // where the node's own Redis finds its proxy as master
  std::string admin;                        // host:port for HTTP; "" none
  BackendUrl backend;
  std::string backend_password_file;  // as written; its content is in backend.password
  bool overwrite = false;
};

struct Chain {
  std::string name;
  int replicas = 0;  // default: the number of nodes
  Consistency consistency = Consistency::kLinearizable;
  Duration write_timeout =
      std::chrono::seconds(5);  // a command waits so long for a head or a commit
  Duration max_staleness{0};    // of eventual reads, at least two heartbeats; 0: unbounded
  // What happens when no member is left that certainly has everything (design.md 6): "operator"
  // waits for catenactl choose; "automatic" takes the last head again when all nodes are back.
  Recovery recovery = Recovery::kOperator;
  Limits limits;
  RocksDb rocksdb;
  std::vector<User> users;
  std::vector<Node> nodes;  // head-to-tail order for a new chain; one kind of backend
};

struct Config {
  std::string path;
  Cluster cluster;
  Coordinator coordinator;
  Tls tls;
  std::vector<Chain> chains;

  // The chain and node with this node id. Node ids are unique in the whole file.
  struct NodeRef {
    const Chain* chain;
    const Node* node;
  };
  Result<NodeRef> FindNode(std::string_view id) const;
};

// Reads and validates. On failure the error holds ALL problems found, one a line.
Result<Config> Load(const std::string& path);
// The same for text already read; `directory` is where secret_file is looked up.
Result<Config> Parse(std::string_view text, const std::string& path, const std::string& directory);

// What is allowed and perhaps not meant, one sentence each: clients' ports that others than this
// machine reach without a password, or without TLS.
std::vector<std::string> Warnings(const Config& config);

// "200ms", "1s", "5m", "1h" (an integer and a unit; us, ms, s, m, h).
Result<Duration> ParseDuration(std::string_view text);
// "64mb", "1gb", "512kb", "100b" or a plain integer of bytes (kb = 1024).
Result<size_t> ParseBytes(std::string_view text);
// The same back to text, in the largest unit that leaves an integer: "1500ms", "64mb".
std::string FormatDuration(Duration duration);
std::string FormatBytes(size_t bytes);

}  // namespace catena::config
