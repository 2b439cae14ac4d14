// Listeners on libuv: a polled socket of our own, because a uv_stream has no way to stop accepting
// for a while.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "proxy/io/reactor.h"
#include "proxy/io/uv_handles.h"

namespace catena::io::uv {

// The socket behind a UvListener; lives on while one of its callbacks runs.
class Acceptor : public std::enable_shared_from_this<Acceptor> {
 public:
  Acceptor(UvReactor& reactor, int fd, std::function<void(std::unique_ptr<Stream>)> on_accept)
      : reactor_(&reactor), fd_(fd), on_accept_(std::move(on_accept)) {}
  ~Acceptor() { Close(); }

  bool Start();
  void Close();
  const std::string& bound_address() const { return bound_address_; }

 private:
  void AcceptAll();
  void PauseAccepting(int error);

  UvReactor* reactor_;
  int fd_;
  std::function<void(std::unique_ptr<Stream>)> on_accept_;
  std::shared_ptr<Poll> poll_;
  std::string bound_address_;
  std::unique_ptr<Timer> retry_timer_;
  TimePoint next_log_;
};

class UvListener : public Listener {
 public:
  explicit UvListener(std::shared_ptr<Acceptor> acceptor) : acceptor_(std::move(acceptor)) {}
  ~UvListener() override { acceptor_->Close(); }
  const std::string& BoundAddress() const override { return acceptor_->bound_address(); }

 private:
  std::shared_ptr<Acceptor> acceptor_;
};

}  // namespace catena::io::uv
