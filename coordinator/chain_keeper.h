// One chain under one leadership: hears its nodes, lets the policy decide, writes records to etcd
// and tells everybody. Made when the leadership begins (with what etcd holds), destroyed when it
// ends. Loop thread.
//
// Between proposing a record and knowing its fate nothing else is decided, and those whom it
// removes are granted no lease (S16). A transaction of unknown fate is sent again until etcd has said
// either that it happened or that it no longer can; that a later sending of it has certainly not
// arrived says nothing about the earlier ones. What would not be decided any more is withdrawn after
// a while: the record in force is sent instead, under the same compares.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "coordinator/etcd_client.h"
#include "coordinator/policy.h"
#include "coordinator/records.h"
#include "coordinator/registry.h"
#include "proxy/base/result.h"
#include "proxy/io/reactor.h"

namespace catena::coordinator {

// One connection of a proxy. Owned by the server; a keeper knows it until Gone().
class Subscriber {
 public:
  virtual ~Subscriber() = default;
  virtual uint64_t number() const = 0;  // of the connection, never reused
  virtual void SendAnswer(const HeartbeatAnswer& answer) = 0;
  virtual void SendConfiguration(const HeartbeatAnswer& news) = 0;
  virtual void SendNotLeader(const std::string& leader) = 0;
  // Closes the connection in a later turn; Gone() comes from there.
  virtual void Drop(const std::string& reason) = 0;
};

class ChainKeeper {
 public:
  struct Options {
    ChainFacts facts;
    std::string key;         // of the chain's record in etcd
    std::string events_key;  // of its history
    Duration lease{0};
    Duration silence{0};
    Duration link_grace{0};
    Duration introduction{0};
    Duration settling{0};
    Duration choice_timeout = std::chrono::seconds(10);
    Duration retry = std::chrono::milliseconds(100);
  };
  // The leadership in whose name it acts.
  class Leadership {
   public:
    virtual ~Leadership() = default;
    virtual bool Trusted(TimePoint now) const = 0;
    virtual const std::string& leader_key() const = 0;
    virtual int64_t owner_revision() const = 0;
    // etcd showed that it is over. May destroy the keeper in a later turn, never during the call.
    virtual void Over(const std::string& reason) = 0;
    // A configuration is in force that was not; `before`: the one until then.
    virtual void OnConfiguration(const std::optional<chain::Configuration>& before,
                                 const chain::Configuration& now) = 0;
  };

  // What etcd holds of the chain; nullopt: no such key.
  struct Found {
    std::optional<etcd::KeyValue> record;
    std::optional<etcd::KeyValue> events;
  };
  // All references outlive the keeper.
  ChainKeeper(io::Reactor& reactor, etcd::Client& etcd, Leadership& leadership, Options options,
              const Found& found);
  ~ChainKeeper();

  // A heartbeat whose bytes were read before `now`. The answer is sent before this returns.
  void OnHeartbeat(Subscriber& subscriber, const NodeReport& report, TimePoint now);
  void OnGone(Subscriber& subscriber, const NodeId& node, Incarnation incarnation);
  // The leadership was not trusted for a while, and is again: what came meanwhile was sent away.
  void OnTrustedAgain();

  // A record is on its way into etcd, and may happen after this keeper's end.
  bool writes() const { return writing_.has_value(); }

  // The same chain with other facts or times.
  void Reconfigure(Options options);

  // The operator's choice; `done` when it is in force, or with the reason why not.
  using ChoiceDone = std::function<void(Result<bool>)>;
  void Choose(const NodeId& node, ChoiceDone done);
  // An operator's wish that a member leaves, or the end of one; `done` when it stands in the
  // record, or with the reason why it is refused. What follows from it shows in Status().
  void Wish(const DrainRequest& request, ChoiceDone done);

  ChainStatus Status(TimePoint now) const;
  // Why the chain is what it is.
  const EventHistory& events() const { return events_; }

 private:
  struct Choice {
    NodeId node;
    ChoiceDone done;
    bool written = false;  // a record that was decided with it has been on its way
  };

  struct PendingWish {
    DrainRequest request;
    ChoiceDone done;
    bool written = false;  // as above
  };
  // A record on its way into etcd, with the history that belongs to it.
  struct Writing {
    ChainRecord record;
    EventHistory events;
    bool tells_event = false;
    TimePoint decided;
    bool may_happen = false;  // an earlier sending of it had an unknown fate
    bool chosen = false;      // by an operator, who may have been told that nobody knows yet
    // It is not what would be decided now: until its fate is known, the record in force is sent.
    bool withdrawn = false;
  };

  void Consider();
  PolicyInput MakeInput(TimePoint now) const;
  void TakeOver(const Decision& decision);
  void ReviewOrders();
  void FollowDrain(const std::optional<Decision::Request>& drain);
  void Write(const ChainRecord& next, const std::string& event);
  void Send();
  void SendAgain();
  bool IsOutdated(const Writing& writing) const;
  void OnWritten(const etcd::Answer<etcd::TxnAnswer>& answer);
  void OnRefused(const etcd::TxnAnswer& answer);
  void Adopt(const ChainRecord& record, int64_t revision);
  void OnWithdrawn(int64_t revision);
  void UpdateWithheld();
  void EndChoice(Result<bool> result);
  void EndWish(Result<bool> result);
  // For an operator whose choice or wish ends here.
  std::string WhyNotDone(bool written, const std::string& why) const;
  // The same of one who has waited for too long.
  std::string WhyTooLong(bool written, const std::string& why) const;
  HeartbeatAnswer News(const NodeId& node, Incarnation incarnation) const;
  std::string NoticeOf(const NodeId& node) const;
  void TellAll();
  NodeStatus StatusOf(const Life& life, bool member, TimePoint now) const;

  io::Reactor& reactor_;
  etcd::Client& etcd_;
  Leadership& leadership_;
  Options options_;
  std::string unreadable_;  // why the record in etcd cannot be used; then nothing is decided
  std::optional<ChainRecord> record_;
  int64_t mod_revision_ = 0;
  EventHistory events_;
  std::optional<Writing> writing_;
  std::string write_problem_;  // why etcd did not take what is to be written; "": nothing failed
  std::unique_ptr<Registry> registry_;
  std::optional<JoinOrder> join_;
  TimePoint join_since_{};
  std::vector<Decision::Notice> notices_;
  std::optional<Decision::Request> resign_;
  std::optional<Decision::Request> drain_;
  std::string waiting_for_;
  bool needs_operator_ = false;
  std::optional<Choice> choice_;
  std::optional<PendingWish> wish_;
  std::map<Registry::LifeName, Subscriber*> subscribers_;
  std::unique_ptr<io::Timer> look_again_;
  std::unique_ptr<io::Timer> send_again_;
  std::unique_ptr<io::Timer> choice_timer_;
  std::unique_ptr<io::Timer> wish_timer_;
  // Callbacks of etcd that come after this keeper's end are dropped.
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace catena::coordinator
