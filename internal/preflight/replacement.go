// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
	"github.com/tsugi-project/tsugi/internal/livepatch"
)

// Replacement judges whether this kernel would load a fixed module in the
// place of its own: one that it refuses would leave the machine without the
// module.
func Replacement(h *hostinfo.Host, r livepatch.Replacement, m ModuleFile) []Finding {
	sig := signature(Request{Host: h, Module: m})
	if sig.OK && sig.Problem != nil {
		sig = no(Signature, sig.Problem) // here not to know is not to risk it
	}
	return []Finding{container(h), arch(h), modules(h), replacing(h, r, m), sig}
}

// replacing compares the whole of vermagic: the release in it is the kernel's
// own, the rest are the options that a module must share.
func replacing(h *hostinfo.Host, r livepatch.Replacement, m ModuleFile) Finding {
	release, _, _ := strings.Cut(m.Vermagic, " ")
	switch {
	case m.Name != r.Name:
		return no(Module, code.New("TS9219", r.Name, fmt.Sprintf("its module calls itself %q", m.Name)))
	case release != h.Release:
		return no(Module, code.New("TS9219", r.Name, fmt.Sprintf("its vermagic is %q; this is %s", m.Vermagic, h.Release)))
	case m.Livepatch:
		return no(Module, code.New("TS9219", r.Name, "it says that it is a live patch"))
	}
	return yes(Module, m.Vermagic)
}

// states: the kernel refuses to replace a live patch by one that does not know
// what that has done to the system (klp_is_patch_compatible). Format 1 does
// not say it, and then the kernel alone can tell.
func states(r Request) Finding {
	silent := ""
	for _, old := range r.Replaces {
		if why := r.Manifest.Supersedes(old); why != "" {
			return no(States, code.New("TS9225", r.Manifest.Name, why))
		}
		if old.Format < 2 {
			silent = old.Name
		}
	}
	if silent != "" {
		return advise(States, code.New("TS9246", silent, ""))
	}
	return yes(States, "")
}
