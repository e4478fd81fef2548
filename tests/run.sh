#!/bin/sh
# usage: run.sh PROGRAM...   runs tests and sums what they count
# Each prints `name: N passed, N failed[, N skipped]` as its last such line; a program that prints none,
# or dies, or fails without a failed check counts as one more failure. The last line is the sum.
passed=0 failed=0 skipped=0
out=${TMPDIR:-/tmp}/finercut-run.$$
trap 'rm -f "$out"' EXIT
trap 'exit 1' INT TERM

for program; do
    case $program in
    *.sh) sh "$program" >"$out" 2>&1 ;;
    *.py) "${PYTHON:-python3}" "$program" >"$out" 2>&1 ;;
    *) ${EMULATOR:-} "$program" >"$out" 2>&1 ;;
    esac
    status=$?
    line=$(grep -E '^[A-Za-z0-9_.-]+: [0-9]+ passed, [0-9]+ failed' "$out" | tail -n 1)
    counts=$(printf '%s\n' "$line" | sed -n 's/^[^:]*: \([0-9]*\) passed, \([0-9]*\) failed\(, \([0-9]*\) skipped\)\{0,1\}.*$/\1 \2 \4/p')
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
