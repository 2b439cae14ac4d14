// CLIENT: about the connections of this proxy. Ids are this proxy's own. Texts are Redis' own.
#include <utility>

#include "proxy/server/call.h"
#include "proxy/server/client_state.h"

namespace catena::server {
namespace {

constexpr std::string_view kSyntax = "ERR syntax error";
int64_t Seconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::seconds>(duration).count();
}

std::string Line(const Node& node, const Session& session, TimePoint now, int64_t now_ms) {
  StateSummary state = session.state ? session.state->Summary() : StateSummary();
  const io::Stream* stream = session.stream();
  size_t unsent = stream ? stream->UnsentBytes() : 0;
  auto field = [](const char* name, int64_t value) {
    return std::string(" ") + name + "=" + std::to_string(value);
  };
  return "id=" + std::to_string(session.id()) + " addr=" + (stream ? stream->PeerName() : "") +
         " laddr=" + (stream ? stream->LocalName() : "") + " fd=0 name=" + session.name +
         field("age", (now_ms - session.connected_at_ms) / 1000) +
         field("idle", Seconds(now - session.last_read())) + " flags=" + state.flags +
         field("db", session.database) + field("sub", state.channels) +
         field("psub", state.patterns) + field("ssub", state.shards) +
         field("multi", state.queued) + field("qbuf", static_cast<int64_t>(session.input_bytes())) +
         " qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0" + " obl=0" +
         " oll=" + (unsent > 0 ? "1" : "0") + field("omem", static_cast<int64_t>(unsent)) +
         field("tot-mem", static_cast<int64_t>(session.input_bytes() + unsent + sizeof(Session))) +
         " events=" + (unsent > 0 ? "rw" : "r") + " cmd=" + session.last_command() +
         " user=" + session.user + field("redir", state.redirect) +
         field("resp", session.protocol) + " catena-node=" + node.options().node;
}

std::string Line(Call& call, const Session& session) {
  return Line(call.node, session, call.node.Now(), call.node.WallMilliseconds()) + "\n";
}

// More words than any form of the subcommand has.
Dispatch Syntax(Call& call) {
  return call.Error("ERR unknown subcommand or wrong number of arguments for '" +
                    std::string(call.arguments[1]) + "'. Try CLIENT HELP.");
}

Dispatch SetName(Call& call) {
  if (!ValidClientName(call.arguments[2])) return call.Error(kBadClientName);
  call.session.name = call.arguments[2];
  return call.Ok();
}

Dispatch GetName(Call& call) {
  if (!call.session.name.empty()) return call.Bulk(call.session.name);
  std::string out;
  resp::AppendNull(out, call.session.protocol);
  return call.Reply(out);
}

Dispatch Id(Call& call) { return call.Integer(static_cast<int64_t>(call.session.id())); }

Dispatch Info(Call& call) { return call.Bulk(Line(call, call.session)); }

// CLIENT's types of connections; a proxy's clients are never masters or replicas.
enum class Type { kNormal, kPubSub, kOther, kUnknown };

Type ParseType(std::string_view text) {
  if (EqualsIgnoringCase(text, "normal")) return Type::kNormal;
  if (EqualsIgnoringCase(text, "pubsub")) return Type::kPubSub;
  return EqualsIgnoringCase(text, "master") || EqualsIgnoringCase(text, "replica") ||
                 EqualsIgnoringCase(text, "slave")
             ? Type::kOther
             : Type::kUnknown;
}

Type TypeOf(const Session& session) {
  StateSummary state = session.state ? session.state->Summary() : StateSummary();
  return state.channels + state.patterns + state.shards > 0 ? Type::kPubSub : Type::kNormal;
}

Dispatch List(Call& call) {
  std::string text;
  auto add = [&](const Session& session) {
    if (!session.forwarded && !session.closed()) text += Line(call, session);
  };
  if (call.count() == 2) {
    for (const auto& [id, session] : call.node.sessions()) add(*session);
  } else if (call.count() == 4 && EqualsIgnoringCase(call.arguments[2], "type")) {
    Type type = ParseType(call.arguments[3]);
    if (type == Type::kUnknown)
      return call.Error("ERR Unknown client type '" + std::string(call.arguments[3]) + "'");
    for (const auto& [id, session] : call.node.sessions()) {
      if (TypeOf(*session) == type) add(*session);
    }
  } else if (call.count() > 3 && EqualsIgnoringCase(call.arguments[2], "id")) {
    for (size_t i = 3; i < call.count(); ++i) {
      auto id = ParseInteger(call.arguments[i]);
      if (!id) return call.Error("ERR Invalid client ID");
      auto found = call.node.sessions().find(static_cast<uint64_t>(*id));
      if (found != call.node.sessions().end()) add(*found->second);
    }
  } else {
    return call.Error(kSyntax);
  }
  return call.Bulk(text);
}

// What CLIENT KILL's options select.
struct KillFilter {
  std::optional<int64_t> id;
  std::optional<std::string> address, local_address, user;
  std::optional<Type> type;
  bool skip_me = true;

  bool Selects(const Session& session, const Session& me) const {
    if (session.forwarded || session.closed() || (skip_me && &session == &me)) return false;
    if (id && static_cast<uint64_t>(*id) != session.id()) return false;
    if (address && session.stream()->PeerName() != *address) return false;
    if (local_address && session.stream()->LocalName() != *local_address) return false;
    if (user && session.user != *user) return false;
    return !type || TypeOf(session) == *type;
  }
};

bool KnownUser(const Call& call, std::string_view name) {
  const std::vector<User>& users = call.node.options().users;
  if (users.empty()) return name == "default";
  return std::any_of(users.begin(), users.end(),
                     [&](const User& user) { return user.name == name; });
}

// nullopt: the error was answered.
std::optional<KillFilter> ParseKill(Call& call) {
  KillFilter filter;
  auto fail = [&](std::string_view text) {
    call.Error(text);
    return std::nullopt;
  };
  if (call.count() == 3) {
    filter.address = std::string(call.arguments[2]);
    filter.skip_me = false;
    return filter;
  }
  for (size_t i = 2; i < call.count(); i += 2) {
    if (i + 1 >= call.count()) return fail(kSyntax);
    std::string_view option = call.arguments[i], value = call.arguments[i + 1];
    if (EqualsIgnoringCase(option, "id")) {
      filter.id = ParseInteger(value);
      if (!filter.id || *filter.id < 1) return fail("ERR client-id should be greater than 0");
    } else if (EqualsIgnoringCase(option, "type")) {
      filter.type = ParseType(value);
      if (*filter.type == Type::kUnknown)
        return fail("ERR Unknown client type '" + std::string(value) + "'");
    } else if (EqualsIgnoringCase(option, "addr")) {
      filter.address = std::string(value);
    } else if (EqualsIgnoringCase(option, "laddr")) {
      filter.local_address = std::string(value);
    } else if (EqualsIgnoringCase(option, "user")) {
      if (!KnownUser(call, value)) return fail("ERR No such user '" + std::string(value) + "'");
      filter.user = std::string(value);
    } else if (EqualsIgnoringCase(option, "skipme") &&
               (EqualsIgnoringCase(value, "yes") || EqualsIgnoringCase(value, "no"))) {
      filter.skip_me = EqualsIgnoringCase(value, "yes");
    } else {
      return fail(kSyntax);
    }
  }
  return filter;
}

Dispatch Kill(Call& call) {
  auto filter = ParseKill(call);
  if (!filter) return Dispatch::kTaken;
  std::vector<Session*> killed;
  for (const auto& [id, session] : call.node.sessions()) {
    if (filter->Selects(*session, call.session)) killed.push_back(session.get());
  }
  bool old_form = call.count() == 3;
  if (old_form && killed.empty()) return call.Error("ERR No such client");
  if (old_form) {
    call.Ok();
  } else {
    call.Integer(static_cast<int64_t>(killed.size()));
  }
  for (Session* session : killed) {
    if (session == &call.session) {
      session->CloseAfterReplies();
    } else {
      session->CloseNow("CLIENT KILL");
    }
  }
  return Dispatch::kTaken;
}

Dispatch Pause(Call& call) {
  bool all = true;
  if (call.count() > 4) return Syntax(call);
  if (call.count() == 4) {
    if (EqualsIgnoringCase(call.arguments[3], "write")) {
      all = false;
    } else if (!EqualsIgnoringCase(call.arguments[3], "all")) {
      return call.Error("ERR CLIENT PAUSE mode must be WRITE or ALL");
    }
  }
  auto timeout = ParseInteger(call.arguments[2]);
  if (!timeout) return call.Error("ERR timeout is not an integer or out of range");
  if (*timeout < 0) return call.Error("ERR timeout is negative");
  call.node.PauseClients(
      std::chrono::milliseconds(std::min<int64_t>(*timeout, INT64_MAX / 2'000'000)), all);
  return call.Ok();
}

Dispatch Unpause(Call& call) {
  call.node.UnpauseClients();
  return call.Ok();
}

Dispatch ReplyMode(Call& call) {
  Session& session = call.session;
  std::string_view mode = call.arguments[2];
  if (EqualsIgnoringCase(mode, "on")) {
    session.reply_mode = Session::ReplyMode::kOn;
    session.UnsilenceNewest();
    return call.Ok();
  }
  if (EqualsIgnoringCase(mode, "off")) {
    session.reply_mode = Session::ReplyMode::kOff;
  } else if (EqualsIgnoringCase(mode, "skip")) {
    if (session.reply_mode == Session::ReplyMode::kOn) session.SkipNext();
  } else {
    return call.Error(kSyntax);
  }
  session.SilenceNewest();
  return call.Reply("");
}

Dispatch SetInfo(Call& call) {
  if (!ValidClientName(call.arguments[3])) {
    return call.Error("ERR " + std::string(call.arguments[2]) +
                      " cannot contain spaces, newlines or special characters.");
  }
  if (EqualsIgnoringCase(call.arguments[2], "lib-name")) {
    call.session.library_name = call.arguments[3];
  } else if (EqualsIgnoringCase(call.arguments[2], "lib-ver")) {
    call.session.library_version = call.arguments[3];
  } else {
    return call.Error("ERR Unrecognized option '" + std::string(call.arguments[2]) + "'");
  }
  return call.Ok();
}

// NO-EVICT, NO-TOUCH: a proxy evicts no client, and its reads count at the database like all
// others.
Dispatch OnOff(Call& call) {
  bool known =
      EqualsIgnoringCase(call.arguments[2], "on") || EqualsIgnoringCase(call.arguments[2], "off");
  return known ? call.Ok() : call.Error(kSyntax);
}

Dispatch Unblock(Call& call) {
  bool error = false;
  if (call.count() > 4) return Syntax(call);
  if (call.count() == 4) {
    error = EqualsIgnoringCase(call.arguments[3], "error");
    if (!error && !EqualsIgnoringCase(call.arguments[3], "timeout")) {
      return call.Error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
    }
  }
  auto id = ParseInteger(call.arguments[2]);
  if (!id) return call.Error("ERR value is not an integer or out of range");
  auto found = call.node.sessions().find(static_cast<uint64_t>(*id));
  std::optional<int64_t> at_head;
  if (found != call.node.sessions().end() && found->second->state)
    at_head = found->second->state->BlockedAs();
  if (!at_head) return call.Integer(0);
  if (error) found->second->state->EndsWithError();
  return call.node.UnblockAtHead(call.session, call.number, *at_head, error);
}

constexpr CommandHandler kClientCommands[] = {
    {"getname", GetName}, {"id", Id},           {"info", Info},       {"kill", Kill},
    {"list", List},       {"no-evict", OnOff},  {"no-touch", OnOff},  {"pause", Pause},
    {"reply", ReplyMode}, {"setinfo", SetInfo}, {"setname", SetName}, {"unblock", Unblock},
    {"unpause", Unpause},
};

}  // namespace

Dispatch AnswerClientCommand(Call& call) {
  std::string_view what = std::string_view(call.name).substr(call.name.find('|') + 1);
  for (const CommandHandler& handler : kClientCommands) {
    if (handler.name == what) return handler.answer(call);
  }
  return call.Error("ERR CLIENT " + std::string(what) + " is not supported through Catena");
}

}  // namespace catena::server
