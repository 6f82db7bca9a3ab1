#!/bin/bash
# Bash: the payload is the first argument, the answer goes by curl. No URL needs a host, but curl does.
set -euo pipefail
payload=${1:-null}
curl --silent --fail --show-error --unix-socket "$UROCKET_SOCKET" \
    --header 'Content-Type: application/json' \
    --data-binary "{\"language\": \"bash\", \"got\": $payload}" \
    "http://localhost/uri/$REQUEST_ID"
