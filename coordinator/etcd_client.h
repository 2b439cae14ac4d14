// Asynchronous access to etcd v3 through its JSON gateway. All calls and callbacks on the loop
// thread.
//
// Failures come in two kinds, and the difference matters (S16): a request that certainly had no
// effect, and one of which nobody knows whether it had or is still going to have one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/etcd_codec.h"
#include "coordinator/metrics.h"
#include "proxy/base/clock.h"
#include "proxy/io/reactor.h"
#include "proxy/io/tls_context.h"

namespace catena::coordinator::etcd {

struct Failure {
  bool unknown = false;  // true: it may have happened, or may still happen
  std::string message;
};
template <typename T>
using Answer = tl::expected<T, Failure>;
template <typename T>
using Done = std::function<void(Answer<T>)>;

// Requests of the two classes never wait for each other: what keeps the leadership must not queue
// behind what hangs.
enum class Class { kLeadership, kData };

class Client {
 public:
  virtual ~Client() = default;  // callbacks that are outstanding are dropped
  // Linearizable reads. Callbacks come in a later turn, each exactly once, in bounded time.
  virtual void Range(Class kind, std::string_view key, Done<RangeAnswer> done) = 0;
  virtual void RangePrefix(Class kind, std::string_view prefix, Done<RangeAnswer> done) = 0;
  virtual void Commit(Class kind, Txn txn, Done<TxnAnswer> done) = 0;
  // Leases are of the class kLeadership.
  virtual void GrantLease(int64_t ttl_seconds, Done<LeaseAnswer> done) = 0;
  virtual void KeepAlive(int64_t lease, Done<LeaseAnswer> done) = 0;
  virtual void Revoke(int64_t lease, Done<bool> done) = 0;
};

struct CurlOptions {
  std::vector<std::string> endpoints;  // http://host:port or https://host:port
  // For https: the CA that etcd's certificate must come from, and what we show it, if anything.
  std::shared_ptr<const io::TlsContext> tls;
  Duration leadership_timeout = std::chrono::milliseconds(500);
  Duration data_timeout = std::chrono::seconds(1);  // of one request, all endpoints together
  EtcdUse* use = nullptr;                           // counted into, if given; outlives the client
};

// On libcurl, with blocking requests on the reactor's workers: at most one of the class kLeadership
// and two of the class kData at a time, so that a hung etcd takes three workers at most, and each
// only until its timeout. `reactor` outlives the client.
std::unique_ptr<Client> MakeCurlClient(io::Reactor& reactor, CurlOptions options);

}  // namespace catena::coordinator::etcd
