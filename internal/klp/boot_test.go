// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
	"github.com/tsugi-project/tsugi/internal/vm/guest"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// A module of the target that is patched when it comes, unpatched when it
// goes, and patched again when it comes back; then everything is reverted.
// Before 6.3 the kernel alone cannot do that (clear.go).
func TestRealModulesComeAndGo(t *testing.T) {
	const script = `
set -e
patch=/sys/kernel/livepatch/tsugi_test
settle() {
	n=0
	while [ -e $patch/transition ] && [ "$(cat $patch/transition)" != "$1" ]; do
		n=$((n + 1)); [ $n -lt 120 ]; sleep 0.5
	done
}
insmod /patch.ko
settle 0
[ "$(cat $patch/vmlinux/patched)" = 1 ]
[ "$(cat $patch/nf_tables/patched)" = 0 ]
unshare -m true
# Those of its own callbacks (tsugi_...) run before and after, never under a task.
if grep 'cold.*tsugi_test' /proc/kallsyms | grep -v ' t tsugi_'; then exit 8; fi
for i in 1 2 3; do
	modprobe nf_tables
	[ "$(cat $patch/nf_tables/patched)" = 1 ]
	rmmod nf_tables
	[ "$(cat $patch/nf_tables/patched)" = 0 ]
done
modprobe nf_tables
echo 0 > $patch/enabled
settle gone
rmmod tsugi_test
rmmod nf_tables
if dmesg | grep -E 'WARNING:|BUG:|Oops|invalid relocation|livepatch: failed|refusing to load'; then exit 9; fi
`
	for _, name := range []string{target61, target612} {
		t.Run(name, func(t *testing.T) {
			if name != target61 {
				testenv.Long(t, "test/kernels proves fixes of modules of this kernel")
			}
			r := realTarget(t, name)
			m, err := Build(t.Context(), r.Target, Options{Name: "tsugi_test"}, []Input{
				r.input("net/netfilter/nf_tables_api.o", "nf_tables", "nf_tables_abort", "nft_request_module", "nf_tables_newset"),
				r.input("kernel/fork.o", "", "__mmdrop", "ksys_unshare"),
			})
			qt.Assert(t, qt.IsNil(err))

			init := filepath.Join(t.TempDir(), "init")
			cmd := exec.Command("go", "build", "-trimpath", "-o", init, "../vm/testdata/init")
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			out, err := cmd.CombinedOutput()
			qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
			machine := vm.Config{
				Kernel: r.kernel.Vmlinux, ModuleSource: r.kernel, Init: init,
				Modules: []string{"nf_tables"}, Files: []vm.File{{Path: "/patch.ko", Data: m.KO}},
			}
			o, err := vm.Run(t.Context(), machine, &wire.Plan{Steps: []wire.Step{
				wire.NewStep("life", "script", guest.Script{Text: script}),
			}})
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(o.End, vm.Finished), qt.Commentf("%s", o.Console))
			step, ok := o.Step("life")
			qt.Assert(t, qt.IsTrue(ok), qt.Commentf("%s", o.Console))
			var res guest.ScriptResult
			qt.Assert(t, qt.IsNil(json.Unmarshal(step.Data, &res)))
			qt.Assert(t, qt.Equals(res.Exit, 0), qt.Commentf("%s\n%s", res.Output, o.Console))
		})
	}
}
