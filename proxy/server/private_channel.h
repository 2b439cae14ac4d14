// A connection of one client's own, for what cannot share a pipelined lane: transactions, blocking
// commands, subscriptions, MONITOR (design.md 8). HeadExecutor opens one to the local database;
// Forwarder one through the head's proxy.
#pragma once

#include <string>
#include <string_view>

namespace catena::server {

class PrivateChannel {
 public:
  class Handler {
   public:
    virtual ~Handler() = default;
    // One whole reply, push or message, in the order of the connection; it may be shown to the
    // client now (I4, I6). Valid during the call, which may destroy the channel.
    virtual void OnPrivateMessage(PrivateChannel& channel, std::string_view message) = 0;
    // Broken: what has no reply has an unknown outcome, unless `nothing_sent`. Not called after the
    // channel was destroyed.
    virtual void OnPrivateClosed(PrivateChannel& channel, const std::string& why,
                                 bool nothing_sent) = 0;
    // The node behind it leaves its place in the chain: to be closed when it is not needed any
    // more, and not to be used for anything new.
    virtual void OnPrivateLeaving(PrivateChannel& channel) = 0;
  };

  // Closes the connection at once: a command that blocks there takes nothing any more.
  virtual ~PrivateChannel() = default;
  // Commands may be submitted (a tunnel: the head's proxy has accepted it).
  virtual bool ready() const = 0;
  // No more commands now (I9): what was submitted, or what it changed, has not got on its way yet.
  virtual bool full() const = 0;
  virtual void Submit(std::string_view command) = 0;
  // Ends it at once where that matters to others, also inside one of its callbacks; it is still to
  // be destroyed.
  virtual void Close() {}
};

}  // namespace catena::server
