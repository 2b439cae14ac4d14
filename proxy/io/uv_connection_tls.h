// What a connection that speaks TLS has besides. Internal to the uv_connection* files.
#pragma once

#include <memory>
#include <string>

#include "proxy/io/tls_session.h"
#include "proxy/io/uv_connection.h"

namespace catena::io::uv {

struct Connection::Secured {
  template <typename... Arguments>
  explicit Secured(Arguments&&... arguments) : session(std::forward<Arguments>(arguments)...) {}

  TlsSession session;
  std::unique_ptr<Timer> deadline;  // runs while hands are shaken
  HandshakeEnd on_end;              // of an accepted connection, until it was called
  std::string held;                 // decrypted while nobody wanted to read
  bool answered = false;            // it said enough to be answered
  bool said_end = false;
};

}  // namespace catena::io::uv
