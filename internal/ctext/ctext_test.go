// SPDX-License-Identifier: Apache-2.0

package ctext

import (
	"testing"

	"github.com/go-quicktest/qt"
)

func TestWords(t *testing.T) {
	for text, want := range map[string][]string{
		"":                                 nil,
		"0x1f + 12ULL":                     nil,
		"static int f1(struct _s *p, ...)": {"static", "int", "f1", "struct", "_s", "p"},
		`asm("call do_it"); f(f)`:          {"asm", "call", "do_it", "f", "f"},
		"größe->n":                         {"gr", "e", "n"}, // of what is not ASCII there are no words
	} {
		qt.Check(t, qt.DeepEquals(Words(text), want), qt.Commentf("%s", text))
	}
}
