-- What wrk sends, and its results as one line of JSON. Arguments: the body, then names and values of headers.

function init(args)
  wrk.method = "POST"
  wrk.body = args[1]
  for i = 2, #args, 2 do
    wrk.headers[args[i]] = args[i + 1]
  end
end

function done(summary, latency)
  local failed = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "errors": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f}\n',
    summary.requests,
    failed.connect + failed.read + failed.write + failed.timeout + failed.status,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
