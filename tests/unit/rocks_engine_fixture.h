// The small language of the engine's tests: a database on a store in memory, and commands as people
// write them.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "backends/rocksdb/effects.h"
#include "backends/rocksdb/engine.h"
#include "proxy/resp/decoder.h"

namespace catena::rocks::test {

inline const std::string kHistory = "ca7e4a0000000000000000000000000000000001";

// RESP for people: "OK", "1", "(nil)", "[a b]", "ERR ...".
inline std::string Readable(const resp::Value& value) {
  switch (value.type) {
    case resp::Type::kInteger:
      return std::to_string(value.integer);
    case resp::Type::kNull:
      return "(nil)";
    case resp::Type::kArray:
    case resp::Type::kMap:
    case resp::Type::kSet:
    case resp::Type::kPush: {
      std::string text = value.type == resp::Type::kPush ? ">[" : "[";
      for (const resp::Value& element : value.elements) {
        if (text.back() != '[') text += ' ';
        text += Readable(element);
      }
      return text + "]";
    }
    default:
      return value.text;
  }
}

inline std::string Readable(std::string_view bytes) {
  resp::Value value;
  size_t consumed = 0;
  std::string error, text;
  while (!bytes.empty()) {
    if (resp::DecodeValue(bytes, value, consumed, error) != resp::Progress::kComplete) {
      return "unreadable: " + std::string(bytes);
    }
    if (!text.empty()) text += ' ';
    text += Readable(value);
    bytes.remove_prefix(consumed);
  }
  return text;
}

struct Database {
  explicit Database(std::unique_ptr<Store> with = MakeMemoryStore())
      : store(std::move(with)), engine(std::make_unique<Engine>(*store, 1)) {
    engine->Open(1, 2);
    engine->Open(2, 2);
    engine->Open(3, 3);
  }
  static Database Head() {
    Database database;
    (void)database.engine->BecomeHead(kHistory);
    return database;
  }

  // Runs an inline command on a lane; what came out for that lane, and to others "lane:...".
  std::string Run(std::string_view command, LaneId lane = 1) {
    Output out;
    const std::string line = std::string(command) + "\r\n";
    if (auto done = engine->Submit(lane, line, now_ms, out); !done) {
      return "lost: " + done.error().message;
    }
    return Taken(out, lane);
  }
  std::string Taken(Output& out, LaneId lane) {
    std::string text;
    for (const Output::Reply& reply : out.replies) {
      if (!text.empty()) text += ' ';
      if (reply.lane != lane) text += std::to_string(reply.lane) + ":";
      text += Readable(std::string_view(out.bytes).substr(reply.begin, reply.size));
    }
    effects += out.effects;
    executed = out.executed;
    applied = out.applied;
    return text;
  }
  void Commit(Position committed) {
    Output out;
    (void)engine->Commit(committed, out);
    Taken(out, 0);
  }
  void CommitAll() { Commit(executed); }
  // Feeds the bytes behind what is applied.
  std::string Apply(std::string_view bytes) {
    Output out;
    const auto done = engine->Apply(bytes, now_ms, out);
    if (!done) return done.error().message;
    return Taken(out, 0);
  }
  // What the store has, in order: "a=1 b=2@50".
  std::string Stored() {
    std::string text;
    const auto cursor = store->Walk();
    for (cursor->SeekToFirst(); cursor->Valid(); cursor->Next()) {
      Item item;
      cursor->Read(item);
      if (!text.empty()) text += ' ';
      text += std::string(cursor->key()) + "=" + item.value;
      if (item.deadline_ms != Item::kNoDeadline) text += "@" + std::to_string(item.deadline_ms);
    }
    return text;
  }

  std::unique_ptr<Store> store;
  std::unique_ptr<Engine> engine;
  int64_t now_ms = 1'000'000;
  std::string effects;  // all of them
  Position executed, applied;
};

}  // namespace catena::rocks::test
