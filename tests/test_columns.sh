#!/bin/sh
# Lines have at most 100 columns, functions at most 50 lines, and no condition assigns.
. tests/t.sh
lines="Makefile .ci/run .clang-format examples/*.sh tests/*.sh tests/fuzz/*.dict tests/fuzz/*.txt
    tools/*.py tools/*.sh tools/*.c tools/*.txt finercut.h examples/*.c tests/*.[ch]
    tests/f*/*.[ch]"
sources="finercut.h examples/*.c"
spared=tools/modeling_finercut.py # exports carry its bytes

narrow() { # FILE; a character of UTF-8 is its one byte that continues none
    LC_ALL=C tr -d '\200-\277' <"$1" |
        LC_ALL=C awk -v file="$1" 'length($0) > 100 { print file ":" FNR ": " $0; bad = 1 }
            END { exit bad || NR == 0 }'
}

settled() { # FILE; the head of a `for` may assign
    sed 's/for ([^;]*;/for (;/g' "$1" >"$t_dir/code" && [ -s "$t_dir/code" ] &&
        ! grep -nE '(if|while) \((.*\()?[A-Za-z_][][A-Za-z_0-9.>-]* ([-+*/%&|^]|<<|>>)?= ' \
            "$t_dir/code"
}

short() { # FILE; a function is counted from its type to its brace
    awk -v file="$1" '
    /^[A-Za-z_]/ && !inside { start = FNR }
    /^[A-Za-z_ ].*\) \{$/ && !inside && start { inside = 1; n++ }
    /^}/ {
        if (inside && FNR - start >= 50) {
            print file ":" start ": " FNR - start + 1 " lines"
            bad = 1
        }
        inside = start = 0
    }
    END { exit bad || n == 0 }' "$1"
}

wrong() { # COMMAND...
    ! "$@"
}

printf '%0100d\n%099dö\n' 0 0 >"$t_dir/lines"
t_ok "100 characters" narrow "$t_dir/lines"
printf '%0101d\n' 0 >"$t_dir/lines"
t_ok "101 characters are seen" wrong narrow "$t_dir/lines"
echo 'if (a) for (i = 0; b[i] == 1; i++) c = (d == 2);' >"$t_dir/sound"
t_ok "conditions without assignments" settled "$t_dir/sound"
for code in 'if (a = b)' 'while ((c = next(s)) != 0)' 'if (x && (p->n[1] += 2) > 3)'; do
    echo "$code" >"$t_dir/planted"
    t_ok "seen: $code" wrong settled "$t_dir/planted"
done
lengthy() { # LINES
    echo "int f(int a,"
    echo "      int b) {"
    awk "BEGIN { for (i = 3; i < $1; i++) print \"    a = b;\" }"
    echo "}"
}
lengthy 50 >"$t_dir/function"
t_ok "a function of 50 lines" short "$t_dir/function"
lengthy 51 >"$t_dir/function"
t_ok "one of 51 lines is seen" wrong short "$t_dir/function"

for file in $lines; do
    [ "$file" = $spared ] || t_ok "columns of $file" narrow "$file"
done
for file in $sources; do
    t_ok "conditions of $file" settled "$file"
    t_ok "functions of $file" short "$file"
done
t_end test_columns
