// Appends RESP to a buffer. Nothing allocates but the buffer itself.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace catena::resp {

void AppendSimple(std::string& out, std::string_view text);  // +text
void AppendError(std::string& out,
                 std::string_view text);  // -text (with its code; CR and LF become spaces)
void AppendInteger(std::string& out, int64_t value);                 // :value
void AppendBulk(std::string& out, std::string_view bytes);           // $len bytes
void AppendNull(std::string& out, int protocol);                     // $-1 or _
void AppendNullArray(std::string& out, int protocol);                // *-1 or _
void AppendArrayHeader(std::string& out, size_t count);              // *count
void AppendMapHeader(std::string& out, size_t pairs, int protocol);  // %pairs, or *2*pairs in RESP2
void AppendBulkHeader(std::string& out, size_t length);  // $len\r\n; the caller adds bytes and CRLF
// A command as clients send it: *n then bulks.
void AppendCommand(std::string& out, std::span<const std::string_view> arguments);
void AppendCommand(std::string& out, std::initializer_list<std::string_view> arguments);
// Decimal text of a number as an argument, without allocation beyond the small string.
std::string Decimal(uint64_t value);

}  // namespace catena::resp
