// What a client connection has entered that needs a connection of its own: MULTI, WATCH, a blocking
// command or one that nobody knows, a script while another one runs long, subscriptions, MONITOR.
// Commands of such a state pass through it in order; everything else of the session keeps its usual
// routes.
//
//   transactions, blocking commands, scripts   on a channel to the head's database, whose replies
//                                              are held back like all others
//   subscriptions, MONITOR                     on a channel to the local database: the stream
//                                              delivers messages everywhere
//
// A broken channel never repeats anything: an EXEC or a blocking command without an answer has an
// unknown outcome, an open transaction is aborted (EXECABORT), watched keys count as touched (EXEC
// answers nil), subscribers are disconnected as by a restarted server. Loop thread; owned by the
// session.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "proxy/base/result.h"
#include "proxy/base/ring.h"
#include "proxy/server/effect_budget.h"
#include "proxy/server/private_channel.h"
#include "proxy/server/session.h"

namespace catena::server {

// What CLIENT LIST tells of a state.
struct StateSummary {
  std::string flags = "N";
  int64_t channels = 0, patterns = 0, shards = 0;
  int64_t queued = -1;  // commands in an open MULTI
  int64_t redirect = -1;
  bool subscribed() const { return channels + patterns + shards > 0; }
};

class ClientState final : public PrivateChannel::Handler {
 public:
  struct Channels {
    // nullptr: not possible now (no head is known or ready). An Error is the reply to give.
    using Open =
        std::function<Result<std::unique_ptr<PrivateChannel>>(Session&, PrivateChannel::Handler*)>;
    Open to_head;
    Open to_local;
    // By which a transaction's effects are counted while the head is here; elsewhere it counts them
    // itself. Not owned.
    EffectBudget* effects = nullptr;
    std::function<bool()> head_is_here;
    // Of the client with this id, which must be in or get a state; nullptr: there is none.
    std::function<ClientState*(uint64_t session)> find;
    // This state has a command to send again; SendAgain is to be called until it is gone.
    std::function<void(Session&)> again;
    // The reply of the proxy itself to a command (in RESP) that was queued in a transaction.
    std::function<std::string(Session&, std::string_view)> answer;
    // Whether the local database may still execute what a broken channel left there.
    std::function<bool()> has_abandoned;
  };

  ClientState(Session& session, Channels channels);
  ~ClientState() override;

  // True for commands that begin such a state, whoever sends them.
  static bool Begins(const Request& request);
  // True when the session is in a state in which this command must pass through here.
  bool Captures(const Request& request) const;
  Dispatch OnCommand(uint64_t number, const Request& request);
  // The client is gone or said RESET: closes the channels and forgets everything; what is owed is
  // answered by nothing.
  void Close();

  // CLIENT TRACKING is on: reads pass through SubmitTracked, so that the local database knows who
  // made them.
  bool tracking() const { return tracking_; }
  // In MULTI: what is refused passes through here, because it aborts the transaction.
  bool in_transaction() const { return in_multi_; }
  // An EXEC is under way that changes the connection itself (SELECT, HELLO, CLIENT SETNAME), before
  // what comes behind it.
  bool changing() const { return changing_; }
  // MULTI, WATCH or a command of a transaction waited for too long. Returns its answer, mostly `why`,
  // an error. The commands behind it must not be executed by themselves: MULTI is answered all the
  // same, up to EXEC or DISCARD everything is refused, and an EXEC behind such a WATCH answers nil.
  std::string OnGivenUp(std::string_view name, std::string why);
  // Its channel to the head was lost with something that may have an effect, which could happen
  // behind the client's next command (S18): until there is another channel, for which the head makes
  // an end of the former, nothing may be sent.
  bool MayOvertakeLost();
  // HELLO has changed the session's protocol, in which messages come from now on.
  void MatchLocalProtocol();
  // A read that may be executed now.
  Dispatch SubmitTracked(uint64_t number, std::string_view raw);
  StateSummary Summary() const;
  // While a command that may block has no answer: the id of its connection at the head's database.
  std::optional<int64_t> BlockedAs() const;

  // --- the head leaves its place ---
  // Gives the channel to the head's database up as soon as it is idle. Watched keys count as touched
  // then.
  void LeaveHead();
  // LeaveHead has something to wait for.
  bool HoldsHead() const { return head_ != nullptr; }
  // A blocked command that takes nothing by being ended can be sent to the next head; nullopt:
  // nothing is blocked, or more than that was sent. `error`: how CLIENT UNBLOCK is to end it.
  struct Blocked {
    int64_t id = 0;
    bool error = true;
  };
  std::optional<Blocked> Unblockable() const;
  // Whether what is blocked is being ended by CLIENT UNBLOCK.
  enum class Ending : uint8_t {
    kNo,
    kAsked,
    kUntold,  // the answer was lost: it may have been ended, and is to be ended again
  };
  Ending ending() const { return ending_; }
  void SetEnding(Ending ending) { ending_ = ending; }
  // A user ends what is blocked with an error, which is its answer then, whoever else ends it.
  void EndsWithError() { ends_with_error_ = BlockedAs().has_value(); }
  // Sends the command that was ended so. False: no head is ready.
  bool SendAgain();
  void FailAgain(std::string_view why);
  // Its client is another proxy's, which sends it. What came behind it is not executed here.
  void PassAgain();

  void OnPrivateMessage(PrivateChannel& channel, std::string_view message) override;
  void OnPrivateClosed(PrivateChannel& channel, const std::string& why, bool nothing_sent) override;
  void OnPrivateLeaving(PrivateChannel& channel) override;

 private:
  enum class Action : uint8_t {
    kPlain,       // reply as it is
    kExec,        // ends a transaction
    kEffect,      // a blocking command: unknown when lost; `text` is what can be sent again, or ""
    kScript,      // a script or function: unknown when lost
    kReplace,     // the reply is replaced by `text`
    kBegin,       // MULTI
    kWatch,       // WATCH, which Redis itself never refuses
    kSelect,      // a SELECT to be queued; `text` is the database
    kSubstitute,  // queued for `text`, a command that the proxy answers when EXEC comes
    kSwallow,     // ours (HELLO): nobody waits for it
    kOwnSelect,   // ours: what follows waits for it
    kOwnId,       // ours (CLIENT ID)
  };
  static bool IsOurs(Action action) {
    return action == Action::kSwallow || action == Action::kOwnSelect || action == Action::kOwnId;
  }
  // What a lost channel has brought to the database, and so what may have taken effect.
  enum class Sent : uint8_t {
    kNothing,
    kInOrder,       // commands of a transaction only with its EXEC, if that was sent
    kWithoutMulti,  // their MULTI was refused: each by itself
  };
  struct Pending {
    uint64_t number = 0;
    Action action = Action::kPlain;
    std::string text;
    size_t effect_bytes = 0;  // of an EXEC: taken from the budget until it is answered
  };
  enum class LocalAction : uint8_t {
    kConfirmations,  // of a subscription: messages, which answer nothing by themselves
    kReply,          // reply as it is
    kWrongContext,   // the error of a subscriber's ECHO, made one of `text`
    kTracking,       // reply to CLIENT TRACKING; `text` is "on" or "off"
    kRedirect,       // reply that may hold the redirection's id
    kSwallow,        // ours (HELLO)
    kOwnSelect,      // ours: tracked reads wait for it
    kOwnId,          // ours (CLIENT ID)
  };
  struct PendingLocal {
    uint64_t number = 0;
    LocalAction action = LocalAction::kReply;
    size_t replies = 1;  // confirmations still missing
    std::string text;
  };

  static bool BeginsAgain(const Ring<Pending>& owed);
  bool subscribed() const { return channels_.size() + patterns_.size() + shards_.size() > 0; }
  Dispatch Transaction(uint64_t number, const Request& request, std::string_view name);
  Dispatch Queue(uint64_t number, const Request& request);
  // How a channel stands when a command wants it.
  enum class Opening : uint8_t { kReady, kWait, kRefused };
  Dispatch SubmitHead(uint64_t number, std::string_view raw, Action action, std::string text = {});
  Dispatch SubmitExec(uint64_t number, std::string_view raw);
  Dispatch SubmitLocal(uint64_t number, const Request& request);
  Opening OpenHead();
  Pending NextOwed();
  // The channel follows the session's SELECT and HELLO when it is used next. False: wait.
  bool MatchConnection();
  Opening OpenLocal();
  void SendLocal(std::string_view raw, PendingLocal pending);
  Dispatch RefuseToSubscriber(uint64_t number, const Request& request);
  void OnLocalReply(std::string_view message);
  // --- tracking.cc ---
  // For command `number`. False: wait.
  bool MatchLocal(uint64_t number);
  Dispatch Tracking(uint64_t number, const Request& request, std::string_view name);
  // Of this client's local connection, for others to redirect to; nullopt: not known yet.
  std::optional<int64_t> LocalId();
  // The reply with the id of this proxy's client in it instead of the database's.
  std::string NameRedirection(std::string_view reply) const;
  size_t ExpectedConfirmations(const Request& request) const;
  void OnLocalMessage(std::string_view message);
  void CountConfirmation(std::string_view kind, const std::string& name);
  void FailHead(const std::string& why, Sent sent);
  void OnHeadMessage(std::string_view message);
  // A blocked command was ended for a head that leaves.
  static bool TookNothing(const Pending& pending, std::string_view message, bool ended);
  void LeaveTransaction();
  void OnQueued(const Pending& pending);
  // Does what queued commands of the connection itself do; returns the reply with their answers in
  // it.
  std::string FinishExec(std::string_view exec_reply);
  Dispatch Reply(uint64_t number, std::string_view reply);
  void AbortTransaction(const std::string& why, Sent sent);
  // To a MULTI that was sent on or given up. A proxy must know of the refusal, for it holds this
  // connection as long as its client is in the transaction.
  std::string AnswerToRefused() const;

  Session& session_;
  Channels make_;
  std::unique_ptr<PrivateChannel> head_, local_;
  std::unique_ptr<PrivateChannel> dead_;  // closed inside one of its own callbacks
  Ring<Pending> head_owed_;
  Ring<PendingLocal> local_owed_;
  int local_database_ = 0, local_protocol_ = 2;
  std::optional<int64_t> local_id_;
  bool tracking_ = false;
  int64_t redirect_ = -1,
          redirect_at_database_ = -1;  // CLIENT TRACKING REDIRECT, by our id and the database's
  int head_database_ = 0, head_protocol_ = 2;
  // A SELECT is on its way: refused (-BUSY), it would leave what follows in another database.
  bool head_selecting_ = false, local_selecting_ = false;
  std::string local_select_error_;  // not "": answers the read that wanted it, unless given up
  uint64_t local_select_for_ = 0;
  bool in_multi_ = false;
  std::string multi_error_;  // not "": answers what is to be queued, and EXEC aborts
  bool watching_ = false;
  bool watch_lost_ = false;                      // its channel broke: the next EXEC answers nil
  bool will_change_ = false, changing_ = false;  // see changing(): by its EXEC, which is under way
  size_t queued_ = 0;        // commands that the server queued in this transaction
  size_t queued_bytes_ = 0;  // of all commands of this transaction
  std::string refusal_;      // the reply when a channel is Opening::kRefused
  std::vector<std::pair<size_t, int>> selects_;  // those among them that select a database
  std::vector<std::pair<size_t, std::string>> substitutes_;  // those that the proxy answers
  std::optional<int64_t> head_id_;                           // of the channel's connection
  bool head_id_asked_ = false;
  bool leaving_head_ = false;
  bool lost_effects_ = false;
  Ending ending_ = Ending::kNo;
  bool ends_with_error_ = false;
  std::optional<Pending> again_;  // counts as outstanding
  bool passed_again_ = false;
  bool monitoring_ = false;
  std::set<std::string> channels_, patterns_, shards_;
};

}  // namespace catena::server
