// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/vm"
)

func TestNeedsOfAReproducer(t *testing.T) {
	var n Needs
	err := n.Read("x.sh", `#!/bin/sh
# tsugi: disk scratch 2G ext4
#tsugi: disk raw 512
# tsugi: module virtio_blk ext4
# tsugi: late-module nf_tables
# tsugi: memory 1024
# an ordinary comment about tsugi: nothing
echo "# not tsugi: at the start of a line"
`)
	qt.Assert(t, qt.IsNil(err))
	want := Needs{
		Disks:   []vm.Disk{{Name: "scratch", Size: 2 << 30, FS: "ext4"}, {Name: "raw", Size: 512}},
		Modules: []string{"virtio_blk", "ext4"}, LateModules: []string{"nf_tables"}, Memory: 1024,
	}
	qt.Check(t, qt.DeepEquals(n, want))
}

func TestNeedsThatMakeNoSenseNameTheLine(t *testing.T) {
	for _, line := range []string{
		"# tsugi: disk", "# tsugi: disk a", "# tsugi: disk a 2X", "# tsugi: disk a 0", "# tsugi: disk a 99999999999T",
		"# tsugi: disk a 1G ext4 more", "# tsugi: memory lots", "# tsugi: memory 1", "# tsugi: elephants 3", "# tsugi:",
	} {
		t.Run(line, func(t *testing.T) {
			var n Needs
			err := n.Read("x.sh", "#!/bin/sh\n"+line+"\n")
			qt.Check(t, qt.Equals(code.Of(err), "TS1905"))
			qt.Check(t, qt.ErrorMatches(err, `(?s).*x\.sh:2.*`))
		})
	}
}
