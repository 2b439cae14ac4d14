// TLS: sessions without I/O cut at any byte, and streams on real loopback sockets against our own
// other side and against OpenSSL as a stranger would use it.
#include <doctest/doctest.h>
#include <openssl/ssl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "proxy/io/tls_reactor.h"
#include "proxy/io/tls_session.h"
#include "tests/support/certificates.h"
#include "tests/unit/io_fixture.h"

namespace catena::io {
namespace {

using test::Authority;
using Accept = TlsSession::Accept;

std::shared_ptr<TlsContext> Context(const TlsFiles& files) {
  auto context = TlsContext::Load(files);
  REQUIRE_MESSAGE(context, context.error().message);
  return *context;
}

std::string LoadError(const TlsFiles& files) {
  const auto context = TlsContext::Load(files);
  return context ? "" : context.error().message;
}

// --- sessions ------------------------------------------------------------------------------------

// A session and what it has received.
struct Side {
  template <typename... Arguments>
  explicit Side(Arguments&&... arguments) : session(std::forward<Arguments>(arguments)...) {}

  void Receive(std::string_view bytes) {
    std::vector<char> buffer(bytes.size() + TlsSession::kPlainExtraBytes);
    plain.append(buffer.data(), session.Receive(bytes, buffer));
  }
  std::string Take() { return std::exchange(session.output(), {}); }

  TlsSession session;
  std::string plain;
};

struct Sessions {
  explicit Sessions(const TlsContext& context, const std::string& host = "127.0.0.1",
                    Accept accept = Accept::kCertificate)
      : client(context, host), server(context, accept) {
    client.Receive({});
  }

  // Carries everything there is, in pieces of `piece` bytes, until neither has anything to say.
  void Exchange(size_t piece) {
    while (!client.session.output().empty() || !server.session.output().empty()) {
      Carry(client, server, piece);
      Carry(server, client, piece);
    }
  }
  static void Carry(Side& from, Side& to, size_t piece) {
    const std::string bytes = from.Take();
    for (size_t at = 0; at < bytes.size(); at += piece) {
      to.Receive(std::string_view(bytes).substr(at, piece));
    }
  }

  Side client, server;
};

TEST_CASE("a handshake and data, in pieces of any size") {
  const Authority authority;
  const auto context = Context(authority.Issue("node"));
  const std::string large = Pattern(100'000, 1);
  for (const size_t piece : {1, 2, 3, 5, 17, 1000, 1'000'000}) {
    CAPTURE(piece);
    Sessions pair(*context);
    pair.Exchange(piece);
    REQUIRE(pair.client.session.open());
    REQUIRE(pair.server.session.open());
    pair.client.session.Send("question");
    pair.server.session.Send(large);
    pair.Exchange(piece);
    CHECK(pair.server.plain == "question");
    CHECK(pair.client.plain == large);
  }
}

TEST_CASE("the first flight cut in two at each of its bytes") {
  const Authority authority;
  const auto context = Context(authority.Issue("node"));
  const size_t size = Sessions(*context).client.Take().size();
  REQUIRE(size > 100);
  for (size_t cut = 0; cut <= size; ++cut) {
    CAPTURE(cut);
    Sessions pair(*context);
    const std::string flight = pair.client.Take();
    pair.server.Receive(std::string_view(flight).substr(0, cut));
    CHECK_FALSE(pair.server.session.open());
    if (cut < size) CHECK(pair.server.session.output().empty());
    pair.server.Receive(std::string_view(flight).substr(cut));
    pair.Exchange(size);
    CHECK(pair.server.session.open());
  }
}

TEST_CASE("the end is told, and is no error") {
  const Authority authority;
  const auto context = Context(authority.Issue("node"));
  Sessions pair(*context);
  pair.Exchange(1000);
  pair.server.session.Send("last words");
  pair.server.session.SendEnd();
  CHECK_FALSE(pair.client.session.ended());
  pair.Exchange(1);
  CHECK(pair.client.plain == "last words");
  CHECK(pair.client.session.ended());
  CHECK(pair.client.session.error() == "");
}

TEST_CASE("a record that was changed on its way is refused") {
  const Authority authority;
  const auto context = Context(authority.Issue("node"));
  Sessions pair(*context);
  pair.Exchange(1000);
  pair.client.session.Send("SET balance 100");
  std::string bytes = pair.client.Take();
  bytes.back() ^= 1;
  pair.server.Receive(bytes);
  CHECK(pair.server.plain == "");
  CHECK(pair.server.session.error().find("bad record mac") != std::string::npos);
}

TEST_CASE("what somebody recorded of a handshake opens nothing") {
  const Authority authority;
  const auto context = Context(authority.Issue("node"));
  Sessions pair(*context);
  std::string recorded;
  while (!pair.server.session.open()) {
    const std::string flight = pair.client.Take();
    recorded += flight;
    pair.server.Receive(flight);
    Sessions::Carry(pair.server, pair.client, 1000);
  }
  pair.client.session.Send("FLUSHALL");
  recorded += pair.client.Take();
  Side other(*context, Accept::kCertificate);
  other.Receive(recorded);
  CHECK_FALSE(other.session.open());
  CHECK(other.session.error() != "");
  CHECK(other.plain == "");
}

TEST_CASE("the certificate must name the host that was asked for") {
  const Authority authority;
  const auto context =
      Context(authority.Issue("node", {.subject_alternative = "IP:10.0.0.1,DNS:a.example,IP:::1"}));
  const auto error_for = [&](const std::string& host) {
    Sessions pair(*context, host);
    pair.Exchange(1000);
    CHECK(pair.client.session.open() == pair.client.session.error().empty());
    if (!pair.client.session.open()) CHECK(pair.server.session.error() != "");
    return pair.client.session.error();
  };
  CHECK(error_for("10.0.0.1") == "");
  CHECK(error_for("a.example") == "");
  CHECK(error_for("::1") == "");
  CHECK(error_for("10.0.0.2") == "certificate verify failed: IP address mismatch");
  CHECK(error_for("b.example") == "certificate verify failed: hostname mismatch");
}

TEST_CASE("certificates of another CA, and none, are refused by a port that asks for one") {
  const Authority ours, foreign;
  const auto context = Context(ours.Issue("node"));
  TlsFiles stranger = foreign.Issue("stranger");
  stranger.ca_file = ours.Path("ca.pem");  // it knows whom it calls
  stranger.own_by_ca = false;
  TlsFiles nobody;
  nobody.ca_file = ours.Path("ca.pem");
  const auto error_of = [&](const TlsFiles& files, Accept accept) {
    const auto other = Context(files);
    Side client(*other, "127.0.0.1"), server(*context, accept);
    client.Receive({});
    while (!client.session.output().empty() || !server.session.output().empty()) {
      Sessions::Carry(client, server, 1000);
      Sessions::Carry(server, client, 1000);
    }
    CHECK(server.session.open() == server.session.error().empty());
    // Whoever is refused is told.
    CHECK(client.session.error().empty() == server.session.error().empty());
    return server.session.error();
  };
  CHECK(error_of(stranger, Accept::kCertificate) ==
        "certificate verify failed: unable to get local issuer certificate");
  CHECK(error_of(nobody, Accept::kCertificate) == "peer did not return a certificate");
  CHECK(error_of(nobody, Accept::kAnybody) == "");
  CHECK(error_of(ours.Issue("other"), Accept::kCertificate) == "");
}

// --- files ---------------------------------------------------------------------------------------

TEST_CASE("what is wrong with a file is told with its name") {
  const Authority authority, foreign;
  const TlsFiles good = authority.Issue("node");
  CHECK(LoadError(good) == "");
  const std::string rubbish = authority.Path("rubbish");
  test::WriteFile(rubbish, "no PEM\n");

  TlsFiles files = good;
  files.ca_file = authority.Path("absent.pem");
  CHECK(LoadError(files) ==
        "ca_file " + files.ca_file + ": cannot read: No such file or directory");
  files.ca_file = authority.Path("");
  CHECK(LoadError(files) == "ca_file " + files.ca_file + ": cannot read: Is a directory");
  files.ca_file = rubbish;
  CHECK(LoadError(files) ==
        "ca_file " + rubbish + ": not a certificate in PEM form (-----BEGIN CERTIFICATE-----)");
  files.ca_file = foreign.Path("ca.pem");
  CHECK(LoadError(files) == "certificate_file " + files.certificate_file +
                                ": does not come from the CA in ca_file " + files.ca_file +
                                ": unable to get local issuer certificate");
  files.own_by_ca = false;
  CHECK(LoadError(files) == "");

  files = good;
  files.certificate_file = rubbish;
  CHECK(LoadError(files).find("certificate_file " + rubbish + ": not a certificate") == 0);
  files = good;
  files.key_file = rubbish;
  CHECK(LoadError(files).find("key_file " + rubbish + ": not a private key") == 0);
  files.key_file = authority.Issue("other").key_file;
  CHECK(LoadError(files) == "key_file " + files.key_file + ": is not the key of certificate_file " +
                                files.certificate_file);

  const TlsFiles expired = authority.Issue("old", {.days_from = -9, .days_to = -2});
  CHECK(LoadError(expired).find("certificate_file " + expired.certificate_file + ": expired on ") ==
        0);
  const TlsFiles early = authority.Issue("early", {.days_from = 2});
  CHECK(LoadError(early).find("certificate_file " + early.certificate_file +
                              ": not valid before ") == 0);
}

TEST_CASE("a certificate that ends within two weeks is told") {
  const Authority authority;
  CHECK_FALSE(Context(authority.Issue("node"))->expires_soon());
  const auto soon = Context(authority.Issue("node", {.days_to = 13}));
  CHECK(soon->expires_soon());
  CHECK(soon->valid_until().find("GMT") != std::string::npos);
}

TEST_CASE("a reload is for what comes; one that fails changes nothing") {
  const Authority authority;
  const TlsFiles files = authority.Issue("node");
  const auto context = Context(files);
  Sessions before(*context);
  before.Exchange(1000);
  // Another name: who connects from now on sees it.
  authority.Issue("node", {.subject_alternative = "DNS:renewed"});
  REQUIRE(context->Reload());
  Sessions after(*context, "renewed");
  after.Exchange(1000);
  CHECK(after.client.session.open());
  test::WriteFile(files.certificate_file, "half written");
  const auto failed = context->Reload();
  REQUIRE_FALSE(failed);
  CHECK(failed.error().message.find("certificate_file " + files.certificate_file) == 0);
  Sessions still(*context, "renewed");
  still.Exchange(1000);
  CHECK(still.client.session.open());
  before.client.session.Send("as ever");
  before.Exchange(1000);
  CHECK(before.server.plain == "as ever");
}

// --- streams -------------------------------------------------------------------------------------

// A listener with TLS, and what it accepted.
struct Port {
  Port(Loop& loop, std::shared_ptr<TlsContext> context, Accept accept = Accept::kCertificate)
      : reactor(MakeTlsReactor(*loop.reactor, std::move(context), accept)) {
    auto listening = reactor->Listen("127.0.0.1:0", [this](std::unique_ptr<Stream> stream) {
      ++accepted;
      server.stream = std::move(stream);
      server.stream->SetHandler(&server);
      if (on_accept) on_accept();
    });
    REQUIRE(listening);
    listener = std::move(*listening);
  }

  const std::string& address() const { return listener->BoundAddress(); }

  std::unique_ptr<Reactor> reactor;
  std::unique_ptr<Listener> listener;
  End server;
  int accepted = 0;
  std::function<void()> on_accept;
};

TEST_CASE("streams: bytes go both ways, also those written before the handshake") {
  const Authority authority;
  Loop loop;
  Port port(loop, Context(authority.Issue("node")));
  port.server.on_read = [&] { port.server.stream->Write(port.server.received); };
  End client;
  client.stream = port.reactor->Connect(port.address(), &client);
  client.stream->Write("hello");
  loop.Until([&] { return client.received == "hello"; });
  CHECK(client.connected);
  CHECK(port.server.stream->PeerName() == client.stream->LocalName());
  client.stream.reset();
  loop.Until([&] { return port.server.closed; });
  CHECK(port.server.reason == "closed by the peer");
}

TEST_CASE("streams: a large output, a reader that pauses, and an end that is not cut off") {
  const Authority authority;
  Loop loop;
  Port port(loop, Context(authority.Issue("node")));
  const auto large = std::make_shared<const std::string>(Pattern(8u << 20, 7));
  const std::string text = Pattern(300'000, 8);
  End client;
  client.stream = port.reactor->Connect(port.address(), &client);
  loop.Until([&] { return port.accepted == 1 && client.connected; });
  client.stream->PauseReading();
  Stream& server = *port.server.stream;
  server.Write(text);
  server.WriteShared(large, *large);
  server.Write(text);
  server.NotifyBelow(1000);
  const size_t written = 2 * text.size() + large->size();
  loop.For(std::chrono::milliseconds(50));
  CHECK(client.received.empty());
  // What waits in the kernel's buffers apart, it has not been taken, and is not there twice.
  CHECK(server.UnsentBytes() > written / 4);
  CHECK(server.UnsentBytes() < written + (1u << 20));
  CHECK(port.server.drained == 0);
  client.stream->ResumeReading();
  loop.Until([&] { return port.server.drained == 1; });
  server.CloseAfterFlush();
  port.server.stream.reset();
  loop.Until([&] { return client.closed; });
  CHECK(client.received == text + *large + text);
}

TEST_CASE("streams: data that comes with the handshake's last bytes waits for a paused reader") {
  const Authority authority;
  Loop loop;
  Port port(loop, Context(authority.Issue("node")));
  port.on_accept = [&] { port.server.stream->PauseReading(); };
  End client;
  // Sent together: the end of the handshake, the data and the end.
  client.on_connected = [&] {
    client.stream->Write("at once");
    client.stream->CloseAfterFlush();
  };
  client.stream = port.reactor->Connect(port.address(), &client);
  loop.Until([&] { return port.accepted == 1; });
  loop.For(std::chrono::milliseconds(20));
  CHECK(port.server.received.empty());
  CHECK_FALSE(port.server.closed);
  port.server.stream->ResumeReading();
  loop.Until([&] { return port.server.closed; });
  CHECK(port.server.received == "at once");
}

TEST_CASE("streams: plain bytes on a TLS port and TLS on a plain port both end") {
  const Authority authority;
  Loop loop;
  Port port(loop, Context(authority.Issue("node")), Accept::kAnybody);
  End plain;
  plain.stream = loop.reactor->Connect(port.address(), &plain);
  plain.stream->Write("PING\r\n");
  loop.Until([&] { return plain.closed; });
  CHECK(port.accepted == 0);

  std::unique_ptr<Stream> taken;
  End echo;
  auto listener = loop.reactor->Listen("127.0.0.1:0", [&](std::unique_ptr<Stream> stream) {
    echo.stream = std::move(stream);
    echo.stream->SetHandler(&echo);
    echo.on_read = [&] { echo.stream->Write("-ERR what?\r\n"); };
  });
  End client;
  client.stream = port.reactor->Connect((*listener)->BoundAddress(), &client);
  loop.Until([&] { return client.closed; });
  CHECK_FALSE(client.connected);
  CHECK(client.reason == "TLS: the other side does not speak TLS");
}

TEST_CASE("streams: half a handshake is nobody, and the oldest gives way") {
  const Authority authority;
  Loop loop;
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit few{160, before.rlim_max};  // ten half-open ones
  REQUIRE(setrlimit(RLIMIT_NOFILE, &few) == 0);
  Port port(loop, Context(authority.Issue("node")));
  std::vector<int> silent;
  for (int i = 0; i < 30; ++i) {
    silent.push_back(RawConnect(port.address()));
    if (i % 2 == 0) REQUIRE(write(silent.back(), "\x16\x03\x01\x02", 4) == 4);
  }
  End client;
  client.stream = port.reactor->Connect(port.address(), &client);
  loop.Until([&] { return client.connected && port.accepted == 1; });
  CHECK(loop.reactor->OpenStreams() <= 10 + 2);
  for (const int fd : silent) close(fd);
  loop.Until([&] { return loop.reactor->OpenStreams() == 2; });
  CHECK(port.accepted == 1);
  REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
}

TEST_CASE("streams: a handshake that does not go on is given up") {
  const Authority authority;
  Loop loop;
  Port port(loop, Context(authority.Issue("node")));
  const int fd = RawConnect(port.address());
  loop.Until([&] { return loop.reactor->OpenStreams() == 1; });
  const TimePoint since = loop.reactor->Now();
  loop.Until([&] { return loop.reactor->OpenStreams() == 0; });
  CHECK(loop.reactor->Now() - since < std::chrono::seconds(8));
  close(fd);
  CHECK(port.accepted == 0);
}

TEST_CASE("streams and listeners may go while hands are shaken") {
  const Authority authority;
  Loop loop;
  auto port = std::make_unique<Port>(loop, Context(authority.Issue("node")));
  End client, gone;
  client.stream = port->reactor->Connect(port->address(), &client);
  gone.stream = port->reactor->Connect(port->address(), &gone);
  loop.Until([&] { return loop.reactor->OpenStreams() == 4; });
  gone.stream.reset();
  port.reset();
  loop.Until([&] { return client.closed; });
  CHECK(loop.reactor->OpenStreams() == 0);
}

// --- strangers -----------------------------------------------------------------------------------

// OpenSSL as anybody would use it, without a certificate and blocking: for a worker thread.
class Stranger {
 public:
  Stranger(const std::string& address, int version)
      : context_(SSL_CTX_new(TLS_client_method())), fd_(RawConnect(address)) {
    SSL_CTX_set_security_level(context_, 0);  // old versions, too
    SSL_CTX_set_min_proto_version(context_, version);
    SSL_CTX_set_max_proto_version(context_, version);
    SSL_CTX_set_session_cache_mode(context_, SSL_SESS_CACHE_CLIENT);
    ssl_ = SSL_new(context_);
    SSL_set_fd(ssl_, fd_);
  }
  ~Stranger() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
    close(fd_);
  }

  // What the port echoes; "" if it refuses.
  std::string Echo(const std::string& text) {
    char buffer[100];
    if (SSL_connect(ssl_) != 1) return "";
    if (SSL_write(ssl_, text.data(), static_cast<int>(text.size())) <= 0) return "";
    const int count = SSL_read(ssl_, buffer, sizeof(buffer));
    return {buffer, static_cast<size_t>(std::max(count, 0))};
  }
  SSL* ssl() { return ssl_; }

 private:
  SSL_CTX* context_;
  int fd_;
  SSL* ssl_;
};

// Runs `fn` on a worker while the loop goes on.
void Beside(Loop& loop, std::function<void()> fn) {
  bool over = false;
  loop.reactor->RunOnWorker(std::move(fn), [&] { over = true; });
  loop.Until([&] { return over; });
}

struct EchoPort : Port {
  EchoPort(Loop& loop, std::shared_ptr<TlsContext> context, Accept accept)
      : Port(loop, std::move(context), accept) {
    on_accept = [this] {
      server.closed = false;  // the one before may have ended
      server.on_read = [this] { server.stream->Write(std::exchange(server.received, {})); };
    };
  }
};

TEST_CASE("strangers: TLS 1.2 and 1.3 are spoken, older versions are not") {
  const Authority authority;
  Loop loop;
  EchoPort port(loop, Context(authority.Issue("node")), Accept::kAnybody);
  const auto echo = [&](int version) {
    std::string answer;
    Beside(loop, [&] { answer = Stranger(port.address(), version).Echo("hello"); });
    return answer;
  };
  CHECK(echo(TLS1_2_VERSION) == "hello");
  CHECK(echo(TLS1_3_VERSION) == "hello");
  CHECK(port.accepted == 2);
  CHECK(echo(TLS1_VERSION) == "");
  CHECK(echo(TLS1_1_VERSION) == "");
  CHECK(port.accepted == 2);
}

TEST_CASE("strangers: a renegotiation is refused") {
  const Authority authority;
  Loop loop;
  EchoPort port(loop, Context(authority.Issue("node")), Accept::kAnybody);
  bool renegotiated = true;
  Beside(loop, [&] {
    Stranger stranger(port.address(), TLS1_2_VERSION);
    stranger.Echo("hello");
    SSL_renegotiate(stranger.ssl());
    renegotiated = SSL_do_handshake(stranger.ssl()) == 1;
  });
  CHECK_FALSE(renegotiated);
  CHECK(port.accepted == 1);
}

TEST_CASE("strangers: a ticket of a port for anybody opens none that asks for a certificate") {
  const Authority authority;
  const auto context = Context(authority.Issue("node"));
  Loop loop;
  EchoPort open(loop, context, Accept::kAnybody), closed(loop, context, Accept::kCertificate);
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    bool resumed = false;
    std::string answer;
    Beside(loop, [&] {
      Stranger first(open.address(), version);
      first.Echo("hello");
      SSL_SESSION* const ticket = SSL_get1_session(first.ssl());
      Stranger again(open.address(), version);
      SSL_set_session(again.ssl(), ticket);
      again.Echo("hello");
      resumed = SSL_session_reused(again.ssl()) == 1;
      Stranger intruder(closed.address(), version);
      SSL_set_session(intruder.ssl(), ticket);
      answer = intruder.Echo("hello");
      SSL_SESSION_free(ticket);
    });
    CHECK(resumed);
    CHECK(answer == "");
  }
  CHECK(closed.accepted == 0);
}

}  // namespace
}  // namespace catena::io
