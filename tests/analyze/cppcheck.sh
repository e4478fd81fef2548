#!/bin/sh
# Static analysis of the header and the CLI (make analyze).
. tests/t.sh

if command -v cppcheck >/dev/null; then
    # Suppressed: what it says of every variable that is filled through a pointer (-fanalyzer knows
    # better).
    t_ok "cppcheck" cppcheck --quiet --std=c99 --enable=warning,portability --error-exitcode=1 \
        --suppress=missingIncludeSystem \
        --suppress=uninitvar --suppress=uninitStructMember --suppress=ctuuninitvar \
        --suppress=legacyUninitvar --suppress=pointerSize -D__GNUC__=12 -D__x86_64__=1 \
        -D__linux__=1 examples/finercut.c
else
    t_skip "cppcheck" "not installed"
fi
t_end cppcheck
