// The master's side of Redis replication, sans I/O: a follower's Redis is a replica of its proxy.
// Bytes from the Redis in; questions and acknowledgements out. Pure.
//
// PING, AUTH and REPLCONF are answered here; PSYNC is a question (kAsk) to which the owner sends
// Continue, FullResync or Later. After Continue the owner sends the stream from the asked position
// on, and not one byte else: a keep-alive would shift the offset.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/base/ids.h"
#include "proxy/resp/decoder.h"

namespace catena::redis {

class PsyncMaster {
 public:
  enum class Kind {
    kNeedMore,
    kAsk,   // replid, position
    kAck,   // position: all up to there is executed
    kClose  // text: close the connection
  };
  struct Event {
    Kind kind = Kind::kNeedMore;
    std::string replid;
    // What the Redis has: it wants the bytes from here on. nullopt: it asks for a snapshot.
    std::optional<Position> position;
    std::string text;
  };

  PsyncMaster();

  // Takes all of `input` at the first call; call again with an empty one until kNeedMore. Appends
  // answers to `out`.
  Event Next(std::string_view input, std::string& out);

  // Answers to kAsk; the owner sends them.
  std::string Continue(const std::string& replid);
  // Announces the snapshot: `length` bytes of RDB follow, then the stream from `position` on.
  std::string FullResync(const std::string& replid, Position position, uint64_t length);
  // It asks again in about a second, on a new connection.
  std::string Later();

 private:
  Event Execute(const resp::Command& command, std::string& out);
  Event Replconf(const resp::Command& command, std::string& out);
  Event Psync(const resp::Command& command);
  Event Close(std::string text);

  enum class Phase { kHandshake, kAsked, kStreaming, kEnded };
  Phase phase_ = Phase::kHandshake;
  resp::CommandDecoder decoder_;
  std::string buffer_;
};

}  // namespace catena::redis
