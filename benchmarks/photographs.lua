-- Posts photographs, one after another, and ends with one JSON line. Arguments: a file with a path on each
-- line, "new" or "same", and a word that no other run has. "new" appends bytes that no other request has after
-- the end of each photograph: the same pixels, but an input that no cache has seen. "same" posts the first
-- photograph again and again. With a fourth argument, every connection waits for so many milliseconds before
-- each request, and answers are counted by their status.
local threads = {}

function setup(thread)
   thread:set("id", #threads)
   threads[#threads + 1] = thread
end

function init(args)
   photographs, new, word, sent = {}, args[2] == "new", args[3], 0
   for path in io.lines(args[1]) do
      local file = assert(io.open(path, "rb"))
      photographs[#photographs + 1] = file:read("*a")
      file:close()
   end
   wrk.headers["Content-Type"] = "image/jpeg"
   repeated = wrk.format("POST", nil, nil, photographs[1])
   statuses = ""
   if args[4] then
      local counts = {}
      function delay() return tonumber(args[4]) end
      function response(status)
         counts[status] = (counts[status] or 0) + 1
         local parts = {}
         for each, count in pairs(counts) do parts[#parts + 1] = string.format('"%d": %d', each, count) end
         statuses = table.concat(parts, ", ")
      end
   end
end

function request()
   if not new then return repeated end
   sent = sent + 1
   local photograph = photographs[(sent - 1) % #photographs + 1]
   return wrk.format("POST", nil, nil, photograph .. word .. "." .. id .. "." .. sent)
end

function done(summary, latency)
   local errors, counted = summary.errors, {}
   for _, thread in ipairs(threads) do counted[#counted + 1] = "{" .. thread:get("statuses") .. "}" end
   io.write(string.format(
      '{"answers": %d, "wall_s": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "max_ms": %.4f, "refused": %d, "broken": %d, '
      .. '"statuses": [%s]}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      latency.max / 1e3, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
      table.concat(counted, ", ")))
end
