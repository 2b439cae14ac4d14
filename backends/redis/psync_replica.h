// The replica's side of Redis replication, sans I/O: how a proxy attaches to a Redis to capture its
// stream or to take a snapshot. Bytes in, events and bytes to send out. Pure.
//
// Order of a conversation:
//   send Hello()           AUTH, PING, CLIENT SETNAME, INFO server, REPLCONF ... in one go
//   kReady                 all answered, run_id as expected
//   send Ask(...)          PSYNC; alone, because Redis refuses it behind unsent replies
//   kContinue, kStream...  or  kFullResync, kSnapshotStart, kSnapshotBytes..., kSnapshotEnd,
//   kStream... or kLater / kRefused   (the machine has ended)
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/base/ids.h"

namespace catena::redis {

struct ReplicaHello {
  std::string user, password;  // both empty: no AUTH
  std::string client_name;     // for CLIENT SETNAME
  std::string run_id;          // the process that must answer; empty: any
  int listening_port = 0;      // shown in ROLE and INFO of the Redis; 0: not told
  bool capa_eof = false;       // lets Redis delay (and stream) the snapshot
  bool rdb_only = false;       // the snapshot and nothing behind it
};

class PsyncReplica {
 public:
  enum class Kind {
    kNeedMore,
    kReady,
    kContinue,       // replid (the one asked for where Redis names none)
    kFullResync,     // replid, position
    kSnapshotStart,  // length
    kSnapshotBytes,  // bytes
    kSnapshotEnd,
    kStream,  // bytes
    kLater,   // text: -LOADING, -BUSY, -NOMASTERLINK ...: the same question may succeed later
    kRefused  // text: what Redis said or what is wrong
  };
  struct Event {
    Kind kind = Kind::kNeedMore;
    std::string replid;
    Position position;
    uint64_t length = 0;
    std::string_view bytes;  // into the input
    std::string text;
  };

  explicit PsyncReplica(ReplicaHello hello);

  std::string Hello();
  // After kReady. Asks for the stream from `position` of the history `replid` on; nullopt: for a
  // snapshot. `failover`: the Redis shall become master first, if it stands in that history (6.2+).
  std::string Ask(const std::string& replid, std::optional<Position> position, bool failover);

  // Takes bytes from the front of `input` and reports the next event; with kNeedMore all of `input`
  // has been taken.
  Event Next(std::string_view& input);

 private:
  enum class Phase { kHello, kAsked, kLength, kSnapshot, kStream, kReady, kEnded };
  enum class Step : char { kAuth, kPing, kName, kInfo, kConf };

  // Moves one simple or bulk reply from `input` to reply_; false: more is needed, or failed (see
  // error).
  bool CollectReply(std::string_view& input);
  Event HelloReply();
  Event PsyncReply();
  Event LengthLine();
  Event Refuse(std::string text);
  Event End(Kind kind, std::string text);
  void Send(std::string& out, Step step, std::initializer_list<std::string_view> command);

  ReplicaHello hello_;
  Phase phase_ = Phase::kHello;
  std::string steps_;  // the Step of each command of Hello() that is not answered yet
  size_t next_step_ = 0;
  std::string asked_replid_;
  std::string reply_;       // the reply being collected, CRLFs included
  size_t body_wanted_ = 0;  // of a bulk reply: its size with CRLF once its header is known
  uint64_t snapshot_left_ = 0;
};

}  // namespace catena::redis
