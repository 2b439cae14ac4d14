catena_unit_test(rocks_engine_test SOURCES unit/rocks_engine_test.cc
                 LIBS catena_rocks_engine catena_rocks_memory)
