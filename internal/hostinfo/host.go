// SPDX-License-Identifier: Apache-2.0

// Package hostinfo reads what a running system shows of itself that matters
// to live patches: the exact kernel and its modules, what the kernel allows,
// who else traces or patches it, and what is free.
//
// Everything comes from the files of /proc, /sys, /boot, /lib/modules and
// /etc below a root directory, so that a test can give a tree of its own. The
// formats are those of Documentation/ABI, Documentation/admin-guide
// (kernel-parameters, tainted-kernels), fs/proc, kernel/kprobes.c
// (report_probe) and kernel/trace/ftrace.c (t_show). The one thing that no
// file shows, which keys are in which of the kernel's keyrings, is asked with
// keyctl(2) and can be given instead.
//
// All these bytes are foreign: every file is read up to a bound, every list
// has one, and no parser panics. Read fails only where there is no Linux to
// look at; a file that is missing or may not be read becomes an entry of
// Host.Unread, because what cannot be known has to be said and not guessed.
package hostinfo

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Host is a running system.
type Host struct {
	Release   string `json:"release"`  // uname -r
	Arch      string `json:"arch"`     // uname -m
	Version   string `json:"version"`  // uname -v
	BuildID   string `json:"build_id"` // GNU build-id of vmlinux, hex; "" when the kernel shows none
	MachineID string `json:"machine_id,omitempty"`
	BootID    string `json:"boot_id"`
	Hostname  string `json:"hostname"`
	OS        string `json:"os,omitempty"` // PRETTY_NAME of os-release

	Uptime  time.Duration `json:"uptime_ns"`
	Cmdline string        `json:"cmdline"` // of the kernel
	Modules []Module      `json:"modules"` // ordered by name

	Taints          Taints   `json:"taints"`
	Lockdown        string   `json:"lockdown,omitempty"` // none, integrity, confidentiality; "": not known
	SigEnforce      *bool    `json:"sig_enforce,omitempty"`
	SecureBoot      *bool    `json:"secure_boot,omitempty"`
	ModulesDisabled *bool    `json:"modules_disabled,omitempty"` // the sysctl that ends module loading
	Keys            []Key    `json:"keys,omitempty"`             // that the kernel verifies modules with
	Container       string   `json:"container,omitempty"`        // what kind, "" for a system of its own
	Superuser       bool     `json:"superuser"`                  // this process is root's
	Caps            uint64   `json:"caps"`                       // effective ones of this process
	Config          Config   `json:"config,omitempty"`           // the options that matter; nil: not known
	CPUs            int      `json:"cpus"`
	MemAvailable    int64    `json:"mem_available"` // bytes
	KptrRestrict    int      `json:"kptr_restrict"`
	FtraceEnabled   *bool    `json:"ftrace_enabled,omitempty"`
	Kprobes         []Kprobe `json:"kprobes,omitempty"`
	// FtraceUsers are the functions of which someone redirects calls: those
	// with the flag I (IPMODIFY) or D (direct) in enabled_functions.
	FtraceUsers []FtraceUser `json:"ftrace_users,omitempty"`
	// Livepatching says that the kernel has CONFIG_LIVEPATCH and that it works:
	// /sys/kernel/livepatch is there.
	Livepatching bool        `json:"livepatching"`
	Livepatches  []Livepatch `json:"livepatches,omitempty"`

	Unread []Unread `json:"unread,omitempty"`
}

// Unread is something that could not be read, and the error.
type Unread struct {
	Path string `json:"path"`
	Err  string `json:"error"`
}

// Reader reads a system.
type Reader struct {
	Root string // "" is "/"
	// Keyring lists the serial numbers of the keys in a keyring; nil asks the
	// kernel when Root is the real one, and else finds no keyring.
	Keyring func(serial int32) ([]int32, error)

	unread []Unread
}

// Read reads the system whose files are below root.
func Read(root string) (*Host, error) { return (&Reader{Root: root}).Read() }

// Read reads everything. The error is a problem that names the file without
// which there is nothing to say.
func (r *Reader) Read() (*Host, error) {
	r.unread = nil
	h := &Host{
		Release: r.line("proc/sys/kernel/osrelease"), Version: r.line("proc/sys/kernel/version"),
		Arch: r.arch(), Hostname: r.line("proc/sys/kernel/hostname"),
		BootID:  r.line("proc/sys/kernel/random/boot_id"),
		Cmdline: r.line("proc/cmdline"),
	}
	if h.Release == "" {
		return nil, code.New("TS9230", filepath.Join(r.root(), "proc/sys/kernel/osrelease"), r.why("proc/sys/kernel/osrelease"))
	}
	h.BuildID = r.kernelBuildID()
	h.MachineID = r.optional("etc/machine-id")
	h.OS = osName(r.optional("etc/os-release"))
	h.Uptime = parseUptime(r.line("proc/uptime"))
	h.Modules = r.modules()
	h.Taints = parseTaints(r.line("proc/sys/kernel/tainted"))
	h.MemAvailable = parseMemAvailable(r.text("proc/meminfo", maxSmall))
	h.CPUs = countCPUs(r.optional("sys/devices/system/cpu/online"))
	h.KptrRestrict = number(r.optional("proc/sys/kernel/kptr_restrict"))
	h.Superuser, h.Caps = parseStatus(r.text("proc/self/status", maxSmall))
	h.Container = r.container()
	r.security(h)
	r.tracing(h)
	h.Livepatching, h.Livepatches = r.livepatches()
	h.Config = r.config(h.Release)
	h.Unread = r.unread
	return h, nil
}

// Module returns a loaded module.
func (h *Host) Module(name string) (Module, bool) {
	i, ok := slices.BinarySearchFunc(h.Modules, name, func(m Module, n string) int { return strings.Compare(m.Name, n) })
	if !ok {
		return Module{}, false
	}
	return h.Modules[i], true
}

// Why tells why a file was not read, "" when it was.
func (h *Host) Why(path string) string {
	for _, u := range h.Unread {
		if u.Path == path {
			return u.Err
		}
	}
	return ""
}

// Unseen finds a file that could not be read by the end of its path.
func (h *Host) Unseen(suffix string) (path, why string, ok bool) {
	for _, u := range h.Unread {
		if strings.HasSuffix(u.Path, "/"+suffix) {
			return u.Path, u.Err, true
		}
	}
	return "", "", false
}

// Off tells whether tsugi=off is on the kernel's command line.
func (h *Host) Off() bool { return slices.Contains(strings.Fields(h.Cmdline), "tsugi=off") }

func (r *Reader) why(path string) string {
	return cmp.Or((&Host{Unread: r.unread}).Why("/"+path), "it is empty")
}

func (r *Reader) note(path string, err error) {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	if len(r.unread) < 64 {
		r.unread = append(r.unread, Unread{Path: "/" + path, Err: err.Error()})
	}
}
