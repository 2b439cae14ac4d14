// What neighbours in a chain tell each other. A link is one connection, dialled by the predecessor,
// and belongs to one epoch: when either side installs another configuration the link is closed, so
// nothing said on it can count in a later epoch (I5, schedules S3 and S15). proxy/peer/codec.h
// gives the bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "proxy/base/ids.h"
#include "proxy/chain/configuration.h"

namespace catena::chain {

// Down (predecessor to successor) -----------------------------------------------------------------

enum class LinkPurpose : uint8_t {
  kChain,  // from predecessor to successor
  kJoin,   // from the tail to a node that is no member, to bring it up to date
  kAcks,   // from the head to the tail of three or more, which acknowledges on it the short way
};

// First message. The configuration rides along, so a receiver that has not heard of it yet
// installs it.
struct Hello {
  Configuration configuration;
  NodeId from;
  Incarnation from_incarnation;
  NodeId to;
  Incarnation to_incarnation;
  LinkPurpose purpose = LinkPurpose::kChain;
  std::string replid;
};

// The stream continues at `from`. On a join link: the offer was accepted, or the snapshot is
// complete.
struct Start {
  Position from;
};

// The successor is synced once it has received up to `position` (design.md 6, Synced).
struct Target {
  Position position;
};

// The next bytes of the log, cut anywhere; the receiver finds the entries. Sent without bytes for
// its commit alone.
struct Append {
  Position from;
  Position committed;  // as the sender knows; may be ahead of a receiver that is being brought up
  std::string_view bytes;  // valid during the call that delivers it
};

// A version query (CRAQ section 2.3) or a verify on its way to the tail.
struct Ask {
  bool verify = false;
  NodeId asker;
  uint64_t number = 0;
};

// The log no longer holds what the successor lacks, or their histories differ: it must resign and
// resync.
struct CannotCatchUp {
  std::string reason;
};

// `length`: of the whole. Its bytes follow from `offset` on: not 0 when the receiver offered what it
// had of it.
struct SnapshotBegin {
  Position position;
  uint64_t length = 0;
  std::string name{};  // "": it cannot be gone on with
  uint64_t offset = 0;
};
struct SnapshotChunk {
  std::string_view bytes;  // valid during the call that delivers it
};
struct SnapshotEnd {};

// Up (successor to predecessor) -------------------------------------------------------------------

struct Welcome {
  Position received;
  std::string replid;
};

// A joiner's answer to Hello: from where its database could go on by itself, or which snapshot was
// on its way when a link broke.
struct Offer {
  std::string replid;  // "": nothing to continue from
  Position position;
  std::string snapshot{};  // name; "": none
  uint64_t snapshot_bytes = 0;
};

struct Refuse {
  std::string reason;
  std::optional<Configuration> newer;
};

// Every member from the sender to the tail has received up to `committed`. From the head to the
// tail, on the link for acks, it says only that the link lives.
struct Ack {
  Position committed;
};

// A member without a lease asks the head to send a verify down the chain.
struct VerifyRequest {
  NodeId asker;
  uint64_t number = 0;
};

// The tail's answer to an Ask, passed up to the asker.
struct Answer {
  bool verify = false;
  NodeId asker;
  uint64_t number = 0;
  Position committed;
};

struct JoinProgress {
  Position received;
  bool loaded = false;  // the snapshot is in the joiner's database
};

using Message =
    std::variant<Hello, Start, Target, Append, Ask, CannotCatchUp, SnapshotBegin, SnapshotChunk,
                 SnapshotEnd, Welcome, Offer, Refuse, Ack, VerifyRequest, Answer, JoinProgress>;

}  // namespace catena::chain
