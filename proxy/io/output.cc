#include "proxy/io/output.h"

#include <algorithm>

#include "proxy/base/check.h"
#include "proxy/base/free_memory.h"

namespace catena::io {
namespace {

// Below this a copy is cheaper than a piece of its own in the gathered write.
constexpr size_t kSharedBytesMin = 1024;
// Kept for the next turn when all is sent; more than that goes back to the heap, because there may
// be thousands of streams.
constexpr size_t kKeptTextBytes = 256u << 10;
constexpr size_t kKeptSlices = 64;

}  // namespace

void Output::AppendShared(std::shared_ptr<const std::string> owner, std::string_view bytes) {
  if (bytes.size() < kSharedBytesMin) return Append(bytes);
  slices_.push_back({text_.size(), std::move(owner), bytes});
  bytes_ += bytes.size();
}

size_t Output::Gather(iovec* pieces, size_t count_max, size_t& total) const {
  size_t count = 0;
  total = 0;
  const auto add = [&](const char* data, size_t size) {
    if (size == 0) return;
    pieces[count++] = {const_cast<char*>(data), size};
    total += size;
  };
  size_t text = text_sent_;
  for (size_t i = slices_sent_; i < slices_.size() && count < count_max; ++i) {
    const Slice& slice = slices_[i];
    add(text_.data() + text, slice.text_before - text);
    text = slice.text_before;
    if (count == count_max) return count;
    add(slice.bytes.data(), slice.bytes.size());
  }
  if (count < count_max) add(text_.data() + text, text_.size() - text);
  return count;
}

void Output::Consume(size_t count) {
  CATENA_CHECK(count <= bytes_, "no more is sent than there was");
  if (count == bytes_) return Clear();
  bytes_ -= count;
  while (count > 0) {
    const bool at_end = slices_sent_ == slices_.size();
    const size_t text_end = at_end ? text_.size() : slices_[slices_sent_].text_before;
    const size_t text = std::min(count, text_end - text_sent_);
    text_sent_ += text;
    count -= text;
    if (at_end || count == 0) continue;
    Slice& slice = slices_[slices_sent_];
    const size_t shared = std::min(count, slice.bytes.size());
    slice.bytes.remove_prefix(shared);
    count -= shared;
    if (!slice.bytes.empty()) continue;
    slice.owner.reset();
    ++slices_sent_;
  }
}

void Output::Clear() {
  text_.clear();
  slices_.clear();
  if (text_.capacity() > kKeptTextBytes) FreeMemory(text_);
  if (slices_.capacity() > kKeptSlices) FreeMemory(slices_);
  text_sent_ = slices_sent_ = bytes_ = 0;
}

}  // namespace catena::io
