add_library(catena_scenario_world STATIC scenario/world.cc)
target_link_libraries(catena_scenario_world PUBLIC catena_chain catena_peer catena_coordinator_policy)
catena_unit_test(chain_schedules_test SOURCES scenario/schedules_test.cc LIBS catena_scenario_world)
catena_unit_test(chain_papers_test SOURCES scenario/papers_test.cc LIBS catena_scenario_world)
catena_unit_test(chain_replica_test SOURCES scenario/replica_test.cc LIBS catena_scenario_world)
catena_unit_test(chain_random_walk_test LONG SOURCES scenario/random_walk_test.cc LIBS catena_scenario_world)
catena_unit_test(chain_node_test SOURCES scenario/node_test.cc scenario/staleness_test.cc
                     scenario/node_world.cc LIBS catena_server)
target_compile_definitions(chain_node_test PRIVATE CATENA_TEST_DATA="${CMAKE_CURRENT_SOURCE_DIR}/unit/data")
