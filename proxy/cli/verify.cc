#include "proxy/cli/verify.h"

#include <algorithm>
#include <deque>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "proxy/cli/client.h"
#include "proxy/cli/exit.h"
#include "proxy/cli/inspector.h"
#include "proxy/cli/progress.h"

namespace catena::cli {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr size_t kScanned = 1000;     // keys asked of a SCAN
constexpr size_t kDigested = 100;     // keys digested in one go: what a database does at one moment
constexpr size_t kSuspectsMax = 500;  // looked at again when there are so many
constexpr Clock::duration kSettleWithin = std::chrono::seconds(15);
constexpr milliseconds kLookAgain{50};
constexpr milliseconds kCatchUp{20};
constexpr size_t kRemembered = 32;  // digests of a key that changes all the time, of each node

// One look at some keys, at one node.
struct Look {
  Position before, after;  // its database was between these
  std::vector<std::string> digests;
};

struct Difference {
  int database = 0;
  std::string key;
  std::vector<std::pair<std::string, std::string>> values;  // node, what it has
};

struct Suspect {
  std::string key;
  std::vector<std::set<std::string>> seen;  // digests, of each node
};

struct Totals {
  uint64_t keys = 0, unsettled = 0;
  std::vector<Difference> differences;
};

// Compares one chain. Any failure of a node ends it.
class Comparison {
 public:
  Comparison(std::vector<Inspector> nodes, int effort)
      : nodes_(std::move(nodes)), effort_(effort), began_(Clock::now()) {}

  Result<Totals> Run() {
    const auto databases = Databases();
    if (!databases) return Fail(databases.error().message);
    for (const int database : *databases) {
      if (auto done = CompareDatabase(database); !done) return Fail(done.error().message);
    }
    return totals_;
  }

 private:
  Result<std::set<int>> Databases() {
    std::set<int> databases;
    for (Inspector& node : nodes_) {
      const auto info = node.Ask({"INFO", "keyspace"});
      if (!info) return Fail(info.error().message);
      for (size_t at = info->text.find("\ndb"); at != std::string::npos;
           at = info->text.find("\ndb", at + 1)) {
        databases.insert(std::atoi(info->text.c_str() + at + 3));
      }
    }
    return databases;
  }

  Result<void> CompareDatabase(int database) {
    database_ = database;
    for (Inspector& node : nodes_) {
      const auto selected = node.Ask({"SELECT", std::to_string(database)});
      if (!selected) return Fail(selected.error().message);
    }
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (auto walked = Walk(i); !walked) return walked;
    }
    return Settle();
  }

  // All keys of the first node are compared; of the others, those that it lacks.
  Result<void> Walk(size_t walker) {
    std::string cursor = "0";
    do {
      const auto began = Clock::now();
      const auto page = nodes_[walker].Ask({"SCAN", cursor, "COUNT", std::to_string(kScanned)});
      if (!page) return Fail(page.error().message);
      if (page->elements.size() != 2) return Fail("no answer of a scan");
      cursor = page->elements[0].text;
      std::vector<std::string> keys;
      for (const resp::Value& key : page->elements[1].elements) keys.push_back(key.text);
      if (walker > 0) {
        auto missing = MissingAtFirst(std::move(keys));
        if (!missing) return Fail(missing.error().message);
        keys = std::move(*missing);
      } else {
        totals_.keys += keys.size();
      }
      if (auto compared = Compare(keys); !compared) return compared;
      Show(walker);
      Rest(Clock::now() - began);
    } while (cursor != "0");
    return {};
  }

  Result<std::vector<std::string>> MissingAtFirst(std::vector<std::string> keys) {
    Inspector& first = nodes_.front();
    for (const std::string& key : keys) first.Request({"EXISTS", key});
    if (auto sent = first.Send(); !sent) return Fail(sent.error().message);
    std::vector<std::string> missing;
    for (std::string& key : keys) {
      const auto there = first.Answer();
      if (!there) return Fail(there.error().message);
      if (there->integer == 0) missing.push_back(std::move(key));
    }
    return missing;
  }

  Result<void> Compare(const std::vector<std::string>& keys) {
    const auto looks = LookAt(keys);
    if (!looks) return Fail(looks.error().message);
    for (size_t i = 0; i < keys.size(); ++i) {
      if (AllEqual(*looks, i)) continue;
      suspects_.push_back({keys[i], std::vector<std::set<std::string>>(nodes_.size())});
    }
    return suspects_.size() >= kSuspectsMax ? Settle() : Result<void>();
  }

  // Values too large for a digest are not known to be equal.
  static bool AllEqual(const std::vector<Look>& looks, size_t key) {
    const std::string& first = looks[0].digests[key];
    return !first.starts_with("big") &&
           std::all_of(looks.begin(), looks.end(),
                       [&](const Look& look) { return look.digests[key] == first; });
  }

  Result<std::vector<Look>> LookAt(const std::vector<std::string>& keys) {
    for (Inspector& node : nodes_) {
      node.Request({"POSITION"});
      for (size_t from = 0; from < keys.size(); from += kDigested) {
        std::vector<std::string_view> call{"DIGEST"};
        const size_t end = std::min(keys.size(), from + kDigested);
        call.insert(call.end(), keys.begin() + static_cast<ptrdiff_t>(from),
                    keys.begin() + static_cast<ptrdiff_t>(end));
        node.Request(call);
      }
      node.Request({"POSITION"});
      if (auto sent = node.Send(); !sent) return Fail(sent.error().message);
    }
    std::vector<Look> looks;
    for (Inspector& node : nodes_) {
      auto look = TakeLook(node, keys.size());
      if (!look) return Fail(look.error().message);
      looks.push_back(std::move(*look));
    }
    return looks;
  }

  static Result<Look> TakeLook(Inspector& node, size_t keys) {
    Look look;
    const auto before = node.Answer();
    if (!before) return Fail(before.error().message);
    look.before = Position(static_cast<uint64_t>(before->integer));
    while (look.digests.size() < keys) {
      const auto digests = node.Answer();
      if (!digests) return Fail(digests.error().message);
      for (const resp::Value& digest : digests->elements) look.digests.push_back(digest.text);
      if (digests->elements.empty()) return Fail(node.node() + ": a digest without keys");
    }
    const auto after = node.Answer();
    if (!after) return Fail(after.error().message);
    look.after = Position(static_cast<uint64_t>(after->integer));
    return look;
  }

  // Looks again at the suspects until each is equal, different, or the time is up.
  Result<void> Settle() {
    const auto until = Clock::now() + kSettleWithin;
    while (!suspects_.empty()) {
      std::vector<std::string> keys;
      for (const Suspect& suspect : suspects_) keys.push_back(suspect.key);
      keys.resize(std::min(keys.size(), kSuspectsMax));
      if (auto round = SettleRound(keys); !round) return round;
      if (suspects_.empty()) break;
      if (Clock::now() >= until) {
        totals_.unsettled += suspects_.size();
        suspects_.clear();
        break;
      }
      std::this_thread::sleep_for(kLookAgain);
    }
    return {};
  }

  Result<void> SettleRound(const std::vector<std::string>& keys) {
    if (auto watched = WatchAtHead(keys); !watched) return watched;
    const auto looks = LookAt(keys);
    if (!looks) return Fail(looks.error().message);
    auto quiet = Quiet(keys, *looks);
    if (!quiet) return Fail(quiet.error().message);
    std::deque<Suspect> left;
    for (size_t i = 0; i < keys.size(); ++i) {
      if (AllEqual(*looks, i) || SeenAtAll(suspects_[i], *looks, i)) continue;
      if (!(*quiet)[i]) {
        left.push_back(std::move(suspects_[i]));
        continue;
      }
      const auto settled = CompareWhole(keys[i]);
      if (!settled) return Fail(settled.error().message);
      if (!*settled) left.push_back(std::move(suspects_[i]));
    }
    for (size_t i = keys.size(); i < suspects_.size(); ++i) left.push_back(std::move(suspects_[i]));
    suspects_ = std::move(left);
    return {};
  }

  Result<void> WatchAtHead(const std::vector<std::string>& keys) {
    std::vector<std::string_view> call{"WATCH"};
    call.insert(call.end(), keys.begin(), keys.end());
    const auto from = nodes_.front().Ask(call);
    if (!from) return Fail(from.error().message);
    watched_from_ = Position(static_cast<uint64_t>(from->integer));
    // The others are to have what the head has now before they are looked at.
    std::this_thread::sleep_for(kCatchUp);
    return {};
  }

  // Of which keys all nodes showed the value that the last entry left: nothing touched the key
  // behind the position from which on each of them was read.
  Result<std::vector<bool>> Quiet(const std::vector<std::string>& keys,
                                  const std::vector<Look>& looks) {
    const auto touched = nodes_.front().Ask({"TOUCHED"});
    if (!touched) return Fail(touched.error().message);
    if (touched->elements.size() != keys.size() + 1) return Fail("no answer of TOUCHED");
    const Position told(static_cast<uint64_t>(touched->elements[0].integer));
    std::vector<bool> quiet;
    for (size_t i = 0; i < keys.size(); ++i) {
      const Position last(static_cast<uint64_t>(touched->elements[i + 1].integer));
      const Position version = std::max(last, watched_from_);
      quiet.push_back(told >= looks.front().after &&
                      std::all_of(looks.begin(), looks.end(),
                                  [&](const Look& look) { return look.before >= version; }));
    }
    return quiet;
  }

  // A key that changes all the time is taken to be equal when some value of it was at every node.
  static bool SeenAtAll(Suspect& suspect, const std::vector<Look>& looks, size_t key) {
    if (looks[0].digests[key].starts_with("big")) return false;
    for (size_t node = 0; node < looks.size(); ++node) {
      auto& seen = suspect.seen[node];
      if (seen.size() < kRemembered) seen.insert(looks[node].digests[key]);
    }
    return std::any_of(suspect.seen[0].begin(), suspect.seen[0].end(), [&](const auto& digest) {
      return std::all_of(suspect.seen.begin(), suspect.seen.end(),
                         [&](const auto& seen) { return seen.contains(digest); });
    });
  }

  // The whole value, whatever its encoding. False: it changed meanwhile.
  Result<bool> CompareWhole(const std::string& key) {
    if (auto watched = WatchAtHead({key}); !watched) return Fail(watched.error().message);
    Difference difference{database_, key, {}};
    std::vector<Look> looks;
    for (Inspector& node : nodes_) {
      const auto before = node.Ask({"POSITION"});
      if (!before) return Fail(before.error().message);
      const auto value = CanonicalValue(node, key);
      if (!value) return Fail(value.error().message);
      const auto after = node.Ask({"POSITION"});
      if (!after) return Fail(after.error().message);
      looks.push_back({Position(static_cast<uint64_t>(before->integer)),
                       Position(static_cast<uint64_t>(after->integer)),
                       {}});
      difference.values.emplace_back(node.node(), *value);
    }
    const auto quiet = Quiet({key}, looks);
    if (!quiet) return Fail(quiet.error().message);
    if (!(*quiet)[0]) return false;
    const std::string& first = difference.values[0].second;
    const bool equal = std::all_of(difference.values.begin(), difference.values.end(),
                                   [&](const auto& value) { return value.second == first; });
    if (!equal) totals_.differences.push_back(std::move(difference));
    return true;
  }

  void Show(size_t walker) {
    const auto now = Clock::now();
    if (now < show_at_) return;
    show_at_ = now + std::chrono::seconds(1);
    progress_.Show("database " + std::to_string(database_) + ", keys of " + nodes_[walker].node() +
                   ": " + std::to_string(totals_.keys) + " compared, " +
                   std::to_string(totals_.differences.size()) + " differ");
  }

  void Rest(Clock::duration worked) {
    if (effort_ < 100) std::this_thread::sleep_for(worked * (100 - effort_) / effort_);
  }

  std::vector<Inspector> nodes_;  // head first
  const int effort_;
  const Clock::time_point began_;
  Clock::time_point show_at_ = began_ + std::chrono::seconds(1);
  Progress progress_;
  int database_ = 0;
  Position watched_from_;
  std::deque<Suspect> suspects_;
  Totals totals_;
};

struct Target {
  std::string chain;
  Epoch epoch;
  std::vector<chain::Member> members;
};

Result<Target> FindTarget(const config::Config& config, const std::string& chain) {
  const auto status = FetchStatus(config);
  if (!status) return Fail(status.error().message);
  for (const coordinator::ChainStatus& each : status->chains) {
    if (each.chain != chain || !each.record) continue;
    const chain::Configuration& configuration = each.record->configuration;
    return Target{chain, configuration.epoch, configuration.members};
  }
  return Fail("chain " + chain + " has no configuration");
}

Result<Totals> VerifyChain(const config::Config& config, const std::string& chain, int effort) {
  const auto target = FindTarget(config, chain);
  if (!target) return Fail(target.error().message);
  if (target->members.size() < 2) return Fail("chain " + chain + " has one member only");
  std::vector<Inspector> nodes;
  for (const chain::Member& member : target->members) {
    auto inspector = Inspector::Open(config, chain, member.id, member.peers);
    if (!inspector) return Fail(inspector.error().message);
    nodes.push_back(std::move(*inspector));
  }
  auto totals = Comparison(std::move(nodes), effort).Run();
  if (!totals) return Fail(totals.error().message);
  const auto now = FindTarget(config, chain);
  if (!now || now->epoch != target->epoch) {
    return Fail("the chain's members changed meanwhile; verify again");
  }
  return totals;
}

// Keys may hold anything; JSON shows it.
std::string Quoted(const std::string& key) {
  return nlohmann::json(key).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void PrintText(const std::string& chain, const Totals& totals) {
  for (const Difference& difference : totals.differences) {
    std::cout << "chain " << chain << ", database " << difference.database << ", key "
              << Quoted(difference.key) << ":\n";
    for (const auto& [node, value] : difference.values) {
      std::cout << "  " << node << ": " << value << "\n";
    }
  }
  std::cout << "chain " << chain << ": " << totals.keys << " keys compared, "
            << totals.differences.size() << " differ";
  if (totals.unsettled > 0) {
    std::cout << ", " << totals.unsettled << " changed too fast to be compared";
  }
  std::cout << ".\n";
}

void PrintJson(const std::string& chain, const Totals& totals) {
  nlohmann::json differences = nlohmann::json::array();
  for (const Difference& difference : totals.differences) {
    nlohmann::json values = nlohmann::json::object();
    for (const auto& [node, value] : difference.values) values[node] = value;
    differences.push_back({{"database", difference.database},
                           {"key", difference.key},
                           {"values", std::move(values)}});
  }
  const nlohmann::json line = {{"chain", chain},
                               {"keys", totals.keys},
                               {"unsettled", totals.unsettled},
                               {"differences", std::move(differences)}};
  std::cout << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
}

}  // namespace

Exit Worse(Exit a, Exit b) {
  for (const Exit exit : {kDifferent, kNotDone, kNotFinished}) {
    if (a == exit || b == exit) return exit;
  }
  return kDone;
}

int Verify(const config::Config& config, const VerifyOptions& options) {
  bool known = false;
  Exit worst = kDone;
  for (const config::Chain& chain : config.chains) {
    if (!options.chain.empty() && chain.name != options.chain) continue;
    known = true;
    const auto totals = VerifyChain(config, chain.name, options.effort);
    if (!totals) {
      Complain("chain " + chain.name + " is not verified: " + totals.error().message);
      worst = Worse(worst, kNotDone);
      continue;
    }
    options.json ? PrintJson(chain.name, *totals) : PrintText(chain.name, *totals);
    if (!totals->differences.empty()) worst = Worse(worst, kDifferent);
    if (totals->unsettled > 0) worst = Worse(worst, kNotFinished);
  }
  if (known) return worst;
  return Complain(config.path + " has no chain " + options.chain, kWrongUse);
}

}  // namespace catena::cli
