// Counts what `new` gives, to prove that a warm path allocates nothing. Include it in one file of a
// program.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace catena::test {
inline size_t allocations = 0;
inline size_t largest_allocation = 0;
}  // namespace catena::test

// Not inlined: GCC would then see what it takes for mismatched pairs.
[[gnu::noinline]] void* operator new(size_t size) {
  ++catena::test::allocations;
  catena::test::largest_allocation = std::max(catena::test::largest_allocation, size);
  if (void* memory = std::malloc(size)) return memory;
  std::abort();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
