-- Each request uploads a file of its own: wrk -s wrk_upload.lua URL -- form|put SIZE TAG. Prints RESULT as wrk.lua does.
local kind, tag, content, n = nil, nil, nil, 0

function init(args)
	kind, tag, content = args[1], args[3], string.rep("x", tonumber(args[2]))
end

function request()
	n = n + 1
	local name = tag .. "-" .. n .. ".bin"
	if kind == "put" then
		return wrk.format("PUT", "/media/" .. tag .. "/" .. name, {["Content-Type"] = "application/octet-stream"}, content)
	end
	local part = "--boundary0123456789\r\nContent-Disposition: form-data; name="
	return wrk.format("POST", "/upload/", {["Content-Type"] = "multipart/form-data; boundary=boundary0123456789"},
		part .. '"title"\r\n\r\n' .. name .. "\r\n" .. part .. '"folder"\r\n\r\n' .. tag .. "\r\n" ..
		part .. '"file"; filename="' .. name .. '"\r\nContent-Type: application/octet-stream\r\n\r\n' .. content ..
		"\r\n--boundary0123456789--\r\n")
end

function done(summary, latency, requests)
	local e = summary.errors
	io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
		e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
