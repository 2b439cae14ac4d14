// Tells the service manager how this process is, by systemd's protocol (sd_notify(3)). Does nothing
// for a process that was not started by one.
#pragma once

#include <string_view>

namespace catena {

// "READY=1", "STOPPING=1", "STATUS=...", several divided by line ends.
void NotifyManager(std::string_view state);

}  // namespace catena
