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

// Reads serialized bytes in place. Not WriteBatch::Iterate: a RocksDB that is built with assertions,
// as Debian's is, ends the process at some kinds of wrong bytes.
class Reader {
 public:
  Reader(std::string_view serialized, const std::function<void(const Change&)>& on_change)
      : rest_(serialized), on_change_(on_change) {}

  // nullptr: all was right; otherwise what is wrong.
  const char* Read() {
    if (rest_.size() < kHeadBytes) return "it is cut";
    uint64_t count = 0;
    for (size_t i = kHeadBytes; i-- > kSequenceBytes;) {
      count = count << 8 | static_cast<uint8_t>(rest_[i]);
    }
    rest_.remove_prefix(kHeadBytes);
    for (; !rest_.empty(); --count) {
      if (count == 0) return "it has more changes than it says";
      if (const char* wrong = ReadRecord()) return wrong;
    }
    TellPending();
    return count == 0 ? nullptr : "it has fewer changes than it says";
  }

 private:
  const char* ReadRecord() {
    const auto tag = static_cast<uint8_t>(rest_[0]);
    rest_.remove_prefix(1);
    if (tag == kPutInFamily) return ReadDeadlineRecord();
    if (tag != kDelete && tag != kPut) return "it has other records than of changes";
    Change change;
    if (!TakeBytes(change.key)) return "it is cut";
    std::string_view value;
    if (tag == kPut) {
      if (!TakeBytes(value)) return "it is cut";
      change.value = value;
    }
    TellPending();
    pending_ = change;
    return nullptr;
  }

  // Behind its value, and only there.
  const char* ReadDeadlineRecord() {
    uint32_t family = 0;
    std::string_view key, value;
    if (!TakeNumber(family) || !TakeBytes(key) || !TakeBytes(value)) return "it is cut";
    if (family != kDeadlineFamily) return "it is of another column family";
    const auto deadline_ms = ReadDeadline(value);
    if (!deadline_ms) return "it has a deadline that is none";
    if (!pending_ || !pending_->value || pending_->key != key ||
        pending_->deadline_ms != Item::kNoDeadline) {
      return "it has a deadline without its value";
    }
    pending_->deadline_ms = *deadline_ms;
    return nullptr;
  }

  void TellPending() {
    if (pending_) on_change_(*pending_);
    pending_.reset();
  }

  // 7 bits a byte, the lowest first, the top bit saying that more follow.
  bool TakeNumber(uint32_t& number) {
    uint64_t value = 0;
    for (int shift = 0; shift <= 28 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<uint8_t>(rest_[0]);
      rest_.remove_prefix(1);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) {
        number = static_cast<uint32_t>(value);
        return value <= UINT32_MAX;
      }
    }
    return false;
  }

  bool TakeBytes(std::string_view& bytes) {
    uint32_t size = 0;
    if (!TakeNumber(size) || size > rest_.size()) return false;
    bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return true;
  }

  static constexpr size_t kSequenceBytes = 8, kHeadBytes = 12;  // sequence number, count
  static constexpr uint8_t kDelete = 0, kPut = 1, kPutInFamily = 5;

  std::string_view rest_;
  const std::function<void(const Change&)>& on_change_;
  std::optional<Change> pending_;  // one, the deadline of which may follow
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
  const char* wrong = Reader(serialized, on_change).Read();
  if (wrong == nullptr) return {};
  return Fail("not a batch of changes, of " + std::to_string(serialized.size()) +
              " bytes: " + wrong);
}

}  // namespace catena::rocks
