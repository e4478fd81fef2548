#!/bin/sh
# The header under other compilers, standards, switches and machines (make portability).
. tests/t.sh
CC=${CC:-cc} CLANG=${CLANG:-clang} CXX=${CXX:-c++}
top=$(pwd)
data=$top/tests/data demo=$top/examples/demo
w=$t_dir
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wundef -Wdouble-promotion
    -Wformat=2 -Wwrite-strings -Werror"
c_warnings="$warnings -Wstrict-prototypes -Wvla"

has() {
    command -v "$1" >/dev/null
}

works() { # COMMAND...: can it compile and link anything?
    printf '#include <errno.h>\n#include <stdio.h>\nint main(void) { return puts("") < 0; }\n' >"$w/works.c"
    "$@" "$w/works.c" -o "$w/works" >/dev/null 2>&1
}

printf '#define FINERCUT_IMPLEMENTATION\n#include "%s/finercut.h"\nint main(void) { return fc_build_info() == 0; }\n' "$top" >"$w/impl.c"
echo '[[1,2,3,4,5,6,7,8,9,10],[20,30,40,50,60,70],[7,7,7,1]]' >"$w/tokens.json"

# ---- warnings and standards

for std in c99 c11 c17; do
    # shellcheck disable=SC2086
    {
        t_ok "$CC -std=$std, strict" $CC -std=$std -pedantic-errors $c_warnings -O2 -c "$w/impl.c" -o "$w/impl.o"
        has "$CLANG" && t_ok "$CLANG -std=$std, strict" $CLANG -std=$std -pedantic-errors $c_warnings -Wreserved-identifier \
            -O2 -c "$w/impl.c" -o "$w/impl.o"
    }
done
for file in examples/*.c; do # the format strings of info differ by one word on purpose
    # shellcheck disable=SC2086
    t_ok "$file, strict" $CC -std=c99 -pedantic-errors $c_warnings -Wno-format-nonliteral -O2 -c "$file" -o "$w/x.o"
done
for std in c++11 c++17 c++20; do
    # shellcheck disable=SC2086
    {
        has "$CXX" && t_ok "$CXX -std=$std" $CXX -x c++ -std=$std -pedantic-errors -Wall -Wextra -Werror -O2 -c "$w/impl.c" -o "$w/impl.o"
        has "$CLANG" && t_ok "$CLANG -std=$std" $CLANG -x c++ -std=$std -pedantic-errors -Wall -Wextra -Wno-deprecated -Werror -O2 \
            -c "$w/impl.c" -o "$w/impl.o"
    }
done
has "$CLANG" || t_skip "clang" "not installed"

# ---- what reaches other code: macros, symbols, data

# Macros defined by the header itself that are still there after it.
leaks() {
    $CC -std=c99 -E -dD "$w/impl.c" | awk '/^# [0-9]+ "/ { file = $3 } /^#define / && file ~ /finercut\.h/ { split($2, a, "("); print a[1] }' |
        sort -u >"$w/ours"
    $CC -std=c99 -E -dM "$w/impl.c" | awk '{ split($2, a, "("); print a[1] }' | sort -u >"$w/all"
    comm -12 "$w/ours" "$w/all" | grep -Ev '^(FINERCUT_|FC_|_POSIX_C_SOURCE$|_DEFAULT_SOURCE$|WIN32_LEAN_AND_MEAN$|NOMINMAX$)' >"$w/leaks"
    cat "$w/leaks"
    [ -s "$w/ours" ] && [ ! -s "$w/leaks" ]
}
exports() {
    $CC -std=c99 -O2 -c "$w/impl.c" -o "$w/impl.o" || return 1
    nm -g --defined-only "$w/impl.o" | awk '$3 !~ /^fc_/ && $3 != "main" { print; bad = 1 } END { exit bad }'
}
mutable() { # objects in .data or .bss; tables of pointers sit in .data.rel.ro
    objdump -t "$w/impl.o" | awk '$0 ~ /[ \t]\.(data|bss|tdata|tbss|COMMON)[.a-zA-Z0-9_]*[ \t]/ && $0 !~ /\.data\.rel\.ro/ && $0 !~ / d / { print; bad = 1 }
        END { exit bad }'
}
t_ok "only FINERCUT_ and FC_ macros stay" leaks
t_ok "only fc_ functions are exported" exports
t_ok "no mutable data" mutable

cat >"$w/a.c" <<END
#define FINERCUT_STATIC
#include "$w/impl_only.h"
const char *other(void);
int main(void) { return fc_build_info() == 0 || other() == 0; }
END
cat >"$w/b.c" <<END
#define FINERCUT_STATIC
#include "$w/impl_only.h"
const char *other(void);
const char *other(void) { return fc_build_info(); }
END
printf '#define FINERCUT_IMPLEMENTATION\n#include "%s/finercut.h"\n#include "%s/finercut.h"\n' "$top" "$top" >"$w/impl_only.h"
# shellcheck disable=SC2086
t_ok "FINERCUT_STATIC twice in one program" $CC -std=c99 $c_warnings -O1 "$w/a.c" "$w/b.c" -o "$w/static" -lm -pthread
t_ok "that program runs" "$w/static"
printf '#include "%s/finercut.h"\nint main() { return fc_build_info() == 0; }\n' "$top" >"$w/user.cc"
printf '#define FINERCUT_IMPLEMENTATION\n#include "%s/finercut.h"\n' "$top" >"$w/finercut.c"
t_ok "implementation in C" $CC -std=c99 -O1 -c "$w/finercut.c" -o "$w/finercut.o"
has "$CXX" && t_ok "used from C++" $CXX -Wall -Wextra -Werror "$w/user.cc" "$w/finercut.o" -o "$w/user" -lm -pthread && t_ok "that program runs" "$w/user"

# ---- switches, optimisation, machines: the same plan from every build

plan() { # FINERCUT prune [FLAG...]: what it removes from the small model, in order
    rm -f "$w/plan.json"
    "$@" "$data/llama_f16_sharded" --tokens "$w/tokens.json" --compute f32 --quiet -o "$w/plan.json" && order "$w/plan.json"
}
order() {
    sed -n 's/.*"removed": *"\([^"]*\)".*/\1/p' "$1"
}
agrees() { # FINERCUT prune [FLAG...]: runs, and removes in the order of the first build
    plan "$@" >"$w/order" || return 1
    [ -s "$w/first" ] && diff "$w/first" "$w/order"
}
build() { # WHAT COMMAND...: the CLI, and the order it removes in
    what=$1
    shift
    t_ok "$what builds" "$@" examples/finercut.c -o "$w/cli" -lm
    [ -x "$w/cli" ] && t_ok "$what runs" agrees "$w/cli" prune
    rm -f "$w/cli"
}

$CC -std=c99 -O2 examples/finercut.c -o "$w/reference" -lm -pthread
plan "$w/reference" prune >"$w/first"
for level in 0 1 2 3; do
    build "$CC -O$level" $CC -std=c99 -O$level -pthread
    has "$CLANG" && build "$CLANG -O$level" $CLANG -std=c99 -O$level -pthread
done
for switch in FINERCUT_NO_THREADS FINERCUT_NO_SIMD FINERCUT_NO_MMAP FINERCUT_NO_POSIX FINERCUT_STATIC NDEBUG; do
    build "-D$switch" $CC -std=c99 -O1 -pthread -D$switch -Wall -Wextra -Werror
done
for simd in scalar avx2 avx512; do t_ok "--simd $simd agrees" agrees "$w/reference" prune --simd $simd; done

m32="$CC -m32"
works $m32 || m32="$CC -m32 -isystem /usr/include/x86_64-linux-gnu" # where only part of multilib is installed
if works $m32; then build "32 bits" $m32 -std=c99 -O1 -msse2 -mfpmath=sse -pthread; else t_skip "32 bits" "$CC -m32 does not link"; fi

if has x86_64-w64-mingw32-gcc; then
    t_ok "Windows builds" x86_64-w64-mingw32-gcc -std=c99 -O1 -Wall -Wextra -Werror -D__USE_MINGW_ANSI_STDIO=1 examples/finercut.c -o "$w/cli.exe"
else
    t_skip "Windows" "no x86_64-w64-mingw32-gcc"
fi

# ---- 64-bit ARM under emulation: all tests, and the demo

arm() {
    qemu-aarch64-static "$w/arm" "$@"
}
arm_tests() {
    programs=
    for file in tests/test_*.c; do
        program=$w/$(basename "$file" .c)
        aarch64-linux-gnu-gcc -std=c99 -O2 -static -DFINERCUT_TESTING "$file" -o "$program" -lm -pthread || return 1
        programs="$programs $program"
    done
    # shellcheck disable=SC2086
    EMULATOR=qemu-aarch64-static FINERCUT_SLOW=1 FINERCUT_SHARED=none sh tests/run.sh $programs
}
arm_demo() {
    arm prune "$demo" --text "$demo/calibration.txt" --samples 2 --length 64 --remove 2 --compute f32 -o "$w/arm.json" &&
        "$w/reference" prune "$demo" --text "$demo/calibration.txt" --samples 2 --length 64 --remove 2 --compute f32 -o "$w/x86.json" &&
        [ "$(order "$w/arm.json")" = "$(order "$w/x86.json")" ]
}
if has aarch64-linux-gnu-gcc && has qemu-aarch64-static; then
    t_ok "ARM builds" aarch64-linux-gnu-gcc -std=c99 -O2 -Wall -Wextra -Werror -static examples/finercut.c -o "$w/arm" -lm -pthread
    t_ok "ARM runs" agrees qemu-aarch64-static "$w/arm" prune
    t_ok "ARM passes the tests" arm_tests
    [ -f "$demo/model.safetensors" ] && t_ok "ARM prunes the demo as x86 does" arm_demo
else
    t_skip "ARM" "no aarch64-linux-gnu-gcc or qemu-aarch64-static"
fi
t_end portability
