# One libFuzzer program a target, in the builds that Clang makes with ASan. There only the targets
# themselves are instrumented for coverage; the preset `fuzz` does it with everything (../fuzz.sh).
add_custom_target(catena_fuzz)

# catena_fuzz_target(NAME RUNS n [SOURCES file...] LIBS lib...): fuzz/NAME.cc, fed with
# fuzz/corpus/NAME. ctest makes n runs, always the same ones: looking for new ones is fuzz.sh's work.
function(catena_fuzz_target name)
  cmake_parse_arguments(T "" "RUNS" "SOURCES;LIBS" ${ARGN})
  set(program ${CATENA_SANITIZED_BIN}/fuzz_${name})
  if(CMAKE_CXX_COMPILER_ID STREQUAL Clang AND CATENA_SANITIZE MATCHES address)
    set(program fuzz_${name})
    add_executable(fuzz_${name} fuzz/${name}.cc ${T_SOURCES})
    target_compile_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    target_compile_definitions(fuzz_${name} PRIVATE
                               CATENA_TEST_DATA="${CMAKE_CURRENT_SOURCE_DIR}/unit/data"
                               CATENA_FUZZ_DATA="${CMAKE_CURRENT_SOURCE_DIR}/fuzz/data")
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(fuzz_${name} PRIVATE ${T_LIBS})
    add_dependencies(catena_fuzz fuzz_${name})
  elseif(NOT CATENA_SANITIZED_BIN)
    return()
  endif()
  file(GLOB corpus CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${name}/*)
  list(JOIN corpus "," seeds)
  add_test(NAME fuzz.${name} COMMAND ${program} -seed=1 -runs=${T_RUNS} -max_len=1024
           -timeout=20 -print_final_stats=1 -verbosity=0 -seed_inputs=${seeds}
           -artifact_prefix=${CMAKE_BINARY_DIR}/fuzz_${name}_)
  set_tests_properties(fuzz.${name} PROPERTIES TIMEOUT 120)
endfunction()

catena_fuzz_target(requests RUNS 15000 LIBS catena_resp PkgConfig::HIREDIS)
catena_fuzz_target(replies RUNS 20000 LIBS catena_psync PkgConfig::HIREDIS)
catena_fuzz_target(psync RUNS 20000 LIBS catena_psync)
catena_fuzz_target(effects RUNS 20000 LIBS catena_command)
catena_fuzz_target(batches RUNS 20000 LIBS catena_rocks_batch)
catena_fuzz_target(chain RUNS 2000 LIBS catena_peer)
catena_fuzz_target(coordinator RUNS 2000 LIBS catena_coordinator_policy)
catena_fuzz_target(configuration RUNS 20000 LIBS catena_config)
catena_fuzz_target(commands RUNS 20000 LIBS catena_command catena_auth)
catena_fuzz_target(rocks_commands RUNS 10000 LIBS catena_rocks_commands)
catena_fuzz_target(nodes RUNS 40 SOURCES scenario/node_world.cc LIBS catena_server)
add_dependencies(catena_tests catena_fuzz)
