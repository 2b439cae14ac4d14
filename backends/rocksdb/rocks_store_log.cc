#include "backends/rocksdb/rocks_store_log.h"

#include <rocksdb/write_batch.h>

#include "backends/rocksdb/rocks_store_bytes.h"
#include "backends/rocksdb/rocks_store_open.h"
#include "backends/rocksdb/rocks_store_state.h"

namespace catena::rocks {
namespace {

// Finds the StoreState of a record, if it has one; everything else in it is let be.
class StateFinder : public rocksdb::WriteBatch::Handler {
 public:
  explicit StateFinder(uint32_t meta) : meta_(meta) {}

  rocksdb::Status PutCF(uint32_t family, const rocksdb::Slice& key,
                        const rocksdb::Slice& value) override {
    if (family == meta_ && key == kStateKey) {
      const auto decoded = DecodeState({value.data(), value.size()});
      if (decoded) state = *decoded;
    }
    return rocksdb::Status::OK();
  }
  rocksdb::Status DeleteCF(uint32_t, const rocksdb::Slice&) override { return Pass(); }
  rocksdb::Status SingleDeleteCF(uint32_t, const rocksdb::Slice&) override { return Pass(); }
  rocksdb::Status DeleteRangeCF(uint32_t, const rocksdb::Slice&, const rocksdb::Slice&) override {
    return Pass();
  }
  rocksdb::Status MergeCF(uint32_t, const rocksdb::Slice&, const rocksdb::Slice&) override {
    return Pass();
  }
  rocksdb::Status PutEntityCF(uint32_t, const rocksdb::Slice&, const rocksdb::Slice&) override {
    return Pass();
  }
  rocksdb::Status PutBlobIndexCF(uint32_t, const rocksdb::Slice&, const rocksdb::Slice&) override {
    return Pass();
  }
  rocksdb::Status MarkBeginPrepare(bool) override { return Pass(); }
  rocksdb::Status MarkEndPrepare(const rocksdb::Slice&) override { return Pass(); }
  rocksdb::Status MarkNoop(bool) override { return Pass(); }
  rocksdb::Status MarkRollback(const rocksdb::Slice&) override { return Pass(); }
  rocksdb::Status MarkCommit(const rocksdb::Slice&) override { return Pass(); }
  rocksdb::Status MarkCommitWithTimestamp(const rocksdb::Slice&, const rocksdb::Slice&) override {
    return Pass();
  }

  std::optional<StoreState> state;

 private:
  static rocksdb::Status Pass() { return rocksdb::Status::OK(); }

  uint32_t meta_;
};

}  // namespace

void LogHoleFilter::ColumnFamilyLogNumberMap(const std::map<uint32_t, uint64_t>&,
                                             const std::map<std::string, uint32_t>& families) {
  const auto meta = families.find(kMetaFamily);
  if (meta != families.end()) meta_ = meta->second;
}

rocksdb::WalFilter::WalProcessingOption LogHoleFilter::LogRecordFound(
    unsigned long long, const std::string&, const rocksdb::WriteBatch& batch, rocksdb::WriteBatch*,
    bool*) {
  // A batch begins with the number of its first change.
  const uint64_t first = ByteReader(batch.Data()).Number();
  const uint64_t expected = next_.value_or(last_in_tables_ + 1);
  const bool is_behind_hole = next_ ? first != expected : first > expected;
  if (is_behind_hole && meta_) {
    StateFinder finder(*meta_);
    const bool is_read = batch.Iterate(&finder).ok();
    // The first write after opening may follow anything: another program's writes, too.
    if (is_read && finder.state && !finder.state->begins_session) {
      return WalProcessingOption::kStopReplay;
    }
  }
  next_ = first + batch.Count();
  return WalProcessingOption::kContinueProcessing;
}

}  // namespace catena::rocks
