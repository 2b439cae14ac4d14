catena_unit_test(resp_test SOURCES unit/resp_test.cc LIBS catena_resp PkgConfig::HIREDIS)
