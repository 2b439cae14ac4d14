// For tests of the coordinator: a clock that the test turns, and an etcd that answers when the test
// says so.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/etcd_client.h"
#include "proxy/io/reactor.h"

namespace catena::coordinator {

// Time passes only in Advance(); nothing here connects.
class TurnedReactor final : public io::Reactor {
 public:
  TimePoint Now() override { return now_; }
  int64_t WallMilliseconds() override { return 0; }
  std::string RandomBytes(size_t count) override { return std::string(count, 'r'); }
  std::unique_ptr<io::Stream> Connect(const io::Address&, io::StreamHandler*) override {
    FAIL("a keeper connects to nobody");
    return nullptr;
  }
  Result<std::unique_ptr<io::Listener>> Listen(
      const io::Address&, std::function<void(std::unique_ptr<io::Stream>)>) override {
    return Fail("a keeper listens nowhere");
  }
  std::unique_ptr<io::Timer> MakeTimer(std::function<void()> on_fire) override {
    return std::make_unique<Timer>(*this, std::move(on_fire));
  }
  void AddTurnEndHook(std::function<void()>) override {}
  void Defer(std::function<void()> fn) override { deferred_.push_back(std::move(fn)); }
  void RunOnWorker(std::function<void()>, std::function<void()>) override {
    FAIL("a keeper needs no workers");
  }
  size_t OpenStreams() const override { return 0; }
  void Run() override {}
  void Stop() override {}

  void Advance(Duration by) {
    const TimePoint end = now_ + by;
    for (;;) {
      Timer* next = nullptr;
      for (Timer* timer : timers_) {
        if (timer->due && *timer->due <= end && (!next || *timer->due < *next->due)) next = timer;
      }
      if (next == nullptr) break;
      now_ = std::max(now_, *next->due);
      next->due.reset();
      next->on_fire();
      RunDeferred();
    }
    now_ = end;
  }
  void RunDeferred() {
    while (!deferred_.empty()) {
      auto fn = std::move(deferred_.front());
      deferred_.pop_front();
      fn();
    }
  }

 private:
  struct Timer final : io::Timer {
    Timer(TurnedReactor& owner, std::function<void()> fn) : reactor(owner), on_fire(std::move(fn)) {
      reactor.timers_.push_back(this);
    }
    ~Timer() override { std::erase(reactor.timers_, this); }
    void Start(Duration after) override { due = reactor.now_ + after; }
    void Stop() override { due.reset(); }

    TurnedReactor& reactor;
    std::function<void()> on_fire;
    std::optional<TimePoint> due;
  };

  TimePoint now_{std::chrono::seconds(100)};
  std::vector<Timer*> timers_;
  std::deque<std::function<void()>> deferred_;
};

// Holds each transaction until the test lets it happen, or says what its sender hears instead.
class HeldEtcd : public etcd::Client {
 public:
  struct Held {
    etcd::Txn txn;
    etcd::Done<etcd::TxnAnswer> done;
  };

  void Range(etcd::Class, std::string_view, etcd::Done<etcd::RangeAnswer>) override {}
  void RangePrefix(etcd::Class, std::string_view, etcd::Done<etcd::RangeAnswer>) override {}
  void Commit(etcd::Class, etcd::Txn txn, etcd::Done<etcd::TxnAnswer> done) override {
    held.push_back({std::move(txn), std::move(done)});
  }
  void GrantLease(int64_t, etcd::Done<etcd::LeaseAnswer>) override {}
  void KeepAlive(int64_t, etcd::Done<etcd::LeaseAnswer>) override {}
  void Revoke(int64_t, etcd::Done<bool>) override {}

  // All that one transaction puts has the same revision.
  void PutAtRevision(const std::string& key, const std::string& value) {
    etcd::KeyValue& pair = store[key];
    pair.key = key;
    pair.value = value;
    pair.mod_revision = revision;
    if (pair.create_revision == 0) pair.create_revision = revision;
  }
  void Put(const std::string& key, const std::string& value) {
    ++revision;
    PutAtRevision(key, value);
  }
  // What etcd would do with it now.
  etcd::TxnAnswer Execute(const etcd::Txn& txn) {
    bool holds = true;
    for (const etcd::Compare& compare : txn.compares) {
      const auto found = store.find(compare.key);
      int64_t actual = 0;
      if (found != store.end()) {
        actual = compare.target == etcd::Compare::Target::kCreateRevision
                     ? found->second.create_revision
                     : found->second.mod_revision;
      }
      holds = holds && actual == compare.revision;
    }
    etcd::TxnAnswer answer;
    answer.succeeded = holds;
    if (holds) {
      ++revision;
      for (const etcd::Put& put : txn.puts) PutAtRevision(put.key, put.value);
    } else {
      for (const std::string& key : txn.reads) {
        const auto found = store.find(key);
        answer.reads.push_back(found == store.end() ? std::nullopt : std::optional(found->second));
      }
    }
    answer.revision = revision;
    return answer;
  }
  Held Take() {
    REQUIRE(held.size() == 1);
    Held next = std::move(held.front());
    held.pop_front();
    return next;
  }
  // The oldest transaction happens and is answered.
  void Answer() {
    Held next = Take();
    next.done(Execute(next.txn));
  }

  std::map<std::string, etcd::KeyValue> store;
  std::deque<Held> held;
  int64_t revision = 0;
};

}  // namespace catena::coordinator
