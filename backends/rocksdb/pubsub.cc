#include "backends/rocksdb/pubsub.h"

#include <algorithm>

#include "proxy/base/text.h"
#include "proxy/command/glob.h"
#include "proxy/resp/encoder.h"

namespace catena::rocks {
namespace {

void AppendPushHeader(std::string& out, size_t count, int protocol) {
  const size_t at = out.size();
  resp::AppendArrayHeader(out, count);
  if (protocol >= 3) out[at] = '>';
}

void Confirm(const EngineLane& lane, std::string_view kind, std::string_view name,
             std::string& out) {
  AppendPushHeader(out, 3, lane.client.protocol);
  resp::AppendBulk(out, kind);
  resp::AppendBulk(out, name);
  resp::AppendInteger(out, static_cast<int64_t>(lane.subscriptions()));
}

}  // namespace

void PubSub::Add(Channels& to, std::vector<std::string>& names, EngineLane& lane,
                 std::string_view name) {
  if (std::find(names.begin(), names.end(), name) != names.end()) return;
  names.emplace_back(name);
  to[std::string(name)].push_back(&lane);
}

void PubSub::Remove(Channels& from, std::vector<std::string>& names, EngineLane& lane,
                    std::string_view name) {
  if (std::erase(names, name) == 0) return;
  const auto found = from.find(name);
  std::erase(found->second, &lane);
  if (found->second.empty()) from.erase(found);
}

void PubSub::Subscribe(EngineLane& lane, std::string_view channel, std::string& out) {
  Add(channels_, lane.channels, lane, channel);
  Confirm(lane, "subscribe", channel, out);
}

void PubSub::SubscribePattern(EngineLane& lane, std::string_view pattern, std::string& out) {
  Add(patterns_, lane.patterns, lane, pattern);
  Confirm(lane, "psubscribe", pattern, out);
}

void PubSub::Unsubscribe(EngineLane& lane, std::string_view channel, std::string& out) {
  Remove(channels_, lane.channels, lane, channel);
  Confirm(lane, "unsubscribe", channel, out);
}

void PubSub::UnsubscribePattern(EngineLane& lane, std::string_view pattern, std::string& out) {
  Remove(patterns_, lane.patterns, lane, pattern);
  Confirm(lane, "punsubscribe", pattern, out);
}

void PubSub::ConfirmNone(const EngineLane& lane, std::string_view kind, std::string& out) {
  AppendPushHeader(out, 3, lane.client.protocol);
  resp::AppendBulk(out, kind);
  resp::AppendNull(out, lane.client.protocol);
  resp::AppendInteger(out, static_cast<int64_t>(lane.subscriptions()));
}

void PubSub::Leave(EngineLane& lane) {
  while (!lane.channels.empty()) {
    Remove(channels_, lane.channels, lane, std::string(lane.channels.back()));
  }
  while (!lane.patterns.empty()) {
    Remove(patterns_, lane.patterns, lane, std::string(lane.patterns.back()));
  }
}

uint64_t PubSub::Publish(std::string_view channel, std::string_view message,
                         const std::function<void(EngineLane&, std::string_view)>& deliver) {
  uint64_t receivers = 0;
  if (const auto found = channels_.find(channel); found != channels_.end()) {
    for (EngineLane* lane : found->second) {
      message_.clear();
      AppendPushHeader(message_, 3, lane->client.protocol);
      for (const std::string_view part : {std::string_view("message"), channel, message}) {
        resp::AppendBulk(message_, part);
      }
      deliver(*lane, message_);
      ++receivers;
    }
  }
  for (const auto& [pattern, lanes] : patterns_) {
    if (!command::MatchesGlob(pattern, channel)) continue;
    for (EngineLane* lane : lanes) {
      message_.clear();
      AppendPushHeader(message_, 4, lane->client.protocol);
      for (const std::string_view part :
           {std::string_view("pmessage"), std::string_view(pattern), channel, message}) {
        resp::AppendBulk(message_, part);
      }
      deliver(*lane, message_);
      ++receivers;
    }
  }
  return receivers;
}

bool PubSub::Tells(std::string_view subcommand) {
  return EqualsIgnoringCase(subcommand, "numpat") || EqualsIgnoringCase(subcommand, "numsub") ||
         EqualsIgnoringCase(subcommand, "channels");
}

void PubSub::Tell(Arguments arguments, std::string& out) const {
  const auto tell_count = [&out](size_t count) {
    resp::AppendInteger(out, static_cast<int64_t>(count));
  };
  if (EqualsIgnoringCase(arguments[0], "numpat")) return tell_count(patterns_.size());
  if (EqualsIgnoringCase(arguments[0], "numsub")) {
    resp::AppendArrayHeader(out, 2 * (arguments.size() - 1));
    for (const std::string_view channel : arguments.subspan(1)) {
      const auto found = channels_.find(channel);
      resp::AppendBulk(out, channel);
      tell_count(found == channels_.end() ? 0 : found->second.size());
    }
    return;
  }
  if (arguments.size() > 2) {
    constexpr size_t kShown = 128;
    return resp::AppendError(out, "ERR unknown subcommand or wrong number of arguments for '" +
                                      std::string(arguments[0].substr(0, kShown)) +
                                      "'. Try PUBSUB HELP.");
  }
  size_t count = 0;
  std::string names;
  for (const auto& [channel, lanes] : channels_) {
    if (arguments.size() > 1 && !command::MatchesGlob(arguments[1], channel)) continue;
    resp::AppendBulk(names, channel);
    ++count;
  }
  resp::AppendArrayHeader(out, count);
  out.append(names);
}

}  // namespace catena::rocks
