-- GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- wrk's summary as one line of JSON.
function done(summary, latency, requests)
  local e = summary.errors
  print(string.format('{"requests":%d,"seconds":%.6f,"bytes":%d,"errors":%d,"p50":%.6f,"p99":%.6f}', summary.requests,
    summary.duration / 1e6, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
