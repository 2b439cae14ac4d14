// Cuts the effect stream into whole entries (effects.h): one command, or one MULTI ... EXEC.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/ids.h"
#include "proxy/base/result.h"
#include "proxy/resp/decoder.h"

namespace catena::rocks {

class EntryCutter {
 public:
  struct Handler {
    virtual ~Handler() = default;
    // A whole entry that begins at `start`, and the keys it writes (not those it flushes).
    virtual Result<void> OnEntry(std::string_view entry, Position start,
                                 const std::vector<std::string_view>& keys) = 0;
  };

  // The stream goes on at `start`, an entry's beginning.
  void Reset(Position start);
  // Where the next whole entry begins.
  Position border() const { return border_; }
  // The next bytes. What is cut is kept, and given out when its rest comes. An Error: the
  // handler's, or that these are no entries.
  Result<void> Feed(std::string_view bytes, Handler& handler);

 private:
  // Entries at the front of `bytes`; returns how many bytes they have.
  Result<size_t> Cut(std::string_view bytes, Handler& handler);

  Position border_;
  std::string rest_;   // of a cut entry
  size_t wanted_ = 0;  // bytes that `rest_` must have before another look helps
  resp::CommandDecoder decoder_;
  resp::Command command_;
  std::vector<std::string_view> keys_;
};

}  // namespace catena::rocks
