#include "proxy/auth/proof.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <charconv>
#include <optional>

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
struct Fields {
  std::string_view versions, version;  // as on the wire
  std::string_view dialler, listener;  // nonces
};

std::string Proof(const Credentials& credentials, std::string_view role, const Fields& of) {
  std::string fields(role);
  for (std::string_view field :
       {of.versions, of.version, std::string_view(credentials.cluster), of.dialler, of.listener}) {
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

// "1" or "1-2", each at most six digits; nullopt: neither.
std::optional<ProtocolVersions> ParseVersions(std::string_view text) {
  constexpr size_t kDigitsMax = 6;
  const auto number = [](std::string_view digits) {
    int value = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, value);
    const bool good = error == std::errc() && stop == end && digits.size() <= kDigitsMax;
    return good && value > 0 ? value : 0;
  };
  const size_t dash = text.find('-');
  ProtocolVersions versions;
  versions.oldest = number(text.substr(0, dash));
  versions.newest =
      dash == std::string_view::npos ? versions.oldest : number(text.substr(dash + 1));
  if (versions.oldest == 0 || versions.newest < versions.oldest) return std::nullopt;
  return versions;
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

Dialler::Dialler(Credentials credentials, std::string_view nonce, ProtocolVersions versions)
    : credentials_(std::move(credentials)), versions_(versions), nonce_(Hex(nonce)) {
  CATENA_CHECK(nonce.size() == kNonceBytes, "a nonce of the agreed length");
}

std::string Dialler::Greeting() const {
  std::string greeting;
  resp::AppendCommand(greeting, {kAuthCommand, versions_.Text(), credentials_.cluster, nonce_});
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
  if (challenge.type != resp::Type::kArray || fields.size() != 3 || !IsNonce(fields[1].text)) {
    return Fail("unexpected answer to the greeting: not a Catena process?");
  }
  const std::string offered = versions_.Text();
  const Fields proven{offered, fields[0].text, nonce_, fields[1].text};
  const auto chosen = ParseVersions(fields[0].text);
  if (!chosen || chosen->oldest != chosen->newest || chosen->oldest < versions_.oldest ||
      chosen->newest > versions_.newest) {
    return Fail("unexpected answer to the greeting: a protocol version that was not offered");
  }
  if (!EqualSecrets(fields[2].text, Proof(credentials_, kListenerRole, proven))) {
    return Fail("the process there does not know this cluster's secret");
  }
  resp::AppendCommand(out, {kProveCommand, Proof(credentials_, kDiallerRole, proven)});
  version_ = chosen->newest;
  sent_proof_ = true;
  return false;
}

// ------------------------------------------------------------------------------------ Acceptor

Acceptor::Acceptor(Credentials credentials, std::string_view nonce, ProtocolVersions versions)
    : credentials_(std::move(credentials)), versions_(versions), nonce_(Hex(nonce)) {
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
  const auto theirs = ParseVersions(greeting[1]);
  if (!theirs) return RefuseStranger(out);
  const int common = std::min(theirs->newest, versions_.newest);
  if (common < std::max(theirs->oldest, versions_.oldest)) {
    return Refuse("WRONGVERSION this process (Catena " + std::string(ProgramVersion()) +
                      ") speaks protocol " + versions_.Text() + ", the one that called speaks " +
                      theirs->Text() + ": upgrade in steps that have one in common",
                  out);
  }
  if (greeting.size() != 4 || !IsNonce(greeting[3])) return RefuseStranger(out);
  if (greeting[2] != credentials_.cluster) {
    return Refuse("WRONGCLUSTER this is a process of cluster \"" + credentials_.cluster +
                      "\", not \"" + std::string(greeting[2]) + "\"",
                  out);
  }
  const std::string version = std::to_string(common);
  const Fields proven{greeting[1], version, greeting[3], nonce_};
  expected_proof_ = Proof(credentials_, kDiallerRole, proven);
  resp::AppendArrayHeader(out, 3);
  resp::AppendBulk(out, version);
  resp::AppendBulk(out, nonce_);
  resp::AppendBulk(out, Proof(credentials_, kListenerRole, proven));
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
