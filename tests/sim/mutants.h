// The defects that a build with CATENA_MUTANTS can plant, and how many seeds may pass until one
// shows.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace catena::sim {

struct Mutant {
  const char* name;
  const char* what;
  uint64_t seeds_max;
  const char* story = "";  // the schedule that shows it; "": chance does
};

std::span<const Mutant> Mutants();
// From now on; false: there is none of this name, or the build has none.
bool Plant(const std::string& name);

}  // namespace catena::sim
