#include "proxy/admin/http_server.h"

#include <microhttpd.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "proxy/io/socket.h"
#include "proxy/io/uv_reactor.h"

namespace catena::admin {
namespace {

constexpr unsigned kConnectionsMax = 64;
constexpr unsigned kSilenceSecondsMax = 10;
constexpr size_t kRequestBytesMax = 32u << 10;

class MicroHttpServer final : public HttpServer {
 public:
  MicroHttpServer(io::Reactor& reactor, Handler handler) : handler_(std::move(handler)) {
    timer_ = reactor.MakeTimer([this] { Run(); });
  }
  ~MicroHttpServer() override {
    watch_.reset();
    timer_.reset();
    if (daemon_ != nullptr) MHD_stop_daemon(daemon_);
  }

  // Takes over the listening socket.
  bool Begin(io::Reactor& reactor, int listening) {
    daemon_ = MHD_start_daemon(
        MHD_USE_EPOLL, 0, nullptr, nullptr, OnRequest, this, MHD_OPTION_LISTEN_SOCKET, listening,
        MHD_OPTION_CONNECTION_LIMIT, kConnectionsMax, MHD_OPTION_CONNECTION_TIMEOUT,
        kSilenceSecondsMax, MHD_OPTION_CONNECTION_MEMORY_LIMIT, kRequestBytesMax, MHD_OPTION_END);
    if (daemon_ == nullptr) {
      close(listening);
      return false;
    }
    const MHD_DaemonInfo* info = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == nullptr) return false;
    watch_ = io::WatchReadable(reactor, info->epoll_fd, [this] { Run(); });
    return watch_ != nullptr;
  }

 private:
  void Run() {
    MHD_run(daemon_);
    MHD_UNSIGNED_LONG_LONG milliseconds = 0;
    if (MHD_get_timeout(daemon_, &milliseconds) == MHD_YES) {
      timer_->Start(std::chrono::milliseconds(milliseconds));
    } else {
      timer_->Stop();
    }
  }

  // Called twice for a request: with its head, and when it has come as a whole.
  static MHD_Result OnRequest(void* self, MHD_Connection* connection, const char* url,
                              const char* method, const char*, const char*, size_t* upload_bytes,
                              void** begun) {
    static char mark;
    if (*begun == nullptr) {
      *begun = &mark;
      return MHD_YES;
    }
    if (*upload_bytes > 0) {
      *upload_bytes = 0;  // dropped
      return MHD_YES;
    }
    const std::string_view verb = method;
    const bool reads = verb == MHD_HTTP_METHOD_GET || verb == MHD_HTTP_METHOD_HEAD;
    return Send(
        connection,
        reads ? static_cast<MicroHttpServer*>(self)->handler_(url)
              : Response{MHD_HTTP_METHOD_NOT_ALLOWED, {}, "only GET and HEAD are allowed here\n"});
  }

  static MHD_Result Send(MHD_Connection* connection, Response answer) {
    MHD_Response* response = MHD_create_response_from_buffer(answer.body.size(), answer.body.data(),
                                                             MHD_RESPMEM_MUST_COPY);
    if (response == nullptr) return MHD_NO;
    if (answer.content_type.empty()) answer.content_type = Response().content_type;
    MHD_add_response_header(response, "Content-Type", answer.content_type.c_str());
    MHD_add_response_header(response, "Content-Security-Policy",
                            answer.content_security_policy.c_str());
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    const MHD_Result queued =
        MHD_queue_response(connection, static_cast<unsigned>(answer.status), response);
    MHD_destroy_response(response);
    return queued;
  }

  Handler handler_;
  MHD_Daemon* daemon_ = nullptr;
  std::unique_ptr<io::Watch> watch_;
  std::unique_ptr<io::Timer> timer_;
};

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::Start(io::Reactor& reactor,
                                                      const io::Address& listen, Handler handler) {
  const Result<int> listening = io::StartListening(listen);
  if (!listening) return Fail(listening.error().message);
  auto server = std::make_unique<MicroHttpServer>(reactor, std::move(handler));
  if (!server->Begin(reactor, *listening)) return Fail("cannot serve HTTP on " + listen);
  return server;
}

Response NotFound(std::string_view paths) {
  return {MHD_HTTP_NOT_FOUND, Response().content_type,
          "nothing here; there are: " + std::string(paths) + "\n"};
}

}  // namespace catena::admin
