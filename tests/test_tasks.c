// Tasks: every kind of file is asked as lm-evaluation-harness asks, likelihoods are those of whole
// forward passes, whatever is shared, and what is wrong with a file is told by line and member.
#include "private.h"
#include "memory.h"
#include "t.h"
#include "open.h"
#include "tokens.h"

#define DEMO "examples/demo"

static fc_model *open_demo(memory *world, uint32_t threads, uint64_t limit) {
    fc_env env;
    if (world) env = memory_env(world);
    return open_f32(DEMO, NULL, world ? &env.alloc : NULL, threads, limit);
}

static fc_task_desc task_of(const char *name, const char *text) {
    fc_task_desc d;
    memset(&d, 0, sizeof d);
    d.name = name;
    d.path = "a.jsonl";
    d.text = text;
    d.length = strlen(text);
    return d;
}

// ---- the same by whole forward passes, in double

typedef struct likelihood {
    const uint32_t *ids;
    size_t vocab, row, first, n; // rows from `first` on are followed by scored ids
    double sum;
    int greedy;
} likelihood;

static int add_rows(void *user, const float *rows, size_t n) {
    likelihood *l = (likelihood *)user;
    for (size_t i = 0; i < n; i++, l->row++, rows += l->vocab) {
        double sum = 0, most = -INFINITY;
        if (l->row < l->first || l->row + 1 >= l->n) continue;
        for (size_t k = 0; k < l->vocab; k++) most = rows[k] > most ? (double)rows[k] : most;
        for (size_t k = 0; k < l->vocab; k++) sum += exp((double)rows[k] - most);
        const double own = (double)rows[l->ids[l->row + 1]];
        l->sum += own - most - log(sum);
        l->greedy = l->greedy && own == most;
    }
    return 0;
}

// Of all ids but the first n_context; those beyond the model's positions are cut from the left.
static likelihood likelihood_of(fc_model *m, const uint32_t *ids, size_t n_context, size_t n) {
    const size_t most = fc_model_config(m)->max_positions + (size_t)1,
                 skip = n > most ? n - most : 0;
    size_t starts[2] = {0, n - skip - 1};
    uint32_t copy[2000];
    likelihood l = {ids + skip, fc_model_config(m)->vocab_size, 0, n_context - skip - 1, n - skip,
                    0, 1};
    fc_error err;
    memcpy(copy, ids + skip, (n - skip) * sizeof *copy);
    const fc_tokens t = tokens_of(copy, starts, 1);
    T_OK(fc_logits(m, &t, NULL, NULL, add_rows, &l, &err) == FC_OK, "%s", err.msg);
    return l;
}

// As the harness: the context's tokens, and what context and continuation together have behind as
// many. `bos` goes before both, where it is no UINT32_MAX.
static likelihood likelihood_by(fc_model *m, const char *context, const char *continuation,
                                uint32_t bos) {
    uint32_t ids[2000];
    char text[6000];
    fc_tokens a, b;
    fc_error err;
    size_t n = strlen(context), n_a, most = sizeof ids / sizeof *ids;
    snprintf(text, sizeof text, "%s%s", context, continuation);
    while (n > 0 && strchr(" \n\t", context[n - 1])) n--;
    const fc_tokenizer *t = fc_model_tokenizer(m, &err);
    T_OK(t && fc_tokenize(t, context, n, 0, &a, &err) == FC_OK &&
             fc_tokenize(t, text, strlen(text), 0, &b, &err) == FC_OK,
         "%s", err.msg);
    n = 0;
    if (bos != UINT32_MAX) ids[n++] = bos;
    for (size_t i = 0; i < a.starts[1] && n < most; i++) ids[n++] = a.ids[i];
    n_a = n;
    for (size_t i = a.starts[1]; i < b.starts[1] && n < most; i++) ids[n++] = b.ids[i];
    fc_tokens_free(&a);
    fc_tokens_free(&b);
    return likelihood_of(m, ids, n_a, n);
}

// ---- prompts

typedef struct prompt {
    const char *task, *line; // with ' for "
    unsigned gold, n;
    const char *context[4], *continuation[4];
    int characters[4];
} prompt;

#define SKY "Question: What is above us?\nAnswer:"
#define MMLU "\nA. sea\nB. sky\nC. sand\nD. salt\nAnswer:"

static const prompt prompts[] = {
    {"choices", "{'query':'The king was  ','choices':['wroth','a lamb'],'gold':1}", 1, 2,
     {"The king was", "The king was"}, {" wroth", " a lamb"}, {5, 6}},
    {"choices_mine", "{'question':'And God','choices':['said','went up'],'answer':'said'}", 0, 2,
     {"And God", "And God"}, {" said", " went up"}, {4, 7}},
    {"arc_easy", "{'query':'Question: What is above us? \\n','choices':['sea','sky'],'gold':1}", 1,
     2, {SKY, SKY}, {" sea", " sky"}, {3, 3}},
    {"arc_challenge", "{'id':'x','question':'What is above us?','choices':{'text':['sea','the sky',"
     "'sand'],'label':['1','2','3']},'answerKey':'2'}", 1, 3, {SKY, SKY, SKY},
     {" sea", " the sky", " sand"}, {3, 7, 4}},
    {"piqa", "{'goal':'What is above us?','sol1':'sea','sol2':'\\u00e9t\\u00e9','label':0}", 0, 2,
     {SKY, SKY}, {" sea", " \xc3\xa9t\xc3\xa9"}, {3, 3}},
    {"piqa", "{'query':'Question: What is above us?\\n','choices':['sea','sky'],'gold':0}", 0, 2,
     {SKY, SKY}, {" sea", " sky"}, {3, 3}},
    {"openbook_qa", "{'query':'The lord is ','choices':['good','far','near','old'],'gold':3}", 3, 4,
     {"The lord is", "The lord is", "The lord is", "The lord is"},
     {" good", " far", " near", " old"}, {4, 3, 4, 3}},
    {"openbookqa", "{'question_stem':'The lord is','choices':{'text':['good','far'],'label':['A',"
     "'B']},'answerKey':'B'}", 1, 2, {"The lord is", "The lord is"}, {" good", " far"}, {4, 3}},
    {"boolq", "{'passage':'It is so.','question':'is it','label':1}", 1, 2,
     {"It is so.\nQuestion: is it?\nAnswer:", "It is so.\nQuestion: is it?\nAnswer:"},
     {" no", " yes"}, {2, 3}},
    {"choices", "{'query':'It is','choices':['True','False'],'gold':true}", 0, 2,
     {"It is", "It is"}, {" True", " False"}, {4, 5}},
    {"choices", "{'query':'It is','choices':['yes','no'],'gold':false}", 1, 2,
     {"It is", "It is"}, {" yes", " no"}, {3, 2}},
    {"choices", "{'query':'It is','choices':['YES','NO'],'gold':true}", 0, 2,
     {"It is", "It is"}, {" YES", " NO"}, {4, 3}},
    {"choices", "{'query':'It is','choices':['wrong','right'],'gold':true}", 1, 2,
     {"It is", "It is"}, {" wrong", " right"}, {5, 5}},
    {"piqa", "{'goal':'What is above us?','sol1':'sea','sol2':'sky','label':false}", 0, 2,
     {SKY, SKY}, {" sea", " sky"}, {3, 3}},
    {"boolq", "{'passage':'It is so.','question':'is it','answer':true}", 1, 2,
     {"It is so.\nQuestion: is it?\nAnswer:", "It is so.\nQuestion: is it?\nAnswer:"},
     {" no", " yes"}, {2, 3}},
    {"boolq", "{'passage':'It is so.','question':'is it','answer':false}", 0, 2,
     {"It is so.\nQuestion: is it?\nAnswer:", "It is so.\nQuestion: is it?\nAnswer:"},
     {" no", " yes"}, {2, 3}},
    {"boolq", "{'query':'Passage: It is so.','choices':['no','yes'],'gold':1}", 1, 2,
     {"Passage: It is so.\nAnswer:", "Passage: It is so.\nAnswer:"}, {" no", " yes"}, {2, 3}},
    {"winogrande", "{'context_options':['Adam saw Eve and Adam','Adam saw Eve and Eve'],"
     "'continuation':'went away.','gold':0}", 0, 2,
     {"Adam saw Eve and Adam", "Adam saw Eve and Eve"}, {" went away.", " went away."}, {21, 20}},
    {"winogrande_xl", "{'sentence':'Adam saw Eve and _  went away.','option1':'Adam','option2':"
     "'Eve','answer':'2'}", 1, 2, {"Adam saw Eve and Adam", "Adam saw Eve and Eve"},
     {" went away.", " went away."}, {4, 3}},
    {"winogrande", "{'sentence':'Adam saw _ and _ went away.','option1':'Adam','option2':'Eve',"
     "'answer':'2'}", 1, 2, {"Adam saw Adam", "Adam saw Eve"},
     {" and _ went away.", " and _ went away."}, {4, 3}},
    {"lambada", "{'context':'In the beginning ','continuation':'God'}", 0, 1, {"In the beginning"},
     {"  God"}, {0}},
    {"lambada_openai", "{'text':'In the beginning God'}", 0, 1, {"In the beginning"}, {" God"},
     {0}},
    {"hellaswag", "{'activity_label':'Singing','ctx_a':'A man [substeps] sings.','ctx_b':'he THEN',"
     "'endings':['stops.','goes [title]on  now'],'label':'1'}", 1, 2,
     {"Singing: A man sings. He then", "Singing: A man sings. He then"},
     {" stops.", " goes. on now"}, {6, 11}},
    {"hellaswag", "{'activity_label':'A [x][ [y]man','ctx_a':'[b [','ctx_b':'','endings':['[a]b',"
     "'c] d'],'label':'1'}", 1, 2, {"A man: [b [", "A man: [b ["}, {" b", " c] d"}, {1, 4}},
    {"hellaswag", "{'activity_label':'B','ctx_a':'A','ctx_b':'\\u00e9t\\u00c9 \\u00d7\\u00df',"
     "'endings':['a','b'],'label':0}", 0, 2, {"B: A \xc3\x89t\xc3\xa9 \xc3\x97\xc3\x9f",
     "B: A \xc3\x89t\xc3\xa9 \xc3\x97\xc3\x9f"}, {" a", " b"}, {1, 1}},
    {"hellaswag", "{'query':'A man sings. He','choices':['stops.','goes'],'gold':0}", 0, 2,
     {"A man sings. He", "A man sings. He"}, {" stops.", " goes"}, {6, 4}},
    {"mmlu_x", "{'question':' What is up?','subject':'the_sky','choices':['sea','sky','sand',"
     "'salt'],'answer':1}", 1, 4,
     {"The following are multiple choice questions (with answers) about the sky.\n\n"
      "What is up?" MMLU, "The following are multiple choice questions (with answers) about the "
      "sky.\n\nWhat is up?" MMLU, "The following are multiple choice questions (with answers) "
      "about the sky.\n\nWhat is up?" MMLU, "The following are multiple choice questions (with "
      "answers) about the sky.\n\nWhat is up?" MMLU},
     {" A", " B", " C", " D"}, {1, 1, 1, 1}},
    {"mmlu", "{'question':'What is up?','choices':['sea','sky','sand','salt'],'answer':'D'}", 3, 4,
     {"What is up?" MMLU, "What is up?" MMLU, "What is up?" MMLU, "What is up?" MMLU},
     {" A", " B", " C", " D"}, {1, 1, 1, 1}},
    {"choices", "{'query':'','choices':['In the','And he'],'gold':0}", 0, 2, {"", ""},
     {" In the", " And he"}, {6, 6}},
};
enum { N_PROMPTS = sizeof prompts / sizeof *prompts };

static void line_of(const prompt *p, char *out) { // of JSON
    strcpy(out, p->line);
    for (char *c = out; *c; c++)
        if (*c == '\'') *c = '"';
}

static void check_item(fc_model *m, const prompt *p, const fc_task_item *item) {
    uint32_t best = 0, best_norm = 0;
    double want[4];
    int greedy = 0;
    if (!T_OK(item->n_choices == p->n && item->gold == p->gold, "%s: %u choices, %u is right",
              p->line, item->n_choices, item->gold))
        return;
    for (uint32_t i = 0; i < p->n; i++) {
        const likelihood l = likelihood_by(m, p->context[i], p->continuation[i],
                                           *p->context[i] ? UINT32_MAX : 0);
        greedy = l.greedy;
        want[i] = l.sum;
        T_OK(fabs(l.sum - item->loglikelihoods[i]) < 1e-5 * (1 + fabs(l.sum)),
             "%s: choice %u: expected %.9g, got %.9g", p->line, i, l.sum, item->loglikelihoods[i]);
        if (want[i] > want[best]) best = i;
        if (want[i] / p->characters[i] > want[best_norm] / p->characters[best_norm]) best_norm = i;
    }
    if (p->characters[0] == 0) best = best_norm = greedy ? 0 : 1;
    T_OK(item->choice == best && item->choice_norm == best_norm,
         "%s: expected choices %u and %u, got %u and %u", p->line, best, best_norm, item->choice,
         item->choice_norm);
}

static void test_prompts(void) {
    fc_task_desc descs[N_PROMPTS];
    static char lines[N_PROMPTS][600];
    fc_error err;
    fc_model *m = open_demo(NULL, 2, 0);
    if (!m) return;
    for (int i = 0; i < N_PROMPTS; i++) {
        line_of(&prompts[i], lines[i]);
        descs[i] = task_of(prompts[i].task, lines[i]);
    }
    fc_tasks *t = fc_tasks_open(m, descs, N_PROMPTS, &err);
    const fc_task_result *r = t ? fc_tasks_run(t, NULL, NULL, &err) : NULL;
    T_OK(r != NULL, "%s", err.msg);
    for (int i = 0; r && i < N_PROMPTS; i++) {
        const int words = strncmp(prompts[i].task, "lambada", 7) == 0;
        T_OK(r[i].n == 1 && strcmp(r[i].name, prompts[i].task) == 0 && r[i].items[0].line == 1,
             "%s: %d items", r[i].name, (int)r[i].n);
        check_item(m, &prompts[i], &r[i].items[0]);
        T_OK(r[i].acc == (r[i].items[0].choice == r[i].items[0].gold) && isnan(r[i].acc_stderr),
             "%s: acc %g, %g", r[i].name, r[i].acc, r[i].acc_stderr);
        T_OK(isnan(r[i].perplexity) == !words && isnan(r[i].acc_norm) == words &&
                 (!words || fabs(log(r[i].perplexity) + r[i].items[0].loglikelihoods[0]) < 1e-9),
             "%s: perplexity %g, acc_norm %g", r[i].name, r[i].perplexity, r[i].acc_norm);
    }
    fc_tasks_close(t);
    fc_model_close(m);
}

// ---- several items: figures, shots, the same bits

static const char several[] =
    "{\"query\":\"In the beginning God created the heaven and\",\"choices\":[\"the earth\",\"the "
    "ships of Tarshish\",\"bread\"],\"gold\":0}\r\n\n"
    "{\"query\":\"In the beginning God created the sea and\",\"choices\":[\"the king\",\"all that "
    "in them is\"],\"gold\":1}\n"
    "{\"query\":\"And the LORD spake unto\",\"choices\":[\"Moses\",\"cheese\",\"us\"],\"gold\":0}\n"
    "{\"query\":\"And it came\",\"choices\":[\"blue\",\"to pass\"],\"gold\":1}";

static void test_figures(void) {
    fc_error err;
    fc_task_desc d[2] = {task_of("choices", several), task_of("choices_b", several)};
    fc_model *m = open_demo(NULL, 1, 0);
    double sum = 0, norm = 0;
    d[1].limit = 2;
    fc_tasks *t = m ? fc_tasks_open(m, d, 2, &err) : NULL;
    const fc_task_result *r = t ? fc_tasks_run(t, NULL, NULL, &err) : NULL;
    if (!T_OK(r && r[0].n == 4 && r[1].n == 2, "%s", err.msg)) return;
    for (int i = 0; i < 4; i++) {
        sum += r->items[i].choice == r->items[i].gold;
        norm += r->items[i].choice_norm == r->items[i].gold;
    }
    const double p = sum / 4, q = norm / 4;
    T_OK(r->acc == p && fabs(r->acc_stderr - sqrt(p * (1 - p) / 3)) < 1e-12, "acc %g, %g", r->acc,
         r->acc_stderr);
    T_OK(r->acc_norm == q && fabs(r->acc_norm_stderr - sqrt(q * (1 - q) / 3)) < 1e-12,
         "acc_norm %g, %g", r->acc_norm, r->acc_norm_stderr);
    T_OK(p > 0.4, "the demo knows its text: %g", p);
    T_OK(r->items[0].line == 1 && r->items[1].line == 3 && r->items[3].line == 5, "line %d",
         (int)r->items[1].line);
    for (int i = 0; i < 2; i++)
        T_OK(memcmp(r[0].items[i].loglikelihoods, r[1].items[i].loglikelihoods,
                    r[0].items[i].n_choices * sizeof(double)) == 0,
             "--limit changes item %d", i);
    T_OK(r->n_rows < r->n_tokens * 6 / 10, "%d of %d rows", (int)r->n_rows, (int)r->n_tokens);
    fc_tasks_close(t);
    fc_model_close(m);
}

// Whether results can be compared: a hash of what is asked, and of which answer is right.
static uint64_t hash_of(fc_model *m, const char *text, uint32_t limit, uint32_t shots) {
    fc_task_desc d = task_of("choices", text);
    fc_error err;
    d.limit = limit;
    d.shots = shots;
    fc_tasks *t = fc_tasks_open(m, &d, 1, &err);
    const fc_task_result *r = t ? fc_tasks_run(t, NULL, NULL, &err) : NULL;
    const uint64_t hash = r ? r->hash : 0;
    T_OK(hash != 0, "%s: %s", text, t ? err.msg : "not opened");
    fc_tasks_close(t);
    return hash;
}

static void test_hash(void) {
    static const char a[] = "{\"query\":\"And\",\"choices\":[\"God\",\"the\"],\"gold\":0}\n"
                            "{\"query\":\"And\",\"choices\":[\"the\",\"God\"],\"gold\":1}",
                      spaced[] = "\n{\"gold\":\"God\",\"query\":\"And \",\"choices\":[\"God\","
                                 "\"the\"]}\n\n"
                                 "{\"query\":\"And\",\"choices\":[\"the\",\"God\"],\"gold\":1}\n";
    static const char *const others[] = {
        "{\"query\":\"And\",\"choices\":[\"God\",\"the\"],\"gold\":1}\n"
        "{\"query\":\"And\",\"choices\":[\"the\",\"God\"],\"gold\":1}",
        "{\"query\":\"But\",\"choices\":[\"God\",\"the\"],\"gold\":0}\n"
        "{\"query\":\"And\",\"choices\":[\"the\",\"God\"],\"gold\":1}",
        "{\"query\":\"And\",\"choices\":[\"God\",\"the\"],\"gold\":0}\n"
        "{\"query\":\"And\",\"choices\":[\"the\",\"his\"],\"gold\":1}"};
    fc_model *m = open_demo(NULL, 1, 0);
    if (!m) return;
    const uint64_t whole = hash_of(m, a, 0, 0), first = hash_of(m, a, 1, 0);
    T_OK(hash_of(m, spaced, 0, 0) == whole, "the same items otherwise written");
    T_OK(hash_of(m, spaced, 1, 0) == first && first != whole, "those of a limit");
    T_OK(hash_of(m, a, 0, 1) != whole, "after a shot");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        T_OK(hash_of(m, others[i], 0, 0) != whole, "other items: %d", (int)i);
    fc_model_close(m);
}

// The two items that are not asked stand before the question, in one order for all.
static void test_shots(void) {
    static const char *const asked[] = {"The one is a", "The two is a", "The three is a"},
                      *const answers[] = {" man", " house", " tree"};
    static const char text[] =
        "{\"query\":\"The one is a\",\"choices\":[\"man\",\"x\"],\"gold\":0}\n"
        "{\"query\":\"The two is a\",\"choices\":[\"x\",\"house\"],\"gold\":1}\n"
        "{\"query\":\"The three is a\",\"choices\":[\"tree\",\"x\"],\"gold\":0}";
    char context[400];
    fc_error err;
    fc_model *m = open_demo(NULL, 1, 0);
    int orders = 0, found[3] = {0, 0, 0};
    for (uint64_t seed = 0; m && seed < 12; seed++) {
        fc_task_desc d = task_of("choices", text);
        d.shots = 2;
        d.seed = seed;
        fc_tasks *t = fc_tasks_open(m, &d, 1, &err);
        const fc_task_result *r = t ? fc_tasks_run(t, NULL, NULL, &err) : NULL;
        if (!T_OK(r != NULL, "%s", err.msg)) break;
        for (int i = 0; i < 3; i++) {
            found[i] = 0;
            for (int way = 0; way < 2; way++) {
                const int a = (i + 1 + way) % 3, b = (i + 2 - way) % 3;
                snprintf(context, sizeof context, "%s%s\n\n%s%s\n\n%s", asked[a], answers[a],
                         asked[b], answers[b], asked[i]);
                const likelihood l = likelihood_by(m, context, answers[i], UINT32_MAX);
                if (fabs(l.sum - r->items[i].loglikelihoods[i == 1]) < 1e-4) found[i] = 1 + way;
            }
            T_OK(found[i], "item %d by seed %d", i, (int)seed);
        }
        orders |= 1 << found[0];
        // which of the others comes first is known from any two of the items
        T_OK(!(found[0] == found[1] && found[1] == found[2]), "an order goes round: %d", found[0]);
        fc_tasks_close(t);
    }
    T_OK(orders == 6, "seeds give other orders: %d", orders);
    fc_model_close(m);
}

// What does not fit is told before anything runs: for the largest task, or a text beside them.
static void test_fit(void) {
    char lines[5000] = "{\"query\":\"In";
    uint32_t ids[512] = {0};
    size_t starts[2] = {0, 512};
    const fc_tokens text = tokens_of(ids, starts, 1);
    uint64_t limit = 1000;
    fc_error err;
    for (int i = 0; i < 300; i++) strcat(lines, " the");
    strcat(lines, "\",\"choices\":[\"a\",\"b\"],\"gold\":0}");
    const fc_task_desc d[2] = {task_of("choices", several), task_of("choices_long", lines)};
    for (int i = 0; i < 3; i++) {
        fc_model *m = open_demo(NULL, 1, limit);
        fc_tasks *t = m ? fc_tasks_open(m, d, 2, &err) : NULL;
        if (!T_OK(t != NULL, "%s", err.msg)) return;
        T_OK(fc_tasks_fit(t, &text, &err) == FC_ERR_LIMIT && strstr(err.msg, "text: memory limit"),
             "with a text: %s", err.msg);
        const fc_code code = fc_tasks_fit(t, NULL, &err);
        const char *says = strstr(err.msg, "choices_long: memory limit: expected at least ");
        T_OK(i < 2 ? code == FC_ERR_LIMIT && says : code == FC_OK, "%d: %s", i, err.msg);
        const fc_task_result *r = fc_tasks_run(t, NULL, NULL, &err);
        T_OK(i < 2 ? !r && err.code == FC_ERR_LIMIT && t->results->n_rows == 0
                   : r && r->n_rows > 0, "%d: %d rows: %s", i, (int)t->results->n_rows, err.msg);
        if (i == 0) limit = says ? strtoull(strstr(says, "least ") + 6, NULL, 10) - 1 : 0;
        else limit++;
        fc_tasks_close(t);
        fc_model_close(m);
    }
    T_OK(fc_tasks_fit(NULL, NULL, &err) == FC_ERR_ARGUMENT, "no tasks");
}

typedef struct bits {
    double values[40];
    uint64_t rows;
} bits;

static void bits_of(bits *b, uint32_t threads, uint64_t limit) {
    fc_error err;
    fc_task_desc d = task_of("choices", several);
    fc_model *m = open_demo(NULL, threads, limit);
    d.shots = 1;
    memset(b, 0, sizeof *b);
    fc_tasks *t = m ? fc_tasks_open(m, &d, 1, &err) : NULL;
    const fc_task_result *r = t ? fc_tasks_run(t, NULL, NULL, &err) : NULL;
    if (!T_OK(r != NULL, "%s", err.msg)) return;
    double *to = b->values;
    for (size_t i = 0; i < r->n; to += r->items[i++].n_choices)
        memcpy(to, r->items[i].loglikelihoods, r->items[i].n_choices * sizeof *to);
    b->rows = r->n_rows;
    fc_tasks_close(t);
    fc_model_close(m);
}

static void test_same_bits(void) {
    bits one, other;
    fc_error err;
    fc_task_desc d = task_of("choices", several);
    bits_of(&one, 1, 0);
    bits_of(&other, 2, 0);
    T_OK(memcmp(&one, &other, sizeof one) == 0, "2 threads give other bits");
    fc_model *m = open_demo(NULL, 1, 1000);
    fc_tasks *t = m ? fc_tasks_open(m, &d, 1, &err) : NULL;
    T_OK(t && !fc_tasks_run(t, NULL, NULL, &err) && err.code == FC_ERR_LIMIT &&
             strstr(err.msg, "choices: memory limit"),
         "little memory: %s", err.msg);
    const char *says = strstr(err.msg, "at least ");
    const uint64_t least = says ? strtoull(says + 9, NULL, 10) : 0;
    fc_tasks_close(t);
    fc_model_close(m);
    bits_of(&other, 2, least * 2);
    T_OK(memcmp(one.values, other.values, sizeof one.values) == 0, "little memory: other bits");
    T_OK(other.rows > one.rows, "little memory: as many rows: %d", (int)other.rows);
}

// ---- masks, what is too long, tokens before a text

static void test_masks(void) {
    uint8_t mask[24];
    fc_error err;
    fc_task_desc d = task_of("choices", several);
    fc_model *m = open_demo(NULL, 1, 0);
    fc_tasks *t = m ? fc_tasks_open(m, &d, 1, &err) : NULL;
    const fc_task_result *r = t ? fc_tasks_run(t, NULL, NULL, &err) : NULL;
    if (!T_OK(r != NULL, "%s", err.msg)) return;
    const double whole = r->items[0].loglikelihoods[0];
    memset(mask, 1, sizeof mask);
    mask[4] = mask[9] = 0;
    r = fc_tasks_run(t, mask, NULL, &err);
    T_OK(r && fabs(r->items[0].loglikelihoods[0] - whole) > 1e-3, "without two sublayers: %s",
         err.msg);
    r = fc_tasks_run(t, NULL, NULL, &err);
    T_OK(r && r->items[0].loglikelihoods[0] == whole, "whole again");
    fc_tasks_close(t);
    fc_model_close(m);
}

static void test_long(void) {
    char text[5000] = "{\"query\":\"", context[4000] = "";
    fc_error err;
    fc_model *m = open_demo(NULL, 1, 0);
    if (!m) return;
    for (int i = 0; i < 700; i++) strcat(context, i ? i % 7 ? " and" : " the" : "In");
    strcat(text, context);
    strcat(text, "\",\"choices\":[\"the king\",\"the\"],\"gold\":0}\n"
                 "{\"query\":\"a\",\"choices\":[\"b\",\"c\"],\"gold\":0}");
    fc_task_desc d = task_of("choices", text);
    fc_tasks *t = fc_tasks_open(m, &d, 1, &err);
    const fc_task_result *r = t ? fc_tasks_run(t, NULL, NULL, &err) : NULL;
    if (!T_OK(r != NULL, "%s", err.msg)) return;
    T_OK(r->n == 2 && r->n_cut == 1, "%d items, %d cut", (int)r->n, (int)r->n_cut);
    T_OK(r->n_tokens == 2 * 512 + 2 * 1, "%d tokens", (int)r->n_tokens);
    for (int i = 0; i < 2; i++) {
        const likelihood l = likelihood_by(m, context, i ? " the" : " the king", UINT32_MAX);
        T_OK(fabs(l.sum - r->items[0].loglikelihoods[i]) < 1e-4, "cut: expected %g, got %g", l.sum,
             r->items[0].loglikelihoods[i]);
    }
    fc_tasks_close(t);
    d.shots = 1; // the long one comes before the short one
    t = fc_tasks_open(m, &d, 1, &err);
    r = t ? fc_tasks_run(t, NULL, NULL, &err) : NULL;
    T_OK(r && r->n_cut == 2, "cut by a shot: %s", err.msg);
    fc_tasks_close(t);
    fc_model_close(m);
}

// The demo whose tokenizer puts token 0 before a text and after it.
static void test_special(void) {
    static const char none[] = "\"post_processor\": null",
                      some[] = "\"post_processor\": {\"type\":\"TemplateProcessing\",\"single\":["
                               "{\"SpecialToken\":{\"id\":\"<|endoftext|>\",\"type_id\":0}},"
                               "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
                               "{\"SpecialToken\":{\"id\":\"<|endoftext|>\",\"type_id\":0}}],"
                               "\"pair\":[],\"special_tokens\":{\"<|endoftext|>\":{\"id\":"
                               "\"<|endoftext|>\",\"ids\":[0],\"tokens\":[\"<|endoftext|>\"]}}}";
    static const char *const lines[] = {
        "{\"query\":\"And the\",\"choices\":[\"LORD\",\"a\"],\"gold\":0}",
        "{\"query\":\"<|endoftext|>And the\",\"choices\":[\"LORD\",\"a\"],\"gold\":0}"};
    fc_memory_file files[3] = {{"config.json", NULL, 0}, {"model.safetensors", NULL, 0},
                               {"tokenizer.json", NULL, 0}};
    char *texts[3], path[64], *json, *at;
    fc_error err;
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, DEMO "/%s", files[i].name);
        texts[i] = t_read(path, &files[i].size);
        files[i].data = texts[i];
    }
    at = texts[2] ? strstr(texts[2], none) : NULL;
    json = (char *)malloc(files[2].size + sizeof some);
    if (!T_OK(at && json, "the demo's tokenizer has no post-processor")) return;
    const size_t before = (size_t)(at - texts[2]);
    memcpy(json, texts[2], before);
    strcpy(json + before, some);
    strcat(json, at + strlen(none));
    files[2].data = json;
    files[2].size = strlen(json);
    fc_model *plain = open_demo(NULL, 1, 0), *m = fc_model_open_memory(files, 3, NULL, &err);
    T_OK(m != NULL, "%s", err.msg);
    for (int i = 0; m && plain && i < 2; i++) {
        const fc_task_desc d = task_of("choices", lines[i]);
        const likelihood l = likelihood_by(plain, "And the", " LORD", 0);
        fc_tasks *t = fc_tasks_open(m, &d, 1, &err);
        const fc_task_result *r = t ? fc_tasks_run(t, NULL, NULL, &err) : NULL;
        T_OK(r && fabs(r->items[0].loglikelihoods[0] - l.sum) < 1e-4, "%d: expected %g, got %g: %s",
             i, l.sum, r ? r->items[0].loglikelihoods[0] : 0, err.msg);
        fc_tasks_close(t);
    }
    fc_model_close(m);
    fc_model_close(plain);
    for (int i = 0; i < 3; i++) free(texts[i]);
    free(json);
}

// Bytes without a token vanish, so a question may have none though it is no blank.
static void test_no_tokens(void) {
    static const char tokenizer[] =
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\" \":0,\"b\":1,\"c\":2},\"merges\":[]}}";
    static const struct { const char *question, *choice, *says; } cases[] = {
        {"QQ", "b", "a.jsonl:1: choice 0: expected a question of at least one token, got none"},
        {"b", "Q", NULL}, {"bQ", "c", NULL}};
    fc_memory_file files[3] = {{"config.json", NULL, 0}, {"model.safetensors", NULL, 0},
                               {"tokenizer.json", tokenizer, sizeof tokenizer - 1}};
    char *texts[2], path[64], line[100];
    fc_error err;
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, DEMO "/%s", files[i].name);
        files[i].data = texts[i] = t_read(path, &files[i].size);
    }
    fc_model *m = fc_model_open_memory(files, 3, NULL, &err);
    for (size_t i = 0; m && i < sizeof cases / sizeof *cases; i++) {
        snprintf(line, sizeof line, "{\"query\":\"%s\",\"choices\":[\"%s\",\"b\"],\"gold\":0}",
                 cases[i].question, cases[i].choice);
        const fc_task_desc d = task_of("choices", line);
        fc_tasks *t = fc_tasks_open(m, &d, 1, &err);
        if (cases[i].says)
            T_OK(!t && strcmp(err.msg, cases[i].says) == 0, "%s: %s", line, err.msg);
        else T_OK(t && fc_tasks_run(t, NULL, NULL, &err), "%s: %s", line, err.msg);
        fc_tasks_close(t);
    }
    T_OK(m != NULL, "%s", err.msg);
    fc_model_close(m);
    for (int i = 0; i < 2; i++) free(texts[i]);
}

// ---- what is wrong

static void test_names(void) {
    fc_error err;
    size_t index = 99, n = 0;
    for (; fc_task_name(n); n++)
        T_OK(fc_task_find(fc_task_name(n), &index, &err) == FC_OK && index == n, "%s",
             fc_task_name(n));
    T_OK(n == 10, "%d tasks", (int)n);
    static const char *const bad[] = {"", "arc", "lambadas", "open", "Piqa", "piqa-x"},
                      *const odd[] = {"piqa.x", "piqa_\xc3\xa9", "piqa x", "choices_(1)"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        T_OK(fc_task_find(odd[i], &index, &err) == FC_ERR_ARGUMENT &&
                 strstr(err.msg, "a name of letters, digits, _ and -"), "%s", err.msg);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        T_OK(fc_task_find(bad[i], &index, &err) == FC_ERR_ARGUMENT && index == n - 1 &&
                 strstr(err.msg, "expected one of choices, arc_easy, ") && strstr(err.msg, "mmlu"),
             "\"%s\": %s", bad[i], err.msg);
    T_OK(fc_task_find(NULL, &index, &err) == FC_ERR_ARGUMENT, "NULL");
}

static const struct bad {
    const char *task, *text, *says; // with ' for "
} bads[] = {
    {"choices", "", "a.jsonl: expected a JSON object a line, got no line"},
    {"choices", "\n \r\n", "got no line"},
    {"choices", "{'query':'a','choices':['b','c'],'gold':0}\n{'query':", "a.jsonl:2: column 10"},
    {"choices", "[1]", "a.jsonl:1: expected an object with 'query' or 'question'"},
    {"choices", "{'text':'a'}", "as choices has it, got other members"},
    {"choices", "{'query':3,'choices':['b','c'],'gold':0}", "'query': expected a text, got 3"},
    {"choices", "{'query':'a','gold':0}", "'choices': expected a list of texts, got nothing"},
    {"choices", "{'query':'a','choices':'b','gold':0}", "expected a list of texts, got 'b'"},
    {"choices", "{'query':'a','choices':['b'],'gold':0}", "expected two choices or more, got 1"},
    {"choices", "{'query':'a','choices':['b',2],'gold':0}", "entry 1: expected a text, got 2"},
    {"choices", "{'query':'a','choices':['b',''],'gold':0}", "choice 1: expected a text, got an"},
    {"choices", "{'query':'a','choices':['b','c']}", "'gold': expected a choice: 0 to 1, got noth"},
    {"choices", "{'query':'a','choices':['b','c'],'gold':2}", "'gold': expected a choice: 0 to 1"},
    {"choices", "{'query':'a','choices':['b','c'],'gold':-1}", "'gold': expected a choice"},
    {"choices", "{'query':'a','choices':['b','c'],'gold':'d'}", "0 to 1, got 'd'"},
    {"arc_easy", "{'question':'a','choices':{'text':['b','c'],'label':['A','B']},'answerKey':'C'}",
     "'answerKey': expected a choice: 0 to 1, or a label, got 'C'"},
    {"arc_easy", "{'question':'a','choices':{'text':['b','c'],'label':['A','A']},'answerKey':'A'}",
     "'choices.label': expected each label once, got A again at 1"},
    {"openbookqa", "{'question_stem':'a','choices':{'text':['b','c','d'],'label':['A','B','A']},"
     "'answerKey':'B'}", "'choices.label': expected each label once, got A again at 2"},
    {"arc_easy", "{'question':'a','choices':{'text':['b','c'],'label':['A']},'answerKey':'A'}",
     "'choices.label': expected one for each of 2 choices, got 1"},
    {"arc_easy", "{'question':'a','choices':{'text':['b','c'],'label':['A','B','C']},"
     "'answerKey':'A'}", "'choices.label': expected one for each of 2 choices, got 3"},
    {"arc_easy", "{'question':'a','choices':{'text':['b','c'],'label':['A',1]},'answerKey':'A'}",
     "'choices.label': entry 1: expected a text, got 1"},
    {"arc_easy", "{'question':'a','choices':{'text':['b','c'],'label':['1','2']},'answerKey':1}",
     "'answerKey': expected one choice, got what stands for 0 and 1"},
    {"winogrande", "{'sentence':'a _ b','option1':'b','option2':'c','answer':1}",
     "'answer': expected one choice, got what stands for 0 and 1"},
    {"choices", "{'query':'a','choices':['b','c','b'],'gold':'b'}",
     "'gold': expected one choice, got what stands for 0 and 2"},
    {"choices", "{'query':'a','choices':['1','2'],'gold':'1'}",
     "'gold': expected one choice, got what stands for 0 and 1"},
    {"choices", "{'query':'a','choices':['b','c','d'],'gold':true}",
     "'gold': expected a choice: 0 to 2, got a boolean"},
    {"choices", "{'query':'a','choices':['Yes','perhaps'],'gold':false}",
     "'gold': expected a choice: 0 to 1, got a boolean"},
    {"choices", "{'query':'a','choices':['yes','True'],'gold':true}",
     "'gold': expected one choice, got what stands for 0 and 1"},
    {"choices", "{'query':'a\\u0000b','choices':['b','c'],'gold':0}",
     "a.jsonl:1: 'query': expected a text without NUL characters, got 'a\\x00b'"},
    {"choices", "{'query':'a','choices':['b','c\\u0000'],'gold':0}",
     "'choices': entry 1: expected a text without NUL characters, got 'c\\x00'"},
    {"choices", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n",
     "a.jsonl:1: expected JSON, got a Git LFS pointer"},
    {"choices", "<!DOCTYPE html>\n<html>\n</html>\n", "a.jsonl:1: expected JSON, got an HTML page"},
    {"choices", "%PDF-1.4\nno lines\n%%EOF\n", "a.jsonl:1: expected JSON, got a PDF file"},
    {"arc_easy", "{'question':'a','choices':['b','c'],'answerKey':'A'}", "'choices.text': expe"},
    {"piqa", "{'goal':'a','sol1':'b','label':0}", "'sol2': expected a text, got nothing"},
    {"winogrande", "{'sentence':'a b','option1':'b','option2':'c','answer':'1'}",
     "'sentence': expected a text with '_' in it"},
    {"lambada", "{'text':'word'}", "'text': expected a text with ' ' in it"},
    {"lambada", "{'context':'a','continuation':''}", "a.jsonl:1: expected a text to be scored"},
    {"mmlu", "{'question':'a','choices':['b','c'],'answer':0}", "'choices.2': expected a text"},
    {"choices", "{'query':'a','choices':['b','c'],'gold':0}\n{'query':'a','query':'b'}", ":2: "},
};

static void test_bad(void) {
    fc_error err;
    memory world;
    memset(&world, 0, sizeof world);
    fc_model *m = open_demo(&world, 1, 0);
    for (size_t i = 0; m && i < sizeof bads / sizeof *bads; i++) {
        char text[400], says[200];
        snprintf(text, sizeof text, "%s", bads[i].text);
        snprintf(says, sizeof says, "%s", bads[i].says);
        for (char *c = text; *c; c++) *c = *c == '\'' ? '"' : *c;
        if (!strstr(says, "text with '"))
            for (char *c = says; *c; c++) *c = *c == '\'' ? '"' : *c;
        else says[0] = says[strcspn(says + 1, "'") + 1] = '"';
        const fc_task_desc d = task_of(bads[i].task, text);
        T_OK(!fc_tasks_open(m, &d, 1, &err) && err.code == FC_ERR_FORMAT && strstr(err.msg, says),
             "%s: expected \"%s\", got \"%s\"", text, says, err.msg);
    }
    fc_task_desc d = task_of("choices", several);
    d.shots = 4;
    T_OK(!fc_tasks_open(m, &d, 1, &err) && strstr(err.msg, "shots: expected fewer than its 4"),
         "shots: %s", err.msg);
    d.shots = 10000000;
    const size_t before = world.peak = world.bytes;
    T_OK(!fc_tasks_open(m, &d, 1, &err) && strstr(err.msg, "its 4 items, got 10000000") &&
             world.peak - before < 1 << 20,
         "shots: %s, after %lu bytes", err.msg, (unsigned long)(world.peak - before));
    d = task_of("nothing", several);
    T_OK(!fc_tasks_open(m, &d, 1, &err) && err.code == FC_ERR_ARGUMENT, "name: %s", err.msg);
    d.name = NULL;
    T_OK(!fc_tasks_open(m, &d, 1, &err) && err.code == FC_ERR_ARGUMENT, "no name: %s", err.msg);
    d = task_of("choices", several);
    d.text = NULL;
    T_OK(!fc_tasks_open(m, &d, 1, &err) && err.code == FC_ERR_IO && strstr(err.msg, "a.jsonl"),
         "no file: %s", err.msg);
    T_OK(!fc_tasks_open(m, NULL, 1, &err) && !fc_tasks_open(NULL, &d, 1, &err) &&
             !fc_tasks_open(m, &d, 0, &err) && !fc_tasks_run(NULL, NULL, NULL, &err),
         "NULL: %s", err.msg);
    fc_tasks_close(NULL);
    fc_model_close(m);
}

static int stop_later(void *user, const fc_progress *p) {
    int *left = (int *)user;
    T_OK(strcmp(p->what, "evaluating") == 0 && p->done >= 0 && p->done <= 1, "%s %g", p->what,
         p->done);
    return (*left)-- == 0;
}

// Every allocation fails once, and every call of the callback stops.
static void test_failures(void) {
    memory world;
    fc_error err;
    const fc_task_desc d = task_of("choices", several);
    memset(&world, 0, sizeof world);
    fc_model *m = open_demo(&world, 1, 0);
    if (!m || !T_OK(fc_model_tokenizer(m, &err) != NULL, "%s", err.msg)) return;
    const long live = world.live;
    int done = 0, left = 0;
    for (long fail = 1; !done && fail < 2000; fail++) {
        world.allocs = 0;
        world.fail_alloc = fail;
        fc_tasks *t = fc_tasks_open(m, &d, 1, &err);
        done = t && fc_tasks_run(t, NULL, NULL, &err);
        if (!done) T_OK(err.code == FC_ERR_MEMORY, "%ld: %s", fail, err.msg);
        fc_tasks_close(t);
        if (world.live != live) T_OK(0, "%ld: %ld left", fail, world.live - live);
    }
    T_OK(done, "it ends");
    world.fail_alloc = 0;
    const fc_watch watch = {stop_later, &left};
    fc_tasks *t = fc_tasks_open(m, &d, 1, &err);
    T_OK(t && !fc_tasks_run(t, NULL, &watch, &err) && err.code == FC_ERR_CANCELLED, "%s", err.msg);
    left = 1000000;
    T_OK(t && fc_tasks_run(t, NULL, &watch, &err) && left < 1000000, "%s", err.msg);
    fc_tasks_close(t);
    T_OK(world.live == live, "%ld left", world.live - live);
    fc_model_close(m);
}

int main(void) {
    test_names();
    test_prompts();
    test_figures();
    test_hash();
    test_shots();
    test_fit();
    test_same_bits();
    test_masks();
    test_long();
    test_special();
    test_no_tokens();
    test_bad();
    test_failures();
    return t_end("test_tasks");
}
