// The coordinator's sockets: proxies and catenactl, after the proof that they know the cluster's
// secret (auth/proof.h), in the protocol of records.h. Loop thread.
//
// Bounds: 1,000 connections, 1 MB a message, 4 MB of unread answers a connection, 5 s to prove
// oneself. Whoever breaks one, or says what cannot be understood, is told why and cut off.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>

#include "coordinator/controller.h"
#include "proxy/auth/proof.h"
#include "proxy/base/result.h"
#include "proxy/io/reactor.h"

namespace catena::coordinator {

class Server {
 public:
  struct Options {
    io::Address listen;
    auth::Credentials credentials;
    size_t connections_max = 1000;
    size_t message_bytes_max = 1u << 20;
    size_t unsent_bytes_max = 4u << 20;
    Duration proof_timeout = std::chrono::seconds(5);
  };

  // `reactor` and `controller` outlive the server.
  Server(io::Reactor& reactor, Controller& controller, Options options);
  ~Server();  // closes everything

  // Error: the address cannot be listened on.
  Result<bool> Start();
  // The address really bound.
  const std::string& address() const { return listener_->BoundAddress(); }
  // No new connections, and those that are there end: their proxies look for another coordinator.
  void Stop();

 private:
  class Session;

  void Accept(std::unique_ptr<io::Stream> stream);
  void Remove(uint64_t number);

  io::Reactor& reactor_;
  Controller& controller_;
  Options options_;
  std::unique_ptr<io::Listener> listener_;
  uint64_t next_number_ = 1;
  std::map<uint64_t, std::shared_ptr<Session>> sessions_;
};

}  // namespace catena::coordinator
