// A database larger than its caches is written and read, and the process stays within them plus
// 100 MB. A program of its own: what counts is all of its memory.
#include <fstream>
#include <random>

#include "rocks_store_fixture.h"

namespace catena::rocks {
namespace {

using namespace test;

constexpr uint64_t kMegabyte = 1u << 20;

// The most that has been resident so far.
uint64_t PeakBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    uint64_t kilobytes = 0;
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024;
  }
  return UINT64_MAX;
}

TEST_CASE("rocks store: memory stays within the caches plus 100 MB") {
  constexpr int kKeys = 64000;
  TemporaryDirectory directory;
  StoreOptions options = OptionsOf(directory / "db");
  options.block_cache_bytes = 48 * kMegabyte;
  options.write_buffer_bytes = 8 * kMegabyte;
  const auto store = Opened(options);
  std::mt19937_64 random(3);
  std::string value(5000, '\0');
  const auto name = [](uint64_t n) { return "key:" + std::to_string(n % kKeys); };
  const auto batch = store->NewBatch();
  for (uint64_t i = 0; i < kKeys; ++i) {
    for (size_t at = 0; at + 8 <= value.size(); at += 8) {
      const uint64_t bits = random();
      value.replace(at, 8, reinterpret_cast<const char*>(&bits), 8);
    }
    const int64_t deadline = i % 2 == 0 ? Item::kNoDeadline : static_cast<int64_t>(i);
    batch->Add({.key = name(i), .value = value, .deadline_ms = deadline});
    if (i % 50 != 49) continue;
    REQUIRE(store->Apply(*batch, {"history", Position(i + 2)}));
    batch->Reset();
  }
  Item item;
  for (int i = 0; i < 20000; ++i) REQUIRE(store->Get(name(random()), item).value());
  const auto cursor = store->Walk();
  uint64_t walked = 0;
  for (cursor->SeekToFirst(); cursor->Valid(); cursor->Next()) {
    cursor->Read(item);
    walked += item.value.size();
  }
  CHECK(walked == 5000u * kKeys);
  const uint64_t allowed = options.block_cache_bytes + 100 * kMegabyte;
  CHECK(walked > 2 * allowed);
  MESSAGE("peak " << PeakBytes() / kMegabyte << " MB, allowed " << allowed / kMegabyte);
  CHECK(PeakBytes() < allowed);
}

}  // namespace
}  // namespace catena::rocks
