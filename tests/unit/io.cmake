catena_unit_test(io_test SOURCES unit/io_test.cc LIBS catena_io)
add_library(catena_test_certificates STATIC ${CMAKE_CURRENT_LIST_DIR}/../support/certificates.cc)
target_link_libraries(catena_test_certificates PUBLIC catena_tls PRIVATE OpenSSL::SSL)
catena_unit_test(tls_test SOURCES unit/tls_test.cc
                 LIBS catena_io catena_test_certificates OpenSSL::SSL)
catena_unit_test(metrics_test SOURCES unit/metrics_test.cc LIBS catena_base)
catena_unit_test(admin_test SOURCES unit/admin_test.cc LIBS catena_admin)
catena_unit_test(meter_test SOURCES unit/meter_test.cc LIBS catena_server)
