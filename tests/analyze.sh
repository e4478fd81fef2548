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
if command -v clang-tidy >/dev/null; then
    # By name, so that a newer clang-tidy says nothing else. Left out of bugprone and cert, because
    # what they say of this code is no mistake:
    #   easily-swappable-parameters              numbers stand beside numbers in arithmetic
    #   implicit-widening-of-multiplication      places in a block of at most 256 weights, and
    #                                            2 * block below a limit on blocks
    #   macro-parentheses                        X(i) makes names of variables of its argument
    #   cert-err33-c                             a text that is cut off is meant by snprintf;
    #                                            streams are asked by ferror at the end
    #   not-null-terminated-result               texts have lengths here
    #   misplaced-widening-cast                  size_t shown as unsigned long long: as wide where
    #                                            the product could be large
    #   reserved-identifier, dcl37-c, dcl51-cpp  _POSIX_C_SOURCE, _DEFAULT_SOURCE are the system's
    #   narrowing-conversions, signed-char-misuse, str34-c
    #                                            bytes of text compared with ASCII; weights of eight
    #                                            bits
    #   sizeof-expression, integer-division, branch-clone, flp30-c
    #                                            one each: an array of pointers grows, pieces are
    #                                            counted, two reasons to escape a byte, a loop over
    #                                            powers of two
    checks=$(for check in bugprone-assert-side-effect bugprone-bad-signal-to-kill-thread \
        bugprone-bool-pointer-implicit-conversion \
        bugprone-incorrect-roundings bugprone-infinite-loop bugprone-macro-repeated-side-effects \
        bugprone-misplaced-operator-in-strlen-in-alloc \
        bugprone-misplaced-pointer-arithmetic-in-alloc bugprone-multiple-statement-macro \
        bugprone-no-escape bugprone-posix-return bugprone-redundant-branch-condition \
        bugprone-signal-handler bugprone-sizeof-container bugprone-spuriously-wake-up-functions \
        bugprone-string-constructor bugprone-string-integer-assignment \
        bugprone-string-literal-with-embedded-nul bugprone-suspicious-enum-usage \
        bugprone-suspicious-include bugprone-suspicious-memory-comparison \
        bugprone-suspicious-memset-usage bugprone-suspicious-missing-comma \
        bugprone-suspicious-semicolon bugprone-suspicious-string-compare \
        bugprone-swapped-arguments bugprone-terminating-continue bugprone-too-small-loop-variable \
        bugprone-undefined-memory-manipulation bugprone-unused-return-value cert-con36-c \
        cert-dcl03-c cert-env33-c cert-err34-c cert-exp42-c cert-fio38-c cert-flp37-c \
        cert-msc30-c cert-msc32-c cert-pos44-c cert-pos47-c cert-sig30-c; do
        printf ',%s' "$check"
    done)
    t_ok "clang-tidy" clang-tidy --quiet "--checks=-*$checks" '--warnings-as-errors=*' \
        '--header-filter=finercut\.h' examples/finercut.c -- -std=c99
else
    t_skip "clang-tidy" "not installed"
fi
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
t_end analyze
