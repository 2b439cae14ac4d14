// The control connection: examines the Redis, watches that it stays the same process in the role it
// was given, and carries the questions of the other parts.
//
// States: down (connecting, or examining until it is usable) -> ready -> recovering (the connection
// broke; for reconnect_grace the same process may come back) -> ready, or lost and down again.
#pragma once

#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backends/backend.h"
#include "backends/redis/redis_backend.h"
#include "backends/redis/redis_info.h"
#include "backends/redis/request_link.h"
#include "proxy/base/liveness.h"

namespace catena::redis {

// What an examination found, beyond what the node is told.
struct Examination {
  ServerInfo server;
  backend::Info info;
  int rdb_version = 0;  // the newest RDB version that this Redis reads
};

class RedisControl : public RequestLink::Owner {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnControlExamined(const Examination& examination) = 0;
    virtual void OnControlLost(const std::string& reason) = 0;
    // About each second, and after the connection was remade: what the Redis says of its role.
    // `generation` is RoleGeneration() of the moment when it was asked.
    virtual void OnControlChecked(const ServerInfo& server, uint64_t generation) = 0;
    virtual uint64_t RoleGeneration() const = 0;
  };

  // nullopt: the Redis is lost.
  using RoleCallback = std::function<void(std::optional<Role>)>;

  RedisControl(io::Reactor& reactor, const RedisOptions& options, Owner* owner);
  ~RedisControl() override;

  void Start();
  // Examines once more and reports it (after a role ended). Nothing happens while down: it does so
  // anyway.
  void ExamineAgain();
  // The Redis is given up for `reason`; everybody is told, and it is examined from the start.
  void Lose(std::string reason);
  // What it holds may be another thing than its place in the chain's history says: the next
  // examination makes it forget that, whatever it finds.
  void DoubtPlace() { place_doubtful_ = true; }

  // Sends a command; while recovering it waits for the connection. The callback gets nullopt when
  // the connection broke under it or the Redis is lost.
  void Request(std::initializer_list<std::string_view> command, ReplyCallback callback);
  // Takes a command that is encoded already.
  void RequestRaw(std::string_view command, ReplyCallback callback);
  // Asks ROLE until it is answered with a role (BUSY and broken connections: again). Calls that
  // come while a question is under way share the next one.
  void AskRole(RoleCallback callback);

  // It replaces its data: it may answer late.
  void SetLoading(bool loading) { loading_ = loading; }
  bool ready() const { return state_ == State::kReady || state_ == State::kRecovering; }
  bool connected() const { return state_ == State::kReady; }
  const std::string& run_id() const { return examination_.server.run_id; }
  const Examination& examination() const { return examination_; }
  const backend::Limits& limits() const { return limits_; }
  uint64_t keys() const { return keys_; }
  const std::string& problem() const { return problem_; }
  // The host part of our own address towards the Redis.
  std::string LocalHost() const;

 private:
  enum class State { kDown, kReady, kRecovering };
  struct Queued {
    std::string command;
    ReplyCallback callback;
  };

  void OnLinkHeard() override;
  void OnLinkClosed(const std::string& reason) override;

  // Connecting and coming back.
  void Connect();
  void RetryAfter(Duration after);
  void OnRetry();
  void SetProblem(std::string problem, Duration retry_after, bool reconnect);
  void EndFormer(const ServerInfo& server, uint64_t generation);
  void Recover(const ServerInfo& server, uint64_t generation);

  // The examination: each stage sends its questions together; StageDone goes on when all are
  // answered.
  enum class Stage { kIntroduce, kCut, kAbilities, kResult };
  void StartStage(Stage stage);
  void StageDone();
  void Ask(std::initializer_list<std::string_view> command,
           std::function<void(std::string_view)> on_reply);
  void AskRaw(std::string_view command, std::function<void(std::string_view)> on_reply);
  void AskIdentity();
  void AskClients();
  bool MustBeCut(const ClientEntry& client) const;
  void AskAbilities();
  // `on_other`: it was another, and will be changed.
  void InsistOnSetting(std::string_view pattern, const std::string& wanted,
                       std::function<void()> on_other);
  void ForgetPlace();
  void InsistOnNames(std::vector<std::string> names);
  void TakeSettings(std::string_view config_reply);
  void Require(std::string_view what, std::string_view reply);
  void FinishExamination();

  // Watching.
  void OnCheckTimer();
  void SendRole();
  void OnRoleReply(std::optional<std::string_view> reply);
  void FlushQueue();

  io::Reactor& reactor_;
  const RedisOptions& options_;
  Owner* owner_;
  State state_ = State::kDown;
  std::unique_ptr<RequestLink> link_;
  std::unique_ptr<io::Timer> retry_timer_, grace_timer_, check_timer_, role_timer_;
  bool loading_ = false;

  Examination examination_;
  bool examining_ = false;
  bool reconnect_on_retry_ = true;
  Stage stage_ = Stage::kIntroduce;
  size_t stage_pending_ = 0;
  std::string stage_problem_;
  bool place_doubtful_ = false;   // until an examination finds that it has none
  bool place_forgotten_ = false;  // in this examination
  std::string info_text_;         // INFO as the latest stage read it
  std::vector<std::string> cut_;  // ids of former connections
  uint64_t client_id_ = 0;  // the Redis' id of this connection; of the former while recovering
  uint64_t next_client_id_ = 0;
  std::string problem_;

  std::deque<Queued> queue_;  // requests made while recovering
  std::vector<RoleCallback> role_waiting_, role_asked_;
  bool role_in_flight_ = false;
  uint64_t keys_ = 0;
  backend::Limits limits_;
  TimePoint heard_{};
  bool check_unanswered_ = false;
  bool obeys_maxmemory_ = false;  // as the last check said
  Liveness liveness_;
};

}  // namespace catena::redis
