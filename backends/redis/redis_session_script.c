/* What has to be one step for redis. KEYS: due, all, place. The first of them tells how the others
 * begin. Lua unpacks some 8,000 values at most, so long commands are several. */
#include "backends/redis/redis_session.h"

#define PRELUDE                                                                                    \
    "local due, all = KEYS[1], KEYS[2]\n"                                                          \
    "local root = string.sub(due, 1, -4)\n"                                                        \
    "local sub, pack, unpacked = string.sub, struct.pack, struct.unpack\n"                         \
    "local call = redis.call\n"                                                                    \
    "local clock = call('TIME')\n"                                                                 \
    "local now = math.floor((clock[1] * 1000000 + clock[2]) / 1000)\n"                             \
    "local function text(number) return string.format('%.0f', number) end\n"                       \
    "local function hash(id) return root .. 's:' .. id end\n"                                      \
    "local function times(id)\n"                                                                   \
    "  local t, o = unpack(call('HMGET', hash(id), 't', 'o'))\n"                                   \
    "  if not t or not o then return end\n"                                                        \
    "  local used, expires, version, bytes = unpacked('<dddd', t)\n"                               \
    "  if expires <= now then return end\n"                                                        \
    "  return {used = used, expires = expires, version = version, bytes = bytes, o = o}\n"         \
    "end\n"                                                                                        \
    "local function owner(o)\n"                                                                    \
    "  local _, place, created, ttl, ends, u, r, c, at = unpacked('<BddddI2I2I2', o)\n"            \
    "  return {place = place, ttl = ttl, ends = ends, user = sub(o, at, at + u - 1),\n"            \
    "          region = sub(o, at + u, at + u + r - 1),\n"                                         \
    "          client = sub(o, at + u + r, at + u + r + c - 1)}\n"                                 \
    "end\n"                                                                                        \
    "local function member(id, who) return id .. '\\0' .. who.user .. '\\0' .. who.region end\n"

/* Puts the identifier into the sorted sets, or takes it out of them. */
#define INDEX                                                                                      \
    "local function enter(id, who, expires)\n"                                                     \
    "  local place = text(who.place)\n"                                                            \
    "  call('ZADD', all, place, id)\n"                                                             \
    "  if who.user ~= '' then call('ZADD', root .. 'u:' .. who.user, place, id) end\n"             \
    "  if who.region ~= '' then call('ZADD', root .. 'r:' .. who.region, place, id) end\n"         \
    "  call('ZADD', due, text(expires), member(id, who))\n"                                        \
    "end\n"                                                                                        \
    "local function leave(id, who)\n"                                                              \
    "  call('ZREM', all, id)\n"                                                                    \
    "  if who.user ~= '' then call('ZREM', root .. 'u:' .. who.user, id) end\n"                    \
    "  if who.region ~= '' then call('ZREM', root .. 'r:' .. who.region, id) end\n"                \
    "  call('ZREM', due, member(id, who))\n"                                                       \
    "end\n"                                                                                        \
    "local function drop(id)\n"                                                                    \
    "  local o = call('HGET', hash(id), 'o')\n"                                                    \
    "  if not o then return end\n"                                                                 \
    "  leave(id, owner(o))\n"                                                                      \
    "  call('DEL', hash(id))\n"                                                                    \
    "end\n"

/* Looks at those whose time in `due` has come, n at most. Returns how many there were. */
#define REAP                                                                                       \
    "local function reap(n)\n"                                                                     \
    "  local names = call('ZRANGEBYSCORE', due, '-inf', text(now), 'LIMIT', 0, n)\n"               \
    "  for _, name in ipairs(names) do\n"                                                          \
    "    local a = string.find(name, '\\0', 1, true)\n"                                            \
    "    local b = a and string.find(name, '\\0', a + 1, true)\n"                                  \
    "    if not b then\n"                                                                          \
    "      call('ZREM', due, name)\n"                                                              \
    "    else\n"                                                                                   \
    "      local id = sub(name, 1, a - 1)\n"                                                       \
    "      local here = times(id)\n"                                                               \
    "      if here then\n"                                                                         \
    "        call('ZADD', due, text(here.expires), name)\n"                                        \
    "      else\n"                                                                                 \
    "        leave(id, {user = sub(name, a + 1, b - 1), region = sub(name, b + 1)})\n"             \
    "        call('DEL', hash(id))\n"                                                              \
    "      end\n"                                                                                  \
    "    end\n"                                                                                    \
    "  end\n"                                                                                      \
    "  return #names\n"                                                                            \
    "end\n"

/* The expiry after a use; as session_used_until. Sets it in `here`; true: it has moved. */
#define USE                                                                                        \
    "local function use(here, percent, most)\n"                                                    \
    "  local who = owner(here.o)\n"                                                                \
    "  local to = now + who.ttl\n"                                                                 \
    "  if percent == 0 or here.expires >= to then return false end\n"                              \
    "  to = to + math.min(math.floor(who.ttl * percent / 100), most)\n"                            \
    "  if who.ends > 0 then to = math.min(to, who.ends) end\n"                                     \
    "  if to <= here.expires then return false end\n"                                              \
    "  here.used, here.expires = now, to\n"                                                        \
    "  return true\n"                                                                              \
    "end\n"                                                                                        \
    "local function packed(here)\n"                                                                \
    "  return pack('<dddd', here.used, here.expires, here.version, here.bytes)\n"                  \
    "end\n"

/* ARGV: id, user, region, client, attributes, ttl, life or 0, bytes of the values, most sessions or
 * 0, most of the user or 0, whether the oldest end, how many end at most, expired ones to look at,
 * how many partitions there are, which of them this is; then name and value of each value. Returns
 * 0 done, 1 taken, 2 again, 3 the user's limit, 4 the limit of all; created; expires; identifiers
 * of those that ended. */
static const char create_script[] = PRELUDE INDEX REAP
    "local id, user, region, client, attributes = unpack(ARGV, 1, 5)\n"
    "local ttl, life, bytes = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])\n"
    "local max_all, max_user = tonumber(ARGV[9]), tonumber(ARGV[10])\n"
    "local end_oldest, most, scan = ARGV[11] == '1', tonumber(ARGV[12]), tonumber(ARGV[13])\n"
    "if times(id) then return {1} end\n"
    "local living, ends = {}, 0\n"
    "if max_user > 0 and user ~= '' then\n"
    "  local key, dead = root .. 'u:' .. user, {}\n"
    "  local ids = call('ZRANGE', key, 0, max_user + most + scan - 1)\n"
    "  for _, other in ipairs(ids) do\n"
    "    if #living >= max_user + most then break end\n"
    "    if times(other) then living[#living + 1] = other else dead[#dead + 1] = other end\n"
    "  end\n"
    "  if #dead > 0 then call('ZREM', key, unpack(dead)) end\n"
    "  if #dead > 0 and #living < max_user + most and call('ZCARD', key) > #living then\n"
    "    return {2}\n"
    "  end\n"
    "  if #living >= max_user then\n"
    "    if not end_oldest then return {3} end\n"
    "    ends = math.min(#living - max_user + 1, most)\n"
    "  end\n"
    "end\n"
    "if max_all > 0 and call('ZCARD', all) - ends >= max_all then\n"
    "  if reap(scan) > 0 then return {2} end\n"
    "  return {4}\n"
    "end\n"
    "local expires, last = now + ttl, 0\n"
    "if life > 0 then last = now + life end\n"
    "if life > 0 then expires = math.min(expires, last) end\n"
    "local place = math.max(tonumber(call('GET', KEYS[3]) or 0),\n"
    "                       clock[1] * 1000000 + clock[2]) + 1\n"
    "place = place + (tonumber(ARGV[15]) - place) % tonumber(ARGV[14])\n"
    "local o = pack('<BddddI2I2I2', 1, place, now, ttl, last, #user, #region, #client)\n"
    "call('HSET', hash(id), 'o', o .. user .. region .. client .. attributes,\n"
    "     't', pack('<dddd', now, expires, 1, bytes))\n"
    "for from = 16, #ARGV, 1000 do\n"
    "  local fields = {}\n"
    "  for i = from, math.min(from + 999, #ARGV), 2 do\n"
    "    fields[#fields + 1] = 'v' .. ARGV[i]\n"
    "    fields[#fields + 1] = pack('<d', 1) .. ARGV[i + 1]\n"
    "  end\n"
    "  call('HSET', hash(id), unpack(fields))\n"
    "end\n"
    "call('PEXPIREAT', hash(id), text(expires))\n"
    "call('SET', KEYS[3], text(place))\n"
    "enter(id, {place = place, user = user, region = region}, expires)\n"
    "local out = {0, now, expires}\n"
    "for i = 1, ends do\n"
    "  drop(living[i])\n"
    "  out[3 + i] = living[i]\n"
    "end\n"
    "reap(8)\n"
    "return out\n";

/* ARGV: id, name or "", percent, longest interval. Returns t; and the fields of the hash, or the
 * one that is asked for. Nothing if it is absent. A use that redis does not let us write is none.
 */
static const char get_script[] =
    PRELUDE USE "local id, name = ARGV[1], ARGV[2]\n"
                "local here = times(id)\n"
                "if not here then return {} end\n"
                "if use(here, tonumber(ARGV[3]), tonumber(ARGV[4])) then\n"
                "  redis.pcall('HSET', hash(id), 't', packed(here))\n"
                "  redis.pcall('PEXPIREAT', hash(id), text(here.expires))\n"
                "end\n"
                "if name == '' then return {packed(here), call('HGETALL', hash(id))} end\n"
                "local value = call('HGET', hash(id), 'v' .. name)\n"
                "return {packed(here), value and {'v' .. name, value} or {}}\n";

/* ARGV: id, percent, longest interval, condition ("s", "v" or ""), version, most bytes, number of
 * values to set; name and value of each; names to take away. Returns 0 done, 1 absent, 2 another
 * version, 3 too large; version; expires; whether a value that was taken away was there. */
static const char patch_script[] =
    PRELUDE USE "local id, condition, wanted = ARGV[1], ARGV[4], tonumber(ARGV[5])\n"
                "local most, sets = tonumber(ARGV[6]), tonumber(ARGV[7])\n"
                "local key, here = hash(id), times(ARGV[1])\n"
                "if not here then return {1} end\n"
                "local stands = here.version\n"
                "if condition == 'v' then\n"
                "  local value = call('HGET', key, 'v' .. ARGV[8])\n"
                "  stands = value and unpacked('<d', value) or 0\n"
                "end\n"
                "if condition ~= '' and stands ~= wanted then return {2, stands} end\n"
                "local bytes, existed, gone, first = here.bytes, 0, {}, 8 + 2 * sets\n"
                "local function old(name)\n"
                "  local n = call('HSTRLEN', key, 'v' .. name)\n"
                "  return n > 0 and n - 8 + #name + 64 or 0\n"
                "end\n"
                "for i = 8, first - 1, 2 do\n"
                "  bytes = bytes + #ARGV[i] + #ARGV[i + 1] + 64 - old(ARGV[i])\n"
                "end\n"
                "for i = first, #ARGV do\n"
                "  local n = old(ARGV[i])\n"
                "  if n > 0 then gone[#gone + 1] = 'v' .. ARGV[i] end\n"
                "  bytes = bytes - n\n"
                "end\n"
                "if bytes > most and bytes > here.bytes then return {3} end\n"
                "if sets > 0 or #gone > 0 then here.version = here.version + 1 end\n"
                "here.bytes = bytes\n"
                "for from = 8, first - 1, 1000 do\n"
                "  local fields = {}\n"
                "  for i = from, math.min(from + 999, first - 1), 2 do\n"
                "    fields[#fields + 1] = 'v' .. ARGV[i]\n"
                "    fields[#fields + 1] = pack('<d', here.version) .. ARGV[i + 1]\n"
                "  end\n"
                "  call('HSET', key, unpack(fields))\n"
                "end\n"
                "for from = 1, #gone, 1000 do\n"
                "  call('HDEL', key, unpack(gone, from, math.min(from + 999, #gone)))\n"
                "end\n"
                "local moved = use(here, tonumber(ARGV[2]), tonumber(ARGV[3]))\n"
                "if moved or sets > 0 or #gone > 0 then call('HSET', key, 't', packed(here)) end\n"
                "if moved then call('PEXPIREAT', key, text(here.expires)) end\n"
                "return {0, here.version, here.expires, #gone}\n";

/* ARGV: id, percent, longest interval, new id. Returns 0 done, 1 absent, 2 taken; expires. */
static const char rotate_script[] =
    PRELUDE INDEX USE "local id, new = ARGV[1], ARGV[4]\n"
                      "local here = times(id)\n"
                      "if not here then return {1} end\n"
                      "if times(new) then return {2} end\n"
                      "local who, moved = owner(here.o), use(here, tonumber(ARGV[2]),\n"
                      "                                     tonumber(ARGV[3]))\n"
                      "call('RENAME', hash(id), hash(new))\n"
                      "leave(id, who)\n"
                      "enter(new, who, here.expires)\n"
                      "if moved then\n"
                      "  call('HSET', hash(new), 't', packed(here))\n"
                      "  call('PEXPIREAT', hash(new), text(here.expires))\n"
                      "end\n"
                      "return {0, here.expires}\n";

/* ARGV: id, ms to add or 0, time, longest ttl. Returns 0 done, 1 absent; expires. */
static const char extend_script[] =
    PRELUDE USE "local id, add, to = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])\n"
                "local here = times(id)\n"
                "if not here then return {1} end\n"
                "local who = owner(here.o)\n"
                "if add > 0 then to = here.expires + add end\n"
                "to = math.min(to, now + tonumber(ARGV[4]))\n"
                "if who.ends > 0 then to = math.min(to, who.ends) end\n"
                "if to > here.expires then\n"
                "  here.expires = to\n"
                "  call('HSET', hash(id), 't', packed(here))\n"
                "  call('PEXPIREAT', hash(id), text(to))\n"
                "end\n"
                "return {0, here.expires}\n";

/* ARGV: id. Returns whether it was there. */
static const char remove_script[] = PRELUDE INDEX REAP "local here = times(ARGV[1])\n"
                                                       "drop(ARGV[1])\n"
                                                       "reap(8)\n"
                                                       "return here and 1 or 0\n";

/* ARGV: user, identifier to spare or "", how many. Returns how many living ones ended; whether
 * there may be more. */
static const char remove_user_script[] =
    PRELUDE INDEX "local key, spared, n = root .. 'u:' .. ARGV[1], ARGV[2], tonumber(ARGV[3])\n"
                  "local ids, ended, seen = call('ZRANGE', key, 0, n), 0, 0\n"
                  "for _, id in ipairs(ids) do\n"
                  "  if id ~= spared then\n"
                  "    seen = seen + 1\n"
                  "    if times(id) then ended = ended + 1 end\n"
                  "    drop(id)\n"
                  "    call('ZREM', key, id)\n"
                  "  end\n"
                  "end\n"
                  "return {ended, #ids > n and 1 or 0}\n";

/* ARGV: user, region, client (each may be ""), place to go on behind, most sessions, bytes after
 * which to stop, most to look at. Returns whether there is more, the last place looked at; then
 * identifier, o and t of each. */
static const char page_script[] = PRELUDE
    "local user, region, client, after = unpack(ARGV, 1, 4)\n"
    "local max, most, scan = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])\n"
    "local key = all\n"
    "if user ~= '' then key = root .. 'u:' .. user\n"
    "elseif region ~= '' then key = root .. 'r:' .. region\n"
    "end\n"
    "local ids = call('ZRANGEBYSCORE', key, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, scan)\n"
    "local out, dead, n, bytes, done = {0, after}, {}, 0, 0, 0\n"
    "for i = 1, #ids, 2 do\n"
    "  local id, here = ids[i], times(ids[i])\n"
    "  done = i + 1\n"
    "  if not here then\n"
    "    dead[#dead + 1] = id\n"
    "  else\n"
    "    local who = owner(here.o)\n"
    "    if (user == '' or user == who.user) and (region == '' or region == who.region) and\n"
    "       (client == '' or client == who.client) then\n"
    "      n = n + 1\n"
    "      bytes = bytes + #id + #here.o + 32\n"
    "      out[#out + 1] = id\n"
    "      out[#out + 1] = here.o\n"
    "      out[#out + 1] = pack('<dddd', here.used, here.expires, here.version, here.bytes)\n"
    "      if n >= max or bytes >= most then break end\n"
    "    end\n"
    "  end\n"
    "end\n"
    "if #dead > 0 then redis.pcall('ZREM', key, unpack(dead)) end\n"
    "if done > 0 then out[2] = ids[done] end\n"
    "if done < #ids or #ids == 2 * scan then out[1] = 1 end\n"
    "return out\n";

/* ARGV: how many. Returns how many expired ones there were; how many sessions are left. */
const char redis_session_sweep_script[] =
    PRELUDE INDEX REAP "return {reap(tonumber(ARGV[1])), call('ZCARD', all)}\n";

const struct redis_scripted_text redis_session_scripts[REDIS_SESSION_SCRIPTS] = {
    [REDIS_SESSION_CREATE] = {create_script, true},
    [REDIS_SESSION_GET] = {get_script, false},
    [REDIS_SESSION_PATCH] = {patch_script, true},
    [REDIS_SESSION_ROTATE] = {rotate_script, true},
    [REDIS_SESSION_EXTEND] = {extend_script, true},
    [REDIS_SESSION_REMOVE] = {remove_script, true},
    [REDIS_SESSION_REMOVE_USER] = {remove_user_script, true},
    [REDIS_SESSION_PAGE] = {page_script, false},
    [REDIS_SESSION_COUNT] = {redis_session_sweep_script, false},
};
