// Sends a workload over many connections from one thread, on epoll.
//
// Closed loop (rate 0): each connection sends `pipeline` operations in one packet, waits for all
// their answers, and sends the next, as redis-benchmark does. Open loop: operations are due at a
// fixed rate (schedule.h); a connection has at most `pipeline` of them under way, the others wait
// at their due times.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "integration/bench/generator/recorder.h"
#include "integration/bench/generator/schedule.h"
#include "integration/bench/generator/workload.h"
#include "proxy/base/result.h"
#include "proxy/base/ring.h"
#include "proxy/io/tls_session.h"
#include "proxy/resp/decoder.h"

namespace catena::bench {

struct EngineOptions {
  std::vector<std::string> targets;  // "host:port"; connections take them in turn
  size_t connections = 50;           // in all
  size_t pipeline = 1;
  double rate = 0;          // operations a second in all; 0: closed loop
  double warmup = 0.2;      // seconds that are not counted
  double seconds = 1;       // that are counted
  uint64_t operations = 0;  // > 0: end after so many instead, counting all of them
  double interval = 0;      // of the timeline, seconds; 0: none
  std::string first;        // command that each connection sends first, words split by spaces
  std::string tls_ca;       // PEM file of the targets' CA: connections speak TLS
  bool reconnect = false;   // go on at the next target when a connection breaks; else that is fatal
  const std::atomic<bool>* stop = nullptr;  // ends the run early
};

class Engine {
 public:
  Engine(EngineOptions options, Workload workload);
  ~Engine();
  Engine(const Engine&) = delete;

  // Connects, runs and reports; the error says which target failed and how.
  Result<nlohmann::json> Run();

 private:
  struct Operation {
    uint64_t due = 0, sent = 0;
    Kind kind = Kind::kRead;
    int replies = 0;       // still missing
    bool setup = false;    // the first command: not counted
    bool refused = false;  // one of its replies was an error
  };
  struct Connection {
    int fd = -1;
    size_t target = 0;
    bool connecting = false;
    uint64_t retry_at = 0;  // when down
    bool wants_write = false;
    std::string out;  // not yet accepted by the socket: out.substr(out_sent)
    size_t out_sent = 0;
    std::unique_ptr<io::TlsSession> tls;
    std::string commands;  // with TLS: not yet encrypted to `out`
    std::string in;        // the beginning of a reply
    resp::ReplyScanner scanner;
    Ring<Operation> in_flight;
    std::optional<Schedule> schedule;
  };

  Result<bool> ConnectAll();
  Result<bool> Loop();
  bool Finished(uint64_t now) const;
  uint64_t NextWake(uint64_t now) const;
  void Wait(uint64_t now);
  void OnEvent(Connection& connection, uint32_t events);
  void Dial(Connection& connection);
  void OnConnected(Connection& connection);
  void OnReady(Connection& connection);  // connected, and hands are shaken
  // What to append commands to.
  static std::string& Unsent(Connection& connection) {
    return connection.tls ? connection.commands : connection.out;
  }
  void TakeEncrypted(Connection& connection);
  // What `bytes` are in plain text; nothing if the connection broke.
  std::string_view Decrypt(Connection& connection, std::string_view bytes);
  void Break(Connection& connection, const std::string& why);
  void Read(Connection& connection);
  // Takes whole replies off the front; returns how many bytes they are.
  size_t TakeReplies(Connection& connection, std::string_view bytes, uint64_t now);
  void TakeReply(Connection& connection, std::string_view reply, uint64_t now);
  void Issue(Connection& connection, uint64_t now);
  void Append(Connection& connection, uint64_t due, uint64_t now);
  void Flush(Connection& connection);
  void Watch(Connection& connection, bool write);
  void StartClock();

  EngineOptions options_;
  Workload workload_;
  Recorder recorder_;
  std::vector<Connection> connections_;
  std::vector<char> read_buffer_;
  std::shared_ptr<io::TlsContext> tls_;  // null: plain
  std::vector<char> plain_buffer_;
  int epoll_ = -1;
  size_t set_up_ = 0;  // connections whose first command was answered, or that need none
  bool started_ = false;
  uint64_t begin_ = 0, end_ = 0;  // of what is counted
  uint64_t issued_ = 0, completed_ = 0;
  std::string fatal_;
};

}  // namespace catena::bench
