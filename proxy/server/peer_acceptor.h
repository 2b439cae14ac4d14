// Connections on the peers port until they have proved the cluster's secret and said what they are:
// a chain link (CATENA.HELLO) or a forwarding connection (CATENA.FORWARD). Bounded in number, size
// and time. Loop thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/auth/proof.h"
#include "proxy/io/reactor.h"

namespace catena::server {

class PeerAcceptor {
 public:
  // `arguments`: the first command; `rest`: what was read behind it. The receiver owns the stream
  // and answers.
  using OnOpened = std::function<void(std::unique_ptr<io::Stream> stream,
                                      const std::vector<std::string>& arguments, std::string rest)>;

  PeerAcceptor(io::Reactor& reactor, const auth::Credentials& credentials, OnOpened on_opened);
  ~PeerAcceptor();

  Result<void> Listen(const io::Address& address);
  void StopListening() { listener_.reset(); }

 private:
  class Pending;

  void OnAccept(std::unique_ptr<io::Stream> stream);
  void Remove(uint64_t id);
  void DropSilent();

  io::Reactor& reactor_;
  const auth::Credentials& credentials_;
  OnOpened on_opened_;
  std::unique_ptr<io::Listener> listener_;
  std::unique_ptr<io::Timer> timer_;
  std::map<uint64_t, std::unique_ptr<Pending>> pending_;
  uint64_t last_id_ = 0;
};

}  // namespace catena::server
