// What stores in memory keep their data on, for simulations in which a process ends and the next
// one finds what it left.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "backends/rocksdb/store.h"

namespace catena::rocks {

// What a store has applied, and it only. To look at, copy or replace while no store on it works; a
// copy is of what it was then.
struct MemoryDisk {
  using Table = std::map<std::string, Item, std::less<>>;

  explicit MemoryDisk(std::string id) : run_id(std::move(id)) {}

  std::string run_id;
  Place place{"", Position(1)};
  bool from_chain = false;
  bool fails = false;  // whatever a store on it is asked that can fail does
  uint64_t checkpoints_made = 0;
  // Changed only by who alone refers to it.
  std::shared_ptr<Table> keys = std::make_shared<Table>();
};

// What is on `disk`; at most one at a time. An Error: the disk fails.
Result<std::unique_ptr<Store>> OpenMemoryStore(std::shared_ptr<MemoryDisk> disk);

}  // namespace catena::rocks
