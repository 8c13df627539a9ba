// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Kprobe is a line of /sys/kernel/debug/kprobes/list.
type Kprobe struct {
	Symbol    string `json:"symbol"` // "" when the kernel shows only an address
	Offset    uint64 `json:"offset"`
	Module    string `json:"module,omitempty"`
	Return    bool   `json:"return,omitempty"` // a kretprobe
	Ftrace    bool   `json:"ftrace,omitempty"` // at the function's entry, by the tracer's hook
	Optimized bool   `json:"optimized,omitempty"`
	Disabled  bool   `json:"disabled,omitempty"`
	Gone      bool   `json:"gone,omitempty"`
}

// ParseKprobe reads "ADDRESS  k  SYMBOL+0xOFF  MODULE [FLAGS]", as report_probe
// of kernel/kprobes.c writes it.
func ParseKprobe(line string) (Kprobe, error) {
	f := strings.Fields(line)
	bad := func(what string) (Kprobe, error) { return Kprobe{}, fmt.Errorf("kprobe line %.80q: %s", line, what) }
	if len(f) < 3 {
		return bad("fewer than three fields")
	}
	if _, err := strconv.ParseUint(strings.TrimPrefix(f[0], "0x"), 16, 64); err != nil {
		return bad("it does not start with an address")
	}
	k := Kprobe{}
	switch f[1] {
	case "k", "j":
	case "r":
		k.Return = true
	default:
		return bad("its type is unknown")
	}
	// The flags follow one another without a space: [DISABLED][FTRACE].
	for _, w := range f[3:] {
		if !strings.HasPrefix(w, "[") {
			k.Module = w
			continue
		}
		for flag := range strings.SplitSeq(strings.Trim(w, "[]"), "][") {
			switch flag {
			case "GONE":
				k.Gone = true
			case "DISABLED":
				k.Disabled = true
			case "OPTIMIZED":
				k.Optimized = true
			case "FTRACE":
				k.Ftrace = true
			default:
				// %pS writes a module's name in brackets.
				k.Module = flag
			}
		}
	}
	i := strings.LastIndex(f[2], "+0x")
	if i < 0 { // no symbol: an address alone
		return k, nil
	}
	off, _, _ := strings.Cut(f[2][i+3:], "/") // %pS writes "+0xOFF/0xSIZE"
	n, err := strconv.ParseUint(off, 16, 64)
	if err != nil {
		return bad("its offset is not a number")
	}
	k.Symbol, k.Offset = f[2][:i], n
	return k, nil
}

// FtraceUser is a function whose calls someone redirects.
type FtraceUser struct {
	Function string `json:"function"`
	Module   string `json:"module,omitempty"`
	Count    int    `json:"count"`              // how many users the function's hook has
	IPModify bool   `json:"ipmodify,omitempty"` // one of them changes where the call goes on
	Direct   bool   `json:"direct,omitempty"`   // one of them is called directly (BPF trampolines)
	By       string `json:"by,omitempty"`       // what the kernel says of who it is
}

// ParseFtraceUser reads a line of enabled_functions, "NAME [MODULE] (COUNT) R
// I D O\ttramp: …". ok is false for a line that goes on with what was before.
func ParseFtraceUser(line string) (u FtraceUser, ok bool, err error) {
	if line == "" || line[0] == '\t' || line[0] == '#' {
		return u, false, nil
	}
	head, by, _ := strings.Cut(line, "\t")
	open := strings.Index(head, " (")
	if open <= 0 {
		return u, false, fmt.Errorf("enabled function %.80q: no count", line)
	}
	name, flags := head[:open], head[open+2:]
	count, flags, found := strings.Cut(flags, ")")
	n, err := strconv.Atoi(count)
	if !found || err != nil {
		return u, false, fmt.Errorf("enabled function %.80q: no count", line)
	}
	u.Count, u.By = n, strings.TrimSpace(by)
	u.Function, u.Module, _ = strings.Cut(name, " [")
	u.Module = strings.TrimSuffix(u.Module, "]")
	if u.Function == "" {
		return FtraceUser{}, false, fmt.Errorf("enabled function %.80q: no name", line)
	}
	for flag := range strings.FieldsSeq(flags) {
		switch flag {
		case "I":
			u.IPModify = true
		case "D":
			u.Direct = true
		}
		if strings.HasPrefix(flag, "->") || strings.HasSuffix(flag, ":") {
			break // the rest names the users
		}
	}
	return u, true, nil
}

// tracing reads who else is in the way of calls.
func (r *Reader) tracing(h *Host) {
	if s := r.optional("proc/sys/kernel/ftrace_enabled"); s != "" {
		on := s != "0"
		h.FtraceEnabled = &on
	}
	const kprobes = "sys/kernel/debug/kprobes/list"
	r.list(kprobes, func(line string) error {
		k, err := ParseKprobe(line)
		if err != nil {
			return err
		}
		if len(h.Kprobes) >= maxItems {
			return errTooMany
		}
		h.Kprobes = append(h.Kprobes, k)
		return nil
	})
	enabled := "sys/kernel/tracing/enabled_functions"
	if _, err := os.Stat(r.path(enabled)); err != nil {
		enabled = "sys/kernel/debug/tracing/enabled_functions"
	}
	r.list(enabled, func(line string) error {
		u, ok, err := ParseFtraceUser(line)
		if err != nil || !ok || !u.IPModify && !u.Direct {
			return err
		}
		if len(h.FtraceUsers) >= maxItems {
			return errTooMany
		}
		h.FtraceUsers = append(h.FtraceUsers, u)
		return nil
	})
}

// list streams a list. That it is not there is noted too: debugfs and tracefs
// may be locked down or not mounted, and then nobody knows who is in the way.
func (r *Reader) list(path string, each func(string) error) {
	f, err := os.Open(r.path(path))
	if err == nil {
		err = errors.Join(stream(f, each), f.Close())
	}
	if err != nil {
		r.note(path, err)
	}
}
