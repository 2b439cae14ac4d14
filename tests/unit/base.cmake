catena_unit_test(log_test SOURCES unit/log_test.cc LIBS catena_base nlohmann_json::nlohmann_json)
