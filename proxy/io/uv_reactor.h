// Reactor on libuv. The only place of the proxy that includes uv.h is uv_reactor.cc.
#pragma once

#include <functional>
#include <memory>

#include "proxy/io/reactor.h"

namespace catena::io {

// Makes a reactor with a loop of its own. SIGPIPE is ignored for the process.
std::unique_ptr<Reactor> MakeUvReactor();

// Calls `on_signal` on the loop thread for each SIGTERM and SIGINT (and SIGHUP when `with_hangup`).
void OnTermination(Reactor& reactor, std::function<void(int signal)> on_signal);

}  // namespace catena::io
