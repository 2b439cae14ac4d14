// One blocking connection with a deadline for everything on it. A command line tool has one thing
// to do at a time; an event loop would only hide the order of it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "proxy/base/clock.h"
#include "proxy/base/result.h"
#include "proxy/io/tls_session.h"
#include "proxy/resp/value.h"

namespace catena::cli {

// Closes its socket when destroyed. Movable. Not thread-safe.
class Connection {
 public:
  // `address`: "host:port" or "unix:///path". `patience` is the time for connecting and for all
  // that follows on this connection. With `tls` the other side's certificate must come from its CA
  // and name the host.
  static Result<Connection> Open(const std::string& address, Duration patience,
                                 const io::TlsContext* tls);

  Connection(Connection&& other) noexcept;
  Connection& operator=(Connection&& other) noexcept;
  ~Connection();

  // From now on there is so much time for what follows.
  void SetPatience(Duration patience);

  Result<void> Write(std::string_view bytes);
  // Appends what arrives next to input(), with TLS perhaps nothing; an error when the peer closes or
  // the time is up.
  Result<void> Read();
  // Everything until the peer closes.
  Result<std::string> ReadAll();
  // The next RESP value, which is taken out of input().
  Result<resp::Value> ReadValue();
  // Received bytes that nobody took yet.
  std::string& input() { return input_; }

 private:
  Connection(int fd, int64_t deadline_ms) : fd_(fd), deadline_ms_(deadline_ms) {}
  Result<void> ShakeHands(const io::TlsContext& tls, const std::string& address);
  Result<void> SendAll(std::string_view bytes);
  // What arrives next, in `buffer`; at least one byte.
  Result<std::string_view> Receive(std::string& buffer);
  // Appends what `bytes` decrypt to to input_, and sends what is to be answered.
  Result<void> Decrypt(std::string_view bytes);
  // Waits for poll(2)'s `events`.
  Result<void> Await(short events);

  int fd_ = -1;
  int64_t deadline_ms_ = 0;  // of CLOCK_MONOTONIC
  std::string input_;
  std::unique_ptr<io::TlsSession> tls_;  // null: plain
};

}  // namespace catena::cli
