# Whole clusters under a seeded scheduler; see README.md.
set(CATENA_SIM_SEEDS 3000 CACHE STRING "Seeds of the simulator that ctest runs")
add_library(catena_simulator STATIC
  sim/scheduler.cc sim/network.cc sim/redis_store.cc sim/redis_model.cc sim/redis_model_links.cc sim/command_reply.cc
  sim/etcd_model.cc sim/plan.cc sim/cluster.cc sim/faults.cc sim/history.cc sim/sessions.cc sim/effects.cc sim/workload.cc sim/story.cc sim/invariants.cc sim/mutants.cc sim/simulation.cc)
target_link_libraries(catena_simulator PUBLIC catena_server catena_backend_redis
                      catena_backend_rocksdb catena_rocks_memory catena_coordinator)
target_compile_definitions(catena_simulator PRIVATE CATENA_TEST_DATA="${CMAKE_CURRENT_SOURCE_DIR}/unit/data")
add_executable(catena_sim sim/main.cc)
target_link_libraries(catena_sim PRIVATE catena_simulator)
catena_unit_test(simulation_test SOURCES sim/simulation_test.cc LIBS catena_simulator)
if(NOT CATENA_SANITIZE)
  # A quarter of a run is allocations: a third more seeds a second.
  target_link_libraries(catena_sim PRIVATE PkgConfig::JEMALLOC)
  add_test(NAME simulation COMMAND catena_sim --seeds ${CATENA_SIM_SEEDS})
  add_test(NAME simulation.rocksdb COMMAND catena_sim --seeds 300 --backend rocksdb)
  # Clocks that go wrong by more than the leases' margin: trouble that must be seen.
  add_test(NAME simulation.drift COMMAND catena_sim --seeds 60 --drift 100000)
  set_tests_properties(simulation.drift PROPERTIES PASS_REGULAR_EXPRESSION "violations [1-9]")
  set_tests_properties(simulation simulation.rocksdb simulation.drift PROPERTIES TIMEOUT 900 PROCESSORS 2)
endif()
