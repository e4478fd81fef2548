#!/bin/sh
# The walls between the rooms of finercut.h stand, and tests/rooms.sh sees what breaks one (planted
# here, each in turn).
. tests/t.sh

cat >"$t_dir/sample.h" <<'E2'
#ifdef FINERCUT_IMPLEMENTATION
// >> low
struct fci_low_open { // its fields are everybody's
    int o;
};
typedef struct fci_low_shut fci_low_shut;
static int fci_twice(int y);
// ---- private to this section
struct fci_low_shut {
    int shut, (*hook)(int x);
};
static int fci_low_private(int y) { return y; } // fci_high_x in a comment is nothing
static int fci_twice(int y) { return 2 * fci_low_private(y); /* "fci_high_x" neither */ }
// >> high
static int fci_high_x(fci_low_shut *s);
// ---- private to this section
static int fci_high_x(fci_low_shut *s) {
    struct fci_low_open o = {1};
    const char *text = "fci_low_private"; // PLANT
    return fci_twice(o.o) + (s && text);
}
#endif
E2

plant() { # SED-SCRIPT WORDS: with this planted there is one breach, and these words tell of it
    sed "$1" "$t_dir/sample.h" >"$t_dir/planted.h"
    sh tests/rooms.sh "$t_dir/planted.h" >"$t_dir/out" && return 1
    cat "$t_dir/out"
    [ "$(grep -c . "$t_dir/out")" -eq 1 ] && grep -q "$2" "$t_dir/out"
}

plant_none() { # SED-SCRIPT: a header that stays sound
    sed "$1" "$t_dir/sample.h" >"$t_dir/planted.h"
    sh tests/rooms.sh "$t_dir/planted.h"
}

t_ok "a sound header" sh tests/rooms.sh "$t_dir/sample.h"
declared='static int fci_high_x(fci_low_shut *s);'
t_ok "an upward call" plant \
    "s|static int fci_low_private(int y) {|$declared & y += fci_high_x(0);|" \
    '^order: line 12: room low uses fci_high_x of room high'
body='    struct fci_low_open o = {1}; const char *text = ""; fci_low_shut *s = 0;'
t_ok "a foreign prefix" plant "s|// PLANT|\\n}\\nstatic int fci_low_er(void) {\\n$body|" \
    '^prefix: .*fci_low_er is private to room high'
t_ok "a name that is private elsewhere" \
    plant 's|return fci_twice(o.o)|return fci_low_private(o.o)|' \
    '^walls: .*room high uses fci_low_private'
t_ok "a field reached through a pointer" plant 's|// PLANT|s->shut = 1;|' \
    '^reach: .*room high touches field shut'
t_ok "a function pointer's field" plant 's|// PLANT|s->hook(1);|' \
    '^reach: .*room high touches field hook'
long=$(awk 'BEGIN { for (i = 0; i < 35; i++) printf "\\n// more" }')
t_ok "an interface of 40 lines" plant_none "s|^static int fci_twice(int y);|&$long|"
t_ok "an interface of 41 lines" plant "s|^static int fci_twice(int y);|&$long\\n|" \
    '^size: .*room low has 41 lines'
t_ok "a limit that has not fallen" plant 's|low|reference|g' \
    '^size: .*room reference has only 5 lines'
t_ok "finercut.h's rooms" sh tests/rooms.sh finercut.h
t_end test_rooms
