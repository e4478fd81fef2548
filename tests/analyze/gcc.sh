#!/bin/sh
# Static analysis of the header and the CLI (make analyze).
. tests/t.sh
CC=${CC:-cc}

if echo 'int x;' | $CC -fanalyzer -x c -c - -o /dev/null 2>/dev/null; then
    # Blocks of memory are handed out from behind the line that holds their size, where gcc 12 loses
    # sight of them and calls that a leak. Leaks are looked for by `make check` (LeakSanitizer) and
    # by the tests that fail every allocation in turn. It follows twice as many points of paths as
    # the code has; gcc itself takes five times as many, which is 15 GB and 9 minutes here.
    t_ok "gcc -fanalyzer" $CC -std=c99 -O1 -Wall -Wextra -fanalyzer \
        --param=analyzer-bb-explosion-factor=2 -Wno-analyzer-malloc-leak -Werror \
        -c examples/finercut.c -o "$t_dir/a.o"
else
    t_skip "gcc -fanalyzer" "$CC does not have it"
fi
t_end gcc
