#include "proxy/io/uv_acceptor.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "proxy/base/log.h"
#include "proxy/io/socket.h"
#include "proxy/io/uv_connection.h"
#include "proxy/io/uv_loop.h"

namespace catena::io::uv {

namespace {

constexpr int kAcceptsPerEvent = 128;
constexpr Duration kAcceptRetry = std::chrono::milliseconds(100);
constexpr Duration kAcceptLogInterval = std::chrono::seconds(1);
// Connections of one port that have not finished their handshake; then one gives way, so that nobody
// can keep others out by waiting. A small part of the descriptors, whatever happens.
constexpr size_t kHalfOpenMax = 512;
constexpr size_t kHalfOpenShare = 16;

size_t HalfOpenMax() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return kHalfOpenMax;
  return std::clamp<size_t>(limit.rlim_cur / kHalfOpenShare, 1, kHalfOpenMax);
}

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
  for (const auto& [number, connection] : std::exchange(half_open_, {})) connection->Abandon();
}

void Acceptor::AcceptAll() {
  reactor_->NoteEvent();
  for (int i = 0; i < kAcceptsPerEvent && fd_ >= 0; ++i) {
    SocketAddress peer;
    peer.length = sizeof peer.storage;
    const int fd = accept4(fd_, reinterpret_cast<sockaddr*>(&peer.storage), &peer.length,
                           SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      Take(fd, peer.family() == AF_UNIX ? bound_address_ : ToText(peer));
    } else if (errno == EAGAIN) {
      return;
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      return PauseAccepting(errno);
    }  // anything else concerns one connection that is gone already
  }
}

void Acceptor::Take(int fd, std::string peer_name) {
  const auto connection = reactor_->Open(std::move(peer_name), nullptr);
  if (!connection->Accept(fd)) return;
  if (security_) return StartHandshake(connection);
  on_accept_(std::make_unique<UvStream>(connection));
  connection->StartReading();
}

void Acceptor::StartHandshake(const std::shared_ptr<Connection>& connection) {
  if (half_open_.size() >= HalfOpenMax()) DropHalfOpen();
  const uint64_t number = ++last_number_;
  half_open_.emplace(number, connection);
  connection->SecureAccepted(*security_->context, security_->accept,
                             [weak = weak_from_this(), number](bool opened, std::string_view why) {
                               if (const auto self = weak.lock())
                                 self->OnHandshakeEnd(number, opened, why);
                             });
  connection->StartReading();
}

// The oldest, but whoever takes part rather stays than who is silent.
void Acceptor::DropHalfOpen() {
  auto oldest = std::ranges::find_if(half_open_,
                                     [](const auto& item) { return !item.second->WasAnswered(); });
  if (oldest == half_open_.end()) oldest = half_open_.begin();
  const auto dropped = half_open_.extract(oldest);
  dropped.mapped()->Abandon();
}

void Acceptor::OnHandshakeEnd(uint64_t number, bool opened, std::string_view why) {
  const auto ended = half_open_.extract(number);
  if (ended.empty() || fd_ < 0) return;
  if (opened) return on_accept_(std::make_unique<UvStream>(ended.mapped()));
  if (why.empty()) return;
  log::Warn("tls_refused",
            {{"address", bound_address_}, {"peer", ended.mapped()->peer_name()}, {"reason", why}});
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
