-- Tells Envoy which worker owns the namespace of a request. A namespace falls into one of
-- @@buckets buckets by the CRC-32 of its name. OWNERS has the slot of each bucket as
-- @@width digit(s) in base 36, as the server's ring places it. Nothing is verified here:
-- the worker does that.
local AUTH = @@auth
local WIDTH = @@width
local API = "/api/v1/"
local OWNERS = ([[
@@owners_lua]]):gsub("\n", "")

local CRC = {}
for n = 0, 15 do
  local crc = n
  for _ = 1, 4 do
    crc = bit.bxor(bit.rshift(crc, 1), bit.band(crc, 1) == 1 and 0xedb88320 or 0)
  end
  CRC[n] = crc
end

-- Half a byte at a time; a name is ASCII.
local function bucket(name)
  local crc = -1
  for i = 1, #name do
    crc = bit.bxor(crc, name:byte(i))
    crc = bit.bxor(CRC[bit.band(crc, 15)], bit.rshift(crc, 4))
    crc = bit.bxor(CRC[bit.band(crc, 15)], bit.rshift(crc, 4))
  end
  return bit.band(bit.bnot(crc), @@bucket_mask)
end

local SIXES = {}
for i, letter in ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"):gmatch("()(.)") do
  SIXES[letter] = i - 1
end

local function base64url(text)
  local bytes, kept, bits = {}, 0, 0
  for letter in text:gmatch("[%w_-]") do
    kept, bits = kept * 64 + SIXES[letter], bits + 6
    if bits >= 8 then
      bits = bits - 8
      local unit = 2 ^ bits
      bytes[#bytes + 1] = string.char(math.floor(kept / unit))
      kept = kept % unit
    end
  end
  return table.concat(bytes)
end

-- The string member `ns` of the outermost object; if there are two, the last one.
local function claim(json)
  local depth, at, found = 0, 1, nil
  while at <= #json do
    local mark = json:sub(at, at)
    if mark == '"' then
      local stop = at + 1
      while stop <= #json and json:sub(stop, stop) ~= '"' do
        stop = stop + (json:sub(stop, stop) == "\\" and 2 or 1)
      end
      if depth == 1 and json:sub(at, stop) == '"ns"' and json:find("^%s*:", stop + 1) then
        found = json:match('^%s*:%s*"([^"\\]*)"', stop + 1)
      end
      at = stop
    elseif mark == "{" or mark == "[" then
      depth = depth + 1
    elseif mark == "}" or mark == "]" then
      depth = depth - 1
    end
    at = at + 1
  end
  return found
end

local function claimed(authorization)
  local payload = (authorization or ""):match("^Bearer [^.]*%.([^.]*)%.[^.]*$")
  return payload and claim(base64url(payload))
end

-- "any" for a request without a namespace, or with a name that no namespace can have.
local function place(name)
  if not name or #name > 64 or not name:find("^[a-z0-9][a-z0-9_-]*$") then
    return "any"
  end
  local start = bucket(name) * WIDTH
  return tostring(tonumber(OWNERS:sub(start + 1, start + WIDTH), 36))
end

-- Tokens repeat, so their places are remembered; all are forgotten when there are too many.
local KEPT_MAX = 10000
local kept, kept_number = {}, 0

local function place_of_token(authorization)
  local known = kept[authorization]
  if not known then
    if kept_number >= KEPT_MAX then
      kept, kept_number = {}, 0
    end
    known = place(claimed(authorization))
    kept[authorization], kept_number = known, kept_number + 1
  end
  return known
end

local function place_of(path, authorization)
  path = path:match("^[^?]*")
  local tenant = nil
  if path:sub(1, #API) ~= API then
    tenant = path:match("^/([^/]+)/api/v1/")
    if not tenant then
      return "any"
    end
  end
  if AUTH then
    return authorization and place_of_token(authorization) or "any"
  end
  return place(tenant or "default")
end

function envoy_on_request(handle)
  local headers = handle:headers()
  -- Envoy joins several Host headers with commas.
  if (headers:get(":authority") or ""):find(",", 1, true) then
    handle:respond({[":status"] = "400", ["content-type"] = "application/json"}, [[@@two_hosts]])
    return
  end
  local path, authorization = headers:get(":path"), headers:get("authorization")
  -- Replaces whatever the client has sent under this name.
  headers:replace("x-fs9-cluster", "fs9_" .. place_of(path or "", authorization))
end
