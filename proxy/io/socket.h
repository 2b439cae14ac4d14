// Sockets and their addresses, without an event loop. Every descriptor made here is non-blocking
// and closed on exec; the caller owns it.
#pragma once

#include <netdb.h>
#include <sys/socket.h>

#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/result.h"

namespace catena::io {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  int family() const { return storage.ss_family; }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// What an address text names: a socket address right away, or a host that has to be looked up.
struct Endpoint {
  std::vector<SocketAddress> addresses;  // empty: look `host` and `port` up
  std::string host;
  std::string port;
};

// "host:port", "[IPv6]:port", "unix:///path". Errors say what is wrong with the text.
Result<Endpoint> ParseAddress(std::string_view address);
// The stream addresses of a look-up's result.
std::vector<SocketAddress> FromAddressInfo(const addrinfo* list);
// "10.0.0.1:6380", "[::1]:6380" or "unix:///path".
std::string ToText(const SocketAddress& address);
// The text of an errno value.
std::string ErrorText(int error);

// A socket that connects to `address`: done, or under way until it is writable (then SocketError
// tells). TCP_NODELAY and keep-alive are set. -1: errno tells.
int StartConnect(const SocketAddress& address);
// Takes SO_ERROR, as an errno value; 0: none.
int SocketError(int fd);
// TCP_NODELAY, and keep-alive that notices a vanished peer after 30 s; nothing for Unix sockets.
void SetTcpOptions(int fd);
SocketAddress LocalAddress(int fd);
SocketAddress PeerAddress(int fd);

// Binds and listens. Looks a host name up synchronously: listening is for the start of a process. A
// Unix socket's stale file is replaced, one that somebody still listens on is not.
// Error: "cannot listen on ADDRESS: why".
Result<int> StartListening(const std::string& address);
// Of a Unix socket that was listened on.
void RemoveSocketFile(const SocketAddress& address);

}  // namespace catena::io
