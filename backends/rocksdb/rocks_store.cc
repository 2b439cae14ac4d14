#include "backends/rocksdb/rocks_store.h"

#include <rocksdb/convenience.h>
#include <rocksdb/utilities/checkpoint.h>

#include <random>
#include <set>

#include "backends/rocksdb/batch.h"
#include "backends/rocksdb/rocks_store_files.h"
#include "proxy/base/check.h"
#include "proxy/base/log.h"

namespace catena::rocks {
namespace {

std::string RandomHex(size_t digits) {
  std::random_device random;
  std::string text;
  while (text.size() < digits) text += "0123456789abcdef"[random() & 15];
  return text;
}

std::string IdentityOf(rocksdb::DB& db) {
  std::string identity;
  return db.GetDbIdentity(identity).ok() ? identity : "";
}

rocksdb::Status PutState(rocksdb::WriteBatch& batch, const Database& database,
                         const StoreState& state) {
  return batch.Put(database.meta, kStateKey, EncodeState(state));
}

std::mutex claims_mutex;
std::set<std::string>& Claims() {
  static std::set<std::string> claims;
  return claims;
}

}  // namespace

// ---- One Store for a directory ----

Result<std::unique_ptr<DirectoryClaim>> DirectoryClaim::Make(const std::string& directory) {
  std::lock_guard lock(claims_mutex);
  if (!Claims().insert(directory).second) {
    return CannotOpen(directory, "this process has it open already");
  }
  return std::unique_ptr<DirectoryClaim>(new DirectoryClaim(directory));
}

DirectoryClaim::~DirectoryClaim() {
  std::lock_guard lock(claims_mutex);
  Claims().erase(directory_);
}

// ---- Opening and closing ----

RocksStore::RocksStore(Surroundings surroundings, StoreOptions options,
                       std::unique_ptr<DirectoryClaim> claim)
    : surroundings_(std::move(surroundings)),
      options_(std::move(options)),
      claim_(std::move(claim)) {}

RocksStore::~RocksStore() {
  DropIncoming();
  if (database_) (void)Close();
}

Result<void> RocksStore::Open() {
  rocksdb::Env* const env = surroundings_.env;
  const std::string& directory = options_.directory;
  if (env->FileExists(directory).IsNotFound()) {
    const rocksdb::Status made = env->CreateDirIfMissing(directory);
    if (!made.ok()) return CannotOpen(directory, made.ToString());
  }
  if (auto unlocked = CheckUnlocked(directory); !unlocked) return unlocked;
  if (auto finished = FinishSwap(env, directory, surroundings_.on_swap_step); !finished) {
    return CannotOpen(directory, finished.error().message);
  }
  // First, since opening takes room on the disk; but it tells better what is wrong with a directory.
  const auto removed = RemoveLeftovers(env, directory);
  if (auto opened = OpenFiles(); !opened) return opened;
  if (!removed) return CannotOpen(directory, removed.error().message);
  return {};
}

Result<void> RocksStore::OpenFiles() {
  auto database = OpenDatabase(options_.directory, options_, surroundings_.env);
  if (!database) return tl::unexpected(database.error());
  database_ = *std::move(database);
  comparator_ = database_->values->GetComparator();
  if (auto taken = TakeState(); !taken) {
    database_.reset();
    return CannotOpen(options_.directory, taken.error().message);
  }
  return {};
}

// What the record says of the data is true only of what its own process has written, and only if
// all of that is there.
Result<void> RocksStore::TakeState() {
  const auto read = ReadState(*database_);
  if (!read) return tl::unexpected(read.error());
  const bool is_new = !read->has_value();
  StoreState state = read->value_or(StoreState());
  const std::string identity = IdentityOf(*database_->db);
  const bool is_foreign = !is_new && state.sequence != database_->db->GetLatestSequenceNumber();
  const bool may_lack = !state.clean && state.sync != Sync::kAlways;
  if (is_new || is_foreign || may_lack || state.database_id != identity) {
    state.run_id = RandomHex(40);
  }
  if (is_foreign) {
    state.place.replid.clear();
    state.deadlines_fit = false;
  }
  state.database_id = identity;
  state.clean = false;
  state.sync = options_.sync;
  deadline_count_ = state.deadlines;
  expiry_floor_ = 0;
  state.begins_session = true;
  rocksdb::WriteBatch batch;
  if (auto written = Write(batch, state, true); !written) return written;
  state_.begins_session = false;
  return state_.deadlines_fit ? Result<void>() : FitDeadlines();
}

Result<void> RocksStore::Close() {
  Result<void> closed;
  if (!failed_) {
    StoreState state = state_;
    state.clean = true;
    rocksdb::WriteBatch batch;
    closed = Write(batch, std::move(state), true);
  }
  database_.reset();
  return closed;
}

Result<void> RocksStore::Check(const rocksdb::Status& status, const char* what) {
  if (status.ok()) return {};
  failed_ = true;
  return Fail("the database in " + options_.directory + ": cannot " + what + ": " +
              status.ToString());
}

// ---- Writing ----

Result<void> RocksStore::Write(rocksdb::WriteBatch& batch, StoreState state, bool sync) {
  if (failed_) return Fail("the database in " + options_.directory + " has failed before");
  // Each change takes a number, this one too, and nobody else writes.
  state.sequence = database_->db->GetLatestSequenceNumber() + batch.Count() + 1;
  rocksdb::Status status = PutState(batch, *database_, state);
  if (!status.ok()) return Check(status, "add to a batch");
  if (state.deadlines > 0) {
    deadline_count_ = std::max<uint64_t>(deadline_count_, state.deadlines);
    ++deadline_changes_;
  }
  rocksdb::WriteOptions how;
  how.sync = sync;
  if (auto written = Check(database_->db->Write(how, &batch), "write"); !written) return written;
  CATENA_CHECK(database_->db->GetLatestSequenceNumber() == state.sequence,
               "each change takes one number of RocksDB's");
  LowerExpiryFloor();
  deadline_count_ = state.deadlines;
  state_ = std::move(state);
  unsynced_ = !sync;
  return {};
}

Result<void> RocksStore::Apply(Batch& batch, const Place& after) {
  auto& changes = static_cast<RocksBatch&>(batch);
  StoreState state = state_;
  state.place = after;
  state.from_chain = state.from_chain || !after.replid.empty();
  const bool sync = options_.sync == Sync::kAlways;
  if (!changes.cleared()) {
    if (auto added = Complete(changes, changes.values(), state); !added) return added;
    return Write(changes.values(), std::move(state), sync);
  }
  rocksdb::WriteBatch all;
  state.deadlines = 0;
  if (auto added = AddClearing(all); !added) return added;
  if (auto added = Complete(changes, all, state); !added) return added;
  return Write(all, std::move(state), sync);
}

Result<void> RocksStore::SetPlace(const Place& place) {
  StoreState state = state_;
  state.place = place;
  state.from_chain = state.from_chain || !place.replid.empty();
  rocksdb::WriteBatch batch;
  return Write(batch, std::move(state), options_.sync == Sync::kAlways);
}

Result<void> RocksStore::SyncNow() {
  if (!unsynced_) return {};
  unsynced_ = false;
  return Check(database_->db->SyncWAL(), "sync the log");
}

// ---- Whole copies ----

Result<std::unique_ptr<Checkpoint>> RocksStore::MakeCheckpoint() {
  // An older one may outlive its Store, and empties its own directory when it ends.
  const std::string label = std::to_string(++checkpoints_made_) + "-" + RandomHex(8);
  const std::string directory = options_.directory + "/" + kCheckpointPrefix + label;
  rocksdb::Checkpoint* made = nullptr;
  rocksdb::Status status = rocksdb::Checkpoint::Create(database_->db.get(), &made);
  const std::unique_ptr<rocksdb::Checkpoint> maker(made);
  // Everything in tables, of which it is hard links: of the log there is nothing to copy.
  if (status.ok()) status = maker->CreateCheckpoint(directory, 0);
  if (auto done = ToResult(status, "make a checkpoint in " + directory); !done) {
    (void)RemoveDirectory(surroundings_.env, directory);
    return tl::unexpected(done.error());
  }
  return DirectoryCheckpoint::Make(surroundings_.env, directory, state_.place,
                                   state_.run_id + "-" + label);
}

namespace {

class RocksIncoming : public Incoming {
 public:
  RocksIncoming(rocksdb::Env* env, std::shared_ptr<IncomingFiles> files)
      : env_(env), files_(std::move(files)) {}

  uint64_t received() const override { return files_->received(); }
  Result<void> Write(std::string_view bytes) override { return files_->Write(bytes); }
  Result<void> Check() override;

  bool checked() const { return checked_; }

 private:
  rocksdb::Env* env_;
  std::shared_ptr<IncomingFiles> files_;
  bool checked_ = false;
};

// It replaces all that is here, so it may have another comparator and other families than ours; but
// it must be one that can be opened here, and come from a node.
Result<void> RocksIncoming::Check() {
  if (!files_->complete()) {
    return Fail("of the copy " + std::to_string(files_->received()) + " bytes of " +
                std::to_string(files_->bytes()) + " have come");
  }
  if (auto synced = SyncDirectory(env_, files_->directory()); !synced) return synced;
  const auto database = LookAtDatabase(files_->directory(), env_);
  if (!database) return tl::unexpected(database.error());
  const auto state = ReadState(**database);
  if (!state) return tl::unexpected(state.error());
  if (!*state) return Fail("the copy is of a database that no node has opened");
  checked_ = true;
  return {};
}

}  // namespace

Result<std::unique_ptr<Incoming>> RocksStore::BeginIncoming(const std::string& name,
                                                            uint64_t bytes) {
  const bool goes_on =
      incoming_ && incoming_->name() == name && incoming_->bytes() == bytes && !incoming_->broken();
  if (!goes_on) {
    incoming_ = std::make_shared<IncomingFiles>(
        surroundings_.env, options_.directory + "/" + kIncomingDirectory, name, bytes);
    if (auto begun = incoming_->Begin(); !begun) {
      incoming_.reset();
      return tl::unexpected(begun.error());
    }
  }
  return std::make_unique<RocksIncoming>(surroundings_.env, incoming_);
}

void RocksStore::DropIncoming() {
  if (!incoming_) return;
  (void)RemoveDirectory(surroundings_.env, incoming_->directory());
  incoming_.reset();
}

// Until BeginSwap is done, the old data is what a crash leaves; from then on the new.
Result<void> RocksStore::Replace(std::unique_ptr<Incoming> incoming, const Place& place) {
  const auto& checked = static_cast<const RocksIncoming&>(*incoming);
  if (!checked.checked()) return Fail("the copy has not been checked");
  rocksdb::Env* const env = surroundings_.env;
  {
    auto database = OpenDatabase(incoming_->directory(), options_, env);
    if (!database) return tl::unexpected(database.error());
    auto copied = ReadState(**database);
    if (!copied) return tl::unexpected(copied.error());
    if (!*copied || (*copied)->place.position != place.position) {
      return Fail("the copy is not of position " + std::to_string(place.position.value()));
    }
    rocksdb::DB& db = *(*database)->db;
    StoreState state = **copied;
    state.place = place;
    state.begins_session = true;
    state.from_chain = state.clean = true;
    state.run_id = state_.run_id;
    state.database_id = IdentityOf(db);
    state.deadlines_fit = state.deadlines_fit && state.sequence == db.GetLatestSequenceNumber();
    state.sequence = db.GetLatestSequenceNumber() + 1;
    rocksdb::WriteBatch batch;
    rocksdb::WriteOptions how;
    how.sync = true;
    rocksdb::Status status = PutState(batch, **database, state);
    if (status.ok()) status = db.Write(how, &batch);
    if (auto written = ToResult(status, "write into the copy"); !written) return written;
  }
  if (auto closed = Close(); !closed) return closed;
  failed_ = true;  // until it is open again
  // Also when it fails: a copy that is marked must not be removed piece by piece. What is left of it
  // is for the next opening to finish, or to remove.
  incoming_.reset();
  surroundings_.on_swap_step();
  if (auto begun = BeginSwap(env, options_.directory); !begun) return begun;
  surroundings_.on_swap_step();
  if (auto done = FinishSwap(env, options_.directory, surroundings_.on_swap_step); !done) {
    return done;
  }
  failed_ = false;
  return OpenFiles();
}

// ---- The factory ----

Result<std::unique_ptr<Store>> OpenStoreIn(const Surroundings& surroundings,
                                           const StoreOptions& options) {
  auto claim = DirectoryClaim::Make(options.directory);
  if (!claim) return tl::unexpected(claim.error());
  auto store = std::make_unique<RocksStore>(surroundings, options, *std::move(claim));
  if (auto opened = store->Open(); !opened) return tl::unexpected(opened.error());
  return store;
}

Result<std::unique_ptr<Store>> OpenStore(const StoreOptions& options) {
  return OpenStoreIn(Surroundings(), options);
}

}  // namespace catena::rocks
