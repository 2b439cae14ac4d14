catena_unit_test(command_test SOURCES unit/command_test.cc unit/command_versions_test.cc LIBS catena_command)
catena_unit_test(effect_parser_test SOURCES unit/effect_parser_test.cc LIBS catena_command)
catena_unit_test(user_rights_test SOURCES unit/user_rights_test.cc LIBS catena_command)
foreach(test command_test effect_parser_test user_rights_test)
  target_compile_definitions(${test} PRIVATE
                             CATENA_TEST_DATA="${CMAKE_CURRENT_SOURCE_DIR}/unit/data")
endforeach()
