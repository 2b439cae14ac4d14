// Commands that a client may not give although the database would take them.
#pragma once

#include <string>

#include "proxy/server/session.h"

namespace catena::server {

// The error text without '-'; "" for a command that is allowed.
std::string RefusalOf(const Request& request);

}  // namespace catena::server
