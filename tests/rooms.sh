#!/bin/sh
# usage: rooms.sh [HEADER [RULE...]]
# The walls between the rooms of finercut.h (sections, `// >> name`).
# A room opens with its interface, which ends at the line `// ---- private to this section`; in a
# room without that line everything is private. Five rules:
#   order    a room uses no name of a room below it
#   prefix   what is private is named fci_<room>_...
#   walls    what another room uses stands in the interface
#   reach    the fields of a struct that is not defined in an interface are touched in its own room
#            only: the compiler tells, from a copy of the header in which those fields are marked as
#            deprecated
#   size     an interface has at most 40 lines, blank ones too, or what `wide` says below; who makes
#            one of those shorter lowers its number, so that it only falls
# Prints one line for each breach. The names of types, functions and data are looked at; macros are
# only put in order.
header=${1:-finercut.h}
[ $# -gt 0 ] && shift
rules=${*:-order prefix walls reach size}
wide='reference 49 disk 48 operators 46 export 45 file 42 json 43 perplexity 43'
work=$(mktemp -d "${TMPDIR:-/tmp}/finercut-rooms.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
export LC_ALL=C

awk -v wide="$wide" '
/^\/\/ >> / { room = $3; from = NR }
/^\/\/ ---- private to this section/ { lines[room] = NR - from - 1 }
END {
    for (n = split(wide, w, / +/); n > 1; n -= 2) most[w[n - 1]] = w[n]
    for (room in lines) {
        limit = room in most ? most[room] : 40
        told = "size: the interface of room " room " has "
        if (lines[room] > limit) print told lines[room] " lines, expected at most " limit
        if (room in most && lines[room] < limit)
            print told "only " lines[room] " lines: rooms.sh is to say so, not " limit
    }
}' "$header" >"$work/sizes"

awk -v marked="$work/marked.h" -v names="$work/names" -v rooms="$work/rooms" '
function blank(n) { return n > 0 ? sprintf("%" n "s", "") : "" }
function clean(s,    out, two, one) { # comments and literals become blanks of the same length
    out = ""
    while (length(s)) {
        if (comment) {
            if (!(one = index(s, "*/"))) return out blank(length(s))
            out = out blank(one + 1); s = substr(s, one + 2); comment = 0
        } else if (match(s, /\/\*|\/\/|"|\047/)) {
            out = out substr(s, 1, RSTART - 1)
            two = substr(s, RSTART, 2); one = substr(s, RSTART, 1)
            s = substr(s, RSTART)
            if (two == "//") return out blank(length(s))
            if (two == "/*") { comment = 1; out = out "  "; s = substr(s, 3); continue }
            if (one == "\"") match(s, /^"([^"\\]|\\.)*"/)
            else match(s, /^\047([^\047\\]|\\.)*\047/)
            if (RSTART == 0) RLENGTH = 1
            out = out blank(RLENGTH); s = substr(s, RLENGTH + 1)
        } else return out s
    }
    return out
}
function define(name, kind) { print "def", name, kind, room, FNR, iface > names }
function mark(s, raw,    out, i, c) { # an attribute before every field
    out = ""
    if (s ~ /^#/) return raw
    for (i = 1; i <= length(s); i++) {
        c = substr(s, i, 1)
        if (start && depth > 0 && c !~ /[ ;{}]/) {
            if (substr(s, i) !~ /^(struct|union)[ a-z0-9_]*\{/)
                out = out "__attribute__((deprecated)) "
            start = 0
        }
        out = out substr(raw, i, 1)
        if (c == "{") { depth++; start = 1 }
        if (c == "}") { depth--; start = 0 }
        if (c == ";") start = 1
    }
    return out substr(raw, length(s) + 1)
}
BEGIN { room = "front"; print "front", 1 > rooms }
FNR == NR { # first only: which rooms have an interface
    if ($0 ~ /^\/\/ >> /) at = $3
    if ($0 ~ /^\/\/ ---- private to this section/) open[at] = 1
    next
}
{
    raw = $0
    if ($0 ~ /^\/\/ >> /) { room = $3; iface = room in open; print room, FNR > rooms }
    if ($0 ~ /^\/\/ ---- private to this section/) iface = 0
    line = clean(raw)
    if (!inside && !iface && room != "front" &&
        line ~ /^(typedef )?(struct|union) *[a-z0-9_]* *\{/) {
        inside = 1; depth = 0; start = 0
    }
    if (inside) {
        print mark(line, raw) > marked
        if (depth == 0) inside = 0
    } else print raw > marked
    print "line", room, FNR, line > names

    if (line ~ /^#/) {
        if (match(line, /^# *define +FCI_[A-Z0-9_a-z]+/)) {
            n = split(substr(line, RSTART, RLENGTH), w, / +/); define(w[n], "macro")
        }
    } else if (match(line, /^(typedef )?(struct|union|enum) +fci_[a-z0-9_]+ *\{/)) {
        match(line, /fci_[a-z0-9_]+/); define(substr(line, RSTART, RLENGTH), "type")
    } else if (match(line, /^\} *fci_[a-z0-9_]+;/)) {
        match(line, /fci_[a-z0-9_]+/); define(substr(line, RSTART, RLENGTH), "type")
    } else if (line ~ /^typedef /) {
        s = line; sub(/;.*/, "", s)
        if (match(s, /\(\*?fci_[a-z0-9_]+\)/) || match(s, /fci_[a-z0-9_]+ *(\(|\[[^\]]*\])*$/) ||
            match(s, /fci_[a-z0-9_]+ *\(/)) {
            s = substr(s, RSTART); match(s, /fci_[a-z0-9_]+/)
            define(substr(s, RSTART, RLENGTH), "type")
        }
    } else if (line ~ /^[A-Za-z_]/) {
        if (match(line, /fci_[a-z0-9_]+\(/)) {
            pending = substr(line, RSTART, RLENGTH - 1); at = FNR
        } else if (match(line, /fci_[a-z0-9_]+ *(\[|=|;|\))/)) {
            s = substr(line, RSTART, RLENGTH); match(s, /fci_[a-z0-9_]+/)
            define(substr(s, RSTART, RLENGTH), "data")
        }
    }
    if (pending != "" && match(line, /[;{]/)) { # a declaration, or the function itself
        define(pending, substr(line, RSTART, 1) == "{" ? "function" : "declared")
        pending = ""
    }
}
' "$header" "$header"

awk '
FNR == 1 { file++ }
file == 1 { order[$1] = NR; next }
# Its room is where its body stands; what an interface declares is public in that room.
file == 2 && $1 == "def" {
    if (!($2 in of) || ($3 == "function" && !body[$2])) { of[$2] = $4; at[$2] = $5 }
    if ($3 == "function") body[$2] = 1
    if ($6 == 1) open[$2, $4] = 1
}
file == 2 { next }
FNR == 1 { for (name in of) if ((name, of[name]) in open) public[name] = 1 }
$1 == "line" && $4 != "#undef" && $4 !~ /^#undef/ {
    room = $2; number = $3
    s = $0
    while (match(s, /(fci|FCI)_[A-Za-z0-9_]+/)) {
        name = substr(s, RSTART, RLENGTH); s = substr(s, RSTART + RLENGTH)
        if (!(name in of) || of[name] == room) continue
        uses = "line " number ": room " room " uses " name
        if (order[of[name]] > order[room])
            print "order: " uses " of room " of[name] ", which is below it"
        else if (name ~ /^fci/ && !(name in public) && of[name] != "front" && !seen[name room]++)
            print "walls: " uses ", which is private to room " of[name]
    }
}
END {
    for (name in of)
        if (name ~ /^fci/ && !(name in public) && of[name] != "front" &&
            name !~ "^fci_" of[name] "(_|$)")
            print "prefix: line " at[name] ": " name " is private to room " of[name] ", so fci_" \
                of[name] "_..."
}' "$work/rooms" "$work/names" "$work/names" >"$work/breaches"
cat "$work/sizes" >>"$work/breaches"

case " $rules " in *" reach "*)
cat >"$work/walls.c" <<EOF
#define FINERCUT_IMPLEMENTATION
#include "marked.h"
EOF
if ${CC:-cc} -fsyntax-only -Wdeprecated-declarations -fno-diagnostics-show-caret \
    -I"$work" "$work/walls.c" >"$work/told" 2>&1; then
    awk '
    FNR == 1 { file++ }
    file == 1 { n++; name[n] = $1; from[n] = $2; next }
    function room(line,    i) { for (i = n; from[i] > line; i--); return name[i] }
    /marked.h:[0-9]+:[0-9]+: warning: .* is deprecated/ {
        split($0, w, ":"); use = w[2]
        field = $0; sub(/.*warning: ./, "", field); sub(/[^a-zA-Z0-9_].*/, "", field)
    }
    /marked.h:[0-9]+:[0-9]+: note: / && use {
        split($0, w, ":")
        if (room(use) != room(w[2]))
            print "reach: line " use ": room " room(use) " touches field " field " (line " w[2] \
                "), which is private to room " room(w[2])
        use = 0
    }' "$work/rooms" "$work/told" >>"$work/breaches"
else
    echo "reach: the marked copy does not compile:" >>"$work/breaches"
    grep -m 3 error "$work/told" | sed "s/^/reach: /" >>"$work/breaches"
fi
esac
pattern=$(echo "$rules" | tr ' ' '|')
! grep -E "^($pattern):" "$work/breaches" | sort -u | grep .
