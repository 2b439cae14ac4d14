// Whole nodes whose ports somebody dials: clients who send anything, in any pieces, beside one who
// behaves; and somebody who knows the secret and says anything as a neighbour or as the tail that
// brings a joiner up to date. No process may end at it.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "proxy/auth/proof.h"
#include "proxy/peer/codec.h"
#include "proxy/resp/encoder.h"
#include "tests/fuzz/input.h"
#include "tests/scenario/node_world.h"

namespace catena::fuzz {
namespace {

using namespace catena::chain;
using scenario::Client;
using scenario::NodeWorld;

// A chain of A, B and C; D waits to be joined.
void Form(NodeWorld& world) {
  world.Form({"A", "B", "C"});
  Client client(world, "A");
  client.Send({"SET", "key", "value"});
  world.Settle();
  FUZZ_CHECK(client.Take() == "+OK\r\n");
}

void FuzzClients(FuzzedDataProvider& provider, NodeWorld& world) {
  Client quiet(world, "B");
  const auto seed = provider.ConsumeIntegral<uint16_t>();
  Client stranger(world, provider.ConsumeBool() ? "A" : "C");
  const std::string input = provider.ConsumeRemainingBytesAsString();
  for (std::string_view piece : Pieces(input, seed)) {
    stranger.Write(piece);
    world.Settle();
  }
  quiet.Send({"SET", "other", "1"});
  quiet.Send({"GET", "other"});
  world.Settle();
  FUZZ_CHECK(quiet.Take() == "+OK\r\n$1\r\n1\r\n");
}

// Dials the peers of a node and proves the secret.
class Insider {
 public:
  Insider(NodeWorld& world, const NodeId& to)
      : world_(world), client_(world, to, Client::Port::kPeers) {
    auth::Dialler dialler({"story", "secret"}, "0123456789abcdef");
    client_.Write(dialler.Greeting());
    for (std::string input, out; true; out.clear()) {
      world_.Settle();
      input += client_.Take();
      const auto proved = dialler.Feed(input, out);
      FUZZ_CHECK(proved.has_value());
      if (*proved) return;
      client_.Write(out);
    }
  }

  void Say(const Message& message) {
    std::string bytes;
    peer::Encode(message, bytes);
    client_.Write(bytes);
    world_.Settle();
  }

 private:
  NodeWorld& world_;
  Client client_;
};

class Conversation {
 public:
  Conversation(FuzzedDataProvider& provider, NodeWorld& world)
      : provider_(provider), world_(world) {}

  void Run() {
    const NodeId to = provider_.PickValueInArray({NodeId("B"), NodeId("C"), NodeId("D")});
    Insider insider(world_, to);
    insider.Say(Greeting(to));
    while (provider_.remaining_bytes() > 0) {
      if (provider_.ConsumeBool()) world_.Advance(std::chrono::milliseconds(20));
      insider.Say(Anything(to));
    }
    world_.Advance(std::chrono::milliseconds(200));
  }

 private:
  // As its predecessor, the head, or the tail would say; what it is at last, the node judges.
  Hello Greeting(const NodeId& to) {
    const Configuration now = world_.replica("A").configuration();
    const size_t from = to == "B" ? 0 : to == "C" ? 1 : 2;
    const auto purpose = provider_.PickValueInArray(
        {LinkPurpose::kChain, to == "D" ? LinkPurpose::kJoin : LinkPurpose::kChain,
         LinkPurpose::kAcks});
    Hello hello{now,
                now.members[from].id,
                now.members[from].incarnation,
                to,
                world_.replica(to).incarnation(),
                purpose,
                Replid()};
    if (purpose == LinkPurpose::kAcks) {
      hello.from = now.members[0].id;
      hello.from_incarnation = now.members[0].incarnation;
    }
    return hello;
  }

  std::string Replid() { return provider_.ConsumeBool() ? world_.replica("A").replid() : "other"; }
  Position Place(const NodeId& to) {
    const Position received = world_.replica(to).received();
    return provider_.ConsumeBool() ? received + provider_.ConsumeIntegralInRange<uint64_t>(0, 3)
                                   : Position(provider_.ConsumeIntegral<uint64_t>() & INT64_MAX);
  }
  NodeId Name() {
    return provider_.PickValueInArray({NodeId("A"), NodeId("B"), NodeId("C"), NodeId("D")});
  }
  uint64_t Number() {
    return provider_.ConsumeBool() ? provider_.ConsumeIntegralInRange<uint64_t>(0, 3)
                                   : provider_.ConsumeIntegral<uint64_t>();
  }

  Message Anything(const NodeId& to) {
    switch (provider_.ConsumeIntegralInRange(0, 16)) {
      case 0:
        return Start{Place(to)};
      case 1:
        return Target{Place(to)};
      case 2:
        return Ask{provider_.ConsumeBool(), Name(), Number()};
      case 3:
        return CannotCatchUp{"reason"};
      case 4:
        return Welcome{Place(to), Replid()};
      case 5:
        return Ack{Place(to)};
      case 6:
        return VerifyRequest{Name(), Number()};
      case 7:
        return Answer{provider_.ConsumeBool(), Name(), Number(), Place(to)};
      case 8:
        return Offer{Replid(), Place(to), Replid(), Number()};
      case 9:
        return JoinProgress{Place(to), provider_.ConsumeBool()};
      case 10:
        return SnapshotBegin{Place(to), Number(), Replid(), Number()};
      case 11:
        return SnapshotEnd{};
      case 12:
        return Greeting(to);
      case 13:
        return Refuse{"reason", std::nullopt};
      case 14:
        return SnapshotChunk{"REDIS0010 some bytes"};
      default:
        effects_.clear();
        resp::AppendCommand(effects_, {"SET", "key", provider_.ConsumeBool() ? "1" : "2"});
        if (provider_.ConsumeBool()) effects_.resize(effects_.size() / 2);
        return Append{Place(to), Place(to), effects_};
    }
  }

  FuzzedDataProvider& provider_;
  NodeWorld& world_;
  std::string effects_;
};

// The world's own expectations are doctest's, which has no test case here.
doctest::Context& Expectations() {
  static doctest::Context context;
  context.setAsDefaultForAssertsOutOfTestCases();
  context.setAssertHandler([](const doctest::AssertData& data) {
    if (data.m_failed) CheckFailed(data.m_file, data.m_line, data.m_expr, "found by fuzzing");
  });
  return context;
}

}  // namespace
}  // namespace catena::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace catena::fuzz;
  Expectations();
  FuzzedDataProvider provider(data, size);
  NodeWorld world({"A", "B", "C", "D"});
  Form(world);
  if (provider.ConsumeBool()) {
    FuzzClients(provider, world);
  } else {
    Conversation(provider, world).Run();
  }
  return 0;
}
