#!/bin/sh
# Makes the development CA, server certificate, JWT secret and QUIC keys in certs/dev.
# Every argument goes to `gateway certs`; try: certs/generate.sh --help
set -eu
cd "$(dirname "$0")/.."
if [ -n "${GATEWAY_BIN:-}" ]; then
    exec "$GATEWAY_BIN" certs "$@"
elif command -v cargo >/dev/null 2>&1; then
    exec cargo run --release --quiet -- certs "$@"
elif command -v gateway >/dev/null 2>&1; then
    exec gateway certs "$@"
fi
echo "certs/generate.sh: neither cargo nor gateway is on the PATH" >&2
exit 1
