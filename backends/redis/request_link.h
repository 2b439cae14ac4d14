// One connection to a Redis on which commands are answered in order, each by its own callback. For
// control traffic; clients' commands go through RedisLane.
#pragma once

#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/base/liveness.h"
#include "proxy/io/reactor.h"
#include "proxy/resp/decoder.h"
#include "proxy/resp/value.h"

namespace catena::redis {

// The raw reply (valid during the call), or nullopt: the connection broke before it came.
using ReplyCallback = std::function<void(std::optional<std::string_view> reply)>;

class RequestLink : public io::StreamHandler {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    // Any bytes came: the process lives.
    virtual void OnLinkHeard() = 0;
    // Broken. All callbacks have been called with nullopt. The owner may destroy the link.
    virtual void OnLinkClosed(const std::string& reason) = 0;
  };

  RequestLink(io::Reactor& reactor, const io::Address& address, Owner* owner);
  // Closes; callbacks that wait are forgotten (see Abandon).
  ~RequestLink() override = default;

  void Send(std::initializer_list<std::string_view> command, ReplyCallback callback);
  // Takes a command that is encoded already.
  void SendRaw(std::string_view command, ReplyCallback callback);
  // Closes and takes out the callbacks that are not answered.
  std::deque<ReplyCallback> Abandon();

  // Neither broken nor abandoned (it may still be connecting).
  bool open() const { return stream_ != nullptr; }
  // Our address of this connection; empty before it is connected.
  std::string LocalName() const;

  void OnConnected() override;
  void OnRead(std::string_view bytes) override;
  void OnClosed(std::string_view reason) override;

 private:
  // Answers callbacks from the replies in `input`; returns the bytes used, or nullopt when this
  // object is gone.
  std::optional<size_t> Answer(std::string_view input);
  void Break(const std::string& why);

  Owner* owner_;
  bool connected_ = false;
  std::string buffer_;
  resp::ReplyScanner scanner_;
  std::deque<ReplyCallback> waiting_;
  Liveness liveness_;
  std::unique_ptr<io::Stream> stream_;
};

// The reply as a value; a kError "protocol error" when it is none.
resp::Value DecodeReply(std::string_view reply);
// The text of a bulk or simple string (also verbatim), a view into `reply`; "" for anything else.
std::string_view ReplyText(std::string_view reply);
// "ERR ..." of an error reply; "" for anything else.
std::string ReplyError(std::string_view reply);

}  // namespace catena::redis
