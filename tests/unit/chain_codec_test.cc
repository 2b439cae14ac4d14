// Every chain message as bytes and back; whatever is not exactly one is refused.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "proxy/peer/codec.h"
#include "proxy/resp/decoder.h"

namespace catena::peer {
namespace {

using namespace catena::chain;

constexpr uint64_t kLarge = UINT64_MAX;

Configuration TwoMembers() {
  return {"shop \"x\"",
          Epoch(INT64_MAX),
          {{"a", Incarnation(INT64_MAX), "10.0.0.1:6379", "unix:///tmp/a b", "run\n1"},
           {"b", Incarnation(1), "", "", ""}}};
}

std::string Encoded(const Message& message) {
  std::string bytes;
  Encode(message, bytes);
  return bytes;
}

std::vector<std::string> Arguments(const std::string& bytes) {
  resp::CommandDecoder decoder;
  resp::Command command;
  size_t consumed = 0;
  REQUIRE(decoder.Decode(bytes, command, consumed) == resp::Progress::kComplete);
  REQUIRE(consumed == bytes.size());  // exactly one command
  return {command.arguments.begin(), command.arguments.end()};
}

Result<Message> DecodeArguments(const std::vector<std::string>& arguments) {
  std::vector<std::string_view> views(arguments.begin(), arguments.end());
  return Decode(views);
}

std::vector<Message> AllMessages() {
  std::string_view binary("a\r\n\0$3\xff", 7);
  return {
      Hello{TwoMembers(), "a", Incarnation(2), "b", Incarnation(kLarge), LinkPurpose::kChain,
            "replid"},
      Hello{TwoMembers(), "", Incarnation(0), "", Incarnation(0), LinkPurpose::kJoin, ""},
      Hello{TwoMembers(), "a", Incarnation(1), "b", Incarnation(2), LinkPurpose::kAcks, "r"},
      Start{Position(INT64_MAX)},
      Target{Position(0)},
      Append{Position(12), Position(7), binary},
      Append{Position(12), Position(INT64_MAX), ""},
      Ask{false, "a node", 7},
      Ask{true, "b", kLarge},
      CannotCatchUp{"it has 5,\r\nthe log begins at 9"},
      SnapshotBegin{Position(4), kLarge},
      SnapshotBegin{Position(4), kLarge, "name", kLarge - 1},
      SnapshotChunk{binary},
      SnapshotEnd{},
      Welcome{Position(1), "replid"},
      Offer{"", Position(0)},
      Offer{"replid", Position(INT64_MAX)},
      Offer{"", Position(), "name", kLarge},
      Refuse{"epoch is 5 here", std::nullopt},
      Refuse{"", TwoMembers()},
      Ack{Position(9)},
      VerifyRequest{"a", 3},
      Answer{true, "a", 3, Position(4)},
      Answer{false, "", kLarge, Position(INT64_MAX)},
      JoinProgress{Position(8), true},
      JoinProgress{Position(0), false},
  };
}

TEST_CASE("every message survives the way there: encoding what was decoded gives the same bytes") {
  std::vector<size_t> seen;
  for (const Message& message : AllMessages()) {
    std::string bytes = Encoded(message);
    CAPTURE(bytes);
    std::vector<std::string> arguments = Arguments(bytes);
    Result<Message> decoded = DecodeArguments(arguments);
    REQUIRE(decoded.has_value());
    CHECK(decoded->index() == message.index());
    seen.push_back(message.index());
    std::vector<std::string_view> views(arguments.begin(), arguments.end());
    CHECK(Encoded(*Decode(views)) == bytes);
  }
  // None is forgotten here when a message is added.
  for (size_t index = 0; index < std::variant_size_v<Message>; ++index) {
    CAPTURE(index);
    CHECK(std::count(seen.begin(), seen.end(), index) > 0);
  }
}

TEST_CASE("fields arrive where they were put") {
  auto decode = [](const Message& message) {
    static std::vector<std::string> arguments;  // views in the result point into it
    arguments = Arguments(Encoded(message));
    return *DecodeArguments(arguments);
  };
  auto hello = std::get<Hello>(decode(
      Hello{TwoMembers(), "a", Incarnation(2), "b", Incarnation(3), LinkPurpose::kJoin, "r"}));
  CHECK(hello.configuration == TwoMembers());
  CHECK(hello.from == "a");
  CHECK(hello.from_incarnation == Incarnation(2));
  CHECK(hello.to == "b");
  CHECK(hello.to_incarnation == Incarnation(3));
  CHECK(hello.purpose == LinkPurpose::kJoin);
  CHECK(hello.replid == "r");
  auto answer = std::get<Answer>(decode(Answer{true, "a", 3, Position(4)}));
  CHECK(answer.verify);
  CHECK(answer.asker == "a");
  CHECK(answer.number == 3);
  CHECK(answer.committed == Position(4));
  CHECK_FALSE(std::get<Answer>(decode(Answer{false, "a", 3, Position(4)})).verify);
  auto refuse = std::get<Refuse>(decode(Refuse{"why", TwoMembers()}));
  CHECK(refuse.reason == "why");
  REQUIRE(refuse.newer.has_value());
  CHECK(*refuse.newer == TwoMembers());
  CHECK_FALSE(std::get<Refuse>(decode(Refuse{"why", std::nullopt})).newer.has_value());
  auto progress = std::get<JoinProgress>(decode(JoinProgress{Position(8), true}));
  CHECK(progress.received == Position(8));
  CHECK(progress.loaded);
  auto ask = std::get<Ask>(decode(Ask{true, "a", 7}));
  CHECK(ask.verify);
  CHECK(ask.asker == "a");
  CHECK(ask.number == 7);
  auto snapshot = std::get<SnapshotBegin>(decode(SnapshotBegin{Position(4), 5, "name", 3}));
  CHECK(snapshot.position == Position(4));
  CHECK(snapshot.length == 5);
  CHECK(snapshot.name == "name");
  CHECK(snapshot.offset == 3);
  auto offer = std::get<Offer>(decode(Offer{"r", Position(4), "name", 6}));
  CHECK(offer.snapshot == "name");
  CHECK(offer.snapshot_bytes == 6);
}

TEST_CASE("the header of an Append without a copy gives the bytes of an Append") {
  std::string payload(100'000, 'x');
  std::string by_hand;
  EncodeAppendHeader(Position(77), Position(70), payload.size(), by_hand);
  by_hand += payload + "\r\n";
  CHECK(by_hand == Encoded(Append{Position(77), Position(70), payload}));
}

TEST_CASE("a message with an argument less or more is refused") {
  for (const Message& message : AllMessages()) {
    std::vector<std::string> arguments = Arguments(Encoded(message));
    CAPTURE(arguments[0]);
    std::vector<std::string> more = arguments;
    more.push_back("1");
    CHECK_FALSE(DecodeArguments(more).has_value());
    for (size_t keep = 1; keep < arguments.size(); ++keep) {
      CHECK_FALSE(DecodeArguments({arguments.begin(), arguments.begin() + static_cast<long>(keep)})
                      .has_value());
    }
  }
}

TEST_CASE("numbers, words and configurations that are none are refused") {
  const std::vector<std::vector<std::string>> malformed = {
      {},
      {""},
      {"CATENA.NOTHING"},
      {"catena.ack", "1"},
      {"CATENA.ACK", ""},
      {"CATENA.ACK", "-1"},
      {"CATENA.ACK", "+1"},
      {"CATENA.ACK", " 1"},
      {"CATENA.ACK", "1 "},
      {"CATENA.ACK", "1x"},
      {"CATENA.ACK", "0x1"},
      {"CATENA.ACK", "18446744073709551616"},
      {"CATENA.START", "9.0"},
      // A position that the next bytes would make wrap.
      {"CATENA.START", "9223372036854775808"},
      {"CATENA.APPEND", "18446744073709551615", "0", "bytes"},
      {"CATENA.SNAPSHOT", "9223372036854775808", "5"},
      {"CATENA.ASK", "both", "a", "1"},
      {"CATENA.ASK", "VERIFY", "a", "1"},
      {"CATENA.ANSWER", "query", "a", "1", "one"},
      {"CATENA.JOINED", "1", "true"},
      {"CATENA.SNAPSHOT", "1", "-5"},
      {"CATENA.HELLO", "{}", "a", "1", "b", "2", "chain", "r"},
      {"CATENA.HELLO", "not json", "a", "1", "b", "2", "chain", "r"},
      {"CATENA.REFUSE", "why", "{\"epoch\":"},
  };
  for (const auto& arguments : malformed) {
    CAPTURE(arguments.empty() ? "" : arguments[0]);
    CAPTURE(arguments.size() > 1 ? arguments[1] : "");
    CHECK_FALSE(DecodeArguments(arguments).has_value());
  }
  std::vector<std::string> hello = Arguments(Encoded(AllMessages()[0]));
  hello[6] = "joined";
  CHECK_FALSE(DecodeArguments(hello).has_value());
  // The reason names a stranger's message without repeating all of it.
  CHECK(DecodeArguments({std::string(10'000, 'x')}).error().message.size() < 100);
}

}  // namespace
}  // namespace catena::peer
