// The TLS of connections: what arrives is decrypted before it is delivered, what is pending is
// encrypted when a turn ends, so that a turn's output shares records.
#include "proxy/io/uv_connection_tls.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "proxy/base/log.h"
#include "proxy/io/uv_loop.h"

namespace catena::io::uv {
namespace {

constexpr Duration kHandshakeWithin = std::chrono::seconds(5);
// Encrypted before the kernel has taken what was: bounds the copy of a large output.
constexpr size_t kEncryptedAtOnce = 256u << 10;

}  // namespace

void Connection::SecureTo(const TlsContext& context, const std::string& host) {
  tls_ = std::make_unique<Secured>(context, host);
}

void Connection::SecureAccepted(const TlsContext& context, TlsSession::Accept accept,
                                HandshakeEnd on_end) {
  tls_ = std::make_unique<Secured>(context, accept);
  tls_->on_end = std::move(on_end);
  StartHandshake();
}

bool Connection::Handshaking() const { return tls_ != nullptr && !tls_->session.open(); }

bool Connection::WasAnswered() const { return tls_ != nullptr && tls_->answered; }

void Connection::StartHandshake() {
  tls_->deadline = reactor_->MakeTimer([this] {
    const auto self = shared_from_this();
    FailSecured("no TLS handshake within 5 s");
    Close();
  });
  tls_->deadline->Start(kHandshakeWithin);
  // The side that connected speaks first.
  if (tls_->on_end == nullptr) ReceiveSecured({});
  UpdateInterest();
}

void Connection::ReceiveSecured(std::string_view bytes) {
  const auto self = shared_from_this();
  TlsSession& session = tls_->session;
  const bool was_open = session.open();
  const std::span<char> buffer = reactor_->plain_buffer();
  const std::string_view plain(buffer.data(), session.Receive(bytes, buffer));
  if (!session.output().empty()) {
    tls_->answered = true;
    RequestFlush();
  }
  if (session.open() && !was_open) FinishHandshake();
  if (closed_) return;
  if (!plain.empty() && !finishing_) Deliver(plain);
  if (closed_) return;
  if (!session.error().empty()) return FailSecured(session.error());
  if (session.ended()) OnEndOfInput();
}

void Connection::Deliver(std::string_view plain) {
  // What was held goes first.
  if (tls_->held.empty() && !paused_ && handler_ != nullptr) return handler_->OnRead(plain);
  tls_->held.append(plain);
  DeliverHeld();
}

void Connection::FinishHandshake() {
  tls_->deadline.reset();
  if (!pending_.empty() || finishing_) RequestFlush();
  if (tls_->on_end != nullptr) return EndHandshake(true, "");
  UpdateInterest();
  if (handler_ != nullptr) handler_->OnConnected();
}

void Connection::EndHandshake(bool opened, std::string_view why) {
  tls_->deadline.reset();
  if (const HandshakeEnd on_end = std::exchange(tls_->on_end, nullptr)) on_end(opened, why);
}

// At any time: alerts and broken records come later, too. The other side is told why by an alert.
void Connection::FailSecured(const std::string& why) {
  TakeEncrypted();
  if (fd_ >= 0 && !blocked_) (void)Send(sending_);
  if (closed_) return;
  const bool accepted = tls_->on_end != nullptr;
  EndHandshake(false, why);
  if (accepted || handler_ == nullptr) {
    // Not at once: the reset that follows would overtake the alert.
    pending_.Clear();
    return CloseAfterFlush();
  }
  log::Warn("tls_failed", {{"peer", peer_name_}, {"reason", why}});
  Fail("TLS: " + why);
}

bool Connection::HoldsInput() const { return tls_ != nullptr && !tls_->held.empty(); }

void Connection::DeliverHeld() {
  if (tls_->held.empty() || paused_ || handler_ == nullptr) return;
  reactor_->RunInNextTurn([self = shared_from_this()] {
    if (self->closed_ || self->paused_ || self->handler_ == nullptr) return;
    const std::string held = std::exchange(self->tls_->held, {});
    if (!held.empty()) self->handler_->OnRead(held);
    if (!self->closed_ && self->tls_->session.ended()) self->OnEndOfInput();
  });
}

// False: the kernel did not take all of it.
bool Connection::SendSecured() {
  TlsSession& session = tls_->session;
  while (true) {
    TakeEncrypted();
    if (!Send(sending_)) return false;
    if (!session.open() || !session.error().empty()) return true;
    if (!pending_.empty()) {
      Encrypt();
      if (!session.error().empty()) return FailWriting(EPROTO), false;
    } else if (finishing_ && !std::exchange(tls_->said_end, true)) {
      session.SendEnd();
    } else {
      return true;
    }
  }
}

void Connection::TakeEncrypted() {
  std::string& output = tls_->session.output();
  sending_.Append(output);
  output.clear();
}

void Connection::Encrypt() {
  auto& pieces = reactor_->pieces();
  size_t total = 0;
  const size_t count = pending_.Gather(pieces.data(), pieces.size(), total);
  size_t taken = 0;
  for (size_t i = 0; i < count && taken < kEncryptedAtOnce; ++i) {
    const size_t size = std::min(pieces[i].iov_len, kEncryptedAtOnce - taken);
    tls_->session.Send({static_cast<const char*>(pieces[i].iov_base), size});
    taken += size;
  }
  pending_.Consume(taken);
}

}  // namespace catena::io::uv
