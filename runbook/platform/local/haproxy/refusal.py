"""Refuses what is too large for the router: the rules of its configuration, and the script that answers.

HAProxy reads a request into one buffer before any rule runs. A body that does not fit there would pass on in pieces, and its
length would be known only at its end when it is sent in chunks. So the rules refuse every request that does not fit, whatever
its form: with a Content-Length, in chunks, or with both.

A client that still sends when `http-request return` answers and closes sees a broken pipe and never the answer. A service in
Lua (built into HAProxy) answers without closing: HAProxy reads the rest of the request and drops it.
"""

from __future__ import annotations

import json

from runbook.modelling import request

SCRIPT = "refusal.lua"

# score.py refuses a body that is a little too large in words that its caller understands. This bound is wider, and
# protects the router's memory.
LARGEST_BODY = request.MAX_BYTES + 32 * 1024
# Far more than a client sends.
LARGEST_HEAD = 24 * 1024
# What HAProxy keeps of one request: the request line, all headers and the body, and 8 KiB for its own accounts of them.
BUFFER_BYTES = LARGEST_BODY + LARGEST_HEAD + 8 * 1024

RULES = f"""\
  # Size comes first, before a header is changed: behind these rules the whole request is known to be in the buffer, so that
  # no answer cuts an upload off.
  http-request set-var(txn.refused) int(413) if {{ req.body_size gt {LARGEST_BODY} }}
  http-request set-var(txn.head) req.hdrs,length
  http-request set-var(txn.refused) int(431) if {{ url,length,add(txn.head) gt {LARGEST_HEAD} }}
  http-request use-service lua.refuse if {{ var(txn.refused) -m found }}
"""


def script() -> str:
    """Return the Lua service ``refuse``, which answers with the status in txn.refused."""
    return f"""\
local messages = {{
  [413] = '{_message(f"The body is larger than {LARGEST_BODY} bytes")}',
  [431] = '{_message(f"The request line and the headers are together larger than {LARGEST_HEAD} bytes")}',
}}

core.register_service("refuse", "http", function(applet)
  local status = applet:get_var("txn.refused")
  local message = messages[status]
  applet:set_status(status)
  applet:add_header("content-type", "application/json")
  applet:add_header("content-length", #message)
  applet:start_response()
  applet:send(message)
end)
"""


def _message(text: str) -> str:
    return json.dumps({"message": text})
