#include "proxy/io/uv_acceptor.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "proxy/base/log.h"
#include "proxy/io/socket.h"
#include "proxy/io/uv_connection.h"
#include "proxy/io/uv_loop.h"

namespace catena::io::uv {

namespace {

constexpr int kAcceptsPerEvent = 128;
constexpr Duration kAcceptRetry = std::chrono::milliseconds(100);
constexpr Duration kAcceptLogInterval = std::chrono::seconds(1);

}  // namespace

bool Acceptor::Start() {
  bound_address_ = ToText(LocalAddress(fd_));
  poll_ = Poll::Make(reactor_->loop(), fd_, [weak = weak_from_this()](bool, int) {
    if (const auto self = weak.lock()) self->AcceptAll();
  });
  if (poll_ == nullptr) return false;
  retry_timer_ = reactor_->MakeTimer([this] { poll_->Watch(UV_READABLE); });
  poll_->Watch(UV_READABLE);
  return true;
}

void Acceptor::Close() {
  if (fd_ < 0) return;
  if (poll_ != nullptr) poll_->CloseHandle();
  retry_timer_.reset();
  const SocketAddress address = LocalAddress(fd_);
  close(std::exchange(fd_, -1));
  if (address.family() == AF_UNIX) RemoveSocketFile(address);
}

void Acceptor::AcceptAll() {
  reactor_->NoteEvent();
  for (int i = 0; i < kAcceptsPerEvent && fd_ >= 0; ++i) {
    SocketAddress peer;
    peer.length = sizeof peer.storage;
    const int fd = accept4(fd_, reinterpret_cast<sockaddr*>(&peer.storage), &peer.length,
                           SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      const std::string name = peer.family() == AF_UNIX ? bound_address_ : ToText(peer);
      const auto connection = reactor_->Open(name, nullptr);
      if (!connection->Accept(fd)) continue;
      on_accept_(std::make_unique<UvStream>(connection));
      connection->StartReading();
    } else if (errno == EAGAIN) {
      return;
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      return PauseAccepting(errno);
    }  // anything else concerns one connection that is gone already
  }
}

// The waiting connection keeps the socket readable, so trying on would only burn the processor.
void Acceptor::PauseAccepting(int error) {
  poll_->Watch(0);
  retry_timer_->Start(kAcceptRetry);
  const TimePoint now = BootTime();
  if (now < next_log_) return;
  next_log_ = now + kAcceptLogInterval;
  log::Error("accept_failed", {{"address", bound_address_}, {"why", ErrorText(error)}});
}

}  // namespace catena::io::uv
