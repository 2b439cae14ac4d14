// Whole copies of a database as a stream of bytes:
//
//   "CATENADB", 4 bytes: length of all of this head, 8 bytes: a random number of this copy, 4 bytes:
//   number of files, of each file its name (behind a length byte) and 8 bytes: its size;
//   8 bytes: XXH3 of the head
//   of each file in order: blocks of kCopyBlockBytes, the last one shorter, each with 8 bytes of
//   XXH3 behind it, seeded with the copy's number plus the block's place in the stream
//
// Numbers are little endian. So any piece can be made, and checked, without the rest, and pieces of
// two copies never make one.
#pragma once

#include <rocksdb/env.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backends/rocksdb/store.h"

namespace catena::rocks {

inline constexpr size_t kCopyBlockBytes = 1u << 20;

struct CopiedFile {
  std::string name;
  uint64_t size = 0;
};

struct CopyHead {
  uint64_t number = 0;
  std::vector<CopiedFile> files;
};

std::string EncodeCopyHead(const CopyHead& head);
// Of the whole stream.
uint64_t CopyBytes(const CopyHead& head);

// A directory of hard links, deleted with this.
class DirectoryCheckpoint : public Checkpoint {
 public:
  static Result<std::unique_ptr<Checkpoint>> Make(rocksdb::Env* env, std::string directory,
                                                  Place place, std::string name);
  ~DirectoryCheckpoint() override;

  const Place& place() const override { return place_; }
  const std::string& name() const override { return name_; }
  uint64_t bytes() const override { return bytes_; }
  Result<void> Read(uint64_t offset, size_t max, std::string& out) override;

 private:
  DirectoryCheckpoint(rocksdb::Env* env, std::string directory, Place place, std::string name)
      : env_(env),
        directory_(std::move(directory)),
        place_(std::move(place)),
        name_(std::move(name)) {}
  Result<void> List();
  Result<void> LoadBlock(uint64_t offset);
  Result<void> ReadFile(const CopiedFile& file, uint64_t offset, size_t size);

  rocksdb::Env* env_;
  std::string directory_;
  Place place_;
  std::string name_;
  uint64_t bytes_ = 0;
  CopyHead head_;
  std::vector<uint64_t> begins_;  // of each file in the stream
  // The head or the block, with its checksum, that was asked for last.
  std::string block_;
  uint64_t block_begin_ = 0;
  std::unique_ptr<rocksdb::RandomAccessFile> file_;
  std::string file_name_;
};

// The files of a copy that comes in, as they come.
class IncomingFiles {
 public:
  IncomingFiles(rocksdb::Env* env, std::string directory, std::string name, uint64_t bytes)
      : env_(env), directory_(std::move(directory)), name_(std::move(name)), bytes_(bytes) {}

  const std::string& name() const { return name_; }
  const std::string& directory() const { return directory_; }
  uint64_t bytes() const { return bytes_; }
  // After damage was found it falls back to before that.
  uint64_t received() const { return checked_ + pending_.size(); }
  bool complete() const { return checked_ == bytes_; }
  // The disk has failed it: it cannot go on.
  bool broken() const { return broken_; }
  // Makes the directory, empty.
  Result<void> Begin();
  Result<void> Write(std::string_view bytes);

 private:
  size_t WantedBytes() const;
  Result<void> TakePending();
  Result<void> TakeHead();
  Result<void> TakeBlock();
  Result<void> CloseFullFiles();
  Result<void> Written(const rocksdb::Status& status);

  rocksdb::Env* env_;
  std::string directory_;
  std::string name_;
  uint64_t bytes_;
  uint64_t checked_ = 0;  // bytes that are right, and written
  std::string pending_;   // of the head or block under way
  bool has_head_ = false;
  bool broken_ = false;
  CopyHead head_;
  size_t file_at_ = 0;      // the one that is being written
  uint64_t file_done_ = 0;  // its bytes so far
  std::unique_ptr<rocksdb::WritableFile> file_;
};

}  // namespace catena::rocks
