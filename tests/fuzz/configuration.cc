// The TOML file: whatever it holds, it is refused with a reason or everything in it is in bounds.
#include <algorithm>

#include "config/config.h"
#include "tests/fuzz/input.h"

namespace catena::fuzz {
namespace {

void CheckConfig(const config::Config& config) {
  FUZZ_CHECK(!config.cluster.name.empty() && config.cluster.secret.size() >= 8);
  FUZZ_CHECK(config.coordinator.heartbeat.count() > 0);
  FUZZ_CHECK(config.coordinator.lease / 2 >= config.coordinator.heartbeat);
  FUZZ_CHECK(config.coordinator.drift_per_mille >= 0 && config.coordinator.drift_per_mille < 1000);
  FUZZ_CHECK(!config.chains.empty());
  for (const config::Chain& chain : config.chains) {
    FUZZ_CHECK(chain.replicas >= 1 && chain.replicas <= std::ssize(chain.nodes));
    FUZZ_CHECK(chain.write_timeout.count() > 0 && chain.max_staleness.count() >= 0);
    for (const config::Node& node : chain.nodes) {
      const auto found = config.FindNode(node.id);
      FUZZ_CHECK(found && found->node == &node && found->chain == &chain);
    }
  }
}

void CheckUnits(const std::string& text) {
  if (const auto duration = config::ParseDuration(text)) {
    FUZZ_CHECK(config::ParseDuration(config::FormatDuration(*duration)) == *duration);
  }
  if (const auto bytes = config::ParseBytes(text)) {
    FUZZ_CHECK(config::ParseBytes(config::FormatBytes(*bytes)) == *bytes);
  }
}

}  // namespace
}  // namespace catena::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace catena;
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (size < 20) fuzz::CheckUnits(text);
  // Files that it may name are looked for where there are none but the one with the secret.
  const auto parsed = config::Parse(text, "cluster.toml", CATENA_FUZZ_DATA);
  if (parsed) {
    fuzz::CheckConfig(*parsed);
  } else {
    FUZZ_CHECK(parsed.error().message.find("cluster.toml") != std::string::npos);
  }
  return 0;
}
