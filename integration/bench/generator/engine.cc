#include "integration/bench/generator/engine.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <sstream>
#include <utility>

#include "proxy/resp/encoder.h"

namespace catena::bench {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kRetryAfter = 20'000'000;       // ns, to dial again
constexpr uint64_t kConnectWithin = 10 * kSecond;  // all connections at the start
constexpr uint64_t kLongestWait = 100'000'000;     // ns, to notice that a signal wants the end
constexpr size_t kReadBytes = 256u << 10;

uint64_t Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * kSecond + static_cast<uint64_t>(time.tv_nsec);
}

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

Result<sockaddr_in> ParseTarget(const std::string& text) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  const size_t colon = text.rfind(':');
  uint16_t port = 0;
  if (colon != std::string::npos) {
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + colon + 1, end, port);
    if (parsed.ec != std::errc() || parsed.ptr != end) port = 0;
  }
  address.sin_port = htons(port);
  if (port == 0 || inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr) != 1) {
    return Fail("target \"" + text + "\"; allowed: an IPv4 address and a port, 127.0.0.1:6379");
  }
  return address;
}

}  // namespace

Engine::Engine(EngineOptions options, Workload workload)
    : options_(std::move(options)), workload_(std::move(workload)), read_buffer_(kReadBytes) {
  connections_.resize(options_.connections);
}

Engine::~Engine() {
  for (Connection& connection : connections_) {
    if (connection.fd >= 0) close(connection.fd);
  }
  if (epoll_ >= 0) close(epoll_);
}

Result<nlohmann::json> Engine::Run() {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  for (const std::string& target : options_.targets) {
    if (const auto parsed = ParseTarget(target); !parsed) return Fail(parsed.error().message);
  }
  if (!options_.tls_ca.empty()) {
    auto tls = io::TlsContext::Load({options_.tls_ca, "", ""});
    if (!tls) return Fail(tls.error().message);
    tls_ = *std::move(tls);
    plain_buffer_.resize(kReadBytes + io::TlsSession::kPlainExtraBytes);
  }
  if (auto connected = ConnectAll(); !connected) return Fail(connected.error().message);
  StartClock();
  const double cpu_before = CpuSeconds();
  if (auto looped = Loop(); !looped) return Fail(looped.error().message);
  const double cpu = CpuSeconds() - cpu_before;
  nlohmann::json report = recorder_.Report(std::min(Now(), end_));
  report["generator_cpu_us_per_operation"] =
      1e6 * cpu / static_cast<double>(std::max<uint64_t>(1, completed_));
  return report;
}

Result<bool> Engine::ConnectAll() {
  for (size_t i = 0; i < connections_.size(); ++i) {
    connections_[i].target = i % options_.targets.size();
    Dial(connections_[i]);
  }
  const uint64_t deadline = Now() + kConnectWithin;
  while (set_up_ < connections_.size() && fatal_.empty()) {
    const uint64_t now = Now();
    if (now > deadline) return Fail("not all connections were set up within 10 s");
    Wait(now);
  }
  if (!fatal_.empty()) return Fail(fatal_);
  return true;
}

// From here on operations are issued, and after the warm-up counted.
void Engine::StartClock() {
  started_ = true;
  const uint64_t now = Now();
  const bool counted = options_.operations > 0;
  begin_ = now + static_cast<uint64_t>(counted ? 0 : options_.warmup * 1e9);
  end_ = counted ? UINT64_MAX : begin_ + static_cast<uint64_t>(options_.seconds * 1e9);
  recorder_.Begin(begin_, static_cast<uint64_t>(options_.interval * 1e9));
  for (size_t i = 0; i < connections_.size(); ++i) {
    if (options_.rate > 0) {
      connections_[i].schedule.emplace(now, options_.rate, i, connections_.size());
    }
    Issue(connections_[i], now);
  }
}

Result<bool> Engine::Loop() {
  for (uint64_t now = Now(); !Finished(now); now = Now()) {
    for (Connection& connection : connections_) {
      if (options_.rate == 0 && !options_.reconnect) break;  // only answers make work
      if (connection.fd < 0 && connection.retry_at <= now) Dial(connection);
      if (connection.schedule && connection.schedule->IsDue(now)) Issue(connection, now);
    }
    Wait(now);
    if (!fatal_.empty()) return Fail(fatal_);
  }
  return true;
}

bool Engine::Finished(uint64_t now) const {
  if (now >= end_ || (options_.stop != nullptr && options_.stop->load())) return true;
  return options_.operations > 0 && completed_ >= options_.operations;
}

uint64_t Engine::NextWake(uint64_t now) const {
  uint64_t wake = std::min(end_, now + kLongestWait);
  for (const Connection& connection : connections_) {
    if (options_.rate == 0 && !options_.reconnect) break;
    if (connection.fd < 0) wake = std::min(wake, connection.retry_at);
    if (connection.schedule && connection.fd >= 0 && !connection.connecting &&
        connection.in_flight.size() < options_.pipeline) {
      wake = std::min(wake, connection.schedule->NextDue());
    }
  }
  return std::max(wake, now);
}

void Engine::Wait(uint64_t now) {
  const uint64_t wait = (started_ ? NextWake(now) : now + kLongestWait) - now;
  const timespec timeout{static_cast<time_t>(wait / kSecond), static_cast<long>(wait % kSecond)};
  std::array<epoll_event, 512> events;
  const int count =
      epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &timeout, nullptr);
  for (int i = 0; i < count; ++i) OnEvent(connections_[events[i].data.u64], events[i].events);
}

void Engine::OnEvent(Connection& connection, uint32_t events) {
  if (connection.fd < 0) return;
  if (connection.connecting) return OnConnected(connection);
  if ((events & EPOLLOUT) != 0) Flush(connection);
  if (connection.fd >= 0 && (events & ~uint32_t{EPOLLOUT}) != 0) Read(connection);
}

void Engine::Dial(Connection& connection) {
  const sockaddr_in address = *ParseTarget(options_.targets[connection.target]);
  connection.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  connection.connecting = true;
  const int done =
      connect(connection.fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  if (done != 0 && errno != EINPROGRESS) return Break(connection, std::strerror(errno));
  epoll_event event{EPOLLIN | EPOLLOUT, {}};
  event.data.u64 = static_cast<uint64_t>(&connection - connections_.data());
  connection.wants_write = true;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event);
}

void Engine::OnConnected(Connection& connection) {
  int error = 0;
  socklen_t length = sizeof(error);
  getsockopt(connection.fd, SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) return Break(connection, std::strerror(error));
  connection.connecting = false;
  if (tls_ == nullptr) return OnReady(connection);
  const std::string& target = options_.targets[connection.target];
  connection.tls = std::make_unique<io::TlsSession>(*tls_, target.substr(0, target.rfind(':')));
  Decrypt(connection, {});
  Flush(connection);
}

std::string_view Engine::Decrypt(Connection& connection, std::string_view bytes) {
  io::TlsSession& tls = *connection.tls;
  const bool was_open = tls.open();
  const std::string_view plain(plain_buffer_.data(), tls.Receive(bytes, plain_buffer_));
  if (!tls.error().empty()) {
    Break(connection, "TLS: " + tls.error());
    return {};
  }
  TakeEncrypted(connection);
  if (tls.open() && !was_open) {
    OnReady(connection);
  } else if (!tls.open()) {
    Flush(connection);
  }
  return plain;
}

void Engine::TakeEncrypted(Connection& connection) {
  if (connection.tls->open() && !connection.commands.empty()) {
    connection.tls->Send(connection.commands);
    connection.commands.clear();
  }
  connection.out += std::exchange(connection.tls->output(), {});
}

void Engine::OnReady(Connection& connection) {
  if (options_.first.empty()) {
    set_up_ += started_ ? 0 : 1;
  } else {
    std::istringstream text(options_.first);
    std::vector<std::string> words;
    for (std::string word; text >> word;) words.push_back(word);
    const std::vector<std::string_view> views(words.begin(), words.end());
    resp::AppendCommand(Unsent(connection), views);
    connection.in_flight.push_back({0, 0, Kind::kRead, 1, true, false});
  }
  Flush(connection);
  if (connection.fd >= 0) Issue(connection, Now());
}

void Engine::Break(Connection& connection, const std::string& why) {
  if (!started_ || !options_.reconnect) {
    fatal_ = options_.targets[connection.target] + ": " + why;
  }
  const uint64_t now = Now();
  for (; !connection.in_flight.empty(); connection.in_flight.pop_front()) {
    if (!connection.in_flight.front().setup) recorder_.Lost(now);
  }
  close(connection.fd);
  connection.fd = -1;
  connection.connecting = false;
  connection.out.clear();
  connection.out_sent = 0;
  connection.tls.reset();
  connection.commands.clear();
  connection.in.clear();
  connection.scanner = resp::ReplyScanner();
  connection.target = (connection.target + 1) % options_.targets.size();
  connection.retry_at = now + kRetryAfter;
}

void Engine::Read(Connection& connection) {
  const ssize_t count = read(connection.fd, read_buffer_.data(), read_buffer_.size());
  if (count < 0 && errno == EAGAIN) return;
  if (count < 0) return Break(connection, std::strerror(errno));
  if (count == 0) return Break(connection, "closed the connection");
  const uint64_t now = Now();
  std::string_view fresh(read_buffer_.data(), static_cast<size_t>(count));
  if (connection.tls) fresh = Decrypt(connection, fresh);
  if (connection.fd < 0) return;
  if (connection.in.empty()) {
    connection.in = fresh.substr(TakeReplies(connection, fresh, now));
  } else {
    connection.in += fresh;
    connection.in.erase(0, TakeReplies(connection, connection.in, now));
  }
  if (fatal_.empty()) Issue(connection, now);
}

size_t Engine::TakeReplies(Connection& connection, std::string_view bytes, uint64_t now) {
  size_t taken = 0;
  while (taken < bytes.size() && !connection.in_flight.empty()) {
    size_t length = 0;
    const resp::Progress progress = connection.scanner.Scan(bytes.substr(taken), length);
    if (progress == resp::Progress::kNeedMore) break;
    if (progress == resp::Progress::kError) {
      fatal_ = options_.targets[connection.target] + ": " + connection.scanner.error();
      break;
    }
    TakeReply(connection, bytes.substr(taken, length), now);
    taken += length;
  }
  return taken;
}

void Engine::TakeReply(Connection& connection, std::string_view reply, uint64_t now) {
  Operation& operation = connection.in_flight.front();
  const std::string_view text = reply.substr(1, reply.size() - 3);
  if (operation.setup) {
    if (reply[0] == '-') fatal_ = options_.first + ": " + std::string(text);
    set_up_ += started_ ? 0 : 1;
    return connection.in_flight.pop_front();
  }
  if (reply[0] == '-') {
    recorder_.Refused(text, now);
    operation.refused = true;
  } else if (operation.replies == 1 && !operation.refused) {
    recorder_.Answered(operation.kind, operation.due, operation.sent, now);
    if (text == "-1") recorder_.Missed(now);
    if (workload_.IsShortWait(operation.kind, reply)) recorder_.ShortWait(now);
  }
  if (--operation.replies > 0) return;
  ++completed_;
  connection.in_flight.pop_front();
}

void Engine::Issue(Connection& connection, uint64_t now) {
  if (!started_ || connection.fd < 0 || connection.connecting) return;
  if (connection.tls && !connection.tls->open()) return;
  if (connection.schedule) {
    while (connection.in_flight.size() < options_.pipeline && connection.schedule->IsDue(now)) {
      Append(connection, connection.schedule->Take(), now);
    }
  } else if (connection.in_flight.empty()) {
    for (size_t i = 0; i < options_.pipeline; ++i) Append(connection, now, now);
  }
  Flush(connection);
}

void Engine::Append(Connection& connection, uint64_t due, uint64_t now) {
  if (options_.operations > 0 && issued_ >= options_.operations) return;
  ++issued_;
  const Workload::Appended appended = workload_.AppendNext(Unsent(connection));
  connection.in_flight.push_back({due, now, appended.kind, appended.replies, false, false});
}

void Engine::Flush(Connection& connection) {
  if (connection.tls) TakeEncrypted(connection);
  while (connection.out_sent < connection.out.size()) {
    const ssize_t count = send(connection.fd, connection.out.data() + connection.out_sent,
                               connection.out.size() - connection.out_sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0) return Break(connection, std::strerror(errno));
    connection.out_sent += static_cast<size_t>(count);
  }
  const bool all = connection.out_sent == connection.out.size();
  if (all) {
    connection.out.clear();
    connection.out_sent = 0;
  }
  Watch(connection, !all);
}

void Engine::Watch(Connection& connection, bool write) {
  if (connection.wants_write == write) return;
  connection.wants_write = write;
  epoll_event event{EPOLLIN | (write ? uint32_t{EPOLLOUT} : 0u), {}};
  event.data.u64 = static_cast<uint64_t>(&connection - connections_.data());
  epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event);
}

}  // namespace catena::bench
