#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <map>

#include "proxy/admin/http_server.h"
#include "proxy/admin/process_metrics.h"
#include "proxy/io/uv_reactor.h"

namespace catena::admin {
namespace {

// Sends one request and reads until the server closes.
class Client final : public io::StreamHandler {
 public:
  Client(io::Reactor& reactor, const std::string& address, std::string_view request)
      : stream_(reactor.Connect(address, this)) {
    stream_->Write(request);
  }
  void OnRead(std::string_view bytes) override { answer += bytes; }
  void OnClosed(std::string_view) override { closed = true; }

  std::string answer;
  bool closed = false;

 private:
  std::unique_ptr<io::Stream> stream_;
};

class Fixture {
 public:
  Fixture() {
    // A port that is free: bound by a listener of ours, which then goes.
    address_ = (*reactor_->Listen("127.0.0.1:0", [](auto) {}))->BoundAddress();
    auto server = HttpServer::Start(*reactor_, address_, [](std::string_view path) {
      if (path == "/big") return Response{200, "text/plain", std::string(3 << 20, 'x')};
      return path == "/there" ? Response{200, "text/plain", "yes\n"} : NotFound("/there");
    });
    REQUIRE(server);
    server_ = std::move(*server);
  }

  std::string Answer(std::string_view request) {
    Client client(*reactor_, address_, request);
    RunUntil([&] { return client.closed; });
    return client.answer;
  }
  std::string Get(const std::string& path) {
    return Answer("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  }
  void RunUntil(const std::function<bool()>& condition) {
    bool late = false;
    auto limit = reactor_->MakeTimer([&] {
      late = true;
      reactor_->Stop();
    });
    limit->Start(std::chrono::seconds(20));
    condition_ = &condition;
    if (!std::exchange(hooked_, true)) {
      reactor_->AddTurnEndHook([this] {
        if (condition_ != nullptr && (*condition_)()) reactor_->Stop();
      });
    }
    reactor_->Run();
    condition_ = nullptr;
    REQUIRE(!late);
  }

  std::unique_ptr<io::Reactor> reactor_ = io::MakeUvReactor();
  std::unique_ptr<HttpServer> server_;
  std::string address_;
  bool hooked_ = false;
  const std::function<bool()>* condition_ = nullptr;
};

bool Has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE_FIXTURE(Fixture, "answers on the loop what the handler returns") {
  const std::string answer = Get("/there");
  CHECK(answer.starts_with("HTTP/1.1 200"));
  CHECK(answer.ends_with("\r\n\r\nyes\n"));
  CHECK(Has(answer, "Content-Security-Policy: default-src 'none'"));
  CHECK(Get("/elsewhere").starts_with("HTTP/1.1 404"));
  CHECK(Get("/big").size() > (3 << 20));
}

TEST_CASE_FIXTURE(Fixture, "two requests on one connection, HEAD among them") {
  const std::string answer = Answer(
      "HEAD /there HTTP/1.1\r\nHost: x\r\n\r\n"
      "GET /there HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK(Has(answer, "Content-Length: 4\r\n"));
  CHECK(answer.find("yes\n") == answer.rfind("yes\n"));
}

TEST_CASE_FIXTURE(Fixture, "nothing can be changed, and nonsense is refused") {
  CHECK(
      Answer("POST /there HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
          .starts_with("HTTP/1.1 405"));
  CHECK(Answer("GET /there HTTP/1.1\r\nHost: x\r\nX: " + std::string(64 << 10, 'y') + "\r\n\r\n")
            .starts_with("HTTP/1.1 4"));
}

TEST_CASE_FIXTURE(Fixture, "an address that is taken is an error that names it") {
  const auto second = HttpServer::Start(*reactor_, address_, [](auto) { return Response(); });
  REQUIRE(!second);
  CHECK(Has(second.error().message, address_));
}

TEST_CASE_FIXTURE(Fixture, "turns are measured, and the process tells of itself") {
  const Histogram& turns = io::MeasureTurns(*reactor_);
  Get("/there");
  CHECK(turns.count() > 0);
  Exposition out;
  AppendProcessMetrics(out, turns);
  CHECK(Has(out.text(), "\nprocess_resident_memory_bytes "));
  CHECK(!Has(out.text(), "\nprocess_resident_memory_bytes 0\n"));
  CHECK(!Has(out.text(), "\nprocess_open_fds 0\n"));
}

}  // namespace
}  // namespace catena::admin
