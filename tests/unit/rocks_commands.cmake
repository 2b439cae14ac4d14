catena_unit_test(rocks_commands_test SOURCES unit/rocks_commands_test.cc
                 unit/rocks_command_table_test.cc LIBS catena_rocks_commands)
target_compile_definitions(rocks_commands_test PRIVATE
                           CATENA_TEST_DATA="${CMAKE_CURRENT_SOURCE_DIR}/unit/data")
