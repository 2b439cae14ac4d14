// What a test changes of the world around a Store.
#pragma once

#include <rocksdb/env.h>

#include <functional>
#include <memory>

#include "backends/rocksdb/store.h"

namespace catena::rocks {

struct Surroundings {
  rocksdb::Env* env = rocksdb::Env::Default();  // not owned; outlives the Store
  // Called between the steps of a replacement, which a crash may separate.
  std::function<void()> on_swap_step = [] {};
};

Result<std::unique_ptr<Store>> OpenStoreIn(const Surroundings& surroundings,
                                           const StoreOptions& options);

}  // namespace catena::rocks
