#include "proxy/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <string>

namespace catena {

void InitLogging(std::string_view name, std::string_view level) {
  auto logger = spdlog::stderr_logger_st(std::string(name));
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z level=%l who=%n %v");
  logger->set_level(spdlog::level::from_str(std::string(level)));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace catena
