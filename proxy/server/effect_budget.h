// How much the head's database may execute ahead of the capture of its effects. A database that
// has to keep more for a replica than its settings allow cuts the replica off: that is our capture,
// and the chain would lose its head. So what is too large by itself is refused, and what is too
// much at once waits. Loop thread.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "backends/backend.h"
#include "proxy/base/ids.h"

namespace catena::server {

class EffectBudget {
 public:
  // `backend` is not owned and outlives the budget; `node` is named in refusals.
  EffectBudget(const backend::Backend& backend, NodeId node)
      : backend_(backend), node_(std::move(node)) {}

  // A command's (a transaction's) effects count as large as itself.
  bool Allows(size_t bytes) const { return bytes <= max(); }
  // False: later. Only for what is allowed.
  bool HasRoom(size_t bytes) const { return taken_ == 0 || taken_ <= max() - bytes; }
  void Take(size_t bytes) { taken_ += bytes; }
  void Give(size_t bytes) { taken_ -= bytes; }
  size_t taken() const { return taken_; }
  // The error reply to what is not allowed.
  std::string Refusal(size_t bytes) const;

 private:
  size_t max() const { return backend_.CurrentLimits().effect_bytes_max; }

  const backend::Backend& backend_;
  NodeId node_;
  size_t taken_ = 0;  // executed perhaps, and not captured yet
};

}  // namespace catena::server
