// Commands about the connection that sends them. The proxy's sessions answer clients themselves;
// these serve the proxy's own connections.
#include <algorithm>

#include "backends/rocksdb/command_handlers.h"

namespace catena::rocks::handlers {
namespace {

constexpr std::string_view kWrongPassword =
    "WRONGPASS invalid username-password pair or user is disabled.";

bool TakeName(const Call& call, size_t at) {
  const std::string_view name = call[at];
  if (std::any_of(name.begin(), name.end(), [](char c) { return c < '!' || c > '~'; })) {
    return call.Refuse("ERR Client names cannot contain spaces, newlines or special characters.");
  }
  call.context.client.name = name;
  return true;
}

// HELLO's options; there are no users but the default one, which has no password.
bool TakeHelloOptions(const Call& call) {
  for (size_t at = 2; at < call.count(); ++at) {
    const size_t more = call.count() - at - 1;
    if (call.Is(at, "auth") && more >= 2) {
      if (call[at + 1] != "default") return call.Refuse(kWrongPassword);
      at += 2;
    } else if (call.Is(at, "setname") && more >= 1) {
      if (!TakeName(call, ++at)) return false;
    } else {
      const std::string_view option = call[at];
      return call.Refuse("ERR Syntax error in HELLO option '" +
                         std::string(option.substr(0, option.find('\0'))) + "'");
    }
  }
  return true;
}

void Pair(const Call& call, std::string_view name, std::string_view value) {
  call.Bulk(name);
  call.Bulk(value);
}

}  // namespace

void Ping(Call& call) {
  if (call.count() > 2) return call.WrongArity();
  if (call.count() == 2) return call.Bulk(call[1]);
  call.Simple("PONG");
}

void Echo(Call& call) { call.Bulk(call[1]); }

void Hello(Call& call) {
  int protocol = call.protocol();
  if (call.count() > 1) {
    const auto wanted =
        call.TakeInteger(1, "ERR Protocol version is not an integer or out of range");
    if (!wanted) return;
    if (*wanted != 2 && *wanted != 3) return call.Error("NOPROTO unsupported protocol version");
    protocol = static_cast<int>(*wanted);
  }
  if (!TakeHelloOptions(call)) return;
  call.context.client.protocol = protocol;
  call.Map(7);
  Pair(call, "server", "redis");
  Pair(call, "version", kRedisVersion);
  call.Bulk("proto");
  call.Integer(protocol);
  call.Bulk("id");
  call.Integer(call.context.client.id);
  Pair(call, "mode", "standalone");
  Pair(call, "role", "master");
  call.Bulk("modules");
  call.Array(0);
}

void Auth(Call& call) {
  if (call.count() > 3) return call.Error(kSyntaxError);
  if (call.count() == 2) {
    return call.Error(
        "ERR AUTH <password> called without any password configured for the default user. Are you "
        "sure your configuration is correct?");
  }
  if (call[1] != "default") return call.Error(kWrongPassword);
  call.Ok();
}

void ClientId(Call& call) { call.Integer(call.context.client.id); }

void ClientGetName(Call& call) {
  if (call.context.client.name.empty()) return call.Null();
  call.Bulk(call.context.client.name);
}

void ClientSetName(Call& call) {
  if (TakeName(call, 2)) call.Ok();
}

void ClientNoEvict(Call& call) {
  if (!call.Is(2, "on") && !call.Is(2, "off")) return call.Error(kSyntaxError);
  call.Ok();
}

// No command waits here, so there is nobody to unblock.
void ClientUnblock(Call& call) {
  if (call.count() > 4) return call.Error(kSyntaxError);
  if (call.count() == 4 && !call.Is(3, "timeout") && !call.Is(3, "error"))
    return call.Error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
  if (call.TakeInteger(2)) call.Integer(0);
}

}  // namespace catena::rocks::handlers
