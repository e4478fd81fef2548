# For tests in sh: `. tests/t.sh`, checks, `t_end NAME`. Run from the top of the repository.
# Names from anywhere: top, data, demo, and finercut, the program to test (FINERCUT).
top=$(pwd) data=$(pwd)/tests/data demo=$(pwd)/examples/demo finercut=${FINERCUT:-./finercut}
case $finercut in
/*) ;;
*/*) finercut=$top/$finercut ;;
esac
t_passed=0 t_failed=0 t_skipped=0
t_dir=$(mktemp -d "${TMPDIR:-/tmp}/finercut-test.XXXXXX")
trap 'rm -rf "$t_dir"' EXIT
trap 'exit 1' INT TERM

t_ok() { # WHAT COMMAND...: passes where the command succeeds; its output is shown where it does not
    t_what=$1
    shift
    if "$@" >"$t_dir/t_out" 2>&1; then
        t_passed=$((t_passed + 1))
    else
        t_failed=$((t_failed + 1))
        echo "FAILED: $t_what"
        sed 's/^/    /' "$t_dir/t_out" | head -n 20
    fi
}

t_hears() { # PID: waits a second, and until it catches SIGTERM (Linux tells), 30 at most
    sleep 1
    for t_wait in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29; do
        case $(sed -n 's/^SigCgt:.*\(....\)$/\1/p' "/proc/$1/status" 2>/dev/null) in
        '' | [4567cdef]???) return ;;
        esac
        sleep 1
    done
}

t_skip() { # WHAT WHY
    t_skipped=$((t_skipped + 1))
    echo "skipped: $1: $2"
}

t_end() { # NAME
    echo "$1: $t_passed passed, $t_failed failed, $t_skipped skipped"
    [ "$t_failed" -eq 0 ]
}

t_run() { # STATUS ARGUMENT...: runs the program; its output is in the files out and err
    t_want=$1
    shift
    "$finercut" "$@" >out 2>err </dev/null
    t_got=$?
    [ $t_got -eq "$t_want" ] && return 0
    echo "status $t_got, expected $t_want: finercut $*"
    cat err
    return 1
}

t_says() { # STATUS PATTERN ARGUMENT...: and one line of error that matches
    t_status=$1 t_pattern=$2
    shift 2
    t_run "$t_status" "$@" || return 1
    [ "$(wc -l <err)" -eq 1 ] && grep -Eq "^finercut: .*$t_pattern" err && return 0
    echo "expected one line with: $t_pattern"
    cat err
    return 1
}
