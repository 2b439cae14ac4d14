// Listeners on libuv: a polled socket of our own, because a uv_stream has no way to stop accepting
// for a while.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "proxy/io/reactor.h"
#include "proxy/io/tls_session.h"
#include "proxy/io/uv_handles.h"

namespace catena::io::uv {

class Connection;

// How connections of one kind are made secure.
struct Security {
  std::shared_ptr<TlsContext> context;
  TlsSession::Accept accept = TlsSession::Accept::kCertificate;
};

// The socket behind a UvListener; lives on while one of its callbacks runs.
class Acceptor : public std::enable_shared_from_this<Acceptor> {
 public:
  // With `security` on_accept gets only those with whom the handshake succeeded.
  Acceptor(UvReactor& reactor, int fd, std::function<void(std::unique_ptr<Stream>)> on_accept,
           std::optional<Security> security)
      : reactor_(&reactor),
        fd_(fd),
        on_accept_(std::move(on_accept)),
        security_(std::move(security)) {}
  ~Acceptor() { Close(); }

  bool Start();
  void Close();
  const std::string& bound_address() const { return bound_address_; }

 private:
  void AcceptAll();
  void Take(int fd, std::string peer_name);
  void StartHandshake(const std::shared_ptr<Connection>& connection);
  void DropHalfOpen();
  void OnHandshakeEnd(uint64_t number, bool opened, std::string_view why);
  void PauseAccepting(int error);

  UvReactor* reactor_;
  int fd_;
  std::function<void(std::unique_ptr<Stream>)> on_accept_;
  std::optional<Security> security_;
  std::map<uint64_t, std::shared_ptr<Connection>> half_open_;  // shaking hands, oldest first
  uint64_t last_number_ = 0;
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
