catena_unit_test(bench_test SOURCES unit/bench_test.cc LIBS catena_bench)
