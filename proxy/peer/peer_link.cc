#include "proxy/peer/peer_link.h"

#include "proxy/base/log.h"
#include "proxy/peer/codec.h"

namespace catena::peer {
namespace {

// Below this a copy into the output is cheaper than a reference.
constexpr size_t kSharedWriteBytesMin = 4096;
// A frame is at most one slice of the log or one snapshot chunk.
constexpr resp::Limits kLimits{
    .bulk_bytes_max = 2u << 20, .elements_max = 16, .inline_bytes_max = 4096, .nesting_max = 1};

}  // namespace

PeerLink::PeerLink(chain::LinkId id, io::Reactor& reactor, const io::Address& address,
                   const auth::Credentials& credentials, PeerLinkHandler* handler, Traffic* traffic)
    : id_(id),
      handler_(handler),
      traffic_(traffic),
      dialler_(std::make_unique<auth::Dialler>(credentials, reactor.RandomBytes(16))),
      decoder_(kLimits),
      stream_(reactor.Connect(address, this)) {}

PeerLink::PeerLink(chain::LinkId id, std::unique_ptr<io::Stream> stream, PeerLinkHandler* handler,
                   Traffic* traffic)
    : id_(id), handler_(handler), traffic_(traffic), decoder_(kLimits), stream_(std::move(stream)) {
  stream_->SetHandler(this);
}

void PeerLink::OnConnected() { stream_->Write(dialler_->Greeting()); }

void PeerLink::OnRead(std::string_view bytes) {
  traffic_->in += bytes.size();
  input_.append(bytes);
  handler_->OnLinkHeard(*this);
  if (dialler_ && !Authenticate()) return;
  DecodeMessages();
}

bool PeerLink::Authenticate() {
  std::string out;
  Result<bool> proved = dialler_->Feed(input_, out);
  if (!out.empty()) stream_->Write(out);
  if (!proved) {
    handler_->OnLinkClosed(*this, proved.error().message);
    return false;
  }
  if (!*proved) return false;
  log::Debug("peer_proven", {{"peer", stream_->PeerName()}, {"protocol", dialler_->version()}});
  dialler_.reset();
  std::shared_ptr<bool> alive = alive_;
  handler_->OnLinkReady(*this);
  return *alive;
}

void PeerLink::DecodeMessages() {
  std::shared_ptr<bool> alive = alive_;
  size_t used = 0;
  std::string error;
  while (error.empty()) {
    size_t consumed = 0;
    resp::Progress progress =
        decoder_.Decode(std::string_view(input_).substr(used), command_, consumed);
    used += consumed;
    if (progress == resp::Progress::kNeedMore) break;
    if (progress == resp::Progress::kError) {
      error = decoder_.error();
      break;
    }
    Result<chain::Message> message = Decode(command_.arguments);
    if (!message) {
      error = message.error().message;
      break;
    }
    handler_->OnLinkMessage(*this, *message);
    if (!*alive) return;
  }
  input_.erase(0, used);
  if (!error.empty()) handler_->OnLinkClosed(*this, error);
}

void PeerLink::OnClosed(std::string_view reason) {
  handler_->OnLinkClosed(*this, std::string(reason));
}

void PeerLink::OnDrained() { handler_->OnLinkDrained(*this); }

void PeerLink::Send(const chain::Message& message) {
  std::string out;
  Encode(message, out);
  traffic_->out += out.size();
  stream_->Write(out);
}

void PeerLink::SendAppend(const chain::AppendSlice& append) {
  const chain::Log::Slice& slice = append.slice;
  std::string out;
  EncodeAppendHeader(append.from, append.committed, slice.bytes.size(), out);
  traffic_->out += out.size() + slice.bytes.size() + 2;
  stream_->Write(out);
  if (slice.bytes.size() >= kSharedWriteBytesMin) {
    stream_->WriteShared(slice.owner, slice.bytes);
  } else {
    stream_->Write(slice.bytes);
  }
  stream_->Write("\r\n");
}

size_t PeerLink::SendBudget() {
  size_t unsent = stream_->UnsentBytes();
  if (unsent < kUnsentBytesMax) return kUnsentBytesMax - unsent;
  stream_->NotifyBelow(kUnsentBytesMax / 4);
  return 0;
}

}  // namespace catena::peer
