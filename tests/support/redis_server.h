// A real redis-server for a test: on loopback, in a directory of its own, gone with the object.
#pragma once

#include <hiredis/hiredis.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace catena::test {

struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using Reply = std::unique_ptr<redisReply, FreeReply>;

// A direct client, past every proxy. Blocking.
class DirectClient {
 public:
  explicit DirectClient(int port);
  // One command; nullptr: the connection broke.
  Reply Run(const std::vector<std::string>& arguments);
  // The same, its answer as text ("" for nil, numbers in decimal, errors with their code).
  std::string Text(const std::vector<std::string>& arguments);
  bool connected() const { return context_ != nullptr && context_->err == 0; }

 private:
  struct FreeContext {
    void operator()(redisContext* context) const { redisFree(context); }
  };
  std::unique_ptr<redisContext, FreeContext> context_;
};

// A port that nobody listens on now.
int FreePort();

class RedisServer {
 public:
  // Started and answering when constructed. `options` as on redis-server's command line
  // ("--aclfile", ...).
  explicit RedisServer(std::vector<std::string> options = {});
  ~RedisServer();
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  int port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  const std::string& directory() const { return directory_; }
  pid_t pid() const { return pid_; }
  // kill -9 or another signal; SIGKILL and SIGTERM wait for the end.
  void Signal(int signal);
  // After a Signal that ended it: the same port and directory.
  void Restart();
  DirectClient Client() const { return DirectClient(port_); }
  // A field of INFO, "" when absent.
  std::string Info(const std::string& field) const;
  // Lines of its log that contain `text`.
  int LogLines(const std::string& text) const;

 private:
  void Spawn();

  std::vector<std::string> options_;
  int port_;
  std::string directory_;
  pid_t pid_ = -1;
};

}  // namespace catena::test
