/* What has to be one step for redis: scripts, sent whole, because each is rare or long itself. An
 * error of a command in a script is the script's, with its first word, from redis 7 on. */
#include "backends/redis/redis_script.h"

/* KEYS: stream, notes. ARGV: group, mode, id to stand at, gap policy, position or "", origin.
 *
 *   keep   the group has to be there         make   or it is made
 *   move   it is made anew                   seek   likewise, of a stream that is there
 *
 * Returns a word (ok, absent, range), where the group stands, and the gap: how many messages were
 * removed behind what it has read (-1: none), its last message, the first that is there. */
const char redis_script_enter[] =
    "local key, group, mode, id, policy = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]\n"
    "local top = '18446744073709551615'\n"
    "local function map(list)\n"
    "  local t = {}\n"
    "  for i = 1, #list, 2 do t[list[i]] = list[i + 1] end\n"
    "  return t\n"
    "end\n"
    "local function less(a, b)\n"
    "  local am, as = a:match('(%d+)-(%d+)')\n"
    "  local bm, bs = b:match('(%d+)-(%d+)')\n"
    "  if am == bm then am, bm = as, bs end\n"
    "  if #am ~= #bm then return #am < #bm end\n"
    "  return am < bm\n"
    "end\n"
    "local function before(a)\n"
    "  local ms, seq = a:match('(%d+)-(%d+)')\n"
    "  if seq == '0' then return string.format('%.0f-', tonumber(ms) - 1) .. top end\n"
    "  return ms .. string.format('-%.0f', tonumber(seq) - 1)\n"
    "end\n"
    "local function find()\n"
    "  for _, g in ipairs(redis.call('XINFO', 'GROUPS', key)) do\n"
    "    g = map(g)\n"
    "    if g.name == group then return g end\n"
    "  end\n"
    "end\n"
    "local there = redis.call('EXISTS', key) == 1\n"
    "if mode == 'seek' and not there then return {'absent'} end\n"
    "local g = there and find()\n"
    "if mode == 'keep' and not g then return {'absent'} end\n"
    "if there and ARGV[5] ~= '' then\n"
    "  local s = map(redis.call('XINFO', 'STREAM', key))\n"
    "  if less(s['last-generated-id'], id) then return {'range'} end\n"
    "  if s.length > 0 and less(ARGV[5], s['first-entry'][1]) and\n"
    "     s['entries-added'] and s['entries-added'] > s.length then return {'range'} end\n"
    "end\n"
    "local moves = mode == 'move' or mode == 'seek'\n"
    "if g and moves then\n"
    "  redis.call('XGROUP', 'DESTROY', key, group)\n"
    "  redis.call('XADD', KEYS[2], 'MAXLEN', '1000', '*', 'from', ARGV[6],\n"
    "             'topic', key, 'group', group, 'what', 'seek')\n"
    "end\n"
    "local made = moves or not g\n"
    "if made then redis.call('XGROUP', 'CREATE', key, group, id, 'MKSTREAM') end\n"
    "local s = map(redis.call('XINFO', 'STREAM', key))\n"
    "local added, length = s['entries-added'], s.length\n"
    "local function stand(at, read)\n"
    "  redis.call('XGROUP', 'SETID', key, group, at, 'ENTRIESREAD', string.format('%.0f', read))\n"
    "end\n"
    "if made and added and id == '0' then stand('0', added - length) end\n"
    "if made and added and id == '$' then stand('$', added) end\n"
    "g = find()\n"
    "local last, read = g['last-delivered-id'], g['entries-read']\n"
    "local first = length > 0 and s['first-entry'][1]\n"
    "local missing = -1\n"
    "if not made and policy ~= 'none' and added and type(read) == 'number' and\n"
    "   (not first or less(last, first)) and added - length > read then\n"
    "  missing = added - length - read\n"
    "  if policy == 'latest' or (policy == 'earliest' and not first) then\n"
    "    missing = added - read\n"
    "    stand('$', added)\n"
    "  elseif policy == 'earliest' then\n"
    "    stand(before(first), added - length)\n"
    "  end\n"
    "end\n"
    "return {'ok', find()['last-delivered-id'], missing, last, first or ''}\n";

/* KEYS: stream, notes. ARGV: group, its owner, the new one, origin, then for each: id, attempts,
 * how long it is idle. For each: 1 given, 0 not the owner's, -1 no longer in the stream. */
const char redis_script_give[] =
    "local out, given = {}, 0\n"
    "for i = 5, #ARGV, 3 do\n"
    "  local r = 0\n"
    "  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) > 0 then\n"
    "    r = #redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, ARGV[i], 'IDLE', ARGV[i + 2],\n"
    "                    'RETRYCOUNT', ARGV[i + 1], 'JUSTID')\n"
    "    if r == 0 then r = -1 end\n"
    "  end\n"
    "  if r == 1 then given = given + 1 end\n"
    "  out[#out + 1] = r\n"
    "end\n"
    "if given > 0 then\n"
    "  redis.call('XADD', KEYS[2], 'MAXLEN', '1000', '*', 'from', ARGV[4], 'topic', KEYS[1],\n"
    "             'group', ARGV[1], 'what', 'back')\n"
    "end\n"
    "return out\n";

/* KEYS: stream. ARGV: group, owner, then ids. Those of the owner's are idle from now on. Returns as
 * above. */
const char redis_script_keep[] =
    "local out = {}\n"
    "for i = 3, #ARGV do\n"
    "  local r = 0\n"
    "  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) > 0 then\n"
    "    r = #redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')\n"
    "    if r == 0 then r = -1 end\n"
    "  end\n"
    "  out[#out + 1] = r\n"
    "end\n"
    "return out\n";

/* KEYS: stream; the bytes of queues, if they are counted. ARGV: group, owner, "delete" or "", then
 * ids. For each: 1 settled, 0 not the owner's. */
const char redis_script_settle[] =
    "local out, gone = {}, 0\n"
    "local function size(id)\n"
    "  local n = 0\n"
    "  for _, e in ipairs(redis.call('XRANGE', KEYS[1], id, id)) do\n"
    "    for _, word in ipairs(e[2]) do n = n + #word end\n"
    "  end\n"
    "  return n\n"
    "end\n"
    "for i = 4, #ARGV do\n"
    "  local r = 0\n"
    "  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) > 0 then\n"
    "    r = redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])\n"
    "    if KEYS[2] then gone = gone + size(ARGV[i]) end\n"
    "    if ARGV[3] ~= '' then redis.call('XDEL', KEYS[1], ARGV[i]) end\n"
    "  end\n"
    "  out[#out + 1] = r\n"
    "end\n"
    "if gone > 0 and redis.call('HINCRBY', KEYS[2], KEYS[1], -gone) <= 0 then\n"
    "  redis.call('HDEL', KEYS[2], KEYS[1])\n"
    "end\n"
    "return out\n";

/* KEYS: stream, the bytes of queues. ARGV: most messages, bytes, age in ms (0: no bound), the
 * queue's group, 1 = all or none, then for each message how many words it has, and these. For each:
 * its identifier, what redis says against it, or the bound that it would pass (1, 2, 3); with all
 * or none, the latter two by themselves. Nothing comes behind one that is refused. The bytes are
 * right again once the queue is empty, whoever has removed what.
 *
 * The group is made with the queue: where redis is full none can be made, and who attaches then for
 * the first time could not receive what waits. */
const char redis_script_push[] =
    "local key, sizes = KEYS[1], KEYS[2]\n"
    "local most, bytes, age = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])\n"
    "local n, held, out, refused = redis.call('XLEN', key), 0, {}, nil\n"
    "if n > 0 and bytes > 0 then held = tonumber(redis.call('HGET', sizes, key) or 0) end\n"
    "if n > 0 and age > 0 then\n"
    "  local now = redis.call('TIME')\n"
    "  local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1][1]\n"
    "  local was = tonumber(oldest:match('%d+'))\n"
    "  if now[1] * 1000 + math.floor(now[2] / 1000) - was >= age then refused = 3 end\n"
    "end\n"
    "if n == 0 and redis.call('EXISTS', key) == 0 then\n"
    "  redis.pcall('XGROUP', 'CREATE', key, ARGV[4], '0', 'MKSTREAM')\n"
    "end\n"
    "local function add(from, to)\n"
    "  local size = 0\n"
    "  for i = from, to do size = size + #ARGV[i] end\n"
    "  if most > 0 and n >= most then return 1 end\n"
    "  if bytes > 0 and held + size > bytes then return 2 end\n"
    "  local r = redis.pcall('XADD', key, '*', unpack(ARGV, from, to))\n"
    "  if type(r) == 'string' then n, held = n + 1, held + size end\n"
    "  return r\n"
    "end\n"
    "local at, whole = 6, ARGV[5] == '1'\n"
    "if whole then\n"
    "  local count, size, i = 0, 0, at\n"
    "  while i <= #ARGV do\n"
    "    local last = i + tonumber(ARGV[i])\n"
    "    for j = i + 1, last do size = size + #ARGV[j] end\n"
    "    count, i = count + 1, last + 1\n"
    "  end\n"
    "  if most > 0 and n + count > most then refused = 1 end\n"
    "  if bytes > 0 and held + size > bytes then refused = refused or 2 end\n"
    "  if refused then return refused end\n"
    "end\n"
    "while at <= #ARGV do\n"
    "  local words = tonumber(ARGV[at])\n"
    "  local r = refused or add(at + 1, at + words)\n"
    "  if type(r) ~= 'string' then refused = r end\n"
    "  if whole and refused then\n"
    "    for _, id in ipairs(out) do redis.call('XDEL', key, id) end\n"
    "    return r\n"
    "  end\n"
    "  out[#out + 1] = r\n"
    "  at = at + 1 + words\n"
    "end\n"
    "if bytes > 0 and held > 0 then\n"
    "  redis.call('HSET', sizes, key, string.format('%.0f', held))\n"
    "end\n"
    "return out\n";

/* KEYS: stream. ARGV: group, consumer. Deleting a consumer would drop what it has not settled. */
const char redis_script_leave[] =
    "if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end\n"
    "return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])\n";

/* KEYS: whose group it is. ARGV: a consumer, for how long (ms). 0: another's, 1: it is from now on,
 * 2: still. */
const char redis_script_lock[] = "local owner = redis.call('GET', KEYS[1])\n"
                                 "if owner and owner ~= ARGV[1] then return 0 end\n"
                                 "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])\n"
                                 "return owner and 2 or 1\n";

/* KEYS: whose group it is, notes. ARGV: the consumer that leaves it, origin, stream, group. */
const char redis_script_unlock[] =
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
    "redis.call('XADD', KEYS[2], 'MAXLEN', '1000', '*', 'from', ARGV[2], 'topic', ARGV[3],\n"
    "           'group', ARGV[4], 'what', 'back')\n"
    "return redis.call('DEL', KEYS[1])\n";

/* KEYS: stream. ARGV: group, who nobody is, how long a name is idle (ms) before it goes. Names that
 * processes have left behind, and groups of readers without one. */
const char redis_script_sweep[] =
    "local function map(list)\n"
    "  local t = {}\n"
    "  for i = 1, #list, 2 do t[list[i]] = list[i + 1] end\n"
    "  return t\n"
    "end\n"
    "local most, swept = tonumber(ARGV[3]), 0\n"
    "for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do\n"
    "  c = map(c)\n"
    "  if c.name:sub(1, 6) == 'prism:' and c.name ~= ARGV[2] and c.pending == 0 and\n"
    "     c.idle > most then\n"
    "    swept = swept + redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], c.name) + 1\n"
    "  end\n"
    "end\n"
    "for _, g in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do\n"
    "  g = map(g)\n"
    "  if g.name:sub(1, 12) == 'prism:alone:' and g.name ~= ARGV[1] then\n"
    "    local stale = g.consumers > 0\n"
    "    for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], g.name)) do\n"
    "      stale = stale and map(c).idle > most\n"
    "    end\n"
    "    if stale then swept = swept + redis.call('XGROUP', 'DESTROY', KEYS[1], g.name) end\n"
    "  end\n"
    "end\n"
    "return swept\n";

/* KEYS: stream. ARGV: entries to keep (0: all), age to keep (ms, 0: any), "1": also what a group
 * has not settled. Removes a bounded number at once. */
const char redis_script_trim[] =
    "local key, most, age = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])\n"
    "if redis.call('EXISTS', key) == 0 then return 0 end\n"
    "local function less(a, b)\n"
    "  local am, as = a:match('(%d+)-(%d+)')\n"
    "  local bm, bs = b:match('(%d+)-(%d+)')\n"
    "  if am == bm then am, bm = as, bs end\n"
    "  if #am ~= #bm then return #am < #bm end\n"
    "  return am < bm\n"
    "end\n"
    "local function after(a)\n"
    "  local ms, seq = a:match('(%d+)-(%d+)')\n"
    "  return ms .. string.format('-%.0f', tonumber(seq) + 1)\n"
    "end\n"
    "local function keep_from(list)\n"
    "  local g = {}\n"
    "  for i = 1, #list, 2 do g[list[i]] = list[i + 1] end\n"
    "  if g.pending == 0 then return after(g['last-delivered-id']) end\n"
    "  return redis.call('XPENDING', key, g.name)[2]\n"
    "end\n"
    "local floor\n"
    "if ARGV[3] ~= '1' then\n"
    "  for _, list in ipairs(redis.call('XINFO', 'GROUPS', key)) do\n"
    "    local from = keep_from(list)\n"
    "    if not floor or less(from, floor) then floor = from end\n"
    "  end\n"
    "end\n"
    "local gone = 0\n"
    "local function cut(at)\n"
    "  if floor and less(floor, at) then at = floor end\n"
    "  local n = redis.call('XTRIM', key, 'MINID', at)\n"
    "  gone = gone + n\n"
    "  return n\n"
    "end\n"
    "if age > 0 then\n"
    "  local now = redis.call('TIME')\n"
    "  local at = string.format('%.0f-0', now[1] * 1000 + math.floor(now[2] / 1000) - age)\n"
    "  if floor and less(floor, at) then at = floor end\n"
    "  gone = redis.call('XTRIM', key, 'MINID', '~', at, 'LIMIT', 10000)\n"
    "end\n"
    "local excess = most > 0 and redis.call('XLEN', key) - most or 0\n"
    "for i = 1, 5 do\n"
    "  if excess <= 0 then break end\n"
    "  local n = math.min(excess, 100)\n"
    "  local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', n)\n"
    "  if cut(after(oldest[#oldest][1])) < n then break end\n"
    "  excess = excess - n\n"
    "end\n"
    "return gone\n";

/* KEYS: stream, notes, what is void. ARGV: group, owner, origin, then for each ticket: id, how
 * often it was handed over, the ticket's number. For each: 1 settled, 0 its delivery is over. */
const char redis_script_ticket[] =
    "local out, settled = {}, {}\n"
    "local function is_void(id, number)\n"
    "  for _, v in ipairs(redis.call('HMGET', KEYS[3], 'all', id)) do\n"
    "    if v and number <= tonumber(v) then return true end\n"
    "  end\n"
    "end\n"
    "for i = 4, #ARGV, 3 do\n"
    "  local id, r = ARGV[i], 0\n"
    "  local p = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])[1]\n"
    "  if p and p[4] == tonumber(ARGV[i + 1]) and not is_void(id, tonumber(ARGV[i + 2])) then\n"
    "    r = redis.call('XACK', KEYS[1], ARGV[1], id)\n"
    "    settled[#settled + 1] = 'id'\n"
    "    settled[#settled + 1] = id\n"
    "  end\n"
    "  out[#out + 1] = r\n"
    "end\n"
    "if #settled > 0 then\n"
    "  redis.call('XADD', KEYS[2], 'MAXLEN', '1000', '*', 'from', ARGV[3], 'topic', KEYS[1],\n"
    "             'group', ARGV[1], 'what', 'settled', unpack(settled))\n"
    "end\n"
    "return out\n";

/* KEYS: stream, what is void. ARGV: group, owner, the last ticket's number, for how long what is
 * void is kept (ms), for how many entries, then ids; none: all. Returns as for redis_script_keep.
 */
const char redis_script_recall[] =
    "local out = {}\n"
    "if #ARGV == 5 or redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[5]) then\n"
    "  redis.call('DEL', KEYS[2])\n"
    "  redis.call('HSET', KEYS[2], 'all', ARGV[3])\n"
    "end\n"
    "for i = 6, #ARGV do\n"
    "  local r = #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])\n"
    "  if r > 0 then redis.call('HSET', KEYS[2], ARGV[i], ARGV[3]) end\n"
    "  out[#out + 1] = r\n"
    "end\n"
    "redis.call('PEXPIRE', KEYS[2], ARGV[4])\n"
    "return out\n";

void redis_say_script(struct redis_call *call, const char *script, unsigned keys, unsigned args)
{
    redis_command(call, 3 + keys + args, "EVAL");
    redis_word(call, slice_str(script));
    redis_word_number(call, keys);
}
