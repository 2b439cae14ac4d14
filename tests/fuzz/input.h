// How a fuzz target uses its bytes: some decide what happens, the rest is what arrives.
#pragma once

#include <fuzzer/FuzzedDataProvider.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/check.h"

// What must hold whatever arrives.
#define FUZZ_CHECK(condition) CATENA_CHECK(condition, "found by fuzzing")

namespace catena::fuzz {

// The pieces in which a network may deliver `bytes`: byte by byte, or cut by a small generator.
inline std::vector<std::string_view> Pieces(std::string_view bytes, uint16_t seed) {
  std::vector<std::string_view> pieces;
  uint32_t state = seed;
  while (!bytes.empty()) {
    state = state * 1664525 + 1013904223;
    const size_t longest = seed % 3 == 0 ? 1 : seed % 3 == 1 ? 8 : 64;
    const std::string_view piece = bytes.substr(0, 1 + (state >> 16) % longest);
    pieces.push_back(piece);
    bytes.remove_prefix(piece.size());
  }
  return pieces;
}

}  // namespace catena::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
