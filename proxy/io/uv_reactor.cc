// Sockets are polled with uv_poll and read and written directly, instead of through uv_stream: so a
// turn's output is one sendmsg of our choosing, partial progress is seen at once, and what the
// kernel holds can still be read after a write failed.
#include "proxy/io/uv_reactor.h"

#include <sys/random.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <ctime>
#include <deque>
#include <unordered_map>
#include <utility>
#include <vector>

#include "proxy/base/check.h"
#include "proxy/base/log.h"
#include "proxy/io/output.h"
#include "proxy/io/socket.h"

namespace catena::io {
namespace {

constexpr size_t kReadBufferBytes = 64u << 10;
constexpr int kReadsPerEvent = 16;  // then the other sockets get their turn
constexpr int kAcceptsPerEvent = 128;
constexpr size_t kPiecesMax = 1024;  // IOV_MAX of Linux
// Deferred work that keeps deferring more goes on in the next turn after this many rounds.
constexpr int kRoundsPerTurn = 16;
constexpr Duration kAcceptRetry = std::chrono::milliseconds(100);
constexpr Duration kAcceptLogInterval = std::chrono::seconds(1);
// CloseAfterFlush: how long a peer may take nothing of the output, and how long it may leave its
// side open after it got all.
constexpr Duration kFlushStall = std::chrono::seconds(30);
constexpr Duration kLinger = std::chrono::seconds(1);

TimePoint BootTime() {
  timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return TimePoint(std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec));
}

// Memory around one uv handle: it lives until libuv's close callback, whoever lets go before.
struct HandleState {
  virtual ~HandleState() = default;

  template <typename Handle>
  void Adopt(std::shared_ptr<HandleState> self, Handle& handle) {
    self_ = std::move(self);
    handle.data = this;
  }
  // Safe at any time after Adopt, also from the handle's own callback; no callback follows.
  template <typename Handle>
  void Close(Handle& handle) {
    if (std::exchange(closed, true)) return;
    uv_close(reinterpret_cast<uv_handle_t*>(&handle), [](uv_handle_t* closing) {
      auto last = std::move(static_cast<HandleState*>(closing->data)->self_);
    });
  }
  virtual void CloseHandle() = 0;

  bool closed = false;

 private:
  std::shared_ptr<HandleState> self_;
};

class UvReactor;

// ---------------------------------------------------------------------------------------- Poll

// One polled descriptor. Owned jointly by its user and libuv.
class Poll : public HandleState {
 public:
  // `on_event` gets UV_READABLE | UV_WRITABLE; with `failed` the socket has an error condition and
  // polling has ended.
  static std::shared_ptr<Poll> Make(uv_loop_t* loop, int fd,
                                    std::function<void(bool failed, int events)> on_event) {
    auto poll = std::make_shared<Poll>();
    if (uv_poll_init(loop, &poll->handle_, fd) != 0) return nullptr;
    poll->on_event_ = std::move(on_event);
    poll->Adopt(poll, poll->handle_);
    return poll;
  }

  void Watch(int events) {
    if (closed || events == events_) return;
    events_ = events;
    if (events == 0) {
      uv_poll_stop(&handle_);
    } else {
      uv_poll_start(&handle_, events, OnEvent);
    }
  }
  void CloseHandle() override { Close(handle_); }

 private:
  static void OnEvent(uv_poll_t* handle, int status, int events) {
    auto* poll = static_cast<Poll*>(handle->data);
    if (status < 0) poll->events_ = 0;  // libuv stops polling when it reports an error
    poll->on_event_(status < 0, events);
  }

  uv_poll_t handle_;
  int events_ = 0;
  std::function<void(bool, int)> on_event_;
};

// --------------------------------------------------------------------------------------- Timer

struct TimerState : HandleState {
  void CloseHandle() override { Close(handle); }

  UvReactor* reactor = nullptr;
  uv_timer_t handle;
  std::function<void()> on_fire;
  TimePoint deadline;
};

class UvTimer : public Timer {
 public:
  explicit UvTimer(std::shared_ptr<TimerState> state) : state_(std::move(state)) {}
  ~UvTimer() override { state_->CloseHandle(); }
  void Start(Duration after) override;
  void Stop() override {
    if (!state_->closed) uv_timer_stop(&state_->handle);
  }

 private:
  static void OnFire(uv_timer_t* handle);
  static void StartHandle(TimerState& state, Duration after);

  std::shared_ptr<TimerState> state_;
};

// ---------------------------------------------------------------------------------- Connection

// The socket behind a UvStream. Lives in the reactor's table while it is open, which may be longer
// than the stream (CloseAfterFlush), and until libuv let go of its handle, which may be longer
// still: so any method may find that a callback it made has closed it.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(UvReactor& reactor, std::string peer_name, StreamHandler* handler)
      : reactor_(&reactor), handler_(handler), peer_name_(std::move(peer_name)) {}

  // Each ends in OnConnected, or in OnClosed in a later turn.
  void ConnectTo(std::vector<SocketAddress> addresses);
  void Resolve(const Endpoint& endpoint);
  void FailToConnect(std::string why);
  // Takes over an accepted socket; reading begins with StartReading.
  bool Accept(int fd);
  void StartReading() { UpdateInterest(); }

  void SetHandler(StreamHandler* handler);
  void Write(std::string_view bytes);
  void WriteShared(std::shared_ptr<const std::string> owner, std::string_view bytes);
  size_t UnsentBytes() const { return sending_.bytes() + pending_.bytes(); }
  void NotifyBelow(size_t mark);
  void PauseReading();
  void ResumeReading();
  void CloseAfterFlush();
  void Abandon();  // the owner is gone
  void CutOff();   // the reactor goes
  // The end of a turn: hands the output to the kernel.
  void Flush();

  const std::string& peer_name() const { return peer_name_; }
  const std::string& local_name() const { return local_name_; }

 private:
  void TryNextAddress();
  void FinishConnecting();
  bool Watch(int fd);
  void OnPoll(bool failed, int events);
  void Read(int reads_max);
  void Deliver(std::string_view bytes);
  void OnEndOfInput();
  bool Send(Output& output);
  void FailWriting(int error);
  void FinishAfterFlush();
  void StartClosingTimer(Duration limit);
  void OutputChanged();
  void RequestFlush();
  void CheckDrained();
  void UpdateInterest();
  void Fail(std::string_view reason);
  void DropSocket();
  void Close();

  UvReactor* reactor_;
  StreamHandler* handler_;  // null once nothing more may be told
  std::string peer_name_;
  std::string local_name_;

  int fd_ = -1;
  std::shared_ptr<Poll> poll_;
  std::vector<SocketAddress> addresses_;  // still to be tried, last first
  int connect_error_ = 0;

  bool connected_ = false;
  bool closed_ = false;
  bool paused_ = false;
  bool end_of_input_ = false;
  bool finishing_ = false;     // CloseAfterFlush: input is dropped
  bool write_failed_ = false;  // its report is on its way
  bool blocked_ = false;       // the kernel took less than it was given
  bool writable_ = false;      // and has room again
  bool in_flush_list_ = false;

  Output sending_;  // cut off by a full kernel buffer; goes first
  Output pending_;
  bool notify_ = false;
  bool notify_above_ = false;  // UnsentBytes() has been above notify_mark_
  size_t notify_mark_ = 0;
  std::unique_ptr<Timer> closing_timer_;
};

class UvStream : public Stream {
 public:
  explicit UvStream(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}
  ~UvStream() override { connection_->Abandon(); }

  void SetHandler(StreamHandler* handler) override { connection_->SetHandler(handler); }
  void Write(std::string_view bytes) override { connection_->Write(bytes); }
  void WriteShared(std::shared_ptr<const std::string> owner, std::string_view bytes) override {
    connection_->WriteShared(std::move(owner), bytes);
  }
  size_t UnsentBytes() const override { return connection_->UnsentBytes(); }
  void NotifyBelow(size_t mark) override { connection_->NotifyBelow(mark); }
  void PauseReading() override { connection_->PauseReading(); }
  void ResumeReading() override { connection_->ResumeReading(); }
  void CloseAfterFlush() override { connection_->CloseAfterFlush(); }
  const std::string& PeerName() const override { return connection_->peer_name(); }
  const std::string& LocalName() const override { return connection_->local_name(); }

 private:
  std::shared_ptr<Connection> connection_;
};

// ------------------------------------------------------------------------------------ Acceptor

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

// ----------------------------------------------------------------------------------- UvReactor

class UvReactor : public Reactor {
 public:
  UvReactor();
  ~UvReactor() override;

  TimePoint Now() override { return BootTime(); }
  int64_t WallMilliseconds() override;
  std::string RandomBytes(size_t count) override;
  std::unique_ptr<Stream> Connect(const Address& address, StreamHandler* handler) override;
  Result<std::unique_ptr<Listener>> Listen(
      const Address& address, std::function<void(std::unique_ptr<Stream>)> on_accept) override;
  std::unique_ptr<Timer> MakeTimer(std::function<void()> on_fire) override;
  void AddTurnEndHook(std::function<void()> hook) override { hooks_.push_back(std::move(hook)); }
  void Defer(std::function<void()> fn) override;
  void RunOnWorker(std::function<void()> work, std::function<void()> done) override;
  void Run() override { uv_run(&loop_, UV_RUN_DEFAULT); }
  void Stop() override { uv_stop(&loop_); }

  // For the parts of this file.
  uv_loop_t* loop() { return &loop_; }
  // Something happened: this turn's end has work to do.
  void NoteEvent() { had_event_ = true; }
  // Runs `fn` in the next turn, which then comes at once.
  void RunInNextTurn(std::function<void()> fn);
  void FlushAtTurnEnd(std::shared_ptr<Connection> connection);
  std::shared_ptr<Connection> Open(std::string peer_name, StreamHandler* handler);
  void Forget(Connection* connection) { open_.erase(connection); }
  void WatchSignal(int signal, std::function<void(int)> on_signal);
  std::array<char, kReadBufferBytes>& read_buffer() { return read_buffer_; }
  std::array<iovec, kPiecesMax>& pieces() { return pieces_; }
  bool stopping() const { return stopping_; }

 private:
  void EndTurn();
  bool RunDeferredAndHooks();
  void FlushAll();
  void RunNextTurnWork();

  uv_loop_t loop_;
  uv_prepare_t prepare_;
  uv_check_t check_;
  uv_idle_t idle_;  // active only to bring on the next turn at once
  bool had_event_ = false;
  bool stopping_ = false;
  std::deque<std::function<void()>> hooks_;  // a deque: a hook may add one while it runs
  std::vector<std::function<void()>> deferred_;
  std::vector<std::function<void()>> running_;
  std::vector<std::function<void()>> next_turn_;
  std::vector<std::shared_ptr<Connection>> to_flush_;
  std::vector<std::shared_ptr<Connection>> flushing_;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> open_;
  std::array<char, kReadBufferBytes> read_buffer_;
  std::array<iovec, kPiecesMax> pieces_;
};

// ------------------------------------------------------------------------------ Timer, defined

void UvTimer::Start(Duration after) {
  if (state_->closed) return;
  state_->deadline = BootTime() + after;
  StartHandle(*state_, after);
}

void UvTimer::StartHandle(TimerState& state, Duration after) {
  // libuv's clock counts whole milliseconds: one more makes up for the fraction that has passed of
  // the current one. It also keeps a timer that restarts itself from running without end.
  const auto whole = std::chrono::floor<std::chrono::milliseconds>(after).count();
  // The loop's time was read when the turn began; a timer counts from now.
  uv_update_time(state.handle.loop);
  uv_timer_start(&state.handle, OnFire, static_cast<uint64_t>(std::max<int64_t>(whole, 0)) + 1, 0);
}

void UvTimer::OnFire(uv_timer_t* handle) {
  auto& state = *static_cast<TimerState*>(handle->data);
  // Still early by a fraction of a millisecond, if less than one was asked for.
  const TimePoint now = BootTime();
  if (now < state.deadline) return StartHandle(state, state.deadline - now);
  state.reactor->NoteEvent();
  state.on_fire();
}

// ------------------------------------------------------------------------- Connection, defined

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
    if (closed_ || end_of_input_ || (!finishing_ && (paused_ || handler_ == nullptr))) return;
    const ssize_t count = recv(fd_, buffer.data(), buffer.size(), 0);
    if (count > 0) {
      if (handler_ != nullptr) {
        handler_->OnRead({buffer.data(), static_cast<size_t>(count)});
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

void Connection::OnEndOfInput() {
  if (write_failed_) return;  // its reason says more
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
  const bool sent = Send(sending_) && Send(pending_);
  if (closed_ || write_failed_) return;
  if (!sent) {
    blocked_ = true;
    // What follows must not move while pieces of it are on their way out.
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
}

void Connection::UpdateInterest() {
  if (poll_ == nullptr || closed_) return;
  if (!connected_) return poll_->Watch(UV_WRITABLE);
  const bool reading = !end_of_input_ && (finishing_ || (!paused_ && handler_ != nullptr));
  poll_->Watch((reading ? UV_READABLE : 0) | (blocked_ ? UV_WRITABLE : 0));
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
  reactor_->Forget(this);
}

// --------------------------------------------------------------------------- Acceptor, defined

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
  spdlog::error("event=accept_failed address={} why=\"{}\"", bound_address_, ErrorText(error));
}

// -------------------------------------------------------------------------- UvReactor, defined

UvReactor::UvReactor() {
  CATENA_CHECK(uv_loop_init(&loop_) == 0, "an event loop needs a few descriptors");
  // Before polling for what timers and closed handles produced, after it for what sockets did.
  uv_prepare_init(&loop_, &prepare_);
  prepare_.data = this;
  uv_prepare_start(&prepare_,
                   [](uv_prepare_t* handle) { static_cast<UvReactor*>(handle->data)->EndTurn(); });
  uv_check_init(&loop_, &check_);
  check_.data = this;
  uv_check_start(&check_,
                 [](uv_check_t* handle) { static_cast<UvReactor*>(handle->data)->EndTurn(); });
  uv_idle_init(&loop_, &idle_);
  idle_.data = this;
}

UvReactor::~UvReactor() {
  stopping_ = true;
  while (!open_.empty()) {
    const auto connection = open_.begin()->second;
    connection->CutOff();
  }
  uv_walk(
      &loop_,
      [](uv_handle_t* handle, void* reactor) {
        if (uv_is_closing(handle)) return;
        if (handle->data == reactor) return uv_close(handle, nullptr);
        static_cast<HandleState*>(handle->data)->CloseHandle();
      },
      this);
  // Waits for workers and name look-ups that are under way, too.
  uv_run(&loop_, UV_RUN_DEFAULT);
  CATENA_CHECK(uv_loop_close(&loop_) == 0, "all handles are closed");
}

int64_t UvReactor::WallMilliseconds() {
  using std::chrono::system_clock;
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             system_clock::now().time_since_epoch())
      .count();
}

std::string UvReactor::RandomBytes(size_t count) {
  std::string bytes(count, '\0');
  for (size_t filled = 0; filled < count;) {
    const ssize_t got = getrandom(bytes.data() + filled, count - filled, 0);
    CATENA_CHECK(got >= 0 || errno == EINTR, "the kernel gives random bytes");
    if (got > 0) filled += static_cast<size_t>(got);
  }
  return bytes;
}

std::shared_ptr<Connection> UvReactor::Open(std::string peer_name, StreamHandler* handler) {
  auto connection = std::make_shared<Connection>(*this, std::move(peer_name), handler);
  open_.emplace(connection.get(), connection);
  return connection;
}

std::unique_ptr<Stream> UvReactor::Connect(const Address& address, StreamHandler* handler) {
  const auto connection = Open(address, handler);
  auto endpoint = ParseAddress(address);
  if (!endpoint) {
    connection->FailToConnect(endpoint.error().message);
  } else if (endpoint->addresses.empty()) {
    connection->Resolve(*endpoint);
  } else {
    connection->ConnectTo(std::move(endpoint->addresses));
  }
  return std::make_unique<UvStream>(connection);
}

Result<std::unique_ptr<Listener>> UvReactor::Listen(
    const Address& address, std::function<void(std::unique_ptr<Stream>)> on_accept) {
  const auto fd = StartListening(address);
  if (!fd) return tl::unexpected(fd.error());
  auto acceptor = std::make_shared<Acceptor>(*this, *fd, std::move(on_accept));
  if (!acceptor->Start()) return catena::Fail("cannot listen on " + address + ": cannot be polled");
  return std::make_unique<UvListener>(std::move(acceptor));
}

std::unique_ptr<Timer> UvReactor::MakeTimer(std::function<void()> on_fire) {
  auto state = std::make_shared<TimerState>();
  state->reactor = this;
  state->on_fire = std::move(on_fire);
  uv_timer_init(&loop_, &state->handle);
  state->Adopt(state, state->handle);
  return std::make_unique<UvTimer>(std::move(state));
}

void UvReactor::Defer(std::function<void()> fn) {
  deferred_.push_back(std::move(fn));
  NoteEvent();
}

void UvReactor::RunInNextTurn(std::function<void()> fn) {
  next_turn_.push_back(std::move(fn));
  uv_idle_start(
      &idle_, [](uv_idle_t* handle) { static_cast<UvReactor*>(handle->data)->RunNextTurnWork(); });
}

void UvReactor::RunNextTurnWork() {
  uv_idle_stop(&idle_);
  NoteEvent();
  std::vector<std::function<void()>> work;
  work.swap(next_turn_);
  for (auto& fn : work) fn();
}

void UvReactor::FlushAtTurnEnd(std::shared_ptr<Connection> connection) {
  to_flush_.push_back(std::move(connection));
  NoteEvent();
}

void UvReactor::EndTurn() {
  if (!had_event_) return;
  const bool quiet = RunDeferredAndHooks();
  FlushAll();
  had_event_ = !quiet;
  if (!quiet) RunInNextTurn([] {});
}

// Hooks may defer work and deferred work may need the hooks. False: it goes on in the next turn.
bool UvReactor::RunDeferredAndHooks() {
  for (int round = 0; round < kRoundsPerTurn; ++round) {
    running_.swap(deferred_);
    for (auto& fn : running_) fn();
    running_.clear();
    for (auto& hook : hooks_) hook();
    if (deferred_.empty()) return true;
  }
  return false;
}

void UvReactor::FlushAll() {
  flushing_.swap(to_flush_);
  for (const auto& connection : flushing_) connection->Flush();
  flushing_.clear();
}

struct WorkerJob {
  uv_work_t request;
  UvReactor* reactor;
  std::function<void()> work;
  std::function<void()> done;
};

void UvReactor::RunOnWorker(std::function<void()> work, std::function<void()> done) {
  auto* job = new WorkerJob{{}, this, std::move(work), std::move(done)};
  job->request.data = job;
  const int status = uv_queue_work(
      &loop_, &job->request,
      [](uv_work_t* request) { static_cast<WorkerJob*>(request->data)->work(); },
      [](uv_work_t* request, int) {
        const std::unique_ptr<WorkerJob> finished(static_cast<WorkerJob*>(request->data));
        if (finished->reactor->stopping()) return;
        finished->reactor->NoteEvent();
        finished->done();
      });
  CATENA_CHECK(status == 0, "work can always be queued");
}

// -------------------------------------------------------------------------------------- Signals

struct SignalState : HandleState {
  void CloseHandle() override { Close(handle); }

  UvReactor* reactor = nullptr;
  uv_signal_t handle;
  std::function<void(int)> on_signal;
};

void UvReactor::WatchSignal(int signal, std::function<void(int)> on_signal) {
  auto state = std::make_shared<SignalState>();
  state->reactor = this;
  state->on_signal = std::move(on_signal);
  uv_signal_init(&loop_, &state->handle);
  state->Adopt(state, state->handle);
  const auto relay = [](uv_signal_t* handle, int number) {
    auto* watch = static_cast<SignalState*>(handle->data);
    watch->reactor->NoteEvent();
    watch->on_signal(number);
  };
  CATENA_CHECK(uv_signal_start(&state->handle, relay, signal) == 0, "signals can be watched");
}

}  // namespace

std::unique_ptr<Reactor> MakeUvReactor() {
  (void)std::signal(SIGPIPE, SIG_IGN);
  return std::make_unique<UvReactor>();
}

void OnTermination(Reactor& reactor, std::function<void(int signal)> on_signal) {
  auto& uv_reactor = dynamic_cast<UvReactor&>(reactor);
  uv_reactor.WatchSignal(SIGTERM, on_signal);
  uv_reactor.WatchSignal(SIGINT, on_signal);
}

}  // namespace catena::io
