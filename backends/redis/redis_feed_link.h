// One connection that a Redis (or whoever dials our port) made to the feed's listener.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "backends/redis/redis_feed.h"

namespace catena::redis {

class RedisFeed::Link : public io::StreamHandler {
 public:
  Link(RedisFeed& feed, std::unique_ptr<io::Stream> stream);

  void OnRead(std::string_view bytes) override;
  void OnClosed(std::string_view reason) override;
  void OnDrained() override;

  io::Stream& stream() { return *stream_; }
  PsyncMaster& machine() { return machine_; }
  Liveness::Watch Watch() const { return Liveness::Watch(liveness_); }

 private:
  RedisFeed& feed_;
  PsyncMaster machine_;
  Liveness liveness_;
  std::unique_ptr<io::Stream> stream_;
};

}  // namespace catena::redis
