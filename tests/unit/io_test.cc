// The libuv reactor on real loopback sockets, both ends in this process.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <malloc.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "proxy/base/log.h"
#include "proxy/io/output.h"
#include "proxy/io/reactor.h"
#include "proxy/io/socket.h"
#include "proxy/io/uv_reactor.h"
#include "tests/unit/io_fixture.h"

namespace catena::io {
namespace {

using std::chrono::milliseconds;

// A connected pair over `address`.
struct Pair {
  explicit Pair(Loop& loop, const std::string& address = "127.0.0.1:0") {
    auto listening = loop.reactor->Listen(address, [this](std::unique_ptr<Stream> stream) {
      server.stream = std::move(stream);
      server.stream->SetHandler(&server);
    });
    REQUIRE(listening);
    listener = std::move(*listening);
    client.stream = loop.reactor->Connect(listener->BoundAddress(), &client);
    CHECK_FALSE(client.connected);
    loop.Until([this] { return client.connected && server.stream != nullptr; });
  }

  std::unique_ptr<Listener> listener;
  End client, server;
};

std::string TemporaryDirectory() {
  char path[] = "/tmp/catena_io_XXXXXX";
  REQUIRE(mkdtemp(path) != nullptr);
  return path;
}

TEST_CASE("bytes go both ways, and both ends know their names") {
  Loop loop;
  Pair pair(loop);
  pair.server.on_read = [&] { pair.server.stream->Write(pair.server.received); };
  pair.client.stream->Write("hello");
  loop.Until([&] { return pair.client.received == "hello"; });
  CHECK(pair.client.stream->PeerName() == pair.listener->BoundAddress());
  CHECK(pair.server.stream->LocalName() == pair.listener->BoundAddress());
  CHECK(pair.client.stream->LocalName() == pair.server.stream->PeerName());
  CHECK(pair.client.stream->UnsentBytes() == 0);
}

TEST_CASE("output written before the connection stands is sent when it does") {
  Loop loop;
  End server, client;
  auto listener = loop.reactor->Listen("127.0.0.1:0", [&](std::unique_ptr<Stream> stream) {
    server.stream = std::move(stream);
    server.stream->SetHandler(&server);
  });
  REQUIRE(listener);
  client.stream = loop.reactor->Connect((*listener)->BoundAddress(), &client);
  client.stream->Write("early");
  CHECK(client.stream->UnsentBytes() == 5);
  loop.Until([&] { return server.received == "early"; });
}

TEST_CASE("what a turn writes leaves as one write") {
  Loop loop;
  Pair pair(loop);
  loop.reactor->AddTurnEndHook([&, once = true]() mutable {
    if (std::exchange(once, false)) pair.client.stream->Write("hook.");
  });
  loop.reactor->Defer([&] {
    for (int i = 0; i < 100; ++i) pair.client.stream->Write("x");
    pair.client.stream->WriteShared(std::make_shared<std::string>(Pattern(8000, 1)), "");
    const auto shared = std::make_shared<std::string>(Pattern(8000, 1));
    pair.client.stream->WriteShared(shared, *shared);
    loop.reactor->Defer([&] { pair.client.stream->Write("deferred."); });
  });
  const std::string expected = std::string(100, 'x') + Pattern(8000, 1) + "hook." + "deferred.";
  loop.Until([&] { return pair.server.received.size() >= expected.size(); });
  CHECK(pair.server.received == expected);
  CHECK(pair.server.reads == 1);
}

TEST_CASE("output of a timer leaves without any other event") {
  Loop loop;
  Pair pair(loop);
  const auto timer = loop.reactor->MakeTimer([&] { pair.client.stream->Write("tick"); });
  timer->Start(milliseconds(5));
  loop.Until([&] { return pair.server.received == "tick"; });
}

TEST_CASE("a reader that pauses holds the writer up, and nothing is lost") {
  Loop loop;
  Pair pair(loop);
  pair.server.stream->PauseReading();
  const std::string first = Pattern(24u << 20, 7);
  const std::string second = Pattern(3u << 20, 8);
  pair.client.stream->Write(first);
  pair.client.stream->NotifyBelow(1u << 20);
  loop.For(milliseconds(20));
  const size_t stuck = pair.client.stream->UnsentBytes();
  CHECK(stuck > 1u << 20);
  CHECK(stuck < first.size());  // the kernel took a part
  pair.client.stream->Write(second);
  CHECK(pair.client.stream->UnsentBytes() == stuck + second.size());
  loop.For(milliseconds(20));
  CHECK(pair.client.drained == 0);
  CHECK(pair.server.received.empty());
  CHECK(pair.client.stream->UnsentBytes() == stuck + second.size());

  size_t unsent_when_drained = SIZE_MAX;
  pair.client.on_drained = [&] { unsent_when_drained = pair.client.stream->UnsentBytes(); };
  pair.server.stream->ResumeReading();
  const size_t all = first.size() + second.size();
  loop.Until([&] { return pair.server.received.size() >= all; });
  loop.Until([&] { return pair.client.drained > 0; });
  CHECK(unsent_when_drained <= 1u << 20);
  CHECK((pair.server.received == first + second));
  loop.For(milliseconds(5));
  CHECK(pair.client.drained == 1);
  CHECK(pair.client.stream->UnsentBytes() == 0);
}

TEST_CASE("a stream that never runs empty holds no more than its unsent bytes") {
  Loop loop;
  Pair pair(loop);
  constexpr size_t kPiece = 8u << 20;
  constexpr size_t kTotal = 50 * kPiece;
  const std::string piece = Pattern(kPiece, 21);
  size_t written = 0, received = 0, least_unsent = SIZE_MAX;
  const auto fill = [&] {
    least_unsent = std::min(least_unsent, pair.client.stream->UnsentBytes());
    while (written < kTotal && pair.client.stream->UnsentBytes() <= 2 * kPiece) {
      pair.client.stream->Write(piece);
      written += kPiece;
    }
    if (written < kTotal) pair.client.stream->NotifyBelow(2 * kPiece);
  };
  pair.client.on_drained = fill;
  pair.server.on_read = [&] {
    received += pair.server.received.size();
    pair.server.received.clear();
  };
  pair.client.stream->Write(piece);
  written = kPiece;
  fill();
  loop.Until([&] { return written == kTotal; });
  CHECK(least_unsent > 0);
  CHECK(mallinfo2().uordblks + mallinfo2().hblkhd < kTotal / 4);
  loop.Until([&] { return received == kTotal; });
}

TEST_CASE("pausing inside OnRead takes effect at once") {
  Loop loop;
  Pair pair(loop);
  pair.server.on_read = [&] { pair.server.stream->PauseReading(); };
  const std::string bytes = Pattern(1u << 20, 3);
  pair.client.stream->Write(bytes);
  loop.Until([&] { return pair.server.reads == 1; });
  loop.For(milliseconds(10));
  CHECK(pair.server.reads == 1);
  pair.server.on_read = nullptr;
  pair.server.stream->ResumeReading();
  loop.Until([&] { return pair.server.received.size() == bytes.size(); });
  CHECK((pair.server.received == bytes));
}

TEST_CASE("shared payloads keep their place between copied bytes and are released when sent") {
  Loop loop;
  Pair pair(loop);
  std::string expected;
  std::vector<std::weak_ptr<const std::string>> owners;
  for (unsigned i = 0; i < 3000; ++i) {  // more pieces than one gathered write takes
    const std::string head = "<" + std::to_string(i) + ">";
    auto payload = std::make_shared<const std::string>(Pattern(1000 + i * 7 % 9000, i));
    pair.client.stream->Write(head);
    pair.client.stream->WriteShared(payload, *payload);
    owners.push_back(payload);
    expected += head + *payload;
  }
  CHECK(pair.client.stream->UnsentBytes() == expected.size());
  loop.Until([&] { return pair.server.received.size() >= expected.size(); });
  CHECK((pair.server.received == expected));
  for (const auto& owner : owners) CHECK(owner.expired());
}

TEST_CASE("Output: any consumption keeps the rest intact") {
  for (unsigned step = 1; step < 4000; step = step * 2 + 1) {
    Output output;
    std::string expected;
    const auto shared = std::make_shared<const std::string>(Pattern(5000, 5));
    for (int i = 0; i < 5; ++i) {
      output.Append("head" + std::to_string(i));
      output.AppendShared(shared, *shared);
      output.AppendShared(shared, std::string_view(*shared).substr(100, 2000));
      expected += "head" + std::to_string(i) + *shared + shared->substr(100, 2000);
    }
    output.Append("tail");
    expected += "tail";
    std::string got;
    while (!output.empty()) {
      iovec pieces[3];
      size_t total = 0;
      const size_t count = output.Gather(pieces, 3, total);
      std::string seen;
      for (size_t i = 0; i < count; ++i) {
        seen.append(static_cast<const char*>(pieces[i].iov_base), pieces[i].iov_len);
      }
      REQUIRE(seen.size() == total);
      const size_t taken = std::min<size_t>(step, total);
      got += seen.substr(0, taken);
      output.Consume(taken);
      REQUIRE(output.bytes() == expected.size() - got.size());
    }
    CHECK((got == expected));
    CHECK(shared.use_count() == 1);
  }
}

TEST_CASE("CloseAfterFlush delivers everything") {
  Loop loop;
  Pair pair(loop);
  const std::string bytes = Pattern(12u << 20, 11);
  SUBCASE("to a slow reader, with the stream object gone") {
    pair.server.stream->PauseReading();
    pair.client.stream->Write(bytes);
    pair.client.stream->CloseAfterFlush();
    pair.client.stream.reset();
    loop.For(milliseconds(20));
    pair.server.stream->ResumeReading();
    loop.Until([&] { return pair.server.closed; });
    CHECK_FALSE(pair.client.closed);
    CHECK((pair.server.received == bytes));
  }
  SUBCASE("although input that nobody will read keeps coming") {
    pair.client.stream->PauseReading();
    pair.server.stream->Write(bytes);
    loop.For(milliseconds(10));
    pair.client.stream->Write("-ERR farewell\r\n");
    pair.client.stream->CloseAfterFlush();
    pair.client.stream.reset();
    loop.Until([&] { return pair.server.closed; });
    CHECK(pair.server.received == "-ERR farewell\r\n");
    CHECK(pair.server.reason == "closed by the peer");
  }
  SUBCASE("before the connection stands") {
    End late;
    pair.server.stream.reset();
    late.stream = loop.reactor->Connect(pair.listener->BoundAddress(), &late);
    late.stream->Write("short visit");
    late.stream->CloseAfterFlush();
    late.stream.reset();
    loop.Until([&] { return pair.server.closed; });
    CHECK(pair.server.received == "short visit");
    CHECK_FALSE(late.connected);
  }
}

TEST_CASE("a peer that takes its goodbye and stays is closed all the same") {
  Loop loop;
  Pair pair(loop);
  const int fd = RawConnect(pair.listener->BoundAddress());
  loop.Until([&] { return pair.server.stream->PeerName() != pair.client.stream->LocalName(); });
  pair.server.stream->Write("bye");
  pair.server.stream->CloseAfterFlush();
  // Our side ends, then, as this peer neither reads nor closes, so does the whole connection.
  bool reset = false;
  const auto probe = loop.reactor->MakeTimer([] {});
  loop.Until([&] {
    probe->Start(milliseconds(20));
    reset = send(fd, "x", 1, MSG_NOSIGNAL) < 0;
    return reset;
  });
  CHECK(reset);
  close(fd);
}

TEST_CASE("destroying a stream closes it, from any callback") {
  Loop loop;
  Pair pair(loop);
  SUBCASE("from outside") {
    pair.client.stream->Write("dropped");
    pair.client.stream.reset();
    loop.Until([&] { return pair.server.closed; });
  }
  SUBCASE("in OnRead, with more to read") {
    pair.client.on_read = [&] { pair.client.stream.reset(); };
    pair.server.stream->Write(Pattern(4u << 20, 2));
    loop.Until([&] { return pair.server.closed; });
    CHECK(pair.client.reads == 1);
  }
  SUBCASE("in OnClosed") {
    pair.client.on_closed = [&] { pair.client.stream.reset(); };
    pair.server.stream.reset();
    loop.Until([&] { return pair.client.closed; });
    CHECK(pair.client.reason == "closed by the peer");
  }
  SUBCASE("in OnConnected") {
    End brief;
    bool connected = false;
    pair.server.stream.reset();
    pair.server.closed = false;
    brief.on_connected = [&] {
      connected = true;
      brief.stream.reset();
    };
    brief.stream = loop.reactor->Connect(pair.listener->BoundAddress(), &brief);
    loop.Until([&] { return connected && pair.server.closed; });
  }
  SUBCASE("in OnDrained") {
    pair.client.on_drained = [&] { pair.client.stream.reset(); };
    pair.client.stream->NotifyBelow(10);
    pair.client.stream->Write("more than ten bytes");
    loop.Until([&] { return pair.server.closed; });
    CHECK(pair.server.received == "more than ten bytes");
  }
  SUBCASE("the other end of the same process, read in the same turn") {
    pair.client.on_read = [&] { pair.server.stream.reset(); };
    pair.server.on_read = [&] { pair.client.stream.reset(); };
    pair.client.stream->Write("a");
    pair.server.stream->Write("b");
    loop.Until([&] { return pair.client.stream == nullptr || pair.server.stream == nullptr; });
  }
  loop.For(milliseconds(2));
}

TEST_CASE("a stream that was accepted and dropped is closed; a listener may go in its callback") {
  Loop loop;
  End first, second;
  std::unique_ptr<Listener> listener;
  auto listening =
      loop.reactor->Listen("127.0.0.1:0", [&](std::unique_ptr<Stream>) { listener.reset(); });
  REQUIRE(listening);
  listener = std::move(*listening);
  const std::string address = listener->BoundAddress();
  first.stream = loop.reactor->Connect(address, &first);
  loop.Until([&] { return first.closed; });
  CHECK(listener == nullptr);
  second.stream = loop.reactor->Connect(address, &second);
  loop.Until([&] { return second.closed; });
  CHECK_FALSE(second.connected);
  CHECK(second.reason == "cannot connect to " + address + ": Connection refused");
}

TEST_CASE("addresses that cannot be connected to are told later, never at once") {
  Loop loop;
  for (const char* address :
       {"no-port", "127.0.0.1:99999", "::1:80", "unix://relative", "unix:///nowhere/socket",
        "127.0.0.1:1", "", ":80", "name.invalid:80"}) {
    CAPTURE(address);
    End end;
    end.stream = loop.reactor->Connect(address, &end);
    CHECK_FALSE(end.closed);
    loop.Until([&] { return end.closed; });
    CHECK(end.reason.find("cannot connect to " + std::string(address) + ": ") == 0);
    CHECK_FALSE(end.connected);
  }
}

TEST_CASE("a failed connection may be replaced at once without holding up the loop") {
  Loop loop;
  End end;
  int failures = 0;
  end.on_closed = [&] {
    ++failures;
    end.closed = false;
    end.stream = loop.reactor->Connect("bad", &end);
  };
  end.stream = loop.reactor->Connect("bad", &end);
  bool fired = false;
  const auto timer = loop.reactor->MakeTimer([&] { fired = true; });
  timer->Start(milliseconds(5));
  loop.Until([&] { return fired; });
  CHECK(failures > 0);
}

TEST_CASE("names are looked up, and each address is tried") {
  Loop loop;
  Pair pair(loop, "localhost:0");
  const std::string bound = pair.listener->BoundAddress();
  End client;
  client.stream = loop.reactor->Connect("localhost" + bound.substr(bound.rfind(':')), &client);
  loop.Until([&] { return client.connected; });
  End dropped;
  dropped.stream = loop.reactor->Connect("localhost:1", &dropped);
  dropped.stream.reset();  // while the look-up is under way
  loop.For(milliseconds(20));
  CHECK_FALSE(dropped.closed);
}

TEST_CASE("IPv6") {
  Loop loop;
  auto listener = loop.reactor->Listen("[::1]:0", [](std::unique_ptr<Stream>) {});
  if (!listener) return;  // a machine without it
  CHECK((*listener)->BoundAddress().find("[::1]:") == 0);
  End client;
  client.stream = loop.reactor->Connect((*listener)->BoundAddress(), &client);
  loop.Until([&] { return client.connected; });
  CHECK(client.stream->LocalName().find("[::1]:") == 0);
}

TEST_CASE("Unix sockets, stale and in use") {
  Loop loop;
  const std::string directory = TemporaryDirectory();
  const std::string path = directory + "/s";
  const std::string address = "unix://" + path;
  {
    const int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    const auto endpoint = ParseAddress(address);
    REQUIRE(bind(stale, endpoint->addresses[0].get(), endpoint->addresses[0].length) == 0);
    close(stale);
    REQUIRE(access(path.c_str(), F_OK) == 0);
  }
  {
    Pair pair(loop, address);
    CHECK(pair.listener->BoundAddress() == address);
    CHECK(pair.client.stream->PeerName() == address);
    pair.client.stream->Write("over the file system");
    loop.Until([&] { return pair.server.received == "over the file system"; });
    const auto second = loop.reactor->Listen(address, [](std::unique_ptr<Stream>) {});
    REQUIRE_FALSE(second);
    CHECK(second.error().message == "cannot listen on " + address + ": Address already in use");
  }
  CHECK(access(path.c_str(), F_OK) != 0);
  rmdir(directory.c_str());
}

TEST_CASE("listening that fails says on what and why") {
  Loop loop;
  const auto listener = loop.reactor->Listen("127.0.0.1:0", [](std::unique_ptr<Stream>) {});
  REQUIRE(listener);
  const std::string taken = (*listener)->BoundAddress();
  const auto again = loop.reactor->Listen(taken, [](std::unique_ptr<Stream>) {});
  REQUIRE_FALSE(again);
  CHECK(again.error().message == "cannot listen on " + taken + ": Address already in use");
  const auto bad = loop.reactor->Listen("nothing", [](std::unique_ptr<Stream>) {});
  REQUIRE_FALSE(bad);
  CHECK(bad.error().message ==
        "cannot listen on nothing: no port: expected host:port or unix:///path");
}

TEST_CASE("what the peer said before it reset the connection is still read") {
  Loop loop;
  Pair pair(loop);
  const int fd = RawConnect(pair.listener->BoundAddress());
  loop.Until([&] { return pair.server.stream->PeerName() != pair.client.stream->LocalName(); });
  End& server = pair.server;
  server.stream->PauseReading();
  server.stream->Write("unread");
  loop.For(milliseconds(5));
  CHECK(send(fd, "-ERR why\r\n", 10, 0) == 10);
  close(fd);  // with unread input: a reset
  loop.For(milliseconds(5));
  CHECK_FALSE(server.closed);
  SUBCASE("noticed when reading") {
    server.stream->ResumeReading();
    loop.Until([&] { return server.closed; });
    CHECK(server.reason == "Connection reset by peer");
  }
  SUBCASE("noticed when writing") {
    // A worker's end comes while sockets are polled, so that the write fails before the next read.
    loop.reactor->RunOnWorker([] {},
                              [&] {
                                server.stream->ResumeReading();
                                server.stream->Write("into the void");
                              });
    loop.Until([&] { return server.closed; });
    CHECK((server.reason == "Connection reset by peer" || server.reason == "Broken pipe"));
  }
  CHECK(server.received == "-ERR why\r\n");
}

TEST_CASE("a paused stream notices an error when it writes") {
  Loop loop;
  Pair pair(loop);
  pair.client.stream->PauseReading();
  pair.server.stream.reset();
  loop.For(milliseconds(5));
  CHECK_FALSE(pair.client.closed);
  const auto timer = loop.reactor->MakeTimer([&] { pair.client.stream->Write("again"); });
  pair.client.stream->Write("anybody there?");
  timer->Start(milliseconds(5));  // the answer to the first one is a reset
  loop.Until([&] { return pair.client.closed; });
  CHECK(pair.client.stream->UnsentBytes() == 0);
}

TEST_CASE("timers are never early, fire once, and stop") {
  Loop loop;
  std::vector<int> fired;
  const TimePoint begin = loop.reactor->Now();
  TimePoint end;
  const auto sub_millisecond = loop.reactor->MakeTimer([&] { fired.push_back(1); });
  const auto stopped = loop.reactor->MakeTimer([&] { fired.push_back(99); });
  const auto restarted = loop.reactor->MakeTimer([&] {
    fired.push_back(30);
    end = loop.reactor->Now();
  });
  auto destroyed = loop.reactor->MakeTimer([&] { fired.push_back(98); });
  sub_millisecond->Start(std::chrono::microseconds(10));
  stopped->Start(milliseconds(1));
  destroyed->Start(milliseconds(1));
  restarted->Start(milliseconds(1));
  restarted->Start(milliseconds(30));
  stopped->Stop();
  destroyed.reset();
  loop.Until([&] { return !fired.empty() && fired.back() == 30; });
  CHECK(fired == std::vector<int>{1, 30});
  CHECK(end - begin >= milliseconds(30));
  loop.For(milliseconds(5));
  CHECK(fired.size() == 2);
}

TEST_CASE("a timer may start again or destroy itself when it fires") {
  Loop loop;
  int count = 0;
  std::unique_ptr<Timer> timer;
  timer = loop.reactor->MakeTimer([&] {
    if (++count < 5) return timer->Start(Duration(0));
    timer.reset();
  });
  timer->Start(Duration(0));
  loop.Until([&] { return timer == nullptr; });
  CHECK(count == 5);
}

TEST_CASE("a timer counts from when it is started, not from the turn's beginning") {
  Loop loop;
  TimePoint started, fired;
  const auto timer = loop.reactor->MakeTimer([&] { fired = loop.reactor->Now(); });
  loop.reactor->Defer([&] {
    const TimePoint until = loop.reactor->Now() + milliseconds(30);
    while (loop.reactor->Now() < until) {
    }
    started = loop.reactor->Now();
    timer->Start(milliseconds(20));
  });
  loop.Until([&] { return fired != TimePoint(); });
  CHECK(fired - started >= milliseconds(20));
}

TEST_CASE("deferred work runs before the hooks, in order, and within the turn") {
  Loop loop;
  std::vector<std::string> order;
  bool hook_defers = true;
  loop.reactor->AddTurnEndHook([&] {
    order.push_back("hook");
    if (std::exchange(hook_defers, false)) {
      loop.reactor->Defer([&] { order.push_back("from hook"); });
    }
  });
  loop.reactor->Defer([&] {
    order.push_back("first");
    loop.reactor->Defer([&] { order.push_back("nested"); });
  });
  loop.reactor->Defer([&] { order.push_back("second"); });
  CHECK(order.empty());
  loop.Until([&] { return order.size() >= 5; });
  // "nested" shows what the first round deferred: it waits for one round of hooks, as "from hook".
  CHECK(order ==
        std::vector<std::string>{"first", "second", "hook", "nested", "from hook", "hook"});
}

TEST_CASE("work that defers itself for ever does not keep sockets waiting") {
  Loop loop;
  Pair pair(loop);
  bool on = true;
  std::function<void()> again = [&] {
    if (on) loop.reactor->Defer(again);
  };
  again();
  pair.client.stream->Write("through");
  loop.Until([&] { return pair.server.received == "through"; });
  on = false;
  loop.For(milliseconds(1));
}

TEST_CASE("work runs on another thread and its end is told on the loop's") {
  Loop loop;
  const auto home = std::this_thread::get_id();
  std::thread::id worked, told;
  loop.reactor->RunOnWorker([&] { worked = std::this_thread::get_id(); },
                            [&] { told = std::this_thread::get_id(); });
  loop.Until([&] { return told != std::thread::id(); });
  CHECK(told == home);
  CHECK(worked != home);
  CHECK(worked != std::thread::id());
}

TEST_CASE("an idle loop does not wake up") {
  Loop loop;
  Pair pair(loop);
  loop.For(milliseconds(10));
  rusage before, after;
  const int turns = loop.turns;
  getrusage(RUSAGE_THREAD, &before);
  loop.For(milliseconds(200));
  getrusage(RUSAGE_THREAD, &after);
  CHECK(after.ru_nvcsw - before.ru_nvcsw <= 5);
  CHECK(loop.turns - turns <= 3);
}

TEST_CASE("without descriptors to accept with, the loop waits and recovers") {
  Loop loop;
  Pair pair(loop);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  // A sanitizer needs descriptors when it sees a type for the first time: show it the logger now.
  log::Warn("descriptors_run_out", {{"why", "this test takes them away"}});
  rlimit limit;
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  rlimit none = limit;
  none.rlim_cur = 3;  // below every descriptor in use: no new one can be made
  REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
  const auto endpoint = ParseAddress(pair.listener->BoundAddress());
  REQUIRE(connect(fd, endpoint->addresses[0].get(), endpoint->addresses[0].length) == 0);
  Stream* const before = pair.server.stream.get();
  const int turns = loop.turns;
  loop.For(milliseconds(250));
  CHECK(pair.server.stream.get() == before);
  CHECK(loop.turns - turns <= 10);
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  loop.Until([&] { return pair.server.stream.get() != before; });
  CHECK(send(fd, "hi", 2, 0) == 2);
  loop.Until([&] { return pair.server.received == "hi"; });
  close(fd);
}

TEST_CASE("signals arrive on the loop thread") {
  Loop loop;
  std::vector<int> signals;
  OnTermination(*loop.reactor, [&](int signal) { signals.push_back(signal); });
  raise(SIGTERM);
  loop.Until([&] { return signals.size() == 1; });
  raise(SIGINT);
  loop.Until([&] { return signals.size() == 2; });
  CHECK(signals == std::vector<int>{SIGTERM, SIGINT});
}

TEST_CASE("everybody who asked is told of each hangup") {
  Loop loop;
  int first = 0, second = 0;
  OnHangup(*loop.reactor, [&] { ++first; });
  OnHangup(*loop.reactor, [&] { ++second; });
  for (int hangups = 1; hangups <= 2; ++hangups) {
    raise(SIGHUP);
    loop.Until([&] { return first == hangups && second == hangups; });
  }
}

TEST_CASE("the reactor may go first: what is left of it is dead, and nobody is called") {
  auto reactor = MakeUvReactor();
  End client, server;
  std::unique_ptr<Timer> timer = reactor->MakeTimer([] { CHECK(false); });
  auto listener = reactor->Listen("127.0.0.1:0", [&](std::unique_ptr<Stream> stream) {
    server.stream = std::move(stream);
    server.stream->SetHandler(&server);
    reactor->Stop();
  });
  REQUIRE(listener);
  client.stream = reactor->Connect((*listener)->BoundAddress(), &client);
  reactor->Run();
  REQUIRE(server.stream != nullptr);
  End unconnected, named;
  unconnected.stream = reactor->Connect("bad", &unconnected);
  named.stream = reactor->Connect("localhost:1", &named);
  timer->Start(Duration(0));
  server.stream->Write("never sent");
  reactor->Defer([] { CHECK(false); });
  reactor->RunOnWorker([] {}, [] { CHECK(false); });
  reactor.reset();
  CHECK_FALSE(client.closed);
  CHECK_FALSE(server.closed);
  CHECK_FALSE(unconnected.closed);
  server.stream->Write("nor this");
  server.stream->PauseReading();
  server.stream->ResumeReading();
  server.stream->CloseAfterFlush();
  client.stream->NotifyBelow(1);
  timer->Start(Duration(0));
  timer->Stop();
}

TEST_CASE("random bytes differ; the clocks go forward") {
  const auto reactor = MakeUvReactor();
  CHECK(reactor->RandomBytes(16).size() == 16);
  CHECK(reactor->RandomBytes(16) != reactor->RandomBytes(16));
  const TimePoint now = reactor->Now();
  CHECK(reactor->Now() >= now);
  CHECK(reactor->WallMilliseconds() > 1600000000000);
}

}  // namespace
}  // namespace catena::io
