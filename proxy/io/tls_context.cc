#include "proxy/io/tls_context.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>
#include <vector>

namespace catena::io {
namespace {

constexpr int kSoonSeconds = 14 * 24 * 3600;

template <auto free>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    free(object);
  }
};
using BioPtr = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using CertificatePtr = std::unique_ptr<X509, Freed<X509_free>>;
using Certificates = std::vector<CertificatePtr>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using ContextPtr = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;
using StorePtr = std::unique_ptr<X509_STORE, Freed<X509_STORE_free>>;
using StoreContextPtr = std::unique_ptr<X509_STORE_CTX, Freed<X509_STORE_CTX_free>>;

// "certificate_file /etc/catena/node.pem": how errors name a file.
std::string Named(const char* option, const std::string& path) {
  return std::string(option) + " " + path;
}

Result<std::string> ReadFile(const char* option, const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  // A directory opens, and fails only when read.
  if (!file || (file.peek(), file.bad())) {
    return Fail(Named(option, path) + ": cannot read: " + std::strerror(errno));
  }
  return std::string(std::istreambuf_iterator<char>(file), {});
}

BioPtr Over(const std::string& text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// No prompt on the terminal for a key that is encrypted.
int NoPassword(char*, int, int, void*) { return 0; }

Result<Certificates> ParseCertificates(const std::string& text, const std::string& named) {
  const BioPtr bio = Over(text);
  Certificates certificates;
  while (X509* one = PEM_read_bio_X509(bio.get(), nullptr, NoPassword, nullptr)) {
    certificates.emplace_back(one);
  }
  // The end of the file is told as "no start line", too.
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (certificates.empty() || !at_end) {
    return Fail(named + ": not a certificate in PEM form (-----BEGIN CERTIFICATE-----)");
  }
  return certificates;
}

Result<KeyPtr> ParseKey(const std::string& text, const std::string& named) {
  KeyPtr key(PEM_read_bio_PrivateKey(Over(text).get(), nullptr, NoPassword, nullptr));
  ERR_clear_error();
  if (key) return key;
  const bool encrypted = text.find("ENCRYPTED") != std::string::npos;
  return Fail(named + (encrypted
                           ? ": the key is encrypted; allowed: one that is not, in a file "
                             "that only Catena's user can read"
                           : ": not a private key in PEM form (-----BEGIN PRIVATE KEY-----)"));
}

std::string TimeText(const ASN1_TIME* time) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  ASN1_TIME_print(bio.get(), time);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return {text, static_cast<size_t>(size)};
}

Result<void> CheckDates(const X509* certificate, const std::string& named) {
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) {
    return Fail(named + ": expired on " + TimeText(X509_get0_notAfter(certificate)));
  }
  if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0) {
    return Fail(named + ": not valid before " + TimeText(X509_get0_notBefore(certificate)));
  }
  return {};
}

// Whether `own`'s first comes from the store's, with the help of its others.
Result<void> CheckIssuer(X509_STORE* store, const Certificates& own, const std::string& named,
                         const std::string& ca_file) {
  const StoreContextPtr check(X509_STORE_CTX_new());
  STACK_OF(X509)* between = sk_X509_new_null();
  for (size_t i = 1; i < own.size(); ++i) sk_X509_push(between, own[i].get());
  X509_STORE_CTX_init(check.get(), store, own[0].get(), between);
  const bool good = X509_verify_cert(check.get()) == 1;
  const int why = X509_STORE_CTX_get_error(check.get());
  sk_X509_free(between);
  ERR_clear_error();
  if (good) return {};
  return Fail(named + ": does not come from the CA in ca_file " + ca_file + ": " +
              X509_verify_cert_error_string(why));
}

ContextPtr MakeContext() {
  ContextPtr context(SSL_CTX_new(TLS_method()));
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  // Ports ask for a certificate or not session by session; so nothing is kept on this side.
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                         SSL_OP_CIPHER_SERVER_PREFERENCE);
  // An idle client costs no buffers; a write may be repeated from another place.
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  return context;
}

// Fills `context` from `files`, and `pem` on the way.
Result<void> UseCa(SSL_CTX* context, const TlsFiles& files, TlsPem& pem) {
  const std::string named = Named("ca_file", files.ca_file);
  auto text = ReadFile("ca_file", files.ca_file);
  if (!text) return tl::unexpected(text.error());
  const auto certificates = ParseCertificates(*text, named);
  if (!certificates) return tl::unexpected(certificates.error());
  for (const CertificatePtr& each : *certificates) {
    if (auto dates = CheckDates(each.get(), named); !dates) return dates;
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context), each.get());
    SSL_CTX_add_client_CA(context, each.get());
  }
  pem.ca = *std::move(text);
  return {};
}

Result<CertificatePtr> UseCertificate(SSL_CTX* context, const TlsFiles& files, TlsPem& pem) {
  const std::string named = Named("certificate_file", files.certificate_file);
  auto text = ReadFile("certificate_file", files.certificate_file);
  if (!text) return tl::unexpected(text.error());
  auto key_text = ReadFile("key_file", files.key_file);
  if (!key_text) return tl::unexpected(key_text.error());
  auto own = ParseCertificates(*text, named);
  if (!own) return tl::unexpected(own.error());
  const auto key = ParseKey(*key_text, Named("key_file", files.key_file));
  if (!key) return tl::unexpected(key.error());
  if (auto dates = CheckDates((*own)[0].get(), named); !dates) return tl::unexpected(dates.error());
  if (X509_check_private_key((*own)[0].get(), key->get()) != 1) {
    ERR_clear_error();
    return Fail(Named("key_file", files.key_file) + ": is not the key of " + named);
  }
  if (files.own_by_ca) {
    auto issued = CheckIssuer(SSL_CTX_get_cert_store(context), *own, named, files.ca_file);
    if (!issued) return tl::unexpected(issued.error());
  }
  const bool used = SSL_CTX_use_certificate(context, (*own)[0].get()) == 1 &&
                    SSL_CTX_use_PrivateKey(context, key->get()) == 1;
  if (!used) {
    const char* why = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return Fail(named + ": cannot be used: " + (why != nullptr ? why : "unknown error"));
  }
  for (size_t i = 1; i < own->size(); ++i) SSL_CTX_add1_chain_cert(context, (*own)[i].get());
  pem.certificate = *std::move(text);
  pem.key = *std::move(key_text);
  return std::move((*own)[0]);
}

}  // namespace

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

Result<std::shared_ptr<TlsContext>> TlsContext::Load(TlsFiles files) {
  std::shared_ptr<TlsContext> context(new TlsContext);
  if (auto loaded = context->Reload(std::move(files)); !loaded) {
    return tl::unexpected(loaded.error());
  }
  return context;
}

Result<void> TlsContext::Reload() { return Reload(files_); }

Result<void> TlsContext::Reload(TlsFiles files) {
  ContextPtr context = MakeContext();
  TlsPem pem;
  std::string valid_until;
  bool expires_soon = false;
  if (!files.ca_file.empty()) {
    if (auto used = UseCa(context.get(), files, pem); !used) return used;
  }
  if (!files.certificate_file.empty()) {
    auto own = UseCertificate(context.get(), files, pem);
    if (!own) return tl::unexpected(own.error());
    const ASN1_TIME* end = X509_get0_notAfter(own->get());
    time_t soon = time(nullptr) + kSoonSeconds;
    valid_until = TimeText(end);
    expires_soon = X509_cmp_time(end, &soon) < 0;
  }
  SSL_CTX_free(std::exchange(context_, context.release()));
  files_ = std::move(files);
  pem_ = std::make_shared<const TlsPem>(std::move(pem));
  valid_until_ = std::move(valid_until);
  expires_soon_ = expires_soon;
  return {};
}

}  // namespace catena::io
