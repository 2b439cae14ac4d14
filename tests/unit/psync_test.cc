// Both sides of PSYNC and the INFO rules as pure machines: scripted transcripts, cut at every
// place.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "backends/redis/psync_master.h"
#include "backends/redis/psync_replica.h"
#include "backends/redis/redis_info.h"
#include "proxy/resp/encoder.h"

namespace catena::redis {
namespace {

const std::string kChain = "ca7e4a0000000000000000000000000000000001";
const std::string kOther = "643f2d78f8279aff13fc4cfae264fe686ea04935";

std::string InfoReply(const std::string& run_id) {
  std::string reply;
  resp::AppendBulk(reply, "# Server\r\nredis_version:7.0.15\r\nrun_id:" + run_id + "\r\n");
  return reply;
}

// ----------------------------------------------------------------------------------------------
// the replica

// What happened, as words: "ready", "continue <replid>", "full <replid> <position>", "length n",
// "bytes ...", "end", "stream ...", "later ...", "refused ...". Pieces of bytes are joined.
class Conversation {
 public:
  explicit Conversation(ReplicaHello hello) : machine_(std::move(hello)) {
    sent = machine_.Hello();
  }

  void Hear(std::string_view bytes) {
    while (true) {
      const PsyncReplica::Event event = machine_.Next(bytes);
      if (event.kind == PsyncReplica::Kind::kNeedMore) break;
      Note(event);
    }
    CHECK(bytes.empty());
  }
  // The whole of `script`, in two pieces cut at `cut`.
  void HearCut(const std::string& script, size_t cut) {
    Hear(std::string_view(script).substr(0, cut));
    Hear(std::string_view(script).substr(cut));
  }

  std::string sent;
  std::string ask_replid = "?";
  std::optional<Position> ask_position;
  std::vector<std::string> events;

 private:
  void Note(const PsyncReplica::Event& event) {
    using Kind = PsyncReplica::Kind;
    switch (event.kind) {
      case Kind::kNeedMore:
        return;
      case Kind::kReady:
        sent = machine_.Ask(ask_replid, ask_position, false);
        return events.push_back("ready");
      case Kind::kContinue:
        return events.push_back("continue " + event.replid);
      case Kind::kFullResync:
        return events.push_back("full " + event.replid + " " +
                                resp::Decimal(event.position.value()));
      case Kind::kSnapshotStart:
        return events.push_back("length " + resp::Decimal(event.length));
      case Kind::kSnapshotBytes:
        return Join("bytes ", event.bytes);
      case Kind::kSnapshotEnd:
        return events.push_back("end");
      case Kind::kStream:
        return Join("stream ", event.bytes);
      case Kind::kLater:
        return events.push_back("later " + event.text);
      case Kind::kRefused:
        return events.push_back("refused " + event.text);
    }
  }
  void Join(const std::string& word, std::string_view bytes) {
    if (events.empty() || events.back().substr(0, word.size()) != word) events.push_back(word);
    events.back() += bytes;
  }

  PsyncReplica machine_;
};

ReplicaHello FullHello() {
  ReplicaHello hello;
  hello.user = "u";
  hello.password = "p";
  hello.client_name = "catena:a:1";
  hello.run_id = "r1";
  hello.listening_port = 7000;
  return hello;
}

// Answers to AUTH, PING, SETNAME, INFO, listening-port, capa psync2.
std::string FullHelloReplies() {
  return "+OK\r\n+PONG\r\n+OK\r\n" + InfoReply("r1") + "+OK\r\n+OK\r\n";
}

using Events = std::vector<std::string>;

TEST_CASE("what a Redis takes, from its settings") {
  backend::Limits limits;
  TakeSetting("client-output-buffer-limit",
              "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", limits);
  CHECK(limits.effect_bytes_max == 192u << 20);
  CHECK(limits.effect_setting == "client-output-buffer-limit replica 268435456");
  TakeSetting("client-output-buffer-limit", "normal 0 0 0 replica 1000 0 0 pubsub 0 0 0", limits);
  CHECK(limits.effect_bytes_max == 750);
  TakeSetting("client-output-buffer-limit", "nonsense", limits);
  CHECK(limits.effect_bytes_max == 750);
  TakeSetting("client-output-buffer-limit", "normal 0 0 0 slave 0 0 0 pubsub 0 0 0", limits);
  CHECK(limits.effect_bytes_max == backend::Limits::kNone);
  CHECK(limits.connections_max == backend::Limits::kNone);
  TakeSetting("maxclients", "10000", limits);
  TakeSetting("proto-max-bulk-len", "536870912", limits);
  TakeSetting("client-query-buffer-limit", "1073741824", limits);
  TakeSetting("maxmemory", "5", limits);
  CHECK(limits.connections_max == 10000);
  CHECK(limits.argument_bytes_max == 512u << 20);
  CHECK(limits.command_bytes_max == 1u << 30);
}

TEST_CASE("the replica introduces itself, then asks in a write of its own") {
  Conversation talk(FullHello());
  std::string expected;
  resp::AppendCommand(expected, {"AUTH", "u", "p"});
  resp::AppendCommand(expected, {"PING"});
  resp::AppendCommand(expected, {"CLIENT", "SETNAME", "catena:a:1"});
  resp::AppendCommand(expected, {"INFO", "server"});
  resp::AppendCommand(expected, {"REPLCONF", "listening-port", "7000"});
  resp::AppendCommand(expected, {"REPLCONF", "capa", "psync2"});
  CHECK(talk.sent == expected);
  talk.ask_replid = kChain;
  talk.ask_position = Position(41);
  talk.Hear(FullHelloReplies());
  std::string ask;
  resp::AppendCommand(ask, {"PSYNC", kChain, "42"});
  CHECK(talk.sent == ask);
}

TEST_CASE("PSYNC FAILOVER and the question for a snapshot") {
  PsyncReplica machine({});
  machine.Hello();
  std::string_view replies = "+PONG\r\n+OK\r\n";
  REQUIRE(machine.Next(replies).kind == PsyncReplica::Kind::kReady);
  std::string ask;
  resp::AppendCommand(ask, {"PSYNC", kChain, "8", "FAILOVER"});
  CHECK(machine.Ask(kChain, Position(7), true) == ask);
  Conversation snapshot({});
  snapshot.Hear("+PONG\r\n+OK\r\n");
  ask.clear();
  resp::AppendCommand(ask, {"PSYNC", "?", "-1"});
  CHECK(snapshot.sent == ask);
}

TEST_CASE("continuing, cut at every place") {
  for (const std::string& answer : {"+CONTINUE " + kOther + "\r\n", std::string("+CONTINUE\r\n")}) {
    const std::string script = FullHelloReplies() + "\n\n" + answer + "*1\r\n$4\r\nPING\r\n\n";
    for (size_t cut = 0; cut <= script.size(); ++cut) {
      Conversation talk(FullHello());
      talk.ask_replid = kChain;
      talk.ask_position = Position(5);
      talk.HearCut(script, cut);
      CHECK(talk.events == Events{"ready", "continue " + (answer.size() > 20 ? kOther : kChain),
                                  "stream *1\r\n$4\r\nPING\r\n\n"});
    }
  }
}

TEST_CASE("a snapshot with newlines before it and the stream behind it, cut at every place") {
  const std::string script = FullHelloReplies() + "\n+FULLRESYNC " + kOther +
                             " 1234\r\n\n\n$10\r\nREDIS\n\r\n$3stream bytes";
  for (size_t cut = 0; cut <= script.size(); ++cut) {
    Conversation talk(FullHello());
    talk.HearCut(script, cut);
    CHECK(talk.events == Events{"ready", "full " + kOther + " 1234", "length 10",
                                "bytes REDIS\n\r\n$3", "end", "stream stream bytes"});
  }
}

TEST_CASE("with rdb-only the end of the snapshot is the end, told without a byte behind it") {
  ReplicaHello hello;
  hello.rdb_only = true;
  Conversation talk(hello);
  CHECK(talk.sent.find("rdb-only") != std::string::npos);
  CHECK(talk.sent.find("eof") == std::string::npos);
  talk.Hear("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC " + kOther + " 0\r\n$3\r\nabc");
  CHECK(talk.events == Events{"ready", "full " + kOther + " 0", "length 3", "bytes abc", "end"});
  talk.Hear("anything");
  CHECK(talk.events.size() == 5);
}

TEST_CASE("an older Redis may not know a REPLCONF word") {
  ReplicaHello hello;
  hello.rdb_only = true;
  Conversation talk(hello);
  talk.Hear("+PONG\r\n-ERR Unrecognized REPLCONF option: capa\r\n-ERR no\r\n");
  CHECK(talk.events == Events{"ready"});
}

TEST_CASE("refusals and delays of the handshake") {
  SUBCASE("wrong password") {
    Conversation talk(FullHello());
    talk.Hear("-WRONGPASS invalid username-password pair\r\n-NOAUTH x\r\n");
    CHECK(talk.events == Events{"refused WRONGPASS invalid username-password pair"});
  }
  SUBCASE("loading") {
    Conversation talk({});
    talk.Hear("-LOADING Redis is loading the dataset in memory\r\n");
    CHECK(talk.events == Events{"later LOADING Redis is loading the dataset in memory"});
  }
  SUBCASE("busy with a script") {
    Conversation talk(FullHello());
    talk.Hear("+OK\r\n-BUSY Redis is busy\r\n");
    CHECK(talk.events == Events{"later BUSY Redis is busy"});
  }
  SUBCASE("busy when it is asked") {
    Conversation talk({});
    talk.Hear("+PONG\r\n+OK\r\n-BUSY Redis is busy\r\n");
    CHECK(talk.events.back() == "later BUSY Redis is busy");
  }
  SUBCASE("as many clients as it may have") {
    Conversation talk(FullHello());
    talk.Hear("-ERR max number of clients reached\r\n");
    CHECK(talk.events == Events{"later ERR max number of clients reached"});
  }
  SUBCASE("data that could not be saved") {
    Conversation talk({});
    talk.Hear("-MISCONF unable to persist to disk\r\n+OK\r\n");
    CHECK(talk.events == Events{"ready"});
  }
  SUBCASE("no password where one is wanted") {
    Conversation talk({});
    talk.Hear("-NOAUTH Authentication required.\r\n");
    CHECK(talk.events == Events{"refused NOAUTH Authentication required."});
  }
  SUBCASE("another process") {
    Conversation talk(FullHello());
    talk.Hear("+OK\r\n+PONG\r\n+OK\r\n" + InfoReply("r2"));
    CHECK(talk.events == Events{"refused another Redis process answers (run_id r2)"});
  }
  SUBCASE("no master link") {
    Conversation talk({});
    talk.Hear("+PONG\r\n+OK\r\n-NOMASTERLINK Can't SYNC while not connected with my master\r\n");
    CHECK(talk.events.back() == "later NOMASTERLINK Can't SYNC while not connected with my master");
  }
  SUBCASE("PSYNC refused") {
    Conversation talk({});
    talk.Hear("+PONG\r\n+OK\r\n-ERR PSYNC FAILOVER replid must match my replid.\r\n+CONTINUE\r\n");
    CHECK(talk.events ==
          Events{"ready", "refused ERR PSYNC FAILOVER replid must match my replid."});
  }
  SUBCASE("a diskless snapshot, of no known length") {
    Conversation talk({});
    talk.Hear("+PONG\r\n+OK\r\n+FULLRESYNC " + kOther + " 1\r\n$EOF:0123456789\r\n");
    CHECK(talk.events.back().substr(0, 7) == "refused");
  }
  SUBCASE("nonsense") {
    for (const std::string answer :
         {"+OK\r\n", "+FULLRESYNC x\r\n", "+FULLRESYNC x y\r\n", ":1\r\n"}) {
      Conversation talk({});
      talk.Hear("+PONG\r\n+OK\r\n" + answer);
      CHECK(talk.events.back().substr(0, 7) == "refused");
    }
  }
  SUBCASE("endless") {
    Conversation talk({});
    for (int i = 0; i < 100; ++i) talk.Hear(std::string(1000, '+'));
    CHECK(talk.events.size() == 1);
    CHECK(talk.events[0].substr(0, 7) == "refused");
  }
}

// ----------------------------------------------------------------------------------------------
// the master

struct Served {
  std::string out;
  Events events;
};

// Serves `script` cut at `cut`; PSYNC is answered by `answer`.
template <typename Answer>
Served Serve(const std::string& script, size_t cut, Answer answer) {
  PsyncMaster machine;
  Served served;
  for (std::string_view piece :
       {std::string_view(script).substr(0, cut), std::string_view(script).substr(cut)}) {
    while (true) {
      const PsyncMaster::Event event = machine.Next(std::exchange(piece, {}), served.out);
      if (event.kind == PsyncMaster::Kind::kNeedMore) break;
      const std::string position = event.position ? resp::Decimal(event.position->value()) : "-";
      if (event.kind == PsyncMaster::Kind::kAsk) {
        served.events.push_back("ask " + event.replid + " " + position);
        served.out += answer(machine);
      } else if (event.kind == PsyncMaster::Kind::kAck) {
        served.events.push_back("ack " + position);
      } else {
        served.events.push_back("close");
      }
    }
  }
  return served;
}

std::string Commands(std::initializer_list<std::initializer_list<std::string_view>> commands) {
  std::string out;
  for (const auto& command : commands) resp::AppendCommand(out, command);
  return out;
}

TEST_CASE("a Redis attaches, and acknowledges, cut at every place") {
  const std::string script =
      Commands({{"PING"},
                {"AUTH", "master", "secret"},
                {"REPLCONF", "listening-port", "6379"},
                {"REPLCONF", "capa", "eof", "capa", "psync2", "capa", "unknown"},
                {"PSYNC", kChain, "101"},
                {"REPLCONF", "ACK", "100"},
                {"REPLCONF", "ACK", "117", "FACK", "90"}});
  for (size_t cut = 0; cut <= script.size(); ++cut) {
    const Served served =
        Serve(script, cut, [](PsyncMaster& machine) { return machine.Continue(kChain); });
    // Nothing is answered behind +CONTINUE: it would shift the offset.
    CHECK(served.out == "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+CONTINUE " + kChain + "\r\n");
    CHECK(served.events == Events{"ask " + kChain + " 100", "ack 100", "ack 117"});
  }
}

TEST_CASE("questions that name no place ask for a snapshot") {
  const auto full = [](PsyncMaster& machine) {
    return machine.FullResync(kChain, Position(77), 1234);
  };
  const Served fresh = Serve(Commands({{"PSYNC", "?", "-1"}}), 3, full);
  CHECK(fresh.events == Events{"ask ? -"});
  CHECK(fresh.out == "+FULLRESYNC " + kChain + " 77\r\n$1234\r\n");
  // A Redis that was a master until now asks so, under its own name.
  CHECK(Serve(Commands({{"PSYNC", kOther, "1"}}), 3, full).events ==
        Events{"ask " + kOther + " 0"});
}

TEST_CASE("later is an answer after which it may ask again") {
  const std::string script = Commands({{"PSYNC", kChain, "5"}, {"PING"}, {"PSYNC", kChain, "5"}});
  const Served served = Serve(script, 10, [](PsyncMaster& machine) { return machine.Later(); });
  CHECK(served.out.substr(0, 14) == "-NOMASTERLINK ");
  CHECK(served.events.size() == 2);
  CHECK(served.out.find("+PONG") != std::string::npos);
}

TEST_CASE("inline commands of old servers, and what is no replica") {
  const auto go = [](PsyncMaster& machine) { return machine.Continue(kChain); };
  CHECK(Serve("PING\r\nPSYNC " + kChain + " 9\r\n", 4, go).events ==
        Events{"ask " + kChain + " 8"});
  CHECK(Serve("SYNC\r\n", 2, go).events == Events{"close"});
  CHECK(Serve("GET / HTTP/1.0\r\n", 2, go).events == Events{"close"});
  CHECK(Serve(Commands({{"PSYNC", kChain, "x"}}), 2, go).events == Events{"close"});
  CHECK(Serve(Commands({{"PSYNC", kChain, "5", "FAILOVER"}}), 2, go).events == Events{"close"});
  CHECK(Serve("*1\r\n$99999999\r\n", 2, go).events == Events{"close"});
  CHECK(Serve(Commands({{"PSYNC", kChain, "5"}, {"PING"}}), 2, go).events ==
        Events{"ask " + kChain + " 4", "close"});
}

TEST_CASE("what a peer piles up behind its question is bounded") {
  PsyncMaster machine;
  std::string out;
  REQUIRE(machine.Next(Commands({{"PSYNC", "?", "-1"}}), out).kind == PsyncMaster::Kind::kAsk);
  PsyncMaster::Event event;
  for (int i = 0; i < 100 && event.kind == PsyncMaster::Kind::kNeedMore; ++i) {
    event = machine.Next(std::string(1000, 'x'), out);
  }
  CHECK(event.kind == PsyncMaster::Kind::kClose);
}

// ----------------------------------------------------------------------------------------------
// INFO and ROLE

TEST_CASE("a command that is too long for a replica is refused wherever it is cut") {
  std::string command;
  resp::AppendCommand(command,
                      {"REPLCONF", "a", std::string(9000, 'x'), "b", std::string(9000, 'y')});
  for (size_t cut : {size_t{0}, size_t{100}, size_t{9100}, command.size() - 1}) {
    CAPTURE(cut);
    PsyncMaster master;
    std::string out;
    PsyncMaster::Event event = master.Next(std::string_view(command).substr(0, cut), out);
    if (event.kind == PsyncMaster::Kind::kNeedMore) {
      event = master.Next(std::string_view(command).substr(cut), out);
    }
    CHECK(event.kind == PsyncMaster::Kind::kClose);
    CHECK(out.empty());
  }
}

TEST_CASE("a position that the next bytes would make wrap is no answer to PSYNC") {
  PsyncReplica replica(ReplicaHello{});
  replica.Hello();
  std::string_view hello = "+PONG\r\n+OK\r\n";
  REQUIRE(replica.Next(hello).kind == PsyncReplica::Kind::kReady);
  replica.Ask("", std::nullopt, false);
  const std::string answer = "+FULLRESYNC " + kChain + " 9223372036854775808\r\n";
  std::string_view input = answer;
  CHECK(replica.Next(input).kind == PsyncReplica::Kind::kRefused);
}

TEST_CASE("INFO of a master and of a replica") {
  const ServerInfo master = ParseInfo(
      "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:abc\r\n# "
      "Persistence\r\nloading:0\r\n"
      "# Replication\r\nrole:master\r\nmaster_replid:" +
      kOther + "\r\nmaster_replid2:" + kChain +
      "\r\nmaster_repl_offset:500\r\nsecond_repl_offset:501\r\nrepl_backlog_active:1\r\n# "
      "Keyspace\r\n"
      "db0:keys=3,expires=1,avg_ttl=5\r\ndb11:keys=40,expires=0,avg_ttl=0\r\n");
  CHECK(master.is_master);
  CHECK(master.run_id == "abc");
  CHECK(master.mode == "standalone");
  CHECK(master.replid == kOther);
  CHECK(master.replid2 == kChain);
  CHECK(master.master_offset == 500);
  CHECK(master.second_offset == 501);
  CHECK(master.backlog_active);
  CHECK(master.keys == 43);
  const ServerInfo replica = ParseInfo(
      "role:slave\r\nmaster_host:::1\r\nmaster_port:6380\r\nmaster_link_status:down\r\nslave_read_"
      "repl_offset:9\r\n"
      "slave_repl_offset:7\r\nslave_read_only:0\r\nmaster_replid:" +
      kChain + "\r\nloading:1\r\n");
  CHECK(!replica.is_master);
  CHECK(replica.master_host == "::1");
  CHECK(replica.master_port == 6380);
  CHECK(!replica.link_up);
  CHECK(replica.replica_offset == 7);
  CHECK(!replica.read_only);
  CHECK(replica.loading);
}

TEST_CASE("who may resume") {
  ServerInfo replica;
  replica.is_master = false;
  replica.replid = kChain;
  replica.replica_offset = 900;
  REQUIRE(ResumePointOf(replica));
  CHECK(ResumePointOf(replica)->replid == kChain);
  CHECK(ResumePointOf(replica)->position == Position(900));
  CHECK(IsFromChain(replica));
  SUBCASE("not a replica of a stranger") {
    replica.replid = kOther;
    CHECK(!ResumePointOf(replica));
    CHECK(!IsFromChain(replica));
  }
  SUBCASE("not one that takes writes") {
    replica.read_only = false;
    CHECK(!ResumePointOf(replica));
    CHECK(IsFromChain(replica));
  }
  SUBCASE("not one that has lost its place") {
    replica.replica_offset = 1;
    CHECK(!ResumePointOf(replica));
    replica.replica_offset.reset();
    CHECK(!ResumePointOf(replica));
  }
  ServerInfo master;
  master.replid = kOther;
  master.replid2 = kChain;
  master.master_offset = 900;
  master.second_offset = 901;
  REQUIRE(ResumePointOf(master));
  CHECK(ResumePointOf(master)->position == Position(900));
  SUBCASE("not a master that was written to") {
    master.master_offset = 901;
    CHECK(!ResumePointOf(master));
    CHECK(IsFromChain(master));
  }
  SUBCASE("not a master with the chain's replid as its own: a former head") {
    master.replid = kChain;
    master.replid2 = std::string(40, '0');
    master.second_offset = -1;
    CHECK(!ResumePointOf(master));
    CHECK(IsFromChain(master));
  }
}

TEST_CASE("ROLE") {
  const auto master = ParseRole(
      "*3\r\n$6\r\nmaster\r\n:3129659\r\n*1\r\n*3\r\n$9\r\n127.0.0.1\r\n$4\r\n9001\r\n$1\r\n5\r\n");
  REQUIRE(master);
  CHECK(master->is_master);
  CHECK(master->offset == 3129659);
  const auto replica =
      ParseRole("*5\r\n$5\r\nslave\r\n$3\r\n::1\r\n:9000\r\n$9\r\nconnected\r\n:3167038\r\n");
  REQUIRE(replica);
  CHECK(!replica->is_master);
  CHECK(replica->offset == 3167038);
  const auto down = ParseRole("*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:9000\r\n$7\r\nconnect\r\n:-1\r\n");
  REQUIRE(down);
  CHECK(!down->offset);
  CHECK(!ParseRole("-BUSY Redis is busy\r\n"));
  CHECK(!ParseRole("+QUEUED\r\n"));
  CHECK(!ParseRole("*2\r\n$8\r\nsentinel\r\n*0\r\n"));
  CHECK(!ParseRole(""));
}

TEST_CASE("connections of our predecessor") {
  const Incarnation me(12);
  CHECK(ConnectionName("a", me) == "catena:a:12");
  CHECK(ConnectionName("node 1\n", me) == "catena:node_1_:12");
  CHECK(IsPredecessorsName("catena:a:11", "a", me));
  CHECK(IsPredecessorsName("catena:node_1_:13", "node 1\n", me));
  CHECK(!IsPredecessorsName("catena:a:12", "a", me));
  CHECK(!IsPredecessorsName("catena:ab:11", "a", me));
  CHECK(!IsPredecessorsName("catena:a:x", "a", me));
  CHECK(!IsPredecessorsName("", "a", me));
  const auto clients = ParseClientList(
      "id=3 addr=127.0.0.1:1 laddr=x fd=8 name=catena:a:11 age=1 cmd=client|list\nid=40 addr=y "
      "name= age=2\n");
  REQUIRE(clients.size() == 2);
  CHECK(clients[0].id == "3");
  CHECK(clients[0].name == "catena:a:11");
  CHECK(clients[1].name.empty());
}

TEST_CASE("the newest RDB version that a Redis reads") {
  // FUNCTION DUMP of redis-server 7.0.15 without functions.
  const std::string dump("\n\x00]\x9b\\@\x0f\x7f\xa2\xda", 10);
  CHECK(RdbVersionOfDump(dump) == 10);
  CHECK(!RdbVersionOfDump("short"));
  CHECK(RdbVersionOfRelease("7.0.15") == 10);
  CHECK(RdbVersionOfRelease("6.2.14") == 9);
  CHECK(RdbVersionOfRelease("7.2.4") == 11);
  CHECK(RdbVersionOfRelease("7.4.0") == 12);
  CHECK(RdbVersionOfRelease("255.255.255") == 12);
  CHECK(RdbVersionOfRelease("4.0.14") == 8);
}

}  // namespace
}  // namespace catena::redis
