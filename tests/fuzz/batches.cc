// Serialized batches and entries of the RocksDB backend's effect stream, as another node may send
// them: whatever the bytes are, they are told to be wrong, or they are changes that come out the same
// when they are serialized again.
#include <optional>

#include "backends/rocksdb/batch.h"
#include "backends/rocksdb/effects.h"
#include "tests/fuzz/input.h"

namespace catena::fuzz {
namespace {

constexpr Position kStart(1000);

struct OwnedChange {
  std::string key;
  std::optional<std::string> value;
  int64_t deadline_ms;
  bool operator==(const OwnedChange&) const = default;
};

std::optional<std::vector<OwnedChange>> ChangesOf(std::string_view serialized) {
  std::vector<OwnedChange> changes;
  const auto read = rocks::ReadSerialized(serialized, [&](const rocks::Change& change) {
    OwnedChange owned{std::string(change.key), std::nullopt, change.deadline_ms};
    if (change.value) owned.value = std::string(*change.value);
    changes.push_back(std::move(owned));
  });
  if (!read) return std::nullopt;
  return changes;
}

std::string Serialized(const std::vector<OwnedChange>& changes) {
  std::vector<rocks::Change> views;
  for (const OwnedChange& change : changes) {
    rocks::Change view{.key = change.key, .value = std::nullopt, .deadline_ms = change.deadline_ms};
    if (change.value) view.value = *change.value;
    views.push_back(view);
  }
  std::string out;
  rocks::Serialize(views, out);
  return out;
}

void FuzzBatch(std::string_view bytes) {
  const auto changes = ChangesOf(bytes);
  if (changes) FUZZ_CHECK(ChangesOf(Serialized(*changes)) == changes);
}

class Ignore : public rocks::EffectHandler {
 public:
  void OnWrite(std::string_view batch) override { FuzzBatch(batch); }
  void OnFlush() override {}
  void OnPublish(std::string_view, std::string_view) override {}
};

// A right entry around these bytes, of which then some may be wrong.
void FuzzEntry(FuzzedDataProvider& provider) {
  const auto at = provider.ConsumeIntegral<uint16_t>();
  const auto flip = provider.ConsumeIntegral<uint8_t>();
  const std::string key = provider.ConsumeRandomLengthString(20);
  const std::string batch = provider.ConsumeRemainingBytesAsString();
  std::string entry;
  const std::string_view keys[] = {key};
  rocks::AppendWrite(batch, keys, kStart, entry);
  FUZZ_CHECK(rocks::ReadEntry(entry, kStart, nullptr).has_value());
  entry[at % entry.size()] = static_cast<char>(entry[at % entry.size()] ^ flip);
  FUZZ_CHECK(rocks::ReadEntry(entry, kStart, nullptr).has_value() == (flip == 0));
}

}  // namespace
}  // namespace catena::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace catena::fuzz;
  FuzzedDataProvider provider(data, size);
  switch (provider.ConsumeIntegral<uint8_t>() % 3) {
    case 0:
      FuzzBatch(provider.ConsumeRemainingBytesAsString());
      break;
    case 1: {
      Ignore handler;
      (void)catena::rocks::ReadEntry(provider.ConsumeRemainingBytesAsString(), kStart, &handler);
      break;
    }
    default:
      FuzzEntry(provider);
  }
  return 0;
}
