// The page of plans and results: well-formed for plans of any size and kind, every score and result
// on it, the same bytes each time, nothing from outside that acts, colours that can be read, and a
// script that its own policy allows.
#include "private.h"
#include "memory.h"
#include "random_plan.h"
#include "t.h"

#define PLAN "tests/data/plan.json"

static fc_error err;

static size_t count(const char *text, const char *what) {
    size_t n = 0;
    for (const char *p = strstr(text, what); p; p = strstr(p + 1, what)) n++;
    return n;
}

// ---- a small checker of HTML as it is written here

static const char *entity(const char *p) {
    static const char *const names[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;", "&nbsp;"};
    for (int i = 0; i < 6; i++)
        if (strncmp(p, names[i], strlen(names[i])) == 0) return p + strlen(names[i]);
    return NULL;
}

typedef struct tag {
    const char *name;
    size_t n;
    int kind; // 1 opens, -1 closes, 0 both
} tag;

// Attributes are quoted; NULL: malformed.
static const char *tag_at(const char *p, tag *t) {
    t->kind = p[1] == '/' ? -1 : 1;
    p += t->kind < 0 ? 2 : 1;
    t->name = p;
    while ((*p >= 'a' && *p <= 'z') || (*p >= '1' && *p <= '6')) p++;
    t->n = (size_t)(p - t->name);
    while (*p == ' ') {
        p += strcspn(p, "=<> \n");
        if (*p == ' ') p++;
        p += strcspn(p, "=<> \n");
        const char quote = *p ? p[1] : 0;
        if (*p != '=' || (quote != '\'' && quote != '"')) return NULL;
        for (p += 2; *p && *p != quote;) {
            p = *p == '&' ? entity(p) : *p == '<' || *p == '>' ? NULL : p + 1;
            if (!p) return NULL;
        }
        if (*p++ != quote) return NULL;
    }
    if (*p == '/') t->kind = 0, p++;
    if (t->n == 4 && memcmp(t->name, "meta", 4) == 0) t->kind = 0;
    return t->n && *p == '>' ? p + 1 : NULL;
}

// Past the raw text of a script or style; the tag is its opening one.
static const char *raw_end(const char *p, const tag *t) {
    const int raw = t->kind == 1 && ((t->n == 6 && memcmp(t->name, "script", 6) == 0) ||
                                     (t->n == 5 && memcmp(t->name, "style", 5) == 0));
    return raw ? strstr(p, "</") : p;
}

static int html_good(const char *text) {
    static const char start[] = FCI_HTML_HEAD FINERCUT_VERSION " -->\n";
    tag open[24], t;
    int depth = 0;
    if (strncmp(text, start, sizeof start - 1) != 0) return 0;
    for (size_t i = 0, size = strlen(text), n; i < size; i += n) {
        n = fci_utf8_length(text + i, size - i);
        if (n == 0 || (n == 1 && (unsigned char)text[i] < 0x20 && text[i] != '\n')) return 0;
    }
    for (const char *p = text + sizeof start - 1; p && *p;) {
        if (*p == '&') p = entity(p);
        else if (*p == '>') p = NULL;
        else if (*p != '<') p++;
        else {
            p = tag_at(p, &t);
            if (!p) return 0;
            p = raw_end(p, &t);
            if (t.kind > 0 && depth == 24) return 0;
            if (t.kind > 0) open[depth++] = t;
            if (t.kind < 0 && depth-- == 0) return strcmp(p, "\n") == 0 && t.n == 4;
            if (t.kind < 0 && (open[depth].n != t.n || memcmp(open[depth].name, t.name, t.n) != 0))
                return 0;
        }
        if (!p) return 0;
    }
    return 0;
}

// h1 once, and no heading more than one level below the one before it.
static int headings_good(const char *text) {
    int last = 0, firsts = 0;
    for (const char *p = text; (p = strstr(p, "<h")) != NULL; p += 2) {
        if (p[2] < '1' || p[2] > '6' || p[3] != '>') continue;
        const int level = p[2] - '0';
        if (level > last + 1) return 0;
        firsts += level == 1;
        last = level;
    }
    return firsts == 1;
}

// ---- pages in memory

static fc_text page;

// The page, valid until the next; "" where it failed.
static const char *draw(const fc_page_desc *desc) {
    fc_text_free(&page);
    if (!T_OK(fc_report_page_memory(desc, &page, &err) == FC_OK, "%s", err.msg)) return "";
    T_OK(html_good(page.bytes), "the page is not well-formed");
    T_OK(headings_good(page.bytes), "levels of headings");
    T_OK(count(page.bytes, "http") == 1 && count(page.bytes, "src=") == 0 &&
             count(page.bytes, "url(") == 0 && count(page.bytes, "<script") == 1,
         "the page is not self-contained");
    return page.bytes;
}

static const char *draw_plan(const fc_plan *p) {
    fc_page_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.plans = &p;
    desc.n_plans = 1;
    return draw(&desc);
}

static fc_memory_file file_of(const char *name, const char *text) {
    fc_memory_file f;
    f.name = name;
    f.data = text;
    f.size = strlen(text);
    return f;
}

static fc_code refusal(const fc_memory_file *files, size_t n) {
    fc_page_desc desc;
    fc_text text;
    memset(&desc, 0, sizeof desc);
    desc.files = files;
    desc.n_files = n;
    const fc_code code = fc_report_page_memory(&desc, &text, &err);
    T_OK(!text.bytes && !text.length, "a page that failed");
    fc_text_free(&text);
    return code;
}

// ---- what is on it

// Every score of a plan, with its step and what kind it is of.
static void check_scores(const char *html, const fc_plan *p) {
    char want[160], number[32], name[24];
    for (size_t i = 0; i < p->info.n_steps; i++)
        for (size_t k = 0; k < p->steps[i].n_scores; k++) {
            const fc_score *s = &p->steps[i].scores[k];
            const char *mark = s->exact ? "" : s->estimate ? "~" : "\xe2\x89\xa5";
            snprintf(want, sizeof want, " title='%s, step %d: %s%s'>%s%s</td>",
                     fc_candidate_name(p->info.candidates, s->candidate, name, sizeof name),
                     (int)i + 1, mark, fci_picture_g(number, 3, s->value), mark, number);
            T_OK(strstr(html, want) != NULL, "on the page: %s", want);
        }
}

static void check_given(fc_plan *p) { // as flags, if they are nothing else
    static const char *const rows[][2] = {
        {"--text a.txt --samples 2", "tiny --text a.txt --samples 2 --metric"},
        {"--text 'a b'\\''<c>.txt'", "tiny --text &#39;a b&#39;\\&#39;&#39;&lt;c&gt;.txt&#39; --m"},
        {"--own 256 --length 8 --seed 1", "tiny --own 256 --length 8 --seed 1 --metric"},
        {"--text a; rm b", "tiny --text ... --samples 10 --length 256 "},
        {"--text $(b)", "tiny --text ... --samples 10 --length 256 "},
        {"--text 'a", "tiny --text ... --samples 10 --length 256 "},
        {"--text 'a\nb'", "tiny --text ... --samples 10 --length 256 "},
        {"--text a.txt --force -o thesis.txt", "tiny --text ... --samples 10 --length 256 "},
        {"--text a.txt ''--force", "tiny --text ... --samples 10 --length 256 "},
        {"--text a.txt '--resume'", "tiny --text ... --samples 10 --length 256 "},
        {"--text ./-a.txt", "tiny --text ./-a.txt --metric"},
        {"--text - --samples 2", "tiny --text - --samples 2 --metric"},
        {"--text '-'", "tiny --text ... --samples 10 --length 256 "},
        {"; b", "tiny --text ... --samples 10 --length 256 "}};
    char *const given = p->info.calibration.given;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(given, sizeof p->info.calibration.given, "%s", rows[i][0]);
        T_OK(strstr(draw_plan(p), rows[i][1]) != NULL, "%s", rows[i][0]);
    }
    const fc_budget until = p->info.until;
    p->info.until.unit = FC_UNIT_PERPLEXITY;
    p->info.until.most = 1.25;
    T_OK(strstr(draw_plan(p), "--until perplexity:1.25 --eval-text ... --remove 4\n"), "not known");
    strcpy(p->info.evaluation.given, "--eval-text e.txt");
    T_OK(strstr(draw_plan(p), ":1.25 --eval-text e.txt --remove 4\n"), "a text that is measured");
    p->info.until = until;
    *given = 0;
}

static void test_plan(void) {
    fc_plan *p = fc_plan_load(PLAN, NULL, &err);
    if (!T_OK(p != NULL, "%s", err.msg)) return;
    const char *html = draw_plan(p);
    check_scores(html, p);
    T_OK(strstr(html, "<h1><bdi>tiny</bdi></h1>") && strstr(html, "<strong>4 of 12</strong>") &&
             strstr(html, "<strong>0.45</strong> Jensen-Shannon divergence"),
         "the head");
    const char *cells = strstr(html, "\n.t{");
    if (!cells) cells = strstr(html, "}.t{");
    T_OK(strstr(html, ".scroll{overflow-x:auto;") && cells &&
             strncmp(cells + 4, "text-align:left}", 16) == 0,
         "narrow screens: tables scroll, words in their cells stay whole");
    T_OK(strstr(html, "<b class='w0' title='attn.4: removed at step 1, distance 0.0005'>1</b>") &&
             strstr(html, "title='attn.1: not a candidate'") && strstr(html, "title='ffn.5: kept'"),
         "the map");
    T_OK(strstr(html, "step 3, removed ffn.4, distance 0.06") &&
             strstr(html, "<td>4</td><td class='t'><bdi>ffn.3</bdi></td><td>0.45</td>"),
         "the curve and its table");
    T_OK(strstr(html, "finercut prune tiny --text ... --samples 10 --length 256 --metric js "
                      "--candidates sublayers --search race --last 66.666667% --remove 4\n"),
         "the command, with what is known of the text");
    char *first = (char *)malloc(page.length + 1), advice[512];
    memcpy(first, html, page.length + 1);
    T_OK(strcmp(draw_plan(p), first) == 0, "drawn twice, two pages");
    T_OK(strstr(first, fc_plan_advice(p, advice, sizeof advice)) && strlen(advice) > 80,
         "the advice: %s", advice);
    check_given(p);
    p->info.n_steps = 0;
    T_OK(strstr(draw_plan(p), "0 of 12") && !*fc_plan_advice(p, advice, sizeof advice), "no steps");
    uint64_t parameters[12] = {9, 9, 9, 9, 0, 9, 9, 0, 9, 9, 9, 9}; // a model without attn.2, ffn.3
    p->info.parameters = parameters;
    T_OK(strstr(draw_plan(p), "0 of 10") && strstr(page.bytes, "0 of 5 attention, 0 of 5 FFN") &&
             strstr(page.bytes, "title='ffn.3: not a candidate'"),
         "what the model lacks is no candidate");
    free(first);
    fc_plan_free(p);
}

static void test_advice(void) {
    static const double bent[] = {0.01, 0.02, 0.03, 0.04, 0.2, 0.5}, even[] = {1, 2, 3, 4, 5, 6};
    char text[512];
    fc_plan *p = make_plan(NULL, FC_CANDIDATES_SUBLAYERS, 8, 0, 6, 0);
    for (int i = 0; i < 6; i++) p->steps[i].score = bent[i], p->steps[i].removed = (uint32_t)i;
    T_OK(strcmp(fc_plan_advice(p, text, sizeof text),
                "The distance bends after step 4 of 6: up to there a removal adds 0.01 on average, "
                "the next one (attn.2) 0.16. The last one (ffn.2) added 0.3, which makes 0.5: "
                "expect as much of one more.") == 0,
         "%s", text);
    p->info.n_steps = 5;
    T_OK(strcmp(fc_plan_advice(p, text, sizeof text),
                "The distance bends after step 4 of 5: up to there a removal adds 0.01 on average, "
                "the last one (attn.2) 0.16, which makes 0.2: expect as much of one more.") == 0,
         "%s", text);
    p->info.n_steps = 1;
    T_OK(strcmp(fc_plan_advice(p, text, sizeof text),
                "1 step is too few to tell where the distance bends. The last one (attn.0) added "
                "0.01: expect as much of one more.") == 0,
         "%s", text);
    p->info.n_steps = 6;
    for (int i = 0; i < 6; i++) p->steps[i].score = even[i];
    for (int k = 0; k < 2; k++) { // of nll, step 1 is the first point
        p->info.metric = k ? FC_METRIC_NLL : FC_METRIC_JS;
        T_OK(strncmp(fc_plan_advice(p, text, sizeof text), "The distance has no clear bend", 30) ==
                 0, "%s", text);
    }
    p->info.metric = FC_METRIC_JS;
    for (int i = 0; i < 6; i++) p->steps[i].score = (double)NAN;
    T_OK(!strstr(fc_plan_advice(p, text, sizeof text), "nan"), "%s", text);
    T_OK(strlen(fc_plan_advice(p, text, 12)) < 12, "cut off");
    for (int i = 0; i < 6; i++) p->steps[i].score = bent[i];
    p->info.model.n_blocks = 3;
    T_OK(strstr(fc_plan_advice(p, text, sizeof text), "(ffn.2) added 0.3, which makes 0.5.") &&
             !strstr(text, "one more"),
         "nothing is left: %s", text);
    fc_plan_free(p);
}

#define MODEL "fc2-0123456789abcdef" // of the plan
static const char along[] =
    "{\"along\":[{\"steps\":0,\"perplexity\":10.25,\"positions\":99,\"protocol\":\"all\","
    "\"model\":\"" MODEL "\",\"removed\":[],\"tasks\":{\"piqa\":{\"n\":40,\"acc\":0.625,"
    "\"acc_stderr\":0.0775,\"acc_norm\":0.5,\"acc_norm_stderr\":0.08}}},"
    "{\"steps\":2,\"perplexity\":11.5,\"positions\":99,\"protocol\":\"all\","
    "\"model\":\"" MODEL "\",\"removed\":[\"attn.4\",\"attn.5\"]},"
    "{\"perplexity\":33.125,\"positions\":99,\"protocol\":\"all\","
    "\"model\":\"" MODEL "\",\"removed\":[\"attn.4\",\"attn.5\",\"ffn.4\",\"ffn.3\"]}]}";

static void test_results(void) {
    size_t n;
    char *plan = t_read(PLAN, &n);
    fc_memory_file files[3];
    fc_page_desc desc;
    if (!T_OK(plan != NULL, PLAN)) return;
    memset(&desc, 0, sizeof desc);
    files[0] = file_of("dir/quality.json", along);
    files[1] = file_of("dir/own.json", plan);
    files[2] = file_of("other.json", "{\"perplexity\":77.5,\"positions\":99,\"protocol\":\"all\","
                                     "\"model\":\"" MODEL "\",\"removed\":[\"ffn.0\"]}");
    desc.files = files;
    desc.n_files = 3;
    const char *html = draw(&desc);
    T_OK(strstr(html, "<strong>33.12</strong> Perplexity <small>10.25 of the whole model") ||
             strstr(html, "<strong>33.13</strong> Perplexity <small>10.25 of the whole model"),
         "perplexity in the head");
    T_OK(strstr(html, "99 positions, protocol all") && strstr(html, "40 items") &&
             strstr(html, "piqa: accuracy</h3>") && strstr(html, "piqa: accuracy by length</h3>"),
         "what was measured");
    T_OK(strstr(html, "sublayers removed 2, own 11.5<") && strstr(html, "own 33.125<") &&
             strstr(html, "sublayers removed 1, other 77.5<") &&
             strstr(html, "own 0.625, standard error 0.0775<"),
         "results at their plan, and one that is of none");
    files[2] = file_of("heal.json", "{\"perplexity\":9.5,\"positions\":99,\"protocol\":\"all\","
                                    "\"heal\":\"h\",\"model\":\"" MODEL "\","
                                    "\"removed\":[\"attn.4\",\"attn.5\"]}");
    T_OK(strstr(draw(&desc), "sublayers removed 2, heal, healed 9.5<") &&
             strstr(page.bytes, "<th scope='col'><bdi>heal, healed</bdi></th>") &&
             strstr(page.bytes, "after so many removals; healed: with what was trained"),
         "a healed model's result says so");
    files[2] = file_of("both.json", "{\"along\":[{\"perplexity\":9.5,\"positions\":99,"
                                    "\"protocol\":\"all\",\"heal\":\"h\",\"model\":\"" MODEL
                                    "\",\"removed\":[\"attn.0\"]},{\"perplexity\":12.5,"
                                    "\"positions\":99,\"protocol\":\"all\",\"model\":\"" MODEL
                                    "\",\"removed\":[\"attn.0\"]}]}");
    T_OK(strstr(draw(&desc), "sublayers removed 1, both, healed 9.5<") &&
             strstr(page.bytes, "sublayers removed 1, both 12.5<"),
         "a file's results that are healed and those that are not");
    files[2] = file_of("new.json", "{\"perplexity\":12.5,\"positions\":99,\"protocol\":\"all\","
                                   "\"source\":\"b.txt\",\"length\":64,"
                                   "\"tasks\":{\"piqa\":{\"n\":40,"
                                   "\"acc\":0.75,\"shots\":5,\"seed\":3,\"chat\":true}},"
                                   "\"model\":\"" MODEL "\",\"removed\":[\"attn.4\",\"attn.5\"]}");
    html = draw(&desc);
    T_OK(strstr(html, ">b.txt: 99 positions, windows of 64, protocol all<") &&
             strstr(html, ">40 items, 5 shots of seed 3, as chats<") &&
             count(html, "piqa: accuracy</h3>") == 2 && count(html, "own 11.5<") == 1,
         "results of other settings are not merged");
    files[1] = files[0];
    T_OK(strstr(draw(&desc), "sublayers removed 2, quality 11.5<"), "results without a plan");
    files[0] = file_of("a.json", "{\"perplexity\":null,\"nll\":800,\"positions\":9,"
                                 "\"model\":\"" MODEL "\",\"removed\":[]}");
    files[1] = files[0];
    T_OK(!strstr(draw(&desc), ", quality"), "a perplexity that is too large is no point");
    free(plan);
}

// Two texts, and two files of a task, of one name and size.
static void test_hashes(void) {
#define HASHED(value, hash, task)                                                                  \
    "{\"perplexity\":" value ",\"positions\":99," hash "\"model\":\"" MODEL "\",\"removed\":[]," \
    "\"tasks\":{\"piqa\":{\"n\":40," task "\"acc\":0.625}}}"
    fc_memory_file files[4];
    fc_page_desc desc;
    memset(&desc, 0, sizeof desc);
    files[0] = file_of("a/eval.json", HASHED("10.25", "\"hash\":\"0123456789abcdef\",",
                                             "\"hash\":\"00000000000000aa\","));
    files[1] = file_of("b/eval.json", HASHED("10.25", "\"hash\":\"0123456789abcdef\",",
                                             "\"hash\":\"00000000000000bb\","));
    files[2] = file_of("c/eval.json", HASHED("11.5", "\"hash\":\"0123456789abcdee\",",
                                             "\"hash\":\"00000000000000bb\","));
    files[3] = file_of("old/eval.json", HASHED("12.5", "", ""));
    desc.files = files;
    desc.n_files = 2;
    const char *html = draw(&desc);
    T_OK(count(html, "<h3>Perplexity</h3>") == 1 && count(html, ">99 positions<") == 1 &&
             strstr(html, "<bdi>a/eval</bdi></th><th scope='col'><bdi>b/eval</bdi></th>"),
         "one text is one curve");
    T_OK(count(html, "<h3>piqa: accuracy</h3>") == 2 &&
             strstr(html, ">40 items, as in a/eval; hash 00000000000000aa<") &&
             strstr(html, ">40 items, as in b/eval; hash 00000000000000bb<"),
         "two files of a task are two");
    desc.n_files = 4;
    html = draw(&desc);
    T_OK(count(html, "<h3>Perplexity</h3>") == 3 && count(html, "<h3>piqa: accuracy</h3>") == 3 &&
             strstr(html, ">99 positions, as in a/eval; hash 0123456789abcdef<") &&
             strstr(html, ">99 positions, as in c/eval; hash 0123456789abcdee<") &&
             strstr(html, ">99 positions, as in old/eval; hash unknown<"),
         "two texts are two, and an older result is by itself");
}

#define SEQUENCE(members) \
    "\"perplexity\":10,\"positions\":9,\"nll\":2.303,\"sequences\":[{" members "}]"
#define ITEM(members) "\"tasks\":{\"t\":{\"n\":1,\"acc\":1,\"items\":[{" members "}]}}"
static const char *const values[][2] = { // members of an evaluation, and what is said of them
    {"\"positions\":9,\"perplexity\":-5",
     "perplexity: expected a number from 1 to 3.4e+38, got -5"},
    {"\"positions\":9,\"perplexity\":\"x\"",
     "perplexity: expected a number from 1 to 3.4e+38, got \"x\""},
    {"\"positions\":9,\"perplexity\":null",
     "perplexity: expected a number from 1 to 3.4e+38, got null"},
    {"\"positions\":9,\"perplexity\":null,\"nll\":2",
     "perplexity: expected 7.38906, which the result's other numbers give, got inf"},
    {"\"positions\":9,\"perplexity\":1e300",
     "perplexity: expected a number from 1 to 3.4e+38, got 1e300"},
    {"\"tasks\":5", "tasks: expected an object, got 5"},
    {"\"tasks\":{\"t\":5}", "tasks: t: result: expected an object, got 5"},
    {"\"tasks\":{\"t\":{\"n\":4,\"acc\":2}}",
     "tasks: t: acc: expected a number from 0 to 1, got 2"},
    {"\"tasks\":{\"t\":{\"n\":4,\"acc\":0.5,\"acc_stderr\":-0.1}}",
     "tasks: t: acc_stderr: expected a number from 0 to 1, got -0.1"},
    {"\"tasks\":{\"t\":{\"n\":-1}}", "tasks: t: n: expected a whole number"},
    {"\"steps\":500", "steps: expected 1, got 500"},
    {"\"steps\":-1", "steps: expected 1, got -1"},
    {"\"tasks\":{\"t\":{\"n\":0,\"acc\":1}}", "tasks: t: n: expected a whole number from 1"},
    {"\"tasks\":{\"t\":{\"acc\":1}}", "tasks: t: n: expected a whole number from 1"},
    {"\"perplexity\":2,\"positions\":0", "positions: expected a whole number from 1"},
    {"\"perplexity\":2", "positions: expected a whole number from 1"},
    {"\"positions\":\"x\"", "positions: expected a whole number"},
    {"\"perplexity\":10,\"nll\":2.31,\"positions\":9",
     "nll: expected 2.30259, which the result's other numbers give, got 2.31"},
    {"\"perplexity\":10,\"positions\":9,\"sequences\":[{\"positions\":8}]",
     "positions: expected 8"},
    {"\"perplexity\":10,\"nll\":2.303,\"positions\":9,\"sequences\":["
     "{\"positions\":9,\"nll\":2.4}]", "nll: expected 2.4,"},
    {"\"perplexity\":10,\"positions\":9,\"sequences\":["
     "{\"positions\":9,\"perplexity\":9,\"nll\":2.4}]", "sequences: 1: nll: expected 2.19722,"},
    {"\"tasks\":{\"t\":{\"n\":3,\"acc\":0.5}}", "tasks: t: acc: expected 0.666667,"},
    {"\"tasks\":{\"t\":{\"n\":5,\"acc\":0.2,\"acc_stderr\":0.3}}",
     "tasks: t: acc_stderr: expected 0.2,"},
    {"\"tasks\":{\"t\":{\"n\":2,\"acc\":0,\"items\":[{\"choice\":1,\"gold\":0}]}}",
     "tasks: t: n: expected 1,"},
    {"\"tasks\":{\"t\":{\"n\":1,\"acc\":1,\"items\":[{\"choice\":1,\"gold\":0}]}}",
     "tasks: t: acc: expected 0,"},
    {"\"tasks\":{\"t\":{\"n\":1,\"acc_norm\":1,\"items\":["
     "{\"choice_norm\":1,\"gold\":0}]}}",
     "tasks: t: acc_norm: expected 0,"},
    {"\"protocol\":3", "protocol: expected a string, got 3"},
    {"\"positions\":9,\"perplexity\":2,\"hash\":7", "hash: expected 16 lower-case hex"},
    {"\"tasks\":{\"t\":{\"n\":1,\"acc\":1,\"hash\":\"0123456789ABCDEF\"}}",
     "tasks: t: hash: expected 16 lower-case hexadecimal digits, got \"0123456789ABCDEF\""},
    {"\"perplexity\":10,\"positions\":9,\"nll\":\"js\"",
     "nll: expected a number or null, got \"js\""},
    {"\"perplexity\":10,\"positions\":9,\"nll\":null", "nll: expected a number, got null"},
    {SEQUENCE("\"positions\":\"x\""), "sequences: 1: positions: expected a whole number"},
    {SEQUENCE("\"positions\":null"), "sequences: 1: positions: expected a whole number"},
    {SEQUENCE("\"positions\":9,\"perplexity\":[10]"),
     "sequences: 1: perplexity: expected a number or null, got an array"},
    {SEQUENCE("\"positions\":9,\"perplexity\":null"),
     "sequences: 1: perplexity: expected a number, got null"},
    {SEQUENCE("\"positions\":9,\"perplexity\":null,\"nll\":null"),
     "sequences: 1: nll: expected a number, got null"},
    {SEQUENCE("\"positions\":9,\"perplexity\":-3,\"nll\":2.3"),
     "sequences: 1: perplexity: expected a number from 1 to 3.4e+38, got -3"},
    {ITEM("\"choice\":\"0\",\"gold\":0"), "items: 1: choice: expected a whole number"},
    {ITEM("\"gold\":0"), "items: 1: choice: expected a whole number"},
    {ITEM("\"choice\":1e18,\"gold\":1e18"), "items: 1: gold: expected a whole number"},
    {ITEM("\"choice\":2,\"gold\":0,\"loglikelihoods\":[-1,-2]"),
     "items: 1: choice: expected a whole number from 0 to 1, got 2"},
    {ITEM("\"choice\":1,\"gold\":1,\"loglikelihoods\":[-1,-2]"),
     "items: 1: choice: expected the likeliest, of -1, got 1, of -2"},
    {ITEM("\"choice\":0,\"gold\":0,\"loglikelihoods\":-1"),
     "items: 1: loglikelihoods: expected an array, got -1"},
    {ITEM("\"choice\":0,\"gold\":0,\"loglikelihoods\":[\"x\"]"),
     "items: 1: loglikelihoods: expected numbers, got \"x\""},
    {ITEM("\"choice\":null,\"gold\":0,\"loglikelihoods\":[-1]"), "t: acc: expected 0"},
    {ITEM("\"choice\":null,\"gold\":0,\"loglikelihoods\":[-1,-2]"),
     "items: 1: choice: expected a whole number from 0 to 1, got null"},
    {"\"tasks\":{\"t\":{\"n\":4,\"limit\":1,\"acc\":1}}",
     "tasks: t: n: expected at most the limit 1, got 4"},
};

static void test_refused(void) {
    size_t n;
    char *plan = t_read(PLAN, &n), *other = t_read(PLAN, NULL);
    fc_memory_file files[2];
    if (!T_OK(plan && other, PLAN)) return;
    static const char *const wrong[] = {"", "{", "[]", "{\"along\":3}", "{\"along\":[3]}",
                                        "{\"removed\":3}", "{\"removed\":[]}",
                                        "{\"model\":\"" MODEL "\",\"removed\":[3]}", "{\"a\":1}"};
    files[0] = file_of("own.json", plan);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        files[1] = file_of("wrong.json", wrong[i]);
        T_OK(refusal(files, 2) == FC_ERR_FORMAT && strncmp(err.msg, "wrong.json: ", 12) == 0,
             "%s: %s", wrong[i], err.msg);
    }
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char text[512];
        snprintf(text, sizeof text,
                 "{\"along\":[{\"model\":\"" MODEL "\",\"removed\":[\"attn.4\"],%s}]}",
                 values[i][0]);
        files[1] = file_of("wrong.json", text);
        T_OK(refusal(files, 2) == FC_ERR_FORMAT && strstr(err.msg, values[i][1]) &&
                 strncmp(err.msg, "wrong.json: along: 1: ", 22) == 0,
             "%s: %s", text, err.msg);
    }
    files[1] = file_of("wrong.json", "{\"model\":\"" MODEL "\",\"removed\":[\"attn.6\"]}");
    T_OK(refusal(files, 2) == FC_ERR_MISMATCH && strstr(err.msg, "attn.6"), "%s", err.msg);
    files[1] = file_of("none.json", "{\"perplexity\":2,\"positions\":9,\"removed\":[]}");
    T_OK(refusal(files, 2) == FC_ERR_FORMAT &&
             strstr(err.msg, "none.json: model: expected a string, got nothing"), "%s", err.msg);
#define TWICE(value) \
    "{\"along\":[{\"model\":\"" MODEL "\",\"removed\":[\"attn.4\"],\"perplexity\":2," \
    "\"positions\":9},{\"model\":\"" MODEL "\",\"removed\":[\"attn.4\"],\"perplexity\":" value "," \
    "\"positions\":9}]}"
    files[1] = file_of("twice.json", TWICE("3"));
    for (size_t first = 0; first < 2; first++) // with a plan, and without
        T_OK(refusal(files + first, 2 - first) == FC_ERR_MISMATCH &&
                 strstr(err.msg, "twice: Perplexity, sublayers removed 1: expected 2, as an "
                                 "earlier result says, got 3"), "%s", err.msg);
    fc_page_desc desc;
    memset(&desc, 0, sizeof desc);
    files[1] = file_of("twice.json", TWICE("2"));
    desc.files = files;
    desc.n_files = 2;
    T_OK(count(draw(&desc), "own 2<") == 1, "the same twice is once");
    memcpy(strstr(other, "fc2-0123"), "fc2-3210", 8);
    files[1] = file_of("other.json", other);
    T_OK(refusal(files, 2) == FC_ERR_MISMATCH && strstr(err.msg, "plans of one model") &&
             strstr(err.msg, "own") && strstr(err.msg, "other"),
         "%s", err.msg);
    plan[n - 20] = 0;
    files[0] = file_of("own.json", plan);
    T_OK(refusal(files, 1) == FC_ERR_FORMAT && strncmp(err.msg, "own.json: ", 10) == 0, "%s",
         err.msg);
    free(plan);
    free(other);
}

static void test_table(void) {
    static const fc_page_column columns[] = {{"at", FC_PAGE_X},
                                             {"kind", FC_PAGE_LISTED},
                                             {"loss", FC_PAGE_LINE},
                                             {"error", FC_PAGE_ERROR},
                                             {"tries", FC_PAGE_POINTS}};
    static const char *const cells[] = {"0", "a",  "0.001", "0.0001", NULL, "1e1", "b",
                                        "5", NULL, "7",     "20",     "c",  NULL,  NULL,
                                        "900", "x", "d", "1", "", "2"};
    const fc_page_table tables[] = {{"Drawn", "A note", columns, 5, 4, cells},
                                    {"Listed", NULL, columns + 1, 1, 0, NULL}};
    fc_page_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.tables = tables;
    desc.n_tables = 2;
    desc.title = "Mine";
    desc.commands = "a\nb <c>";
    const char *html = draw(&desc);
    T_OK(strstr(html, "<h1><bdi>Mine</bdi></h1>") && strstr(html, "<h2>Drawn</h2>\n<p class='note'>"
         "A note</p>") && strstr(html, "<h2>Listed</h2>"), "titles");
    T_OK(strstr(html, "The vertical scale is logarithmic") && count(html, "class='dot") == 4 + 2 &&
             count(html, "class='error") == 1 && strstr(html, "at 0, kind a, loss 0.001, error "
             "0.0001<") && strstr(html, "L500 "), "the picture");
    T_OK(strstr(html, "<pre tabindex='0' dir='ltr'><code>a\nb &lt;c&gt;\n</code></pre>"),
         "commands");
}

// ---- any plan

static void test_any(void) {
    for (size_t i = 0; i < PLAN_CASES; i++) {
        const struct plan_case *of = &plan_cases[i];
        fc_plan *p =
            make_plan(NULL, of->kind, of->blocks, of->first, of->steps, of->wild);
        if (i % 3 == 0) p->info.metric = FC_METRIC_NLL;
        const size_t cells = (of->kind == FC_CANDIDATES_BLOCKS ? 2 : 1) * p->info.n_steps;
        const char *html = draw_plan(p);
        T_OK(count(html, ": removed at step ") == cells, "case %d: %d cells are marked", (int)i,
             (int)count(html, ": removed at step "));
        T_OK(count(html, "nan") + count(html, "inf%") + count(html, ":-") == 0,
             "case %d: a place is not a number", (int)i);
        T_OK(page.length < 2000000, "case %d: %d bytes", (int)i, (int)page.length);
        fc_plan_free(p);
    }
}

// Several plans at once; with few scores allowed, later maps are thinner or left out.
static void test_many(void) {
    fc_plan *own[3];
    static const char *const names[] = {"one", "two", "three"};
    fc_page_desc desc;
    memset(&desc, 0, sizeof desc);
    for (int i = 0; i < 3; i++)
        own[i] = make_plan(NULL, i == 1 ? FC_CANDIDATES_BLOCKS : FC_CANDIDATES_SUBLAYERS, 12, 0,
                           6 + (size_t)i, 0);
    const fc_plan *const plans[] = {own[0], own[1], own[2]};
    desc.plans = plans;
    desc.n_plans = 3;
    desc.names = names;
    const char *html = draw(&desc);
    T_OK(count(html, "class='heat") == 5 && strstr(html, "<h2>The plans</h2>") &&
             count(html, "<h2>Distance along the plans: angular</h2>") == 1 &&
             strstr(html, "<h2><bdi>three</bdi></h2>"),
         "three plans: %d panels", (int)count(html, "class='heat"));
    for (int i = 0; i < 3; i++) check_scores(html, own[i]);
    desc.names = NULL;
    desc.most_scores = 150;
    html = draw(&desc);
    T_OK(strstr(html, "of every 3 steps the first") &&
             strstr(html, "The map of its scores is left out") &&
             strstr(html, "angular, blocks, confident"),
         "few scores");
    strcpy(own[1]->info.model.fingerprint, "another");
    fc_text text;
    T_OK(fc_report_page_memory(&desc, &text, &err) == FC_ERR_MISMATCH &&
             strstr(err.msg, " and angular, blocks, confident of "),
         "of another model, without names: %s", err.msg);
    for (int i = 0; i < 3; i++) fc_plan_free(own[i]);
}

// A map is as large as the model times the steps, however few scores the plan has, so a long model
// has none. Many tasks take memory by their number, not by its square.
static void test_large(void) {
    enum { BLOCKS = 300, TASKS = 3000 };
    memory m;
    fc_page_desc desc;
    fci_context c;
    fci_context_basic(&c, NULL);
    fci_buffer b = fci_buffer_of(&c);
    fc_plan *plan = make_plan(NULL, FC_CANDIDATES_SUBLAYERS, BLOCKS, 0, 40, 0);
    const char *html = draw_plan(plan);
    T_OK(!strstr(html, "class='heat") && strstr(html, "The map of its scores is left out"),
         "a map of %d blocks", BLOCKS);
    fc_plan_free(plan);
    fci_puts(&b, "{\"model\":\"x\",\"removed\":[],\"tasks\":{");
    for (int i = 0; i < TASKS; i++)
        fci_putf(&b, "%s\"t%d\":{\"acc\":1,\"n\":1}", i ? "," : "", i);
    fci_puts(&b, "}}");
    const fc_memory_file file = {"e.json", b.p, b.n};
    memset(&m, 0, sizeof m);
    memset(&desc, 0, sizeof desc);
    desc.env = memory_env(&m);
    desc.files = &file;
    desc.n_files = 1;
    draw(&desc);
    T_OK(m.peak < 30000000, "%d tasks: %llu bytes", TASKS, (unsigned long long)m.peak);
    fc_text_free(&page); // which is of this memory
    fci_buffer_free(&b);
}

// ---- what means harm

static void test_hostile(void) {
    static const char *const names[] = {
        "</title><script>alert(1)</script>", "'onclick='a()", "\" onload=\"a()", "]]><!--",
        "-->&lt;b&gt;&#x3c;", "%s%n%d", "\x1b[31m\x07\x01", "\xff\xfe\xc3",
        "\xef\xbf\xbe\xef\xbf\xbf", "\xe2\x80\xae reversed\xe2\x80\xac", "a\nb\tc",
        "\xe2\x81\xa6\xe2\x81\xa9\xd8\x9c\xe2\x80\x8f", "<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<",
        "</style>{}*{display:none}", "\xc2\x85\xe2\x80\xa8"};
    fc_plan *p = make_plan(NULL, FC_CANDIDATES_SUBLAYERS, 4, 1, 3, 0);
    size_t tags = 0, quotes = 0, marks = 0;
    for (size_t i = 0; i <= sizeof names / sizeof *names; i++) {
        const char *name = i ? names[i - 1] : "plain";
        char result[512], quoted[128] = "";
        const fc_page_column column = {name, FC_PAGE_LISTED};
        const fc_page_table table = {name, name, &column, 1, 1, &name};
        const fc_plan *const plans[] = {p, p};
        const char *const called[] = {name, name};
        fci_buffer b = fci_buffer_of(&p->c);
        fci_json_put_string(&b, fci_s(name));
        snprintf(quoted, sizeof quoted, "%s", b.p);
        fci_utf8_clean(p->info.model.fingerprint, sizeof p->info.model.fingerprint, name,
                       strlen(name));
        b.n = 0;
        fci_json_put_string(&b, fci_s(p->info.model.fingerprint));
        snprintf(result, sizeof result,
                 "{\"removed\":[],\"perplexity\":1,\"positions\":9,\"protocol\":%s,\"model\":%s,"
                 "\"tasks\":{%s:{\"n\":4,\"acc\":1}}}", quoted, b.p, quoted);
        fci_buffer_free(&b);
        const fc_memory_file file = file_of(name, result);
        fc_page_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.plans = plans;
        desc.names = called;
        desc.n_plans = 2;
        desc.files = &file;
        desc.n_files = 1;
        desc.tables = &table;
        desc.n_tables = 1;
        snprintf(p->info.model.name, sizeof p->info.model.name, "%s", name);
        snprintf(p->info.model.architecture, sizeof p->info.model.architecture, "%.31s", name);
        snprintf(p->info.calibration.source, sizeof p->info.calibration.source, "%s", name);
        snprintf(p->info.calibration.given, sizeof p->info.calibration.given, "--text %s", name);
        const char *html = draw(&desc);
        const size_t now[] = {count(html, "<"), count(html, "'"), count(html, "\"")};
        if (i == 0) tags = now[0], quotes = now[1], marks = now[2];
        T_OK(now[0] == tags && now[1] == quotes && now[2] == marks,
             "name %d: %d tags for %d, %d quotes for %d", (int)i, (int)now[0], (int)tags,
             (int)(now[1] + now[2]), (int)(quotes + marks));
        T_OK(!strstr(html, "\xe2\x80\xae") && !strstr(html, "\xe2\x81\xa6") &&
                 !strstr(html, "\xd8\x9c") && (i != 10 || strstr(html, "\\u202e reversed\\u202c")),
             "name %d: a mark of direction", (int)i);
        desc.commands = name;
        draw(&desc);
    }
    fc_plan_free(p);
}

// ---- colours

static double luminance(const char *hex) { // of #rrggbb or #rgb
    const size_t n = strspn(hex + 1, "0123456789abcdef");
    const unsigned long rgb = strtoul(hex + 1, NULL, 16);
    double sum = 0;
    for (int k = 0; k < 3; k++) {
        const unsigned long part = n == 3 ? 17 * (rgb >> (8 - 4 * k) & 15)
                                          : rgb >> (16 - 8 * k) & 255;
        const double v = (double)part / 255;
        sum += (k == 0 ? 0.2126 : k == 1 ? 0.7152 : 0.0722) *
               (v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4));
    }
    return sum;
}

static double contrast(const char *a, const char *b) {
    const double x = luminance(a), y = luminance(b);
    return (fmax(x, y) + 0.05) / (fmin(x, y) + 0.05);
}

static void test_colours(void) {
    static const char *const inks[] = {"--ink:", "--grey:"};
    static const char *const grounds[] = {"--bg:", "--soft:"};
    fc_plan *p = make_plan(NULL, FC_CANDIDATES_SUBLAYERS, 4, 1, 3, 0);
    const char *html = draw_plan(p), *at = html;
    size_t n = 0;
    for (; (at = strstr(at, "{background:#")) != NULL; at++) {
        const char *ink = strstr(at, ";color:#");
        if (!ink || ink > at + 32) continue;
        n++;
        T_OK(contrast(at + 12, ink + 7) >= 4.5, "%.40s", at);
    }
    T_OK(n == 50, "%d colours of maps", (int)n);
    const char *const modes[] = {html, strstr(html, "prefers-color-scheme:dark")};
    for (int m = 0; m < 2 && modes[m]; m++) {
        const char *bg = strstr(modes[m], "--bg:") + 5;
        for (int i = 0; i < 2; i++)
            for (int k = 0; k < 2; k++)
                T_OK(contrast(strstr(modes[m], inks[i]) + strlen(inks[i]),
                              strstr(modes[m], grounds[k]) + strlen(grounds[k])) >= 4.5,
                     "mode %d: %s on %s", m, inks[i], grounds[k]);
        for (int i = 0; i < 8; i++) {
            char name[24];
            snprintf(name, sizeof name, ".s%d{--c:", i);
            const char *line = strstr(modes[m], name);
            T_OK(line && contrast(line + strlen(name), bg) >= 3, "mode %d: line %d", m, i);
        }
    }
    fc_plan_free(p);
}

// ---- the script's hash

static uint32_t turned(uint32_t x, int n) { return x >> n | x << (32 - n); }

// SHA-256 of at most 4000 bytes; its constants are roots of the first primes.
static void sha256(const char *text, size_t n, unsigned char out[32]) {
    unsigned char data[4096] = {0};
    uint32_t h[8], k[64], w[64];
    int primes = 0;
    for (uint32_t p = 2; primes < 64; p++) {
        uint32_t d = 2;
        while (d * d <= p && p % d) d++;
        if (d * d <= p) continue;
        k[primes] = (uint32_t)fmod(floor(cbrt((double)p) * 4294967296.0), 4294967296.0);
        if (primes < 8) h[primes] = (uint32_t)fmod(floor(sqrt((double)p) * 4294967296.0),
                                                   4294967296.0);
        primes++;
    }
    const size_t blocks = (n + 9 + 63) / 64;
    memcpy(data, text, n);
    data[n] = 0x80;
    for (int i = 0; i < 4; i++) data[64 * blocks - 1 - (size_t)i] = (unsigned char)(8 * n >> 8 * i);
    for (size_t b = 0; b < blocks; b++) {
        uint32_t s[8];
        memcpy(s, h, sizeof s);
        for (int i = 0; i < 64; i++) {
            const unsigned char *at = data + 64 * b + 4 * i;
            if (i < 16) w[i] = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 |
                               (uint32_t)at[2] << 8 | at[3];
            else
                w[i] = w[i - 16] + w[i - 7] +
                       (turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ w[i - 15] >> 3) +
                       (turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ w[i - 2] >> 10);
            const uint32_t one = s[7] + k[i] + w[i] + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
                                 (turned(s[4], 6) ^ turned(s[4], 11) ^ turned(s[4], 25)),
                           two = ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2])) +
                                 (turned(s[0], 2) ^ turned(s[0], 13) ^ turned(s[0], 22));
            memmove(s + 1, s, 7 * sizeof *s);
            s[4] += one;
            s[0] = one + two;
        }
        for (int i = 0; i < 8; i++) h[i] += s[i];
    }
    for (int i = 0; i < 32; i++) out[i] = (unsigned char)(h[i / 4] >> (24 - i % 4 * 8));
}

static void base64(const unsigned char hash[32], char out[48]) {
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < 43; i++) {
        const int bit = 6 * i, at = bit / 8;
        const unsigned two = (unsigned)hash[at] << 8 | (at < 31 ? hash[at + 1] : 0u);
        out[i] = digits[two >> (10 - bit % 8) & 63];
    }
    strcpy(out + 43, "=");
}

static void test_script(void) {
    unsigned char hash[32];
    char text[48], want[80];
    sha256("abc", 3, hash);
    base64(hash, text);
    T_OK(strcmp(text, "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=") == 0, "of abc: %s", text);
    fc_plan *p = make_plan(NULL, FC_CANDIDATES_SUBLAYERS, 4, 1, 3, 0);
    const char *html = draw_plan(p), *from = strstr(html, "<script>"), *to = strstr(html,
        "</script>");
    if (T_OK(from && to && to - from < 4000, "the script")) {
        sha256(from + 8, (size_t)(to - from) - 8, hash);
        base64(hash, text);
        snprintf(want, sizeof want, "script-src 'sha256-%s'", text);
        T_OK(strstr(html, want) != NULL, "the policy does not allow the script: expected %s", want);
    }
    fc_plan_free(p);
}

// ---- failures

static void test_memory(void) {
    memory m;
    fc_page_desc desc;
    fc_text text;
    long n = 1;
    char *plan = t_read(PLAN, NULL);
    memset(&m, 0, sizeof m);
    memset(&desc, 0, sizeof desc);
    desc.env = memory_env(&m);
    memory_writable(&desc.env);
    const fc_memory_file files[] = {file_of("p.json", plan), file_of("e.json", along)};
    desc.files = files;
    desc.n_files = 2;
    for (; n < 10000; n++) {
        m.allocs = 0;
        m.fail_alloc = n;
        const fc_code code = fc_report_page_memory(&desc, &text, &err);
        if (!code) break;
        if (!T_OK(code == FC_ERR_MEMORY && m.live == 0 && !text.bytes,
                  "allocation %ld: %s, %ld live", n, err.msg, m.live))
            break;
    }
    T_OK(n > 20 && m.live == 1, "%ld allocations", n);
    m.fail_alloc = 0;
    T_OK(fc_report_page(&desc, "p.html", &err) == FC_OK && m.outputs[0].whole &&
             m.outputs[0].size == text.length &&
             memcmp(m.outputs[0].data, text.bytes, text.length) == 0,
         "a file and the memory differ: %s", err.msg);
    fc_text_free(&text);
    m.writes = 0;
    m.fail_write = 2;
    T_OK(fc_report_page(&desc, "q.html", &err) == FC_ERR_IO, "a full disk: %s", err.msg);
    memory_forget(&m);
    T_OK(m.live == 0, "%ld left", m.live);
    free(plan);
}

int main(void) {
    T_OK(html_good(FCI_HTML_HEAD FINERCUT_VERSION " -->\n<p a='b'>x&amp;</p></html>\n") &&
             !html_good(FCI_HTML_HEAD FINERCUT_VERSION " -->\n<p><b></p></b></html>\n") &&
             !html_good(FCI_HTML_HEAD FINERCUT_VERSION " -->\n<p a=b></p></html>\n") &&
             !html_good(FCI_HTML_HEAD FINERCUT_VERSION " -->\n<p>&x</p></html>\n") &&
             !html_good(FCI_HTML_HEAD FINERCUT_VERSION " -->\n<p>\n"),
         "the checker itself");
    test_plan();
    test_advice();
    test_results();
    test_hashes();
    test_refused();
    test_table();
    test_any();
    test_many();
    test_large();
    test_hostile();
    test_colours();
    test_script();
    test_memory();
    fc_text_free(&page);
    return t_end("page");
}
