// The commands that a session answers itself: those about the connection, not about data (design.md 8). Texts are Redis' own.
#include <openssl/evp.h>

#include <algorithm>
#include <charconv>
#include <functional>

#include "proxy/resp/encoder.h"
#include "proxy/server/node.h"
#include "proxy/server/replies.h"

namespace catena::server {
namespace {

using Arguments = std::vector<std::string_view>;

struct Call {
  Node& node;
  Session& session;
  uint64_t number;
  const Arguments& arguments;
  std::string name;

  size_t count() const { return arguments.size(); }
  Dispatch Reply(std::string_view reply) const {
    session.Complete(number, reply);
    return Dispatch::kTaken;
  }
  Dispatch Ok() const { return Reply("+OK\r\n"); }
  Dispatch Error(std::string_view text) const {
    std::string out;
    resp::AppendError(out, text);
    return Reply(out);
  }
  Dispatch Bulk(std::string_view text) const {
    std::string out;
    resp::AppendBulk(out, text);
    return Reply(out);
  }
  Dispatch Integer(int64_t value) const {
    std::string out;
    resp::AppendInteger(out, value);
    return Reply(out);
  }
  Dispatch WrongArguments() const { return Error("ERR wrong number of arguments for '" + name + "' command"); }
};

bool Same(std::string_view a, std::string_view lower) {
  return a.size() == lower.size() &&
         std::equal(a.begin(), a.end(), lower.begin(), [](char x, char y) { return std::tolower(static_cast<unsigned char>(x)) == y; });
}

std::optional<int64_t> ParseInteger(std::string_view text) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

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
  std::string expected = stored.starts_with(kPrefix) ? stored.substr(kPrefix.size()) : Sha256Hex(stored);
  return auth::EqualSecrets(expected, Sha256Hex(given));
}

bool Login(Call& call, std::string_view user, std::string_view password) {
  bool found = false;
  for (const User& candidate : call.node.options().users) {
    if (candidate.name == user && PasswordMatches(candidate.password, password)) found = true;
  }
  if (!found) return false;
  call.session.authenticated = true;
  call.session.user = user;
  return true;
}

constexpr std::string_view kWrongPass = "WRONGPASS invalid username-password pair or user is disabled.";

Dispatch Auth(Call& call) {
  if (call.count() > 3) return call.Error("ERR syntax error");
  if (call.node.options().users.empty()) {
    if (call.count() == 2) {
      return call.Error(
          "ERR AUTH <password> called without any password configured for the default user. Are you sure your "
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

bool ValidName(std::string_view name) {
  return std::all_of(name.begin(), name.end(), [](char c) { return c >= '!' && c <= '~'; });
}

constexpr std::string_view kBadName = "ERR Client names cannot contain spaces, newlines or special characters.";

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
    if (Same(option, "auth") && next + 2 < call.count()) {
      bool open = call.node.options().users.empty() && call.arguments[next + 1] == "default";
      if (!open && !Login(call, call.arguments[next + 1], call.arguments[next + 2])) return call.Error(kWrongPass);
      next += 3;
    } else if (Same(option, "setname") && next + 1 < call.count()) {
      name = std::string(call.arguments[next + 1]);
      if (!ValidName(*name)) return call.Error(kBadName);
      next += 2;
    } else {
      return call.Error("ERR Syntax error in HELLO option '" + std::string(option) + "'");
    }
  }
  if (!call.session.authenticated) {
    return call.Error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> "
        "option can be used to authenticate the client and select the RESP protocol version at the same time");
  }
  // Replies that are still owed keep the protocol in which they were asked for.
  if (protocol != call.session.protocol && call.session.outstanding() > 0) return Dispatch::kWait;
  call.session.protocol = protocol;
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
  if (*database < 0 || *database >= call.node.databases()) return call.Error("ERR DB index is out of range");
  if (*database != call.session.database && call.session.outstanding() > 0) return Dispatch::kWait;
  call.session.database = static_cast<int>(*database);
  return call.Ok();
}

Dispatch Quit(Call& call) {
  call.Ok();
  call.session.CloseAfterReplies();
  return Dispatch::kTaken;
}

Dispatch Reset(Call& call) {
  if (call.session.outstanding() > 0 && call.session.path != Path::kPrivate) return Dispatch::kWait;
  if (call.session.state) call.session.state->Close();
  call.session.database = 0;
  call.session.protocol = 2;
  call.session.name.clear();
  call.session.consistency = call.node.options().consistency;
  call.session.authenticated = call.node.options().users.empty();
  call.session.user = "default";
  call.session.reply_mode = Session::ReplyMode::kOn;
  return call.Reply("+RESET\r\n");
}

// Every write that was answered is on every member: WAIT has nothing to wait for but earlier answers.
Dispatch Wait(Call& call) {
  if (call.count() != 3) return call.WrongArguments();
  auto replicas = ParseInteger(call.arguments[1]), timeout = ParseInteger(call.arguments[2]);
  if (!replicas) return call.Error("ERR value is not an integer or out of range");
  if (!timeout) return call.Error("ERR timeout is not an integer or out of range");
  if (*timeout < 0) return call.Error("ERR timeout is negative");
  if (call.session.outstanding() > 0) return Dispatch::kWait;
  size_t members = call.node.replica().configuration().members.size();
  return call.Integer(members > 0 ? static_cast<int64_t>(members) - 1 : 0);
}

// As a master without replicas of its own: what stands behind the proxy is not the client's business.
Dispatch Role(Call& call) {
  std::string out;
  resp::AppendArrayHeader(out, 3);
  resp::AppendBulk(out, "master");
  resp::AppendInteger(out, static_cast<int64_t>(call.node.replica().committed().value()));
  resp::AppendArrayHeader(out, 0);
  return call.Reply(out);
}

Dispatch SetConsistency(Call& call, Consistency consistency) {
  if (call.session.outstanding() > 0) return Dispatch::kWait;
  call.session.consistency = consistency;
  return call.Ok();
}

Dispatch CatenaCommand(Call& call) {
  if (call.count() == 3 && Same(call.arguments[1], "consistency")) {
    for (Consistency mode : {Consistency::kLinearizable, Consistency::kSequential, Consistency::kEventual, Consistency::kTail}) {
      if (Same(call.arguments[2], ConsistencyName(mode))) return SetConsistency(call, mode);
    }
    return call.Error("ERR consistency is one of linearizable, sequential, eventual, tail");
  }
  if (call.count() == 2 && Same(call.arguments[1], "consistency")) return call.Bulk(ConsistencyName(call.session.consistency));
  return call.Error("ERR usage: CATENA CONSISTENCY [linearizable|sequential|eventual|tail]");
}

std::string ClientLine(const Node& node, const Session& session, int64_t now_ms) {
  int64_t age = (now_ms - session.connected_at_ms) / 1000;
  return "id=" + std::to_string(session.id()) + " addr=" + (session.stream() ? session.stream()->PeerName() : "") +
         " laddr=" + (session.stream() ? session.stream()->LocalName() : "") + " fd=0 name=" + session.name +
         " age=" + std::to_string(age) + " idle=0 flags=N db=" + std::to_string(session.database) +
         " sub=0 psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 "
         "tot-mem=0 events=r cmd=" + session.last_command() + " user=" + session.user +
         " redir=-1 resp=" + std::to_string(session.protocol) + " catena-node=" + node.options().node;
}

Dispatch ClientReply(Call& call) {
  if (call.count() != 3) return call.WrongArguments();
  std::string_view mode = call.arguments[2];
  if (Same(mode, "on")) {
    call.session.reply_mode = Session::ReplyMode::kOn;
    call.session.UnsilenceNewest();
    return call.Ok();
  }
  if (Same(mode, "off")) {
    call.session.reply_mode = Session::ReplyMode::kOff;
  } else if (Same(mode, "skip")) {
    if (call.session.reply_mode == Session::ReplyMode::kOn) call.session.SkipNext();
  } else {
    return call.Error("ERR syntax error");
  }
  call.session.SilenceNewest();
  return call.Reply("");
}

Dispatch ClientSetInfo(Call& call) {
  if (call.count() != 4) return call.WrongArguments();
  if (!ValidName(call.arguments[3])) {
    return call.Error("ERR " + std::string(call.arguments[2]) + " cannot contain spaces, newlines or special characters.");
  }
  if (Same(call.arguments[2], "lib-name")) {
    call.session.library_name = call.arguments[3];
  } else if (Same(call.arguments[2], "lib-ver")) {
    call.session.library_version = call.arguments[3];
  } else {
    return call.Error("ERR Unrecognized option '" + std::string(call.arguments[2]) + "'");
  }
  return call.Ok();
}

Dispatch ClientList(Call& call) {
  if (call.count() != 2) return call.Error("ERR CLIENT LIST through Catena takes no options");
  std::string text;
  for (const auto& [id, session] : call.node.sessions()) {
    if (!session->forwarded) text += ClientLine(call.node, *session, call.node.WallMilliseconds()) + "\n";
  }
  return call.Bulk(text);
}

Dispatch Client(Call& call) {
  if (call.count() < 2) return call.WrongArguments();
  std::string_view what = call.arguments[1];
  Session& session = call.session;
  if (Same(what, "setname")) {
    if (call.count() != 3) return call.WrongArguments();
    if (!ValidName(call.arguments[2])) return call.Error(kBadName);
    session.name = call.arguments[2];
    return call.Ok();
  }
  if (Same(what, "getname")) {
    if (!session.name.empty()) return call.Bulk(session.name);
    std::string out;
    resp::AppendNull(out, session.protocol);
    return call.Reply(out);
  }
  if (Same(what, "id")) return call.Integer(static_cast<int64_t>(session.id()));
  if (Same(what, "info")) return call.Bulk(ClientLine(call.node, session, call.node.WallMilliseconds()) + "\n");
  if (Same(what, "list")) return ClientList(call);
  if (Same(what, "reply")) return ClientReply(call);
  // Answered as this server's version answers it: a command table without the entry does not know it.
  if (Same(what, "setinfo")) {
    const std::string_view probe[] = {"client", "setinfo"};
    const command::CommandInfo* info = call.node.Commands()->Find(probe);
    if (info != nullptr && info->name == "client|setinfo") return ClientSetInfo(call);
    return call.Error("ERR unknown subcommand '" + std::string(what) + "'. Try CLIENT HELP.");
  }
  if (Same(what, "no-evict") || Same(what, "no-touch")) {
    if (call.count() != 3) return call.WrongArguments();
    bool known = Same(call.arguments[2], "on") || Same(call.arguments[2], "off");
    return known ? call.Ok() : call.Error("ERR syntax error");
  }
  return call.Error("ERR CLIENT " + std::string(what) + " is not supported through Catena");
}

Dispatch ReadOnly(Call& call) { return SetConsistency(call, Consistency::kEventual); }
Dispatch ReadWrite(Call& call) { return SetConsistency(call, call.node.options().consistency); }

Dispatch WhoAmI(Call& call) {
  return call.count() == 2 ? call.Bulk(call.session.user) : call.WrongArguments();
}

struct Entry {
  std::string_view name;
  Dispatch (*answer)(Call&);
};

constexpr Entry kAnswers[] = {
    {"acl", WhoAmI},        {"auth", Auth},         {"catena", CatenaCommand}, {"client", Client}, {"echo", Echo},
    {"hello", Hello},       {"ping", Ping},            {"quit", Quit},     {"readonly", ReadOnly},
    {"readwrite", ReadWrite}, {"reset", Reset},        {"role", Role},     {"select", Select},
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

Dispatch AnswerProxyCommand(Node& node, Session& session, uint64_t number, const Request& request) {
  Call call{node, session, number, request.command->arguments, request.info->name};
  if (!ArityFits(request)) return call.WrongArguments();
  for (const Entry& entry : kAnswers) {
    if (entry.name == Container(request.info->name)) return entry.answer(call);
  }
  return call.Error("ERR '" + request.info->name + "' is not supported through Catena: it needs a connection of its own");
}

bool CheckAuthenticated(Node& node, Session& session, uint64_t number, const Request& request) {
  if (session.authenticated) return true;
  std::string_view name = request.info != nullptr ? Container(request.info->name) : std::string_view();
  if (name == "auth" || name == "hello" || name == "quit" || name == "reset") return true;
  Call call{node, session, number, request.command->arguments, request.info != nullptr ? request.info->name : ""};
  // As Redis does, which looks at the arguments' number first. A command that the table does not know is not passed on
  // for its error's sake: the server may know it.
  if (request.info != nullptr && !ArityFits(request)) {
    call.WrongArguments();
  } else {
    call.Error("NOAUTH Authentication required.");
  }
  return false;
}

}  // namespace catena::server
