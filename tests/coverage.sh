#!/bin/sh
# What of the header the tests run, by room (make coverage): lines and branches, as clang counts
# them. The kernel tables that this processor cannot run are left out: their code is compiled off.
# NEON's never reaches an x86 compiler; `make portability` runs the tests on it under emulation.
# The seeds of the fuzzers are among the tests.
#   COVERAGE_LINES, COVERAGE_BRANCHES: percent that must be reached
#   SCRIPTS: of tests/test_*.sh, those that run the program (default: all)
#   COVERAGE_OUT: folder for what is not reached (uncovered.txt), default build/coverage
. tests/t.sh
CLANG=${CLANG:-clang}
lines=${COVERAGE_LINES:-95} branches=${COVERAGE_BRANCHES:-85}
out=$(pwd)/${COVERAGE_OUT:-build/coverage}
version=$($CLANG -dumpversion 2>/dev/null | cut -d. -f1)

tool() { # NAME: llvm-NAME that fits the compiler
    command -v "llvm-$1-$version" || command -v "llvm-$1"
}
cov=$(tool cov) profdata=$(tool profdata)

off=-DFINERCUT_NO_AVX512
grep -q avx512bw /proc/cpuinfo 2>/dev/null && grep -q amx_bf16 /proc/cpuinfo && off=

# What the tests call is one object, the only one that counts. Tests that compile the header
# themselves do so from a file of one name: the copies of a function that they hold are one to the
# profile, and their counts are added.
compile() { # OUT SOURCE FLAG...
    program=$out/bin/$1 source=$2
    shift 2
    $CLANG -std=c99 -DFINERCUT_TESTING $off -Itests -Iexamples -DFINERCUT_UNIT="\"$top/$source\"" \
        "$@" "$out/unit.c" -o "$program" >"$program.log" 2>&1
}
# Their functions have the names that those of the object have.
counted="${COVERAGE_CFLAGS:--O1} -fprofile-instr-generate -fcoverage-mapping -DFCI_FN=extern
    -DFINERCUT_API=extern"
calls="-fprofile-instr-generate -DT_LINKED"
is_linked() { # SOURCE: the program, too
    [ "$1" = examples/finercut.c ] || { [ -f "$1" ] && ! grep -q '^#include "../finercut.h"' "$1"; }
}
build() { # SOURCE
    # shellcheck disable=SC2086
    if is_linked "$1"; then
        set -- "$1" $calls -include "$out/private.h" "$out/private.o"
    else set -- "$1" $counted; fi
    compile "$(basename "$1" .c)" "$@" -lm -pthread
}
built() { # SOURCE
    program=$out/bin/$(basename "$1" .c)
    cat "$program.log"
    rm "$program.log"
    [ -x "$program" ]
}
build_all() { # SOURCE...: as many at once as there are cores
    cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1) n=0
    for source; do
        build "$source" &
        n=$((n + 1))
        [ $((n % cores)) -ne 0 ] || wait
    done
    wait
    for source; do t_ok "$source builds" built "$source"; done
}

run_tests() {
    FINERCUT=$out/bin/finercut FINERCUT_SHARED=none FINERCUT_SLOW=1 sh tests/run.sh \
        $(cd tests && for t in test_*.c; do
        echo "$out/bin/${t%.c}"
    done) ${SCRIPTS:-tests/test_*.sh} >"$out/tests.log" && return
    grep -Ev ', 0 failed|^note:|^skipped:' "$out/tests.log"
    return 1
}

# Lines and branches by room, from the records of llvm-cov; what is not reached goes to
# uncovered.txt.
count() {
    awk -v uncovered="$out/uncovered.txt" '
        FNR == NR { if ($1 == "//" && $2 == ">>") room[FNR] = $3; text[FNR] = $0; last = FNR; next }
        function room_of(line) {
            while (line > 0 && !(line in room)) line--
            return line ? room[line] : "top"
        }
        function share(hit, of) { return of ? 100 * hit / of : 100 }
        function tell(name, hit, lines, taken, branches) {
            printf "note: %-12s lines %5.1f %% of %5d, branches %5.1f %% of %5d\n", name,
                share(hit, lines), lines, share(taken, branches), branches
        }
        /^SF:/ { ours = $0 ~ /\/finercut\.h$/ }
        ours && /^DA:/ {
            split(substr($0, 4), a, ",")
            r = room_of(a[1]); n_lines[r]++; total_lines++
            if (a[2] > 0) { hit_lines[r]++; total_hit++ }
            else print r ": " a[1] ": " text[a[1]] >uncovered
        }
        ours && /^BRDA:/ {
            split(substr($0, 6), a, ",")
            r = room_of(a[1]); n_branches[r]++; total_branches++
            if (a[4] != "-" && a[4] > 0) { hit_branches[r]++; total_taken++ }
        }
        END {
            for (line = 1; line <= last; line++) if (line in room) {
                r = room[line]
                if (n_lines[r]) tell(r, hit_lines[r], n_lines[r], hit_branches[r], n_branches[r])
            }
            tell("all", total_hit, total_lines, total_taken, total_branches)
        }' finercut.h "$out/lcov"
}

reaches() { # FIELD PERCENT: of the line `all`
    sed -n 's/^note: all *lines *\([0-9.]*\) %.*branches *\([0-9.]*\) %.*/\1 \2/p' "$out/rooms" |
        awk -v field="$1" \
        -v least="$2" '{ print; exit !($field >= least) } END { if (NR == 0) exit 1 }'
}

if [ -n "$cov" ] && [ -n "$profdata" ] && echo 'int main(void) { return 0; }' >"$t_dir/x.c" &&
    $CLANG -fprofile-instr-generate -fcoverage-mapping "$t_dir/x.c" -o "$t_dir/x" 2>/dev/null; then
    rm -rf "$out"
    mkdir -p "$out/bin"
    echo '#include FINERCUT_UNIT' >"$out/unit.c"
    # shellcheck disable=SC2086
    t_ok "what the tests call builds" compile ../private.o tests/private.c $counted -c
    echo "#include \"$top/tests/private.h\"" >"$out/private.h" # parsed once
    # shellcheck disable=SC2086
    t_ok "their header is parsed" $CLANG -std=c99 -DFINERCUT_TESTING $off -Itests -Iexamples \
        $calls -pthread -x c-header "$out/private.h" -o "$out/private.h.gch"
    build_all tests/test_*.c examples/finercut.c
    export LLVM_PROFILE_FILE="$out/raw/%m.profraw"
    t_ok "the tests pass" run_tests
    objects="-object $out/bin/test_core"
    for program in "$out"/bin/test_*; do # the object counts once
        is_linked tests/"${program##*/}".c || objects="$objects -object $program"
    done
    t_ok "profiles merge" "$profdata" merge -o "$out/all.profdata" "$out/raw"
    # shellcheck disable=SC2086
    "$cov" export -format=lcov -instr-profile="$out/all.profdata" $objects >"$out/lcov" \
        2>"$out/errors"
    count | tee "$out/rooms"
    t_ok "lines: $lines %" reaches 1 "$lines"
    t_ok "branches: $branches %" reaches 2 "$branches"
else
    t_skip "coverage" "no $CLANG with its profile runtime, llvm-cov and llvm-profdata"
fi
t_end coverage
