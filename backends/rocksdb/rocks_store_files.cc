#include "backends/rocksdb/rocks_store_files.h"

#include <algorithm>
#include <string_view>
#include <vector>

namespace catena::rocks {
namespace {

constexpr const char* kComplete = "/COMPLETE";
constexpr const char* kMoving = "/MOVING";

bool IsNumber(std::string_view text) {
  return !text.empty() && text.size() <= 20 &&
         text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::string IncomingIn(const std::string& directory) {
  return directory + "/" + kIncomingDirectory;
}

Result<bool> Exists(rocksdb::Env* env, const std::string& path) {
  const rocksdb::Status status = env->FileExists(path);
  if (status.IsNotFound()) return false;
  if (auto told = ToResult(status, "look for " + path); !told) return tl::unexpected(told.error());
  return true;
}

// Its data files, CURRENT as the last one.
Result<std::vector<std::string>> DataFiles(rocksdb::Env* env, const std::string& directory) {
  std::vector<std::string> names;
  const auto listed = ToResult(env->GetChildren(directory, &names), "list " + directory);
  if (!listed) return tl::unexpected(listed.error());
  names.erase(std::remove_if(names.begin(), names.end(),
                             [](const std::string& name) { return !IsDataFile(name); }),
              names.end());
  std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
    return std::pair(a == "CURRENT", std::string_view(a)) <
           std::pair(b == "CURRENT", std::string_view(b));
  });
  return names;
}

// The database is not open, so somebody else could open it meanwhile.
class DirectoryLock {
 public:
  DirectoryLock(rocksdb::Env* env, const std::string& directory) : env_(env) {
    status_ = env_->LockFile(directory + "/LOCK", &lock_);
  }
  ~DirectoryLock() {
    if (status_.ok()) env_->UnlockFile(lock_);
  }
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;
  const rocksdb::Status& status() const { return status_; }

 private:
  rocksdb::Env* env_;
  rocksdb::FileLock* lock_ = nullptr;
  rocksdb::Status status_;
};

// CURRENT first, for good: what then is left is no database to anybody.
Result<void> DeleteOld(rocksdb::Env* env, const std::string& directory,
                       const std::function<void()>& on_step) {
  const auto names = DataFiles(env, directory);
  if (!names) return tl::unexpected(names.error());
  for (auto name = names->rbegin(); name != names->rend(); ++name) {
    const std::string path = directory + "/" + *name;
    if (auto done = ToResult(env->DeleteFile(path), "delete " + path); !done) return done;
    if (*name == "CURRENT") {
      if (auto synced = SyncDirectory(env, directory); !synced) return synced;
    }
    on_step();
  }
  return SyncDirectory(env, directory);
}

Result<void> MoveNew(rocksdb::Env* env, const std::string& directory,
                     const std::function<void()>& on_step) {
  const std::string incoming = IncomingIn(directory);
  const auto names = DataFiles(env, incoming);
  if (!names) return tl::unexpected(names.error());
  for (const std::string& name : *names) {
    const std::string from = incoming + "/" + name;
    const auto moved = ToResult(env->RenameFile(from, directory + "/" + name), "move " + from);
    if (!moved) return moved;
    on_step();
  }
  if (auto synced = SyncDirectory(env, directory); !synced) return synced;
  return SyncDirectory(env, incoming);
}

}  // namespace

bool IsDataFile(const std::string& name) {
  if (name == "CURRENT" || name == "IDENTITY") return true;
  const std::string_view view = name;
  for (std::string_view prefix : {"MANIFEST-", "OPTIONS-"}) {
    if (view.starts_with(prefix)) return IsNumber(view.substr(prefix.size()));
  }
  for (std::string_view suffix : {".sst", ".log", ".blob"}) {
    if (view.ends_with(suffix)) return IsNumber(view.substr(0, view.size() - suffix.size()));
  }
  return false;
}

bool IsHarmless(const std::string& name) {
  const std::string_view view = name;
  return view == "LOCK" || view == "LOG" || view.starts_with("LOG.old.") || view == "lost+found" ||
         view == "." || view == ".." || view == kIncomingDirectory ||
         view.starts_with(kCheckpointPrefix);
}

Result<void> ToResult(const rocksdb::Status& status, const std::string& what) {
  if (status.ok()) return {};
  return Fail("cannot " + what + ": " + status.ToString());
}

Result<void> SyncDirectory(rocksdb::Env* env, const std::string& directory) {
  std::unique_ptr<rocksdb::Directory> handle;
  rocksdb::Status status = env->NewDirectory(directory, &handle);
  if (status.ok()) status = handle->Fsync();
  return ToResult(status, "sync the directory " + directory);
}

Result<void> RemoveDirectory(rocksdb::Env* env, const std::string& directory) {
  if (env->FileExists(directory).IsNotFound()) return {};
  std::vector<std::string> names;
  if (auto listed = ToResult(env->GetChildren(directory, &names), "list " + directory); !listed) {
    return listed;
  }
  for (const std::string& name : names) {
    const std::string path = directory + "/" + name;
    if (name == "." || name == "..") continue;
    if (auto done = ToResult(env->DeleteFile(path), "delete " + path); !done) return done;
  }
  return ToResult(env->DeleteDir(directory), "remove " + directory);
}

Result<void> RemoveLeftovers(rocksdb::Env* env, const std::string& directory) {
  std::vector<std::string> names;
  if (auto listed = ToResult(env->GetChildren(directory, &names), "list " + directory); !listed) {
    return listed;
  }
  std::erase_if(names, [](const std::string& name) {
    return name != kIncomingDirectory && !name.starts_with(kCheckpointPrefix);
  });
  if (names.empty()) return {};
  const DirectoryLock lock(env, directory);
  if (auto locked = ToResult(lock.status(), "lock " + directory); !locked) return locked;
  for (const std::string& name : names) {
    if (auto removed = RemoveDirectory(env, directory + "/" + name); !removed) return removed;
  }
  return {};
}

Result<void> BeginSwap(rocksdb::Env* env, const std::string& directory) {
  const std::string incoming = IncomingIn(directory);
  if (auto synced = SyncDirectory(env, incoming); !synced) return synced;
  std::unique_ptr<rocksdb::WritableFile> mark;
  rocksdb::Status status = env->NewWritableFile(incoming + kComplete, &mark, {});
  if (status.ok()) status = mark->Sync();
  if (status.ok()) status = mark->Close();
  if (auto marked = ToResult(status, "write " + incoming + kComplete); !marked) return marked;
  if (auto synced = SyncDirectory(env, incoming); !synced) return synced;
  return SyncDirectory(env, directory);
}

namespace {

// Of a swap that has begun.
Result<void> GoOnWithSwap(rocksdb::Env* env, const std::string& directory,
                          const std::function<void()>& on_step) {
  const std::string incoming = IncomingIn(directory);
  const DirectoryLock lock(env, directory);
  if (auto locked = ToResult(lock.status(), "lock " + directory); !locked) return locked;
  const auto complete = Exists(env, incoming + kComplete);
  if (!complete) return tl::unexpected(complete.error());
  // Whoever made the mark may have failed to sync it, and what follows cannot be taken back.
  if (auto synced = SyncDirectory(env, incoming); !synced) return synced;
  if (auto synced = SyncDirectory(env, directory); !synced) return synced;
  if (*complete) {
    if (auto deleted = DeleteOld(env, directory, on_step); !deleted) return deleted;
    const auto marked = ToResult(env->RenameFile(incoming + kComplete, incoming + kMoving),
                                 "rename " + incoming + kComplete);
    if (!marked) return marked;
    if (auto synced = SyncDirectory(env, incoming); !synced) return synced;
    on_step();
  }
  if (auto moved = MoveNew(env, directory, on_step); !moved) return moved;
  // The mark last: with it gone, what is left there is only a leftover.
  const auto unmarked = ToResult(env->DeleteFile(incoming + kMoving), "delete the mark");
  if (!unmarked) return unmarked;
  on_step();
  return RemoveDirectory(env, incoming);
}

}  // namespace

Result<void> FinishSwap(rocksdb::Env* env, const std::string& directory,
                        const std::function<void()>& on_step) {
  const std::string incoming = IncomingIn(directory);
  for (const char* mark : {kComplete, kMoving}) {
    const auto marked = Exists(env, incoming + mark);
    if (!marked) return tl::unexpected(marked.error());
    if (*marked) return GoOnWithSwap(env, directory, on_step);
  }
  return {};
}

}  // namespace catena::rocks
