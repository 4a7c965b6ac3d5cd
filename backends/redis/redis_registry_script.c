/* What has to be one step for redis. KEYS: order, due, life, entries, generation. Lua compares
 * strings by the server's locale, so octets are compared by hand; numbers of records are doubles,
 * which hold generations (microseconds of Unix time, or one more than the last) exactly. */
#include "backends/redis/redis_registry.h"

#define PRELUDE                                                                                    \
    "local order, due, life, entries = KEYS[1], KEYS[2], KEYS[3], KEYS[4]\n"                       \
    "local sub, byte, pack, unpacked = string.sub, string.byte, struct.pack, struct.unpack\n"      \
    "local clock = redis.call('TIME')\n"                                                           \
    "local us = clock[1] * 1000000 + clock[2]\n"                                                   \
    "local now = math.floor(us / 1000)\n"                                                          \
    "local function alive(ends)\n"                                                                 \
    "  return ends and (ends == 'inf' or tonumber(ends) > now)\n"                                  \
    "end\n"

/* Removes what is left of those that have expired. */
#define BURY                                                                                       \
    "local function bury(dead)\n"                                                                  \
    "  if #dead == 0 then return end\n"                                                            \
    "  redis.call('ZREM', order, unpack(dead))\n"                                                  \
    "  redis.call('ZREM', due, unpack(dead))\n"                                                    \
    "  redis.call('HDEL', life, unpack(dead))\n"                                                   \
    "  redis.call('HDEL', entries, unpack(dead))\n"                                                \
    "end\n"

/* Looks at those whose time in `due` has come, n at most: it may be that they have been given more
 * since, for heartbeats do not touch `due`. Returns how many there were. */
#define REAP                                                                                       \
    "local function reap(n)\n"                                                                     \
    "  local ids = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, n)\n"                 \
    "  local dead, later = {}, {}\n"                                                               \
    "  if #ids == 0 then return 0 end\n"                                                           \
    "  for i, ends in ipairs(redis.call('HMGET', life, unpack(ids))) do\n"                         \
    "    if alive(ends) then\n"                                                                    \
    "      later[#later + 1] = ends\n"                                                             \
    "      later[#later + 1] = ids[i]\n"                                                           \
    "    else\n"                                                                                   \
    "      dead[#dead + 1] = ids[i]\n"                                                             \
    "    end\n"                                                                                    \
    "  end\n"                                                                                      \
    "  if #later > 0 then redis.call('ZADD', due, unpack(later)) end\n"                            \
    "  bury(dead)\n"                                                                               \
    "  return #ids\n"                                                                              \
    "end\n"

/* As strcmp, by octets. */
#define OCTETS                                                                                     \
    "local function octets(a, b)\n"                                                                \
    "  local n = math.min(#a, #b)\n"                                                               \
    "  if sub(a, 1, n) == sub(b, 1, n) then return #a - #b end\n"                                  \
    "  for i = 1, n do\n"                                                                          \
    "    local x, y = byte(a, i), byte(b, i)\n"                                                    \
    "    if x ~= y then return x - y end\n"                                                        \
    "  end\n"                                                                                      \
    "end\n"

/* ARGV: most identities or 0; then for each: identity, "replace" or "", the generation that has to
 * be there or 0, ttl or 0, document length and document and tags. Returns for each: 0 done, 1 is
 * there, 2 full, 3 another generation; whether it was there; generation; registered; expires. */
static const char put_script[] = PRELUDE BURY REAP
    "local max, n = tonumber(ARGV[1]), (#ARGV - 1) / 5\n"
    "local last = math.max(tonumber(redis.call('GET', KEYS[5]) or 0), us)\n"
    "redis.call('SET', KEYS[5], string.format('%.0f', last + n))\n"
    "reap(2 * n + 8)\n"
    "local function full()\n"
    "  while max > 0 and redis.call('ZCARD', order) >= max do\n"
    "    if reap(100) == 0 then return true end\n"
    "  end\n"
    "end\n"
    "local out = {}\n"
    "for i = 1, n do\n"
    "  local at = 5 * i - 3\n"
    "  local id, mode = ARGV[at], ARGV[at + 1]\n"
    "  local wanted, ttl = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])\n"
    "  local here = alive(redis.call('HGET', life, id))\n"
    "  local registered, generation, code, expires = now, 0, 0, 0\n"
    "  if here then\n"
    "    local _\n"
    "    _, generation, registered = unpacked('<Bdd', redis.call('HGET', entries, id))\n"
    "  end\n"
    "  if wanted ~= 0 and not (here and generation == wanted) then code = 3\n"
    "  elseif here and mode == '' then code = 1\n"
    "  elseif not here and full() then code = 2\n"
    "  else\n"
    "    generation = last + i\n"
    "    if ttl > 0 then expires = now + ttl end\n"
    "    local record = pack('<Bddd', 1, generation, registered, ttl) .. ARGV[at + 4]\n"
    "    redis.call('HSET', entries, id, record)\n"
    "    local ends = ttl > 0 and string.format('%.0f', expires) or 'inf'\n"
    "    redis.call('HSET', life, id, ends)\n"
    "    redis.call('ZADD', order, '0', id)\n"
    "    redis.call('ZADD', due, ends, id)\n"
    "  end\n"
    "  out[#out + 1] = code\n"
    "  out[#out + 1] = here and 1 or 0\n"
    "  out[#out + 1] = generation\n"
    "  out[#out + 1] = registered\n"
    "  out[#out + 1] = expires\n"
    "end\n"
    "return out\n";

/* ARGV: identity, "keep", "merge" or "replace", document, ttl or "", generation or 0, most bytes of
 * the document. Returns 0 done, 1 absent, 3 another generation, 4 too large; generation;
 * expires. */
static const char patch_script[] = PRELUDE OCTETS
    "local id, mode, new, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]\n"
    "local wanted, most = tonumber(ARGV[5]), tonumber(ARGV[6])\n"
    "local function field(s, p)\n"
    "  if p > #s then return end\n"
    "  local key, n = unpacked('<I4I4', s, p)\n"
    "  local l = key % 65536\n"
    "  return sub(s, p + 8, p + 7 + l), p + 8 + n, byte(s, p + 8 + l)\n"
    "end\n"
    "local function merge(old)\n"
    "  local out, p, q = {sub(old, 1, 1)}, 2, 2\n"
    "  while true do\n"
    "    local a, p2 = field(old, p)\n"
    "    local b, q2, kind = field(new, q)\n"
    "    if not a and not b then return table.concat(out) end\n"
    "    local c = not a and 1 or not b and -1 or octets(a, b)\n"
    "    if c < 0 then\n"
    "      out[#out + 1] = sub(old, p, p2 - 1)\n"
    "    elseif kind ~= 0 then\n"
    "      out[#out + 1] = sub(new, q, q2 - 1)\n"
    "    end\n"
    "    if c <= 0 then p = p2 end\n"
    "    if c >= 0 then q = q2 end\n"
    "  end\n"
    "end\n"
    "local ends = redis.call('HGET', life, id)\n"
    "if not alive(ends) then return {1} end\n"
    "local record = redis.call('HGET', entries, id)\n"
    "local _, generation, registered, given, len, at = unpacked('<BdddI4', record)\n"
    "if wanted ~= 0 and generation ~= wanted then return {3} end\n"
    "local document = sub(record, at, at + len - 1)\n"
    "if mode == 'merge' then document = merge(document) end\n"
    "if mode == 'replace' then document = new end\n"
    "if #document > most then return {4} end\n"
    "if ttl ~= '' then\n"
    "  given = tonumber(ttl)\n"
    "  ends = given > 0 and now + given or 'inf'\n"
    "  redis.call('HSET', life, id, ends)\n"
    "  redis.call('ZADD', due, ends, id)\n"
    "end\n"
    "redis.call('HSET', entries, id,\n"
    "           pack('<BdddI4', 1, generation, registered, given, #document) .. document ..\n"
    "           sub(record, at + len))\n"
    "return {0, generation, ends == 'inf' and 0 or tonumber(ends)}\n";

/* ARGV: ttl or 0, then for each: identity, generation or 0. For each: when it expires (0: never),
 * -1 absent, -2 another generation. */
static const char beat_script[] = PRELUDE BURY REAP
    "local ttl, n, ids, out, set, sooner = tonumber(ARGV[1]), 0, {}, {}, {}, {}\n"
    "local same = now + ttl\n"
    "local text = string.format('%.0f', same)\n"
    "for i = 2, #ARGV, 2 do\n"
    "  n = n + 1\n"
    "  ids[n] = ARGV[i]\n"
    "end\n"
    "local lives, m = redis.call('HMGET', life, unpack(ids)), 0\n"
    "for i = 1, n do\n"
    "  local id, before, wanted, ends, code = ids[i], lives[i], ARGV[2 * i + 1], text, same\n"
    "  before = before and (before == 'inf' and math.huge or tonumber(before))\n"
    "  if not before or before <= now then code = -1\n"
    "  elseif wanted ~= '0' or ttl == 0 then\n"
    "    local _, generation, _, own = unpacked('<Bddd', redis.call('HGET', entries, id))\n"
    "    if ttl == 0 then\n"
    "      code = own > 0 and now + own or 0\n"
    "      ends = own > 0 and string.format('%.0f', code) or 'inf'\n"
    "    end\n"
    "    if wanted ~= '0' and tonumber(wanted) ~= generation then code = -2 end\n"
    "  end\n"
    "  if code >= 0 then\n"
    "    set[m + 1], set[m + 2] = id, ends\n"
    "    m = m + 2\n"
    "    if code > 0 and code < before then\n"
    "      sooner[#sooner + 1] = ends\n"
    "      sooner[#sooner + 1] = id\n"
    "    end\n"
    "  end\n"
    "  out[i] = code\n"
    "end\n"
    "if m > 0 then redis.call('HSET', life, unpack(set)) end\n"
    "if #sooner > 0 then redis.call('ZADD', due, unpack(sooner)) end\n"
    "reap(math.floor(n / 2) + 8)\n"
    "return out\n";

/* ARGV: for each: identity, generation or 0. For each: 1 removed, 0 absent, 2 another generation.
 */
static const char remove_script[] = PRELUDE BURY REAP
    "local out = {}\n"
    "for i = 1, #ARGV, 2 do\n"
    "  local id, wanted, code = ARGV[i], tonumber(ARGV[i + 1]), 0\n"
    "  if alive(redis.call('HGET', life, id)) then\n"
    "    code = 1\n"
    "    if wanted ~= 0 then\n"
    "      local _, generation = unpacked('<Bd', redis.call('HGET', entries, id))\n"
    "      if generation ~= wanted then code = 2 end\n"
    "    end\n"
    "  end\n"
    "  if code == 1 then bury({id}) end\n"
    "  out[#out + 1] = code\n"
    "end\n"
    "reap(#out + 8)\n"
    "return out\n";

/* ARGV: bytes after which to stop, "whole" or "", identities. For each: when it expires and record,
 * both empty if it is absent. */
static const char get_script[] =
    PRELUDE "local most, whole, bytes, out = tonumber(ARGV[1]), ARGV[2] ~= '', 0, {}\n"
            "for i = 3, #ARGV do\n"
            "  local id = ARGV[i]\n"
            "  local ends = redis.call('HGET', life, id)\n"
            "  if alive(ends) then\n"
            "    local record = redis.call('HGET', entries, id)\n"
            "    if not whole then record = sub(record, 1, 29) end\n"
            "    bytes = bytes + #id + #record\n"
            "    out[#out + 1] = ends\n"
            "    out[#out + 1] = record\n"
            "  else\n"
            "    out[#out + 1] = ''\n"
            "    out[#out + 1] = ''\n"
            "  end\n"
            "  if bytes >= most then break end\n"
            "end\n"
            "return out\n";

/* ARGV: identity to go on behind or "", most entries (0: only counts), bytes after which to stop,
 * most identities to look at, "whole" or "", a filter as redis_registry_filter.c says it. Returns
 * whether there is more, the last identity looked at, how many the filter was evaluated for, how
 * many match; then for each identity, when it expires, record. */
static const char page_script[] = PRELUDE BURY OCTETS
    "local after, max, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])\n"
    "local scan, whole = ARGV[4], ARGV[5] ~= ''\n"
    "local at = 6\n"
    "local function word()\n"
    "  at = at + 1\n"
    "  return ARGV[at - 1]\n"
    "end\n"
    "local function find(s, p, e, key, name)\n"
    "  while p < e do\n"
    "    local k, n = unpacked('<I4I4', s, p)\n"
    "    if k == key then\n"
    "      local v = p + 8 + k % 65536\n"
    "      if sub(s, p + 8, v - 1) == name then return v, p + 7 + n end\n"
    "    end\n"
    "    p = p + 8 + n\n"
    "  end\n"
    "end\n"
    "local function order_of(value)\n"
    "  local kind = byte(value)\n"
    "  if kind == 3 then\n"
    "    local number = unpacked('<d', value, 2)\n"
    "    return function(s, p)\n"
    "      if byte(s, p) ~= 3 then return end\n"
    "      local field = unpacked('<d', s, p + 1)\n"
    "      return field < number and -1 or field > number and 1 or 0\n"
    "    end\n"
    "  end\n"
    "  local text = sub(value, 2)\n"
    "  return function(s, p, e)\n"
    "    if byte(s, p) == kind then return octets(sub(s, p + 1, e), text) end\n"
    "  end\n"
    "end\n"
    "local function set_of(n)\n"
    "  local set = {}\n"
    "  for _ = 1, n do set[word()] = true end\n"
    "  return set\n"
    "end\n"
    "local tests = {\n"
    "  [1] = function(v) return function(s, p, e) return sub(s, p, e) == v end end,\n"
    "  [2] = function(v) return function(s, p, e) return sub(s, p, e) ~= v end end,\n"
    "  [3] = function(v)\n"
    "    local c = order_of(v)\n"
    "    return function(s, p, e) local o = c(s, p, e) return o and o > 0 end\n"
    "  end,\n"
    "  [4] = function(v)\n"
    "    local c = order_of(v)\n"
    "    return function(s, p, e) local o = c(s, p, e) return o and o >= 0 end\n"
    "  end,\n"
    "  [5] = function(v)\n"
    "    local c = order_of(v)\n"
    "    return function(s, p, e) local o = c(s, p, e) return o and o < 0 end\n"
    "  end,\n"
    "  [6] = function(v)\n"
    "    local c = order_of(v)\n"
    "    return function(s, p, e) local o = c(s, p, e) return o and o <= 0 end\n"
    "  end,\n"
    "  [7] = function(v)\n"
    "    local set = set_of(tonumber(v))\n"
    "    return function(s, p, e) return set[sub(s, p, e)] end\n"
    "  end,\n"
    "  [8] = function(v)\n"
    "    local set = set_of(tonumber(v))\n"
    "    return function(s, p, e) return not set[sub(s, p, e)] end\n"
    "  end,\n"
    "  [9] = function(v)\n"
    "    local text = byte(v) == 4 and sub(v, 2)\n"
    "    return function(s, p, e)\n"
    "      local kind = byte(s, p)\n"
    "      if kind == 4 and text then return string.find(sub(s, p + 1, e), text, 1, true) end\n"
    "      if kind ~= 5 then return false end\n"
    "      p = p + 1\n"
    "      while p < e do\n"
    "        local n = unpacked('<I4', s, p)\n"
    "        if sub(s, p + 4, p + 3 + n) == v then return true end\n"
    "        p = p + 4 + n\n"
    "      end\n"
    "    end\n"
    "  end,\n"
    "  [10] = function(v)\n"
    "    v = sub(v, 2)\n"
    "    return function(s, p, e)\n"
    "      return byte(s, p) == 4 and e - p >= #v and sub(s, p + 1, p + #v) == v\n"
    "    end\n"
    "  end,\n"
    "  [11] = function(v)\n"
    "    v = sub(v, 2)\n"
    "    return function(s, p, e)\n"
    "      return byte(s, p) == 4 and e - p >= #v and (v == '' or sub(s, e - #v + 1, e) == v)\n"
    "    end\n"
    "  end,\n"
    "  [14] = function(v)\n"
    "    local kind = tonumber(v)\n"
    "    return function(s, p)\n"
    "      local k = byte(s, p)\n"
    "      return k == kind or (kind == 2 and k == 1)\n"
    "    end\n"
    "  end\n"
    "}\n"
    "local function condition(op)\n"
    "  local place, names, keys = word(), {}, {}\n"
    "  local n = tonumber(word())\n"
    "  for i = 1, n do keys[i], names[i] = tonumber(word()), word() end\n"
    "  local value = word()\n"
    "  local wanted = op == 12 and value == '1'\n"
    "  local test = op ~= 12 and tests[op](value)\n"
    "  return function(id, s, d, t)\n"
    "    local p, e = d, t - 1\n"
    "    if place == 'i' then s, p, e = '\\4' .. id, 1, #id + 1\n"
    "    elseif place == 't' then p, e = t, #s\n"
    "    end\n"
    "    for i = 1, n do\n"
    "      if byte(s, p) ~= 6 then p = nil\n"
    "      else p, e = find(s, p + 1, e, keys[i], names[i])\n"
    "      end\n"
    "      if not p then break end\n"
    "    end\n"
    "    if not test then return (p ~= nil) == wanted end\n"
    "    return p and test(s, p, e)\n"
    "  end\n"
    "end\n"
    "local build\n"
    "local function several(all)\n"
    "  local parts = {}\n"
    "  for i = 1, tonumber(word()) do parts[i] = build() end\n"
    "  return function(id, s, d, t)\n"
    "    for _, part in ipairs(parts) do\n"
    "      if not part(id, s, d, t) == all then return not all end\n"
    "    end\n"
    "    return all\n"
    "  end\n"
    "end\n"
    "build = function()\n"
    "  local kind = word()\n"
    "  if kind == '&' then return several(true) end\n"
    "  if kind == '|' then return several(false) end\n"
    "  if kind == '0' then return function() return false end end\n"
    "  if kind ~= '!' then return condition(tonumber(kind)) end\n"
    "  local part = build()\n"
    "  return function(id, s, d, t) return not part(id, s, d, t) end\n"
    "end\n"
    "local filter = at <= #ARGV and build()\n"
    "local low = after == '' and '-' or '(' .. after\n"
    "local ids = redis.call('ZRANGEBYLEX', order, low, '+', 'LIMIT', 0, scan)\n"
    "local out, dead, examined, matched, bytes, done = {0, after, 0, 0}, {}, 0, 0, 0, 0\n"
    "for from = 1, #ids, 64 do\n"
    "  local last = math.min(from + 63, #ids)\n"
    "  local lives = redis.call('HMGET', life, unpack(ids, from, last))\n"
    "  local records = redis.call('HMGET', entries, unpack(ids, from, last))\n"
    "  for i = from, last do\n"
    "    local id, ends, record = ids[i], lives[i - from + 1], records[i - from + 1]\n"
    "    done = i\n"
    "    if not alive(ends) then\n"
    "      dead[#dead + 1] = id\n"
    "    elseif record then\n"
    "      examined = examined + 1\n"
    "      local len = unpacked('<I4', record, 26)\n"
    "      if not filter or filter(id, record, 30, 30 + len) then\n"
    "        matched = matched + 1\n"
    "        if max > 0 then\n"
    "          if not whole then record = sub(record, 1, 29) end\n"
    "          out[#out + 1] = id\n"
    "          out[#out + 1] = ends\n"
    "          out[#out + 1] = record\n"
    "          bytes = bytes + #id + #record\n"
    "          if matched >= max or bytes >= most then break end\n"
    "        end\n"
    "      end\n"
    "    end\n"
    "  end\n"
    "  if max > 0 and (matched >= max or bytes >= most) then break end\n"
    "end\n"
    "pcall(bury, dead)\n"
    "if done > 0 then out[2] = ids[done] end\n"
    "out[1] = (done < #ids or #ids == tonumber(scan)) and 1 or 0\n"
    "out[3], out[4] = examined, matched\n"
    "return out\n";

/* How many have not expired; -1: there are more that may have. */
static const char total_script[] = PRELUDE BURY REAP "if reap(500) == 500 then return -1 end\n"
                                                     "return redis.call('ZCARD', order)\n";

const struct redis_scripted_text redis_registry_scripts[REDIS_REGISTRY_SCRIPTS] = {
    [REDIS_REGISTRY_PUT] = {put_script, true},      [REDIS_REGISTRY_PATCH] = {patch_script, true},
    [REDIS_REGISTRY_BEAT] = {beat_script, true},    [REDIS_REGISTRY_REMOVE] = {remove_script, true},
    [REDIS_REGISTRY_GET] = {get_script, false},     [REDIS_REGISTRY_PAGE] = {page_script, false},
    [REDIS_REGISTRY_TOTAL] = {total_script, false},
};
