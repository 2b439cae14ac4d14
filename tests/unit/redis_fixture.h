// A node of the Redis backend's tests: its backend, and what that says.
#pragma once

#include <memory>
#include <string>

#include "backends/redis/redis_backend.h"
#include "tests/support/redis_server.h"
#include "tests/unit/backend_fixture.h"

namespace catena::test {

struct Node : EventLog {
  Node(Loop& loop, const std::string& address, redis::RedisOptions options = {}) : loop_(loop) {
    options.address = address;
    if (options.node.empty()) options.node = "n";
    if (options.incarnation == Incarnation()) options.incarnation = Incarnation(1);
    redis = redis::MakeRedisBackend(loop.reactor(), options);
    redis->Start(this);
  }
  bool AwaitExamined() {
    return loop_.Until([this] { return !examined.empty(); });
  }
  bool Attach() {
    redis->AttachCapture();
    return loop_.Until([this] { return attached.has_value(); });
  }

  std::unique_ptr<backend::Backend> redis;

 private:
  Loop& loop_;
};

inline Snapshot Take(Loop& loop, Node& node) { return Take(loop, *node.redis); }

inline bool Load(Loop& loop, Node& node, const Snapshot& snapshot, backend::FeedSource* source,
                 size_t chunk = 64u << 10) {
  return Load(loop, *node.redis, node, snapshot, source, chunk);
}

inline std::string Digest(const RedisServer& server) {
  return server.Client().Text({"DEBUG", "DIGEST"});
}

}  // namespace catena::test
