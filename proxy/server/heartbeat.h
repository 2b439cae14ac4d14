// The proxy's connection to the coordinators: heartbeats out; leases, configurations and orders in
// (coordinator/records.h has the protocol). Follows NOTLEADER, and tries the others when one does
// not answer. Loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/records.h"
#include "proxy/auth/proof.h"
#include "proxy/io/reactor.h"
#include "proxy/resp/decoder.h"
#include "proxy/server/options.h"

namespace catena::server {

class Heartbeat final : public io::StreamHandler {
 public:
  struct Callbacks {
    // Fills the report; called when a heartbeat is about to be sent.
    std::function<coordinator::NodeReport()> report;
    // A HEARTBEAT answer (sent_at: when its heartbeat was sent) or a CONFIGURATION push (sent_at
    // unset, no lease).
    std::function<void(const coordinator::HeartbeatAnswer&, std::optional<TimePoint> sent_at)>
        on_answer;
  };

  Heartbeat(io::Reactor& reactor, const Options& options, Callbacks callbacks);

  void Start();
  // Sends one now instead of at the next beat (a state change that the coordinator waits for).
  void SendNow();
  bool connected() const { return phase_ == Phase::kReady; }
  // Reports sent so far; a report is settled when on_answer came for its number or a later one.
  uint64_t last_number() const { return number_; }

  void OnConnected() override;
  void OnRead(std::string_view bytes) override;
  void OnClosed(std::string_view reason) override;

 private:
  enum class Phase { kIdle, kConnecting, kProving, kReady };

  void Beat();
  void Connect();
  void ConnectTo(const std::string& address);
  void TryNext();
  void SendReport();
  bool Prove();
  void Decode();
  // False: the connection was given up.
  bool OnMessage(const std::vector<std::string_view>& arguments);
  void OnNotLeader(std::string_view address);

  io::Reactor& reactor_;
  const Options& options_;
  Callbacks callbacks_;
  std::unique_ptr<io::Timer> timer_;
  Phase phase_ = Phase::kIdle;
  size_t next_address_ = 0;
  std::unique_ptr<auth::Dialler> dialler_;
  resp::CommandDecoder decoder_;
  resp::Command command_;
  std::string input_;
  uint64_t number_ = 0;
  std::map<uint64_t, TimePoint>
      sent_;  // heartbeats without an answer, bounded by the answer timeout
  TimePoint connecting_since_{};
  TimePoint last_sign_{};  // last answer, or when the connection began
  std::unique_ptr<io::Stream> stream_;
};

}  // namespace catena::server
