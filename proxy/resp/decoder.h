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
  size_t elements_max = 1u << 20;       // arguments of a command (Redis: 1024*1024)
  size_t inline_bytes_max = 64u << 10;  // inline command line, and any header line
  int nesting_max = 32;                 // aggregates within aggregates
};

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

// Decodes commands. An empty line or "*0"/"*-1" is skipped as Redis does (consumed without a command).
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
  Progress Fail(std::string text);
  Progress DecodeInline(std::string_view input, Command& command, size_t& consumed);

  Limits limits_;
  std::string error_;
  size_t bytes_wanted_ = 0;
  // Resume state of a multibulk: offsets relative to the command's first byte.
  struct Span { size_t offset, length; };
  bool in_command_ = false;
  size_t elements_left_ = 0;
  size_t scan_offset_ = 0;
  std::vector<Span> spans_;
  std::vector<std::string> inline_storage_;
};

// Finds where a reply (any RESP2/RESP3 value) ends, without decoding it. Resumable: call with the
// same start and more bytes after kNeedMore.
class ReplyScanner {
 public:
  explicit ReplyScanner(Limits limits = {}) : limits_(limits) {}
  // kComplete: the reply is input.substr(0, length). A leading attribute (|) belongs to the reply
  // behind it. Pushes (>) are reported as replies; look at input[0].
  Progress Scan(std::string_view input, size_t& length);
  const std::string& error() const { return error_; }

 private:
  Limits limits_;
  std::string error_;
  size_t offset_ = 0;          // scanned so far
  std::vector<uint64_t> open_; // elements still missing in each open aggregate
};

// Decodes one value into a tree. kNeedMore starts over at the next call: for small control messages.
Progress DecodeValue(std::string_view input, Value& value, size_t& consumed, std::string& error,
                     const Limits& limits = {});

}  // namespace catena::resp
