#!/bin/sh
# The code in finercut.h's manual and in README.md compiles, and the quick start prunes the demo
# model, by less text. Each begins with the implementation, which is compiled once for all, with the
# words that <windows.h> takes away.
. tests/t.sh
CC=${CC:-cc}
printf '#define FINERCUT_IMPLEMENTATION\n#include "finercut.h"\n' >"$t_dir/finercut.c"
t_ok "the implementation compiles" $CC -std=c99 -O0 -DFINERCUT_NO_AVX512 -Wall -Wextra \
    -Werror -Dnear= -Dfar= -I. -c \
    "$t_dir/finercut.c" -o "$t_dir/finercut.o"
compiles() { # FILE.c FLAG...: after those two lines; the implementation includes what these do
    case $(grep '^#' "$1" | sed -e 's, *//.*,,' -e 2q | tr '\n' ' ') in
    '#define FINERCUT_IMPLEMENTATION #include "'*'finercut.h" ') ;;
    *) echo "it does not begin with the implementation"; return 1 ;;
    esac
    sed '/^#define FINERCUT_IMPLEMENTATION/d' "$1" >"${1%.c}_only.c"
    shift
    $CC -std=c99 -Wall -Wextra -Werror -I. -Iexamples -include stdio.h -include stdlib.h \
        -include string.h "$@"
}

sed -n '/^   QUICK START/,/^   WHAT IT DOES/p' finercut.h | sed -n 's/^       //p' |
    sed 's/ 10, 256,/ 2, 24,/' >"$t_dir/quick.c"
t_ok "the quick start compiles" compiles "$t_dir/quick.c" "$t_dir/quick_only.c" \
    "$t_dir/finercut.o" -o "$t_dir/quick" -lm -pthread
quick() {
    cd "$t_dir" && ./quick "$top/examples/demo" "$top/examples/demo/calibration.txt" &&
        grep -q '"step": 6,' plan.json
}
t_ok "the quick start prunes" quick
cd "$top" || exit 1

# README's lines are the body of a function; what they make is not freed there.
sed -n '/^## In your own program/,/^Check errors/p' README.md |
    sed -n 's/^    //p' >"$t_dir/body"
{
    grep '^#' "$t_dir/body"
    echo 'int main(void) {'
    grep -v '^#' "$t_dir/body"
    echo 'return 0; }'
} >"$t_dir/readme.c"
t_ok "README's code compiles" compiles "$t_dir/readme.c" -fsyntax-only "$t_dir/readme_only.c"

# The example that gives the library everything: the same plan as the command line's, and its stop
# button.
model=tests/data/llama_f16.gguf text=examples/demo/calibration.txt
cp examples/embed.c "$t_dir/embed.c"
t_ok "the embedding compiles" compiles "$t_dir/embed.c" "$t_dir/embed_only.c" \
    "$t_dir/finercut.o" -o "$t_dir/embed" -lm -pthread
steps() { # to a few digits, as compilers differ in how they round
    sed -n 's/\("score": [0-9.]\{8\}\).*/\1/; /"step":/p' "$1"
}
embeds() {
    "$t_dir/embed" $model $text 2>"$t_dir/err" >"$t_dir/out" &&
        grep -q 'bytes of SVG' "$t_dir/out" && grep -q searching "$t_dir/err" &&
        "$finercut" prune $model --text $text --samples 4 --length 64 --remove 25% --quiet \
            -o "$t_dir/cli.json" &&
        steps "$t_dir/out" >"$t_dir/a" && [ -s "$t_dir/a" ] &&
        steps "$t_dir/cli.json" | diff - "$t_dir/a"
}
stops() {
    ! "$t_dir/embed" $model $text -1 2>"$t_dir/err" >"$t_dir/out" &&
        grep -q '^cancelled' "$t_dir/err" && [ ! -s "$t_dir/out" ]
}
t_ok "memory to memory" embeds
t_ok "the stop button" stops
t_ok "in 60 lines" [ "$(wc -l <examples/embed.c)" -le 60 ]
t_end snippets
