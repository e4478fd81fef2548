#!/bin/sh
# Static analysis of the header and the CLI (make analyze).
. tests/t.sh

if command -v scan-build >/dev/null && command -v clang >/dev/null; then
    # It does not look into variadic functions, so it believes that fci_fail, which returns the code
    # it was given, may return FC_OK, and follows failures as if they were successes. The checkers
    # that speak of such paths alone are off; tests fail every allocation and call in turn (make
    # check, make faults), where a path of that kind would crash.
    off=
    for checker in core.NullDereference core.CallAndMessage core.NonNullParamChecker \
        core.UndefinedBinaryOperatorResult \
        core.uninitialized.Branch; do off="$off -disable-checker $checker"; done
    # shellcheck disable=SC2086
    t_ok "scan-build" scan-build --status-bugs $off -o "$t_dir/scan" clang -std=c99 -O0 \
        -c examples/finercut.c -o "$t_dir/s.o"
else
    t_skip "scan-build" "not installed"
fi
t_end scan_build
