// A listening TCP socket at a free port of the loopback address, for servers that a test writes out
// by hand. Its owner accepts and closes.
#pragma once

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

namespace catena::test {

struct Listener {
  Listener() : socket(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in bound{};
    bound.sin_family = AF_INET;
    bound.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* generic = reinterpret_cast<sockaddr*>(&bound);
    REQUIRE(bind(socket, generic, sizeof bound) == 0);
    REQUIRE(listen(socket, 1) == 0);
    socklen_t size = sizeof bound;
    REQUIRE(getsockname(socket, generic, &size) == 0);
    address = "127.0.0.1:" + std::to_string(ntohs(bound.sin_port));
  }
  ~Listener() { Close(); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Nobody gets a connection any more.
  void Close() {
    if (socket >= 0) close(socket);
    socket = -1;
  }

  int socket;
  std::string address;  // "127.0.0.1:<port>"
};

}  // namespace catena::test
