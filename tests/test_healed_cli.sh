#!/bin/sh
# Healed tensors on the command line: --heal in every command that has it. The healing made here
# silences attn.5, so with attn.3 removed the model is that of a plan of both, to the last bit.
# FINERCUT: the program to test.
. tests/t.sh
cd "$t_dir" || exit 1

fingerprint=$("$finercut" info "$demo" | sed -n 's/^fingerprint *//p')
step() { printf '{"step": %s, "removed": "%s", "score": 0.5}' "$1" "$2"; }
put_plan() { # FILE STEP...
    to=$1
    shift
    printf '{"format": "finercut-plan-1", "model": {"fingerprint": "%s", "n_blocks": 12},
"metric": "js", "candidates": "sublayers", "search": "race", "compute": "f32",
"steps": [%s]}' "$fingerprint" "$*" >"$to"
}
put_plan one.json "$(step 1 attn.3)"
put_plan both.json "$(step 1 attn.3),$(step 2 attn.5)"
head -c 3000 "$demo/heldout.txt" >text.txt
echo '[[1, 2, 3, 4], [5, 6]]' >tokens.json

header='{"__metadata__":{"format":"finercut-heal-3","finercut.fingerprint":"'$fingerprint'",
"finercut.removed":"attn.3","finercut.heal.tokens":"65536",
"finercut.tensors":"model.layers.5.self_attn.o_proj.weight",
"finercut.content":"0123456789abcdef"},
"model.layers.5.self_attn.o_proj.weight":
{"dtype":"BF16","shape":[128,128],"data_offsets":[0,32768]}}'
n=$(printf '%s' "$header" | wc -c)
{
    printf "\\$(printf %o $((n % 256)))\\$(printf %o $((n / 256)))\\0\\0\\0\\0\\0\\0"
    printf '%s' "$header"
    head -c 32766 /dev/zero
    printf "\1\0" # so small that it adds nothing, but a projection of zeros would be no sublayer
} >draft
seal() { # FROM TO: with the hash that the program has of it
    hash=$("$finercut" info "$demo" --heal "$1" 2>&1 |
        sed -n 's/.*0123456789abcdef, got \([0-9a-f]*\): the file is damaged$/\1/p')
    sed "s/0123456789abcdef/$hash/" "$1" >"$2"
}
seal draft healed.safetensors
cp healed.safetensors before

says() { # STATUS PATTERN COMMAND...: one line on standard error that matches, nothing else
    status=$1 pattern=$2
    shift 2
    "$finercut" "$@" >stdout 2>stderr </dev/null
    got=$?
    [ $got -eq "$status" ] || { echo "status $got"; cat stderr; return 1; }
    [ "$status" -eq 0 ] || [ "$(grep -c . stderr)" -eq 1 ] || { cat stderr; return 1; }
    cat stdout stderr | grep -Eq -e "$pattern" || { cat stdout stderr; return 1; }
}

perplexity() { # ARGUMENT...
    "$finercut" eval "$@" --text text.txt --length 128 --quiet
}

same_perplexity() { # the healed model by its own set, by a plan's, and the one with both removed
    perplexity "$demo" --plan both.json >want || return 1
    perplexity "$demo" --heal healed.safetensors >own || return 1
    perplexity "$demo" --heal healed.safetensors --plan one.json >one || return 1
    perplexity "$demo" --heal healed.safetensors --plan both.json --remove 1 >part || return 1
    perplexity "$demo" --plan one.json >other || return 1
    cmp want own && cmp want one && cmp want part && ! cmp -s want other
}
t_ok "eval" same_perplexity

logits() { # FILE ARGUMENT...
    to=$1
    shift
    "$finercut" logits "$@" --tokens tokens.json -o "$to"
}
logits want.npy "$demo" --plan both.json

same_logits() {
    logits healed.npy "$demo" --heal healed.safetensors && cmp want.npy healed.npy
}
t_ok "logits" same_logits

exports() { # FORMAT: reads back as it was, and says so
    rm -rf out back.npy
    "$finercut" export "$demo" --heal healed.safetensors --format "$1" -o out >note 2>&1 ||
        { cat note; return 1; }
    grep -q "$1, healed; weights" note || { cat note; return 1; }
    logits back.npy out || return 1
    case $1 in
    hf*) cmp back.npy want.npy && grep -q '^## Pruned and healed by' out/README.md &&
        grep -q '"finercut.heal.tokens": "65536"' out/config.json ;;
    *) "$finercut" info out --json | grep -q . ;;
    esac
}
for format in hf hf-masked gguf gguf-masked; do t_ok "export to $format" exports $format; done
{
    head -c $((n + 8)) draft
    head -c 32768 /dev/zero
} >draft0
seal draft0 zeros.safetensors
t_ok "no zeros in a compact GGUF" says 1 "set of sublayers \(zeros as .*\) in block 5" \
    export "$demo" --heal zeros.safetensors --format gguf -o zeros.gguf

facts() {
    "$finercut" info "$demo" --heal healed.safetensors --verify >lines &&
        grep -q '^healed by *healed.safetensors' lines && grep -q '^healed tensors *1$' lines &&
        grep -q '^healed without *attn.3' lines && grep -q 'finercut.heal.tokens = 65536' lines &&
        grep -q "^fingerprint *$fingerprint" lines && grep -q '^healed content' lines &&
        "$finercut" info "$demo" --heal healed.safetensors --json |
        grep -q '"healed":{"path":"healed.safetensors",.*"removed":"attn.3","metadata":{"format"'
}
t_ok "info" facts

removed_of() {
    "$finercut" eval "$demo" --heal healed.safetensors --tokens tokens.json --json --quiet |
        grep -q '"removed":\["attn.3"\]'
}
t_ok "what is removed" removed_of
t_ok "generate" says 0 '.' generate "$demo" --heal healed.safetensors --prompt 'And' -n 4
t_ok "compare" says 0 '^healed:' generate "$demo" --heal healed.safetensors --plan one.json \
    --compare --prompt 'And' -n 4
t_ok "compare with another set says nothing first" sh -c '! "$1" generate "$2" --compare \
    --heal healed.safetensors --plan both.json --prompt And -n 4 >said 2>err &&
    test ! -s said && grep -q "for another set of removed sublayers" err' x "$finercut" "$demo"
t_ok "bench" says 0 '"removed":\["attn.3"\]' bench "$demo" --heal healed.safetensors --json \
    --gemm none --prompt 4 --batch 1 --generate 2 --repeat 1

another="healed.safetensors: .*expected attn.3, got attn.3,attn.5"
t_ok "another set" says 1 "$another" eval "$demo" --heal healed.safetensors --plan both.json \
    --tokens tokens.json
t_ok "another set to export" says 1 "$another" export "$demo" --heal healed.safetensors \
    --plan both.json --format hf -o out2
t_ok "none removed" says 1 'expected attn.3, got none' logits "$demo" --heal healed.safetensors \
    --plan both.json --remove 0 --tokens tokens.json -o out.npy
t_ok "no healing" says 1 'model.safetensors: .*format' eval "$demo" --heal \
    "$demo/model.safetensors" --tokens tokens.json
for set in "      " "attn.1" "attn.5"; do
    sed "s/\"attn.3\"/\"$set\"/; s/\"      \"/\"\"      /" healed.safetensors >other
    t_ok "its set is not \"$set\"" says 1 'the file is damaged' eval "$demo" --heal other \
        --tokens tokens.json
done
t_ok "another model" says 1 'healed for another model than gemma' info "$data/gemma" \
    --heal healed.safetensors
t_ok "no model" says 1 'folder with config.json' info healed.safetensors --heal healed.safetensors
t_ok "a healing by itself" says 0 'finercut.removed = attn.3' info healed.safetensors
t_ok "prune has no healing" says 2 'unknown flag "--heal"' prune "$demo" --heal healed.safetensors
t_ok "no set" says 2 'expected --plan FILE or --heal FILE' export "$demo" --format hf -o out2

t_ok "not over the input" says 1 'expected another path' logits "$demo" --tokens tokens.json \
    --heal healed.safetensors -o ./healed.safetensors --force
ln -s healed.safetensors link.gguf
t_ok "not over the input by a link" says 1 'expected another path' export "$demo" --force \
    --heal healed.safetensors --format gguf -o link.gguf
t_ok "as it was" cmp before healed.safetensors
t_end test_healed_cli
