// What a coordinator counts, and its text for Prometheus. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "coordinator/records.h"
#include "proxy/base/metrics.h"

namespace catena::coordinator {

// What an epoch did to its chain.
enum class EpochChange : uint8_t {
  kFirst,
  kJoin,           // members came
  kHeadRemoved,    // the head left, or another took its place: a failover of writes
  kMemberRemoved,  // another member left
  kOther           // none of them: an operator's choice, members in new incarnations
};
inline constexpr size_t kEpochChanges = 5;

EpochChange ChangeOf(const std::optional<chain::Configuration>& before,
                     const chain::Configuration& now);

// Since this process started. Bounded by the TOML's chains and nodes.
struct Counters {
  struct OfChain {
    std::array<uint64_t, kEpochChanges> epochs{};
    std::map<NodeId, uint64_t> heartbeats;
  };
  uint64_t elections = 0;    // won
  uint64_t depositions = 0;  // leaderships lost
  std::map<std::string, OfChain> chains;
};

// Requests to etcd, by their class.
struct EtcdUse {
  Histogram leadership, data;
  uint64_t leadership_failures = 0, data_failures = 0;
};

// `status`: of the leader; nullopt: another one leads, and knows about the chains.
void AppendMetrics(Exposition& out, const Counters& counters, const EtcdUse& etcd,
                   bool etcd_healthy, const std::optional<ClusterStatus>& status);

}  // namespace catena::coordinator
