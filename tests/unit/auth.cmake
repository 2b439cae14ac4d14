catena_unit_test(auth_test SOURCES unit/auth_test.cc LIBS catena_auth)
