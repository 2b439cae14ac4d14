// Incremental RESP decoders, sans I/O. The caller owns one contiguous buffer of bytes not yet
// consumed; decoders look at it, say how much they used, and never copy payload.
//
// Limits answer hostile or broken peers with the same words as Redis ("Protocol error: ...").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/result.h"
#include "proxy/resp/value.h"

namespace catena::resp {

struct Limits {
  size_t bulk_bytes_max = 512u << 20;   // proto-max-bulk-len
  size_t elements_max = 1u << 20;       // arguments of a command (Redis: 1024*1024); of a Value
  size_t inline_bytes_max = 64u << 10;  // inline command line, and any length line
  int nesting_max = 32;                 // aggregates within aggregates, for DecodeValue (recursive)
  size_t command_bytes_max = 1u << 30;  // all of one command (Redis: client-query-buffer-limit)
};

// For replies of a database or proxy that is trusted, which are as large as they are: the limit
// only tells garbage from numbers.
inline constexpr Limits kReplyLimits{.bulk_bytes_max = size_t{1} << 40};

// One client command: multibulk ("*2\r\n$3\r\nGET\r\n...") or inline ("GET key\r\n").
struct Command {
  // Views into the input buffer, or into storage of the decoder for an inline command with quotes;
  // valid until the next Decode or until the buffer changes. Never empty on kComplete.
  std::vector<std::string_view> arguments;
  // The bytes as sent (inline commands too): input.substr(0, consumed).
  std::string_view raw;
  bool is_inline = false;
};

enum class Progress { kComplete, kNeedMore, kError };

// Decodes commands. An empty line or "*0"/"*-1" is skipped as Redis does (consumed without a
// command).
class CommandDecoder {
 public:
  explicit CommandDecoder(Limits limits = {}) : limits_(limits) {}

  // Looks for one command at the start of `input`.
  //   kComplete: `command` is filled, `consumed` bytes are used (leading skipped ones included).
  //   kNeedMore: call again with the same bytes and more behind them; `consumed` bytes (possibly 0)
  //              may be dropped first. Work done on an incomplete command is remembered, so a large
  //              one that arrives in pieces is not scanned again from its start.
  //   kError:    `error()` is the text after "-ERR "; the connection must be closed.
  Progress Decode(std::string_view input, Command& command, size_t& consumed);
  const std::string& error() const { return error_; }
  // When kNeedMore and a bulk is under way: how many bytes the buffer must hold at least before
  // another call can succeed (0: unknown). Lets the owner reserve once.
  size_t bytes_wanted() const { return bytes_wanted_; }

 private:
  // Where an argument of an unfinished multibulk lies, relative to the command's first byte.
  struct Span {
    size_t offset, length;
  };

  Progress Fail(std::string text);
  Progress DecodeOne(std::string_view input, Command& command, size_t& consumed);
  Progress DecodeInline(std::string_view input, Command& command, size_t& consumed);
  Progress DecodeMultibulk(std::string_view input, Command& command, size_t& consumed);
  Progress ResumeMultibulk(std::string_view input, Command& command, size_t& consumed);
  template <typename Add>
  Progress ReadBulks(std::string_view input, const Add& add);
  bool SplitInline(std::string_view line, std::vector<std::string_view>& arguments);
  void ForgetCommand();

  Limits limits_;
  std::string error_;
  size_t bytes_wanted_ = 0;
  // The multibulk under way: elements still missing, and where the next one starts.
  bool in_command_ = false;
  size_t elements_left_ = 0;
  size_t scan_offset_ = 0;
  std::vector<Span> spans_;
  std::string inline_storage_;  // unescaped arguments of one inline command, end to end
};

// Finds where a reply (any RESP2/RESP3 value) ends, without decoding it. Resumable: call with the
// same start and more bytes after kNeedMore. Bounds a bulk by bulk_bytes_max (a simple string or
// error line, too), but neither the number of elements nor, short of kNestingMax, their depth: it
// allocates 8 bytes a level, and a script may return what it likes over a shared connection.
class ReplyScanner {
 public:
  static constexpr size_t kNestingMax = 1u << 16;

  explicit ReplyScanner(Limits limits = {}) : limits_(limits) {}
  // kComplete: the reply is input.substr(0, length). A leading attribute (|) belongs to the reply
  // behind it. Pushes (>) are reported as replies; look at input[0].
  // kError: error() is "Protocol error: ..."; the connection must be closed.
  Progress Scan(std::string_view input, size_t& length);
  const std::string& error() const { return error_; }
  // When kNeedMore inside a bulk: how many bytes the buffer must hold at least before another call
  // can succeed (0: unknown). Lets the owner reserve once.
  size_t bytes_wanted() const { return bytes_wanted_; }

 private:
  Progress ScanElement(std::string_view input);
  Progress ScanLine(std::string_view input);
  Progress ScanLength(std::string_view input);
  Progress Fail(std::string text);

  Limits limits_;
  std::string error_;
  size_t bytes_wanted_ = 0;
  size_t offset_ = 0;           // start of the next element, all before it is scanned
  size_t line_scanned_ = 0;     // bytes of an unfinished line at offset_ known to hold no end
  std::vector<uint64_t> open_;  // elements still missing in each open aggregate
};

// Decodes one value into a tree. kNeedMore starts over at the next call: for small control
// messages. Attributes are skipped. kError: `error` is "Protocol error: ...".
Progress DecodeValue(std::string_view input, Value& value, size_t& consumed, std::string& error,
                     const Limits& limits = {});

}  // namespace catena::resp
