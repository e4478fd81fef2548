#!/bin/sh
# What people have in the place of a model or a text: each is refused with words that help, or taken
# with a note. A case: how to make it, the exit status, words that standard error must hold.
# FINERCUT: the program to test.
. tests/t.sh
model=$data/llama_bf16_old_config sharded=$data/llama_f16_sharded
w=$t_dir/w
mkdir "$w"
cd "$w" || exit 1
echo '[[1, 2, 3, 4, 5, 6, 7, 8]]' >tokens.json
printf '\357\273\277' >bom

# STATUS WORDS COMMAND...: one error line (or notes, where the status is 0), and the words in it
says() {
    want=$1 words=$2
    shift 2
    "$finercut" "$@" >"$t_dir/out" 2>"$t_dir/err" </dev/null
    got=$?
    [ "$got" -eq "$want" ] ||
        { echo "expected status $want, got $got"; cat "$t_dir/err"; return 1; }
    [ "$want" -eq 0 ] || [ "$(wc -l <"$t_dir/err")" -eq 1 ] ||
        { echo "not one line"; cat "$t_dir/err"; return 1; }
    [ -z "$words" ] || grep -q -- "$words" "$t_dir/err" ||
        { echo "expected: $words"; cat "$t_dir/err"; return 1; }
}
bytes() { # FORMAT: a folder m whose weights are these bytes, padded
    rm -rf m
    mkdir m
    cp "$model/config.json" m/
    { printf "$1"; head -c 600 /dev/zero | tr '\0' 'x'; } >m/model.safetensors
}
copy() { # DIRECTORY: to m
    rm -rf m
    mkdir m
    cp "$1"/* m/
}
setting() { # JSON MEMBER: added to m's config.json
    sed "s/^{/{ $1,/;1!b" "$model/config.json" >m/config.json
}

# ---- numbers
for key in rms_norm_eps rope_theta; do
    copy "$model"
    sed "s/\"$key\": *[0-9.e-]*/\"$key\": -1/" "$model/config.json" >m/config.json
    t_ok "$key: -1" says 1 "\"$key\": expected [0-9.e-]* to [0-9.e+]*, got -1" info m
done
LC_ALL=C sed 's/layer_norm_rms_epsilon/layer_norm_rms_epsilom/' "$data/llama_f16.gguf" >eps.gguf
t_ok "GGUF without what llama.cpp requires" says 1 \
    '"attention.layer_norm_rms_epsilon": required, but it is not there' \
    eval eps.gguf --tokens tokens.json
t_ok "a share that a float has not" says 2 'top-p: expected a share .* got "1e-46"' \
    generate "$data/llama_f16.gguf" --prompt a --top-p 1e-46

# ---- files of another kind, as a shard and as the MODEL itself
while read -r magic words; do
    bytes "$magic"
    t_ok "a shard: $words" says 1 "$words" info m
    cp m/model.safetensors file.bin
    t_ok "a file: $words" says 1 "$words" info file.bin
done <<'KINDS'
version\040https://git-lfs.github.com/spec/v1\n git lfs pull
version\040https://git-lfs.github.com/spec/v1\r\n git lfs pull
<!DOCTYPE\040html> HTML page
<html> HTML page
PK\003\004\024\000\000\000\010\010 zip archive
\200\002\212\012l\374\234F\371 Python pickle
\037\213\010\000\000\000\000\000 gzip archive
BZh91AY&SY bzip2 archive
\375\067zXZ\000\000\004 xz archive
\050\265/\375\044\001\002\003 zstd archive
lmgg\001\000\000\000\001 GGML file of before GGUF
KINDS
{
    printf 'model/config.json'
    head -c 240 /dev/zero | tr '\0' 'x'
    printf 'ustar  '
    head -c 400 /dev/zero
} >file.tar
t_ok "a tar archive" says 1 "tar archive" info file.tar
t_ok "config.json as the model" \
    says 1 "JSON text: .*give the folder that this file is in" info "$model/config.json"
printf '\n\t <!DOCTYPE html>' >file.bin
t_ok "a page after blanks" says 1 "got an HTML page" info file.bin
for text in "Access denied" "Access denied: a long text that goes on and on and on."; do
    echo "$text" >file.bin
    t_ok "$text" says 1 "safetensors or GGUF file, got a text: \"Access denied" info file.bin
done

# ---- Git LFS pointers in the place of small files
for f in config.json tokenizer.json model.safetensors.index.json; do
    rm -rf m
    cp -R "$sharded" m
    [ -f m/$f ] || cp "$demo/$f" m/
    printf 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n' >m/$f
    t_ok "a Git LFS pointer as $f" \
        says 1 "$f: expected JSON, got a Git LFS pointer, .*git lfs pull" prune m \
        --text tokens.json -o x.json
done
rm -rf m && cp -R "$sharded" m && printf '<html>\n' >m/config.json
t_ok "a page as config.json" says 1 "config.json: expected JSON, got an HTML page" info m
printf ' {x}' >m/config.json
t_ok "bad JSON after a blank" says 1 "expected a key" info m

# ---- folders
rm -rf m && mkdir m
t_ok "an empty folder" says 1 "model.safetensors.index.json" info m
: >m/adapter_config.json
t_ok "an adapter" says 1 "merge it into its base model" info m
: >m/pytorch_model.bin
t_ok "PyTorch's file" says 1 "convert it to safetensors" info m
rm -rf m && mkdir m && : >m/pytorch_model.bin.index.json
t_ok "PyTorch's files" says 1 "convert them to safetensors" info m
rm -rf m && mkdir m && cp "$model/config.json" m
t_ok "a config alone" says 1 "no weights" info m
rm -rf m && mkdir -p m/refs m/snapshots/abc && echo abc >m/refs/main
t_ok "a cache's root" says 1 "give the snapshot in it, m/snapshots/abc" info m
rm -r m/refs && mkdir m/snapshots/abb
t_ok "a cache's root without refs" says 1 "give the snapshot in it, m/snapshots/abb" info m
mkdir -p hub/hub && mv m hub/hub/models--a--b
snapshot="give the snapshot in it, hub/hub/models--a--b/snapshots/abb"
t_ok "a cache" says 1 "hub is the top of a Hugging Face cache: $snapshot" info hub
cp -R hub/hub/models--a--b hub/hub/models--a--c
t_ok "a cache of two models" \
    says 1 "hub/hub is the top .*: give a snapshot in it, hub/hub/models--a--b/snapshots/abb" \
    logits hub/hub --tokens tokens.json -o x.npy
rm -rf m && mkdir m && cp "$data/llama_f16.gguf" m/
t_ok "a folder with a GGUF file" \
    says 1 "m is a folder with a GGUF file: give the file, m/llama_f16.gguf$" logits m \
    --tokens tokens.json -o x.npy
cp "$model/config.json" m/ && cp "$data/llama_f16.gguf" m/a.gguf
t_ok "a folder with two" \
    says 1 "m is a folder with GGUF files: give the file, such as m/a.gguf$" info m
copy "$sharded"
rm m/*.index.json
t_ok "shards without an index" says 0 "" logits m --tokens tokens.json -o a.npy
t_ok "shards with an index" says 0 "" logits "$sharded" --tokens tokens.json -o b.npy
t_ok "the same" cmp a.npy b.npy
printf '{"format":"finercut-plan-1","model":{"fingerprint":"%s","n_blocks":3},"metric":"js",
"candidates":"sublayers","search":"random","compute":"f32",
"steps":[{"step":1,"removed":"ffn.0","score":0.5}]}' \
    "$("$finercut" info m | sed -n 's/^fingerprint *//p')" >shards.json
t_ok "their export" says 0 "" export m --plan shards.json --format hf -o exported
t_ok "which runs" says 0 "" logits exported --tokens tokens.json -o c.npy
t_ok "the plan for the one with an index" says 0 "" export "$sharded" --plan shards.json \
    --format hf -o exported2
t_ok "which runs" says 0 "" logits exported2 --tokens tokens.json -o d.npy
t_ok "the same export" cmp c.npy d.npy
for f in m/model-00002-*; do rm "$f"; done
t_ok "a shard is missing" \
    says 1 "shards without model.safetensors.index.json: m/model-00002-of-" info m
t_ok "the weights as the model" says 1 "give the folder" logits "$model/model.safetensors" \
    --tokens tokens.json -o c.npy

t_ok "a model that is called like a flag" says 1 "^finercut: text: cannot open" prune text \
    --text "$demo/heldout.txt"

# ---- configurations
copy "$model"
cat bom "$model/config.json" >m/config.json
t_ok "a byte order mark" says 0 "" logits m --tokens tokens.json -o c.npy
printf '\357\273\277{x}' >m/config.json
t_ok "a place counts the mark" says 1 "column 5: expected a key" info m
setting '"quantization_config": {"quant_method": "gptq", "bits": 4}'
t_ok "settings of a quantisation that was undone" says 0 "passed over" logits m \
    --tokens tokens.json -o d.npy
t_ok "the same" cmp c.npy d.npy
setting '"quantization_config": {}'
t_ok "no settings of a quantisation" says 0 "" logits m --tokens tokens.json -o d.npy
setting '"drop_attn_list": [1], "drop_mlp_list": []'
t_ok "LLM-Drop's list" says 0 "drops 1 of" logits m --tokens tokens.json -o e.npy
t_ok "which counts" sh -c '! cmp -s c.npy e.npy'
setting '"drop_attn_list": [99]'
t_ok "LLM-Drop's list beyond the blocks" says 1 "expected numbers of blocks below" info m
sed 's/"num_hidden_layers": *[0-9]*/"num_hidden_layers": 1/' "$model/config.json" >m/config.json
t_ok "fewer blocks than the files hold" says 0 "only the first 1 are run" logits m \
    --tokens tokens.json -o e.npy
copy "$data/llama_f32_bias"
sed 's/"\(attention\|mlp\)_bias": *true/"\1_bias": false/' "$data/llama_f32_bias/config.json" \
    >m/config.json
biases='note: m: "model.layers.0.[a-z_.]*bias" is in the files, but config.json asks for no such'
t_ok "biases that are not asked for" says 0 "$biases" logits m --tokens tokens.json -o e.npy
t_ok "of those that are, nothing" says 0 "" logits "$data/llama_f32_bias" --tokens tokens.json \
    -o f.npy
t_ok "is said" test ! -s "$t_dir/err"
t_ok "they count" sh -c '! cmp -s e.npy f.npy'
stray() { # NAME...: m is the model, with these tensors too
    copy "$model"
    mv m/model.safetensors m/model-00001-of-00002.safetensors
    entries='{"__metadata__":{}'
    for name; do
        entries="$entries,\"$name\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}"
    done
    printf "\\$(printf %03o $((${#entries} % 256 + 1)))\\$(printf %03o $((${#entries} / 256)))" \
        >m/model-00002-of-00002.safetensors
    printf '\000\000\000\000\000\000%s}' "$entries" >>m/model-00002-of-00002.safetensors
}
layer=model.layers.0.self_attn
stray $layer.q_proj.lora_A.weight $layer.q_proj.lora_B.weight $layer.rotary_emb.inv_freq
t_ok "tensors that nothing reads" says 0 \
    "note: m: 2 of its [0-9]* tensors are not read, .*\"$layer.q_proj.lora_A.weight\"$" info m
stray $layer.rotary_emb.inv_freq h.0.attn.bias h.0.attn.masked_bias \
    layers.9.mlp.x.weight
t_ok "buffers" says 0 "" info m
t_ok "are passed over" test ! -s "$t_dir/err"
copy "$model"
sed 's/"tie_word_embeddings": *true/"tie_word_embeddings": false/' "$model/config.json" \
    >m/config.json
t_ok "no output matrix" says 1 '"tie_word_embeddings": true' info m

# ---- tokenizers
lacks() { # WORDS FILE
    ! grep -q "$1" "$2"
}
echo text >words.txt
ids='; token ids need no tokenizer: --tokens FILE takes them$'
for file in '' tekken.json vocab.json tokenizer.model; do
    copy "$model"
    hint='holds no tokenizer at all: add the file'
    [ -z "$file" ] || hint="holds $file: make tokenizer.json .*AutoTokenizer.*save_pretrained"
    [ -z "$file" ] || echo >m/$file
    t_ok "a folder with ${file:-no tokenizer}: eval" \
        says 1 "m/tokenizer.json: cannot open: No such file.*$hint.*$ids" eval m --text words.txt
    t_ok "tokenize" says 1 "$hint" tokenize m --text words.txt
    t_ok "info" says 0 "" info m
done
LC_ALL=C sed 's/smollm/smollq/' "$data/llama_f16.gguf" >pre.gguf
for command in eval "prune --remove 1"; do
    # shellcheck disable=SC2086
    t_ok "an unknown pre: ${command%% *}" says 1 "\"smollq\" is not supported.*$ids" \
        $command pre.gguf --text words.txt
done
echo '[[1,2,3,4]]' >ids.json
echo other >others.txt
t_ok "study" says 1 '"smollq" is not supported' study pre.gguf --text words.txt \
    --eval others.txt -o study
t_ok "takes no ids" lacks "token ids" "$t_dir/err"
t_ok "a text to measure" says 1 '"smollq" is not supported' prune pre.gguf --tokens ids.json \
    --until-perplexity 3 --eval-text words.txt -o p.json
t_ok "does not, either" lacks "token ids" "$t_dir/err"

# ---- texts
prune() {
    says "$1" "$2" prune "$demo" --text "$3" --remove 1 --force --samples 1 --length 32 -o p.json
}
text="The cat sat on the mat, and the dog lay down beside the fire; in the evening rain came over \
the hills and nobody went out."
printf '%s\n%s\n' "$text" "$text" >plain.txt
printf '\377\376T\000h\000e\000 \000' >utf16.txt
printf 'T\000h\000e\000 \000' >utf16_without_mark.txt
printf '\377\376\000\000T\000\000\000' >utf32.txt
printf '\000\000\376\377\000\000\000T' >utf32_big.txt
printf ' \n\n\t \r\n' >white.txt
: >empty.txt
printf 'The cat\n' >short.txt
printf '{"text": "The cat sat"}\n{"text": "The dog"}\n' >lines.jsonl
cat bom plain.txt >bom.txt
t_ok "a text" prune 0 "" plain.txt
cp p.json plain.json
t_ok "UTF-16" prune 1 "got UTF-16: .*iconv -f UTF-16" utf16.txt
t_ok "UTF-32" prune 1 "got UTF-32: .*iconv -f UTF-32" utf32.txt
t_ok "UTF-32, its high bytes first" prune 1 "got UTF-32: .*iconv -f UTF-32" utf32_big.txt
t_ok "UTF-16 without its mark" prune 1 "NUL byte at 1" utf16_without_mark.txt
t_ok "white space" prune 1 "white space alone" white.txt
t_ok "nothing" prune 1 "got nothing" empty.txt
t_ok "a few words" prune 1 "at least 16 tokens.*got" short.txt
t_ok "JSON lines" prune 1 'no chat template.*--field NAME.*the fields are "text"' lines.jsonl
t_ok "JSON lines, for perplexity" says 1 'the fields are "text"' eval "$demo" --text lines.jsonl
cp plain.txt 'a\b=c.txt'
t_ok "a name with a backslash" prune 0 "" 'a\b=c.txt'
t_ok "is a name" grep -q -- "--text 'a.*b=c.txt'" p.json
t_ok "a window longer than the text" says 0 '1 window of [0-9]* tokens, where 400 were asked' \
    eval "$demo" --text plain.txt --length 400
t_ok "a text with a byte order mark" prune 0 "" bom.txt
hash() {
    grep -o '"hash": *"[^"]*"' "$1"
}
t_ok "a hash of it" hash p.json
t_ok "the same calibration" [ "$(hash p.json)" = "$(hash plain.json)" ]

# ---- files of another kind in the place of texts, tokens and tasks
prose="prune $demo --remove 1 -o p2.json --text alien
eval $demo --text alien
heal $demo --plan plain.json -o h.safetensors --text alien
study $demo --quiet --text plain.txt -o study --eval alien"
json="eval $demo --tokens alien
eval $demo --text alien.jsonl --field text
eval $demo --task choices=alien.jsonl"
refused() { # WORDS RUNS
    cp alien alien.jsonl
    echo "$2" | while read -r run; do
        says 1 "alien.*: expected .*, got $1" $run || return 1
    done
}
alien() { # BYTES END
    { printf "$1" && seq 200 && printf "$2"; } >alien
}
while read -r bytes end words; do
    alien "$bytes" "$end"
    t_ok "$words as a text" refused "$words" "$prose"
    t_ok "$words as JSON" refused "$words" "$json"
done <<'KINDS'
version\040https://git-lfs.github.com/spec/v1\noid\040sha256:00\n 7 a Git LFS pointer
version\040https://git-lfs.github.com/spec/v1\r\noid\040sha256:00\r\n 7 a Git LFS pointer
\n\040version\040https://git-lfs.github.com/spec/v1\noid\040sha256:00\n 7 a Git LFS pointer
PK\003\004\024\000\000\000\010\010 \n a zip archive
\037\213\010\000\000\000\000\000 \n a gzip archive
PAR1\025\000\025 PAR1 a Parquet file
%%PDF-1.7\n%%\342\343\317\323\n %%%%EOF\n a PDF file
%%PDF-1.7\n%%\342\343\317\323\n cut a PDF file
<html>\nGru\337 cut an HTML page
KINDS
for begin in '<!DOCTYPE html>' '<html>'; do
    alien "$begin" '</html>\n'
    t_ok "$begin as prose" prune 0 "note: alien: it looks like HTML" alien
    t_ok "$begin as JSON" refused "an HTML page" "$json"
done
alien '%%PDF-1.7\n' '%%%%EOF\n'
t_ok "what a PDF file says, as prose" prune 0 "" alien
t_ok "as JSON" refused "a PDF file" "$json"
{ cat plain.txt plain.txt | head -c 256 && printf 'mustard\n'; } >mustard.txt
t_ok "a word that archives have, too" prune 0 "" mustard.txt
printf '{"text": "%smustard"}\n' "$(head -c 246 mustard.txt | tr '\n' ' ')" >mustard.jsonl
t_ok "in a field" says 0 "" eval "$demo" --text mustard.jsonl --field text
sed 's/}$/]/' mustard.jsonl >broken.jsonl
t_ok "in broken JSON" says 1 "line 1: column 265: expected ','" eval "$demo" --text broken.jsonl \
    --field text
while read -r begin; do
    { printf '%s: so it begins. ' "$begin" && cat plain.txt; } >mention.txt
    t_ok "prose that begins with $begin" prune 0 "" mention.txt
done <<'KINDS'
version https://git-lfs.github.com/spec/v1
<!DOCTYPE html>
<html>
PK
BZh91
PAR1
%PDF-1.7
KINDS

# ---- what is damaged is named once

named() { # FILE WORDS COMMAND...: one line that has the words, and the name of the file once
    file=$1
    shift
    says 1 "$@" && [ "$(grep -o "$file" "$t_dir/err" | wc -l)" -eq 1 ] && return
    cat "$t_dir/err"
    return 1
}
"$finercut" prune "$demo" --text plain.txt --samples 1 --length 32 --remove 1 --quiet -o d.json
"$finercut" export "$demo" --plan d.json --remove 0 --format gguf-masked -o whole.gguf --quiet
# the first merge, "h e", becomes two letters of which one is no token
at=$(LC_ALL=C grep -abo 'tokenizer.ggml.merges' whole.gguf | head -n 1 | cut -d: -f1)
{
    head -c $((at + 21 + 4 + 4 + 8 + 8)) whole.gguf
    printf '\001'
    tail -c +$((at + 21 + 4 + 4 + 8 + 8 + 2)) whole.gguf
} >merge.gguf
for run in "eval merge.gguf --text plain.txt" "tokenize merge.gguf --text plain.txt" \
    "prune merge.gguf --text plain.txt --samples 1 --remove 1"; do
    # shellcheck disable=SC2086
    t_ok "a GGUF vocabulary: $run" named merge.gguf "merge 0: expected tokens of the vocab" $run
done
t_ok "no chat template" named "${demo##*/}" "has no chat template" generate "$demo" --chat \
    --prompt a

# ---- ids past the embeddings: refused are texts that have one, and no others

added() { # TOKEN [POST_PROCESSOR]: m is the demo with one more, at id 2048
    copy "$demo"
    rm -f m/heldout.txt m/calibration.txt m/plan.svg
    flags='"single_word": false, "lstrip": true, "rstrip": false, "normalized": false'
    sed "s@\"added_tokens\": \[@&{\"content\": \"$1\", \"id\": 2048, $flags, \"special\": true},@
        s@\"post_processor\": null@\"post_processor\": ${2:-null}@" \
        "$demo/tokenizer.json" >m/tokenizer.json
}
past() { # FILE WORDS COMMAND...: of a text with that id, and of the file, which has none
    file=$1 words=$2
    shift 2
    sed 's/mat/<a>/' "$file" >"past/$file"
    says 1 "past/$file:$words .* id below .*2048, got 2048" "$@" "past/$file" --quiet || return 1
    says 0 "ids below 2048 only: texts with others (1, the first \"<a>\") are" "$@" "$file" &&
        [ "$(grep -c 'ids below' "$t_dir/err")" -eq 1 ]
}
added '<a>'
t_ok "an added token with the next id" says 0 "" tokenize m --text plain.txt
t_ok "is nothing to tell" test ! -s "$t_dir/err"
sed 's/"id": 2048,/"id": 2053,/' m/tokenizer.json >gap.json
t_ok "an added token with a gap before its id" \
    says 0 'added token "<a>": expected id 2053, .*, got 2048' tokenize gap.json --text plain.txt
t_ok "told once" [ "$(wc -l <"$t_dir/err")" -eq 1 ]
printf '{"query": "The cat sat", "choices": ["on the mat", "in"], "gold": 0}\n' >choices.jsonl
mkdir past
added '<a>'
t_ok "eval" past plain.txt "" eval m --length 32 --text
t_ok "prune" past plain.txt "" prune m --samples 1 --length 32 --remove 1 --force -o p.json --text
t_ok "heal" past plain.txt "" heal m --plan d.json --own 0 --length 32 --force \
    -o h.safetensors --text
t_ok "a task" past choices.jsonl "1: choice 0: token [0-9]*:" eval m --task
says 0 "" generate "$demo" -n 4 --prompt "The cat"
cp "$t_dir/out" whole.out
t_ok "generate" says 0 "" generate m -n 4 --prompt "The cat"
t_ok "the same text" cmp "$t_dir/out" whole.out
t_ok "generate, past" says 1 "prompt: token 2: expected an id below 2048, got 2048" generate m \
    --prompt "The<a>" --quiet
for format in gguf gguf-masked hf hf-masked; do
    rm -rf past.out
    t_ok "export $format" says 0 "ids below" export m --plan d.json --format $format -o past.out
    case $format in gguf*) t_ok "it is left out" grep -q "left out: 1$" "$t_dir/err" ;; esac
    t_ok "reads the same" says 0 "" eval past.out --length 32 --text plain.txt
done
for token in '</s>' '<|end_of_text|>'; do
    added "$token"
    t_ok "heal --own, $token" says 0 "ids below" heal m --plan d.json --own 64 --length 32 \
        --force -o h.safetensors
done
special='"special_tokens": {"<a>": {"ids": [2048]}}' text='{"Sequence": {"id": "A"}}'
single='"single": [{"SpecialToken": {"id": "<a>"}}, '$text']'
added '<a>' '{"type": "TemplateProcessing", '"$special, $single}"
t_ok "one that all texts have" says 1 "made with token 2048, which has no embedding" \
    export m --plan d.json --format gguf -o refused.gguf --quiet
t_ok "eval of those" says 1 "plain.txt: .* below .* 2048, got 2048" eval m --text plain.txt --quiet

t_end refusals
