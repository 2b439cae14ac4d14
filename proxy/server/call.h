// One command that the session answers itself, with what its handler needs to answer. Lives during
// the dispatch.
#pragma once

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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

// Whether `a`, in any case, is the word `lower`.
inline bool Same(std::string_view a, std::string_view lower) {
  return a.size() == lower.size() &&
         std::equal(a.begin(), a.end(), lower.begin(), [](char x, char y) {
           return std::tolower(static_cast<unsigned char>(x)) == y;
         });
}

// As strict as Redis: no sign "+", no leading zero.
inline std::optional<int64_t> ParseInteger(std::string_view text) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  std::string_view digits = text.starts_with("-") ? text.substr(1) : text;
  if (digits.starts_with("0") && text != "0") return std::nullopt;
  return value;
}

// CLIENT and its subcommands (client_commands.cc).
Dispatch AnswerClientCommand(Call& call);

}  // namespace catena::server
