/* What the registry's scripts have in common. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_REGISTRY_LUA_H
#define PRISM_BACKENDS_REDIS_REDIS_REGISTRY_LUA_H

#include "backends/redis/redis_registry.h"

/* The clock is redis'. An expiry is a number in ms, or inf. */
#define PRELUDE                                                                                    \
    "local order, due, life, entries = KEYS[1], KEYS[2], KEYS[3], KEYS[4]\n"                       \
    "local sub, byte, pack, unpacked = string.sub, string.byte, struct.pack, struct.unpack\n"      \
    "local clock = redis.call('TIME')\n"                                                           \
    "local us = clock[1] * 1000000 + clock[2]\n"                                                   \
    "local now = math.floor(us / 1000)\n"                                                          \
    "local function alive(ends)\n"                                                                 \
    "  return ends and (ends == 'inf' or tonumber(ends) > now)\n"                                  \
    "end\n"

/* Is it one of ours, whole? What is not is skipped, and told. */
#define SOUND                                                                                      \
    "local function sound(record)\n"                                                               \
    "  return record and #record >= 29 and byte(record) == 1 and\n"                                \
    "         unpacked('<I4', record, 26) <= #record - 29\n"                                       \
    "end\n"

/* The index: for each field at the top of a document, or for "~" where there are more than 32 of
 * them, a member: twelve digits that stand for name and value, and the identity. Nobody trusts it:
 * the filter is evaluated for what it gives. It is kept from an empty registry on, which "!" says;
 * one that is older than the index is searched. */
#define INDEX                                                                                      \
    "local index = KEYS[6]\n"                                                                      \
    "local keeps = redis.call('ZSCORE', index, '!')\n"                                             \
    "local function term(name, value)\n"                                                           \
    "  return sub(redis.sha1hex(name .. '\\0' .. value), 1, 12)\n"                                 \
    "end\n"                                                                                        \
    "local function members(record, id, out)\n"                                                    \
    "  local p, e, first = 31, 29 + unpacked('<I4', record, 26), #out\n"                           \
    "  while p < e do\n"                                                                           \
    "    local key, n = unpacked('<I4I4', record, p)\n"                                            \
    "    local v = p + 8 + key % 65536\n"                                                          \
    "    if #out == first + 32 then\n"                                                             \
    "      for i = #out, first + 1, -1 do out[i] = nil end\n"                                      \
    "      out[first + 1] = '~' .. id\n"                                                           \
    "      return\n"                                                                               \
    "    end\n"                                                                                    \
    "    out[#out + 1] = term(sub(record, p + 8, v - 1), sub(record, v, p + 7 + n)) .. id\n"       \
    "    p = p + 8 + n\n"                                                                          \
    "  end\n"                                                                                      \
    "end\n"                                                                                        \
    "local function forget(records, ids)\n"                                                        \
    "  local out = {}\n"                                                                           \
    "  for i, id in ipairs(ids) do\n"                                                              \
    "    if sound(records[i]) then pcall(members, records[i], id, out) end\n"                      \
    "    if #out > 1000 or (#out > 0 and i == #ids) then\n"                                        \
    "      redis.call('ZREM', index, unpack(out))\n"                                               \
    "      out = {}\n"                                                                             \
    "    end\n"                                                                                    \
    "  end\n"                                                                                      \
    "end\n"                                                                                        \
    "local function learn(record, id)\n"                                                           \
    "  local out, scored = {}, {}\n"                                                               \
    "  members(record, id, out)\n"                                                                 \
    "  if #out == 0 then return end\n"                                                             \
    "  for i, member in ipairs(out) do scored[2 * i - 1], scored[2 * i] = '0', member end\n"       \
    "  redis.call('ZADD', index, unpack(scored))\n"                                                \
    "end\n"

/* Removes what is left of those that have expired. */
#define BURY                                                                                       \
    SOUND INDEX "local function bury(dead)\n"                                                      \
                "  if #dead == 0 then return end\n"                                                \
                "  if keeps then forget(redis.call('HMGET', entries, unpack(dead)), dead) end\n"   \
                "  redis.call('ZREM', order, unpack(dead))\n"                                      \
                "  redis.call('ZREM', due, unpack(dead))\n"                                        \
                "  redis.call('HDEL', life, unpack(dead))\n"                                       \
                "  redis.call('HDEL', entries, unpack(dead))\n"                                    \
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

#endif
