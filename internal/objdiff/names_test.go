// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"testing"

	"github.com/go-quicktest/qt"
)

func TestCanonicalStripsWhatCompilersNumber(t *testing.T) {
	for name, want := range map[string]string{
		"tcp_ack":                        "tcp_ack",
		"foo.isra.3":                     "foo.isra",
		"foo.constprop.0.isra.12":        "foo.constprop.isra",
		"foo.part.0.cold":                "foo.part.cold",
		"count.17":                       "count",
		"foo.llvm.123456":                "foo",
		"foo.llvm.x":                     "foo.llvm.x",
		"__UNIQUE_ID_ddebug123.4":        "__UNIQUE_ID_ddebug",
		"f.__UNIQUE_ID_ddebug77":         "f.__UNIQUE_ID_ddebug",
		"__initcall__kmod_x__12_345_fn6": "__initcall__kmod_x__fn6",
		"__BTF_ID__func__bpf_x__42":      "__BTF_ID__func__bpf_x",
		".str1.1":                        ".str1",
		"1.2":                            "1",
		"":                               "",
		"x..1":                           "x.",
	} {
		qt.Check(t, qt.Equals(canonical(name), want), qt.Commentf("%s", name))
	}
}

func TestColdParentKnowsTheFormsOfCompilers(t *testing.T) {
	for name, want := range map[string]string{
		"foo.cold": "foo", "foo.cold.7": "foo", "foo.isra.0.cold": "foo.isra.0", "foo.unlikely.2": "foo",
		"foo": "", "foo.colder": "", ".cold": "", "foo.cold.x": "",
	} {
		parent, ok := coldParent(name)
		qt.Check(t, qt.Equals(ok, want != ""), qt.Commentf("%s", name))
		qt.Check(t, qt.Equals(parent, want), qt.Commentf("%s", name))
	}
}
