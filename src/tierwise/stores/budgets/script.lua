-- One batch of operations on the shared balances, applied in order and at once.
--
-- KEYS[1]  what all keys begin with: {tierwise:NAMESPACE}
-- ARGV     the epoch that the caller knows, its gateway, its session, and the operations as MessagePack
--
-- Answers a list with one item an operation, or one word where nothing was applied: 'session' to a connection that
-- the gateway has given up, 'epoch' to a caller whose balances are not the current ones.
--
-- Numbers here are doubles, exact up to 2^53. Limits, claims and what is held against a hard limit stay below that;
-- sums that only grow are kept by HINCRBY, which counts in 64 bits, and are answered as text.

local base, epoch = KEYS[1], ARGV[1]
if redis.call('GET', base .. ':alive:' .. ARGV[2]) ~= ARGV[3] then return cmsgpack.pack('session') end
if redis.call('GET', base .. ':epoch') ~= epoch then return cmsgpack.pack('epoch') end

local prefix = base .. ':e:' .. string.match(epoch, '^%S+')
local account_of, open, topped = prefix .. ':account:', prefix .. ':open', prefix .. ':topped-up'
local CALLS, EXACT, DAY_MS = string.byte('#'), 2 ^ 53, 86400000

local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]

local function whole(number) return string.format('%.0f', number) end

local function add(account, field, number)
  if number ~= 0 then redis.call('HINCRBY', account, field, whole(number)) end
end

-- The use at which a share of a limit is reached: the quotient rounded up, without a product above 2^53.
local function reached_at(share, limit)
  local rest = math.fmod(limit, 100)
  return share * ((limit - rest) / 100) + math.ceil(share * rest / 100)
end

local function highest_reached(ref, limit, used)
  local highest = -1
  for _, share in ipairs(ref[6]) do
    if share > highest and used >= reached_at(share, limit) then highest = share end
  end
  return highest
end

-- What an account holds. ref: key, limit or -1, whether only what is pending counts, the window's end in
-- milliseconds or 0, the budget's limit, the shares at which it warns.
local function look(ref)
  local key = account_of .. ref[1]
  local found = redis.call('HMGET', key, 'pending', 'posted', 'topped_up', 'warned', 'ends')
  local account = {
    key = key,
    is_new = not found[1],
    counts = string.byte(ref[1]) == CALLS,
    pending = tonumber(found[1] or 0),
    posted = tonumber(found[2] or 0),
    topped_up = tonumber(found[3] or 0),
    warned = tonumber(found[4] or -1),
    has_end = found[5],
  }
  -- What a rebuilt account had reached when it was taken over is taken as told.
  if not account.is_new and not found[4] and ref[3] == 0 then
    account.warned = highest_reached(ref, ref[5] + account.topped_up, account.posted + account.pending)
    redis.call('HSET', key, 'warned', account.warned)
  end
  return account
end

local function room_on(account, ref, amount)
  local room = math.min(ref[2] + account.topped_up, EXACT) - account.pending
  if ref[3] == 0 then room = room - account.posted end
  if account.counts then return room >= 1 and amount or -1 end
  return room
end

local function crossing(account, ref, held)
  local used = account.posted + account.pending + held
  local highest = highest_reached(ref, ref[5] + account.topped_up, used)
  if highest <= account.warned then return end
  redis.call('HSET', account.key, 'warned', highest)
  return highest, used
end

local function hold(account, ref, amount)
  local held = account.counts and 1 or amount
  redis.call('HINCRBY', account.key, 'pending', whole(held))
  add(account.key, 'reserved', held)
  if account.is_new then redis.call('HSET', account.key, 'warned', -1) end
  if ref[4] > 0 and not account.has_end then
    redis.call('HSET', account.key, 'ends', whole(ref[4]))
    redis.call('PEXPIREAT', account.key, whole(ref[4] + DAY_MS))
  end
  return held
end

local function reserve(_, call_id, amount, least, refs)
  if redis.call('HEXISTS', open, call_id) == 1 then return { 'open' } end
  local accounts, keys, granted, tightest = {}, {}, amount, nil
  for place, ref in ipairs(refs) do
    local account = look(ref)
    accounts[place], keys[place] = account, ref[1]
    if ref[2] >= 0 then
      local room = room_on(account, ref, amount)
      if room < granted then tightest, granted = place, room end
    end
  end
  if tightest and granted < least then
    local account = accounts[tightest]
    return { 'denied', tightest - 1, whole(account.posted), whole(account.pending), whole(account.topped_up) }
  end
  local answer = { tightest and 'shrunk' or 'reserved', granted }
  for place, ref in ipairs(refs) do
    local held = hold(accounts[place], ref, granted)
    if ref[3] == 0 then
      local percent, used = crossing(accounts[place], ref, held)
      if percent then
        answer[#answer + 1] = place - 1
        answer[#answer + 1] = percent
        answer[#answer + 1] = used
      end
    end
  end
  redis.call('HSET', open, call_id, cmsgpack.pack({ 'pending', granted, ARGV[2], now_us, keys }))
  if #answer == 2 and not tightest then return granted end
  return answer
end

local function post(key, amount, cost)
  local account, held, spent = account_of .. key, amount, cost
  if redis.call('EXISTS', account) == 0 then return end -- its window ended long ago
  if string.byte(key) == CALLS then held, spent = 1, math.min(cost, 1) end
  add(account, 'pending', -held)
  add(account, 'posted', spent)
  if held >= spent then add(account, 'released', held - spent) else add(account, 'overrun', spent - held) end
end

local function settle(_, call_id, cost)
  local packed = redis.call('HGET', open, call_id)
  if not packed then return end
  local found = cmsgpack.unpack(packed)
  if cost >= 0 then
    for _, key in ipairs(found[5]) do post(key, found[2], cost) end
    redis.call('HDEL', open, call_id)
  elseif found[1] ~= 'kept' then
    found[1] = 'kept'
    redis.call('HSET', open, call_id, cmsgpack.pack(found))
  end
end

local function top_up(_, entry_id, key, amount)
  if redis.call('SADD', topped, entry_id) == 0 then return end
  local account = account_of .. key
  if redis.call('HSETNX', account, 'pending', 0) == 1 then redis.call('HSET', account, 'warned', -1) end
  add(account, 'topped_up', amount)
end

local function tier(_, key) return redis.call('GET', base .. ':conversation:' .. key) end

local function keep(_, key, name, ttl_s) redis.call('SET', base .. ':conversation:' .. key, name, 'EX', ttl_s) end

local function balance(_, key)
  return redis.call(
    'HMGET', account_of .. key, 'reserved', 'pending', 'posted', 'released', 'overrun', 'topped_up'
  )
end

local function count() return redis.call('HLEN', open) end

local steps = {
  reserve = reserve, settle = settle, top_up = top_up, tier = tier, keep = keep, balance = balance, count = count,
}
local answers = {}
for place, operation in ipairs(cmsgpack.unpack(ARGV[4])) do
  answers[place] = steps[operation[1]](unpack(operation)) or false
end
return cmsgpack.pack(answers)
