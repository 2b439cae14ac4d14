#include "proxy/base/metrics.h"

#include <charconv>

namespace catena {
namespace {

std::string Number(uint64_t value) { return std::to_string(value); }

// Exact to the nanosecond, without an exponent.
std::string Seconds(Duration duration) {
  char text[48];
  const double seconds = std::chrono::duration<double>(duration).count();
  const auto end =
      std::to_chars(text, text + sizeof text, seconds, std::chars_format::fixed, 9).ptr;
  std::string out(text, end);
  out.erase(out.find_last_not_of('0') + 1);
  if (out.back() == '.') out.pop_back();
  return out;
}

void AppendLabel(std::string& out, std::string_view name, std::string_view value) {
  if (!out.empty()) out += ',';
  out += name;
  out += "=\"";
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  out += '"';
}

}  // namespace

void Exposition::AddCommonLabel(std::string_view name, std::string_view value) {
  AppendLabel(common_, name, value);
}

void Exposition::Begin(std::string_view name, std::string_view type, std::string_view help) {
  if (family_ == name) return;
  family_ = name;
  for (const std::string_view piece :
       {std::string_view("# HELP "), name, std::string_view(" "), help,
        std::string_view("\n# TYPE "), name, std::string_view(" "), type, std::string_view("\n")}) {
    text_ += piece;
  }
}

void Exposition::Sample(std::string_view name, std::string_view suffix, Labels labels,
                        std::string_view bound, std::string_view value) {
  text_ += name;
  text_ += suffix;
  std::string all = common_;
  for (const auto& [label, text] : labels) AppendLabel(all, label, text);
  if (!bound.empty()) AppendLabel(all, "le", bound);
  if (!all.empty()) text_ += "{" + all + "}";
  text_ += ' ';
  text_ += value;
  text_ += '\n';
}

void Exposition::Single(std::string_view name, std::string_view type, std::string_view help,
                        std::string_view value, Labels labels) {
  Begin(name, type, help);
  Sample(name, "", labels, "", value);
}

void Exposition::Counter(std::string_view name, std::string_view help, uint64_t value,
                         Labels labels) {
  Single(name, "counter", help, Number(value), labels);
}

void Exposition::Counter(std::string_view name, std::string_view help, Duration value,
                         Labels labels) {
  Single(name, "counter", help, Seconds(value), labels);
}

void Exposition::Gauge(std::string_view name, std::string_view help, uint64_t value,
                       Labels labels) {
  Single(name, "gauge", help, Number(value), labels);
}

void Exposition::Gauge(std::string_view name, std::string_view help, Duration value,
                       Labels labels) {
  Single(name, "gauge", help, Seconds(value), labels);
}

void Exposition::Times(std::string_view name, std::string_view help, const Histogram& values,
                       Labels labels) {
  Begin(name, "histogram", help);
  uint64_t below = 0;
  for (int i = 0; i < Histogram::kBounds; ++i) {
    below += values.in_bucket(i);
    Sample(name, "_bucket", labels, Seconds(Histogram::Bound(i)), Number(below));
  }
  Sample(name, "_bucket", labels, "+Inf", Number(values.count()));
  Sample(name, "_sum", labels, "", Seconds(values.sum()));
  Sample(name, "_count", labels, "", Number(values.count()));
}

}  // namespace catena
