add_library(catena_test_redis STATIC ${CMAKE_CURRENT_LIST_DIR}/../support/redis_server.cc)
target_link_libraries(catena_test_redis PUBLIC PkgConfig::HIREDIS)
catena_unit_test(redis_backend_test SOURCES unit/redis_backend_test.cc
                 LIBS catena_backend_redis catena_test_redis)
