// One client connection (or one connection on which another proxy forwards its clients' commands):
// decodes commands, keeps their replies in order, and hands each to the executor that its route
// asks for. Owns the stream. Loop thread.
//
// Order (I8): every command takes a numbered slot; replies leave in slot order whoever completes
// them. Commands are dispatched strictly one after the other: one that must wait (for a head, for
// an old route to drain, for a dirty key) stays in the input and everything behind it waits too.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/clock.h"
#include "proxy/base/ids.h"
#include "proxy/base/ring.h"
#include "proxy/base/shared_bytes.h"
#include "proxy/command/command_table.h"
#include "proxy/command/user_rights.h"
#include "proxy/io/reactor.h"
#include "proxy/resp/decoder.h"
#include "proxy/server/meter.h"
#include "proxy/server/options.h"

namespace catena::server {

class ClientState;
class Session;

// Which end of the chain a forwarding connection was opened for.
enum class Target : uint8_t { kHead, kTail };

// Where the outstanding commands of a session are; a change waits until the old route is drained.
enum class Path : uint8_t {
  kNone,
  kHead,
  kHeadScripts,
  kLocalRead,
  kLocalScripts,
  kTracked,  // reads of a client with CLIENT TRACKING, on its own connection to the local database
  kForwardHead,
  kForwardScripts,
  kForwardTail,
  kPrivate
};

// One decoded command on its way to an executor. Views are valid during the dispatch.
struct Request {
  const command::CommandInfo* info = nullptr;  // nullptr: unknown to the backend
  command::Route route = command::Route::kUnknown;
  const resp::Command* command = nullptr;
  BytesOwner owner;        // of command->raw, when it is large and may be kept
  bool keys_known = true;  // else as if every key were named
  std::vector<uint64_t>* key_hashes = nullptr;
  std::span<const uint32_t> key_positions;  // of the keys that can be told

  // Otherwise it is answered as if it read every key.
  bool ReadsKnownKeys() const { return keys_known && info->UsesNamedKeysOnly(); }
};

// A script or function. It holds its connection as long as it runs, while the database answers
// others
// (-BUSY): it shares one with other scripts only, and with none that has run for kScriptIsSlow.
inline bool RunsScript(const Request& request) {
  return request.info != nullptr &&
         request.info->key_rule == command::CommandInfo::KeyRule::kScript;
}

constexpr Duration kScriptIsSlow = std::chrono::milliseconds(30);

inline Path HeadPath(const Request& request) {
  return RunsScript(request) ? Path::kHeadScripts : Path::kHead;
}
inline Path LocalPath(const Request& request) {
  return RunsScript(request) ? Path::kLocalScripts : Path::kLocalRead;
}

// What a read that has to wait already knows; lives from its first dispatch until it is submitted.
struct ReadWait {
  bool started = false;
  bool authority = false;  // proved at or after arrival
  bool dirty = false;      // an entry for its keys was under way when it came
  std::optional<uint64_t> verify_ticket;
  std::optional<uint64_t> query_ticket;
  Position needs;  // version that the local database must have applied
};

enum class Dispatch : uint8_t {
  kTaken,  // submitted or answered
  kWait,   // keep it in the input and try again when something changed
};

class SessionOwner {
 public:
  virtual ~SessionOwner() = default;
  // Routes one command; answers go to session.Complete(number, ...) in any order.
  virtual Dispatch OnCommand(Session& session, uint64_t number, Request& request) = 0;
  // The session has a command that waits; it is retried by Session::Retry.
  virtual void OnBlocked(Session& session) = 0;
  // The waiting command is answered instead of being routed; `why` is an error. Returns the answer.
  virtual std::string OnGivenUp(Session& session, const resp::Command& command,
                                std::string why) = 0;
  // Stream gone and nothing outstanding any more: destroy it (not from inside the call).
  virtual void OnFinished(Session& session) = 0;
  // The client is gone; answers may still be owed.
  virtual void OnDisconnected(Session& session) = 0;
  virtual const command::CommandTable* Commands() const = 0;
  virtual TimePoint Now() = 0;
};

class Session final : public io::StreamHandler {
 public:
  struct Settings {
    resp::Limits limits;
    size_t output_bytes_max = 64u << 20;
    size_t pipeline_max = 100'000;
  };

  // `owner` and `meter` outlive the session.
  Session(uint64_t id, std::unique_ptr<io::Stream> stream, SessionOwner* owner, Meter& meter,
          const Settings& settings);
  ~Session() override;

  uint64_t id() const { return id_; }

  // --- connection state, read and changed by the command handlers (session_commands.cc) ---
  int database = 0;
  int protocol = 2;
  std::string name;
  std::string library_name, library_version;
  std::string user;
  bool authenticated = false;
  const command::UserRights* rights = nullptr;  // of the configuration; nullptr: everything
  bool forwarded = false;                       // the peer is a proxy, which asked for ...
  Target forward_target = Target::kHead;
  std::string forward_lane;  // by which the node knows it
  bool tunnel = false;       // ... for one client alone
  bool handed_over = false;  // the proxy has said that nothing more comes on it
  Consistency consistency = Consistency::kLinearizable;
  Position seen;  // highest position whose effects this connection may have seen
  // It may also have seen what this node has not received: from others, while this node may have
  // been removed from the chain, or in an earlier life of this node.
  bool seen_elsewhere = false;
  // run_id of the database that gave the last cursor; "": none did. It means nothing to another one,
  // which has its keys in another order: a scan would miss some and not tell.
  std::string scans;
  int64_t connected_at_ms = 0;
  enum class ReplyMode : uint8_t { kOn, kOff } reply_mode = ReplyMode::kOn;

  // --- for the owner ---
  Path path = Path::kNone;      // of the outstanding commands
  bool script_went_on = false;  // one of them was sent on to the head
  ReadWait read_wait;
  std::unique_ptr<ClientState> state;  // nullptr: never was in a state of its own
  std::optional<TimePoint>
      blocked_since;    // first moment at which the waiting command could not be routed
  bool paused = false;  // ... because of CLIENT PAUSE
  bool in_blocked_list = false;
  size_t outstanding() const { return outstanding_; }
  // Clients that send more than a waiting command lets in are not read on.
  bool reading_paused() const { return reading_paused_; }
  bool closed() const { return stream_ == nullptr; }
  // It waits for its own client to read, not for the chain: nothing to give up.
  bool over_limits() const { return over_limits_; }
  const io::Stream* stream() const { return stream_.get(); }
  TimePoint last_read() const { return last_read_; }
  size_t input_bytes() const { return input_.size(); }
  const std::string& last_command() const { return last_command_; }

  // The reply of command `number`. Copies it, unless it is large and lies in `*owner`.
  void Complete(uint64_t number, std::string_view reply, const BytesOwner& owner = nullptr);
  // A message outside of request and reply. A client that does not read them is disconnected; a proxy
  // is not.
  void Push(std::string_view message);
  // Marks the command being dispatched as being with an executor (Complete ends it).
  void CountOutstanding(Path on);
  // What the command being dispatched counts as, where its name does not tell.
  void CountAs(RequestClass of) { slots_.back().counts_as = of; }
  // Its client has waited since.
  TimePoint arrived() const { return arrived_; }
  // Tries the waiting command again.
  void Retry();
  // Answers the waiting command with an error instead.
  void FailWaiting(std::string error_reply);
  // CLIENT REPLY: whether the command being dispatched, or the one after it, is answered.
  void SilenceNewest() { slots_.back().silent = true; }
  void UnsilenceNewest() { slots_.back().silent = false; }
  void SkipNext() { skip_next_ = true; }
  // Stops decoding: no further command is taken (graceful stop); replies still leave.
  void StopTaking() { taking_ = false; }
  // For bytes that were read before the connection became a session.
  void Received(std::string_view bytes) { OnRead(bytes); }
  void CloseAfterReplies();
  void CloseNow(std::string_view why);

  void OnRead(std::string_view bytes) override;
  void OnClosed(std::string_view reason) override;
  void OnDrained() override;

 private:
  struct Large {
    BytesOwner owner;
    std::string_view reply;
  };
  struct Slot {
    bool done = false;
    bool counted = false;
    bool silent = false;  // CLIENT REPLY OFF / SKIP
    RequestClass counts_as = RequestClass::kOther;
    TimePoint since{};
    std::string reply;             // only when it came before its turn
    std::unique_ptr<Large> large;  // the same of a large one
  };

  // Decodes and dispatches what it can of `bytes`; returns how much was used.
  size_t Process(std::string_view bytes);
  // Forgets the first `used` bytes of input_.
  void TakeInput(size_t used);
  // Dispatches the decoded command_ in a new slot; false: it must wait.
  bool Take();
  // The same for one that ends at `end` in input_ and is large: those who send it on share it.
  bool TakeShared(size_t end);
  Dispatch DispatchCommand(uint64_t number);
  void UnfoldInline();
  bool OverLimits();
  void LearnFrom(size_t reply_bytes);
  size_t GivenUpBytes() const;
  void ProtocolError(const std::string& error);
  void PauseReading();
  void ResumeReading();
  Traffic& traffic();
  void FlushReady();
  void Emit(std::string_view reply, const BytesOwner& owner);
  void MaybeFinish();

  uint64_t id_;
  SessionOwner* owner_;
  Meter& meter_;
  Settings settings_;
  std::unique_ptr<io::Stream> stream_;
  resp::CommandDecoder decoder_;
  resp::Command command_;
  BytesOwner command_owner_;  // while a large command is being dispatched
  std::string
      input_;  // received and not taken yet; begins with the waiting command when there is one
  bool waiting_ = false;
  bool skip_next_ = false;
  bool over_limits_ = false;
  Ring<Slot> slots_;
  uint64_t next_number_ =
      0;  // of the next command; slots_[i] is number next_number_ - slots_.size() + i
  size_t outstanding_ = 0;
  size_t window_;           // commands that may be owed answers; grows with those that come
  size_t reply_bytes_ = 0;  // that a reply takes, of late
  size_t held_bytes_ = 0;   // of replies that came before their turn
  bool taking_ = true;
  bool close_after_replies_ = false;
  bool reading_paused_ = false;
  bool processing_ = false;  // inside Process: completions must not dispatch again
  bool finished_ = false;
  std::vector<uint64_t> key_hashes_;
  std::vector<uint32_t> key_positions_;
  std::string last_command_;
  TimePoint last_read_{};
  TimePoint arrived_{};  // of the oldest command in input_
  TimePoint paused_at_{};
  StallCause paused_for_ = StallCause::kClientCommands;
  std::string inline_command_;
};

}  // namespace catena::server
