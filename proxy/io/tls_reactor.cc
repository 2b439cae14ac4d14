#include "proxy/io/tls_reactor.h"

#include <utility>

#include "proxy/io/uv_loop.h"

namespace catena::io {
namespace {

class TlsReactor final : public Reactor {
 public:
  TlsReactor(uv::UvReactor& reactor, uv::Security security)
      : reactor_(reactor), security_(std::move(security)) {}

  std::unique_ptr<Stream> Connect(const Address& address, StreamHandler* handler) override {
    return reactor_.ConnectWith(security_.context.get(), address, handler);
  }
  Result<std::unique_ptr<Listener>> Listen(
      const Address& address, std::function<void(std::unique_ptr<Stream>)> on_accept) override {
    return reactor_.ListenWith(security_, address, std::move(on_accept));
  }

  TimePoint Now() override { return reactor_.Now(); }
  int64_t WallMilliseconds() override { return reactor_.WallMilliseconds(); }
  std::string RandomBytes(size_t count) override { return reactor_.RandomBytes(count); }
  std::unique_ptr<Timer> MakeTimer(std::function<void()> on_fire) override {
    return reactor_.MakeTimer(std::move(on_fire));
  }
  void AddTurnEndHook(std::function<void()> hook) override {
    reactor_.AddTurnEndHook(std::move(hook));
  }
  void Defer(std::function<void()> fn) override { reactor_.Defer(std::move(fn)); }
  void RunOnWorker(std::function<void()> work, std::function<void()> done) override {
    reactor_.RunOnWorker(std::move(work), std::move(done));
  }
  size_t OpenStreams() const override { return reactor_.OpenStreams(); }
  void Run() override { reactor_.Run(); }
  void Stop() override { reactor_.Stop(); }

 private:
  uv::UvReactor& reactor_;
  const uv::Security security_;
};

}  // namespace

std::unique_ptr<Reactor> MakeTlsReactor(Reactor& reactor, std::shared_ptr<TlsContext> context,
                                        TlsSession::Accept accept) {
  return std::make_unique<TlsReactor>(dynamic_cast<uv::UvReactor&>(reactor),
                                      uv::Security{std::move(context), accept});
}

}  // namespace catena::io
