catena_unit_test(rocks_effects_test SOURCES unit/rocks_effects_test.cc LIBS catena_rocks_batch)
catena_unit_test(rocks_memory_store_test SOURCES unit/rocks_memory_store_test.cc LIBS catena_rocks_memory)
catena_unit_test(rocks_store_test SOURCES unit/rocks_store_test.cc LIBS catena_rocks_store)
catena_unit_test(rocks_store_copy_test SOURCES unit/rocks_store_copy_test.cc LIBS catena_rocks_store)
catena_unit_test(rocks_store_crash_test SOURCES unit/rocks_store_crash_test.cc support/power_cut.cc
                 LIBS catena_rocks_store catena_rocks_memory)
# Not with a sanitizer, whose own memory would be counted.
if(NOT CATENA_SANITIZE)
  add_executable(rocks_store_memory_test unit/rocks_store_memory_test.cc $<TARGET_OBJECTS:catena_doctest_main>)
  target_link_libraries(rocks_store_memory_test PRIVATE catena_rocks_store Threads::Threads)
  add_dependencies(catena_programs rocks_store_memory_test)
  add_test(NAME rocks_store_memory_test COMMAND rocks_store_memory_test)
  set_tests_properties(rocks_store_memory_test PROPERTIES TIMEOUT 300)
endif()
