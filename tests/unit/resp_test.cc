// The RESP codecs: cut at every byte, compared with hiredis, and fed with hostile lengths.
#include <doctest/doctest.h>
#include <hiredis/hiredis.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "proxy/resp/decoder.h"
#include "proxy/resp/encoder.h"

namespace catena::resp {
namespace {

using Arguments = std::vector<std::string>;

Arguments Copy(const Command& command) {
  return {command.arguments.begin(), command.arguments.end()};
}

std::string Encoded(const Arguments& arguments) {
  std::string out;
  const std::vector<std::string_view> views(arguments.begin(), arguments.end());
  AppendCommand(out, views);
  return out;
}

// Decodes all of `input`, which arrives in pieces that end at `cuts` (ascending). The buffer moves
// with each piece, so that a view kept across calls would be caught by the sanitizers.
struct Decoded {
  std::vector<Arguments> commands;
  std::string raw;
  std::string error;

  Decoded(const std::string& input, const std::vector<size_t>& cuts, Limits limits = {},
          bool drop_on_need_more = true) {
    CommandDecoder decoder(limits);
    Command command;
    std::string buffer;
    size_t start = 0;
    for (size_t i = 0; i <= cuts.size(); ++i) {
      const size_t end = i < cuts.size() ? cuts[i] : input.size();
      buffer = std::string(buffer) + input.substr(start, end - start);
      start = end;
      while (true) {
        size_t consumed = 0;
        const Progress progress = decoder.Decode(buffer, command, consumed);
        REQUIRE(consumed <= buffer.size());
        if (progress == Progress::kError) {
          error = decoder.error();
          return;
        }
        if (progress == Progress::kNeedMore) {
          CHECK((decoder.bytes_wanted() == 0 || decoder.bytes_wanted() > buffer.size() - consumed));
          if (drop_on_need_more) buffer.erase(0, consumed);
          break;
        }
        REQUIRE_FALSE(command.arguments.empty());
        commands.push_back(Copy(command));
        raw += command.raw;
        CHECK(command.raw == std::string_view(buffer).substr(0, consumed));
        buffer.erase(0, consumed);
      }
    }
  }
};

Progress DecodeOnce(const std::string& input, std::string& error, Limits limits = {}) {
  CommandDecoder decoder(limits);
  Command command;
  size_t consumed = 0;
  const Progress progress = decoder.Decode(input, command, consumed);
  error = decoder.error();
  return progress;
}

// The first command of `input`, which must hold one.
Arguments First(const std::string& input) {
  const Decoded decoded(input, {});
  CAPTURE(input);
  CHECK(decoded.error.empty());
  REQUIRE(decoded.commands.size() >= 1);
  return decoded.commands.front();
}

std::string ErrorOf(const std::string& input, Limits limits = {}) {
  std::string error;
  CAPTURE(input);
  CHECK(DecodeOnce(input, error, limits) == Progress::kError);
  return error;
}

const std::vector<std::string>& CommandCorpus() {
  static const std::vector<std::string> corpus = {
      "*1\r\n$4\r\nPING\r\n",
      "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n",
      "*3\r\n$3\r\nSET\r\n$0\r\n\r\n$12\r\nline\r\n\r\nline\r\n",
      "*2\r\n$10\r\n0123456789\r\n$3\r\n\r\n\n\r\n",
      "PING\r\n",
      "PING\n",
      "  set  key \"a \\\"quoted\\\" \\x41\\n\"  'single \\' quote'\t\r\n",
      "\r\n*1\r\n$4\r\nPING\r\n",
      "\n\n*0\r\n*-1\r\n*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n",
      "*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$4\r\nQUIT\r\n",
      "   \r\n\t\nGET x\r\n",
  };
  return corpus;
}

TEST_CASE("commands decode alike wherever they are cut") {
  std::string all;
  for (const std::string& input : CommandCorpus()) all += input;
  for (const std::string& input : CommandCorpus()) {
    CAPTURE(input);
    const Decoded whole(input, {});
    CHECK(whole.error.empty());
    REQUIRE_FALSE(whole.commands.empty());
    CHECK(whole.raw == input);
    for (bool drop : {true, false}) {
      for (size_t a = 1; a < input.size(); ++a) {
        CHECK(Decoded(input, {a}, {}, drop).commands == whole.commands);
        for (size_t b = a + 1; b < input.size(); ++b) {
          CHECK(Decoded(input, {a, b}, {}, drop).commands == whole.commands);
        }
      }
    }
  }
  std::vector<size_t> every_byte;
  for (size_t i = 1; i < all.size(); ++i) every_byte.push_back(i);
  const Decoded bytewise(all, every_byte);
  CHECK(bytewise.commands == Decoded(all, {}).commands);
}

TEST_CASE("random commands survive the way through encoder and decoder in random pieces") {
  std::mt19937 random(20240611);
  for (int round = 0; round < 300; ++round) {
    std::vector<Arguments> commands(1 + random() % 5);
    std::string input;
    for (Arguments& command : commands) {
      command.resize(1 + random() % 40);
      for (std::string& argument : command) {
        argument.resize(random() % (random() % 8 == 0 ? 3000 : 20));
        for (char& c : argument) c = "\r\n$*0123\0ab"[random() % 11];
      }
      input += Encoded(command);
    }
    std::vector<size_t> cuts;
    for (size_t at = 0; (at += 1 + random() % 200) < input.size();) cuts.push_back(at);
    const Decoded decoded(input, cuts);
    CAPTURE(round);
    CHECK(decoded.error.empty());
    REQUIRE(decoded.commands == commands);
    REQUIRE(decoded.raw == input);
  }
}

TEST_CASE("empty lines and empty arrays are skipped; what was skipped is consumed") {
  CommandDecoder decoder;
  Command command;
  size_t consumed = 0;
  CHECK(decoder.Decode("\r\n\n*0\r\n*-5\r\n", command, consumed) == Progress::kNeedMore);
  CHECK(consumed == 12);
  CHECK(decoder.Decode("\r\n*1\r\n$1\r\n", command, consumed) == Progress::kNeedMore);
  CHECK(consumed == 2);
  CHECK(decoder.Decode("", command, consumed) == Progress::kNeedMore);
  CHECK(consumed == 0);
  CHECK(command.arguments.empty());
}

TEST_CASE("inline commands are split as sdssplitargs does") {
  CHECK(First("get key\r\n") == Arguments{"get", "key"});
  CHECK(First("  get \t key \v\f \r\n") == Arguments{"get", "key"});
  CHECK(First("a\vb c\n") == Arguments{"a\vb", "c"});  // only at a word's start is it a space
  CHECK(First("a\rb\n") == Arguments{"a", "b"});
  CHECK(First("set k \"\"\r\n") == Arguments{"set", "k", ""});
  CHECK(First("set k ''\r\n") == Arguments{"set", "k", ""});
  CHECK(First("\"\"\r\n") == Arguments{""});
  CHECK(First(R"(e "\n\r\t\b\a\\\"\q\x41\xfF\x4")"
              "\r\n") == Arguments{"e", "\n\r\t\b\a\\\"qA\xffx4"});
  CHECK(First(R"(e '\n\'"')"
              "\r\n") == Arguments{"e", "\\n'\""});
  CHECK(First("e pre\"fix ed\" \"x\"\r\n") == Arguments{"e", "prefix ed", "x"});
  CHECK(First("e a\\nb\r\n") == Arguments{"e", "a\\nb"});
  CHECK(First("e \"a b\"\n") == Arguments{"e", "a b"});
  CHECK(First("e \"a\"\tb\r\n") == Arguments{"e", "a", "b"});
  for (const char* line : {"e \"open\r\n", "e 'open\r\n", "e \"a\"b\r\n", "e 'a'b\r\n",
                           "\"\\\"\r\n", "e \"a\\\r\n", "'\\'\r\n", "e \"a\"\"b\"\r\n"}) {
    CHECK(ErrorOf(line) == "Protocol error: unbalanced quotes in request");
  }
}

TEST_CASE("inline arguments without quotes are views into the input") {
  const std::string input = "get key\r\n";
  CommandDecoder decoder;
  Command command;
  size_t consumed = 0;
  REQUIRE(decoder.Decode(input, command, consumed) == Progress::kComplete);
  CHECK(command.is_inline);
  CHECK(command.arguments[1].data() == input.data() + 4);
  REQUIRE(decoder.Decode("*1\r\n$1\r\nx\r\n", command, consumed) == Progress::kComplete);
  CHECK_FALSE(command.is_inline);
}

TEST_CASE("malformed commands are refused in Redis's words") {
  for (const char* input :
       {"*x\r\n", "*\r\n", "*1x\r\n", "* 1\r\n", "*+1\r\n", "*01\r\n", "*-0\r\n", "*1048577\r\n",
        "*99999999999\r\n", "*9223372036854775808\r\n", "*-9223372036854775809\r\n",
        "*99999999999999999999999999\r\n"}) {
    CHECK(ErrorOf(input) == "Protocol error: invalid multibulk length");
  }
  for (const char* input :
       {"$-1\r\n", "$x\r\n", "$\r\n", "$1x\r\n", "$ 1\r\n", "$01\r\n", "$536870913\r\n",
        "$9223372036854775807\r\n", "$-9223372036854775808\r\n", "$9223372036854775808\r\n",
        "$18446744073709551615\r\n", "$18446744073709551616\r\n"}) {
    CHECK(ErrorOf(std::string("*1\r\n") + input) == "Protocol error: invalid bulk length");
    CHECK(ErrorOf(std::string("*2\r\n$1\r\nx\r\n") + input) ==
          "Protocol error: invalid bulk length");
  }
  CHECK(ErrorOf("*1\r\nx1\r\n") == "Protocol error: expected '$', got 'x'");
  CHECK(ErrorOf("*1\r\n:1\r\n") == "Protocol error: expected '$', got ':'");
  CHECK(ErrorOf("*2\r\n$1\r\nx\r\n*1\r\n") == "Protocol error: expected '$', got '*'");
  // The smallest number of all is a negative one, like any other.
  std::string error;
  CHECK(DecodeOnce("*-9223372036854775808\r\n", error) == Progress::kNeedMore);
}

TEST_CASE("lines that never end are cut off at 64 KB") {
  const size_t most = 64u << 10;
  std::string error;
  CHECK(DecodeOnce(std::string(most, 'a'), error) == Progress::kNeedMore);
  CHECK(ErrorOf(std::string(most + 1, 'a')) == "Protocol error: too big inline request");
  CHECK(ErrorOf(std::string(most + 1, 'a') + "\r\n") == "Protocol error: too big inline request");
  CHECK(DecodeOnce("*" + std::string(most - 1, '1'), error) == Progress::kNeedMore);
  CHECK(ErrorOf("*" + std::string(most, '1')) == "Protocol error: too big mbulk count string");
  CHECK(ErrorOf("*1\r\n$" + std::string(most, '1')) == "Protocol error: too big bulk count string");
  CHECK(DecodeOnce("*1\r\n$" + std::string(most - 1, '1'), error) == Progress::kNeedMore);
}

TEST_CASE("limits are those given") {
  Limits limits;
  limits.bulk_bytes_max = 10;
  limits.elements_max = 2;
  std::string error;
  CHECK(DecodeOnce("*2\r\n$10\r\n0123456789\r\n$0\r\n\r\n", error, limits) == Progress::kComplete);
  CHECK(ErrorOf("*1\r\n$11\r\n", limits) == "Protocol error: invalid bulk length");
  CHECK(ErrorOf("*3\r\n", limits) == "Protocol error: invalid multibulk length");
}

TEST_CASE("a command is bounded as a whole, as soon as its lengths tell") {
  Limits limits;
  limits.command_bytes_max = 40;
  const std::string whole = Encoded({"MSET", "k", std::string(14, 'v')});
  std::string error;
  REQUIRE(whole.size() == 42);  // the last line end is not counted
  CHECK(DecodeOnce(whole, error, limits) == Progress::kComplete);
  CHECK(ErrorOf("*3\r\n$4\r\nMSET\r\n$1\r\nk\r\n$15\r\n", limits) ==
        "Protocol error: too big command, more than 40 bytes");
}

TEST_CASE("the scanner says how much it wants inside a bulk") {
  ReplyScanner scanner;
  size_t length = 0;
  CHECK(scanner.Scan("*2\r\n:1\r\n$1000\r\nabc", length) == Progress::kNeedMore);
  CHECK(scanner.bytes_wanted() == 15 + 1000 + 2);
  CHECK(scanner.Scan("*2\r\n:1\r\n$1000\r\n" + std::string(1000, 'x') + "\r\n", length) ==
        Progress::kComplete);
  CHECK(scanner.bytes_wanted() == 0);
}

TEST_CASE("the decoder says how much it wants, and does not start over") {
  CommandDecoder decoder;
  Command command;
  size_t consumed = 0;
  const std::string value(1u << 20, 'v');
  const std::string input = Encoded({"SET", "key", value});
  REQUIRE(decoder.Decode(input.substr(0, 100), command, consumed) == Progress::kNeedMore);
  CHECK(consumed == 0);
  CHECK(decoder.bytes_wanted() == input.size());
  REQUIRE(decoder.Decode(input.substr(0, input.size() - 1), command, consumed) ==
          Progress::kNeedMore);
  CHECK(decoder.bytes_wanted() == input.size());
  // Damage in what was scanned already goes unnoticed: it is not looked at again.
  std::string damaged = input;
  damaged[4] = 'x';
  REQUIRE(decoder.Decode(damaged, command, consumed) == Progress::kComplete);
  CHECK(consumed == input.size());
  CHECK((Copy(command) == Arguments{"SET", "key", value}));
  CHECK(decoder.bytes_wanted() == 0);
}

TEST_CASE("a command of a million arguments arrives in small pieces") {
  std::string input = "*1048576\r\n";
  for (int i = 0; i < 1048576; ++i) AppendBulk(input, "12345678");
  CommandDecoder decoder;
  Command command;
  size_t consumed = 0;
  for (size_t end = 4096; end < input.size(); end += 4096) {
    REQUIRE(decoder.Decode(std::string_view(input).substr(0, end), command, consumed) ==
            Progress::kNeedMore);
  }
  REQUIRE(decoder.Decode(input, command, consumed) == Progress::kComplete);
  CHECK(command.arguments.size() == 1048576);
  CHECK(command.arguments.back() == "12345678");
  CHECK(consumed == input.size());
}

// ------------------------------------------------------------------------------------- Replies

std::string RandomText(std::mt19937& random, size_t size_max, std::string_view alphabet) {
  std::string text(random() % (size_max + 1), ' ');
  for (char& c : text) c = alphabet[random() % alphabet.size()];
  return text;
}

// A random reply that RESP2 knows.
std::string RandomReply(std::mt19937& random, int depth) {
  std::string out;
  constexpr std::string_view kLine = "abc 123-+:$*";
  switch (random() % (depth > 0 ? 8 : 6)) {
    case 0:
      AppendSimple(out, RandomText(random, 30, kLine));
      break;
    case 1:
      AppendError(out, "ERR " + RandomText(random, 30, kLine));
      break;
    case 2: {
      const auto high = static_cast<uint64_t>(random()) << 32;
      AppendInteger(out, static_cast<int64_t>(high | random()) >> (random() % 64));
      break;
    }
    case 3:
    case 4:
      AppendBulk(out, RandomText(random, random() % 8 == 0 ? 5000 : 20,
                                 std::string_view("\r\n$*:+-0123ab\0", 15)));
      break;
    case 5:
      out += random() % 2 == 0 ? "$-1\r\n" : "*-1\r\n";
      break;
    default: {
      const size_t count = random() % 6;
      AppendArrayHeader(out, count);
      for (size_t i = 0; i < count; ++i) out += RandomReply(random, depth - 1);
    }
  }
  return out;
}

using HiredisReply = std::unique_ptr<redisReply, decltype(&freeReplyObject)>;

void RequireSame(const Value& ours, const redisReply& theirs) {
  switch (theirs.type) {
    case REDIS_REPLY_STATUS:
      REQUIRE(ours.type == Type::kSimpleString);
      break;
    case REDIS_REPLY_ERROR:
      REQUIRE(ours.type == Type::kError);
      break;
    case REDIS_REPLY_STRING:
      REQUIRE(ours.type == Type::kBulkString);
      break;
    case REDIS_REPLY_NIL:
      REQUIRE(ours.type == Type::kNull);
      return;
    case REDIS_REPLY_INTEGER:
      REQUIRE(ours.type == Type::kInteger);
      REQUIRE(ours.integer == theirs.integer);
      return;
    default:
      REQUIRE(theirs.type == REDIS_REPLY_ARRAY);
      REQUIRE(ours.type == Type::kArray);
      REQUIRE(ours.elements.size() == theirs.elements);
      for (size_t i = 0; i < theirs.elements; ++i) {
        RequireSame(ours.elements[i], *theirs.element[i]);
      }
      return;
  }
  REQUIRE(ours.text == std::string_view(theirs.str, theirs.len));
}

TEST_CASE("replies are measured and decoded as hiredis does") {
  std::mt19937 random(4711);
  for (int round = 0; round < 3000; ++round) {
    CAPTURE(round);
    const std::string reply = RandomReply(random, 5);
    const std::string next = RandomReply(random, 1);
    const std::string input = reply + next;

    std::unique_ptr<redisReader, decltype(&redisReaderFree)> reader(redisReaderCreate(),
                                                                    redisReaderFree);
    redisReaderFeed(reader.get(), input.data(), input.size());
    void* theirs = nullptr;
    REQUIRE(redisReaderGetReply(reader.get(), &theirs) == REDIS_OK);
    REQUIRE(theirs != nullptr);
    const HiredisReply owned(static_cast<redisReply*>(theirs), freeReplyObject);

    Value value;
    size_t consumed = 0;
    std::string error;
    REQUIRE(DecodeValue(input, value, consumed, error) == Progress::kComplete);
    RequireSame(value, *owned);
    REQUIRE(consumed == reply.size());

    ReplyScanner scanner;
    size_t length = 0;
    REQUIRE(scanner.Scan(input, length) == Progress::kComplete);
    REQUIRE(length == reply.size());
    REQUIRE(scanner.Scan(next, length) == Progress::kComplete);
    REQUIRE(length == next.size());
  }
}

TEST_CASE("the scanner resumes at any byte, and hiredis completes with the same byte") {
  std::mt19937 random(815);
  ReplyScanner scanner;
  for (int round = 0; round < 300; ++round) {
    CAPTURE(round);
    const std::string reply = RandomReply(random, 4);
    std::unique_ptr<redisReader, decltype(&redisReaderFree)> reader(redisReaderCreate(),
                                                                    redisReaderFree);
    for (size_t end = 1; end <= reply.size(); ++end) {
      size_t length = 0;
      const std::string moved = reply.substr(0, end);
      const bool complete = scanner.Scan(moved, length) == Progress::kComplete;
      redisReaderFeed(reader.get(), reply.data() + end - 1, 1);
      void* theirs = nullptr;
      REQUIRE(redisReaderGetReply(reader.get(), &theirs) == REDIS_OK);
      const HiredisReply owned(static_cast<redisReply*>(theirs), freeReplyObject);
      REQUIRE(complete == (theirs != nullptr));
      REQUIRE(complete == (end == reply.size()));
      if (complete) REQUIRE(length == reply.size());
    }
  }
}

const std::vector<std::string>& Resp3Corpus() {
  static const std::vector<std::string> corpus = {
      "_\r\n",
      "#t\r\n",
      "#f\r\n",
      ",3.14\r\n",
      ",-inf\r\n",
      "(3492890328409238509324850943850943825024385\r\n",
      "=15\r\ntxt:Some string\r\n",
      "!21\r\nSYNTAX invalid syntax\r\n",
      "%2\r\n+first\r\n:1\r\n$6\r\nsecond\r\n*1\r\n_\r\n",
      "%0\r\n",
      "~3\r\n:1\r\n:2\r\n#t\r\n",
      ">3\r\n+message\r\n+channel\r\n$5\r\nhello\r\n",
      "|1\r\n+ttl\r\n:3600\r\n$1\r\nx\r\n",
      "|0\r\n:1\r\n",
      "*2\r\n|1\r\n+a\r\n%1\r\n:1\r\n:2\r\n:3\r\n$-1\r\n",
      "*3\r\n*0\r\n*2\r\n~0\r\n*-1\r\n+x\r\n",
      "+a\nb\rc\r\n",
  };
  return corpus;
}

TEST_CASE("every RESP3 type is measured, wherever it is cut") {
  for (const std::string& reply : Resp3Corpus()) {
    CAPTURE(reply);
    const std::string input = reply + ":1\r\n";
    Value value;
    std::string error;
    size_t consumed = 0;
    for (size_t cut = 0; cut < reply.size(); ++cut) {
      ReplyScanner scanner;
      size_t length = 0;
      REQUIRE(scanner.Scan(input.substr(0, cut), length) == Progress::kNeedMore);
      REQUIRE(scanner.Scan(input, length) == Progress::kComplete);
      REQUIRE(length == reply.size());
      REQUIRE(DecodeValue(input.substr(0, cut), value, consumed, error) == Progress::kNeedMore);
      REQUIRE(consumed == 0);
    }
    REQUIRE(DecodeValue(input, value, consumed, error) == Progress::kComplete);
    CHECK(consumed == reply.size());
  }
}

Value Decode(std::string_view input) {
  Value value;
  std::string error;
  size_t consumed = 0;
  REQUIRE(DecodeValue(input, value, consumed, error) == Progress::kComplete);
  CHECK(consumed == input.size());
  return value;
}

TEST_CASE("RESP3 values") {
  CHECK(Decode("_\r\n").type == Type::kNull);
  CHECK(Decode("#t\r\n").integer == 1);
  CHECK(Decode("#f\r\n").integer == 0);
  CHECK(Decode("#f\r\n").type == Type::kBoolean);
  CHECK(Decode(",3.14\r\n").text == "3.14");
  CHECK(Decode(",3.14\r\n").type == Type::kDouble);
  CHECK(Decode("(12345678901234567890\r\n").text == "12345678901234567890");
  CHECK(Decode("(1\r\n").type == Type::kBigNumber);
  CHECK(Decode("=7\r\ntxt:abc\r\n").text == "abc");
  CHECK(Decode("=7\r\nmkd:abc\r\n").type == Type::kVerbatim);
  CHECK(Decode("!7\r\nERR why\r\n").IsError());
  CHECK(Decode("!7\r\nERR why\r\n").text == "ERR why");
  CHECK(Decode("-ERR why\r\n").IsError());
  CHECK(Decode("~1\r\n:7\r\n").type == Type::kSet);
  CHECK(Decode(">1\r\n:7\r\n").type == Type::kPush);
  const Value map = Decode("%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n");
  CHECK(map.type == Type::kMap);
  REQUIRE(map.elements.size() == 4);
  CHECK(map.elements[2].text == "b");
  CHECK(map.elements[3].integer == 2);
  const Value attributed = Decode("*2\r\n|1\r\n+ttl\r\n:3600\r\n:7\r\n|0\r\n:8\r\n");
  REQUIRE(attributed.elements.size() == 2);
  CHECK(attributed.elements[0].integer == 7);
  CHECK(attributed.elements[1].integer == 8);
  CHECK(Decode(":9223372036854775807\r\n").integer == INT64_MAX);
  CHECK(Decode(":-9223372036854775808\r\n").integer == INT64_MIN);
}

TEST_CASE("hostile replies are refused or waited for, never believed") {
  for (const char* input : {"$-9223372036854775808\r\n",
                            "$-2\r\n",
                            "$9223372036854775807\r\n",
                            "$536870913\r\n",
                            "$18446744073709551615\r\n",
                            "$99999999999999999999\r\n",
                            "$x\r\n",
                            "$1x\r\n",
                            "$01\r\n",
                            "$\r\n",
                            "*-2\r\n",
                            "*-9223372036854775808\r\n",
                            "*9223372036854775807\r\n",
                            "*18446744073709551617\r\n",
                            "*x\r\n",
                            "%-1\r\n",
                            "%9223372036854775807\r\n",
                            "~-1\r\n",
                            ">-1\r\n",
                            "|-1\r\n",
                            "=-1\r\n",
                            "!-1\r\n",
                            "|9223372036854775807\r\n",
                            "$?\r\n",
                            "*?\r\n",
                            "%?\r\n",
                            "~?\r\n",
                            ">?\r\n",
                            ";4\r\nabcd\r\n",
                            ".\r\n",
                            "\r\n",
                            "HTTP/1.1 400\r\n",
                            "*2\r\n:1\r\n?",
                            "%1\r\n+a\r\n$-9223372036854775808\r\n"}) {
    CAPTURE(input);
    ReplyScanner scanner;
    size_t length = 0;
    CHECK(scanner.Scan(input, length) == Progress::kError);
    CHECK(scanner.error().find("Protocol error") == 0);
    Value value;
    std::string error;
    size_t consumed = 0;
    CHECK(DecodeValue(input, value, consumed, error) == Progress::kError);
    CHECK(error.find("Protocol error") == 0);
  }
  // Announced, but not there: nothing is allocated for it.
  ReplyScanner scanner;
  size_t length = 0;
  CHECK(scanner.Scan("*99999999999\r\n:1\r\n", length) == Progress::kNeedMore);
  Value value;
  std::string error;
  size_t consumed = 0;
  CHECK(DecodeValue("*1000000\r\n:1\r\n", value, consumed, error) == Progress::kNeedMore);
  CHECK(DecodeValue("*99999999999\r\n", value, consumed, error) == Progress::kError);
  for (const char* input : {"#x\r\n", "#\r\n", ":x\r\n", ":\r\n", ":1.5\r\n", "=2\r\nab\r\n",
                            "=5\r\nabcde\r\n", ":9223372036854775808\r\n"}) {
    CAPTURE(input);
    CHECK(DecodeValue(input, value, consumed, error) == Progress::kError);
  }
}

TEST_CASE("nesting: the scanner follows what scripts return, values stop early") {
  std::string deep;
  for (int i = 0; i < 10000; ++i) deep += "*1\r\n";
  ReplyScanner scanner;
  size_t length = 0;
  CHECK(scanner.Scan(deep, length) == Progress::kNeedMore);
  CHECK(scanner.Scan(deep + ":1\r\n", length) == Progress::kComplete);
  CHECK(length == deep.size() + 4);
  Value value;
  std::string error;
  size_t consumed = 0;
  CHECK(DecodeValue(deep, value, consumed, error) == Progress::kError);
  CHECK(error == "Protocol error: too deeply nested reply");
  std::string attributes;
  for (int i = 0; i < 10000; ++i) attributes += "|0\r\n";
  CHECK(DecodeValue(attributes, value, consumed, error) == Progress::kError);

  std::string endless;
  for (size_t i = 0; i <= ReplyScanner::kNestingMax; ++i) endless += "*1\r\n";
  ReplyScanner other;
  CHECK(other.Scan(endless, length) == Progress::kError);
}

TEST_CASE("a large nested reply is scanned once, piece by piece") {
  std::string reply = "*100000\r\n";
  for (int i = 0; i < 100000; ++i) reply += "*2\r\n$3\r\nabc\r\n%1\r\n:1\r\n+x\r\n";
  ReplyScanner scanner;
  size_t length = 0;
  for (size_t end = 1000; end < reply.size(); end += 1000) {
    REQUIRE(scanner.Scan(std::string_view(reply).substr(0, end), length) == Progress::kNeedMore);
    reply[end / 2] = '?';  // what was scanned is not looked at again
  }
  REQUIRE(scanner.Scan(reply, length) == Progress::kComplete);
  CHECK(length == reply.size());
}

TEST_CASE("a long line is scanned once") {
  std::string reply = "-" + std::string(100000, 'e');
  ReplyScanner scanner;
  size_t length = 0;
  REQUIRE(scanner.Scan(reply, length) == Progress::kNeedMore);
  reply[500] = '\r';  // what was scanned is not looked at again
  reply[501] = '\n';
  reply += "\r";
  REQUIRE(scanner.Scan(reply, length) == Progress::kNeedMore);
  reply += "\n+next\r\n";
  REQUIRE(scanner.Scan(reply, length) == Progress::kComplete);
  CHECK(length == 100003);
  CHECK(scanner.Scan(std::string_view(reply).substr(length), length) == Progress::kComplete);
  CHECK(length == 7);
}

TEST_CASE("random bytes do not confuse anybody beyond an error") {
  std::mt19937 random(99);
  constexpr std::string_view kAlphabet("*$%~>|=!+-:_#,(\r\n0123?ax\" '\\\0", 30);
  for (int round = 0; round < 20000; ++round) {
    const std::string input = RandomText(random, 60, kAlphabet);
    Value value;
    std::string error;
    size_t consumed = 0, length = 0;
    ReplyScanner scanner;
    CAPTURE(input);
    const Progress scanned = scanner.Scan(input, length);
    const Progress decoded = DecodeValue(input, value, consumed, error);
    // The scanner takes any line for a number; in all else they agree.
    if (decoded == Progress::kComplete) {
      REQUIRE(scanned == Progress::kComplete);
      REQUIRE(length == consumed);
    }
    if (scanned == Progress::kError) REQUIRE(decoded == Progress::kError);
    if (decoded == Progress::kNeedMore) REQUIRE(scanned == Progress::kNeedMore);
    std::vector<size_t> cuts;
    for (size_t i = 1; i < input.size(); ++i) cuts.push_back(i);
    const Decoded whole(input, {});
    const Decoded bytewise(input, cuts);
    REQUIRE(whole.commands == bytewise.commands);
    REQUIRE(whole.error == bytewise.error);
  }
}

// ------------------------------------------------------------------------------------- Encoder

TEST_CASE("the encoder's bytes") {
  std::string out;
  AppendSimple(out, "OK");
  AppendError(out, "ERR two\r\nlines");
  AppendInteger(out, INT64_MIN);
  AppendInteger(out, INT64_MAX);
  AppendBulk(out, std::string_view("a\0b", 3));
  AppendBulk(out, "");
  std::string expected = "+OK\r\n-ERR two  lines\r\n:-9223372036854775808\r\n";
  expected += ":9223372036854775807\r\n$3\r\n" + std::string("a\0b", 3) + "\r\n$0\r\n\r\n";
  CHECK(out == expected);
  out.clear();
  AppendNull(out, 2);
  AppendNull(out, 3);
  AppendNullArray(out, 2);
  AppendNullArray(out, 3);
  AppendArrayHeader(out, 7);
  AppendMapHeader(out, 7, 2);
  AppendMapHeader(out, 7, 3);
  AppendBulkHeader(out, SIZE_MAX);
  CHECK(out == "$-1\r\n_\r\n*-1\r\n_\r\n*7\r\n*14\r\n%7\r\n$18446744073709551615\r\n");
  out.clear();
  AppendCommand(out, {"SET", "k", ""});
  CHECK(out == "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
  CHECK(Decimal(0) == "0");
  CHECK(Decimal(UINT64_MAX) == "18446744073709551615");
}

TEST_CASE("a line is too long wherever it is cut") {
  const Limits limits{.bulk_bytes_max = 8};
  const auto scan = [&limits](const std::string& line, size_t cut) {
    ReplyScanner scanner(limits);
    size_t length = 0;
    const Progress first = scanner.Scan(std::string_view(line).substr(0, cut), length);
    return first == Progress::kNeedMore ? scanner.Scan(line, length) : first;
  };
  for (const std::string& line : {std::string("+123456\r\n"), std::string("+1234567\r\n")}) {
    CAPTURE(line);
    const Progress whole = scan(line, 0);
    CHECK(whole == (line.size() == 9 ? Progress::kComplete : Progress::kError));
    for (size_t cut = 1; cut < line.size(); ++cut) CHECK(scan(line, cut) == whole);
    Value value;
    size_t consumed = 0;
    std::string error;
    CHECK(DecodeValue(line, value, consumed, error, limits) == whole);
  }
}

}  // namespace
}  // namespace catena::resp
