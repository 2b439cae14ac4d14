#include "backends/rocksdb/rocks_lane.h"

#include <memory>
#include <utility>

namespace catena::rocks {

using Kind = Output::Reply::Kind;

RocksLane::RocksLane(LaneId id, int protocol, bool refused, Host* host,
                     backend::LaneHandler* handler)
    : id_(id), refused_(refused), host_(host), handler_(handler) {
  if (refused_) return;
  WorkBatch::Item item;
  item.kind = WorkBatch::Item::Kind::kOpen;
  item.protocol = protocol;
  Add(std::move(item));
}

RocksLane::~RocksLane() {
  if (host_ == nullptr) return;
  if (open()) {
    WorkBatch::Item item;
    item.kind = WorkBatch::Item::Kind::kClose;
    item.lane = id_;
    host_->NextBatch().items.push_back(std::move(item));
  }
  host_->OnLaneDestroyed(this);
}

void RocksLane::Add(WorkBatch::Item item) {
  item.lane = id_;
  if (paused_ || !waiting_.empty()) {
    waiting_bytes_ += item.size;
    waiting_.push_back(std::move(item));
    return;
  }
  host_->NextBatch().items.push_back(std::move(item));
}

void RocksLane::Submit(std::string_view command) {
  if (!open()) return;
  if (paused_ || !waiting_.empty()) {
    auto owner = std::make_shared<const std::string>(command);
    return SubmitShared(owner, *owner);
  }
  WorkBatch& batch = host_->NextBatch();
  WorkBatch::Item& item = batch.items.emplace_back();
  item.lane = id_;
  item.begin = batch.bytes.size();
  item.size = command.size();
  batch.bytes.append(command);
  if (std::exchange(unsent_batch_, host_->NextBatchNumber()) != host_->NextBatchNumber()) {
    unsent_bytes_ = 0;
  }
  unsent_bytes_ += command.size();
}

void RocksLane::SubmitShared(const BytesOwner& owner, std::string_view command) {
  if (!open()) return;
  WorkBatch::Item item;
  item.owner = owner;
  item.begin = static_cast<size_t>(command.data() - owner->data());
  item.size = command.size();
  Add(std::move(item));
  if (paused_ || !waiting_.empty()) return;
  if (std::exchange(unsent_batch_, host_->NextBatchNumber()) != host_->NextBatchNumber()) {
    unsent_bytes_ = 0;
  }
  unsent_bytes_ += command.size();
}

void RocksLane::SubmitPosition() {
  if (!open()) return;
  WorkBatch::Item item;
  item.kind = WorkBatch::Item::Kind::kPosition;
  Add(std::move(item));
}

size_t RocksLane::UnsentBytes() const {
  if (host_ == nullptr) return 0;
  const size_t unsent = unsent_batch_ == host_->NextBatchNumber() ? unsent_bytes_ : 0;
  return unsent + waiting_bytes_ + host_->OverdueBytes();
}

void RocksLane::ResumeReading() {
  if (!std::exchange(paused_, false) || host_ == nullptr) return;
  host_->Later([this, watch = Liveness::Watch(liveness_)] {
    if (!watch.Gone()) DeliverHeld();
  });
}

void RocksLane::DeliverHeld() {
  const Liveness::Watch watch(liveness_);
  while (!paused_ && !held_.empty()) {
    const Held held = std::move(held_.front());
    held_.pop_front();
    Deliver(held.kind, held.bytes, held.position, nullptr);
    if (watch.Gone() || host_ == nullptr) return;
  }
  if (paused_ || waiting_.empty()) return;
  WorkBatch& batch = host_->NextBatch();
  for (WorkBatch::Item& item : waiting_) batch.items.push_back(std::move(item));
  waiting_.clear();
  waiting_bytes_ = 0;
}

void RocksLane::Take(const Output::Reply& reply, std::string_view bytes, const BytesOwner& owner) {
  if (broken_) return;
  if (paused_ || !held_.empty()) {
    return held_.push_back({reply.kind, std::string(bytes), reply.position});
  }
  Deliver(reply.kind, bytes, reply.position, owner);
}

void RocksLane::Deliver(Kind kind, std::string_view bytes, Position position,
                        const BytesOwner& owner) {
  switch (kind) {
    case Kind::kReply:
      if (owner) return handler_->OnLargeReply(owner, bytes);
      return handler_->OnReply(bytes);
    case Kind::kPush:
      return handler_->OnPush(bytes);
    case Kind::kPosition:
      return handler_->OnPosition(position);
  }
}

void RocksLane::Ready() {
  if (!broken_) handler_->OnLaneReady();
}

void RocksLane::Break(const std::string& reason, bool nothing_sent) {
  if (std::exchange(broken_, true)) return;
  handler_->OnLaneClosed(reason, nothing_sent);
}

}  // namespace catena::rocks
