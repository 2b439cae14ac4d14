# One libFuzzer program a target, in the builds that Clang makes with ASan. There only the targets
# themselves are instrumented for coverage; the preset `fuzz` does it with everything (../fuzz.sh).
set(CATENA_FUZZ_SECONDS 3 CACHE STRING "Seconds that ctest fuzzes each target, its corpus included")
add_custom_target(catena_fuzz)

# catena_fuzz_target(NAME [SOURCES file...] LIBS lib...): fuzz/NAME.cc, fed with fuzz/corpus/NAME.
function(catena_fuzz_target name)
  cmake_parse_arguments(T "" "" "SOURCES;LIBS" ${ARGN})
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
  add_test(NAME fuzz.${name} COMMAND ${program} -max_total_time=${CATENA_FUZZ_SECONDS} -max_len=1024
           -timeout=20 -print_final_stats=1 -verbosity=0 -seed_inputs=${seeds}
           -artifact_prefix=${CMAKE_BINARY_DIR}/fuzz_${name}_)
  set_tests_properties(fuzz.${name} PROPERTIES TIMEOUT 120)
endfunction()

catena_fuzz_target(requests LIBS catena_resp PkgConfig::HIREDIS)
catena_fuzz_target(replies LIBS catena_psync PkgConfig::HIREDIS)
catena_fuzz_target(psync LIBS catena_psync)
catena_fuzz_target(effects LIBS catena_command)
catena_fuzz_target(chain LIBS catena_peer)
catena_fuzz_target(coordinator LIBS catena_coordinator_policy)
catena_fuzz_target(configuration LIBS catena_config)
catena_fuzz_target(commands LIBS catena_command catena_auth)
catena_fuzz_target(nodes SOURCES scenario/node_world.cc LIBS catena_server)
add_dependencies(catena_tests catena_fuzz)
