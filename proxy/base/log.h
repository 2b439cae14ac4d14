// One line an event, key=value. The only logging entry point; the pure core does not log.
#pragma once

#include <spdlog/spdlog.h>

#include <string_view>

namespace catena {

// Sets pattern and level ("debug", "info", "warn", "error") of the process's log on stderr. `name`
// stands in every line.
void InitLogging(std::string_view name, std::string_view level);

}  // namespace catena
