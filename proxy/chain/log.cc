#include "proxy/chain/log.h"

#include <algorithm>

#include "proxy/base/check.h"
#include "proxy/base/mutant.h"

namespace catena::chain {
namespace {

// Large enough that a block is one write of several, small enough that trimming is fine-grained.
constexpr size_t kBlockBytes = 256u << 10;

}  // namespace

void Log::Reset(Position start) {
  start_ = end_ = staged_end_ = start;
  blocks_.clear();
  versions_.clear();
  touches_.clear();
  every_key_version_ = forgotten_ = start;
}

void Log::Append(std::string_view bytes) {
  while (!bytes.empty()) {
    if (blocks_.empty() || blocks_.back().data->size() == blocks_.back().data->capacity()) {
      auto data = std::make_shared<std::string>();
      data->reserve(kBlockBytes);
      blocks_.push_back(Block{staged_end_, std::move(data)});
    }
    std::string& data = *blocks_.back().data;
    size_t count = std::min(bytes.size(), data.capacity() - data.size());
    data.append(bytes.substr(0, count));
    bytes.remove_prefix(count);
    staged_end_ = staged_end_ + count;
  }
}

void Log::Seal(const Entry& entry) {
  CATENA_CHECK(entry.end > end_ && entry.end <= staged_end_,
               "an entry ends inside the staged bytes");
  end_ = entry.end;
  if (entry.touches_every_key && !CATENA_MUTANT("flush-touches-nothing"))
    every_key_version_ = entry.end;
  for (uint64_t key_hash : entry.key_hashes) {
    if (CATENA_MUTANT("second-key-forgotten") && key_hash != entry.key_hashes[0]) continue;
    versions_[key_hash] = entry.end;
    touches_.push_back(Touch{entry.end, key_hash});
  }
}

std::string_view Log::Staged(Position upto, std::string& scratch) const {
  CATENA_CHECK(upto >= end_ && upto <= staged_end_, "staged bytes are there");
  const auto bytes = [&](Position from) -> std::string_view {
    const Block& block = BlockOf(from);
    const size_t offset = static_cast<size_t>(from - block.start);
    const size_t count = std::min(block.data->size() - offset, static_cast<size_t>(upto - from));
    return std::string_view(*block.data).substr(offset, count);
  };
  if (upto == end_) return {};
  const std::string_view first = bytes(end_);
  if (end_ + first.size() == upto) return first;
  scratch.assign(first);
  while (end_ + scratch.size() < upto) scratch += bytes(end_ + scratch.size());
  return scratch;
}

void Log::DropStaged() {
  while (!blocks_.empty() && staged_end_ > end_) {
    Block& last = blocks_.back();
    if (last.start >= end_) {
      staged_end_ = last.start;
      blocks_.pop_back();
      continue;
    }
    // Views into the kept part may still be on their way to a socket: do not touch the block,
    // close it and continue in a fresh copy of what lies behind the last shared byte.
    auto data = std::make_shared<std::string>();
    data->reserve(kBlockBytes);
    data->assign(*last.data, 0, static_cast<size_t>(end_ - last.start));
    last.data = std::move(data);
    staged_end_ = end_;
  }
  staged_end_ = end_;
}

const Log::Block& Log::BlockOf(Position position) const {
  auto behind = std::upper_bound(blocks_.begin(), blocks_.end(), position,
                                 [](Position p, const Block& block) { return p < block.start; });
  return *std::prev(behind);
}

std::optional<Log::Slice> Log::Read(Position from, Position limit, size_t max) const {
  CATENA_CHECK(limit <= end_, "only complete entries are read");
  if (from < start_ || from > limit) return std::nullopt;
  if (from == limit) return Slice{};
  const Block& block = BlockOf(from);
  size_t offset = static_cast<size_t>(from - block.start);
  size_t count = std::min({max, block.data->size() - offset, static_cast<size_t>(limit - from)});
  return Slice{block.data, std::string_view(*block.data).substr(offset, count)};
}

Position Log::VersionOf(std::span<const uint64_t> key_hashes) const {
  Position version = std::max(forgotten_, every_key_version_);
  for (uint64_t key_hash : key_hashes) {
    if (auto found = versions_.find(key_hash); found != versions_.end()) {
      version = std::max(version, found->second);
    }
  }
  return version;
}

void Log::Forget(Position upto) {
  while (!touches_.empty() && touches_.front().end <= upto) {
    auto found = versions_.find(touches_.front().key_hash);
    if (found != versions_.end() && found->second <= upto) versions_.erase(found);
    touches_.pop_front();
  }
  forgotten_ = std::max(forgotten_, std::min(upto, end_));
}

void Log::Trim(Position upto) {
  upto = std::min(upto, end_);
  while (!blocks_.empty()) {
    const Block& first = blocks_.front();
    if (first.start + first.data->size() > upto || first.data->size() < first.data->capacity())
      break;
    start_ = first.start + first.data->size();
    blocks_.pop_front();
  }
}

}  // namespace catena::chain
