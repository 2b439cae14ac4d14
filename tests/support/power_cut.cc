#include "tests/support/power_cut.h"

#include <algorithm>
#include <filesystem>

namespace catena::test {
namespace {

namespace fs = std::filesystem;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

std::string ParentOf(const std::string& path) { return fs::path(path).parent_path().string(); }

// RocksDB's own text log matters to nobody.
bool Counts(const std::string& path) {
  return fs::path(path).filename().string().rfind("LOG", 0) != 0;
}

}  // namespace

class TrackedFile : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  TrackedFile(PowerCutFileSystem& system, std::shared_ptr<PowerCutFileSystem::FileState> state,
              std::unique_ptr<rocksdb::FSWritableFile>&& file)
      : FSWritableFileOwnerWrapper(std::move(file)), system_(system), state_(std::move(state)) {}

  IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                  IODebugContext* debug) override {
    std::lock_guard lock(system_.mutex_);
    system_.Change();
    if (!system_.off_) state_->size += data.size();
    return target()->Append(data, options, debug);
  }
  IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo&, IODebugContext* debug) override {
    return Append(data, options, debug);
  }
  IOStatus Truncate(uint64_t size, const IOOptions& options, IODebugContext* debug) override {
    std::lock_guard lock(system_.mutex_);
    system_.Change();
    if (system_.off_) return IOStatus::OK();
    state_->size = size;
    state_->synced = std::min(state_->synced, size);
    return target()->Truncate(size, options, debug);
  }
  IOStatus Sync(const IOOptions&, IODebugContext*) override {
    std::lock_guard lock(system_.mutex_);
    system_.Change();
    if (!system_.off_) state_->synced = state_->size;
    return IOStatus::OK();  // the machine that runs the test keeps its power
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    return Sync(options, debug);
  }
  IOStatus RangeSync(uint64_t, uint64_t, const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();  // promises nothing
  }

 private:
  PowerCutFileSystem& system_;
  std::shared_ptr<PowerCutFileSystem::FileState> state_;
};

class TrackedDirectory : public rocksdb::FSDirectory {
 public:
  TrackedDirectory(PowerCutFileSystem& system, std::string path)
      : system_(system), path_(std::move(path)) {}
  IOStatus Fsync(const IOOptions&, IODebugContext*) override {
    std::lock_guard lock(system_.mutex_);
    system_.Change();
    if (!system_.off_) system_.Synced(path_);
    return IOStatus::OK();
  }

 private:
  PowerCutFileSystem& system_;
  std::string path_;
};

PowerCutFileSystem::PowerCutFileSystem(std::string stash, uint32_t seed)
    : FileSystemWrapper(rocksdb::FileSystem::Default()), stash_(std::move(stash)), random_(seed) {
  fs::create_directories(stash_);
}

void PowerCutFileSystem::CutAfter(uint64_t changes) {
  std::lock_guard lock(mutex_);
  cut_at_ = changes_ + changes;
  off_ = changes == 0;
}

bool PowerCutFileSystem::is_off() {
  std::lock_guard lock(mutex_);
  return off_;
}

// The one with which the power fails is done already in vain.
void PowerCutFileSystem::Change() {
  ++changes_;
  off_ = off_ || changes_ > cut_at_;
}

void PowerCutFileSystem::Remember(const std::string& path, std::function<void()> take_back) {
  undos_.push_back({ParentOf(path), std::move(take_back)});
}

void PowerCutFileSystem::Synced(const std::string& directory) {
  std::erase_if(undos_, [&](const Undo& undo) { return undo.directory == directory; });
}

std::string PowerCutFileSystem::Stash(const std::string& path) {
  if (!fs::exists(path)) return "";
  const std::string name = stash_ + "/" + std::to_string(++stashed_);
  fs::create_hard_link(path, name);
  return name;
}

void PowerCutFileSystem::Restore() {
  std::lock_guard lock(mutex_);
  for (const auto& [path, state] : files_) {
    if (!fs::exists(path)) continue;
    std::uniform_int_distribution<uint64_t> survives(state->synced, state->size);
    const uint64_t size = random_() % 2 == 0 ? state->synced : survives(random_);
    fs::resize_file(path, std::min<uint64_t>(size, fs::file_size(path)));
  }
  for (auto undo = undos_.rbegin(); undo != undos_.rend(); ++undo) undo->take_back();
  undos_.clear();
  files_.clear();
  fs::remove_all(stash_);
  fs::create_directories(stash_);
  off_ = false;
  cut_at_ = UINT64_MAX;
}

IOStatus PowerCutFileSystem::Track(const std::string& path,
                                   std::unique_ptr<rocksdb::FSWritableFile>* file, uint64_t size) {
  auto state = std::make_shared<FileState>(FileState{size, size});
  files_[path] = state;
  *file = std::make_unique<TrackedFile>(*this, std::move(state), std::move(*file));
  return IOStatus::OK();
}

IOStatus PowerCutFileSystem::NewWritableFile(const std::string& path,
                                             const rocksdb::FileOptions& options,
                                             std::unique_ptr<rocksdb::FSWritableFile>* file,
                                             IODebugContext* debug) {
  if (!Counts(path)) return FileSystemWrapper::NewWritableFile(path, options, file, debug);
  std::lock_guard lock(mutex_);
  Change();
  const std::string before = Stash(path);
  if (!before.empty()) fs::remove(path);
  IOStatus status = FileSystemWrapper::NewWritableFile(path, options, file, debug);
  if (!status.ok()) return status;
  Remember(path, [path, before] {
    fs::remove(path);
    if (!before.empty() && fs::exists(ParentOf(path))) fs::rename(before, path);
  });
  return Track(path, file, 0);
}

IOStatus PowerCutFileSystem::ReopenWritableFile(const std::string& path,
                                                const rocksdb::FileOptions& options,
                                                std::unique_ptr<rocksdb::FSWritableFile>* file,
                                                IODebugContext* debug) {
  std::lock_guard lock(mutex_);
  Change();
  IOStatus status = FileSystemWrapper::ReopenWritableFile(path, options, file, debug);
  if (!status.ok()) return status;
  return Track(path, file, fs::file_size(path));
}

IOStatus PowerCutFileSystem::NewDirectory(const std::string& path, const IOOptions& options,
                                          std::unique_ptr<rocksdb::FSDirectory>* directory,
                                          IODebugContext* debug) {
  // Only to have its errors.
  IOStatus status = FileSystemWrapper::NewDirectory(path, options, directory, debug);
  if (status.ok()) *directory = std::make_unique<TrackedDirectory>(*this, path);
  return status;
}

IOStatus PowerCutFileSystem::DeleteFile(const std::string& path, const IOOptions& options,
                                        IODebugContext* debug) {
  if (!Counts(path)) return FileSystemWrapper::DeleteFile(path, options, debug);
  std::lock_guard lock(mutex_);
  Change();
  const std::string before = Stash(path);
  IOStatus status = FileSystemWrapper::DeleteFile(path, options, debug);
  // A directory that is removed takes its entries with it for good.
  if (status.ok() && !before.empty()) {
    Remember(path, [path, before] {
      if (fs::exists(ParentOf(path))) fs::rename(before, path);
    });
  }
  return status;
}

IOStatus PowerCutFileSystem::DeleteDir(const std::string& path, const IOOptions& options,
                                       IODebugContext* debug) {
  std::lock_guard lock(mutex_);
  Change();
  IOStatus status = FileSystemWrapper::DeleteDir(path, options, debug);
  if (status.ok()) Remember(path, [path] { fs::create_directory(path); });
  return status;
}

IOStatus PowerCutFileSystem::RenameFile(const std::string& from, const std::string& to,
                                        const IOOptions& options, IODebugContext* debug) {
  if (!Counts(from)) return FileSystemWrapper::RenameFile(from, to, options, debug);
  std::lock_guard lock(mutex_);
  Change();
  const bool is_directory = fs::is_directory(from);
  const std::string before = is_directory ? "" : Stash(to);
  IOStatus status = FileSystemWrapper::RenameFile(from, to, options, debug);
  if (!status.ok() || is_directory) return status;
  if (auto node = files_.extract(from); !node.empty()) {
    files_[to] = node.mapped();
  } else {
    files_.erase(to);
  }
  Remember(to, [from, to, before] {
    if (fs::exists(to) && fs::exists(ParentOf(from))) fs::rename(to, from);
    if (!before.empty() && fs::exists(ParentOf(to))) fs::rename(before, to);
  });
  return status;
}

IOStatus PowerCutFileSystem::LinkFile(const std::string& from, const std::string& to,
                                      const IOOptions& options, IODebugContext* debug) {
  std::lock_guard lock(mutex_);
  Change();
  IOStatus status = FileSystemWrapper::LinkFile(from, to, options, debug);
  if (status.ok()) Remember(to, [to] { fs::remove(to); });
  return status;
}

}  // namespace catena::test
