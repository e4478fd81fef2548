// The five tokens a model finds most likely after a text.
//   cc -O2 examples/logits.c -o logits -lm -pthread && ./logits examples/demo "In the beginning"
#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"

#include <stdio.h>
#include <string.h>

typedef struct last_row {
    float *row;
    uint32_t size;
} last_row;

// fc_logits hands over the rows in order and in pieces; only the very last one is wanted here.
static int keep_last(void *user, const float *rows, size_t n_rows) {
    last_row *last = (last_row *)user;
    memcpy(last->row, rows + (n_rows - 1) * last->size, last->size * sizeof *rows);
    return 0;
}

static void print_best(const fc_tokenizer *t, last_row *last) {
    for (int k = 0; k < 5; k++) {
        uint32_t best = 0;
        fc_text text;
        for (uint32_t i = 1; i < last->size; i++)
            if (last->row[i] > last->row[best]) best = i;
        if (fc_detokenize(t, &best, 1, &text, NULL) == FC_OK)
            printf("%8.3f  \"%.*s\"\n", (double)last->row[best], (int)text.length, text.bytes);
        fc_text_free(&text);
        last->row[best] = -HUGE_VALF;
    }
}

static int show(fc_model *m, const char *text, fc_error *err) {
    last_row last;
    fc_tokens tokens;
    const fc_tokenizer *t = fc_model_tokenizer(m, err);
    if (!t || fc_tokenize(t, text, strlen(text), FINERCUT_TOKENIZE_SPECIAL, &tokens, err)) return 1;
    last.size = fc_model_config(m)->vocab_size;
    last.row = (float *)malloc(last.size * sizeof *last.row);
    fc_code code = FC_ERR_MEMORY;
    if (last.row) code = fc_logits(m, &tokens, NULL, NULL, keep_last, &last, err);
    if (code == FC_OK) print_best(t, &last);
    free(last.row);
    fc_tokens_free(&tokens);
    return code != FC_OK;
}

int main(int argc, char **argv) {
    fc_error err = {FC_OK, 0, "out of memory"};
    if (argc != 3) {
        fprintf(stderr, "usage: logits MODEL TEXT\n");
        return 2;
    }
    fc_model *m = fc_model_open(argv[1], NULL, &err);
    int bad = !m || show(m, argv[2], &err);
    if (bad) fprintf(stderr, "logits: %s\n", err.msg);
    fc_model_close(m);
    return bad;
}
