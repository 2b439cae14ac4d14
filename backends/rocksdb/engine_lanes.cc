// Connections of the engine: what they run at once, queue, watch and subscribe to.
#include <algorithm>

#include "backends/rocksdb/command_table.h"
#include "backends/rocksdb/engine_impl.h"
#include "proxy/base/free_memory.h"
#include "proxy/base/text.h"
#include "proxy/resp/encoder.h"

namespace catena::rocks {
namespace {

constexpr std::string_view kReadOnly = "-READONLY You can't write against a read only replica.\r\n";
constexpr size_t kKeptReplyBytes = 1u << 20;

void AppendOk(std::string& out) { out += "+OK\r\n"; }

}  // namespace

Engine::Impl::Word Engine::Impl::Classify(std::string_view name) {
  const auto is = [name](std::string_view word) { return EqualsIgnoringCase(name, word); };
  switch (name.size()) {
    case 4:
      return is("exec")   ? Word::kExec
             : is("ping") ? Word::kPing
             : is("quit") ? Word::kQuit
                          : Word::kOther;
    case 5:
      return is("multi")   ? Word::kMulti
             : is("watch") ? Word::kWatch
             : is("reset") ? Word::kReset
                           : Word::kOther;
    case 6:
      return is("pubsub") ? Word::kPubsub : Word::kOther;
    case 7:
      return is("publish")   ? Word::kPublish
             : is("discard") ? Word::kDiscard
             : is("unwatch") ? Word::kUnwatch
                             : Word::kOther;
    case 9:
      return is("subscribe") ? Word::kSubscribe : Word::kOther;
    case 10:
      return is("psubscribe") ? Word::kPsubscribe : Word::kOther;
    case 11:
      return is("unsubscribe") ? Word::kUnsubscribe : Word::kOther;
    case 12:
      return is("punsubscribe") ? Word::kPunsubscribe : Word::kOther;
    default:
      return Word::kOther;
  }
}

// --- lanes ---------------------------------------------------------------------------------------

EngineLane* Engine::Impl::Find(LaneId id) {
  if (last_lane_ != nullptr && last_lane_->id == id) return last_lane_;
  const auto found = lanes_.find(id);
  if (found == lanes_.end()) return nullptr;
  return last_lane_ = found->second.get();
}

void Engine::Open(LaneId id, int protocol) {
  auto lane = std::make_unique<EngineLane>();
  lane->id = id;
  lane->client.id = static_cast<int64_t>(id);
  lane->client.protocol = protocol;
  impl_->lanes_[id] = std::move(lane);
  impl_->facts_.connections = impl_->lanes_.size();
}

void Engine::Close(LaneId id) {
  EngineLane* lane = impl_->Find(id);
  if (lane == nullptr) return;
  impl_->watches_.Unwatch(*lane);
  impl_->pubsub_.Leave(*lane);
  impl_->last_lane_ = nullptr;
  impl_->lanes_.erase(id);
  impl_->facts_.connections = impl_->lanes_.size();
}

void Engine::AskPosition(LaneId lane, Output& out) {
  out.replies.push_back({Output::Reply::Kind::kPosition, lane, 0, 0, impl_->executed_});
}

Result<void> Engine::Prefetch(const std::vector<std::string_view>& commands) {
  Prefetched& ahead = impl_->prefetched_;
  ahead.Clear();
  if (commands.size() < 2 || impl_->overlay_.hides_store()) return {};
  for (const std::string_view raw : commands) {
    size_t consumed = 0;
    resp::Command& command = impl_->command_;
    if (impl_->decoder_.Decode(raw, command, consumed) != resp::Progress::kComplete) continue;
    if (command.is_inline) continue;  // its arguments may lie in the decoder
    const CommandTraits* traits = FindTraits(command.arguments);
    if (traits == nullptr || !traits->reads_only_values || traits->first_key <= 0) continue;
    const int count = static_cast<int>(command.arguments.size());
    const int last = traits->last_key < 0 ? count + traits->last_key : traits->last_key;
    for (int i = traits->first_key; i <= last && i < count; i += std::max(1, traits->key_step)) {
      const std::string_view key = command.arguments[static_cast<size_t>(i)];
      if (!impl_->overlay_.Find(key).decided) ahead.Add(key);
    }
  }
  return ahead.Read(impl_->store_);
}

Result<void> Engine::Submit(LaneId id, std::string_view command, int64_t now_ms, Output& out) {
  EngineLane* lane = impl_->Find(id);
  if (lane == nullptr) return {};  // closed meanwhile
  impl_->now_ms_ = now_ms;
  impl_->out_ = &out;
  auto done = impl_->Submit(*lane, command, out);
  impl_->NotePositions(out);
  return done;
}

void Engine::Impl::Reply(const EngineLane& lane, size_t begin, Output::Reply::Kind kind) {
  out_->replies.push_back({kind, lane.id, begin, out_->bytes.size() - begin, Position()});
}

void Engine::Impl::Push(EngineLane& lane, std::string_view message) {
  const size_t begin = out_->bytes.size();
  out_->bytes.append(message);
  Reply(lane, begin, Output::Reply::Kind::kPush);
}

Result<void> Engine::Impl::Submit(EngineLane& lane, std::string_view raw, Output& out) {
  size_t consumed = 0;
  if (decoder_.Decode(raw, command_, consumed) != resp::Progress::kComplete) {
    const size_t begin = out.bytes.size();
    resp::AppendError(out.bytes, "ERR " + decoder_.error());
    decoder_ = resp::CommandDecoder();
    Reply(lane, begin, Output::Reply::Kind::kReply);
    return {};
  }
  const Word word = Classify(command_.arguments[0]);
  if (word == Word::kOther && head_ && !lane.in_multi && !lane.only_subscriptions()) {
    const size_t begin = out.bytes.size();
    CommandContext context{*this, lane.client, facts_, workspace_};
    Execute(command_.arguments, context, out.bytes);
    if (auto ended = EndEntry(out); !ended) return ended;
    Reply(lane, begin, Output::Reply::Kind::kReply);
    return {};
  }
  reply_.clear();
  RunAny(lane, word, command_.arguments);
  if (auto ended = EndEntry(out); !ended) return ended;
  if (!reply_.empty()) {
    const size_t begin = out.bytes.size();
    out.bytes.append(reply_);
    Reply(lane, begin, Output::Reply::Kind::kReply);
    if (reply_.capacity() > kKeptReplyBytes) FreeMemory(reply_);
  }
  return {};
}

// --- one command, in the order of Redis's checks -------------------------------------------------

bool Engine::Impl::Writes(Word word, const EngineLane& lane, Arguments arguments) const {
  if (word == Word::kExec) return lane.in_multi && lane.queued_writes;
  if (word != Word::kOther) return false;
  const CommandTraits* traits = FindTraits(arguments);
  return traits != nullptr && traits->writes;
}

void Engine::Impl::RunAny(EngineLane& lane, Word word, Arguments arguments) {
  bool refused = !CheckArguments(arguments, reply_);
  if (!refused && !head_ && Writes(word, lane, arguments)) {
    refused = true;
    reply_ = kReadOnly;
  }
  const bool subscription = word == Word::kSubscribe || word == Word::kPsubscribe ||
                            word == Word::kUnsubscribe || word == Word::kPunsubscribe;
  const bool in_context =
      subscription || word == Word::kPing || word == Word::kQuit || word == Word::kReset;
  if (!refused && lane.only_subscriptions() && !in_context) {
    refused = true;
    resp::AppendError(reply_, "ERR Can't execute '" +
                                  std::string(FindCommand(arguments).row->name) +
                                  "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET "
                                  "are allowed in this context");
  }
  if (!refused && lane.in_multi && subscription) {
    refused = true;
    reply_ = "-ERR Command not allowed inside a transaction\r\n";
  }
  if (refused && word == Word::kExec) {
    const std::string_view reason = std::string_view(reply_).substr(1, reply_.size() - 3);
    reply_ = "-EXECABORT Transaction discarded because of: " +
             std::string(reason.starts_with("ERR ") ? reason.substr(4) : reason) + "\r\n";
    return EndTransaction(lane);
  }
  if (refused) {
    lane.multi_failed |= lane.in_multi;
    return;
  }
  const bool at_once = word == Word::kExec || word == Word::kDiscard || word == Word::kMulti ||
                       word == Word::kWatch || word == Word::kQuit || word == Word::kReset;
  if (lane.in_multi && !at_once) {
    lane.queued_writes |= Writes(word, lane, arguments);
    lane.Queue(arguments);
    reply_ += "+QUEUED\r\n";
    return;
  }
  if (subscription) return Subscriptions(lane, word, arguments.subspan(1));
  if (at_once) return RunState(lane, word, arguments);
  if (word == Word::kUnwatch) EndTransaction(lane);
  Run(lane, word, arguments);
}

void Engine::Impl::Run(EngineLane& lane, Word word, Arguments arguments) {
  if (word == Word::kPublish) {
    const uint64_t receivers = Publish(arguments[1], arguments[2]);
    return resp::AppendInteger(reply_, static_cast<int64_t>(receivers));
  }
  if (word == Word::kPubsub && PubSub::Tells(arguments[1])) {
    return pubsub_.Tell(arguments.subspan(1), reply_);
  }
  if (word == Word::kUnwatch) return AppendOk(reply_);
  if (word == Word::kPing && lane.only_subscriptions()) return Ping(lane, arguments);
  CommandContext context{*this, lane.client, facts_, workspace_};
  Execute(arguments, context, reply_);
}

uint64_t Engine::Impl::Publish(std::string_view channel, std::string_view message) {
  if (head_) {
    published_bytes_.append(channel).append(message);
    published_.emplace_back(channel.size(), message.size());
  }
  return pubsub_.Publish(channel, message,
                         [this](EngineLane& lane, std::string_view text) { Push(lane, text); });
}

void Engine::Impl::Ping(EngineLane&, Arguments arguments) {
  resp::AppendArrayHeader(reply_, 2);
  resp::AppendBulk(reply_, "pong");
  resp::AppendBulk(reply_, arguments.size() > 1 ? arguments[1] : std::string_view());
}

void Engine::Impl::RunState(EngineLane& lane, Word word, Arguments arguments) {
  switch (word) {
    case Word::kMulti:
      if (lane.in_multi) {
        reply_ += "-ERR MULTI calls can not be nested\r\n";
        return;
      }
      lane.in_multi = true;
      return AppendOk(reply_);
    case Word::kWatch:
      if (lane.in_multi) {
        reply_ += "-ERR WATCH inside MULTI is not allowed\r\n";
        return;
      }
      return Watch(lane, arguments.subspan(1));
    case Word::kDiscard:
      if (!lane.in_multi) {
        reply_ += "-ERR DISCARD without MULTI\r\n";
        return;
      }
      EndTransaction(lane);
      return AppendOk(reply_);
    case Word::kExec:
      return Exec(lane);
    case Word::kReset:
      return Reset(lane);
    default:
      return AppendOk(reply_);  // QUIT: its owner closes
  }
}

void Engine::Impl::Reset(EngineLane& lane) {
  EndTransaction(lane);
  pubsub_.Leave(lane);
  lane.client.protocol = 2;
  lane.client.name.clear();
  reply_ += "+RESET\r\n";
}

// --- transactions --------------------------------------------------------------------------------

void Engine::Impl::EndTransaction(EngineLane& lane) {
  lane.EndTransaction();
  watches_.Unwatch(lane);
  lane.watch_failed = false;
}

void Engine::Impl::Watch(EngineLane& lane, Arguments keys) {
  AppendOk(reply_);
  if (lane.watch_failed) return;
  for (const std::string_view key : keys) {
    watches_.Watch(lane, key, GetRaw(key, scratch_) && Expired(scratch_.deadline_ms));
  }
}

void Engine::Impl::Exec(EngineLane& lane) {
  if (!lane.in_multi) {
    reply_ += "-ERR EXEC without MULTI\r\n";
    return;
  }
  const bool gone = watches_.AnyExpired(lane, [this](std::string_view key) {
    return GetRaw(key, scratch_) && Expired(scratch_.deadline_ms);
  });
  if (lane.multi_failed) {
    reply_ += "-EXECABORT Transaction discarded because of previous errors.\r\n";
  } else if (gone || lane.watch_failed) {
    resp::AppendNullArray(reply_, lane.client.protocol);
  } else {
    watches_.Unwatch(lane);  // its own changes concern it no more
    RunQueued(lane);
  }
  EndTransaction(lane);
}

void Engine::Impl::RunQueued(EngineLane& lane) {
  lane.in_multi = false;
  resp::AppendArrayHeader(reply_, lane.queued_counts.size());
  size_t at = 0, argument = 0;
  for (const size_t count : lane.queued_counts) {
    queued_arguments_.clear();
    for (size_t i = 0; i < count; ++i) {
      const size_t length = lane.queued_lengths[argument++];
      queued_arguments_.push_back(std::string_view(lane.queued_bytes).substr(at, length));
      at += length;
    }
    Run(lane, Classify(queued_arguments_[0]), queued_arguments_);
  }
}

// --- subscriptions -------------------------------------------------------------------------------

// Each name is confirmed by a message of its own. In RESP2 the first one is the reply.
void Engine::Impl::Subscriptions(EngineLane& lane, Word word, Arguments names) {
  const bool leaves = word == Word::kUnsubscribe || word == Word::kPunsubscribe;
  const bool patterns = word == Word::kPsubscribe || word == Word::kPunsubscribe;
  std::vector<std::string> all;
  std::vector<std::string_view> views(names.begin(), names.end());
  if (leaves && names.empty()) {
    all = patterns ? lane.patterns : lane.channels;
    views.assign(all.begin(), all.end());
  }
  auto kind = lane.client.protocol >= 3 ? Output::Reply::Kind::kPush : Output::Reply::Kind::kReply;
  const auto confirm = [&](const auto& change) {
    const size_t begin = out_->bytes.size();
    change(out_->bytes);
    Reply(lane, begin, kind);
    kind = Output::Reply::Kind::kPush;
  };
  if (views.empty()) {
    confirm([&](std::string& out) {
      PubSub::ConfirmNone(lane, patterns ? "punsubscribe" : "unsubscribe", out);
    });
  }
  for (const std::string_view name : views) {
    confirm([&](std::string& out) {
      if (word == Word::kSubscribe) pubsub_.Subscribe(lane, name, out);
      if (word == Word::kPsubscribe) pubsub_.SubscribePattern(lane, name, out);
      if (word == Word::kUnsubscribe) pubsub_.Unsubscribe(lane, name, out);
      if (word == Word::kPunsubscribe) pubsub_.UnsubscribePattern(lane, name, out);
    });
  }
}

}  // namespace catena::rocks
