catena_unit_test(records_test SOURCES unit/records_test.cc LIBS catena_records)
catena_unit_test(policy_test SOURCES unit/policy_test.cc LIBS catena_coordinator_policy)
