// The functions of the header, the private ones too, for tests that link them (tests/private.h).
#define FINERCUT_API extern
#define FCI_FN extern
#include "private.h"
