// Commands that a client may not give although the database would take them: nobody, or not this
// user.
#pragma once

#include <string>

#include "proxy/server/session.h"

namespace catena::server {

// The error text without '-'; "" for a command that is allowed to everybody.
std::string RefusalOf(const Request& request);

// The same, by the rights of the session's user. Only where clients connect: what a proxy forwards
// was asked there.
std::string UserRefusal(const Session& session, const Request& request);

}  // namespace catena::server
