#include "backends/rocksdb/command_table.h"

#include <array>
#include <vector>

#include "proxy/base/text.h"
#include "proxy/resp/encoder.h"

namespace catena::rocks {
namespace {

// The other commands of Redis 7.0.15, and the other subcommands of those that are here.
constexpr std::string_view kElsewhere =
    "acl|cat acl|deluser acl|dryrun acl|genpass acl|getuser acl|help acl|list acl|load "
    "acl|log acl|save acl|setuser acl|users bgrewriteaof bgsave blmove blmpop blpop brpop "
    "brpoplpush bzmpop bzpopmax bzpopmin cluster debug eval eval_ro evalsha evalsha_ro "
    "failover fcall fcall_ro function geoadd geodist geohash geopos georadius georadius_ro "
    "georadiusbymember georadiusbymember_ro geosearch geosearchstore hdel hexists hget "
    "hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hrandfield hscan hset hsetnx "
    "hstrlen hvals lastsave latency|doctor latency|graph latency|histogram lindex linsert "
    "llen lmove lmpop lolwut lpop lpos lpush lpushx lrange lrem lset ltrim memory|doctor "
    "memory|malloc-stats memory|purge memory|stats migrate module monitor move pfadd "
    "pfcount pfdebug pfmerge pfselftest psync pubsub|shardchannels pubsub|shardnumsub "
    "replconf replicaof restore-asking rpop rpoplpush rpush rpushx sadd save scard script "
    "sdiff sdiffstore shutdown sinter sintercard sinterstore sismember slaveof smembers "
    "smismember smove sort sort_ro spop spublish srandmember srem sscan ssubscribe sunion "
    "sunionstore sunsubscribe swapdb sync xack xadd xautoclaim xclaim xdel xgroup xinfo "
    "xlen xpending xrange xread xreadgroup xrevrange xsetid xtrim zadd zcard zcount zdiff "
    "zdiffstore zincrby zinter zintercard zinterstore zlexcount zmpop zmscore zpopmax "
    "zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore zrank zrem "
    "zremrangebylex zremrangebyrank zremrangebyscore zrevrange zrevrangebylex "
    "zrevrangebyscore zrevrank zscan zscore zunion zunionstore";

bool HasWord(std::string_view words, std::string_view word) {
  while (!words.empty()) {
    const size_t end = std::min(words.find(' '), words.size());
    if (words.substr(0, end) == word) return true;
    words.remove_prefix(std::min(end + 1, words.size()));
  }
  return false;
}

CommandTraits TraitsOf(const CommandRow& row) {
  CommandTraits traits;
  traits.writes = HasWord(row.flags, "write");
  traits.first_key = row.first_key;
  traits.last_key = row.last_key;
  traits.key_step = row.key_step;
  traits.reads_only_values = HasWord(row.flags, "readonly") && row.first_key > 0;
  return traits;
}

// FNV-1a over letters made equal in case.
uint32_t HashName(std::string_view name) {
  uint32_t hash = 0x811c9dc5u;
  for (char c : name) hash = (hash ^ static_cast<uint8_t>(LowerCase(c))) * 0x01000193u;
  return hash ^ hash >> 15;
}

// All commands, and a hash table over their names with open addressing.
class Table {
 public:
  Table() {
    Add(DataCommands());
    Add(ServerCommands());
    for (size_t i = 0; i < known_.size(); ++i) {
      size_t at = HashName(known_[i].row->name) % slots_.size();
      while (slots_[at] != kEmpty) at = (at + 1) % slots_.size();
      slots_[at] = static_cast<int16_t>(i);
    }
  }

  const KnownCommand* Find(std::string_view name) const {
    for (size_t at = HashName(name) % slots_.size(); slots_[at] != kEmpty;
         at = (at + 1) % slots_.size()) {
      const KnownCommand& known = known_[static_cast<size_t>(slots_[at])];
      if (EqualsIgnoringCase(known.row->name, name)) return &known;
    }
    return nullptr;
  }
  std::span<const KnownCommand> known() const { return known_; }
  const CommandTraits* TraitsOfSubcommand(const CommandRow& row) const {
    for (const auto& [of, traits] : subcommands_) {
      if (of == &row) return &traits;
    }
    return nullptr;
  }

 private:
  static constexpr int16_t kEmpty = -1;

  void Add(std::span<const CommandRow> rows) {
    for (size_t i = 0; i < rows.size();) {
      size_t end = i + 1;
      while (end < rows.size() && rows[end].name.find('|') != std::string_view::npos) ++end;
      const auto subcommands = rows.subspan(i + 1, end - i - 1);
      known_.push_back({&rows[i], TraitsOf(rows[i]), subcommands});
      for (const CommandRow& row : subcommands) subcommands_.push_back({&row, TraitsOf(row)});
      i = end;
    }
  }

  std::vector<KnownCommand> known_;
  std::vector<std::pair<const CommandRow*, CommandTraits>> subcommands_;
  std::array<int16_t, 512> slots_ = [] {
    std::array<int16_t, 512> slots;
    slots.fill(kEmpty);
    return slots;
  }();
};

const Table& TheTable() {
  static const Table table;
  return table;
}

}  // namespace

std::span<const KnownCommand> KnownCommands() { return TheTable().known(); }

FoundCommand FindCommand(Arguments arguments) {
  FoundCommand found;
  found.container = TheTable().Find(arguments[0]);
  if (found.container == nullptr) return found;
  if (arguments.size() < 2 || found.container->subcommands.empty()) {
    found.row = found.container->row;
    found.traits = &found.container->traits;
    return found;
  }
  for (const CommandRow& row : found.container->subcommands) {
    if (!EqualsIgnoringCase(row.name.substr(row.name.find('|') + 1), arguments[1])) continue;
    found.row = &row;
    found.traits = TheTable().TraitsOfSubcommand(row);
  }
  return found;
}

bool IsElsewhere(std::string_view name) {
  std::string lower;
  for (char c : name) lower += LowerCase(c);
  return HasWord(kElsewhere, lower);
}

void AppendUnknownCommand(Arguments arguments, std::string& reply) {
  constexpr size_t kShown = 128;  // bytes of the name, and of the arguments together
  const auto text_of = [](std::string_view argument, size_t max) {
    argument = argument.substr(0, argument.find('\0'));
    return std::string(argument.substr(0, max));
  };
  if (IsElsewhere(arguments[0])) {
    return resp::AppendError(
        reply, "ERR command '" + text_of(arguments[0], kShown) +
                   "' is not supported by the rocksdb backend: it has strings, keys, transactions "
                   "and publish/subscribe");
  }
  std::string shown;
  for (size_t i = 1; i < arguments.size() && shown.size() < kShown; ++i)
    shown += "'" + text_of(arguments[i], kShown - shown.size()) + "' ";
  resp::AppendError(reply, "ERR unknown command '" + text_of(arguments[0], kShown) +
                               "', with args beginning with: " + shown);
}

}  // namespace catena::rocks
