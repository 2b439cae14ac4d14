// The admin port of a process: HTTP for Prometheus, probes and browsers. On libmicrohttpd, whose
// sockets are polled by the reactor's loop: requests are answered on the loop thread, between its
// other work, from what a handler returns at once.
//
// Bounds: 64 connections, 10 s without a sign of life, 32 KB of a request. GET and HEAD only; bodies
// are not read. Nobody has to say who he is, and nothing can be changed: whoever must not look must
// not reach the port.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "proxy/base/result.h"
#include "proxy/io/reactor.h"

namespace catena::admin {

struct Response {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  // What a browser may load and run with this page; by default nothing at all.
  std::string content_security_policy = "default-src 'none'";
};

class HttpServer {
 public:
  // `path` as in "/metrics", without query; valid during the call.
  using Handler = std::function<Response(std::string_view path)>;

  // Listens from now on. `reactor` is one of MakeUvReactor and outlives the server. Error: the
  // address cannot be listened on.
  static Result<std::unique_ptr<HttpServer>> Start(io::Reactor& reactor, const io::Address& listen,
                                                   Handler handler);
  virtual ~HttpServer() = default;  // closes everything
};

// "not found", with the paths that there are.
Response NotFound(std::string_view paths);

}  // namespace catena::admin
