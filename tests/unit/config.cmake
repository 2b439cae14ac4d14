catena_unit_test(config_test SOURCES unit/config_test.cc unit/config_examples_test.cc unit/config_reload_test.cc LIBS catena_config)
target_compile_definitions(config_test PRIVATE CATENA_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
