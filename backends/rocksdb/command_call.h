// What the functions that run commands share: one call with its arguments and reply, and how Redis
// reads numbers and words from arguments. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "backends/rocksdb/commands.h"
#include "proxy/resp/encoder.h"

namespace catena::rocks {

// As Redis bounds strings by default (proto-max-bulk-len).
inline constexpr int64_t kStringBytesMax = 512LL << 20;

// Whose commands these are, for clients that ask.
inline constexpr std::string_view kRedisVersion = "7.0.15";

inline constexpr std::string_view kSyntaxError = "ERR syntax error";
inline constexpr std::string_view kNotInteger = "ERR value is not an integer or out of range";
inline constexpr std::string_view kNoSuchKey = "ERR no such key";

struct Call {
  Arguments arguments;
  CommandContext& context;
  std::string& reply;
  std::string_view name;  // as errors tell it: "config|get"

  size_t count() const { return arguments.size(); }
  std::string_view operator[](size_t at) const { return arguments[at]; }
  View& view() const { return context.view; }
  int64_t now_ms() const { return context.view.NowMs(); }
  int protocol() const { return context.client.protocol; }
  // Shared by all commands; what is in them is of an earlier one.
  Item& item() const { return context.workspace.item; }
  Item& other_item() const { return context.workspace.other; }
  std::string& bytes() const { return context.workspace.bytes; }

  void Ok() const { reply.append("+OK\r\n"); }
  void Error(std::string_view text) const { resp::AppendError(reply, text); }
  // The same where a failure is told by false.
  bool Refuse(std::string_view text) const {
    Error(text);
    return false;
  }
  void Integer(int64_t number) const { resp::AppendInteger(reply, number); }
  void Bulk(std::string_view text) const { resp::AppendBulk(reply, text); }
  void Simple(std::string_view text) const { resp::AppendSimple(reply, text); }
  void Null() const { resp::AppendNull(reply, protocol()); }
  void Array(size_t size) const { resp::AppendArrayHeader(reply, size); }
  void Map(size_t pairs) const { resp::AppendMapHeader(reply, pairs, protocol()); }
  void WrongArity() const;
  void InvalidExpireTime() const;
  // Lines of HELP, after the one that every command's begins with.
  void Help(std::string_view command, std::initializer_list<std::string_view> lines) const;

  // Whether argument `at` is the option `word`, in any case. As C reads it: up to a NUL.
  bool Is(size_t at, std::string_view word) const;
  // The number in argument `at`; otherwise the error is replied.
  std::optional<int64_t> TakeInteger(size_t at, std::string_view error = kNotInteger) const;
  // Seeks the value of `key`; false: there is none.
  bool Get(std::string_view key, Item& into) const { return view().Get(key, into); }
};

// Exactly as Redis reads and writes integers: no sign but '-', no leading zeros, no white space.
std::optional<int64_t> ParseInteger(std::string_view text);
// A long double that is all of `text`, never NaN; decimal text without an exponent or zeros behind.
std::optional<long double> ParseFloat(std::string_view text);
void FormatFloat(long double value, std::string& out);

// Whether `when` is no longer to come, as Redis asks of a deadline that a command sets.
inline bool IsPast(const Call& call, int64_t when) { return when <= call.now_ms(); }
// Sets key to value with a deadline; one that is past deletes it.
void PutUntil(const Call& call, std::string_view key, std::string_view value, int64_t deadline_ms);

// How an argument tells a time.
struct TimeUnit {
  bool seconds = false;   // else milliseconds
  bool relative = false;  // to now; else since 1970
};
// The deadline that argument `at` of SET, GETEX, SETEX or PSETEX means; nullopt: not a positive
// number, or too large, and the error is replied.
std::optional<int64_t> TakeDeadline(const Call& call, size_t at, TimeUnit unit);

}  // namespace catena::rocks
