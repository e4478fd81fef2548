// JSON lines that users give: files of tasks, with a chat and without, conversations, texts in a
// member. What opens is run by a tiny model. The input: a byte says which of them it is, one how it
// is asked, one by which chat format; then the lines.
//   make build/fuzz/fuzz_lines && build/fuzz/fuzz_lines -max_total_time=60 -max_len=1024
// tests/fuzz/corpus/lines
#define FUZZ_WORDS                                                                                 \
    "query", "choices", "gold", "question", "answer", "text", "label", "answerKey", "goal",        \
        "sol1", "sol2", "question_stem", "passage", "context_options", "continuation", "sentence", \
        "option1", "option2", "context", "ctx_a", "ctx_b", "ctx", "endings", "activity_label",     \
        "subject", "messages", "conversations", "role", "content", "from", "value", "system",      \
        "user", "assistant", "human", "gpt", "tools", "documents", "tool_calls", "", " ", "a _ b", \
        "the [title] he", "[a] b", "0", "1", "2", "A", "B", "<s>", "</s>", "<|im_end|>",           \
        "<think>a</think>b", "/no_think", "the the", "tool", "\\n",
#include "fuzz.h"

#include "../tiny.h"
#define FUZZ_SKIP 3
#include "mutate.h"

enum { LINES_VOCAB = 40, LINES_CHATS = 10, LINES_TEXTS, LINES_KINDS }; // before them: the tasks

typedef struct lines_model { // opened once
    fc_model *m;
    fc_chat *chat;
    char *tokenizer;
} lines_model;
static tiny lines_base;
static lines_model lines_models[2]; // the second's tokenizer adds <s> and </s>

static const char lines_settings[] =
    "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"},\"chat_template\":\"{% for message"
    " in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'"
    " + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% endif %}\"}";

static char *lines_tokenizer(bool adds) {
    static const char *const special[] = {"<s>", "</s>", "<|im_start|>", "<|im_end|>"};
    static const char more[] =
        "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\""
        ":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"</s>\","
        "\"type_id\":0}}],\"pair\":[],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[1],"
        "\"tokens\":[\"<s>\"]},\"</s>\":{\"id\":\"</s>\",\"ids\":[2],\"tokens\":[\"</s>\"]}}}";
    const size_t size = 4096;
    char *out = (char *)malloc(size);
    FUZZ_MUST(out != NULL);
    size_t n = (size_t)snprintf(out, size, "{\"added_tokens\":[");
    for (int i = 0; i < 4; i++)
        n += (size_t)snprintf(out + n, size - n,
                              "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":"
                              "false,\"rstrip\":false,\"normalized\":false,\"special\":true}",
                              i ? "," : "", i + 1, special[i]);
    n += (size_t)snprintf(out + n, size - n,
                          "],\"post_processor\":%s,\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\","
                          "\"fuse_unk\":true,\"vocab\":{\"?\":0,\" \":5,\"\\n\":6",
                          adds ? more : "null");
    for (int i = 0; i < 26; i++)
        n += (size_t)snprintf(out + n, size - n, ",\"%c\":%d", 'a' + i, 7 + i);
    n += (size_t)snprintf(out + n, size - n,
                          ",\"th\":33,\"the\":34,\" a\":35},\"merges\":[[\"t\",\"h\"],[\"th\","
                          "\"e\"],[\" \",\"a\"]]}}");
    return out;
}

static void lines_begin(void) {
    static const char *const folders[][3] = {{"t", "t/tokenizer.json", "t/tokenizer_config.json"},
                                             {"u", "u/tokenizer.json", "u/tokenizer_config.json"}};
    memory *w = &lines_base.world;
    fc_model_desc desc;
    fc_error err;
    FUZZ_MUST(fc_task_name(LINES_CHATS - 1) && !fc_task_name(LINES_CHATS));
    tiny_llama(&lines_base, 2, 8, 2, 1, LINES_VOCAB);
    tiny_ends(&lines_base);
    fc_model_close(tiny_open(&lines_base, 0, 1, &err));
    memory_add(w, "u/config.json", w->files[0].data, w->files[0].size);
    memory_add(w, "u/model.safetensors", w->files[1].data, w->files[1].size);
    memset(&desc, 0, sizeof desc);
    desc.env = fuzz_env(w);
    for (int i = 0; i < 2; i++) {
        lines_model *l = &lines_models[i];
        l->tokenizer = lines_tokenizer(i == 1);
        memory_add(w, folders[i][1], l->tokenizer, strlen(l->tokenizer));
        memory_add(w, folders[i][2], lines_settings, sizeof lines_settings - 1);
        l->m = fc_model_open(folders[i][0], &desc, &err);
        FUZZ_GOOD(l->m && fc_model_tokenizer(l->m, &err), err);
        l->chat = fc_chat_open(l->m, NULL, &err);
        FUZZ_GOOD(l->chat != NULL, err);
    }
}

T_FN void lines_end(void) {
    for (int i = 0; i < 2; i++) {
        fc_chat_close(lines_models[i].chat);
        fc_model_close(lines_models[i].m);
        free(lines_models[i].tokenizer);
    }
    tiny_end(&lines_base);
}

// Any format, as if the template had its form and traits.
static void lines_format(fc_chat *c, uint32_t row, uint32_t how) {
    c->row = &fci_chat_rows[row % FCI_CHAT_ROWS];
    c->form = row & 128 ? "{%if tools%}{{message.tool_calls}}{%endif%}{{documents}}" : "";
    c->start = how & 1;
    c->turns = how & 2;
    c->leads = c->turns || (how & 4);
    c->once = c->leads;
    c->bare = c->quiet = c->dated = how & 8;
    c->open = c->overrides = c->has_preset = how & 16;
    c->presets[0] = c->presets[1] = fci_s("the a");
}

static void lines_error(const fc_error *err) { // one line
    FUZZ_MUST(err->code && *err->msg);
    for (const char *p = err->msg; *p; p++) FUZZ_MUST((unsigned char)*p >= ' ');
}

static void lines_result(const fc_task_result *r, bool words) {
    FUZZ_MUST(r->n > 0 && r->n_cut <= r->n && r->acc >= 0 && r->acc <= 1);
    FUZZ_MUST(words ? r->perplexity > 0.99 : r->acc_norm >= 0 && r->acc_norm <= 1);
    for (size_t i = 0; i < r->n; i++) {
        const fc_task_item *item = &r->items[i];
        const uint32_t most = words ? 2 : item->n_choices;
        FUZZ_MUST(item->line > 0 && item->gold < item->n_choices && item->choice < most);
        FUZZ_MUST(item->choice_norm < most);
        for (uint32_t k = 0; k < item->n_choices; k++) FUZZ_MUST(item->loglikelihoods[k] < 1e-3);
    }
}

static void lines_task(const lines_model *l, const char *name, const char *text, size_t size,
                       uint32_t how) {
    fc_task_desc d;
    fc_error err;
    memset(&d, 0, sizeof d);
    d.name = name;
    d.path = "a.jsonl";
    d.text = text;
    d.length = size;
    d.limit = how & 32 ? 0 : 1;
    d.shots = how >> 6 & 1;
    d.seed = how;
    d.chat = how >> 7 & 1 ? l->chat : NULL;
    fc_tasks *t = fc_tasks_open(l->m, &d, 1, &err);
    if (!t) {
        lines_error(&err);
        return;
    }
    const fc_task_result *r = fc_tasks_run(t, NULL, NULL, &err);
    FUZZ_GOOD(r != NULL, err);
    lines_result(r, strcmp(name, "lambada") == 0);
    fc_tasks_close(t);
}

static void lines_chats(const lines_model *l, const char *text, size_t size) {
    fc_tokens tokens;
    fc_error err;
    if (fc_lines_chat(l->chat, text, size, &tokens, &err)) {
        lines_error(&err);
        return;
    }
    FUZZ_MUST(tokens.n_sequences == 1);
    for (size_t i = 0; i < tokens.starts[1]; i++) FUZZ_MUST(tokens.ids[i] < LINES_VOCAB);
    fc_tokens_free(&tokens);
}

static void lines_texts(const char *text, size_t size, uint32_t how) {
    static const char *const fields[] = {"text", "content", "", "the"};
    fc_text out;
    fc_error err;
    fc_env env = fuzz_env(&lines_base.world);
    if (fc_lines_text(text, size, fields[how % 4], &env, &out, &err)) {
        lines_error(&err);
        return;
    }
    FUZZ_MUST(out.bytes && out.bytes[out.length] == 0);
    fc_text_free(&out);
}

FUZZ_TARGET(lines) {
    fuzz_input in = {data, size};
    if (!lines_base.data) lines_begin();
    const size_t kind = fuzz_below(&in, 2 * LINES_KINDS);
    const uint32_t how = fuzz_byte(&in), row = fuzz_byte(&in);
    const lines_model *l = &lines_models[kind / LINES_KINDS];
    const char *name = fc_task_name(kind % LINES_KINDS);
    const long live = lines_base.world.live;
    char *text = (char *)malloc(in.n ? in.n : 1); // of exactly its size
    FUZZ_MUST(text != NULL);
    if (in.n) memcpy(text, in.p, in.n);
    lines_format(l->chat, row, how);
    if (kind % LINES_KINDS < LINES_CHATS) lines_task(l, name, text, in.n, how);
    else if (kind % LINES_KINDS == LINES_CHATS) lines_chats(l, text, in.n);
    else lines_texts(text, in.n, how);
    free(text);
    FUZZ_MUST(lines_base.world.live == live);
    return 0;
}
#undef FUZZ_WORDS
