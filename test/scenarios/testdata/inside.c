// SPDX-License-Identifier: Apache-2.0

#include "control.h"

long inside(long v);
long crowded(long v);
long trespassed(long v);
long trespasser(long v);

const struct entry table[] = {{"inside", inside}, {"crowded", crowded}, {"trespassed", trespassed}, {"trespasser", trespasser}, {0}};
