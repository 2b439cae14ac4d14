#include "proxy/io/uv_reactor.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <ctime>
#include <utility>

#include "proxy/base/check.h"
#include "proxy/io/socket.h"
#include "proxy/io/uv_acceptor.h"
#include "proxy/io/uv_connection.h"
#include "proxy/io/uv_handles.h"
#include "proxy/io/uv_loop.h"

namespace catena::io {
namespace uv {
namespace {

// Deferred work that keeps deferring more goes on in the next turn after this many rounds.
constexpr int kRoundsPerTurn = 16;
constexpr Duration kTimerMax = std::chrono::hours(24 * 365);  // "never", without overflow

}  // namespace

TimePoint BootTime() {
  timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return TimePoint(std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec));
}

// --------------------------------------------------------------------------------------- Timer

void UvTimer::Start(Duration after) {
  if (state_->closed) return;
  after = std::min<Duration>(after, kTimerMax);
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

// ----------------------------------------------------------------------------------- UvReactor

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

std::unique_ptr<Stream> UvReactor::ConnectWith(const TlsContext* context, const Address& address,
                                               StreamHandler* handler) {
  const auto connection = Open(address, handler);
  auto endpoint = ParseAddress(address);
  if (context != nullptr && endpoint) connection->SecureTo(*context, endpoint->host);
  if (!endpoint) {
    connection->FailToConnect(endpoint.error().message);
  } else if (endpoint->addresses.empty()) {
    connection->Resolve(*endpoint);
  } else {
    connection->ConnectTo(std::move(endpoint->addresses));
  }
  return std::make_unique<UvStream>(connection);
}

Result<std::unique_ptr<Listener>> UvReactor::ListenWith(
    std::optional<Security> security, const Address& address,
    std::function<void(std::unique_ptr<Stream>)> on_accept) {
  const auto fd = StartListening(address);
  if (!fd) return tl::unexpected(fd.error());
  auto acceptor = std::make_shared<Acceptor>(*this, *fd, std::move(on_accept), std::move(security));
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
  if (measures_turns_) {
    const TimePoint now = BootTime();
    turns_.Observe(now - turn_began_);
    turn_began_ = now;
  }
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

namespace {

class UvWatch final : public Watch {
 public:
  explicit UvWatch(std::shared_ptr<Poll> poll) : poll_(std::move(poll)) {}
  ~UvWatch() override { poll_->CloseHandle(); }

 private:
  std::shared_ptr<Poll> poll_;
};

}  // namespace
}  // namespace uv

std::unique_ptr<Watch> WatchReadable(Reactor& reactor, int fd, std::function<void()> on_readable) {
  auto& uv_reactor = dynamic_cast<uv::UvReactor&>(reactor);
  auto poll = uv::Poll::Make(uv_reactor.loop(), fd,
                             [&uv_reactor, on_readable = std::move(on_readable)](bool, int) {
                               uv_reactor.NoteEvent();
                               on_readable();
                             });
  if (!poll) return nullptr;
  poll->Watch(UV_READABLE);
  return std::make_unique<uv::UvWatch>(std::move(poll));
}

const Histogram& MeasureTurns(Reactor& reactor) {
  return dynamic_cast<uv::UvReactor&>(reactor).MeasureTurns();
}

std::unique_ptr<Reactor> MakeUvReactor() {
  (void)std::signal(SIGPIPE, SIG_IGN);
  return std::make_unique<uv::UvReactor>();
}

void OnTermination(Reactor& reactor, std::function<void(int signal)> on_signal) {
  auto& uv_reactor = dynamic_cast<uv::UvReactor&>(reactor);
  uv_reactor.WatchSignal(SIGTERM, on_signal);
  uv_reactor.WatchSignal(SIGINT, std::move(on_signal));
}

void OnHangup(Reactor& reactor, std::function<void()> on_hangup) {
  dynamic_cast<uv::UvReactor&>(reactor).WatchSignal(
      SIGHUP, [on_hangup = std::move(on_hangup)](int) { on_hangup(); });
}

}  // namespace catena::io
