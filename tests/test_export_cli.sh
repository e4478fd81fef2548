#!/bin/sh
# What goes along in an export, and what does not: programs, strangers' files, links to elsewhere;
# chat templates, added tokens and types that the other format cannot say. FINERCUT: the program to
# test.
. tests/t.sh
w=$t_dir/w
mkdir "$w"
cd "$w" || exit 1

fingerprint=$("$finercut" info "$demo" | sed -n 's/^fingerprint *//p')
printf '{"format": "finercut-plan-1", "model": {"fingerprint": "%s", "n_blocks": 12},
"metric": "js", "candidates": "sublayers", "search": "race", "compute": "f32",
"steps": [{"step": 1, "removed": "attn.3", "score": 0.5}]}' \
    "$fingerprint" >plan.json
printf 'A thing with one, something, thing: with one <|endoftext|> in it, <a>b <a> and  blanks.\n' \
    >text.txt

export_to() { # FORMAT MODEL OUTPUT [FLAG...]: fills note
    format=$1 from=$2 to=$3
    shift 3
    rm -rf "$to"
    "$finercut" export "$from" --plan plan.json --format "$format" -o "$to" "$@" >stdout 2>note
}

fails() { # PATTERN FORMAT MODEL [FLAG...]: one line that matches, and nothing is there
    pattern=$1 format=$2 from=$3
    shift 3
    export_to "$format" "$from" refused "$@" && { echo "expected a failure"; return 1; }
    grep -Eq -e "$pattern" note || { echo "expected $pattern"; cat note; return 1; }
    [ "$(ls -d refused* 2>/dev/null | wc -l)" -eq 0 ] || { echo "left:"; ls -d refused*; return 1; }
}

has() { # FOLDER FILE...: these and no others
    there=$(cd "$1" && find . -type f | sed 's/^\.\///' | sort | tr '\n' ' ')
    shift
    wanted=$(printf '%s\n' "$@" | sort | tr '\n' ' ')
    [ "$there" = "$wanted" ] || { echo "expected $wanted"; echo "got $there"; return 1; }
}

same_tokens() { # MODEL MODEL
    "$finercut" tokenize "$1" --text text.txt >ids.1 2>err &&
        "$finercut" tokenize "$2" --text text.txt >ids.2 2>err &&
        [ -s ids.1 ] && cmp ids.1 ids.2
}

lacks() { # FILE WORD...
    for word in "$@"; do
        case $word in "$1") continue ;; esac
        grep -q -e "$word" "$1" && { echo "$word is in $1"; return 1; }
    done
    return 0
}

# ---- A list says what goes along

cp -R "$demo" full && rm -f full/plan.svg full/heldout.txt full/calibration.txt
base="README.md config.json model.safetensors tokenizer.json"
for f in vocab.json special_tokens_map.json added_tokens.json; do echo '{}' >full/$f; done
for f in merges.txt vocab.txt tokenizer.model LICENSE LICENCE.md NOTICE.txt Notice USE_POLICY.md \
    copying.txt chat_template.jinja; do
    echo "text of $f" >full/$f
done
mkdir full/additional_chat_templates full/onnx full/original
echo "tools" >full/additional_chat_templates/tool_use.jinja
echo "import os" >full/additional_chat_templates/evil.py
echo '{"eos_token_id": 0, "temperature": 0.60, "custom_generate": "x", "trust_remote_code": true}' \
    >full/generation_config.json
cat >full/tokenizer_config.json <<'END'
{"tokenizer_class": "EvilTokenizer",
 "auto_map": {"AutoTokenizer": ["tokenization_evil.EvilTokenizer", null]},
 "added_tokens_decoder": {"0": {"content": "<|endoftext|>", "auto_map": 1}},
 "model_max_length": 1000000000000000019884624838656}
END
for f in modeling_evil.py tokenization_evil.py handler.py LICENSE.py chat_template.py \
    adapter_config.json pytorch_model.bin consolidated.safetensors adapter_model.safetensors \
    train.txt heldout.txt trainer_state.json optimizer.pt model.gguf .env id_rsa; do
    echo x >full/$f
done
echo x >full/onnx/model.onnx
along="vocab.json special_tokens_map.json added_tokens.json merges.txt vocab.txt tokenizer.model
 LICENSE LICENCE.md NOTICE.txt Notice USE_POLICY.md copying.txt chat_template.jinja
 additional_chat_templates/tool_use.jinja generation_config.json tokenizer_config.json"
sed 's/"architectures": \[/"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"},\
  "custom_pipelines": {"x": {"impl": "evil.P"}},\
  "quantization_config": {}, "nested": {"auto_map": {"AutoConfig": "evil.C"}, "kept": 1},\
  &/; s/"quantization_config": {}, //' "$demo/config.json" >full/config.json
t_ok "export of a folder full of strangers" export_to hf-masked full masked
t_ok "only what the list names" has masked $base $along
t_ok "no program is named in config.json" lacks masked/config.json auto_map custom_pipelines evil
t_ok "the rest of config.json stays" grep -q '"nested": {"kept": 1}' masked/config.json
t_ok "no program is named in tokenizer_config.json" lacks masked/tokenizer_config.json auto_map Evil
t_ok "a class that only a program had is another" \
    grep -q '"tokenizer_class": "PreTrainedTokenizerFast"' masked/tokenizer_config.json
t_ok "numbers stay as written" grep -q '1000000000000000019884624838656' \
    masked/tokenizer_config.json
t_ok "no program is named in generation_config.json" lacks masked/generation_config.json \
    custom_generate trust_remote_code
t_ok "the rest of generation_config.json stays" grep -q '"temperature": 0.60' \
    masked/generation_config.json
for f in modeling_evil.py LICENSE.py adapter_config.json pytorch_model.bin \
    consolidated.safetensors train.txt onnx/ evil.py id_rsa \
    "tokenizer_config.json's code"; do
    t_ok "said to be left out: $f" grep -q "left out:.*$f" note
done
t_ok "said once, in few lines" test "$(grep -c 'left out' note)" -le 4
if command -v script >/dev/null && script -qec true /dev/null >/dev/null 2>&1; then
    script -qec "'$finercut' export full --plan plan.json --format hf -o seen" /dev/null >out
    t_ok "on a terminal a note has a line of its own" \
        eval 'grep -q "note: left out" out && ! grep -q "left *finercut: note" out'
    rm -rf seen
else
    t_skip "notes on a terminal" "no script"
fi
t_ok "export of the same to hf" export_to hf full compact
t_ok "its weights say what was removed" \
    eval 'head -c 300 compact/model.safetensors | grep -aq "\"finercut\":\"attn.3\""'
t_ok "with its own program only" has compact $base $along modeling_finercut.py
t_ok "the program is tools/modeling_finercut.py, byte for byte" \
    cmp compact/modeling_finercut.py "$top/tools/modeling_finercut.py"
t_ok "auto_map is its own" grep -q '"auto_map": {"AutoConfig": "modeling_finercut.FinercutConfig"' \
    compact/config.json
t_ok "and the only one" test "$(grep -c auto_map compact/config.json)" -eq 1
cp -R "$demo" clean && rm -f clean/plan.svg clean/heldout.txt clean/calibration.txt
echo '{"eos_token":   "<|endoftext|>"}' >clean/tokenizer_config.json
t_ok "export of a clean folder" export_to hf-masked clean clean-out
t_ok "settings without programs are copied byte for byte" cmp clean/tokenizer_config.json \
    clean-out/tokenizer_config.json
t_ok "and nothing was left out" lacks note "left out"

for json in '{"a": 1, "a": 2}' '[1]' '{' "$(printf '%0200d' 0 | sed 's/0/[/g')" \
    '{"tokenizer_class": "\ud800"}'; do
    cp -R clean broken && printf '%s' "$json" >broken/tokenizer_config.json
    t_ok "bad settings are refused: $(printf '%.20s' "$json")" \
        fails 'tokenizer_config.json' hf broken
    rm -rf broken
done

# Every file is named, or counted in the last line.
cp -R "$demo" many
for i in 1 2 3 4 5 6 7 8 9; do
    for k in 0 1 2 3 4 5 6 7 8 9; do : >"many/a-file-with-a-long-name-$i$k.x"; done
done
t_ok "many files" export_to hf-masked many many-out
t_ok "all are told: 90, two texts and a picture" awk '
    /left out: [0-9]+ more$/ { n += $(NF - 1); next }
    /left out: / { n += split($0, names, ",") }
    END { print n; exit n != 93 }' note

# ---- Links

if ln -s x link 2>/dev/null && [ -L link ]; then
    mkdir secret && echo "root:x:0:0" >secret/passwd &&
        cp "$demo/tokenizer.json" secret/tokenizer.json
    cp -R clean linked && mkdir linked/sub && echo "own" >linked/sub/own.txt
    (cd linked && ln -s ../secret/passwd LICENSE && ln -s "$w/secret/passwd" NOTICE &&
        ln -s sub/own.txt COPYING &&
        ln -s ../linked/sub/../sub/own.txt LICENCE && ln -s missing NOTICE.txt &&
        ln -s NOTICE NOTICE.md &&
        ln -s ../secret additional_chat_templates && ln -s ../secret/passwd chat_template.jinja)
    t_ok "export with links" export_to hf-masked linked linked-out
    t_ok "links within the folder only" has linked-out $base tokenizer_config.json COPYING LICENCE
    t_ok "what they lead to is copied, not the link" test ! -L linked-out/COPYING
    for f in LICENSE NOTICE NOTICE.txt NOTICE.md additional_chat_templates chat_template.jinja; do
        t_ok "said: $f" grep -q "left out:.*$f" note
    done
    t_ok "export with links to gguf" export_to gguf linked linked.gguf
    t_ok "nothing of a link's text is in a GGUF file" lacks linked.gguf root:x:0:0
    t_ok "a tokenizer elsewhere is left out" \
        sh -c "rm linked/tokenizer.json linked/additional_chat_templates
        ln -s ../secret/tokenizer.json linked/tokenizer.json"
    t_ok "in a directory, too" export_to hf-masked linked linked-out
    t_ok "and said" grep -q 'tokenizer.json (a link to another folder)' note
    hub=hub/models--a--b
    mkdir -p $hub/blobs $hub/snapshots/rev hub/models--c--d/blobs
    for f in config.json model.safetensors tokenizer.json README.md; do
        cp "$demo/$f" $hub/blobs/of-$f && ln -s ../../blobs/of-$f $hub/snapshots/rev/$f
    done
    echo "terms" >hub/models--c--d/blobs/LICENSE &&
        ln -s ../../../models--c--d/blobs/LICENSE $hub/snapshots/rev/LICENSE
    for form in hf hf-masked gguf; do
        t_ok "a hub's cache to $form" export_to $form $hub/snapshots/rev hub-$form
    done
    t_ok "the model's own blobs go along" has hub-hf-masked $base
    t_ok "another's do not" sh -c "[ ! -e hub-hf/LICENSE ]"
else
    t_skip "links" "none can be made here"
fi
mkfifo clean/NOTICE 2>/dev/null &&
    t_ok "a pipe as a licence: an error at once" fails 'NOTICE' hf clean && rm -f clean/NOTICE

# ---- Chat templates, both ways

cp -R clean chat
cat >chat/tokenizer_config.json <<'END'
{"chat_template": [{"name": "default", "template": "D {{ x }}"},
 {"name": "tool_use", "template": "T \u00e9"}, {"name": "rag", "template": "R"}]}
END
t_ok "three templates to gguf" export_to gguf chat chat.gguf
for key in tokenizer.chat_template tokenizer.chat_template.tool_use tokenizer.chat_template.rag \
    tokenizer.chat_templates; do
    t_ok "key $key" sh -c "'$finercut' info chat.gguf --json >/dev/null; grep -q '$key' chat.gguf"
done
fingerprint=$("$finercut" info chat.gguf | sed -n 's/^fingerprint *//p')
sed -e "s/\"fingerprint\": \"[^\"]*\"/\"fingerprint\": \"$fingerprint\"/" \
    -e 's/"removed": "attn.3"/"removed": "attn.4"/' plan.json >plan2.json
t_ok "and back" "$finercut" export chat.gguf --plan plan2.json --format hf -o chat-back
for text in '"name": "default", "template": "D {{ x }}"' '"name": "tool_use", "template": "T' \
    '"name": "rag", "template": "R"'; do
    t_ok "there is $text" grep -q "$text" chat-back/tokenizer_config.json
done
rm chat/tokenizer_config.json && mkdir chat/additional_chat_templates
printf 'from a file' >chat/chat_template.jinja &&
    printf 'tools' >chat/additional_chat_templates/tool-use.jinja
t_ok "templates in files to gguf" export_to gguf chat chat.gguf
t_ok "names as GGUF has them" grep -q 'tokenizer.chat_template.tool_use' chat.gguf
printf 'other' >chat/additional_chat_templates/tool_use.jinja
t_ok "two of one name there" fails 'chat template "tool.use": GGUF has another one' gguf chat
printf '\377' >chat/chat_template.jinja
t_ok "a template that is not UTF-8" fails 'chat template "default": expected UTF-8' gguf chat

# ---- Added tokens: the same ids, or a refusal

with_added() { # FOLDER TOKEN: the demo with one more added token
    rm -rf "$1" && cp -R clean "$1" &&
        sed "s/\"added_tokens\": \[/&$2,/" "$demo/tokenizer.json" >"$1/tokenizer.json" &&
        sed 's/"vocab_size": 2048/"vocab_size": 2048/' "$demo/config.json" >"$1/config.json"
}
token() { # CONTENT ID FLAG...: those flags are true
    printf '{"content": "%s", "id": %s' "$1" "$2"
    shift 2
    for flag in single_word lstrip rstrip normalized special; do
        case " $* " in
        *" $flag "*) printf ', "%s": true' $flag ;;
        *) printf ', "%s": false' $flag ;;
        esac
    done
    printf '}'
}
for flags in "" special normalized; do
    with_added added "$(token thing 1999 $flags)"
    t_ok "a text that is in the vocabulary already, at another id ($flags)" \
        export_to gguf added added.gguf
    t_ok "has the same tokens there" same_tokens added added.gguf
    t_ok "a copy has them" export_to hf added added-out
    t_ok "too" same_tokens added added-out
done
for flag in single_word lstrip rstrip; do
    with_added added "$(token thing 1999 $flag)"
    t_ok "$flag is refused by name" \
        fails "added token \"thing\": GGUF cannot say \"$flag\"" gguf added
    t_ok "$flag in a directory is the same" export_to hf added added-out
    t_ok "too" same_tokens added added-out
done
with_added added "$(token '<a>' 5000 rstrip)"
t_ok "one past the embeddings is left out, whatever it is" export_to gguf added added.gguf

# llama.cpp goes by the name: in one with "phi-3" special tokens take the blanks after them.
cp plan.json plan.old
phi() { # FOLDER TOKEN: a Phi-3 with this added token
    rm -rf "$1" && cp -R "$top/tests/data/phi3" "$1" && cat >"$1/tokenizer.json" <<END
{"added_tokens": [$(token '<unk>' 0 special), $(token '<s>' 1 special),
 $(token '<|endoftext|>' 2 special), $(token '</s>' 3 $3 special), $2],
 "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
 {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
 "pre_tokenizer": null, "post_processor": null, "decoder": null,
 "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true,
 "vocab": {"<unk>": 0, "<s>": 1, "<|endoftext|>": 2, "</s>": 3, "▁": 4, "a": 5, "▁a": 6},
 "merges": ["▁ a"]}}
END
    fingerprint=$("$finercut" info "$1" | sed -n 's/^fingerprint *//p')
    sed -e "s/\"fingerprint\": \"[^\"]*\"/\"fingerprint\": \"$fingerprint\"/" \
        -e 's/"n_blocks": 12/"n_blocks": 3/' -e 's/attn\.3/attn.0/' plan.old >plan.json
}
is_named() { # FILE NAME
    LC_ALL=C tr -cd '\40-\176' <"$1" >keys
    grep -q "general.name$2general.quant" keys || { grep -o 'general.name.*quant' keys; return 1; }
}
phi own-tune "$(token '<|user|>' 7 rstrip special)" rstrip
t_ok "tokens that take blanks" export_to gguf-masked own-tune own.gguf
t_ok "make it a Phi-3" is_named own.gguf 'Phi-3 own-tune'
t_ok "which is said" grep -q 'general.name: "Phi-3 own-tune"' note
t_ok "and read back" same_tokens own-tune own.gguf
# which transformers may read in other ways
told() { # WORDS SETTINGS: once of a model with these in tokenizer_config.json; "": nothing
    printf '{%s}' "$2" >own-tune/tokenizer_config.json
    "$finercut" info own-tune >out 2>note || return 1
    if [ -z "$1" ]; then
        [ ! -s note ] && return
    else
        [ "$(wc -l <note)" -eq 1 ] && grep -q -e "$1" note && return
    fi
    cat note
    return 1
}
for name in LlamaTokenizer LlamaTokenizerFast; do
    t_ok "$name" told "transformers 5 may take Metaspace" "\"tokenizer_class\": \"$name\""
done
t_ok "another class" told "" '"tokenizer_class": "PreTrainedTokenizerFast"'
t_ok "add_bos_token" told "add_bos_token is true, but .* puts none" '"add_bos_token": true'
t_ok "as it is" told "" '"add_bos_token": false'
rm own-tune/tokenizer_config.json
phi my-phi3 "$(token '<|user|>' 7 rstrip special)" rstrip
t_ok "a name that says so" export_to gguf-masked my-phi3 own.gguf
t_ok "stays" is_named own.gguf 'my-phi3'
phi not-Phi-3-phi3 "$(token '<|user|>' 7 special)"
t_ok "a Phi-3 of other tokens" export_to gguf-masked not-Phi-3-phi3 own.gguf
t_ok "gets another name" is_named own.gguf 'not-Phi 3-phi 3'
t_ok "and the same tokens, too" same_tokens not-Phi-3-phi3 own.gguf
cp plan.old plan.json

# ---- Settings of transformers 5, which 4 gets by their old names

new_settings() { # MODEL EDIT...: v5 is the model with its config.json edited, v5-out a copy
    rm -rf v5 v5-out && cp -R "$data/$1" v5 && sed "$2" "$data/$1/config.json" >v5/config.json &&
        sed "s/fc2-[0-9a-f]*/$("$finercut" info v5 | sed -n 's/^fingerprint *//p')/
            s/\"n_blocks\": 12/\"n_blocks\": $(sed -n 's/.*hidden_layers": \([0-9]*\).*/\1/p' \
            "$data/$1/config.json")/; s/attn.3/attn.1/" plan.json >v5.json &&
        "$finercut" export v5 --plan v5.json --format "$3" -o v5-out
}
old() { # LINE...: of the copy's settings
    for line in "$@"; do
        grep -Fqx "  $line," v5-out/config.json || { cat v5-out/config.json; return 1; }
    done
}
rope='"rope_parameters": {"rope_type"'
for format in hf hf-masked; do
    t_ok "gemma3 to $format" new_settings gemma3 '/"rope_theta"/d; /rope_local/d
        s/8\.0/&}/; s/"rope_scaling"/"rope_parameters": {"sliding_attention": {"rope_theta": 2e4},\
        "full_attention"/; s/"rope_type"/"rope_theta": 1e6, &/' $format
    t_ok "two ropes" old '"rope_theta": 1e6' '"rope_local_base_freq": 2e4' \
        '"rope_scaling": {"rope_type": "linear", "factor": 8.0}'
    t_ok "phi3 to $format" new_settings phi3_long '/"rope_theta"/d; /original_max/d
        s/"rope_scaling": {/'"$rope"': "longrope", "original_max_position_embeddings": 16,\
        "partial_rotary_factor": 1.0, "rope_theta": 1e4,/' $format
    t_ok "three members" old '"rope_theta": 1e4' '"partial_rotary_factor": 1.0' \
        '"original_max_position_embeddings": 16' '"rope_scaling": {"short_factor": '\
'[1.0, 1.1, 1.3], "long_factor": [1.2, 2.0, 4.0], "type": "longrope"}'
    t_ok "gpt_neox to $format" new_settings gpt_neox '/rotary_pct/d
        s/"rotary_emb_base".*/'"$rope"': "default", "rope_theta": 5e3,\
        "partial_rotary_factor": 1.0},/' $format
    t_ok "names of its own" old '"rotary_emb_base": 5e3' '"rotary_pct": 1.0'
    t_ok "stablelm to $format" new_settings stablelm '/"rope_theta"/d
        s/"partial.*/'"$rope"': "default", "rope_theta": 5e3, "partial_rotary_factor": 0.5},/' \
        $format
    t_ok "a part of the head" old '"rope_theta": 5e3' '"partial_rotary_factor": 0.5'
    t_ok "olmo2 to $format" new_settings olmo2 \
        's/"rope_theta".*/'"$rope"': "linear", "factor": 2.0, "rope_theta": 5e5},/' $format
    t_ok "two members" old '"rope_theta": 5e5' '"rope_scaling": {"type": "linear", "factor": 2.0}'
    t_ok "olmo2 with yarn to $format" new_settings olmo2 's/"rope_theta".*/'"$rope"': "yarn",\
        "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 5e5},/' $format
    t_ok "the original length" old '"rope_theta": 5e5' '"rope_scaling": {"rope_type": "yarn", '\
'"factor": 4.0, "original_max_position_embeddings": 16}'
done

# What the file says is read otherwise by llama.cpp, which is said.
cp -R clean composed &&
    sed 's/"normalizer": null/"normalizer": {"type": "NFC"}/' "$demo/tokenizer.json" \
        >composed/tokenizer.json
t_ok "a tokenizer with NFC" export_to gguf composed nfc.gguf
t_ok "which llama.cpp has not" grep -q 'note: NFC: llama.cpp gives other tokens' note
t_ok "one without" export_to gguf clean nfc.gguf
t_ok "of which nothing is said" lacks note NFC longrope
plan_of_three() { # MODEL: of three blocks
    print=$("$finercut" info "$1" | sed -n 's/^fingerprint *//p')
    sed -e "s/\"fingerprint\": \"[^\"]*\"/\"fingerprint\": \"$print\"/" \
        -e 's/"n_blocks": 12/"n_blocks": 3/' -e 's/attn\.3/attn.0/' plan.old >plan.json
}
plan_of_three "$data/gpt_neox.gguf"
t_ok "gpt_neox from GGUF" export_to hf-masked "$data/gpt_neox.gguf" neox
t_ok "has the names of its family" sh -c 'grep -q "\"rotary_emb_base\": 10000.0" neox/config.json &&
    ! grep -q "rope_theta\|key_value" neox/config.json'
plan_of_three "$top/tests/data/phi3_long"
t_ok "longrope" export_to gguf-masked "$top/tests/data/phi3_long" long.gguf
t_ok "whose factors llama.cpp takes by its context" grep -q 'longrope: in a context above 16' note
cp plan.old plan.json

# ---- Types

t_ok "numbers that F16 has" export_to gguf clean typed.gguf --type f16
head -c 200000 /dev/zero >zeros # a model of one matrix that has 1e5 in it
python=$(command -v python3 || :)
[ -n "$python" ] && "$python" - "$top/tests/data/llama_f32_bias" wide <<'EOF'
import json, os, shutil, struct, sys
shutil.copytree(sys.argv[1], sys.argv[2])
path = os.path.join(sys.argv[2], "model.safetensors")
data = bytearray(open(path, "rb").read())
n = struct.unpack("<Q", data[:8])[0]
head = json.loads(data[8:8 + n])
at = 8 + n + head["model.layers.1.mlp.up_proj.weight"]["data_offsets"][0]
data[at + 8:at + 16] = struct.pack("<2f", 1e5, -7e4)
open(path, "wb").write(data)
EOF
rm -f zeros
if [ -d wide ]; then
    fingerprint=$("$finercut" info wide | sed -n 's/^fingerprint *//p')
    cp plan.json plan.old
    blocks=$("$finercut" info wide | sed -n 's/^blocks *//p')
    sed -e "s/\"fingerprint\": \"[^\"]*\"/\"fingerprint\": \"$fingerprint\"/" \
        -e "s/\"n_blocks\": 12/\"n_blocks\": $blocks/" -e 's/attn\.3/attn.0/' plan.old >plan.json
    said='row 0, column 2: 100000 does not fit F16; use F32 or BF16'
    t_ok "numbers past F16 are told" \
        fails "tensor \"blk.1.ffn_up.weight\": $said" gguf wide --type f16
    for type in f32 bf16 q8_0; do
        t_ok "they fit $type" export_to gguf-masked wide wide.gguf --type $type
    done
    cp plan.old plan.json
else
    t_skip "numbers past F16" "no python3 to make them"
fi

# ---- A placeholder of other zeros, as quantising leaves it, is one still: -0.0 in F16

t_ok "blocks without attention" export_to gguf clean stub.gguf
before=$("$finercut" info stub.gguf | grep '^sublayers')
t_ok "are counted" test "$before" = "sublayers       23"
t_end test_export_cli
