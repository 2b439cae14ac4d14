// What a serialized batch (store.h) holds: a rocksdb::WriteBatch, the form that RocksDB's own log
// has, too. One change is one of
//
//   Put(0, key, value)                         no deadline, whatever it had before
//   Put(0, key, value) Put(1, key, deadline)   deadline: 8 bytes, big endian, ms since 1970
//   Delete(0, key)                             its deadline goes with it
//
// and nothing else is allowed: whoever applies it knows of each key what it is then, alone.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "backends/rocksdb/store.h"
#include "proxy/base/result.h"

namespace catena::rocks {

inline constexpr uint32_t kValueFamily = 0, kDeadlineFamily = 1;

// Tells the changes in order; they are valid during the call. An Error, at whatever bytes: it is no
// such batch; the changes before the wrong one have been told.
Result<void> ReadSerialized(std::string_view serialized,
                            const std::function<void(const Change&)>& on_change);

inline constexpr size_t kDeadlineBytes = 8;
// Big endian, so that the order of bytes is the order of time. `deadline_ms` is not negative.
void AppendDeadline(int64_t deadline_ms, std::string& out);
std::optional<int64_t> ReadDeadline(std::string_view bytes);

}  // namespace catena::rocks
