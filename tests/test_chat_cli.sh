#!/bin/sh
# Chats on the command line: generate --chat, whole conversations, JSON lines as texts, eval --chat.
. tests/t.sh
cd "$t_dir" || exit 1

folder() { # NAME TEMPLATE: the demo with a chat template
    mkdir "$1"
    for file in config.json model.safetensors tokenizer.json; do cp "$demo/$file" "$1"; done
    printf '{"eos_token": "<|endoftext|>", "chat_template": "%s"}' "$2" >"$1/tokenizer_config.json"
}
start="{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\\\n' + "
folder chat "$start message['content'] + '<|im_end|>\\\\n'}}{% endfor %}{% if \
add_generation_prompt %}{{ '<|im_start|>assistant\\\\n' }}{% endif %}"
folder strange "$start message['content'] | upper }}{% endfor %}"
user='{"role": "user", "content": "In the beginning"}'
gpt='{"role": "assistant", "content": "God created the heaven"}'
echo "{\"messages\": [$user, $gpt]}" >talks.jsonl
user='{"from": "human", "value": "And God said"}'
for i in 1 2 3 4 5 6 7 8; do
    gpt="{\"from\": \"gpt\", \"value\": \"Let there be light $i\"}"
    printf '\n{"id": %d, "conversations": [%s, %s]}\n' $i "$user" "$gpt" >>talks.jsonl
done
printf '{"id": 7, "words": "In the beginning"}\n{"words": "God created\\nthe heaven"}\n' \
    >words.jsonl

talk() { # WANT FLAG...: a chat with standard input `said`
    t_want=$1
    shift
    "$finercut" generate chat --chat -n 8 "$@" <said >out 2>err
    t_got=$?
    [ $t_got -eq "$t_want" ] && return 0
    cat err
    return 1
}
lines() { # FILE WANTED: so many lines
    [ "$(wc -l <"$1")" -eq "$2" ] || { cat "$1"; return 1; }
}

# ---- info
t_ok "info" t_run 0 info chat
t_ok "the template's name" grep -q '^chat template *chatml$' out
t_ok "end tokens" grep -q '^end tokens *0 (<|endoftext|>)$' out
t_ok "info --json" t_run 0 info chat --json
t_ok "as JSON" grep -q '"chat_template":"chatml","end_tokens":\[0\]' out
t_ok "info, strange" t_run 0 info strange
t_ok "an unknown template" grep -q '^chat template *unknown template$' out
t_ok "info, none" t_run 0 info "$demo"
t_ok "no template" grep -q '^chat template *none$' out
t_ok "info --json, none" t_run 0 info "$demo" --json
t_ok "null" grep -q '"chat_template":null' out

# ---- one message
ready=$(printf '<|im_start|>system\nBe.<|im_end|>\n<|im_start|>user\nAnd God<|im_end|>\n')
ready="$ready
<|im_start|>assistant
"
t_ok "ready-made" t_run 0 generate chat --prompt "$ready" -n 12
cp out ready.txt
t_ok "--system and --prompt" t_run 0 generate chat --chat --system Be. --prompt "And God" -n 12
t_ok "is the same" cmp out ready.txt
t_ok "unknown" t_says 1 "expected one of chatml, .*, got another one: give the text ready-made" \
    generate strange --chat --prompt a
t_ok "none" t_says 1 "no chat template" generate "$demo" --chat --prompt a
t_ok "no prompt" t_says 2 "expected --prompt TEXT" generate chat
t_ok "--system alone" t_says 2 "system: expected --chat" generate chat --prompt a --system b
t_ok "--top-p that does nothing" t_says 2 "top-p: expected --temperature above 0 with it, got 0" \
    generate chat --prompt a --temperature 0 --top-p 50%
t_ok "--no-think" t_says 1 "chatml has no such mode" generate chat --chat --prompt a --no-think
for day in 2024 2024-13-01 2024-1-1 2024-01-01x today; do
    t_ok "a day: $day" t_says 2 "a day such as" generate chat --chat --prompt a --date "$day"
done

# ---- a conversation
printf 'In the beginning\r\n\nAnd God said\n/exit\nnot read\n' >said
t_ok "two messages" talk 0
t_ok "two answers" lines out 2
t_ok "the second keeps what was read" grep -q '^[0-9]* tokens of prompt ([1-9][0-9]* kept)' err
cp out two.txt
printf 'In the beginning\nAnd God said' >said
t_ok "an end without a line end" talk 0 --quiet
t_ok "the same answers" cmp out two.txt
printf '\357\273\277In the beginning\nAnd God said' >said
t_ok "a byte order mark" talk 0 --quiet
t_ok "is no part of it" cmp out two.txt
printf '\377\376I\000n\000\n\000' >said
t_ok "UTF-16" talk 1
t_ok "is named" grep -q '^finercut: chat: message 1: expected UTF-8 text, got UTF-16: ' err
: >said
t_ok "nothing said" talk 0
t_ok "nothing answered" lines out 0
printf 'Hi\na\000b \033[31m\377\n' >said
t_ok "bytes that are no UTF-8" talk 1
t_ok "are an error" grep -q '^finercut: chat: message 2: byte 9: expected UTF-8' err
bad=$(printf 'ab\377')
t_ok "in --prompt" t_says 1 "prompt: byte 2: expected UTF-8" generate chat --chat \
    --prompt "$bad"
t_ok "in --system" t_says 1 "system: byte 2: expected UTF-8" generate chat --chat \
    --prompt a --system "$bad"
printf 'a\000b \033[31m\n' >said
t_ok "other bytes" talk 0
printf 'And God said\n \t/quit \nIn\n' >said
t_ok "/quit, blanks around it" talk 0
t_ok "ends it" lines out 1
t_ok "standard input is closed" sh -c '"$1" generate chat --chat <&- >out 2>err; test $? -eq 1' \
    x "$finercut"
t_ok "is said" grep -q '^finercut: standard input: ' err
t_ok "in one line" lines err 1
awk 'BEGIN { for (i = 0; i < 3000; i++) printf "word " }' </dev/null >said
t_ok "more than the model can read" talk 1
t_ok "says how much" grep -Eq "message 1: the context is full: .* at most [0-9]+ tokens \(of the \
model's [0-9]+ positions the rest of the chat takes [0-9]+, the answer 8\), got [3-9][0-9]{3}$" err
t_ok "in a line" [ "$(grep -c '^finercut: ' err)" -eq 1 ]
# after what is refused, too long or no text, the conversation is as before
{ echo "In the beginning"; cat said; printf '\na\377\nAnd God said\n'; } >more
mv more said
t_ok "among others" talk 1 --quiet
t_ok "the others are answered as if it was not there" cmp out two.txt
t_ok "with a line for each of the two" lines err 2
t_ok "that names it" [ "$(grep -c '^finercut: chat: message [23]: ' err)" -eq 2 ]

# ---- few positions: the default length of an answer is what they leave
mkdir few many
for name in few many; do
    cp chat/model.safetensors chat/tokenizer.json chat/tokenizer_config.json $name
done
sed 's/\("max_position_embeddings": *\)[0-9]*/\1100/' chat/config.json >few/config.json
sed 's/\("max_position_embeddings": *\)[0-9]*/\19000/' chat/config.json >many/config.json
t_ok "no -n" t_run 0 generate few --chat --prompt "In the beginning"
t_ok "-n that does not fit" t_says 1 "-n: expected at most [0-9]+ tokens .*positions.*, got 100" \
    generate few --chat --prompt In -n 100
printf 'In\nIn\nIn\n' >said
t_ok "is told before anything is said" sh -c '"$1" generate few --chat -n 600 <said >out 2>err
    test $? -eq 1 && grep -q "^finercut: -n: expected" err && test "$(wc -l <err)" -eq 1' \
    x "$finercut"
most=$(sed -n 's/.*at most \([0-9]*\) tokens.*/\1/p' err)
t_ok "that many fit" t_run 0 generate few --chat --prompt a -n "$most"
full=$(awk 'BEGIN { for (i = 0; i < 100; i++) printf "word " }' </dev/null)
t_ok "--system that does not fit" t_says 1 "--system: the context is full: .*, got [1-9]" \
    generate few --chat --prompt In --system "$full"
awk 'BEGIN { for (i = 0; i < 100; i++) print "In the beginning" }' </dev/null >said
t_ok "until it is full" sh -c '"$1" generate few --chat <said >out 2>err; test $? -eq 1' \
    x "$finercut"
t_ok "nearly all are used" sh -c 'tail -n 1 err | grep -Eq "chat takes (8[4-9]|9[0-9]|1..),"'
t_ok "and one line says so" [ "$(grep -c '^finercut: ' err)" -eq 1 ]
t_ok "no memory" sh -c '"$1" generate many --chat --memory-limit 1600K <said >out 2>err
    test $? -eq 1' x "$finercut"
t_ok "is one line, too" lines err 1

# ---- signals
halt() { # SIGNAL: sent while it answers
    printf 'In the beginning\n' >said
    rm -f out
    "$finercut" generate many --chat -n 4000 <said >out 2>err &
    t_pid=$!
    for t_wait in 1 2 3 4 5 6 7 8 9; do [ -s out ] || sleep 0.5; done
    kill -s "$1" $t_pid
    wait $t_pid
    t_got=$?
    [ $t_got -eq 1 ] && [ "$(cat err)" = "finercut: interrupted" ] && return 0
    echo "status $t_got"
    cat err
    return 1
}
t_ok "SIGTERM" halt TERM

# ---- at a terminal
typed() { # SECONDS BYTES...: each after so long, with the chat in `out`
    t_pause=$1
    shift
    for t_bytes; do sleep "$t_pause"; printf "$t_bytes"; done |
        script -qec "'$finercut' generate chat --chat -n 8 --quiet; echo status \$?" /dev/null >out
}
if command -v script >/dev/null && script -qec true /dev/null >/dev/null 2>&1; then
    t_ok "a chat" typed 0.7 'a\377b\n' 'And God\n' '\004'
    t_ok "how to leave it" sh -c 'grep -m 1 . out | grep -q "/exit or Ctrl-D"'
    t_ok "what is wrong" grep -q 'message 1: byte 1: expected UTF-8' out
    t_ok "it went on" grep -q 'status 0' out
    t_ok "with an answer" sh -c '[ "$(grep -c "^> *" out)" -ge 3 ]'
    t_ok "the end of a line" sh -c '! grep -q "^> .*status" out'
else
    t_skip "a chat at a terminal" "no script(1)"
fi

# ---- compared
t_ok "a plan" t_run 0 prune chat --text "$demo/calibration.txt" --samples 1 --length 32 --remove 2 \
    -o plan.json --quiet
printf 'And God\nAnd he\n' >said
t_ok "--compare" talk 0 --compare --plan plan.json
t_ok "two turns of two" test "$(grep -c -e '^whole model:$' -e '^after 2 removals:$' out)" -eq 4
if command -v script >/dev/null && command -v stty >/dev/null &&
    script -qec true /dev/null >/dev/null 2>&1; then
    script -qec "stty cols 120; '$finercut' generate chat --chat --prompt 'And God' -n 20 \
        --compare --plan plan.json --quiet" /dev/null </dev/null >wide
    t_ok "columns" grep -q '^whole model  *| after 2 removals' wide
    script -qec "stty cols 120; '$finercut' generate chat --chat --prompt 'And God' -n 20 \
        --compare --plan plan.json" /dev/null </dev/null >told
    t_ok "what is under way, for both" grep -q '\[\.\{20\}\] generating.*\[#\{10\}\.' told
    t_ok "both texts in a line" grep -q '^[^|]*[a-z][^|]* | [^|]*[a-z]' wide
    script -qec "stty cols 90; '$finercut' generate chat --chat --prompt 'And God' -n 20 \
        --compare --plan plan.json --quiet" /dev/null </dev/null >narrow
    t_ok "no columns in 90" grep -q '^after 2 removals:' narrow
    # a token of 500 marks that take no column: more bytes than a line has room for
    marks=$(awk 'BEGIN { while (n++ < 500) printf "\303\214\304\242" }')
    sed "s/^\( *\)\",\": 12/\1\"$marks\": 12/" "$demo/tokenizer.json" >chat/tokenizer.json
    script -qec "stty cols 120; '$finercut' generate chat --prompt 'And God' -n 20 --compare \
        --plan plan.json --quiet; echo status \$?" /dev/null </dev/null >marks
    t_ok "marks without a width" grep -q 'status 0' marks
    t_ok "all of them" test "$(tr -dc '\314' <marks | wc -c)" -ge 500
    cp "$demo/tokenizer.json" chat
else
    t_skip "columns" "no script(1)"
fi

# ---- a message that holds an id past the embeddings
folder past "$(sed -n 's/.*"chat_template": "\(.*\)"}$/\1/p' chat/tokenizer_config.json)"
token='{"content": "<a>", "id": 2048, "single_word": false, "lstrip": false, "rstrip": false'
sed "s/\"added_tokens\": \[/&$token, \"normalized\": false, \"special\": false},/" \
    "$demo/tokenizer.json" >past/tokenizer.json
printf 'In the <a>\nAnd God said\n' >said
t_ok "an id past the embeddings" sh -c '"$1" generate past --chat -n 8 --quiet <said >out 2>err
    test $? -eq 1' x "$finercut"
t_ok "is told" grep -q 'chat: message 1: .* id below .* 2048, got 2048$' err
t_ok "the next message is answered" [ -s out ]

# ---- JSON lines
t_ok "tokenize --chat" t_run 0 tokenize chat --text talks.jsonl --chat
cp out ids
printf '<|im_start|>user\nIn the beginning<|im_end|>\n<|im_start|>assistant\n' >first
printf 'God created the heaven<|im_end|>\n' >>first
t_ok "the first by hand" t_run 0 tokenize chat --text first
t_ok "begins the ids" sh -c 'case $(cat ids) in "$(tr -d "]" <out)"*) ;; *) exit 1 ;; esac'
t_ok "tokenize --field" t_run 0 tokenize chat --text words.jsonl --field words
cp out ids
printf 'In the beginning\n\nGod created\nthe heaven' >by-hand
t_ok "by hand" t_run 0 tokenize chat --text by-hand
t_ok "is the same" cmp out ids
t_ok "both" t_says 2 "one of --chat and --field" tokenize chat --text words.jsonl --field a --chat
t_ok "tokenize without either" t_run 0 tokenize chat --text talks.jsonl
t_ok "takes bytes as they are" sh -c '! cmp -s out ids'
t_ok "eval" t_run 0 eval chat --text talks.jsonl
t_ok "a perplexity" grep -q '^perplexity ' out
t_ok "eval --field" t_run 0 eval chat --text words.jsonl --field words
t_ok "prune" t_run 0 prune chat --text talks.jsonl --samples 2 --length 16 --remove 1 -o p.json \
    --quiet
t_ok "prune --field" t_run 0 prune chat --text words.jsonl --field words --samples 1 \
    --length 8 --remove 1 -o q.json
t_ok "heal" t_run 0 heal chat --plan plan.json --text talks.jsonl --own 0 --length 32 \
    --tokens-used 128 -o healed.safetensors --quiet
t_ok "no messages" t_says 1 \
    'words.jsonl: line 1: .*or the --field that holds the text; the fields are "id", "words"' \
    eval chat --text words.jsonl
echo '{"messages": []}' >none.jsonl
t_ok "an empty list" t_says 1 'messages": expected a list of messages, got an empty one' eval chat \
    --text none.jsonl
t_ok "no such field" t_says 1 'line 2: expected the field "id"; the fields are "words"|a text' \
    eval chat --text words.jsonl --field id
t_ok "no template, no messages" t_says 1 'no chat template.*the fields are "id", "words"' \
    eval "$demo" --text words.jsonl
t_ok "tokenize --chat, no template" t_run 1 tokenize "$demo" --chat --text words.jsonl
t_ok "is the model's error alone" \
    grep -qx "finercut: demo: the model has no chat template: [^;]*" err
t_ok "llama.cpp's protocol" t_says 1 "expected a text, got conversations" eval chat \
    --text talks.jsonl --protocol llama.cpp
echo '{"words": "a\u0000b"}' >nul.jsonl
t_ok "a NUL" t_says 1 'nul.jsonl: line 1: "words": expected a text without NUL characters' \
    eval chat --text nul.jsonl --field words
t_ok "JSON that is no lines" t_says 1 "expected lines of JSON objects" eval chat \
    --text "$demo/config.json" --field a
printf '[%s,\n%s]\n' "{\"messages\": [$user, $gpt]}" '{"messages": []}' >array.jsonl
sed '1s/}$//' talks.jsonl >cut.ndjson
tr ' ' '\n' <talks.jsonl >pretty.jsonl
echo '# talks' | cat - talks.jsonl >comment.jsonl
printf '\302\240' | cat - talks.jsonl >nbsp.JSONL
echo '"In the beginning God created the heaven and the earth"' >strings.jsonl
for file in array.jsonl cut.ndjson pretty.jsonl comment.jsonl nbsp.JSONL strings.jsonl; do
    for model in chat "$demo"; do
        t_ok "$file is no prose of $model" t_says 1 "$file: line 1: .*expected" eval "$model" \
            --text $file
        t_ok "$file, a field" t_says 1 "$file: line 1: .*expected" prune "$model" --text $file \
            --field words --samples 1 --length 8 --remove 1 -o none.json
    done
done
cp array.jsonl array.json
t_ok "an array of another name" t_run 0 eval chat --text array.json
t_ok "is noted" grep -q "note: array.json: it looks like JSON" err
printf '[1] In the beginning God created the heaven and the earth' >notes
t_ok "a bracket" t_run 0 eval chat --text notes
t_ok "is no JSON" sh -c '! grep "looks like" err'
printf '{{Infobox language}} in the beginning' >wiki
t_ok "two braces" t_run 0 eval chat --text wiki
t_ok "are not noted" sh -c '! grep "looks like" err'
printf '[[Genesis]] in the beginning' >wiki
t_ok "two brackets" t_run 0 eval chat --text wiki
t_ok "nor they" sh -c '! grep "looks like" err'
t_ok "a field, and another text to measure" t_run 0 prune chat --text words.jsonl --field words \
    --samples 1 --length 8 --until-perplexity 100 --eval-text by-hand --remove 1 -o r.json --quiet

# ---- tasks
echo '{"query": "And God", "choices": ["said", "banana"], "gold": 0}' >choices.jsonl
t_ok "a task" t_run 0 eval chat --task choices.jsonl --json
grep -o '"loglikelihoods":[^]]*' out >plain
t_ok "a task as a chat" t_run 0 eval chat --task choices.jsonl --json --chat
grep -o '"loglikelihoods":[^]]*' out >asked
t_ok "is another question" sh -c '! cmp -s asked plain'
t_ok "without a template" t_says 1 "no chat template" eval "$demo" --task choices.jsonl --chat


# ---- flags without effect
t_ok "--chat" t_says 2 "chat: expected --task" eval chat --text talks.jsonl --chat
t_ok "--no-think" t_says 2 "no-think: expected --chat" eval chat --task choices.jsonl --no-think
t_ok "--field" t_says 2 "field: expected --text FILE with" eval chat --task choices.jsonl --field a
t_ok "--date" t_says 2 "date: expected --text FILE or" eval chat --task choices.jsonl \
    --date 2024-07-26
for day in 2023-02-29 2024-04-31 1900-02-29 2024-00-01; do
    t_ok "$day" t_says 2 "date: expected a day" eval chat --text talks.jsonl --date $day
done

# ---- exports keep the template
t_ok "to GGUF" t_run 0 export chat --plan plan.json --format gguf-masked -o chat.gguf
t_ok "its info" t_run 0 info chat.gguf
t_ok "its template" grep -q '^chat template *chatml$' out
printf 'And God said\n' >said
t_ok "a chat with it" sh -c '"$1" generate chat.gguf --chat -n 4 --quiet <said >out' x "$finercut"
t_ok "an answer" lines out 1

t_end test_chat_cli
