// What a coordinator reads: records and reports as JSON, answers of etcd; and a leader's registry
// and policy that hear any reports keep to the rules of removal, whatever nodes say.
#include <algorithm>
#include <set>

#include "coordinator/etcd_codec.h"
#include "coordinator/policy.h"
#include "coordinator/records.h"
#include "coordinator/registry.h"
#include "tests/fuzz/input.h"

namespace catena::fuzz {
namespace {

using namespace catena::coordinator;

// What decodes means the same when it is encoded and decoded again.
template <typename Decode, typename Encode>
void CheckJson(const std::string& text, const Decode& decode, const Encode& encode) {
  const auto value = decode(text);
  if (!value) return;
  const std::string encoded = encode(*value);
  const auto again = decode(encoded);
  FUZZ_CHECK(again.has_value() && encode(*again) == encoded);
}

void FuzzRecords(const std::string& text) {
  CheckJson(text, DecodeReport, EncodeReport);
  CheckJson(text, DecodeAnswer, EncodeAnswer);
  CheckJson(text, DecodeRecord, EncodeRecord);
  CheckJson(text, DecodeConfiguration, EncodeConfiguration);
  CheckJson(text, DecodeStatus, EncodeStatus);
}

void FuzzEtcd(const std::string& text) {
  etcd::DecodeRange(text);
  for (size_t reads : {0, 1, 2}) {
    const auto answer = etcd::DecodeTxn(text, reads);
    FUZZ_CHECK(!answer || answer->succeeded || answer->reads.size() == reads);
  }
  etcd::DecodeLeaseGrant(text);
  etcd::DecodeLeaseKeepAlive(text);
  etcd::DecodeError(text);
  etcd::EncodeRangePrefix(text.empty() ? "x" : text);
  FUZZ_CHECK(etcd::FromBase64(etcd::Base64(text)) == text);
  if (const auto bytes = etcd::FromBase64(text)) {
    FUZZ_CHECK(etcd::FromBase64(etcd::Base64(*bytes)) == *bytes);
  }
}

// A leader of one chain whose writes to etcd all succeed at once.
class Leader {
 public:
  explicit Leader(FuzzedDataProvider& provider) : provider_(provider) {
    facts_ = {"main", {{"a", false}, {"b", false}, {"c", true}}, 2, Recovery::kOperator};
    if (provider_.ConsumeBool()) facts_.recovery = Recovery::kAutomatic;
    facts_.replicas = provider_.ConsumeIntegralInRange<size_t>(1, 3);
  }

  void Run() {
    while (provider_.remaining_bytes() > 0) {
      now_ += std::chrono::milliseconds(provider_.ConsumeIntegralInRange(0, 700));
      switch (provider_.ConsumeIntegralInRange(0, 9)) {
        case 0:
          registry_.OnDisconnected(Name(), Life(), Connection(), now_);
          break;
        case 1:
          if (provider_.ConsumeBool()) choice_ = Name();
          break;
        case 2:
          Restart();
          break;
        default:
          Hear(Report());
      }
      Consider();
    }
  }

 private:
  NodeId Name() {
    return provider_.PickValueInArray({NodeId("a"), NodeId("b"), NodeId("c"), NodeId("d")});
  }
  Incarnation Life() { return Incarnation(Number(1, 5)); }
  uint64_t Connection() { return provider_.ConsumeIntegralInRange<uint64_t>(1, 3); }
  // Mostly a plausible one.
  uint64_t Number(uint64_t low, uint64_t high) {
    return provider_.ConsumeIntegralInRange(0, 15) > 0 ? provider_.ConsumeIntegralInRange(low, high)
                                                       : provider_.ConsumeIntegral<uint64_t>();
  }

  // As it arrives: a report that its codec refuses is not heard.
  NodeReport Report() {
    NodeReport report;
    report.cluster = "cluster";
    report.chain = "main";
    report.node = Name();
    report.incarnation = Life();
    report.phase = provider_.PickValueInArray({ReportPhase::kStarting, ReportPhase::kCandidate,
                                               ReportPhase::kMember, ReportPhase::kMember,
                                               ReportPhase::kJoining, ReportPhase::kResigning,
                                               ReportPhase::kRefused});
    const Epoch current = record_ ? record_->configuration.epoch : Epoch(1);
    report.epoch = provider_.ConsumeBool() ? current : Epoch(Number(0, 3));
    report.received = Position(Number(0, 9));
    report.committed = Position(Number(0, 9));
    report.applied = Position(Number(0, 9));
    const auto flags = provider_.ConsumeIntegral<uint16_t>();
    report.synced = flags & 1;
    report.keeps_log = flags & 2;
    report.head_ready = flags & 4;
    report.overwrite = flags & 8;
    report.predecessor_linked = flags & 16;
    report.successor_linked = flags & 32;
    report.replid = flags & 64 ? "replid" : flags & 128 ? "another" : "";
    report.backend = {
        "redis",      !(flags & 256),      "",           flags & 512 ? "run" : "other", "7.0.15",
        Number(0, 1), (flags & 1024) != 0, "127.0.0.1:1"};
    if (flags & 2048) report.joiner_ready = JoinerReady{Name(), Life(), current};
    return report;
  }

  void Hear(const NodeReport& report) {
    const auto arrived = DecodeReport(EncodeReport(report));
    if (!arrived) return;
    const Registry::Verdict verdict = registry_.OnHeartbeat(*arrived, Connection(), true, now_);
    if (verdict.lease == Duration(0)) return;
    // Only a listed incarnation is granted a lease, and no newer one of its node has been heard.
    FUZZ_CHECK(record_ && record_->configuration.IndexOf(report.node, report.incarnation));
    FUZZ_CHECK(!verdict.incarnation_void);
  }

  // Another leader takes over with what is in etcd.
  void Restart() {
    if (record_) record_ = DecodeRecord(EncodeRecord(*record_)).value();
    registry_ = Registry({kLease, {"a", "b", "c"}}, record_, now_);
    join_.reset();
    choice_.reset();
  }

  PolicyInput Input() const {
    PolicyInput input;
    input.facts = facts_;
    input.record = record_;
    input.lives = registry_.Lives();
    input.now = now_;
    input.leader_since = registry_.leader_since();
    input.removals_from = registry_.removals_from();
    input.lease = kLease;
    input.silence = std::chrono::milliseconds(600);
    input.link_grace = std::chrono::seconds(2);
    input.introduction = std::chrono::seconds(2);
    input.settling = std::chrono::seconds(3);
    input.join = join_;
    input.join_since = join_since_;
    input.choice = choice_;
    return input;
  }

  void Consider() {
    const Decision decision = Decide(Input());
    if (decision.join && !join_) join_since_ = now_;
    join_ = decision.join;
    for (const auto& life : decision.voids) registry_.MarkVoid(life);
    if (decision.choice_done) choice_.reset();
    if (!decision.next) return;
    CheckNext(*decision.next);
    if (decision.next->configuration !=
        (record_ ? record_->configuration : chain::Configuration{})) {
      choice_.reset();
    }
    record_ = decision.next;
    registry_.SetRecord(*record_, now_);
  }

  void CheckNext(const ChainRecord& next) const {
    // What is written can be read again.
    const auto read = DecodeRecord(EncodeRecord(next));
    FUZZ_CHECK(read && read->configuration == next.configuration);
    std::set<NodeId> names;
    for (const chain::Member& member : next.configuration.members) {
      FUZZ_CHECK(names.insert(member.id).second);
    }
    FUZZ_CHECK(!names.empty());
    if (!record_) return;
    const bool changed = next.configuration.members != record_->configuration.members;
    FUZZ_CHECK(next.configuration.epoch >= record_->configuration.epoch);
    FUZZ_CHECK(!changed || next.configuration.epoch > record_->configuration.epoch);
    for (const Registry::LifeName& removed : registry_.RemovedBy(next.configuration)) {
      const coordinator::Life* life = registry_.Find(removed.first, removed.second);
      FUZZ_CHECK(life != nullptr && (life->resigned || life->lease_out <= now_));
    }
  }

  static constexpr Duration kLease = std::chrono::seconds(1);

  FuzzedDataProvider& provider_;
  ChainFacts facts_;
  std::optional<ChainRecord> record_;
  TimePoint now_{std::chrono::seconds(1000)};
  Registry registry_{{kLease, {"a", "b", "c"}}, std::nullopt, now_};
  std::optional<JoinOrder> join_;
  TimePoint join_since_{};
  std::optional<NodeId> choice_;
};

}  // namespace
}  // namespace catena::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace catena::fuzz;
  FuzzedDataProvider provider(data, size);
  switch (provider.ConsumeIntegral<uint8_t>() % 3) {
    case 0:
      FuzzRecords(provider.ConsumeRemainingBytesAsString());
      break;
    case 1:
      FuzzEtcd(provider.ConsumeRemainingBytesAsString());
      break;
    default:
      Leader(provider).Run();
  }
  return 0;
}
