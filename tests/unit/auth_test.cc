#include <doctest/doctest.h>

#include <string>

#include "proxy/auth/proof.h"

namespace catena::auth {
namespace {

const std::string kNonceD(16, '\x01');
const std::string kNonceL = "\x10\x20\x30\x40\x50\x60\x70\x7f\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8";
const std::string kNonceDHex = "01010101010101010101010101010101";
const std::string kNonceLHex = "102030405060707ffffefdfcfbfaf9f8";

Credentials Shop(std::string secret = "open sesame") { return {"shop", std::move(secret)}; }

std::string Refusal(Acceptor& acceptor, std::string input) {
  std::string out;
  const auto result = acceptor.Feed(input, out);
  CHECK_FALSE(result);
  REQUIRE(out.size() > 3);
  CHECK(out == "-" + result.error().message + "\r\n");
  return out;
}

// Lets both sides talk, in pieces of `step` bytes, until one has an outcome.
struct Handshake {
  Handshake(Credentials dialler_knows, Credentials listener_knows, size_t step = 1000)
      : dialler(std::move(dialler_knows), kNonceD), acceptor(std::move(listener_knows), kNonceL) {
    std::string to_listener = dialler.Greeting();
    std::string to_dialler;
    while (!to_listener.empty() || !to_dialler.empty()) {
      Move(to_listener, acceptor_input, step);
      if (!listener_done) Feed(acceptor, acceptor_input, to_dialler, listener_done, listener_error);
      Move(to_dialler, dialler_input, step);
      if (!dialler_done) Feed(dialler, dialler_input, to_listener, dialler_done, dialler_error);
    }
  }

  static void Move(std::string& from, std::string& to, size_t step) {
    to += from.substr(0, step);
    from.erase(0, step);
  }
  template <typename Side>
  void Feed(Side& side, std::string& input, std::string& out, bool& done, std::string& error) {
    const size_t before = out.size();
    const auto result = side.Feed(input, out);
    transcript += out.substr(before);
    done = !result || *result;
    if (!result) error = result.error().message;
  }

  Dialler dialler;
  Acceptor acceptor;
  std::string dialler_input, acceptor_input;
  bool dialler_done = false, listener_done = false;
  std::string dialler_error, listener_error;
  std::string transcript;
};

TEST_CASE("both sides prove themselves, however the bytes are cut") {
  for (size_t step : {size_t{1}, size_t{2}, size_t{7}, size_t{1000}}) {
    CAPTURE(step);
    Handshake handshake(Shop(), Shop(), step);
    CHECK(handshake.dialler_done);
    CHECK(handshake.listener_done);
    CHECK(handshake.dialler_error.empty());
    CHECK(handshake.listener_error.empty());
    CHECK(handshake.transcript.find("open sesame") == std::string::npos);
  }
}

// The proofs were computed with Python's hmac: a change of the format breaks running clusters.
TEST_CASE("the bytes on the wire are those of the documented format") {
  Dialler dialler(Shop(), kNonceD, {1, 2});
  CHECK(dialler.Greeting() ==
        "*4\r\n$11\r\nCATENA.AUTH\r\n$3\r\n1-2\r\n$4\r\nshop\r\n$32\r\n" + kNonceDHex + "\r\n");
  Acceptor acceptor(Shop(), kNonceL, {2, 3});
  std::string input = dialler.Greeting();
  std::string challenge;
  CHECK(acceptor.Feed(input, challenge).value() == false);
  CHECK(challenge == "*3\r\n$1\r\n2\r\n$32\r\n" + kNonceLHex +
                         "\r\n$64\r\n"
                         "62410d9fcfc03809060f21e260b98ca16a9b09463bec3e25eccb40b58af6864c\r\n");
  std::string proof;
  CHECK(dialler.Feed(challenge, proof).value() == false);
  CHECK(proof ==
        "*2\r\n$12\r\nCATENA.PROVE\r\n$64\r\n"
        "58e4949bd7602221290f37942c0320805ac515cc761a53598e4000e0192ea232\r\n");
  std::string ok;
  proof += "what the dialler says next";
  CHECK(acceptor.Feed(proof, ok).value() == true);
  CHECK(proof == "what the dialler says next");
  CHECK(ok == "+OK\r\n");
  ok += "what the listener says next";
  std::string nothing;
  CHECK(dialler.Feed(ok, nothing).value() == true);
  CHECK(ok == "what the listener says next");
  CHECK(nothing.empty());
}

TEST_CASE("a dialler with another secret finds out first, and sends no proof") {
  Handshake handshake(Shop("guess"), Shop());
  CHECK(handshake.dialler_error == "the process there does not know this cluster's secret");
  CHECK_FALSE(handshake.listener_done);
  CHECK(handshake.transcript.find("CATENA.PROVE") == std::string::npos);
}

TEST_CASE("a wrong proof is refused") {
  Dialler dialler(Shop(), kNonceD);
  Acceptor acceptor(Shop(), kNonceL);
  std::string input = dialler.Greeting();
  std::string challenge, proof;
  REQUIRE(acceptor.Feed(input, challenge));
  const std::string listener_proof = challenge.substr(challenge.size() - 66, 64);
  REQUIRE(dialler.Feed(challenge, proof));
  SUBCASE("one digit off") { proof[proof.size() - 5] ^= 1; }
  SUBCASE("the listener's own, sent back") { proof.replace(proof.size() - 66, 64, listener_proof); }
  SUBCASE("empty") { proof = "*2\r\n$12\r\nCATENA.PROVE\r\n$0\r\n\r\n"; }
  CHECK(Refusal(acceptor, proof) ==
        "-WRONGSECRET the proof does not fit this cluster's secret\r\n");
}

TEST_CASE("a recorded handshake proves nothing to a listener with another nonce") {
  Dialler dialler(Shop(), kNonceD);
  Acceptor recorded(Shop(), kNonceL);
  std::string input = dialler.Greeting();
  std::string challenge, proof;
  REQUIRE(recorded.Feed(input, challenge));
  REQUIRE(dialler.Feed(challenge, proof));
  Acceptor fresh(Shop(), std::string(16, 'z'));
  std::string greeting = dialler.Greeting();
  std::string out;
  REQUIRE(fresh.Feed(greeting, out));
  CHECK(Refusal(fresh, proof).substr(0, 13) == "-WRONGSECRET ");
}

TEST_CASE("another cluster is told apart from a wrong secret") {
  Handshake handshake({"shelf", "open sesame"}, Shop());
  const std::string text = "WRONGCLUSTER this is a process of cluster \"shop\", not \"shelf\"";
  CHECK(handshake.listener_error == text);
  CHECK(handshake.dialler_error == "refused: " + text);
  Acceptor acceptor(Shop(), kNonceL);
  CHECK(
      Refusal(acceptor, "*5\r\n$11\r\nCATENA.AUTH\r\n$1\r\n2\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n")
          .substr(0, 8) == "-NOAUTH ");
}

struct Meeting {
  Meeting(ProtocolVersions dialler_speaks, ProtocolVersions listener_speaks)
      : dialler(Shop(), kNonceD, dialler_speaks), acceptor(Shop(), kNonceL, listener_speaks) {
    std::string greeting = dialler.Greeting(), challenge, proof;
    const auto challenged = acceptor.Feed(greeting, challenge);
    if (!challenged) refusal = challenged.error().message;
    const auto answered = dialler.Feed(challenge, proof);
    CHECK(answered.has_value() == challenged.has_value());
    if (!answered) told = answered.error().message;
  }
  Dialler dialler;
  Acceptor acceptor;
  std::string refusal, told;
};

TEST_CASE("two that speak several versions use the newest that both do") {
  CHECK(Meeting({1, 1}, {1, 1}).dialler.version() == 1);
  CHECK(Meeting({1, 2}, {1, 1}).dialler.version() == 1);
  CHECK(Meeting({1, 1}, {1, 2}).dialler.version() == 1);
  CHECK(Meeting({1, 3}, {2, 5}).dialler.version() == 3);
  CHECK(Meeting({4, 5}, {2, 4}).dialler.version() == 4);
}

TEST_CASE("two that have no version in common say what each speaks") {
  const Meeting meeting({3, 4}, {1, 2});
  CHECK(meeting.refusal.starts_with("WRONGVERSION this process (Catena "));
  CHECK(meeting.refusal.find("speaks protocol 1-2, the one that called speaks 3-4") !=
        std::string::npos);
  CHECK(meeting.told == "refused: " + meeting.refusal);
  CHECK(Meeting({1, 1}, {2, 2}).refusal.find("speaks protocol 2, the one") != std::string::npos);
}

TEST_CASE("nobody in between can talk two processes into an older version") {
  Dialler dialler(Shop(), kNonceD, {1, 2});
  Acceptor acceptor(Shop(), kNonceL, {1, 2});
  std::string greeting = dialler.Greeting(), challenge, proof;
  SUBCASE("by another offer") {
    const size_t at = greeting.find("$3\r\n1-2");
    REQUIRE(at != std::string::npos);
    greeting.replace(at, 7, "$1\r\n1");
    REQUIRE(acceptor.Feed(greeting, challenge));
  }
  SUBCASE("by another answer") {
    REQUIRE(acceptor.Feed(greeting, challenge));
    REQUIRE(challenge.starts_with("*3\r\n$1\r\n2"));
    challenge[8] = '1';
  }
  CHECK(dialler.Feed(challenge, proof).error().message ==
        "the process there does not know this cluster's secret");
}

TEST_CASE("strangers are refused as soon as they can be told") {
  const std::string greeting = Dialler(Shop(), kNonceD).Greeting();
  for (const std::string& input :
       {std::string("*1\r\n$4\r\nPING\r\n"), std::string("PING\r\n"), std::string("P"),
        std::string("GET / HTTP/1.1\r\n"), std::string("\x16\x03\x01"), std::string("\r\n"),
        std::string("*1000000\r\n"), std::string("*2\r\n$1000000000\r\n"), std::string("*-7x\r\n"),
        std::string("*2\r\n$11\r\nCATENA.AUTH\r\n$1\r\n1\r\n"),
        std::string("*2\r\n$11\r\nCATENA.AUTH\r\n$3\r\n2-1\r\n"),
        std::string("*2\r\n$11\r\nCATENA.AUTH\r\n$1\r\n0\r\n"),
        std::string("*2\r\n$11\r\nCATENA.AUTH\r\n$7\r\n1000000\r\n"),
        std::string("*2\r\n$12\r\nCATENA.PROVE\r\n$0\r\n\r\n"),
        "*4\r\n$11\r\nCATENA.AUTH\r\n$1\r\n1\r\n$4\r\nshop\r\n$32\r\n" + std::string(32, 'G') +
            "\r\n",
        "*4\r\n$11\r\nCATENA.AUTH\r\n$1\r\n1\r\n$4\r\nshop\r\n$30\r\n" + std::string(30, 'a') +
            "\r\n",
        "*2\r\n$1020\r\n" + std::string(1025, 'x')}) {
    CAPTURE(input);
    Acceptor acceptor(Shop(), kNonceL);
    CHECK(Refusal(acceptor, input).substr(0, 8) == "-NOAUTH ");
  }
  Acceptor acceptor(Shop(), kNonceL);
  std::string twice = greeting;
  std::string out;
  REQUIRE(acceptor.Feed(twice, out));
  CHECK(Refusal(acceptor, greeting).substr(0, 8) == "-NOAUTH ");
}

TEST_CASE("a dialler that reached something else says so") {
  for (const std::string& answer :
       {std::string("+PONG\r\n"), std::string("$-1\r\n"), std::string("*1\r\n$1\r\nx\r\n"),
        std::string("*2\r\n$1\r\nx\r\n$1\r\ny\r\n"),
        "*3\r\n$1\r\n9\r\n$32\r\n" + std::string(32, 'a') + "\r\n$1\r\nx\r\n",
        "*3\r\n$3\r\n1-2\r\n$32\r\n" + std::string(32, 'a') + "\r\n$1\r\nx\r\n",
        std::string("HTTP/1.1 400 Bad Request\r\n"), std::string("*-1\r\n"),
        std::string("$1000000\r\n"), "+" + std::string(2000, 'x'),
        "*2\r\n$32\r\n" + std::string(32, 'A') + "\r\n$1\r\nx\r\n"}) {
    CAPTURE(answer);
    Dialler dialler(Shop(), kNonceD);
    std::string input = answer;
    std::string out;
    const auto result = dialler.Feed(input, out);
    REQUIRE_FALSE(result);
    CHECK(result.error().message.find("unexpected answer") == 0);
    CHECK(out.empty());
  }
  Dialler dialler(Shop(), kNonceD);
  std::string input = "-ERR unknown command 'CATENA.AUTH'\r\n";
  std::string out;
  CHECK(dialler.Feed(input, out).error().message == "refused: ERR unknown command 'CATENA.AUTH'");
}

TEST_CASE("a listener that skips the proof of its own is not believed") {
  Dialler dialler(Shop(), kNonceD);
  std::string input = "+OK\r\n";
  std::string out;
  CHECK_FALSE(dialler.Feed(input, out));
}

TEST_CASE("secrets are compared whole") {
  CHECK(EqualSecrets("", ""));
  CHECK(EqualSecrets("abc", "abc"));
  CHECK_FALSE(EqualSecrets("abc", "abd"));
  CHECK_FALSE(EqualSecrets("abc", "ab"));
  CHECK_FALSE(EqualSecrets("", "a"));
}

}  // namespace
}  // namespace catena::auth
