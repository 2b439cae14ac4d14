// What a process tells people: one line an event on stderr, as key=value or as JSON. The only
// logging entry point; the pure core does not log. Loop thread.
//
//   log::Warn("link_silent", {{"link", id}, {"peer", name}});
//   time=2026-01-31T12:00:00.123Z level=warn who=a event=link_silent link=7 peer=10.0.0.2:6390
//   {"time":"2026-01-31T12:00:00.123Z","level":"warn","who":"a","event":"link_silent","link":7, ...
//
// A line stays a line and can be taken apart, whatever the values hold: as text a value that is more
// than letters, digits and -_./:,@+*#%$ is written as a JSON string. Bytes that are no UTF-8 become
// U+FFFD.
//
// What others can make happen again and again must not fill a disk: of one kind of event (its name
// and, if it has one, its chain) at most kTimesASecond are told a second, then how many were not
// (event=left_out).
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/clock.h"

namespace catena::log {

enum class Level : uint8_t { kDebug, kInfo, kWarn, kError, kOff };
enum class Form : uint8_t { kText, kJson };

inline constexpr uint64_t kTimesASecond = 50;

// A key and its value; the value is copied.
struct Field {
  Field(std::string_view name, std::string_view text) : key(name), value(text) {}
  Field(std::string_view name, const char* text) : key(name), value(text) {}
  Field(std::string_view name, const std::string& text) : key(name), value(text) {}
  Field(std::string_view name, bool truth)
      : key(name), value(truth ? "true" : "false"), quoted(false) {}
  template <std::integral Number>
  requires(!std::same_as<Number, bool>) Field(std::string_view name, Number number)
      : key(name), value(std::to_string(number)), quoted(false) {}

  std::string_view key;  // a literal
  std::string value;
  bool quoted = true;  // in JSON; numbers and booleans are not
};
using Fields = std::initializer_list<Field>;

// Before this is called a process tells what is kInfo or above, as text, under no name. `who` stands
// in every line.
void Init(std::string_view who, Level level, Form form);
void SetLevel(Level level);
void SetForm(Form form);
// "debug", "info", "warn", "error"; anything else is kInfo. "text", "json"; anything else is kText.
Level ParseLevel(std::string_view name);
Form ParseForm(std::string_view name);

void Write(Level level, std::string_view event, Fields fields);
inline void Debug(std::string_view event, Fields fields = {}) {
  Write(Level::kDebug, event, fields);
}
inline void Info(std::string_view event, Fields fields = {}) { Write(Level::kInfo, event, fields); }
inline void Warn(std::string_view event, Fields fields = {}) { Write(Level::kWarn, event, fields); }
inline void Error(std::string_view event, Fields fields = {}) {
  Write(Level::kError, event, fields);
}
// Tells what was left out, if its second is over. Whatever is told later does so too; for the beat
// of a process that may have nothing more to tell.
void Settle();

// Where lines go instead of stderr, without time, level and name, and without a bound on their
// number (the simulator's trace). nullptr: back to stderr.
void SendTo(std::function<void(std::string_view line)> sink);

// --- what the above is made of -------------------------------------------------------------------

// "key=value key=value" or a JSON object, without a line end.
std::string Format(Form form, const std::vector<Field>& fields);

// How often each kind of event was told in its second. Holds one small entry a kind.
class RateLimit {
 public:
  struct LeftOut {
    std::string kind;
    uint64_t times = 0;
  };
  // Whether `kind` may be told once more.
  bool Allow(std::string_view kind, TimePoint now);
  // What was left out of seconds that are over; empties itself.
  std::vector<LeftOut> Settle(TimePoint now);

 private:
  struct Second {
    TimePoint began{};
    uint64_t told = 0, left_out = 0;
  };
  std::map<std::string, Second, std::less<>> kinds_;
  uint64_t left_out_ = 0;  // of all kinds
};

}  // namespace catena::log
