// One link to a neighbour: a stream that has proved the cluster's secret and carries chain
// messages. Owns the stream. Loop thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "proxy/auth/proof.h"
#include "proxy/base/metrics.h"
#include "proxy/chain/log.h"
#include "proxy/chain/message.h"
#include "proxy/chain/replica.h"
#include "proxy/io/reactor.h"
#include "proxy/resp/decoder.h"

namespace catena::peer {

class PeerLink;

class PeerLinkHandler {
 public:
  virtual ~PeerLinkHandler() = default;
  // A dialled link is connected and both sides have proved the secret.
  virtual void OnLinkReady(PeerLink& link) = 0;
  // Bytes came, of a message or a part of one.
  virtual void OnLinkHeard(PeerLink& link) = 0;
  // Views in the message are valid during the call, which may destroy the link.
  virtual void OnLinkMessage(PeerLink& link, const chain::Message& message) = 0;
  virtual void OnLinkClosed(PeerLink& link, const std::string& reason) = 0;
  // UnsentBytes() fell to the low mark after SendBudget() had reached 0.
  virtual void OnLinkDrained(PeerLink& link) = 0;
};

class PeerLink final : public io::StreamHandler {
 public:
  // Unsent bytes at which a sender of log or snapshot bytes waits (I9).
  static constexpr size_t kUnsentBytesMax = 4u << 20;

  // Dials `address`. `handler` and `traffic`, into which the link's bytes are counted, outlive the
  // link.
  PeerLink(chain::LinkId id, io::Reactor& reactor, const io::Address& address,
           const auth::Credentials& credentials, PeerLinkHandler* handler, Traffic* traffic);
  // Takes over an accepted stream that has proved the secret; call Received for bytes already read.
  PeerLink(chain::LinkId id, std::unique_ptr<io::Stream> stream, PeerLinkHandler* handler,
           Traffic* traffic);

  chain::LinkId id() const { return id_; }
  // It is known what the link is for: further bytes count there.
  void CountInto(Traffic* traffic) { traffic_ = traffic; }
  const std::string& peer_name() const { return stream_->PeerName(); }

  void Send(const chain::Message& message);
  // As Append; the payload is not copied when it is large.
  void SendAppend(const chain::AppendSlice& append);
  // How much more payload may be sent now; 0: wait for OnLinkDrained.
  size_t SendBudget();
  void PauseReading() { stream_->PauseReading(); }
  void ResumeReading() { stream_->ResumeReading(); }
  // Sends what is unsent, then closes; the link may be destroyed afterwards.
  void CloseAfterFlush() { stream_->CloseAfterFlush(); }

  // Bytes read before the link existed.
  void Received(std::string_view bytes) { OnRead(bytes); }

  void OnConnected() override;
  void OnRead(std::string_view bytes) override;
  void OnClosed(std::string_view reason) override;
  void OnDrained() override;

 private:
  bool Authenticate();
  void DecodeMessages();

  chain::LinkId id_;
  PeerLinkHandler* handler_;
  Traffic* traffic_;
  std::unique_ptr<auth::Dialler> dialler_;  // until proved
  resp::CommandDecoder decoder_;
  resp::Command command_;
  std::string input_;
  std::unique_ptr<io::Stream> stream_;
  std::shared_ptr<bool> alive_ =
      std::make_shared<bool>(true);  // false: destroyed inside a callback

 public:
  ~PeerLink() override { *alive_ = false; }
};

}  // namespace catena::peer
