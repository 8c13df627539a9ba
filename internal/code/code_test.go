// SPDX-License-Identifier: Apache-2.0

package code

import (
	"errors"
	"io/fs"
	"regexp"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestCatalogueIsOrderedAndWhole(t *testing.T) {
	form := regexp.MustCompile(`^TS[1-9]\d{3}$`)
	last := Code("")
	for _, e := range Catalogue() {
		qt.Check(t, qt.IsTrue(form.MatchString(string(e.Code))), qt.Commentf("%s", e.Code))
		qt.Check(t, qt.IsTrue(e.Code > last), qt.Commentf("%s after %s: codes ascend and are unique", e.Code, last))
		qt.Check(t, qt.IsTrue(e.Title != "" && e.Remedy != ""), qt.Commentf("%s", e.Code))
		switch {
		case e.Code >= "TS4000" && e.Code < "TS5000":
			qt.Check(t, qt.Equals(e.Kind, KindRefusal), qt.Commentf("%s", e.Code))
		case e.Code >= "TS8000" && e.Code < "TS8100":
			qt.Check(t, qt.Equals(e.Kind, KindRisk), qt.Commentf("%s", e.Code))
		}
		last = e.Code
	}
}

func TestProblemCarriesCodeAndCause(t *testing.T) {
	p := New("TS1001", "x.o", "it is 3 bytes long").With(fs.ErrInvalid)
	qt.Assert(t, qt.Equals(Of(errors.Join(errors.New("other"), p)), Code("TS1001")))
	qt.Assert(t, qt.ErrorIs(error(p), fs.ErrInvalid))
	qt.Assert(t, qt.ErrorMatches(error(p), "TS1001: not a relocatable.*: x.o: it is 3 bytes long: invalid argument"))
}
