// The outside world as the drivers see it: byte streams, listeners, timers, deferred work and the
// clock. uv_reactor.h implements it on libuv; simulations implement it on a seeded scheduler.
//
// Everything here lives on one thread, the loop thread. Within a loop turn every readable socket is
// read first; then the turn-end hooks run; then each stream that has output gets ONE write. So
// whatever a turn produced for a peer leaves as one system call, without any flush timer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "proxy/base/clock.h"
#include "proxy/base/result.h"

namespace catena::io {

// "host:port" (IPv4, [IPv6] or a name) or "unix:///path". Port 0 asks for any free one when
// listening.
using Address = std::string;

// Callbacks of one stream. Each may destroy the stream it is called for.
class StreamHandler {
 public:
  virtual ~StreamHandler() = default;
  // An outgoing connection is established (never called for accepted ones).
  virtual void OnConnected() {}
  // `bytes` are valid during the call only.
  virtual void OnRead(std::string_view bytes) = 0;
  // The peer closed, the connection failed or could not be made. Called at most once, last, and not
  // after the owner destroyed the stream or called Close().
  virtual void OnClosed(std::string_view reason) = 0;
  // UnsentBytes() fell below the mark given to NotifyBelow().
  virtual void OnDrained() {}
};

// One connected (or connecting) byte stream. Destroying it closes the connection at once; unsent
// output is dropped.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual void SetHandler(StreamHandler* handler) = 0;  // not owned; must outlive the stream
  // Appends to the output, which is sent when the turn ends. Also allowed before OnConnected.
  virtual void Write(std::string_view bytes) = 0;
  // The same without a copy: `bytes` stays referenced until it is sent. For payloads >= 4 KB.
  virtual void WriteShared(std::shared_ptr<const std::string> owner, std::string_view bytes) = 0;
  // Bytes accepted by Write and not yet taken by the kernel. The caller bounds it (I9).
  virtual size_t UnsentBytes() const = 0;
  // OnDrained is called once when UnsentBytes() is <= `mark` after having been above it.
  virtual void NotifyBelow(size_t mark) = 0;
  // Stops and resumes OnRead: back pressure on the peer. Bytes stay in the kernel. A paused stream
  // still notices errors when writing.
  virtual void PauseReading() = 0;
  virtual void ResumeReading() = 0;
  // Sends what is unsent, then closes; the handler hears nothing more. The Stream object may be
  // destroyed right away without cutting that off.
  virtual void CloseAfterFlush() = 0;
  // "10.0.0.1:51234", for messages to people.
  virtual const std::string& PeerName() const = 0;
  // Local address of the connection, "10.0.0.2:6380".
  virtual const std::string& LocalName() const = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;  // stops listening
  // The address actually bound ("127.0.0.1:41233").
  virtual const std::string& BoundAddress() const = 0;
};

// Fires once per Start. Destroying or Stop()ping it guarantees that it does not fire any more.
class Timer {
 public:
  virtual ~Timer() = default;
  virtual void Start(Duration after) = 0;  // restarts if running
  virtual void Stop() = 0;
};

class Reactor {
 public:
  virtual ~Reactor() = default;

  // A fresh reading of CLOCK_BOOTTIME, never a cached loop time (schedule S17).
  virtual TimePoint Now() = 0;
  // Milliseconds of CLOCK_REALTIME since 1970, for people and for new incarnations.
  virtual int64_t WallMilliseconds() = 0;
  // Unpredictable bytes (nonces).
  virtual std::string RandomBytes(size_t count) = 0;

  // Starts connecting; the result is told to `handler`. TCP_NODELAY and keep-alive are set. Never
  // fails synchronously: a bad address comes as OnClosed in a later turn.
  virtual std::unique_ptr<Stream> Connect(const Address& address, StreamHandler* handler) = 0;
  // `on_accept` receives each new connection and must set a handler during the call or drop the
  // stream. Reading starts after the call.
  virtual Result<std::unique_ptr<Listener>> Listen(
      const Address& address, std::function<void(std::unique_ptr<Stream>)> on_accept) = 0;
  virtual std::unique_ptr<Timer> MakeTimer(std::function<void()> on_fire) = 0;

  // `hook` runs at the end of every loop turn that had any event, before streams are written. Hooks
  // run in the order they were added and live as long as the reactor; one hook per driver.
  virtual void AddTurnEndHook(std::function<void()> hook) = 0;
  // Runs `fn` at the end of this turn (before the hooks), or of the next one when called outside a
  // turn. For work that must not happen inside the caller's stack.
  virtual void Defer(std::function<void()> fn) = 0;
  // Runs `work` on a worker thread, then `done` on the loop thread. The only way off the loop.
  virtual void RunOnWorker(std::function<void()> work, std::function<void()> done) = 0;

  // Streams that are open, each with a descriptor.
  virtual size_t OpenStreams() const = 0;

  // Runs until Stop(). Stop() lets the current turn finish, output included.
  virtual void Run() = 0;
  virtual void Stop() = 0;
};

}  // namespace catena::io
