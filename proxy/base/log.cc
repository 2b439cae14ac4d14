#include "proxy/base/log.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <ctime>

namespace catena::log {
namespace {

constexpr Duration kSecond = std::chrono::seconds(1);
constexpr std::array<std::string_view, 4> kLevelNames{"debug", "info", "warn", "error"};

struct Process {
  std::string who;
  Level level = Level::kInfo;
  Form form = Form::kText;
  RateLimit limit;
  std::function<void(std::string_view)> sink;
};

Process& OfProcess() {
  static Process process;
  return process;
}

TimePoint Now() {
  return TimePoint(
      std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch()));
}

// UTC with milliseconds, as RFC 3339 has it.
std::string WallTime() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  std::tm parts{};
  gmtime_r(&now.tv_sec, &parts);
  char text[40];
  const size_t used = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S.", &parts);
  std::string time(text, used);
  const std::string fraction = std::to_string(now.tv_nsec / 1'000'000);
  return time.append(3 - fraction.size(), '0').append(fraction).append("Z");
}

// How many bytes the UTF-8 character at the beginning of `text` has; 0: it is none.
size_t CharacterBytes(std::string_view text) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = at(0);
  const size_t bytes = lead < 0x80                    ? 1
                       : lead >= 0xc2 && lead <= 0xdf ? 2
                       : (lead & 0xf0) == 0xe0        ? 3
                       : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                      : 0;
  if (bytes == 0 || text.size() < bytes) return 0;
  for (size_t i = 1; i < bytes; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates and what is beyond Unicode.
  if ((lead == 0xe0 && at(1) < 0xa0) || (lead == 0xed && at(1) > 0x9f)) return 0;
  if ((lead == 0xf0 && at(1) < 0x90) || (lead == 0xf4 && at(1) > 0x8f)) return 0;
  return bytes;
}

void AppendEscaped(std::string& out, unsigned char byte) {
  constexpr char kHex[] = "0123456789abcdef";
  switch (byte) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
  }
}

void AppendQuoted(std::string& out, std::string_view text) {
  out += '"';
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const size_t bytes = CharacterBytes(text.substr(i));
    if (bytes == 0) {
      out += "\xef\xbf\xbd";
    } else if (byte < 0x20 || byte == 0x7f || byte == '"' || byte == '\\') {
      AppendEscaped(out, byte);
    } else {
      out.append(text.substr(i, bytes));
    }
    i += std::max<size_t>(bytes, 1);
  }
  out += '"';
}

bool IsPlain(std::string_view text) {
  constexpr std::string_view kMarks = "-_./:,@+*#%$";
  if (text.empty()) return false;
  for (const char c : text) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 && (c & 0x80) == 0;
    if (!plain && kMarks.find(c) == std::string_view::npos) return false;
  }
  return true;
}

std::string KindOf(std::string_view event, Fields fields) {
  std::string kind(event);
  for (const Field& field : fields) {
    if (field.key == "chain") kind += '/' + field.value;
  }
  return kind;
}

void Emit(Level level, std::string_view event, Fields fields) {
  const Process& process = OfProcess();
  std::vector<Field> all;
  all.reserve(fields.size() + 4);
  if (!process.sink) {
    all.emplace_back("time", WallTime());
    all.emplace_back("level", kLevelNames[static_cast<size_t>(level)]);
    all.emplace_back("who", process.who);
  }
  all.emplace_back("event", event);
  all.insert(all.end(), fields);
  std::string line = Format(process.form, all);
  if (process.sink) return process.sink(line);
  line += '\n';
  // One call a line, so that lines of several processes do not mix. A log that cannot be written
  // must not stop what it tells of.
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

void Init(std::string_view who, Level level, Form form) {
  Process& process = OfProcess();
  process.who = who;
  process.level = level;
  process.form = form;
}

void SetLevel(Level level) { OfProcess().level = level; }
void SetForm(Form form) { OfProcess().form = form; }

Level ParseLevel(std::string_view name) {
  for (size_t i = 0; i < kLevelNames.size(); ++i) {
    if (kLevelNames[i] == name) return static_cast<Level>(i);
  }
  return Level::kInfo;
}

Form ParseForm(std::string_view name) { return name == "json" ? Form::kJson : Form::kText; }

void Write(Level level, std::string_view event, Fields fields) {
  Process& process = OfProcess();
  if (level < process.level) return;
  if (!process.sink) {
    Settle();
    if (!process.limit.Allow(KindOf(event, fields), Now())) return;
  }
  Emit(level, event, fields);
}

void Settle() {
  for (const RateLimit::LeftOut& kind : OfProcess().limit.Settle(Now())) {
    Emit(Level::kWarn, "left_out", {{"kind", kind.kind}, {"times", kind.times}});
  }
}

void SendTo(std::function<void(std::string_view)> sink) { OfProcess().sink = std::move(sink); }

std::string Format(Form form, const std::vector<Field>& fields) {
  const bool json = form == Form::kJson;
  std::string line = json ? "{" : "";
  for (const Field& field : fields) {
    if (line.size() > (json ? 1 : 0)) line += json ? ',' : ' ';
    if (json) {
      line.append(1, '"').append(field.key).append("\":");
    } else {
      line.append(field.key).append(1, '=');
    }
    if (field.quoted && (json || !IsPlain(field.value))) {
      AppendQuoted(line, field.value);
    } else {
      line += field.value;
    }
  }
  return json ? line + "}" : line;
}

bool RateLimit::Allow(std::string_view kind, TimePoint now) {
  auto found = kinds_.find(kind);
  if (found == kinds_.end()) found = kinds_.emplace(kind, Second{now}).first;
  Second& second = found->second;
  // What it left out is Settle's to tell before another second begins.
  if (now - second.began >= kSecond && second.left_out == 0) second = Second{now};
  if (second.told < kTimesASecond) {
    ++second.told;
    return true;
  }
  ++second.left_out;
  ++left_out_;
  return false;
}

std::vector<RateLimit::LeftOut> RateLimit::Settle(TimePoint now) {
  std::vector<LeftOut> over;
  if (left_out_ == 0) return over;
  for (auto& [kind, second] : kinds_) {
    if (second.left_out == 0 || now - second.began < kSecond) continue;
    over.push_back({kind, second.left_out});
    left_out_ -= second.left_out;
    second = Second{now};
  }
  return over;
}

}  // namespace catena::log
