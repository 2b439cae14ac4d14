#include "proxy/base/version.h"

namespace catena {

std::string_view ProgramVersion() { return CATENA_VERSION; }

ProtocolVersions SpokenProtocols() { return {CATENA_PROTOCOL_OLDEST, CATENA_PROTOCOL_NEWEST}; }

std::string ProtocolVersions::Text() const {
  const std::string last = std::to_string(newest);
  return oldest == newest ? last : std::to_string(oldest) + "-" + last;
}

}  // namespace catena
