#!/bin/sh
# What finercut.h takes: bytes of text (code, tables, messages) and data at -Os, whole and by
# switch, for the processors whose compiler is there (make sizes).
#   sh tools/sizes.sh [COMPILER...]     default: gcc for x86-64, aarch64 and armhf
. tests/t.sh
[ $# -gt 0 ] || set -- "${CC:-cc}" aarch64-linux-gnu-gcc arm-linux-gnueabihf-gcc
switches=$(sed -n 's/^     \(FINERCUT_NO_[A-Z0-9]*\) .*/-D\1/p' finercut.h)
parts=$(sed -n '/^     Without a part/,/CONCEPTS/s/^     \(FINERCUT_NO_[A-Z0-9]*\) .*/-D\1/p' \
    finercut.h)
printf '#define FINERCUT_IMPLEMENTATION\n#include "%s/finercut.h"\n' "$(pwd)" >"$t_dir/impl.c"

line() { # COMPILER WHAT FLAG...: one line of the table
    compiler=$1 what=$2
    shift 2
    "$compiler" -std=c99 -Os -Wno-psabi "$@" -c "$t_dir/impl.c" -o "$t_dir/impl.o" || exit 1
    size "$t_dir/impl.o" >"$t_dir/size" || exit 1
    awk -v c="$compiler" -v what="$what" \
        'NR == 2 { printf "%-26s %-24s %8d %8d\n", c, what, $1, $2 }' "$t_dir/size"
}

printf '%-26s %-24s %8s %8s\n' compiler without text data
for compiler; do
    command -v "$compiler" >/dev/null || { echo "skipped: $compiler: not installed"; continue; }
    line "$compiler" "nothing"
    for switch in $switches; do line "$compiler" "${switch#-DFINERCUT_NO_}" "$switch"; done
    # shellcheck disable=SC2086
    line "$compiler" "all parts" $parts
    # shellcheck disable=SC2086
    line "$compiler" "all parts, SIMD" $parts -DFINERCUT_NO_SIMD
    # shellcheck disable=SC2086
    line "$compiler" "all switches" $switches
done
