// A stock Redis server as the database behind a node (design.md 7). The head's Redis is attached to
// as a replica would (its replication stream is the effect stream); a follower's Redis is a replica
// of ours, fed with the committed part of the log.
//
// Example:
//   auto redis = redis::MakeRedisBackend(reactor, {.address = "127.0.0.1:6379", .node = "a"});
//   redis->Start(&events);        // events.OnExamined follows, however long it takes
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "backends/backend.h"
#include "proxy/base/clock.h"
#include "proxy/base/ids.h"
#include "proxy/io/reactor.h"

namespace catena::redis {

struct RedisOptions {
  std::string address;         // "host:port" or "unix:///path"
  std::string user, password;  // both empty: no AUTH; only a password: the default user
  // The reactor's connections speak TLS; so must those that the Redis makes to us.
  bool tls = false;
  // Where we listen as the master of this Redis. Port 0: any free one. The host must be reachable
  // from the Redis; 0.0.0.0 is announced to it as the address from which we reach it.
  std::string replication_address = "127.0.0.1:0";
  std::string node;  // our id, for CLIENT SETNAME catena:<node>:<incarnation>
  Incarnation incarnation;

  // How long a broken control connection may take to come back to the same process before the
  // database counts as lost. A dropped connection is remade in a few milliseconds; a process that
  // died is not back within this time, and a failover must not wait longer for it.
  Duration reconnect_grace = std::chrono::milliseconds(300);
  // No answer at all for so long: the process hangs. More than Redis's own busy-reply-threshold (5
  // s), after which a server that runs a slow script answers -BUSY and so shows that it lives.
  Duration hang_timeout = std::chrono::seconds(6);
  // The same while it replaces its data by a snapshot: dropping the old data may block it for long.
  Duration hang_timeout_loading = std::chrono::seconds(60);
  Duration retry_interval = std::chrono::milliseconds(150);  // connecting, loading
  Duration problem_interval = std::chrono::seconds(1);       // wrong password, missing permission
  Duration check_interval = std::chrono::seconds(1);         // INFO while in use, and REPLCONF ACK
  // Attaching to its stream takes a few round trips; one that forks for a snapshot may be late.
  Duration attach_timeout = std::chrono::seconds(10);
  // The Redis must ask for the feed or the snapshot within this time after REPLICAOF.
  Duration feed_connect_timeout = std::chrono::seconds(10);

  size_t feed_unsent_max = 256u << 10;    // bytes written to the Redis and not taken by the kernel
  size_t snapshot_buffer_max = 4u << 20;  // bytes of a snapshot that wait for the Redis
};

std::unique_ptr<backend::Backend> MakeRedisBackend(io::Reactor& reactor, RedisOptions options);

}  // namespace catena::redis
