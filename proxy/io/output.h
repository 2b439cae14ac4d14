// The unsent output of one stream: bytes that were copied in, and shared slices between them.
// Filled by the stream's owner during a turn, handed to the kernel as one gathered write at its
// end.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace catena::io {

class Output {
 public:
  void Append(std::string_view bytes) {
    text_.append(bytes);
    bytes_ += bytes.size();
  }
  // `bytes` lie in `*owner`, or in memory that it keeps alive.
  void AppendShared(std::shared_ptr<const std::string> owner, std::string_view bytes);

  size_t bytes() const { return bytes_; }
  bool empty() const { return bytes_ == 0; }

  // Describes the next bytes in at most `count_max` pieces; returns how many. `total` is their sum.
  size_t Gather(iovec* pieces, size_t count_max, size_t& total) const;
  // Forgets the first `count` bytes (<= bytes()); slices are released as they are used up.
  void Consume(size_t count);
  void Clear();

 private:
  struct Slice {
    size_t text_before;  // it comes behind this many bytes of text_
    std::shared_ptr<const std::string> owner;
    std::string_view bytes;
  };

  std::string text_;
  size_t text_sent_ = 0;
  std::vector<Slice> slices_;
  size_t slices_sent_ = 0;
  size_t bytes_ = 0;
};

}  // namespace catena::io
