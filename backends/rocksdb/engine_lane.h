// A connection of the engine and its states: transaction, watched keys, subscriptions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "backends/rocksdb/commands.h"

namespace catena::rocks {

struct EngineLane {
  uint64_t id = 0;
  Client client;

  bool in_multi = false;
  bool multi_failed = false;  // something could not be queued
  bool watch_failed = false;  // a watched key has changed
  // Queued commands: their arguments end to end, the arguments' lengths, the commands' numbers of
  // arguments.
  std::string queued_bytes;
  std::vector<size_t> queued_lengths, queued_counts;
  bool queued_writes = false;

  std::vector<std::string> watched, channels, patterns;

  size_t subscriptions() const { return channels.size() + patterns.size(); }
  bool only_subscriptions() const { return client.protocol == 2 && subscriptions() > 0; }

  void Queue(Arguments arguments) {
    for (const std::string_view argument : arguments) {
      queued_bytes.append(argument);
      queued_lengths.push_back(argument.size());
    }
    queued_counts.push_back(arguments.size());
  }
  void EndTransaction() {
    in_multi = multi_failed = queued_writes = false;
    queued_bytes.clear();
    queued_lengths.clear();
    queued_counts.clear();
  }
};

}  // namespace catena::rocks
