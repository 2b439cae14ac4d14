#include "config/address.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace catena::config {
namespace {

constexpr std::string_view kBackendForms =
    "allowed: redis://[user:password@]host:port, rediss:// for the same with TLS, "
    "unix://[user:password@]/path of a socket, rocksdb:///directory";

bool IsHostCharacter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-' || c == '_';
}

bool IsIpv6Character(char c) {
  return std::isxdigit(static_cast<unsigned char>(c)) != 0 || c == ':' || c == '.' || c == '%';
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool PercentDecode(std::string_view text, std::string& out) {
  out.clear();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 1 < text.size() ? HexDigit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? HexDigit(text[i + 2]) : -1;
    if (high < 0 || low < 0) return false;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return true;
}

// Cuts "user:password@" or "user@" off the front of `rest`. false: not decodable.
bool TakeUserInfo(std::string_view& rest, BackendUrl& url) {
  const size_t at = rest.rfind('@');
  if (at == std::string_view::npos) return true;
  const std::string_view info = rest.substr(0, at);
  rest.remove_prefix(at + 1);
  const size_t colon = info.find(':');
  // The password may be in a file of its own.
  if (colon == std::string_view::npos) return PercentDecode(info, url.user) && !url.user.empty();
  return PercentDecode(info.substr(0, colon), url.user) &&
         PercentDecode(info.substr(colon + 1), url.password) && !url.password.empty();
}

std::string Redacted(std::string_view scheme, const BackendUrl& url, std::string_view rest) {
  std::string text(scheme);
  // What stands there alone may be a password at the wrong place.
  if (!url.password.empty()) text += url.user;
  if (!url.password.empty() || !url.user.empty()) text += ":***@";
  return text.append(rest);
}

Result<BackendUrl> ParseRedis(std::string_view scheme, std::string_view rest) {
  BackendUrl url;
  if (!TakeUserInfo(rest, url)) {
    return Fail(
        "unusable user and password in the URL (write @ : / and % in them as %40 %3A %2F "
        "%25); " +
        std::string(kBackendForms));
  }
  url.text = Redacted(scheme, url, rest);
  if (scheme == "unix://") {
    if (rest.size() < 2 || rest[0] != '/') {
      return Fail("\"" + url.text + "\" lacks the absolute path of a socket; " +
                  std::string(kBackendForms));
    }
    url.address = "unix://" + std::string(rest);
    return url;
  }
  const Result<HostPort> parsed = ParseHostPort(rest, false);
  if (!parsed) return Fail("\"" + url.text + "\": " + parsed.error().message);
  if (IsWildcard(parsed->host)) return Fail("\"" + url.text + "\" is no host to connect to");
  url.address = std::string(rest);
  url.tls = scheme == "rediss://";
  return url;
}

Result<BackendUrl> ParseRocksDb(std::string_view text, std::string_view directory) {
  if (directory.size() < 2 || directory[0] != '/') {
    return Fail("\"" + std::string(text) + "\" lacks an absolute directory; " +
                std::string(kBackendForms));
  }
  BackendUrl url;
  url.kind = BackendKind::kRocksDb;
  url.text = std::string(text);
  url.address = std::string(directory);
  return url;
}

}  // namespace

Result<HostPort> ParseHostPort(std::string_view text, bool port_zero_allowed) {
  const std::string allowed = std::string("allowed: host:port with a port of ") +
                              (port_zero_allowed ? "0" : "1") + " to 65535, IPv6 as [address]:port";
  const auto bad = [&] { return Fail("\"" + std::string(text) + "\" is no address; " + allowed); };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return bad();
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (host.empty() || !std::ranges::all_of(host, bracketed ? IsIpv6Character : IsHostCharacter)) {
    return bad();
  }
  HostPort result;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), result.port);
  if (error != std::errc() || end != port.data() + port.size()) return bad();
  if (result.port == 0 && !port_zero_allowed) return bad();
  result.host = std::string(host);
  std::ranges::transform(result.host, result.host.begin(),
                         [](unsigned char c) { return std::tolower(c); });
  return result;
}

bool IsLoopback(std::string_view host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

bool IsWildcard(std::string_view host) { return host == "0.0.0.0" || host == "::"; }

Result<BackendUrl> ParseBackendUrl(std::string_view text) {
  for (const std::string_view scheme : {"redis://", "rediss://", "unix://"}) {
    if (text.starts_with(scheme)) return ParseRedis(scheme, text.substr(scheme.size()));
  }
  constexpr std::string_view kRocksDb = "rocksdb://";
  if (text.starts_with(kRocksDb)) return ParseRocksDb(text, text.substr(kRocksDb.size()));
  // What was written is not repeated: it may hold a password in a form that nobody can tell.
  return Fail("no backend URL; " + std::string(kBackendForms));
}

Result<EtcdUrl> ParseEtcdUrl(std::string_view text) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!text.starts_with(scheme)) continue;
    const std::string_view address = text.substr(scheme.size());
    const Result<HostPort> parsed = ParseHostPort(address, false);
    if (!parsed || IsWildcard(parsed->host)) break;
    return EtcdUrl{scheme == "https://", std::string(address)};
  }
  return Fail("\"" + std::string(text) +
              "\" is no etcd endpoint; allowed: http://host:port, https://host:port");
}

}  // namespace catena::config
