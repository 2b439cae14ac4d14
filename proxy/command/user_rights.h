// What a user of the configuration may do, decided by what COMMAND tells of each command and in the
// words of Redis 7.0. Pure. The databases know nothing of these users: they execute everything as
// the proxy's own user, so what cannot be decided before is refused:
//
//   - a user who is limited in any way runs no scripts and no functions (@scripting), which may use
//     keys that they did not declare, and administers nothing (@admin);
//   - who may only read runs nothing that writes or publishes;
//   - who is limited to patterns of keys gives no command whose keys cannot be told, and none that
//     writes without naming keys (FLUSHALL, SWAPDB). Names of keys are no secret (SCAN, DBSIZE).
//
// A Redis ACL that allows the same: read-only is +@all -@write -@admin -@scripting -publish
// -spublish; limited to keys is ~pattern +@all -@admin -@scripting -flushall -flushdb -swapdb.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/command/command_table.h"

namespace catena::command {

enum class Access : uint8_t { kAll, kReadOnly };

// Immutable.
class UserRights {
 public:
  UserRights() = default;  // everything
  // Patterns as of MatchesGlob; a user without any has no key, or no channel.
  UserRights(Access access, std::vector<std::string> keys, std::vector<std::string> channels);

  // Nothing has to be asked.
  bool unlimited() const { return !read_only_ && all_keys_ && all_channels_; }

  // Every channel that `other` allows is allowed here, as far as the patterns show by themselves.
  bool HasChannelsOf(const UserRights& other) const;

  // The error with which this command is answered, without '-'; "" if the user may give it. `info`
  // is nullptr for a command that the table does not know. `keys` holds the positions of its keys
  // and `keys_known` says that these are all, as FindKeys tells. A call with a wrong number of
  // arguments is allowed: it is an error of its own, which comes first.
  std::string Refusal(const CommandInfo* info, std::span<const std::string_view> arguments,
                      std::span<const uint32_t> keys, bool keys_known) const;

 private:
  bool MayRun(const CommandInfo& info, std::span<const std::string_view> arguments) const;
  bool MayUseKeys(const CommandInfo& info, std::span<const std::string_view> arguments,
                  std::span<const uint32_t> keys, bool keys_known) const;
  bool MayUseChannels(const CommandInfo& info, std::span<const std::string_view> arguments) const;
  std::string SortRefusal(std::span<const std::string_view> arguments) const;

  bool read_only_ = false, all_keys_ = true, all_channels_ = true;
  std::vector<std::string> keys_, channels_;
};

}  // namespace catena::command
