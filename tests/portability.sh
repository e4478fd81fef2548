#!/bin/sh
# The header under other compilers, standards, switches and machines (make portability).
#   sh tests/portability.sh [PIECE...]     all pieces, or those named (two at a time on two cores)
# Plans and exports of the reference build on this machine's scalar kernels are what every other
# build has to give again: in the same order of removal everywhere, and byte for byte where the
# arithmetic is the same.
. tests/t.sh
CC=${CC:-cc} CLANG=${CLANG:-clang} CXX=${CXX:-c++}
w=$t_dir
ref=${PORTABILITY_REFERENCE:-$w}
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wundef
    -Wdouble-promotion -Wformat=2 -Wwrite-strings -Werror"
c_warnings="$warnings -Wstrict-prototypes -Wvla"
pieces="gcc clang symbols levels switches tables i386 musl tcc windows
    aarch64 armhf riscv64 s390x ppc64"

has() {
    command -v "$1" >/dev/null
}

works() { # COMMAND...: can it compile and link anything?
    printf '#include <errno.h>\n#include <stdio.h>\nint main(void) { return puts("") < 0; }\n' \
        >"$w/works.c"
    "$@" "$w/works.c" -o "$w/works" >/dev/null 2>&1
}

cat >"$w/impl.c" <<END
#define FINERCUT_IMPLEMENTATION
#include "$top/finercut.h"
int main(void) { return fc_build_info() == 0; }
END

# ---- the same plans from every build

order() { # PLAN: what it removes, in order
    sed -n 's/.*"removed": *"\([^"]*\)".*/\1/p' "$1"
}
plan() { # FINERCUT prune [FLAG...]: what it removes from the small model
    "$@" "$data/llama_f16_sharded" --tokens "$ref/tokens.json" --compute f32 --quiet --force \
        -o "$w/plan.json" && order "$w/plan.json"
}
agrees() { # FINERCUT prune [FLAG...]: runs, and removes in the order of the reference
    plan "$@" >"$w/order" || return 1
    [ -s "$ref/order" ] && diff "$ref/order" "$w/order"
}
build() { # WHAT COMMAND...: the CLI, and the order it removes in
    what=$1
    shift
    rm -f "$w/cli"
    t_ok "$what builds" "$@" examples/finercut.c -o "$w/cli" -lm
    [ -x "$w/cli" ] && t_ok "$what runs" agrees "$w/cli" prune
}

# Plans of three models, but for the time they took, what is exported by them, the last one healed,
# and ids of a text: as lines.
golden() { # FINERCUT...
    for case in llama_f16_sharded:hf llama_f16_sharded:gguf llama_q4_0.gguf:hf-masked \
        llama_q4_0.gguf:gguf gemma2:hf-masked gemma2:gguf-masked; do
        model=$data/${case%:*}
        rm -rf "$w/golden.json" "$w/out"
        "$@" prune "$model" --tokens "$ref/tokens.json" --simd scalar --compute f32 \
            --search exhaustive --threads 1 --quiet -o "$w/golden.json" &&
            "$@" export "$model" --plan "$w/golden.json" --remove 1 --format "${case#*:}" --quiet \
            -o "$w/out" || return 1
        sed 's/"seconds": [^},]*//' "$w/golden.json"
        (cd "$w" && find out -type f | sort | xargs cksum)
    done
    "$@" heal "$model" --plan "$w/golden.json" --remove 1 --tokens "$ref/tokens.json" --own 0 \
        --simd scalar --compute f32 --threads 1 --quiet --force -o "$w/healed" || return 1
    cksum <"$w/healed"
    [ ! -f "$demo/tokenizer.json" ] || "$@" tokenize "$demo" --text "$demo/heldout.txt" | cksum
}
same_bytes() { # FINERCUT...
    golden "$@" >"$w/golden" 2>"$w/golden.err" || { cat "$w/golden.err"; return 1; }
    [ -s "$ref/golden" ] && diff "$ref/golden" "$w/golden"
}

# ---- warnings and standards. The optimiser's warnings need one standard only.

strict() { # CC FLAG...
    for std in c99 c11 c17; do
        level=-O0
        [ $std != c99 ] || level=-O2
        # shellcheck disable=SC2086
        t_ok "$1 -std=$std, strict" "$@" -std=$std -pedantic-errors $c_warnings $level \
            -c "$w/impl.c" -o "$w/impl.o"
    done
}
strict_cxx() { # CXX FLAG...
    for std in c++11 c++14 c++17 c++20; do
        t_ok "$1 -std=$std" "$@" -x c++ -std=$std -pedantic-errors -Wall -Wextra -Werror -O0 \
            -c "$w/impl.c" -o "$w/impl.o"
    done
}
frames() { # CC: only the kernels for AVX2 keep more, 256 weights of 32 rows
    t_ok "$1: frames of at most 4 KB" "$1" -std=c99 -O2 -DFINERCUT_NO_SIMD -Werror \
        -Wframe-larger-than=4096 -c "$w/impl.c" -o "$w/impl.o"
}
piece_gcc() {
    strict "$CC"
    frames "$CC"
    for file in examples/*.c; do # the format strings of info differ by one word on purpose
        [ "$file" != examples/finercut_mpi.c ] || continue # needs MPI: tests/test_mpi.sh
        how="-fsyntax-only"
        [ "$file" != examples/finercut.c ] || how="-O2 -Wframe-larger-than=8192 -c -o $w/x.o"
        # shellcheck disable=SC2086
        t_ok "$file, strict" "$CC" -std=c99 -pedantic-errors $c_warnings -Wno-format-nonliteral \
            $how "$file"
    done
    has "$CXX" && strict_cxx "$CXX" || t_skip "C++" "no $CXX"
}
piece_clang() {
    has "$CLANG" || { t_skip "clang" "not installed"; return; }
    strict "$CLANG" -Wreserved-identifier
    frames "$CLANG"
    strict_cxx "$CLANG" -Wno-deprecated
    # What this machine cannot run is compiled at least: 32-bit ARM's NEON table is there with -mfpu
    # alone.
    if printf '#include <errno.h>\n#include <stdio.h>\n' |
        "$CLANG" --target=arm-linux-gnueabihf -mfpu=neon -fsyntax-only -x c - 2>/dev/null; then
        t_ok "$CLANG for 32-bit ARM" "$CLANG" --target=arm-linux-gnueabihf -mfpu=neon -std=c99 \
            -Wall -Wextra -Werror -fsyntax-only "$w/impl.c"
    else
        t_skip "$CLANG for 32-bit ARM" "no headers"
    fi
}

# ---- what reaches other code: symbols, data (macros: tests/test_c_library.sh)

exports() { # names do not depend on the optimiser
    "$CC" -std=c99 -O0 -c "$w/impl.c" -o "$w/impl.o" || return 1
    nm -g --defined-only "$w/impl.o" |
        awk '$3 !~ /^fc_/ && $3 != "main" { print; bad = 1 } END { exit bad }'
}
mutable() { # objects in .data or .bss; tables of pointers sit in .data.rel.ro
    objdump -t "$w/impl.o" |
        awk '/\.data\.rel\.ro/ || / d / { next }
            /[ \t]\.(data|bss|tdata|tbss|COMMON)[.a-zA-Z0-9_]*[ \t]/ { print; bad = 1 }
            END { exit bad }'
}
piece_symbols() {
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
    printf '#define FINERCUT_IMPLEMENTATION\n#include "%s/finercut.h"\n#include "%s/finercut.h"\n' \
        "$top" "$top" >"$w/impl_only.h"
    # shellcheck disable=SC2086
    t_ok "FINERCUT_STATIC twice in one program" "$CC" -std=c99 $c_warnings -O0 "$w/a.c" "$w/b.c" \
        -o "$w/static" -lm -pthread
    t_ok "that program runs" "$w/static"
    printf '#include "%s/finercut.h"\nint main() { return fc_build_info() == 0; }\n' "$top" \
        >"$w/user.cc"
    printf '#define FINERCUT_IMPLEMENTATION\n#include "%s/finercut.h"\n' "$top" >"$w/finercut.c"
    t_ok "implementation in C" "$CC" -std=c99 -O0 -c "$w/finercut.c" -o "$w/finercut.o"
    has "$CXX" && t_ok "used from C++" "$CXX" -Wall -Wextra -Werror "$w/user.cc" "$w/finercut.o" \
        -o "$w/user" -lm -pthread && t_ok "that program runs" "$w/user"
}

# ---- optimisation, switches, kernel tables

small() { # code of the last build, where nothing is optimised away: megabytes take half a minute
    size "$w/cli" | awk 'NR == 2 { print; exit !($1 < 4e6) }'
}
piece_levels() { # gcc -O2 is the reference, -O1 every other build here
    for level in 0 g s 3; do # silent in the builds of others, which warn by their own level
        build "$CC -O$level" "$CC" -std=c99 -O$level -Wall -Wextra -Werror -pthread
        t_ok "$CC -O$level: less than 4 MB" small
    done
    has "$CLANG" || { t_skip "optimisation by clang" "no $CLANG"; return; }
    for level in 0 3; do # -O2: see clang
        build "$CLANG -O$level" "$CLANG" -std=c99 -O$level -pthread
    done
}
undefined() { # with FINERCUT_NO_POSIX: what is called outside of C99's library
    "$CC" -std=c99 -O1 -DFINERCUT_NO_POSIX -c "$w/impl.c" -o "$w/impl.o" || return 1
    nm -u "$w/impl.o" | awk '{ print $NF }' >"$w/undefined"
    printf '%s\n' __assert_fail __errno_location _GLOBAL_OFFSET_TABLE_ sincos sincosf \
        abort acos asin atan atan2 bsearch calloc ceil clock cos cosf exp expf fabs fclose ferror \
            fflush \
        fgetc floor fmaf fmax fmaxf fmin fminf fopen fread free frexp fseek ftell fwrite ldexp \
        localtime log log10 logf \
        lrintf malloc memchr memcmp memcpy memmove memset modf pow powf printf qsort realloc \
        remove rename rint roundf sin sinf snprintf sqrt sqrtf stdin strchr strcmp strcpy strcspn \
        strerror strlen strncmp strpbrk strrchr strspn strstr strtod strtoul strtoull tanh tanhf \
        time vsnprintf >"$w/c99"
    [ -s "$w/undefined" ] && ! grep -Fvx -f "$w/c99" "$w/undefined"
}
# Commands that a switch takes from the command line; their parts are gone.
gone() { # SWITCH
    case $1 in
    *_EXPORT) echo export ;;
    *_REPORT) echo report study ;;
    *_BENCH) echo bench ;;
    *_GENERATE) echo generate bench heal study ;;
    *_HEAL) echo heal ;;
    *_TASKS | *_STUDY) echo study ;;
    *_TOKENIZER) echo tokenize generate export study ;;
    esac
}
commands() { # COMMAND...: these are gone, say so with status 2, and all others are there
    "$w/cli" --help >"$w/help" || return 1
    for command in info prune eval logits tokenize report generate bench export heal study; do
        "$w/cli" "$command" --help >"$w/out" 2>"$w/err"
        status=$?
        case " $* " in
        *" $command "*)
            [ $status -eq 2 ] && grep -q "$command: built without it" "$w/err" &&
                ! grep -q "^    $command " "$w/help" ||
                    { echo "$command: status $status"; return 1; } ;;
        *)
            [ $status -eq 0 ] && grep -q "^    $command " "$w/help" ||
                { echo "$command: status $status"; return 1; } ;;
        esac
    done
}
textless() {
    for command in "" prune eval; do # "": the help of all
        "$w/cli" $command --help >"$w/out" && ! grep -e --text "$w/out" || return 1
    done
}
refuses() { # SWITCH: a model of such a kind fails, and the message names the switch
    ! "$w/cli" prune "$data/llama_q4_0.gguf" --tokens "$ref/tokens.json" --force -o "$w/no.json" \
        >"$w/out" 2>&1 && grep -q "($1)" "$w/out"
}
without() { # WHAT FLAG...: the command line and the header under three compilers
    what=$1
    shift
    build "$what" "$CC" -std=c99 -O0 -pthread "$@" -Wall -Wextra -Werror
    has "$CLANG" && t_ok "$what: $CLANG" "$CLANG" -std=c99 "$@" -Wall -Wextra -Werror \
        -fsyntax-only examples/finercut.c
    has "$CXX" && t_ok "$what: C++" "$CXX" -x c++ -std=c++11 "$@" -Wall -Wextra -Werror \
        -fsyntax-only "$w/impl.c"
}
piece_switches() {
    t_ok "FINERCUT_NO_POSIX calls C99's library only" undefined
    switches=$(sed -n 's/^     \(FINERCUT_NO_[A-Z0-9]*\) .*/\1/p' finercut.h)
    all= every=
    for switch in $switches; do
        all="$all -D$switch" every="$every $(gone "$switch")"
        without "-D$switch" "-D$switch"
        # shellcheck disable=SC2046
        t_ok "-D$switch: commands" commands $(gone "$switch")
        case $switch in
        *_SIMD) t_ok "-D$switch: the same bytes" same_bytes "$w/cli" ;;
        *_TOKENIZER) t_ok "-D$switch: no help speaks of text" textless ;;
        *_GGUF | *_QUANTS) t_ok "-D$switch: the error names it" refuses "$switch" ;;
        esac
    done
    for switch in FINERCUT_STATIC NDEBUG; do without "-D$switch" "-D$switch"; done
    # shellcheck disable=SC2086
    without "all switches" $all
    # shellcheck disable=SC2086
    t_ok "all switches: commands" commands $every
    for test in test_architecture test_parallel; do # what needs no part that is gone
        # shellcheck disable=SC2086
        t_ok "all switches: $test builds" "$CC" -std=c99 -O1 -DFINERCUT_TESTING -DFINERCUT_STATIC \
            $all "tests/$test.c" -o "$w/$test" -lm
        t_ok "all switches: $test" "$w/$test"
    done
}
table() { # NAME RUNNER...: the order, where the processor has that table
    simd=$1
    shift
    rm -f "$w/plan.json"
    plan "$@" "$ref/reference" prune --simd "$simd" >"$w/order"
    got=$(sed -n 's/.*"simd": *"\([^"]*\)".*/\1/p' "$w/plan.json")
    if [ "$got" = "$simd" ]; then t_ok "$simd kernels${1:+ under $*}" diff "$ref/order" "$w/order"
    else t_skip "$simd kernels${1:+ under $*}" "the processor has ${got:-nothing that ran}"; fi
}
piece_tables() {
    case $(uname -m) in
    x86_64) for simd in scalar avx2 avx512 avx512bf16 amx; do table $simd; done ;;
    *) t_skip "x86 kernels" "this is $(uname -m)"; return ;;
    esac
    if has qemu-x86_64-static; then
        table avx2 qemu-x86_64-static -cpu max # qemu 7 emulates no AVX-512
        t_ok "a processor without AVX" agrees qemu-x86_64-static -cpu Nehalem "$ref/reference" prune
    else
        t_skip "other x86 processors" "no qemu-x86_64-static"
    fi
}

# ---- other compilers, C libraries and systems on this processor

piece_i386() {
    m32="$CC -m32"
    # shellcheck disable=SC2086
    # where only part of multilib is installed
    works $m32 || m32="$CC -m32 -isystem /usr/include/x86_64-linux-gnu"
    # shellcheck disable=SC2086
    if works $m32; then
        build "32 bits" $m32 -std=c99 -O1 -msse2 -mfpmath=sse -pthread
        [ -x "$w/cli" ] && t_ok "32 bits: the same bytes" same_bytes "$w/cli"
        build "32 bits, x87" $m32 -std=c99 -O1 -march=i686 -mno-sse -pthread
    else
        t_skip "32 bits" "$CC -m32 does not link"
    fi
}
piece_musl() {
    if has musl-gcc; then
        build "musl" musl-gcc -std=c99 -O1 -Wall -Wextra -Werror -static
        [ -x "$w/cli" ] && t_ok "musl: the same bytes" same_bytes "$w/cli"
    else
        t_skip "musl" "no musl-gcc"
    fi
}
piece_tcc() {
    if has tcc; then
        build "tcc" tcc -pthread
        [ -x "$w/cli" ] && t_ok "tcc: the same bytes" same_bytes "$w/cli"
        [ -x "$w/cli" ] && t_ok "tcc: the demo's text" "$w/cli" info "$demo"
    else
        t_skip "tcc" "not installed"
    fi
}
piece_windows() {
    if has x86_64-w64-mingw32-gcc; then
        t_ok "Windows builds" x86_64-w64-mingw32-gcc -std=c99 -O1 -Wall -Wextra -Werror \
            -D__USE_MINGW_ANSI_STDIO=1 examples/finercut.c -o "$w/cli.exe"
    else
        t_skip "Windows" "no x86_64-w64-mingw32-gcc"
    fi
    [ ! -f tests/windows.sh ] || nested tests/windows.sh
}

# ---- other processors under emulation: tests of numbers, kernels and files, and the same bytes

nested() { # COMMAND...: a script's or run.sh's counts are added to ours
    sh "$@" >"$w/nested" 2>&1
    counts=$(sed -n -e 's/^[A-Za-z0-9_.-]*: \([0-9]* passed, \)/\1/' \
        -e 's/^\([0-9]*\) passed, \([0-9]*\) failed\(, \([0-9]*\) skipped\)\{0,1\}.*$/\1 \2 \4/p' \
        "$w/nested" | tail -n 1)
    grep '^skipped:' "$w/nested"
    # shellcheck disable=SC2086
    set -- "$*" ${counts:-0 1 0}
    [ "$3" -eq 0 ] || {
        echo "FAILED: $1"
        grep -v '^skipped:' "$w/nested" | sed 's/^/    /' | tail -n 20
    }
    t_passed=$((t_passed + $2)) t_failed=$((t_failed + $3)) t_skipped=$((t_skipped + ${4:-0}))
}
kernel_test=tests/test_kernel
machine() { # NAME EMULATOR COMPILER FLAG...
    name=$1 emulator=$2
    shift 2
    has "$1" || { t_skip "$name" "no $1"; return; }
    has "$emulator" || { t_skip "$name" "no $emulator"; return; }
    t_ok "$name: what programs call builds" "$@" -O1 -Wall -Wextra -Wno-psabi -Werror \
        -DFINERCUT_TESTING -c tests/private.c -o "$w/private.o"
    echo "#include \"$top/tests/private.h\"" >"$w/private.h"
    t_ok "$name: their header is parsed" "$@" -O0 -static -DFINERCUT_TESTING -DT_LINKED -pthread \
        -x c-header "$w/private.h" -o "$w/private.h.gch"
    programs=
    for source in examples/finercut tests/test_core tests/test_number $kernel_test tests/test_json \
        tests/test_tensorfile tests/test_distance tests/test_misuse; do
        program=$w/${source##*/}
        t_ok "$name: $source builds" "$@" -O0 -Wall -Wextra -Wno-psabi -Werror -static \
            -DFINERCUT_TESTING -DT_LINKED -include "$w/private.h" "$source.c" "$w/private.o" \
            -o "$program" -lm -pthread
        [ "$source" = examples/finercut ] || programs="$programs $program"
    done
    rm -f "$w/cli"
    mv "$w/finercut" "$w/cli" || return
    t_ok "$name runs" agrees "$emulator" "$w/cli" prune
    t_ok "$name: the same bytes" same_bytes "$emulator" "$w/cli"
    export EMULATOR="$emulator" FINERCUT_SLOW=1 FINERCUT_SHARED=none RUN_JOBS=1
    # shellcheck disable=SC2086
    nested tests/run.sh $programs
}
uses() { # SIMD RUNNER...: the last build picks that table by itself, and removes in the same order
    simd=$1
    shift
    plan "$@" "$w/cli" prune >"$w/order" && grep -q "\"simd\": *\"$simd\"" "$w/plan.json" &&
        diff "$ref/order" "$w/order"
}
piece_aarch64() {
    machine aarch64 qemu-aarch64-static aarch64-linux-gnu-gcc -std=c99
    [ -x "$w/cli" ] || return
    t_ok "aarch64: NEON" uses neon qemu-aarch64-static -cpu cortex-a53
    t_ok "aarch64: NEON BF16" uses neon-bf16 qemu-aarch64-static -cpu max
}
# its own -mfpu has no NEON: the table is compiled by function, and asked for at run time
piece_armhf() {
    machine armhf qemu-arm-static arm-linux-gnueabihf-gcc -std=c99
    [ -x "$w/cli" ] || return
    t_ok "armhf: NEON" uses neon qemu-arm-static -cpu cortex-a7
    t_ok "armhf: NEON without fused steps" uses neon qemu-arm-static -cpu cortex-a8
    t_ok "armhf with -mfpu=neon-vfpv4" arm-linux-gnueabihf-gcc -std=c99 -mfpu=neon-vfpv4 -Wall \
        -Wextra -Wno-psabi -Werror -c "$w/impl.c" -o "$w/impl.o"
    t_ok "ARMv6" arm-linux-gnueabihf-gcc -std=c99 -march=armv6+fp -marm -Wall -Wextra -Wno-psabi \
        -Werror -c "$w/impl.c" -o "$w/impl.o"
}
piece_riscv64() {
    machine riscv64 qemu-riscv64-static riscv64-linux-gnu-gcc -std=c99
}
piece_s390x() { # big-endian; -std=c99 computes float in double there, which costs the vector types
    machine s390x qemu-s390x-static s390x-linux-gnu-gcc -std=gnu99
    has s390x-linux-gnu-gcc && has qemu-s390x-static || return
    t_ok "s390x with -std=c99 builds" s390x-linux-gnu-gcc -std=c99 -O1 -Wall -Wextra -Werror \
        -static examples/finercut.c -o "$w/cli" -lm -pthread
    t_ok "s390x with -std=c99 runs" agrees qemu-s390x-static "$w/cli" prune
}
piece_ppc64() { # big-endian
    kernel_test=
    t_skip "test_kernel on ppc64" "it takes minutes there, and runs on s390x"
    machine ppc64 qemu-ppc64-static powerpc64-linux-gnu-gcc -std=c99
}

# ---- all pieces, as many at once as there are cores

if [ -n "${PORTABILITY_REFERENCE:-}" ]; then # one piece, for the run below
    "piece_$1"
    t_end "$1"
    exit
fi
[ $# -gt 0 ] || set -- $pieces
echo '[[1,2,3,4,5,6,7,8,9,10],[20,30,40,50,60,7],[7,7,7,1]]' >"$w/tokens.json"
t_ok "the reference builds" "$CC" -std=c99 -O2 examples/finercut.c -o "$w/reference" -lm -pthread
t_ok "the reference runs" plan "$w/reference" prune
order "$w/plan.json" >"$w/order"
golden "$w/reference" >"$w/golden" 2>/dev/null
export CC CLANG CXX PORTABILITY_REFERENCE="$w"
printf '%s\n' "$@" | xargs -n 1 -P "$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)" \
    sh -c 'sh tests/portability.sh "$1" >"$PORTABILITY_REFERENCE/$1.log" 2>&1; :' sh
for piece; do
    line=$(grep "^$piece: [0-9]* passed" "$w/$piece.log" | tail -n 1)
    grep -v "^$piece: " "$w/$piece.log"
    echo "note: ${line:-$piece: died}"
    counts=$(printf '%s\n' "$line" |
        sed -n 's/^[^:]*: \([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p')
    # shellcheck disable=SC2086
    set -- ${counts:-0 1 0}
    t_passed=$((t_passed + $1)) t_failed=$((t_failed + $2)) t_skipped=$((t_skipped + $3))
done
t_end portability
