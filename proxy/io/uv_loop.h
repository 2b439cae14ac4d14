// The loop behind MakeUvReactor, as the uv_* files see it.
#pragma once

#include <sys/uio.h>
#include <uv.h>

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "proxy/base/metrics.h"
#include "proxy/io/reactor.h"
#include "proxy/io/tls_session.h"
#include "proxy/io/uv_acceptor.h"
#include "proxy/io/uv_handles.h"

namespace catena::io::uv {

class Connection;

inline constexpr size_t kReadBufferBytes = 64u << 10;
inline constexpr size_t kPiecesMax = 1024;  // IOV_MAX of Linux

class UvReactor : public Reactor {
 public:
  UvReactor();
  ~UvReactor() override;

  TimePoint Now() override { return BootTime(); }
  int64_t WallMilliseconds() override;
  std::string RandomBytes(size_t count) override;
  std::unique_ptr<Stream> Connect(const Address& address, StreamHandler* handler) override {
    return ConnectWith(nullptr, address, handler);
  }
  Result<std::unique_ptr<Listener>> Listen(
      const Address& address, std::function<void(std::unique_ptr<Stream>)> on_accept) override {
    return ListenWith(std::nullopt, address, std::move(on_accept));
  }
  std::unique_ptr<Timer> MakeTimer(std::function<void()> on_fire) override;
  void AddTurnEndHook(std::function<void()> hook) override { hooks_.push_back(std::move(hook)); }
  void Defer(std::function<void()> fn) override;
  void RunOnWorker(std::function<void()> work, std::function<void()> done) override;
  size_t OpenStreams() const override { return open_.size(); }
  void Run() override { uv_run(&loop_, UV_RUN_DEFAULT); }
  void Stop() override { uv_stop(&loop_); }

  // As Connect and Listen; with TLS if told how.
  std::unique_ptr<Stream> ConnectWith(const TlsContext* context, const Address& address,
                                      StreamHandler* handler);
  Result<std::unique_ptr<Listener>> ListenWith(
      std::optional<Security> security, const Address& address,
      std::function<void(std::unique_ptr<Stream>)> on_accept);

  // For the parts of this file.
  uv_loop_t* loop() { return &loop_; }
  // Something happened: this turn's end has work to do.
  void NoteEvent() {
    if (measures_turns_ && !had_event_) turn_began_ = BootTime();
    had_event_ = true;
  }
  const Histogram& MeasureTurns() {
    measures_turns_ = true;
    return turns_;
  }
  // Runs `fn` in the next turn, which then comes at once.
  void RunInNextTurn(std::function<void()> fn);
  void FlushAtTurnEnd(std::shared_ptr<Connection> connection);
  std::shared_ptr<Connection> Open(std::string peer_name, StreamHandler* handler);
  void Forget(Connection* connection) { open_.erase(connection); }
  void WatchSignal(int signal, std::function<void(int)> on_signal);
  std::array<char, kReadBufferBytes>& read_buffer() { return read_buffer_; }
  std::array<iovec, kPiecesMax>& pieces() { return pieces_; }
  // For what a full read buffer decrypts to.
  std::span<char> plain_buffer() {
    plain_buffer_.resize(kReadBufferBytes + TlsSession::kPlainExtraBytes);
    return plain_buffer_;
  }
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
  bool measures_turns_ = false;
  TimePoint turn_began_{};
  Histogram turns_;
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
  std::vector<char> plain_buffer_;  // empty until TLS is used
};

}  // namespace catena::io::uv
