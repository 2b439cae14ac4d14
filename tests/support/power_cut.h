// A file system that forgets, at a power cut, what was not synced: bytes that a file had not synced
// (some of them may survive: writes tear), and directory entries that were made, renamed or deleted
// since their directory was synced. It works on real files, below one directory. To the program that
// uses it, everything goes on as if the power were still there; only it is all in vain. (To fail
// instead is another test: of how RocksDB takes errors.)
#pragma once

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

namespace catena::test {

class PowerCutFileSystem : public rocksdb::FileSystemWrapper {
 public:
  // `stash`: a directory on the same file system for what a cut brings back.
  PowerCutFileSystem(std::string stash, uint32_t seed);
  const char* Name() const override { return "PowerCutFileSystem"; }

  // The power fails after so many more changes.
  void CutAfter(uint64_t changes);
  bool is_off();
  // Everything that used it has been destroyed: forgets what was not synced before the power failed,
  // and all since then. The power is back.
  void Restore();

  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus ReopenWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                       std::unique_ptr<rocksdb::FSWritableFile>* file,
                                       rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus NewDirectory(const std::string& path, const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* directory,
                                 rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus DeleteFile(const std::string& path, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus DeleteDir(const std::string& path, const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus LinkFile(const std::string& from, const std::string& to,
                             const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override;

 private:
  friend class TrackedFile;
  friend class TrackedDirectory;
  struct FileState {
    uint64_t size = 0, synced = 0;  // at the cut
  };
  // How to take back a change of a directory that was not synced since.
  struct Undo {
    std::string directory;
    std::function<void()> take_back;
  };

  void Change();  // counts one
  void Remember(const std::string& path, std::function<void()> take_back);
  void Synced(const std::string& directory);
  std::string Stash(const std::string& path);  // a second name for it; "": it is not there
  rocksdb::IOStatus Track(const std::string& path, std::unique_ptr<rocksdb::FSWritableFile>* file,
                          uint64_t size);

  std::mutex mutex_;
  std::string stash_;
  std::mt19937 random_;
  uint64_t changes_ = 0, cut_at_ = UINT64_MAX;
  bool off_ = false;
  uint64_t stashed_ = 0;
  std::map<std::string, std::shared_ptr<FileState>> files_;
  std::vector<Undo> undos_;
};

}  // namespace catena::test
