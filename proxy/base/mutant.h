// CATENA_MUTANT("name"): true in a build with -DCATENA_MUTANTS=ON while the defect of this name is
// planted, to show that the tests would find it (tests/README.md). In every other build it is the
// constant false and leaves nothing behind.
//
// At most one defect at a time; which one is chosen before anything runs and does not change.
#pragma once

#ifdef CATENA_MUTANTS

#include <string>
#include <string_view>

namespace catena {

// "": none.
inline std::string& PlantedMutant() {
  static std::string name;
  return name;
}
inline bool IsPlanted(std::string_view name) { return PlantedMutant() == name; }

}  // namespace catena

#define CATENA_MUTANT(name)                                \
  ([]() -> bool {                                          \
    static const bool planted = ::catena::IsPlanted(name); \
    return planted;                                        \
  }())

#else

#define CATENA_MUTANT(name) false

#endif
