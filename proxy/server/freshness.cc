#include "proxy/server/freshness.h"

#include "proxy/base/mutant.h"

namespace catena::server {

void Freshness::BeginLife() {
  moment_.reset();
  known_.reset();
}

void Freshness::Begin(TimePoint now) {
  Follow();
  if (!replica_.serves()) return;
  const bool authority = replica_.HasAuthority(now) || CATENA_MUTANT("cut-off-counts-as-fresh");
  // A verify may never be answered; a lease that came meanwhile needs none.
  if (moment_ && (moment_->holds || !authority)) return;
  moment_ = Moment{now, std::nullopt, 0};
  if (authority) {
    moment_->holds = replica_.received();
  } else {
    moment_->verify_ticket = replica_.RequestVerify();
  }
  Follow();
}

void Freshness::Follow() {
  if (!moment_) return;
  if (!moment_->holds && replica_.settled_verify() >= moment_->verify_ticket)
    moment_->holds = replica_.committed();
  if (!moment_->holds) return;
  // A head's database executes: it holds everything before anybody else does.
  if (!replica_.head_ready() && replica_.applied() < *moment_->holds) return;
  known_ = moment_->at;
  moment_.reset();
}

}  // namespace catena::server
