// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
	"github.com/tsugi-project/tsugi/internal/livepatch"
)

func kernel(r Request) Finding {
	t := r.Manifest.Target
	switch {
	case r.Host.BuildID == "":
		return no(Kernel, code.New("TS9213", t.Name, "the running kernel does not say which build it is"))
	case t.BuildID != r.Host.BuildID:
		return no(Kernel, code.New("TS9213", t.Name, fmt.Sprintf("it is for %s, build-id %s; this is %s, build-id %s",
			t.Release, short(t.BuildID), r.Host.Release, short(r.Host.BuildID))))
	case t.Release != r.Host.Release || t.Arch != r.Host.Arch:
		return no(Kernel, code.New("TS9213", t.Name, fmt.Sprintf("it is for %s on %s; this is %s on %s", t.Release, t.Arch, r.Host.Release, r.Host.Arch)))
	}
	return yes(Kernel, t.Release+", build-id "+t.BuildID)
}

// short keeps enough of a build-id to tell two apart.
func short(id string) string { return id[:min(len(id), 12)] }

// module: the kernel compares all of vermagic but its first word when it has
// CONFIG_MODVERSIONS, and all of it otherwise; Tsugi's modules always have the
// release that they are for.
func module(r Request) Finding {
	m := r.Module
	if m.Name != r.Manifest.Name {
		return no(Module, code.New("TS9219", r.Manifest.Name, fmt.Sprintf("its module calls itself %q", m.Name)))
	}
	release, _, _ := strings.Cut(m.Vermagic, " ")
	if release != r.Host.Release {
		return no(Module, code.New("TS9219", m.Name, fmt.Sprintf("its vermagic is %q; this is %s", m.Vermagic, r.Host.Release)))
	}
	if !m.Livepatch {
		return no(Module, code.New("TS9219", m.Name, "it does not say that it is a live patch"))
	}
	return yes(Module, m.Vermagic)
}

func loaded(r Request) Finding {
	if _, ok := r.Host.Module(r.Manifest.Name); ok {
		return no(Loaded, code.New("TS9220", r.Manifest.Name, ""))
	}
	return yes(Loaded, "")
}

// targets compares the modules that the live patch changes with those that it
// was made for. One that is not loaded is patched on its arrival, and then the
// kernel asks nobody which build it is: a file of another build is worth a
// warning.
func targets(r Request) Finding {
	want := map[string]string{}
	for _, m := range r.Manifest.Modules {
		want[m.Name] = m.BuildID
	}
	var unknown, there, absent, foreign []string
	for _, o := range r.Manifest.Objects() {
		if o == livepatch.Vmlinux {
			continue
		}
		m, loaded := r.Host.Module(o)
		disk, onDisk := r.OnDisk[o]
		switch {
		case want[o] == "":
			unknown = append(unknown, o)
		case !loaded && onDisk && disk != want[o]:
			foreign = append(foreign, fmt.Sprintf("%s has build-id %s; the live patch was made for %s", o, short(disk), short(want[o])))
		case !loaded:
			absent = append(absent, o)
		case m.BuildID == "":
			return unseen(Targets, "/sys/module/"+o+"/notes/.note.gnu.build-id", "the module does not say which build it is")
		case m.BuildID != want[o]:
			return no(Targets, code.New("TS9214", o, fmt.Sprintf("its build-id is %s; the live patch was made for %s", short(m.BuildID), short(want[o]))))
		default:
			there = append(there, o)
		}
		if loaded && strings.Contains(m.Taints, "F") {
			return no(Targets, code.New("TS9224", o, ""))
		}
	}
	switch {
	case len(foreign) > 0:
		return advise(Targets, code.New("TS9245", r.Manifest.Name, strings.Join(foreign, "; ")))
	case len(unknown) > 0:
		return advise(Targets, code.New("TS9241", r.Manifest.Name, strings.Join(unknown, ", ")))
	}
	var detail []string
	if len(there) > 0 {
		detail = append(detail, strings.Join(there, ", ")+" as built for")
	}
	if len(absent) > 0 {
		detail = append(detail, strings.Join(absent, ", ")+" not loaded, patched on arrival")
	}
	return yes(Targets, strings.Join(detail, "; "))
}

// replaced tells whether the live patch replaces a function.
func replaced(m *livepatch.Manifest, module, function string) bool {
	if module == "" {
		module = livepatch.Vmlinux
	}
	for _, f := range m.Functions {
		if f.Object == module && f.Name == function {
			return true
		}
	}
	return false
}

// patchedNow tells whether a loaded live patch already redirects a function:
// then the flag I in the kernel's list is that of livepatch itself.
func patchedNow(h *hostinfo.Host, module, function string) bool {
	if module == "" {
		module = livepatch.Vmlinux
	}
	for _, p := range h.Livepatches {
		for _, o := range p.Objects {
			for _, f := range o.Functions {
				if o.Name == module && f.Name == function {
					return true
				}
			}
		}
	}
	return false
}

// functions: only one user may change where a function's calls go on
// (FTRACE_OPS_FL_IPMODIFY). BPF's trampolines share with live patches from
// Linux 6.0 on, and older kernels mark them with I as well.
func functions(r Request) Finding {
	for _, u := range r.Host.FtraceUsers {
		if u.IPModify && replaced(r.Manifest, u.Module, u.Function) && !patchedNow(r.Host, u.Module, u.Function) {
			return no(Functions, code.New("TS9215", u.Function, by(u)))
		}
	}
	if p, why, ok := r.Host.Unseen("enabled_functions"); ok {
		return unseen(Functions, p, why)
	}
	return yes(Functions, fmt.Sprintf("%d, and nobody else redirects them", len(r.Manifest.Functions)))
}

func by(u hostinfo.FtraceUser) string {
	if u.By == "" {
		return "the kernel does not say by whom; look for kprobes, BPF programs and other live patches"
	}
	return u.By
}

// probes: a probe inside a function that is replaced stays on code that no
// call reaches any more. One at the entry by the tracer's hook still fires.
func probes(r Request) Finding {
	var blind []string
	for _, k := range r.Host.Kprobes {
		if !k.Gone && !k.Disabled && !k.Ftrace && replaced(r.Manifest, k.Module, k.Symbol) {
			blind = append(blind, fmt.Sprintf("%s+0x%x", k.Symbol, k.Offset))
		}
	}
	if len(blind) > 0 {
		return advise(Probes, code.New("TS9240", r.Manifest.Name, strings.Join(blind, ", ")))
	}
	if p, why, ok := r.Host.Unseen("kprobes/list"); ok {
		return unseen(Probes, p, why)
	}
	return yes(Probes, "")
}

func signature(r Request) Finding {
	d := demanded(r.Host)
	m := r.Module
	switch {
	case !d.signed && m.Signer == nil && d.known:
		return yes(Signature, "none, and none is demanded")
	case m.Signer == nil && d.signed:
		return no(Signature, code.New("TS9207", m.Name, d.why+"; it trusts "+trusted(r.Host)))
	case m.Signer == nil:
		return unseen(Signature, "/sys/kernel/security/lockdown", "whether modules have to be signed is not shown here, and this one is not")
	}
	for _, k := range r.Host.Keys {
		if m.Signer.Is(k) {
			return yes(Signature, fmt.Sprintf("by %q, a key of %s", k.Name, k.Keyring))
		}
	}
	switch {
	case !d.signed && d.known:
		return yes(Signature, fmt.Sprintf("by %q, which this kernel does not know; none is demanded", m.Signer.Name))
	case len(r.Host.Keys) == 0:
		return unseen(Signature, "/proc/keys", "which keys the kernel trusts is not shown here")
	case !d.signed:
		return unseen(Signature, "/sys/kernel/security/lockdown", fmt.Sprintf("whether modules have to be signed is not shown here, and this one is by %q, which the kernel does not know", m.Signer.Name))
	}
	return no(Signature, code.New("TS9208", m.Signer.String(), d.why+"; it trusts "+trusted(r.Host)))
}

// memory: the kernel holds the file and the laid-out module at once, and the
// transition little more.
func memory(r Request) Finding {
	need := 4*r.Module.Size + 16<<20
	if r.Host.MemAvailable == 0 {
		return unseen(Memory, "/proc/meminfo", "how much memory is free is not shown here")
	}
	if r.Host.MemAvailable < need {
		return no(Memory, code.New("TS9216", "", fmt.Sprintf("%d MiB are available, %d MiB are wanted", r.Host.MemAvailable>>20, need>>20)))
	}
	return yes(Memory, fmt.Sprintf("%d MiB available", r.Host.MemAvailable>>20))
}

func disk(r Request) Finding {
	s := r.Space
	if s.Free < s.Need {
		return no(Disk, code.New("TS9217", s.Path, fmt.Sprintf("%d KiB are free, %d KiB are wanted", s.Free>>10, s.Need>>10)))
	}
	return yes(Disk, "")
}
