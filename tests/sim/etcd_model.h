// etcd as the coordinators see it: one store with revisions and leases, reached by requests that
// take time, fail, or are lost with nobody knowing whether they happened; and that may still happen
// after their sender has given them up. When its own leader changes, requests wait or fail for a
// while and every lease starts anew, as in etcd.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "coordinator/etcd_client.h"
#include "tests/sim/network.h"

namespace catena::sim {

class EtcdModel {
 public:
  explicit EtcdModel(Network& network) : network_(network) {}

  // A client for a coordinator's process. The model outlives it.
  std::unique_ptr<coordinator::etcd::Client> MakeClient(Process& process);

  struct Faults {
    uint64_t lose_question = 0;  // per mille of the requests
    uint64_t lose_answer = 0;
    uint64_t late = 0;  // given up by the sender, and happens afterwards
    Duration delay_max = Millis(3);
  };
  Faults& faults() { return faults_; }
  // Nothing is answered until then; afterwards every lease begins anew.
  void ChangeLeader(Duration silence);
  int64_t revision() const { return revision_; }
  // The value of a key; "": none.
  std::string Value(const std::string& key) const;

 private:
  class Client;
  struct Lease {
    Duration ttl;
    TimePoint expires;
  };

  coordinator::etcd::RangeAnswer Range(const std::string& prefix, bool exact);
  coordinator::etcd::TxnAnswer Commit(const coordinator::etcd::Txn& txn);
  bool Holds(const coordinator::etcd::Compare& compare) const;
  void Put(const coordinator::etcd::Put& put);
  void Expire();
  void Revoke(int64_t lease);

  Network& network_;
  Faults faults_;
  TimePoint silent_until_{};
  int64_t revision_ = 1, last_lease_ = 100;
  std::map<std::string, coordinator::etcd::KeyValue> keys_;
  std::map<int64_t, Lease> leases_;
};

inline constexpr char kEtcdMachine[] = "etcd";

}  // namespace catena::sim
