#include "backends/rocksdb/entry_cutter.h"

#include <algorithm>

#include "proxy/base/free_memory.h"

namespace catena::rocks {
namespace {

// What a head could execute it may send; limits only tell garbage from numbers.
constexpr resp::Limits kStreamLimits{.bulk_bytes_max = size_t{1} << 40,
                                     .elements_max = size_t{1} << 31,
                                     .command_bytes_max = size_t{1} << 41};
constexpr size_t kKeptRestBytes = 1u << 20;

}  // namespace

void EntryCutter::Reset(Position start) {
  border_ = start;
  FreeMemory(rest_);
  wanted_ = 0;
}

Result<size_t> EntryCutter::Cut(std::string_view bytes, Handler& handler) {
  size_t done = 0;  // whole entries
  size_t at = 0;    // whole commands
  bool in_transaction = false;
  keys_.clear();
  // What an earlier cut wanted says nothing of one between two commands of a transaction.
  wanted_ = 0;
  // Each call begins anew at an entry's beginning: what is cut is looked at again with its rest.
  decoder_ = resp::CommandDecoder(kStreamLimits);
  while (at < bytes.size()) {
    size_t consumed = 0;
    const auto progress = bytes[at] == '*' ? decoder_.Decode(bytes.substr(at), command_, consumed)
                                           : resp::Progress::kError;
    if (progress == resp::Progress::kNeedMore) {
      wanted_ = std::max(bytes.size() - done + 1, at - done + decoder_.bytes_wanted());
      break;
    }
    if (progress == resp::Progress::kError) {
      return Fail("no entry of the effect stream at position " + std::to_string(border_.value()));
    }
    at += consumed;
    const std::vector<std::string_view>& arguments = command_.arguments;
    if (arguments[0] == "MULTI") in_transaction = true;
    if (arguments[0] == "EXEC") in_transaction = false;
    if (arguments[0] == "CATENA.WRITE" && arguments.size() > 3) {
      keys_.insert(keys_.end(), arguments.begin() + 2, arguments.end() - 1);
    }
    if (in_transaction) continue;
    const std::string_view entry = bytes.substr(done, at - done);
    if (auto taken = handler.OnEntry(entry, border_, keys_); !taken) {
      return tl::unexpected(taken.error());
    }
    border_ = border_ + entry.size();
    done = at;
    keys_.clear();
  }
  return done;
}

Result<void> EntryCutter::Feed(std::string_view bytes, Handler& handler) {
  if (rest_.empty()) {
    const auto done = Cut(bytes, handler);
    if (!done) return tl::unexpected(done.error());
    rest_.assign(bytes.substr(*done));
    return {};
  }
  rest_.append(bytes);
  if (rest_.size() < wanted_) return {};
  const auto done = Cut(rest_, handler);
  if (!done) return tl::unexpected(done.error());
  rest_.erase(0, *done);
  if (rest_.empty() && rest_.capacity() > kKeptRestBytes) FreeMemory(rest_);
  return {};
}

}  // namespace catena::rocks
