// What a node's parts are told at start, unpacked from the TOML by main.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/auth/proof.h"
#include "proxy/base/clock.h"
#include "proxy/base/ids.h"
#include "proxy/command/user_rights.h"

namespace catena::server {

// design.md 4: how a connection's reads are answered.
enum class Consistency { kLinearizable, kSequential, kEventual, kTail };

// "linearizable" ...; nullptr-terminated order of the enum.
const char* ConsistencyName(Consistency consistency);

struct User {
  std::string name;
  std::string password;  // plain, or "sha256:<64 hex>"
  command::UserRights rights;
};

// nullptr: there is none.
const User* FindUser(const std::vector<User>& users, std::string_view name);

struct Options {
  std::string chain;
  NodeId node;
  std::string clients_address;
  std::string peers_address;
  std::string
      backend_address;  // without credentials; tells the coordinator one database from another
  bool overwrite = false;
  bool measures_times = false;  // somebody can ask how long things take
  Consistency consistency = Consistency::kLinearizable;
  Duration write_timeout = std::chrono::seconds(5);
  Duration max_staleness{0};  // of eventual reads; 0: unbounded
  std::vector<User> users;    // empty: no AUTH needed
  auth::Credentials credentials;

  std::vector<std::string> coordinators;
  Duration heartbeat = std::chrono::milliseconds(200);
  Duration lease = std::chrono::seconds(1);
  int drift_per_mille = 20;

  // Bounds (I9); meanings and defaults in config/config.h.
  size_t backlog_bytes = 64u << 20;
  size_t log_bytes_max = 256u << 20;
  size_t client_output_bytes_max = 64u << 20;
  size_t client_pipeline_max = 100'000;
  size_t pending_bytes_max = 128u << 20;
  size_t bulk_bytes_max = 512u << 20;
  size_t clients_max = 10'000;
  size_t join_bytes_max = 1024u << 20;
  size_t command_bytes_max = 1024u << 20;
  size_t descriptors_max = SIZE_MAX;  // RLIMIT_NOFILE
};

}  // namespace catena::server
