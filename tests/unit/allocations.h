// Counts what `new` gives, to prove that a warm path allocates nothing. Include it in one file of a
// program. ThreadSanitizer has a `new` of its own: nothing is counted with it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace catena::test {
inline size_t allocations = 0;
inline size_t largest_allocation = 0;
}  // namespace catena::test

#if !defined(__has_feature)
#define CATENA_COUNTS_NEW 1
#elif !__has_feature(thread_sanitizer)
#define CATENA_COUNTS_NEW 1
#endif

#ifdef CATENA_COUNTS_NEW
// Not inlined: GCC would then see what it takes for mismatched pairs.
[[gnu::noinline]] void* operator new(size_t size) {
  ++catena::test::allocations;
  catena::test::largest_allocation = std::max(catena::test::largest_allocation, size);
  if (void* memory = std::malloc(size)) return memory;
  std::abort();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#endif
