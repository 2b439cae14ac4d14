#include "backends/rocksdb/rocks_store_copy.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <utility>

#include "backends/rocksdb/rocks_store_bytes.h"
#include "backends/rocksdb/rocks_store_files.h"

namespace catena::rocks {
namespace {

constexpr std::string_view kMagic = "CATENADB";
constexpr size_t kLengthBytes = 4;
constexpr size_t kChecksumBytes = 8;
constexpr size_t kHeadStartBytes = kMagic.size() + kLengthBytes;
// Room for a million files.
constexpr uint64_t kHeadBytesMax = 64u << 20;
constexpr uint64_t kFileBytesMax = uint64_t{1} << 50;

uint64_t BlocksOf(uint64_t size) { return (size + kCopyBlockBytes - 1) / kCopyBlockBytes; }
uint64_t StreamBytes(uint64_t size) { return size + BlocksOf(size) * kChecksumBytes; }

void AppendChecksum(std::string& bytes, uint64_t seed) {
  ByteWriter out;
  out.Number(XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed));
  bytes += out.bytes;
}

bool HasRightChecksum(std::string_view bytes, uint64_t seed) {
  const size_t size = bytes.size() - kChecksumBytes;
  return ByteReader(bytes.substr(size)).Number() == XXH3_64bits_withSeed(bytes.data(), size, seed);
}

// Of a head whose checksum is right; it may still come from somebody who means harm.
Result<CopyHead> DecodeHead(std::string_view bytes) {
  ByteReader in(bytes.substr(kHeadStartBytes, bytes.size() - kHeadStartBytes - kChecksumBytes));
  CopyHead head;
  head.number = in.Number();
  std::set<std::string> names;
  for (uint64_t count = in.Number(kLengthBytes); count > 0 && in.ok(); --count) {
    CopiedFile file;
    file.name = in.Text();
    file.size = in.Number();
    if (!in.ok()) break;
    if (!IsDataFile(file.name)) return Fail("it has a file that is none of RocksDB's");
    if (file.size > kFileBytesMax) return Fail("its file " + file.name + " is too large");
    if (!names.insert(file.name).second) return Fail("it has the file " + file.name + " twice");
    head.files.push_back(std::move(file));
  }
  if (!in.ok() || !in.AtEnd()) return Fail("its list of files is damaged");
  if (!names.contains("CURRENT")) return Fail("it has no CURRENT");
  return head;
}

}  // namespace

std::string EncodeCopyHead(const CopyHead& head) {
  ByteWriter list;
  list.Number(head.number);
  list.Number(head.files.size(), kLengthBytes);
  for (const CopiedFile& file : head.files) {
    list.Text(file.name);
    list.Number(file.size);
  }
  ByteWriter out;
  out.bytes = kMagic;
  out.Number(kHeadStartBytes + list.bytes.size() + kChecksumBytes, kLengthBytes);
  out.bytes += list.bytes;
  AppendChecksum(out.bytes, 0);
  return std::move(out.bytes);
}

uint64_t CopyBytes(const CopyHead& head) {
  uint64_t bytes = EncodeCopyHead(head).size();
  for (const CopiedFile& file : head.files) bytes += StreamBytes(file.size);
  return bytes;
}

// ---- Going out ----

Result<std::unique_ptr<Checkpoint>> DirectoryCheckpoint::Make(rocksdb::Env* env,
                                                              std::string directory, Place place,
                                                              std::string name) {
  std::unique_ptr<DirectoryCheckpoint> checkpoint(
      new DirectoryCheckpoint(env, std::move(directory), std::move(place), std::move(name)));
  if (auto listed = checkpoint->List(); !listed) return tl::unexpected(listed.error());
  return checkpoint;
}

DirectoryCheckpoint::~DirectoryCheckpoint() {
  file_.reset();
  // What cannot be removed now is when the database is opened the next time.
  (void)RemoveDirectory(env_, directory_);
}

Result<void> DirectoryCheckpoint::List() {
  std::vector<std::string> names;
  const auto listed = ToResult(env_->GetChildren(directory_, &names), "list " + directory_);
  if (!listed) return listed;
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    if (!IsDataFile(name)) continue;
    CopiedFile file{name};
    const std::string path = directory_ + "/" + name;
    const auto sized = ToResult(env_->GetFileSize(path, &file.size), "read " + path);
    if (!sized) return sized;
    head_.files.push_back(std::move(file));
  }
  std::random_device random;
  head_.number = uint64_t{random()} << 32 | random();
  block_ = EncodeCopyHead(head_);
  bytes_ = block_.size();
  for (const CopiedFile& file : head_.files) {
    begins_.push_back(bytes_);
    bytes_ += StreamBytes(file.size);
  }
  return {};
}

Result<void> DirectoryCheckpoint::Read(uint64_t offset, size_t max, std::string& out) {
  out.clear();
  if (offset > bytes_) {
    return Fail("offset " + std::to_string(offset) + " is behind the copy's end at " +
                std::to_string(bytes_));
  }
  while (offset < bytes_ && out.size() < max) {
    if (offset < block_begin_ || offset - block_begin_ >= block_.size()) {
      if (auto loaded = LoadBlock(offset); !loaded) return loaded;
    }
    const size_t size = out.size();
    out.append(block_, offset - block_begin_, max - size);
    offset += out.size() - size;
  }
  return {};
}

// The block around `offset`, or the head.
Result<void> DirectoryCheckpoint::LoadBlock(uint64_t offset) {
  if (begins_.empty() || offset < begins_[0]) {
    block_ = EncodeCopyHead(head_);
    block_begin_ = 0;
    return {};
  }
  // The last file that begins there or before, empty ones passed over.
  const size_t at = static_cast<size_t>(std::upper_bound(begins_.begin(), begins_.end(), offset) -
                                        begins_.begin() - 1);
  const uint64_t block = (offset - begins_[at]) / (kCopyBlockBytes + kChecksumBytes);
  const uint64_t done = block * kCopyBlockBytes;
  const size_t size = std::min<uint64_t>(kCopyBlockBytes, head_.files[at].size - done);
  if (auto read = ReadFile(head_.files[at], done, size); !read) return read;
  block_begin_ = begins_[at] + block * (kCopyBlockBytes + kChecksumBytes);
  AppendChecksum(block_, head_.number + block_begin_);
  return {};
}

Result<void> DirectoryCheckpoint::ReadFile(const CopiedFile& file, uint64_t offset, size_t size) {
  const std::string path = directory_ + "/" + file.name;
  if (file_name_ != file.name || !file_) {
    const auto opened = ToResult(env_->NewRandomAccessFile(path, &file_, {}), "open " + path);
    if (!opened) return opened;
    file_name_ = file.name;
  }
  block_.resize(size);
  rocksdb::Slice read;
  const auto done = ToResult(file_->Read(offset, size, &read, block_.data()), "read " + path);
  if (!done) return done;
  if (read.size() != size) return Fail("cannot read " + path + ": it has become shorter");
  if (read.data() != block_.data()) std::memcpy(block_.data(), read.data(), size);
  return {};
}

// ---- Coming in ----

Result<void> IncomingFiles::Begin() {
  if (auto removed = RemoveDirectory(env_, directory_); !removed) return removed;
  return ToResult(env_->CreateDir(directory_), "make " + directory_);
}

Result<void> IncomingFiles::Write(std::string_view bytes) {
  if (broken_) return Fail("the copy cannot go on: writing it has failed before");
  if (bytes.size() > bytes_ - received()) {
    return Fail("the copy has more than the " + std::to_string(bytes_) +
                " bytes that it was said to have");
  }
  while (!bytes.empty()) {
    const size_t taken = std::min(bytes.size(), WantedBytes() - pending_.size());
    pending_ += bytes.substr(0, taken);
    bytes.remove_prefix(taken);
    if (pending_.size() < WantedBytes()) continue;
    if (auto done = TakePending(); !done) {
      pending_.clear();
      if (broken_) return done;
      return Fail("the copy is damaged at byte " + std::to_string(checked_) + ": " +
                  done.error().message);
    }
  }
  return {};
}

// All of the head or block under way, as far as it is known.
size_t IncomingFiles::WantedBytes() const {
  if (has_head_) {
    return kChecksumBytes +
           std::min<uint64_t>(kCopyBlockBytes, head_.files[file_at_].size - file_done_);
  }
  if (pending_.size() < kHeadStartBytes) return kHeadStartBytes;
  const uint64_t head =
      ByteReader(std::string_view(pending_).substr(kMagic.size())).Number(kLengthBytes);
  return head <= kHeadBytesMax ? head : kHeadStartBytes;  // which is then found to be wrong
}

Result<void> IncomingFiles::TakePending() {
  auto taken = has_head_ ? TakeBlock() : TakeHead();
  if (!taken) return taken;
  checked_ += pending_.size();
  pending_.clear();
  return {};
}

Result<void> IncomingFiles::TakeHead() {
  if (!pending_.starts_with(kMagic)) return Fail("it is no copy of a RocksDB");
  const size_t size = WantedBytes();
  if (size < kHeadStartBytes + kLengthBytes + kChecksumBytes) {
    return Fail("its list of files has a wrong length");
  }
  if (!HasRightChecksum(pending_, 0)) return Fail("the checksum of its list of files is wrong");
  auto head = DecodeHead(pending_);
  if (!head) return tl::unexpected(head.error());
  if (CopyBytes(*head) != bytes_) return Fail("its files are not as long as it was said to be");
  head_ = *std::move(head);
  has_head_ = true;
  return CloseFullFiles();
}

Result<void> IncomingFiles::TakeBlock() {
  const CopiedFile& file = head_.files[file_at_];
  if (!HasRightChecksum(pending_, head_.number + checked_)) {
    return Fail("the checksum is wrong in its file " + file.name);
  }
  rocksdb::Status status;
  if (!file_) status = env_->NewWritableFile(directory_ + "/" + file.name, &file_, {});
  const size_t size = pending_.size() - kChecksumBytes;
  if (status.ok()) status = file_->Append({pending_.data(), size});
  if (auto written = Written(status); !written) return written;
  file_done_ += size;
  return CloseFullFiles();
}

// The file that has all its bytes, and empty ones behind it.
Result<void> IncomingFiles::CloseFullFiles() {
  while (file_at_ < head_.files.size() && file_done_ == head_.files[file_at_].size) {
    rocksdb::Status status;
    if (!file_) {
      status = env_->NewWritableFile(directory_ + "/" + head_.files[file_at_].name, &file_, {});
    }
    if (status.ok()) status = file_->Sync();
    if (status.ok()) status = file_->Close();
    if (auto closed = Written(status); !closed) return closed;
    file_.reset();
    file_done_ = 0;
    ++file_at_;
  }
  return {};
}

Result<void> IncomingFiles::Written(const rocksdb::Status& status) {
  broken_ = broken_ || !status.ok();
  return ToResult(status, "write " + directory_ + "/" + head_.files[file_at_].name);
}

}  // namespace catena::rocks
