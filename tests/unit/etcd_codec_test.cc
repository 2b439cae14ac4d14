#include "coordinator/etcd_codec.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace catena::coordinator::etcd {
namespace {

using nlohmann::json;

TEST_CASE("base64 as RFC 4648 has it") {
  const std::pair<const char*, const char*> pairs[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="},
                                                       {"fooba", "Zm9vYmE="},
                                                       {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : pairs) {
    CHECK(Base64(bytes) == text);
    REQUIRE(FromBase64(text).has_value());
    CHECK(*FromBase64(text) == bytes);
  }
  std::string all;
  for (int i = 0; i < 256; ++i) all.push_back(static_cast<char>(i));
  for (size_t length = 0; length <= all.size(); ++length) {
    const std::string part = all.substr(all.size() - length);
    REQUIRE(FromBase64(Base64(part)).has_value());
    CHECK(*FromBase64(Base64(part)) == part);
  }
  for (const char* wrong :
       {"Z", "Zg=", "Zg", "Z===", "Zm9v====", "Zm=v", "Zm9\n", "====", "Zg==Zg=="}) {
    CHECK_FALSE(FromBase64(wrong).has_value());
  }
}

TEST_CASE("a range asks for a key, or for all that begin with a prefix") {
  CHECK(json::parse(EncodeRange("/a")) == json({{"key", Base64("/a")}}));
  const json prefix = json::parse(EncodeRangePrefix("/a/"));
  CHECK(prefix["key"] == Base64("/a/"));
  CHECK(prefix["range_end"] == Base64("/a0"));
  CHECK(json::parse(EncodeRangePrefix("a\xff\xff"))["range_end"] == Base64("b"));
  CHECK(json::parse(EncodeRangePrefix("\xff"))["range_end"] == Base64(std::string(1, '\0')));
}

TEST_CASE("a range answer, as etcd 3.4 writes it") {
  const auto answer = DecodeRange(
      R"({"header":{"cluster_id":"1","revision":"12","raft_term":"2"},"kvs":[{"key":"L2E=",)"
      R"("create_revision":"3","mod_revision":"9007199254740995","version":"4","value":"dg==",)"
      R"("lease":"7587862094700447239"}],"count":"1"})");
  REQUIRE(answer.has_value());
  CHECK(answer->revision == 12);
  REQUIRE(answer->pairs.size() == 1);
  CHECK(answer->pairs[0].key == "/a");
  CHECK(answer->pairs[0].value == "v");
  CHECK(answer->pairs[0].create_revision == 3);
  CHECK(answer->pairs[0].mod_revision == 9007199254740995);
  CHECK(answer->pairs[0].lease == 7587862094700447239);
  const auto none = DecodeRange(R"({"header":{"revision":"12"}})");
  REQUIRE(none.has_value());
  CHECK(none->pairs.empty());
}

TEST_CASE("a transaction compares revisions, puts, and reads when refused") {
  Txn txn;
  txn.compares = {{"leader", Compare::Target::kCreateRevision, 7},
                  {"chain", Compare::Target::kModRevision, 0}};
  txn.puts = {{"chain", "value", 0}, {"leader", "me", 5}};
  txn.reads = {"leader", "chain"};
  const json body = json::parse(EncodeTxn(txn));
  CHECK(body["compare"][0] == json({{"key", Base64("leader")},
                                    {"result", "EQUAL"},
                                    {"target", "CREATE"},
                                    {"create_revision", "7"}}));
  CHECK(body["compare"][1]["target"] == "MOD");
  CHECK(body["compare"][1]["mod_revision"] == "0");
  CHECK(body["success"][0]["request_put"] ==
        json({{"key", Base64("chain")}, {"value", Base64("value")}}));
  CHECK(body["success"][1]["request_put"]["lease"] == "5");
  CHECK(body["failure"][1]["request_range"]["key"] == Base64("chain"));
}

TEST_CASE("a transaction's answers") {
  const auto done =
      DecodeTxn(R"({"header":{"revision":"6"},"succeeded":true,"responses":[{"response_put":)"
                R"({"header":{"revision":"6"}}}]})",
                2);
  REQUIRE(done.has_value());
  CHECK(done->succeeded);
  CHECK(done->revision == 6);

  const auto refused = DecodeTxn(
      R"({"header":{"revision":"8"},"responses":[{"response_range":{"header":{"revision":"8"}}},)"
      R"({"response_range":{"header":{"revision":"8"},"kvs":[{"key":"YQ==","mod_revision":"7",)"
      R"("value":"Yg=="}],"count":"1"}}]})",
      2);
  REQUIRE(refused.has_value());
  CHECK_FALSE(refused->succeeded);
  REQUIRE(refused->reads.size() == 2);
  CHECK_FALSE(refused->reads[0].has_value());
  REQUIRE(refused->reads[1].has_value());
  CHECK(refused->reads[1]->value == "b");
  CHECK(refused->reads[1]->mod_revision == 7);
  // Fewer reads than asked for must not pass for "no such key".
  CHECK_FALSE(DecodeTxn(R"({"header":{"revision":"8"}})", 2).has_value());
}

TEST_CASE("leases") {
  CHECK(json::parse(EncodeLeaseGrant(2)) == json({{"TTL", "2"}}));
  CHECK(json::parse(EncodeLeaseKeepAlive(77)) == json({{"ID", "77"}}));
  CHECK(json::parse(EncodeLeaseRevoke(77)) == json({{"ID", "77"}}));
  const auto granted = DecodeLeaseGrant(R"({"header":{"revision":"1"},"ID":"77","TTL":"2"})");
  REQUIRE(granted.has_value());
  CHECK(granted->id == 77);
  CHECK(granted->ttl_seconds == 2);
  CHECK_FALSE(DecodeLeaseGrant(R"({"error":"x"})").has_value());
  const auto kept =
      DecodeLeaseKeepAlive("{\"result\":{\"header\":{},\"ID\":\"77\",\"TTL\":\"2\"}}\n");
  REQUIRE(kept.has_value());
  CHECK(kept->ttl_seconds == 2);
  const auto gone = DecodeLeaseKeepAlive("{\"result\":{\"header\":{},\"ID\":\"77\"}}\n");
  REQUIRE(gone.has_value());
  CHECK(gone->ttl_seconds == 0);
  CHECK_FALSE(DecodeLeaseKeepAlive(R"({"error":{"message":"no leader"}})").has_value());
}

TEST_CASE("what is no answer is an error, cut anywhere") {
  const std::string range =
      R"({"header":{"revision":"12"},"kvs":[{"key":"L2E=","value":"dg==","mod_revision":"3"}]})";
  for (size_t length = 0; length < range.size(); ++length) {
    CHECK_FALSE(DecodeRange(range.substr(0, length)).has_value());
    CHECK_FALSE(DecodeTxn(range.substr(0, length), 0).has_value());
  }
  CHECK_FALSE(DecodeRange("[]").has_value());
  CHECK_FALSE(DecodeRange(R"({"header":{},"kvs":[{"key":"!"}]})").has_value());
  CHECK_FALSE(DecodeRange(R"({"header":{},"kvs":{}})").has_value());
  CHECK(DecodeError(R"({"error":"etcdserver: no leader","code":14})") == "etcdserver: no leader");
  CHECK(DecodeError(R"({"error":{"message":"gone"}})") == "gone");
  CHECK(DecodeError("<html>") == "<html>");
}

}  // namespace
}  // namespace catena::coordinator::etcd
