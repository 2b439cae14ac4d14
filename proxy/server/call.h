// One command that the session answers itself, with what its handler needs to answer. Lives during
// the dispatch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/text.h"
#include "proxy/resp/encoder.h"
#include "proxy/server/node.h"

namespace catena::server {

struct Call {
  Node& node;
  Session& session;
  uint64_t number;
  const std::vector<std::string_view>& arguments;
  std::string name;                // "client|kill"
  std::string* capture = nullptr;  // inside EXEC: the reply goes there, at once

  size_t count() const { return arguments.size(); }
  // Earlier commands are unanswered, behind which a change of the connection has to wait.
  bool Early() const { return capture == nullptr && session.outstanding() > 0; }
  Dispatch Reply(std::string_view reply) const {
    if (capture != nullptr) {
      *capture = reply;
    } else {
      session.Complete(number, reply);
    }
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
  Dispatch WrongArguments() const {
    return Error("ERR wrong number of arguments for '" + name + "' command");
  }
};

// As strict as Redis: no sign "+", no leading zero.
inline std::optional<int64_t> ParseInteger(std::string_view text) {
  const auto value = ParseNumber<int64_t>(text);
  if (!value) return std::nullopt;
  std::string_view digits = text.starts_with("-") ? text.substr(1) : text;
  if (digits.starts_with("0") && text != "0") return std::nullopt;
  return value;
}

// What a connection may be called (CLIENT SETNAME, HELLO ... SETNAME).
inline bool ValidClientName(std::string_view name) {
  return std::all_of(name.begin(), name.end(), [](char c) { return c >= '!' && c <= '~'; });
}
inline constexpr std::string_view kBadClientName =
    "ERR Client names cannot contain spaces, newlines or special characters.";

// A row of a table of commands.
struct CommandHandler {
  std::string_view name;
  Dispatch (*answer)(Call&);
};

// CLIENT and its subcommands (client_commands.cc).
Dispatch AnswerClientCommand(Call& call);

}  // namespace catena::server
