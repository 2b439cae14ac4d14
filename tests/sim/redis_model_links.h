// The connections of a simulated Redis: those that others made to it, and the one to its master.
// Included by the model's sources only.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/redis_model.h"

namespace catena::sim {

inline constexpr Duration kRedialAfter = Seconds(1);
inline constexpr Duration kAckEvery = Seconds(1);

class RedisModel::Client final : public io::StreamHandler {
 public:
  Client(RedisModel& redis, uint64_t number, std::unique_ptr<io::Stream> stream);

  void OnRead(std::string_view bytes) override {
    input_ += bytes;
    Go();
  }
  void OnClosed(std::string_view) override { Close(); }
  void Write(std::string_view bytes) {
    if (stream_) stream_->Write(bytes);
  }
  void Close();
  bool open() const { return stream_ != nullptr; }
  // What waited behind the command that blocked.
  void Unblock(std::string_view reply);
  bool is_replica() const { return streaming || behind_snapshot; }
  // Bytes of the stream, for those who replicate.
  void Replicate(std::string_view bytes);
  void SendSnapshot(const std::string& file);

  const uint64_t id;
  std::string name;
  int database = 0;
  bool in_multi = false, aborted = false;
  std::vector<Arguments> queued;
  std::optional<std::string> waits_for;  // blocked: for an element of this list
  std::unique_ptr<io::Timer> patience;   // ... so long, if not for ever
  std::map<std::string, std::optional<std::string>> watched;  // key: what it held
  bool touched = false;                                       // ... one of them was changed
  bool snapshot_only = false, capa_eof = false;
  bool streaming = false;
  std::optional<std::string> behind_snapshot;  // set while a snapshot is being made

 private:
  void Go();

  RedisModel& redis_;
  std::unique_ptr<io::Stream> stream_;
  resp::CommandDecoder decoder_;
  std::string input_;
};

// Dials the master, asks for its place in the history, and executes what comes.
class RedisModel::MasterLink final : public io::StreamHandler {
 public:
  MasterLink(RedisModel& redis, const io::Address& address);

  void OnConnected() override;
  void OnRead(std::string_view bytes) override;
  void OnClosed(std::string_view reason) override;
  bool streaming() const { return state_ == State::kConnected; }
  const char* state() const;
  bool loading() const { return loading_; }
  // The snapshot is in the database.
  void Loaded();
  // The script is over.
  void GoOn() {
    if (state_ == State::kConnected) TakeStream();
  }

 private:
  enum class State { kConnecting, kHandshake, kTransfer, kConnected };

  bool Line(std::string& line);
  void OnLine(const std::string& line);
  void TakeStream();
  void Acknowledge();

  RedisModel& redis_;
  State state_ = State::kConnecting;
  std::unique_ptr<io::Stream> stream_;
  std::unique_ptr<io::Timer> ack_;
  resp::CommandDecoder decoder_;
  std::string input_;
  int replies_ = 0;
  std::string replid_;
  uint64_t offset_ = 0;
  std::optional<size_t> length_;  // of the snapshot
  bool loading_ = false;
  bool in_multi_ = false;
  std::string transaction_;  // bytes of an unfinished one
  std::vector<Arguments> queued_;
};

}  // namespace catena::sim
