catena_unit_test(io_test SOURCES unit/io_test.cc LIBS catena_io)
