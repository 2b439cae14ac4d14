// Chain messages as RESP commands (design.md 8: debuggable with redis-cli):
//
//   CATENA.HELLO <configuration json> <from> <incarnation> <to> <incarnation> <chain|join|acks>
//   <replid> CATENA.APPEND <position> <committed> <bytes> CATENA.START <position> CATENA.TARGET
//   <position> CATENA.CANNOT <reason>              CATENA.ASK <query|verify> <asker> <number>
//   CATENA.SNAPSHOT <position> <length> CATENA.CHUNK <bytes>   CATENA.SNAPSHOTEND
//   CATENA.WELCOME <received> <replid>  CATENA.OFFER <replid> <position>
//   CATENA.REFUSE <reason> <configuration json or empty>
//   CATENA.ACK <committed>              CATENA.VERIFY <asker> <number>
//   CATENA.ANSWER <query|verify> <asker> <number> <committed>
//   CATENA.JOINED <received> <loaded 0|1>
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "proxy/base/result.h"
#include "proxy/chain/message.h"

namespace catena::peer {

// Appends the encoded message. Append and SnapshotChunk are copied; see EncodeAppendHeader for the
// way without a copy.
void Encode(const chain::Message& message, std::string& out);
// The bytes before the payload of an Append of `length` bytes; the payload and "\r\n" follow.
void EncodeAppendHeader(Position from, Position committed, size_t length, std::string& out);
// Arguments as resp::CommandDecoder gives them; views in the result point into them.
Result<chain::Message> Decode(std::span<const std::string_view> arguments);

}  // namespace catena::peer
