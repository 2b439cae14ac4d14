// One TLS connection without I/O: takes what was received, gives what is to be sent. Driven by
// uv_connection.h, and by programs with blocking sockets.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "proxy/io/tls_context.h"

struct ssl_st;

namespace catena::io {

class TlsSession {
 public:
  // Who the other side must be.
  enum class Accept {
    kAnybody,      // no certificate is asked for
    kCertificate,  // one by our CA; names do not matter
  };

  // Received bytes decrypt to at most so many more than they are: the rest of a record.
  static constexpr size_t kPlainExtraBytes = 17u << 10;

  // The side that accepted. `context` must have a certificate.
  TlsSession(const TlsContext& context, Accept accept);
  // The side that connected, whose certificate must come from our CA and be made for `host`, a name
  // or an IP address without brackets. Call Receive({}) to get the first bytes to send.
  TlsSession(const TlsContext& context, const std::string& host);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Takes received bytes, all of them, and writes what they decrypt to into `plain`, of at least
  // bytes.size() + kPlainExtraBytes; returns how much that is. Then look at open(), ended(),
  // error() and output().
  size_t Receive(std::string_view bytes, std::span<char> plain);
  // Encrypts into output(); only while open().
  void Send(std::string_view plain);
  // Says that we send nothing more.
  void SendEnd();

  // What is to be sent. Whoever sends it clears it.
  std::string& output() { return output_; }
  bool open() const { return open_; }    // the handshake is done
  bool ended() const { return ended_; }  // the other side said that it sends nothing more
  // "" or why this connection cannot go on. output() may hold an alert that tells the other side.
  const std::string& error() const { return error_; }

 private:
  explicit TlsSession(const TlsContext& context);
  bool Handshake();
  bool SaysNoTls(std::string_view bytes);
  void FailWith(int result);
  std::string Reason() const;

  friend struct TlsBio;
  ssl_st* ssl_;
  std::string_view input_;  // during Receive
  std::string output_;
  std::string error_;
  size_t handshake_bytes_ = 0;
  bool open_ = false;
  bool ended_ = false;
};

}  // namespace catena::io
