#include "proxy/cli/connection.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <memory>
#include <utility>

#include "config/address.h"
#include "proxy/resp/decoder.h"

namespace catena::cli {
namespace {

// Answers to a tool are statuses and confirmations; whoever sends more is not what it should be.
constexpr size_t kInputMax = 64u << 20;
constexpr size_t kReadBytes = 16u << 10;

int64_t NowMilliseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

// A socket whose connecting was begun, or -errno.
int StartConnect(int family, const sockaddr* address, socklen_t length) {
  const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  if (connect(fd, address, length) == 0 || errno == EINPROGRESS) return fd;
  const int failed = errno;
  close(fd);
  return -failed;
}

Result<int> StartUnix(std::string_view path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return Fail("socket path too long");
  std::copy(path.begin(), path.end(), address.sun_path);
  const int fd =
      StartConnect(AF_UNIX, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  if (fd < 0) return Fail(std::strerror(-fd));
  return fd;
}

Result<int> StartTcp(const std::string& address) {
  const auto parsed = config::ParseHostPort(address, false);
  if (!parsed) return Fail(parsed.error().message);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(parsed->port);
  const int error = getaddrinfo(parsed->host.c_str(), port.c_str(), &hints, &found);
  if (error != 0) return Fail(gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  int fd = -EADDRNOTAVAIL;
  for (const addrinfo* each = found; each != nullptr && fd < 0; each = each->ai_next) {
    fd = StartConnect(each->ai_family, each->ai_addr, each->ai_addrlen);
  }
  if (fd < 0) return Fail(std::strerror(-fd));
  return fd;
}

}  // namespace

void Connection::SetPatience(Duration patience) {
  deadline_ms_ =
      NowMilliseconds() + std::chrono::duration_cast<std::chrono::milliseconds>(patience).count();
}

Result<Connection> Connection::Open(const std::string& address, Duration patience,
                                    const io::TlsContext* tls) {
  constexpr std::string_view kUnix = "unix://";
  const Result<int> fd = address.starts_with(kUnix)
                             ? StartUnix(std::string_view(address).substr(kUnix.size()))
                             : StartTcp(address);
  if (!fd) return Fail(fd.error().message);
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(patience).count();
  Connection connection(*fd, NowMilliseconds() + milliseconds);
  if (auto ready = connection.Await(POLLOUT); !ready) return Fail(ready.error().message);
  int error = 0;
  socklen_t length = sizeof(error);
  getsockopt(*fd, SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) return Fail(std::strerror(error));
  if (tls != nullptr) {
    if (auto shaken = connection.ShakeHands(*tls, address); !shaken) {
      return Fail(shaken.error().message);
    }
  }
  return connection;
}

Connection::Connection(Connection&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      deadline_ms_(other.deadline_ms_),
      input_(std::move(other.input_)),
      tls_(std::move(other.tls_)) {}

Connection& Connection::operator=(Connection&& other) noexcept {
  std::swap(fd_, other.fd_);
  deadline_ms_ = other.deadline_ms_;
  input_ = std::move(other.input_);
  tls_ = std::move(other.tls_);
  return *this;
}

Connection::~Connection() {
  if (fd_ >= 0) close(fd_);
}

Result<void> Connection::Await(short events) {
  while (true) {
    const int64_t left = deadline_ms_ - NowMilliseconds();
    if (left <= 0) return Fail("no answer in time");
    pollfd entry{fd_, events, 0};
    const int ready = poll(&entry, 1, static_cast<int>(std::min<int64_t>(left, 60'000)));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return Fail(std::strerror(errno));
  }
}

Result<void> Connection::ShakeHands(const io::TlsContext& tls, const std::string& address) {
  const auto parsed = config::ParseHostPort(address, false);
  if (!parsed) return Fail(parsed.error().message);
  tls_ = std::make_unique<io::TlsSession>(tls, parsed->host);
  if (auto begun = Decrypt({}); !begun) return begun;
  while (!tls_->open()) {
    if (auto read = Read(); !read) return read;
  }
  return {};
}

Result<void> Connection::Write(std::string_view bytes) {
  if (tls_ == nullptr) return SendAll(bytes);
  tls_->Send(bytes);
  return SendAll(std::exchange(tls_->output(), {}));
}

Result<void> Connection::SendAll(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      if (auto ready = Await(POLLOUT); !ready) return ready;
    } else if (errno != EINTR) {
      return Fail(std::strerror(errno));
    }
  }
  return {};
}

Result<void> Connection::Read() {
  std::string buffer;
  const auto bytes = Receive(buffer);
  if (!bytes) return tl::unexpected(bytes.error());
  if (input_.size() + bytes->size() > kInputMax) return Fail("answer too long");
  if (tls_ != nullptr) return Decrypt(*bytes);
  input_.append(*bytes);
  return {};
}

Result<std::string_view> Connection::Receive(std::string& buffer) {
  buffer.resize(kReadBytes);
  while (true) {
    const ssize_t count = recv(fd_, buffer.data(), buffer.size(), 0);
    if (count > 0) return std::string_view(buffer.data(), static_cast<size_t>(count));
    if (count == 0) return Fail("connection closed by the other side");
    if (errno == EAGAIN) {
      if (auto ready = Await(POLLIN); !ready) return tl::unexpected(ready.error());
    } else if (errno != EINTR) {
      return Fail(std::strerror(errno));
    }
  }
}

Result<void> Connection::Decrypt(std::string_view bytes) {
  std::string plain(bytes.size() + io::TlsSession::kPlainExtraBytes, '\0');
  input_.append(plain.data(), tls_->Receive(bytes, plain));
  const std::string out = std::exchange(tls_->output(), {});
  if (auto sent = SendAll(out); !sent && tls_->error().empty()) return sent;
  if (!tls_->error().empty()) return Fail("TLS: " + tls_->error());
  if (tls_->ended()) return Fail("connection closed by the other side");
  return {};
}

Result<std::string> Connection::ReadAll() {
  while (Read()) {
  }
  if (input_.empty()) return Fail("no answer");
  return std::move(input_);
}

Result<resp::Value> Connection::ReadValue() {
  while (true) {
    resp::Value value;
    size_t consumed = 0;
    std::string error;
    switch (resp::DecodeValue(input_, value, consumed, error)) {
      case resp::Progress::kComplete:
        input_.erase(0, consumed);
        return value;
      case resp::Progress::kError:
        return Fail("unexpected answer: " + error);
      case resp::Progress::kNeedMore:
        if (auto read = Read(); !read) return Fail(read.error().message);
    }
  }
}

}  // namespace catena::cli
