// The forms of an address and of a backend's URL, as text to values. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "config/config.h"
#include "proxy/base/result.h"

namespace catena::config {

struct HostPort {
  std::string host;  // without the brackets of IPv6, lower case
  uint16_t port = 0;
};

// "host:port" or "[IPv6]:port". Port 0 only if `port_zero_allowed`.
Result<HostPort> ParseHostPort(std::string_view text, bool port_zero_allowed);
// 127.x.x.x, ::1 and localhost.
bool IsLoopback(std::string_view host);
// 0.0.0.0 and ::, which one can listen on but never connect to.
bool IsWildcard(std::string_view host);

// redis://[user:password@]host:port, rediss:// for the same with TLS, unix://[user:password@]/path, rocksdb:///directory. User and
// password may be percent-encoded. Messages never contain the password.
Result<BackendUrl> ParseBackendUrl(std::string_view text);

// http://host:port or https://host:port, nothing behind it.
struct EtcdUrl {
  bool tls = false;
  std::string address;  // "host:port"
};
Result<EtcdUrl> ParseEtcdUrl(std::string_view text);

}  // namespace catena::config
