#!/bin/sh
# Checks from outside what a running server promises its tenants, in about a minute.
#
#   FS9_JWT_SECRET=... scripts/test-million-scale.sh http://127.0.0.1:9999
#
# Needs sh, curl and the usual tools (od, sha256sum or shasum or openssl, base64 or openssl). One
# line for each check: `ok`, `FAIL`, or `skip` for what could not be checked, and why. Exit status:
# 0 all that was checked held, 1 something did not, 2 nothing could be checked.
#
# Environment:
#   FS9_JWT_SECRET       signs the tokens; without it only what strangers may do is checked
#   FS9_ADMIN_NAMESPACE  a namespace whose admins administer the server (default: admin)
#   FS9_BURST            requests that must hit the rate limit (default: 2000)
#   FS9_DATA_DIR         data directory of the fleet on this host; with the program `fs9` (or what
#                        FS9 names) a slot is drained under load, and comes back
#
# Secret and tokens are never in a command line, where other users of this host would see them.
# The check makes two namespaces named check-..., and deletes them where the server can.
set -u

usage() {
  sed -n '2,/^set -u/s/^# \{0,1\}//p' "$0" >&2
  exit 2
}
[ $# -eq 1 ] || usage
case $1 in
  http://* | https://*) url=${1%/} ;;
  *) usage ;;
esac
command -v curl >/dev/null 2>&1 || { echo "test-million-scale.sh: curl is not installed" >&2; exit 2; }

secret=${FS9_JWT_SECRET:-}
admin_namespace=${FS9_ADMIN_NAMESPACE:-admin}
burst=${FS9_BURST:-2000}
umask 077
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

held=0 failed=0 skipped=0
ok() { held=$((held + 1)); printf 'ok    %s\n' "$*"; }
fail() { failed=$((failed + 1)); printf 'FAIL  %s\n' "$*"; }
skip() { skipped=$((skipped + 1)); printf 'skip  %s\n' "$*"; }

# expect GOT WANTED TEXT: one line; WANTED are statuses, any of them will do.
expect() {
  case " $2 " in
    *" $1 "*) ok "$3 ($1)" ;;
    *) fail "$3: expected $2, got $1$(said)" ;;
  esac
}
said() {
  [ -s "$work/body" ] && printf ': %s' "$(head -c 200 "$work/body" | tr -d '\n')"
}

# -- tokens (RFC 7519, HMAC of RFC 2104) -----------------------------------------------------

sha256() { # standard input -> hexadecimal
  if command -v sha256sum >/dev/null 2>&1; then
    sha256sum
  elif command -v shasum >/dev/null 2>&1; then
    shasum -a 256
  else
    openssl dgst -sha256 -r
  fi | cut -d ' ' -f 1
}
hex_of() { od -An -v -tx1 | tr -d ' \n'; }
bytes_of() { # hexadecimal -> bytes, by a built-in command
  rest=$1
  while [ -n "$rest" ]; do
    tail=${rest#??}
    # shellcheck disable=SC2059  # an escape that was made here
    printf "\\$(printf '%03o' "0x${rest%"$tail"}")"
    rest=$tail
  done
}
base64url() {
  if command -v base64 >/dev/null 2>&1; then base64; else openssl base64; fi |
    tr -d '=\n' | tr '/+' '_-'
}
xored() { # hexadecimal of 64 bytes, each XOR $2
  rest=$1
  while [ -n "$rest" ]; do
    tail=${rest#??}
    printf '%02x' $((0x${rest%"$tail"} ^ $2))
    rest=$tail
  done
}
prepare_key() {
  key=$(printf %s "$secret" | hex_of)
  [ ${#key} -gt 128 ] && key=$(printf %s "$secret" | sha256)
  while [ ${#key} -lt 128 ]; do key=${key}00; done
  inner=$(xored "$key" 0x36)
  outer=$(xored "$key" 0x5c)
}
hmac() { # standard input -> base64url
  digest=$({ bytes_of "$inner"; cat; } | sha256)
  digest=$({ bytes_of "$outer"; bytes_of "$digest"; } | sha256)
  bytes_of "$digest" | base64url
}
now=$(date +%s)
# sign NAMESPACE USER ROLE [MORE CLAIMS]: a token of ten minutes
sign() {
  header=$(printf '{"alg":"HS256","typ":"JWT"}' | base64url)
  claims="{\"sub\":\"$2\",\"ns\":\"$1\",\"roles\":[\"$3\"],\"iat\":$now,\"exp\":$((now + 600))${4:-}}"
  signed=$header.$(printf %s "$claims" | base64url)
  printf %s "$signed.$(printf %s "$signed" | hmac)"
}

# -- requests ---------------------------------------------------------------------------------

# ask TOKEN METHOD PATH [curl's arguments]: the status; the body is in $work/body, the head in
# $work/head. 000: no answer.
ask() {
  token=$1 method=$2 path=$3
  shift 3
  : >"$work/body"
  {
    [ -n "$token" ] && printf 'header = "Authorization: Bearer %s"\n' "$token"
    printf 'request = "%s"\n' "$method"
  } | curl -K - -sS --globoff --max-time 20 -o "$work/body" -D "$work/head" -w '%{http_code}' \
    "$@" "$url$path" 2>"$work/error"
}
# of NAME: a text in the JSON of the last answer
of() { sed -n "s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p" "$work/body"; }
slot_of() { tr -d '\r' <"$work/head" | sed -n 's/^[Xx]-[Ff][Ss]9-[Ss]lot: *//p'; }
json='Content-Type: application/json'

# -- what anybody may see ---------------------------------------------------------------------

status=$(ask '' GET /health)
if [ "$status" = 000 ]; then
  echo "test-million-scale.sh: no answer from $url: $(cat "$work/error")" >&2
  exit 2
fi
expect "$status" 200 "health: the server answers"
expect "$(ask '' GET /livez)" 200 "health: alive"
expect "$(ask '' GET /readyz)" 200 "health: ready, its metadata and storage too"
long=$(head -c 20000 /dev/zero | tr '\0' x)
expect "$(ask '' GET "/api/v1/stat?path=/$long")" 414 "limits: a request line of 20 kB is refused"
{ printf 'X-Long: '; head -c 60000 /dev/zero | tr '\0' x; echo; } >"$work/long"
expect "$(ask '' GET /health -H "@$work/long")" 431 "limits: headers of 60 kB are refused"

status=$(ask '' GET '/api/v1/stat?path=/')
guarded=yes
if [ "$status" = 401 ]; then
  ok "authentication: nothing without a token (401)"
else
  fail "authentication: is off: a request without a token was answered $status"
  guarded=
fi
unsigned="$(printf '{"alg":"none"}' | base64url).$(printf '{"sub":"a","ns":"default","iat":1,"exp":99999999999,"roles":["admin"]}' | base64url)."
if [ -n "$guarded" ]; then
  expect "$(ask "$unsigned" GET '/api/v1/stat?path=/')" 401 "authentication: an unsigned token is refused"
  expect "$(ask '' GET /metrics)" "401 404" "metrics: not for strangers"
fi

# -- what tenants may -------------------------------------------------------------------------

tenants() {
  name=check-$now-$$
  ours=$name-a theirs=$name-b
  root=$(sign "$admin_namespace" check admin)
  status=$(ask "$root" GET /api/v1/namespaces)
  if [ "$status" = 401 ]; then
    fail "tokens: the server does not know this FS9_JWT_SECRET$(said)"
    return
  fi
  status=$(ask "$root" GET /metrics)
  if [ "$status" = 404 ]; then
    skip "metrics: switched off (server.metrics.enabled)"
  elif [ "$status" = 200 ] && grep -q '^fs9_http_requests_total' "$work/body"; then
    ok "metrics: counted for the whole fleet (200)"
  else
    fail "metrics: expected 200 and fs9_http_requests_total, got $status$(said)"
  fi
  for each in "$ours" "$theirs"; do
    status=$(ask "$root" POST /api/v1/namespaces -H "$json" -d "{\"name\":\"$each\"}")
    [ "$status" = 201 ] || { fail "namespaces: $each was not made: $status$(said)"; return; }
  done
  ok "namespaces: two were made (201)"
  us=$(sign "$ours" ann read-write)
  them=$(sign "$theirs" bob admin)

  tokens
  isolation
  bodies
  rates
  renewal
  drain
  ask "$(sign "$ours" cleaner read-write)" DELETE '/api/v1/remove?path=/check' >/dev/null
  for each in "$ours" "$theirs"; do ask "$root" DELETE "/api/v1/namespaces/$each" >/dev/null; done
}

tokens() {
  forged=${us%.*}.$(printf x | sha256 | cut -c 1-43)
  expect "$(ask "$forged" GET '/api/v1/stat?path=/')" 401 "tokens: a wrong signature is refused"
  late=$(sign "$ours" ann read-write ",\"nbf\":$((now + 86400))")
  expect "$(ask "$late" GET '/api/v1/stat?path=/')" 401 "tokens: one of tomorrow is refused"
  expect "$(ask "$us" PUT '/api/v1/upload?path=/check' --data-binary hello)" 200 "files: written"
  reader=$(sign "$ours" eve read-only)
  expect "$(ask "$reader" GET '/api/v1/stat?path=/check')" 200 "roles: read-only reads"
  expect "$(ask "$reader" DELETE '/api/v1/remove?path=/check')" 403 "roles: read-only does not remove"
  expect "$(ask "$us" POST /api/v1/namespaces -H "$json" -d '{"name":"check-no"}')" 403 \
    "roles: a tenant makes no namespaces"
  narrow=$(sign "$ours" eve read-write ',"mounts":["/elsewhere"]')
  expect "$(ask "$narrow" GET '/api/v1/stat?path=/check')" 404 "narrowed: outside there is nothing"
}

isolation() {
  expect "$(ask "$them" GET '/api/v1/stat?path=/check')" 404 "isolation: another tenant does not see the file"
  expect "$(ask "$them" GET "/$ours/api/v1/stat?path=/check")" 403 "isolation: nor by the tenant's prefix"
  expect "$(ask "$them" GET "/api/v1/namespaces/$ours")" 403 "isolation: nor that the tenant exists"
  expect "$(ask "$them" GET /api/v1/namespaces/no-such-namespace)" 403 "isolation: same answer for none"
  status=$(ask "$us" POST /api/v1/open -H "$json" -d '{"path":"/check","flags":{"read":true}}')
  handle=$(of handle_id)
  expect "$status" 200 "handles: opened"
  read="{\"handle_id\":\"$handle\",\"offset\":0,\"size\":5}"
  expect "$(ask "$them" POST /api/v1/read -H "$json" -d "$read")" 400 "isolation: a handle is of one tenant"
  expect "$(ask "$(sign "$ours" carl admin)" POST /api/v1/read -H "$json" -d "$read")" 400 \
    "isolation: and of one user"
  ask "$us" POST /api/v1/close -H "$json" -d "{\"handle_id\":\"$handle\"}" >/dev/null
  expect "$(ask "$us" GET '/api/v1/stat?path=/../../../etc/passwd')" "400 404" "isolation: .. leads nowhere"
}

bodies() {
  { printf '{"path":"'; head -c 3000000 /dev/zero | tr '\0' x; printf '"}'; } >"$work/large"
  expect "$(ask "$us" POST /api/v1/open -H "$json" --data-binary "@$work/large")" 413 \
    "limits: a JSON body of 3 MB is refused"
  status=$(ask "$us" PUT '/api/v1/upload?path=/large' -H 'Content-Length: 17592186044417' \
    -H 'Expect:' --data-binary x)
  expect "$status" 413 "limits: an upload that announces 16 TiB is refused at once"
}

# Until one is refused, or all were answered. A user of their own: nothing else waits for them.
rates() {
  busy=$(sign "$ours" busy read-write)
  printf 'header = "Authorization: Bearer %s"\n' "$busy" >"$work/busy"
  sent=0 refused=0
  while [ "$refused" -eq 0 ] && [ "$sent" -lt "$burst" ]; do
    curl -K "$work/busy" -sS --max-time 20 -D "$work/head" -o /dev/null -w '%{http_code}\n' \
      "$url/api/v1/stat?path=/&n=[1-200]" >"$work/statuses" 2>"$work/error"
    sent=$((sent + 200))
    refused=$(grep -c '^429$' "$work/statuses")
  done
  if [ "$refused" -eq 0 ]; then
    fail "rate limit: one user made $sent requests and none was refused (server.rate_limit.enabled)"
    return
  fi
  ok "rate limit: a user who asks too much is refused (429)"
  if tr -d '\r' <"$work/head" | grep -qi '^retry-after: [0-9]'; then
    ok "rate limit: with Retry-After"
  else
    fail "rate limit: no Retry-After in the refusal"
  fi
  expect "$(ask "$us" GET '/api/v1/stat?path=/check')" 200 "rate limit: others of the namespace go on"
  expect "$(ask "$them" GET '/api/v1/stat?path=/')" 200 "rate limit: other namespaces go on"
  expect "$(ask '' GET /health)" 200 "rate limit: health is exempt"
}

# -- renewal and revocation: on connections of their own, so any worker may be asked ----------

renewal() {
  status=$(ask "$us" POST /api/v1/auth/refresh)
  new=$(of token)
  if [ "$status" = 400 ]; then
    skip "refresh: not configured on this server"
    new=$(sign "$ours" ann read-write ',"jti":"check"')
  else
    expect "$status" 200 "refresh: a new token for the old one"
    expect "$(ask "$new" GET '/api/v1/stat?path=/check')" 200 "refresh: the new one holds"
    expect "$(ask 'a.b.c' POST /api/v1/auth/refresh)" 401 "refresh: not for anything else"
  fi
  printf '{"token":"%s"}' "$new" >"$work/revoke"
  expect "$(ask "$us" POST /api/v1/auth/revoke -H "$json" -d "@$work/revoke")" 403 \
    "revocation: not for everybody"
  expect "$(ask "$them" POST /api/v1/auth/revoke -H "$json" -d "@$work/revoke")" 403 \
    "revocation: not for admins of others"
  ours_admin=$(sign "$ours" chief admin)
  expect "$(ask "$ours_admin" POST /api/v1/auth/revoke -H "$json" -d "@$work/revoke")" 204 \
    "revocation: by the namespace's admin"
  got=
  for _ in 1 2 3 4 5 6 7 8; do got="$got $(ask "$new" GET '/api/v1/stat?path=/check')"; done
  if [ "$got" = ' 401 401 401 401 401 401 401 401' ]; then
    ok "revocation: holds at once, on any connection (401)"
  else
    fail "revocation: holds at once, on any connection: got$got"
  fi
  expect "$(ask "$new" POST /api/v1/auth/refresh)" "401 400" "revocation: nor is it renewed"
  expect "$(ask "$us" GET '/api/v1/stat?path=/check')" 200 "revocation: the user's other token holds on"
  audited=$(ask "$us" GET '/api/v1/events?outcome=all&limit=1000')
  if [ "$audited" = 200 ] && grep -q '"upload"' "$work/body" &&
    grep -q '"outcome":"PermissionDenied"' "$work/body"; then
    ok "audit: changes and refusals are recorded"
  else
    fail "audit: expected the upload and a refusal in the events, got $audited$(said)"
  fi
}

drain() {
  fs9=${FS9:-fs9}
  if [ -z "${FS9_DATA_DIR:-}" ]; then
    skip "drain: FS9_DATA_DIR is not given"
    return
  fi
  if ! command -v "${fs9%% *}" >/dev/null 2>&1; then
    skip "drain: the program fs9 is not here (FS9 names it)"
    return
  fi
  # shellcheck disable=SC2086  # FS9 may be a program with arguments
  slots=$($fs9 fleet status --json --data-dir "$FS9_DATA_DIR" 2>"$work/error" | grep -c '"READY"\|"ready"')
  if [ "$slots" -lt 2 ]; then
    skip "drain: needs two workers that serve, found $slots: $(head -c 200 "$work/error")"
    return
  fi
  mover=$(sign "$ours" mover read-write)
  ask "$mover" GET '/api/v1/stat?path=/check' >/dev/null
  owner=$(slot_of)
  (
    : >"$work/moving"
    while [ ! -e "$work/drained" ]; do
      printf 'header = "Authorization: Bearer %s"\n' "$mover" |
        curl -K - -sS --max-time 20 -o /dev/null -w '%{http_code}\n' "$url/api/v1/stat?path=/check" \
          >>"$work/moving" 2>/dev/null
      sleep 0.1
    done
  ) &
  # shellcheck disable=SC2086
  if $fs9 fleet drain "$owner" --data-dir "$FS9_DATA_DIR" >"$work/body" 2>&1; then
    ok "drain: slot $owner gave its namespaces to the others"
    expect "$(ask "$mover" GET '/api/v1/stat?path=/check')" 200 "drain: the file is there"
    if [ "$(slot_of)" != "$owner" ]; then
      ok "drain: slot $(slot_of) serves it"
    else
      fail "drain: slot $owner serves it yet"
    fi
  else
    fail "drain: slot $owner$(said)"
  fi
  # shellcheck disable=SC2086
  if $fs9 fleet undrain "$owner" --data-dir "$FS9_DATA_DIR" >"$work/body" 2>&1; then
    ok "drain: slot $owner is back"
  else
    fail "drain: slot $owner did not come back$(said)"
  fi
  : >"$work/drained"
  wait
  requests=$(grep -c . "$work/moving")
  lost=$(grep -vc '^200$' "$work/moving")
  if [ "$lost" -eq 0 ]; then
    ok "drain: no request was lost ($requests meanwhile)"
  else
    fail "drain: $lost of $requests requests failed meanwhile"
  fi
}

if [ -z "$guarded" ]; then
  skip "all about tokens, tenants and rates: authentication is off"
elif [ -z "$secret" ]; then
  skip "all about tokens, tenants, bodies and rates: FS9_JWT_SECRET is not given"
else
  prepare_key
  tenants
fi

printf '%s held, %s did not, %s could not be checked\n' "$held" "$failed" "$skipped"
[ "$failed" -eq 0 ]
