-- One lead a request: unique address, the same PDF with another last line, sent as a browser's form would.
dofile((debug.getinfo(1, "S").source:sub(2):match("^.*/") or "./") .. "result.lua")

local pdf = "%PDF-1.7\n" .. string.rep("0123456789abcdef", (tonumber(os.getenv("RESUME_BYTES")) - 128) / 16)
local run = os.getenv("RUN_ID")
local boundary = "----leadsbench7MA4YWxkTrZu0gW"
local counter = 0
local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("thread_number", threads)
end

local function field(name, value)
  return "--" .. boundary .. "\r\nContent-Disposition: form-data; name=\"" .. name .. "\"\r\n\r\n" .. value .. "\r\n"
end

function request()
  counter = counter + 1
  local id = run .. "-" .. thread_number .. "-" .. counter
  local body = field("first_name", "Ann") .. field("last_name", "Lee") .. field("email", id .. "@bench.example")
    .. "--" .. boundary .. "\r\nContent-Disposition: form-data; name=\"resume\"; filename=\"cv.pdf\"\r\n"
    .. "Content-Type: application/pdf\r\n\r\n" .. pdf .. id .. "\r\n--" .. boundary .. "--\r\n"
  local headers = { ["Content-Type"] = "multipart/form-data; boundary=" .. boundary }
  return wrk.format("POST", nil, headers, body)
end
