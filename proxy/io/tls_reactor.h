// A reactor whose connections speak TLS, beside the one whose connections do not.
#pragma once

#include <memory>

#include "proxy/io/reactor.h"
#include "proxy/io/tls_context.h"
#include "proxy/io/tls_session.h"

namespace catena::io {

// Shares the loop of `reactor`, which is one of MakeUvReactor, and must outlive it: timers, hooks
// and the like are those of `reactor`. Connections last on when this one is destroyed.
//   Connect: the other side's certificate must come from our CA and name the host in `address`.
//   Listen:  needs a certificate of ours; asks for one of our CA's, or not.
// OnConnected and on_accept come when the handshake succeeded. One that takes longer than 5 s fails;
// when a port has 512 unfinished ones, the oldest that has said nothing to answer gives way.
std::unique_ptr<Reactor> MakeTlsReactor(Reactor& reactor, std::shared_ptr<TlsContext> context,
                                        TlsSession::Accept accept);

}  // namespace catena::io
