#include "proxy/command/user_rights.h"

#include "proxy/command/glob.h"
#include "recorded.h"

namespace catena::command {
namespace {

using test::Views;
using test::Words;

const UserRights kReader(Access::kReadOnly, {"*"}, {"*"});
const UserRights kTenant(Access::kAll, {"app:*", "shared"}, {"news*"});
const UserRights kNobody(Access::kAll, {}, {});

const CommandTable& Table() {
  static const CommandTable table = test::RecordedTable();
  return table;
}

std::string Refusal(const UserRights& rights, const std::string& line) {
  const auto words = Words(line);
  const auto arguments = Views(words);
  const CommandInfo* info = Table().Find(arguments);
  std::vector<uint32_t> keys;
  const bool known =
      info != nullptr && FindKeys(*info, arguments, keys) == KeyKnowledge::kExact && !keys.empty();
  return rights.Refusal(info, arguments, keys, known);
}

void CheckAllowed(const UserRights& rights, std::initializer_list<const char*> lines) {
  for (const char* line : lines) CHECK_MESSAGE(Refusal(rights, line).empty(), line);
}

void CheckRefused(const UserRights& rights, const std::string& what,
                  std::initializer_list<const char*> lines) {
  for (const char* line : lines) {
    CHECK_MESSAGE(Refusal(rights, line).find(what) != std::string::npos,
                  line << ": " << Refusal(rights, line));
  }
}

TEST_CASE("a user without limits may do everything, also what nobody knows") {
  CHECK(UserRights().unlimited());
  CHECK(UserRights(Access::kAll, {"a", "*"}, {"*"}).unlimited());
  CHECK_FALSE(kReader.unlimited());
  CHECK_FALSE(kTenant.unlimited());
  CheckAllowed(UserRights(), {"SET k v", "EVAL x 0", "CONFIG SET a b", "NOSUCH", "FLUSHALL"});
}

TEST_CASE("who may only read") {
  CheckAllowed(kReader, {"GET k",
                         "MGET a b",
                         "SCAN 0",
                         "KEYS *",
                         "XREAD BLOCK 0 STREAMS s $",
                         "SORT_RO l BY x*",
                         "PFCOUNT h",
                         "BITFIELD_RO b GET u4 0",
                         "DUMP k",
                         "OBJECT ENCODING k",
                         "MULTI",
                         "EXEC",
                         "WATCH k",
                         "SUBSCRIBE c",
                         "PSUBSCRIBE *",
                         "PING",
                         "HELLO 3",
                         "AUTH x",
                         "RESET",
                         "QUIT",
                         "SELECT 1",
                         "CLIENT ID",
                         "CLIENT SETNAME x",
                         "CLIENT INFO",
                         "CLIENT TRACKING ON",
                         "ACL WHOAMI",
                         "INFO",
                         "COMMAND COUNT",
                         "TIME",
                         "CATENA CONSISTENCY tail",
                         "READONLY"});
  CheckRefused(kReader, "NOPERM this user has no permissions to run the '",
               {"SET k v",
                "DEL k",
                "GETEX k",
                "SORT l",
                "FLUSHALL",
                "EVAL x 0",
                "EVAL_RO x 0",
                "EVALSHA_RO x 0",
                "FCALL f 0",
                "FCALL_RO f 0",
                "SCRIPT LOAD x",
                "FUNCTION LIST",
                "PUBLISH c m",
                "SPUBLISH c m",
                "CONFIG GET x",
                "MONITOR",
                "CLIENT KILL ID 1",
                "CLIENT LIST",
                "CLIENT PAUSE 1",
                "CLIENT UNBLOCK 1",
                "DEBUG SLEEP 1",
                "SHUTDOWN",
                "SLOWLOG GET",
                "BLPOP l 0",
                "RESTORE k 0 x",
                "XREADGROUP GROUP g c STREAMS s >",
                "GEORADIUS g 1 1 1 m"});
  CHECK(Refusal(kReader, "client kill id 1") ==
        "NOPERM this user has no permissions to run the 'client|kill' command");
}

TEST_CASE("who is limited to keys") {
  CheckAllowed(kTenant, {"SET app:k v", "MSET app:a 1 shared 2", "RENAME app:a app:b", "GET shared",
                         "ZUNIONSTORE app:d 2 app:a shared", "XREAD STREAMS app:s shared 0 0",
                         "SCAN 0", "DBSIZE", "SORT app:l BY nosort STORE app:d",
                         "SORT app:l LIMIT 0 1 ASC", "BLPOP app:l 0", "INFO", "MULTI"});
  CheckRefused(kTenant, "NOPERM this user has no permissions to access one of the keys used",
               {"GET k", "GET Shared", "MSET app:a 1 b 2", "RENAME app:a b",
                "ZUNIONSTORE d 1 app:a", "COPY app:a b", "BITOP AND app:d app:a b",
                "XREAD STREAMS app:s s 0 0", "SORT l", "SORT app:l STORE d", "OBJECT ENCODING k",
                "WATCH k", "MEMORY USAGE k", "DUMP k", "GEORADIUS app:g 1 1 1 m STORE d",
                "MIGRATE h 1 k 0 1", "ZUNIONSTORE app:d 9 app:a", "SORT l BY x*"});
  CheckRefused(kTenant, "run the '",
               {"FLUSHALL", "FLUSHDB ASYNC", "SWAPDB 0 1", "EVAL x 1 app:k", "FCALL_RO f 1 app:k",
                "FUNCTION FLUSH", "CONFIG GET x", "MONITOR"});
  CHECK(Refusal(kTenant, "SORT app:l BY x*") ==
        "ERR BY option of SORT denied due to insufficient ACL permissions.");
  CHECK(Refusal(kTenant, "SORT_RO app:l LIMIT get get BY nosort GET #") ==
        "ERR GET option of SORT denied due to insufficient ACL permissions.");
  CheckRefused(kNobody, "keys", {"GET k", "SET k v"});
}

TEST_CASE("who is limited to channels") {
  CheckAllowed(kTenant, {"SUBSCRIBE news newspaper", "PSUBSCRIBE news*", "PUBLISH news x",
                         "SSUBSCRIBE news", "UNSUBSCRIBE a", "PUNSUBSCRIBE", "PUBSUB CHANNELS"});
  CheckRefused(kTenant, "NOPERM this user has no permissions to access one of the channels used",
               {"SUBSCRIBE news other", "PSUBSCRIBE news", "PSUBSCRIBE *", "PUBLISH other x",
                "SPUBLISH other x", "SSUBSCRIBE news other"});
  CheckRefused(kNobody, "channels", {"SUBSCRIBE a", "PSUBSCRIBE *"});
}

TEST_CASE("a wrong number of arguments is the database's to say") {
  CheckAllowed(kReader, {"SET k", "CONFIG GET"});
  CheckAllowed(kTenant, {"GET", "GET a b", "SUBSCRIBE"});
}

TEST_CASE("what the table does not know is not passed on") {
  CHECK(Refusal(kReader, "NOSUCH a b") ==
        "ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' ");
  CHECK(Refusal(kTenant, "CONFIG nosuch") == "ERR unknown subcommand 'nosuch'. Try CONFIG HELP.");
  CHECK(Refusal(kTenant, "NOSUCH " + std::string(200, 'x') + " y").size() < 300);
}

TEST_CASE("patterns") {
  const auto matches = [](const char* pattern, std::string_view text) {
    return MatchesGlob(pattern, text);
  };
  CHECK(matches("*", ""));
  CHECK(matches("", ""));
  CHECK_FALSE(matches("", "a"));
  CHECK(matches("app:*", "app:"));
  CHECK_FALSE(matches("app:*", "app"));
  CHECK(matches("*:a*b", "x:ab:ab"));
  CHECK_FALSE(matches("*:a*b", "x:ab:ac"));
  CHECK(matches("h?llo", "hello"));
  CHECK_FALSE(matches("h?llo", "hllo"));
  CHECK(matches("h[ae]llo", "hallo"));
  CHECK_FALSE(matches("h[^e]llo", "hello"));
  CHECK(matches("h[^e]llo", "hxllo"));
  CHECK(matches("[b-a]", "b"));
  CHECK(matches("[\\]]", "]"));
  CHECK(matches("[a-", "-"));
  CHECK(matches("\\*", "*"));
  CHECK_FALSE(matches("\\*", "x"));
  CHECK(matches("a\\", "a\\"));
  CHECK_FALSE(matches("Key", "key"));
  CHECK(matches("a*", std::string_view("a\0b", 3)));
  // Each further '*' would double the time of a recursive matcher.
  CHECK_FALSE(matches("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", std::string(2000, 'a')));
}

}  // namespace
}  // namespace catena::command
