// [tls] of the TOML, as the programs use it.
#pragma once

#include <memory>
#include <string>

#include "config/config.h"
#include "proxy/base/result.h"
#include "proxy/io/reactor.h"
#include "proxy/io/tls_context.h"

namespace catena {

// nullptr if [tls] names no file. The error names [tls] and the file, and says what is wrong with it.
Result<std::shared_ptr<io::TlsContext>> LoadTls(const config::Tls& tls);

// A reactor of the uv_reactor and its variants with TLS, for a program's connections.
class TlsReactors {
 public:
  // `context` may be nullptr: then all are plain. `plain` outlives this. The log warns of a
  // certificate that ends soon.
  TlsReactors(io::Reactor& plain, std::shared_ptr<io::TlsContext> context);

  // With certificates on both sides if `on`, else plain.
  io::Reactor& Mutual(bool on) { return on ? *mutual_ : plain_; }
  // As [tls] clients says.
  io::Reactor& Clients(config::ClientTls clients);

 private:
  io::Reactor& plain_;
  std::unique_ptr<io::Reactor> mutual_, open_;
};

// Reads the files again, which may be others than before, for connections made from now on; the log
// tells how that went. What was there stays if they are unusable, or lack a certificate that there
// was. nullptr: nothing speaks TLS, and a restart would be needed.
void ReloadTls(const std::shared_ptr<io::TlsContext>& context, const config::Tls& tls);

}  // namespace catena
