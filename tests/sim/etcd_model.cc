#include "tests/sim/etcd_model.h"

#include <utility>
#include <vector>

namespace catena::sim {

namespace etcd = coordinator::etcd;

class EtcdModel::Client final : public etcd::Client {
 public:
  Client(EtcdModel& model, Process& process) : model_(model), process_(process) {}

  void Range(etcd::Class kind, std::string_view key, etcd::Done<etcd::RangeAnswer> done) override {
    Ask<etcd::RangeAnswer>(
        kind, [&model = model_, key = std::string(key)] { return model.Range(key, true); },
        std::move(done));
  }
  void RangePrefix(etcd::Class kind, std::string_view prefix,
                   etcd::Done<etcd::RangeAnswer> done) override {
    Ask<etcd::RangeAnswer>(
        kind, [&model = model_, key = std::string(prefix)] { return model.Range(key, false); },
        std::move(done));
  }
  void Commit(etcd::Class kind, etcd::Txn txn, etcd::Done<etcd::TxnAnswer> done) override {
    Ask<etcd::TxnAnswer>(
        kind, [&model = model_, txn] { return model.Commit(txn); }, std::move(done));
  }
  void GrantLease(int64_t seconds, etcd::Done<etcd::LeaseAnswer> done) override {
    auto grant = [&model = model_, seconds] {
      const int64_t id = ++model.last_lease_;
      const TimePoint now = model.network_.scheduler().now();
      model.leases_[id] = {Seconds(seconds), now + Seconds(seconds)};
      return etcd::LeaseAnswer{id, seconds};
    };
    Ask<etcd::LeaseAnswer>(etcd::Class::kLeadership, grant, std::move(done));
  }
  void KeepAlive(int64_t lease, etcd::Done<etcd::LeaseAnswer> done) override {
    auto keep = [&model = model_, lease] {
      auto found = model.leases_.find(lease);
      if (found == model.leases_.end()) return etcd::LeaseAnswer{lease, 0};
      found->second.expires = model.network_.scheduler().now() + found->second.ttl;
      return etcd::LeaseAnswer{lease, found->second.ttl / std::chrono::seconds(1)};
    };
    Ask<etcd::LeaseAnswer>(etcd::Class::kLeadership, keep, std::move(done));
  }
  void Revoke(int64_t lease, etcd::Done<bool> done) override {
    auto revoke = [&model = model_, lease] {
      model.Revoke(lease);
      return true;
    };
    Ask<bool>(etcd::Class::kLeadership, revoke, std::move(done));
  }

 private:
  // One request. `execute` happens at etcd, at most once, whenever the network lets it.
  template <typename T>
  void Ask(etcd::Class kind, std::function<T()> execute, etcd::Done<T> done) {
    Scheduler& scheduler = model_.network_.scheduler();
    Random& random = scheduler.random();
    const Faults& faults = model_.faults_;
    const Duration timeout = kind == etcd::Class::kLeadership ? Millis(500) : Seconds(1);
    auto answered = std::make_shared<bool>(false);
    auto answer = [this, answered, done = std::move(done),
                   alive = std::weak_ptr<int>(alive_)](etcd::Answer<T> result) {
      if (alive.expired() || std::exchange(*answered, true)) return;
      process_.Post([done, alive, result = std::move(result)]() mutable {
        if (!alive.expired()) done(std::move(result));
      });
    };
    const std::string machine = process_.machine().name;
    const bool blocked = model_.network_.Blocked(machine, kEtcdMachine);
    scheduler.After(timeout, [answer] {
      answer(tl::unexpected(etcd::Failure{true, "etcd does not answer"}));
    });
    if (blocked || random.Chance(faults.lose_question)) {
      // Nobody took the connection: that much is certain then.
      if (random.Chance(500)) {
        scheduler.After(random.Between(Micros(200), timeout), [answer] {
          answer(tl::unexpected(etcd::Failure{false, "no connection to etcd"}));
        });
      }
      return;
    }
    Duration way = random.Between(Micros(200), faults.delay_max);
    if (random.Chance(faults.late)) way = timeout + random.Between(Duration(0), Seconds(2));
    TimePoint at = std::max(scheduler.now() + way, model_.silent_until_);
    const bool lost = random.Chance(faults.lose_answer);
    const Duration back = random.Between(Micros(200), faults.delay_max);
    scheduler.At(at, [&model = model_, machine, execute, answer, lost, back] {
      model.Expire();
      T result = execute();
      if (lost || model.network_.Blocked(kEtcdMachine, machine)) return;
      model.network_.scheduler().After(back, [answer, result] { answer(result); });
    });
  }

  EtcdModel& model_;
  Process& process_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

std::unique_ptr<etcd::Client> EtcdModel::MakeClient(Process& process) {
  return std::make_unique<Client>(*this, process);
}

void EtcdModel::ChangeLeader(Duration silence) {
  Expire();
  silent_until_ = network_.scheduler().now() + silence;
  for (auto& [id, lease] : leases_) lease.expires = silent_until_ + lease.ttl;
}

std::string EtcdModel::Value(const std::string& key) const {
  auto found = keys_.find(key);
  return found == keys_.end() ? "" : found->second.value;
}

etcd::RangeAnswer EtcdModel::Range(const std::string& prefix, bool exact) {
  etcd::RangeAnswer answer;
  answer.revision = revision_;
  for (auto found = keys_.lower_bound(prefix); found != keys_.end(); ++found) {
    if (exact ? found->first != prefix : !found->first.starts_with(prefix)) break;
    answer.pairs.push_back(found->second);
  }
  return answer;
}

bool EtcdModel::Holds(const etcd::Compare& compare) const {
  auto found = keys_.find(compare.key);
  if (found == keys_.end()) return compare.revision == 0;
  const bool created = compare.target == etcd::Compare::Target::kCreateRevision;
  return compare.revision == (created ? found->second.create_revision : found->second.mod_revision);
}

void EtcdModel::Put(const etcd::Put& put) {
  etcd::KeyValue& pair = keys_[put.key];
  if (pair.create_revision == 0) pair.create_revision = revision_;
  pair.key = put.key;
  pair.value = put.value;
  pair.mod_revision = revision_;
  pair.lease = put.lease;
}

etcd::TxnAnswer EtcdModel::Commit(const etcd::Txn& txn) {
  etcd::TxnAnswer answer;
  answer.succeeded = true;
  for (const etcd::Compare& compare : txn.compares)
    answer.succeeded = answer.succeeded && Holds(compare);
  for (const etcd::Put& put : txn.puts) {
    // A lease that is gone refuses the whole transaction.
    if (put.lease != 0 && !leases_.contains(put.lease)) answer.succeeded = false;
  }
  if (answer.succeeded) {
    ++revision_;
    for (const etcd::Put& put : txn.puts) Put(put);
  } else {
    for (const std::string& key : txn.reads) {
      auto found = keys_.find(key);
      answer.reads.push_back(found == keys_.end() ? std::nullopt : std::optional(found->second));
    }
  }
  answer.revision = revision_;
  return answer;
}

void EtcdModel::Expire() {
  const TimePoint now = network_.scheduler().now();
  std::vector<int64_t> over;
  for (const auto& [id, lease] : leases_) {
    if (lease.expires <= now) over.push_back(id);
  }
  for (int64_t id : over) Revoke(id);
}

void EtcdModel::Revoke(int64_t lease) {
  if (leases_.erase(lease) == 0) return;
  ++revision_;
  std::erase_if(keys_, [lease](const auto& item) { return item.second.lease == lease; });
}

}  // namespace catena::sim
