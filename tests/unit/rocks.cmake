catena_unit_test(rocks_effects_test SOURCES unit/rocks_effects_test.cc LIBS catena_rocks_batch)
catena_unit_test(rocks_memory_store_test SOURCES unit/rocks_memory_store_test.cc LIBS catena_rocks_memory)
catena_unit_test(rocks_store_test SOURCES unit/rocks_store_test.cc LIBS catena_rocks_store)
catena_unit_test(rocks_store_copy_test SOURCES unit/rocks_store_copy_test.cc LIBS catena_rocks_store)
catena_unit_test(rocks_store_crash_test SOURCES unit/rocks_store_crash_test.cc support/power_cut.cc
                 LIBS catena_rocks_store catena_rocks_memory)
