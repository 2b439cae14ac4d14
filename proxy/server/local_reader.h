// Answers reads from the local database of a follower or tail, by the consistency mode of the
// connection (design.md 4).
//
// Linearizable: the version of the keys is looked up when the command arrives, with the lease
// checked then or a verify begun then (I6); a dirty key asks the tail, one query in flight for all;
// the read goes to the database once what is needed is applied. The database holds committed
// entries only (I3), so whatever it answers is committed. Loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "backends/backend.h"
#include "proxy/chain/replica.h"
#include "proxy/server/head_executor.h"
#include "proxy/server/meter.h"
#include "proxy/server/options.h"
#include "proxy/server/session.h"

namespace catena::server {

class LocalReader {
 public:
  LocalReader(chain::Replica& replica, backend::Backend& backend, const Options& options,
              Meter& meter, std::function<TimePoint()> now,
              std::function<std::string(std::string_view)> add_info);
  ~LocalReader();

  // A read by the session's consistency mode. kWait: session.read_wait says what for.
  Dispatch Read(Session& session, uint64_t number, const Request& request);
  // A command of the local server that shows no data: no rule applies.
  Dispatch Pass(Session& session, uint64_t number, const Request& request, ReplyKind kind);
  void EndTurn();
  // The messages of this turn left before its end: what is read from now on shares later ones.
  void QuestionsSent();
  void FailAll(std::string_view why);
  size_t in_flight() const { return in_flight_; }
  // As much waits for the database as may.
  bool AnyLaneFull() const;
  // Where a script goes that a follower's database refuses (it lacks it, or takes it for a write):
  // to the head.
  using Reroute = std::function<void(Session&, uint64_t number, std::string command)>;
  void SetReroute(Reroute reroute) { reroute_ = std::move(reroute); }

  struct Stats {
    uint64_t clean = 0, dirty = 0;
  };
  const Stats& stats() const { return stats_; }

 private:
  class ReadLane;
  // True when the read may be sent to the database now.
  bool Linearizable(Session& session, const Request& request);
  // False: not yet; the database is asked to say when.
  bool Applied(Position position);
  void StartWait(ReadWait& wait, const Request& request);
  // As of some time since `wait` began nobody had removed this node; asks the chain when the lease
  // does not say so.
  bool HasAuthority(ReadWait& wait);
  TimePoint SentNow();
  Dispatch Submit(Session& session, uint64_t number, const Request& request, ReplyKind kind);

  chain::Replica& replica_;
  backend::Backend& backend_;
  const Options& options_;
  Meter& meter_;
  std::function<TimePoint()> now_;
  std::function<std::string(std::string_view)> add_info_;
  // By database, protocol, and whether for scripts.
  std::map<std::tuple<int, int, bool>, std::unique_ptr<ReadLane>> lanes_;
  std::vector<std::unique_ptr<ReadLane>> closed_lanes_;
  size_t in_flight_ = 0;
  Reroute reroute_;
  // Tickets of this turn: everything that arrived in it shares them, for their messages leave at
  // its end.
  std::optional<uint64_t> query_ticket_, verify_ticket_;
  Stats stats_;
};

}  // namespace catena::server
