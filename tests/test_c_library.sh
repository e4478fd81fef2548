#!/bin/sh
# FINERCUT_NO_POSIX takes the C library and the compiler's own headers only, and makes no system
# call. Of the header's own macros, only the public ones stay defined behind it.
. tests/t.sh
CC=${CC:-cc}
printf '#define FINERCUT_IMPLEMENTATION\n#include "%s/finercut.h"\n' "$(pwd)" >"$t_dir/impl.c"

# FLAG...: headers that finercut.h includes, but for C99's, and system calls in its own lines
foreign() {
    "$CC" -std=c99 "$@" -E "$t_dir/impl.c" >"$t_dir/impl.i" || return 1
    awk '/^# [0-9]+ "/ {
            n = split($3, part, "/")
            gsub(/"/, "", part[n])
            if ($4 == 1 && at == "finercut.h") print part[n]
            at = part[n]
            next
        }
        at == "finercut.h" && /syscall|svc / { print "system call" }' "$t_dir/impl.i" | sort -u |
        grep -Evx -e '(assert|errno|float|limits|math|stdarg|stdbool|stddef|stdint)\.h' \
            -e '(stdio|stdlib|string|time|cpuid|immintrin|arm_neon)\.h'
}
none() {
    foreign "$@" >"$t_dir/foreign"
    cat "$t_dir/foreign"
    [ -s "$t_dir/impl.i" ] && [ ! -s "$t_dir/foreign" ]
}

# Macros defined by the header itself that are still there after it.
leaks() {
    "$CC" -std=c99 -E -dD "$t_dir/impl.c" |
        awk '/^# [0-9]+ "/ { file = $3 }
             /^#define / && file ~ /finercut\.h/ { split($2, a, "("); print a[1] }' |
        sort -u >"$t_dir/ours"
    "$CC" -std=c99 -E -dM "$t_dir/impl.c" |
        awk '{ split($2, a, "("); print a[1] }' | sort -u >"$t_dir/all"
    comm -12 "$t_dir/ours" "$t_dir/all" |
        grep -Ev -e '^(FINERCUT_|FC_)' \
            -e '^(_POSIX_C_SOURCE|_DEFAULT_SOURCE|WIN32_LEAN_AND_MEAN|NOMINMAX)$' \
            -e '^_FILE_OFFSET_BITS$' >"$t_dir/leaks"
    cat "$t_dir/leaks"
    [ -s "$t_dir/ours" ] && [ ! -s "$t_dir/leaks" ]
}

t_ok "only the C library with FINERCUT_NO_POSIX" none -DFINERCUT_NO_POSIX
t_ok "and with FINERCUT_NO_THREADS, too" none -DFINERCUT_NO_POSIX -DFINERCUT_NO_THREADS
case $(uname -s) in
Linux | *BSD | Darwin)
    foreign >"$t_dir/posix"
    t_ok "without it, POSIX's headers are seen here" grep -qx 'pthread.h' "$t_dir/posix"
    ;;
*) t_skip "POSIX's headers" "this is no POSIX system" ;;
esac
t_ok "only FINERCUT_ and FC_ macros stay" leaks

# Reads the implementation with FLAG...; fails, and says WORDS.
refuses() {
    words=$1
    shift
    if "$CC" -std=c99 "$@" -E "$t_dir/impl.c" >"$t_dir/impl.i" 2>"$t_dir/err"; then
        echo "accepted: $*"
        return 1
    fi
    grep -q "$words" "$t_dir/err" || { echo "$*:" && cat "$t_dir/err" && return 1; }
}
for flag in -ffast-math -ffinite-math-only -D__ASSOCIATIVE_MATH__ -D__RECIPROCAL_MATH__ \
    -D_M_FP_FAST; do
    t_ok "$flag is refused" refuses 'breaks its NaN checks' "$flag"
done
t_ok "a whole windows.h before it is refused" refuses 'before <windows.h>' -D_WIN32 -Dhyper=__int64
t_end test_c_library
