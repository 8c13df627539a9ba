// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"testing"

	"github.com/go-quicktest/qt"
)

func TestJSON(t *testing.T) {
	for text, want := range map[string]string{
		`{"a": 1}`:          "",
		" {\"a\": 1} \n":    "",
		`{"a": 1, "b": 2}`:  `json: unknown field "b"`,
		`{"a": 1} {"a": 2}`: "more than one JSON value",
		`{"a": 1}]`:         "more than one JSON value",
		`{"a": "x"}`:        "json: cannot unmarshal string .*",
		``:                  "EOF",
	} {
		var v struct {
			A int `json:"a"`
		}
		err := JSON([]byte(text), &v)
		if want == "" {
			qt.Check(t, qt.IsNil(err), qt.Commentf("%s", text))
			qt.Check(t, qt.Equals(v.A, 1))
			continue
		}
		qt.Check(t, qt.ErrorMatches(err, want), qt.Commentf("%s", text))
	}
}
