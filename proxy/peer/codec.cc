#include "proxy/peer/codec.h"

#include <algorithm>
#include <optional>
#include <span>

#include "coordinator/records.h"
#include "proxy/base/text.h"
#include "proxy/resp/encoder.h"

namespace catena::peer {
namespace {

using namespace catena::chain;  // the message types
using Arguments = std::span<const std::string_view>;

std::string Text(Position position) { return resp::Decimal(position.value()); }
std::string Text(Incarnation incarnation) { return resp::Decimal(incarnation.value()); }

constexpr std::string_view kPurposes[] = {"chain", "join", "acks"};

struct Encoder {
  std::string& out;

  void operator()(const Hello& m) const {
    resp::AppendCommand(out, {"CATENA.HELLO", coordinator::EncodeConfiguration(m.configuration),
                              m.from, Text(m.from_incarnation), m.to, Text(m.to_incarnation),
                              kPurposes[static_cast<size_t>(m.purpose)], m.replid});
  }
  void operator()(const Start& m) const {
    resp::AppendCommand(out, {"CATENA.START", Text(m.from)});
  }
  void operator()(const Target& m) const {
    resp::AppendCommand(out, {"CATENA.TARGET", Text(m.position)});
  }
  void operator()(const Append& m) const {
    EncodeAppendHeader(m.from, m.committed, m.bytes.size(), out);
    out.append(m.bytes).append("\r\n");
  }
  void operator()(const Ask& m) const {
    resp::AppendCommand(
        out, {"CATENA.ASK", m.verify ? "verify" : "query", m.asker, resp::Decimal(m.number)});
  }
  void operator()(const CannotCatchUp& m) const {
    resp::AppendCommand(out, {"CATENA.CANNOT", m.reason});
  }
  void operator()(const SnapshotBegin& m) const {
    resp::AppendCommand(out, {"CATENA.SNAPSHOT", Text(m.position), resp::Decimal(m.length), m.name,
                              resp::Decimal(m.offset)});
  }
  void operator()(const SnapshotChunk& m) const {
    resp::AppendCommand(out, {"CATENA.CHUNK", m.bytes});
  }
  void operator()(const SnapshotEnd&) const { resp::AppendCommand(out, {"CATENA.SNAPSHOTEND"}); }
  void operator()(const Welcome& m) const {
    resp::AppendCommand(out, {"CATENA.WELCOME", Text(m.received), m.replid});
  }
  void operator()(const Offer& m) const {
    resp::AppendCommand(out, {"CATENA.OFFER", m.replid, Text(m.position), m.snapshot,
                              resp::Decimal(m.snapshot_bytes)});
  }
  void operator()(const Refuse& m) const {
    std::string newer = m.newer ? coordinator::EncodeConfiguration(*m.newer) : "";
    resp::AppendCommand(out, {"CATENA.REFUSE", m.reason, newer});
  }
  void operator()(const Ack& m) const {
    resp::AppendCommand(out, {"CATENA.ACK", Text(m.committed)});
  }
  void operator()(const VerifyRequest& m) const {
    resp::AppendCommand(out, {"CATENA.VERIFY", m.asker, resp::Decimal(m.number)});
  }
  void operator()(const Answer& m) const {
    resp::AppendCommand(out, {"CATENA.ANSWER", m.verify ? "verify" : "query", m.asker,
                              resp::Decimal(m.number), Text(m.committed)});
  }
  void operator()(const JoinProgress& m) const {
    resp::AppendCommand(out, {"CATENA.JOINED", Text(m.received), m.loaded ? "1" : "0"});
  }
};

// Reads arguments in order; remembers the first that is malformed.
class Reader {
 public:
  explicit Reader(Arguments arguments) : arguments_(arguments) {}

  std::string_view Text() {
    if (next_ >= arguments_.size()) {
      ok_ = false;
      return {};
    }
    return arguments_[next_++];
  }
  std::string String() { return std::string(Text()); }
  uint64_t Number() {
    const auto value = ParseNumber<uint64_t>(Text());
    ok_ = ok_ && value;
    return value.value_or(0);
  }
  // Redis counts its stream in 63 bits; beyond them, adding the length of what follows would wrap.
  Position ReadPosition() {
    const uint64_t value = Number();
    if (value > INT64_MAX) ok_ = false;
    return Position(value);
  }
  // One of two words; true for `yes`.
  bool Choice(std::string_view yes, std::string_view no) {
    std::string_view text = Text();
    if (text != yes && text != no) ok_ = false;
    return text == yes;
  }
  // The index of one of `words`.
  size_t OneOf(std::span<const std::string_view> words) {
    auto found = std::find(words.begin(), words.end(), Text());
    if (found != words.end()) return static_cast<size_t>(found - words.begin());
    ok_ = false;
    return 0;
  }
  Configuration ReadConfiguration() { return ReadConfiguration(Text()); }
  Configuration ReadConfiguration(std::string_view json) {
    auto configuration = coordinator::DecodeConfiguration(json);
    if (!configuration) {
      ok_ = false;
      return {};
    }
    return std::move(*configuration);
  }
  // All arguments were there, well-formed, and none is left.
  bool Done() const { return ok_ && next_ == arguments_.size(); }

 private:
  Arguments arguments_;
  size_t next_ = 1;
  bool ok_ = true;
};

Hello ReadHello(Reader& in) {
  Hello hello;
  hello.configuration = in.ReadConfiguration();
  hello.from = in.String();
  hello.from_incarnation = Incarnation(in.Number());
  hello.to = in.String();
  hello.to_incarnation = Incarnation(in.Number());
  hello.purpose = static_cast<LinkPurpose>(in.OneOf(kPurposes));
  hello.replid = in.String();
  return hello;
}

Refuse ReadRefuse(Reader& in) {
  Refuse refuse{in.String(), std::nullopt};
  std::string_view newer = in.Text();
  if (!newer.empty()) refuse.newer = in.ReadConfiguration(newer);
  return refuse;
}

Answer ReadAnswer(Reader& in) {
  Answer answer;
  answer.verify = in.Choice("verify", "query");
  answer.asker = in.String();
  answer.number = in.Number();
  answer.committed = in.ReadPosition();
  return answer;
}

std::optional<Message> Read(std::string_view name, Reader& in) {
  // In order of frequency; braces evaluate left to right.
  if (name == "CATENA.APPEND") {
    return Append{in.ReadPosition(), in.ReadPosition(), in.Text()};
  }
  if (name == "CATENA.ACK") return Ack{in.ReadPosition()};
  if (name == "CATENA.ASK") return Ask{in.Choice("verify", "query"), in.String(), in.Number()};
  if (name == "CATENA.ANSWER") return ReadAnswer(in);
  if (name == "CATENA.CHUNK") return SnapshotChunk{in.Text()};
  if (name == "CATENA.VERIFY") return VerifyRequest{in.String(), in.Number()};
  if (name == "CATENA.JOINED") return JoinProgress{in.ReadPosition(), in.Choice("1", "0")};
  if (name == "CATENA.HELLO") return ReadHello(in);
  if (name == "CATENA.WELCOME") return Welcome{in.ReadPosition(), in.String()};
  if (name == "CATENA.START") return Start{in.ReadPosition()};
  if (name == "CATENA.TARGET") return Target{in.ReadPosition()};
  if (name == "CATENA.OFFER") {
    return Offer{in.String(), in.ReadPosition(), in.String(), in.Number()};
  }
  if (name == "CATENA.REFUSE") return ReadRefuse(in);
  if (name == "CATENA.CANNOT") return CannotCatchUp{in.String()};
  if (name == "CATENA.SNAPSHOT") {
    return SnapshotBegin{in.ReadPosition(), in.Number(), in.String(), in.Number()};
  }
  if (name == "CATENA.SNAPSHOTEND") return SnapshotEnd{};
  return std::nullopt;
}

}  // namespace

void Encode(const Message& message, std::string& out) { std::visit(Encoder{out}, message); }

void EncodeAppendHeader(Position from, Position committed, size_t length, std::string& out) {
  resp::AppendArrayHeader(out, 4);
  resp::AppendBulk(out, "CATENA.APPEND");
  resp::AppendBulk(out, Text(from));
  resp::AppendBulk(out, Text(committed));
  resp::AppendBulkHeader(out, length);
}

Result<Message> Decode(Arguments arguments) {
  if (arguments.empty()) return Fail("empty message");
  Reader in(arguments);
  std::optional<Message> message = Read(arguments[0], in);
  if (!message) return Fail("unknown message '" + std::string(arguments[0].substr(0, 64)) + "'");
  if (!in.Done()) return Fail("malformed " + std::string(arguments[0]));
  return std::move(*message);
}

}  // namespace catena::peer
