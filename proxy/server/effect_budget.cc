#include "proxy/server/effect_budget.h"

namespace catena::server {

std::string EffectBudget::Refusal(size_t bytes) const {
  return "-ERR " + std::to_string(bytes) +
         " bytes are more than the chain can replicate at once: the database of its head " + node_ +
         " has " + backend_.CurrentLimits().effect_setting + ", of which three quarters (" +
         std::to_string(max()) +
         " bytes) may be used; raise it there with CONFIG SET client-output-buffer-limit\r\n";
}

}  // namespace catena::server
