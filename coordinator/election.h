// Which coordinator leads: whoever holds the leased key /catena/<cluster>/leader in etcd, whose
// value is the leader's address. All on the loop thread.
//
// A leader trusts itself only until the *sending* of its last successful keep-alive + TTL - margin:
// etcd counts the TTL from a later moment, so before that nobody else can hold the key.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "coordinator/etcd_client.h"
#include "proxy/base/clock.h"
#include "proxy/io/reactor.h"

namespace catena::coordinator {

class Election {
 public:
  class Events {
   public:
    virtual ~Events() = default;
    // This process holds the key from now on.
    virtual void OnElected() = 0;
    // It does so no longer (certain: the lease is gone, or Lost() was called).
    virtual void OnDeposed(const std::string& reason) = 0;
    // etcd did not confirm in time, so Trusted() was false for a while; the key has stayed ours.
    virtual void OnTrustedAgain() = 0;
  };
  struct Options {
    std::string key;
    std::string address;                             // of this coordinator; the key's value
    Duration ttl = std::chrono::seconds(2);          // whole seconds, etcd's smallest is 2
    Duration poll = std::chrono::milliseconds(250);  // how often a non-leader looks at the key
  };

  // All outlive the election.
  Election(io::Reactor& reactor, etcd::Client& etcd, Options options, Events& events);

  void Start();
  // Gives the leadership up at once, for a graceful end; `done` when etcd has heard or cannot be
  // asked.
  void Stop(std::function<void()> done);
  // A transaction showed that the key is not this process's any more.
  void Lost(const std::string& reason);

  bool leading() const { return owner_revision_ != 0; }
  // May act as the leader at `now`, a fresh reading of the clock.
  bool Trusted(TimePoint now) const { return leading() && now < trusted_until_; }
  // What a transaction of this leadership has to compare the key's create revision with.
  int64_t owner_revision() const { return owner_revision_; }
  const std::string& key() const { return options_.key; }
  // "" unknown. Own address while trusted.
  std::string LeaderAddress(TimePoint now) const;
  // The last thing asked of etcd was answered.
  bool etcd_healthy() const { return etcd_healthy_; }

 private:
  void Look();
  void OnLooked(const etcd::Answer<etcd::RangeAnswer>& answer);
  void Campaign();
  void TakeKey(TimePoint asked, const etcd::LeaseAnswer& lease);
  void FindOut(TimePoint asked, const etcd::LeaseAnswer& lease);
  void Win(TimePoint asked, const etcd::LeaseAnswer& lease, int64_t revision);
  void KeepAlive();
  void OnKeptAlive(TimePoint asked, const etcd::Answer<etcd::LeaseAnswer>& answer);
  void Depose(const std::string& reason);
  void LookAgain();
  void LetGo(int64_t lease);
  void Trust(TimePoint asked, int64_t ttl_seconds);
  void NoteHealth(bool healthy, const std::string& problem);

  io::Reactor& reactor_;
  etcd::Client& etcd_;
  Options options_;
  Events& events_;
  std::unique_ptr<io::Timer> timer_;
  bool stopped_ = false;
  bool etcd_healthy_ = false;
  bool health_told_ = false;
  int64_t lease_ = 0;
  int64_t owner_revision_ = 0;  // 0: not leading
  TimePoint trusted_until_{};
  std::string leader_address_;  // of another
  TimePoint leader_seen_{};
};

}  // namespace catena::coordinator
