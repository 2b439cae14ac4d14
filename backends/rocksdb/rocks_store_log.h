// Keeps a hole out of what is recovered from the write-ahead log. A power cut may take an older log
// file that was not synced and leave part of a newer one, and RocksDB would then recover what is
// behind the hole as well: its point in time is one only within a file. But every write of a Store
// carries its number in its StoreState (there is no other in between), so the hole is seen.
#pragma once

#include <rocksdb/wal_filter.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace catena::rocks {

// Writes of other programs pass: their numbers tell nothing.
class LogHoleFilter : public rocksdb::WalFilter {
 public:
  // `last_in_tables`: number of the last of the Store's writes that are in tables, not only in the
  // log.
  explicit LogHoleFilter(uint64_t last_in_tables) : last_in_tables_(last_in_tables) {}

  void ColumnFamilyLogNumberMap(const std::map<uint32_t, uint64_t>& log_numbers,
                                const std::map<std::string, uint32_t>& families) override;
  WalProcessingOption LogRecordFound(unsigned long long log_number, const std::string& log_name,
                                     const rocksdb::WriteBatch& batch,
                                     rocksdb::WriteBatch* new_batch, bool* is_changed) override;
  // None: the OPTIONS file would have it, and ask every program that opens the database for it.
  const char* Name() const override { return ""; }

 private:
  uint64_t last_in_tables_;
  std::optional<uint32_t> meta_;  // the family of StoreState
  std::optional<uint64_t> next_;  // behind the record before
};

// Lets nothing of the log through: then only what is in tables is seen.
class NoLogFilter : public rocksdb::WalFilter {
 public:
  WalProcessingOption LogRecordFound(unsigned long long, const std::string&,
                                     const rocksdb::WriteBatch&, rocksdb::WriteBatch*,
                                     bool*) override {
    return WalProcessingOption::kIgnoreCurrentRecord;
  }
  const char* Name() const override { return ""; }
};

}  // namespace catena::rocks
