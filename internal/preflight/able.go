// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
)

func container(h *hostinfo.Host) Finding {
	if h.Container != "" {
		return no(Container, code.New("TS9221", h.Hostname, h.Container))
	}
	return yes(Container, "")
}

func arch(h *hostinfo.Host) Finding {
	if h.Arch != "x86_64" {
		return no(Arch, code.New("TS9201", h.Arch, ""))
	}
	return yes(Arch, h.Arch)
}

func off(h *hostinfo.Host) Finding {
	if h.Off() {
		return no(Off, code.New("TS9218", "", ""))
	}
	return yes(Off, "")
}

// supported goes by what the running kernel shows; the configuration only
// says why.
func supported(h *hostinfo.Host) Finding {
	if h.Livepatching {
		return yes(Livepatch, h.Release)
	}
	why := "there is no /sys/kernel/livepatch"
	if h.Config != nil && !h.Config.Has("LIVEPATCH") {
		why += ": CONFIG_LIVEPATCH is not set"
	}
	return no(Livepatch, code.New("TS9202", h.Release, why))
}

func stacks(h *hostinfo.Host) Finding {
	switch {
	case h.Config == nil:
		return unseen(Stacks, "/boot/config-"+h.Release, "the kernel's configuration is not here, so nobody knows whether it has reliable stack traces")
	case !h.Config.Has("HAVE_RELIABLE_STACKTRACE"):
		return no(Stacks, code.New("TS9203", h.Release, "CONFIG_HAVE_RELIABLE_STACKTRACE is not set"))
	}
	return yes(Stacks, "")
}

func modules(h *hostinfo.Host) Finding {
	switch {
	case h.ModulesDisabled != nil && *h.ModulesDisabled:
		return no(Modules, code.New("TS9204", "", "kernel.modules_disabled is 1, and stays so until the next boot"))
	case h.Config != nil && !h.Config.Has("MODULES"):
		return no(Modules, code.New("TS9204", h.Release, "CONFIG_MODULES is not set"))
	}
	return yes(Modules, "")
}

// privileges: 16 is CAP_SYS_MODULE. Who looks without being root is told so;
// a service that is root and may not is a finding about its confinement.
func privileges(h *hostinfo.Host) Finding {
	switch {
	case h.Caps&(1<<16) != 0:
		return yes(Privileges, "")
	case !h.Superuser:
		return unseen(Privileges, "/proc/self/status", "this process is not root's, and sees only a part")
	}
	return no(Privileges, code.New("TS9222", "", "it does not have CAP_SYS_MODULE"))
}

func build(h *hostinfo.Host) Finding {
	if h.BuildID == "" {
		return no(Build, code.New("TS9205", "/sys/kernel/notes", h.Why("/sys/kernel/notes")))
	}
	return yes(Build, h.BuildID)
}

func ftrace(h *hostinfo.Host) Finding {
	switch {
	case h.FtraceEnabled == nil && h.Config != nil && !h.Config.Has("DYNAMIC_FTRACE"):
		return no(Ftrace, code.New("TS9202", h.Release, "CONFIG_DYNAMIC_FTRACE is not set"))
	case h.FtraceEnabled == nil:
		return unseen(Ftrace, "/proc/sys/kernel/ftrace_enabled", "it is not shown here")
	case !*h.FtraceEnabled:
		return no(Ftrace, code.New("TS9206", "", "kernel.ftrace_enabled is 0"))
	}
	return yes(Ftrace, "")
}

// demand is what the kernel demands of modules.
type demand struct {
	signed bool
	known  bool
	why    string
}

func demanded(h *hostinfo.Host) demand {
	switch {
	case h.Lockdown == "integrity" || h.Lockdown == "confidentiality":
		why := "the kernel is locked down (" + h.Lockdown + ")"
		if h.SecureBoot != nil && *h.SecureBoot {
			why += " because it was started by Secure Boot"
		}
		return demand{true, true, why}
	case h.SigEnforce != nil && *h.SigEnforce:
		if h.Config.Has("MODULE_SIG_FORCE") {
			return demand{true, true, "the kernel is built to demand signatures (CONFIG_MODULE_SIG_FORCE)"}
		}
		return demand{true, true, "module.sig_enforce is set"}
	case h.Config.Has("MODULE_SIG_FORCE"):
		return demand{true, true, "the kernel is built to demand signatures (CONFIG_MODULE_SIG_FORCE)"}
	case h.SigEnforce == nil && h.Config == nil, h.Lockdown == "" && h.SecureBoot != nil && *h.SecureBoot:
		return demand{}
	}
	return demand{known: true}
}

// signatures tells what will be demanded; whether a live patch meets that is
// judged by the rule signature.
func signatures(h *hostinfo.Host) Finding {
	d := demanded(h)
	switch {
	case !d.known:
		return unseen(Signatures, "/sys/kernel/security/lockdown", "whether modules have to be signed is not shown here")
	case d.signed && len(h.Keys) == 0:
		return advise(Signatures, code.New("TS9244", "", d.why))
	case d.signed:
		f := advise(Signatures, code.New("TS9244", "", d.why+"; it trusts "+trusted(h)))
		return f
	}
	return yes(Signatures, "unsigned modules are taken")
}

// trusted lists the keys that the kernel trusts, for people.
func trusted(h *hostinfo.Host) string {
	var names []string
	for _, k := range h.Keys {
		if s := fmt.Sprintf("%q (%s)", k.Name, k.Keyring); !slices.Contains(names, s) {
			names = append(names, s)
		}
	}
	const most = 8
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	if len(names) == 0 {
		return "no key that is shown here"
	}
	return strings.Join(names, ", ")
}

// taints: what says that locks and memory may be broken stops a live patch,
// for its transition could hang and its checks could lie. What only says that
// someone else's code is loaded, or that something was warned of, does not.
func taints(h *hostinfo.Host) Finding {
	bad := h.Taints & (hostinfo.TaintDied | hostinfo.TaintBadPage)
	odd := h.Taints & (hostinfo.TaintMachineCheck | hostinfo.TaintSoftLockup | hostinfo.TaintForcedRemove | hostinfo.TaintForcedModule | hostinfo.TaintWarn)
	switch {
	case bad != 0:
		return no(Taints, code.New("TS9210", "", describe(bad)))
	case odd != 0:
		return advise(Taints, code.New("TS9242", "", describe(odd)))
	case h.Taints != 0:
		return yes(Taints, h.Taints.Letters()+": none that matters")
	}
	return yes(Taints, "none")
}

func describe(t hostinfo.Taints) string {
	var out []string
	for _, e := range []struct {
		bit  hostinfo.Taints
		what string
	}{
		{hostinfo.TaintDied, "D: the kernel has crashed in a task and went on"},
		{hostinfo.TaintBadPage, "B: a page of memory was found damaged"},
		{hostinfo.TaintMachineCheck, "M: the processor reported a hardware error"},
		{hostinfo.TaintSoftLockup, "L: a processor was stuck for a while"},
		{hostinfo.TaintForcedRemove, "R: a module was removed by force"},
		{hostinfo.TaintForcedModule, "F: a module was loaded by force"},
		{hostinfo.TaintWarn, "W: the kernel has warned of a bug"},
	} {
		if t&e.bit != 0 {
			out = append(out, e.what)
		}
	}
	return strings.Join(out, "; ")
}

func isOurs(name string, ours []string) bool {
	return strings.HasPrefix(name, "tsugi_") || slices.Contains(ours, name)
}

func others(h *hostinfo.Host, ours []string) Finding {
	var names []string
	for _, p := range h.Livepatches {
		if !isOurs(p.Name, ours) {
			names = append(names, p.Name)
		}
	}
	if len(names) > 0 {
		return no(Others, code.New("TS9212", strings.Join(names, ", "), ""))
	}
	return yes(Others, "")
}

func transition(h *hostinfo.Host) Finding {
	for _, p := range h.Livepatches {
		if p.Transition {
			way := "out"
			if p.Enabled {
				way = "in"
			}
			return no(Transition, code.New("TS9211", p.Name, "it is on its way "+way))
		}
	}
	return yes(Transition, "")
}
