#!/bin/sh
# usage: run.sh PROGRAM...   runs tests, RUN_JOBS at once (default: one per core), and sums them
# Each prints `name: N passed, N failed[, N skipped]` as its last such line; a program
# that prints none, or dies, or fails without a failed check counts as one more failure. The last
# line is the sum.
if [ "${1:-}" = --one ]; then # OUT PROGRAM, in the background
    case $3 in
    *.sh) sh "$3" ;;
    *.py) "${PYTHON:-python3}" "$3" ;;
    *) ${EMULATOR:-} "$3" ;;
    esac >"$2" 2>&1
    echo $? >"$2.new" && mv "$2.new" "$2.status"
    exit 0
fi

passed=0 failed=0 skipped=0
work=$(mktemp -d "${TMPDIR:-/tmp}/finercut-run.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
jobs=${RUN_JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)}

n=0
for program; do
    n=$((n + 1))
    echo "$work/$n $program"
done | xargs -P "$jobs" -n 2 sh "$0" --one &
n=0
for program; do # in their order, each as soon as it has ended
    n=$((n + 1))
    out=$work/$n
    until [ -f "$out.status" ]; do sleep 0.2 || sleep 1; done
    status=$(cat "$out.status")
    line=$(grep -E '^[A-Za-z0-9_.-]+: [0-9]+ passed, [0-9]+ failed' "$out" | tail -n 1)
    counts=$(printf '%s\n' "$line" |
        sed -e 's/^[^:]*: \([0-9]*\) passed, \([0-9]*\) failed/\1 \2/' \
            -e 's/\( [0-9]*\)\(, \([0-9]*\) skipped\)\{0,1\}.*$/\1 \3/')
    set -- ${counts:-0 0 0}
    bad=$2
    if [ -z "$line" ] || { [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; }; then
        bad=$((bad + 1))
        echo "$program: ended with status $status${line:+ in spite of its count}"
    fi
    if [ "$bad" -gt 0 ]; then
        cat "$out"
    else
        grep '^note:' "$out" # what it measured
        grep '^skipped:' "$out" | head -n 3
        [ "${3:-0}" -le 3 ] || echo "skipped: ... and $(($3 - 3)) more of $program"
        echo "$line"
    fi
    passed=$((passed + $1)) failed=$((failed + bad)) skipped=$((skipped + ${3:-0}))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
