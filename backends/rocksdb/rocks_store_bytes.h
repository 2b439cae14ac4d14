// The bytes of the Store's records and streams: little endian numbers, and texts behind a length
// byte.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "proxy/base/check.h"

namespace catena::rocks {

struct ByteWriter {
  void Byte(uint8_t value) { bytes.push_back(static_cast<char>(value)); }
  void Number(uint64_t value, size_t size = 8) {
    for (size_t i = 0; i < size; ++i) Byte(static_cast<uint8_t>(value >> 8 * i));
  }
  void Text(std::string_view text) {
    CATENA_CHECK(text.size() <= UINT8_MAX, "names are short");
    Byte(static_cast<uint8_t>(text.size()));
    bytes += text;
  }

  std::string bytes;
};

// Reads zeros and empty texts behind the end, and is then not ok().
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  uint8_t Byte() { return static_cast<uint8_t>(Number(1)); }
  uint64_t Number(size_t size = 8) {
    const std::string_view bytes = Take(size);
    uint64_t value = 0;
    for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
    return value;
  }
  std::string Text() { return std::string(Take(Byte())); }

  bool ok() const { return ok_; }
  bool AtEnd() const { return rest_.empty(); }

 private:
  std::string_view Take(size_t size) {
    ok_ = ok_ && size <= rest_.size();
    if (!ok_) return {};
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace catena::rocks
