#include "proxy/command/user_rights.h"

#include <algorithm>

#include "proxy/base/text.h"
#include "proxy/command/glob.h"

namespace catena::command {
namespace {

using Arguments = std::span<const std::string_view>;

// COMMAND does not tell where channels stand.
struct ChannelRule {
  std::string_view name;
  bool many;      // all arguments, else the first
  bool patterns;  // they are patterns themselves, and allowed only word for word
};
constexpr ChannelRule kChannelRules[] = {
    {"publish", false, false},   {"spublish", false, false}, {"subscribe", true, false},
    {"ssubscribe", true, false}, {"psubscribe", true, true},
};

const ChannelRule* ChannelRuleOf(const CommandInfo& info) {
  const auto* found =
      std::find_if(std::begin(kChannelRules), std::end(kChannelRules),
                   [&](const ChannelRule& rule) { return !info.module && rule.name == info.name; });
  return found != std::end(kChannelRules) ? found : nullptr;
}

bool Publishes(const CommandInfo& info) {
  const ChannelRule* rule = ChannelRuleOf(info);
  return rule != nullptr && !rule->many;
}

// Redis 6.2 knows only whole containers, and CLIENT and ACL as administration.
constexpr std::string_view kOfTheConnection[] = {
    "acl|whoami",     "client|caching",  "client|getname",     "client|getredir",
    "client|id",      "client|info",     "client|reply",       "client|setinfo",
    "client|setname", "client|tracking", "client|trackinginfo"};

bool ConcernsTheConnection(const CommandInfo& info, Arguments arguments) {
  if (info.module || arguments.size() < 2) return false;
  const std::string_view container = std::string_view(info.name).substr(0, info.name.find('|'));
  return std::any_of(std::begin(kOfTheConnection), std::end(kOfTheConnection),
                     [&](std::string_view name) {
                       const size_t bar = name.find('|');
                       return name.substr(0, bar) == container &&
                              EqualsIgnoringCase(name.substr(bar + 1), arguments[1]);
                     });
}

bool IsWritten(const CommandInfo& info) { return info.write || info.acl_write; }

bool MatchesAny(const std::vector<std::string>& patterns, std::string_view text) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return MatchesGlob(pattern, text); });
}

bool HoldsEverything(const std::vector<std::string>& patterns) {
  return std::find(patterns.begin(), patterns.end(), "*") != patterns.end();
}

// As Redis says it: what the database would answer must not depend on whether it knows the command.
std::string UnknownCommand(Arguments arguments) {
  constexpr size_t kShownMax = 128;
  std::string shown;
  for (size_t i = 1; i < arguments.size() && shown.size() < kShownMax; ++i) {
    shown.append("'").append(arguments[i].substr(0, kShownMax - shown.size())).append("' ");
  }
  const std::string_view name = arguments.empty() ? "" : arguments[0].substr(0, kShownMax);
  return "ERR unknown command '" + std::string(name) + "', with args beginning with: " + shown;
}

std::string UnknownSubcommand(const CommandInfo& container, std::string_view name) {
  std::string text = "ERR unknown subcommand '" + std::string(name.substr(0, 128)) + "'. Try ";
  for (char c : container.name) text += c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  return text += " HELP.";
}

}  // namespace

UserRights::UserRights(Access access, std::vector<std::string> keys,
                       std::vector<std::string> channels)
    : read_only_(access == Access::kReadOnly),
      all_keys_(HoldsEverything(keys)),
      all_channels_(HoldsEverything(channels)),
      keys_(std::move(keys)),
      channels_(std::move(channels)) {}

bool UserRights::HasChannelsOf(const UserRights& other) const {
  if (all_channels_) return true;
  return !other.all_channels_ && std::ranges::all_of(other.channels_, [this](const auto& pattern) {
    return std::ranges::find(channels_, pattern) != channels_.end();
  });
}

std::string UserRights::Refusal(const CommandInfo* info, Arguments arguments,
                                std::span<const uint32_t> keys, bool keys_known) const {
  if (unlimited()) return {};
  if (info == nullptr) return UnknownCommand(arguments);
  if (!info->TakesArguments(arguments.size())) return {};
  if (info->route == Route::kUnknown && arguments.size() > 1) {
    return UnknownSubcommand(*info, arguments[1]);
  }
  if (!MayRun(*info, arguments)) {
    return "NOPERM this user has no permissions to run the '" + info->name + "' command";
  }
  if (info->key_rule == CommandInfo::KeyRule::kSort && !all_keys_) {
    if (std::string refusal = SortRefusal(arguments); !refusal.empty()) return refusal;
  }
  if (!MayUseKeys(*info, arguments, keys, keys_known)) {
    return "NOPERM this user has no permissions to access one of the keys used as arguments";
  }
  if (!MayUseChannels(*info, arguments)) {
    return "NOPERM this user has no permissions to access one of the channels used as arguments";
  }
  return {};
}

bool UserRights::MayRun(const CommandInfo& info, Arguments arguments) const {
  if (info.no_auth || ConcernsTheConnection(info, arguments)) return true;
  if (info.admin || info.acl_admin || info.acl_scripting) return false;
  if (read_only_ && (IsWritten(info) || Publishes(info))) return false;
  return all_keys_ || !IsWritten(info) || info.key_rule != CommandInfo::KeyRule::kNone;
}

bool UserRights::MayUseKeys(const CommandInfo& info, Arguments arguments,
                            std::span<const uint32_t> keys, bool keys_known) const {
  if (all_keys_ || info.key_rule == CommandInfo::KeyRule::kNone) return true;
  return keys_known && std::all_of(keys.begin(), keys.end(), [&](uint32_t position) {
           return MatchesAny(keys_, arguments[position]);
         });
}

bool UserRights::MayUseChannels(const CommandInfo& info, Arguments arguments) const {
  const ChannelRule* rule = all_channels_ ? nullptr : ChannelRuleOf(info);
  if (rule == nullptr) return true;
  const Arguments channels = arguments.subspan(1, rule->many ? arguments.size() - 1 : 1);
  return std::all_of(channels.begin(), channels.end(), [&](std::string_view channel) {
    if (!rule->patterns) return MatchesAny(channels_, channel);
    return std::find(channels_.begin(), channels_.end(), channel) != channels_.end();
  });
}

// These options read keys that are named by the data. The keys in the arguments come first.
std::string UserRights::SortRefusal(Arguments arguments) const {
  if (arguments.size() > 1 && !MatchesAny(keys_, arguments[1])) return {};
  for (size_t i = 2; i + 1 < arguments.size(); ++i) {
    if (EqualsIgnoringCase(arguments[i], "limit")) {
      i += 2;
      continue;
    }
    const bool by = EqualsIgnoringCase(arguments[i], "by");
    const bool get = EqualsIgnoringCase(arguments[i], "get");
    const bool foreign = get || (by && arguments[i + 1].find('*') != std::string_view::npos);
    if (foreign) {
      return std::string("ERR ") + (by ? "BY" : "GET") +
             " option of SORT denied due to insufficient ACL permissions.";
    }
    if (by || EqualsIgnoringCase(arguments[i], "store")) ++i;
  }
  return {};
}

}  // namespace catena::command
