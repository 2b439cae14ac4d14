#include "proxy/tls_setup.h"

#include <utility>

#include "proxy/base/log.h"
#include "proxy/io/tls_reactor.h"

namespace catena {
namespace {

using Accept = io::TlsSession::Accept;

void TellExpiry(const io::TlsContext& context) {
  if (!context.expires_soon()) return;
  log::Warn("tls_certificate_ends_soon", {{"valid_until", context.valid_until()}});
}

bool NamesFiles(const config::Tls& tls) {
  return !tls.ca_file.empty() || !tls.certificate_file.empty();
}

io::TlsFiles FilesOf(const config::Tls& tls) {
  return {tls.ca_file, tls.certificate_file, tls.key_file,
          /*own_by_ca=*/tls.peers || tls.coordinators};
}

}  // namespace

Result<std::shared_ptr<io::TlsContext>> LoadTls(const config::Tls& tls) {
  if (!NamesFiles(tls)) return nullptr;
  auto context = io::TlsContext::Load(FilesOf(tls));
  if (!context) return Fail("[tls] " + context.error().message);
  return context;
}

TlsReactors::TlsReactors(io::Reactor& plain, std::shared_ptr<io::TlsContext> context)
    : plain_(plain) {
  if (context == nullptr) return;
  TellExpiry(*context);
  mutual_ = io::MakeTlsReactor(plain, context, Accept::kCertificate);
  open_ = io::MakeTlsReactor(plain, std::move(context), Accept::kAnybody);
}

io::Reactor& TlsReactors::Clients(config::ClientTls clients) {
  if (clients == config::ClientTls::kOff) return plain_;
  return clients == config::ClientTls::kOn ? *open_ : *mutual_;
}

void ReloadTls(const std::shared_ptr<io::TlsContext>& context, const config::Tls& tls) {
  if (context == nullptr) return;
  const bool lacks_one = context->has_certificate() && tls.certificate_file.empty();
  const auto reloaded = lacks_one ? Result<void>(Fail("certificate_file is needed until a restart"))
                                  : context->Reload(FilesOf(tls));
  if (!reloaded) {
    return log::Error("tls_reload_failed",
                      {{"why", reloaded.error().message}, {"certificates", "as before"}});
  }
  log::Info("tls_reloaded", {{"valid_until", context->valid_until()}});
  TellExpiry(*context);
}

}  // namespace catena
