// hiredis's reader as an independent opinion on RESP2.
#pragma once

#include <hiredis/hiredis.h>

#include <algorithm>
#include <memory>
#include <string_view>

namespace catena::fuzz {

using HiredisReply = std::unique_ptr<redisReply, void (*)(void*)>;

class HiredisReader {
 public:
  explicit HiredisReader(std::string_view input) : reader_(redisReaderCreate(), redisReaderFree) {
    redisReaderFeed(reader_.get(), input.data(), input.size());
  }

  enum class Outcome { kReply, kNeedMore, kError };
  Outcome Next(HiredisReply& reply) {
    void* raw = nullptr;
    if (redisReaderGetReply(reader_.get(), &raw) != REDIS_OK) return Outcome::kError;
    reply.reset(static_cast<redisReply*>(raw));
    return raw != nullptr ? Outcome::kReply : Outcome::kNeedMore;
  }
  size_t left() const { return reader_->len - reader_->pos; }

  // Whether it can judge the input: it allocates what the header of an array announces, however much
  // that is, and looks for LF behind a CR, where Redis takes any byte.
  static bool CanJudge(std::string_view input) {
    for (size_t i = 1; i < input.size(); ++i) {
      if (input[i - 1] == '\r' && input[i] != '\n') return false;
    }
    for (size_t star = input.find('*'); star != std::string_view::npos;
         star = input.find('*', star + 1)) {
      constexpr size_t kDigits = 5;
      const size_t end = input.find_first_not_of("0123456789", star + 1);
      if (std::min(end, input.size()) - star > kDigits + 1) return false;
    }
    return true;
  }

 private:
  std::unique_ptr<redisReader, void (*)(redisReader*)> reader_;
};

}  // namespace catena::fuzz
