catena_unit_test(records_test SOURCES unit/records_test.cc LIBS catena_records)
