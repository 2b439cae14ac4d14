#include "coordinator/controller.h"

#include <algorithm>
#include <utility>

#include "proxy/base/log.h"

namespace catena::coordinator {
namespace {

constexpr Duration kLoadRetry = std::chrono::milliseconds(100);

std::string Root(const std::string& cluster) { return "/catena/" + cluster + "/"; }

}  // namespace

Controller::Controller(io::Reactor& reactor, etcd::Client& etcd, ControllerOptions options)
    : reactor_(reactor),
      etcd_(etcd),
      options_(std::move(options)),
      election_(reactor, etcd,
                {Root(options_.cluster) + "leader", options_.address, options_.leader_ttl,
                 std::chrono::milliseconds(250)},
                *this) {
  load_timer_ = reactor_.MakeTimer([this] { Load(); });
}

std::string Controller::ChainKey(const std::string& chain) const {
  return Root(options_.cluster) + "chains/" + chain;
}

std::string Controller::EventsKey(const std::string& chain) const {
  return Root(options_.cluster) + "events/" + chain;
}

void Controller::OnElected() {
  ++counters_.elections;
  Load();
}

void Controller::OnTrustedAgain() {
  for (auto& [chain, keeper] : keepers_) keeper->OnTrustedAgain();
}

void Controller::OnDeposed(const std::string&) {
  ++load_;
  ++counters_.depositions;
  load_timer_->Stop();
  // A keeper may be on the stack.
  auto ended = std::make_shared<decltype(keepers_)>(std::move(keepers_));
  keepers_.clear();
  reactor_.Defer([ended] { ended->clear(); });
}

void Controller::Over(const std::string& reason) { election_.Lost(reason); }

void Controller::Load() {
  if (!election_.leading() || Complete()) return;
  etcd_.RangePrefix(etcd::Class::kData, Root(options_.cluster),
                    [this, load = ++load_](const etcd::Answer<etcd::RangeAnswer>& answer) {
                      if (load != load_ || Complete()) return;
                      if (answer) return OnLoaded(*answer);
                      log::Warn("load_failed", {{"why", answer.error().message}});
                      load_timer_->Start(kLoadRetry);
                    });
}

void Controller::OnLoaded(const etcd::RangeAnswer& answer) {
  for (const ChainFacts& facts : options_.chains) {
    if (keepers_.contains(facts.chain)) continue;
    ChainKeeper::Options keeper = KeeperOptions(facts);
    ChainKeeper::Found found;
    for (const etcd::KeyValue& pair : answer.pairs) {
      if (pair.key == keeper.key) found.record = pair;
      if (pair.key == keeper.events_key) found.events = pair;
    }
    ChainKeeper::Leadership& leadership = *this;
    keepers_[facts.chain] =
        std::make_unique<ChainKeeper>(reactor_, etcd_, leadership, std::move(keeper), found);
  }
  log::Info("leading", {{"chains", keepers_.size()}});
}

ChainKeeper::Options Controller::KeeperOptions(const ChainFacts& facts) const {
  ChainKeeper::Options keeper;
  keeper.facts = facts;
  keeper.key = ChainKey(facts.chain);
  keeper.events_key = EventsKey(facts.chain);
  keeper.lease = options_.lease;
  keeper.silence = std::max(options_.lease / 2, 2 * options_.heartbeat);
  keeper.link_grace = 2 * options_.lease;
  // A proxy gives a coordinator that does not answer up after three beats, and tries one a beat.
  keeper.introduction = std::max(options_.lease, 8 * options_.heartbeat);
  keeper.settling = options_.settling;
  return keeper;
}

void Controller::Reconfigure(ControllerOptions options) {
  // A chain that leaves here and returns has changed since then.
  ++load_;
  options_.chains = std::move(options.chains);
  options_.heartbeat = options.heartbeat;
  options_.lease = options.lease;
  const bool unsettled = std::ranges::any_of(keepers_, [this](const auto& item) {
    return !HasChain(item.first) && item.second->writes();
  });
  std::erase_if(keepers_, [this](const auto& item) { return !HasChain(item.first); });
  // Were the chain to return, its next keeper could grant leases to those whom that record removes
  // (S16). In another leadership it cannot happen any more.
  if (unsettled) Over("a chain left the TOML while its record was being written");
  for (const ChainFacts& facts : options_.chains) {
    const auto keeper = keepers_.find(facts.chain);
    if (keeper != keepers_.end()) keeper->second->Reconfigure(KeeperOptions(facts));
  }
  Load();
}

bool Controller::HasChain(const std::string& chain) const {
  return std::ranges::any_of(options_.chains,
                             [&](const ChainFacts& facts) { return facts.chain == chain; });
}

bool Controller::HasNode(const std::string& chain, const NodeId& node) const {
  return std::ranges::any_of(options_.chains, [&](const ChainFacts& facts) {
    return facts.chain == chain &&
           std::ranges::any_of(facts.nodes, [&](const auto& each) { return each.id == node; });
  });
}

void Controller::OnConfiguration(const std::optional<chain::Configuration>& before,
                                 const chain::Configuration& now) {
  ++counters_.chains[now.chain].epochs[static_cast<size_t>(ChangeOf(before, now))];
}

void Controller::OnHeartbeat(Subscriber& subscriber, const NodeReport& report) {
  // Read after the heartbeat's bytes (S17): the lease is counted from here.
  const TimePoint now = reactor_.Now();
  if (!Trusted(now)) return subscriber.SendNotLeader(election_.LeaderAddress(now));
  HeartbeatAnswer answer;
  answer.number = report.number;
  if (report.cluster != options_.cluster) {
    answer.notice = "this coordinator is of cluster '" + options_.cluster + "'";
    return subscriber.SendAnswer(answer);
  }
  const auto keeper = keepers_.find(report.chain);
  if (keeper == keepers_.end()) {
    // Otherwise its record is being read: no configuration yet, no lease.
    if (!HasChain(report.chain))
      answer.notice = "the coordinator's TOML has no chain '" + report.chain + "'";
    return subscriber.SendAnswer(answer);
  }
  if (HasNode(report.chain, report.node)) {
    ++counters_.chains[report.chain].heartbeats[report.node];
  }
  keeper->second->OnHeartbeat(subscriber, report, now);
}

void Controller::OnGone(Subscriber& subscriber, const std::string& chain, const NodeId& node,
                        Incarnation incarnation) {
  const auto keeper = keepers_.find(chain);
  if (keeper != keepers_.end()) keeper->second->OnGone(subscriber, node, incarnation);
}

std::optional<ClusterStatus> Controller::Status() {
  const TimePoint now = reactor_.Now();
  if (!Trusted(now)) return std::nullopt;
  ClusterStatus status;
  status.cluster = options_.cluster;
  status.leader = options_.address;
  status.answered_by = options_.address;
  status.etcd_healthy = election_.etcd_healthy();
  for (const ChainFacts& facts : options_.chains) {
    const auto keeper = keepers_.find(facts.chain);
    if (keeper != keepers_.end()) {
      status.chains.push_back(keeper->second->Status(now));
    } else {
      ChainStatus chain;
      chain.chain = facts.chain;
      chain.waiting_for = "etcd to tell the chain's record";
      chain.replicas = facts.replicas;
      status.chains.push_back(std::move(chain));
    }
  }
  return status;
}

Result<ChainKeeper*> Controller::KeeperOf(const std::string& chain) const {
  const auto keeper = keepers_.find(chain);
  if (keeper != keepers_.end()) return keeper->second.get();
  return Fail(HasChain(chain) ? "etcd has not told the chain's record yet: try again"
                              : "no chain '" + chain + "' in the TOML");
}

void Controller::Choose(const std::string& chain, const NodeId& node,
                        ChainKeeper::ChoiceDone done) {
  const Result<ChainKeeper*> keeper = KeeperOf(chain);
  if (!keeper) return done(Fail(keeper.error().message));
  (*keeper)->Choose(node, std::move(done));
}

void Controller::Wish(const std::string& chain, const DrainRequest& request,
                      ChainKeeper::ChoiceDone done) {
  const Result<ChainKeeper*> keeper = KeeperOf(chain);
  if (!keeper) return done(Fail(keeper.error().message));
  (*keeper)->Wish(request, std::move(done));
}

Result<EventHistory> Controller::Events(const std::string& chain) const {
  const Result<ChainKeeper*> keeper = KeeperOf(chain);
  if (!keeper) return Fail(keeper.error().message);
  return (*keeper)->events();
}

}  // namespace catena::coordinator
