// How processes of one cluster prove to each other that they know `secret_file`, before anything
// else is said on a peer or coordinator connection. Mutual challenge-response with HMAC-SHA256; the
// secret never travels, a recorded handshake cannot be replayed. Sans I/O.
//
//   dialler:  CATENA.AUTH <versions> <cluster> <nonce_d hex>
//   listener: *3 <version> <nonce_l hex> <HMAC(secret, "listener|" versions "|" version "|" cluster
//             "|" nonce_d "|" nonce_l) hex>
//   dialler:  CATENA.PROVE <HMAC(secret, "dialler|" ... same fields) hex>
//   listener: +OK
//
// `versions` are those of the protocol that the dialler speaks, "1" or "1-2"; `version` is the newest
// that both do, and what is said afterwards is said in it. Both are under the proofs: nobody in between
// can talk two processes into an older one than they would choose.
//
// Anything else is answered "-NOAUTH ..." / "-WRONGSECRET ..." / "-WRONGCLUSTER ..." /
// "-WRONGVERSION ..." (which names what both sides speak) by the
// listener, which then closes. Texts never contain the secret or a proof. Neither side holds more
// than 1 KB of an unfinished message; how long it waits for one is the caller's to bound.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/result.h"
#include "proxy/base/version.h"
#include "proxy/resp/value.h"

namespace catena::auth {

struct Credentials {
  std::string cluster;
  std::string secret;  // bytes of the secret file, trailing white space removed
};

class Dialler {
 public:
  // `nonce`: 16 random bytes.
  Dialler(Credentials credentials, std::string_view nonce,
          ProtocolVersions versions = SpokenProtocols());
  // The first bytes to send.
  std::string Greeting() const;
  // Feed with received bytes. `out` gets bytes to send. true: proven on both sides (bytes behind
  // the +OK stay in `input`); false: need more; Error: refused, close.
  Result<bool> Feed(std::string& input, std::string& out);
  // The version that both speak; 0 before the listener told it.
  int version() const { return version_; }

 private:
  Result<bool> AnswerChallenge(const resp::Value& challenge, std::string& out);

  Credentials credentials_;
  ProtocolVersions versions_;
  int version_ = 0;
  std::string nonce_;  // hex
  bool sent_proof_ = false;
};

class Acceptor {
 public:
  Acceptor(Credentials credentials, std::string_view nonce,
           ProtocolVersions versions = SpokenProtocols());
  // As Dialler::Feed (bytes behind the proof stay in `input`); on Error `out` holds the refusal to
  // send before closing.
  Result<bool> Feed(std::string& input, std::string& out);

 private:
  Result<bool> Challenge(const std::vector<std::string_view>& greeting, std::string& out);
  Result<bool> CheckProof(const std::vector<std::string_view>& proof, std::string& out);

  Credentials credentials_;
  ProtocolVersions versions_;
  std::string nonce_;           // hex
  std::string expected_proof_;  // empty until the greeting came
};

// Constant-time comparison; false at once only for different lengths.
bool EqualSecrets(std::string_view a, std::string_view b);

}  // namespace catena::auth
