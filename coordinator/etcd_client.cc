#include "coordinator/etcd_client.h"

#include <curl/curl.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <iterator>
#include <optional>
#include <utility>

namespace catena::coordinator::etcd {
namespace {

constexpr size_t kQueueMax = 1000;
constexpr size_t kAnswerBytesMax = 64u << 20;

struct Request {
  const char* path;
  std::string body;
  Duration timeout{0};
  // Doing it twice is as good as once: after any failure the next endpoint is asked.
  bool repeatable = false;
  std::shared_ptr<const io::TlsPem> tls;  // null: no https
};

struct Reply {
  bool ok = false;
  Failure failure;
  std::string body;
};

// What workers share with the loop: which endpoint answered last.
struct Endpoints {
  std::vector<std::string> urls;
  std::atomic<size_t> preferred{0};
};

size_t Collect(char* bytes, size_t size, size_t count, void* body) {
  auto* out = static_cast<std::string*>(body);
  if (out->size() + size * count > kAnswerBytesMax) return 0;
  out->append(bytes, size * count);
  return size * count;
}

// One libcurl handle, which keeps its connections open. Used by one worker at a time.
class Handle {
 public:
  Handle() : curl_(curl_easy_init()) {
    headers_ = curl_slist_append(nullptr, "Content-Type: application/json");
    headers_ = curl_slist_append(headers_, "Expect:");
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    curl_slist_free_all(headers_);
    if (curl_ != nullptr) curl_easy_cleanup(curl_);
  }

  // Blocks, for about `request.timeout` at most.
  Reply Perform(Endpoints& endpoints, const Request& request) {
    if (curl_ == nullptr) return Failed(false, "libcurl cannot start");
    const size_t count = endpoints.urls.size();
    const size_t first = endpoints.preferred.load();
    // A hung endpoint must leave time for another one.
    const size_t shares = request.repeatable ? std::min<size_t>(count, 2) : 1;
    const auto share = std::max<int64_t>(
        1, std::chrono::duration_cast<std::chrono::milliseconds>(request.timeout).count() /
               static_cast<int64_t>(shares));
    Reply reply = Failed(false, "no endpoints");
    size_t slow = 0;
    for (size_t i = 0; i < count && slow < shares; ++i) {
      const size_t index = (first + i) % count;
      CURLcode code = CURLE_OK;
      reply = Try(endpoints.urls[index], request, static_cast<long>(share), code);
      if (reply.ok) {
        endpoints.preferred = index;
        return reply;
      }
      if (code == CURLE_OPERATION_TIMEDOUT) ++slow;
      if (reply.failure.unknown && !request.repeatable) break;
    }
    endpoints.preferred = (first + 1) % count;
    return reply;
  }

 private:
  static Reply Failed(bool unknown, std::string message) {
    Reply reply;
    reply.failure = {unknown, std::move(message)};
    return reply;
  }

  Reply Try(const std::string& endpoint, const Request& request, long timeout_ms, CURLcode& code) {
    Reply reply;
    const std::string url = endpoint + request.path;
    curl_easy_setopt(curl_, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl_, CURLOPT_HTTPHEADER, headers_);
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDS, request.body.data());
    curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl_, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl_, CURLOPT_TIMEOUT_MS, timeout_ms);
    curl_easy_setopt(curl_, CURLOPT_CONNECTTIMEOUT_MS, timeout_ms);
    curl_easy_setopt(curl_, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, Collect);
    curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &reply.body);
    if (request.tls != nullptr) UseTls(*request.tls);
    char detail[CURL_ERROR_SIZE] = "";
    curl_easy_setopt(curl_, CURLOPT_ERRORBUFFER, detail);
    code = curl_easy_perform(curl_);
    curl_easy_setopt(curl_, CURLOPT_ERRORBUFFER, nullptr);
    if (code != CURLE_OK) {
      const char* why = detail[0] != '\0' ? detail : curl_easy_strerror(code);
      return Failed(!WasUnsent(curl_, code), endpoint + ": " + why);
    }
    long status = 0;
    curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
      // etcd's own timeouts arrive so, and say nothing about the outcome.
      return Failed(true,
                    endpoint + ": HTTP " + std::to_string(status) + ": " + DecodeError(reply.body));
    }
    reply.ok = true;
    return reply;
  }

  // By itself libcurl repeats what it sent by a kept connection that broke then: `code` may be of
  // the second connection, which could not be made.
  static bool WasUnsent(CURL* curl, CURLcode code) {
    long bytes_sent = 0;
    curl_easy_getinfo(curl, CURLINFO_REQUEST_SIZE, &bytes_sent);
    if (bytes_sent > 0) return false;
    constexpr CURLcode kBefore[] = {
        CURLE_COULDNT_CONNECT,      CURLE_COULDNT_RESOLVE_HOST,     CURLE_URL_MALFORMAT,
        CURLE_UNSUPPORTED_PROTOCOL, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CERTPROBLEM,
        CURLE_SSL_CACERT_BADFILE,   CURLE_SSL_CONNECT_ERROR};
    return std::find(std::begin(kBefore), std::end(kBefore), code) != std::end(kBefore);
  }

  // From memory: what was loaded counts, not what is in the files now.
  void UseTls(const io::TlsPem& pem) {
    const auto set = [this](CURLoption option, const std::string& text) {
      curl_blob blob{const_cast<char*>(text.data()), text.size(), CURL_BLOB_COPY};
      if (!text.empty()) curl_easy_setopt(curl_, option, &blob);
    };
    curl_easy_setopt(curl_, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
    set(CURLOPT_CAINFO_BLOB, pem.ca);
    set(CURLOPT_SSLCERT_BLOB, pem.certificate);
    set(CURLOPT_SSLKEY_BLOB, pem.key);
  }

  CURL* curl_;
  curl_slist* headers_ = nullptr;
};

// Requests of one class: as many at a time as there are handles, the others in order.
class Queue {
 public:
  Queue(io::Reactor& reactor, std::shared_ptr<Endpoints> endpoints, size_t handles)
      : reactor_(reactor), endpoints_(std::move(endpoints)) {
    for (size_t i = 0; i < handles; ++i) idle_.push_back(std::make_shared<Handle>());
  }

  void Add(Request request, std::function<void(Reply)> done) {
    const TimePoint give_up = reactor_.Now() + request.timeout;
    waiting_.push_back({std::move(request), std::move(done), give_up});
    if (waiting_.size() > kQueueMax) GiveUp(waiting_.front()), waiting_.pop_front();
    Start();
  }

 private:
  struct Waiting {
    Request request;
    std::function<void(Reply)> done;
    TimePoint give_up;
  };

  void GiveUp(Waiting& waiting) {
    Reply reply;
    reply.failure = {false, "etcd is too slow: the request was not sent"};
    reactor_.Defer([alive = std::weak_ptr<int>(alive_), done = std::move(waiting.done),
                    reply = std::move(reply)] {
      if (!alive.expired()) done(reply);
    });
  }

  void Start() {
    while (!idle_.empty() && !waiting_.empty()) {
      Waiting next = std::move(waiting_.front());
      waiting_.pop_front();
      if (reactor_.Now() > next.give_up) {
        GiveUp(next);
        continue;
      }
      Run(std::move(next));
    }
  }

  void Run(Waiting next) {
    std::shared_ptr<Handle> handle = std::move(idle_.back());
    idle_.pop_back();
    auto reply = std::make_shared<Reply>();
    auto work = [handle, reply, endpoints = endpoints_, request = std::move(next.request)] {
      *reply = handle->Perform(*endpoints, request);
    };
    reactor_.RunOnWorker(std::move(work), [this, alive = std::weak_ptr<int>(alive_), handle, reply,
                                           done = std::move(next.done)] {
      if (alive.expired()) return;
      idle_.push_back(handle);
      done(std::move(*reply));
      if (!alive.expired()) Start();
    });
  }

  io::Reactor& reactor_;
  std::shared_ptr<Endpoints> endpoints_;
  std::vector<std::shared_ptr<Handle>> idle_;
  std::deque<Waiting> waiting_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

class CurlClient final : public Client {
 public:
  CurlClient(io::Reactor& reactor, CurlOptions options)
      : options_(std::move(options)),
        endpoints_(std::make_shared<Endpoints>()),
        reactor_(reactor),
        leadership_(reactor, endpoints_, 1),
        data_(reactor, endpoints_, 2) {
    endpoints_->urls = options_.endpoints;
    for (std::string& url : endpoints_->urls) {
      while (!url.empty() && url.back() == '/') url.pop_back();
    }
  }

  void Range(Class kind, std::string_view key, Done<RangeAnswer> done) override {
    Send(kind, "/v3/kv/range", EncodeRange(key), true, DecodeRange, std::move(done));
  }
  void RangePrefix(Class kind, std::string_view prefix, Done<RangeAnswer> done) override {
    Send(kind, "/v3/kv/range", EncodeRangePrefix(prefix), true, DecodeRange, std::move(done));
  }
  void Commit(Class kind, Txn txn, Done<TxnAnswer> done) override {
    auto decode = [reads = txn.reads.size()](std::string_view body) {
      return DecodeTxn(body, reads);
    };
    Send(kind, "/v3/kv/txn", EncodeTxn(txn), false, decode, std::move(done));
  }
  void GrantLease(int64_t ttl_seconds, Done<LeaseAnswer> done) override {
    Send(Class::kLeadership, "/v3/lease/grant", EncodeLeaseGrant(ttl_seconds), true,
         DecodeLeaseGrant, std::move(done));
  }
  void KeepAlive(int64_t lease, Done<LeaseAnswer> done) override {
    Send(Class::kLeadership, "/v3/lease/keepalive", EncodeLeaseKeepAlive(lease), true,
         DecodeLeaseKeepAlive, std::move(done));
  }
  void Revoke(int64_t lease, Done<bool> done) override {
    Send(
        Class::kLeadership, "/v3/lease/revoke", EncodeLeaseRevoke(lease), true,
        [](std::string_view) -> Result<bool> { return true; }, std::move(done));
  }

 private:
  template <typename Decode, typename T>
  void Send(Class kind, const char* path, std::string body, bool repeatable, Decode decode,
            Done<T> done) {
    const bool leadership = kind == Class::kLeadership;
    Request request{path, std::move(body),
                    leadership ? options_.leadership_timeout : options_.data_timeout, repeatable,
                    options_.tls ? options_.tls->pem() : nullptr};
    (leadership ? leadership_ : data_)
        .Add(std::move(request), [this, leadership, asked = reactor_.Now(), decode,
                                  done = std::move(done)](Reply reply) {
          Count(leadership, asked, reply.ok);
          if (!reply.ok) return done(tl::unexpected(std::move(reply.failure)));
          auto answer = decode(reply.body);
          if (!answer) return done(tl::unexpected(Failure{true, answer.error().message}));
          done(std::move(*answer));
        });
  }

  void Count(bool leadership, TimePoint asked, bool answered) {
    if (options_.use == nullptr) return;
    EtcdUse& use = *options_.use;
    (leadership ? use.leadership : use.data).Observe(reactor_.Now() - asked);
    if (!answered) ++(leadership ? use.leadership_failures : use.data_failures);
  }

  CurlOptions options_;
  std::shared_ptr<Endpoints> endpoints_;
  io::Reactor& reactor_;
  Queue leadership_;
  Queue data_;
};

}  // namespace

std::unique_ptr<Client> MakeCurlClient(io::Reactor& reactor, CurlOptions options) {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  (void)started;
  return std::make_unique<CurlClient>(reactor, std::move(options));
}

}  // namespace catena::coordinator::etcd
