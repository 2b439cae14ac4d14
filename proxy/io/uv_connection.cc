#include "proxy/io/uv_connection.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "proxy/io/uv_connection_tls.h"
#include "proxy/io/uv_loop.h"

namespace catena::io::uv {

namespace {

constexpr int kReadsPerEvent = 16;  // then the other sockets get their turn
// CloseAfterFlush: how long a peer may take nothing of the output, and how long it may leave its
// side open after it got all.
constexpr Duration kFlushStall = std::chrono::seconds(30);
constexpr Duration kLinger = std::chrono::seconds(1);

}  // namespace

struct NameQuery {
  uv_getaddrinfo_t request;
  UvReactor* reactor;
  std::shared_ptr<Connection> connection;
};

void OnNameFound(uv_getaddrinfo_t* request, int status, addrinfo* list) {
  std::unique_ptr<NameQuery> query(static_cast<NameQuery*>(request->data));
  std::vector<SocketAddress> addresses = FromAddressInfo(list);
  uv_freeaddrinfo(list);
  if (query->reactor->stopping()) return;
  query->reactor->NoteEvent();
  if (status != 0) return query->connection->FailToConnect(uv_strerror(status));
  if (addresses.empty()) return query->connection->FailToConnect("the name has no address");
  query->connection->ConnectTo(std::move(addresses));
}

Connection::Connection(UvReactor& reactor, std::string peer_name, StreamHandler* handler)
    : reactor_(&reactor), handler_(handler), peer_name_(std::move(peer_name)) {}

Connection::~Connection() = default;

void Connection::Resolve(const Endpoint& endpoint) {
  auto query = std::make_unique<NameQuery>();
  query->reactor = reactor_;
  query->connection = shared_from_this();
  query->request.data = query.get();
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  const int status = uv_getaddrinfo(reactor_->loop(), &query->request, OnNameFound,
                                    endpoint.host.c_str(), endpoint.port.c_str(), &hints);
  if (status != 0) return FailToConnect(uv_strerror(status));
  (void)query.release();  // OnNameFound has it now
}

void Connection::ConnectTo(std::vector<SocketAddress> addresses) {
  if (closed_) return;
  addresses_ = std::move(addresses);
  std::reverse(addresses_.begin(), addresses_.end());
  TryNextAddress();
}

void Connection::TryNextAddress() {
  while (!addresses_.empty()) {
    const int fd = StartConnect(addresses_.back());
    connect_error_ = fd < 0 ? errno : 0;
    addresses_.pop_back();
    if (fd < 0) continue;
    if (!Watch(fd)) return FailToConnect("the socket cannot be polled");
    return UpdateInterest();
  }
  FailToConnect(ErrorText(connect_error_));
}

void Connection::FailToConnect(std::string why) {
  reactor_->RunInNextTurn([self = shared_from_this(), why = std::move(why)] {
    self->Fail("cannot connect to " + self->peer_name_ + ": " + why);
  });
}

bool Connection::Watch(int fd) {
  fd_ = fd;
  poll_ = Poll::Make(reactor_->loop(), fd, [self = shared_from_this()](bool failed, int events) {
    self->OnPoll(failed, events);
  });
  return poll_ != nullptr;
}

bool Connection::Accept(int fd) {
  if (!Watch(fd)) {
    Close();
    return false;
  }
  SetTcpOptions(fd);
  local_name_ = ToText(LocalAddress(fd));
  connected_ = true;
  return true;
}

void Connection::FinishConnecting() {
  int error = SocketError(fd_);
  const SocketAddress local = LocalAddress(fd_);
  // A free port above the ephemeral limit can connect to itself; nobody listens there.
  if (error == 0 && local.family() != AF_UNIX && ToText(local) == ToText(PeerAddress(fd_))) {
    error = ECONNREFUSED;
  }
  if (error != 0) {
    connect_error_ = error;
    DropSocket();
    return TryNextAddress();
  }
  connected_ = true;
  addresses_.clear();
  local_name_ = ToText(local);
  if (tls_ != nullptr) return StartHandshake();
  if (UnsentBytes() > 0 || finishing_) RequestFlush();
  UpdateInterest();
  if (handler_ != nullptr) handler_->OnConnected();
}

void Connection::OnPoll(bool failed, int events) {
  reactor_->NoteEvent();
  if (!connected_) return FinishConnecting();
  // On an error condition all that the kernel still holds is read first, then comes the error.
  if (failed || (events & UV_READABLE) != 0) Read(failed ? INT32_MAX : kReadsPerEvent);
  if (closed_) return;
  if (failed) {
    const int error = SocketError(fd_);
    return Fail(ErrorText(error != 0 ? error : ECONNRESET));
  }
  if ((events & UV_WRITABLE) != 0) {
    writable_ = true;
    RequestFlush();
  }
}

void Connection::Read(int reads_max) {
  auto& buffer = reactor_->read_buffer();
  for (int i = 0; i < reads_max; ++i) {
    if (closed_ || !WantsInput()) return;
    const ssize_t count = recv(fd_, buffer.data(), buffer.size(), 0);
    if (count > 0) {
      const std::string_view bytes(buffer.data(), static_cast<size_t>(count));
      if (tls_ != nullptr) {
        ReceiveSecured(bytes);
      } else if (handler_ != nullptr) {
        handler_->OnRead(bytes);
      }
      if (static_cast<size_t>(count) < buffer.size()) return;
    } else if (count == 0) {
      return OnEndOfInput();
    } else if (errno != EINTR) {
      if (errno != EAGAIN) Fail(ErrorText(errno));
      return;
    }
  }
}

bool Connection::WantsInput() const {
  if (end_of_input_) return false;
  return finishing_ || (!paused_ && handler_ != nullptr) || Handshaking();
}

void Connection::OnEndOfInput() {
  if (write_failed_) return;                // its reason says more
  if (HoldsInput() && !finishing_) return;  // comes again behind what is held
  if (!finishing_) return Fail("closed by the peer");
  // The peer may have closed its sending side only, and still be taking what it is owed.
  end_of_input_ = true;
  if (UnsentBytes() == 0) return Close();
  UpdateInterest();
}

void Connection::SetHandler(StreamHandler* handler) {
  if (closed_ || finishing_) return;
  handler_ = handler;
  UpdateInterest();
  if (tls_ != nullptr) DeliverHeld();
}

void Connection::Write(std::string_view bytes) {
  if (closed_ || finishing_ || write_failed_ || bytes.empty()) return;
  pending_.Append(bytes);
  OutputChanged();
}

void Connection::WriteShared(std::shared_ptr<const std::string> owner, std::string_view bytes) {
  if (closed_ || finishing_ || write_failed_ || bytes.empty()) return;
  pending_.AppendShared(std::move(owner), bytes);
  OutputChanged();
}

void Connection::OutputChanged() {
  if (UnsentBytes() > notify_mark_) notify_above_ = true;
  RequestFlush();
}

void Connection::RequestFlush() {
  if (!connected_ || std::exchange(in_flush_list_, true)) return;
  reactor_->FlushAtTurnEnd(shared_from_this());
}

void Connection::Flush() {
  in_flush_list_ = false;
  if (closed_ || write_failed_ || (blocked_ && !writable_)) return;
  writable_ = blocked_ = false;
  const bool sent = tls_ != nullptr ? SendSecured() : Send(sending_) && Send(pending_);
  if (closed_ || write_failed_) return;
  if (!sent) {
    blocked_ = true;
    // What follows goes to the other Output: one that is never empty would keep all it has sent.
    if (sending_.empty()) std::swap(sending_, pending_);
  }
  UpdateInterest();
  CheckDrained();
  if (finishing_) FinishAfterFlush();
}

// False: the kernel did not take all of it.
bool Connection::Send(Output& output) {
  auto& pieces = reactor_->pieces();
  while (!output.empty()) {
    size_t total = 0;
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = output.Gather(pieces.data(), pieces.size(), total);
    const ssize_t sent = sendmsg(fd_, &message, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != ENOBUFS) FailWriting(errno);
      return false;
    }
    output.Consume(static_cast<size_t>(sent));
    if (static_cast<size_t>(sent) < total) return false;
  }
  return true;
}

// The peer may have said why before it went away: what it sent is still delivered, then the error.
void Connection::FailWriting(int error) {
  write_failed_ = true;
  sending_.Clear();
  pending_.Clear();
  reactor_->RunInNextTurn([self = shared_from_this(), error] {
    if (!self->closed_) self->Read(INT32_MAX);
    self->Fail(ErrorText(error));
  });
}

void Connection::NotifyBelow(size_t mark) {
  notify_ = true;
  notify_mark_ = mark;
  notify_above_ = UnsentBytes() > mark;
}

void Connection::CheckDrained() {
  if (!notify_ || !notify_above_ || UnsentBytes() > notify_mark_) return;
  notify_ = false;
  // In the next turn: a handler that fills up again at once must not keep this one from ending.
  reactor_->RunInNextTurn([self = shared_from_this()] {
    if (self->handler_ != nullptr) self->handler_->OnDrained();
  });
}

void Connection::PauseReading() {
  paused_ = true;
  UpdateInterest();
}

void Connection::ResumeReading() {
  paused_ = false;
  UpdateInterest();
  if (tls_ != nullptr) DeliverHeld();
}

void Connection::UpdateInterest() {
  if (poll_ == nullptr || closed_) return;
  if (!connected_) return poll_->Watch(UV_WRITABLE);
  poll_->Watch((WantsInput() ? UV_READABLE : 0) | (blocked_ ? UV_WRITABLE : 0));
}

void Connection::CloseAfterFlush() {
  if (closed_ || finishing_) return;
  handler_ = nullptr;
  finishing_ = true;
  StartClosingTimer(kFlushStall);
  RequestFlush();
  UpdateInterest();
}

// Closing with unread input makes the kernel send a reset, which can destroy output that the peer
// has not read yet. So: end our side, drop input until the peer ends its own, then close.
void Connection::FinishAfterFlush() {
  if (UnsentBytes() > 0) return StartClosingTimer(kFlushStall);
  if (end_of_input_ || shutdown(fd_, SHUT_WR) != 0) return Close();
  StartClosingTimer(kLinger);
}

void Connection::StartClosingTimer(Duration limit) {
  if (closing_timer_ == nullptr) {
    closing_timer_ = reactor_->MakeTimer([this] { Close(); });
  }
  closing_timer_->Start(limit);
}

void Connection::Abandon() {
  handler_ = nullptr;
  if (!finishing_) Close();
}

void Connection::CutOff() {
  handler_ = nullptr;
  Close();
}

void Connection::Fail(std::string_view reason) {
  if (closed_) return;
  StreamHandler* const handler = std::exchange(handler_, nullptr);
  Close();
  if (handler != nullptr) handler->OnClosed(reason);
}

void Connection::DropSocket() {
  if (poll_ != nullptr) std::exchange(poll_, nullptr)->CloseHandle();
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

void Connection::Close() {
  if (std::exchange(closed_, true)) return;
  const auto self = shared_from_this();
  DropSocket();
  sending_.Clear();
  pending_.Clear();
  closing_timer_.reset();
  if (tls_ != nullptr) EndHandshake(false, "");
  reactor_->Forget(this);
}

}  // namespace catena::io::uv
