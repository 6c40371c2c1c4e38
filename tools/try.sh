#!/bin/sh
# Prints curl commands to try, then replaces itself with the gateway: the last step of `make run`.
#   try.sh BINARY      with TLS=1 and CERT_DIR=DIRECTORY also serves HTTPS, with the certificate in that directory
set -eu
http="${CAPGATE_LISTEN_HTTP:-127.0.0.1:8080}"
https="${CAPGATE_LISTEN_HTTPS:-127.0.0.1:8443}"
admin="${CAPGATE_LISTEN_ADMIN:-127.0.0.1:9090}"
export CAPGATE_LOG_FORMAT="${CAPGATE_LOG_FORMAT:-text}"
if [ -n "${TLS:-}" ]; then
  export CAPGATE_TLS_CERT="$CERT_DIR/cert.pem" CAPGATE_TLS_KEY="$CERT_DIR/key.pem"
fi
cat <<EOF

Paste into another terminal (any key works, nothing is solved, tokens contain SANDBOX):

  ID=\$(curl -s "http://$http/in.php?key=MY_KEY&method=userrecaptcha&googlekey=SITE_KEY&pageurl=https://example.com" | cut -d'|' -f2)
  curl "http://$http/res.php?key=MY_KEY&action=get&id=\$ID"          # CAPCHA_NOT_READY; OK|SANDBOX-… after 6 seconds
  curl "http://$http/res.php?key=MY_KEY&action=get&id=\$ID&json=1"
  curl "http://$http/res.php?key=MY_KEY&action=getbalance"
  curl "http://$http/res.php?key=MY_KEY&action=reportgood&id=\$ID"
  curl "http://$admin/metrics"
EOF
if [ -n "${TLS:-}" ]; then
  echo "  curl --cacert $CERT_DIR/ca.pem \"https://localhost:${https##*:}/res.php?key=MY_KEY&action=getbalance\""
fi
cat <<EOF

Press Ctrl-C to stop.

EOF
exec "$1" run
