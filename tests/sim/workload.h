// Clients: each keeps a connection to some node, sends pipelines of commands, waits for the
// answers, thinks, and now and then goes elsewhere. What they did and were told is the history.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "proxy/resp/decoder.h"
#include "tests/sim/cluster.h"
#include "tests/sim/history.h"

namespace catena::sim {

class Workload {
 public:
  // `cluster` outlives it.
  explicit Workload(Cluster& cluster);
  ~Workload();

  // Tells about where in the effect stream the chain is (Operation::hint).
  void HintWith(std::function<uint64_t()> where) { where_ = std::move(where); }
  void Start();
  // From now on no command may be refused or have an unknown outcome.
  void ExpectSuccess() { success_from_ = cluster_.scheduler().now(); }
  // No new commands; the clients close their connections once they have their answers.
  void Finish();
  bool idle() const;
  // An answer to something that was sent by then is missing.
  bool OwesFrom(TimePoint then) const;
  // Commands whose answers are missing.
  std::string Owed() const;
  History& history() { return history_; }
  // "": none; an answer that can never be right.
  const std::string& violation() const { return violation_; }
  uint64_t answered() const { return answered_; }

  // A connection for a story to send commands by; they are part of the history.
  size_t Connect(const NodeId& node);
  void Send(size_t hand, const Arguments& command);
  // Or the connection is gone.
  bool AllAnswered(size_t hand) const;
  // Written once in a run.
  std::string NewValue() { return "v" + std::to_string(++last_value_); }

  // One linearizable command at `node`, on a connection of its own.
  void Ask(const NodeId& node, const Arguments& command, std::function<void(std::string)> done);

 private:
  class Client;
  class Question;
  class Hand;

  void Answered(Operation& operation, const std::string& reply);
  void Judge(Operation& operation);
  void JudgeTransaction(Operation& operation);
  Operation MakeOperation(bool reads_only);
  Arguments MakeRead();
  Arguments MakeWrite();
  std::string Key();

  Cluster& cluster_;
  Random random_;
  History history_;
  std::string violation_;
  uint64_t answered_ = 0, last_value_ = 0;
  size_t last_connection_ = 0;
  bool finishing_ = false;
  TimePoint success_from_ = TimePoint::max();
  std::function<uint64_t()> where_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::unique_ptr<Process> prober_;
  std::vector<std::unique_ptr<Question>> questions_;
  std::vector<std::unique_ptr<Hand>> hands_;
};

}  // namespace catena::sim
