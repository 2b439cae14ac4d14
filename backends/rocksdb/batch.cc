#include "backends/rocksdb/batch.h"

#include <rocksdb/comparator.h>
#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>

#include "proxy/base/check.h"
#include "proxy/base/free_memory.h"

namespace catena::rocks {
namespace {

// A buffer that one huge batch has grown is given back above this.
constexpr size_t kWarmBytesMax = 1u << 20;

rocksdb::Slice SliceOf(std::string_view bytes) { return {bytes.data(), bytes.size()}; }
std::string_view ViewOf(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

// Names number 1 to a WriteBatch: of a family there is nothing else that a batch asks for.
class DeadlineFamily : public rocksdb::ColumnFamilyHandle {
 public:
  const std::string& GetName() const override { return name_; }
  uint32_t GetID() const override { return kDeadlineFamily; }
  rocksdb::Status GetDescriptor(rocksdb::ColumnFamilyDescriptor*) override {
    return rocksdb::Status::NotSupported("only a number");
  }
  const rocksdb::Comparator* GetComparator() const override {
    return rocksdb::BytewiseComparator();
  }

 private:
  std::string name_ = "deadlines";
};

// A WriteBatch whose memory is used again.
class ReusedBatch : public rocksdb::WriteBatch {
 public:
  void Trim() {
    if (rep_.capacity() > kWarmBytesMax) FreeMemory(rep_);
    Clear();
  }
};

class Reader : public rocksdb::WriteBatch::Handler {
 public:
  explicit Reader(const std::function<void(const Change&)>& on_change) : on_change_(on_change) {}

  rocksdb::Status PutCF(uint32_t family, const rocksdb::Slice& key,
                        const rocksdb::Slice& value) override {
    if (family == kDeadlineFamily) return TakeDeadline(ViewOf(key), ViewOf(value));
    if (family != kValueFamily) return Wrong("another column family");
    TellPending();
    pending_ = Change{.key = ViewOf(key), .value = ViewOf(value)};
    return rocksdb::Status::OK();
  }
  rocksdb::Status DeleteCF(uint32_t family, const rocksdb::Slice& key) override {
    if (family != kValueFamily) return Wrong("a deletion in another column family");
    TellPending();
    on_change_(Change{.key = ViewOf(key), .value = std::nullopt});
    return rocksdb::Status::OK();
  }
  rocksdb::Status SingleDeleteCF(uint32_t, const rocksdb::Slice&) override {
    return Wrong("a single deletion");
  }
  rocksdb::Status MergeCF(uint32_t, const rocksdb::Slice&, const rocksdb::Slice&) override {
    return Wrong("a merge");
  }
  // These must succeed: a RocksDB that is built with assertions insists on it.
  void LogData(const rocksdb::Slice&) override { is_foreign_ = true; }
  rocksdb::Status MarkBeginPrepare(bool) override { return MarkForeign(); }
  rocksdb::Status MarkEndPrepare(const rocksdb::Slice&) override { return MarkForeign(); }
  rocksdb::Status MarkNoop(bool) override { return MarkForeign(); }
  rocksdb::Status MarkRollback(const rocksdb::Slice&) override { return MarkForeign(); }
  rocksdb::Status MarkCommit(const rocksdb::Slice&) override { return MarkForeign(); }
  rocksdb::Status MarkCommitWithTimestamp(const rocksdb::Slice&, const rocksdb::Slice&) override {
    return MarkForeign();
  }
  bool Continue() override { return !is_foreign_; }

  // Behind the last one.
  rocksdb::Status Finish() {
    if (is_foreign_) return Wrong("marks of a transaction's log");
    TellPending();
    return rocksdb::Status::OK();
  }

 private:
  static rocksdb::Status Wrong(const char* what) { return rocksdb::Status::NotSupported(what); }

  rocksdb::Status MarkForeign() {
    is_foreign_ = true;
    return rocksdb::Status::OK();
  }

  rocksdb::Status TakeDeadline(std::string_view key, std::string_view value) {
    const auto deadline_ms = ReadDeadline(value);
    if (!deadline_ms) return Wrong("a deadline that is none");
    if (!pending_ || pending_->key != key) return Wrong("a deadline without its value");
    pending_->deadline_ms = *deadline_ms;
    TellPending();
    return rocksdb::Status::OK();
  }

  void TellPending() {
    if (pending_) on_change_(*pending_);
    pending_.reset();
  }

  const std::function<void(const Change&)>& on_change_;
  std::optional<Change> pending_;  // a value, the deadline of which may follow
  bool is_foreign_ = false;        // it has records that are no changes at all
};

}  // namespace

void AppendDeadline(int64_t deadline_ms, std::string& out) {
  CATENA_CHECK(deadline_ms >= 0, "a deadline is a time since 1970");
  for (size_t i = kDeadlineBytes; i-- > 0;) {
    out.push_back(static_cast<char>(static_cast<uint64_t>(deadline_ms) >> 8 * i));
  }
}

std::optional<int64_t> ReadDeadline(std::string_view bytes) {
  if (bytes.size() != kDeadlineBytes || static_cast<uint8_t>(bytes[0]) > 0x7f) return std::nullopt;
  uint64_t value = 0;
  for (char byte : bytes) value = value << 8 | static_cast<uint8_t>(byte);
  return static_cast<int64_t>(value);
}

void Serialize(std::span<const Change> changes, std::string& out) {
  thread_local DeadlineFamily deadlines;
  thread_local ReusedBatch batch;
  thread_local std::string deadline;
  rocksdb::Status status;
  for (const Change& change : changes) {
    if (!change.value) {
      status = batch.Delete(SliceOf(change.key));
    } else {
      status = batch.Put(SliceOf(change.key), SliceOf(*change.value));
      if (status.ok() && change.deadline_ms != Item::kNoDeadline) {
        deadline.clear();
        AppendDeadline(change.deadline_ms, deadline);
        status = batch.Put(&deadlines, SliceOf(change.key), deadline);
      }
    }
    // Only a key or value of 4 GB is refused, and no command brings one.
    CATENA_CHECK(status.ok(), status.ToString());
  }
  out += batch.Data();
  batch.Trim();
}

Result<void> ReadSerialized(std::string_view serialized,
                            const std::function<void(const Change&)>& on_change) {
  const rocksdb::WriteBatch batch{std::string(serialized)};
  Reader reader(on_change);
  rocksdb::Status status = batch.Iterate(&reader);
  if (status.ok()) status = reader.Finish();
  if (status.ok()) return {};
  return Fail("not a batch of changes, of " + std::to_string(serialized.size()) +
              " bytes: " + status.ToString());
}

}  // namespace catena::rocks
