/* Renders conversations by chat templates, for tools/check_chat.py. Standard input: a JSON object a
   line, {"settings": tokenizer_config.json as a string, "cases": [{"messages": [{"role",
   "content"}], "prompt": true, "no_think": false}], "date": 20240726}. Standard output: for each
   case a line, {"name", "text"} or {"error"}.
   Build: cc -O1 tools/render_chat.c -o build/render_chat -lm -pthread
   Run: build/render_chat MODEL-DIRECTORY <lines */
#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"

static fc_error err;

static int wrong(const char *what) {
    fprintf(stderr, "render_chat: %s\n", what);
    return 1;
}

static void answer(fci_buffer *out, const fc_chat *chat, const fc_text *text) {
    if (text->bytes)
        fci_json_put(out, "{'name': %s, 'text': %.*s}\n", fc_chat_name(chat), (int)text->length,
                     text->bytes);
    else fci_json_put(out, "{'error': %s}\n", err.msg);
}

static void render(fc_model *m, const fci_json *c, uint64_t date, fci_arena *a, fci_buffer *out) {
    const fci_json *list = fci_json_get(c, "messages"), *n = fci_json_first(list);
    bool prompt = false, no_think = false;
    fc_message *messages =
        (fc_message *)fci_arena_alloc(a, list->count, sizeof *messages, "messages", &err);
    fc_text text;
    memset(&text, 0, sizeof text);
    fci_json_option(c, "prompt", &prompt, &err);
    fci_json_option(c, "no_think", &no_think, &err);
    for (uint32_t i = 0; i < list->count; i++, n = fci_json_next(n)) {
        const fci_str role = fci_json_get(n, "role")->text, s = fci_json_get(n, "content")->text;
        messages[i].role = fci_is(role, "system") ? FC_ROLE_SYSTEM
                           : fci_is(role, "user") ? FC_ROLE_USER : FC_ROLE_ASSISTANT;
        messages[i].text = s.p;
        messages[i].length = s.n;
    }
    const fc_chat_desc desc = {(uint32_t)date, no_think};
    fc_chat *chat = fc_chat_open(m, &desc, &err);
    if (chat) fc_chat_render(chat, messages, list->count, prompt, &text, &err);
    answer(out, chat, &text);
    fc_text_free(&text);
    fc_chat_close(chat);
}

// Whether the template of the settings is known; quick, without a model.
static bool known(const fci_json *item, fci_arena *a) {
    const fci_str text = fci_json_get(item, "settings")->text;
    const fci_json *settings;
    fc_chat chat;
    memset(&chat, 0, sizeof chat);
    chat.arena.c = a->c;
    const bool good = !fci_json_parse(a->c, a, text.p, text.n, 0, &settings, &err) &&
                      !fci_chat_recognise(&chat, fci_json_get(settings, "chat_template")->text,
                                          20240726, &err);
    fci_arena_free(&chat.arena);
    return good;
}

static int line(fc_memory_file *files, const fci_json *item, fci_arena *a, fci_buffer *out) {
    const fci_str settings = fci_json_get(item, "settings")->text;
    const fci_json *cases = fci_json_get(item, "cases"), *c = fci_json_first(cases);
    files[3].data = settings.p;
    files[3].size = settings.n;
    if (!known(item, a)) {
        for (uint32_t i = 0; i < cases->count; i++) fci_json_put(out, "{'error': %s}\n", err.msg);
        return 0;
    }
    fc_model *m = fc_model_open_memory(files, 4, NULL, &err);
    if (!m) return wrong(err.msg);
    for (uint32_t i = 0; i < cases->count; i++, c = fci_json_next(c))
        render(m, c, fci_json_get(item, "date")->integer, a, out);
    fc_model_close(m);
    return 0;
}

int main(int argc, char **argv) {
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json"};
    fc_memory_file files[4] = {{"", NULL, 0}};
    fc_text texts[3], input;
    fci_context c;
    char path[1000];
    int status = 0;
    if (argc != 2) return wrong("usage: render_chat MODEL-DIRECTORY <lines");
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", argv[1], names[i]);
        if (fc_file_read(path, NULL, &texts[i], &err)) return wrong(err.msg);
        files[i].name = names[i];
        files[i].data = texts[i].bytes;
        files[i].size = texts[i].length;
    }
    files[3].name = "tokenizer_config.json";
    if (fc_file_read("-", NULL, &input, &err)) return wrong(err.msg);
    fci_context_basic(&c, NULL);
    fci_json_lines lines = {input.bytes, input.length, 0, 0, {&c, NULL}};
    fci_buffer out = fci_buffer_of(&c);
    const fci_json *item;
    while (!status && !(status = fci_json_next_line(&lines, &item, &err) != FC_OK) && item)
        status = line(files, item, &lines.arena, &out);
    if (out.n) fwrite(out.p, 1, out.n, stdout);
    fci_arena_free(&lines.arena);
    fci_buffer_free(&out);
    for (int i = 0; i < 3; i++) fc_text_free(&texts[i]);
    fc_text_free(&input);
    return status;
}
