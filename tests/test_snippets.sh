#!/bin/sh
# The code in finercut.h's manual and in README.md compiles as it stands, and the quick start prunes
# the demo model.
. tests/t.sh
CC=${CC:-cc}

sed -n '/^   QUICK START/,/^   WHAT IT DOES/p' finercut.h | sed -n 's/^       //p' >"$t_dir/quick.c"
t_ok "the quick start compiles" $CC -std=c99 -O1 -Wall -Wextra -Werror -I. "$t_dir/quick.c" \
    -o "$t_dir/quick" -lm -pthread
top=$PWD
quick() {
    cd "$t_dir" && ./quick "$top/examples/demo" "$top/examples/demo/calibration.txt" &&
        grep -q '"step": 6,' plan.json
}
t_ok "the quick start prunes" quick
cd "$top" || exit 1

# README's lines are the body of a function; what they make is not freed there.
sed -n '/^## In your own program/,/^Check the errors/p' README.md |
    sed -n 's/^    //p' >"$t_dir/body"
{
    grep '^#' "$t_dir/body"
    echo 'int main(void) {'
    grep -v '^#' "$t_dir/body"
    echo 'return 0; }'
} >"$t_dir/readme.c"
t_ok "README's code compiles" $CC -std=c99 -O1 -Wall -Wextra -Werror -I. "$t_dir/readme.c" \
    -o "$t_dir/readme" -lm -pthread
t_end snippets
