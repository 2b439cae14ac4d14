// LCS: the longest common subsequence of two strings.
#include <algorithm>
#include <vector>

#include "backends/rocksdb/command_handlers.h"

namespace catena::rocks::handlers {
namespace {

struct LcsOptions {
  bool length_only = false, matches = false, match_lengths = false;
  int64_t match_length_min = 0;
};

// The longest common subsequence of each pair of prefixes. Of its lengths only one row is kept at a
// time, along the shorter text; what stays is one bit a pair, where Redis keeps four bytes: which
// prefix loses its last byte on the way back.
class LcsTable {
 public:
  LcsTable(std::string_view a, std::string_view b)
      : rows_are_a_(b.size() <= a.size()),
        rows_(rows_are_a_ ? a : b),
        columns_(rows_are_a_ ? b : a),
        lengths_(columns_.size() + 1),
        shorten_a_(rows_.size() * columns_.size()) {
    for (size_t row = 0; row < rows_.size(); ++row) FillRow(row);
  }

  uint32_t length() const { return lengths_.back(); }
  // For prefixes of i and j bytes whose last bytes differ.
  bool ShortensA(size_t i, size_t j) const {
    return shorten_a_[rows_are_a_ ? Place(i - 1, j - 1) : Place(j - 1, i - 1)];
  }

 private:
  size_t Place(size_t row, size_t column) const { return row * columns_.size() + column; }

  void FillRow(size_t row) {
    uint32_t diagonal = 0;
    for (size_t column = 0; column < columns_.size(); ++column) {
      const uint32_t above = lengths_[column + 1], left = lengths_[column];
      if (rows_[row] == columns_[column]) {
        lengths_[column + 1] = diagonal + 1;
      } else {
        lengths_[column + 1] = std::max(above, left);
        if (rows_are_a_ ? above > left : left > above) shorten_a_[Place(row, column)] = true;
      }
      diagonal = above;
    }
  }

  bool rows_are_a_;
  std::string_view rows_, columns_;
  std::vector<uint32_t> lengths_;
  std::vector<bool> shorten_a_;
};

// `length` bytes that are equal in both.
struct Match {
  size_t a = 0, b = 0, length = 0;
};

// The pieces of the subsequence, the last one first.
std::vector<Match> FindMatches(std::string_view a, std::string_view b, const LcsTable& table) {
  std::vector<Match> matches;
  Match match;
  const auto end_match = [&] {
    if (match.length > 0) matches.push_back(match);
    match = {};
  };
  size_t i = a.size(), j = b.size();
  while (i > 0 && j > 0) {
    if (a[i - 1] == b[j - 1]) {
      match = {--i, --j, match.length + 1};
      continue;
    }
    end_match();
    if (table.ShortensA(i, j)) {
      --i;
    } else {
      --j;
    }
  }
  end_match();
  return matches;
}

bool ParseOptions(const Call& call, LcsOptions& options) {
  for (size_t at = 3; at < call.count(); ++at) {
    if (call.Is(at, "idx")) {
      options.matches = true;
    } else if (call.Is(at, "len")) {
      options.length_only = true;
    } else if (call.Is(at, "withmatchlen")) {
      options.match_lengths = true;
    } else if (call.Is(at, "minmatchlen") && at + 1 < call.count()) {
      const auto length = call.TakeInteger(++at);
      if (!length) return false;
      options.match_length_min = *length;
    } else {
      return call.Refuse(kSyntaxError);
    }
  }
  return true;
}

void ReplyRange(const Call& call, size_t first, size_t length) {
  call.Array(2);
  call.Integer(static_cast<int64_t>(first));
  call.Integer(static_cast<int64_t>(first + length - 1));
}

void ReplyMatches(const Call& call, std::vector<Match> matches, const LcsOptions& options,
                  uint32_t length) {
  std::erase_if(matches, [&](const Match& match) {
    return static_cast<int64_t>(match.length) < options.match_length_min;
  });
  call.Map(2);
  call.Bulk("matches");
  call.Array(matches.size());
  for (const Match& match : matches) {
    call.Array(options.match_lengths ? 3 : 2);
    ReplyRange(call, match.a, match.length);
    ReplyRange(call, match.b, match.length);
    if (options.match_lengths) call.Integer(static_cast<int64_t>(match.length));
  }
  call.Bulk("len");
  call.Integer(length);
}

void ReplySubsequence(const Call& call, const std::vector<Match>& matches, uint32_t length) {
  resp::AppendBulkHeader(call.reply, length);
  const std::string_view a = call.item().value;
  for (auto match = matches.rbegin(); match != matches.rend(); ++match)
    call.reply.append(a.substr(match->a, match->length));
  call.reply.append("\r\n");
}

}  // namespace

void Lcs(Call& call) {
  Item &first = call.item(), &second = call.other_item();
  if (!call.Get(call[1], first)) first.value.clear();
  if (!call.Get(call[2], second)) second.value.clear();
  LcsOptions options;
  if (!ParseOptions(call, options)) return;
  if (options.matches && options.length_only)
    return call.Error("ERR If you want both the length and indexes, please just use IDX.");
  const std::string_view a = first.value, b = second.value;
  if ((a.size() + 1) * (b.size() + 1) > kStringBytesMax / sizeof(uint32_t)) {
    return call.Error(
        "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
  }
  const LcsTable table(a, b);
  const uint32_t length = table.length();
  if (options.length_only) return call.Integer(length);
  const std::vector<Match> matches = FindMatches(a, b, table);
  if (options.matches) return ReplyMatches(call, matches, options, length);
  ReplySubsequence(call, matches, length);
}

}  // namespace catena::rocks::handlers
