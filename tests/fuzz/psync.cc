// Both sides of Redis replication and what Redis says about itself: whole and in pieces the same
// events and answers, snapshots handed on only when they are whole.
#include "backends/redis/psync_master.h"
#include "backends/redis/psync_replica.h"
#include "backends/redis/rdb_check.h"
#include "backends/redis/redis_info.h"
#include "tests/fuzz/input.h"

namespace catena::fuzz {
namespace {

using redis::PsyncMaster;
using redis::PsyncReplica;
using redis::RdbCheck;

// The owner answers each question as `answers` says.
std::string MasterStory(const std::vector<std::string_view>& pieces, uint8_t answers) {
  PsyncMaster master;
  std::string story, out;
  for (std::string_view piece : pieces) {
    std::string_view input = piece;
    while (true) {
      const PsyncMaster::Event event = master.Next(input, out);
      input = {};
      if (event.kind == PsyncMaster::Kind::kNeedMore) break;
      story += std::to_string(static_cast<int>(event.kind)) + " " + event.replid + " " +
               (event.position ? std::to_string(event.position->value()) : "none") + " " +
               event.text + "\n";
      if (event.kind == PsyncMaster::Kind::kClose) return story + out;
      if (event.kind != PsyncMaster::Kind::kAsk) continue;
      const int answer = answers % 3;
      answers /= 3;
      out += answer == 0   ? master.Later()
             : answer == 1 ? master.Continue("replid")
                           : master.FullResync("replid", Position(7), 20);
    }
  }
  return story + out;
}

std::string ReplicaStory(const std::vector<std::string_view>& pieces,
                         const redis::ReplicaHello& hello, bool partial) {
  PsyncReplica replica(hello);
  std::string story = replica.Hello();
  auto last = PsyncReplica::Kind::kNeedMore;
  for (std::string_view piece : pieces) {
    std::string_view input = piece;
    while (true) {
      const PsyncReplica::Event event = replica.Next(input);
      if (event.kind == PsyncReplica::Kind::kNeedMore) {
        FUZZ_CHECK(input.empty());
        break;
      }
      const bool bytes = event.kind == PsyncReplica::Kind::kStream ||
                         event.kind == PsyncReplica::Kind::kSnapshotBytes;
      FUZZ_CHECK(bytes == !event.bytes.empty());
      if (!bytes || event.kind != last) {
        story += "\n" + std::to_string(static_cast<int>(event.kind)) + " " + event.replid + " " +
                 std::to_string(event.position.value()) + " " + std::to_string(event.length) + " " +
                 event.text;
      }
      story += event.bytes;
      last = event.kind;
      if (event.kind == PsyncReplica::Kind::kReady) {
        story += replica.Ask("replid", partial ? std::optional(Position(5)) : std::nullopt, false);
      }
    }
  }
  return story;
}

uint64_t SlowCrc64(std::string_view bytes) {
  uint64_t crc = 0;
  for (char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x95AC9329AC4BC9B5 : 0);
  }
  return crc;
}

// `file` is taken for an RDB; with `mended` its end is made right first.
void CheckRdb(std::string file, uint16_t seed, bool mended) {
  if (file.empty()) return;
  if (mended && file.size() >= 18) {
    file[file.size() - 9] = '\xFF';
    const uint64_t crc = SlowCrc64(std::string_view(file).substr(0, file.size() - 8));
    for (size_t i = 0; i < 8; ++i) file[file.size() - 8 + i] = static_cast<char>(crc >> (8 * i));
  }
  FUZZ_CHECK(redis::Crc64(0, file) == SlowCrc64(file));
  RdbCheck whole(file.size(), 10), cut(file.size(), 10);
  std::string whole_out, cut_out;
  const RdbCheck::Verdict verdict = whole.Feed(file, whole_out);
  RdbCheck::Verdict last = RdbCheck::Verdict::kMore;
  for (std::string_view piece : Pieces(file, seed)) {
    last = cut.Feed(piece, cut_out);
    if (last == RdbCheck::Verdict::kBad) break;
  }
  FUZZ_CHECK(last == verdict && cut_out == whole_out && cut.error() == whole.error());
  FUZZ_CHECK(file.starts_with(whole_out));
  // The end is held back until everything before it is known to be right.
  FUZZ_CHECK((verdict == RdbCheck::Verdict::kGood) == (whole_out.size() == file.size()));
  FUZZ_CHECK((verdict == RdbCheck::Verdict::kBad) == !whole.error().empty());
}

void ParseTexts(const std::string& text) {
  redis::ResumePointOf(redis::ParseInfo(text));
  redis::IsFromChain(redis::ParseInfo(text));
  redis::CountKeys(text);
  redis::ParseClientList(text);
  redis::ParseRole(text);
  redis::RdbVersionOfDump(text);
  redis::RdbVersionOfRelease(text);
  redis::IsPredecessorsName(text, "node", Incarnation(7));
  backend::Limits limits;
  for (std::string_view name : redis::kLimitSettings) redis::TakeSetting(name, text, limits);
}

}  // namespace
}  // namespace catena::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace catena::fuzz;
  FuzzedDataProvider provider(data, size);
  const int part = provider.ConsumeIntegral<uint8_t>() % 4;
  const auto choices = provider.ConsumeIntegral<uint8_t>();
  const auto seed = provider.ConsumeIntegral<uint16_t>();
  const std::string input = provider.ConsumeRemainingBytesAsString();
  const auto pieces = Pieces(input, seed);
  if (part == 0) {
    FUZZ_CHECK(MasterStory(pieces, choices) == MasterStory({input}, choices));
  } else if (part == 1) {
    catena::redis::ReplicaHello hello;
    if (choices & 1) hello.run_id = "a1";
    if (choices & 2) hello.password = "password";
    if (choices & 4) hello.rdb_only = hello.capa_eof = true;
    const bool partial = choices & 8;
    FUZZ_CHECK(ReplicaStory(pieces, hello, partial) == ReplicaStory({input}, hello, partial));
  } else if (part == 2) {
    CheckRdb(input, seed, choices & 1);
  } else {
    ParseTexts(input);
  }
  return 0;
}
