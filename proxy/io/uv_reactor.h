// Reactor on libuv. Nothing of the proxy but the uv_* files of this folder includes uv.h.
//
// Streams, listeners and timers may be destroyed in any callback, and outlive the reactor (they are
// dead then). Destroying the reactor closes everything, waits for workers, and calls nobody.
// An idle reactor does not wake up.
#pragma once

#include <functional>
#include <memory>

#include "proxy/base/metrics.h"
#include "proxy/io/reactor.h"

namespace catena::io {

// Makes a reactor with a loop of its own. SIGPIPE is ignored for the process.
std::unique_ptr<Reactor> MakeUvReactor();

// Calls `on_signal` on the loop thread for each SIGTERM and SIGINT. `reactor` is one of
// MakeUvReactor.
void OnTermination(Reactor& reactor, std::function<void(int signal)> on_signal);
// The same for each SIGHUP, which asks a process to read its files again. Any number of callers, told in
// no certain order.
void OnHangup(Reactor& reactor, std::function<void()> on_hangup);

// Of the reactors of MakeUvReactor only, as the following.

// A descriptor that is being watched, until this is destroyed. The descriptor stays its owner's.
class Watch {
 public:
  virtual ~Watch() = default;
};
// Calls `on_readable` in each turn in which `fd` can be read. nullptr: it cannot be polled.
std::unique_ptr<Watch> WatchReadable(Reactor& reactor, int fd, std::function<void()> on_readable);

// How long turns take from the first event to the last write, from now on: what comes meanwhile waits
// so long. Lives as long as the reactor.
const Histogram& MeasureTurns(Reactor& reactor);

}  // namespace catena::io
