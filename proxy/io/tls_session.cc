#include "proxy/io/tls_session.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>

#include "proxy/base/check.h"

namespace catena::io {
namespace {

// More than any handshake with a chain of certificates needs.
constexpr size_t kHandshakeBytesMax = 128u << 10;
constexpr unsigned char kHandshakeRecord = 0x16;
constexpr unsigned char kAlertRecord = 0x15;

bool IsIpAddress(const std::string& host) {
  unsigned char address[sizeof(in6_addr)];
  return inet_pton(AF_INET, host.c_str(), address) == 1 ||
         inet_pton(AF_INET6, host.c_str(), address) == 1;
}

}  // namespace

// The session as OpenSSL's source and sink of bytes, without a buffer between.
struct TlsBio {
  static TlsSession& Of(BIO* bio) { return *static_cast<TlsSession*>(BIO_get_data(bio)); }

  static int Read(BIO* bio, char* out, int size) {
    std::string_view& input = Of(bio).input_;
    BIO_clear_retry_flags(bio);
    if (input.empty()) {
      BIO_set_retry_read(bio);
      return -1;
    }
    const size_t count = std::min(input.size(), static_cast<size_t>(size));
    std::memcpy(out, input.data(), count);
    input.remove_prefix(count);
    return static_cast<int>(count);
  }
  static int Write(BIO* bio, const char* bytes, int size) {
    BIO_clear_retry_flags(bio);
    Of(bio).output_.append(bytes, static_cast<size_t>(size));
    return size;
  }
  static long Control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

  static BIO* Make(TlsSession* session) {
    static BIO_METHOD* const method = [] {
      BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "session");
      BIO_meth_set_read(made, Read);
      BIO_meth_set_write(made, Write);
      BIO_meth_set_ctrl(made, Control);
      return made;
    }();
    BIO* bio = BIO_new(method);
    BIO_set_data(bio, session);
    BIO_set_init(bio, 1);
    return bio;
  }
};

TlsSession::TlsSession(const TlsContext& context) : ssl_(SSL_new(context.get())) {
  CATENA_CHECK(ssl_ != nullptr, "there is memory for a TLS session");
  BIO* bio = TlsBio::Make(this);
  SSL_set_bio(ssl_, bio, bio);
}

TlsSession::TlsSession(const TlsContext& context, Accept accept) : TlsSession(context) {
  SSL_set_accept_state(ssl_);
  const bool certificate = accept == Accept::kCertificate;
  // A ticket from a port that asks for no certificate must not open one that does.
  const std::string_view kind = certificate ? "certificate" : "anybody";
  SSL_set_session_id_context(ssl_, reinterpret_cast<const unsigned char*>(kind.data()),
                             static_cast<unsigned>(kind.size()));
  SSL_set_verify(ssl_,
                 certificate ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : SSL_VERIFY_NONE,
                 nullptr);
}

TlsSession::TlsSession(const TlsContext& context, const std::string& host) : TlsSession(context) {
  SSL_set_connect_state(ssl_);
  SSL_set_verify(ssl_, SSL_VERIFY_PEER, nullptr);
  if (IsIpAddress(host)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_), host.c_str());
  } else {
    SSL_set_tlsext_host_name(ssl_, host.c_str());
    SSL_set1_host(ssl_, host.c_str());
  }
}

TlsSession::~TlsSession() { SSL_free(ssl_); }

size_t TlsSession::Receive(std::string_view bytes, std::span<char> plain) {
  CATENA_CHECK(plain.size() >= bytes.size() + kPlainExtraBytes, "room for what bytes decrypt to");
  if (!error_.empty()) return 0;
  ERR_clear_error();
  if (!open_ && SaysNoTls(bytes)) return 0;
  input_ = bytes;
  size_t count = 0;
  while (error_.empty() && !ended_ && (open_ || Handshake())) {
    const size_t room = std::min<size_t>(plain.size() - count, 1u << 30);
    const int result = SSL_read(ssl_, plain.data() + count, static_cast<int>(room));
    if (result > 0) {
      count += static_cast<size_t>(result);
      continue;
    }
    const int problem = SSL_get_error(ssl_, result);
    if (problem == SSL_ERROR_WANT_READ) break;
    if (problem == SSL_ERROR_ZERO_RETURN) {
      ended_ = true;
    } else {
      FailWith(problem);
    }
  }
  input_ = {};
  return count;
}

// True once it is done.
bool TlsSession::Handshake() {
  const size_t before = input_.size();
  const int result = SSL_do_handshake(ssl_);
  handshake_bytes_ += before - input_.size();
  if (result == 1) {
    open_ = true;
    return true;
  }
  const int problem = SSL_get_error(ssl_, result);
  if (problem != SSL_ERROR_WANT_READ) {
    FailWith(problem);
  } else if (handshake_bytes_ > kHandshakeBytesMax) {
    error_ = "the handshake is too long";
  }
  return false;
}

// OpenSSL has many texts for this, one for each way in which a plain protocol may begin.
bool TlsSession::SaysNoTls(std::string_view bytes) {
  if (handshake_bytes_ > 0 || bytes.empty()) return false;
  const auto first = static_cast<unsigned char>(bytes[0]);
  if (first == kHandshakeRecord || first == kAlertRecord) return false;
  error_ = "the other side does not speak TLS";
  return true;
}

void TlsSession::Send(std::string_view plain) {
  if (!error_.empty()) return;
  ERR_clear_error();
  while (!plain.empty()) {
    const size_t size = std::min<size_t>(plain.size(), 1u << 30);
    const int result = SSL_write(ssl_, plain.data(), static_cast<int>(size));
    if (result <= 0) return FailWith(SSL_get_error(ssl_, result));
    plain.remove_prefix(static_cast<size_t>(result));
  }
}

void TlsSession::SendEnd() {
  if (!open_ || !error_.empty()) return;
  ERR_clear_error();
  (void)SSL_shutdown(ssl_);
}

void TlsSession::FailWith(int problem) {
  error_ = problem == SSL_ERROR_SSL ? Reason() : "OpenSSL failed without a reason";
  // Nothing of it may meet whoever uses the library next.
  ERR_clear_error();
}

std::string TlsSession::Reason() const {
  const unsigned long code = ERR_peek_last_error();
  const char* text = ERR_reason_error_string(code);
  std::string reason = text != nullptr ? text : "unknown error";
  const long verdict = SSL_get_verify_result(ssl_);
  if (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED && verdict != X509_V_OK) {
    reason += std::string(": ") + X509_verify_cert_error_string(verdict);
  }
  return reason;
}

}  // namespace catena::io
