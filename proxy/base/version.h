// What this program is and what it speaks; the build fills in the numbers (CMakeLists.txt).
#pragma once

#include <string>
#include <string_view>

namespace catena {

// "1.2.3".
std::string_view ProgramVersion();

// The versions of the protocol between Catena's processes (proxy/auth/proof.h) that one speaks. Two
// processes use the newest that both do. A program that changes what is said speaks the version before
// it as well, so that a cluster is upgraded one process after the other.
struct ProtocolVersions {
  int oldest = 0, newest = 0;
  // "1", or "1-2".
  std::string Text() const;
};
ProtocolVersions SpokenProtocols();

}  // namespace catena
