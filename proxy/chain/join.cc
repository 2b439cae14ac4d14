#include "proxy/chain/join.h"

#include <algorithm>

#include "proxy/base/check.h"

namespace catena::chain {

void JoinSource::Begin(NodeId joiner, Incarnation incarnation) {
  Abandon();
  phase_ = Phase::kDialling;
  joiner_ = std::move(joiner);
  incarnation_ = incarnation;
}

void JoinSource::Abandon() {
  phase_ = Phase::kIdle;
  joiner_.clear();
  incarnation_ = Incarnation();
  link_ = kNoLink;
  sent_ = Position();
  progress_ = JoinProgress{};
}

Hello JoinSource::OnConnected(LinkId link, const Replica& replica) {
  CATENA_CHECK(phase_ == Phase::kDialling, "one link for each join");
  link_ = link;
  phase_ = Phase::kOffered;
  const Member& self = replica.configuration().members.back();
  return Hello{replica.configuration(), self.id,         self.incarnation, joiner_, incarnation_,
               LinkPurpose::kJoin,      replica.replid()};
}

bool JoinSource::OnOffer(const Offer& offer, const Replica& replica, Start& start) {
  bool continues = offer.replid == replica.replid() && offer.position >= replica.log().start() &&
                   offer.position <= replica.committed();
  sent_ = offer.position;
  phase_ = continues ? Phase::kStreaming : Phase::kSnapshot;
  start = Start{offer.position};
  if (!continues) sent_ = replica.settled();  // pinned until the snapshot tells where it stands
  return !continues;
}

bool JoinSource::CanFollow(const Log& log, Position position) const {
  return position >= log.start() &&
         (position >= log.end() || log.end() - position <= pin_bytes_max_);
}

void JoinSource::OnSnapshotStart(Position position) { sent_ = position; }

Start JoinSource::OnSnapshotEnd() {
  phase_ = Phase::kStreaming;
  return Start{sent_};
}

void JoinSource::OnProgress(const JoinProgress& progress) { progress_ = progress; }

std::optional<AppendSlice> JoinSource::NextAppend(const Log& log, size_t max) {
  if (phase_ != Phase::kStreaming || sent_ >= log.end()) return std::nullopt;
  auto slice = log.Read(sent_, log.end(), max);
  CATENA_CHECK(slice.has_value(), "the log is pinned for the joiner");
  // What a tail holds is committed.
  AppendSlice append{sent_, log.end(), std::move(*slice)};
  sent_ = sent_ + append.slice.bytes.size();
  return append;
}

std::optional<Position> JoinSource::pin() const {
  if (phase_ != Phase::kSnapshot && phase_ != Phase::kStreaming) return std::nullopt;
  if (progress_.received == Position()) return sent_;
  return std::min(sent_, progress_.received);
}

bool JoinSource::PinTooLong(const Log& log) const {
  std::optional<Position> pinned = pin();
  return pinned && log.end() > *pinned && log.end() - *pinned > pin_bytes_max_;
}

bool JoinSource::Overrun(const Log& log) const {
  return phase_ == Phase::kStreaming && sent_ < log.start();
}

bool JoinSource::Ready(const Log& log) const {
  // A snapshot of an executing database can be ahead of what was captured of it; a member never is.
  return phase_ == Phase::kStreaming && progress_.loaded && progress_.received <= log.end() &&
         log.end() - progress_.received <= kReadyLagBytes;
}

}  // namespace catena::chain
