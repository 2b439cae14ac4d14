catena_unit_test(cli_test SOURCES unit/cli_test.cc LIBS catena_cli)
