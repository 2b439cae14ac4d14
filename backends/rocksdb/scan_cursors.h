// Where the scans of SCAN stand. A cursor names a scan and a step of it, and this table tells behind
// which key that step goes on: keys have an order and no number, so no number alone tells a place
// that stays right while keys come and go.
//
// What SCAN promises holds: each step goes on behind the last key of the step before, so a key that
// is there all the time is passed exactly once, whatever comes and goes around it. A cursor that the
// table does not know (it holds the last kScansMax scans, two steps of each, so that a client may ask
// a step again; nothing outlives the process, and each node has its own) starts again from the first
// key: keys then come twice, which SCAN allows, and none is left out, as an answer from anywhere else
// would. Cursors fit 53 bits, for clients whose numbers are doubles. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace catena::rocks {

class ScanCursors {
 public:
  static constexpr size_t kScansMax = 1024;
  // Of the keys remembered; the scan that came last is remembered in any case.
  static constexpr size_t kBytesMax = 4u << 20;

  // The key behind which `cursor` goes on, valid until Advance; nullopt: the first key.
  std::optional<std::string_view> Find(uint64_t cursor) const;
  // The cursor for what comes behind `key`, after a step that was asked with `cursor`. `random`
  // names the scan if this is its first step.
  uint64_t Advance(uint64_t cursor, std::string_view key, uint64_t random);

  size_t size() const { return scans_.size(); }

 private:
  struct Scan {
    uint64_t name = 0;
    uint64_t step = 0;  // of the newest cursor
    uint64_t used = 0;  // when, counted in steps of all
    std::string newest, former;
  };

  // The index of the cursor's scan; scans_.size(): it is not known.
  size_t IndexOf(uint64_t cursor) const;
  Scan& Begin(uint64_t random);
  void Forget();

  std::vector<Scan> scans_;
  uint64_t uses_ = 0;
  size_t bytes_ = 0;
};

}  // namespace catena::rocks
