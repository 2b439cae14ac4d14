# `cmake --install` and `cpack`: one Debian package with all programs, their units, manual pages and a
# configuration to begin with. Included by the top level.

set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)  # packages hold no tests, so they need none built
include(GNUInstallDirs)
set(packaging ${CMAKE_SOURCE_DIR}/config/packaging)

install(TARGETS catena-proxy catena-coordinator catenactl RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
foreach(page catena-proxy.8 catena-coordinator.8)
  configure_file(${packaging}/${page}.in ${CMAKE_BINARY_DIR}/man/${page} @ONLY)
  install(FILES ${CMAKE_BINARY_DIR}/man/${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)
endforeach()
# The commands are those that the program lists.
install(CODE "
  execute_process(COMMAND $<TARGET_FILE:catenactl> completions bash OUTPUT_FILE ${CMAKE_BINARY_DIR}/man/catenactl.bash
    COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND $<TARGET_FILE:catenactl> --help OUTPUT_VARIABLE help COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${CMAKE_COMMAND} \"-DHELP=\${help}\" -DVERSION=${PROJECT_VERSION}
    -DTEMPLATE=${packaging}/catenactl.8.in -DPAGE=${CMAKE_BINARY_DIR}/man/catenactl.8
    -P ${packaging}/commands.cmake COMMAND_ERROR_IS_FATAL ANY)")
install(FILES ${CMAKE_BINARY_DIR}/man/catenactl.8 DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)
install(FILES ${CMAKE_BINARY_DIR}/man/catenactl.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
        RENAME catenactl)
install(FILES ${packaging}/catena-proxy@.service ${packaging}/catena-coordinator.service
        DESTINATION lib/systemd/system)
install(FILES ${packaging}/catena.sysusers DESTINATION lib/sysusers.d RENAME catena.conf)
install(FILES ${CMAKE_SOURCE_DIR}/config/three-nodes.toml DESTINATION /etc/catena RENAME catena.toml)
install(FILES ${packaging}/catena-coordinator.default DESTINATION /etc/default RENAME catena-coordinator)
install(FILES ${CMAKE_SOURCE_DIR}/README.md ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/catena)
install(FILES ${CMAKE_SOURCE_DIR}/config/example.toml DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/catena/examples)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME catena)
set(CPACK_PACKAGE_CONTACT "Catena's maintainers <maintainers@catena.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "chain replication (CRAQ) in front of Redis servers as they are")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"A proxy in front of each unmodified Redis server; writes travel from the chain's head to its tail and
are answered when every server has them; any server answers reads, linearizably. A coordinator keeps the
chains' configuration in etcd and replaces nodes that fail.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION database)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "systemd | systemd-standalone-sysusers")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "redis-server (>= 5:6.2)")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "etcd-server")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${packaging}/postinst ${packaging}/prerm ${packaging}/postrm ${packaging}/conffiles)
include(CPack)
