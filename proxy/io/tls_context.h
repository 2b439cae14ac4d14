// What TLS connections of this process are made with: its certificate, its key, and the CA that
// others' certificates must come from. TLS 1.2 or newer, no renegotiation; session tickets as
// OpenSSL has them.
//
// Example:
//   auto tls = io::TlsContext::Load({.ca_file = "ca.pem", .certificate_file = "node.pem",
//                                    .key_file = "node.key"});
//   if (!tls) return Fail(tls.error().message);       // names the file and what is wrong with it
//   ... (*tls)->Reload();                             // for connections made from now on
#pragma once

#include <memory>
#include <string>

#include "proxy/base/result.h"

struct ssl_ctx_st;

namespace catena::io {

// Paths of PEM files; an empty one is not used. Certificate and key go together.
struct TlsFiles {
  std::string ca_file;           // one certificate or more
  std::string certificate_file;  // ours, then those between it and the CA's, if any
  std::string key_file;          // not encrypted
  // Ours must come from the CA: the other side will ask for that.
  bool own_by_ca = false;
};

// What the files held, for libraries that do TLS by themselves.
struct TlsPem {
  std::string ca, certificate, key;
};

class TlsContext {
 public:
  // Reads and checks the files: there, PEM, key fits, valid today, by the CA if they have to be.
  // An error says which file it is and why. Never shows anything of a key.
  static Result<std::shared_ptr<TlsContext>> Load(TlsFiles files);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // Reads the files again. Connections that stand go on with what they began with. After an error
  // everything is as before.
  Result<void> Reload();
  // Takes other files, otherwise the same.
  Result<void> Reload(TlsFiles files);

  // Our certificate's last day as text, and whether that is less than two weeks ahead. Empty and
  // false without a certificate.
  const std::string& valid_until() const { return valid_until_; }
  bool expires_soon() const { return expires_soon_; }
  bool has_certificate() const { return !files_.certificate_file.empty(); }
  const std::shared_ptr<const TlsPem>& pem() const { return pem_; }

  ssl_ctx_st* get() const { return context_; }

 private:
  TlsContext() = default;

  TlsFiles files_;
  std::shared_ptr<const TlsPem> pem_;
  ssl_ctx_st* context_ = nullptr;
  std::string valid_until_;
  bool expires_soon_ = false;
};

}  // namespace catena::io
