// How a tail brings a node that is no member up to date (design.md 6, join): from its log where the
// joiner's database can continue, else by a snapshot of its own database and then from the log.
// Pure; the driver moves the bytes.
//
// The order stands across epochs as long as this node stays the tail: what a tail holds is
// committed, and stays a prefix of every later history.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proxy/chain/log.h"
#include "proxy/chain/message.h"
#include "proxy/chain/replica.h"

namespace catena::chain {

class JoinSource {
 public:
  enum class Phase { kIdle, kDialling, kOffered, kSnapshot, kStreaming };

  // A joiner counts as close when it lacks at most so much: less than the tail's log can take in
  // while the coordinator writes the new configuration.
  static constexpr uint64_t kReadyLagBytes = 1u << 20;

  // `pin_bytes_max`: log kept for the joiner; beyond it the join is given up (never stalls the
  // chain).
  explicit JoinSource(uint64_t pin_bytes_max) : pin_bytes_max_(pin_bytes_max) {}
  void SetPinBytesMax(uint64_t bytes) { pin_bytes_max_ = bytes; }

  void Begin(NodeId joiner, Incarnation incarnation);
  void Abandon();
  Phase phase() const { return phase_; }
  const NodeId& joiner() const { return joiner_; }
  Incarnation incarnation() const { return incarnation_; }
  LinkId link() const { return link_; }

  Hello OnConnected(LinkId link, const Replica& replica);
  // True: a snapshot of the own database is wanted; false: streaming begins, `start` is to be sent.
  bool OnOffer(const Offer& offer, const Replica& replica, Start& start);
  // Whether the log can bring a joiner up to date that has a snapshot which stands at `position`.
  bool CanFollow(const Log& log, Position position) const;
  void OnSnapshotStart(Position position);
  Start OnSnapshotEnd();
  void OnProgress(const JoinProgress& progress);

  // Log bytes for the joiner, after the snapshot; advances. nullopt: nothing now.
  std::optional<AppendSlice> NextAppend(const Log& log, size_t max);
  // What the log must keep; nullopt: nothing.
  std::optional<Position> pin() const;
  bool PinTooLong(const Log& log) const;
  // The log lost what the joiner needs (it was trimmed before the pin).
  bool Overrun(const Log& log) const;
  bool Ready(const Log& log) const;

 private:
  uint64_t pin_bytes_max_;
  Phase phase_ = Phase::kIdle;
  NodeId joiner_;
  Incarnation incarnation_;
  LinkId link_ = kNoLink;
  Position sent_;
  JoinProgress progress_;
};

}  // namespace catena::chain
