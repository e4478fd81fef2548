#!/bin/sh
# Static analysis of the header and the CLI (make analyze).
. tests/t.sh

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
t_end clang_tidy
