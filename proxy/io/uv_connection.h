// Streams on libuv. A socket is polled with uv_poll and read and written directly, instead of
// through uv_stream: so a turn's output is one sendmsg of our choosing, partial progress is seen at
// once, and what the kernel holds can still be read after a write failed.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/io/output.h"
#include "proxy/io/reactor.h"
#include "proxy/io/socket.h"
#include "proxy/io/tls_session.h"
#include "proxy/io/uv_handles.h"

namespace catena::io::uv {

// How the handshake of an accepted connection ended. `why` tells why it was refused; it is empty if
// it opened, or if the peer merely went away.
using HandshakeEnd = std::function<void(bool opened, std::string_view why)>;

// The socket behind a UvStream. Lives in the reactor's table while it is open, which may be longer
// than the stream (CloseAfterFlush), and until libuv let go of its handle, which may be longer
// still: so any method may find that a callback it made has closed it.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(UvReactor& reactor, std::string peer_name, StreamHandler* handler);
  ~Connection();

  // Each ends in OnConnected, or in OnClosed in a later turn.
  void ConnectTo(std::vector<SocketAddress> addresses);
  void Resolve(const Endpoint& endpoint);
  void FailToConnect(std::string why);
  // Takes over an accepted socket; reading begins with StartReading.
  bool Accept(int fd);
  // TLS from the first byte, within kHandshakeWithin. Before ConnectTo or Resolve.
  void SecureTo(const TlsContext& context, const std::string& host);
  // The same after Accept. `on_end` is called once, if the connection is not abandoned before.
  void SecureAccepted(const TlsContext& context, TlsSession::Accept accept, HandshakeEnd on_end);
  // Whether the other side of a handshake has said enough for an answer of ours.
  bool WasAnswered() const;
  void StartReading() { UpdateInterest(); }

  void SetHandler(StreamHandler* handler);
  void Write(std::string_view bytes);
  void WriteShared(std::shared_ptr<const std::string> owner, std::string_view bytes);
  size_t UnsentBytes() const { return sending_.bytes() + pending_.bytes(); }
  void NotifyBelow(size_t mark);
  void PauseReading();
  void ResumeReading();
  void CloseAfterFlush();
  void Abandon();  // the owner is gone
  void CutOff();   // the reactor goes
  // The end of a turn: hands the output to the kernel.
  void Flush();

  const std::string& peer_name() const { return peer_name_; }
  const std::string& local_name() const { return local_name_; }

 private:
  void TryNextAddress();
  void FinishConnecting();
  bool Watch(int fd);
  void OnPoll(bool failed, int events);
  void Read(int reads_max);
  bool WantsInput() const;
  void OnEndOfInput();
  bool Send(Output& output);
  void FailWriting(int error);
  void FinishAfterFlush();
  void StartClosingTimer(Duration limit);
  void OutputChanged();
  void RequestFlush();
  void CheckDrained();
  void UpdateInterest();
  void Fail(std::string_view reason);
  void DropSocket();
  void Close();

  // TLS (uv_connection_tls.cc).
  struct Secured;
  bool Handshaking() const;
  void StartHandshake();
  void ReceiveSecured(std::string_view bytes);
  void FinishHandshake();
  void FailSecured(const std::string& why);
  void Deliver(std::string_view plain);
  void DeliverHeld();
  bool HoldsInput() const;
  bool SendSecured();
  void TakeEncrypted();
  void Encrypt();
  void EndHandshake(bool opened, std::string_view why);

  UvReactor* reactor_;
  StreamHandler* handler_;  // null once nothing more may be told
  std::string peer_name_;
  std::string local_name_;

  int fd_ = -1;
  std::shared_ptr<Poll> poll_;
  std::vector<SocketAddress> addresses_;  // still to be tried, last first
  int connect_error_ = 0;

  bool connected_ = false;
  bool closed_ = false;
  bool paused_ = false;
  bool end_of_input_ = false;
  bool finishing_ = false;     // CloseAfterFlush: input is dropped
  bool write_failed_ = false;  // its report is on its way
  bool blocked_ = false;       // the kernel took less than it was given
  bool writable_ = false;      // and has room again
  bool in_flush_list_ = false;

  Output sending_;  // cut off by a full kernel buffer, or encrypted; goes first
  Output pending_;
  bool notify_ = false;
  bool notify_above_ = false;  // UnsentBytes() has been above notify_mark_
  size_t notify_mark_ = 0;
  std::unique_ptr<Timer> closing_timer_;
  std::unique_ptr<Secured> tls_;  // null: plain
};

class UvStream : public Stream {
 public:
  explicit UvStream(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}
  ~UvStream() override { connection_->Abandon(); }

  void SetHandler(StreamHandler* handler) override { connection_->SetHandler(handler); }
  void Write(std::string_view bytes) override { connection_->Write(bytes); }
  void WriteShared(std::shared_ptr<const std::string> owner, std::string_view bytes) override {
    connection_->WriteShared(std::move(owner), bytes);
  }
  size_t UnsentBytes() const override { return connection_->UnsentBytes(); }
  void NotifyBelow(size_t mark) override { connection_->NotifyBelow(mark); }
  void PauseReading() override { connection_->PauseReading(); }
  void ResumeReading() override { connection_->ResumeReading(); }
  void CloseAfterFlush() override { connection_->CloseAfterFlush(); }
  const std::string& PeerName() const override { return connection_->peer_name(); }
  const std::string& LocalName() const override { return connection_->local_name(); }

 private:
  std::shared_ptr<Connection> connection_;
};

}  // namespace catena::io::uv
