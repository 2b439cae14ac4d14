#include "proxy/auth/proof.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>

#include "proxy/base/check.h"
#include "proxy/resp/decoder.h"
#include "proxy/resp/encoder.h"

namespace catena::auth {
namespace {

constexpr std::string_view kAuthCommand = "CATENA.AUTH";
constexpr std::string_view kProveCommand = "CATENA.PROVE";
constexpr std::string_view kListenerRole = "listener";
constexpr std::string_view kDiallerRole = "dialler";
constexpr size_t kNonceBytes = 16;
// Nobody who has not proved anything makes us hold more than this.
constexpr size_t kMessageBytesMax = 1024;

resp::Limits MessageLimits() {
  resp::Limits limits;
  limits.bulk_bytes_max = kMessageBytesMax;
  limits.inline_bytes_max = kMessageBytesMax;
  limits.elements_max = 4;
  limits.nesting_max = 1;
  return limits;
}

std::string Hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * bytes.size());
  for (unsigned char byte : bytes) {
    hex.push_back(kDigits[byte >> 4]);
    hex.push_back(kDigits[byte & 15]);
  }
  return hex;
}

// Nonces have one length and one alphabet, so that the fields of a proof cannot run into each
// other.
bool IsNonce(std::string_view hex) {
  return hex.size() == 2 * kNonceBytes && std::all_of(hex.begin(), hex.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// The role in front keeps one side's proof from being sent back as the other's.
std::string Proof(const Credentials& credentials, std::string_view role, std::string_view dialler,
                  std::string_view listener) {
  std::string fields(role);
  for (std::string_view field :
       {kProtocolVersion, std::string_view(credentials.cluster), dialler, listener}) {
    fields += '|';
    fields += field;
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned digest_bytes = 0;
  const auto* result = HMAC(
      EVP_sha256(), credentials.secret.data(), static_cast<int>(credentials.secret.size()),
      reinterpret_cast<const unsigned char*>(fields.data()), fields.size(), digest, &digest_bytes);
  CATENA_CHECK(result != nullptr, "OpenSSL computes an HMAC");
  return Hex({reinterpret_cast<const char*>(digest), digest_bytes});
}

// Appends the refusal to `out`; the error carries the same text.
tl::unexpected<Error> Refuse(std::string text, std::string& out) {
  resp::AppendError(out, text);
  return Fail(std::move(text));
}

tl::unexpected<Error> RefuseStranger(std::string& out) {
  return Refuse(
      "NOAUTH this port is for the processes of a Catena cluster; Redis clients connect to "
      "a node's `clients` address",
      out);
}

}  // namespace

bool EqualSecrets(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

// ------------------------------------------------------------------------------------- Dialler

Dialler::Dialler(Credentials credentials, std::string_view nonce)
    : credentials_(std::move(credentials)), nonce_(Hex(nonce)) {
  CATENA_CHECK(nonce.size() == kNonceBytes, "a nonce of the agreed length");
}

std::string Dialler::Greeting() const {
  std::string greeting;
  resp::AppendCommand(greeting, {kAuthCommand, kProtocolVersion, credentials_.cluster, nonce_});
  return greeting;
}

Result<bool> Dialler::Feed(std::string& input, std::string& out) {
  while (true) {
    resp::Value answer;
    size_t consumed = 0;
    std::string error;
    const auto progress = resp::DecodeValue(input, answer, consumed, error, MessageLimits());
    if (progress == resp::Progress::kError) return Fail("unexpected answer: " + error);
    if (progress == resp::Progress::kNeedMore) {
      if (input.size() > kMessageBytesMax) return Fail("unexpected answer: too long");
      return false;
    }
    input.erase(0, consumed);
    if (answer.IsError()) return Fail("refused: " + answer.text);
    if (sent_proof_) {
      if (answer.type == resp::Type::kSimpleString && answer.text == "OK") return true;
      return Fail("unexpected answer to the proof: not a Catena process?");
    }
    if (auto proved = AnswerChallenge(answer, out); !proved) return proved;
  }
}

Result<bool> Dialler::AnswerChallenge(const resp::Value& challenge, std::string& out) {
  const auto& fields = challenge.elements;
  if (challenge.type != resp::Type::kArray || fields.size() != 2 || !IsNonce(fields[0].text)) {
    return Fail("unexpected answer to the greeting: not a Catena process?");
  }
  const std::string& listener_nonce = fields[0].text;
  if (!EqualSecrets(fields[1].text, Proof(credentials_, kListenerRole, nonce_, listener_nonce))) {
    return Fail("the process there does not know this cluster's secret");
  }
  resp::AppendCommand(out,
                      {kProveCommand, Proof(credentials_, kDiallerRole, nonce_, listener_nonce)});
  sent_proof_ = true;
  return false;
}

// ------------------------------------------------------------------------------------ Acceptor

Acceptor::Acceptor(Credentials credentials, std::string_view nonce)
    : credentials_(std::move(credentials)), nonce_(Hex(nonce)) {
  CATENA_CHECK(nonce.size() == kNonceBytes, "a nonce of the agreed length");
}

Result<bool> Acceptor::Feed(std::string& input, std::string& out) {
  while (!input.empty()) {
    // Anything but a multibulk is no dialler: told at once, not when its line or 1 KB is complete.
    if (input[0] != '*') return RefuseStranger(out);
    resp::CommandDecoder decoder(MessageLimits());
    resp::Command command;
    size_t consumed = 0;
    const auto progress = decoder.Decode(input, command, consumed);
    if (progress == resp::Progress::kError) return RefuseStranger(out);
    if (progress == resp::Progress::kNeedMore) {
      if (input.size() > kMessageBytesMax) return RefuseStranger(out);
      return false;
    }
    const bool last = !expected_proof_.empty();
    auto accepted = last ? CheckProof(command.arguments, out) : Challenge(command.arguments, out);
    if (!accepted) return accepted;
    input.erase(0, consumed);
    if (last) return true;
  }
  return false;
}

Result<bool> Acceptor::Challenge(const std::vector<std::string_view>& greeting, std::string& out) {
  if (greeting.size() < 2 || greeting[0] != kAuthCommand) return RefuseStranger(out);
  if (greeting[1] != kProtocolVersion) {
    return Refuse("NOAUTH protocol version " + std::string(greeting[1]) +
                      " is not spoken here, only " + std::string(kProtocolVersion),
                  out);
  }
  if (greeting.size() != 4 || !IsNonce(greeting[3])) return RefuseStranger(out);
  if (greeting[2] != credentials_.cluster) {
    return Refuse("WRONGCLUSTER this is a process of cluster \"" + credentials_.cluster +
                      "\", not \"" + std::string(greeting[2]) + "\"",
                  out);
  }
  expected_proof_ = Proof(credentials_, kDiallerRole, greeting[3], nonce_);
  resp::AppendArrayHeader(out, 2);
  resp::AppendBulk(out, nonce_);
  resp::AppendBulk(out, Proof(credentials_, kListenerRole, greeting[3], nonce_));
  return false;
}

Result<bool> Acceptor::CheckProof(const std::vector<std::string_view>& proof, std::string& out) {
  if (proof.size() != 2 || proof[0] != kProveCommand) return RefuseStranger(out);
  if (!EqualSecrets(proof[1], expected_proof_)) {
    return Refuse("WRONGSECRET the proof does not fit this cluster's secret", out);
  }
  resp::AppendSimple(out, "OK");
  return true;
}

}  // namespace catena::auth
