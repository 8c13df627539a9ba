// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

func TestNeedsOfAPackagesReproducer(t *testing.T) {
	var n Needs
	qt.Assert(t, qt.IsNil(n.Read("x.sh", `# tsugi: serve su nobody -s /bin/sh -c 'postgres -D data'
# tsugi: talk show -v
# tsugi: ready test -e /tmp/up
# tsugi: c show -lcrypto -lssl
ask one
: <<'show.c'
int main(void) { return 0; }

show.c
`)))
	r := Request{Package: &Package{}}
	n.Apply(&r)
	qt.Check(t, qt.DeepEquals(r.Package, &Package{
		Serve: []string{"su nobody -s /bin/sh -c 'postgres -D data'"}, Talk: "show -v", Ready: []string{"test -e /tmp/up"},
		C: []CProgram{{Name: "show", Flags: []string{"-lcrypto", "-lssl"}, Source: "int main(void) { return 0; }\n\n"}},
	}))
	for _, bad := range []string{
		"# tsugi: c show\n", "# tsugi: c show\n: <<'show.c'\nint x;\n", "# tsugi: c ../show\n: <<'../show.c'\n../show.c\n",
		"# tsugi: talk a\n# tsugi: talk b\n", "# tsugi: serve\n",
	} {
		var n Needs
		qt.Check(t, qt.Equals(code.Of(n.Read("x.sh", bad)), "TS1905"), qt.Commentf("%s", bad))
	}
}
