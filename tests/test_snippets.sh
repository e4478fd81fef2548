#!/bin/sh
# The code in finercut.h's manual and in README.md compiles as it stands, and the quick start prunes
# the demo model, by less text.
. tests/t.sh
CC=${CC:-cc}

sed -n '/^   QUICK START/,/^   WHAT IT DOES/p' finercut.h | sed -n 's/^       //p' |
    sed 's/ 10, 256,/ 2, 64,/' >"$t_dir/quick.c"
t_ok "the quick start compiles" $CC -std=c99 -O1 -DFINERCUT_STATIC -Wall -Wextra -Werror -I. \
    "$t_dir/quick.c" -o "$t_dir/quick" -lm -pthread
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
t_ok "README's code compiles" $CC -std=c99 -fsyntax-only -Wall -Wextra -Werror -I. "$t_dir/readme.c"

# The example that gives the library everything: the same plan as the command line's, and its stop
# button.
model=tests/data/llama_f16.gguf text=examples/demo/calibration.txt
t_ok "the embedding compiles" $CC -std=c99 -O0 -DFINERCUT_STATIC -Wall -Wextra -Werror \
    examples/embed.c -o "$t_dir/embed" -lm -pthread
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
