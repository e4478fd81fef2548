// The header and what it keeps private, for a test. With T_LINKED the functions come from one
// object, tests/private.c, and each test compiles what is its own: gcc and clang skip the bodies of
// `extern inline` functions in GNU's old sense. A test that changes how the header compiles
// includes finercut.h itself, and compiles all of it.
#ifdef T_LINKED
#  pragma GCC system_header // such functions may not use static data; these are never emitted
#  define FINERCUT_API extern __inline__ __attribute__((__gnu_inline__, __unused__))
#  define FCI_FN FINERCUT_API
#endif
#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"

#if defined(__GNUC__) || defined(__clang__)
#  define T_FN static __attribute__((unused)) // a test need not call all that a header has
#else
#  define T_FN static
#endif
