// The commands that a session answers itself: those about the connection, not about data (design.md
// 8). Texts are Redis' own.
#include <openssl/evp.h>

#include "proxy/server/call.h"
#include "proxy/server/client_state.h"
#include "proxy/server/replies.h"

namespace catena::server {
namespace {

std::string Sha256Hex(std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  EVP_Digest(text.data(), text.size(), digest, &length, EVP_sha256(), nullptr);
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (unsigned int i = 0; i < length; ++i) {
    out += kHex[digest[i] >> 4];
    out += kHex[digest[i] & 15];
  }
  return out;
}

// Compares digests, so that neither time nor length tells anything of the password.
bool PasswordMatches(const std::string& stored, std::string_view given) {
  constexpr std::string_view kPrefix = "sha256:";
  std::string expected =
      stored.starts_with(kPrefix) ? stored.substr(kPrefix.size()) : Sha256Hex(stored);
  std::transform(expected.begin(), expected.end(), expected.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return auth::EqualSecrets(expected, Sha256Hex(given));
}

bool Login(Call& call, std::string_view user, std::string_view password) {
  const User* found = nullptr;
  for (const User& candidate : call.node.options().users) {
    if (candidate.name == user && PasswordMatches(candidate.password, password)) found = &candidate;
  }
  if (found == nullptr) return false;
  call.session.authenticated = true;
  call.session.user = user;
  call.session.rights = found->rights.unlimited() ? nullptr : &found->rights;
  return true;
}

constexpr std::string_view kWrongPass =
    "WRONGPASS invalid username-password pair or user is disabled.";

Dispatch Auth(Call& call) {
  if (call.count() > 3) return call.Error("ERR syntax error");
  if (call.node.options().users.empty()) {
    if (call.count() == 2) {
      return call.Error(
          "ERR AUTH <password> called without any password configured for the default user. Are "
          "you sure your "
          "configuration is correct?");
    }
    // As Redis' default user without a password: any is right.
    return call.arguments[1] == "default" ? call.Ok() : call.Error(kWrongPass);
  }
  std::string_view user = call.count() == 3 ? call.arguments[1] : "default";
  return Login(call, user, call.arguments.back()) ? call.Ok() : call.Error(kWrongPass);
}

void AppendHello(std::string& out, const Call& call) {
  int protocol = call.session.protocol;
  resp::AppendMapHeader(out, 7, protocol);
  auto pair = [&](std::string_view key, std::string_view value) {
    resp::AppendBulk(out, key);
    resp::AppendBulk(out, value);
  };
  pair("server", "redis");
  pair("version", call.node.server_version());
  resp::AppendBulk(out, "proto");
  resp::AppendInteger(out, protocol);
  resp::AppendBulk(out, "id");
  resp::AppendInteger(out, static_cast<int64_t>(call.session.id()));
  pair("mode", "standalone");
  pair("role", "master");
  resp::AppendBulk(out, "modules");
  resp::AppendArrayHeader(out, 0);
}

Dispatch Hello(Call& call) {
  int protocol = call.session.protocol;
  size_t next = 1;
  if (call.count() > 1) {
    auto wanted = ParseInteger(call.arguments[1]);
    if (!wanted) return call.Error("ERR Protocol version is not an integer or out of range");
    if (*wanted != 2 && *wanted != 3) return call.Error("NOPROTO unsupported protocol version");
    protocol = static_cast<int>(*wanted);
    next = 2;
  }
  std::optional<std::string> name;
  while (next < call.count()) {
    std::string_view option = call.arguments[next];
    if (EqualsIgnoringCase(option, "auth") && next + 2 < call.count()) {
      bool open = call.node.options().users.empty() && call.arguments[next + 1] == "default";
      if (!open && !Login(call, call.arguments[next + 1], call.arguments[next + 2]))
        return call.Error(kWrongPass);
      next += 3;
    } else if (EqualsIgnoringCase(option, "setname") && next + 1 < call.count()) {
      name = std::string(call.arguments[next + 1]);
      if (!ValidClientName(*name)) return call.Error(kBadClientName);
      next += 2;
    } else {
      return call.Error("ERR Syntax error in HELLO option '" + std::string(option) + "'");
    }
  }
  if (!call.session.authenticated) {
    return call.Error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
        "AUTH <user> <pass> "
        "option can be used to authenticate the client and select the RESP protocol version at the "
        "same time");
  }
  // Replies that are still owed keep the protocol in which they were asked for.
  if (protocol != call.session.protocol && call.Early()) return Dispatch::kWait;
  call.session.protocol = protocol;
  if (call.session.state) call.session.state->MatchLocalProtocol();
  if (name) call.session.name = *name;
  std::string out;
  AppendHello(out, call);
  return call.Reply(out);
}

Dispatch Ping(Call& call) {
  if (call.count() > 2) return call.WrongArguments();
  return call.count() == 2 ? call.Bulk(call.arguments[1]) : call.Reply("+PONG\r\n");
}

Dispatch Echo(Call& call) {
  return call.count() == 2 ? call.Bulk(call.arguments[1]) : call.WrongArguments();
}

Dispatch Select(Call& call) {
  if (call.count() != 2) return call.WrongArguments();
  auto database = ParseInteger(call.arguments[1]);
  if (!database) return call.Error("ERR value is not an integer or out of range");
  if (*database < 0 || *database >= call.node.databases())
    return call.Error("ERR DB index is out of range");
  if (*database != call.session.database && call.Early()) return Dispatch::kWait;
  call.session.database = static_cast<int>(*database);
  return call.Ok();
}

Dispatch Quit(Call& call) {
  call.Ok();
  call.session.CloseAfterReplies();
  return Dispatch::kTaken;
}

Dispatch Reset(Call& call) {
  if (call.Early()) return Dispatch::kWait;
  if (call.session.state) call.session.state->Close();
  call.session.database = 0;
  call.session.protocol = 2;
  call.session.name.clear();
  call.session.consistency = call.node.options().consistency;
  call.session.authenticated = call.node.options().users.empty();
  call.session.rights = nullptr;
  call.session.user = "default";
  call.session.reply_mode = Session::ReplyMode::kOn;
  return call.Reply("+RESET\r\n");
}

// Every write that was answered is on every member: WAIT has nothing to wait for but earlier
// answers.
Dispatch Wait(Call& call) {
  if (call.count() != 3) return call.WrongArguments();
  auto replicas = ParseInteger(call.arguments[1]), timeout = ParseInteger(call.arguments[2]);
  if (!replicas) return call.Error("ERR value is not an integer or out of range");
  if (!timeout) return call.Error("ERR timeout is not an integer or out of range");
  if (*timeout < 0) return call.Error("ERR timeout is negative");
  if (call.Early()) return Dispatch::kWait;
  size_t members = call.node.replica().configuration().members.size();
  return call.Integer(members > 0 ? static_cast<int64_t>(members) - 1 : 0);
}

// As a master without replicas of its own: what stands behind the proxy is not the client's
// business.
Dispatch Role(Call& call) {
  std::string out;
  resp::AppendArrayHeader(out, 3);
  resp::AppendBulk(out, "master");
  resp::AppendInteger(out, static_cast<int64_t>(call.node.replica().committed().value()));
  resp::AppendArrayHeader(out, 0);
  return call.Reply(out);
}

Dispatch SetConsistency(Call& call, Consistency consistency) {
  if (call.Early()) return Dispatch::kWait;
  call.session.consistency = consistency;
  return call.Ok();
}

Dispatch CatenaCommand(Call& call) {
  if (call.count() == 3 && EqualsIgnoringCase(call.arguments[1], "consistency")) {
    for (Consistency mode : {Consistency::kLinearizable, Consistency::kSequential,
                             Consistency::kEventual, Consistency::kTail}) {
      if (EqualsIgnoringCase(call.arguments[2], ConsistencyName(mode)))
        return SetConsistency(call, mode);
    }
    return call.Error("ERR consistency is one of linearizable, sequential, eventual, tail");
  }
  if (call.count() == 2 && EqualsIgnoringCase(call.arguments[1], "consistency"))
    return call.Bulk(ConsistencyName(call.session.consistency));
  return call.Error("ERR usage: CATENA CONSISTENCY [linearizable|sequential|eventual|tail]");
}

Dispatch Asking(Call& call) { return call.Error("ERR This instance has cluster support disabled"); }
Dispatch ReadOnly(Call& call) { return SetConsistency(call, Consistency::kEventual); }
Dispatch ReadWrite(Call& call) { return SetConsistency(call, call.node.options().consistency); }

Dispatch WhoAmI(Call& call) {
  return call.count() == 2 ? call.Bulk(call.session.user) : call.WrongArguments();
}

constexpr CommandHandler kSessionCommands[] = {
    {"acl", WhoAmI},
    {"asking", Asking},
    {"auth", Auth},
    {"catena", CatenaCommand},
    {"client", AnswerClientCommand},
    {"echo", Echo},
    {"hello", Hello},
    {"ping", Ping},
    {"quit", Quit},
    {"readonly", ReadOnly},
    {"readwrite", ReadWrite},
    {"reset", Reset},
    {"role", Role},
    {"select", Select},
    {"wait", Wait},
};

bool ArityFits(const Request& request) {
  auto count = static_cast<int>(request.command->arguments.size());
  int arity = request.info->arity;
  return arity >= 0 ? count == arity : count >= -arity;
}

// "client|list" -> "client"
std::string_view Container(std::string_view name) { return name.substr(0, name.find('|')); }

}  // namespace

Dispatch AnswerProxyCommand(Node& node, Session& session, uint64_t number, const Request& request,
                            std::string* capture) {
  Call call{node, session, number, request.command->arguments, request.info->name, capture};
  if (!request.info->TakesArguments(call.count())) return call.WrongArguments();
  if (!ArityFits(request)) return call.WrongArguments();
  for (const CommandHandler& handler : kSessionCommands) {
    if (handler.name == Container(request.info->name)) return handler.answer(call);
  }
  return call.Error("ERR '" + request.info->name +
                    "' is not supported through Catena: it needs a connection of its own");
}

bool CheckAuthenticated(Node& node, Session& session, uint64_t number, const Request& request) {
  if (session.authenticated) return true;
  std::string_view name =
      request.info != nullptr ? Container(request.info->name) : std::string_view();
  if (name == "auth" || name == "hello" || name == "quit" || name == "reset") return true;
  Call call{node, session, number, request.command->arguments,
            request.info != nullptr ? request.info->name : ""};
  // As Redis does, which looks at the arguments' number first. A command that the table does not
  // know is not passed on for its error's sake: the server may know it.
  if (request.info != nullptr && !ArityFits(request)) {
    call.WrongArguments();
  } else {
    call.Error("NOAUTH Authentication required.");
  }
  return false;
}

}  // namespace catena::server
