#include "proxy/server/peer_acceptor.h"

#include "proxy/base/log.h"
#include "proxy/resp/decoder.h"
#include "proxy/resp/encoder.h"

namespace catena::server {
namespace {

constexpr size_t kPendingMax = 1024;
constexpr Duration kProveWithin = std::chrono::seconds(5);
constexpr resp::Limits kProofLimits{
    .bulk_bytes_max = 1u << 20, .elements_max = 16, .inline_bytes_max = 4096, .nesting_max = 1};

}  // namespace

class PeerAcceptor::Pending final : public io::StreamHandler {
 public:
  Pending(PeerAcceptor& owner, uint64_t id, std::unique_ptr<io::Stream> stream)
      : owner_(owner),
        id_(id),
        accepted_at_(owner.reactor_.Now()),
        acceptor_(owner.credentials_, owner.reactor_.RandomBytes(16)),
        decoder_(kProofLimits),
        stream_(std::move(stream)) {
    stream_->SetHandler(this);
  }

  TimePoint accepted_at() const { return accepted_at_; }

  void OnRead(std::string_view bytes) override {
    input_.append(bytes);
    if (!proved_ && !Prove()) return;
    Open();
  }

  void OnClosed(std::string_view) override { owner_.Remove(id_); }

 private:
  bool Prove() {
    std::string out;
    Result<bool> proved = acceptor_.Feed(input_, out);
    stream_->Write(out);
    if (!proved) {
      log::Warn("peer_refused", {{"from", stream_->PeerName()}, {"why", proved.error().message}});
      Close();
      return false;
    }
    proved_ = *proved;
    return proved_;
  }

  void Open() {
    resp::Command command;
    size_t consumed = 0;
    resp::Progress progress = decoder_.Decode(input_, command, consumed);
    if (progress == resp::Progress::kNeedMore) return;
    if (progress == resp::Progress::kError) {
      std::string out;
      resp::AppendError(out, "ERR " + decoder_.error());
      stream_->Write(out);
      return Close();
    }
    std::vector<std::string> arguments(command.arguments.begin(), command.arguments.end());
    std::string rest = input_.substr(consumed);
    auto stream = std::move(stream_);
    auto on_opened = owner_.on_opened_;
    owner_.Remove(id_);  // destroys this
    on_opened(std::move(stream), arguments, std::move(rest));
  }

  void Close() {
    stream_->CloseAfterFlush();
    owner_.Remove(id_);
  }

  PeerAcceptor& owner_;
  uint64_t id_;
  TimePoint accepted_at_;
  auth::Acceptor acceptor_;
  bool proved_ = false;
  resp::CommandDecoder decoder_;
  std::string input_;
  std::unique_ptr<io::Stream> stream_;
};

PeerAcceptor::PeerAcceptor(io::Reactor& reactor, const auth::Credentials& credentials,
                           OnOpened on_opened)
    : reactor_(reactor),
      credentials_(credentials),
      on_opened_(std::move(on_opened)),
      timer_(reactor.MakeTimer([this] { DropSilent(); })) {}

PeerAcceptor::~PeerAcceptor() = default;

Result<void> PeerAcceptor::Listen(const io::Address& address) {
  auto listener = reactor_.Listen(
      address, [this](std::unique_ptr<io::Stream> stream) { OnAccept(std::move(stream)); });
  if (!listener) return tl::unexpected(listener.error());
  listener_ = std::move(*listener);
  return {};
}

void PeerAcceptor::OnAccept(std::unique_ptr<io::Stream> stream) {
  // The oldest gives way: who means it has proved himself long ago, and nobody can keep others out
  // by waiting.
  if (pending_.size() >= kPendingMax) pending_.erase(pending_.begin());
  uint64_t id = ++last_id_;
  pending_[id] = std::make_unique<Pending>(*this, id, std::move(stream));
  if (pending_.size() == 1) timer_->Start(kProveWithin);
}

void PeerAcceptor::Remove(uint64_t id) { pending_.erase(id); }

void PeerAcceptor::DropSilent() {
  TimePoint now = reactor_.Now();
  std::erase_if(pending_,
                [&](const auto& item) { return now - item.second->accepted_at() >= kProveWithin; });
  if (!pending_.empty()) timer_->Start(kProveWithin);
}

}  // namespace catena::server
