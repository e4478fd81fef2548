/* plan.json: round trips to the bit, malformed plans, full disks, no memory. */
#include "private.h"
#include "memory.h"
#include "random_plan.h"
#include "t.h"

/* Files are written to memory, too. */
static fc_env world_env(memory *m) {
    memset(m, 0, sizeof *m);
    fc_env env = memory_env(m);
    memory_writable(&env);
    return env;
}

/* Only that many allocations from now on; negative: no limit. */
static void allow(memory *m, long allocations) {
    m->fail_alloc = allocations < 0 ? 0 : m->allocs + allocations + 1;
    m->fail_always = 1;
}

static int same_real(double a, double b) {
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

static int same_plan(const fc_plan *a, const fc_plan *b, size_t steps) {
    const fc_plan_info *x = fc_plan_about(a), *y = fc_plan_about(b);
    if (strcmp(x->model.fingerprint, y->model.fingerprint) ||
        strcmp(x->model.content, y->model.content) || strcmp(x->model.name, y->model.name) ||
        strcmp(x->model.architecture, y->model.architecture) ||
        x->model.n_blocks != y->model.n_blocks || x->model.n_parameters != y->model.n_parameters)
        return 0;
    if (x->metric != y->metric || x->candidates != y->candidates || x->search != y->search ||
        x->compute != y->compute || x->simd != y->simd || x->first_block != y->first_block ||
        x->seed != y->seed || !same_real(x->confidence, y->confidence) ||
        !same_real(x->margin, y->margin))
        return 0;
    if (strcmp(x->calibration.source, y->calibration.source) ||
        strcmp(x->calibration.given, y->calibration.given) ||
        x->calibration.n_sequences != y->calibration.n_sequences ||
        x->calibration.n_positions != y->calibration.n_positions ||
        x->calibration.length != y->calibration.length ||
        x->calibration.hash != y->calibration.hash)
        return 0;
    if (!same_real(x->cost.lanes, y->cost.lanes) ||
        !same_real(x->cost.exhaustive_lanes, y->cost.exhaustive_lanes) ||
        !same_real(x->cost.seconds, y->cost.seconds) || y->n_steps != steps)
        return 0;
    for (size_t i = 0; i < steps; i++) {
        const fc_step *s = fc_plan_step(a, i), *t = fc_plan_step(b, i);
        if (s->removed != t->removed || !same_real(s->score, t->score) ||
            s->n_scores != t->n_scores)
            return 0;
        for (size_t k = 0; k < s->n_scores; k++)
            if (s->scores[k].candidate != t->scores[k].candidate ||
                s->scores[k].exact != t->scores[k].exact ||
                s->scores[k].estimate != t->scores[k].estimate ||
                s->scores[k].positions != t->scores[k].positions ||
                !same_real(s->scores[k].margin, t->scores[k].margin) ||
                !same_real(s->scores[k].expected, t->scores[k].expected) ||
                !same_real(s->scores[k].value, t->scores[k].value))
                return 0;
    }
    return 1;
}

static void test_round_trip(void) {
    static const size_t steps[] = {0, 1, 7, 1000};
    for (int kind = 0; kind < FC_CANDIDATES_COUNT; kind++)
        for (int i = 0; i < 4; i++) {
            memory m;
            fc_env env = world_env(&m);
            fc_error err;
            uint32_t first = i % 2 ? 3 : 0;
            fc_plan *p = make_plan(&env, (fc_candidates)kind, 9, first, steps[i], 1), *q, *r;
            const memory_output *one = &m.outputs[0], *two = &m.outputs[1];
            T_OK(fc_plan_save(p, "p", &err) == FC_OK && one->whole, "save: %s", err.msg);
            q = fc_plan_load("p", &env, &err);
            if (!T_OK(q != NULL, "load: %s", err.msg)) continue;
            T_OK(same_plan(p, q, p->info.n_steps), "%s, %d steps: not the same",
                 fc_candidates_name((fc_candidates)kind), (int)steps[i]);
            fc_plan_save(q, "q", &err);
            T_OK(two->whole && one->size == two->size && !memcmp(one->data, two->data, one->size),
                 "a plan that was read is written differently");
            q->info.n_steps = p->info.n_steps / 2; /* a prefix of a plan is a plan */
            fc_plan_save(q, "r", &err);
            r = fc_plan_load("r", &env, &err);
            T_OK(r && same_plan(p, r, q->info.n_steps), "prefix: %s", err.msg);
            fc_plan_free(p);
            fc_plan_free(q);
            fc_plan_free(r);
            memory_forget(&m);
            T_OK(m.live == 0, "%ld blocks leaked", m.live);
        }
}

/* Names are valid UTF-8 without control characters, cut between characters. */
static void test_names(void) {
    static const struct {
        const char *from, *to;
        size_t size;
    } cases[] = {
        {"plain", "plain", 32},
        {"", "", 32},
        {"a\xff\xfe"
         "b",
         "a\xef\xbf\xbd\xef\xbf\xbd"
         "b",
         32},
        {"\xe6\xbc\xa2", "\xe6\xbc\xa2", 4},
        {"\xe6\xbc\xa2", "", 3},
        {"\xe6\xbc", "\xef\xbf\xbd\xef\xbf\xbd", 32},
        {"x\n# y\x1b[31m", "x\xef\xbf\xbd# y\xef\xbf\xbd[31m", 32},
        {"\x7f", "\xef\xbf\xbd", 32},
        {"\xc2\x9b"
         "31m",
         "\xef\xbf\xbd"
         "31m",
         32},
        {"\xc2\xa0", "\xc2\xa0", 32},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd", 32},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", 32},
        {"abcdef", "abc", 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char to[32];
        fci_utf8_clean(to, cases[i].size, cases[i].from, strlen(cases[i].from));
        T_OK(strcmp(to, cases[i].to) == 0, "case %d: got %s", (int)i, to);
    }
    for (int round = 0; round < 2000; round++) { /* any bytes, any room */
        char from[40], to[40];
        size_t n = (size_t)(random_bits() % sizeof from),
               size = 1 + (size_t)(random_bits() % (sizeof to - 1)), bad = 0;
        for (size_t i = 0; i < n; i++) from[i] = (char)random_bits();
        fci_utf8_clean(to, size, from, n);
        for (size_t i = 0, k; to[i]; i += k ? k : 1)
            bad += (k = fci_utf8_length(to + i, strlen(to + i))) == 0;
        if (!T_OK(bad == 0 && strlen(to) < size, "round %d", round)) break;
    }
}

#define LAST \
    ",\"scores\":{\"attn.1\":{\"value\":0.75,\"exact\":true}," \
    "\"ffn.3\":{\"value\":2,\"exact\":true}}"
static const char good[] =
    "{\"format\":\"finercut-plan-1\",\"model\":{\"fingerprint\":\"00ff\",\"name\":\"m\","
    "\"architecture\":\"llama\","
    "\"n_blocks\":4,\"n_parameters\":32},\"metric\":\"js\",\"candidates\":\"sublayers\","
    "\"search\":\"race\","
    "\"compute\":\"f32\",\"simd\":\"avx2\",\"first_block\":1,\"calibration\":{\"source\":\"w\","
    "\"n_sequences\":1,"
    "\"n_positions\":2,\"length\":2,\"hash\":\"0123456789abcdef\"},\"steps\":["
    "{\"step\":1,\"removed\":\"attn.3\",\"score\":0.5,\"scores\":{\"ffn.3\":{\"value\":1,"
    "\"exact\":false},"
    "\"attn.3\":{\"value\":0.5,\"exact\":true},\"attn.1\":{\"value\":null,\"exact\":true}}},"
    "{\"step\":2,\"removed\":\"attn.1\",\"score\":0.75" LAST "}],\"cost\":{\"lanes\":1,"
    "\"exhaustive_lanes\":2.5,\"seconds\":3e-1}}";

/* `from` of the good plan becomes `to`; where `error` is NULL the plan must be read still. */
static const struct { const char *from, *to, *error; } variants[] = {
    {"{\"format\"", "{\"new\":{\"field\":[1,2]},\"format\"", NULL},
    {"\"name\":\"m\",\"architecture\":\"llama\",", "", NULL},
    {",\"cost\":{\"lanes\":1,\"exhaustive_lanes\":2.5,\"seconds\":3e-1}", "", NULL},
    {"\"simd\":\"avx2\",\"first_block\":1,", "", NULL},
    {"\"metric\"", "\"parameters\":{\"attn.0\":1,\"ffn.0\":2,\"attn.1\":3,\"ffn.1\":0,\"attn.2\":5,"
     "\"ffn.2\":6,\"attn.3\":7,\"ffn.3\":8},"
     "\"metric\"", NULL},
    {"\"metric\"", "\"parameters\":{\"attn.0\":1,\"ffn.0\":2,\"attn.1\":3,\"ffn.1\":0,\"attn.2\":5,"
     "\"ffn.2\":6,\"attn.3\":7,\"ffn.3\":9},"
     "\"metric\"", "parameters: ffn.3: expected no more in all than the model's n_parameters, "
     "got 9"},
    {"\"metric\"", "\"parameters\":{\"attn.0\":1},\"metric\"", "parameters: expected a number for "
     "each sublayer"},
    {"\"metric\"", "\"parameters\":[1],\"metric\"", "parameters: expected an object"},
    {"\"metric\"", "\"parameters\":{\"attn.0\":1,\"ffn.0\":2,\"attn.1\":3,\"ffn.1\":0,\"attn.2\":5,"
     "\"ffn.2\":6,\"attn.3\":7,\"ffn.3\":-1},"
     "\"metric\"", "parameters: ffn.3: expected a whole number"},
    {"\"metric\"", "\"parameters\":{\"attn.0\":1,\"ffn.0\":2,\"attn.1\":3,\"ffn.1\":0,\"attn.2\":5,"
     "\"ffn.4\":6,\"attn.3\":7,\"ffn.3\":18446744073709551615},"
     "\"metric\"", "parameters: ffn.2: expected a whole number"},
    {"\"exact\":false", "\"exact\":false,\"dropped_at\":3", NULL},
    {"\"score\":0.5,\"scores\":{\"ffn.3\":{\"value\":1,\"exact\":false},\"attn.3\":{\"value\":0.5,"
     "\"exact\":true},\"attn.1\":{\"value\":null,\"exact\":true}}",
     "\"score\":0.5,\"scores\":{}", "step 2: scores: expected none, as step 1 has, got 2"},
    {LAST, "", "step 2: scores: expected some, as step 1 has, got 0"},
    {LAST, ",\"scores\":{}", "step 2: scores: expected some, as step 1 has, got 0"},
    {"\"first_block\":1,", "\"first_block\":1,\"confidence\":4,",
     "confidence: expected 0, as only search confident has, got 4"},
    {"\"first_block\":1,", "\"first_block\":1,\"margin\":1e300,",
     "margin: expected 0, as only search confident has, got 1e300"},
    {"\"first_block\":1,", "\"first_block\":1,\"margin\":null,", "margin: expected 0, as only"},
    {"\"race\"", "\"confident\",\"confidence\":4,\"margin\":3",
     "margin: expected 0 or a number from"},
    {"\"race\"", "\"confident\",\"confidence\":4,\"margin\":5,\"seed\":7", NULL},
    {"\"exact\":false", "\"exact\":false,\"\\u0065stimate\":true,\"margin\":5",
     "scores: ffn.3: expected no estimate, as only search confident has"},
    {"\"exact\":false", "\"exact\":false,\"expected\":0.5",
     "scores: ffn.3: expected: at least its bound 1, got 0.5"},
    {"\"exact\":false", "\"exact\":false,\"estimate\":true,\"positions\":2,\"margin\":5.5", NULL},
    {"\"exact\":false", "\"exact\":false,\"estimate\":true,\"margin\":null", NULL},
    {"\"exact\":false", "\"exact\":false,\"estimate\":false", NULL},
    {"\"race\"", "\"one-shot\"", "step 2: scores: search one-shot: expected that of attn.1 "
     "only, got 2"},
    {"\"race\"", "\"random\"", "step 1: scores: search random: expected that of attn.3 only, got "
     "3"},
    {"\"score\":0.75", "\"score\":null", "step 2: score: expected a finite number from 0, got nan"},
    {"\"score\":0.75", "\"score\":-0.75", "step 2: score: expected a finite number from 0, got "
     "-0.75"},
    {"\"score\":0.75", "\"score\":1e400", "expected a number that fits a double"},
    {"\"score\":0.75", "\"score\":NaN", "expected"},
    {"\"score\":0.75", "\"score\":Infinity", "expected"},
    {"\"score\":0.75", "\"score\":-Infinity", "expected"},
    {"\"score\":0.5", "\"score\":0.25", "step 1: scores: attn.3: expected the step's score 0.25, "
     "exact, got 0.5, exact"},
    {"\"value\":0.5,\"exact\":true", "\"value\":0.5,\"exact\":false", "attn.3: expected the step's "
     "score 0.5, exact, got 0.5, not exact"},
    {"\"value\":0.5", "\"value\":null", "attn.3: expected the step's score 0.5, exact, got nan, "
     "exact"},
    {"\"value\":1,\"exact\":false", "\"value\":0.1,\"exact\":true",
     "step 1: scores: ffn.3: expected an exact score to be behind what was removed (0.5), got 0.1"},
    {"\"value\":1,\"exact\":false", "\"value\":0.1,\"exact\":false", "ffn.3: expected a bound to "
     "be behind what was removed (0.5), got 0.1"},
    {"\"value\":1,\"exact\":false", "\"value\":0.1,\"exact\":false,\"estimate\":true", NULL},
    {"\"value\":1,\"exact\":false", "\"value\":0.5,\"exact\":true", NULL},
    {"\"value\":null", "\"value\":0.5", "attn.1: expected an exact score to be behind what was "
     "removed (0.5), got 0.5"},
    {"\"value\":1,\"exact\":false", "\"value\":-1,\"exact\":false", "ffn.3: expected a number from "
     "0, got -1"},
    {"\"value\":1,\"exact\":false", "\"value\":-1,\"exact\":false,\"estimate\":true",
     "ffn.3: expected a number from 0, got -1"},
    {"\"value\":1,\"exact\":false", "\"value\":1e309,\"exact\":false", "expected a number that "
     "fits a double"},
    {"\"exact\":false", "\"exact\":false,\"expected\":2", NULL},
    {"\"exact\":false", "\"exact\":false,\"expected\":null", NULL},
    {"\"exact\":false", "\"exact\":false,\"expected\":-2", "step 1: ffn.3: expected: expected a "
     "number from 0, got -2"},
    {"\"exact\":false", "\"exact\":false,\"expected\":\"2\"", "expected: expected a number or null,"
     " got \"2\""},
    {"\"name\":\"m\"", "\"name\":\"m\",\"content\":\"\"", NULL},
    {"\"name\":\"m\"", "\"name\":\"m\",\"content\":\"01234567890123456789012345678901\"",
     "content: expected a text of 0 to 31 bytes"},
    {"\"name\":\"m\"", "\"name\":\"m\",\"content\":7", "content: expected a text of 0 to 31 bytes"},
    {"\"exact\":false", "\"exact\":false,\"estimate\":1", "step 1: ffn.3: estimate: expected a "
     "boolean, got 1"},
    {"\"exact\":false", "\"exact\":true,\"estimate\":true",
     "step 1: ffn.3: estimate: expected no estimate where the score is exact"},
    {"\"exact\":false", "\"exact\":false,\"estimate\":true,\"positions\":-1", "positions: expected "
     "a whole number"},
    {"\"exact\":false", "\"exact\":false,\"estimate\":true,\"positions\":1.5",
     "positions: expected a whole number"},
    {"\"exact\":false", "\"exact\":false,\"estimate\":true,\"margin\":-1", "margin: expected a "
     "number from 0, got -1"},
    {"\"exact\":false", "\"exact\":false,\"estimate\":true,\"margin\":[]", "margin: expected a "
     "number or null"},
    {"\"first_block\":1,", "\"first_block\":1,\"confidence\":-4,", "confidence: expected a number "
     "from 0, got -4"},
    {"\"first_block\":1,", "\"first_block\":1,\"margin\":\"x\",", "margin: expected a number or "
     "null, got \"x\""},
    {"\"first_block\":1,", "\"first_block\":1,\"seed\":1.5,", "seed: expected a whole number"},
    {"\"first_block\":1,", "\"first_block\":1,\"seed\":18446744073709551616,",
     "seed: expected a whole number"},
    {"finercut-plan-1", "finercut-plan-2", "format: expected \"finercut-plan-1\", got "
     "\"finercut-plan-2\""},
    {"\"format\":\"finercut-plan-1\",", "", "expected a plan of finercut (plan.json), got another "
     "JSON object: it has no \"format\""},
    {"\"finercut-plan-1\"", "1", "format: expected \"finercut-plan-1\", got 1"},
    {"{\"fingerprint\":\"00ff\",", "{", "model: fingerprint: expected a text of 1 to 31 bytes "
     "without NUL, got nothing"},
    {"\"00ff\"", "\"\"", "fingerprint: expected a text of 1 to 31 bytes"},
    {"\"00ff\"", "\"0123456789012345678901234567890123456789\"",
     "fingerprint: expected a text of 1 to 31 bytes"},
    {"\"name\":\"m\"", "\"name\":\"a\\u0000b\"",
     "name: expected a text of 0 to 127 bytes without NUL, got \"a\\x00b\""},
    {"\"name\":\"m\"", "\"name\":{}", "name: expected a text of 0 to 127 bytes without NUL, got an "
     "object"},
    {"\"n_blocks\":4", "\"n_blocks\":0", "n_blocks: expected a whole number from 1 to 4096, got 0"},
    {"\"n_blocks\":4", "\"n_blocks\":4097", "n_blocks: expected a whole number from 1 to 4096, got "
     "4097"},
    {"\"n_blocks\":4", "\"n_blocks\":4294967298", "n_blocks: expected"},
    {"\"n_blocks\":4", "\"n_blocks\":4.5", "n_blocks: expected a whole number"},
    {"\"n_blocks\":4", "\"n_blocks\":-4", "n_blocks: expected a whole number"},
    {"\"n_blocks\":4", "\"n_blocks\":\"4\"", "n_blocks: expected a whole number from 1 to 4096, "
     "got \"4\""},
    {"\"n_parameters\":32", "\"n_parameters\":18446744073709551616", "n_parameters: expected a "
     "whole number"},
    {"\"model\":{", "\"model\":[],\"x\":{", "model: expected an object, got an array"},
    {"\"metric\":\"js\"", "\"metric\":\"cosine\"", "metric: expected one of js, angular,"},
    {"\"metric\":\"js\"", "\"metric\":null", "got null (at byte"},
    {"\"metric\":\"js\",", "", "metric: expected one of js, angular, euclidean, js-reference, kl, "
     "nll, got nothing"},
    {"\"sublayers\"", "\"layers\"",
     "candidates: expected one of sublayers, attention, ffn, blocks, got \"layers\""},
    {"\"race\"", "\"rac\"", "search: expected one of race, exhaustive, confident, one-shot, "
     "random"},
    {"\"f32\"", "\"f16\"", "compute: expected one of auto, f32, bf16, i8, got \"f16\""},
    {"\"avx2\"", "true", "simd: expected one of"},
    {"\"first_block\":1", "\"first_block\":4", "first_block: expected less than the model's 4 "
     "blocks, got 4"},
    {"\"first_block\":1", "\"first_block\":3",
     "step 1: scores: expected attn.N or ffn.N of block 3 to 3, got \"attn.1\""},
    {"\"calibration\":{", "\"calibration\":7,\"x\":{", "calibration: expected an object, got 7"},
    {"\"length\":2", "\"length\":4294967296",
     "calibration: length: expected a whole number from 0 to 4294967295"},
    {"0123456789abcdef", "0123456789abcdeg", "hash: expected 16 lower-case hexadecimal digits"},
    {"0123456789abcdef", "0123456789abcde", "hash: expected 16 lower-case hexadecimal digits"},
    {"0123456789abcdef", "0123456789abcdef0", "hash: expected 16 lower-case hexadecimal digits"},
    {"\"lanes\":1", "\"lanes\":-1", "cost: lanes: expected a number from 0, got -1"},
    {"\"lanes\":1", "\"lanes\":\"1\"", "cost: lanes: expected a number or null, got \"1\""},
    {"\"steps\":[", "\"steps\":null,\"x\":[", "steps: expected an array, got null"},
    {"\"steps\":[", "\"steps\":[3,", "step 1: step: expected an object, got 3"},
    {"\"step\":2", "\"step\":3", "step 2: step: expected 2, got 3"},
    {"\"step\":1", "\"step\":1.0", "step 1: step: expected 1, got 1.0"},
    {"\"step\":1,", "", "step 1: step: expected 1, got nothing"},
    {"\"removed\":\"attn.1\"", "\"removed\":\"attn.3\"",
     "step 2: removed: expected what no earlier step removed, got \"attn.3\""},
    {"\"removed\":\"attn.1\"", "\"removed\":\"attn.4\"",
     "expected attn.N or ffn.N of block 1 to 3, got \"attn.4\""},
    {"\"removed\":\"attn.1\"", "\"removed\":\"attn.0\"",
     "expected attn.N or ffn.N of block 1 to 3, got \"attn.0\""},
    {"\"removed\":\"attn.1\"", "\"removed\":\"attn.01\"", "got \"attn.01\""},
    {"\"removed\":\"attn.1\"", "\"removed\":\"attn.-1\"", "got \"attn.-1\""},
    {"\"removed\":\"attn.1\"", "\"removed\":\"attn.\"", "got \"attn.\""},
    {"\"removed\":\"attn.1\"", "\"removed\":\"\"", "got \"\""},
    {"\"removed\":\"attn.1\"", "\"removed\":\"1\"", "got \"1\""},
    {"\"removed\":\"attn.1\"", "\"removed\":\"ATTN.1\"", "got \"ATTN.1\""},
    {"\"removed\":\"attn.1\"", "\"removed\":\"block.1\"", "got \"block.1\""},
    {"\"removed\":\"attn.1\"", "\"removed\":\"attn.99999999999999999999\"", "got "
     "\"attn.99999999999999999999\""},
    {"\"removed\":\"attn.1\"", "\"removed\":2", "removed: expected a string, got 2"},
    {"\"removed\":\"attn.1\",", "", "step 2: removed: expected a string, got nothing"},
    {"\"removed\":\"attn.3\"", "\"removed\":\"attn.2\"",
     "step 1: removed: expected one of the scores' candidates, got \"attn.2\""},
    {",\"score\":0.75", "", "step 2: score: expected a number or null, got nothing"},
    {"\"score\":0.75", "\"score\":\"x\"", "step 2: score: expected a number or null, got \"x\""},
    {"\"score\":0.5", "\"score\":1e999", "expected a number that fits a double"},
    {"\"ffn.3\":{", "\"ffn.9\":{", "step 1: scores: expected attn.N or ffn.N of block 1 to 3, got "
     "\"ffn.9\""},
    {"\"ffn.3\":{\"value\":1,\"exact\":false}", "\"ffn.3\":1", "step 1: ffn.3: expected an object, "
     "got 1"},
    {"\"ffn.3\":{\"value\":1,", "\"ffn.3\":{", "step 1: ffn.3: value: expected a number or null, "
     "got nothing"},
    {"\"value\":1,\"exact\":false", "\"value\":1", "step 1: ffn.3: exact: expected a boolean, got "
     "nothing"},
    {"\"exact\":false", "\"exact\":0", "step 1: ffn.3: exact: expected a boolean, got 0"},
    {"\"value\":1,", "\"value\":[],", "step 1: ffn.3: value: expected a number or null, got an "
     "array"},
    {"\"ffn.3\":{", "\"attn.3\":{", "attn.3"},
    {"\"score\":0.75" LAST, "\"score\":0.75,\"scores\":{\"attn.3\":{\"value\":1,\"exact\":true}}",
     "scores: expected what no earlier step removed"},
    {"\"score\":0.75" LAST, "\"score\":0.75,\"scores\":7",
     "step 2: scores: expected an object, got 7"},
    {"\"score\":0.75", "\"score\":nul", "expected"},
    {"\"score\":0.75" LAST, "\"score\":0.75,\"scores\":{\"attn.1\":{\"value\":0.75,\"exact\":true},"
     "\"ffn.3\":{\"value\":2,\"exact\":true}}", NULL},
    {"\"score\":0.75" LAST,
     "\"score\":0.75,\"scores\":{\"attn.1\":{\"value\":0.75,\"exact\":true}}",
     "step 2: scores: ffn.3: missing, though no earlier step removed it"},
    {"\"score\":0.75" LAST, "\"score\":0.75,\"scores\":{\"attn.1\":{\"value\":0.75,\"exact\":true},"
     "\"ffn.3\":{\"value\":2,\"exact\":true},\"attn.2\":{\"value\":2,\"exact\":true}}",
     "step 2: scores: expected those of the 2 candidates that are left, got 3"},
    {"\"removed\":\"attn.1\"", "\"removed\":\"attn.2\"", "step 2: removed: expected one of the "
     "scores' candidates, got \"attn.2\""},
    {",\"attn.1\":{\"value\":null,\"exact\":true}", "", "step 2: removed: attn.1: missing in the "
     "scores of step 1"},
    {"\"exact\":false", "\"exact\":false,\"estimate\":true,\"positions\":3",
     "step 1: scores: ffn.3: expected at most the calibration's 2 positions, got 3"},
    {"\"n_sequences\":1,\"n_positions\":2,\"length\":2", "\"n_sequences\":0,\"n_positions\":0,"
     "\"length\":0",
     NULL},
    {"\"n_sequences\":1,\"n_positions\":2,\"length\":2", "\"n_sequences\":1,\"n_positions\":1,"
     "\"length\":1",
     NULL},
    {"\"n_sequences\":1,\"n_positions\":2,\"length\":2", "\"n_sequences\":3,\"n_positions\":4,"
     "\"length\":2",
     NULL},
    {"\"n_sequences\":1,\"n_positions\":2,\"length\":2", "\"n_sequences\":3,\"n_positions\":6,"
     "\"length\":2",
     NULL},
    {"\"n_sequences\":1,\"n_positions\":2,\"length\":2", "\"n_sequences\":3,\"n_positions\":3,"
     "\"length\":2",
     "calibration: n_positions: expected as many as 3 sequences, the longest of 2 tokens, can have,"
     " got 3"},
    {"\"n_sequences\":1,\"n_positions\":2,\"length\":2", "\"n_sequences\":3,\"n_positions\":7,"
     "\"length\":2",
     "calibration: n_positions: expected as many as 3 sequences, the longest of 2 tokens, can have,"
     " got 7"},
    {"\"n_sequences\":1,\"n_positions\":2,\"length\":2", "\"n_sequences\":1,\"n_positions\":1,"
     "\"length\":2",
     "calibration: n_positions: expected as many as 1 sequence, the longest of 2 tokens, can have,"
     " got 1"},
    {"\"n_sequences\":1,\"n_positions\":2,\"length\":2", "\"n_sequences\":1,\"n_positions\":3,"
     "\"length\":2",
     "calibration: n_positions: expected as many as 1 sequence, the longest of 2 tokens, can have,"
     " got 3"},
    {"\"n_sequences\":1,\"n_positions\":2,\"length\":2", "\"n_sequences\":0,\"n_positions\":2,"
     "\"length\":2",
     "calibration: n_positions: expected as many as 0 sequences, the longest of 2 tokens, can have,"
     " got 2"},
    {"\"n_sequences\":1,\"n_positions\":2,\"length\":2", "\"n_sequences\":1,\"n_positions\":2,"
     "\"length\":0",
     "calibration: n_positions: expected as many as 1 sequence, the longest of 0 tokens, can have,"
     " got 2"},
    {"\"n_sequences\":1,\"n_positions\":2,\"length\":2", "\"n_sequences\":1,\"n_positions\":0,"
     "\"length\":2",
     "calibration: n_positions: expected as many as 1 sequence, the longest of 2 tokens, can have,"
     " got 0"},
    {"\"n_positions\":2,", "", "calibration: n_positions: expected as many as 1 sequence,"},
    {"\"n_sequences\":1,\"n_positions\":2,\"length\":2,", "", NULL},
    {"\"sublayers\"", "\"attention\"", "step 1: scores: expected attn.N of block 1 to 3, got "
     "\"ffn.3\""},
    {"\"sublayers\"", "\"ffn\"", "expected ffn.N of block 1 to 3, got \"attn.3\""},
    {"\"sublayers\"", "\"blocks\"", "expected block.N of block 1 to 3, got \"attn.3\""},
};

static char *replaced(const char *from, const char *to) {
    const char *at = strstr(good, from);
    if (!at) return NULL;
    char *text = (char *)malloc(sizeof good + strlen(to) + 8);
    memcpy(text, good, (size_t)(at - good));
    strcpy(text + (at - good), to);
    strcat(text, at + strlen(from));
    char *search = strstr(to, "\"estimate\"") ? strstr(text, "\"race\"") : NULL;
    if (search) { /* only this one has estimates */
        memmove(search + 11, search + 6, strlen(search + 6) + 1);
        memcpy(search, "\"confident\"", 11);
    }
    return text;
}

static void test_malformed(void) {
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        fc_error err;
        char *text = replaced(variants[i].from, variants[i].to);
        if (!T_OK(text != NULL, "variant %d does not apply", (int)i)) continue;
        memset(&err, 0, sizeof err);
        fc_plan *p = fci_form_read(text, strlen(text), NULL, &err);
        if (!variants[i].error) T_OK(p != NULL, "variant %d: %s", (int)i, err.msg);
        else T_OK(!p && err.code == FC_ERR_FORMAT && strstr(err.msg, variants[i].error),
                  "variant %d: expected \"%s\", got \"%s\"",
                  (int)i, variants[i].error, p ? "a plan" : err.msg);
        if (!p && strstr(err.msg, "(at byte ")) {
            char place[40];
            snprintf(place, sizeof place, "(at byte %lu)", (unsigned long)err.where);
            T_OK(strstr(err.msg, place) != NULL, "variant %d: where is %lu, but \"%s\"", (int)i,
                 (unsigned long)err.where, err.msg);
        }
        fc_plan_free(p);
        free(text);
    }
}

static void test_good(void) {
    fc_error err;
    fc_plan *p = fci_form_read(good, sizeof good - 1, NULL, &err);
    if (!T_OK(p != NULL, "%s", err.msg)) return;
    const fc_step *s = fc_plan_step(p, 0);
    T_OK(p->info.n_steps == 2 && s->removed == 6 && s->n_scores == 3, "first step");
    T_OK(s->scores[0].candidate == 2 && isnan(s->scores[0].value) && s->scores[0].exact,
         "scores come in order of candidate");
    T_OK(s->scores[1].candidate == 6 && s->scores[2].candidate == 7 && !s->scores[2].exact,
         "scores come in order of candidate");
    T_OK(fc_plan_step(p, 1)->removed == 2 && fc_plan_step(p, 1)->score > 0.7 &&
             fc_plan_step(p, 1)->n_scores == 2,
         "second step");
    T_OK(p->info.calibration.hash == 0x0123456789abcdefu && p->info.first_block == 1, "fields");
    T_OK(!s->scores[2].estimate && s->scores[2].positions == 0 && p->info.confidence == 0 &&
             p->info.seed == 0,
         "a plan of before estimates has none");
    fc_plan_free(p);
}

/* Every prefix is refused, and every single byte may be anything: never a crash. */
static void test_damage(void) {
    char text[sizeof good];
    int refused = 0;
    fc_error err;
    for (size_t n = 0; n + 1 < sizeof good; n++) {
        char *cut =
            (char *)malloc(n ? n : 1); /* exact size: a read past it is seen by the sanitizer */
        memcpy(cut, good, n);
        fc_plan *p = fci_form_read(cut, n, NULL, &err);
        refused += !p && err.code == FC_ERR_FORMAT;
        fc_plan_free(p);
        free(cut);
    }
    T_OK(refused == (int)sizeof good - 1, "%d of %d prefixes refused", refused,
         (int)sizeof good - 1);
    for (int round = 0; round < 20000; round++) {
        memcpy(text, good, sizeof good);
        for (int k = (int)(random_bits() % 3); k >= 0; k--)
            text[random_bits() % (sizeof good - 1)] =
                round % 2 ? good[random_bits() % (sizeof good - 1)] : (char)random_bits();
        fc_plan_free(fci_form_read(text, sizeof good - 1, NULL, &err));
    }
}

static void test_disk(void) {
    memory m;
    fc_env env = world_env(&m);
    fc_error err;
    fc_plan *p = make_plan(NULL, FC_CANDIDATES_SUBLAYERS, 3, 0, 2, 0), *q;
    T_OK(fc_plan_save(p, "no/such/directory/plan.json", &err) == FC_ERR_IO &&
             strstr(err.msg, "no/such/directory/plan.json"),
         "%s", err.msg);
    T_OK(fc_report_svg(p, "no/such/directory/p.svg", &err) == FC_ERR_IO &&
             fc_report_csv(p, "no/such/directory/p.csv", NULL) == FC_ERR_IO,
         "%s", err.msg);
    T_OK(!fc_plan_load("no/such/plan.json", NULL, &err) && err.code == FC_ERR_IO &&
             strstr(err.msg, "no/such/plan.json"),
         "%s", err.msg);
    T_OK(!fc_plan_load("tests/test_plan.c", NULL, &err) && err.code == FC_ERR_FORMAT &&
             strstr(err.msg, "tests/test_plan.c: ") == err.msg,
         "%s", err.msg);
    T_OK(!fc_plan_load(NULL, NULL, NULL) && fc_plan_save(NULL, "x", NULL) == FC_ERR_ARGUMENT &&
             fc_report_svg(p, NULL, &err) == FC_ERR_ARGUMENT,
         "NULL");
    q = make_plan(&env, FC_CANDIDATES_SUBLAYERS, 3, 0, 2, 0);
    const long live = m.live;
    m.fail_write = 2; /* the first creates the file */
    T_OK(fc_plan_save(q, "p", &err) == FC_ERR_IO && m.writes == 2 && m.live == live,
         "a full disk: %s", err.msg);
    m.fail_write = 5;
    T_OK(fc_report_svg(q, "p", &err) == FC_ERR_IO && m.writes == 5 && m.live == live,
         "a failing rename: %s", err.msg);
    fc_plan_free(p);
    fc_plan_free(q);
}

/* A real file; what cannot be written leaves nothing beside it. */
static void test_file(void) {
    const char *directory = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    char path[600];
    fc_error err;
    fc_plan *p = make_plan(NULL, FC_CANDIDATES_BLOCKS, 7, 1, 5, 1), *q;
    snprintf(path, sizeof path, "%s/finercut-test-plan-%lu.json", directory,
             (unsigned long)fci_hash(FCI_HASH_START, &p, sizeof p) + (unsigned long)(size_t)&p);
    T_OK(fc_plan_save(p, path, &err) == FC_OK && fc_plan_save(p, path, &err) == FC_OK, "save: %s",
         err.msg);
    char *text = t_read(path, NULL);
    T_OK(text && strstr(text, "{\n  \"format\": \"finercut-plan-1\",\n") == text,
         "the file begins with its format");
    q = fc_plan_load(path, NULL, &err);
    T_OK(q && same_plan(p, q, 5), "load: %s", err.msg);
    T_OK(remove(path) == 0, "the plan is there");
    T_OK(fc_plan_save(p, "tests", &err) == FC_ERR_IO, "a directory in the way: %s", err.msg);
    free(text);
    fc_plan_free(p);
    fc_plan_free(q);
}

/* The n'th allocation fails, for every n: an error, nothing written, nothing leaked. */
static void test_memory(void) {
    memory m;
    fc_env env = world_env(&m);
    fc_error err;
    fc_plan *p = make_plan(&env, FC_CANDIDATES_SUBLAYERS, 12, 0, 20, 1), *q = NULL;
    long n;
    fc_plan_save(p, "p", &err);
    long start = m.live;
    for (n = 0; n < 10000; n++) {
        allow(&m, n);
        q = fc_plan_load("p", &env, &err);
        if (q) break;
        if (!T_OK(err.code == FC_ERR_MEMORY && m.live == start,
                  "load, allocation %ld: %s, %ld live", n, err.msg, m.live - start))
            break;
    }
    T_OK(n > 4 && q, "%ld allocations of a load", n);
    fc_plan_free(q);
    for (int what = 0; what < 3; what++) {
        const long writes = m.writes;
        for (n = 0; n < 10000; n++) {
            allow(&m, n);
            fc_code code = what == 0   ? fc_plan_save(p, "q", &err)
                           : what == 1 ? fc_report_svg(p, "q", &err)
                                       : fc_report_csv(p, "q", &err);
            if (!code) break;
            if (!T_OK(code == FC_ERR_MEMORY && m.live == start && m.writes == writes,
                      "output %d, allocation %ld: %s", what, n, err.msg))
                break;
        }
        T_OK(n > 0 && m.outputs[1].whole, "output %d: %ld allocations", what, n);
        memory_drop(&m, &m.outputs[1]);
    }
    static const char kept[] =
        "{\"format\":\"finercut-plan-1\",\"model\":{\"fingerprint\":\"00ff\",\"n_blocks\":4},"
        "\"metric\":\"js\",\"candidates\":\"sublayers\",\"search\":\"race\",\"compute\":\"f32\","
        "\"budget\":{\"keep\":\"attn.0\"},\"steps\":[]}";
    for (n = 0; n < 10000; n++) {
        allow(&m, n);
        q = fc_plan_load_memory(kept, sizeof kept - 1, &env, &err);
        if (q || !T_OK(err.code == FC_ERR_MEMORY, "keep, allocation %ld: %s", n, err.msg)) break;
    }
    T_OK(q && !strcmp(fc_plan_about(q)->keep, "attn.0"), "keep: %s", err.msg);
    fc_plan_free(q);
    allow(&m, -1);
    fc_plan_free(p);
    memory_forget(&m);
    T_OK(m.live == 0, "%ld blocks leaked", m.live);
}

/* Every candidate has a score, and then there is one name more, which must not be written anywhere:
   a sanitizer sees it. */
static void test_one_name_more(void) {
    fc_error err;
    static const char *const candidates[] = {"sublayers", "blocks"};
    for (size_t k = 0; k < 2; k++) {
        char text[1200];
        int n = snprintf(text, sizeof text,
                         "{\"format\":\"finercut-plan-1\",\"model\":{\"fingerprint\":\"00ff\","
                         "\"n_blocks\":4},\"metric\":\"js\",\"candidates\":\"%s\","
                         "\"search\":\"race\",\"compute\":\"f32\",\"steps\":["
                         "{\"step\":1,\"removed\":\"%s\","
                         "\"score\":0.5,\"scores\":{",
                         candidates[k], k ? "block.0" : "attn.0");
        for (int i = 0; i < (k ? 4 : 8); i++)
            n += snprintf(text + n, sizeof text - (size_t)n,
                          "\"%s.%d\":{\"value\":0.5,\"exact\":true},",
                          k ? "block" : i % 2 ? "ffn" : "attn", k ? i : i / 2);
        const int whole = n - 1;
        n += snprintf(text + n, sizeof text - (size_t)n, "\"x\":{}}}]}");
        fc_plan *p = fc_plan_load_memory(text, (size_t)n, NULL, &err);
        T_OK(!p && strstr(err.msg, "got \"x\""), "%s", err.msg);
        n = whole + snprintf(text + whole, sizeof text - (size_t)whole, "}}]}");
        p = fc_plan_load_memory(text, (size_t)n, NULL, &err);
        T_OK(p != NULL, "without it: %s", err.msg);
        fc_plan_free(p);
    }
}

int main(void) {
    (void)t_shared;
    test_one_name_more();
    test_good();
    test_round_trip();
    test_names();
    test_malformed();
    test_damage();
    test_disk();
    test_file();
    test_memory();
    return t_end("test_plan");
}
