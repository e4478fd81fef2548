// Chats: what templates write is what transformers' apply_chat_template writes (tools/check_chat.py
// compares with the real ones; here are short ones that say the same), unknown and hostile ones are
// refused, JSON lines of conversations, a generator that goes on, tasks as chats.
#include "private.h"
#include "memory.h"
#include "t.h"

static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json"};
static fc_memory_file files[5]; // of the demo, with templates
static fc_error err;

static fc_model *open_with(const char *name, const char *text, const fc_alloc *alloc) {
    fc_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.compute = FC_COMPUTE_F32;
    desc.env.par.n_threads = 1;
    if (alloc) desc.env.alloc = *alloc;
    files[3].name = name;
    files[3].data = text;
    files[3].size = strlen(text);
    return fc_model_open_memory(files, 4, &desc, &err);
}

static char *settings_of(const char *chat_template) { // tokenizer_config.json; freed by the caller
    fci_context c;
    fci_context_basic(&c, NULL);
    fci_buffer b = fci_buffer_of(&c);
    fci_json_put(&b, "{'bos_token': '<s>', 'eos_token': {'content': '</s>'}, 'chat_template': %s}",
                 chat_template);
    char *text = (char *)malloc(b.n + 1);
    memcpy(text, b.p, b.n + 1);
    fci_buffer_free(&b);
    return text;
}

// "sBe brief.^uHello^aHi" are three messages.
static size_t messages_of(const char *talk, fc_message *m) {
    size_t n = 0;
    for (const char *p = talk; *p; n++) {
        m[n].role = *p == 's' ? FC_ROLE_SYSTEM : *p == 'u' ? FC_ROLE_USER : FC_ROLE_ASSISTANT;
        m[n].text = p + 1;
        m[n].length = strcspn(p + 1, "^");
        p += 1 + m[n].length + (p[1 + m[n].length] == '^');
    }
    return n;
}

typedef struct expected {
    const char *name, *text; // name "": it is not recognised; text NULL: refused
    const char *talk;
    int prompt, no_think;
    const char *words; // of the error
} expected;

#define LOOP "{% for message in messages %}"
#define TURNS "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('" \
    "roles') }}{% endif %}"
#define ASKED "{% endfor %}{% if add_generation_prompt %}{{ '"
#define CHATML LOOP "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end" \
    "|>' + '\n'}}" ASKED "<|im_start|>assistant\n' }}{% endif %}"

// The row of a name, and the `nth` of those, as if the template had one of its forms.
static bool take_row(fc_chat *chat, const char *name, int nth, const char *chat_template) {
    fci_buffer plain = fci_buffer_of(chat->arena.c), form = fci_buffer_of(chat->arena.c);
    fci_puts(&plain, "");
    fci_puts(&form, "");
    fci_chat_plain(fci_s(chat_template), &plain);
    fci_chat_form(plain.p, &form);
    chat->row = fci_chat_rows;
    while (strcmp(chat->row->name, name) != 0 || nth-- > 0) chat->row++;
    chat->no_think = chat->no_think && chat->row->no_think;
    const bool good = fci_chat_traits(chat, plain.p, form.p, 20240726) &&
                      fci_chat_presets(chat, plain.p, &err) && !fci_chat_find_end(chat, &err);
    fci_buffer_free(&plain);
    fci_buffer_free(&form);
    return good;
}

// nth: of the rows of the name, whatever the template's form is; -1: the form tells.
static void check(const char *chat_template, int nth, const expected *e, size_t n) {
    char *settings = settings_of(nth < 0 ? chat_template : CHATML);
    fc_model *m = open_with("tokenizer_config.json", settings, NULL);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    for (size_t i = 0; i < n; i++) {
        fc_message messages[16];
        fc_text text = {NULL, 0, {NULL, NULL}};
        const fc_chat_desc desc = {20240726, nth < 0 && e[i].no_think};
        fc_chat *chat = fc_chat_open(m, &desc, &err);
        if (chat && nth >= 0) {
            chat->no_think = e[i].no_think;
            const bool good = take_row(chat, *e[i].name ? e[i].name : "llama-3.1", nth,
                                       chat_template);
            T_OK(good == !!*e[i].name, "%s", chat_template);
            if (!good) {
                fc_chat_close(chat);
                continue;
            }
        }
        T_OK(!chat == !*e[i].name && (!chat || !strcmp(fc_chat_name(chat), e[i].name)),
             "%s: %s", e[i].name, chat ? fc_chat_name(chat) : err.msg);
        if (!chat) {
            T_OK(err.code == FC_ERR_UNSUPPORTED && strstr(err.msg, "ready-made"), "%s", err.msg);
            continue;
        }
        T_OK(fc_chat_date(chat) == (strstr(chat_template, "strftime_now") ? desc.date : 0),
             "%s: %u", e[i].name, fc_chat_date(chat));
        const size_t k = messages_of(e[i].talk, messages);
        const fc_code code = fc_chat_render(chat, messages, k, e[i].prompt, &text, &err);
        if (!e[i].text)
            T_OK(code == FC_ERR_UNSUPPORTED && strstr(err.msg, e[i].words) && !text.bytes,
                 "%s: %s: \"%s\"", e[i].name, e[i].talk, text.bytes ? text.bytes : err.msg);
        else
            T_OK(!code && !strcmp(text.bytes, e[i].text) && text.length == strlen(e[i].text),
                 "%s: %s: \"%s\"", e[i].name, e[i].talk, text.bytes ? text.bytes : err.msg);
        fc_text_free(&text);
        fc_chat_close(chat);
    }
    fc_model_close(m);
    free(settings);
}
#define ROW(nth, text, ...)                                                                        \
    do {                                                                                           \
        const expected e[] = {__VA_ARGS__};                                                        \
        check(text, nth, e, sizeof e / sizeof *e);                                                 \
    } while (0)
#define CHECK(text, ...) ROW(-1, text, __VA_ARGS__)

static void test_chatml(void) {
    CHECK(CHATML,
          {"chatml", "<|im_start|>system\nBe.<|im_end|>\n<|im_start|>user\n Hi \n<|im_end|>\n",
           "sBe.^u Hi \n", 0, 0, NULL},
          {"chatml", "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n", "u", 1, 0, NULL});
    // the same in other words, with a system message of its own
    CHECK("{#- a comment -#}\n" LOOP "{%- if loop.first and messages[0][\"role\"] != 'system' %}"
          "{{- '<|im_start|>system\\nIt\\'s \"it\".<|im_end|>\\n' }}{%- endif %}\n    "
          "{{- \"<|im_start|>\" + message.role + \"\\n\" + message.content + '<|im_end|>\\n' -}}\n"
          "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
          "{%- endif %}\n",
          {"chatml", "<|im_start|>system\nIt's \"it\".<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n",
           "uHi", 0, 0, NULL},
          {"chatml", "<|im_start|>system\nBe.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n",
           "sBe.^uHi", 0, 0, NULL});
    CHECK("{{ bos_token }}" CHATML,
          {"chatml", "<s><|im_start|>user\nHi<|im_end|>\n", "uHi", 0, 0, NULL});
    // blanks are taken off, which ChatML does not; bos in the middle; a newline that stays
    CHECK(LOOP "{{'<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>"
          "\n'}}" ASKED "<|im_start|>assistant\n' }}{% endif %}", {"", NULL, "uHi", 0, 0, NULL});
    CHECK(CHATML "{{ bos_token }}", {"", NULL, "uHi", 0, 0, NULL});
    // more than the format: text before it, twice, in another order, of other messages, more texts
    CHECK("Always this\n" CHATML, {"", NULL, "uHi", 0, 0, NULL});
    CHECK(CHATML CHATML, {"", NULL, "uHi", 0, 0, NULL});
#define CHATML_IN(before, loop, after)                                                             \
    before "{% for message in messages" loop " %}{{'<|im_start|>' + message['role'] + '\n' + "     \
    "message['content'] + '<|im_end|>' + '\n'}}" after ASKED                                       \
    "<|im_start|>assistant\n' }}{% endif %}"
    CHECK(CHATML_IN("", "", ""), {"chatml", "<|im_start|>user\nHi<|im_end|>\n", "uHi", 0, 0, NULL});
    CHECK(CHATML_IN("", "|reverse", ""), {"", NULL, "uHi", 0, 0, NULL});
    CHECK(CHATML_IN("", " if message.role!='assistant'", ""), {"", NULL, "uHi", 0, 0, NULL});
    CHECK(CHATML_IN("", "", "{{ 'More' }}"), {"", NULL, "uHi", 0, 0, NULL});
    CHECK(CHATML_IN("", " %}{% set message = {'role': 'user', 'content': 'x'}", ""),
          {"", NULL, "uHi", 0, 0, NULL});
    CHECK(CHATML_IN("{% if false %}", "", "") "{% else %}{% endif %}",
          {"", NULL, "uHi", 0, 0, NULL});
    CHECK(LOOP "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>"
          "\n'}}\n" ASKED "<|im_start|>assistant\n' }}\n{% endif %}",
          {"", NULL, "uHi", 0, 0, NULL});
    CHECK("", {"", NULL, "uHi", 0, 0, NULL});
}

#define SMOL "You are a helpful AI assistant named SmolLM, trained by Hugging Face."

static void test_thinking(void) {
    ROW(0, "{%- if ns.multi_step_tool and message.role == 'user' and not (message.content."
          "startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}"
          "{% endif %}" LOOP "{%- if message.role == 'user' %}{{- '<|im_start|>' + message.role + "
          "'\\n' + message.content + '<|im_end|>' + '\\n' }}{% elif message.role == 'assistant' %}"
          "{%- if loop.index0 > ns.last_query_index %}{% endif %}{{- '<|im_start|>' + message.role "
          "+ '\\n' + content }}{% endif %}" "{% endfor %}"
          "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n    {%- if "
          "enable_thinking is defined and enable_thinking is false %}\n        "
          "{{- '<think>\\n\\n</think>\\n\\n' }}\n    {%- endif %}\n{%- endif %}",
          {"qwen3", "<|im_start|>user\n1?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"
                    "<|im_start|>user\n2?<|im_end|>\n<|im_start|>assistant\n<think>\nb\n</think>\n"
                    "\n4<|im_end|>\n",
           "u1?^a<think>\na\n</think>\n\n2^u2?^a<think>b</think>4", 0, 0, NULL},
          {"qwen3", "<|im_start|>user\n1?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
                    "2<|im_end|>\n", "u1?^a\n2", 0, 0, NULL},
          {"qwen3", "<|im_start|>user\n1?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n"
                    "\n", "u1?", 1, 1, NULL});
    ROW(0, "{{- '## Metadata\\n\\n' -}}{{- 'Knowledge Cutoff Date: June 2025\\n' -}}"
          "{%- set today = strftime_now('%d %B %Y') -%}{{- 'Today Date: ' ~ today ~ '\\n' -}}"
          "{{- 'Reasoning Mode: ' + reasoning_mode + '\\n\\n' -}}"
          "{%- elif reasoning_mode == '/think' -%}{{- '" SMOL "\\n\\n' -}}{%- else -%}{{- '" SMOL
          "\\n\\n' -}}{%- endif -%}{{- '<|im_end|>\\n' -}}{{ '<|im_start|>assistant\\n' + "
          "content.lstrip('\\n') + '<|im_end|>\\n' }}",
          {"smollm3", "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday "
                      "Date: 26 July 2024\nReasoning Mode: /think\n\n## Custom Instructions\n\n"
                      SMOL "\n\n<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant"
                      "\n", "uHi", 1, 0, NULL},
          {"smollm3", "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday "
                      "Date: 26 July 2024\nReasoning Mode: /no_think\n\n## Custom Instructions\n\n"
                      "Be.\n\n<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
                      "<think>\n\n</think>\nYo<|im_end|>\n", "sBe. /no_think^uHi^a\nYo", 0, 0,
           NULL},
          {"smollm3", NULL, "uHi^sBe.", 0, 0, "at the start only"});
}

static void test_llama(void) {
    ROW(0, "{% set loop_messages = messages[1:] %}" LOOP TURNS "{% set content = '<<SYS>>\\n' "
          "+ system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{{ bos_token + '[INST] ' "
          "+ content.strip() + ' [/INST]' }}{{ ' '  + content.strip() + ' ' + eos_token }}"
          "{% endfor %}",
          {"llama-2", "<s>[INST] <<SYS>>\n Be.\n<</SYS>>\n\n Hi [/INST] Yo </s><s>[INST] And? "
                      "[/INST]", "s Be.^u Hi\xc2\xa0^a Yo\n^uAnd?", 1, 0, NULL},
          {"llama-2", "<s>[INST] Hi [/INST]", "u Hi", 0, 0, NULL},
          {"llama-2", NULL, "uHi^uHo", 0, 0, "in turn"},
          {"llama-2", NULL, "aHi", 0, 0, "message 1 (assistant)"},
          {"llama-2", NULL, "sBe.", 0, 0, "with a user's message"});
    ROW(0, LOOP "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
          "+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = "
          "bos_token + content %}{% endif %}{{ content }}" ASKED "<|start_header_id|>assistant<|"
          "end_header_id|>\n\n' }}{% endif %}",
          {"llama-3", "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_"
                      "id|>assistant<|end_header_id|>\n\n", "u Hi\n", 1, 0, NULL});
#define HEADER "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December " \
    "2023\nToday Date: "
#define LLAMA_31(day) "{{- bos_token }}{%- set date_string = " day " %}{{- 'Cutting Knowledge " \
    "Date: December 2023\\n' }}{{- 'Today Date: ' + date_string + '\\n\\n' }}{{- " \
    "system_message }}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ " \
    "message['content'] | trim + '<|eot_id|>' }}"
    ROW(0, LLAMA_31("'1 Jan 2020'"),
          {"llama-3.1", "<s>" HEADER "1 Jan 2020\n\n<|eot_id|><|start_header_id|>user<|end_"
                        "header_id|>\n\nHi<|eot_id|>", "uHi", 0, 0, NULL});
    ROW(0, LLAMA_31("strftime_now('%d %b %Y')"),
          {"llama-3.1", "<s>" HEADER "26 Jul 2024\n\nBe.<|eot_id|><|start_header_id|>user<|end_head"
                        "er_id|>\n\nHi<|eot_id|>", "sBe. ^uHi", 0, 0, NULL});
    ROW(0, LLAMA_31("strftime_now('%A')"), {"", NULL, "uHi", 0, 0, NULL});
}

#define IF_USER "{% if message['role'] == 'user' %}"
#define ELIF_SYSTEM "{% elif message['role'] == 'system' %}"

static void test_others(void) {
    ROW(0, "{{ bos_token }}{{ raise_exception('System role not supported') }}" LOOP TURNS
          "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
          "{% endfor %}",
          {"gemma", "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", "uHi ",
           1, 0, NULL},
          {"gemma", NULL, "sBe.^uHi", 1, 0, "has no system message"});
    ROW(0, "{{ bos_token }}\n{%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}" LOOP
          TURNS "{{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else '') "
          "}}"
          "{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}{%- endfor -%}",
          {"gemma-3", "<s><start_of_turn>user\n Be.\n\nHi<end_of_turn>\n<start_of_turn>model\nYo"
                      "<end_of_turn>\n", "s Be.^u Hi ^aYo", 0, 0, NULL});
    ROW(0, LOOP "{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\n' + "
          "message['content'] + '<|end|>\n'}}{% endif %}{{'<|user|>\n' + message['content'] + "
          "'<|end|>\n'}}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}" ASKED
          "<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
          {"phi-3", "<|user|>\nHi<|end|>\n</s>", "s^uHi", 0, 0, NULL},
          {"phi-3", "<|system|>\nBe.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\n", "sBe.^uHi", 1,
           0, NULL});
    ROW(2, "{{ bos_token }}" LOOP "{{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + "
          "'<|assistant|>' + '\n'}}{{message['content'] + '<|end|>' + '\n'}}{% endfor %}",
          {"phi-3", "<s><|user|>\nHi<|end|>\n<|assistant|>\nYo<|end|>\n", "uHi^aYo", 1, 0, NULL},
          {"phi-3", NULL, "sBe.^uHi", 1, 0, "has no system message"});
    ROW(0, "{{- bos_token }}{%- for message in loop_messages %}" TURNS "{%- if loop.last and "
          "system_message is defined %}{{- \"[INST] \" + system_message + \"\\n\\n\" + "
          "message[\"content\"] + \"[/INST]\" }}{% endif %}{{- \" \" + message[\"content\"]|trim + "
          "eos_token}}{%- endfor %}",
          {"mistral-v3", "<s>[INST] Hi[/INST] Yo</s>[INST] Be.\n\nAnd?[/INST]",
           "sBe.^uHi^a Yo ^uAnd?", 1, 0, NULL},
          {"mistral-v3", "<s>[INST] Hi[/INST] Yo</s>", "sBe.^uHi^aYo", 0, 0, NULL});
    ROW(0, "{{ bos_token }}" LOOP TURNS "{{ '[INST] ' + message['content'] + ' [/INST]' }}"
          "{{ message['content'] + eos_token}}{{ raise_exception('Only user and assistant roles "
          "are supported!') }}{% endfor %}",
          {"mistral", "<s>[INST] Hi [/INST]Yo</s>", "uHi^aYo", 1, 0, NULL});
    ROW(1, "{% set today = strftime_now('%Y-%m-%d') %}{%- set default_system_message = 'It is ' + "
          "today + '.' %}{{- bos_token }}{%- set system_message = default_system_message %}{{- "
          "'[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}{{- '[INST]' + "
          "message['content'] + '[/INST]' }}{{- message['content'] + eos_token }}",
          {"mistral-v7-tekken", "<s>[SYSTEM_PROMPT]It is 2024-07-26.[/SYSTEM_PROMPT][INST]Hi[/INST"
                                "]Yo</s>", "uHi^aYo", 0, 0, NULL});
    ROW(0, LOOP "\n" IF_USER "\n{{ '<|user|>\\n' + message['content'] + eos_token }}\n"
          ELIF_SYSTEM "\n"
          "{{ '<|system|>\\n' + message['content'] + eos_token }}\n{% else %}\n{{ '<|assistant|>"
          "\\n'  + message['content'] + eos_token }}\n{% endif %}\n{{ '<|assistant|>' }}\n"
          "{% endfor %}",
          {"zephyr", "<|user|>\nHi</s>\n<|assistant|>\n", "uHi", 1, 0, NULL});
    ROW(0, "{{ bos_token }}" LOOP "{{ '<|system|>\n' + message['content'] + '\n' }}{{ '<|user|>\n'"
          " + message['content'] + '\n' }}{% if not loop.last %}{{ '<|assistant|>\n'  + "
          "message['content'] + eos_token + '\n' }}{% else %}{{ '<|assistant|>\n'  + "
          "message['content'] + eos_token }}{% endif %}{{ '<|assistant|>\n' }}{% endfor %}",
          {"olmo-2", "<s><|user|>\nHi\n<|assistant|>\nYo</s>\n<|user|>\nAnd?\n<|assistant|>\nNo<"
                     "/s>", "uHi^aYo^uAnd?^aNo", 0, 0, NULL});
    // with full-width bars and low lines, which are the family's own
#define R1(role) "<\xef\xbd\x9c" role "\xef\xbd\x9c>"
#define R1_END R1("end\xe2\x96\x81of\xe2\x96\x81sentence")
    ROW(1, "{% set ns.system_prompt = message['content'] %}{{bos_token}}{{ns.system_prompt}}" LOOP
          "{{'" R1("User") "' + message['content']}}{% if '</think>' in content %}{% set content = "
          "content.split('</think>')[-1] %}{% endif %}{{'" R1("Assistant") "' + content + '" R1_END
          "'}}{% endfor %}{% if add_generation_prompt %}{{'" R1("Assistant") "<think>\\n'}}"
          "{% endif %}",
          {"deepseek-r1", "<s>Be." R1("User") "Hi" R1("Assistant") "\nYo" R1_END R1("User") "And?"
                          R1("Assistant") "<think>\n", "sBe.^uHi^a<think>a</think>\nYo^uAnd?", 1, 0,
           NULL},
          {"deepseek-r1", NULL, "uHi^sBe.", 1, 0, "at the start only"});
    ROW(0, "{% set loop_messages = messages %}{% set system_message = 'x' %}" IF_USER
          "{% else %}{% set loop_messages = messages %}{% set system_message = 'A chat.' %}"
          "{% endif %}" LOOP
          TURNS "{% if loop.index0 == 0 %}{{ system_message }}{% endif %}{{ ' USER: ' + "
          "message['content'].strip() }}{{ ' ASSISTANT: ' + message['content'].strip() + "
          "eos_token }}{% endfor %}{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}",
          {"vicuna", "A chat. USER: Hi ASSISTANT: Yo</s> USER: And? ASSISTANT:", "u Hi^aYo ^uAnd?",
           1, 0, NULL},
          {"vicuna", " Be. USER: Hi", "s Be.^uHi", 0, 0, NULL});
#define GRANITE "<|start_of_role|>"
    ROW(0, IF_USER "{%- set loop_messages = messages[1:] %}{%- else %}{%- set system_message = "
          "'On ' + strftime_now('%B %d, %Y') + '.' %}{%- if tools %}{%- else %}{%- set "
          "system_message = system_message + ' You are a helpful AI assistant.' %}"
          "{% endif %}{% endif %}{{- '" GRANITE
          "system<|end_of_role|>' + system_message + '<|end_of_text|>\n' }}{{- '" GRANITE "' + "
          "message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\n' }}{%- if "
          "loop.last and add_generation_prompt %}{{- '" GRANITE "assistant' }}{% endif %}",
          {"granite-3", GRANITE "system<|end_of_role|>On July 26, 2024. You are "
                        "a helpful AI assistant.<|end_of_text|>\n"
                        GRANITE "user<|end_of_role|>Hi<|end_of_text|>\n" GRANITE
                        "assistant<|end_of_role|>", "uHi", 1, 0, NULL},
          {"granite-3", NULL, "sBe.", 1, 0, "with a user's message"});
}

// Known tags in another arrangement are another template.
static void test_arrangements(void) {
#define BODY "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' " \
    "+ '\n'}}"
#define PROMPT "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
#define OWN "{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nA.<|" \
    "im_end|>\n' }}{% endif %}"
    static const struct {
        const char *text;
        bool known;
    } cases[] = {
        {LOOP BODY "{% endfor %}" PROMPT, true},
        {"{#- x -#}\n" LOOP "{#-#}\n   {{-'<|im_start|>'+ message . role + \"\\n\" \r\n+ message[ "
         "\"content\"]+'<|im_end|>\r\n' -}}\n\n{% endfor %}\n  " PROMPT "\n", true},
        {LOOP OWN BODY "{% endfor %}" PROMPT, true},
        {"{{ bos_token }}" LOOP OWN BODY "{% endfor %}" PROMPT, true},
        {"{{ bos_token }}{{ bos_token }}" LOOP BODY "{% endfor %}" PROMPT, false},
        {"{{ bos_token }}" LOOP BODY "{% endfor %}" PROMPT "{{ bos_token }}", false},
        {LOOP BODY BODY "{% endfor %}" PROMPT, false},
        {LOOP "\n" BODY "\n{% endfor %}\n" PROMPT, false},
        {LOOP "{% endfor %}" BODY PROMPT, false},
        {LOOP LOOP BODY "{% endfor %}{% endfor %}" PROMPT, false},
        {LOOP PROMPT BODY "{% endfor %}", false},
        {LOOP BODY PROMPT "{% endfor %}", false},
        {LOOP BODY "{% endfor %}", false},
        {LOOP BODY "{% endfor %}" PROMPT "{% endif %}", false},
        {LOOP BODY "{% endfor %}" PROMPT PROMPT, false},
        {LOOP IF_USER BODY "{% endif %}{% endfor %}" PROMPT, false},
        {LOOP "{% if not loop.last %}" BODY "{% endif %}{% endfor %}" PROMPT, false},
        {LOOP "{% if add_generation_prompt %}" BODY "{% endif %}{% endfor %}" PROMPT, false},
        {"{% set loop_messages = messages[1:] %}{% for message in loop_messages %}" BODY
         "{% endfor %}" PROMPT, false},
        {LOOP BODY OWN "{% endfor %}" PROMPT, false},
        {LOOP OWN OWN BODY "{% endfor %}" PROMPT, false},
        {LOOP "{{ '*' }}" BODY "{% endfor %}" PROMPT, false},
        {LOOP BODY "\\n{% endfor %}" PROMPT, false},
        {LOOP BODY "{# x }{% endfor %}" PROMPT, false},
        {LOOP BODY "{% endfor % }" PROMPT, false},
        {"{% for message inmessages %}" BODY "{% endfor %}" PROMPT, false},
        {"{% for mess age in messages %}" BODY "{% endfor %}" PROMPT, false},
        {LOOP "{% if loop.first and messages[0]['role'] ! = 'system' %}{{ '<|im_start|>system\nA.<|"
         "im_end|>\n' }}{% endif %}" BODY "{% endfor %}" PROMPT, false},
        {LOOP "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'"
         " | trim }}{% endfor %}" PROMPT, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fci_context c;
        fci_context_basic(&c, NULL);
        fc_chat chat;
        memset(&chat, 0, sizeof chat);
        chat.arena.c = &c;
        const fc_code code = fci_chat_recognise(&chat, fci_s(cases[i].text), 20240726, &err);
        T_OK((code == FC_OK) == cases[i].known && (!code || strstr(err.msg, "got another one")),
             "%s", cases[i].text);
        fci_arena_free(&chat.arena);
    }
    // its own text may say anything that can be read
    CHECK(LOOP "{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n}}{%"
          "<|im_end|>\n' }}{% endif %}" BODY "{% endfor %}" PROMPT,
          {"chatml", "<|im_start|>system\n}}{%<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n", "uHi",
           0, 0, NULL});
    CHECK(LOOP "{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
          "\\x41<|im_end|>\n' }}{% endif %}" BODY "{% endfor %}" PROMPT,
          {"", NULL, "uHi", 0, 0, NULL});
}

// Where templates stand, and which one counts.
static void test_places(void) {
    static const struct {
        const char *name, *text;
        fc_code code;
    } places[] = {
        {"chat_template.jinja", CHATML, FC_OK},
        {"chat_template.json", "{\"chat_template\": \"no\"}", FC_ERR_UNSUPPORTED},
        {"additional_chat_templates/default.jinja", CHATML, FC_OK},
        {"additional_chat_templates/tool_use.jinja", CHATML, FC_ERR_MISMATCH},
        {"tokenizer_config.json", "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"x\"}]}",
         FC_ERR_MISMATCH},
        {"tokenizer_config.json", "{\"chat_template\": 7}", FC_ERR_FORMAT},
        {"chat_template.json", "{\"chat_template\": false}", FC_ERR_FORMAT},
        {"tokenizer_config.json", "{\"chat_template\": [7]}", FC_ERR_FORMAT},
        {"tokenizer_config.json", "{\"chat_template\": null}", FC_ERR_MISMATCH},
        {"tokenizer_config.json", "{", FC_ERR_FORMAT},
        {"other.json", "{", FC_ERR_MISMATCH},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        fc_model *m = open_with(places[i].name, places[i].text, NULL);
        fc_chat *chat = m ? fc_chat_open(m, NULL, &err) : NULL;
        T_OK(err.code == places[i].code && !chat == !!err.code, "place %d: %s", (int)i, err.msg);
        fc_chat_close(chat);
        fc_model_close(m);
    }
}

// Templates in pieces, and with a byte changed: recognised or not, nothing breaks.
static void test_hostile(void) {
    static const char *const starts[] = {CHATML, "{{'", "{%", "{#", "{{ x['", "{{\"\\", "{{x['a",
                                         "}}{%-", "{{ bos_token }}'''\\"};
    char text[700];
    uint32_t state = 7;
    int known = 0;
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        for (size_t n = 0; n <= strlen(starts[i]); n++) {
            snprintf(text, sizeof text, "%.*s", (int)n, starts[i]);
            state = state * 1664525u + 1013904223u;
            if (i == 0 && n && n < strlen(starts[i]) && state >> 31) text[n / 2] = "'{%#-\\"[n % 6];
            fci_context c;
            fci_context_basic(&c, NULL);
            fc_chat chat;
            memset(&chat, 0, sizeof chat);
            chat.arena.c = &c;
            fc_error e;
            memset(&e, 0, sizeof e);
            known += fci_chat_recognise(&chat, fci_s(text), 20240726, &e) == FC_OK;
            fci_arena_free(&chat.arena);
        }
    T_OK(known == 1, "only the whole one is known, not %d", known);
    char *huge = (char *)malloc(FCI_CHAT_LIMIT + 2);
    memset(huge, '{', FCI_CHAT_LIMIT + 1);
    huge[FCI_CHAT_LIMIT + 1] = 0;
    CHECK(huge, {"", NULL, "uHi", 0, 0, NULL});
    huge[FCI_CHAT_LIMIT] = 0;
    CHECK(huge, {"", NULL, "uHi", 0, 0, NULL});
    free(huge);
}

// Every format has one token that ends a turn, where the vocabulary has it.
static void test_ends(void) {
    static const char *const ends[] = {"</s>",          "<|im_end|>", "<|eot_id|>",
                                       "<end_of_turn>", "<|end|>",    "<|end_of_text|>", R1_END};
    char json[2048] = "{\"added_tokens\":[";
    fc_chat chat;
    uint32_t id;
    for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++)
        snprintf(json + strlen(json), sizeof json - strlen(json),
                 "%s{\"id\":%u,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                 "\"rstrip\":false,\"normalized\":false,\"special\":true}",
                 i ? "," : "", i, ends[i]);
    strcat(json, "],\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}");
    const fc_memory_file file = {"tokenizer.json", json, strlen(json)};
    fc_tokenizer *t = fc_tokenizer_open_memory(&file, 1, NULL, &err);
    if (!T_OK(t != NULL, "%s", err.msg)) return;
    memset(&chat, 0, sizeof chat);
    chat.t = t;
    chat.eos = fci_s("</s>");
    for (size_t i = 0; i < FCI_CHAT_ROWS; i++) {
        chat.row = &fci_chat_rows[i];
        const bool eos = strstr(chat.row->assistant, "{e}") != NULL;
        T_OK(!fci_chat_find_end(&chat, &err) && fci_chat_end(&chat, &id) && eos == (id == 0),
             "%s has an end", chat.row->name);
    }
    fc_tokenizer_close(t);
}

static void test_lines(void) {
    static const struct {
        const char *lines, *words; // words NULL: good
    } cases[] = {
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}\n\n{\"conversations\":[{\"from\":"
         "\"human\",\"value\":\"a\\u0001b\"},{\"from\":\"gpt\",\"value\":\"\"}]}", NULL},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\\u0000b\"}]}",
         "line 1: message 1: content: expected a text without NUL characters, got \"a\\x00b\""},
        {"{\"system\":\"a\\u0000\",\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}",
         "line 1: \"system\": expected a text without NUL characters, got \"a\\x00\""},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n",
         "line 1: expected JSON, got a Git LFS pointer"},
        {"<html>\n<head>\n</html>\n", "line 1: expected JSON, got an HTML page"},
        {"{\"id\":1,\"text\":\"x\"}", "line 1: expected \"messages\" or \"conversations\", or the "
                                      "`field` that holds the text; the fields are "
                                      "\"id\", \"text\""},
        {"{}", "the fields are none"},
        {"\n[1]", "line 2: expected an object, got an array"},
        {"", "got no line"},
        {"{\"messages\":[]}", "\"messages\": expected a list of messages"},
        {"{\"messages\":[{\"role\":\"tool\",\"content\":\"\"}]}", "line 1: message 1: \"role\": "},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[]}]}", "message 1: content: expected"},
        {"{\"messages\":[{\"role\":\"user\"}]}", "line 1: message 1:"},
        {"{\"messages\":[7]}", "line 1: message 1:"},
        {"{\"messages\"", "line 1: column"},
        {"{\"messages\":[7],\"conversations\":[7]}", "\"conversations\", got both"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"\",\"from\":\"gpt\",\"value\":\"\"}]}",
         "message 1: expected \"role\" and \"content\", or \"from\" and \"value\", got both"},
        {"{\"system\":[1],\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}",
         "line 1: \"system\": expected a text"},
        {"{\"system\":\"S\",\"messages\":[{\"role\":\"system\",\"content\":\"\"}]}",
         "message 1: expected no message of the system beside \"system\""},
    };
    char *settings = settings_of(CHATML);
    fc_model *m = open_with("tokenizer_config.json", settings, NULL);
    fc_chat *chat = fc_chat_open(m, NULL, &err);
    fc_tokens tokens, one;
    fc_text text;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const fc_code code =
            fc_lines_chat(chat, cases[i].lines, strlen(cases[i].lines), &tokens, &err);
        T_OK(cases[i].words ? code && strstr(err.msg, cases[i].words) : !code, "lines %d: %s",
             (int)i, err.msg);
        if (!code) { // each by itself, then all in one
            const fc_message two[] = {{FC_ROLE_USER, "a\1b", 3}, {FC_ROLE_ASSISTANT, NULL, 0}};
            T_OK(!fc_chat_render(chat, two, 2, 0, &text, &err) && memchr(text.bytes, 1, text.length)
                     && !fc_tokenize(fc_model_tokenizer(m, &err), text.bytes, text.length, 0, &one,
                                     &err), "%s", err.msg);
            const size_t n = one.starts[1], all = tokens.starts[1];
            T_OK(tokens.n_sequences == 1 && all > n &&
                     !memcmp(tokens.ids + all - n, one.ids, n * sizeof *one.ids), "the last chat");
            fc_tokens_free(&one);
            fc_text_free(&text);
        }
        fc_tokens_free(&tokens);
    }
    static const char *const same[] = {
        "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"}],\"system\":\"Be kind\"}",
        "{\"messages\":[{\"role\":\"system\",\"content\":\"Be kind\"},"
        "{\"role\":\"user\",\"content\":\"a\"}]}"};
    T_OK(!fc_lines_chat(chat, same[0], strlen(same[0]), &tokens, &err) &&
             !fc_lines_chat(chat, same[1], strlen(same[1]), &one, &err) &&
             tokens.starts[1] == one.starts[1] &&
             !memcmp(tokens.ids, one.ids, one.starts[1] * sizeof *one.ids),
         "a system's text beside the list: %s", err.msg);
    fc_tokens_free(&tokens);
    fc_tokens_free(&one);
    static const char fields[] = "\xef\xbb\xbf{\"a\":\"x\\ny\",\"b\":1}\r\n{\"a\":\"\"}\n"
                                 "{\"a\":\"z\"}";
    T_OK(!fc_lines_text(fields, sizeof fields - 1, "a", NULL, &text, &err) &&
             !strcmp(text.bytes, "x\ny\n\n\n\nz"), "texts: %s", err.msg);
    fc_text_free(&text);
    T_OK(fc_lines_text(fields, sizeof fields - 1, "b", NULL, &text, &err) &&
             strstr(err.msg, "line 1: \"b\": expected a text"), "%s", err.msg);
    T_OK(fc_lines_text(fields, sizeof fields - 1, "c", NULL, &text, &err) &&
             strstr(err.msg, "line 1: expected the field \"c\"; the fields are \"a\", \"b\""),
         "%s", err.msg);
    fc_chat_close(chat);
    fc_model_close(m);
    free(settings);
}

// Members that the template writes and finercut does not.
static void test_members(void) {
    static const struct {
        const char *lines, *words; // words NULL: good
    } cases[] = {
        {"{'role':'user','content':'a','id':7,'name':'x','tool_calls':null}", NULL},
        {"{'role':'user','content':'a','tool_calls':[],'reasoning_content':''}", NULL},
        {"{'role':'user','content':'a','tool_calls':{},'tool_call':[1],'tool':2}", NULL},
        {"{'role':'user','content':'a'}],'tools':[],'documents':[1],'x':[1", NULL},
        {"{'role':'user','content':'a'},{'role':'assistant','content':'b','tool_calls':[1]}",
         "line 1: message 2: \"tool_calls\": expected none, or an empty one, because the model's "
         "chat template writes it and finercut does not, got an array"},
        {"{'role':'user','content':'a','reasoning_content':'b'}",
         "line 1: message 1: \"reasoning_content\": expected none"},
        {"{'role':'user','content':'a'}],'tools':[{'a':1}", "line 1: \"tools\": expected none"},
    };
    char *settings = settings_of(CHATML);
    fc_model *m = open_with("tokenizer_config.json", settings, NULL);
    fc_chat *chat = fc_chat_open(m, NULL, &err);
    const char *plain = chat->form, *reads = "{%if tools%}{{message.tool_calls}}{{message.role}}"
                                             "{{message.reasoning_content|trim}}{{message.";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[300];
        fc_tokens tokens;
        snprintf(line, sizeof line, "{'messages':[%s]}", cases[i].lines);
        for (char *p = line; *p; p++)
            if (*p == '\'') *p = '"';
        for (int k = 0; k < 2; k++) { // this template writes none of them, that one some
            chat->form = k ? reads : plain;
            const fc_code code = fc_lines_chat(chat, line, strlen(line), &tokens, &err);
            T_OK(k && cases[i].words
                     ? code == FC_ERR_UNSUPPORTED && strstr(err.msg, cases[i].words)
                     : !code, "members %d: %s", (int)i, err.msg);
            fc_tokens_free(&tokens);
        }
    }
    fc_chat_close(chat);
    fc_model_close(m);
    free(settings);
}

// A generator that goes on gives what a new one gives, and runs only what is new.
static void test_generator(void) {
    char *settings = settings_of(CHATML);
    fc_model *m = open_with("tokenizer_config.json", settings, NULL);
    fc_chat *chat = fc_chat_open(m, NULL, &err);
    fc_generator *g = fc_generator_open(m, NULL, 400, &err);
    fc_message talk[3] = {{FC_ROLE_USER, "In the beginning", 16}, {FC_ROLE_ASSISTANT, NULL, 0},
                          {FC_ROLE_USER, "And God said", 12}};
    fc_generate_desc desc;
    fc_generated first, again, fresh;
    fc_text text;
    memset(&desc, 0, sizeof desc);
    memset(&again, 0, sizeof again);
    memset(&fresh, 0, sizeof fresh);
    desc.max_tokens = 8;
    desc.chat = chat;
    desc.generator = g;
    fc_chat_render(chat, talk, 1, 1, &text, &err);
    T_OK(!fc_generate(m, text.bytes, text.length, &desc, &first, &err) && first.n_kept == 0, "%s",
         err.msg);
    fc_text_free(&text);
    talk[1].text = first.text.bytes;
    talk[1].length = first.text.length;
    fc_chat_render(chat, talk, 3, 1, &text, &err);
    T_OK(!fc_generate(m, text.bytes, text.length, &desc, &again, &err) &&
             again.n_kept >= first.n_prompt && again.n_kept < again.n_prompt,
         "kept %u of %u: %s", again.n_kept, again.n_prompt, err.msg);
    desc.generator = NULL;
    T_OK(!fc_generate(m, text.bytes, text.length, &desc, &fresh, &err) && fresh.n_kept == 0 &&
             !strcmp(fresh.text.bytes, again.text.bytes) && fresh.n_prompt == again.n_prompt,
         "\"%s\", \"%s\"", fresh.text.bytes, again.text.bytes);
    desc.generator = g;
    desc.max_tokens = 399;
    fc_text_free(&fresh.text);
    T_OK(fc_generate(m, text.bytes, text.length, &desc, &fresh, &err) == FC_ERR_ARGUMENT &&
             strstr(err.msg, "at most 400"), "%s", err.msg);
    fc_text_free(&text);
    fc_text_free(&fresh.text);
    fc_text_free(&first.text);
    fc_text_free(&again.text);
    fc_generator_close(g);
    fc_chat_close(chat);
    fc_model_close(m);
    free(settings);
}

typedef struct scores { // the sum of log-likelihoods of ids from `first` on
    const uint32_t *ids;
    size_t vocab, row, first, n;
    double sum;
} scores;

static int add_rows(void *user, const float *rows, size_t n) {
    scores *s = (scores *)user;
    for (size_t i = 0; i < n; i++, s->row++, rows += s->vocab) {
        double sum = 0;
        if (s->row + 1 < s->first || s->row + 1 >= s->n) continue;
        for (size_t k = 0; k < s->vocab; k++) sum += exp((double)rows[k]);
        s->sum += (double)rows[s->ids[s->row + 1]] - log(sum);
    }
    return 0;
}

// A question is a user's turn and its shots are turns, too; the choice follows the prompt at once.
static void test_tasks(void) {
    static const char lines[] = "{\"query\": \"Who? \", \"choices\": [\"God\", \"man\"], "
                                "\"gold\": 0}\n{\"query\": \"What\", \"choices\": [\"a b\", "
                                "\"c\"], \"gold\": 1}";
    char *settings = settings_of(CHATML);
    fc_model *m = open_with("tokenizer_config.json", settings, NULL);
    fc_chat *chat = fc_chat_open(m, NULL, &err);
    fc_message talk[16];
    fc_task_desc d;
    memset(&d, 0, sizeof d);
    d.name = "choices";
    d.path = "a.jsonl";
    d.text = lines;
    d.length = strlen(lines);
    d.shots = 1;
    d.chat = chat;
    fc_tasks *t = fc_tasks_open(m, &d, 1, &err);
    const fc_task_result *r = t ? fc_tasks_run(t, NULL, NULL, &err) : NULL;
    static const char *const talks[] = {"uWhat^ac^uWho?", "uWho?^aGod^uWhat"};
    static const char *const choices[2][2] = {{"God", "man"}, {"a b", "c"}};
    for (int i = 0; r && i < 4; i++) {
        char all[400];
        fc_tokens before, whole;
        fc_text text;
        fc_chat_render(chat, talk, messages_of(talks[i / 2], talk), 1, &text, &err);
        snprintf(all, sizeof all, "%s%s", text.bytes, choices[i / 2][i % 2]);
        const fc_tokenizer *words = fc_model_tokenizer(m, &err);
        fc_tokenize(words, all, text.length - 1, 0, &before, &err); // without its last newline
        fc_tokenize(words, all, strlen(all), 0, &whole, &err);
        scores s = {whole.ids, fc_model_config(m)->vocab_size, 0, before.starts[1],
                    whole.starts[1], 0};
        fc_logits(m, &whole, NULL, NULL, add_rows, &s, &err);
        const double got = r->items[i / 2].loglikelihoods[i % 2];
        T_OK(fabs(got - s.sum) < 1e-4, "choice %d: %g, whole %g", i, got, s.sum);
        fc_tokens_free(&before);
        fc_tokens_free(&whole);
        fc_text_free(&text);
    }
    T_OK(r != NULL, "%s", err.msg);
    fc_tasks_close(t);
    fc_chat_close(chat);
    fc_model_close(m);
    free(settings);
}

static void test_misuse(void) {
    char *settings = settings_of(CHATML);
    fc_model *m = open_with("tokenizer_config.json", settings, NULL);
    fc_chat *chat = fc_chat_open(m, NULL, &err);
    const fc_message hi = {FC_ROLE_USER, "Hi", 2}, role = {(fc_role)99, "Hi", 2},
                     none = {FC_ROLE_USER, NULL, 1};
    fc_chat_desc desc = {99999999, 0};
    fc_tokens tokens;
    fc_text text;
    T_OK(fc_chat_render(chat, NULL, 1, 0, &text, &err) == FC_ERR_ARGUMENT, "no messages");
    T_OK(fc_chat_render(chat, &hi, 0, 0, &text, &err) == FC_ERR_ARGUMENT, "none of them");
    T_OK(fc_chat_render(chat, &hi, 1, 0, NULL, &err) == FC_ERR_ARGUMENT, "no place");
    T_OK(fc_chat_render(chat, &role, 1, 0, &text, &err) == FC_ERR_ARGUMENT, "no role");
    T_OK(fc_chat_render(chat, &none, 1, 0, &text, &err) == FC_ERR_ARGUMENT, "no text");
    T_OK(fc_lines_chat(chat, NULL, 1, &tokens, &err) == FC_ERR_ARGUMENT, "no lines");
    T_OK(fc_lines_chat(chat, "", 0, NULL, &err) == FC_ERR_ARGUMENT, "no place for tokens");
    T_OK(!fc_chat_open(m, &desc, &err) && err.code == FC_ERR_ARGUMENT, "a day: %s", err.msg);
    desc.date = 0;
    desc.no_think = 1;
    T_OK(!fc_chat_open(m, &desc, &err) && err.code == FC_ERR_UNSUPPORTED, "a mode: %s", err.msg);
    fc_chat_close(chat);
    fc_model_close(m);
    free(settings);
}

// A chat is of one model.
static void test_other_model(void) {
    char *settings = settings_of(CHATML);
    fc_model *m = open_with("tokenizer_config.json", settings, NULL),
             *other = open_with("tokenizer_config.json", settings, NULL);
    fc_chat *c = m ? fc_chat_open(m, NULL, &err) : NULL;
    fc_generate_desc desc;
    fc_generated out;
    fc_task_desc task;
    static const char line[] = "{\"query\":\"One\",\"choices\":[\" two\",\" three\"],\"gold\":0}";
    memset(&desc, 0, sizeof desc);
    desc.chat = c;
    desc.max_tokens = 2;
    memset(&task, 0, sizeof task);
    task.name = "choices";
    task.path = task.text = line;
    task.length = sizeof line - 1;
    task.chat = c;
    for (int i = 0; c && i < 2; i++) {
        fc_model *of = i ? other : m;
        const fc_code want = i ? FC_ERR_ARGUMENT : FC_OK;
        const char *words = i ? "chat: expected one of this model" : "";
        T_OK(fc_generate(of, "<|im_start|>user", 16, &desc, &out, &err) == want &&
                 err.code == want && strstr(err.msg, words),
             "generate: %s", err.msg);
        fc_text_free(&out.text);
        fc_tasks *t = fc_tasks_open(of, &task, 1, &err);
        T_OK((t != NULL) == (i == 0) && err.code == want && strstr(err.msg, words), "tasks: %s",
             err.msg);
        fc_tasks_close(t);
    }
    T_OK(c != NULL, "%s", err.msg);
    fc_chat_close(c);
    fc_model_close(m);
    fc_model_close(other);
    free(settings);
}

// Every allocation that fails is an error, and nothing stays.
static void test_memory(void) {
    memory world;
    memset(&world, 0, sizeof world);
    const fc_env env = memory_env(&world);
    char *settings = settings_of(CHATML);
    fc_model *m = open_with("tokenizer_config.json", settings, &env.alloc);
    fc_tokens tokens;
    static const char lines[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\\n\"}]}";
    T_OK(fc_model_tokenizer(m, &err) != NULL, "%s", err.msg);
    const long before = world.live;
    long i = 1;
    for (; i < 1000; i++) {
        world.allocs = 0;
        world.fail_alloc = i;
        fc_chat *chat = fc_chat_open(m, NULL, &err);
        fc_code code = chat ? fc_lines_chat(chat, lines, strlen(lines), &tokens, &err) : err.code;
        if (!code) fc_tokens_free(&tokens);
        fc_chat_close(chat);
        if (!T_OK(world.live == before && (!code || code == FC_ERR_MEMORY), "allocation %ld: %s, "
                  "%ld live", i, err.msg, world.live - before) || !code) break;
    }
    T_OK(i > 10 && i < 1000, "%ld allocations", i);
    world.fail_alloc = 0;
    fc_model_close(m);
    free(settings);
}

int main(void) {
    for (int i = 0; i < 3; i++) {
        char path[64];
        size_t size = 0;
        snprintf(path, sizeof path, "examples/demo/%s", names[i]);
        files[i].name = names[i];
        files[i].data = t_read(path, &size);
        files[i].size = size;
        if (!T_OK(files[i].data != NULL, "%s: not there", path)) return t_end("chat");
    }
    test_chatml();
    test_thinking();
    test_llama();
    test_others();
    test_arrangements();
    test_places();
    test_hostile();
    test_ends();
    test_lines();
    test_members();
    test_generator();
    test_tasks();
    test_misuse();
    test_other_model();
    test_memory();
    for (int i = 0; i < 3; i++) free((void *)(uintptr_t)files[i].data);
    return t_end("chat");
}
