// Callbacks may destroy the object that makes them. A function that goes on after one first asks
// its Watch.
//
//   const Liveness::Watch watch(liveness_);
//   handler_->OnReply(reply);
//   if (watch.Gone()) return;
#pragma once

#include <memory>

namespace catena {

class Liveness {
 public:
  Liveness() : alive_(std::make_shared<bool>(true)) {}
  ~Liveness() { *alive_ = false; }
  Liveness(const Liveness&) = delete;
  Liveness& operator=(const Liveness&) = delete;

  // A copy may outlive the object, e.g. in a deferred function.
  class Watch {
   public:
    explicit Watch(const Liveness& liveness) : alive_(liveness.alive_) {}
    bool Gone() const { return !*alive_; }

   private:
    std::shared_ptr<const bool> alive_;
  };

 private:
  std::shared_ptr<bool> alive_;
};

}  // namespace catena
