catena_unit_test(chain_log_test SOURCES unit/chain_log_test.cc LIBS catena_chain)
catena_unit_test(lease_test SOURCES unit/lease_test.cc LIBS catena_chain)
catena_unit_test(chain_codec_test SOURCES unit/chain_codec_test.cc LIBS catena_peer)
