add_library(catena_test_redis STATIC ${CMAKE_CURRENT_LIST_DIR}/../support/redis_server.cc)
target_link_libraries(catena_test_redis PUBLIC PkgConfig::HIREDIS)
catena_unit_test(psync_test SOURCES unit/psync_test.cc LIBS catena_psync)
catena_unit_test(rdb_check_test SOURCES unit/rdb_check_test.cc LIBS catena_psync)
target_compile_definitions(rdb_check_test PRIVATE CATENA_TEST_DATA="${CMAKE_CURRENT_LIST_DIR}/data")
catena_unit_test(redis_backend_test SOURCES unit/redis_backend_test.cc
                 LIBS catena_backend_redis catena_test_redis)
catena_unit_test(redis_lane_test SOURCES unit/redis_lane_test.cc
                 LIBS catena_backend_redis catena_test_redis)
