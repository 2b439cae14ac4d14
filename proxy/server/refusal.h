// Commands that a client may not give although the database would take them: nobody, or not this
// user.
#pragma once

#include <string>

#include "backends/backend.h"
#include "proxy/server/session.h"

namespace catena::server {

// The error text without '-'; "" for a command that is allowed to everybody.
std::string RefusalOf(const Request& request);

// The same, by the rights of the session's user. Only where clients connect: what a proxy forwards
// was asked there.
std::string UserRefusal(const Session& session, const Request& request);

// The error reply to a command that the database does not take by these limits of its own; "" if it
// does. It must not get it: the database would close the connection, which other clients share.
std::string TooLarge(const backend::Limits& limits, const Request& request);

}  // namespace catena::server
