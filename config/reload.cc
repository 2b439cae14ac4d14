#include "config/reload.h"

#include <algorithm>
#include <utility>

#include "config/lister.h"
#include "proxy/base/log.h"

namespace catena::config {
namespace {

class Merging {
 public:
  Merging(const Config& running, const Config& file, std::string_view self)
      : running_(running), self_(self) {
    out_.config = file;
  }

  Reloaded Run() {
    MergeTable("cluster.", running_.cluster, out_.config.cluster);
    KeepSecret();
    MergeTable("coordinator.", running_.coordinator, out_.config.coordinator);
    MergeTable("tls.", running_.tls, out_.config.tls);
    Match("chain.", running_.chains, out_.config.chains, &Chain::name,
          [this](const std::string& where, Chain& before, Chain& now) {
            MergeChain(where + ".", before, now);
          });
    return std::move(out_);
  }

 private:
  void Note(std::string key, std::string from, std::string to, bool taken) {
    out_.changes.push_back({std::move(key), std::move(from), std::move(to), taken});
  }

  // `now` gets back what may not change. `elsewhere`: of another process, which says itself what it
  // needs a restart for.
  template <typename Struct>
  void MergeTable(const std::string& where, Struct before, Struct& now, bool elsewhere = false) {
    const std::vector<Value> from = ListOf(before), to = ListOf(now);
    for (size_t i = 0; i < from.size(); ++i) {
      if (from[i].text == to[i].text) continue;
      const bool taken = to[i].key.live || elsewhere;
      Note(where + std::string(to[i].key), from[i].shown, to[i].shown, taken);
      if (!taken) to[i].assign(to[i].field, from[i].field);
    }
  }

  void KeepSecret() {
    Cluster& now = out_.config.cluster;
    if (now.secret != running_.cluster.secret) {
      Note("cluster.secret_file", "its content", "***", false);
    }
    now.secret = running_.cluster.secret;
  }

  // Calls `both` for what is in both lists, by `name`; notes what is in one only.
  template <typename Struct, typename Both>
  void Match(const std::string& where, std::vector<Struct> before, std::vector<Struct>& now,
             std::string Struct::*name, Both both) {
    for (Struct& former : before) {
      const auto found = std::ranges::find(now, former.*name, name);
      if (found == now.end()) {
        Note(where + former.*name, "there", "", true);
      } else {
        both(where + former.*name, former, *found);
      }
    }
    for (const Struct& later : now) {
      if (std::ranges::find(before, later.*name, name) == before.end()) {
        Note(where + later.*name, "", "there", true);
      }
    }
  }

  void MergeChain(const std::string& where, Chain& before, Chain& now) {
    MergeTable(where, before, now);
    MergeTable(where + "limits.", before.limits, now.limits);
    MergeTable(where + "rocksdb.", before.rocksdb, now.rocksdb);
    Match(where + "user.", before.users, now.users, &User::name,
          [this](const std::string& user, User& from, User& to) {
            MergeTable(user + ".", from, to);
          });
    Match(where + "node.", before.nodes, now.nodes, &Node::id,
          [this](const std::string& node, Node& from, Node& to) {
            MergeTable(node + ".", from, to, to.id != self_);
          });
  }

  const Config& running_;
  std::string_view self_;
  Reloaded out_;
};

// Whether `self` is still a node of the chain that it runs for. "" is nobody's.
std::string WhyStrange(const Config& running, const Config& file, std::string_view self) {
  if (self.empty()) return "";
  const auto now = file.FindNode(self);
  if (!now) return now.error().message + "; stop this proxy once it has left the chain";
  const auto before = running.FindNode(self);
  if (before && before->chain->name != now->chain->name) {
    return "node \"" + std::string(self) + "\" belongs to chain " + now->chain->name +
           " now; restart this proxy";
  }
  return "";
}

void Tell(const std::vector<Change>& changes) {
  std::string taken;
  for (const Change& change : changes) {
    if (!change.taken) {
      log::Warn("restart_needed",
                {{"key", change.key}, {"running", change.from}, {"file", change.to}});
      continue;
    }
    if (!taken.empty()) taken += "; ";
    taken += change.key + ": " + (change.from.empty() ? "none" : change.from) + " -> " +
             (change.to.empty() ? "none" : change.to);
  }
  log::Info("reloaded", {{"changed", taken.empty() ? "nothing" : taken}});
}

}  // namespace

Reloaded Merge(const Config& running, const Config& file, std::string_view self) {
  return Merging(running, file, self).Run();
}

std::optional<Config> LoadAgain(const Config& running, std::string_view self) {
  Result<Config> file = Load(running.path);
  const std::string why = file ? WhyStrange(running, *file, self) : file.error().message;
  if (!why.empty()) {
    log::Error("reload_refused", {{"file", running.path}, {"why", why}});
    return std::nullopt;
  }
  Reloaded reloaded = Merge(running, *file, self);
  Tell(reloaded.changes);
  return std::move(reloaded.config);
}

void ApplyLogging(const Config& config, const std::string& level) {
  log::SetLevel(log::ParseLevel(level.empty() ? config.cluster.log_level : level));
  log::SetForm(log::ParseForm(config.cluster.log_format));
}

}  // namespace catena::config
