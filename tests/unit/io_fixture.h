// A loop and the two ends of a connection, for tests of streams on real sockets.
#pragma once

#include <doctest/doctest.h>
#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "proxy/io/reactor.h"
#include "proxy/io/socket.h"
#include "proxy/io/uv_reactor.h"

namespace catena::io {

inline std::string Pattern(size_t size, unsigned seed) {
  std::string bytes(size, '\0');
  unsigned state = seed * 2654435761u + 1;
  for (char& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

// One end of a connection: records what happens, and does what the test asks it to.
struct End : StreamHandler {
  std::unique_ptr<Stream> stream;
  std::string received;
  int reads = 0;
  int drained = 0;
  bool connected = false;
  bool closed = false;
  std::string reason;
  std::function<void()> on_connected, on_read, on_closed, on_drained;

  void OnConnected() override {
    connected = true;
    if (on_connected) on_connected();
  }
  void OnRead(std::string_view bytes) override {
    CHECK(!closed);
    received += bytes;
    ++reads;
    if (on_read) on_read();
  }
  void OnClosed(std::string_view why) override {
    CHECK(!closed);
    closed = true;
    reason = why;
    if (on_closed) on_closed();
  }
  void OnDrained() override {
    ++drained;
    if (on_drained) on_drained();
  }
};

class Loop {
 public:
  Loop() : reactor(MakeUvReactor()) {
    reactor->AddTurnEndHook([this] {
      ++turns;
      if (done_ && done_()) reactor->Stop();
    });
    guard_ = reactor->MakeTimer([this] {
      timed_out_ = true;
      reactor->Stop();
    });
  }

  // Runs the loop until `done` holds at the end of a turn.
  void Until(std::function<bool()> done) {
    if (done()) return;
    done_ = std::move(done);
    guard_->Start(std::chrono::seconds(30));
    reactor->Run();
    guard_->Stop();
    done_ = nullptr;
    REQUIRE_FALSE(timed_out_);
  }
  // Lets everything happen that a wrong implementation would do within `time`.
  void For(Duration time) {
    bool over = false;
    const auto timer = reactor->MakeTimer([&] { over = true; });
    timer->Start(time);
    Until([&] { return over; });
  }

  std::unique_ptr<Reactor> reactor;
  int turns = 0;

 private:
  std::function<bool()> done_;
  std::unique_ptr<Timer> guard_;
  bool timed_out_ = false;
};

// A plain blocking socket connected to `address` ("127.0.0.1:port").
inline int RawConnect(const std::string& address) {
  const auto endpoint = ParseAddress(address);
  REQUIRE(endpoint);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const SocketAddress& target = endpoint->addresses.front();
  REQUIRE(connect(fd, target.get(), target.length) == 0);
  return fd;
}

}  // namespace catena::io
