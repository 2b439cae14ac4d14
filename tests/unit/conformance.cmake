catena_unit_test(backend_conformance_test SOURCES unit/backend_conformance_test.cc
                 LIBS catena_backend_redis catena_backend_rocksdb catena_rocks_memory
                      catena_rocks_store catena_test_redis)
catena_unit_test(rocks_backend_test SOURCES unit/rocks_backend_test.cc
                 LIBS catena_backend_rocksdb catena_rocks_memory)
catena_unit_test(rocks_states_test SOURCES unit/rocks_states_test.cc
                 LIBS catena_backend_redis catena_backend_rocksdb catena_rocks_memory
                      catena_test_redis)
