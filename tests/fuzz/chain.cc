// Chain messages: what decodes encodes to the same again; and one member of a chain that hears any
// sequence of them from its neighbours keeps its invariants, whatever they say.
#include <optional>

#include "proxy/chain/join.h"
#include "proxy/chain/replica.h"
#include "proxy/peer/codec.h"
#include "proxy/resp/decoder.h"
#include "tests/fuzz/input.h"

namespace catena::fuzz {
namespace {

using namespace catena::chain;

// Messages in `bytes`, each handed to `take`, which may keep no view.
template <typename Take>
void DecodeMessages(std::string_view bytes, const Take& take) {
  resp::CommandDecoder decoder;
  resp::Command command;
  size_t consumed = 0;
  while (decoder.Decode(bytes, command, consumed) == resp::Progress::kComplete) {
    if (const Result<Message> message = peer::Decode(command.arguments)) take(*message);
    bytes.remove_prefix(consumed);
  }
}

std::string Encoded(const Message& message) {
  std::string bytes;
  peer::Encode(message, bytes);
  return bytes;
}

void CheckRoundTrip(const Message& message) {
  const std::string bytes = Encoded(message);
  size_t count = 0;
  DecodeMessages(bytes, [&](const Message& again) {
    ++count;
    FUZZ_CHECK(again.index() == message.index() && Encoded(again) == bytes);
  });
  FUZZ_CHECK(count == 1);
}

// A member with its driver's duties; `provider` decides what its surroundings do.
class Story {
 public:
  explicit Story(FuzzedDataProvider& provider)
      : provider_(provider), replica_({"main", "self", 20, 4096}) {}

  void Run() {
    replica_.BeginLife(Incarnation(5));
    if (provider_.ConsumeBool()) replica_.SetHistory("replid", Position(100));
    while (provider_.remaining_bytes() > 0) {
      Turn();
      Check();
    }
  }

 private:
  // Small numbers, and now and then any.
  uint64_t Number() {
    return provider_.ConsumeBool() ? provider_.ConsumeIntegralInRange<uint64_t>(90, 130)
                                   : provider_.ConsumeIntegral<uint64_t>();
  }
  // One that the codec lets through.
  Position Place() { return Position(Number() & INT64_MAX); }
  NodeId Name() {
    return provider_.PickValueInArray(
        {NodeId("self"), NodeId("above"), NodeId("below"), NodeId("stranger"), NodeId("")});
  }
  std::string Replid() { return provider_.ConsumeBool() ? "replid" : "another"; }
  LinkId Link() { return provider_.ConsumeIntegralInRange<LinkId>(0, last_link_); }

  Configuration MakeConfiguration() {
    Configuration configuration{provider_.ConsumeBool() ? "main" : "other",
                                Epoch(provider_.ConsumeIntegralInRange<uint64_t>(1, 20)),
                                {}};
    const int before = provider_.ConsumeIntegralInRange(0, 2);
    const int after = provider_.ConsumeIntegralInRange(0, 2);
    for (int i = 0; i < before; ++i) {
      configuration.members.push_back(
          {i + 1 == before ? "above" : "top", Incarnation(3), "", "", ""});
    }
    configuration.members.push_back(
        {"self", Incarnation(provider_.ConsumeIntegralInRange<uint64_t>(4, 6)), "", "", ""});
    for (int i = 0; i < after; ++i) {
      configuration.members.push_back({i == 0 ? "below" : "end", Incarnation(4), "", "", ""});
    }
    return configuration;
  }

  std::optional<Message> MakeMessage() {
    switch (provider_.ConsumeIntegralInRange(0, 11)) {
      case 0:
        return Start{Position(Number())};
      case 1:
        return Target{Position(Number())};
      case 2:
        return Ask{provider_.ConsumeBool(), Name(), Number()};
      case 3:
        return CannotCatchUp{"reason"};
      case 4:
        return Welcome{Position(Number()), Replid()};
      case 5:
        return Ack{Position(Number())};
      case 6:
        return VerifyRequest{Name(), Number()};
      case 7:
        return Answer{provider_.ConsumeBool(), Name(), Number(), Position(Number())};
      case 8:
        return Offer{Replid(), Position(Number()), Replid(), Number()};
      case 9:
        return JoinProgress{Position(Number()), provider_.ConsumeBool()};
      case 10:
        return SnapshotBegin{Position(Number()), Number(), Replid(), Number()};
      default:
        return Refuse{"reason", MakeConfiguration()};
    }
  }

  // As it arrives: nothing, where the codec refuses it.
  std::optional<Message> Arrived() {
    const std::optional<Message> message = MakeMessage();
    std::optional<Message> arrived;
    DecodeMessages(Encoded(*message), [&arrived](const Message& decoded) { arrived = decoded; });
    if (arrived) CheckRoundTrip(*arrived);
    return arrived;
  }

  void Turn() {
    now_ += std::chrono::milliseconds(provider_.ConsumeIntegral<uint8_t>());
    switch (provider_.ConsumeIntegralInRange(0, 12)) {
      case 0:
        replica_.Install(MakeConfiguration());
        break;
      case 1:
        Greet();
        break;
      case 2:
        if (replica_.Successor() != nullptr && !successor_open_) {
          successor_open_ = ++last_link_;
          replica_.OnSuccessorConnected(last_link_);
        }
        break;
      case 3:
        if (replica_.AcknowledgingTail() != nullptr) replica_.OnTailConnected(++last_link_);
        break;
      case 4:
        Close(Link());
        break;
      case 5:
        ReceiveLog();
        break;
      case 6:
        Capture();
        break;
      case 7:
        replica_.OnApplied(Position(provider_.ConsumeIntegralInRange(
            replica_.applied().value(), replica_.committed().value())));
        break;
      case 8:
        replica_.GrantLease(now_, std::chrono::milliseconds(500));
        replica_.KeepAlive();
        break;
      case 9:
        provider_.ConsumeBool() ? replica_.RequestQuery() : replica_.RequestVerify();
        break;
      case 10:
        Join();
        break;
      default:
        if (const auto message = Arrived()) replica_.Step(Link(), *message, now_);
    }
    Perform();
  }

  void Greet() {
    Hello hello{MakeConfiguration(),
                Name(),
                Incarnation(3),
                "self",
                Incarnation(5),
                provider_.ConsumeBool() ? LinkPurpose::kChain : LinkPurpose::kAcks,
                Replid()};
    CheckRoundTrip(hello);
    replica_.Install(hello.configuration);
    replica_.OnHello(provider_.ConsumeBool() ? ++last_link_ : std::max<LinkId>(1, Link()), hello);
  }

  void ReceiveLog() {
    const Append append{Place(), Place(), "0123456789"};
    CheckRoundTrip(append);
    if (!replica_.AcceptsAppend(Link(), append.from)) return;
    TakeLog(append.bytes);
    replica_.OnReceived(append.committed);
  }

  // Bytes and, as a parser would, some borders of entries among them.
  void TakeLog(std::string_view bytes) {
    replica_.AppendBytes(bytes);
    const Log& log = replica_.log();
    while (log.end() < log.staged_end() && provider_.ConsumeBool()) {
      const uint64_t hash = provider_.ConsumeIntegralInRange(0, 3);
      const uint64_t length =
          provider_.ConsumeIntegralInRange<uint64_t>(1, log.staged_end() - log.end());
      replica_.AppendEntry({log.end() + length, hash == 0, {&hash, 1}});
    }
  }

  void Capture() {
    if (!replica_.head_ready()) return;
    TakeLog("captured");
    replica_.OnReceived();
  }

  // The other end of a join says what it likes.
  void Join() {
    if (!replica_.is_tail() || !replica_.serves()) return;
    if (join_.phase() == JoinSource::Phase::kIdle) {
      join_.Begin("joiner", Incarnation(1));
      join_.OnConnected(++last_link_, replica_);
    } else if (join_.phase() == JoinSource::Phase::kOffered) {
      Start start;
      if (join_.OnOffer({Replid(), Place()}, replica_, start)) {
        join_.OnSnapshotStart(replica_.settled());
      }
    } else if (join_.phase() == JoinSource::Phase::kSnapshot) {
      join_.OnSnapshotEnd();
    } else {
      join_.OnProgress({Place(), provider_.ConsumeBool()});
    }
  }

  void Perform() {
    const Output output = replica_.TakeOutput();
    for (LinkId link : output.close) Close(link);
    for (const auto& [link, message] : output.messages) CheckRoundTrip(message);
    if (output.ask_target_bound) replica_.OnTargetBound(replica_.received());
    if (output.promote_at) {
      FUZZ_CHECK(*output.promote_at == replica_.received());
      replica_.OnHeadAttached(*output.promote_at);
    }
    if (output.resign) replica_.Resign();
    while (const auto append = replica_.NextAppend(7)) {
      FUZZ_CHECK(append->from + append->slice.bytes.size() <= replica_.received());
      if (append->slice.bytes.empty()) break;
    }
    PerformJoin();
  }

  void PerformJoin() {
    if (!replica_.is_tail() || !replica_.serves() || join_.Overrun(replica_.log()) ||
        join_.PinTooLong(replica_.log())) {
      join_.Abandon();
    }
    replica_.PinLog(join_.pin());
    while (join_.NextAppend(replica_.log(), 7)) {
    }
    join_.Ready(replica_.log());
  }

  void Close(LinkId link) {
    if (link == successor_open_) successor_open_ = kNoLink;
    replica_.OnLinkClosed(link);
  }

  void Check() {
    const Log& log = replica_.log();
    FUZZ_CHECK(replica_.committed() <= replica_.received());
    FUZZ_CHECK(replica_.applied() <= replica_.committed());
    FUZZ_CHECK(log.start() <= log.end() && log.end() <= log.staged_end());
    FUZZ_CHECK(log.Read(log.start(), log.end(), 1).has_value());
    FUZZ_CHECK(replica_.epoch() >= epoch_ && replica_.received() >= received_ &&
               replica_.committed() >= committed_);
    epoch_ = replica_.epoch();
    received_ = replica_.received();
    committed_ = replica_.committed();
  }

  FuzzedDataProvider& provider_;
  Replica replica_;
  JoinSource join_{1000};
  TimePoint now_{std::chrono::seconds(1000)};
  LinkId last_link_ = 0, successor_open_ = kNoLink;
  Epoch epoch_;
  Position received_, committed_;
};

}  // namespace
}  // namespace catena::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace catena::fuzz;
  FuzzedDataProvider provider(data, size);
  if (provider.ConsumeBool()) {
    DecodeMessages(provider.ConsumeRemainingBytesAsString(), CheckRoundTrip);
  } else {
    Story(provider).Run();
  }
  return 0;
}
