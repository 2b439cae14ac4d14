#include "proxy/io/socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <system_error>

namespace catena::io {
namespace {

constexpr std::string_view kUnixPrefix = "unix://";
constexpr int kListenBacklog = 1024;
// A peer whose machine vanished is noticed after 15 + 3 * 5 seconds of silence.
constexpr int kKeepAliveIdleSeconds = 15;
constexpr int kKeepAliveIntervalSeconds = 5;
constexpr int kKeepAliveProbes = 3;

void SetOption(int fd, int level, int name, int value) {
  (void)setsockopt(fd, level, name, &value, sizeof value);
}

template <typename Sockaddr>
SocketAddress Wrap(const Sockaddr& address, size_t length = sizeof(Sockaddr)) {
  SocketAddress wrapped;
  memcpy(&wrapped.storage, &address, length);
  wrapped.length = static_cast<socklen_t>(length);
  return wrapped;
}

Result<Endpoint> ParseUnixPath(std::string_view path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path[0] != '/') return Fail("a Unix socket needs an absolute path");
  if (path.size() >= sizeof address.sun_path) return Fail("the path is too long for a Unix socket");
  path.copy(address.sun_path, path.size());
  return Endpoint{{Wrap(address, offsetof(sockaddr_un, sun_path) + path.size() + 1)}, {}, {}};
}

bool ParseNumericHost(const std::string& host, uint16_t port, Endpoint& endpoint) {
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  if (inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1) {
    endpoint.addresses.push_back(Wrap(v4));
    return true;
  }
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  if (inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) != 1) return false;
  endpoint.addresses.push_back(Wrap(v6));
  return true;
}

int MakeSocket(int family) { return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

std::string UnixPath(const SocketAddress& address) {
  const auto& unix_address = reinterpret_cast<const sockaddr_un&>(address.storage);
  const size_t size = address.length - offsetof(sockaddr_un, sun_path);
  return {unix_address.sun_path, strnlen(unix_address.sun_path, size)};
}

// Takes the file of a listener that is gone out of the way; one in use stays, and bind reports it.
void RemoveStaleSocketFile(const SocketAddress& address) {
  const std::string path = UnixPath(address);
  struct stat status;
  if (lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return;
  const int probe = MakeSocket(AF_UNIX);
  if (probe < 0) return;
  if (connect(probe, address.get(), address.length) != 0 && errno == ECONNREFUSED) {
    (void)unlink(path.c_str());
  }
  close(probe);
}

Result<SocketAddress> ResolveForListening(const std::string& address) {
  auto endpoint = ParseAddress(address);
  if (!endpoint) return tl::unexpected(endpoint.error());
  if (!endpoint->addresses.empty()) return endpoint->addresses.front();
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* list = nullptr;
  const int code = getaddrinfo(endpoint->host.c_str(), endpoint->port.c_str(), &hints, &list);
  if (code != 0) return Fail(gai_strerror(code));
  const std::vector<SocketAddress> found = FromAddressInfo(list);
  freeaddrinfo(list);
  if (found.empty()) return Fail("the name has no address");
  return found.front();
}

int BindAndListen(const SocketAddress& address) {
  const int fd = MakeSocket(address.family());
  if (fd < 0) return -1;
  if (address.family() == AF_UNIX) {
    RemoveStaleSocketFile(address);
  } else {
    SetOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (address.family() == AF_INET6) SetOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  }
  if (bind(fd, address.get(), address.length) == 0 && listen(fd, kListenBacklog) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

}  // namespace

Result<Endpoint> ParseAddress(std::string_view address) {
  if (address.substr(0, kUnixPrefix.size()) == kUnixPrefix) {
    return ParseUnixPath(address.substr(kUnixPrefix.size()));
  }
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return Fail("no port: expected host:port or unix:///path");
  Endpoint endpoint;
  endpoint.host = address.substr(0, colon);
  endpoint.port = address.substr(colon + 1);
  if (endpoint.host.size() > 2 && endpoint.host.front() == '[' && endpoint.host.back() == ']') {
    endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
  } else if (endpoint.host.find(':') != std::string::npos) {
    return Fail("an IPv6 address needs brackets: [::1]:6379");
  }
  if (endpoint.host.empty()) return Fail("no host: expected host:port or unix:///path");
  uint16_t port = 0;
  const char* const end = endpoint.port.data() + endpoint.port.size();
  const auto parsed = std::from_chars(endpoint.port.data(), end, port);
  if (endpoint.port.empty() || parsed.ec != std::errc{} || parsed.ptr != end) {
    return Fail("the port must be a number from 0 to 65535");
  }
  ParseNumericHost(endpoint.host, port, endpoint);
  return endpoint;
}

std::vector<SocketAddress> FromAddressInfo(const addrinfo* list) {
  std::vector<SocketAddress> addresses;
  for (const addrinfo* info = list; info != nullptr; info = info->ai_next) {
    if (info->ai_family != AF_INET && info->ai_family != AF_INET6) continue;
    SocketAddress& address = addresses.emplace_back();
    memcpy(&address.storage, info->ai_addr, info->ai_addrlen);
    address.length = info->ai_addrlen;
  }
  return addresses;
}

std::string ToText(const SocketAddress& address) {
  char host[INET6_ADDRSTRLEN] = "";
  if (address.family() == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address.storage);
    inet_ntop(AF_INET, &v4.sin_addr, host, sizeof host);
    return std::string(host) + ":" + std::to_string(ntohs(v4.sin_port));
  }
  if (address.family() == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address.storage);
    inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof host);
    return "[" + std::string(host) + "]:" + std::to_string(ntohs(v6.sin6_port));
  }
  return std::string(kUnixPrefix) + UnixPath(address);
}

std::string ErrorText(int error) { return std::generic_category().message(error); }

int StartConnect(const SocketAddress& address) {
  const int fd = MakeSocket(address.family());
  if (fd < 0) return -1;
  SetTcpOptions(fd);
  if (connect(fd, address.get(), address.length) == 0 || errno == EINPROGRESS) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

int SocketError(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

void SetTcpOptions(int fd) {
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveIdleSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveIntervalSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveProbes);
}

SocketAddress LocalAddress(int fd) {
  SocketAddress address;
  address.length = sizeof address.storage;
  (void)getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length);
  return address;
}

SocketAddress PeerAddress(int fd) {
  SocketAddress address;
  address.length = sizeof address.storage;
  (void)getpeername(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length);
  return address;
}

Result<int> StartListening(const std::string& address) {
  const auto resolved = ResolveForListening(address);
  if (!resolved) return Fail("cannot listen on " + address + ": " + resolved.error().message);
  const int fd = BindAndListen(*resolved);
  if (fd < 0) return Fail("cannot listen on " + address + ": " + ErrorText(errno));
  return fd;
}

void RemoveSocketFile(const SocketAddress& address) { (void)unlink(UnixPath(address).c_str()); }

}  // namespace catena::io
