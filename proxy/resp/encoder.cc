#include "proxy/resp/encoder.h"

#include <charconv>

namespace catena::resp {
namespace {

constexpr std::string_view kCrLf = "\r\n";
constexpr size_t kDecimalDigitsMax = 20;  // of a 64-bit number, with its sign

// "<type><number>\r\n"
template <typename Number>
void AppendLine(std::string& out, char type, Number number) {
  char line[1 + kDecimalDigitsMax + kCrLf.size()];
  line[0] = type;
  char* end = std::to_chars(line + 1, line + 1 + kDecimalDigitsMax, number).ptr;
  *end++ = '\r';
  *end++ = '\n';
  out.append(line, static_cast<size_t>(end - line));
}

template <typename Arguments>
void AppendArguments(std::string& out, const Arguments& arguments) {
  AppendArrayHeader(out, arguments.size());
  for (std::string_view argument : arguments) AppendBulk(out, argument);
}

}  // namespace

void AppendSimple(std::string& out, std::string_view text) {
  out.push_back('+');
  out.append(text);
  out.append(kCrLf);
}

void AppendError(std::string& out, std::string_view text) {
  out.push_back('-');
  const size_t start = out.size();
  out.append(text);
  for (size_t i = start; i < out.size(); ++i) {
    if (out[i] == '\r' || out[i] == '\n') out[i] = ' ';
  }
  out.append(kCrLf);
}

void AppendInteger(std::string& out, int64_t value) { AppendLine(out, ':', value); }

void AppendBulk(std::string& out, std::string_view bytes) {
  AppendBulkHeader(out, bytes.size());
  out.append(bytes);
  out.append(kCrLf);
}

void AppendNull(std::string& out, int protocol) { out.append(protocol >= 3 ? "_\r\n" : "$-1\r\n"); }

void AppendNullArray(std::string& out, int protocol) {
  out.append(protocol >= 3 ? "_\r\n" : "*-1\r\n");
}

void AppendArrayHeader(std::string& out, size_t count) { AppendLine(out, '*', count); }

void AppendMapHeader(std::string& out, size_t pairs, int protocol) {
  if (protocol >= 3) {
    AppendLine(out, '%', pairs);
  } else {
    AppendLine(out, '*', 2 * pairs);
  }
}

void AppendBulkHeader(std::string& out, size_t length) { AppendLine(out, '$', length); }

void AppendCommand(std::string& out, std::span<const std::string_view> arguments) {
  AppendArguments(out, arguments);
}

void AppendCommand(std::string& out, std::initializer_list<std::string_view> arguments) {
  AppendArguments(out, arguments);
}

std::string Decimal(uint64_t value) {
  char digits[kDecimalDigitsMax];
  return {digits, std::to_chars(digits, digits + sizeof digits, value).ptr};
}

}  // namespace catena::resp
