#include "proxy/command/glob.h"

#include <algorithm>

namespace catena::command {
namespace {

// Whether the set that begins behind pattern[at] == '[' holds `c`; moves `at` behind the set. One
// that is not closed ends with the pattern.
bool SetHolds(std::string_view pattern, size_t& at, char c) {
  const auto byte = [](char x) { return static_cast<unsigned char>(x); };
  bool holds = false;
  ++at;
  const bool inverted = at < pattern.size() && pattern[at] == '^';
  if (inverted) ++at;
  for (; at < pattern.size() && pattern[at] != ']'; ++at) {
    if (pattern[at] == '\\' && at + 1 < pattern.size()) {
      holds |= pattern[++at] == c;
    } else if (at + 2 < pattern.size() && pattern[at + 1] == '-') {
      const auto [low, high] = std::minmax({byte(pattern[at]), byte(pattern[at + 2])});
      holds |= byte(c) >= low && byte(c) <= high;
      at += 2;
    } else {
      holds |= pattern[at] == c;
    }
  }
  if (at < pattern.size()) ++at;
  return holds != inverted;
}

// Whether the piece at `at`, which is no '*', matches one byte; moves `at` behind it.
bool MatchesByte(std::string_view pattern, size_t& at, char c) {
  if (pattern[at] == '[') return SetHolds(pattern, at, c);
  if (pattern[at] == '?') {
    ++at;
    return true;
  }
  if (pattern[at] == '\\' && at + 1 < pattern.size()) ++at;
  return pattern[at++] == c;
}

}  // namespace

bool MatchesGlob(std::string_view pattern, std::string_view text) {
  constexpr size_t kNone = std::string_view::npos;
  size_t at = 0, matched = 0;
  // Behind the last '*' seen, and what of `text` it has not swallowed yet. An earlier '*' need not
  // be tried again: what it can leave to the later one, that one can swallow itself.
  size_t behind_star = kNone, star_leaves = 0;
  while (matched < text.size()) {
    if (at < pattern.size() && pattern[at] == '*') {
      behind_star = ++at;
      star_leaves = matched;
      continue;
    }
    if (at < pattern.size() && MatchesByte(pattern, at, text[matched])) {
      ++matched;
      continue;
    }
    if (behind_star == kNone) return false;
    at = behind_star;
    matched = ++star_leaves;
  }
  while (at < pattern.size() && pattern[at] == '*') ++at;
  return at == pattern.size();
}

}  // namespace catena::command
