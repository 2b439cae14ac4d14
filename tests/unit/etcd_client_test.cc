// The client on libcurl against a server that breaks its connections at a chosen moment.
#include "coordinator/etcd_client.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <thread>

#include "proxy/io/uv_reactor.h"

namespace catena::coordinator::etcd {
namespace {

constexpr std::string_view kAnswer =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 45\r\n\r\n"
    R"({"header":{"revision":"7"},"succeeded": true})";

// A listening socket of this machine.
class Server {
 public:
  Server() : listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    REQUIRE(bind(listener_, generic, sizeof address) == 0);
    REQUIRE(listen(listener_, 1) == 0);
    socklen_t size = sizeof address;
    REQUIRE(getsockname(listener_, generic, &size) == 0);
    url_ = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  ~Server() {
    if (thread_.joinable()) thread_.join();
    StopListening();
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  const std::string& url() const { return url_; }
  // Answers one request, reads another, and is gone.
  void BreakDownInSecondRequest() {
    thread_ = std::thread([this] {
      const int connection = accept(listener_, nullptr, nullptr);
      ReadRequest(connection);
      (void)!write(connection, kAnswer.data(), kAnswer.size());
      ReadRequest(connection);
      StopListening();
      close(connection);
    });
  }
  void StopListening() {
    if (listener_ >= 0) close(listener_);
    listener_ = -1;
  }

 private:
  // The client's are small: its end is that of a JSON object.
  static void ReadRequest(int connection) {
    std::string request;
    char bytes[4096];
    while (!request.ends_with("}")) {
      const ssize_t count = read(connection, bytes, sizeof bytes);
      if (count <= 0) return;
      request.append(bytes, static_cast<size_t>(count));
    }
  }

  int listener_;
  std::string url_;
  std::thread thread_;
};

Answer<TxnAnswer> Commit(io::Reactor& reactor, Client& client) {
  Txn txn;
  txn.puts = {{"key", "value", 0}};
  std::optional<Answer<TxnAnswer>> answer;
  client.Commit(Class::kData, txn, [&](Answer<TxnAnswer> given) {
    answer = std::move(given);
    reactor.Stop();
  });
  reactor.Run();
  REQUIRE(answer.has_value());
  return *answer;
}

std::unique_ptr<Client> ClientOf(io::Reactor& reactor, const Server& server) {
  CurlOptions options;
  options.endpoints = {server.url()};
  return MakeCurlClient(reactor, std::move(options));
}

TEST_CASE("a transaction for which there is no connection had certainly no effect") {
  Server server;
  server.StopListening();
  const auto reactor = io::MakeUvReactor();
  const auto client = ClientOf(*reactor, server);
  const Answer<TxnAnswer> answer = Commit(*reactor, *client);
  REQUIRE_FALSE(answer.has_value());
  CHECK_FALSE(answer.error().unknown);
}

TEST_CASE("a transaction that was sent may have happened, though no second connection is found") {
  const auto reactor = io::MakeUvReactor();
  Server server;
  const auto client = ClientOf(*reactor, server);
  server.BreakDownInSecondRequest();
  CHECK(Commit(*reactor, *client).has_value());
  const Answer<TxnAnswer> answer = Commit(*reactor, *client);
  REQUIRE_FALSE(answer.has_value());
  CHECK(answer.error().unknown);
}

}  // namespace
}  // namespace catena::coordinator::etcd
