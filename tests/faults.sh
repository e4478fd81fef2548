#!/bin/sh
# The sweep of tests/faults over the command line: build/faults/finercut, and a sample of it over
# build/faults/asan for leaks. By hand: FAULTS=full make faults; FAULT_JOBS=export FAULT_TABLE=1 sh
# tests/faults.sh
b=build/faults cc=${CC:-cc}
if ! printf '#include <features.h>\n#ifndef __GLIBC__\n#error\n#endif\n' |
    $cc -E - >/dev/null 2>&1; then
    echo "skipped: fault sweep: it needs glibc"
    echo "faults: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
$cc -std=c99 -Wall -Wextra -O1 -fPIC -shared tests/faults/preload.c -o $b/preload.so -ldl &&
    $cc -std=c99 -Wall -Wextra -O1 tests/faults/sweep.c -o $b/sweep || exit 1
$b/sweep $b/finercut $b/preload.so tests/data calls kill disk streams >$b/said || status=1
# The addresses of a leak are worth more than its count, so the sanitizer's own status is the
# failure.
ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=1:exitcode=99:allocator_may_return_null=1 \
    FAULTS=${FAULTS:-few} $b/sweep $b/asan $b/preload.so tests/data calls >>$b/said || status=1
grep -v '^faults: [0-9]' $b/said
awk '/^faults: [0-9]/ { passed += $2; failed += $4; skipped += $6 }
    END { print "faults: " passed " passed, " failed " failed, " skipped " skipped" }' $b/said
exit ${status:-0}
