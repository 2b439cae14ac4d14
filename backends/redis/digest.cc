#include "backends/redis/digest.h"

#include <vector>

#include "proxy/resp/encoder.h"

namespace catena::redis {
namespace {

constexpr std::string_view kDigestBytesMax = "65536";

// KEYS are digested. DUMP holds a set or hash that is a table (type 2, 4) in an order that each
// server has for itself, and ends with a version and a checksum.
constexpr std::string_view kDigestScript = R"(
local out = {}
for i, key in ipairs(KEYS) do
  local size = redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 1)
  if not size then
    out[i] = ''
  else
    local due = redis.pcall('PEXPIRETIME', key)
    if type(due) == 'table' then due = redis.call('PTTL', key) < 0 and -1 or 0 end
    if size > tonumber(ARGV[1]) then
      out[i] = 'big ' .. string.format('%.0f', due)
    else
      local dump = redis.call('DUMP', key)
      local kind = string.byte(dump)
      local body
      if kind == 2 then
        body = redis.call('SMEMBERS', key)
      elseif kind == 4 then
        local flat = redis.call('HGETALL', key)
        body = {}
        for j = 1, #flat, 2 do body[#body + 1] = #flat[j] .. ':' .. flat[j] .. flat[j + 1] end
      end
      if body then
        table.sort(body)
        for j = 1, #body do body[j] = #body[j] .. ':' .. body[j] end
        body = kind .. table.concat(body)
      else
        body = string.sub(dump, 1, -11)
      end
      out[i] = redis.sha1hex(body) .. ' ' .. string.format('%.0f', due)
    end
  end
end
return out)";

}  // namespace

std::string DigestRequest(std::span<const std::string_view> keys) {
  std::vector<std::string_view> call{"EVAL", kDigestScript};
  const std::string count = std::to_string(keys.size());
  call.push_back(count);
  call.insert(call.end(), keys.begin(), keys.end());
  call.push_back(kDigestBytesMax);
  std::string raw;
  resp::AppendCommand(raw, std::span<const std::string_view>(call));
  return raw;
}

}  // namespace catena::redis
