#!/bin/sh
# `finercut info` on every file of the corpora, good and bad: it has to end with 0 or 1, and to say
# why in one line where it is 1. Meant for a build with sanitizers (make check).
. tests/t.sh
shared=${FINERCUT_SHARED:-../shared}

survives() { # FILE
    ASAN_OPTIONS=exitcode=99:allocator_may_return_null=1 "$finercut" info "$1" --tensors \
        --json >/dev/null 2>"$t_dir/err"
    status=$?
    cat "$t_dir/err"
    case $status in
    0) ;;
    1) [ "$(wc -l <"$t_dir/err")" -eq 1 ] ;;
    *) return 1 ;;
    esac
}

rejected() { # FILE
    "$finercut" info "$1" >/dev/null 2>&1
    [ $? -eq 1 ]
}

for file in tests/data/*.gguf tests/data/*/*.safetensors tests/data/*/ examples/demo \
    tests/fuzz/corpus/*/*; do
    [ -e "$file" ] && t_ok "$file" survives "$file"
done
if [ -d "$shared/data/corpora" ]; then
    for file in "$shared"/data/corpora/*/files/* "$shared"/data/corpora/gguf_quants/* \
        "$shared"/golden/*/; do
        [ -e "$file" ] && t_ok "$file" survives "$file"
    done
    # What the tables of accepted (A) and rejected (R, S) files say.
    for kind in safetensors gguf; do
        corpus="$shared/data/corpora/${kind}_cases"
        while IFS=$(printf '\t') read -r name bytes want rest; do
            case $want in
            A) t_ok "$name: accept" "$finercut" info "$corpus/files/$name.$kind" ;;
            R | S) t_ok "$name: reject" rejected "$corpus/files/$name.$kind" ;;
            esac
        done <"$corpus/cases.tsv"
    done
else
    t_skip "shared corpora" "no $shared/data/corpora"
fi
t_end corpora
