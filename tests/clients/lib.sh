# Shared by the scripts of this folder: runs cases and prints one JSON line for each.
# The sourcing script sets CLIENT and calls `run NAME FUNCTION ARGS…`, then `finish`.

FAILED=0
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

run() {
    local name=$1 start error ok=true
    shift
    start=$(date +%s%3N)
    # A subshell, so that `set -e` ends a case and not the script; not in a condition, where bash
    # would ignore it.
    error=$( (set -e; "$@") 2>&1 >"$WORK/stdout")
    if [ $? -eq 0 ]; then
        error=null
    else
        ok=false
        FAILED=1
        error=$(printf '%s' "$error" | tail -n 3 | json)
    fi
    printf '{"client":"%s","case":"%s","ok":%s,"ms":%d,"error":%s}\n' \
        "$CLIENT" "$name" "$ok" $(($(date +%s%3N) - start)) "$error"
}

# Standard input as a JSON string.
json() {
    local text
    text=$(tr -d '\000-\010\013-\037' | sed 's/\\/\\\\/g; s/"/\\"/g; s/\t/ /g' | awk '{printf "%s%s", sep, $0; sep="\\n"}')
    printf '"%s"' "$text"
}

fail() {
    echo "$*" >&2
    return 1
}

# same WHAT EXPECTED FOUND: fails with the first difference.
same() {
    cmp -s "$2" "$3" || fail "$1 differs: $(diff "$2" "$3" | head -c 300)"
}

finish() {
    exit "$FAILED"
}
