// What the commands look like. Appends them to a connection's buffer without allocating.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "integration/bench/generator/keys.h"
#include "proxy/base/result.h"

namespace catena::bench {

enum class Kind : uint8_t { kRead, kWrite };

inline constexpr int kMgetKeys = 10;  // of one MGET

struct WorkloadOptions {
  std::string mix = "get=100";  // NAME=SHARE,... of get, mget, set, setex, incr, lpush, ping
  std::string keys = "uniform";
  uint64_t key_count = 100'000;
  std::string key_prefix = "key:";
  size_t value_bytes = 64;
  int wait_replicas = 0;  // > 0: each write is followed by WAIT n 0 in the same packet
  uint64_t seed = 1;
};

class Workload {
 public:
  static Result<Workload> Make(const WorkloadOptions& options);

  struct Appended {
    Kind kind;
    int replies;  // how many the operation will get: 2 with WAIT
  };
  Appended AppendNext(std::string& out);
  // Whether the last reply to an operation is WAIT's and shows fewer replicas than asked for.
  bool IsShortWait(Kind kind, std::string_view reply) const;

 private:
  enum class Name { kGet, kMget, kSet, kSetEx, kIncr, kLpush, kPing };
  struct Share {
    Name name;
    uint64_t below;  // drawn number of [0, total) below this (and not below an earlier one)
  };

  Workload(const WorkloadOptions& options, KeyChooser keys, std::vector<Share> shares);
  static Result<std::vector<Share>> ParseMix(const std::string& text);
  void AppendKey(std::string& out);
  void AppendCommand(Name name, std::string& out);

  WorkloadOptions options_;
  Random random_;
  KeyChooser keys_;
  std::vector<Share> shares_;
  std::string value_bulk_;  // "$64\r\n...\r\n"
  std::string key_bulk_;    // "$16\r\nkey:000000000000\r\n", its digits overwritten each time
  std::string wait_;        // the WAIT command, or empty
};

}  // namespace catena::bench
