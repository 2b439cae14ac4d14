// libuv handles whose memory outlives whoever lets go first. Internal to the uv_* files.
#pragma once

#include <uv.h>

#include <functional>
#include <memory>
#include <utility>

#include "proxy/io/reactor.h"

namespace catena::io::uv {

class UvReactor;

// A fresh reading of CLOCK_BOOTTIME.
TimePoint BootTime();

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

}  // namespace catena::io::uv
