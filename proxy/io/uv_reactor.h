// Reactor on libuv. Nothing of the proxy but the uv_* files of this folder includes uv.h.
//
// Streams, listeners and timers may be destroyed in any callback, and outlive the reactor (they are
// dead then). Destroying the reactor closes everything, waits for workers, and calls nobody.
// An idle reactor does not wake up.
#pragma once

#include <functional>
#include <memory>

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

}  // namespace catena::io
