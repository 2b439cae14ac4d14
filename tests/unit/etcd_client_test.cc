// The client on libcurl against a server that breaks its connections at a chosen moment.
#include "coordinator/etcd_client.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <thread>

#include "proxy/io/uv_reactor.h"
#include "tests/support/listener.h"

namespace catena::coordinator::etcd {
namespace {

constexpr std::string_view kAnswer =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 45\r\n\r\n"
    R"({"header":{"revision":"7"},"succeeded": true})";

// A listening socket of this machine.
class Server {
 public:
  ~Server() {
    if (thread_.joinable()) thread_.join();
  }

  std::string url() const { return "http://" + listener_.address; }
  // Answers one request, reads another, and is gone.
  void BreakDownInSecondRequest() {
    thread_ = std::thread([this] {
      const int connection = accept(listener_.socket, nullptr, nullptr);
      ReadRequest(connection);
      (void)!write(connection, kAnswer.data(), kAnswer.size());
      ReadRequest(connection);
      StopListening();
      close(connection);
    });
  }
  void StopListening() { listener_.Close(); }

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

  test::Listener listener_;
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
