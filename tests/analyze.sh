#!/bin/sh
# Static analysis of the header and the CLI (make analyze).
. tests/t.sh
CC=${CC:-cc}

if echo 'int x;' | $CC -fanalyzer -x c -c - -o /dev/null 2>/dev/null; then
    # Blocks of memory are handed out from behind the line that holds their size, where gcc 12 loses sight of them and calls
    # that a leak. Leaks are looked for by `make check` (LeakSanitizer) and by the tests that fail every allocation in turn.
    t_ok "gcc -fanalyzer" $CC -std=c99 -O1 -Wall -Wextra -fanalyzer -Wno-analyzer-malloc-leak -Werror \
        -c examples/finercut.c -o "$t_dir/a.o"
else
    t_skip "gcc -fanalyzer" "$CC does not have it"
fi
if command -v cppcheck >/dev/null; then
    # Suppressed: what it says of every variable that is filled through a pointer (-fanalyzer knows better).
    t_ok "cppcheck" cppcheck --quiet --std=c99 --enable=warning,portability --error-exitcode=1 --suppress=missingIncludeSystem \
        --suppress=uninitvar --suppress=uninitStructMember --suppress=ctuuninitvar --suppress=legacyUninitvar \
        --suppress=pointerSize -D__GNUC__=12 -D__x86_64__=1 -D__linux__=1 examples/finercut.c
else
    t_skip "cppcheck" "not installed"
fi
t_end analyze
