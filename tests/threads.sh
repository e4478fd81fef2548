#!/bin/sh
# Everything that uses threads, by more of them than there are cores. Meant for a build with the
# thread sanitizer (make tsan), which ends a program with a data race by status 66.
. tests/t.sh
data=tests/data demo=examples/demo
echo '[[1,2,3,4,5,6,7,8,9,10],[20,30,40,50,60,70],[7,7,7,1]]' >"$t_dir/tokens.json"
for model in $data/llama_f16_sharded $data/llama_f32_bias $data/llama_q4_0.gguf; do
    for metric in js angular euclidean nll; do
        t_ok "prune $model --metric $metric" "$finercut" prune $model --tokens \
            "$t_dir/tokens.json" --metric $metric --threads 4 --quiet --force -o "$t_dir/plan.json"
    done
    t_ok "eval $model" "$finercut" eval $model --tokens "$t_dir/tokens.json" --threads 4 \
        --plan "$t_dir/plan.json"
    t_ok "logits $model" "$finercut" logits $model --tokens "$t_dir/tokens.json" --threads 4 \
        -o "$t_dir/l.npy"
done
t_ok "prune the demo" "$finercut" prune $demo --text $demo/calibration.txt --samples 3 --length 64 \
    --remove 2 --threads 4 --force -o "$t_dir/plan.json"
t_end threads
